//! Results: what is said of a mail whose attempt has ended, to whoever sent it.
//!
//! - `queues` says which named queues a result goes to.
//! - `object` is the JSON of a result, in MailerQ's form.
//! - `extracted` is what it repeats of the text's header.
//!
//! All of it is pure. Must never: say a password; hold more than a bounded part of a text.
//!
//! Diagnostics: none; what cannot be said is left out.

mod extracted;
mod facts;
mod object;
mod queues;

pub use facts::facts;
pub use object::{MIME_BYTES_MAX, Original, text_bytes_needed};
pub use queues::{Ending, ResultQueues};
