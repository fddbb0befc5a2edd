//! A next hop that stalls, drips or refuses at one step of the dialogue, until it is told to behave.
//!
//! It owns its listener and a thread a connection, which ends with the connection. **Diagnostics**:
//! none; a connection that breaks is what the tests are about.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::support::{PATIENCE, eventually};

/// A step of the dialogue, as the hop sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Banner,
    Ehlo,
    /// It offers STARTTLS.
    StartTls,
    /// It offers STARTTLS, and does what it does behind its 220.
    Handshake,
    /// It offers AUTH.
    Auth,
    Mail,
    Rcpt,
    Data,
    Body,
    /// It offers CHUNKING and PIPELINING, and does what it does behind the text.
    Chunk,
    /// It offers the same, and does what it does at the second mail of a connection, which it reads whole and
    /// answers nothing of.
    Second,
    Dot,
    Rset,
    Quit,
}

/// What it does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing, for ever.
    Stall,
    /// Some octets of a reply that never ends; of a text it reads as few.
    Drip,
    /// A reply of this kind.
    Say(&'static str),
    /// The end of the connection, without a word.
    Close,
}

/// Where it misbehaves, and how; or not at all.
pub(crate) type Fault = Option<(At, How)>;

/// A next hop. Dropping it ends its listener.
#[derive(Debug)]
pub(crate) struct Hop {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The connection with the number N has the one at N modulo their count.
    faults: Mutex<Vec<Fault>>,
    mails: Mutex<Vec<Taken>>,
    opened: AtomicUsize,
    over: AtomicBool,
}

/// A mail that the hop took.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) recipient: String,
    pub(crate) bytes: usize,
}

/// Octets of the hop's receive buffer: small, so that a text does not fit.
const RECEIVE_BYTES: usize = 8 << 10;

/// The pace of dripping, and of looking whether a stall is over.
const PACE: Duration = Duration::from_millis(200);

impl Hop {
    /// A hop on a port that the system picks.
    pub(crate) fn start(fault: Fault) -> Hop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(128).unwrap();
        Hop::on(socket.into(), fault)
    }

    /// A hop on a listener that is there already.
    pub(crate) fn on(listener: TcpListener, fault: Fault) -> Hop {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.faults.lock().unwrap() = vec![fault];
        let taken = shared.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if taken.over.load(SeqCst) {
                    return;
                }
                let taken = taken.clone();
                let number = taken.opened.fetch_add(1, SeqCst);
                std::thread::spawn(move || {
                    // How a connection ends is judged at the other end.
                    let _ = Dialogue::new(stream, taken, number).and_then(|mut one| one.serve());
                });
            }
        });
        Hop { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, `fault` or none.
    pub(crate) fn set(&self, fault: Fault) {
        self.set_in_turn(&[fault]);
    }

    /// From now on, these by turns, a connection each.
    pub(crate) fn set_in_turn(&self, faults: &[Fault]) {
        *self.shared.faults.lock().unwrap() = faults.to_vec();
    }

    /// Connections it has taken so far.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(SeqCst)
    }

    pub(crate) fn mails(&self) -> Vec<Taken> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// Waits until it took a mail for `recipient`.
    pub(crate) fn await_mail(&self, recipient: &str) {
        eventually(&format!("a mail for {recipient}"), PATIENCE, || {
            let mails = self.shared.mails.lock().unwrap();
            mails.iter().any(|mail| mail.recipient.contains(recipient)).then_some(())
        });
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
    }
}

struct Dialogue {
    lines: BufReader<TcpStream>,
    shared: Arc<Shared>,
    number: usize,
    mails: usize,
}

