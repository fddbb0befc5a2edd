//! Dialogues: text files in `tests/dialogues`, which a mail person can read and add to, played against
//! a fresh server each. `tests/dialogues/README.md` explains the language; this module owns it.
//!
//! It never decides what a right answer is: the files do. **Diagnostics**: a file that does not parse,
//! or a server that answers otherwise, panics with file, line and the dialogue so far.

use std::{fmt, net::SocketAddr, path::PathBuf};

use crate::support::{Server, SmtpClient};

/// How often a step may be repeated.
const REPEATS_MAX: usize = 100_000;

/// One step, with the line of the file it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    line: usize,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Send(Vec<u8>),
    /// One line that begins with one of these.
    Line(Vec<String>),
    /// A whole reply with this code, in which each of these begins a line.
    Reply(String, Vec<String>),
    HalfClose,
    Close,
}

/// A parsed file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dialogue {
    settings: Vec<(String, String)>,
    steps: Vec<Step>,
}

/// A line of a file that means nothing.
#[derive(Debug, PartialEq, Eq)]
struct Misspelt {
    line: usize,
    why: &'static str,
}

impl Dialogue {
    fn parse(text: &str) -> Result<Dialogue, Misspelt> {
        let mut dialogue = Dialogue::default();
        for (index, content) in text.lines().enumerate() {
            let line = index + 1;
            let actions = match content.strip_prefix('#') {
                Some(comment) => {
                    dialogue.settings.extend(setting(comment));
                    continue;
                }
                None if content.is_empty() => continue,
                None => parse_repeated(content).map_err(|why| Misspelt { line, why })?,
            };
            dialogue.steps.extend(actions.into_iter().map(|action| Step { line, action }));
        }
        Ok(dialogue)
    }
}

/// ` setting: key=value` of a comment.
fn setting(comment: &str) -> Option<(String, String)> {
    let (key, value) = comment.trim().strip_prefix("setting:")?.trim().split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}

fn parse_repeated(content: &str) -> Result<Vec<Action>, &'static str> {
    let Some(rest) = content.strip_prefix("repeat ") else {
        return Ok(vec![parse_action(content)?]);
    };
    let (times, step) = rest.split_once(' ').ok_or("`repeat` wants a number and a step")?;
    let times: usize = times.parse().map_err(|_| "`repeat` wants a number")?;
    if times > REPEATS_MAX {
        return Err("too many repeats");
    }
    (1..=times).map(|n| parse_action(&step.replace("{n}", &n.to_string()))).collect()
}

fn parse_action(content: &str) -> Result<Action, &'static str> {
    let (verb, rest) = match content.split_once(':') {
        Some((verb, rest)) => (verb, rest.strip_prefix(' ').unwrap_or(rest)),
        None => (content, ""),
    };
    match verb {
        "C" => Ok(Action::Send(format!("{rest}\r\n").into_bytes())),
        "raw" => unescape(rest.trim()).map(Action::Send),
        "S" => Ok(parse_expectation(rest)),
        "half-close" => Ok(Action::HalfClose),
        "close" => Ok(Action::Close),
        _ => Err("a step is one of C, S, raw, repeat, half-close, close"),
    }
}

fn parse_expectation(text: &str) -> Action {
    match text.split_once("-*") {
        Some((code, wanted)) => {
            let wanted = wanted.split(',').map(|word| word.trim().to_owned());
            Action::Reply(code.to_owned(), wanted.filter(|word| !word.is_empty()).collect())
        }
        None => Action::Line(text.split('|').map(|start| start.trim().to_owned()).collect()),
    }
}

fn unescape(quoted: &str) -> Result<Vec<u8>, &'static str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = inner.ok_or("`raw:` wants a string in double quotes")?.chars();
    let mut bytes = Vec::new();
    while let Some(char) = rest.next() {
        if char != '\\' {
            bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('x') => hex_pair(rest.next(), rest.next()).ok_or("`\\x` wants two hex digits")?,
            _ => return Err("an escape is one of \\r \\n \\t \\0 \\\\ \\\" \\xHH"),
        });
    }
    Ok(bytes)
}

fn hex_pair(high: Option<char>, low: Option<char>) -> Option<u8> {
    let value = high?.to_digit(16)? * 16 + low?.to_digit(16)?;
    u8::try_from(value).ok()
}

/// What went wrong in a conversation.
#[derive(Debug)]
struct Mismatch {
    line: usize,
    why: String,
    transcript: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n{}", self.line, self.why, self.transcript)
    }
}

/// Plays a dialogue against the server at `address`.
fn play(dialogue: &Dialogue, address: SocketAddr) -> Result<(), Mismatch> {
    let mut client = SmtpClient::connect(address).expect("the server can be connected to");
    for step in &dialogue.steps {
        perform(&step.action, &mut client).map_err(|why| Mismatch {
            line: step.line,
            why,
            transcript: client.transcript().to_owned(),
        })?;
    }
    Ok(())
}

