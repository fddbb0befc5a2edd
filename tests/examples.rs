//! The plugins in `examples/plugins`, built as their README says and run in the real server: what a
//! reader copies must work. The policy service is one of our own, on a thread, with an end.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::login::{base64, plain};
use crate::support::{
    Library, PATIENCE, Process, Sanitizer, Server, ServerBuilder, Sink, SmtpClient, Tool,
    asan_library, eventually, fresh_port,
};

const TEXT: &[u8] = b"Subject: stub\r\n\r\nAs it was handed in.\r\n";

/// Builds those examples with their Makefile, all if none is named, and gives them to the server.
pub(crate) fn with_plugins(names: &[&str], sanitizer: Sanitizer) -> ServerBuilder {
    let plan = Server::builder();
    let (built, plugins) = (plan.directory().join("built"), plan.directory().join("plugins"));
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugins"))
        .arg(format!("OUTPUT={}", built.display()))
        .args(["CFLAGS=-O1 -g -Werror", "CXXFLAGS=-O1 -g -Werror"])
        .arg(format!("CPPFLAGS={}", Library::headers().join(" ")))
        .arg(format!("LDFLAGS={}", Library::places().join(" ")))
        // A make above us (`make test`) must not hand its own options down.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .args(names.iter().map(|name| format!("{}/{name}.so", built.display())));
    if sanitizer == Sanitizer::Address {
        make.arg("SANITIZE=address");
    }
    let mut make = Process::spawn("make", &mut make);
    assert!(make.wait(PATIENCE).success(), "{make}");
    std::fs::create_dir(&plugins).expect("a new directory can be written");
    for name in names {
        let file = format!("{name}.so");
        std::fs::copy(built.join(&file), plugins.join(&file)).expect("make has built it");
    }
    let plan = plan.setting("plugin-directory", plugins.display());
    match sanitizer {
        Sanitizer::Off => plan,
        Sanitizer::Address => plan
            .environment("LD_PRELOAD", asan_library())
            .environment("ASAN_OPTIONS", "detect_leaks=0"),
    }
}

/// A policy service: `OK` for recipients that begin with `good`, nothing ever for those that begin with
/// `mute`, an answer of their own for `later`, `code` and `drop`, `REJECT` for others. Dropping it ends its thread.
struct Service {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
        let address = listener.local_addr().expect("a bound socket has an address");
        let questions = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, stopped) = (Arc::clone(&questions), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let stream = stream.expect("a connection can be taken");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket can have a timeout");
                // A server that was killed in the middle of a question is not our failure.
                let Some((sender, recipient)) = question(&stream) else {
                    continue;
                };
                let pair = format!("{sender} to {recipient}");
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
                match recipient.split(['-', '@']).next() {
                    Some("mute") => open.push(stream),
                    // The plugin may have given up meanwhile.
                    Some("good") => drop(answer(stream, b"OK")),
                    Some("later") => drop(answer(stream, b"DEFER_IF_PERMIT not now")),
                    Some("code") => drop(answer(stream, b"552 too much")),
                    Some("drop") => drop(answer(stream, b"DISCARD")),
                    _ => drop(answer(stream, b"REJECT not you")),
                }
            }
        });
        Service { address, questions, stop, thread: Some(thread) }
    }

    /// The pairs that were asked about, in order, as `SENDER to RECIPIENT`.
    fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes it from its accept.
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(ended, Some(Ok(()))),
            "the policy service panicked"
        );
    }
}

/// Reads one question to its empty line; the sender and the recipient in it.
fn question(stream: &TcpStream) -> Option<(String, String)> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    assert!(lines.is_empty() || lines.contains(&"protocol_state=RCPT".to_owned()));
    let value = |name| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    Some((value("sender=")?, value("recipient=")?))
}

/// Answers in two writes, which the plugin must put together.
fn answer(mut stream: TcpStream, action: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"action=")?;
    // Gives the first piece time to be read alone; the test holds without it.
    std::thread::sleep(Duration::from_millis(2));
    stream.write_all(action)?;
    stream.write_all(b"\n\n")
}

/// Where refused mail goes.
const QUARANTINE: &str = "quarantine@example.org";

/// A server with the policy plugin, which waits for answers as long as a test may take.
fn with_policy(service: SocketAddr, sanitizer: Sanitizer) -> ServerBuilder {
    with_plugins(&["policy"], sanitizer)
        .environment("POLICY_ADDRESS", service.to_string())
        .environment("POLICY_SECONDS", "60")
        .environment("POLICY_QUARANTINE", QUARANTINE)
}

