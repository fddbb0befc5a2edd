//! Holds with a token of their own (`MQX_hold`): who holds what, for how long, and who hears of its end.
//!
//! Owns the entry behind a token. A hold that was released or handed back is gone, and its token finds
//! nothing: so a late release is harmless. So it is with one that was taken back, if its plugin was told.
//!
//! One that was not told does not know. It is asked about later steps all the same, unlike one that owes a
//! hand-back (D-28), but an answer names a connection and no step: so what it says outside of its hooks waits
//! for the release that follows, which tells for which step it was meant. Must never call the callback it
//! keeps. Diagnostics: [`Misuse::Late`] for what is said while no release can follow.

use std::ffi::c_void;

use crate::answer::Answer;
use crate::command::{Command, TIMER_MS_MAX};
use crate::control::HandBack;
use crate::id::ConnectionId;
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::slot::{Key, SLOTS_MAX};
use crate::state::State;
use crate::step::Verdict;
use crate::token::{Kind, Opaque, Token};

/// The header's `expired`.
pub(crate) type HoldCallback = unsafe extern "C-unwind" fn(*mut Opaque, *mut c_void);

/// A step that is held with a token, or about to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) plugin: PluginIndex,
    pub(crate) connection: ConnectionId,
    /// From the moment at which the hook has returned; `None` if the host's own limit is all there is.
    pub(crate) timeout_ms: Option<u64>,
    /// Taken when it is called: once at most.
    pub(crate) expired: Option<HoldCallback>,
    pub(crate) data: *mut c_void,
    /// The plugin was told that its time is over.
    pub(crate) told: bool,
    /// It was taken back, and is kept until it is released, or its connection is gone.
    pub(crate) over: bool,
}

/// What a plugin with an unsettled hold has said, to count if it releases the hold of now next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) answer: Option<Box<Answer>>,
    pub(crate) authenticated: Option<bool>,
}

/// Where what a plugin says of a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// To the step.
    Now,
    /// To [`Staged`].
    AtRelease,
    /// Nowhere.
    Late,
}

impl State {
    /// What becomes of what a plugin says of its step, or its client. The token is a connection's, of this
    /// worker.
    pub(crate) fn hearing(&mut self, token: Token) -> Result<Hearing, Misuse> {
        let in_hook = self.asked.is(token.step());
        let connection = self.connection(token)?;
        let plugin = token.plugin();
        Ok(if connection.chain.owes(plugin) {
            Hearing::Late
        } else if in_hook || !connection.chain.is_overdue(plugin) {
            Hearing::Now
        } else if connection.hold.is_some() && connection.chain.is_at(plugin) {
            Hearing::AtRelease
        } else {
            Hearing::Late
        })
    }

    /// A hold that was taken back is released at last; what was said before was about it.
    fn settle(&mut self, hold: Key, connection: ConnectionId) {
        self.holds.remove(hold);
        if let Some(connection) = self.connections.get_mut(connection.0) {
            connection.chain.settle(hold);
            connection.staged = None;
        }
    }

    /// Names the hold that the running hook is about to take. The token is a connection's, of this worker.
    pub(crate) fn hold(
        &mut self,
        token: Token,
        timeout_ms: Option<u64>,
        expired: Option<HoldCallback>,
        data: *mut c_void,
    ) -> Result<Token, Misuse> {
        let plugin = token.plugin();
        self.tell_chain(token);
        let connection = self.connection(token)?;
        if !connection.chain.is_calling(plugin) {
            return Err(Misuse::NotHeld);
        }
        if connection.hold.is_some() {
            return Err(Misuse::Argument("this step has a hold already"));
        }
        let connection = ConnectionId(token.key());
        let (told, over) = (false, false);
        let hold = Hold { plugin, connection, timeout_ms, expired, data, told, over };
        let refusal = Misuse::Exhausted { kind: "holds", limit: SLOTS_MAX };
        let key = self.holds.insert(hold).ok_or(refusal)?;
        self.connection(token)?.hold = Some(key);
        Ok(Token::new(Kind::Hold, plugin, self.worker, key))
    }

    /// Hands back what a hold names; false if that is over, however it ended. The token is a hold's, of
    /// this worker.
    pub(crate) fn release(&mut self, token: Token, verdict: Verdict) -> Result<bool, Misuse> {
        let Some(hold) = self.holds.get(token.key()) else { return Ok(false) };
        let (id, plugin) = (hold.connection, hold.plugin);
        if hold.over {
            self.settle(token.key(), id);
            return Ok(false);
        }
        let connection = self.connections.get_mut(id.0);
        let connection = connection.expect("a hold ends before its connection");
        let outcome = connection.chain.release(plugin, verdict)?;
        connection.hear_staged(plugin);
        self.on_handed_back(id, outcome);
        Ok(true)
    }

    /// What follows from a hand-back of a connection's step.
    pub(crate) fn on_handed_back(&mut self, connection: ConnectionId, outcome: HandBack) {
        match outcome {
            HandBack::Swallowed => {}
            HandBack::Settled(hold) => self.settle(hold, connection),
            HandBack::Recorded => drop(self.forget_hold(connection)),
            HandBack::Resumes => {
                self.forget_hold(connection);
                self.commands.push(Command::Resume { connection });
            }
        }
    }

    /// The step that a hold was for has been handed back or taken back: its token finds nothing.
    pub(crate) fn forget_hold(&mut self, connection: ConnectionId) -> Option<Hold> {
        let key = self.connections.get_mut(connection.0)?.hold.take()?;
        self.holds.remove(key)
    }
}

/// What became of a hold whose time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// There is no hold with a token: nobody was asked.
    None,
    /// The plugin released it when it was told; a [`Resume`](crate::Command::Resume) comes.
    Released,
    /// It is still held: to be [revoked](crate::Worker::revoke).
    Kept,
}

/// Seconds to whole milliseconds, never early; 0 is no timeout. `None` for what is no time: less than 0,
/// or not a number.
pub(crate) fn timeout_ms(seconds: f64) -> Option<Option<u64>> {
    if seconds.is_nan() || seconds < 0.0 {
        return None;
    }
    if seconds == 0.0 {
        return Some(None);
    }
    // From float to integer, `as` saturates.
    Some(Some(((seconds * 1000.0).ceil() as u64).clamp(1, TIMER_MS_MAX)))
}

/// The header's `MQX_CONTINUE`, `MQX_COMPLETE` and `MQX_RETRY`.
pub(crate) const fn verdict(number: i32) -> Option<Verdict> {
    match number {
        0 => Some(Verdict::Continue),
        1 => Some(Verdict::Complete),
        2 => Some(Verdict::Retry),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_holds_are_whole_milliseconds_within_bounds() {
        for (seconds, expected) in [
            (0.0, Some(None)),
            (-0.0, Some(None)),
            (f64::MIN_POSITIVE, Some(Some(1))),
            (0.001, Some(Some(1))),
            (0.0011, Some(Some(2))),
            (30.0, Some(Some(30_000))),
            (1e300, Some(Some(TIMER_MS_MAX))),
            (f64::INFINITY, Some(Some(TIMER_MS_MAX))),
            (-0.001, None),
            (f64::NEG_INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(timeout_ms(seconds), expected, "{seconds}");
        }
    }
}
