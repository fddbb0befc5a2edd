//! The worker's side of the extensions for connections: answers, named holds, facts.
//!
//! Must never hold the cell while plugin code runs. Diagnostics: none; what is gone has nothing to say.

use crate::answer::Answer;
use crate::call::{self, Call};
use crate::fact::Fact;
use crate::hold::{Expiry, Hold};
use crate::hook::Site;
use crate::id::ConnectionId;
use crate::plugin::PluginIndex;
use crate::slot::Key;
use crate::token::{Kind, Token};
use crate::worker::Worker;

impl Worker {
    /// Has a plugin answered the step that was shown last?
    pub fn is_answered(&self, connection: ConnectionId) -> bool {
        let state = self.state.borrow();
        state.connections.get(connection.0).is_some_and(|connection| connection.answer.is_some())
    }

    /// What a plugin says that the step is to come to, once.
    pub fn take_answer(&self, connection: ConnectionId) -> Option<Answer> {
        let mut state = self.state.borrow_mut();
        state.connections.get_mut(connection.0)?.answer.take().map(|answer| *answer)
    }

    /// Has a plugin answered the step that was shown last, and wants the connection gone?
    pub fn wants_to_leave(&self, connection: ConnectionId) -> bool {
        let state = self.state.borrow();
        let connection = state.connections.get(connection.0);
        let answer = connection.and_then(|connection| connection.answer.as_deref());
        answer.is_some_and(|answer| answer.disconnect)
    }

    /// Tells plugins something about a connection. Between its steps only: what they were told before may
    /// be looked at until a step is over.
    pub fn tell(&self, connection: ConnectionId, fact: Fact) {
        if let Some(connection) = self.state.borrow_mut().connections.get_mut(connection.0) {
            connection.facts.tell(fact);
        }
    }

    /// How long the step may be held that was just taken, in milliseconds from now: what the plugin said
    /// itself, `None` if it said nothing.
    pub fn hold_timeout_ms(&self, connection: ConnectionId) -> Option<u64> {
        let state = self.state.borrow();
        let hold = state.connections.get(connection.0)?.hold?;
        state.holds.get(hold)?.timeout_ms
    }

    /// The time of a held step is over: tells the plugin, if it asked for that. It may answer the step,
    /// and release it.
    pub fn expire_hold(&mut self, connection: ConnectionId) -> Expiry {
        let Some((key, hold)) = self.take_expired(connection) else { return Expiry::None };
        self.call_expired(key, hold);
        match self.held(connection) {
            Some(_) => Expiry::Kept,
            None => Expiry::Released,
        }
    }

    /// The hold of a step that nobody has handed back, and whose callback is not called a second time.
    fn take_expired(&self, connection: ConnectionId) -> Option<(Key, Hold)> {
        let state = &mut *self.state.borrow_mut();
        let connection = state.connections.get(connection.0)?;
        connection.chain.held()?;
        let key = connection.hold?;
        let entry = state.holds.get_mut(key)?;
        let hold = *entry;
        entry.told |= entry.expired.take().is_some();
        Some((key, hold))
    }

    /// Takes control away from its holder (D-27). `None` if there is none, or it has just handed back. One
    /// with a name is told that it is over, if that was not done before, and nothing is owed for it (D-28). If
    /// its plugin has no function to be told by, what that says outside of its hooks counts only if it is
    /// followed by the release of a newer hold, until the old one is released: nothing that is meant for the
    /// step of before counts for another.
    pub fn revoke(&mut self, connection: ConnectionId) -> Option<PluginIndex> {
        let (plugin, hold) = {
            let state = &mut *self.state.borrow_mut();
            let entry = state.connections.get_mut(connection.0)?;
            let key = entry.hold;
            let is_told = |key| {
                let hold: Option<&Hold> = state.holds.get(key);
                hold.is_some_and(|hold| hold.told || hold.expired.is_some())
            };
            let (plugin, kept) = match key {
                None => (entry.chain.revoke()?, false),
                Some(key) if is_told(key) => (entry.chain.revoke_told()?, false),
                Some(key) => entry.chain.revoke_named(key)?,
            };
            entry.answer = None;
            entry.staged = None;
            if kept {
                entry.hold = None;
                let hold = key.and_then(|key| state.holds.get_mut(key));
                hold.expect("a hold ends before its connection").over = true;
            }
            (plugin, key.zip(state.forget_hold(connection)))
        };
        if let Some((key, hold)) = hold {
            self.call_expired(key, hold);
        }
        Some(plugin)
    }

    fn call_expired(&self, key: Key, hold: Hold) {
        let Some(expired) = hold.expired else { return };
        let token = Token::new(Kind::Hold, hold.plugin, self.index, key).to_pointer();
        call::plugin_code(self.word, Call::new(hold.plugin, Site::Hold), || {
            // SAFETY: the callback and its data are the plugin's, given together for this call; the token is
            // never dereferenced.
            unsafe { expired(token, hold.data) };
        });
    }
}
