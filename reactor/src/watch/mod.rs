//! Descriptors that belong to somebody else, watched level-triggered in an epoll set of their own.
//!
//! | file | owns |
//! |---|---|
//! | `interest.rs` | what is asked of a watch and what it is told |
//! | `epoll.rs` | the system calls |
//! | `member.rs` | one descriptor number: its watches, and what the kernel knows of it |
//! | `set.rs` | the set: watching, waiting, handing out what is ready |

mod epoll;
mod interest;
mod member;
mod set;

pub use interest::{Interest, Ready, WatchError};
pub use set::{HostReadiness, WatchKey, WatchSet};
