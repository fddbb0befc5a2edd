//! Sockets: who listens, how bytes move, and the drivers that join sessions to sockets.
//!
//! - [`listener`] binds, one `SO_REUSEPORT` socket per worker.
//! - [`transport`] reads into and writes from the buffers of a session, in clear or under TLS.
//! - [`receipt`] is the 250 that a client gets.
//! - [`deadline`] gives every wait of a connection its end.
//! - [`message`] is a mail between its final dot and the disk, [`text`] one on its way out.
//! - [`proxy`] is what a proxy says before its client speaks.
//! - [`incoming`] drives one connection that brings mail, [`outgoing`] one that takes it away.
//! - [`login`] is how such a connection says who it is.
//! - [`settlement`] is an attempt between its end and its record, with the notice that it calls for.
//! - [`unwritten`] is what tells of it, until the disk has it.
//! - [`foreign`] is the event loop of a plugin, in which a worker then sleeps.
//! - [`desk`] is what the drivers of one worker share.
//!
//! No protocol decision is made here: what a command means is the session's business.

mod asked;
pub mod broken;
mod certificate;
pub mod deadline;
pub mod desk;
pub mod extras;
pub mod foreign;
pub mod incoming;
mod incoming_answer;
mod incoming_begin;
mod incoming_end;
mod incoming_fail;
mod incoming_mail;
mod journeys;
pub mod listener;
pub mod login;
pub mod message;
pub mod outgoing;
mod outgoing_asked;
mod outgoing_end;
mod outgoing_facts;
mod outgoing_made;
mod outgoing_secure;
mod outgoing_text;
pub mod proxy;
pub mod receipt;
mod resulting;
mod reuse;
mod secure;
pub mod settlement;
pub mod spare;
mod step;
mod tally;
pub mod text;
pub mod transport;
pub mod unwritten;
mod withheld;
