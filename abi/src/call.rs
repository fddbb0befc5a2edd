//! The one way into plugin code, and the boundary of the one way back.
//!
//! Owns the current call of each thread, as the watchdog sees it too, and what happens to exceptions.
//! Must never hold a borrow of the worker's cell while plugin code runs. Diagnostics: an exception that
//! leaves plugin code, or a panic of our own that would enter it, is reported with plugin and place on
//! stderr and to the log, and ends the process (D-0A).

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

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

/// What is called: plugin and site, as they stand in a [`Word`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(u64);

impl Call {
    #[inline(always)]
    pub(crate) const fn new(plugin: PluginIndex, site: Site) -> Call {
        Call((plugin.bits() as u64 + 1) << PLUGIN_SHIFT | site.code() as u64)
    }
}

const PLUGIN_SHIFT: u32 = 8;
const SEQUENCE_SHIFT: u32 = 24;
const SEQUENCE_ONE: u64 = 1 << SEQUENCE_SHIFT;
const CALL_MASK: u64 = SEQUENCE_ONE - 1;

/// The current call of one thread, for itself and for whoever watches it.
///
/// `sequence 40 | plugin + 1, or 0 for none 16 | site 8`: one word, so that a look never sees half a call.
/// Written by its thread only.
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicU64);

impl Word {
    const fn new() -> Word {
        Word(AtomicU64::new(0))
    }

