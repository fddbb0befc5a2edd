//! Commands: what plugins asked for that only the worker can do.
//!
//! Owns the queue between a callback and the worker, and its bound. Must never act. Diagnostics: a
//! request beyond [`COMMANDS_MAX`] is a [`Misuse`].

use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};

use crate::id::{ConnectionId, QueryId, TimerId, WatchId};
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::query::RecordKind;
use crate::token::Opaque;

/// The header's `MQ_READ`.
pub const READ: u8 = 1;
/// The header's `MQ_WRITE`.
pub const WRITE: u8 = 2;

/// The longest that a timer waits: a year (D-92).
pub const TIMER_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;
/// How many watches a worker has at most. The header's number.
pub const WATCHES_MAX: usize = 65_536;
/// How many commands may wait when another is asked for. Stops, unwatches and hand-backs are always
/// taken: there is at most one for each timer, watch and connection that exists.
const COMMANDS_MAX: usize = 1 << 21;

/// Something for the worker to do, once the callback has returned.
#[derive(Debug)]
pub enum Command {
    /// Call [`fire_timer`](crate::Worker::fire_timer) in `after_ms`, at most [`TIMER_MS_MAX`]; 0 is the
    /// next turn (D-92).
    TimerStart {
        /// The timer.
        timer: TimerId,
        /// From now.
        after_ms: u64,
    },
    /// The same, and from then on every `interval_ms` (at least 1), counted from when it was due: those
    /// that were missed are left out.
    TimerRepeat {
        /// The timer.
        timer: TimerId,
        /// From now, for the first time.
        after_ms: u64,
        /// From one time to the next.
        interval_ms: u64,
    },
    /// In place of the deadline it has, the next one of a timer that repeats.
    TimerReset {
        /// The timer.
        timer: TimerId,
        /// From now.
        after_ms: u64,
    },
    /// Forget the timer.
    TimerStop {
        /// The timer.
        timer: TimerId,
    },
    /// Call [`fire_watch`](crate::Worker::fire_watch) when `fd` is ready.
    Watch {
        /// The watch.
        watch: WatchId,
        /// The plugin's descriptor, which it may have closed in the meantime (D-97).
        fd: BorrowedFd<'static>,
        /// Some of [`READ`] and [`WRITE`].
        interest: u8,
    },
    /// Another interest for the watch, which has one.
    SetInterest {
        /// The watch.
        watch: WatchId,
        /// Some of [`READ`] and [`WRITE`].
        interest: u8,
    },
    /// Forget the watch.
    Unwatch {
        /// The watch.
        watch: WatchId,
    },
    /// Put bytes into the output of a connection.
    Send {
        /// The connection.
        connection: ConnectionId,
        /// As they are.
        bytes: Vec<u8>,
    },
    /// A held step was handed back: see [`take_verdict`](crate::Worker::take_verdict).
    Resume {
        /// The connection.
        connection: ConnectionId,
    },
    /// The same for the worker's own step: see
    /// [`take_context_verdict`](crate::Worker::take_context_verdict).
    ResumeContext,
    /// Ask the name servers, and call [`fire_query`](crate::Worker::fire_query) with the answer, exactly
    /// once.
    Resolve {
        /// The query.
        query: QueryId,
        /// As the plugin gave it.
        name: Box<[u8]>,
        /// What is asked for.
        kind: RecordKind,
    },
    /// Sleep in [`foreign_loop`](crate::Worker::foreign_loop) from now on.
    WaitWithin,
}

/// The commands of the callbacks since the worker last looked.
#[derive(Debug, Default)]
pub(crate) struct Queue(Vec<Command>);

impl Queue {
    /// Is there room for a command that a plugin could ask for without end?
    pub(crate) fn admit(&self) -> Result<(), Misuse> {
        if self.0.len() < COMMANDS_MAX {
            Ok(())
        } else {
            Err(Misuse::TooMuch { limit: COMMANDS_MAX })
        }
    }

    pub(crate) fn push(&mut self, command: Command) {
        self.0.push(command);
    }

    /// Joins what is sent in pieces.
    pub(crate) fn push_send(&mut self, connection: ConnectionId, more: &[u8]) {
        match self.0.last_mut() {
            Some(Command::Send { connection: last, bytes }) if *last == connection => {
                bytes.extend_from_slice(more);
            }
            _ => self.0.push(Command::Send { connection, bytes: more.to_vec() }),
        }
    }

    /// A timer that is reset over and over within a callback leaves one command.
    pub(crate) fn push_reset(&mut self, timer: TimerId, after_ms: u64) {
        match self.0.last_mut() {
            Some(
                Command::TimerReset { timer: last, after_ms: place }
                | Command::TimerStart { timer: last, after_ms: place }
                | Command::TimerRepeat { timer: last, after_ms: place, .. },
            ) if *last == timer => *place = after_ms,
            _ => self.0.push(Command::TimerReset { timer, after_ms }),
        }
    }

