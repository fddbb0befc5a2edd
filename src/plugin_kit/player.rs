//! `rohrpost plugin test`: plays a dialogue, prints what happens, and judges.
//!
//! Time stands still while a line or an event is awaited, and passes with `wait` alone. Besides what the
//! dialogue expects, a plugin must not misuse a call, and must have handed back all steps at the end.
//!
//! Must never: decide what is right; the dialogue does.
//!
//! **Diagnostics**: the transcript on standard output, its last line says `passed` or what failed and at
//! which line; exit code 0, 1, or 64 for a dialogue that cannot be read. A plugin that crashes ends it
//! by its signal, one that calls `exit()` by SIGABRT; one that does not return, with 1.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::EXIT_FAULTY;
use super::dialogue::{Action, Dialogue, Expected, Step};
use super::stage::{End, Event, Stage, StageError};
use crate::cli::{self, PluginTest};
use crate::program::{complain, say};
use crate::settings;

/// A dialogue larger than this is none.
const DIALOGUE_BYTES_MAX: u64 = 16 << 20;

/// Plays and judges; returns the exit code. A plugin that ends the process is named on stderr, and the
/// process ends as it would have.
pub(super) fn run(test: &PluginTest) -> u8 {
    if let Err(error) = rohrpost_abi::report_crashes(None) {
        let text = format_args!("signals cannot be handled: {error}");
        return complain(text, cli::EXIT_TRY_AGAIN);
    }
    let code = judged(test);
    // Until here an exit is one that the plugin has called.
    rohrpost_abi::expect_exit();
    code
}

fn judged(test: &PluginTest) -> u8 {
    let dialogue = match read(&test.dialogue) {
        Ok(dialogue) => dialogue,
        Err(error) => return complain(error, cli::EXIT_USAGE),
    };
    if let Err(error) = std::fs::metadata(&test.file) {
        let text = format_args!("{} cannot be read: {error}", test.file.display());
        return complain(text, cli::EXIT_USAGE);
    }
    let stage = match Stage::set(&test.file, &dialogue, test.patience) {
        Ok(stage) => stage,
        Err(StageError::Settings(report)) => {
            return complain(misplaced(&report, &dialogue, &test.dialogue), cli::EXIT_USAGE);
        }
        Err(error) => {
            if let StageError::Refused { events, .. } = &error {
                for Event::Trace(text) | Event::Log(text) in events {
                    say(format_args!("     0.000 ! {text}"));
                }
            }
            say(format_args!("failed: {error}"));
            return EXIT_FAULTY;
        }
    };
    let mut player = Player { stage, shown: 0, traced: 0, logged: 0, sent: 0 };
    match player.play(&dialogue) {
        Ok(()) => {
            say(format_args!("passed: {}", player.summary(&dialogue)));
            0
        }
        Err(Failure { line, why }) => {
            player.show();
            let file = test.dialogue.display();
            match line {
                Some(line) => say(format_args!("failed: {file}:{line}: {why}")),
                None => say(format_args!("failed: {file}: {why}")),
            }
            EXIT_FAULTY
        }
    }
}

/// What is wrong with settings of a dialogue, each with its line where it can be told.
fn misplaced(report: &settings::Report, dialogue: &Dialogue, file: &Path) -> String {
    let file = file.display();
    let said = report.errors.iter().map(|problem| {
        let own = dialogue.settings.iter().zip(&dialogue.setting_lines);
        // The last one of a key is in force.
        let found = own.rev().find(|((key, _), _)| problem.text.contains(key.as_str()));
        match found {
            Some((_, line)) => format!("{file}:{line}: {}", problem.text),
            None => format!("{file}: {}", problem.text),
        }
    });
    said.collect::<Vec<_>>().join("\n")
}

