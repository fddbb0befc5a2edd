//! One worker: a reactor, a desk, a slab of connections, and the joints between them.
//!
//! The worker is the handler of its reactor's turn. It looks tokens up, lends the connection found
//! to its driver, and removes it when the driver says so. What plugins asked for is applied after
//! each callback; verdicts are resumed one by one in the verdict phase, oldest first (D-2F); the
//! batch is handed to the queue at the end of a turn, or waits a little for more under load (`gather`).
//!
//! Must never: block, or decide what a protocol means.
//!
//! **Diagnostics**: an accept that fails for want of descriptors is answered 421 with the spare
//! one and logged; a panic in here is a bug and ends the process through the supervisor.

mod accept;
mod by_hand;
mod context;
mod dispatch;
mod gather;
mod reload;
mod rest;
mod stop;
mod turn;

pub(crate) use reload::intervals_s;
pub use turn::{Common, Doors, Report, Worker};
