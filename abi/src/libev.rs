//! libev: the loop that plugins which are built on it share with their worker (D-9F).
//!
//! The first plugin to ask on a worker has a loop made, by the copy of libev that it is linked with: no
//! other will do, since watchers are that copy's own structures. From then on the worker sleeps in
//! there: a watcher of ours ends the sleep when the worker's own descriptor is ready, another when its
//! time is over.
//!
//! Owns the functions of that copy, the loop, and our watchers in it. Must never run libev while the
//! worker's cell is borrowed, because libev runs callbacks of plugins; nor destroy the loop, because
//! threads of plugins may send to it until the process ends. Diagnostics: why there is no loop, as a
//! critical line once per plugin; a loop that a plugin runs or destroys by itself, as a critical line.
//!
//! What libev's header leaves to whoever builds it (`EV_COMMON`, `EV_MINPRI`) must be as libev's own
//! build has it: nothing in the library tells.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::{c_int, c_uint, c_void};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::process;
use std::ptr::{self, NonNull};
use std::time::Duration;

use libloading::os::unix::Library;

use crate::access::{self, Wanted};
use crate::call;
use crate::command::Command;
use crate::hook::Site;
use crate::host::{self, Level};
use crate::misuse::Once;
use crate::plugin::PluginIndex;
use crate::token::Opaque;

/// A `struct ev_loop`, which only libev looks into.
type Raw = c_void;

/// The major version whose watchers have the layout below.
const MAJOR: c_int = 4;

// Of ev.h, versions 4.x.
const EV_READ: c_int = 0x01;
const EV_IOFDSET: c_int = 0x80;
const EVBACKEND_EPOLL: c_uint = 0x0000_0004;
/// The environment of the server is not a plugin's to set.
const EVFLAG_NOENV: c_uint = 0x0100_0000;
/// Spares a descriptor that serves periodic timers alone, which without it look at the clock in time.
const EVFLAG_NOTIMERFD: c_uint = 0x0080_0000;
const EVRUN_NOWAIT: c_int = 1;
const EVRUN_ONCE: c_int = 2;
const EVBREAK_ONE: c_int = 1;

/// What every watcher begins with (`EV_WATCHER`).
#[repr(C)]
#[derive(Debug)]
struct Watcher<W> {
    active: c_int,
    pending: c_int,
    priority: c_int,
    data: *mut c_void,
    callback: unsafe extern "C-unwind" fn(*mut Raw, *mut W, c_int),
}

impl<W> Watcher<W> {
    fn new(callback: unsafe extern "C-unwind" fn(*mut Raw, *mut W, c_int)) -> Watcher<W> {
        Watcher { active: 0, pending: 0, priority: 0, data: ptr::null_mut(), callback }
    }
}

/// `ev_io`
#[repr(C)]
#[derive(Debug)]
struct IoWatcher {
    watcher: Watcher<IoWatcher>,
    next: *mut c_void,
    fd: c_int,
    events: c_int,
}

/// `ev_timer`
#[repr(C)]
#[derive(Debug)]
struct TimerWatcher {
    watcher: Watcher<TimerWatcher>,
    at: f64,
    repeat: f64,
}

/// `ev_cleanup`
#[repr(C)]
#[derive(Debug)]
struct CleanupWatcher {
    watcher: Watcher<CleanupWatcher>,
}

/// What is called of one copy of libev.
#[derive(Clone, Copy, Debug)]
struct Functions {
    version_major: unsafe extern "C-unwind" fn() -> c_int,
    loop_new: unsafe extern "C-unwind" fn(c_uint) -> *mut Raw,
    run: unsafe extern "C-unwind" fn(*mut Raw, c_int),
    break_loop: unsafe extern "C-unwind" fn(*mut Raw, c_int),
    depth: unsafe extern "C-unwind" fn(*mut Raw) -> c_uint,
    now_update: unsafe extern "C-unwind" fn(*mut Raw),
    set_invoke: unsafe extern "C-unwind" fn(*mut Raw, unsafe extern "C-unwind" fn(*mut Raw)),
    invoke: unsafe extern "C-unwind" fn(*mut Raw),
    pending: unsafe extern "C-unwind" fn(*mut Raw) -> c_uint,
    io_start: unsafe extern "C-unwind" fn(*mut Raw, *mut IoWatcher),
    io_stop: unsafe extern "C-unwind" fn(*mut Raw, *mut IoWatcher),
    timer_again: unsafe extern "C-unwind" fn(*mut Raw, *mut TimerWatcher),
    cleanup_start: unsafe extern "C-unwind" fn(*mut Raw, *mut CleanupWatcher),
}