    /// What it says while no plugin code runs.
    #[inline(always)]
    fn idle(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Plugin code begins; within a thread it never begins twice. `idle` is what the word says; what is returned
    /// is for [`Word::end`]: kept in a register it spares the way through memory, which is what most of a call
    /// would wait for.
    #[inline(always)]
    fn start(&self, idle: u64, call: Call) -> u64 {
        debug_assert_eq!(idle, self.idle(), "nobody else writes it");
        debug_assert_eq!(idle & CALL_MASK, 0, "plugin code never runs within plugin code");
        // The sequence wraps after 2^40 calls, hours after the last look.
        let running = idle.wrapping_add(SEQUENCE_ONE + call.0);
        self.0.store(running, Ordering::Relaxed);
        running
    }

    /// It is over: what the word says now.
    #[inline(always)]
    fn end(&self, running: u64) -> u64 {
        let idle = running & !CALL_MASK;
        self.0.store(idle, Ordering::Relaxed);
        idle
    }

    /// The call that runs.
    pub(crate) fn current(&self) -> Option<Current> {
        unpack(self.0.load(Ordering::Relaxed))
    }
}

/// A call in one word; never 0.
pub(crate) fn pack(call: Current) -> u64 {
    call.sequence << SEQUENCE_SHIFT | Call::new(call.plugin, call.site).0
}

/// The inverse of [`pack`]; `None` for 0, and for a thread that runs no plugin.
pub(crate) fn unpack(word: u64) -> Option<Current> {
    let plugin = (word >> PLUGIN_SHIFT & 0xffff).checked_sub(1)?;
    Some(Current {
        sequence: word >> SEQUENCE_SHIFT,
        plugin: PluginIndex::from_bits(plugin as u16),
        site: Site::from_code(word as u8),
    })
}

/// A worker's word, where the watchdog sees it: on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Published(Word);

impl Published {
    pub(crate) fn word(&self) -> &Word {
        &self.0
    }
}

/// The main thread's word, and what the kernel calls that thread; 0 until [`watch_main`].
static MAIN: Published = Published(Word::new());
static MAIN_THREAD: AtomicI32 = AtomicI32::new(0);

/// Has the calls into plugin code on this thread seen by [`current_main`]. Once, on the main thread, before
/// any plugin is loaded.
pub fn watch_main() {
    HERE.with(|here| here.published.set(Some(&MAIN)));
    // SAFETY: takes nothing.
    MAIN_THREAD.store(unsafe { libc::gettid() }, Ordering::Release);
}

/// The call into plugin code that runs on the main thread at this moment: what happens while a plugin is
/// loaded, initialized, told of a reload, or cleaned up. Any thread may look.
pub fn current_main() -> Option<Current> {
    MAIN.word().current()
}

/// The kernel's number of the main thread; 0 for none.
pub(crate) fn main_thread() -> c_int {
    MAIN_THREAD.load(Ordering::Acquire)
}

/// What the calls without a token need to know about their thread.
struct Here {
    /// Of a thread that is no worker.
    own: Word,
    published: Cell<Option<&'static Published>>,
    state: Cell<Option<NonNull<RefCell<State>>>>,
}

thread_local! {
    static HERE: Here = const {
        Here { own: Word::new(), published: Cell::new(None), state: Cell::new(None) }
    };
}

impl Here {
    fn word(&self) -> &Word {
        self.published.get().map_or(&self.own, Published::word)
    }
}

/// The call that runs on this thread.
pub(crate) fn current() -> Option<Current> {
    HERE.with(|here| here.word().current())
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

/// Runs plugin code on any thread, which is looked up.
pub(crate) fn thread_code<R>(plugin: PluginIndex, site: Site, code: impl FnOnce() -> R) -> R {
    HERE.with(|here| plugin_code(here.word(), Call::new(plugin, site), code))
}

/// Runs the code of a plugin that is being loaded: the host does not know its name yet.
pub(crate) fn loading_code<R>(
    plugin: PluginIndex,
    name: &str,
    site: Site,
    code: impl FnOnce() -> R,
) -> R {
    HERE.with(|here| guarded(here.word(), Call::new(plugin, site), Loading { name, site }, code))
}

/// Runs plugin code on the thread that `word` is of: every hook and callback goes through here.
// Inlined, so that a hook's arguments go straight from where they are into its registers.
#[inline(always)]
pub(crate) fn plugin_code<R>(word: &Word, call: Call, code: impl FnOnce() -> R) -> R {
    guarded(word, call, Escaped, code)
}

#[inline(always)]
fn guarded<R>(word: &Word, call: Call, escaped: impl Reason + Copy, code: impl FnOnce() -> R) -> R {
    let running = word.start(word.idle(), call);
    // An exception that no frame would catch ends the process before any of ours is asked; hence the
    // catch. What a catch does with a foreign exception is unspecified; hence the guard, whose drop
    // runs on the way there.
    let returned = catch_unwind(AssertUnwindSafe(|| {
        let fuse = Fuse(escaped);
        let returned = code();
        fuse.disarm();
        returned
    }));
    match returned {
        Ok(returned) => {
            word.end(running);
            returned
        }
        Err(_) => die(&escaped),
    }
}

/// Plugins that are called one after the other, with nothing of ours in between that could fail.
pub(crate) struct Row<'a> {
    word: &'a Word,
    /// What it says between two calls. In a register it spares the way through memory.
    idle: u64,
}

impl Row<'_> {
    /// Runs plugin code.
    #[inline(always)]
    pub(crate) fn call<R>(&mut self, call: Call, code: impl FnOnce() -> R) -> R {
        let running = self.word.start(self.idle, call);
        let fuse = Fuse(Escaped);
        let returned = code();
        fuse.disarm();
        self.idle = self.word.end(running);
        returned
    }
}

