//! What becomes of a mail that the sink took.
//!
//! **Diagnostics**: a dump file that cannot be written ends the sink: whoever counts on it must not
//! count wrong.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::json;

use crate::cli::{Sink, SinkOutput};
use crate::program::say;
use crate::view::counted;

/// A mail, as it came.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) envelope: &'a str,
    pub(super) recipients: &'a [String],
    pub(super) body: &'a [u8],
}

/// Where mail goes.
#[derive(Debug)]
pub(super) struct Output {
    how: SinkOutput,
    dump: Option<BufWriter<File>>,
    count: u64,
    shown: u64,
    line: bool,
}

impl Output {
    pub(super) fn new(sink: &Sink) -> io::Result<Output> {
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        Ok(Output {
            how: sink.output,
            dump: sink.dump.as_ref().map(open).transpose()?.map(BufWriter::new),
            count: 0,
            shown: 0,
            line: io::stdout().is_terminal(),
        })
    }

    /// Takes one mail.
    pub(super) fn take(&mut self, mail: &Taken<'_>) -> io::Result<()> {
        self.count += 1;
        if let SinkOutput::Print { lines_max } = self.how {
            print(mail, lines_max)?;
        }
        let Some(dump) = &mut self.dump else {
            return Ok(());
        };
        // Octets that are no text are shown as such, one character each, so that none is lost.
        let body: String = match std::str::from_utf8(mail.body) {
            Ok(text) => text.to_owned(),
            Err(_) => mail.body.iter().map(|&octet| char::from(octet)).collect(),
        };
        let row = json!({
            "envelope": mail.envelope,
            "recipients": mail.recipients,
            "size": mail.body.len(),
            "body": body,
        });
        serde_json::to_writer(&mut *dump, &row)?;
        dump.write_all(b"\n")
    }

    /// Writes down what was taken, before it is answered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.dump.as_mut().map_or(Ok(()), Write::flush)
    }

    /// Once a second: how much came.
    pub(super) fn tick(&mut self, connections: usize) {
        if self.how != SinkOutput::Count || !self.line {
            return;
        }
        let rate = self.count - self.shown;
        self.shown = self.count;
        let mut out = io::stdout().lock();
        // A terminal that was closed is no reason to stop.
        let _ = write!(out, "\r\x1b[Kmails {} ({rate}/s) | connections {connections}", self.count)
            .and_then(|()| out.flush());
    }

    /// At the end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.how == SinkOutput::Count {
            say(format_args!("took {}", counted(self.count, "mail")));
        }
        self.flush()
    }
}

fn print(mail: &Taken<'_>, lines_max: u32) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "\n── mail from <{}> to {} ({} octets)",
        mail.envelope,
        mail.recipients.join(", "),
        mail.body.len()
    )?;
    let text = String::from_utf8_lossy(mail.body);
    let mut lines = text.lines();
    for line in lines.by_ref().take(lines_max as usize) {
        // A mail must not steer the terminal.
        let safe: String =
            line.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        writeln!(out, "   {safe}")?;
    }
    match lines.count() {
        0 => {}
        more => writeln!(out, "   … {more} more lines")?,
    }
    out.flush()
}