fn read(path: &Path) -> Result<Dialogue, String> {
    let file = path.display();
    let unreadable = |error| format!("{file} cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > DIALOGUE_BYTES_MAX {
        return Err(format!("{file} is larger than 16 MiB, and no dialogue"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Dialogue::parse(&text).map_err(|misspelt| format!("{file}:{}: {}", misspelt.line, misspelt.why))
}

/// What went otherwise.
struct Failure {
    line: Option<usize>,
    why: String,
}

/// A dialogue that is being played.
struct Player {
    stage: Stage,
    /// Events that were printed.
    shown: usize,
    /// Events that were passed by looking for one of the trace, or of the log.
    traced: usize,
    logged: usize,
    /// Mails of the next hop that were passed.
    sent: usize,
}

impl Player {
    fn play(&mut self, dialogue: &Dialogue) -> Result<(), Failure> {
        for Step { line, action } in &dialogue.steps {
            self.perform(action).map_err(|why| Failure { line: Some(*line), why })?;
        }
        self.judge(dialogue).map_err(|why| Failure { line: None, why })
    }

    fn perform(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Send(bytes) => {
                self.tell('C', bytes.strip_suffix(b"\r\n").unwrap_or(bytes).escape_ascii());
                let sent = self.stage.send(bytes);
                self.show();
                sent.map_err(|error| format!("the client cannot send: {error}"))
            }
            Action::Line(starts) => {
                let line = self.line(&format!("a line with {}", starts.join(" or ")))?;
                match starts.iter().any(|start| line.starts_with(start.as_str())) {
                    true => Ok(()),
                    false => Err(format!("awaited {}, got {line:?}", starts.join(" or "))),
                }
            }
            Action::Reply(code, wanted) => self.reply(code, wanted),
            Action::HalfClose => {
                self.stage.half_close().map_err(|error| format!("half-close: {error}"))
            }
            Action::Close => {
                let closed = self.stage.await_close();
                self.show();
                closed.map_err(|error| format!("awaited the end of the connection: {error}"))
            }
            Action::Drop => {
                self.stage.drop_client();
                self.stage.settle();
                self.show();
                Ok(())
            }
            Action::Client(number) => {
                self.stage.choose(*number);
                Ok(())
            }
            Action::Wait(time) => self.wait(*time),
            Action::Expect(expected) => self.expect(expected),
        }
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        self.stage.advance(time);
        self.show();
        Ok(())
    }

    /// The next line, printed.
    fn line(&mut self, awaited: &str) -> Result<String, String> {
        let line = self.stage.line();
        self.show();
        let line = line.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                format!("awaited {awaited}, and the server has closed")
            }
            std::io::ErrorKind::TimedOut => {
                format!("awaited {awaited}, and none came{}", self.hint())
            }
            _ => format!("awaited {awaited}: {error}"),
        })?;
        self.tell('S', &line);
        Ok(line)
    }

    /// Why nothing may have come.
    fn hint(&self) -> String {
        match self.stage.held() {
            0 => String::new(),
            held => format!("; {held} held by the plugin, and time passes with `wait` alone"),
        }
    }

    fn reply(&mut self, code: &str, wanted: &[String]) -> Result<(), String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line(&format!("a reply {code}"))?;
            let (found, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
            if found != code {
                return Err(format!("awaited a reply {code}, got {line:?}"));
            }
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                break;
            }
        }
        for start in wanted {
            if !lines.iter().any(|line| line.starts_with(start)) {
                return Err(format!("awaited a line with {start} in the reply {code}"));
            }
        }
        Ok(())
    }

    fn expect(&mut self, expected: &Expected) -> Result<(), String> {
        let outcome = match expected {
            Expected::Trace(wanted) => self.await_event(wanted, Kind::Trace),
            Expected::Log(wanted) => self.await_event(wanted, Kind::Log),
            Expected::NoTrace(unwanted) => self.await_none(unwanted, Kind::Trace),
            Expected::NoLog(unwanted) => self.await_none(unwanted, Kind::Log),
            Expected::Held(count) => {
                let held = self.stage.until(|stage| (stage.held() == *count).then_some(()));
                let found = self.stage.held();
                held.ok_or_else(|| format!("awaited {count} held steps, found {found}"))
            }
            Expected::Sent(text) => self.await_sent(text),
        };
        self.show();
        outcome
    }

    fn await_event(&mut self, wanted: &str, kind: Kind) -> Result<(), String> {
        let from = match kind {
            Kind::Trace => &mut self.traced,
            Kind::Log => &mut self.logged,
        };
        let since = *from;
        let found = self.stage.until(|stage| {
            let events = stage.events.iter().enumerate().skip(since);
            events.filter(|(_, event)| kind.matches(event, wanted)).map(|(at, _)| at).next()
        });
        match found {
            Some(at) => {
                *from = at + 1;
                Ok(())
            }
            None => Err(format!("awaited {kind} {wanted:?}, and none came{}", self.hint())),
        }
    }

    fn await_none(&mut self, unwanted: &str, kind: Kind) -> Result<(), String> {
        self.stage.settle();
        let since = match kind {
            Kind::Trace => self.traced,
            Kind::Log => self.logged,
        };
        match self.stage.events[since..].iter().find(|event| kind.matches(event, unwanted)) {
            None => Ok(()),
            Some(Event::Trace(text) | Event::Log(text)) => Err(format!("unexpected: {text}")),
        }
    }

    fn await_sent(&mut self, text: &str) -> Result<(), String> {
        let since = self.sent;
        let has = |mail: &serde_json::Value| {
            let body = mail["body"].as_str().unwrap_or_default().contains(text);
            body || mail["recipients"].to_string().contains(text)
                || mail["envelope"].to_string().contains(text)
        };
        let found = self.stage.until(|stage| stage.sent().iter().skip(since).position(has));
        match found {
            Some(at) => {
                self.sent = since + at + 1;
                Ok(())
            }
            None => Err(format!("awaited a mail with {text:?} at the next hop{}", self.hint())),
        }
    }

    /// After the last step.
    fn judge(&mut self, dialogue: &Dialogue) -> Result<(), String> {
        self.stage.settle();
        let End { ended, live, unreturned } = self.stage.end();
        self.show();
        if live.timers + live.watches > 0 {
            let (timers, watches) = (live.timers, live.watches);
            say(format_args!("left at the end: timers {timers}, watches {watches}"));
        }
        let misuses = self.stage.misuses();
        if unreturned > 0 {
            return Err(format!("{unreturned} steps were not handed back at the end"));
        }
        if misuses != dialogue.misuses {
            let expected = dialogue.misuses;
            return Err(format!("{misuses} calls were misuse, {expected} expected (see the log)"));
        }
        if !ended {
            return Err("the server did not end: mq_context_cleanup holds it".to_owned());
        }
        Ok(())
    }

    fn summary(&self, dialogue: &Dialogue) -> String {
        let traces = |start: &str| {
            let events = self.stage.events.iter();
            events
                .filter(|event| matches!(event, Event::Trace(text) if text.starts_with(start)))
                .count()
        };
        let held = self.stage.events.iter();
        let held = held
            .filter(|event| matches!(event, Event::Trace(text) if text.ends_with(" held")))
            .count();
        format!(
            "steps {}, hooks {}, holds {held}, callbacks {}, misuses {}",
            dialogue.steps.len(),
            traces("hook "),
            traces("callback "),
            self.stage.misuses()
        )
    }

    /// Prints what has happened since the last time.
    fn show(&mut self) {
        for at in self.shown..self.stage.events.len() {
            match &self.stage.events[at] {
                Event::Trace(text) => self.tell('|', text),
                Event::Log(text) => self.tell('!', text),
            }
        }
        self.shown = self.stage.events.len();
    }

    fn tell(&self, who: char, text: impl fmt::Display) {
        let now_ms = self.stage.now_ms();
        say(format_args!("{:>6}.{:03} {who} {text}", now_ms / 1000, now_ms % 1000));
    }
}

/// Which events count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Calls, whose first words are given.
    Trace,
    /// Lines of the log, a part of which is given.
    Log,
}

impl Kind {
    fn matches(self, event: &Event, wanted: &str) -> bool {
        match (self, event) {
            (Kind::Trace, Event::Trace(text)) => text
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')),
            (Kind::Log, Event::Log(text)) => text.contains(wanted),
            (Kind::Trace, Event::Log(_)) | (Kind::Log, Event::Trace(_)) => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Trace => "the call",
            Kind::Log => "a line of the log with",
        })
    }
}
