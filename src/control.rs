//! The control socket: how other commands talk to a running server.
//!
//! Owns the protocol, `<queue-directory>/control`, and both of its ends. One request is one JSON
//! line; the answer is a line `{"row": ...}` for each row and then `{"end": rows}`, or
//! `{"error": "text"}`, so that an answer that was cut off is never taken for a whole one. One
//! request a connection, but one that takes results has a conversation of its own
//! ([`taking`](crate::taking)). Never acts on a request itself: a handler does.
//!
//! Diagnostics: [`ControlError`]. A client that is slow, sends too much or sends nonsense is told
//! so where possible and closed; that is its own problem and is not logged.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The socket's name in the queue directory.
pub const SOCKET_NAME: &str = "control";
/// Rows of one answer to [`Request::QueueList`]; a client asks again with `after` for more.
pub const ROWS_MAX: u32 = 10_000;
/// The longest request in bytes.
pub(crate) const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// The longest line of an answer in bytes: one message with all its recipients.
pub(crate) const ROW_BYTES_MAX: u64 = 64 << 20;
/// How long the server gives one client, from the request to the last row.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server waits after a failed accept, such as one for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What can be asked of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the server is: one row.
    Status,
    /// How much is in the queue: one row.
    QueueCount,
    /// Messages in the order of their ids: one row each.
    QueueList {
        /// Rows at most, not above [`ROWS_MAX`].
        limit: u32,
        /// The id after which to begin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Destinations, those with the most mail first: one row each.
    QueueDestinations {
        /// Rows at most, not above [`ROWS_MAX`].
        limit: u32,
    },
    /// All that is known of one message: one row, or none.
    QueueShow {
        /// The message's id.
        id: String,
    },
    /// Take entries of a named queue, oldest first: one row each, to be acknowledged on the same
    /// connection; see [`taking`](crate::taking).
    QueueTake {
        /// The queue.
        name: String,
        /// Entries at most.
        limit: u32,
    },
    /// Remove messages by hand: one row that counts them.
    QueueRemove {
        /// Ids of messages, or of transactions with all their messages.
        ids: Vec<String>,
    },
    /// Try waiting messages now: one row that counts them.
    QueueRetry {
        /// Which.
        which: Which,
    },
    /// Open logs again.
    Reopen,
    /// Read the settings again: one row that names what changed and what waits for a restart, or
    /// what is wrong with them.
    Reload,
    /// Take no mail any more, but deliver what is there.
    Drain,
    /// Take mail again.
    Resume,
    /// Stop as SIGTERM does.
    Stop,
}

/// Messages that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// All that wait.
    All,
    /// Those to recipients in this domain; case does not matter.
    RecipientDomain(String),
    /// These, or all of these transactions.
    Ids(Vec<String>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: no server runs on this queue directory.
    #[error("no server listens at {0}")]
    NoServer(PathBuf),
    /// The socket cannot be used; the administrator must act.
    #[error("the control socket {path} cannot be used")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The answer did not come in time, or the connection broke.
    #[error("the server's answer was cut off")]
    Cut(#[source] io::Error),
    /// The other side does not speak this protocol.
    #[error("the server's answer is not understood")]
    Strange,
    /// The server refuses.
    #[error("the server refuses: {0}")]
    Refused(String),
}

/// One line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    Row(Value),
    End(u64),
    Error(String),
}

/// Asks the server that runs on a queue directory. The whole answer must come within `wait`.
///
/// # Errors
/// No server, or one that could not be asked. The rows carry later failures; an iterator that
/// ends without one has given the whole answer.
pub fn ask(
    queue_directory: &Path,
    request: &Request,
    wait: Duration,
) -> Result<Answer, ControlError> {
    Ok(Answer { lines: Some(talk(queue_directory, request, wait)?), rows: 0 })
}

