//! What benches measure of the dialogue below its two sessions, each part by itself.
//!
//! Owns a door to lines, replies and the scanner of texts, which no driver may use without a session. It
//! adds nothing to them and decides nothing.
//!
//! Diagnostics: those of what is behind the door.

use super::body::{Piece, TextScanner};
use super::client::{Bounds, Options, Problem, ReplyParser};
use super::command::{Command, CommandError, Dialect};
use super::line;
use super::reply::Reply;

/// RFC 5321 4.5.3.1.4: octets of a command line with its CRLF.
const LINE_BYTES_MAX: usize = 512;

/// The first command in what was read, as the server's session finds it; `None` without a whole line, or
/// with one that no command may be.
pub fn command(read: &[u8]) -> Option<Result<Command<'_>, CommandError>> {
    let end = line::complete(read)?;
    let content = line::content(&read[..end], LINE_BYTES_MAX).ok()?;
    Some(Command::parse(content, Dialect::Esmtp))
}

/// The client's side of a connection: replies in the order they come, within the default bounds.
#[derive(Debug)]
pub struct Replies(ReplyParser);

impl Replies {
    /// As at the start of a connection.
    pub fn new() -> Self {
        Self(ReplyParser::new(Bounds::of(&Options::new("client.example.com"))))
    }

    /// Takes what was read; the first reply that is complete.
    ///
    /// # Errors
    /// What is wrong with it. Nothing can be read any more then.
    pub fn read(&mut self, octets: &[u8]) -> Result<Option<Reply>, Problem> {
        self.0.push(octets);
        self.0.next()
    }
}

impl Default for Replies {
    fn default() -> Self {
        Self::new()
    }
}

/// Octets of text in the wire form of DATA, found where it lies; `None` if it has no end, or a CR or LF
/// that stands alone.
pub fn text_octets(wire: &[u8]) -> Option<usize> {
    let mut scanner = TextScanner::new();
    let (mut at, mut octets) = (0, 0);
    loop {
        match scanner.next(wire, at) {
            Piece::Text(range) => {
                at = range.end;
                octets += range.len();
            }
            Piece::End(_) => return (!scanner.is_stray()).then_some(octets),
            Piece::More => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doors_lead_to_what_sessions_use() {
        assert_eq!(command(b"QUIT\r\nNOOP\r\n"), Some(Ok(Command::Quit)));
        assert_eq!(command(b"QUIT"), None);
        let reply = Replies::new().read(b"250-one\r\n250 two\r\n221 2.0.0 Bye\r\n");
        assert_eq!(reply.unwrap().unwrap().text(), "one\ntwo");
        assert_eq!(text_octets(b"..one\r\ntwo\r\n.\r\nQUIT\r\n"), Some(11));
        assert_eq!(text_octets(b"one\ntwo\r\n.\r\n"), None);
    }
}
