//! The language of dialogues: what a client says, what the server answers, how much time passes, and
//! what the plugin does meanwhile. The guide for authors explains it; this is its grammar.
//!
//! Must never: do any of it. **Diagnostics**: [`Misspelt`], with the line and what would be right.

use std::time::Duration;

use crate::cli::{self, Refusal};

/// Steps of one dialogue at most.
const STEPS_MAX: usize = 100_000;
/// Clients of one dialogue at most.
const CLIENTS_MAX: usize = 100;
/// The longest wait: a year.
const WAIT_S_MAX: u64 = 366 * 86_400;

/// One step, with the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The server sends one line that begins with one of these.
    Line(Vec<String>),
    /// The server sends a whole reply with this code, in which each of these begins a line.
    Reply(String, Vec<String>),
    /// The client sends nothing more, but listens.
    HalfClose,
    /// The server ends the connection, and has nothing more to say.
    Close,
    /// The client is gone, at once.
    Drop,
    /// From now on another client talks.
    Client(usize),
    /// Time passes.
    Wait(Duration),
    /// Something happens, or has happened.
    Expect(Expected),
}

/// What is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Of the trace, this line: its first words.
    Trace(String),
    /// Of the trace, no such line until all is quiet.
    NoTrace(String),
    /// A line of the log with this text.
    Log(String),
    /// No such line until all is quiet.
    NoLog(String),
    /// So many steps are held.
    Held(u64),
    /// The next hop has taken a mail in which this stands.
    Sent(String),
}

/// A dialogue that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dialogue {
    pub(super) settings: Vec<(String, String)>,
    /// Where each of them stands.
    pub(super) setting_lines: Vec<usize>,
    /// What the next hop refuses.
    pub(super) refusals: Vec<Refusal>,
    /// So many misuses are meant to happen.
    pub(super) misuses: u64,
    pub(super) steps: Vec<Step>,
}

/// A line that means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misspelt {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Dialogue {
    /// Reads all of a file.
    ///
    /// # Errors
    /// The first line that means nothing.
    pub(super) fn parse(text: &str) -> Result<Dialogue, Misspelt> {
        let mut dialogue = Dialogue::default();
        for (index, content) in text.lines().enumerate() {
            let line = index + 1;
            let misspelt = |why: String| Misspelt { line, why };
            let content = content.strip_suffix('\r').unwrap_or(content);
            if let Some(comment) = content.strip_prefix('#') {
                dialogue.read_comment(line, comment.trim()).map_err(misspelt)?;
            } else if !content.is_empty() {
                let actions = repeated(content).map_err(misspelt)?;
                let steps = actions.into_iter().map(|action| Step { line, action });
                dialogue.steps.extend(steps);
            }
            if dialogue.steps.len() > STEPS_MAX {
                return Err(misspelt(format!("a dialogue has at most {STEPS_MAX} steps")));
            }
        }
        Ok(dialogue)
    }

    /// Most are words for people.
    fn read_comment(&mut self, line: usize, comment: &str) -> Result<(), String> {
        if let Some(pair) = comment.strip_prefix("setting:") {
            let (key, value) = pair.split_once('=').ok_or("`# setting:` wants KEY=VALUE")?;
            self.settings.push((key.trim().to_owned(), value.trim().to_owned()));
            self.setting_lines.push(line);
        } else if let Some(refusal) = comment.strip_prefix("hop:") {
            self.refusals.push(cli::refusal(refusal.trim())?);
        } else if let Some(number) = comment.strip_prefix("misuses:") {
            self.misuses = number.trim().parse().map_err(|_| "`# misuses:` wants a number")?;
        }
        Ok(())
    }
}

fn repeated(content: &str) -> Result<Vec<Action>, String> {
    let Some(rest) = content.strip_prefix("repeat ") else {
        return Ok(vec![action(content)?]);
    };
    let (times, step) = rest.split_once(' ').ok_or("`repeat` wants a number and a step")?;
    let times: usize = times.parse().map_err(|_| "`repeat` wants a number")?;
    if times > STEPS_MAX {
        return Err(format!("at most {STEPS_MAX} repeats"));
    }
    (1..=times).map(|n| action(&step.replace("{n}", &n.to_string()))).collect()
}

fn action(content: &str) -> Result<Action, String> {
    if let Some((verb, rest)) = content.split_once(':') {
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match verb {
            "C" => return Ok(Action::Send(format!("{rest}\r\n").into_bytes())),
            "S" => return Ok(answer(rest)),
            "raw" => return unescape(rest.trim()).map(Action::Send),
            _ => {}
        }
    }
    let (verb, rest) = content.split_once(' ').unwrap_or((content, ""));
    match (verb, rest.trim()) {
        ("half-close", "") => Ok(Action::HalfClose),
        ("close", "") => Ok(Action::Close),
        ("drop", "") => Ok(Action::Drop),
        ("client", number) => match number.parse() {
            Ok(number @ 1..=CLIENTS_MAX) => Ok(Action::Client(number)),
            Ok(_) | Err(_) => Err(format!("`client` wants a number from 1 to {CLIENTS_MAX}")),
        },
        ("wait", time) => duration(time).map(Action::Wait),
        ("expect", what) => expected(what).map(Action::Expect),
        _ => Err(
            "a step is one of C:, S:, raw:, repeat, half-close, close, drop, client, wait, expect"
                .to_owned(),
        ),
    }
}

