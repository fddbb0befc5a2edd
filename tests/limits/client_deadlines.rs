//! A client that stalls or drips at any phase: design §5, every wait has a deadline. It is answered
//! `421 4.4.2` where it still reads, and its slot is free, while other mail flows.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{TEXT, await_count};
use crate::support::{PATIENCE, Server, ServerBuilder, Sink, SmtpClient};

/// The pace of a client that drips.
const PACE: Duration = Duration::from_millis(250);

fn impatient() -> ServerBuilder {
    Server::builder().setting("smtp-timeout", 1).setting("smtp-data-timeout", 2)
}

/// A client as it misbehaves.
pub(super) struct Slow {
    pub(super) stream: TcpStream,
    heard: Vec<u8>,
}

impl Slow {
    pub(super) fn connect(address: SocketAddr) -> Slow {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let heard = Vec::new();
        Slow { stream, heard }
    }

    /// Sends each line and waits until as many replies have come, the greeting first.
    pub(super) fn lockstep(address: SocketAddr, lines: &[&str]) -> Slow {
        let mut slow = Slow::connect(address);
        slow.await_replies(1);
        for (line, replies) in lines.iter().zip(2..) {
            slow.stream.write_all(line.as_bytes()).unwrap();
            slow.await_replies(replies);
        }
        slow
    }

    fn await_replies(&mut self, replies: usize) {
        while self.replies().len() < replies {
            let mut some = [0; 4096];
            let count = self.stream.read(&mut some).unwrap();
            assert!(count > 0, "closed: {}", self.text());
            self.heard.extend_from_slice(&some[..count]);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// The last lines of the replies heard so far.
    fn replies(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rsplit_once("\r\n").map_or("", |(whole, _)| whole);
        let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
        whole.split("\r\n").filter(last).map(str::to_owned).collect()
    }

    /// Reads to the end; the last reply.
    pub(super) fn end(mut self) -> String {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}: {}", self.text()),
        }
        self.heard.extend(rest);
        self.replies().pop().unwrap_or_default()
    }

    /// Sends one octet at a time until the other side is gone.
    pub(super) fn drip(mut self, octets: &[u8]) -> String {
        let begun = Instant::now();
        for octet in octets.iter().cycle() {
            if self.stream.write_all(&[*octet]).is_err() || self.gone() {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "never ended: {}", self.text());
        }
        self.end()
    }

    /// Waits one pace; whether the other side has said its last meanwhile.
    fn gone(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PACE)).unwrap();
        let mut some = [0; 4096];
        let read = self.stream.read(&mut some);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match read {
            Ok(0) => true,
            Ok(count) => {
                self.heard.extend_from_slice(&some[..count]);
                false
            }
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
        }
    }
}

const EHLO: &str = "EHLO slow.example\r\n";
const MAIL: &str = "MAIL FROM:<a@example.org>\r\n";
const RCPT: &str = "RCPT TO:<slow@example.net>\r\n";
const DATA: &str = "DATA\r\n";

/// Mail of others that flows while `work` runs: all of it must be taken.
fn beside_traffic<T>(server: &Server, work: impl FnOnce() -> T) -> (T, usize) {
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = server.smtp();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let mut client = SmtpClient::hello(address).unwrap();
                let reply = client.mail("a@example.org", "live@example.net", TEXT);
                reply.unwrap().require(250).unwrap();
                client.command("QUIT").unwrap().require(221).unwrap();
                sent.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let done = work();
        over.store(true, SeqCst);
        done
    });
    (done, sent.into_inner())
}

/// Every phase in which a client can fall silent or drip: 421 4.4.2 (RFC 5321 4.5.3.2.7).
#[test]
fn each_phase_of_a_client_has_its_deadline() {
    let plan = impatient();
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    let at = server.smtp();
    let upto = |lines: &[&str]| Slow::lockstep(at, lines);
    let silent_behind = |lines: &[&str], more: &[u8]| {
        let mut slow = upto(lines);
        slow.stream.write_all(more).unwrap();
        slow.end()
    };
    let phases: &[(&str, &(dyn Fn() -> String + Sync))] = &[
        ("silent from the start", &|| silent_behind(&[], b"")),
        ("half a command", &|| silent_behind(&[], b"EHL")),
        ("after EHLO", &|| silent_behind(&[EHLO], b"")),
        ("after MAIL", &|| silent_behind(&[EHLO, MAIL], b"")),
        ("after RCPT", &|| silent_behind(&[EHLO, MAIL, RCPT], b"RC")),
        ("after DATA", &|| silent_behind(&[EHLO, MAIL, RCPT, DATA], b"")),
        ("within the text", &|| {
            silent_behind(&[EHLO, MAIL, RCPT, DATA], b"Subject: slow\r\n\r\nte")
        }),
        ("within a chunk", &|| {
            silent_behind(&[EHLO, MAIL, RCPT], b"BDAT 100 LAST\r\nSubject: slow\r\n")
        }),
        ("a text that drips", &|| upto(&[EHLO, MAIL, RCPT, DATA]).drip(b"x")),
        ("a command that drips", &|| upto(&[EHLO]).drip(b"N")),
        ("a command without an end", &|| upto(&[]).drip(&[b'E'; 64])),
    ];
    let ((), live) = beside_traffic(&server, || {
        std::thread::scope(|scope| {
            for (name, phase) in phases {
                scope.spawn(move || {
                    let last = phase();
                    assert!(last.starts_with("421 4.4.2 "), "{name}: {last:?}");
                });
            }
        });
    });
    await_count(&server, "incoming_connections", 0);
    await_count(&server, "memory_used", 0);
    sink.await_count(live, PATIENCE);
    assert_eq!(sink.count_with("slow@example.net"), 0, "half a mail arrived");
}

