//! Mail between Rohrpost and programs that others wrote, in both directions: Postfix's smtp-source and
//! smtp-sink, Python's smtplib, curl and swaks, aiosmtpd.
//!
//! Each test says what must arrive, and counts it where it arrives; nothing is judged by a log line.
//! **Diagnostics**: a mail that is missing, doubled or changed is named.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use crate::support::{
    Listener, PATIENCE, Random, Server, Sink, SmtpClient, Tool, eventually, fresh_port,
};

/// How long a whole batch may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(300);

/// Starts a sink and a server that delivers to it.
fn server_and_sink() -> (Server, Sink) {
    let plan = Server::builder();
    let sink = Sink::start(&plan.directory().join("sink.jsonl"));
    (plan.smarthost(sink.address()).start(), sink)
}

/// One run of smtp-source, of which every mail must reach the sink once.
fn smtp_source_delivers(arguments: &str, mails: usize) {
    let (server, sink) = server_and_sink();
    let source = Tool::new("smtp-source").words(arguments).words("-N -f a@example.org");
    let source = source.words("-t source@example.net -m").arg(mails.to_string());
    source.arg(server.smtp().to_string()).run(BATCH);
    sink.await_count(mails, BATCH);
    server.await_empty_queue(BATCH);
    assert_eq!(sink.count(), mails, "no mail came twice");
}

#[test]
fn smtp_source_4_kib_reusing_its_connections() {
    smtp_source_delivers("-d -s 100 -l 4096", 2000);
}

#[test]
fn smtp_source_4_kib_one_mail_a_connection() {
    smtp_source_delivers("-s 100 -l 4096", 2000);
}

#[test]
fn smtp_source_100_kib_reusing_its_connections() {
    smtp_source_delivers("-d -s 100 -l 102400", 500);
}

#[test]
fn smtp_source_100_kib_one_mail_a_connection() {
    smtp_source_delivers("-s 100 -l 102400", 500);
}

#[test]
fn a_python_script_is_served() {
    let (server, sink) = server_and_sink();
    Tool::python("submit.py").arg(server.smtp().to_string()).run(BATCH);
    sink.await_count(5, BATCH);
    for name in ["plain", "one", "two", "null"] {
        assert_eq!(sink.count_with(&format!("python-{name}@example.net")), 1, "{name}");
    }
}

#[test]
fn curl_is_served() {
    let (server, sink) = server_and_sink();
    let mail = server.plan().directory().join("mail.txt");
    std::fs::write(&mail, "Subject: from curl\n\nA line.\n.\nAfter a dot.\n").unwrap();
    let curl = Tool::new("curl").words("--silent --show-error --crlf --max-time 60");
    let curl = curl.words("--mail-from a@example.org --mail-rcpt curl@example.net --url");
    let curl = curl.arg(format!("smtp://{}/client.example", server.smtp())).words("-T -");
    curl.input(&mail).run(BATCH);
    sink.await_count(1, BATCH);
    assert_eq!(sink.count_with("curl@example.net"), 1);
}

#[test]
fn curl_without_crlf_is_told_what_to_do() {
    let (server, _sink) = server_and_sink();
    let mail = server.plan().directory().join("mail.txt");
    std::fs::write(&mail, "Subject: lone line feeds\n\nA line.\n").unwrap();
    let curl = Tool::new("curl").words("--silent --verbose --max-time 60");
    let curl = curl.words("--mail-from a@example.org --mail-rcpt curl@example.net --url");
    let curl = curl.arg(format!("smtp://{}/client.example", server.smtp())).words("-T -");
    let mut curl = curl.input(&mail).spawn();
    assert!(!curl.wait(BATCH).success(), "{curl}");
    curl.await_complaint(PATIENCE, "curl --crlf");
}

