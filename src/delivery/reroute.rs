//! A mail under way that a plugin sends to another host, within the same attempt.
//!
//! It is of this attempt alone: the next one goes where the recipient, the settings or the message
//! itself lead, and plugins are asked again. The rules for a host that a message brings along hold for
//! this one too: never this server itself, nor private addresses but those that the settings allow.
//!
//! Must never: let a mail go from host to host for ever.
//!
//! **Diagnostics**: [`RoutedTooOften`].

use crate::queue::{MailId, Smarthost};

use super::store::{Place, Store, find, is_ready};

/// How often one attempt of a mail may be led to another host.
pub const REROUTES_MAX: u8 = 10;

/// It was led on so often within one attempt that this is a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugins led the mail from host to host more than {REROUTES_MAX} times in one attempt")]
pub struct RoutedTooOften;

impl Store {
    /// An active mail waits for a connection to `host`, before all others that do. Ignored for a mail that
    /// is gone.
    ///
    /// # Errors
    /// [`RoutedTooOften`]; the mail is as it was.
    pub fn reroute(&mut self, id: MailId, host: &Smarthost) -> Result<(), RoutedTooOften> {
        let Some((held, place)) = find(&mut self.held, id) else { return Ok(()) };
        let mail = held.mail_mut(place);
        if mail.place() != Place::Active {
            return Ok(());
        }
        mail.rerouted = mail
            .rerouted
            .checked_add(1)
            .filter(|count| *count <= REROUTES_MAX)
            .ok_or(RoutedTooOften)?;
        let next = self.destinations.of_host(host);
        let left = std::mem::replace(&mut mail.destination, next);
        held.move_to(place, Place::Ready);
        self.active -= 1;
        self.destinations.enter(next);
        self.destinations.push(next, id, true);
        let held = &self.held;
        self.destinations.leave(left, |mail| is_ready(held, mail));
        Ok(())
    }
}
