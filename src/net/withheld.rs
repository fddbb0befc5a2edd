//! How much of a client's output may be written while its mail is on its way to the disk.
//!
//! Owns the mark alone. Must never: keep back what was offered to the socket once; a TLS record may hold it.
//!
//! **Diagnostics**: none.

/// The mark in the output of a session, in octets from its beginning.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    free: usize,
}

impl Withheld {
    /// All of the output, `length` octets, may be written, whatever happens to the mail that is under way.
    pub(super) fn let_go(&mut self, length: usize) {
        self.free = length;
    }

    /// So many octets are offered to the socket.
    pub(super) fn on_offered(&mut self, length: usize) {
        self.free = self.free.max(length);
    }

    /// So many were taken off the beginning.
    pub(super) fn on_written(&mut self, count: usize) {
        self.free = self.free.saturating_sub(count);
    }

    /// How many of the `length` octets of output may be written during a commit.
    pub(super) fn sendable(&self, length: usize) -> usize {
        self.free.min(length)
    }

    /// Whether some have to wait for it.
    pub(super) fn is_any(&self, length: usize) -> bool {
        self.free < length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_behind_the_mark_waits_until_it_is_let_go() {
        let mut withheld = Withheld::default();
        withheld.let_go(10);
        assert_eq!((withheld.sendable(10), withheld.is_any(10)), (10, false));
        assert_eq!((withheld.sendable(25), withheld.is_any(25)), (10, true));
        withheld.on_written(4);
        assert_eq!(withheld.sendable(21), 6);
        withheld.let_go(21);
        assert!(!withheld.is_any(21));
        withheld.on_written(21);
        assert_eq!((withheld.sendable(0), withheld.is_any(5)), (0, true));
    }

    /// A blocked socket under TLS: its record holds more than was sent, and is offered again.
    #[test]
    fn what_was_offered_once_is_never_kept_back() {
        let mut withheld = Withheld::default();
        let mut length = 40;
        withheld.let_go(15);
        // Before the commit, all is offered, and a part leaves.
        withheld.on_offered(length);
        withheld.on_written(5);
        length -= 5;
        assert_eq!(withheld.sendable(length), 35);
        length += 20;
        assert_eq!((withheld.sendable(length), withheld.is_any(length)), (35, true));
    }
}