#[test]
fn swaks_is_served() {
    let (server, sink) = server_and_sink();
    for pipelining in ["", "--pipeline"] {
        let swaks = Tool::new("swaks").words("--helo client.example --from a@example.org");
        let swaks = swaks.words("--to swaks@example.net --timeout 60").words(pipelining);
        swaks.arg("--server").arg(server.smtp().to_string()).run(BATCH);
    }
    sink.await_count(2, BATCH);
    assert_eq!(sink.count_with("swaks@example.net"), 2);
}

/// What smtp-sink does wrong in one run, by its manual page, and which command shows that it happened.
const FAULTS: &[(&str, &str)] = &[
    // -r: refuses the command with a 4xx reply. -e: announces no ESMTP, so that HELO is tried.
    ("-r CONNECT", "connect ("),
    ("-r EHLO,HELO", ": EHLO"),
    ("-e -r HELO", ": HELO"),
    ("-r MAIL", ": MAIL"),
    ("-r RCPT", ": RCPT"),
    ("-r DATA", ": DATA"),
    ("-r .", ": ."),
    // -q: disconnects without a reply.
    ("-q CONNECT", "connect ("),
    ("-q EHLO", ": EHLO"),
    ("-q MAIL", ": MAIL"),
    ("-q RCPT", ": RCPT"),
    ("-q DATA", ": DATA"),
    ("-q .", ": ."),
    // -Q: says 421 and disconnects.
    ("-Q CONNECT", "connect ("),
    ("-Q EHLO", ": EHLO"),
    ("-Q MAIL", ": MAIL"),
    ("-Q RCPT", ": RCPT"),
    ("-Q DATA", ": DATA"),
    ("-Q .", ": ."),
];

/// Mails a fault meets.
const MAILS_A_FAULT: usize = 20;

/// Hands `count` mails to the server, from `name` and each to a recipient of its own.
fn submit(server: &Server, count: usize, name: &str) {
    let mut client = SmtpClient::hello(server.smtp()).expect("the server greets");
    for number in 0..count {
        let recipient = format!("{name}-{number}@example.net");
        let sender = format!("{name}@example.org");
        let reply = client.mail(&sender, &recipient, b"Subject: x\r\n\r\nText.\r\n");
        reply.and_then(|reply| reply.require(250)).unwrap_or_else(|error| {
            panic!("{recipient} was not taken: {error}\n{}", client.transcript())
        });
    }
}

/// An smtp-sink on `address` with something wrong with it.
fn faulty_sink(address: SocketAddr, arguments: &str) -> Listener {
    let sink = Tool::new("smtp-sink").words("-v").words(arguments);
    sink.arg(address.to_string()).arg("64").listen()
}

#[test]
fn every_passing_fault_of_a_next_hop_only_delays_mail() {
    let address = fresh_port();
    let server = Server::builder().smarthost(address).setting("retry-interval", 1).start();
    for (number, (fault, shown)) in FAULTS.iter().enumerate() {
        let name = format!("fault{number}");
        println!("smtp-sink {fault}");
        let mut faulty = faulty_sink(address, fault);
        submit(&server, MAILS_A_FAULT, &name);
        faulty.process.await_complaint(BATCH, shown);
        faulty.process.kill9();

        let dump = server.plan().directory().join(format!("{name}.jsonl"));
        let good = Sink::start_on(address, &dump, &[] as &[&str]);
        good.await_count(MAILS_A_FAULT, BATCH);
        for mail in 0..MAILS_A_FAULT {
            let recipient = format!("{name}-{mail}@");
            assert_eq!(good.count_with(&recipient), 1, "smtp-sink {fault}: {recipient}");
        }
    }
}

#[test]
fn a_final_refusal_is_not_tried_again() {
    // -f: refuses the command with a 5xx reply.
    for (number, command) in ["MAIL", "RCPT", "DATA", "."].into_iter().enumerate() {
        let address = fresh_port();
        let server = Server::builder().smarthost(address).setting("retry-interval", 1).start();
        let mut faulty = faulty_sink(address, &format!("-f {command}"));
        let refused = format!("refused{number}");
        submit(&server, 1, &refused);
        faulty.process.await_complaint(BATCH, &format!(": {command}"));
        // The refusal itself follows the command; what is sent next over the same path follows both.
        submit(&server, 1, "witness");
        faulty.process.await_complaint(BATCH, "FROM:<witness@example.org>");
        faulty.process.kill9();

        let dump = server.plan().directory().join("good.jsonl");
        let good = Sink::start_on(address, &dump, &[] as &[&str]);
        submit(&server, 1, "later");
        eventually_arrives(&good, "later-0@example.net");
        assert_eq!(good.count_with(&refused), 0, "-f {command}");
    }
}

