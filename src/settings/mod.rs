//! The settings: one table of keys, read from files, environment and command line.
//!
//! Owns the format (`key: value` lines), the precedence of the sources, every default and every
//! check that can be made before a port opens. The names are MailerQ's where MailerQ has the
//! setting. Everything that is said about a key (default, allowed values, one sentence of meaning)
//! is written once, in `model.rs`; parsing, `rohrpost check --list`, the help text and the table
//! in the documentation derive from it.
//!
//! Never opens a port, never writes a file, never reads a clock.
//!
//! Diagnostics: all problems of all sources are reported together as a [`Report`]; each
//! [`Problem`] names where it was found. An error there is the administrator's to mend (exit code
//! 78). A panic in here is a bug: a default of ours that its own key refuses.

mod check;
mod hop;
mod host;
mod key;
mod kind;
mod list;
mod load;
mod login;
mod machine;
mod mailerq;
mod model;
mod network;
mod notice;
mod own;
mod records;
mod source;
mod table;
mod tls;

#[cfg(test)]
mod tests;

pub use hop::{AuthRule, Hop, Secret, Security, TlsStart};
pub use host::{Domains, Host};
pub use key::{Change, Key, keys, lookup};
pub use list::ListenIp;
pub use load::{Changes, Loaded, Located, Problem, Report};
pub use machine::Machine;
pub use mailerq::foreign_keys;
pub use model::{
    AddressRule, Delivery, Dns, General, Logging, Pinning, Plugin, PluginErrors, Queue, Settings,
    Smtp,
};
pub use network::Networks;
pub use notice::Notices;
pub use own::PluginValues;
pub use records::Records;
pub use source::{Arguments, MAIN_FILE, Origin, Sources};
pub use table::{list, markdown};
pub use tls::Tls;
