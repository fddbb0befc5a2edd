//! The send log and the received log, by the whole program: the lines of MailerQ's shipped formats, files
//! that log rotation moves, and a file that takes nothing: outcomes and mail wait, nothing is lost.
//!
//! **Diagnostics**: a line that does not come in time panics with what was awaited.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use crate::support::{PATIENCE, Server, ServerBuilder, Sink, SmtpClient, eventually};

const TEXT: &[u8] = b"Subject: logs\r\n\r\nText.\r\n";

/// Recipients of one message of a crowd.
const CROWD: usize = 1000;

fn plan(sink: &Sink) -> ServerBuilder {
    Server::builder().smarthost(sink.address()).setting("smtp-threads", 1)
}

fn logged(plan: ServerBuilder) -> (ServerBuilder, PathBuf, PathBuf) {
    let (sent, received) = (plan.directory().join("sent"), plan.directory().join("received"));
    let plan = plan.setting("send-log-file", sent.display());
    (plan.setting("received-log-file", received.display()), sent, received)
}

fn sink(plan_directory: &Path, arguments: &[&str]) -> Sink {
    let address = "127.0.0.1:0".parse().unwrap();
    Sink::start_on(address, &plan_directory.join("dump.jsonl"), arguments)
}

fn send(server: &Server, recipient: &str) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let reply = client.mail("a@example.org", recipient, TEXT).unwrap().require(250).unwrap();
    let (_, ids) = reply.lines[0].split_once("Queued as ").unwrap();
    ids.to_owned()
}

/// Offers one message to a crowd of recipients; the code that decided.
fn send_crowd(server: &Server, number: usize) -> u16 {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let reply = client.command("MAIL FROM:<a@example.org>").unwrap();
    if reply.code != 250 {
        return reply.code;
    }
    for recipient in 0..CROWD {
        let command = format!("RCPT TO:<c{number}-{recipient}@example.net>");
        client.command(&command).unwrap().require(250).unwrap();
    }
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(TEXT).unwrap();
    client.command(".").unwrap().code
}

fn await_text(path: &Path, holds: impl Fn(&str) -> bool) -> String {
    eventually(&format!("lines in {}", path.display()), PATIENCE, || {
        let text = fs::read_to_string(path).unwrap_or_default();
        holds(&text).then_some(text)
    })
}

/// A line without the date that it begins with.
fn undated(line: &str) -> &str {
    let (date, rest) = line.split_once(']').unwrap();
    assert_eq!(date.len(), "[2019-09-23 12:46:56".len(), "{line}");
    rest
}

/// A pipe in place of a log file, and its reading end, which reads nothing by itself.
fn pipe(path: &Path) -> fs::File {
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // For both directions, so that neither end waits for the other to be opened.
    fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Reads lines from a pipe in the background for as long as the test lives.
fn drain(mut pipe: fs::File) -> std::sync::mpsc::Receiver<usize> {
    let (counted, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(count) = pipe.read(&mut buffer) {
            let ends = buffer[..count].iter().filter(|byte| **byte == b'\n').count();
            if counted.send(ends).is_err() {
                return;
            }
        }
    });
    lines
}

#[test]
fn every_attempt_and_every_mail_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &[]);
    let (plan, sent, received) = logged(plan(&sink));
    let server = plan.start();
    let id = send(&server, "bob@example.net");
    let text = await_text(&sent, |text| text.ends_with('\n'));
    let expected =
        " message:accepted 1 <a@example.org> <bob@example.net> [127.0.0.1] [127.0.0.1]  250 2.0.0 ";
    assert!(undated(&text).starts_with(expected), "{text}");
    assert_eq!(text.lines().count(), 1);
    let text = await_text(&received, |text| text.ends_with('\n'));
    let expected = format!(" {id} <a@example.org> <bob@example.net> [127.0.0.1] [127.0.0.1]\n");
    assert_eq!(undated(&text), expected);
}

#[test]
fn refusals_retries_and_ages_have_their_lines_too() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &["--refuse", "rcpt=451"]);
    let form = "{$attempt} {$result.state}:{$result.result} {$result.code} {$email.recipient}";
    let (plan, sent, _) = logged(plan(&sink).setting("send-log-format", form));
    let plan = plan.setting("retry-interval", 1).setting("max-delivertime", 3);
    let server = plan.start();
    send(&server, "bob@example.net");
    server.await_empty_queue(PATIENCE);
    let text = await_text(&sent, |text| text.contains("process:timeout"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("1 ") && lines[0].ends_with(" 451 bob@example.net"), "{text}");
    assert!(lines[1].starts_with("2 "), "{text}");
    assert!(lines.last().unwrap().ends_with("process:timeout  bob@example.net"), "{text}");
}

