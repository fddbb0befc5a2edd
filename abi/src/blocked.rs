//! Blocked: where a worker is that has been in one call for too long, without disturbing it.
//!
//! Owns the signal that has a thread look at its own stack. A signal ends a sleep early (`nanosleep`,
//! `poll`, `epoll_wait`) with EINTR, which a plugin may not expect. So it is sent only to a thread that
//! computes; the stack of one that waits is read from outside.
//!
//! Must never follow unwind tables: those of a plugin may be wrong (hand-written code, code made at run
//! time), and to believe them is a fault in a server that is well. Nor be called on a worker: it waits
//! for one. Diagnostics: [`Unseen`] says why there is nothing to show.

use std::ffi::{c_int, c_void};
use std::fs;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::call::{self, Current};
use crate::crash;
use crate::host::Host;
use crate::image;
use crate::unwind::{self, Frames, Place};

/// How long one thread is asked.
const PATIENCE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(2);
/// Who has not slept for so long computes, and will not begin to sleep in this very moment.
const AWAKE_FOR: Duration = Duration::from_millis(20);

/// What somebody wants to see, as [`call::pack`] has it; 0 for nothing.
static WANTED: AtomicU64 = AtomicU64::new(0);
static SEEN: AtomicBool = AtomicBool::new(false);
static FRAMES: Frames = Frames::new();
/// One look at a time.
static LOOKING: Mutex<()> = Mutex::new(());
static SIGNAL: OnceLock<Option<c_int>> = OnceLock::new();

/// Where a thread is, innermost first, up to the plugin's outermost function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// To be told by [`describe`](crate::describe). They are what looks like return addresses into
    /// plugins, some of which may be left from calls that are over.
    pub addresses: Vec<usize>,
    /// It computes, and the first address is its very place.
    pub computes: bool,
}

/// Why no stack can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unseen {
    /// The call has returned meanwhile.
    #[error("it has returned meanwhile")]
    Returned,
    /// `/proc` does not say what the thread does.
    #[error("the system does not say what its thread does")]
    Hidden,
    /// The thread did not answer, or came to no rest, in time.
    #[error("its thread did not hold still")]
    Restless,
}

/// What a thread does, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    /// It runs, or could.
    Running,
    /// It waits; for a fault of memory, say, if there is no call.
    Waiting { call: Option<SystemCall>, stack: usize },
}

/// Number and arguments; two looks that find the same find the same call, or one like it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SystemCall {
    number: i64,
    arguments: [u64; 6],
}

impl Host {
    /// Where `worker` is within `call`. Takes 300 ms at most; not for a worker's thread.
    ///
    /// # Errors
    /// See [`Unseen`].
    pub fn stack_of(&self, worker: u8, call: Current) -> Result<Stack, Unseen> {
        stack(self.thread(worker), call, || self.current(worker))
    }
}

/// Where the main thread is within `call`, of which [`current_main`](crate::current_main) told. Takes 300 ms
/// at most; not for that thread.
///
/// # Errors
/// See [`Unseen`].
pub fn stack_of_main(call: Current) -> Result<Stack, Unseen> {
    stack(call::main_thread(), call, call::current_main)
}

fn stack(
    thread: c_int,
    call: Current,
    current: impl Fn() -> Option<Current>,
) -> Result<Stack, Unseen> {
    let _looking = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if current() != Some(call) {
            return Err(Unseen::Returned);
        }
        let stack = match doing(thread).ok_or(Unseen::Hidden)? {
            Doing::Running => is_awake(thread).then(|| ask(thread, call, end)).flatten(),
            waiting @ Doing::Waiting { stack, .. } => read(thread, stack, &waiting),
        };
        match stack {
            Some(stack) if !stack.addresses.is_empty() => return Ok(stack),
            _ => std::thread::sleep(PAUSE),
        }
    }
    Err(if current() == Some(call) { Unseen::Restless } else { Unseen::Returned })
}

/// Has the thread look itself; `None` if it did not, or is not in that call any more.
fn ask(thread: c_int, call: Current, end: Instant) -> Option<Stack> {
    let signal = (*SIGNAL.get_or_init(free_signal))?;
    SEEN.store(false, Ordering::Release);
    WANTED.store(call::pack(call), Ordering::Release);
    // SAFETY: takes nothing.
    let own = unsafe { libc::getpid() };
    // SAFETY: our own handler is in place; a thread that is gone is an error.
    unsafe { libc::syscall(libc::SYS_tgkill, own, thread, signal) };
    while !SEEN.load(Ordering::Acquire) && Instant::now() < end {
        std::thread::sleep(PAUSE);
    }
    // One that comes late finds nothing wanted.
    let answered = WANTED.swap(0, Ordering::AcqRel) == 0 && SEEN.load(Ordering::Acquire);
    answered.then(|| Stack { addresses: within_plugin(), computes: true })
}