    /// So does a watch whose interest changes over and over.
    pub(crate) fn push_interest(&mut self, watch: WatchId, interest: u8) {
        match self.0.last_mut() {
            Some(
                Command::SetInterest { watch: last, interest: place }
                | Command::Watch { watch: last, interest: place, .. },
            ) if *last == watch => *place = interest,
            _ => self.0.push(Command::SetInterest { watch, interest }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, into: &mut Vec<Command>) {
        into.append(&mut self.0);
    }

    /// D-17: nothing that concerns a timer or a watch is left.
    pub(crate) fn forget_events(&mut self) {
        self.0.retain(|command| match command {
            Command::TimerStart { .. }
            | Command::TimerRepeat { .. }
            | Command::TimerReset { .. }
            | Command::TimerStop { .. }
            | Command::Watch { .. }
            | Command::SetInterest { .. }
            | Command::Unwatch { .. }
            | Command::Resolve { .. } => false,
            Command::Send { .. }
            | Command::Resume { .. }
            | Command::ResumeContext
            | Command::WaitWithin => true,
        });
    }
}

pub(crate) type TimerCallback = unsafe extern "C-unwind" fn(*mut c_void);
pub(crate) type WatchCallback = unsafe extern "C-unwind" fn(*mut Opaque, c_int, c_int, *mut c_void);

/// A timer that has not fired, or fires over and over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) plugin: PluginIndex,
    /// It stays after it has fired.
    pub(crate) repeats: bool,
    pub(crate) callback: TimerCallback,
    pub(crate) data: *mut c_void,
}

/// A watch that was not taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) plugin: PluginIndex,
    pub(crate) fd: RawFd,
    /// 0 while it rests.
    pub(crate) interest: u8,
    pub(crate) callback: WatchCallback,
    pub(crate) data: *mut c_void,
}

/// D-92: whole milliseconds, never early; `None` for NaN. The product is a float like its factor, so that
/// 0.001 (which no float is) is 1 ms and not 2.
pub(crate) fn timeout_ms(seconds: f32) -> Option<u64> {
    if seconds.is_nan() {
        return None;
    }
    // From float to integer, `as` saturates: what is negative is 0.
    Some(((seconds * 1000.0).ceil() as u64).min(TIMER_MS_MAX))
}

/// The same for a double, of which 0.001 is 1 ms as well, though a little less or more.
pub(crate) fn timeout_ms_of(seconds: f64) -> Option<u64> {
    if seconds.is_nan() {
        return None;
    }
    let whole_ms = (seconds * 1000.0).round();
    // What a product is off by is far below a microsecond.
    let is_whole = (seconds * 1000.0 - whole_ms).abs() < 1e-6;
    let up_ms = if is_whole { whole_ms } else { (seconds * 1000.0).ceil() };
    // More than nothing is not nothing.
    let least_ms = if seconds > 0.0 { 1.0 } else { 0.0 };
    Some((up_ms.max(least_ms) as u64).min(TIMER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_92_timeouts_are_whole_milliseconds_within_bounds() {
        for (seconds, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (-1.5, Some(0)),
            (f32::NEG_INFINITY, Some(0)),
            (f32::MIN_POSITIVE, Some(1)),
            (0.001, Some(1)),
            (0.0011, Some(2)),
            (0.5, Some(500)),
            (30.0, Some(30_000)),
            (1e9, Some(TIMER_MS_MAX)),
            (f32::INFINITY, Some(TIMER_MS_MAX)),
            (f32::NAN, None),
        ] {
            assert_eq!(timeout_ms(seconds), expected, "{seconds}");
        }
        for (seconds, expected) in [
            (-1.0, Some(0)),
            (0.0, Some(0)),
            (1e-12, Some(1)),
            (0.001, Some(1)),
            (0.0011, Some(2)),
            (0.1 + 0.2, Some(300)),
            (2.5, Some(2_500)),
            (1e300, Some(TIMER_MS_MAX)),
            (f64::NAN, None),
        ] {
            assert_eq!(timeout_ms_of(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn resets_and_pieces_of_one_callback_are_joined() {
        let (timer, connection) = (TimerId::from_bits(1), ConnectionId::from_bits(2));
        let mut queue = Queue::default();
        queue.push(Command::TimerStart { timer, after_ms: 5 });
        queue.push_reset(timer, 6);
        queue.push_reset(timer, 7);
        queue.push_send(connection, b"a");
        queue.push_send(connection, b"b");
        queue.push_reset(timer, 8);
        let mut taken = Vec::new();
        queue.take(&mut taken);
        let expected = [
            Command::TimerStart { timer, after_ms: 7 },
            Command::Send { connection, bytes: b"ab".to_vec() },
            Command::TimerReset { timer, after_ms: 8 },
        ];
        assert_eq!(format!("{taken:?}"), format!("{expected:?}"));
    }
}
