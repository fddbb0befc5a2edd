//! The receiving side: one [`Session`] a connection.
//!
//! # How a driver turns it
//! 1. Run the connect chain, then [`Session::greet`].
//! 2. While [`Session::wants_input`]: if [`Session::body_target`] gives a buffer, append to it what the
//!    socket has and call [`Session::handle_body`]; else read into a buffer of its own and call
//!    [`Session::handle_input`].
//! 3. Call [`Session::poll_event`] until it returns `None`. A [`Event::Mail`], [`Event::Rcpt`],
//!    [`Event::StartTls`], [`Event::Message`] or [`Event::Authenticate`] parks the session, and so do
//!    [`Event::Hello`] and [`Event::Rset`] where [`Session::ask_about`] asked for them;
//!    [`Session::decide`] answers it, now or much later; then
//!    poll again, as commands may wait that were read before.
//! 4. Write [`Session::output`], tell [`Session::consume_output`], and poll again: a session whose
//!    output was full goes on then.
//! 5. After an accepted [`Event::StartTls`], write the output that there is, do the handshake, and
//!    call [`Session::on_secure`]; on a connection that begins with TLS, call it before the
//!    greeting.
//! 6. Run the deadline that [`Session::phase`] names. After [`Event::Close`], write what is left and
//!    close. If the peer vanishes, call [`Session::on_lost`] before the session is dropped.
//!
//! # Memory
//! Whether a body (`SIZE=`, or a default) fits is asked at MAIL; it is reserved when its text begins, and
//! grows in steps. The session releases it when
//! the transaction is dropped: RSET, EHLO, a refused MAIL, a fault in the text, close, `on_lost`. With
//! [`Event::Message`] it goes to the driver, which releases [`Received::reserved`] bytes.
//!
//! # Secrets
//! While [`Session::is_confidential`], what is read may be a password: the session wipes what it keeps of
//! it, and the driver wipes the buffer that it read into.
//!
//! Diagnostics: see each file.

mod dialogue;
mod event;
mod hello;
mod login;
mod options;
mod receiver;
mod session;

pub use event::{
    CloseReason, Decision, Event, Greeting, Hello, LoginOffer, Phase, Protocol, Received, Via,
};
pub use options::{Asks, Options};
pub use session::Session;

#[cfg(test)]
mod hello_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod starttls_tests;
#[cfg(test)]
mod tests;
