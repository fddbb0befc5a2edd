//! A next hop that speaks TLS, asks for logins, takes chunks, and misbehaves as told.
//!
//! It owns its listener and a thread a connection, which ends with the connection or with the hop.
//! **Diagnostics**: none; what it heard and took is what tests judge.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{PATIENCE, eventually};

/// How a hop behaves to connections that come from now on.
#[derive(Debug, Clone, Default)]
pub(super) struct Conduct {
    /// What it can prove itself with; without it there is no TLS.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// What it does at STARTTLS.
    pub(super) starttls: StartTls,
    /// Whether TLS comes with the first octet.
    pub(super) implicit: bool,
    /// Keywords of EHLO besides STARTTLS and AUTH.
    pub(super) keywords: &'static [&'static str],
    /// Whether a login is asked for, and how it is answered.
    pub(super) auth: Option<Auth>,
    /// What it says in place of its usual reply to a line that begins so.
    pub(super) says: Option<(&'static str, Said)>,
}

/// What a hop does at STARTTLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StartTls {
    /// What it should.
    #[default]
    Works,
    /// It says this in place of 220.
    Says(&'static str),
    /// It says this in the same breath as 220, and goes on as it should.
    Injects(&'static str),
    /// It says 220 and then what is no TLS.
    Garbage,
    /// It says 220 and closes.
    Closes,
    /// It says 220 and nothing ever after.
    Stalls,
}

/// How a hop treats logins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Auth {
    /// The mechanisms that it offers.
    pub(super) offers: &'static str,
    /// Whether it offers them in clear too.
    pub(super) in_clear: bool,
    /// Its last word.
    pub(super) verdict: &'static str,
}

/// What a hop says in place of a reply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said {
    /// This.
    Text(&'static str),
    /// So many lines before the last one.
    Lines(usize),
    /// One line of so many octets.
    Octets(usize),
    /// The usual reply, octet by octet.
    Drops,
    /// Nothing at all.
    Nothing,
}

/// How connections are ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In order.
    Fin,
    /// By a reset.
    Reset,
    /// Not at all: nobody reads or answers any more.
    Silence,
}

/// One line of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) connection: usize,
    pub(super) secure: bool,
    pub(super) line: String,
}

/// One mail that the hop took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) connection: usize,
    pub(super) secure: bool,
    pub(super) recipient: String,
    /// The text without our Received field.
    pub(super) text: Vec<u8>,
    pub(super) chunk: bool,
}

#[derive(Debug, Default)]
struct Shared {
    conduct: Mutex<Conduct>,
    heard: Mutex<Vec<Heard>>,
    taken: Mutex<Vec<Taken>>,
    names: Mutex<Vec<Option<String>>>,
    opened: AtomicUsize,
    ending: Mutex<Option<(usize, End)>>,
    over: AtomicBool,
}

