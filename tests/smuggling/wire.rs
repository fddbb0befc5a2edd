//! A next hop that looks at every octet, as strictly as RFC 5321 2.3.8 lets it: a CR or LF that stands
//! alone, a line that begins with one dot, a command that nobody knows, are written down.
//!
//! It owns its listener and a thread a connection, which ends with the connection. **Diagnostics**: none
//! of its own; what it wrote down is what the tests judge.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::support::PATIENCE;

/// A mail as it was read, unstuffed.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) octets: Vec<u8>,
    /// By BDAT.
    pub(super) chunked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) mails: Vec<Mail>,
    /// What no client may send.
    pub(super) violations: Vec<String>,
}

/// Dropping it ends its listener.
#[derive(Debug)]
pub(super) struct Wire {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    over: Arc<AtomicBool>,
}

impl Wire {
    /// One that offers these extensions, besides those that every server has.
    pub(super) fn offering(extensions: &'static str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (record, over) = (Arc::<Mutex<Record>>::default(), Arc::<AtomicBool>::default());
        let (shared, ended) = (record.clone(), over.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ended.load(SeqCst) {
                    return;
                }
                let record = shared.clone();
                std::thread::spawn(move || {
                    // A connection that the other side ends is no news.
                    let _ = Visit::new(stream, record).and_then(|mut one| one.serve(extensions));
                });
            }
        });
        Wire { address, record, over }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing was sent that any receiver could read in two ways.
    pub(super) fn assert_clean(&self) {
        let record = self.record();
        assert_eq!(record.violations, [""; 0]);
        for mail in &record.mails {
            assert!(!mail.to.iter().any(|to| to.contains(super::VICTIM)), "{mail:?}");
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
    }
}

struct Visit {
    stream: BufReader<TcpStream>,
    record: Arc<Mutex<Record>>,
}

impl Visit {
    fn new(stream: TcpStream, record: Arc<Mutex<Record>>) -> io::Result<Visit> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Visit { stream: BufReader::new(stream), record })
    }

    fn serve(&mut self, extensions: &str) -> io::Result<()> {
        self.say("220 wire.example")?;
        let empty =
            Mail { from: String::new(), to: Vec::new(), octets: Vec::new(), chunked: false };
        let mut mail = empty.clone();
        loop {
            let line = self.line()?;
            let (verb, rest) = line.split_once([' ', ':']).unwrap_or((&line, ""));
            match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.say(&format!("250-wire.example\r\n{extensions}250 SIZE"))?,
                "MAIL" => {
                    mail = Mail { from: rest.to_owned(), ..empty.clone() };
                    self.say("250 2.1.0 ok")?;
                }
                "RCPT" => {
                    mail.to.push(rest.to_owned());
                    self.say("250 2.1.5 ok")?;
                }
                "DATA" => {
                    self.say("354 go on")?;
                    mail.octets = self.text()?;
                    self.keep(std::mem::replace(&mut mail, empty.clone()))?;
                }
                "BDAT" => {
                    let mut words = rest.split(' ');
                    let bytes = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    self.stream.by_ref().take(bytes).read_to_end(&mut mail.octets)?;
                    if words.next().is_some() {
                        mail.chunked = true;
                        self.keep(std::mem::replace(&mut mail, empty.clone()))?;
                    } else {
                        self.say("250 2.0.0 more")?;
                    }
                }
                "RSET" => {
                    mail = empty.clone();
                    self.say("250 2.0.0 ok")?;
                }
                "QUIT" => return self.say("221 2.0.0 bye"),
                _ => {
                    self.violation("a command that nobody knows", line.as_bytes());
                    self.say("500 5.5.2 what")?;
                }
            }
        }
    }

    fn keep(&mut self, mail: Mail) -> io::Result<()> {
        let mut last = b'\n';
        let mut stray = mail.octets.ends_with(b"\r");
        for &octet in &mail.octets {
            stray |= (octet == b'\n') != (last == b'\r') && (octet == b'\n' || last == b'\r');
            last = octet;
        }
        if stray {
            self.violation("a CR or LF alone in a text", &mail.octets);
        }
        self.lock().mails.push(mail);
        self.say("250 2.0.0 taken")
    }

    /// One command, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_suffix(b"\r\n") {
            Some(text) if !text.iter().any(|&octet| octet < b' ' || octet == 0x7f) => {}
            Some(_) | None => self.violation("a command with control characters", &line),
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// RFC 5321 4.5.2: lines up to the one that is a dot alone.
    fn text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                return Ok(text);
            }
            if line.first() == Some(&b'.') && line.get(1) != Some(&b'.') {
                self.violation("a line that begins with one dot", &line);
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(format!("{reply}\r\n").as_bytes())
    }

    fn violation(&self, what: &str, octets: &[u8]) {
        let shown = octets[..octets.len().min(400)].escape_ascii();
        self.lock().violations.push(format!("{what}: {shown}"));
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[test]
fn the_wire_sees_what_no_client_may_send() {
    let wire = Wire::offering("250-CHUNKING\r\n");
    for (sent, violations, mails) in [
        (&b"MAIL FROM:<a>\r\nDATA\r\nx\r\n..\r\n.\r\nQUIT\r\n"[..], 0, 1),
        (b"DATA\r\nx\n.\n\r\n.\r\nQUIT\r\n", 2, 1),
        (b"DATA\r\nx\r\n.x\r\n.\r\nQUIT\r\n", 1, 1),
        (b"DATA\r\nx\rx\r\n.\r\nQUIT\r\n", 1, 1),
        (b"MAIL FROM:<a\rb>\r\nSubject: x\r\nQUIT\r\n", 2, 0),
        (b"BDAT 3\r\nx\r\nBDAT 5 LAST\r\n.\r\nx\rQUIT\r\n", 1, 1),
    ] {
        let mut stream = TcpStream::connect(wire.address()).unwrap();
        stream.write_all(sent).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let record = std::mem::take(&mut *wire.record());
        assert_eq!(
            (record.violations.len(), record.mails.len()),
            (violations, mails),
            "{record:?}"
        );
    }
}
