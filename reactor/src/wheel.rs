//! Owns: timers by deadline. A hierarchical wheel of 64-slot levels with occupancy bitmaps; timers
//! of a slot form a list linked by index. Arming, re-arming and cancelling cost the same with one
//! timer as with a million.
//!
//! An entry lies on the level of the highest bit group (six bits each) in which its deadline
//! differs from the time the wheel has reached; or where it lay before it was put off, whose slot
//! comes sooner. Hence all entries of a level share the bits above
//! it with that time, nothing ever wraps, the first occupied slot of the lowest occupied level is
//! the next to act on, and eleven levels cover every `u64`.
//!
//! Must never: read a clock (time is a parameter, in ticks of 1 ms), fire early, call anybody.
//!
//! Diagnostics: none. Keys of timers that fired or were cancelled are stale, and using them does
//! nothing (D-90).

use crate::slab::{Key, Slab};

/// The furthest a deadline may lie ahead, 365 days in milliseconds; more is clamped (D-92).
pub const DELAY_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = u64::BITS.div_ceil(SLOT_BITS) as usize;
/// The list of timers whose time has come, after those of the slots.
const DUE: usize = LEVELS * SLOTS;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// Names a timer of one [`Wheel`] until it fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(Key);

impl TimerKey {
    /// The key as a plain slab key, for callers that pack it into a token of their own.
    pub const fn key(self) -> Key {
        self.0
    }
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    deadline_ms: u64,
    previous: u32,
    next: u32,
    /// The list it is in: `level * SLOTS + slot`, or [`DUE`].
    list: u16,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NIL, last: NIL };