/// Sends one mail to all of them, which must be taken.
pub(crate) fn mail_to(client: &mut SmtpClient, sender: &str, recipients: &[&str]) {
    let mut ask = |line: &str, code| client.command(line).and_then(|reply| reply.require(code));
    ask(&format!("MAIL FROM:<{sender}>"), 250).unwrap();
    for recipient in recipients {
        ask(&format!("RCPT TO:<{recipient}@example.net>"), 250).unwrap();
    }
    ask("DATA", 354).unwrap();
    ask("Subject: stub\r\n\r\nAs it was handed in.\r\n.", 250).unwrap();
}

/// The questions about one sender and these recipients.
fn pairs(sender: &str, recipients: &[&str]) -> Vec<String> {
    let pair = |recipient: &&str| format!("{sender} to {recipient}@example.net");
    recipients.iter().map(pair).collect()
}

/// How many mails that a sink took hold `text`; a line end in it is `\r\n`, as the dump has it.
fn mails_with(sink: &Sink, text: &str) -> usize {
    String::from_utf8_lossy(&sink.dumped()).lines().filter(|mail| mail.contains(text)).count()
}

#[test]
fn every_example_is_built() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugins");
    let plan = with_plugins(&[], Sanitizer::Off);
    for source in std::fs::read_dir(folder).unwrap().flatten() {
        let path = source.path();
        if path.extension().is_some_and(|extension| extension == "c" || extension == "cpp") {
            let name = Path::new(path.file_stem().unwrap()).with_extension("so");
            assert!(plan.directory().join("built").join(&name).exists(), "{}", name.display());
        }
    }
}

/// The version check and mq_initialize (plugin-api 5), and MQ_log: the least a plugin can do.
#[test]
fn minimal_is_loaded_and_logs() {
    let mut server = with_plugins(&["minimal"], Sanitizer::Off).start();
    server.process().await_complaint(PATIENCE, "[plugin] minimal: loaded");
    assert!(server.terminate().success());
}

/// D-43: the hook of each recipient sees and changes its own text; D-64: what it sets is stored.
#[test]
fn d_43_stamp_puts_its_field_on_top_for_each_recipient() {
    let plan = with_plugins(&["stamp"], Sanitizer::Off);
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for (command, code) in [
        ("MAIL FROM:<s@x.org>", 250),
        ("RCPT TO:<a@x.net>", 250),
        ("RCPT TO:<b@x.net>", 250),
        ("DATA", 354),
    ] {
        client.command(command).unwrap().require(code).unwrap();
    }
    client.send(TEXT).unwrap();
    client.command(".").unwrap().require(250).unwrap();
    sink.await_count(2, PATIENCE);
    for recipient in ["a@x.net", "b@x.net"] {
        let field = format!("X-Rohrpost-Example: stamp.c saw this mail for {recipient}");
        assert_eq!(mails_with(&sink, &field), 1, "{recipient}");
    }
    assert_eq!(mails_with(&sink, "As it was handed in."), 2);
}

/// D-41, D-64: each recipient of a sender is asked about once in a connection, and the answer decides
/// where each of its mails goes.
#[test]
fn d_64_policy_asks_once_for_each_recipient_and_sends_what_is_refused_elsewhere() {
    let service = Service::start();
    let plan = with_policy(service.address, Sanitizer::Off);
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    mail_to(&mut client, "a@example.org", &["good-1", "bad-1", "good-2", "bad-1"]);
    let first = pairs("a@example.org", &["good-1", "bad-1", "good-2"]);
    assert_eq!(service.questions(), first, "the fourth is known");
    // The next mail of the connection: only what is new.
    mail_to(&mut client, "a@example.org", &["good-1", "bad-1", "bad-2"]);
    let second = [first, pairs("a@example.org", &["bad-2"])].concat();
    assert_eq!(service.questions(), second);
    // Another sender, even the null sender, and another connection know nothing of it.
    mail_to(&mut client, "", &["bad-1"]);
    let mut other = SmtpClient::hello(server.smtp()).unwrap();
    mail_to(&mut other, "a@example.org", &["good-1"]);
    let third = [second, pairs("", &["bad-1"]), pairs("a@example.org", &["good-1"])].concat();
    assert_eq!(service.questions(), third);

    server.await_empty_queue(PATIENCE);
    for (recipient, mails) in [
        ("good-1@example.net", 3),
        ("good-2@example.net", 1),
        ("bad-1@", 0),
        ("bad-2@", 0),
        (QUARANTINE, 5),
    ] {
        assert_eq!(sink.count_with(recipient), mails, "{recipient}");
    }
}