/// As [`plugin_code`], with one catch for a row of calls.
#[inline(always)]
pub(crate) fn in_a_row<R>(word: &Word, row: impl FnOnce(&mut Row<'_>) -> R) -> R {
    // An exception that leaves plugin code is met by its fuse, on the way to this catch.
    match catch_unwind(AssertUnwindSafe(|| row(&mut Row { word, idle: word.idle() }))) {
        Ok(returned) => returned,
        // A bug of ours, between two calls.
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs what a plugin called, and never lets a panic out into it.
pub(crate) fn host_code<R>(function: &'static str, code: impl FnOnce() -> R) -> R {
    let fuse = Fuse(Panicked { function });
    let returned = code();
    fuse.disarm();
    returned
}

/// Runs what a library does with an object of a plugin, on behalf of a plugin that called: what plugins hung
/// onto that object may run in it, and its exceptions are theirs, not the host's.
pub(crate) fn object_code<R>(code: impl FnOnce() -> R) -> R {
    let fuse = Fuse(HungOn);
    let returned = code();
    fuse.disarm();
    returned
}

/// Why the process ends.
trait Reason: fmt::Display {
    const CAUSE: Cause;
}

/// Ends the process if it is dropped.
struct Fuse<R: Reason>(R);

impl<R: Reason> Fuse<R> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl<R: Reason> Drop for Fuse<R> {
    #[cold]
    fn drop(&mut self) {
        die(&self.0);
    }
}

/// Says what left plugin code, by the call that runs: it has no fields, so that nothing is written for it
/// before each call.
#[derive(Clone, Copy)]
struct Escaped;

impl Reason for Escaped {
    const CAUSE: Cause = Cause::Exception;
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = current();
        let name = host::plugin_name(current.map(|current| current.plugin));
        let site = current.map(|current| current.site);
        escaped(f, name, site.as_ref().map_or(&"its code", |site| site))
    }
}

/// The same for a plugin that is being loaded.
#[derive(Clone, Copy)]
struct Loading<'a> {
    name: &'a str,
    site: Site,
}

impl Reason for Loading<'_> {
    const CAUSE: Cause = Cause::Exception;
}

impl fmt::Display for Loading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(f, self.name, &self.site)
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, plugin: &str, site: &dyn fmt::Display) -> fmt::Result {
    write!(f, "plugin {plugin}: an exception left {site}, which must catch its own")
}

/// Says what left [`object_code`]. Whose function it was, an object does not tell.
#[derive(Clone, Copy)]
struct HungOn;

impl Reason for HungOn {
    const CAUSE: Cause = Cause::Exception;
}

impl fmt::Display for HungOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = current();
        let name = host::plugin_name(current.map(|current| current.plugin));
        write!(f, "plugin {name}: an exception left what a plugin hung onto a JSON object")?;
        match current {
            Some(current) => write!(f, ", in {}; it must catch its own", current.site),
            None => f.write_str("; it must catch its own"),
        }
    }
}

struct Panicked {
    function: &'static str,
}

impl Reason for Panicked {
    const CAUSE: Cause = Cause::Panic;
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
fn die<R: Reason>(reason: &R) -> ! {
    crash::note_cause(R::CAUSE);
    let text = format!("{reason}; the process ends here");
    crash::say_last(&format!("rohrpost: {text}\n"));
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
        let call = Current { sequence: 5, plugin, site: Site::Hook(Hook::OutData) };
        assert_eq!(unpack(pack(call)), Some(call));
        assert_eq!(unpack(0), None);
    }

    #[test]
    fn a_call_is_seen_while_it_runs_and_counted() {
        let word = Word::new();
        let plugin = PluginIndex::from_bits(4095);
        let running = word.start(word.idle(), Call::new(plugin, Site::Hook(Hook::OutData)));
        let expected = Current { sequence: 1, plugin, site: Site::Hook(Hook::OutData) };
        assert_eq!(word.current(), Some(expected));
        word.end(running);
        assert_eq!(word.current(), None);
        word.start(word.idle(), Call::new(PluginIndex::from_bits(0), Site::Timer));
        let next = word.current().map(|current| (current.sequence, current.site));
        assert_eq!(next, Some((2, Site::Timer)));
    }

    #[test]
    fn the_sequence_wraps_without_touching_the_rest() {
        let word = Word(AtomicU64::new(!CALL_MASK));
        let running = word.start(!CALL_MASK, Call::new(PluginIndex::from_bits(1), Site::Watch));
        let next = word.current().map(|current| (current.sequence, current.site));
        assert_eq!(next, Some((0, Site::Watch)));
        word.end(running);
        assert_eq!(word.0.into_inner(), 0);
    }

    #[test]
    fn plugin_code_is_current_only_while_it_runs() {
        let plugin = PluginIndex::from_bits(3);
        let seen = thread_code(plugin, Site::Timer, current).expect("a call runs");
        assert_eq!((seen.plugin, seen.site), (plugin, Site::Timer));
        assert_eq!(current(), None);
    }
}
