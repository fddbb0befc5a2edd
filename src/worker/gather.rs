//! When a worker's batch goes to the disk.
//!
//! A sync costs the processor as much as several messages, however many it makes durable. So while clients
//! keep a worker busy, its batch waits a little for theirs; as soon as no socket has anything to say it goes,
//! for then nobody would come to join it, and a client alone never waits.
//!
//! Must never: hold a batch back from a sleep, or for longer than [`GATHER_MS`] and the turn under way.
//!
//! **Diagnostics**: none.

/// How long a batch waits, in milliseconds: about as long as a sync takes on a good disk.
const GATHER_MS: u64 = 2;
/// Entries with which it waits no longer.
const GATHER_MAX: usize = 256;

/// The batch that is being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Whether a socket had anything to say in this turn.
    heard: bool,
    since_ms: Option<u64>,
}

impl Gathering {
    /// A socket has something to say.
    pub(super) fn on_socket(&mut self) {
        self.heard = true;
    }

    /// At the end of a turn: whether a batch of `entries` goes now.
    pub(super) fn is_over(&mut self, entries: usize, now_ms: u64) -> bool {
        let heard = std::mem::take(&mut self.heard);
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        let goes = !heard || entries >= GATHER_MAX || now_ms.saturating_sub(since_ms) >= GATHER_MS;
        if goes || entries == 0 {
            self.since_ms = None;
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_while_clients_speak_and_no_longer_than_its_time() {
        let mut gathering = Gathering::default();
        let mut turn = |heard: bool, entries, now_ms| {
            if heard {
                gathering.on_socket();
            }
            gathering.is_over(entries, now_ms)
        };
        assert!(turn(false, 1, 0), "nobody speaks");
        assert!(!turn(true, 1, 5));
        assert!(turn(false, 1, 5), "nobody speaks any more");
        assert!(!turn(true, 1, 6), "the time begins anew");
        assert!(!turn(true, 2, 5 + GATHER_MS));
        assert!(turn(true, 3, 6 + GATHER_MS));
        assert!(turn(true, GATHER_MAX, 20), "there are enough");
        assert!(!turn(true, 0, 30));
        assert!(!turn(true, 1, 40), "an empty batch is not gathered");
    }
}
