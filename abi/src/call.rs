//! The one way into plugin code, and the boundary of the one way back.
//!
//! Owns the current call of each thread, its mirror for the watchdog, and what happens to exceptions.
//! Must never hold a borrow of the worker's cell while plugin code runs. Diagnostics: an exception that
//! leaves plugin code, or a panic of our own that would enter it, is reported with plugin and place on
//! stderr and to the log, and ends the process (D-0A).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::crash::{self, Cause};
use crate::hook::Site;
use crate::host::{self, Level};
use crate::plugin::PluginIndex;
use crate::state::State;

/// A call into plugin code that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Counts the calls of the thread. The same number at two looks is the same call.
    pub sequence: u64,
    /// Whose code runs.
    pub plugin: PluginIndex,
    /// What was called.
    pub site: Site,
}

/// `sequence 40 | plugin + 1, or 0 for none 16 | site 8`: one word, so that a look never sees half a call.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    const IDLE: Packed = Packed(0);
    const SEQUENCE_SHIFT: u32 = 24;

    const fn start(self, plugin: PluginIndex, site: Site) -> Packed {
        // The sequence wraps after 2^40 calls, hours after the last look.
        let sequence = (self.0 >> Packed::SEQUENCE_SHIFT).wrapping_add(1) << Packed::SEQUENCE_SHIFT;
        Packed(sequence | (plugin.bits() as u64 + 1) << 8 | site.code() as u64)
    }

    const fn end(self) -> Packed {
        Packed(self.0 >> Packed::SEQUENCE_SHIFT << Packed::SEQUENCE_SHIFT)
    }

    fn unpack(self) -> Option<Current> {
        let plugin = (self.0 >> 8 & 0xffff).checked_sub(1)?;
        Some(Current {
            sequence: self.0 >> Packed::SEQUENCE_SHIFT,
            plugin: PluginIndex::from_bits(plugin as u16),
            site: Site::from_code(self.0 as u8),
        })
    }
}

/// A call in one word; never 0.
pub(crate) fn pack(call: Current) -> u64 {
    let Current { sequence, plugin, site } = call;
    let before = Packed(sequence.wrapping_sub(1) << Packed::SEQUENCE_SHIFT);
    before.start(plugin, site).0
}

/// The inverse of [`pack`]; `None` for 0.
pub(crate) fn unpack(packed: u64) -> Option<Current> {
    Packed(packed).unpack()
}

/// A worker's current call where the watchdog sees it, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Published(AtomicU64);

impl Published {
    pub(crate) fn current(&self) -> Option<Current> {
        Packed(self.0.load(Ordering::Relaxed)).unpack()
    }
}

/// What the calls without a token need to know about their thread.
struct Here {
    current: Cell<Packed>,
    published: Cell<Option<&'static Published>>,
    state: Cell<Option<NonNull<RefCell<State>>>>,
}

thread_local! {
    static HERE: Here = const {
        Here {
            current: Cell::new(Packed::IDLE),
            published: Cell::new(None),
            state: Cell::new(None),
        }
    };
}

impl Here {
    fn set_current(&self, current: Packed) {
        self.current.set(current);
        if let Some(published) = self.published.get() {
            published.0.store(current.0, Ordering::Relaxed);
        }
    }
}

/// The call that runs on this thread.
pub(crate) fn current() -> Option<Current> {
    HERE.with(|here| here.current.get()).unpack()
}

/// Whose call runs on this thread, as far as that is known: not in a loop that several plugins share.
pub(crate) fn running() -> Option<PluginIndex> {
    current().filter(|current| current.site != Site::LibevShared).map(|current| current.plugin)
}

/// Does this thread have a worker?
pub(crate) fn has_worker() -> bool {
    HERE.with(|here| here.state.get()).is_some()
}

/// Makes `state` this thread's.
///
/// # Safety
/// [`leave`] is called on this thread before the pointee goes.
pub(crate) unsafe fn enter(state: NonNull<RefCell<State>>, published: &'static Published) {
    HERE.with(|here| {
        here.state.set(Some(state));
        here.published.set(Some(published));
    });
}

/// Takes this thread's state away.
pub(crate) fn leave() {
    HERE.with(|here| {
        here.state.set(None);
        here.published.set(None);
    });
}

