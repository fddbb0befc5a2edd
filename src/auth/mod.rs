//! Who may log in: users and what proves them, as `smtp-auth` names them.
//!
//! - [`source`] is what the setting says: users written there, files of users.
//! - [`hash`] is a password as `/etc/shadow` keeps it: `$5$`, `$6$`, `$y$`.
//! - [`users`] reads a file, line by line.
//! - [`logins`] is all of them in one table, which every worker shares.
//! - [`verifier`] is the thread that computes hashes.
//!
//! A password is never logged, shown or kept: what holds one wipes it when it is dropped.

pub mod hash;
pub mod logins;
pub mod source;
pub mod users;
pub mod verifier;

pub use logins::{Logins, LoginsError};
pub use source::LoginSource;
pub use verifier::{CHECKS_MAX, Check, Checks};
