//! `rohrpost run --supervise`: a small process that starts the server, and starts it again.
//!
//! Owns the server's process and the pauses between two lives of it. What the server says goes where it
//! went without a keeper: both streams and the service manager's socket are inherited. SIGTERM, SIGINT
//! and SIGHUP are passed on; a server whose keeper was killed ends by itself.
//!
//! Must never: read settings, touch mail, start a second server while one is there, or wait for whoever
//! reads what it says.
//!
//! **Diagnostics**: on stderr, how the server ended and when it is started again. The exit code is the
//! server's, 128 and the signal for one that was killed.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::cli;
use crate::program::complain;

/// A server that lived for so long did not crash at once.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// The pause after the second of two crashes in a row; it doubles from there. After the first there is
/// none.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// It grows no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the server is looked at without any signal.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sentences that wait for whoever reads stderr; what is said beyond them is lost.
const SENTENCES_MAX: usize = 16;
/// How long the last of them may take when the keeper ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The argument that tells a server its keeper.
const KEPT: &str = "--keeper";
/// What a server that has a keeper ends with in place of 0. A plugin can end the process behind everybody's
/// back with `_exit(0)`, which is no ordered end.
pub const EXIT_ORDERED: u8 = 93;

/// Keeps a server running until it ends in order, or cannot start; returns the exit code.
pub fn run() -> u8 {
    match Keeper::new() {
        Ok(keeper) => keeper.keep(),
        Err(error) => {
            let text = format_args!("the server cannot be supervised: {error}");
            complain(text, cli::EXIT_TRY_AGAIN)
        }
    }
}

/// Has this process told (SIGTERM) when its keeper is gone. Whoever changes its user loses that, so it
/// is asked for afterwards.
///
/// # Errors
/// The keeper is gone already.
pub fn follow(keeper: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    match parent.and_then(|pid| u32::try_from(pid).ok()) == Some(keeper) {
        true => Ok(()),
        false => Err(io::Error::other("the process that supervises this one is gone")),
    }
}

/// How long the server stays away.
#[derive(Debug, Default)]
struct Pauses {
    /// Lives in a row that were short.
    short: u32,
}

impl Pauses {
    /// The pause after a life of so long.
    fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED_AFTER {
            self.short = 0;
        }
        self.short += 1;
        match self.short {
            1 => Duration::ZERO,
            short => PAUSE_FIRST.saturating_mul(1 << (short - 2).min(16)).min(PAUSE_MAX),
        }
    }
}

/// How a server ended, as a sentence has it.
struct Ended(ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "ended with code {code}"),
            (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
            (None, None) => f.write_str("ended"),
        }
    }
}

impl Ended {
    fn code(&self) -> u8 {
        if self.0.code() == Some(EXIT_ORDERED.into()) {
            return 0;
        }
        let code = self.0.code().or_else(|| Some(128 + self.0.signal()?));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(cli::EXIT_BUG)
    }

    /// Whether a server that ended so is started again: not one that has ended in order, and not one that
    /// cannot start before somebody has mended something.
    fn is_to_be_repeated(&self) -> bool {
        const ORDERED: i32 = EXIT_ORDERED as i32;
        !matches!(self.0.code(), Some(ORDERED | 64 | 78))
    }
}

/// What the keeper says, on a thread of its own: a reader of stderr that has stalled, or has gone, keeps no
/// server from coming back.
struct Voice {
    sentences: Sender<String>,
    /// Nothing ever comes; it is cut off when all was said.
    silence: Receiver<()>,
}

impl Voice {
    fn new() -> io::Result<Voice> {
        let (sentences, said) = bounded::<String>(SENTENCES_MAX);
        let (speaking, silence) = bounded(0);
        std::thread::Builder::new().name("voice".into()).spawn(move || {
            let _speaking: Sender<()> = speaking;
            for sentence in said {
                // Nothing is left to do about a closed stderr.
                let _ = writeln!(io::stderr(), "rohrpost: {sentence}");
            }
        })?;
        Ok(Voice { sentences, silence })
    }

    fn say(&self, sentence: String) {
        // One that nobody has read for so long is not missed.
        let _ = self.sentences.try_send(sentence);
    }

    /// Waits until all was said, but not for ever.
    fn finish(self) {
        drop(self.sentences);
        let _ = self.silence.recv_timeout(LAST_WORDS);
    }
}

struct Keeper {
    voice: Voice,
    program: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
    signals: Receiver<i32>,
    /// It was told to end.
    stops: bool,
}

