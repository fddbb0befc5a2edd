//! Plugins on the whole running server: real shared objects, real clients, a real next hop.
//!
//! Each test names the decision of the plugin interface that it proves. The layers below prove their
//! own part in their crates; here it is the joints.

mod answer;
mod connection;
mod context;
mod control;
mod coverage;
mod decided;
mod ending;
mod event;
mod generations;
mod greeting;
mod hammered;
pub(crate) mod hop;
mod json;
mod loading;
mod login;
mod message;
mod misuse;
mod named;
mod outgoing;
pub(crate) mod outward;
#[cfg(feature = "count-allocations")]
mod parked;
pub(crate) mod probe;
mod renewal;
mod secure;
mod speech;