/// A next hop. Dropping it ends its listener.
#[derive(Debug)]
pub(super) struct Far {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Octets of the hop's receive buffer: small, so that writes to it stop in the middle.
const RECEIVE_BYTES: usize = 8 << 10;

/// How often a connection looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

impl Far {
    /// A hop on a port that the system picks.
    pub(super) fn start(conduct: Conduct) -> Far {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.conduct.lock().unwrap() = conduct;
        let taken = shared.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if taken.over.load(SeqCst) {
                    return;
                }
                let shared = taken.clone();
                let connection = taken.opened.fetch_add(1, SeqCst);
                std::thread::spawn(move || {
                    // How a connection ends is judged at the other end.
                    let _ = Talk::new(stream, connection, shared).and_then(|mut talk| talk.serve());
                });
            }
        });
        Far { address, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it behaves to connections that come from now on.
    pub(super) fn set(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
    }

    /// Ends all connections that it has.
    pub(super) fn end(&self, how: End) {
        let before = self.shared.opened.load(SeqCst);
        *self.shared.ending.lock().unwrap() = Some((before, how));
    }

    /// Connections that it took so far.
    pub(super) fn opened(&self) -> usize {
        self.shared.opened.load(SeqCst)
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// The lines that begin so.
    pub(super) fn heard_of(&self, start: &str) -> Vec<Heard> {
        let heard = self.heard();
        heard.into_iter().filter(|heard| heard.line.starts_with(start)).collect()
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// The names that clients asked for in their handshakes.
    pub(super) fn names(&self) -> Vec<Option<String>> {
        self.shared.names.lock().unwrap().clone()
    }

    /// Waits until it took `count` mails, and returns them.
    pub(super) fn await_mails(&self, count: usize) -> Vec<Taken> {
        eventually(&format!("{count} mails"), PATIENCE, || {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
    }
}

/// Either kind of stream.
enum Line {
    Clear(TcpStream),
    Secure(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// While one becomes the other.
    None,
}

struct Talk {
    line: Line,
    connection: usize,
    conduct: Conduct,
    shared: Arc<Shared>,
    recipient: String,
    refused: bool,
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Talk {
    fn new(stream: TcpStream, connection: usize, shared: Arc<Shared>) -> io::Result<Talk> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_nodelay(true)?;
        let conduct = shared.conduct.lock().unwrap().clone();
        let (line, recipient) = (Line::Clear(stream), String::new());
        Ok(Talk { line, connection, conduct, shared, recipient, refused: false })
    }

    fn serve(&mut self) -> io::Result<()> {
        if self.conduct.implicit {
            self.secure()?;
        }
        self.reply("banner", "220 far.example ESMTP")?;
        loop {
            let line = self.read_line()?;
            let secure = self.is_secure();
            let (connection, text) = (self.connection, line.clone());
            self.shared.heard.lock().unwrap().push(Heard { connection, secure, line: text });
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.reply(&line, &self.offer())?,
                "STARTTLS" if self.is_mute(&line) => {}
                "STARTTLS" => self.starttls()?,
                "AUTH" => self.auth(&line)?,
                "RCPT" => {
                    self.refused = line.contains("<refused");
                    self.recipient = line.clone();
                    let reply = if self.refused { "550 5.1.1 nobody" } else { "250 2.1.5 ok" };
                    self.reply(&line, reply)?;
                }
                "DATA" => {
                    self.reply(&line, "354 go on")?;
                    let text = self.read_text()?;
                    self.take(text, false);
                    self.reply(".", "250 2.0.0 taken")?;
                }
                "BDAT" => self.bdat(&line)?,
                "QUIT" => return self.reply(&line, "221 2.0.0 bye"),
                _ => self.reply(&line, "250 2.0.0 ok")?,
            }
        }
    }

    fn offer(&self) -> String {
        let mut offer = String::from("250-far.example");
        let mut add = |word: &str| offer.push_str(&format!("\r\n250-{word}"));
        self.conduct.keywords.iter().for_each(|word| add(word));
        if self.conduct.tls.is_some() && !self.is_secure() {
            add("STARTTLS");
        }
        if let Some(auth) = self.conduct.auth.filter(|auth| auth.in_clear || self.is_secure()) {
            add(&format!("AUTH {}", auth.offers));
        }
        offer + "\r\n250 HELP"
    }

    fn starttls(&mut self) -> io::Result<()> {
        match self.conduct.starttls {
            StartTls::Works => {
                self.write(b"220 go\r\n")?;
                self.secure()
            }
            StartTls::Says(reply) => self.write(format!("{reply}\r\n").as_bytes()),
            StartTls::Injects(more) => {
                self.write(format!("220 go\r\n{more}").as_bytes())?;
                self.secure()
            }
            StartTls::Garbage => self.write(b"220 go\r\n").and_then(|()| {
                let mut hello = [0];
                while self.read(&mut hello)? == 0 {}
                self.write(b"what do you mean by that?\r\n")
            }),
            StartTls::Closes => self.write(b"220 go\r\n").and(Err(ended())),
            StartTls::Stalls => {
                self.write(b"220 go\r\n")?;
                loop {
                    self.read(&mut [0; 512])?;
                }
            }
        }
    }

    fn secure(&mut self) -> io::Result<()> {
        let config = self.conduct.tls.clone().expect("TLS needs a certificate");
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        if let Line::Clear(stream) = std::mem::replace(&mut self.line, Line::None) {
            let mut stream = StreamOwned::new(connection, stream);
            while stream.conn.is_handshaking() {
                self.ends()?;
                match stream.conn.complete_io(&mut stream.sock) {
                    Ok(_) => {}
                    Err(error) if is_pause(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            let name = stream.conn.server_name().map(str::to_owned);
            self.shared.names.lock().unwrap().push(name);
            self.line = Line::Secure(Box::new(stream));
        }
        Ok(())
    }

    /// Takes any login, and answers as it was told; what was said is among the lines.
    fn auth(&mut self, line: &str) -> io::Result<()> {
        let verdict = self.conduct.auth.expect("AUTH was offered").verdict;
        if line.starts_with("AUTH LOGIN") {
            for question in ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"] {
                self.reply(line, question)?;
                let line = self.read_line()?;
                let heard = Heard { connection: self.connection, secure: self.is_secure(), line };
                self.shared.heard.lock().unwrap().push(heard);
            }
        }
        self.reply(line, verdict)
    }

    /// RFC 3030 2: the octets are eaten, whatever is said of them.
    fn bdat(&mut self, line: &str) -> io::Result<()> {
        let octets = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut text = vec![0; octets.ok_or(io::ErrorKind::InvalidData)?];
        let mut filled = 0;
        while filled < text.len() {
            filled += self.read(&mut text[filled..])?;
        }
        if self.refused {
            return self.reply(line, "503 5.5.1 no recipients");
        }
        self.take(text, true);
        self.reply(line, "250 2.0.0 taken")
    }

    fn take(&self, text: Vec<u8>, chunk: bool) {
        // Our Received field ends where the first line begins that is not folded.
        let mut start = 0;
        if text.starts_with(b"Received: ") {
            let ends = text.windows(3).position(|w| w[..2] == *b"\r\n" && !b" \t".contains(&w[2]));
            start = ends.map_or(text.len(), |end| end + 2);
        }
        let (connection, secure) = (self.connection, self.is_secure());
        let (recipient, text) = (self.recipient.clone(), text[start..].to_vec());
        let taken = Taken { connection, secure, recipient, text, chunk };
        self.shared.taken.lock().unwrap().push(taken);
    }

    /// The usual reply, or what it was told to say to such a line.
    fn reply(&mut self, line: &str, usual: &str) -> io::Result<()> {
        let said = self.conduct.says.filter(|(start, _)| line.starts_with(start));
        match said.map(|(_, said)| said) {
            None => self.write(format!("{usual}\r\n").as_bytes()),
            Some(Said::Text(text)) => self.write(format!("{text}\r\n").as_bytes()),
            Some(Said::Lines(lines)) => {
                let code = &usual[..3];
                for _ in 0..lines / 1000 {
                    self.write(format!("{code}-x\r\n").repeat(1000).as_bytes())?;
                }
                self.write(format!("{usual}\r\n").as_bytes())
            }
            Some(Said::Octets(octets)) => {
                let line = format!("{} {}\r\n", &usual[..3], "x".repeat(octets));
                self.write(line.as_bytes())
            }
            Some(Said::Nothing) => Ok(()),
            Some(Said::Drops) => {
                let reply = format!("{usual}\r\n");
                reply.bytes().try_for_each(|byte| {
                    self.write(&[byte])?;
                    std::thread::sleep(Duration::from_millis(1));
                    Ok(())
                })
            }
        }
    }

    /// A line with its end.
    fn read_octets(&mut self) -> io::Result<Vec<u8>> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            if self.read(&mut byte)? == 1 {
                line.push(byte[0]);
            }
        }
        Ok(line)
    }

    fn is_mute(&self, line: &str) -> bool {
        matches!(self.conduct.says, Some((start, Said::Nothing)) if line.starts_with(start))
    }

    fn read_line(&mut self) -> io::Result<String> {
        let line = self.read_octets()?;
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// The text of DATA, its dots unstuffed.
    fn read_text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let line = self.read_octets()?;
            match line.strip_prefix(b".") {
                Some(b"\r\n") => return Ok(text),
                Some(rest) => text.extend_from_slice(rest),
                None => text.extend_from_slice(&line),
            }
        }
    }

    /// Some octets, or none for now.
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.ends()?;
        let read = match &mut self.line {
            Line::Clear(stream) => stream.read(target),
            Line::Secure(stream) => stream.read(target),
            Line::None => return Err(ended()),
        };
        match read {
            Ok(0) => Err(ended()),
            Ok(count) => Ok(count),
            Err(error) if is_pause(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.line {
            Line::Clear(stream) => stream.write_all(bytes),
            Line::Secure(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Line::None => Err(ended()),
        }
    }

    /// Ends the connection if it was told to.
    fn ends(&mut self) -> io::Result<()> {
        let ending = *self.shared.ending.lock().unwrap();
        let Some((before, how)) = ending.filter(|(before, _)| self.connection < *before) else {
            return Ok(());
        };
        debug_assert!(before > 0);
        match how {
            End::Fin => {}
            End::Reset => {
                if let Line::Clear(stream) = &self.line {
                    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
                }
            }
            End::Silence => {
                while !self.shared.over.load(SeqCst) {
                    std::thread::sleep(LOOK);
                }
            }
        }
        Err(ended())
    }

    fn is_secure(&self) -> bool {
        matches!(self.line, Line::Secure(_))
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