/// No named queue takes anything: the form alone asks for it.
#[test]
fn a_form_that_names_a_fact_of_the_connection_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &[]);
    let (plan, sent, _) = logged(plan(&sink));
    let plan = plan.setting("send-log-format", "{$result.state} {$result.messages}.");
    let server = plan.start();
    send(&server, "bob@example.net");
    let text = await_text(&sent, |text| text.contains("message"));
    assert_eq!(text, "message 1.\n");
}

/// logrotate moves a file, then says SIGHUP; or says nothing.
#[test]
fn files_that_are_moved_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &[]);
    let (plan, sent, received) = logged(plan(&sink));
    let mut server = plan.start();
    send(&server, "first@example.net");
    for path in [&sent, &received] {
        await_text(path, |text| text.contains("<first@example.net>"));
        fs::rename(path, path.with_extension("1")).unwrap();
    }
    server.process().hang_up();
    // With a second at most it is noticed without a signal, so each mail may be the one.
    let mut number = 0;
    eventually("new files", PATIENCE, || {
        number += 1;
        send(&server, &format!("later{number}@example.net"));
        (sent.exists() && received.exists()).then_some(())
    });
    let last = format!("<later{number}@example.net>");
    for path in [&sent, &received] {
        await_text(path, |text| text.contains(&last));
        let (moved, new) = (path.with_extension("1"), fs::read_to_string(path).unwrap());
        let all = fs::read_to_string(moved).unwrap() + &new;
        assert_eq!(all.lines().count(), 1 + number, "no line is lost or written twice");
    }
}

#[test]
fn a_received_log_that_takes_nothing_keeps_new_mail_out() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &[]);
    let plan = plan(&sink);
    let path = plan.directory().join("pipe");
    let reader = pipe(&path);
    let form = format!("{{$json.recipient}} {}", "x".repeat(4000));
    let plan = plan.setting("received-log-file", path.display());
    let server = plan.setting("received-log-format", form).start();
    let codes: Vec<u16> = (0..10).map(|number| send_crowd(&server, number)).collect();
    let taken = codes.iter().take_while(|code| **code == 250).count();
    assert!((5..10).contains(&taken), "{codes:?}");
    assert!(codes[taken..].iter().all(|code| *code == 452), "{codes:?}");
    let lines = drain(reader);
    let code = eventually("mail is taken again", PATIENCE, || {
        Some(send_crowd(&server, 10)).filter(|code| *code == 250)
    });
    assert_eq!(code, 250);
    let mut count = 0;
    while count < (taken + 1) * CROWD {
        count += lines.recv_timeout(PATIENCE).expect("a line for each mail");
    }
    sink.await_count((taken + 1) * CROWD, PATIENCE);
    server.await_empty_queue(PATIENCE);
    assert_eq!(count, (taken + 1) * CROWD, "and no other");
}

#[test]
fn a_send_log_that_takes_nothing_holds_outcomes_and_deliveries() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), &[]);
    let plan = plan(&sink);
    let path = plan.directory().join("pipe");
    let reader = pipe(&path);
    let form = format!("{{$email.recipient}} {}", "x".repeat(4000));
    let plan = plan.setting("send-log-file", path.display()).setting("send-log-format", form);
    let plan = plan.setting("shutdown-timeout", 2);
    let mut server = plan.start();
    for number in 0..7 {
        // Mail is kept out in the end, because outcomes wait.
        let code = eventually("a crowd is taken", PATIENCE, || Some(send_crowd(&server, number)));
        assert!([250, 452].contains(&code));
    }
    let held = eventually("outcomes that wait", PATIENCE, || {
        Some(server.status().count("settling")).filter(|held| *held >= 1000)
    });
    assert!(held < 2000, "what waits is bounded");
    let delivered = server.status().count("delivered");
    let accepted = server.status().count("accepted");
    assert!(delivered < accepted, "deliveries pause");
    // A stop does not wait for ever, and loses lines rather than outcomes.
    assert!(server.terminate().success(), "{}", server.process());
    let lines = drain(reader);
    let server = plan.start();
    sink.await_count(usize::try_from(accepted).unwrap(), PATIENCE);
    server.await_empty_queue(PATIENCE);
    assert_eq!(sink.count() as u64, accepted, "no mail came twice");
    drop(lines);
}