impl Dialogue {
    fn new(stream: TcpStream, shared: Arc<Shared>, number: usize) -> io::Result<Dialogue> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Dialogue { lines: BufReader::new(stream), shared, number, mails: 0 })
    }

    fn serve(&mut self) -> io::Result<()> {
        self.say(At::Banner, "220 hop.example")?;
        let mut recipient = String::new();
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.get(..4) {
                Some("ehlo" | "helo") => self.say(At::Ehlo, self.offers())?,
                Some("star") => {
                    self.say(At::StartTls, "220 2.0.0 go on")?;
                    // It has no TLS: what it says is a record that never ends, or nothing that is one.
                    self.say(At::Handshake, "\x16\x03\x03")?;
                }
                Some("auth") => self.say(At::Auth, "235 2.7.0 welcome")?,
                Some("bdat") => {
                    let bytes = self.chunk(&line)?;
                    let recipient = std::mem::take(&mut recipient);
                    self.dot(Taken { recipient, bytes })?;
                }
                Some("mail") if self.mails > 0 && self.fault(At::Second).is_some() => {
                    self.line()?;
                    let chunk = self.line()?.to_ascii_lowercase();
                    self.chunk(&chunk)?;
                    self.say(At::Second, "250 2.1.0 ok")?;
                }
                Some("mail") => self.say(At::Mail, "250 2.1.0 ok")?,
                Some("rcpt") if line.contains("<refused@") => {
                    self.lines.get_mut().write_all(b"550 5.1.1 nobody\r\n")?;
                }
                Some("rcpt") => {
                    recipient = line;
                    self.say(At::Rcpt, "250 2.1.5 ok")?;
                }
                Some("data") => {
                    self.say(At::Data, "354 go on")?;
                    let bytes = self.text()?;
                    let recipient = std::mem::take(&mut recipient);
                    self.dot(Taken { recipient, bytes })?;
                }
                Some("rset") => self.say(At::Rset, "250 2.0.0 ok")?,
                Some("quit") => return self.say(At::Quit, "221 2.0.0 bye"),
                _ => self.lines.get_mut().write_all(b"500 5.5.2 what\r\n")?,
            }
        }
    }

    /// The end of a text, whether a dot or the last octet of a chunk.
    fn dot(&mut self, taken: Taken) -> io::Result<()> {
        // A client need not use the chunks that it is offered.
        let at = if self.fault(At::Chunk).is_some() { At::Chunk } else { At::Dot };
        self.mails += 1;
        if self.fault(at).is_none() {
            self.shared.mails.lock().unwrap().push(taken);
        }
        self.say(at, "250 2.0.0 taken")
    }

    /// Reads the chunk that `line` announces; how many octets it has.
    fn chunk(&mut self, line: &str) -> io::Result<usize> {
        let size = line.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let mut chunk = vec![0; size.unwrap_or_default()];
        self.lines.read_exact(&mut chunk)?;
        Ok(chunk.len())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Reads a text to its end; how many octets it has.
    fn text(&mut self) -> io::Result<usize> {
        while let Some(how) = self.fault(At::Body) {
            std::thread::sleep(PACE);
            if how == How::Drip {
                self.lines.get_mut().read_exact(&mut [0])?;
            }
        }
        let (mut bytes, mut line) = (0, Vec::new());
        loop {
            line.clear();
            if self.lines.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == b".\r\n" {
                return Ok(bytes);
            }
            bytes += line.len();
        }
    }

    /// What it must offer for its fault to be met.
    fn offers(&self) -> &'static str {
        let faults = self.shared.faults.lock().unwrap();
        match faults[self.number % faults.len()] {
            Some((At::StartTls | At::Handshake, _)) => "250-hop.example\r\n250 STARTTLS",
            Some((At::Auth, _)) => "250-hop.example\r\n250 AUTH PLAIN LOGIN",
            Some((At::Chunk | At::Second, _)) => {
                "250-hop.example\r\n250-PIPELINING\r\n250 CHUNKING"
            }
            Some(_) | None => "250 hop.example",
        }
    }

    fn fault(&self, at: At) -> Option<How> {
        let faults = self.shared.faults.lock().unwrap();
        let fault = faults[self.number % faults.len()];
        fault.filter(|(there, _)| *there == at).map(|(_, how)| how)
    }

    fn say(&mut self, at: At, reply: &str) -> io::Result<()> {
        let reply = match self.fault(at) {
            None => reply,
            Some(How::Say(other)) => other,
            Some(How::Close) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(How::Stall) => {
                // To the end, which the other side makes.
                return io::copy(&mut self.lines, &mut io::sink())
                    .and(Err(io::ErrorKind::TimedOut.into()));
            }
            Some(How::Drip) => loop {
                let octet = if at == At::Handshake { b"\x16" } else { b"2" };
                self.lines.get_mut().write_all(octet)?;
                std::thread::sleep(PACE);
            },
        };
        let reply = format!("{reply}\r\n");
        self.lines.get_mut().write_all(reply.as_bytes())
    }
}