impl Functions {
    /// Those that a plugin itself calls; `None` if it calls none, or only ones of its own.
    fn find(library: &Library) -> Option<Functions> {
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: the field's type is the prototype of that name in ev.h of versions 4.x (`run`
                // returns nothing in some of them, and what it returns is not looked at); a plugin is
                // never unloaded, and what it is linked with neither.
                *unsafe { library.get($name) }.ok()?
            };
        }
        Some(Functions {
            version_major: find!(b"ev_version_major\0"),
            loop_new: find!(b"ev_loop_new\0"),
            run: find!(b"ev_run\0"),
            break_loop: find!(b"ev_break\0"),
            depth: find!(b"ev_depth\0"),
            now_update: find!(b"ev_now_update\0"),
            set_invoke: find!(b"ev_set_invoke_pending_cb\0"),
            invoke: find!(b"ev_invoke_pending\0"),
            pending: find!(b"ev_pending_count\0"),
            io_start: find!(b"ev_io_start\0"),
            io_stop: find!(b"ev_io_stop\0"),
            timer_again: find!(b"ev_timer_again\0"),
            cleanup_start: find!(b"ev_cleanup_start\0"),
        })
    }

    fn is_same_copy(&self, other: &Functions) -> bool {
        ptr::fn_addr_eq(self.run, other.run)
    }
}

/// Why a plugin gets no loop. Each is for the plugin's author or the administrator to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    NoLibev,
    OtherVersion { major: c_int },
    OtherCopy { first: &'static str },
    NotMade,
    Destroyed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MQ_ev: NULL is returned, for ")?;
        match self {
            Refused::NoLibev => f.write_str(
                "no libev was found in the plugin and what it is linked with; link it with -lev, or, \
                 where libev is compiled into it, let its functions be visible",
            ),
            Refused::OtherVersion { major } => {
                write!(f, "the plugin is linked with libev {major}; this host knows libev {MAJOR}")
            }
            Refused::OtherCopy { first } => write!(
                f,
                "the plugin has another copy of libev than {first}, whose copy runs this worker's \
                 loop; link both with the same library"
            ),
            Refused::NotMade => f.write_str("libev could not make a loop that waits with epoll"),
            Refused::Destroyed => f.write_str("a plugin has destroyed the loop of this worker"),
        }
    }
}

/// One worker's loop. Never freed.
#[derive(Debug)]
pub(crate) struct Loop {
    functions: Functions,
    raw: NonNull<Raw>,
    source: UnsafeCell<IoWatcher>,
    deadline: UnsafeCell<TimerWatcher>,
    cleanup: UnsafeCell<CleanupWatcher>,
    /// What `source` watches: the number, and which file it was.
    registered: Cell<Option<(RawFd, u64)>>,
    /// The worker sleeps in here, or callbacks run within its wait.
    waiting: Cell<bool>,
    /// `source` was ready in this wait.
    woken: Cell<bool>,
    alive: Cell<bool>,
    /// Who uses it. All are linked with the same copy.
    users: RefCell<Vec<PluginIndex>>,
    nesting_said: Cell<bool>,
}

