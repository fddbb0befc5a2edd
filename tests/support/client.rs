//! A plain blocking SMTP client: bytes out, lines in, every read with a deadline.
//!
//! It speaks in clear or under TLS. It owns one connection and understands replies (RFC 5321 4.2), nothing else: a test that sends
//! nonsense must be able to. **Diagnostics**: a reply that is late, missing or other than expected
//! panics with the dialogue so far.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Socket, Type};

/// How long a reply may take.
const REPLY_SECONDS_MAX: u64 = 30;

/// RFC 5321 4.5.3.1.5 allows 512 octets; a longer line is a bug of the server.
const REPLY_LINE_BYTES_MAX: u64 = 4096;

/// How much of a dialogue a panic shows.
const TRANSCRIPT_BYTES_MAX: usize = 16 << 10;

/// One reply, of one or several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    /// The text of each line, without code and separator.
    pub(crate) lines: Vec<String>,
}

/// One connection, in clear or under TLS.
#[derive(Debug)]
enum Stream {
    Clear(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Clear(socket) => socket,
            Stream::Secure(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(socket) => socket.read(buffer),
            Stream::Secure(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(socket) => socket.write(bytes),
            Stream::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.flush(),
            Stream::Secure(stream) => stream.flush(),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct SmtpClient {
    stream: BufReader<Stream>,
    transcript: String,
}

impl SmtpClient {
    /// Connects; the banner is still to be read.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<SmtpClient> {
        let patience = Duration::from_secs(REPLY_SECONDS_MAX);
        SmtpClient::over(TcpStream::connect_timeout(&address, patience)?)
    }

    /// The same from an address of this machine that the caller picks.
    pub(crate) fn connect_from(own: IpAddr, address: SocketAddr) -> io::Result<SmtpClient> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        socket.connect_timeout(&address.into(), Duration::from_secs(REPLY_SECONDS_MAX))?;
        SmtpClient::over(socket.into())
    }

    fn over(stream: TcpStream) -> io::Result<SmtpClient> {
        stream.set_read_timeout(Some(Duration::from_secs(REPLY_SECONDS_MAX)))?;
        stream.set_write_timeout(Some(Duration::from_secs(REPLY_SECONDS_MAX)))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::new(Stream::Clear(stream));
        Ok(SmtpClient { stream, transcript: String::new() })
    }

    /// Connects, reads the banner and says EHLO.
    pub(crate) fn hello(address: SocketAddr) -> io::Result<SmtpClient> {
        SmtpClient::connect(address)?.greeted()
    }

    /// Reads the banner and says EHLO.
    pub(crate) fn greeted(mut self) -> io::Result<SmtpClient> {
        self.reply()?.require(220)?;
        self.command("EHLO client.example")?.require(250)?;
        Ok(self)
    }

    /// Says STARTTLS and does the handshake; EHLO is still to be said.
    pub(crate) fn starttls(self, config: &Arc<ClientConfig>, name: &str) -> io::Result<SmtpClient> {
        let mut client = self;
        client.command("STARTTLS")?.require(220)?;
        client.handshake(config, name)
    }

    /// Does the handshake now.
    pub(crate) fn handshake(
        self,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<SmtpClient> {
        let SmtpClient { stream, mut transcript } = self;
        if !stream.buffer().is_empty() {
            return Err(io::Error::other("the server said something before the handshake"));
        }
        let Stream::Clear(mut socket) = stream.into_inner() else {
            return Err(io::Error::other("TLS is there already"));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection =
            ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let _ = writeln!(transcript, "TLS {:?}", connection.protocol_version());
        let stream = Stream::Secure(Box::new(StreamOwned::new(connection, socket)));
        Ok(SmtpClient { stream: BufReader::new(stream), transcript })
    }

    /// The state of TLS, once there is one.
    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        match self.stream.get_ref() {
            Stream::Clear(_) => None,
            Stream::Secure(stream) => Some(&stream.conn),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note("C", &bytes.escape_ascii().to_string());
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends one line and reads one reply.
    pub(crate) fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends one mail; `content` has its lines ended and dots stuffed already, and no final dot. Returns the
    /// reply that decided: the first refusal, or the reply to the final dot.
    pub(crate) fn mail(
        &mut self,
        sender: &str,
        recipient: &str,
        content: &[u8],
    ) -> io::Result<Reply> {
        let commands = [format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{recipient}>")];
        for command in commands.iter().map(String::as_str).chain(["DATA"]) {
            let reply = self.command(command)?;
            if reply.code >= 400 {
                return Ok(reply);
            }
        }
        self.send(content)?;
        self.command(".")
    }

    /// Reads one line, which must end in CRLF. The end of the stream is an error.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(REPLY_LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        self.note("S", &line.escape_ascii().to_string());
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(io::Error::other("a reply line does not end in CRLF, or never ends")),
        }
    }

    /// Reads one reply.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let (code, text, last) = parse_line(&line)
                .ok_or_else(|| io::Error::other(format!("not a reply line: {line:?}")))?;
            lines.push(text);
            if last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Reads until the server has closed; whatever else it says first is an error.
    pub(crate) fn await_close(&mut self) -> io::Result<()> {
        match self.line() {
            Ok(line) => Err(io::Error::other(format!("expected the end, got {line:?}"))),
            Err(error) if ended(error.kind()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends our direction; replies can still be read.
    pub(crate) fn half_close(&mut self) -> io::Result<()> {
        self.note("C", "(half-close)");
        self.stream.get_ref().socket().shutdown(Shutdown::Write)
    }

    /// Ends the connection so that the other side sees a reset, not an end.
    pub(crate) fn reset(self) {
        rustix::net::sockopt::set_socket_linger(
            self.stream.get_ref().socket(),
            Some(Duration::ZERO),
        )
        .expect("a socket can be told how to end");
    }

    /// The dialogue so far, its end if it is long.
    pub(crate) fn transcript(&self) -> &str {
        let from = self.transcript.len().saturating_sub(TRANSCRIPT_BYTES_MAX);
        &self.transcript[self.transcript.ceil_char_boundary(from)..]
    }

    fn note(&mut self, who: &str, text: &str) {
        let shown = &text[..text.len().min(400)];
        let _ = writeln!(self.transcript, "{who}: {shown}");
        if self.transcript.len() > 4 * TRANSCRIPT_BYTES_MAX {
            self.transcript = self.transcript().to_owned();
        }
    }
}

/// A peer that is gone shows as one of two, depending on what was still unread.
fn ended(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

impl Reply {
    /// Passes the reply on if it has `code`; otherwise an error that shows it.
    pub(crate) fn require(self, code: u16) -> io::Result<Reply> {
        if self.code == code {
            return Ok(self);
        }
        Err(io::Error::other(format!("expected {code}, got {self:?}")))
    }
}

/// `250-text` or `250 text` into code, text and whether it is the last line (RFC 5321 4.2.1).
pub(crate) fn parse_line(line: &str) -> Option<(u16, String, bool)> {
    let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))?;
    let last = match line.as_bytes().get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    Some((code.parse().ok()?, line.get(4..).unwrap_or_default().to_owned(), last))
}

#[test]
fn reply_lines_are_parsed_by_their_separator() {
    assert_eq!(parse_line("250-SIZE 10"), Some((250, "SIZE 10".to_owned(), false)));
    assert_eq!(parse_line("250 OK"), Some((250, "OK".to_owned(), true)));
    assert_eq!(parse_line("354"), Some((354, String::new(), true)));
    for line in ["", "25", "2x0 no", "250_no"] {
        assert_eq!(parse_line(line), None, "{line}");
    }
}
