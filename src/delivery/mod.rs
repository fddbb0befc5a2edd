//! Delivery: which mail goes out next, where to, over how many connections, and what an attempt means.
//!
//! - `store` holds the mails that one worker owns, from their commit until they are freed; `explain`
//!   shows them.
//! - `target` is what mails are grouped by: the domain of their recipient, or a smarthost.
//! - `destinations` has, for each target, the mails that are ready, the connections and the route.
//! - `pool` bounds and reuses the connections to one destination.
//! - `mx` makes a `route` of what DNS says; `special` has the addresses that it must not lead to.
//! - `journey` is a connection in the making: the hosts that are still to be tried.
//! - `finish` is the outcome of an attempt, and what becomes of the mail; `facts` is what result
//!   objects tell of its connection.
//! - `reroute` leads a mail to another host, as a plugin wants it.
//! - `chance` spreads load.
//!
//! All of it is pure: bytes, clocks and sockets stay in `net/`, `services/` and `worker/`.

mod ages;
mod chance;
mod destinations;
mod explain;
mod facts;
mod finish;
mod held;
mod journey;
pub mod mx;
mod patience;
mod pool;
mod reroute;
mod route;
mod special;
mod store;
mod target;

pub use chance::Chance;
pub use destinations::{DestinationId, DestinationLimits, Destinations, Step};
pub use explain::{DestinationView, LookUp, MailView};
pub use facts::{Certificate, Cipher, Facts, Name};
pub use finish::{Ended, Fate, Finish, state_of};
pub use journey::{Carried, Journey};
pub use pool::Pool;
pub use reroute::{REROUTES_MAX, RoutedTooOften};
pub use route::{
    HopRules, OwnListener, Route, RouteHost, STOPS_MAX, Stop, own_listener, route_to_hop,
};
pub use special::is_special;
pub use store::{Now, Place, Store, StoreLimits, TooManyExtras, Work};
pub use target::{Account, NextHop, Target, domain_of, literal_of};