/// A worker's loop as the worker sees it: where it sleeps from now on.
#[derive(Debug)]
pub struct ForeignLoop(pub(crate) &'static Loop);

impl ForeignLoop {
    /// Runs the loop once: until `fd` is readable, `timeout` is over (`None`: for ever; zero: without
    /// waiting), or callbacks of plugins have run. These run in here; what they asked for is left as
    /// commands. `generation` counts up when another file is behind the same number. Whether `fd` is
    /// readable; it may be so unseen when callbacks ended the wait.
    pub fn wait(&mut self, fd: BorrowedFd<'_>, generation: u64, timeout: Option<Duration>) -> bool {
        self.0.wait(fd.as_raw_fd(), generation, timeout)
    }

    /// Whether it can be waited in: not if a plugin has destroyed it.
    pub fn is_alive(&self) -> bool {
        self.0.alive.get()
    }
}

/// Serves `MQ_ev`.
pub(crate) fn ask(function: &'static str, context: *mut Opaque) -> *mut Opaque {
    let asker = access::serve(function, Wanted::Context, context, None, |state, token| {
        Ok(Some((token.plugin(), state.libev)))
    });
    let Some((plugin, shared)) = asker else { return ptr::null_mut() };
    call::host_code(function, || match provide(plugin, shared) {
        Ok(shared) => shared.raw.as_ptr(),
        Err(refused) => {
            if host::installed().is_some_and(|host| host.meter(Some(plugin)).first(Once::Libev)) {
                host::log(Level::Critical, Some(plugin), &refused.to_string());
            }
            ptr::null_mut()
        }
    })
}

/// The worker's loop for `plugin`; made if there is none.
fn provide(plugin: PluginIndex, shared: Option<&'static Loop>) -> Result<&'static Loop, Refused> {
    if let Some(shared) = shared
        && shared.users.borrow().contains(&plugin)
    {
        return if shared.alive.get() { Ok(shared) } else { Err(Refused::Destroyed) };
    }
    let host = host::installed().expect("whoever was served has a host");
    let library = host.plugins().plugin(plugin).library();
    let functions = Functions::find(library).ok_or(Refused::NoLibev)?;
    // SAFETY: the function takes nothing.
    let major = unsafe { (functions.version_major)() };
    if major != MAJOR {
        return Err(Refused::OtherVersion { major });
    }
    let Some(shared) = shared else {
        let made = Loop::make(functions)?;
        made.users.borrow_mut().push(plugin);
        call::with_state(|state| {
            state.libev = Some(made);
            state.commands.push(Command::WaitWithin);
        });
        return Ok(made);
    };
    if !shared.functions.is_same_copy(&functions) {
        let first = shared.users.borrow().first().copied();
        return Err(Refused::OtherCopy { first: host::plugin_name(first) });
    }
    if !shared.alive.get() {
        return Err(Refused::Destroyed);
    }
    shared.users.borrow_mut().push(plugin);
    Ok(shared)
}

impl Loop {
    fn make(functions: Functions) -> Result<&'static Loop, Refused> {
        let flags = EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD;
        // SAFETY: flags of ev.h; no cell is borrowed, should the plugin's allocator be asked.
        let raw = unsafe { (functions.loop_new)(flags) };
        let raw = NonNull::new(raw).ok_or(Refused::NotMade)?;
        let source = IoWatcher {
            watcher: Watcher::new(on_source),
            next: ptr::null_mut(),
            fd: -1,
            events: 0,
        };
        let deadline = TimerWatcher { watcher: Watcher::new(on_deadline), at: 0.0, repeat: 0.0 };
        let made: &'static Loop = Box::leak(Box::new(Loop {
            functions,
            raw,
            source: UnsafeCell::new(source),
            deadline: UnsafeCell::new(deadline),
            cleanup: UnsafeCell::new(CleanupWatcher { watcher: Watcher::new(on_destroy) }),
            registered: Cell::new(None),
            waiting: Cell::new(false),
            woken: Cell::new(false),
            alive: Cell::new(true),
            users: RefCell::new(Vec::new()),
            nesting_said: Cell::new(false),
        }));
        // SAFETY: the loop was made above, and the callback has the prototype that it asks for.
        unsafe { (functions.set_invoke)(raw.as_ptr(), invoke) };
        // SAFETY: an initialized watcher that stays where it is, in the layout of `ev_cleanup`.
        unsafe { (functions.cleanup_start)(raw.as_ptr(), made.cleanup.get()) };
        Ok(made)
    }

    fn wait(&'static self, fd: RawFd, generation: u64, timeout: Option<Duration>) -> bool {
        assert!(self.alive.get(), "whoever waits has asked whether the loop is alive");
        self.adopt(fd, generation);
        let flags = match timeout {
            Some(Duration::ZERO) => EVRUN_NOWAIT,
            timeout => {
                self.set_deadline(timeout);
                EVRUN_ONCE
            }
        };
        self.woken.set(false);
        self.waiting.set(true);
        // SAFETY: the loop is alive and this thread's, and does not run; no cell is borrowed.
        unsafe { (self.functions.run)(self.raw.as_ptr(), flags) };
        self.waiting.set(false);
        self.woken.get()
    }

    /// Has `source` watch the worker's descriptor.
    fn adopt(&self, fd: RawFd, generation: u64) {
        if self.registered.get() == Some((fd, generation)) {
            return;
        }
        let source = self.source.get();
        // SAFETY: an initialized watcher of a loop that is alive; one that is not started may be stopped.
        unsafe { (self.functions.io_stop)(self.raw.as_ptr(), source) };
        // SAFETY: libev has let go of it, and is the only other one to touch it.
        let stopped = unsafe { &mut *source };
        (stopped.fd, stopped.events) = (fd, EV_READ | EV_IOFDSET);
        // SAFETY: an initialized watcher that stays where it is, with a descriptor that is open.
        unsafe { (self.functions.io_start)(self.raw.as_ptr(), source) };
        self.registered.set(Some((fd, generation)));
    }

    /// Has `deadline` end the wait in time; never without a timeout.
    fn set_deadline(&self, timeout: Option<Duration>) {
        let deadline = self.deadline.get();
        if timeout.is_some() {
            // What libev takes for now is when its last wait ended, and a turn has passed since.
            // SAFETY: the loop is alive and does not run.
            unsafe { (self.functions.now_update)(self.raw.as_ptr()) };
        }
        let repeat = timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
        // SAFETY: the field is ours to set at any time; libev reads it in the next call, and when the
        // timer fires.
        unsafe { (*deadline).repeat = repeat };
        // SAFETY: an initialized watcher that stays where it is. Started anew, or with 0 stopped.
        unsafe { (self.functions.timer_again)(self.raw.as_ptr(), deadline) };
    }

    /// Whose callbacks run. Among several that share the loop there is no telling.
    fn blame(&self) -> (PluginIndex, Site) {
        let users = self.users.borrow();
        let first = *users.first().expect("a loop is made for somebody");
        (first, if users.len() == 1 { Site::Libev } else { Site::LibevShared })
    }

    /// If a plugin runs the loop by itself, it is to come back: the worker has something to do.
    fn leave_nested(&self) {
        // SAFETY: called by this loop, which is alive therefore.
        let depth = unsafe { (self.functions.depth)(self.raw.as_ptr()) };
        if self.waiting.get() && depth == 1 {
            return;
        }
        // SAFETY: as above.
        unsafe { (self.functions.break_loop)(self.raw.as_ptr(), EVBREAK_ONE) };
        if !self.nesting_said.replace(true) {
            let text = "the libev loop of a worker was run from within a hook or callback, which stops \
                        all mail of the worker; the run ends as soon as there is mail to handle. Only \
                        the host may run it";
            host::log(Level::Critical, call::running(), text);
        }
    }

    /// This thread's, if that is the loop which calls. On any other thread nobody may run it.
    fn of(raw: *mut Raw) -> Option<&'static Loop> {
        let here = call::with_state(|state| state.libev).flatten()?;
        (here.raw.as_ptr() == raw).then_some(here)
    }
}