fn perform(action: &Action, client: &mut SmtpClient) -> Result<(), String> {
    match action {
        Action::Send(bytes) => client.send(bytes).map_err(|error| error.to_string()),
        Action::HalfClose => client.half_close().map_err(|error| error.to_string()),
        Action::Close => client.await_close().map_err(|error| error.to_string()),
        Action::Line(starts) => {
            let line = client.line().map_err(|error| format!("awaited {starts:?}: {error}"))?;
            if starts.iter().any(|start| line.starts_with(start.as_str())) {
                return Ok(());
            }
            Err(format!("awaited {starts:?}, got {line:?}"))
        }
        Action::Reply(code, wanted) => {
            let reply = client.reply().map_err(|error| format!("awaited {code}: {error}"))?;
            let has = |want: &String| reply.lines.iter().any(|line| line.starts_with(want));
            if reply.code.to_string() == *code && wanted.iter().all(has) {
                return Ok(());
            }
            Err(format!("awaited {code} with {wanted:?}, got {reply:?}"))
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues")
}

/// Plays the file `name` against a server of its own, or against the one that the environment names.
fn play_file(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).expect("the file can be read");
    let dialogue = Dialogue::parse(&text)
        .unwrap_or_else(|error| panic!("{}:{}: {}", path.display(), error.line, error.why));
    let result = match std::env::var("ROHRPOST_DIALOGUE_TARGET") {
        Ok(target) => play(&dialogue, target.parse().expect("an address and a port")),
        Err(_) => {
            let server = dialogue
                .settings
                .iter()
                .fold(Server::builder(), |plan, (key, value)| plan.setting(key, value))
                .start();
            play(&dialogue, server.smtp())
        }
    };
    if let Err(mismatch) = result {
        panic!("{}, {mismatch}", path.display());
    }
}

/// One test a file, so that a failure is named and the rest still runs.
macro_rules! dialogues {
    ($($test:ident $name:literal,)*) => {
        const NAMES: &[&str] = &[$($name),*];
        $(#[test] fn $test() { play_file($name); })*
    };
}

dialogues! {
    addresses "addresses",
    auth_login "auth-login",
    auth_long "auth-long",
    auth_plain "auth-plain",
    auth_required "auth-required",
    bare_lf_command "bare-lf-command",
    bare_lf_data "bare-lf-data",
    bdat "bdat",
    bdat_refused "bdat-refused",
    eight_bit_mime "8bitmime",
    error_limit "error-limit",
    half_close "half-close",
    happy_path "happy-path",
    hello "hello",
    information "information",
    long_command "long-command",
    loop_refused "loop",
    parameters "parameters",
    pipelined_data_refused "pipelined-data-refused",
    pipelining "pipelining",
    recipients_limit "recipients-limit",
    relay_refused "relay-refused",
    rset "rset",
    sequence "sequence",
    size "size",
    smtputf8 "smtputf8",
    smuggling_cr_dot_cr "smuggling-cr-dot-cr",
    smuggling_cr_dot_crlf "smuggling-cr-dot-crlf",
    smuggling_crcrlf "smuggling-crcrlf",
    smuggling_crlf_dot_cr "smuggling-crlf-dot-cr",
    smuggling_crlf_dot_lf "smuggling-crlf-dot-lf",
    smuggling_lf_dot_crlf "smuggling-lf-dot-crlf",
    smuggling_lf_dot_lf "smuggling-lf-dot-lf",
    smuggling_nul "smuggling-nul",
    starttls_not_offered "starttls-not-offered",
    unknown_command "unknown-command",
}

#[test]
fn every_file_is_listed_and_parses() {
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            Dialogue::parse(&std::fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            found.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    let mut listed = NAMES.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn the_language_is_read_as_documented() {
    let text = "# A comment.\n# setting: smtp-errors=3\nS: 220|250 2\nC: EHLO x\nS: 250-* SIZE, X\n\
                repeat 2 raw: \"{n}\\x00\\\"\"\nclose\n";
    let dialogue = Dialogue::parse(text).unwrap();
    let start = |text: &str| text.to_owned();
    assert_eq!(dialogue.settings, [(start("smtp-errors"), start("3"))]);
    let actions: Vec<_> = dialogue.steps.into_iter().map(|step| (step.line, step.action)).collect();
    let expected = [
        (3, Action::Line(vec![start("220"), start("250 2")])),
        (4, Action::Send(b"EHLO x\r\n".to_vec())),
        (5, Action::Reply(start("250"), vec![start("SIZE"), start("X")])),
        (6, Action::Send(b"1\0\"".to_vec())),
        (6, Action::Send(b"2\0\"".to_vec())),
        (7, Action::Close),
    ];
    assert_eq!(actions, expected);
}

#[test]
fn misspelt_steps_are_named_by_line() {
    for text in
        ["\nD: x", "\nraw: x", "\nraw: \"\\q\"", "\nraw: \"\\x4\"", "\nrepeat x C: y", "\nfine"]
    {
        assert_eq!(Dialogue::parse(text).unwrap_err().line, 2, "{text:?}");
    }
}

#[test]
fn an_unexpected_answer_is_a_mismatch_and_an_expected_one_is_not() {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 hello\r\n250-one\r\n250 SIZE 5\r\n").unwrap();
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let right = Dialogue::parse("S: 220\nC: EHLO\nS: 250-* SIZE\nclose").unwrap();
    let wrong = Dialogue::parse("S: 220\nC: EHLO\nS: 250-* CHUNKING\nclose").unwrap();
    assert!(play(&right, address).is_ok());
    let mismatch = play(&wrong, address).unwrap_err();
    assert_eq!(mismatch.line, 3);
    assert!(mismatch.transcript.contains("S: 250-one"), "{mismatch}");
    server.join().unwrap();
}