fn eventually_arrives(sink: &Sink, recipient: &str) {
    eventually(recipient, BATCH, || (sink.count_with(recipient) > 0).then_some(()));
}

#[test]
fn a_slow_next_hop_gets_its_mail() {
    // -W: waits before it replies to the command. -H: reads nothing for a while after DATA; with a
    // small window (-T) the sender has to wait in the middle of the text. -p: smtp-sink answers out of
    // order when it delays one of several pipelined commands, so it does not offer pipelining then.
    for slowness in ["-W CONNECT:1", "-p -W MAIL:1", "-W .:1", "-w 1", "-H 2 -T 1024"] {
        let plan = Server::builder();
        let folder = plan.directory().join("slow");
        writable_by_all(plan.directory(), &folder);
        let dump = folder.join("mail");
        let slow = Tool::new("smtp-sink").words(slowness).arg("-D").arg(&dump);
        let slow = slow.words("127.0.0.1:0 64").listen();
        let server = plan.smarthost(slow.address).start();

        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let text = "A line of a mail that is larger than all buffers.\r\n".repeat(40_000);
        let reply = client.mail("a@example.org", "slow@example.net", text.as_bytes()).unwrap();
        assert_eq!(reply.code, 250, "{slowness}");
        server.await_empty_queue(BATCH);
        let arrived = std::fs::read_to_string(&dump).expect("smtp-sink wrote a dump");
        let arrived = arrived.replace('\n', "\r\n");
        assert_eq!(arrived.matches("larger than all buffers.\r\n").count(), 40_000, "{slowness}");
    }
}

/// smtp-sink runs as nobody when started by root.
pub(crate) fn writable_by_all(parent: &Path, folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).expect("a folder can be made");
    for (path, mode) in [(parent, 0o755), (folder, 0o777)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("our own folders have our mode");
    }
}

/// Lines of JSON by recipient: length and hash.
fn digests(path: &Path) -> HashMap<String, (u64, String)> {
    let mut digests = HashMap::new();
    for line in std::fs::read_to_string(path).expect("the file was written").lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |name: &str| value[name].as_str().expect("a string").to_owned();
        let digest = (value["bytes"].as_u64().expect("a count"), text("sha256"));
        let earlier = digests.insert(text("recipient"), digest);
        assert_eq!(earlier, None, "{} came twice", text("recipient"));
    }
    digests
}

#[test]
fn a_thousand_mails_arrive_byte_for_byte() {
    const MAILS: usize = 1000;
    let seed = Random::from_environment("a_thousand_mails_arrive_byte_for_byte").bits() >> 32;
    let plan = Server::builder();
    let (sent, received) = (plan.directory().join("sent"), plan.directory().join("received"));
    let receiver = Tool::python("receiver.py").arg("127.0.0.1:0").arg(&received);
    let receiver = receiver.listen_when_ready();
    let server = plan.smarthost(receiver.address).start();

    let generator = Tool::python("generate.py").arg(server.smtp().to_string());
    let generator = generator.arg(MAILS.to_string()).arg(seed.to_string()).arg(&sent);
    generator.run(BATCH);
    server.await_empty_queue(BATCH);

    let (sent, received) = (digests(&sent), digests(&received));
    assert_eq!(sent.len(), MAILS);
    for (recipient, digest) in &sent {
        assert_eq!(received.get(recipient), Some(digest), "{recipient}, generator seed {seed}");
    }
    assert_eq!(received.len(), MAILS, "nothing came that was not sent");
}
