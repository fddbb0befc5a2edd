//! libev: the loop that plugins which are built on it share with their worker (D-9F).
//!
//! The first plugin to ask on a worker has a loop made, by the copy of libev that it is linked with: no
//! other will do, since watchers are that copy's own structures. From then on the worker sleeps in
//! there: a watcher of ours ends the sleep when the worker's own descriptor is ready, another when its
//! time is over.
//!
//! A plugin that departs (D-0E) may have left watchers behind: what is due of them is taken out of the loop
//! and not called. libev has no list of its watchers, so its list of what is due is looked at, in the one
//! layout that its own build has (`libev_layout`), which each new loop is tried for.
//!
//! Owns the functions of that copy, the loop, and our watchers in it. Must never run libev while the
//! worker's cell is borrowed, because libev runs callbacks of plugins; nor destroy the loop, because
//! threads of plugins may send to it until the process ends. Diagnostics: why there is no loop, as a
//! critical line once per plugin; a loop that a plugin runs or destroys by itself, and what a
//! plugin has left behind, as a critical line.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_uint};
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
use crate::image;
use crate::libev_layout::{
    AnyWatcher, CleanupWatcher, Head, IoWatcher, PRIORITIES, Raw, TimerWatcher, Unseen, Watcher,
};
use crate::misuse::Once;
use crate::plugin::PluginIndex;
use crate::token::Opaque;

/// The major version whose watchers have the layout below.
const MAJOR: c_int = 4;

// Of ev.h, versions 4.x.
const EV_READ: c_int = 0x01;
const EV_WRITE: c_int = 0x02;
const EV_TIMER: c_int = 0x0100;
const EV_IDLE: c_int = 0x2000;
const EV_PREPARE: c_int = 0x4000;
const EV_CHECK: c_int = 0x8000;
const EV_CUSTOM: c_int = 0x0100_0000;
const EV_MINPRI: c_int = -2;
const EV_IOFDSET: c_int = 0x80;
const EVBACKEND_EPOLL: c_uint = 0x0000_0004;
/// The environment of the server is not a plugin's to set.
const EVFLAG_NOENV: c_uint = 0x0100_0000;
/// Spares a descriptor that serves periodic timers alone, which without it look at the clock in time.
const EVFLAG_NOTIMERFD: c_uint = 0x0080_0000;
const EVRUN_NOWAIT: c_int = 1;
const EVRUN_ONCE: c_int = 2;
const EVBREAK_ONE: c_int = 1;

