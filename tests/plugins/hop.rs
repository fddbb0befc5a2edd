//! A next hop that the test itself plays: it reads what the server says and answers when it likes.
//!
//! It offers no extension but SIZE, so that the server waits for every reply. **Diagnostics**: what
//! comes other than awaited panics with both.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::support::{PATIENCE, within};

/// A listening next hop.
#[derive(Debug)]
pub(crate) struct Hop(TcpListener);

impl Hop {
    pub(crate) fn listen() -> Hop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        listener.set_nonblocking(true).expect("a listener can be told not to wait");
        Hop(listener)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// Whether nobody waits to be accepted.
    pub(crate) fn is_lonely(&self) -> bool {
        self.0.accept().is_err()
    }

    /// The next connection, greeted.
    pub(crate) fn accept(&self) -> Visit {
        self.accept_offering("250 SIZE")
    }

    /// The same with other extensions.
    pub(crate) fn accept_offering(&self, extensions: &str) -> Visit {
        let mut visit = self.greet();
        visit.expect("EHLO ");
        visit.say(&format!("250-hop.example\r\n{extensions}"));
        visit
    }

    /// The next connection, with the banner alone.
    pub(crate) fn greet(&self) -> Visit {
        let (stream, _) = within(PATIENCE, || self.0.accept().ok()).expect("the server connects");
        stream.set_nonblocking(false).expect("a stream can be told to wait");
        stream.set_read_timeout(Some(PATIENCE)).expect("a stream can have a deadline");
        let mut visit = Visit(BufReader::new(stream));
        visit.say("220 hop.example");
        visit
    }

    /// The next connection, with the next mail up to and with DATA, which is not answered.
    pub(crate) fn accept_to_data(&self) -> Visit {
        let mut visit = self.accept();
        visit.mail_to_data();
        visit
    }
}

/// One connection of the server.
#[derive(Debug)]
pub(crate) struct Visit(BufReader<TcpStream>);

impl Visit {
    /// Takes an envelope, up to and with DATA, which is not answered.
    pub(crate) fn mail_to_data(&mut self) {
        self.expect("MAIL FROM:");
        self.say("250 ok");
        self.expect("RCPT TO:");
        self.say("250 ok");
        self.expect("DATA");
    }

    pub(crate) fn say(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        self.0.get_mut().write_all(line.as_bytes()).expect("the server listens");
    }

    /// Reads one line, which must begin so.
    pub(crate) fn expect(&mut self, start: &str) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("the server says something");
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.starts_with(start), "expected {start:?}, got {line:?}");
        line
    }

    /// Reads the text with its final dot.
    pub(crate) fn text(&mut self) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n.\r\n") {
            assert!(self.0.read_until(b'\n', &mut text).expect("the text goes on") > 0, "it ends");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Whether the server has closed, and said nothing more.
    pub(crate) fn await_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut rest);
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}
