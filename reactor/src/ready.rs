//! Owns: which sockets have something to do, each at most once, and what. mio reports an edge once;
//! it is kept here until the handler has seen it, merged with what comes after it and with the
//! handler's own wish to be called again.
//!
//! Must never: lose an edge, hold a token twice.
//!
//! Diagnostics: none. A token whose socket is gone stays until its turn; handlers look it up and
//! find a stale key.

use std::collections::VecDeque;
use std::fmt;

use mio::Token;
use mio::event::Event;

use crate::number::NumberMap;

/// What happened to a socket since its handler last looked. Facts add up until then.
///
/// Edge-triggered: a handler that is told `readable` reads until the socket would block, or asks to
/// be called again.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing happened.
    pub const NONE: Self = Readiness(0);
    /// See [`Readiness::readable`].
    pub const READABLE: Self = Readiness(1);
    /// See [`Readiness::writable`].
    pub const WRITABLE: Self = Readiness(1 << 1);
    /// See [`Readiness::read_closed`].
    pub const READ_CLOSED: Self = Readiness(1 << 2);
    /// See [`Readiness::write_closed`].
    pub const WRITE_CLOSED: Self = Readiness(1 << 3);
    /// See [`Readiness::error`].
    pub const ERROR: Self = Readiness(1 << 4);
    /// See [`Readiness::again`].
    pub const AGAIN: Self = Readiness(1 << 5);

    /// Bytes, a connection to accept, or the end of input may be read.
    pub const fn readable(self) -> bool {
        self.has(Self::READABLE)
    }

    /// Output may be written, or the connection attempt has an outcome.
    pub const fn writable(self) -> bool {
        self.has(Self::WRITABLE)
    }

    /// The peer sends no more. Alone this is a half-close: the peer may still wait for answers.
    pub const fn read_closed(self) -> bool {
        self.has(Self::READ_CLOSED)
    }

    /// The peer takes no more.
    pub const fn write_closed(self) -> bool {
        self.has(Self::WRITE_CLOSED)
    }

    /// The socket holds an error to be collected.
    pub const fn error(self) -> bool {
        self.has(Self::ERROR)
    }

    /// The handler asked for this call, see [`crate::Reactor::again`].
    pub const fn again(self) -> bool {
        self.has(Self::AGAIN)
    }

    /// The connection is over in both directions, or broken: nobody is there to answer.
    pub const fn gone(self) -> bool {
        self.error() || (self.read_closed() && self.write_closed())
    }

    /// The facts of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Readiness(self.0 | other.0)
    }

    const fn has(self, fact: Self) -> bool {
        self.0 & fact.0 != 0
    }
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        [
            (event.is_readable(), Self::READABLE),
            (event.is_writable(), Self::WRITABLE),
            (event.is_read_closed(), Self::READ_CLOSED),
            (event.is_write_closed(), Self::WRITE_CLOSED),
            (event.is_error(), Self::ERROR),
        ]
        .into_iter()
        .filter_map(|(holds, fact)| holds.then_some(fact))
        .fold(Self::NONE, Self::union)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = [
            (Self::READABLE, "readable"),
            (Self::WRITABLE, "writable"),
            (Self::READ_CLOSED, "read closed"),
            (Self::WRITE_CLOSED, "write closed"),
            (Self::ERROR, "error"),
            (Self::AGAIN, "again"),
        ];
        let held = facts.into_iter().filter_map(|(fact, name)| self.has(fact).then_some(name));
        f.debug_tuple("Readiness").field(&held.collect::<Vec<_>>().join(" | ")).finish()
    }
}

/// Tokens in the order in which they became ready, each once.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    order: VecDeque<Token>,
    facts: NumberMap<Token, Readiness>,
}

impl ReadyQueue {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds the facts to what is known of the token, and the token to the end if it is not waiting
    /// yet.
    pub(crate) fn push(&mut self, token: Token, facts: Readiness) {
        let known = self.facts.entry(token).or_insert_with(|| {
            self.order.push_back(token);
            Readiness::NONE
        });
        *known = known.union(facts);
    }

    pub(crate) fn pop(&mut self) -> Option<(Token, Readiness)> {
        let token = self.order.pop_front()?;
        let facts = self.facts.remove(&token);
        Some((token, facts.expect("invariant: every waiting token has its facts")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_token_gathers_facts_and_keeps_its_place() {
        let mut queue = ReadyQueue::default();
        queue.push(Token(1), Readiness::READABLE);
        queue.push(Token(2), Readiness::WRITABLE);
        queue.push(Token(1), Readiness::AGAIN);
        assert_eq!(queue.len(), 2);
        let both = Readiness::READABLE.union(Readiness::AGAIN);
        assert_eq!(queue.pop(), Some((Token(1), both)));
        assert_eq!(queue.pop(), Some((Token(2), Readiness::WRITABLE)));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_half_close_is_not_gone() {
        assert!(!Readiness::READABLE.union(Readiness::READ_CLOSED).gone());
        assert!(Readiness::READ_CLOSED.union(Readiness::WRITE_CLOSED).gone());
        assert!(Readiness::ERROR.gone());
    }

    #[test]
    fn facts_are_shown_by_name() {
        let facts = Readiness::READABLE.union(Readiness::READ_CLOSED);
        assert_eq!(format!("{facts:?}"), r#"Readiness("readable | read closed")"#);
        assert_eq!(format!("{:?}", Readiness::NONE), r#"Readiness("")"#);
    }
}