fn answer(text: &str) -> Action {
    let words = |text: &str, between: char| -> Vec<String> {
        let words = text.split(between).map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    match text.split_once("-*") {
        Some((code, wanted)) => Action::Reply(code.trim().to_owned(), words(wanted, ',')),
        None => Action::Line(words(text, '|')),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: Option<u64> = text[..digits].parse().ok();
    let millis = match text[digits..].trim() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = number.zip(millis).and_then(|(number, unit)| number.checked_mul(unit));
    millis
        .filter(|millis| *millis <= WAIT_S_MAX * 1_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "`wait` wants a time such as 200ms, 5s, 10m or 2h, of a year at most".into())
}

fn expected(text: &str) -> Result<Expected, String> {
    let (negated, text) = match text.strip_prefix("no ") {
        Some(rest) => (true, rest.trim()),
        None => (false, text),
    };
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim().to_owned();
    let trace =
        |line: String| if negated { Expected::NoTrace(line) } else { Expected::Trace(line) };
    match (kind, rest.as_str()) {
        ("hook" | "back" | "callback" | "log" | "held" | "sent", "") => {
            Err(format!("`expect {kind}` wants to know which"))
        }
        ("hook", _) => Ok(trace(format!("hook {rest}"))),
        ("passed", "over") => Ok(trace("passed over".to_owned())),
        ("back", "continue" | "complete" | "retry") => Ok(trace(format!("back {rest}"))),
        ("callback", "timer" | "watch" | "post" | "query") => Ok(trace(format!("callback {rest}"))),
        ("log", _) if negated => Ok(Expected::NoLog(rest)),
        ("log", _) => Ok(Expected::Log(rest)),
        ("sent", _) if !negated => Ok(Expected::Sent(rest)),
        ("held", _) if !negated => {
            rest.parse().map(Expected::Held).map_err(|_| "`expect held` wants a number".to_owned())
        }
        _ => Err("it is one of expect hook NAME [OUTCOME], expect back VERDICT, expect callback \
                  timer|watch|post|query, expect log TEXT, expect held NUMBER, expect sent TEXT; hook, back, \
                  callback and log also after `no`"
            .to_owned()),
    }
}

fn unescape(quoted: &str) -> Result<Vec<u8>, String> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = inner.ok_or("`raw:` wants a string in double quotes")?.chars();
    let mut bytes = Vec::new();
    while let Some(char) = rest.next() {
        if char != '\\' {
            bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let letter = rest.next();
        if letter == Some('x') {
            let mut digit = || rest.next()?.to_digit(16);
            let pair = digit().zip(digit()).map(|(high, low)| (high * 16 + low) as u8);
            bytes.push(pair.ok_or("`\\x` wants two hex digits")?);
            continue;
        }
        let byte = letter.and_then(octet_of);
        bytes.push(byte.ok_or("an escape is one of \\r \\n \\t \\0 \\\\ \\\" \\xHH")?);
    }
    Ok(bytes)
}

/// What the letter after a backslash stands for.
fn octet_of(letter: char) -> Option<u8> {
    match letter {
        'r' => Some(b'\r'),
        'n' => Some(b'\n'),
        't' => Some(b'\t'),
        '0' => Some(0),
        '\\' => Some(b'\\'),
        '"' => Some(b'"'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_read_as_documented() {
        let text = "# Words.\n# setting: smtp-errors=3\n# hop: rcpt=550\n# misuses: 2\n\
                    S: 220|250 2\nC: EHLO x\nS: 250-* SIZE, X\nrepeat 2 raw: \"{n}\\x00\\\"\"\n\
                    client 2\nwait 90s\nexpect hook mq_smtp_in_data held\nexpect no log x: y\n\
                    expect back retry\nexpect held 1\nexpect sent To: a\nhalf-close\ndrop\nclose\n";
        let dialogue = Dialogue::parse(text).unwrap();
        let own = |text: &str| text.to_owned();
        assert_eq!(dialogue.settings, [(own("smtp-errors"), own("3"))]);
        assert_eq!(dialogue.setting_lines, [2]);
        assert_eq!((dialogue.refusals.len(), dialogue.misuses), (1, 2));
        let steps: Vec<_> =
            dialogue.steps.into_iter().map(|step| (step.line, step.action)).collect();
        let expected = [
            (5, Action::Line(vec![own("220"), own("250 2")])),
            (6, Action::Send(b"EHLO x\r\n".to_vec())),
            (7, Action::Reply(own("250"), vec![own("SIZE"), own("X")])),
            (8, Action::Send(b"1\0\"".to_vec())),
            (8, Action::Send(b"2\0\"".to_vec())),
            (9, Action::Client(2)),
            (10, Action::Wait(Duration::from_secs(90))),
            (11, Action::Expect(Expected::Trace(own("hook mq_smtp_in_data held")))),
            (12, Action::Expect(Expected::NoLog(own("x: y")))),
            (13, Action::Expect(Expected::Trace(own("back retry")))),
            (14, Action::Expect(Expected::Held(1))),
            (15, Action::Expect(Expected::Sent(own("To: a")))),
            (16, Action::HalfClose),
            (17, Action::Drop),
            (18, Action::Close),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn what_means_nothing_is_named_by_its_line() {
        for text in [
            "D: x",
            "raw: x",
            "raw: \"\\q\"",
            "raw: \"\\x4\"",
            "repeat x C: y",
            "repeat 2",
            "repeat 999999999 C: y",
            "fine",
            "close now",
            "client 0",
            "client",
            "wait",
            "wait 5",
            "wait 5 years",
            "wait 99999999999999999999s",
            "wait 18446744073709551615h",
            "expect",
            "expect hook",
            "expect no held 1",
            "expect back maybe",
            "expect held x",
            "# hop: nothing",
            "# setting: x",
            "# misuses: many",
        ] {
            let misspelt = Dialogue::parse(&format!("\n{text}")).unwrap_err();
            assert!(misspelt.line == 2 && !misspelt.why.is_empty(), "{text}");
        }
    }
}
