//! `http_policy.c`: libcurl's multi interface with its sockets and timeouts in `MQ_ioWatch` and
//! `MQ_startTimer`, against a service of our own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::{
    examples::with_plugins,
    support::{PATIENCE, Reply, Sanitizer, ServerBuilder, SmtpClient, eventually, fresh_port},
};

/// An HTTP/1.1 service that judges by the name of the recipient, and keeps connections open. Its threads
/// end with the test process; nothing waits for them.
struct Service {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

impl Service {
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (connections, questions) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (accepted, asked) = (connections.clone(), questions.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepted.fetch_add(1, Relaxed);
                let asked = asked.clone();
                std::thread::spawn(move || serve(stream, &asked));
            }
        });
        Service { address, connections, questions }
    }

    fn url(&self) -> String {
        format!("http://{}/policy", self.address)
    }
}

/// Answers one connection to its end.
fn serve(stream: TcpStream, asked: &AtomicUsize) {
    let mut answers = stream.try_clone().expect("a socket can be shared");
    answers.set_nodelay(true).expect("a socket can be set so");
    let mut reader = BufReader::new(stream);
    while let Some(form) = question(&mut reader) {
        asked.fetch_add(1, Relaxed);
        let recipient = form.split("recipient=").nth(1).unwrap_or_default();
        let (status, body) = match recipient.split(['-', '%']).next().unwrap_or_default() {
            "mute" => continue,
            "cut" => return,
            "bad" => ("403 Forbidden", format!("not {recipient}\nsecond line")),
            "later" => ("503 Service Unavailable", "x".repeat(100_000)),
            "empty" => ("404 Not Found", String::new()),
            _ => ("200 OK", "welcome".to_owned()),
        };
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (head, tail) = text.as_bytes().split_at(20);
        if answers.write_all(head).and_then(|()| answers.write_all(tail)).is_err() {
            return;
        }
    }
}

/// Reads one request; its body.
fn question(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut size = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            size = value.trim().parse().ok();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; size?];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn asking(url: &str, sanitizer: Sanitizer) -> ServerBuilder {
    with_plugins(&["http_policy"], sanitizer)
        .environment("HTTP_POLICY_URL", url)
        .environment("HTTP_POLICY_SECONDS", "60")
        .setting("smtp-errors", 1_000)
        .setting("local-domains", "example.net")
        // Of the test run's own environment nothing may lead elsewhere.
        .environment("http_proxy", "http://127.0.0.1:1")
}

fn judged(client: &mut SmtpClient, recipient: &str) -> Reply {
    client.command(&format!("RCPT TO:<{recipient}@example.net>")).unwrap()
}

fn sender(address: SocketAddr) -> SmtpClient {
    let mut client = SmtpClient::hello(address).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client
}

/// D-3D: the status decides, and the first line of the body is told. One connection carries all questions
/// of a worker that come one after the other.
#[test]
fn d_3d_the_status_of_the_answer_decides_over_one_connection() {
    let service = Service::start();
    let mut server = asking(&service.url(), Sanitizer::Off).setting("smtp-threads", 1).start();
    let mut client = sender(server.smtp());
    let text = |reply: &Reply| reply.lines.join("|");
    for round in 0..5 {
        assert_eq!(judged(&mut client, "good").code, 250);
        let bad = judged(&mut client, "bad-one");
        assert_eq!(
            (bad.code, &*text(&bad)),
            (550, "5.7.1 not bad-one%40example.net"),
            "round {round}"
        );
        let later = judged(&mut client, "later");
        assert_eq!(later.code, 450);
        assert!(text(&later).starts_with("4.7.1 xxx") && text(&later).len() < 512, "{later:?}");
        let empty = judged(&mut client, "empty");
        assert_eq!(empty.code, 550);
    }
    assert_eq!(service.questions.load(Relaxed), 20);
    assert_eq!(service.connections.load(Relaxed), 1, "kept open");
    // One that the service ends without a word is no answer.
    assert_eq!(judged(&mut client, "cut").code, 250);
    server.process().await_complaint(PATIENCE, "no answer, going on without");
    assert_eq!(judged(&mut client, "good").code, 250);
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-3C: a plugin of a later generation is shown what the client may not send to, and tells nobody of it.
#[test]
fn d_3c_the_service_hears_nothing_of_what_is_no_mail_for_here() {
    let service = Service::start();
    let mut server =
        asking(&service.url(), Sanitizer::Off).setting("smtp-relay-range", "192.0.2.0/24").start();
    let mut client = sender(server.smtp());
    for recipient in ["good@elsewhere.example", "bad@elsewhere.example", "later@elsewhere.example"]
    {
        let refused = client.command(&format!("RCPT TO:<{recipient}>")).unwrap();
        assert_eq!((refused.code, &refused.lines[0][..5]), (550, "5.7.1"), "{recipient}");
    }
    assert_eq!(service.questions.load(Relaxed), 0);
    assert_eq!(judged(&mut client, "good").code, 250);
    assert_eq!(service.questions.load(Relaxed), 1);
    drop(client);
    assert!(server.terminate().success());
}

/// A service that says nothing, or is not there, costs time and no mail.
#[test]
fn without_an_answer_recipients_are_accepted() {
    let service = Service::start();
    let mut server = asking(&service.url(), Sanitizer::Address)
        .environment("HTTP_POLICY_SECONDS", "0.3")
        .start();
    let mut client = sender(server.smtp());
    assert_eq!(judged(&mut client, "mute").code, 250);
    server.process().await_complaint(PATIENCE, "timed out");
    assert_eq!(judged(&mut client, "good").code, 250);
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());

    let url = format!("http://{}/", fresh_port());
    let mut server = asking(&url, Sanitizer::Address).start();
    assert_eq!(judged(&mut sender(server.smtp()), "bad").code, 250);
    server.process().await_complaint(PATIENCE, "no answer, going on without");
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-10, D-27, D-49: many questions at a time on several workers; clients leave while theirs are open, the
/// server takes one back, and a stop finds some. AddressSanitizer watches.
#[test]
fn d_10_d_49_questions_are_kept_apart_under_load_and_asan() {
    const CLIENTS: usize = 20;
    let service = Service::start();
    let mut server = asking(&service.url(), Sanitizer::Address)
        .setting("smtp-threads", 3)
        .setting("plugin-timeout", "4s")
        .setting("plugin-shutdown-timeout", 1)
        .start();
    let address = server.smtp();
    let mut staying = sender(address);
    staying.send(b"RCPT TO:<mute-stays@example.net>\r\n").unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = sender(address);
                for round in 0..10 {
                    let good = (number + round) % 3 != 0;
                    let recipient =
                        format!("{}-{number}-{round}", if good { "good" } else { "bad" });
                    let reply = judged(&mut client, &recipient);
                    assert_eq!(reply.code, if good { 250 } else { 550 }, "{recipient}");
                    if !good {
                        assert!(reply.lines[0].contains(&recipient), "{recipient}: {reply:?}");
                    }
                }
                client.send(b"RCPT TO:<mute-leaves@example.net>\r\n").unwrap();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    // D-27: the server took it back; the plugin learns so when the connection is closed.
    staying.reply().unwrap().require(451).unwrap();
    drop(staying);
    eventually("the end of all connections", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
    assert!(
        service.connections.load(Relaxed) < service.questions.load(Relaxed) / 2,
        "connections are used again"
    );
    let mut last = sender(address);
    last.send(b"RCPT TO:<mute-last@example.net>\r\n").unwrap();
    eventually("the last question", PATIENCE, || {
        (server.status().count("held") == 1).then_some(())
    });
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}
