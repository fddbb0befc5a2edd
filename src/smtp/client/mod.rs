//! The sending side: one [`Session`] a connection, any number of mails with one recipient each.
//!
//! # How a driver turns it
//! 1. Read the socket into [`Session::handle_input`] and write [`Session::output`], each as they come;
//!    call [`Session::poll_event`] until it returns `None`.
//! 2. At [`Event::StartTls`], or at once where TLS comes first ([`Security::Implicit`]), shake hands; then
//!    call [`Session::on_secured`]. Nothing that was read before it may be given to the session.
//! 3. After [`Event::Ready`], and after each [`Event::Done`] while [`Session::stage`] is
//!    [`Stage::Idle`]: [`Session::start`] a mail, or [`Session::quit`].
//! 4. Where [`Session::takes_chunk`], [`Session::start_chunk`] may be used instead: then write the text,
//!    as it is, behind the output at once, and call [`Session::end_body`].
//! 5. At [`Event::Data354`] the session is held. Call [`Session::begin_body`], write what a
//!    [`Stuffer`](super::Stuffer) yields straight to the socket, then [`Session::end_body`]. Or
//!    [`Session::abandon`] the mail, and with it the connection.
//! 6. After [`Event::Lost`] or [`Event::Goodbye`]: write what is left, and close. When the socket closes
//!    or a deadline passes: [`Session::on_lost`].
//!
//! A mail that was started ends with exactly one [`Event::Done`] or [`Event::Lost`], unless the
//! driver itself abandoned it.
//!
//! Diagnostics: see each file.

mod envelope;
mod event;
mod greeting;
mod login;
mod parser;
mod session;

pub use super::sasl::Mechanism;
pub use envelope::{Envelope, Extensions, StartError};
pub use event::{Event, Origin, Outcome, Problem, Stage};
pub use login::{Credentials, Exchange, Login, Mechanisms};
pub(super) use parser::{Bounds, ReplyParser};
pub use session::{Options, Security, Session};

#[cfg(test)]
mod greeting_tests;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod tests;
