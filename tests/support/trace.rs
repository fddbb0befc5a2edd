//! What `strace -f -y` wrote, as calls with a start and an end, so that a test can ask what happened
//! before what over all threads.
//!
//! A call that was interrupted by another thread's stands on two lines, `<unfinished ...>` and
//! `<... resumed>`; here it is one call again. Lines that are no calls are skipped.

use std::collections::HashMap;

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// The arguments as strace prints them, without the parentheses.
    pub(crate) arguments: String,
    /// The number after `=`.
    pub(crate) result: i64,
    /// The line on which it started, and the one on which its result was known.
    pub(crate) started: usize,
    pub(crate) ended: usize,
}

/// All calls, in the order in which they started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(pub(crate) Vec<Call>);

impl Trace {
    /// Reads the text of a trace file.
    pub(crate) fn parse(text: &str) -> Trace {
        let mut calls = Vec::new();
        let mut open: HashMap<u32, (usize, String)> = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let Some((thread, rest)) = thread_and_rest(line) else {
                continue;
            };
            if let Some(start) = rest.strip_suffix("<unfinished ...>") {
                open.insert(thread, (number, start.trim_end().to_owned()));
            } else if let Some(end) = resumed(rest) {
                let Some((started, start)) = open.remove(&thread) else {
                    continue;
                };
                calls.extend(call(thread, &(start + end), started, number));
            } else {
                calls.extend(call(thread, rest, number, number));
            }
        }
        calls.sort_by_key(|call| call.started);
        Trace(calls)
    }
}

impl Call {
    /// The descriptor that is the first argument, with what strace says it is: `7</queue/1.log>`.
    pub(crate) fn descriptor(&self) -> &str {
        match self.arguments.find('>') {
            Some(end) if self.arguments.find(',').is_none_or(|comma| end < comma) => {
                &self.arguments[..=end]
            }
            _ => self.arguments.split(',').next().unwrap_or_default(),
        }
    }

    /// Whether it hands bytes to a file or a socket.
    pub(crate) fn writes(&self) -> bool {
        ["write", "pwrite", "send"].iter().any(|kind| self.name.starts_with(kind))
    }

    /// Whether a descriptor's data was on the disk when it ended.
    pub(crate) fn syncs(&self) -> bool {
        ["fdatasync", "fsync"].contains(&self.name.as_str()) && self.result == 0
    }
}

/// `4711  12:00:00 call(…` or `4711  call(…`; strace pads the number with blanks.
fn thread_and_rest(line: &str) -> Option<(u32, &str)> {
    let (thread, rest) = line.split_once(' ')?;
    Some((thread.parse().ok()?, rest.trim_start()))
}

fn resumed(rest: &str) -> Option<&str> {
    let (_, end) = rest.strip_prefix("<... ")?.split_once(" resumed>")?;
    Some(end)
}

fn call(thread: u32, text: &str, started: usize, ended: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") ")?;
    let result = result.trim_start().strip_prefix("= ")?;
    let digits = result.split(|c: char| c != '-' && !c.is_ascii_digit()).next()?;
    Some(Call {
        thread,
        name: name.to_owned(),
        arguments: arguments.trim_end().to_owned(),
        result: digits.parse().ok()?,
        started,
        ended,
    })
}

#[test]
fn calls_cut_in_two_by_another_thread_are_joined() {
    let trace = Trace::parse(concat!(
        "11 write(5</queue/1.log>, \"a, b) = 7\", 9) = 9\n",
        "12 fdatasync(5</queue/1.log> <unfinished ...>\n",
        "11 +++ exited with 0 +++\n",
        "13    sendto(9<TCP:[127.0.0.1:25->127.0.0.1:9]>, \"250 ok\\r\\n\", 8, 0, NULL, 0) = 8\n",
        "12 <... fdatasync resumed>)           = 0\n",
        "12 fdatasync(6</queue/2.log>) = -1 EIO (Input/output error)\n",
    ));
    let names: Vec<_> = trace.0.iter().map(|call| (call.name.as_str(), call.result)).collect();
    assert_eq!(names, [("write", 9), ("fdatasync", 0), ("sendto", 8), ("fdatasync", -1)]);
    let sync = &trace.0[1];
    assert_eq!((sync.started, sync.ended, sync.syncs()), (1, 4, true));
    assert_eq!(sync.descriptor(), "5</queue/1.log>");
    assert!(trace.0[0].writes() && trace.0[2].writes() && !trace.0[3].syncs());
}