/// Timers with payload `T`, in two stages: [`Wheel::advance`] moves what is due onto a list,
/// [`Wheel::take_due`] hands it out one by one. Between the two a timer is still armed: cancelling
/// it keeps it from firing, which is what a callback relies on that stops another timer of the same
/// turn.
///
/// The number of timers is bounded by the caller only. Memory follows their number down again (see
/// [`Slab`]).
#[derive(Debug)]
pub struct Wheel<T> {
    entries: Slab<Entry<T>>,
    lists: Box<[List]>,
    /// One bit a slot: set while its list is not empty.
    occupied: [u64; LEVELS],
    /// Every deadline before this is on the due list; every slot with an entry is at or after it, or
    /// under way.
    now_ms: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel that has reached `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            entries: Slab::new(),
            lists: vec![EMPTY; DUE + 1].into_boxed_slice(),
            occupied: [0; LEVELS],
            now_ms,
        }
    }

    /// How many timers are armed, those on the due list included.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no timer is armed.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many timers there is memory for.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Arms a timer. A deadline that has passed counts as now, and fires with the next
    /// [`Wheel::advance`], not before; one more than [`DELAY_MS_MAX`] ahead is clamped.
    pub fn arm(&mut self, deadline_ms: u64, value: T) -> TimerKey {
        let deadline_ms = self.clamp(deadline_ms);
        let entry = Entry { value, deadline_ms, previous: NIL, next: NIL, list: 0 };
        let key = self.entries.insert(entry);
        self.link(key.index(), self.list_for(deadline_ms));
        TimerKey(key)
    }

    /// Gives a timer that has not fired a new deadline; `false` if the key is stale.
    ///
    /// One that is not before the slot that the timer lies on is only written down: the timer is
    /// moved when the time of that slot comes. So timers that are put off over and over, as those
    /// of connections are, cost one look at one entry each time, and are moved once a slot.
    pub fn rearm(&mut self, timer: TimerKey, deadline_ms: u64) -> bool {
        let deadline_ms = self.clamp(deadline_ms);
        let now_ms = self.now_ms;
        let Some(entry) = self.entries.get_mut(timer.0) else {
            return false;
        };
        entry.deadline_ms = deadline_ms;
        let list = usize::from(entry.list);
        if list != DUE && start_ms(now_ms, list / SLOTS, list % SLOTS) <= deadline_ms {
            return true;
        }
        self.unlink(timer.0.index());
        self.link(timer.0.index(), self.list_for(deadline_ms));
        true
    }

    /// Takes back a timer that has not fired; `None` if the key is stale.
    pub fn cancel(&mut self, timer: TimerKey) -> Option<T> {
        self.entries.get(timer.0)?;
        self.unlink(timer.0.index());
        self.entries.remove(timer.0).map(|entry| entry.value)
    }

    /// The deadline of a timer that has not fired, after clamping.
    pub fn deadline_ms(&self, timer: TimerKey) -> Option<u64> {
        self.entries.get(timer.0).map(|entry| entry.deadline_ms)
    }

    /// Moves every timer with a deadline up to and including `now_ms` to the due list, in order of
    /// deadline, equal ones in the order they were armed if none of them was given another deadline
    /// since. A time before the one reached is taken for the latter.
    pub fn advance(&mut self, now_ms: u64) {
        let now_ms = now_ms.max(self.now_ms);
        while let Some((level, slot, start_ms)) = self.next_slot()
            && start_ms <= now_ms
        {
            self.now_ms = self.now_ms.max(start_ms);
            self.empty_slot(level, slot);
        }
        self.now_ms = now_ms;
    }

    /// Takes the first timer off the due list; from here on its key is stale.
    pub fn take_due(&mut self) -> Option<(TimerKey, T)> {
        let index = self.lists[DUE].first;
        if index == NIL {
            return None;
        }
        let key = self.entries.key_at(index);
        self.unlink(index);
        self.entries.remove(key).map(|entry| (TimerKey(key), entry.value))
    }

    /// Whether [`Wheel::take_due`] has something to give.
    pub fn has_due(&self) -> bool {
        self.lists[DUE].first != NIL
    }

    /// When to call [`Wheel::advance`] next for the timers that are not due yet; `None` without
    /// any.
    ///
    /// Exact for deadlines within the current 64 ms, else a lower bound: the start of the
    /// deadline's slot; or, for a timer that was put off, that of the slot it lay on. Advancing to it
    /// moves the timers of that slot on, so that one timer costs at most a wake-up a level (six for
    /// a year) each time it was put off, and the answer never stays where it is.
    pub fn next_deadline(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, start_ms)| start_ms)
    }

    fn clamp(&self, deadline_ms: u64) -> u64 {
        deadline_ms.clamp(self.now_ms, self.now_ms.saturating_add(DELAY_MS_MAX))
    }

    /// The list for a deadline that is not before `now_ms`.
    fn list_for(&self, deadline_ms: u64) -> usize {
        let differing = (deadline_ms ^ self.now_ms) | 1;
        let level = (differing.ilog2() / SLOT_BITS) as usize;
        level * SLOTS + slot_of(deadline_ms, level)
    }

    /// Level and slot to act on next, with the first millisecond of that slot.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        Some((level, slot, start_ms(self.now_ms, level, slot)))
    }

    /// Moves the entries of a slot whose time has come to where they belong now, keeping their
    /// order.
    fn empty_slot(&mut self, level: usize, slot: usize) {
        let list = level * SLOTS + slot;
        let mut index = std::mem::replace(&mut self.lists[list], EMPTY).first;
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let entry = self.entries.at(index);
            let (next, deadline_ms) = (entry.next, entry.deadline_ms);
            let is_due = level == 0 && deadline_ms <= self.now_ms;
            let target = if is_due { DUE } else { self.list_for(deadline_ms) };
            self.link(index, target);
            index = next;
        }
    }

    /// Appends the entry to a list.
    fn link(&mut self, index: u32, list: usize) {
        let last = std::mem::replace(&mut self.lists[list].last, index);
        let entry = self.entries.at_mut(index);
        (entry.previous, entry.next, entry.list) = (last, NIL, list as u16);
        match last {
            NIL => self.lists[list].first = index,
            last => self.entries.at_mut(last).next = index,
        }
        if list != DUE {
            self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
        }
    }

    /// Takes the entry out of its list.
    fn unlink(&mut self, index: u32) {
        let entry = self.entries.at(index);
        let (previous, next, list) = (entry.previous, entry.next, usize::from(entry.list));
        match previous {
            NIL => self.lists[list].first = next,
            previous => self.entries.at_mut(previous).next = next,
        }
        match next {
            NIL => self.lists[list].last = previous,
            next => self.entries.at_mut(next).previous = previous,
        }
        if list != DUE && self.lists[list].first == NIL {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }
}

/// The first millisecond of a slot, for a wheel that has reached `now_ms`.
fn start_ms(now_ms: u64, level: usize, slot: usize) -> u64 {
    let shift = level as u32 * SLOT_BITS;
    // The bits above the level are those of the time reached; the top level has none above.
    let above = now_ms.checked_shr(shift + SLOT_BITS).unwrap_or(0);
    above.checked_shl(shift + SLOT_BITS).unwrap_or(0) | (slot as u64) << shift
}

/// The slot of a deadline on a level.
const fn slot_of(deadline_ms: u64, level: usize) -> usize {
    (deadline_ms >> (level as u32 * SLOT_BITS)) as usize % SLOTS
}