impl Keeper {
    fn new() -> io::Result<Keeper> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "rohrpost".into());
        let arguments = arguments.filter(|argument| argument != "--supervise").collect();
        let (sender, signals) = unbounded();
        let mut caught = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in caught.forever() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        })?;
        let program = std::env::current_exe()?;
        let voice = Voice::new()?;
        Ok(Keeper { voice, program, name, arguments, signals, stops: false })
    }

    fn keep(mut self) -> u8 {
        let code = self.keep_on();
        self.voice.finish();
        code
    }

    /// Starts servers until one is not followed by another; its exit code.
    fn keep_on(&mut self) -> u8 {
        let mut pauses = Pauses::default();
        loop {
            let begun = Instant::now();
            let (what, code, again) = match self.start().and_then(|child| self.attend(child)) {
                Ok(status) => {
                    let ended = Ended(status);
                    (ended.to_string(), ended.code(), ended.is_to_be_repeated())
                }
                // The program is being replaced, perhaps, or the system has no process left.
                Err(error) => (format!("cannot be started: {error}"), cli::EXIT_TRY_AGAIN, true),
            };
            if self.stops || !again {
                return code;
            }
            let pause = pauses.after(begun.elapsed());
            let when = match pause.is_zero() {
                true => "now".to_owned(),
                false => format!("in {} ms", pause.as_millis()),
            };
            self.voice.say(format!("the server {what}; it is started again {when}"));
            if self.rest(pause) {
                return code;
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg0(&self.name);
        // The subcommand comes first, and its options behind it.
        let (subcommand, options) = self.arguments.split_at(self.arguments.len().min(1));
        command.args(subcommand).arg(format!("{KEPT}={}", std::process::id())).args(options);
        // A terminal's signals are for the keeper, which passes them on: twice is more than once to a
        // server that drains.
        command.process_group(0);
        // The service manager means the process that it started; the server is another.
        command.env_remove("WATCHDOG_PID");
        command.spawn()
    }

    /// Passes signals on until the server has ended.
    fn attend(&mut self, mut child: Child) -> io::Result<ExitStatus> {
        // It was not waited for yet, so its number is still its own.
        let pid = Pid::from_child(&child);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let signal = match self.signals.recv_timeout(LOOK_EVERY) {
                Ok(SIGCHLD) | Err(RecvTimeoutError::Timeout) => continue,
                Ok(SIGHUP) => Signal::HUP,
                Ok(SIGINT) => Signal::INT,
                Ok(_) => Signal::TERM,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("its signals are lost"));
                }
            };
            self.stops |= signal != Signal::HUP;
            // It may end in this moment; then there is nobody to tell.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits so long; whether it was told to end meanwhile.
    fn rest(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        while let Ok(signal) = self.signals.recv_deadline(end) {
            if matches!(signal, SIGTERM | SIGINT) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_lives_are_short_and_begin_anew_after_a_long_one() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let ms = |pauses: &mut Pauses, lived| pauses.after(lived).as_millis();
        let grown: Vec<u128> = (0..10).map(|_| ms(&mut pauses, short)).collect();
        assert_eq!(grown, [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        for _ in 0..100 {
            assert_eq!(ms(&mut pauses, short), 60_000);
        }
        assert_eq!(ms(&mut pauses, SETTLED_AFTER), 0);
        assert_eq!(ms(&mut pauses, short), 500);
    }

    #[test]
    fn only_an_end_that_may_not_come_again_is_followed_by_a_start() {
        let exit = |code: i32| Ended(ExitStatus::from_raw(code << 8));
        for (code, told) in [(EXIT_ORDERED, 0), (64, 64), (78, 78)] {
            let ended = exit(code.into());
            assert!(!ended.is_to_be_repeated() && ended.code() == told, "{code}");
        }
        assert!(exit(0).is_to_be_repeated(), "a plugin has called _exit(0)");
        for code in [1, 70, 75, 101] {
            assert!(exit(code).is_to_be_repeated(), "{code}");
            assert_eq!(i32::from(exit(code).code()), code);
        }
        let killed = Ended(ExitStatus::from_raw(11));
        assert!(killed.is_to_be_repeated());
        assert_eq!((killed.code(), killed.to_string()), (139, "was ended by signal 11".into()));
    }

    #[test]
    fn a_keeper_that_is_not_there_is_not_followed() {
        assert!(follow(u32::MAX).is_err());
        rustix::process::set_parent_process_death_signal(None).unwrap();
    }
}