/// Sends a request and gives the connection, on which all must be over within `wait`.
pub(crate) fn talk(
    queue_directory: &Path,
    request: &Request,
    wait: Duration,
) -> Result<Conversation, ControlError> {
    let deadline = Instant::now() + wait;
    let path = queue_directory.join(SOCKET_NAME);
    let stream = UnixStream::connect(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoServer(path.clone())
        }
        _ => ControlError::Socket { path: path.clone(), source },
    })?;
    let mut stream = Timed { stream, deadline };
    send(&mut stream, request).map_err(ControlError::Cut)?;
    Ok(BufReader::new(stream))
}

/// The rows of an answer, as they come.
#[derive(Debug)]
pub struct Answer {
    /// Gone after the last row and after an error.
    lines: Option<BufReader<Timed>>,
    rows: u64,
}

impl Iterator for Answer {
    type Item = Result<Value, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = receive(self.lines.as_mut()?, ROW_BYTES_MAX);
        let item = match item {
            Ok(Line::Row(row)) => {
                self.rows += 1;
                return Some(Ok(row));
            }
            Ok(Line::End(rows)) if rows == self.rows => None,
            Ok(Line::End(_)) => Some(Err(ControlError::Strange)),
            Ok(Line::Error(text)) => Some(Err(ControlError::Refused(text))),
            Err(ReceiveError::Io(error)) => Some(Err(ControlError::Cut(error))),
            Err(ReceiveError::TooLong | ReceiveError::Nonsense(_)) => {
                Some(Err(ControlError::Strange))
            }
        };
        self.lines = None;
        item
    }
}

/// Acts on a request: an answer, or a sentence that says why not.
pub type Handler = Box<dyn FnMut(Request) -> Result<Reply, String> + Send>;

/// What a handler answers.
pub enum Reply {
    /// All of it.
    Rows(Vec<Value>),
    /// A conversation, to be had on a thread of its own.
    Conversation(Box<dyn FnOnce(Conversation) + Send>),
}

/// The server's end of a connection whose request was read.
pub type Conversation = BufReader<Timed>;

/// The server's end, with a thread of its own. Dropping it without [`stop`](Self::stop) leaves the
/// thread to the end of the process.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ControlServer {
    /// Listens in the queue directory, with mode 0600, in place of the socket of a server that
    /// died: the caller holds the directory's lock. Clients are served one after the other, each
    /// within 10 seconds.
    ///
    /// # Errors
    /// The socket cannot be made, or the thread not started.
    pub fn start(queue_directory: &Path, handler: Handler) -> Result<Self, ControlError> {
        let path = queue_directory.join(SOCKET_NAME);
        let failed = |source| ControlError::Socket { path: path.clone(), source };
        let listener = Arc::new(listen(&path).map_err(failed)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (listener, stopping) = (Arc::clone(&listener), Arc::clone(&stopping));
            let builder = std::thread::Builder::new().name("control".into());
            builder.spawn(move || serve(&listener, &stopping, handler)).map_err(failed)?
        };
        Ok(Self { path, listener, stopping, thread })
    }

    /// Stops listening, waits for the client that is being served, and removes the socket.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept; an error would mean that it is awake already.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        // A handler that panicked has printed why.
        let _ = self.thread.join();
        // If it is gone, somebody else removed it, which is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds under another name first, so that the socket has its mode before anybody can find it.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

fn serve(listener: &UnixListener, stopping: &AtomicBool, mut handler: Handler) {
    while !stopping.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stream = Timed { stream, deadline: Instant::now() + CLIENT_TIMEOUT };
                // The client sees that its answer was cut off; nobody else needs to know.
                let _ = answer(stream, &mut handler);
            }
            Err(_) if stopping.load(Ordering::SeqCst) => {}
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Serves one client.
fn answer(stream: Timed, handler: &mut Handler) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let answer = match receive(&mut stream, REQUEST_BYTES_MAX) {
        Ok(request) => match handler(request) {
            Ok(Reply::Rows(rows)) => Ok(rows),
            Ok(Reply::Conversation(talk)) => {
                let thread = std::thread::Builder::new().name("taker".into());
                return thread.spawn(move || talk(stream)).map(drop);
            }
            Err(text) => Err(text),
        },
        Err(ReceiveError::Io(error)) => return Err(error),
        Err(ReceiveError::TooLong) => {
            Err(format!("a request has at most {REQUEST_BYTES_MAX} bytes"))
        }
        Err(ReceiveError::Nonsense(error)) => Err(format!("this is not a request: {error}")),
    };
    give(stream, answer)
}

