//! Crash: who ended the process, said at once and written down for the next start.
//!
//! Owns the handlers of the signals that end a process, and of `exit()` where nobody asked for one. A
//! crash is laid to the plugin whose hook or callback runs on the thread; else (threads of plugins) to
//! the plugin whose code is at the faulting place, else nearest to it on the stack; else to the host. One
//! sent by another process is laid to the plugin that blocks a worker or the main thread, if one does.
//!
//! Must never allocate, lock or wait without an end here, and never keep the process alive: after the
//! report the handler of before has its turn, so core dumps and sanitizers work as without it.
//! Diagnostics: a line on stderr with its frames, those of plugins marked by `*`, and one in the file of
//! crashes:
//!
//! `UNIX_TIME CAUSE pid=N thread=NAME address=0xN plugin=FILE in=HOOK at=OBJECT+0xN…`
//!
//! Names in it are escaped as `%XX`; `plugin` and `in` are left out where none is known.

use std::ffi::{c_int, c_void};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use crate::call::{self, Current};
use crate::image::{self, Image};
use crate::plugin::PluginIndex;
use crate::stack::{self, HandlerStack};
use crate::unwind::{self, Frames, Place};

/// The signals by which code that went wrong ends a process, and what they are called in a report.
const SIGNALS: [(c_int, &str); 5] = [
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGILL, "ILL"),
    (libc::SIGABRT, "ABRT"),
];
/// How long the unwinder may take, in seconds; then SIGALRM ends the process.
const UNWIND_S_MAX: u32 = 5;
/// How long a thread that crashes too, or calls `exit()`, waits for the first one, which ends the process: its
/// unwinder, and then the handler of before.
const WAIT_S_MAX: u32 = 3 * UNWIND_S_MAX;
const WAITS_PER_S: u32 = 100;
/// What a shell makes of an end by a signal, which is added.
const EXIT_BY_SIGNAL: c_int = 128;
/// How often stderr may have no room before nothing more is said there, and how long each look waits. A
/// signal may cut one short.
const STDERR_POLLS_MAX: usize = 10;
const STDERR_POLL_MS: c_int = 100;
/// Enough for a line without its frames; a pipe that has any room has room for it (`PIPE_BUF`).
const TEXT_BYTES: usize = 1024;
/// Enough for the line of the file, frames and all, unless their names are very long.
const LINE_BYTES: usize = 32 * 1024;
const STDERR: c_int = 2;
/// The end of a line that was cut.
const CUT_LINE: [u8; 5] = *b" cut\n";

/// What was there before, by place in [`SIGNALS`].
static BEFORE: [OnceLock<libc::sigaction>; SIGNALS.len()] =
    [const { OnceLock::new() }; SIGNALS.len()];
static WATCHED: AtomicBool = AtomicBool::new(false);
/// The file of crashes; negative for none.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// The process that is watched. What a plugin forks inherits the handlers, and is none of ours.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// The thread that reports.
static REPORTER: AtomicI32 = AtomicI32::new(0);
/// Its line has begun, and has not ended.
static IS_OPEN: AtomicBool = AtomicBool::new(false);
/// Somebody was named, or it was said that nobody can be.
static TOLD: AtomicBool = AtomicBool::new(false);
/// The report itself met a fault.
static CUT: AtomicBool = AtomicBool::new(false);
/// Why it is about to abort, as a [`Cause`].
static CAUSE: AtomicU8 = AtomicU8::new(Cause::Signal as u8);
/// The process may end by itself.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Whoever reads stderr has stalled.
static MUTE: AtomicBool = AtomicBool::new(false);
/// Who blocks a worker, as [`call::pack`] has it.
static BLOCKER: AtomicU64 = AtomicU64::new(0);
static FRAMES: Frames = Frames::new();
/// Not on the stack, of which there may be little.
static TEXT: [AtomicU8; TEXT_BYTES] = [const { AtomicU8::new(0) }; TEXT_BYTES];
/// The line of the file, so far; written at once, since others write lines of their own there.
static LINE: [AtomicU8; LINE_BYTES] = [const { AtomicU8::new(0) }; LINE_BYTES];
static LINE_USED: AtomicUsize = AtomicUsize::new(0);

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cause {
    /// As the signal says.
    Signal,
    /// An exception left plugin code (D-0A).
    Exception,
    /// A panic of the host would have entered plugin code.
    Panic,
    /// Somebody called `exit()`.
    Exit,
}