/// Of how many callbacks it is remembered whose they are.
const OWNERS_MAX: usize = 4096;

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
    destroy: unsafe extern "C-unwind" fn(*mut Raw),
    feed: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher, c_int),
    clear: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher) -> c_int,
    invoke_one: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher, c_int),
    timer_stop: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher),
    idle_stop: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher),
    prepare_stop: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher),
    check_stop: unsafe extern "C-unwind" fn(*mut Raw, *mut AnyWatcher),
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
            destroy: find!(b"ev_loop_destroy\0"),
            feed: find!(b"ev_feed_event\0"),
            clear: find!(b"ev_clear_pending\0"),
            invoke_one: find!(b"ev_invoke\0"),
            timer_stop: find!(b"ev_timer_stop\0"),
            idle_stop: find!(b"ev_idle_stop\0"),
            prepare_stop: find!(b"ev_prepare_stop\0"),
            check_stop: find!(b"ev_check_stop\0"),
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
    OtherBuild,
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
            Refused::OtherBuild => f.write_str(
                "this copy of libev was built with other structures than its own build has; link the \
                 plugin with a libev 4 in which EV_COMMON, EV_MINPRI and EV_MAXPRI are unchanged",
            ),
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
    /// Who used it, and whether it was said that they left something. At most all that were ever loaded.
    departed: RefCell<Vec<(PluginIndex, bool)>>,
    /// In whose code of those a callback lies, as far as it was asked for since the last one departed.
    owners_gone: RefCell<HashMap<usize, Option<PluginIndex>>>,
    /// What libev puts in the place of a watcher that is not due any more.
    nothing: *mut AnyWatcher,
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
        let Some(nothing) = try_layout(&functions, raw) else {
            // SAFETY: made above, and nobody else knows it.
            unsafe { (functions.destroy)(raw.as_ptr()) };
            return Err(Refused::OtherBuild);
        };
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
            departed: RefCell::new(Vec::new()),
            owners_gone: RefCell::new(HashMap::new()),
            nothing,
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
        match self.users.borrow()[..] {
            [only] => (only, Site::Libev),
            [first, ..] => (first, Site::LibevShared),
            [] => {
                let last = self.departed.borrow().last().map(|departed| departed.0);
                (last.expect("a loop is made for somebody"), Site::LibevShared)
            }
        }
    }

    /// The plugin's context was cleaned up: nothing of it is called any more (D-0E).
    pub(crate) fn depart(&self, plugin: PluginIndex) {
        let users = &mut *self.users.borrow_mut();
        if let Some(place) = users.iter().position(|user| *user == plugin) {
            users.remove(place);
            self.owners_gone.borrow_mut().clear();
            self.departed.borrow_mut().push((plugin, false));
        }
    }

    /// Calls all that is due, as libev does and in its order, but what departed plugins have left.
    fn run_due(&self) {
        let nobody_left = self.departed.borrow().is_empty();
        let (mut unseen, mut called) = (Unseen::default(), false);
        while !nobody_left && self.alive.get() {
            // What is called may make more of it due, or less.
            let head = Head::of(self.raw);
            let Some(due) = unseen.next(&head) else {
                // Only a run within a callback can have left some unseen.
                if !called || head.pending().all(|due| due.watcher == self.nothing) {
                    break;
                }
                (unseen, called) = (Unseen::default(), false);
                continue;
            };
            // SAFETY: libev holds a pointer to it for as long as it is started or due.
            let counts = unsafe { (*due.watcher).watcher.pending } != 0;
            // One that was initialized anew while it was due has forgotten that, and is not cleared: libev
            // calls it once more, and so does the call at the end.
            if due.watcher == self.nothing || !counts {
                continue;
            }
            called = true;
            // SAFETY: the loop is alive, and the watcher is in it.
            let events = unsafe { (self.functions.clear)(self.raw.as_ptr(), due.watcher) };
            match self.owner_gone(due.watcher) {
                Some(plugin) => self.drop_left(plugin, due.watcher, events),
                // SAFETY: as above; this is how libev calls it.
                None => unsafe {
                    (self.functions.invoke_one)(self.raw.as_ptr(), due.watcher, events)
                },
            }
        }
        if self.alive.get() {
            // SAFETY: the loop is alive; this is what libev would have called here itself.
            unsafe { (self.functions.invoke)(self.raw.as_ptr()) }
        }
    }

    /// The departed plugin in whose code the callback of a watcher lies.
    fn owner_gone(&self, watcher: *mut AnyWatcher) -> Option<PluginIndex> {
        // SAFETY: libev holds a pointer to it for as long as it is started or due.
        let callback = unsafe { (*watcher).watcher.callback } as usize;
        let owners = &mut *self.owners_gone.borrow_mut();
        if let Some(owner) = owners.get(&callback) {
            return *owner;
        }
        if owners.len() >= OWNERS_MAX {
            owners.clear();
        }
        let owner = image::containing(callback).and_then(image::Image::plugin);
        let departed = self.departed.borrow();
        let gone = owner.filter(|owner| departed.iter().any(|departed| departed.0 == *owner));
        owners.insert(callback, gone);
        gone
    }

    /// Stops what a departed plugin has left, where it would be due over and over, and says so once.
    fn drop_left(&self, plugin: PluginIndex, watcher: *mut AnyWatcher, events: c_int) {
        let raw = self.raw.as_ptr();
        if events & (EV_READ | EV_WRITE) != 0 {
            // SAFETY: what is due for a descriptor is an `ev_io`.
            unsafe { (self.functions.io_stop)(raw, watcher.cast()) };
        }
        for (bit, stop) in [
            (EV_TIMER, self.functions.timer_stop),
            (EV_IDLE, self.functions.idle_stop),
            (EV_PREPARE, self.functions.prepare_stop),
            (EV_CHECK, self.functions.check_stop),
        ] {
            if events & bit != 0 {
                // SAFETY: by the bit it is a watcher of that kind; one that is not started may be stopped.
                unsafe { stop(raw, watcher) };
            }
        }
        let departed = &mut *self.departed.borrow_mut();
        let entry = departed.iter_mut().find(|departed| departed.0 == plugin);
        if entry.is_some_and(|entry| !std::mem::replace(&mut entry.1, true)) {
            let text = "it has left a libev watcher in the loop of a worker, which is due after its \
                        mq_context_cleanup; it is not called. A plugin stops its watchers in \
                        mq_context_cleanup";
            host::log(Level::Critical, Some(plugin), text);
        }
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

/// Has a new loop the layout that [`Head`] says? Then what libev puts in the place of a watcher that is not
/// due any more. Nothing is due afterwards.
fn try_layout(functions: &Functions, raw: NonNull<Raw>) -> Option<*mut AnyWatcher> {
    unsafe extern "C-unwind" fn never(_: *mut Raw, _: *mut AnyWatcher, _: c_int) {}
    let all_due = |head: &Head| head.pending().map(|due| (due.watcher, due.events)).collect();
    let mut priorities = EV_MINPRI..;
    let mut watchers = [(); PRIORITIES].map(|()| {
        let priority = priorities.next().unwrap_or_default();
        AnyWatcher { watcher: Watcher { priority, ..Watcher::new(never) } }
    });
    let fed = watchers.each_mut().map(ptr::from_mut);
    let was_empty = Head::of(raw).pending_counts == [0; PRIORITIES];
    for watcher in fed {
        // SAFETY: an initialized watcher, which is taken out before this returns.
        unsafe { (functions.feed)(raw.as_ptr(), watcher, EV_CUSTOM) };
    }
    let head = Head::of(raw);
    let fits = was_empty && head.pending_counts == [1; PRIORITIES];
    let found: Vec<_> = if fits { all_due(&head) } else { Vec::new() };
    let fits = found == fed.map(|watcher| (watcher, EV_CUSTOM));
    for watcher in fed {
        // SAFETY: it was fed above.
        unsafe { (functions.clear)(raw.as_ptr(), watcher) };
    }
    let cleared: Vec<_> = if fits { all_due(&Head::of(raw)) } else { Vec::new() };
    // SAFETY: nothing of anybody is due.
    unsafe { (functions.invoke)(raw.as_ptr()) };
    let nothing = cleared.first()?.0;
    let is_same = cleared.len() == PRIORITIES && cleared.iter().all(|due| due.0 == nothing);
    (is_same && Head::of(raw).pending_counts == [0; PRIORITIES]).then_some(nothing)
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
    let due = || this.run_due();
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