/// Lends this thread's state to `f`, which must be short, and call neither plugin nor host code.
pub(crate) fn with_state<T>(f: impl FnOnce(&mut State) -> T) -> Option<T> {
    let state = HERE.with(|here| here.state.get())?;
    // SAFETY: `enter`'s caller promised that it lives until `leave`, which only this thread calls,
    // and not within `f`.
    let state = unsafe { state.as_ref() };
    Some(f(&mut state.borrow_mut()))
}

/// Whom a call is about.
#[derive(Clone, Copy)]
pub(crate) struct Blame<'a> {
    pub(crate) index: PluginIndex,
    pub(crate) name: &'a str,
}

/// Runs plugin code: every hook and callback goes through here.
// Inlined, for else `plugin` goes through memory, and a load that is wider than the stores before it
// costs more than all the rest.
#[inline(always)]
pub(crate) fn plugin_code<R>(plugin: Blame<'_>, site: Site, code: impl FnOnce() -> R) -> R {
    HERE.with(|here| here.set_current(here.current.get().start(plugin.index, site)));
    // An exception that no frame would catch ends the process before any of ours is asked; hence the
    // catch. What a catch does with a foreign exception is unspecified; hence the guard, whose drop
    // runs on the way there.
    let returned = catch_unwind(AssertUnwindSafe(|| {
        let fuse = Fuse(Escaped { plugin: plugin.name, site }, Cause::Exception);
        let returned = code();
        fuse.disarm();
        returned
    }));
    HERE.with(|here| here.set_current(here.current.get().end()));
    match returned {
        Ok(returned) => returned,
        Err(_) => die(&Escaped { plugin: plugin.name, site }, Cause::Exception),
    }
}

/// Runs what a plugin called, and never lets a panic out into it.
pub(crate) fn host_code<R>(function: &'static str, code: impl FnOnce() -> R) -> R {
    let fuse = Fuse(Panicked { function }, Cause::Panic);
    let returned = code();
    fuse.disarm();
    returned
}

/// Ends the process if it is dropped.
struct Fuse<R: fmt::Display>(R, Cause);

impl<R: fmt::Display> Fuse<R> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl<R: fmt::Display> Drop for Fuse<R> {
    #[cold]
    fn drop(&mut self) {
        die(&self.0, self.1);
    }
}

struct Escaped<'a> {
    plugin: &'a str,
    site: Site,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Escaped { plugin, site } = self;
        write!(f, "plugin {plugin}: an exception left {site}, which must catch its own")
    }
}

struct Panicked {
    function: &'static str,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a bug of the host: {} panicked", self.function)?;
        match current() {
            Some(Current { plugin, site, .. }) => {
                write!(f, ", called by plugin {} in {site}", host::plugin_name(Some(plugin)))
            }
            None => Ok(()),
        }
    }
}

#[cold]
#[inline(never)]
fn die(reason: &dyn fmt::Display, cause: Cause) -> ! {
    crash::note_cause(cause);
    let text = format!("{reason}; the process ends here");
    // Nothing is left to do about a closed stderr.
    let _ = writeln!(io::stderr(), "rohrpost: {text}");
    host::log(Level::Critical, current().map(|current| current.plugin), &text);
    process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::Hook;

    #[test]
    fn a_packed_call_comes_back() {
        let plugin = PluginIndex::from_bits(4095);
        let call = Packed::IDLE.start(plugin, Site::Hook(Hook::OutData));
        let expected = Current { sequence: 1, plugin, site: Site::Hook(Hook::OutData) };
        assert_eq!(call.unpack(), Some(expected));
        assert_eq!(call.end().unpack(), None);
        let next = call.end().start(PluginIndex::from_bits(0), Site::Timer).unpack();
        assert_eq!(next.map(|current| (current.sequence, current.site)), Some((2, Site::Timer)));
    }

    #[test]
    fn the_sequence_wraps_without_touching_the_rest() {
        let last = Packed(u64::MAX).end();
        let next = last.start(PluginIndex::from_bits(1), Site::Watch).unpack();
        assert_eq!(next.map(|current| (current.sequence, current.site)), Some((0, Site::Watch)));
    }

    #[test]
    fn plugin_code_is_current_only_while_it_runs() {
        let plugin = Blame { index: PluginIndex::from_bits(3), name: "x.so" };
        let seen = plugin_code(plugin, Site::Timer, current).expect("a call runs");
        assert_eq!((seen.plugin, seen.site), (plugin.index, Site::Timer));
        assert_eq!(current(), None);
    }
}
