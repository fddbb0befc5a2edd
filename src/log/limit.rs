//! A limit on lines that a peer can provoke.
//!
//! Owns counts per kind of line and window of time. A fixed table of atomics: nothing grows,
//! nothing locks. Kinds that fall on one slot share its budget, which at worst leaves out more.
//!
//! Diagnostics: how many lines were left out goes into the next one that passes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lines of one kind that pass in one window.
pub(super) const LIMITED_LINES_MAX: u32 = 10;
/// The length of a window in milliseconds.
pub(super) const LIMITED_WINDOW_MS: u64 = 10_000;
/// Slots for kinds; the program has a few dozen kinds.
const SLOTS: usize = 256;

/// Whether a line passes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It does; so many of its kind were left out in the window before.
    Passes { left_out: u32 },
    /// It does not.
    LeftOut,
}

/// The windows of all kinds.
pub(super) struct Limits {
    /// The number of the window above, the lines in it below; 32 bits each.
    slots: Box<[AtomicU64; SLOTS]>,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { slots: Box::new([const { AtomicU64::new(0) }; SLOTS]) }
    }

    /// Counts one line of a kind.
    pub(super) fn admit(&self, kind: &'static str, unix_ms: u64) -> Admission {
        // Only the low bits matter: a window is told from its neighbours, not from ages ago.
        let window = (unix_ms / LIMITED_WINDOW_MS) & u64::from(u32::MAX);
        let slot = &self.slots[slot_of(kind)];
        let step = |old: u64| match (old >> 32, old as u32) {
            (same, count) if same == window => (same << 32) | u64::from(count.saturating_add(1)),
            _ => (window << 32) | 1,
        };
        let mut old = slot.load(Ordering::Relaxed);
        while let Err(now) =
            slot.compare_exchange_weak(old, step(old), Ordering::Relaxed, Ordering::Relaxed)
        {
            old = now;
        }
        let count = old as u32;
        match old >> 32 == window {
            true if count >= LIMITED_LINES_MAX => Admission::LeftOut,
            true => Admission::Passes { left_out: 0 },
            false => Admission::Passes { left_out: count.saturating_sub(LIMITED_LINES_MAX) },
        }
    }
}

/// FNV-1a: kinds are constants of the program, so nobody can choose them to collide.
fn slot_of(kind: &str) -> usize {
    let hash = kind.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash % SLOTS as u64) as usize
}
