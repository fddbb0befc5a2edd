//! Starting and stopping: within the time that the settings give, with the exit code that is right,
//! and without losing what was answered 250.

use std::{
    process::ExitStatus,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::{
    TEXT, await_count,
    hop::{At, Hop, How},
    list, queued,
};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

/// How long a stop may take beyond shutdown-timeout: a loaded machine is not a bug, one that waits
/// for the peers is.
const MARGIN: Duration = Duration::from_secs(20);

fn ended(status: ExitStatus, code: i32, server: &mut Server) {
    assert_eq!(status.code(), Some(code), "{}", server.process());
}

/// One after the other, each for a recipient of its own; those that were answered 250.
fn send_until(over: &AtomicBool, server: &Server, name: usize, taken: &Mutex<Vec<String>>) {
    let Ok(mut client) = SmtpClient::hello(server.smtp()) else {
        return;
    };
    for number in 0.. {
        let to = format!("r{name}x{number}@example.net");
        match client.mail("a@example.org", &to, TEXT) {
            Ok(reply) if reply.code == 250 => taken.lock().unwrap().push(to),
            Ok(_) | Err(_) => return,
        }
        if over.load(SeqCst) {
            return;
        }
    }
}

/// SIGTERM with everybody at work: slow clients and a slow hop cannot keep the process beyond its
/// time, control answers while loaded, and after a restart all that was answered 250 arrives.
#[test]
fn a_stop_under_load_keeps_its_time_and_loses_nothing() {
    let hop = Hop::start(Some((At::Dot, How::Stall)));
    let plan = Server::builder()
        .smarthost(hop.address())
        .setting("shutdown-timeout", 2)
        .setting("smtp-connections-per-address", 0)
        .setting("retry-interval", 1);
    let mut server = plan.start();
    let mut within_text = SmtpClient::hello(server.smtp()).unwrap();
    let mut within_mail = SmtpClient::hello(server.smtp()).unwrap();
    let mut idle = SmtpClient::hello(server.smtp()).unwrap();
    for client in [&mut within_text, &mut within_mail] {
        client.command("MAIL FROM:<a@example.org>").unwrap();
        client.command("RCPT TO:<slow@example.net>").unwrap();
    }
    within_text.command("DATA").unwrap().require(354).unwrap();
    within_text.send(b"Subject: never ends\r\n").unwrap();

    let (over, taken) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let begun = std::thread::scope(|scope| {
        for name in 0..4 {
            let (over, server, taken) = (&over, &server, &taken);
            scope.spawn(move || send_until(over, server, name, taken));
        }
        eventually("mail under way", PATIENCE, || {
            let status = server.status();
            (status.count("accepted") >= 50 && status.count("outgoing_connections") > 0)
                .then_some(())
        });
        assert!(list(&plan).len() >= 20);
        let begun = Instant::now();
        server.ask_to_end();
        idle.reply().unwrap().require(421).unwrap();
        over.store(true, SeqCst);
        begun
    });
    for client in [&mut within_mail, &mut within_text] {
        let told = client.reply().unwrap();
        assert_eq!((told.code, &told.lines[0][..6]), (421, "4.3.2 "));
        client.await_close().unwrap();
    }
    let status = server.process().wait(PATIENCE);
    let took = begun.elapsed();
    ended(status, 0, &mut server);
    assert!(took < Duration::from_secs(2) + MARGIN, "{took:?}");

    hop.set(None);
    let server = plan.start();
    let taken = taken.into_inner().unwrap();
    eventually("all that was answered 250", PATIENCE, || {
        let mails = hop.mails();
        let there = |to: &String| mails.iter().any(|mail| mail.recipient.contains(to.as_str()));
        taken.iter().all(there).then_some(())
    });
    await_count(&server, "queued", 0);
    assert!(hop.mails().iter().all(|mail| !mail.recipient.contains("slow@")));
}

/// A connect that nobody answers is no work that a stop would have to wait for.
#[test]
fn a_stop_does_not_wait_for_a_connect() {
    let (listener, _waiting) = super::hop_deadlines::full_backlog();
    let mut server = Server::builder()
        .smarthost(listener.local_addr().unwrap())
        .setting("shutdown-timeout", 600)
        .setting("plugin-shutdown-timeout", 600)
        .setting("connect-timeout", 600)
        .start();
    queued(&server, "b@example.net");
    await_count(&server, "outgoing_connections", 1);
    let status = server.terminate();
    ended(status, 0, &mut server);
}

/// A greeting that never comes is none either.
#[test]
fn a_stop_does_not_wait_for_a_hop_that_does_not_answer() {
    let hop = Hop::start(Some((At::Banner, How::Stall)));
    let mut server = Server::builder().smarthost(hop.address()).start();
    queued(&server, "b@example.net");
    eventually("a connection", PATIENCE, || (hop.opened() > 0).then_some(()));
    let begun = Instant::now();
    let status = server.terminate();
    ended(status, 0, &mut server);
    // Its own patience would be 300 seconds, that of the stop 30.
    assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
}

/// A client that neither reads nor ends cannot keep the process.
#[test]
fn a_stop_does_not_wait_for_a_client_that_reads_nothing() {
    use std::io::Write;
    let mut server = Server::builder().setting("shutdown-timeout", 1).start();
    let mut deaf = std::net::TcpStream::connect(server.smtp()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let many = b"NOOP\r\n".repeat(10_000);
    while deaf.write_all(&many).is_ok() {}
    let begun = Instant::now();
    let status = server.terminate();
    ended(status, 0, &mut server);
    assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
}

/// The second SIGTERM is final: exit 75, and what was answered 250 is on the disk.
#[test]
fn the_second_signal_is_final() {
    let mut server = Server::builder().setting("shutdown-timeout", 600).start();
    queued(&server, "b@example.net");
    let mut busy = SmtpClient::hello(server.smtp()).unwrap();
    busy.command("MAIL FROM:<a@example.org>").unwrap();
    server.process().ask_to_end();
    server.process().await_complaint(PATIENCE, "draining");
    // Still there: the transaction under way has its time.
    busy.command("RCPT TO:<c@example.net>").unwrap().require(250).unwrap();
    let status = server.terminate();
    ended(status, 75, &mut server);
    assert_eq!(list(server.plan()).len(), 1);
}

/// A transaction under way at the signal is finished, and its client told 421 behind it.
#[test]
fn a_stop_lets_a_transaction_finish() {
    let mut server = Server::builder().start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap();
    server.process().ask_to_end();
    server.process().await_complaint(PATIENCE, "draining");
    client.command("RCPT TO:<b@example.net>").unwrap();
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(TEXT).unwrap();
    client.command(".").unwrap().require(250).unwrap();
    client.reply().unwrap().require(421).unwrap();
    client.await_close().unwrap();
    let status = server.process().wait(PATIENCE);
    ended(status, 0, &mut server);
    assert_eq!(list(server.plan()).len(), 1);
}

/// Design §7: one server a queue; the second names the first and says: try again (75).
#[test]
fn a_second_server_on_the_same_queue_does_not_start() {
    let mut server = Server::builder().start();
    let mut second = server.plan().spawn();
    let status = second.wait(PATIENCE);
    assert_eq!(status.code(), Some(75), "{second}");
    let pid = format!("process {}", server.process().pid());
    assert!(second.stderr.complete().contains(&pid), "{second}");
    queued(&server, "b@example.net");
}

/// A port in use is for the administrator to mend: 78, with the address.
#[test]
fn a_port_in_use_is_a_setting_to_mend() {
    let server = Server::builder().start();
    let plan = Server::builder().setting("smtp-port", server.smtp().port());
    let mut second = plan.spawn();
    let status = second.wait(PATIENCE);
    assert_eq!(status.code(), Some(78), "{second}");
    let said = second.stderr.complete();
    assert!(said.contains(&server.smtp().to_string()), "{said}");
    assert!(said.contains("another server listens there"), "{said}");
}

/// Bad settings: 78, with file, line and key, all of them at once, and no port was opened.
#[test]
fn bad_settings_are_named_by_file_line_and_key() {
    let plan = Server::builder();
    let file = plan.directory().join("bad.txt");
    let lines = "# a comment\nsmtp-recipients: many\n\nsmtp-prot: 25\n";
    std::fs::write(&file, lines).unwrap();
    let plan = plan.setting("config-file", file.display());
    let mut process = plan.spawn();
    let status = process.wait(PATIENCE);
    assert_eq!(status.code(), Some(78), "{process}");
    let said = process.stderr.complete();
    let place = |line| format!("{}:{line}", file.display());
    for wanted in [&place(2), "smtp-recipients", "many", &place(4), "smtp-prot", "smtp-port"] {
        assert!(said.contains(wanted), "no {wanted:?} in {said}");
    }
}