/// Has crashes of this process reported on stderr, and in `file`, which is open for appending. Later
/// calls only replace the file. On the main thread, before any plugin is loaded.
///
/// # Errors
/// When the system takes no handler.
pub fn report_crashes(file: Option<File>) -> io::Result<()> {
    let file = file.map_or(-1, IntoRawFd::into_raw_fd);
    // An earlier one stays open: a handler may be about to write there.
    FILE.store(file, Ordering::Release);
    if WATCHED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    OWNER.store(std::process::id(), Ordering::Release);
    image::learn();
    // What the unwinder sets up at its first use is set up here.
    unwind::frames(None, &FRAMES);
    FRAMES.clear();
    // The main thread ends with the process, and so does its stack.
    std::mem::forget(HandlerStack::new());
    for ((signal, _), before) in SIGNALS.iter().zip(&BEFORE) {
        // A fault within the report, in an unwinder that believes wrong tables, must come in again: the
        // system ends a process at once that meets one while it is blocked.
        let old = handle(*signal, on_signal, libc::SA_NODEFER)?;
        // Nobody else sets it.
        let _ = before.set(old);
    }
    // SAFETY: the function may be called at any time, and stays.
    let at_exit = unsafe { libc::atexit(on_exit) };
    // SAFETY: as above.
    let at_quick_exit = unsafe { at_quick_exit(on_exit) };
    match at_exit | at_quick_exit {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

unsafe extern "C" {
    /// C11, 7.22.4.3: as `atexit`, for `quick_exit()`.
    fn at_quick_exit(function: extern "C" fn()) -> c_int;
}

/// From now on the process may end by itself: `exit()` is nobody's fault any more.
pub fn expect_exit() {
    ENDING.store(true, Ordering::Release);
}

/// Ends the process with this code, and runs nothing that was to run at its end: plugin code, which may
/// wait for what never comes.
pub fn end_at_once(code: u8) -> ! {
    // SAFETY: nothing of this process runs after it.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// Says who blocks a worker or the main thread, or that nobody does, for the report on a process that somebody else ends
/// because of it.
pub fn note_blocker(call: Option<Current>) {
    BLOCKER.store(call.map_or(0, call::pack), Ordering::Relaxed);
}

/// The process is about to abort for that reason.
pub(crate) fn note_cause(cause: Cause) {
    CAUSE.store(cause as u8, Ordering::Release);
}

pub(crate) type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Puts a handler in place, with a stack of its own where the thread has one; what was there before.
/// `more` are flags besides those that each has.
pub(crate) fn handle(signal: c_int, handler: Handler, more: c_int) -> io::Result<libc::sigaction> {
    // SAFETY: zero is a value of each of its fields.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART | more;
    let mut before = MaybeUninit::uninit();
    // SAFETY: the handler has the prototype that SA_SIGINFO asks for, and stays.
    let done = unsafe { libc::sigaction(signal, &action, before.as_mut_ptr()) };
    match done {
        // SAFETY: filled in by a call that succeeded.
        0 => Ok(unsafe { before.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system lends it to its handler.
    let met = unsafe { Met::new(signal, info, context) };
    match claim() {
        Claim::Foreign => {}
        Claim::First => report(&met),
        // The report itself went wrong, or this is what the handler of before led to.
        Claim::Again => cut(&met),
        Claim::Other => wait_for_the_first(),
    }
    pass_on(&met, info, context);
}

extern "C" fn on_exit() {
    let is_due = ENDING.load(Ordering::Acquire);
    // Nothing is claimed then: a crash that comes yet is the first.
    let claim = if is_due { look() } else { claim() };
    match claim {
        Claim::First if is_due => return,
        Claim::First => {
            note_cause(Cause::Exit);
            report(&Met { signal: 0, address: 0, place: None, sender: None, sent: false });
        }
        // The handler of before ends the process so.
        Claim::Foreign | Claim::Again => return,
        Claim::Other => {
            wait_for_the_first();
            end_by(libc::SIGABRT);
        }
    }
    // An exit code that says all is well would keep the server from being started again.
    std::process::abort();
}

/// What a handler was told.
#[derive(Clone, Copy)]
struct Met {
    signal: c_int,
    /// What was read, written or run.
    address: usize,
    /// Where it happened, if it was a signal.
    place: Option<Place>,
    /// Another process that sent it.
    sender: Option<c_int>,
    /// Nothing would raise it again by itself.
    sent: bool,
}

impl Met {
    /// # Safety
    /// The arguments are those of a handler with `SA_SIGINFO`.
    unsafe fn new(signal: c_int, info: *const libc::siginfo_t, context: *const c_void) -> Met {
        // SAFETY: by the caller's promise.
        let place = unsafe { Place::of(context) };
        // SAFETY: the same.
        let Some(info) = (unsafe { info.as_ref() }) else {
            return Met { signal, address: 0, place: Some(place), sender: None, sent: true };
        };
        let sent = info.si_code <= 0;
        // SAFETY: a signal that was sent names its sender.
        let sender = sent.then(|| unsafe { info.si_pid() });
        // SAFETY: takes nothing.
        let own = unsafe { libc::getpid() };
        let address = match sent {
            true => 0,
            // SAFETY: one that was not sent names an address.
            false => unsafe { info.si_addr() as usize },
        };
        let sender = sender.filter(|sender| *sender != own);
        Met { signal, address, place: Some(place), sender, sent }
    }

    fn cause(&self) -> &'static str {
        match CAUSE.load(Ordering::Acquire) {
            cause if cause == Cause::Exception as u8 => "exception",
            cause if cause == Cause::Panic as u8 => "panic",
            cause if cause == Cause::Exit as u8 => "exit",
            _ => {
                let known = SIGNALS.iter().find(|(signal, _)| *signal == self.signal);
                known.map_or("signal", |(_, name)| name)
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// Of a process that was forked.
    Foreign,
    First,
    Again,
    Other,
}

fn claim() -> Claim {
    let claim = |own| match REPORTER.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
        Ok(first) | Err(first) => first,
    };
    claim_by(claim)
}

/// What [`claim`] would come to now.
fn look() -> Claim {
    claim_by(|_| REPORTER.load(Ordering::Acquire))
}

/// By a function that is told which thread this is, and says which one reports; 0 for none as yet.
fn claim_by(reporter: impl FnOnce(c_int) -> c_int) -> Claim {
    if std::process::id() != OWNER.load(Ordering::Acquire) {
        return Claim::Foreign;
    }
    // SAFETY: takes nothing.
    let own = unsafe { libc::gettid() };
    match reporter(own) {
        0 => Claim::First,
        first if first == own => Claim::Again,
        _ => Claim::Other,
    }
}

fn wait_for_the_first() {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: i64::from(1_000_000_000 / WAITS_PER_S) };
    for _ in 0..WAIT_S_MAX * WAITS_PER_S {
        // SAFETY: nothing is written.
        unsafe { libc::nanosleep(&pause, ptr::null_mut()) };
    }
}

/// Ends a report that met a fault, with what it has found so far. If that was not the first, with nothing.
fn cut(met: &Met) {
    // SAFETY: the unwinder does not come back.
    unsafe { libc::alarm(0) };
    // What the handler of before leads to finds the line ended.
    if IS_OPEN.load(Ordering::Acquire) && !CUT.swap(true, Ordering::AcqRel) {
        tell_nearest(met);
        tell_frames();
    }
    end_line(" cut");
}

/// Lets the handler of before have the signal. What was met comes again by itself when this returns; what
/// was sent does not, and is handed on by hand: the standard library's handler, for one, only puts the
/// default back and waits for the fault to come again.
fn pass_on(met: &Met, info: *mut libc::siginfo_t, context: *mut c_void) {
    let place = SIGNALS.iter().position(|(signal, _)| *signal == met.signal);
    let Some(before) = place.and_then(|place| BEFORE[place].get()) else { return };
    // SAFETY: it was in place before; nothing is written.
    unsafe { libc::sigaction(met.signal, before, ptr::null_mut()) };
    if !met.sent || before.sa_sigaction == libc::SIG_IGN {
        return;
    }
    if before.sa_sigaction != libc::SIG_DFL {
        // SAFETY: a handler of either kind takes these three; the second and third are more than one
        // without SA_SIGINFO looks at.
        let handler: Handler = unsafe { std::mem::transmute(before.sa_sigaction) };
        handler(met.signal, info, context);
    }
    // If the one of before let the process live, it ends now.
    end_by(met.signal);
}

/// Ends the process by a signal, without any handler.
fn end_by(signal: c_int) -> ! {
    // SAFETY: nothing is left to be done.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: as above.
    unsafe { libc::raise(signal) };
    // The first process of a container does not die of a signal that it sends itself.
    // SAFETY: as above.
    unsafe { libc::_exit(EXIT_BY_SIGNAL + signal) }
}

/// Whom a crash is laid to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Culprit {
    plugin: Option<&'static str>,
    call: Option<Current>,
}

impl Culprit {
    fn of_call(call: Option<Current>) -> Culprit {
        let name = |plugin: PluginIndex| image::plugin_name(plugin).unwrap_or("unknown plugin");
        Culprit { plugin: call.map(|call| name(call.plugin)), call }
    }

    fn of_address(address: usize) -> Culprit {
        let plugin = image::containing(address).filter(|image| image.plugin().is_some());
        Culprit { plugin: plugin.map(Image::name), call: None }
    }
}

fn report(met: &Met) {
    begin_line(met);
    let host = CAUSE.load(Ordering::Acquire) == Cause::Panic as u8;
    let mut culprit = match met.sender {
        _ if host => Culprit::default(),
        // Not its own doing, unless somebody lost patience with it.
        Some(_) => Culprit::of_call(call::unpack(BLOCKER.load(Ordering::Relaxed))),
        None => Culprit::of_call(call::current()),
    };
    if let (None, Some(place)) = (culprit.plugin, met.place.filter(|_| met.sender.is_none())) {
        culprit = Culprit::of_address(place.instruction);
    }
    let is_sure = host || met.sender.is_some() || culprit.plugin.is_some();
    if is_sure {
        tell(met, culprit);
    }
    if met.sender.is_none() {
        look_at_frames(met.place);
    }
    tell_nearest(met);
    tell_frames();
    end_line("");
}

/// Names the plugin of the innermost frame that has one, unless somebody was named.
fn tell_nearest(met: &Met) {
    if !TOLD.load(Ordering::Acquire) {
        let near = FRAMES.iter().map(Culprit::of_address).find(|found| found.plugin.is_some());
        tell(met, near.unwrap_or_default());
    }
}

/// Leaves [`FRAMES`] empty where there is no room to look.
fn look_at_frames(place: Option<Place>) {
    FRAMES.clear();
    if !stack::is_roomy() {
        return;
    }
    // The process is about to end; what was set for this signal does not matter any more. Where this fails
    // the signal ends the process all the same, without the line.
    let _ = handle(libc::SIGALRM, on_alarm, 0);
    // SAFETY: ends the process if the unwinder does not come back.
    unsafe { libc::alarm(UNWIND_S_MAX) };
    unwind::frames(place, &FRAMES);
    // SAFETY: takes it back.
    unsafe { libc::alarm(0) };
}

/// The beginning of the line in the file.
fn begin_line(met: &Met) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time there.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    let (time, cause, address) = (now.tv_sec, met.cause(), met.address);
    let (pid, thread) = (std::process::id(), Escaped(ThreadName));
    let mut text = Text::new();
    // A text that is full ends there.
    let _ = write!(text, "{time} {cause} pid={pid} thread={thread} address={address:#x}");
    if let Some(sender) = met.sender {
        let _ = write!(text, " sender={sender}");
    }
    text.add_to_line();
    IS_OPEN.store(true, Ordering::Release);
}

/// Names the culprit in both places.
fn tell(met: &Met, culprit: Culprit) {
    TOLD.store(true, Ordering::Release);
    let mut text = Text::new();
    if let Some(plugin) = culprit.plugin {
        let _ = write!(text, " plugin={}", Escaped(plugin));
    }
    if let Some(call) = culprit.call {
        let _ = write!(text, " in={}", Escaped(call.site));
    }
    text.add_to_line();
    let mut text = Text::new();
    let _ = tell_people(met, culprit, &mut text);
    text.tell_people();
}

fn tell_people(met: &Met, culprit: Culprit, text: &mut Text) -> fmt::Result {
    match culprit.plugin {
        Some(plugin) => write!(text, "rohrpost: plugin {plugin} ended the server")?,
        None => write!(text, "rohrpost: the server itself ended")?,
    }
    match culprit.call {
        Some(call) => write!(text, " in {}", call.site)?,
        None if culprit.plugin.is_some() => write!(text, " on a thread of its own")?,
        None => {}
    }
    let (cause, thread) = (met.cause(), ThreadName);
    match met.signal {
        0 => write!(text, ": it called exit() (thread {thread})")?,
        _ if met.sent => write!(text, ": {cause} (thread {thread})")?,
        _ => write!(text, ": {cause} at address {:#x} (thread {thread})", met.address)?,
    }
    if let Some(sender) = met.sender {
        write!(text, ", sent by process {sender}")?;
    }
    writeln!(text)
}

fn tell_frames() {
    for (number, address) in FRAMES.iter().enumerate() {
        let image = image::containing(address);
        let name = image.map_or("", Image::name);
        let offset = image.map_or(address, |image| image.offset(address));
        let mut text = Text::new();
        let _ = write!(text, " at={}+{offset:#x}", Escaped(name));
        text.add_to_line();
        let mut text = Text::new();
        let mark = image.and_then(Image::plugin).map_or(' ', |_| '*');
        let _ = writeln!(text, "rohrpost: {mark} #{number} {name}+{offset:#x}");
        text.tell_people();
    }
}

fn end_line(last: &str) {
    if IS_OPEN.swap(false, Ordering::AcqRel) {
        let mut text = Text::new();
        let _ = writeln!(text, "{last}");
        text.add_to_line();
        write_line();
    }
}

/// Puts what there is of the line into the file.
fn write_line() {
    let used = LINE_USED.swap(0, Ordering::AcqRel);
    write_all(FILE.load(Ordering::Acquire), &LINE[..used]);
}

/// The unwinder did not come back in time: the line ends here, and so does the process.
extern "C" fn on_alarm(signal: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    if IS_OPEN.swap(false, Ordering::AcqRel) {
        write_line();
        write_all(FILE.load(Ordering::Acquire), CUT_LINE.map(AtomicU8::new).as_slice());
    }
    // SAFETY: it was ours alone.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: ends the process as soon as the signal is not blocked any more.
    unsafe { libc::raise(signal) };
}

/// Says on stderr why the process is about to end, past whoever may hold the lock of the standard library's.
pub(crate) fn say_last(text: &str) {
    if stderr_has_room() {
        // What is not taken is lost.
        write_some(STDERR, text.as_ptr().cast(), text.len().min(TEXT_BYTES));
    }
}

/// One write; to a pipe as stderr only of what it takes at once, since another thread may have filled it
/// after the look at it.
fn write_some(fd: c_int, octets: *const c_void, count: usize) -> isize {
    if fd == STDERR && is_pipe(fd) {
        let slice = libc::iovec { iov_base: octets.cast_mut(), iov_len: count };
        // SAFETY: as below; -1 is where the file stands.
        return unsafe { libc::pwritev2(fd, &raw const slice, 1, -1, libc::RWF_NOWAIT) };
    }
    // SAFETY: reads so many octets, which the caller has.
    unsafe { libc::write(fd, octets, count) }
}

fn is_pipe(fd: c_int) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: writes all of it, or says that it did not.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: it was written.
    unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// Whether stderr takes a line now or soon; never again after it did not, for the process must end.
fn stderr_has_room() -> bool {
    let mut stderr = libc::pollfd { fd: STDERR, events: libc::POLLOUT, revents: 0 };
    for _ in 0..STDERR_POLLS_MAX {
        if MUTE.load(Ordering::Acquire) {
            return false;
        }
        // SAFETY: looks at one descriptor, and writes what it found there.
        if unsafe { libc::poll(&raw mut stderr, 1, STDERR_POLL_MS) } > 0 {
            return true;
        }
    }
    MUTE.store(true, Ordering::Release);
    false
}

/// Writes it out, as far as it can be written.
fn write_all(fd: c_int, bytes: &[AtomicU8]) {
    let mut rest = bytes;
    while fd >= 0 && !rest.is_empty() {
        let written = write_some(fd, rest.as_ptr().cast(), rest.len());
        match usize::try_from(written) {
            Ok(0) => return,
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The name of this thread; what cannot be printed is a dot.
struct ThreadName;

impl fmt::Display for ThreadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = [0u8; 16];
        // SAFETY: writes 16 octets at most.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let bytes = name.iter().take_while(|byte| **byte != 0);
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        bytes.map(shown).try_for_each(|char| f.write_char(char))
    }
}

/// A text in [`TEXT`], which there is one of: only the thread that reports makes any.
struct Text {
    used: usize,
}

impl Text {
    fn new() -> Text {
        Text { used: 0 }
    }

    fn tell_people(&self) {
        if stderr_has_room() {
            write_all(STDERR, &TEXT[..self.used]);
        }
    }

    /// Adds it to the line of the file. One that has no room left is written in parts.
    fn add_to_line(&self) {
        if LINE_BYTES - LINE_USED.load(Ordering::Acquire) < self.used {
            write_line();
        }
        let from = LINE_USED.load(Ordering::Acquire);
        for (place, byte) in LINE[from..].iter().zip(&TEXT[..self.used]) {
            place.store(byte.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        LINE_USED.store(from + self.used, Ordering::Release);
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = &TEXT[self.used..];
        let count = more.len().min(room.len());
        for (place, byte) in room.iter().zip(more.as_bytes()) {
            place.store(*byte, Ordering::Relaxed);
        }
        self.used += count;
        if count == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// One word of the file: whatever could end it, or look like another, is `%XX`.
struct Escaped<T>(T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for byte in more.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                    self.0.write_char(char::from(byte))?;
                }
                other => write!(self.0, "%{other:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_their_word() {
        assert_eq!(Escaped("10-a b\n=%é.so").to_string(), "10-a%20b%0A%3D%25%C3%A9.so");
    }

    /// The only one here that makes a text.
    #[test]
    fn a_text_that_is_full_ends_there() {
        let mut text = Text::new();
        assert!(write!(text, "{}", "x".repeat(TEXT_BYTES + 1)).is_err());
        assert_eq!(text.used, TEXT_BYTES);
        assert!(write!(text, "y").is_err());
    }

    #[test]
    fn causes_have_names() {
        let met = |signal| Met { signal, address: 0, place: None, sender: None, sent: true };
        assert_eq!(met(libc::SIGFPE).cause(), "FPE");
        assert_eq!(met(libc::SIGABRT).cause(), "ABRT");
        assert_eq!(met(0).cause(), "signal");
    }
}
