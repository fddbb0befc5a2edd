//! The properties of a message, in MailerQ's words: what its JSON says of it, and what it asks for there.
//!
//! - `told` is the JSON of a message, for results and for plugins.
//! - `read` is what such a JSON asks for, once a plugin has changed it.
//! - `shown` has it told to plugins when they ask.
//!
//! Must never: say a password; decide what a property means for a delivery.
//!
//! Diagnostics: [`Invalid`] names a property that means nothing.

mod read;
mod shown;
mod told;

pub use read::{Invalid, Read, changed};
pub use shown::{Stored, Taken};
pub use told::{Known, object};