/// D-3D, D-73: without a quarantine the client hears what the service decides, each time it names the
/// recipient. AddressSanitizer watches.
#[test]
fn d_3d_d_73_policy_tells_the_client_what_the_service_decides() {
    let service = Service::start();
    let plan = with_plugins(&["policy"], Sanitizer::Address)
        .environment("POLICY_ADDRESS", service.address.to_string())
        .environment("POLICY_SECONDS", "60");
    let server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for _ in 0..2 {
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        for (name, code, text) in [
            ("good", 250, "2.1.5 Recipient ok"),
            ("bad", 550, "5.7.1 not you"),
            ("later", 451, "4.7.1 not now"),
            ("code", 552, "5.7.1 too much"),
            ("drop", 250, "2.1.5 Recipient ok"),
        ] {
            let reply = client.command(&format!("RCPT TO:<{name}@example.net>")).unwrap();
            assert_eq!((reply.code, reply.lines.concat().as_str()), (code, text));
        }
        client.command("DATA").unwrap().require(354).unwrap();
        client.command("text\r\n.").unwrap().require(250).unwrap();
    }
    let asked = pairs("a@example.org", &["good", "bad", "later", "code", "drop"]);
    assert_eq!(service.questions(), asked, "each is asked about once");
    let status = server.status();
    assert_eq!((server.queue_count(), status.count("discarded")), (2, 2));
}

/// D-3C: a recipient that the server refuses is not asked about: a policy opens no relay.
#[test]
fn d_3c_policy_lets_nobody_relay() {
    let service = Service::start();
    let plan = with_policy(service.address, Sanitizer::Off);
    let server = plan.setting("smtp-relay-range", "192.0.2.0/24").start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client.command("RCPT TO:<good@example.net>").unwrap().require(550).unwrap();
    assert_eq!(service.questions(), [""; 0]);
}

