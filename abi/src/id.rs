//! Ids: how the worker names what lives in its cell.
//!
//! Owns types over one key, so that they cannot be mixed up. Must never reach a plugin: those get
//! tokens, which name the plugin as well. Diagnostics: none; an id whose thing is gone finds nothing.

use crate::slot::Key;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 40 bits: slot and generation. An id whose thing is gone finds nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub(crate) Key);

        impl $name {
            /// As a number below 2^40, for whoever carries ids about as such.
            pub const fn to_bits(self) -> u64 {
                self.0.bits()
            }

            /// The inverse of `to_bits`; higher bits are ignored.
            pub const fn from_bits(bits: u64) -> $name {
                $name(Key::from_bits(bits))
            }
        }
    };
}

id! {
    /// A connection of this worker.
    ConnectionId
}
id! {
    /// A message of this worker.
    MessageId
}
id! {
    /// A timer that a plugin of this worker started.
    TimerId
}
id! {
    /// A watch that a plugin of this worker asked for.
    WatchId
}
id! {
    /// A query that a plugin of this worker has open.
    QueryId
}
