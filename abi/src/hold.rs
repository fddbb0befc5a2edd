//! Holds with a token of their own (`MQX_hold`): who holds what, for how long, and who hears of its end.
//!
//! Owns the entry behind a token. A hold that was released, handed back or taken back is gone, and its
//! token finds nothing: so a late release is harmless, and nothing is owed for it (D-28). Must never call
//! the callback it keeps. Diagnostics: none.

use std::ffi::c_void;

use crate::command::{Command, TIMER_MS_MAX};
use crate::control::HandBack;
use crate::id::ConnectionId;
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::slot::SLOTS_MAX;
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
}

impl State {
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
        let hold = Hold { plugin, connection, timeout_ms, expired, data };
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
        let connection = self.connections.get_mut(id.0);
        let connection = connection.expect("a hold ends before its connection");
        let outcome = connection.chain.release(plugin, verdict)?;
        self.on_handed_back(id, outcome);
        Ok(true)
    }

    /// What follows from a hand-back of a connection's step.
    pub(crate) fn on_handed_back(&mut self, connection: ConnectionId, outcome: HandBack) {
        match outcome {
            HandBack::Swallowed => {}
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
