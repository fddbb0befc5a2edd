//! Delivery: which mail goes out next, over how many connections, and what an attempt means.
//!
//! - `store` holds the mails that one worker owns, from their commit until they are freed.
//! - `pool` bounds and reuses the connections to one next hop.
//! - `route` says where a mail goes.
//! - `finish` is the outcome of an attempt, and what becomes of the mail; `facts` is what result
//!   objects tell of its connection.
//!
//! All of it is pure: bytes, clocks and sockets stay in `net/` and `worker/`.

mod facts;
mod finish;
mod patience;
mod pool;
mod route;
mod store;

pub use facts::{Certificate, Cipher, Facts, Name};
pub use finish::{Ended, Fate, Finish, state_of};
pub use pool::Pool;
pub use route::{NextHop, RouteError, own_listener};
pub use store::{Content, MailView, Now, Place, Store, StoreLimits, Work};