/// The worker has something to do.
unsafe extern "C-unwind" fn on_source(raw: *mut Raw, _: *mut IoWatcher, _: c_int) {
    if let Some(this) = Loop::of(raw) {
        this.woken.set(true);
        this.leave_nested();
    }
}

/// The time of the worker's wait is over. That the loop has run is all there is to it.
unsafe extern "C-unwind" fn on_deadline(raw: *mut Raw, _: *mut TimerWatcher, _: c_int) {
    if let Some(this) = Loop::of(raw) {
        this.leave_nested();
    }
}

/// Called by libev in place of its own function, for all callbacks that are due at one point of a run.
unsafe extern "C-unwind" fn invoke(raw: *mut Raw) {
    let Some(this) = Loop::of(raw) else { return };
    // SAFETY: called by this loop, which is alive therefore.
    if unsafe { (this.functions.pending)(raw) } == 0 {
        return;
    }
    // SAFETY: as above; this is what libev would have called here itself.
    let due = || unsafe { (this.functions.invoke)(raw) };
    if call::current().is_some() {
        // A plugin runs the loop within a call of its own, which is not over when this is.
        return due();
    }
    let (plugin, site) = this.blame();
    call::thread_code(plugin, site, due);
}

/// A plugin destroys the loop.
unsafe extern "C-unwind" fn on_destroy(raw: *mut Raw, _: *mut CleanupWatcher, _: c_int) {
    let Some(this) = Loop::of(raw) else { return };
    this.alive.set(false);
    let plugin = call::running();
    if this.waiting.get() {
        // libev would go on in memory that is no longer there.
        let text = "the libev loop of a worker was destroyed from within one of its own callbacks; the \
                    process ends here";
        host::log(Level::Critical, plugin, text);
        process::abort();
    }
    let text = "the libev loop of a worker was destroyed, which only the host may; no libev callback \
                runs on this worker any more";
    host::log(Level::Critical, plugin, text);
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
    }
}
