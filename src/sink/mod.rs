//! `rohrpost sink`: a server that takes mail and throws it away, to be delivered to.
//!
//! - [`run`] is the program; a worker on a reactor, or several, with the same session as the real server.
//! - `output` prints, counts or writes down what comes.
//!
//! It never keeps mail: what it says 250 to is gone, or in the dump file, unsynced.

mod connection;
mod output;
mod worker;

pub(crate) use worker::spawn;
pub use worker::{SinkError, run};
