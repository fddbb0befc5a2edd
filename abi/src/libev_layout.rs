//! The structures of libev 4 that the host shares or looks at: watchers, and what a loop begins with.
//!
//! Owns their layouts, and the order in which libev looks at what is due. Must never call libev.
//! Diagnostics: none; whether a copy of libev has this layout is tried by `libev`.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr::{self, NonNull};

/// A `struct ev_loop`, which only libev looks into.
pub(crate) type Raw = c_void;

/// How many priorities there are, EV_MAXPRI and EV_MINPRI included.
pub(crate) const PRIORITIES: usize = 5;

/// What every watcher begins with (`EV_WATCHER`).
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Watcher<W> {
    pub(crate) active: c_int,
    pub(crate) pending: c_int,
    pub(crate) priority: c_int,
    pub(crate) data: *mut c_void,
    pub(crate) callback: unsafe extern "C-unwind" fn(*mut Raw, *mut W, c_int),
}

impl<W> Watcher<W> {
    pub(crate) fn new(
        callback: unsafe extern "C-unwind" fn(*mut Raw, *mut W, c_int),
    ) -> Watcher<W> {
        Watcher { active: 0, pending: 0, priority: 0, data: ptr::null_mut(), callback }
    }
}

/// `ev_io`
#[repr(C)]
#[derive(Debug)]
pub(crate) struct IoWatcher {
    pub(crate) watcher: Watcher<IoWatcher>,
    pub(crate) next: *mut c_void,
    pub(crate) fd: c_int,
    pub(crate) events: c_int,
}

/// `ev_timer`
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TimerWatcher {
    pub(crate) watcher: Watcher<TimerWatcher>,
    pub(crate) at: f64,
    pub(crate) repeat: f64,
}

/// `ev_cleanup`
#[repr(C)]
#[derive(Debug)]
pub(crate) struct CleanupWatcher {
    pub(crate) watcher: Watcher<CleanupWatcher>,
}

/// A watcher of any kind: what all of them begin with.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct AnyWatcher {
    pub(crate) watcher: Watcher<AnyWatcher>,
}

/// `ANPENDING`: a watcher that is due.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) watcher: *mut AnyWatcher,
    pub(crate) events: c_int,
}

/// What a `struct ev_loop` begins with, in ev_vars.h of versions 4.x. Looked at, never written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    times: [f64; 4],
    rfeeds: *mut c_void,
    rfeed_counts: [c_int; 2],
    pendings: [*mut Pending; PRIORITIES],
    pending_room: [c_int; PRIORITIES],
    pub(crate) pending_counts: [c_int; PRIORITIES],
}

impl Head {
    /// Of a loop that is alive.
    pub(crate) fn of(raw: NonNull<Raw>) -> Head {
        // SAFETY: libev's structure is several times as large, and numbers and pointers of any value may be
        // looked at. It is not at work meanwhile: this is its thread.
        unsafe { raw.cast::<Head>().read() }
    }

    /// How many are in the queue of a priority, with those that were taken out of the middle of it.
    fn count(&self, priority: usize) -> usize {
        usize::try_from(self.pending_counts[priority]).unwrap_or(0)
    }

    /// # Safety
    /// `at` is below the count of that priority, in a loop that is known to have this layout.
    unsafe fn queued(&self, priority: usize, at: usize) -> Pending {
        // SAFETY: libev keeps so many of them there.
        let place = unsafe { self.pendings[priority].add(at) };
        // SAFETY: as above.
        unsafe { place.read() }
    }

    /// What is due, the last to be called first; of a loop that is known to have this layout.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Pending> + '_ {
        (0..PRIORITIES).flat_map(move |priority| {
            // SAFETY: all of these are below the count.
            (0..self.count(priority)).map(move |at| unsafe { self.queued(priority, at) })
        })
    }
}

/// What of a loop's queues is still to be looked at: each place once, though callbacks make more of it due.
#[derive(Debug, Default)]
pub(crate) struct Unseen([Queue; PRIORITIES]);

/// A queue of one priority: places are added at its end, and all go at once.
#[derive(Debug, Default)]
struct Queue {
    known: usize,
    /// Those not looked at, the last to be looked at first, and from their ends.
    places: Vec<Range<usize>>,
}

impl Unseen {
    /// What libev would look at next.
    pub(crate) fn next(&mut self, head: &Head) -> Option<Pending> {
        let queues = self.0.iter_mut().enumerate().rev();
        let next = |(priority, queue): (usize, &mut Queue)| {
            // SAFETY: the place is below the count.
            queue.next(head.count(priority)).map(|at| unsafe { head.queued(priority, at) })
        };
        queues.filter_map(next).next()
    }
}

impl Queue {
    /// A place below `count`.
    fn next(&mut self, count: usize) -> Option<usize> {
        if count < self.known {
            // A run within a callback has called all that was there.
            *self = Queue::default();
        }
        if count > self.known {
            self.places.push(self.known..count);
            self.known = count;
        }
        while let Some(last) = self.places.last_mut() {
            match last.next_back() {
                Some(at) => return Some(at),
                None => self.places.pop(),
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes that `sizeof` gives for the structures of ev.h 4.33 on 64-bit machines.
    #[test]
    fn d_9f_watchers_are_laid_out_as_libev_has_them() {
        assert_eq!(size_of::<IoWatcher>(), 48);
        assert_eq!(size_of::<TimerWatcher>(), 48);
        assert_eq!(size_of::<CleanupWatcher>(), 32);
        assert_eq!((size_of::<Pending>(), size_of::<Head>()), (16, 128));
    }

    #[test]
    fn a_queue_is_looked_at_from_its_end_and_each_place_once() {
        let mut queue = Queue::default();
        let mut next = |counts: &[usize]| -> Vec<Option<usize>> {
            counts.iter().map(|count| queue.next(*count)).collect()
        };
        assert_eq!(next(&[3, 3]), [Some(2), Some(1)]);
        // What is called makes two more due, and one of those another.
        assert_eq!(next(&[5, 6, 6, 6, 6]), [Some(4), Some(5), Some(3), Some(0), None]);
        assert_eq!(next(&[7, 7]), [Some(6), None]);
        // A run within a callback has called all, and left two.
        assert_eq!(next(&[2, 2, 2]), [Some(1), Some(0), None]);
        assert_eq!(next(&[0, 1, 1]), [None, Some(0), None]);
    }
}