/// Ends a conversation with an answer.
pub(crate) fn give(mut stream: Conversation, answer: Result<Vec<Value>, String>) -> io::Result<()> {
    let mut out = BufWriter::new(stream.get_mut());
    let last = match answer {
        Ok(rows) => {
            let count = rows.len() as u64;
            rows.into_iter().try_for_each(|row| send(&mut out, &Line::Row(row)))?;
            Line::End(count)
        }
        Err(text) => Line::Error(text),
    };
    send(&mut out, &last)?;
    out.flush()?;
    drop(out);
    // Bytes that were not read would make the kernel reset the connection and lose the answer.
    stream.get_ref().stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream.take(REQUEST_BYTES_MAX * 16), &mut io::sink()).map(drop)
}

pub(crate) fn send(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    out.write_all(&text)
}

pub(crate) enum ReceiveError {
    Io(io::Error),
    TooLong,
    Nonsense(serde_json::Error),
}

/// Reads one line of bounded length.
pub(crate) fn receive<T: serde::de::DeserializeOwned>(
    input: &mut impl BufRead,
    bytes_max: u64,
) -> Result<T, ReceiveError> {
    let mut line = Vec::new();
    input.take(bytes_max).read_until(b'\n', &mut line).map_err(ReceiveError::Io)?;
    match line.last() {
        Some(b'\n') => serde_json::from_slice(&line).map_err(ReceiveError::Nonsense),
        _ if line.len() as u64 == bytes_max => Err(ReceiveError::TooLong),
        _ => Err(ReceiveError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// A stream whose reads and writes all end by one deadline.
#[derive(Debug)]
pub struct Timed {
    stream: UnixStream,
    deadline: Instant,
}

impl Timed {
    /// Gives everything from now on until `deadline`.
    pub(crate) fn extend(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use serde_json::json;

    use super::*;

    /// Far beyond what a test needs; it only ends tests that hang.
    const WAIT: Duration = Duration::from_secs(60);

    /// A directory of one test's own, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("rohrpost-control-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn echo(request: Request) -> Result<Reply, String> {
        rows_of(request).map(Reply::Rows)
    }

    fn rows_of(request: Request) -> Result<Vec<Value>, String> {
        match request {
            Request::QueueList { limit, after } => {
                Ok((0..limit).map(|row| json!({ "id": row, "after": after })).collect())
            }
            Request::QueueShow { id } => Err(format!("no message {id}")),
            Request::QueueTake { .. }
            | Request::QueueRemove { .. }
            | Request::QueueRetry { .. }
            | Request::Reopen
            | Request::Reload
            | Request::Drain
            | Request::Resume => Ok(vec![]),
            Request::Status
            | Request::QueueCount
            | Request::QueueDestinations { .. }
            | Request::Stop => Ok(vec![json!("row")]),
        }
    }

    fn rows(directory: &Directory, request: &Request) -> Vec<Value> {
        let answer = ask(&directory.0, request, WAIT).unwrap();
        answer.collect::<Result<_, _>>().unwrap()
    }

    /// What the server answers to raw bytes.
    fn raw(directory: &Directory, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(directory.0.join(SOCKET_NAME)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn requests_are_answered_row_by_row() {
        let directory = Directory::new("rows");
        let server = ControlServer::start(&directory.0, Box::new(echo)).unwrap();
        assert_eq!(rows(&directory, &Request::Status), [json!("row")]);
        assert_eq!(rows(&directory, &Request::Reopen), Vec::<Value>::new());
        let list = Request::QueueList { limit: ROWS_MAX, after: Some("7".into()) };
        let listed = rows(&directory, &list);
        assert_eq!(listed.len(), ROWS_MAX as usize);
        assert_eq!(listed[9], json!({ "id": 9, "after": "7" }));
        let show = Request::QueueShow { id: "5".into() };
        let error = ask(&directory.0, &show, WAIT).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the server refuses: no message 5");
        server.stop();
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_the_server() {
        let directory = Directory::new("mode");
        let path = directory.0.join(SOCKET_NAME);
        // What a server that died has left behind is replaced.
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(path.with_extension("new")).unwrap());
        let gone = ask(&directory.0, &Request::Status, WAIT).unwrap_err();
        assert!(matches!(gone, ControlError::NoServer(_)));
        let server = ControlServer::start(&directory.0, Box::new(echo)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        server.stop();
        assert!(!path.exists());
        let gone = ask(&directory.0, &Request::Status, WAIT).unwrap_err();
        assert!(matches!(gone, ControlError::NoServer(_)));
    }

    #[test]
    fn nonsense_is_refused_and_the_next_client_is_served() {
        let directory = Directory::new("nonsense");
        let server = ControlServer::start(&directory.0, Box::new(echo)).unwrap();
        let long = [b'x'; REQUEST_BYTES_MAX as usize * 2];
        let cases: &[(&[u8], &str)] = &[
            (b"hello\n", "this is not a request"),
            (b"{\"request\":\"fly\"}\n", "unknown variant"),
            (b"{\"request\":\"queue-show\"}\n", "missing field"),
            (b"{\"request\":\"queue-list\",\"limit\":-1}\n", "this is not a request"),
            (b"\xff\n", "this is not a request"),
            (&long, "at most 65536 bytes"),
        ];
        for (bytes, part) in cases {
            let text = raw(&directory, bytes);
            assert!(text.starts_with("{\"error\":") && text.contains(part), "{text}");
        }
        assert_eq!(raw(&directory, b""), "");
        assert_eq!(raw(&directory, b"{\"request\":\"status\"}"), "");
        assert_eq!(rows(&directory, &Request::QueueCount).len(), 1);
        server.stop();
    }

    #[test]
    fn an_answer_that_is_cut_off_is_not_taken_for_a_whole_one() {
        let cases: &[(&[u8], bool)] = &[
            (b"{\"row\":1}\n{\"end\":1}\n", true),
            (b"{\"row\":1}\n", false),
            (b"{\"row\":1}\n{\"en", false),
            (b"{\"row\":1}\n{\"end\":2}\n", false),
            (b"{\"row\":1}\nhello\n", false),
        ];
        for (bytes, whole) in cases {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(bytes).unwrap();
            drop(theirs);
            let stream = Timed { stream: ours, deadline: Instant::now() + WAIT };
            let mut answer = Answer { lines: Some(BufReader::new(stream)), rows: 0 };
            assert_eq!(answer.next().unwrap().unwrap(), json!(1));
            assert_eq!(answer.next().is_none(), *whole);
            assert!(answer.next().is_none());
        }
    }

    #[test]
    fn a_deadline_that_has_passed_ends_the_answer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let stream = Timed { stream: ours, deadline: Instant::now() };
        let mut answer = Answer { lines: Some(BufReader::new(stream)), rows: 0 };
        assert!(matches!(answer.next(), Some(Err(ControlError::Cut(_)))));
        assert!(answer.next().is_none());
    }

    #[test]
    fn the_words_of_the_protocol_are_fixed() {
        let cases = [
            (Request::Status, r#"{"request":"status"}"#),
            (Request::QueueCount, r#"{"request":"queue-count"}"#),
            (Request::QueueList { limit: 1, after: None }, r#"{"request":"queue-list","limit":1}"#),
            (
                Request::QueueDestinations { limit: 1 },
                r#"{"request":"queue-destinations","limit":1}"#,
            ),
            (Request::QueueShow { id: "a".into() }, r#"{"request":"queue-show","id":"a"}"#),
            (Request::Reopen, r#"{"request":"reopen"}"#),
            (Request::Reload, r#"{"request":"reload"}"#),
            (Request::Drain, r#"{"request":"drain"}"#),
            (Request::Resume, r#"{"request":"resume"}"#),
            (Request::Stop, r#"{"request":"stop"}"#),
        ];
        for (request, text) in cases {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
    }
}