/// After 221 the connection ends from our side, though the client keeps its own open.
#[test]
fn quit_without_closing_frees_the_slot() {
    let server = impatient().start();
    let mut quiet = Slow::lockstep(server.smtp(), &[EHLO, "QUIT\r\n"]);
    await_count(&server, "incoming_connections", 0);
    assert!(quiet.text().contains("\r\n221 2.0.0 "), "{}", quiet.text());
    assert!(quiet.gone());
}

/// No setting but the server's own patience ends these: they do not read the 221, do not close, and
/// have sent more behind their QUIT, of which some is still unread when the 221 leaves.
#[test]
fn quit_and_neither_reading_nor_closing_frees_the_slot() {
    let server = Server::builder().setting("smtp-timeout", 600).start();
    let kept: Vec<Slow> = [0, 1, 1 << 18, 1 << 18, 1 << 18, 1 << 18]
        .iter()
        .map(|lines| {
            let mut slow = Slow::lockstep(server.smtp(), &[EHLO]);
            let more = [b"QUIT\r\n".as_slice(), &b"NOOP\r\n".repeat(*lines)].concat();
            // The server may have closed before all of it is sent.
            let _ = slow.stream.write_all(&more);
            slow
        })
        .collect();
    await_count(&server, "incoming_connections", 0);
    await_count(&server, "memory_used", 0);
    for slow in kept {
        assert!(slow.end().starts_with("221 2.0.0 "), "it was there to be read all the time");
    }
}

/// The last reply of a client that never reads does not leave: the end of a server comes all the same,
/// though every setting would let it wait for longer than this test does.
#[test]
fn a_last_reply_that_cannot_leave_frees_the_slot() {
    let plan = Server::builder().setting("smtp-timeout", 600).setting("shutdown-timeout", 600);
    let mut server = plan.start();
    let mut deaf = Slow::connect(server.smtp());
    deaf.stream.set_write_timeout(Some(PACE)).unwrap();
    let many = b"NOOP\r\n".repeat(10_000);
    let begun = Instant::now();
    while deaf.stream.write_all(&many).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it swallows everything");
    }
    assert_eq!(server.status().count("incoming_connections"), 1);
    assert!(server.terminate().success());
    drop(deaf);
}

/// RFC 5321 4.1.1.10: the reply to QUIT arrives though more was sent behind it, which no reset may
/// destroy; and who goes on sending is cut off in the end.
#[test]
fn what_is_sent_behind_quit_does_not_destroy_the_221() {
    let server = impatient().start();
    for _ in 0..20 {
        let mut hasty = Slow::lockstep(server.smtp(), &[EHLO]);
        let more = [b"QUIT\r\n".as_slice(), &b"NOOP\r\n".repeat(20_000)].concat();
        // The server may close before it has seen all of this; what counts is what it said before.
        let sent = hasty.stream.write_all(&more);
        let _ = sent.and_then(|()| hasty.stream.shutdown(Shutdown::Write));
        let last = hasty.end();
        assert!(last.starts_with("221 "), "{last:?}");
    }
    let endless = Slow::lockstep(server.smtp(), &[EHLO]);
    let mut stream = endless.stream.try_clone().unwrap();
    stream.write_all(b"QUIT\r\nNOOP\r\n").unwrap();
    assert!(endless.drip(b"x").starts_with("221 "));
    await_count(&server, "incoming_connections", 0);
}

/// A client that never reads fills our output, and then nothing of it is read; its slot is freed.
#[test]
fn a_client_that_reads_nothing_is_cut() {
    let server = impatient().start();
    let mut deaf = Slow::connect(server.smtp());
    deaf.stream.set_write_timeout(Some(PACE)).unwrap();
    let many = b"NOOP\r\n".repeat(10_000);
    let begun = Instant::now();
    while deaf.stream.write_all(&many).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it swallows everything");
    }
    await_count(&server, "incoming_connections", 0);
    await_count(&server, "memory_used", 0);
    drop(deaf);
}

/// D-49a: what came before a half-close is answered, to the last whole line; a part of one is not.
#[test]
fn half_close_behind_pipelined_commands_is_answered_first() {
    let server = impatient().start();
    let rows: &[(&str, &str, &[&str])] = &[
        ("nothing", "", &["220"]),
        ("a part of a line", "NOO", &["220"]),
        ("whole lines", "NOOP\r\nNOOP\r\n", &["220", "250", "250"]),
        ("a part at the end", "NOOP\r\nNO", &["220", "250"]),
        (
            "a whole mail and a part",
            "EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nx\r\n.\r\nNO",
            &["220", "250", "250", "250", "354", "250"],
        ),
        (
            "half a mail",
            "EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.net>\r\nDATA\r\nx\r\n",
            &["220", "250", "250", "250", "354"],
        ),
    ];
    for (name, sent, codes) in rows {
        let mut slow = Slow::connect(server.smtp());
        slow.stream.write_all(sent.as_bytes()).unwrap();
        slow.stream.shutdown(Shutdown::Write).unwrap();
        slow.stream.read_to_end(&mut slow.heard).unwrap();
        let heard = slow.replies();
        let heard: Vec<&str> = heard.iter().map(|reply| &reply[..3]).collect();
        assert_eq!(heard, *codes, "{name}");
    }
    await_count(&server, "incoming_connections", 0);
    assert_eq!(server.queue_count(), 1, "only the whole mail is ours");
}