/// D-10, D-49: many connections ask at the same time, and each gets its own answers; some hang up
/// while their question is open, and a stop finds them so. AddressSanitizer watches.
#[test]
fn d_10_d_49_policy_keeps_connections_apart_under_asan() {
    const CLIENTS: usize = 24;
    const LEAVING: usize = CLIENTS / 6;
    let service = Service::start();
    let plan = with_policy(service.address, Sanitizer::Address);
    let sink = Sink::start(&plan.directory().join("dump"));
    let plan = plan.smarthost(sink.address()).setting("plugin-shutdown-timeout", 1);
    let mut server = plan.start();
    let address = server.smtp();
    let clients = (0..CLIENTS).map(|number| {
        std::thread::spawn(move || {
            let mut client = SmtpClient::hello(address).unwrap();
            let sender = format!("s-{number}@example.org");
            let (good, bad) = (format!("good-{number}"), format!("bad-{number}"));
            for _ in 0..4 {
                mail_to(&mut client, &sender, &[&good, &bad]);
            }
            if number % 6 == 5 {
                let lines =
                    format!("MAIL FROM:<{sender}>\r\nRCPT TO:<mute-{number}@example.net>\r\n");
                client.send(lines.as_bytes()).unwrap();
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for client in clients {
        client.join().unwrap();
    }
    // All who leave have left, and the questions of some of them are open for as long as we want.
    let asked = 2 * CLIENTS + LEAVING;
    eventually("every question", PATIENCE, || (service.questions().len() == asked).then_some(()));
    server.await_empty_queue(PATIENCE);
    assert_eq!(sink.count_with("bad-"), 0);
    assert_eq!(sink.count_with(QUARANTINE), 4 * CLIENTS);
    for number in 0..CLIENTS {
        assert_eq!(sink.count_with(&format!("good-{number}@")), 4);
    }
    assert_eq!(server.status().count("held"), LEAVING as u64);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-34, D-39: the service that comes with the plugin judges logins; without it the server's own users
/// do.
#[test]
fn d_34_auth_asks_the_service_that_comes_with_it() {
    let plan = with_plugins(&["auth"], Sanitizer::Off);
    let users = plan.directory().join("users");
    std::fs::write(&users, "anna ge heim\n\ntim other\n").expect("a new directory can be written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugins/auth-service.py");
    let mut service = Tool::new("python3").arg(script).arg(&users).arg("0").listen();
    let plan = plan
        .environment("AUTH_ADDRESS", service.address.to_string())
        .environment("AUTH_SECONDS", "60")
        .setting("smtp-auth", "hardcoded://tim:geheim")
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
        .setting("smtp-auth-delay", 0);
    let mut server = plan.start();
    let log_in = |name: &str, password: &str, code| {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.command(&plain(name, password)).unwrap().require(code).unwrap();
        client
    };
    mail_to(&mut log_in("anna", "ge heim", 235), "a@example.org", &["b"]);
    log_in("anna", "geheim", 535);
    log_in("nobody", "geheim", 535);
    // The service knows another password, and what it says is final.
    log_in("tim", "geheim", 535);
    service.process.kill9();
    log_in("tim", "geheim", 235);
    log_in("anna", "ge heim", 535);
    server.process().await_complaint(PATIENCE, "logins go without an answer: Connection refused");
    assert!(server.terminate().success());
}

/// A service that says yes to whoever repeats its name as a password, the later question first, and
/// nothing to those that begin with `mute`.
fn stubborn_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
    let address = listener.local_addr().expect("a bound socket has an address");
    // It ends with the test process; nothing waits for it.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().expect("a socket can be shared"));
                let mut first: Option<String> = None;
                for line in lines.lines().map_while(Result::ok) {
                    let words: Vec<&str> = line.split(' ').collect();
                    if words[1].starts_with(&base64(b"mut")) {
                        continue;
                    }
                    let verdict = if words[1] == words[2] { "yes" } else { "no" };
                    let answer = format!("{} {verdict}\n", words[0]);
                    // In two pieces, which the plugin must put together.
                    match first.take() {
                        None => first = Some(answer),
                        Some(earlier) => {
                            let both = format!("{answer}{earlier}4711 yes\n");
                            let (head, tail) = both.split_at(3);
                            let _ = stream.write_all(head.as_bytes());
                            let _ = stream.write_all(tail.as_bytes());
                        }
                    }
                }
            });
        }
    });
    address
}

/// D-10, D-27, D-49: many logins share one connection to the service and each gets its own answer; some
/// clients leave while they wait, some wait longer than the server does, and the close hook cancels what
/// is open. AddressSanitizer watches.
#[test]
fn d_10_d_27_auth_keeps_logins_apart_under_asan() {
    const PAIRS: usize = 20;
    let plan = with_plugins(&["auth"], Sanitizer::Address)
        .environment("AUTH_ADDRESS", stubborn_service().to_string())
        .environment("AUTH_SECONDS", "60")
        .setting("plugin-timeout", 4)
        .setting("smtp-threads", 1)
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
        .setting("smtp-auth-delay", 0);
    let mut server = plan.start();
    let ask = |name: &str, password: &str| {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.send(format!("{}\r\n", plain(name, password)).as_bytes()).unwrap();
        client
    };
    let mut staying = ask("mute-stays", "x");
    drop(ask("mute-leaves", "x"));
    let clients: Vec<_> = (0..2 * PAIRS)
        .map(|number| {
            let name = format!("user-{number}");
            let good = number % 3 != 0;
            (ask(&name, if good { &name } else { "wrong" }), good)
        })
        .collect();
    for (mut client, good) in clients {
        client.reply().unwrap().require(if good { 235 } else { 535 }).unwrap();
    }
    // The server takes it back, and the plugin learns so when the connection is closed.
    staying.reply().unwrap().require(454).unwrap();
    drop(staying);
    eventually("the end of all connections", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// The machine of the service is gone, and nothing tells: the first connection swallows what it gets. The
/// question that shows it is lost, and the next one goes another way.
#[test]
fn auth_gives_up_a_connection_that_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let _swallows = listener.accept();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut answers = stream.try_clone().expect("a socket can be shared");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let number = line.split(' ').next().unwrap_or_default();
                let _ = answers.write_all(format!("{number} yes\n").as_bytes());
            }
        }
    });
    let mut server = with_plugins(&["auth"], Sanitizer::Address)
        .environment("AUTH_ADDRESS", address.to_string())
        .environment("AUTH_SECONDS", "0.5")
        .setting("smtp-threads", 1)
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
        .setting("smtp-auth-delay", 0)
        .start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command(&plain("tim", &"x".repeat(513))).unwrap().require(535).unwrap();
    server.process().await_complaint(PATIENCE, "too long to be asked about");
    client.command(&plain("tim", "geheim")).unwrap().require(535).unwrap();
    client.command(&plain("tim", "geheim")).unwrap().require(235).unwrap();
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// How often the plugin let somebody wait.
fn waits(server: &mut Server) -> usize {
    server.process().stderr.tail().matches(" waits").count()
}

