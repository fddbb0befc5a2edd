//! What an author implements. Must never: hold anything.
//!
//! Diagnostics: an `Err` of a hook is a line of the log and fails the step.

use crate::address::Address;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::message::Message;
use crate::setup::Setup;
use crate::step::Step;

/// A plugin. One value serves all workers at the same time; what belongs to a worker or a connection has
/// places of its own.
///
/// Every hook does nothing unless it is implemented *and* named in [`export!`](crate::export): the server
/// calls what is exported, and for some it matters that it is (`authenticate` makes it offer AUTH).
#[allow(unused_variables)]
pub trait Plugin: Sized + Send + Sync + 'static {
    /// What each worker has one of, made by [`Plugin::worker`].
    type Worker: 'static;
    /// What each connection has one of, made when a hook first asks for it.
    type Connection: Default + 'static;

    /// Once, on the main thread, before any worker runs.
    ///
    /// # Errors
    /// The server does not start, and says why.
    fn start(setup: Setup) -> Result<Self, Failure>;

    /// Once per worker, on its thread.
    ///
    /// # Errors
    /// Every step on this worker fails.
    fn worker(&self, context: Context) -> Result<Self::Worker, Failure>;

    /// A client has connected.
    fn connect(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// A client's TLS handshake is done.
    fn secure(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// EHLO or HELO.
    fn helo(&self, step: &mut Step<'_, Self>, name: &[u8]) -> Outcome {
        Ok(())
    }

    /// A client sent a login; answer with `set_authenticated`.
    fn authenticate(&self, step: &mut Step<'_, Self>, login: &[u8], password: &[u8]) -> Outcome {
        Ok(())
    }

    /// MAIL FROM.
    fn mail_from(&self, step: &mut Step<'_, Self>, sender: Address<'_>) -> Outcome {
        Ok(())
    }

    /// RCPT TO.
    fn rcpt_to(&self, step: &mut Step<'_, Self>, recipient: Address<'_>) -> Outcome {
        Ok(())
    }

    /// The whole text of a message.
    fn data(&self, step: &mut Step<'_, Self>, mime: &[u8]) -> Outcome {
        Ok(())
    }

    /// A received message, once per recipient, before anything is stored.
    fn message(&self, step: &mut Step<'_, Self>, message: Message) -> Outcome {
        Ok(())
    }

    /// The client dropped its transaction.
    fn reset(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// The client has gone while a plugin holds its step: what it waits for is wanted no more.
    fn lost(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// The connection of a client is gone. Always exported, for the state that goes with it.
    fn close(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// A next hop has greeted.
    fn out_connect(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// The TLS handshake with a next hop is done.
    fn out_secure(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// A message is about to be sent: sender and recipient can still be changed.
    fn out_message(&self, step: &mut Step<'_, Self>, message: Message) -> Outcome {
        Ok(())
    }

    /// A next hop waits for the text, which can still be made.
    fn out_data(&self, step: &mut Step<'_, Self>, message: Message) -> Outcome {
        Ok(())
    }

    /// All of the text was written.
    fn out_sent(&self, step: &mut Step<'_, Self>, message: Message) -> Outcome {
        Ok(())
    }

    /// What became of a message at a next hop: its code, 0 without one, and its words.
    fn out_result(
        &self,
        step: &mut Step<'_, Self>,
        message: Message,
        code: u16,
        text: &[u8],
    ) -> Outcome {
        Ok(())
    }

    /// A connection to a next hop is gone. Always exported, as [`Plugin::close`].
    fn out_close(&self, step: &mut Step<'_, Self>) -> Outcome {
        Ok(())
    }

    /// The server's settings were read again. On the main thread, while workers run.
    fn reload(&self, setup: Setup) -> Outcome {
        Ok(())
    }

    /// Once, on the main thread, when all workers have ended.
    fn stop(&self) -> Outcome {
        Ok(())
    }
}
