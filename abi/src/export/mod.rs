//! The functions that plugins call, under the names and with the contracts of `include/mailerq.h`.
//!
//! Owns the conversion of C arguments. Must never trust one beyond what the header lets a plugin
//! promise: strings and buffers are readable, callbacks callable, everything else is checked.
//! Diagnostics: as in `misuse`.
//!
//! Nothing in Rust calls them; plugins find them in the executable (D-0B). What generation G1 and the
//! later ones call by two names is one function here, told the name for what it has to report.

mod answer;
/// Exports a function, under the name of G1 and that of the later generations where it has two. The
/// body is told the name; it is marked `unsafe` where it reads what a plugin promised can be read.
macro_rules! export {
    ($first:ident, $later:ident $arguments:tt $(-> $result:ty)? = $($body:tt)+) => {
        export! { $first $arguments $(-> $result)? = $($body)+ }
        export! { $later $arguments $(-> $result)? = $($body)+ }
    };
    ($name:ident ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = unsafe $body:ident) => {
        /// See `mailerq.h`.
        ///
        /// # Safety
        /// What `mailerq.h` lets a plugin promise: of opaque types any pointer may be given, strings and
        /// buffers can be read, callbacks can be called with their `data`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the same promise.
            unsafe { $body(stringify!($name), $($argument),*) }
        }
    };
    ($name:ident ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        /// See `mailerq.h`.
        ///
        /// # Safety
        /// What `mailerq.h` lets a plugin promise: of opaque types any pointer may be given, strings and
        /// buffers can be read, callbacks can be called with their `data`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
            $body(stringify!($name), $($argument),*)
        }
    };
}

mod address;
mod connection;
mod context;
mod event;
mod fact;
mod hold;
mod log;
mod message;
mod note;
mod outgoing;
mod plugin;
mod version;

pub use address::*;
pub use answer::*;
pub use connection::*;
pub use context::*;
pub use event::*;
pub use fact::*;
pub use hold::*;
pub use log::*;
pub use message::*;
pub use note::*;
pub use outgoing::*;
pub use plugin::*;
pub use version::*;