/// Reads the stack of a thread that waits, if it still waits there afterwards.
fn read(thread: c_int, stack: usize, before: &Doing) -> Option<Stack> {
    FRAMES.clear();
    unwind::scan(stack, &FRAMES);
    let same = doing(thread).is_some_and(|now| now == *before);
    same.then(|| Stack { addresses: within_plugin(), computes: false })
}

/// What was found, without the host's own frames behind the plugin's.
fn within_plugin() -> Vec<usize> {
    let mut addresses: Vec<usize> = FRAMES.iter().collect();
    let is_plugin =
        |address: &usize| image::containing(*address).is_some_and(|it| it.plugin().is_some());
    let last = addresses.iter().rposition(is_plugin);
    if let Some(last) = last {
        addresses.truncate(last + 1);
    }
    addresses
}

extern "C" fn on_look(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: this thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: it is there as long as the thread is.
    let before = unsafe { *errno };
    let wanted = WANTED.load(Ordering::Acquire);
    if wanted != 0 && call::current().map(call::pack) == Some(wanted) {
        // SAFETY: the system lends it to its handler.
        let place = unsafe { Place::of(context) };
        // The stack holds still meanwhile, and whatever its words are, nothing can fault.
        unwind::look(place, &FRAMES);
        // Nobody else looks at the frames before.
        if WANTED.compare_exchange(wanted, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            SEEN.store(true, Ordering::Release);
        }
    }
    // SAFETY: as above. What was interrupted may be about to read it.
    unsafe { *errno = before };
}

/// The highest signal for programs that nobody uses, with our handler in place.
fn free_signal() -> Option<c_int> {
    let mut candidates = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
    let signal = candidates.find(|signal| is_free(*signal))?;
    crash::handle(signal, on_look, 0).ok()?;
    Some(signal)
}

fn is_free(signal: c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: filled in by a call that succeeded.
    asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_DFL
}

/// What the kernel says of a thread of this process.
fn doing(thread: c_int) -> Option<Doing> {
    parse(&fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?)
}

/// Reads proc_pid_syscall(5).
fn parse(text: &str) -> Option<Doing> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match words[..] {
        ["running"] => Some(Doing::Running),
        ["-1", stack, _] => Some(Doing::Waiting { call: None, stack: number(stack)? as usize }),
        [call, a, b, c, d, e, f, stack, _] => {
            let arguments =
                [number(a)?, number(b)?, number(c)?, number(d)?, number(e)?, number(f)?];
            let call = SystemCall { number: call.parse().ok()?, arguments };
            Some(Doing::Waiting { call: Some(call), stack: number(stack)? as usize })
        }
        _ => None,
    }
}

/// Whether the thread runs without a pause.
fn is_awake(thread: c_int) -> bool {
    let before = sleeps(thread);
    std::thread::sleep(AWAKE_FOR);
    before.is_some() && before == sleeps(thread) && doing(thread) == Some(Doing::Running)
}

/// How often the thread has gone to sleep by itself.
fn sleeps(thread: c_int) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(parse("running\n"), Some(Doing::Running));
        let fault = Doing::Waiting { call: None, stack: 0x7ffe };
        assert_eq!(parse("-1 0x7ffe 0x55\n"), Some(fault));
        let text = "35 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffe 0x55\n";
        let call = SystemCall { number: 35, arguments: [1, 2, 3, 4, 5, 6] };
        assert_eq!(parse(text), Some(Doing::Waiting { call: Some(call), stack: 0x7ffe }));
        for text in ["", "x", "-1 7 8", "35 0x1", "y 0x1 0x2 0x3 0x4 0x5 0x6 0x7 0x8"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_signal_that_somebody_uses_is_not_taken() {
        let highest = libc::SIGRTMAX();
        crash::handle(highest, on_look, 0).expect("a handler can be set");
        assert!(!is_free(highest));
        assert!(free_signal().is_some_and(|signal| signal < highest));
    }
}
