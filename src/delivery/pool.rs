//! The connections to one next hop: how many may be open, which are idle, and when the hop is
//! left alone because it cannot be reached.
//!
//! A mail is given only to a connection whose greeting is done, so a hop that is down costs no
//! mail an attempt: it goes offline for a doubling time, and the mails wait with that reason.
//!
//! Must never: open a socket, read a clock.
//!
//! **Diagnostics**: [`Pool::trouble`] says why nothing moves, for `rohrpost queue show`.

/// The first pause after a failed connection, in milliseconds.
const OFFLINE_MS_MIN: u64 = 1_000;
/// The longest pause.
const OFFLINE_MS_MAX: u64 = 60_000;

/// The connections of one worker to one next hop. `K` names a connection.
#[derive(Debug)]
pub struct Pool<K> {
    share: usize,
    opening: usize,
    open: usize,
    /// With the number under which the connection grew idle.
    idle: Vec<(K, u64)>,
    pause_ms: u64,
    offline_until_ms: u64,
    trouble: Option<String>,
}

impl<K: Copy + PartialEq> Pool<K> {
    /// A pool of at most `share` connections, at least one.
    pub fn new(share: usize) -> Pool<K> {
        Pool {
            share: share.max(1),
            opening: 0,
            open: 0,
            idle: Vec::new(),
            pause_ms: 0,
            offline_until_ms: 0,
            trouble: None,
        }
    }

    /// The connection that was used last, so that those beyond the need grow idle and close; with
    /// its number.
    pub fn take_idle(&mut self) -> Option<(K, u64)> {
        self.idle.pop()
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many more connections to open now for `ready` mails that found no idle one. While the
    /// last connection failed, one at a time tries whether the hop is back.
    pub fn wanted(&self, ready: usize, now_ms: u64) -> usize {
        if now_ms < self.offline_until_ms {
            return 0;
        }
        let room = self.share.saturating_sub(self.open + self.opening);
        let need = ready.saturating_sub(self.opening);
        let probe = if self.trouble.is_some() { 1usize.saturating_sub(self.opening) } else { room };
        room.min(need).min(probe)
    }

    /// A connection is being opened.
    pub fn on_opening(&mut self) {
        self.opening += 1;
    }

    /// An opening connection was greeted: it counts as open, and the hop as reachable.
    pub fn on_greeted(&mut self) {
        self.opening -= 1;
        self.open += 1;
        self.pause_ms = 0;
        self.offline_until_ms = 0;
        self.trouble = None;
    }

    /// A greeted connection has nothing to do, and is known as `number` until it has.
    pub fn on_idle(&mut self, key: K, number: u64) {
        self.idle.push((key, number));
    }

    /// An idle connection has something to do after all, or is about to leave. Its number, if it was
    /// idle.
    pub fn on_busy(&mut self, key: K) -> Option<u64> {
        let place = self.idle.iter().position(|&(idle, _)| idle == key)?;
        Some(self.idle.remove(place).1)
    }

    /// A greeted connection was closed; its number, if it was idle.
    pub fn on_closed(&mut self, key: K) -> Option<u64> {
        self.open -= 1;
        self.on_busy(key)
    }

    /// An opening connection failed before it was greeted.
    pub fn on_failed(&mut self, why: String, now_ms: u64) {
        self.opening -= 1;
        self.rest(why, now_ms);
    }

    /// The hop is left alone for a while. Connections that were opened together fail together; that
    /// counts as one failure.
    pub fn rest(&mut self, why: String, now_ms: u64) {
        self.trouble = Some(why);
        if now_ms >= self.offline_until_ms {
            self.pause_ms = (self.pause_ms * 2).clamp(OFFLINE_MS_MIN, OFFLINE_MS_MAX);
            self.offline_until_ms = now_ms + self.pause_ms;
        }
    }

    /// An opening connection is not needed any more; that says nothing about the hop.
    pub fn on_given_up(&mut self) {
        self.opening -= 1;
    }

    /// When a hop that is offline may be tried again, on the clock of [`Pool::on_failed`].
    pub fn back_at_ms(&self, now_ms: u64) -> Option<u64> {
        (now_ms < self.offline_until_ms).then_some(self.offline_until_ms)
    }

    /// Why the last connection failed, until one succeeds.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// How many connections are being opened.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// Open and opening connections.
    pub fn connections(&self) -> usize {
        self.open + self.opening
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_as_many_as_needed_and_allowed() {
        let mut pool: Pool<u32> = Pool::new(3);
        assert_eq!(pool.wanted(0, 0), 0);
        assert_eq!(pool.wanted(2, 0), 2);
        assert_eq!(pool.wanted(9, 0), 3);
        pool.on_opening();
        assert_eq!(pool.wanted(1, 0), 0, "the one that opens will take it");
        pool.on_greeted();
        pool.on_opening();
        pool.on_opening();
        assert_eq!(pool.wanted(9, 0), 0);
    }

    #[test]
    fn a_hop_that_fails_rests_twice_as_long_each_time_and_is_probed_by_one() {
        let mut pool: Pool<u32> = Pool::new(8);
        let mut now_ms = 0;
        for expected_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            pool.on_opening();
            pool.on_failed("refused".into(), now_ms);
            assert_eq!(pool.back_at_ms(now_ms), Some(now_ms + expected_ms));
            assert_eq!(pool.wanted(5, now_ms), 0);
            now_ms += expected_ms;
            assert_eq!(pool.wanted(5, now_ms), 1);
            assert_eq!(pool.trouble(), Some("refused"));
        }
        pool.on_opening();
        assert_eq!(pool.wanted(5, now_ms), 0, "one probe at a time");
        pool.on_greeted();
        assert_eq!(pool.wanted(5, now_ms), 5);
        assert_eq!(pool.trouble(), None);
    }

    #[test]
    fn connections_that_fail_together_count_once_and_one_that_succeeds_ends_the_pause() {
        let mut pool: Pool<u32> = Pool::new(8);
        (0..8).for_each(|_| pool.on_opening());
        (0..7).for_each(|_| pool.on_failed("refused".into(), 0));
        assert_eq!(pool.back_at_ms(0), Some(OFFLINE_MS_MIN));
        pool.on_greeted();
        assert_eq!(pool.back_at_ms(0), None);
        assert_eq!(pool.wanted(9, 0), 7);
    }

    #[test]
    fn a_closed_connection_is_never_handed_out() {
        let mut pool = Pool::new(2);
        for key in [7_u32, 8] {
            pool.on_opening();
            pool.on_greeted();
            pool.on_idle(key, u64::from(key) + 100);
        }
        assert_eq!(pool.on_closed(8), Some(108));
        assert_eq!(pool.on_busy(8), None);
        assert_eq!(pool.take_idle(), Some((7, 107)));
        assert_eq!(pool.take_idle(), None);
        assert_eq!(pool.connections(), 1);
    }
}