/// D-27, D-49, D-84: who is new waits once, and is known if its mail came; who hangs up is not. Several
/// workers share what is known. AddressSanitizer watches.
#[test]
fn d_49_greylist_lets_strangers_wait_and_remembers_who_did() {
    let plan = with_plugins(&["greylist"], Sanitizer::Address)
        .environment("GREYLIST_SECONDS", "0.3")
        .setting("smtp-threads", 2);
    let mut server = plan.start();
    // Two new recipients wait once.
    let mut first = SmtpClient::hello(server.smtp()).unwrap();
    mail_to(&mut first, "a@example.org", &["x", "y"]);
    server
        .process()
        .await_complaint(PATIENCE, "greylist: <a@example.org> to <x@example.net> waits");
    // From now on they are known, to all workers and from all connections; a third is not.
    for _ in 0..4 {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        mail_to(&mut client, "a@example.org", &["y", "x"]);
    }
    assert_eq!(waits(&mut server), 1, "{}", server.process());
    mail_to(&mut first, "a@example.org", &["x", "z"]);
    mail_to(&mut first, "b@example.org", &["x"]);
    assert_eq!(waits(&mut server), 3, "{}", server.process());
    // Who hangs up while it waits is as new as before.
    for expected in [4, 5] {
        let mut hasty = SmtpClient::hello(server.smtp()).unwrap();
        hasty.send(b"MAIL FROM:<h@example.org>\r\nRCPT TO:<x@example.net>\r\n").unwrap();
        eventually("a wait", PATIENCE, || (waits(&mut server) == expected).then_some(()));
    }
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-3D, D-51: who is new is told to come back, and is known once it has, from the same network, behind a
/// proxy too. AddressSanitizer watches.
#[test]
fn d_3d_d_51_greylist_tells_strangers_to_come_back() {
    let plan = with_plugins(&["greylist"], Sanitizer::Address)
        .environment("GREYLIST_DELAY", "1")
        .setting("smtp-proxy", "127.0.0.0/8")
        .setting("smtp-relay-range", "0.0.0.0/0")
        .setting("smtp-threads", 2);
    let mut server = plan.start();
    let from = |host: &str| {
        let mut client = SmtpClient::connect(server.smtp()).unwrap();
        let header = format!("PROXY TCP4 {host} 198.51.100.1 4321 25\r\n");
        client.send(header.as_bytes()).unwrap();
        client.reply().unwrap().require(220).unwrap();
        client.command("EHLO client.example").unwrap().require(250).unwrap();
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        client
    };
    let ask = |client: &mut SmtpClient, name: &str| {
        client.command(&format!("RCPT TO:<{name}@example.net>")).unwrap()
    };
    let reply = ask(&mut from("192.0.2.1"), "x");
    assert_eq!(
        (reply.code, reply.lines[0].as_str()),
        (451, "4.7.1 You are new here; come back in some minutes")
    );
    // Another machine of the same network is the same stranger; another network, and recipient, are not.
    eventually("the delay is over", PATIENCE, || {
        (ask(&mut from("192.0.2.77"), "x").code == 250).then_some(())
    });
    assert_eq!(ask(&mut from("203.0.113.1"), "x").code, 451);
    let mut client = from("192.0.2.1");
    assert_eq!(ask(&mut client, "y").code, 451);
    assert_eq!(ask(&mut client, "x").code, 250);
    client.command("DATA").unwrap().require(354).unwrap();
    client.command("text\r\n.").unwrap().require(250).unwrap();
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-27: the server takes the step back before the timer fires; the close hook stops that, and one of a
/// connection that stays fires for nobody. What is remembered for no time at all is not remembered.
#[test]
fn d_27_greylist_gives_up_a_wait_that_is_taken_back() {
    let plan = with_plugins(&["greylist"], Sanitizer::Address)
        .environment("GREYLIST_SECONDS", "1.5")
        .environment("GREYLIST_HOURS", "0")
        .setting("plugin-timeout", "300ms");
    let mut server = plan.start();
    let mut leaving = SmtpClient::hello(server.smtp()).unwrap();
    let mut staying = SmtpClient::hello(server.smtp()).unwrap();
    for client in [&mut leaving, &mut staying] {
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        client.command("RCPT TO:<x@example.net>").unwrap().require(451).unwrap();
    }
    drop(leaving);
    eventually("the end of a connection", PATIENCE, || {
        (server.status().count("incoming_connections") == 1).then_some(())
    });
    // D-28: until its timer hands back it is not asked.
    mail_to_again(&mut staying);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// A recipient whose wait was taken back was refused: that others of the mail were taken teaches nothing
/// about it.
#[test]
fn d_27_greylist_learns_nothing_from_a_wait_that_is_taken_back() {
    let mut server = with_plugins(&["greylist"], Sanitizer::Off)
        .environment("GREYLIST_SECONDS", "0.4")
        .setting("plugin-timeout", "100ms")
        .setting("smtp-threads", 1)
        .start();
    let recipient = |client: &mut SmtpClient, name: &str, code| {
        let line = format!("RCPT TO:<{name}@example.net>");
        client.command(&line).unwrap().require(code).unwrap();
    };
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    recipient(&mut client, "x", 451);
    // D-28: the plugin is not asked before it has handed back, which nobody else can see.
    std::thread::sleep(std::time::Duration::from_secs(1));
    recipient(&mut client, "y", 250);
    client.command("DATA").unwrap().require(354).unwrap();
    client.command("text\r\n.").unwrap().require(250).unwrap();
    for (name, code) in [("x", 451), ("y", 250)] {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        recipient(&mut client, name, code);
    }
    assert!(server.terminate().success());
}

/// Goes on with the transaction that is open.
fn mail_to_again(client: &mut SmtpClient) {
    client.command("RCPT TO:<x@example.net>").unwrap().require(250).unwrap();
    client.command("DATA").unwrap().require(354).unwrap();
    client.command("text\r\n.").unwrap().require(250).unwrap();
}

/// A service that is down, or never answers, holds up no mail for long: it passes, is asked about no
/// more, and the next one is asked about again.
#[test]
fn policy_goes_on_without_an_answer() {
    let down = "policy: <a@example.org> to <bad@example.net>: no answer, going on without: Connection refused";
    let mut server = with_policy(fresh_port(), Sanitizer::Off).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    mail_to(&mut client, "a@example.org", &["bad"]);
    server.process().await_complaint(PATIENCE, down);

    let service = Service::start();
    let plan = with_policy(service.address, Sanitizer::Off).environment("POLICY_SECONDS", "1");
    let sink = Sink::start(&plan.directory().join("dump"));
    let mut server = plan.smarthost(sink.address()).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    mail_to(&mut client, "a@example.org", &["mute-1", "mute-2", "bad"]);
    let late = "<mute-1@example.net>: no answer, going on without: timeout";
    server.process().await_complaint(PATIENCE, late);
    assert_eq!(service.questions(), pairs("a@example.org", &["mute-1"]));
    sink.await_count(3, PATIENCE);
    assert_eq!(sink.count_with("bad@example.net"), 1);
    mail_to(&mut client, "a@example.org", &["bad", "mute-1"]);
    assert_eq!(service.questions(), pairs("a@example.org", &["mute-1", "bad", "mute-1"]));
    sink.await_count(5, PATIENCE);
    assert_eq!((sink.count_with(QUARANTINE), sink.count_with("mute-1@")), (1, 2));
}

/// What the service has refused stays so while it does not answer about another recipient.
#[test]
fn d_3d_policy_tells_what_it_knows_though_the_service_is_silent() {
    let service = Service::start();
    let mut server = with_plugins(&["policy"], Sanitizer::Off)
        .environment("POLICY_ADDRESS", service.address.to_string())
        .environment("POLICY_SECONDS", "1")
        .start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let commands = [
        ("MAIL FROM:<a@example.org>", 250),
        ("RCPT TO:<code@example.net>", 552),
        ("RCPT TO:<mute@example.net>", 250),
        ("RCPT TO:<code@example.net>", 552),
        ("RCPT TO:<other@example.net>", 250),
    ];
    for (command, code) in commands {
        client.command(command).unwrap().require(code).unwrap();
    }
    assert_eq!(service.questions(), pairs("a@example.org", &["code", "mute"]));
    assert!(server.terminate().success());
}

/// D-27, D-28: the server takes a step back before the plugin's own timeout. The close hook cancels
/// the question of a connection that then leaves; that of one that stays runs out, and its late
/// hand-back releases nothing. AddressSanitizer watches.
#[test]
fn d_27_policy_cancels_the_question_of_a_connection_that_left() {
    let service = Service::start();
    let plan = with_policy(service.address, Sanitizer::Address)
        .environment("POLICY_SECONDS", "4")
        .setting("plugin-timeout", 1)
        .setting("smtp-threads", 1);
    let mut server = plan.start();
    let mut leaving = SmtpClient::hello(server.smtp()).unwrap();
    let mut staying = SmtpClient::hello(server.smtp()).unwrap();
    for (client, recipient) in [(&mut leaving, "mute-leaves"), (&mut staying, "mute-stays")] {
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        client.send(format!("RCPT TO:<{recipient}@example.net>\r\n").as_bytes()).unwrap();
    }
    leaving.reply().unwrap().require(451).unwrap();
    leaving.command("QUIT").unwrap().require(221).unwrap();
    drop(leaving);
    staying.reply().unwrap().require(451).unwrap();
    let late = "<mute-stays@example.net>: no answer, going on without: timeout";
    server.process().await_complaint(PATIENCE, late);
    staying.command("RSET").unwrap().require(250).unwrap();
    mail_to(&mut staying, "b@example.org", &["good"]);
    let asked = service.questions();
    assert_eq!(asked.last().unwrap(), "b@example.org to good@example.net", "it is asked again");
    drop(staying);
    let status = server.terminate();
    let written = server.process().to_string();
    assert!(status.success(), "{status}\n{written}");
    assert!(!written.contains("to <mute-leaves"), "{written}");
}

/// Sends the newsletter's stub.
fn hand_in(server: &Server, sender: &str) {
    let reply = SmtpClient::hello(server.smtp())
        .and_then(|mut client| client.mail(sender, "reader@example.net", TEXT));
    reply.and_then(|reply| reply.require(250)).expect("the stub is taken");
}

/// D-67, D-69: the sink receives what the plugin made, and other mail as it came.
#[test]
fn mime_makes_the_text_of_each_newsletter() {
    let plan = with_plugins(&["mime"], Sanitizer::Address);
    let sink = Sink::start(&plan.directory().join("dump"));
    let mut server = plan.smarthost(sink.address()).start();
    hand_in(&server, "news@example.org");
    hand_in(&server, "me@example.org");
    sink.await_count(2, PATIENCE);
    let dear = r"\r\n\r\nDear reader,\r\n\r\nthis text was made";
    assert_eq!(mails_with(&sink, dear), 1);
    assert_eq!(mails_with(&sink, "To: <reader@example.net>"), 1);
    assert_eq!(mails_with(&sink, "As it was handed in."), 1);
    server.await_empty_queue(PATIENCE);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-6C: each attempt asks again, and the queue keeps the text that came.
#[test]
fn d_6c_mime_is_asked_at_each_attempt_and_never_stored() {
    let plan = with_plugins(&["mime"], Sanitizer::Off).setting("retry-interval", 1);
    let refusing = Sink::start_on(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        &plan.directory().join("refused"),
        &["--refuse=dot=451"],
    );
    let mut server = plan.clone().smarthost(refusing.address()).start();
    hand_in(&server, "news@example.org");
    let second = "mime: made text 2 for reader@example.net";
    server.process().await_complaint(PATIENCE, second);
    assert!(server.terminate().success());

    // Without the plugin, the same queue sends what came.
    let sink = Sink::start(&plan.directory().join("dump"));
    let empty = plan.directory().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let plain = plan.setting("plugin-directory", empty.display());
    let server = plain.smarthost(sink.address()).start();
    sink.await_count(1, PATIENCE);
    assert_eq!(mails_with(&sink, "As it was handed in."), 1);
    assert_eq!(mails_with(&sink, "X-Rohrpost-Example"), 0);
    server.await_empty_queue(PATIENCE);
}
