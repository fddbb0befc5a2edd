//! `run --supervise`: the server comes back, once, at once, and without having lost anything.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::crashing::{Crashing, ask};
use crate::support::{PATIENCE, Process, Sink, SmtpClient, eventually, fresh_port, within};

/// A supervised server on a port that stays the same over its lives.
fn supervised() -> Crashing {
    let mut crashing = Crashing::new();
    crashing.plan = crashing.plan.supervised().setting("smtp-port", fresh_port().port());
    crashing
}

fn pid_of(line: &str) -> Option<i32> {
    line.strip_prefix("ready ")?.rsplit_once("pid=")?.1.parse().ok()
}

/// Waits for the server that is none of `before`, until it takes mail.
fn await_next(process: &mut Process, before: &[i32]) -> i32 {
    process.await_line(PATIENCE, |line| pid_of(line).filter(|pid| !before.contains(pid)))
}

fn is_there(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

#[test]
fn a_server_that_a_plugin_ended_is_back_at_once_twice_and_stops_when_told() {
    let crashing = supervised();
    let mut server = crashing.plan.start();
    let mut lives = vec![await_next(server.process(), &[])];
    for _ in 0..2 {
        assert!(!ask(&server, "segv"));
        let next = await_next(server.process(), &lives);
        lives.push(next);
    }
    assert_eq!(crashing.crashes().len(), 2);
    server.process().await_complaint(PATIENCE, "was ended by signal 11; it is started again now");
    server
        .process()
        .await_complaint(PATIENCE, "was ended by signal 11; it is started again in 500");
    assert!(ask(&server, "peaceful"), "it takes mail");
    assert!(server.terminate().success(), "the server's own code");
    assert!(lives.iter().all(|pid| !is_there(*pid)));
}

#[test]
fn a_plugin_that_crashes_on_and_on_ends_the_supervision_with_78() {
    let crashing = supervised();
    let mut server = crashing.plan.start();
    let mut lives = vec![await_next(server.process(), &[])];
    for life in 0..3 {
        assert!(!ask(&server, "abort"));
        if life < 2 {
            let next = await_next(server.process(), &lives);
            lives.push(next);
        }
    }
    assert_eq!(server.process().wait(PATIENCE).code(), Some(78));
    let said = server.process().stderr.complete();
    assert!(said.contains("plugin 10-crashing.so has ended the server 3 times"), "{said}");
}

#[test]
fn a_server_that_a_plugin_ended_with_0_and_without_a_word_is_back() {
    let crashing = supervised();
    let mut server = crashing.plan.start();
    let first = await_next(server.process(), &[]);
    assert!(!ask(&server, "gone"));
    await_next(server.process(), &[first]);
    server.process().await_complaint(PATIENCE, "ended with code 0; it is started again now");
    assert!(server.terminate().success(), "an ordered end has code 0");
}

#[test]
fn what_cannot_start_is_not_tried_again() {
    let crashing = supervised();
    let plan = crashing.plan.clone().setting("smtp-threads", 100_000);
    let (code, said) = plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(!said.contains("started again"), "{said}");
}

#[test]
fn signals_are_passed_on_and_each_of_them_once() {
    let crashing = supervised();
    let log = crashing.plan.directory().join("log");
    let plan = crashing.plan.clone().setting("application-log", log.display());
    let mut server = plan.start();
    // SIGHUP opens the log again: a file that was moved away comes back.
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    server.process().hang_up();
    eventually("a new log", PATIENCE, || log.exists().then_some(()));
    let pid = await_next(server.process(), &[]);
    kill_process(Pid::from_raw(server.process().pid()).unwrap(), Signal::INT).unwrap();
    assert_eq!(server.process().wait(PATIENCE).code(), Some(0), "an ordered end");
    assert!(!is_there(pid));
}

#[test]
fn a_server_whose_keeper_was_killed_ends_by_itself() {
    let crashing = supervised();
    let mut server = crashing.plan.start();
    let pid = await_next(server.process(), &[]);
    server.kill9();
    eventually("the end of the server", PATIENCE, || (!is_there(pid)).then_some(()));
    let mut next = crashing.plan.start();
    assert!(next.terminate().success(), "nobody holds the queue");
    assert_eq!(crashing.crashes().len(), 0, "that was no crash");
}

#[test]
fn a_keeper_that_is_told_to_end_during_a_pause_ends() {
    let mut crashing = supervised();
    // The queue is another server's: such a start is tried again.
    let mut first = crashing.plan.clone().start();
    crashing.plan = crashing.plan.setting("smtp-port", fresh_port().port());
    let mut second = crashing.plan.spawn();
    second.await_complaint(PATIENCE, "ended with code 75; it is started again in");
    assert_eq!(second.terminate(PATIENCE).code(), Some(75));
    assert!(first.terminate().success());
}

/// The same with stderr in a pipe, and the end of it that is read.
fn supervised_into_a_pipe() -> (Crashing, File) {
    let mut crashing = supervised();
    let path = crashing.plan.directory().join("stderr");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let read = OpenOptions::new().read(true).custom_flags(without_waiting).open(&path).unwrap();
    let shell = ["sh", "-c", "exec \"$0\" \"$@\" 2>\"$SAID\""].map(Into::into);
    crashing.plan = crashing.plan.below(shell).environment("SAID", path);
    (crashing, read)
}

/// Ends servers by `way`, each of which must be followed by another, and at last the keeper.
fn end_and_await_next(crashing: &Crashing, way: &str, before: impl FnOnce()) {
    let mut server = crashing.plan.start();
    let mut lives = vec![await_next(server.process(), &[])];
    before();
    for _ in 0..2 {
        assert!(!ask(&server, way));
        let next = await_next(server.process(), &lives);
        lives.push(next);
    }
    assert!(server.terminate().success(), "an ordered end");
    assert!(lives.iter().all(|pid| !is_there(*pid)));
}

#[test]
fn a_server_is_back_where_nobody_reads_what_its_keeper_says_any_more() {
    let (crashing, read) = supervised_into_a_pipe();
    end_and_await_next(&crashing, "segv", || drop(read));
    assert_eq!(crashing.crashes().len(), 2);
}

#[test]
fn a_server_is_back_where_the_reader_of_stderr_has_stalled() {
    let (crashing, _read) = supervised_into_a_pipe();
    end_and_await_next(&crashing, "segv", || {
        let path = crashing.plan.directory().join("stderr");
        let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
        let options = OpenOptions::new().write(true).custom_flags(without_waiting).open(path);
        let mut pipe = options.unwrap();
        // To the last octet.
        for chunk in [&[b'x'; 4096][..], b"x"] {
            while pipe.write(chunk).is_ok() {}
            let full = pipe.write(chunk).unwrap_err();
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
        }
    });
    assert_eq!(crashing.crashes().len(), 2);
}

#[test]
fn a_start_in_vain_has_its_code_where_nobody_reads_why() {
    let (crashing, read) = supervised_into_a_pipe();
    drop(read);
    let path = crashing.plan.directory().join("stderr");
    // Somebody must read for the shell to begin.
    let read = std::thread::spawn(move || drop(File::open(path)));
    let mut keeper = crashing.plan.clone().setting("smtp-threads", 100_000).spawn();
    assert_eq!(keeper.wait(PATIENCE).code(), Some(78));
    read.join().unwrap();
}

/// Sends mail until told to stop; the names of those that were answered 250.
fn load(server: SocketAddr, client: usize, stop: &AtomicBool, taken: &Mutex<BTreeSet<String>>) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut session) = SmtpClient::hello(server) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        loop {
            number += 1;
            let name = format!("c{client}-{number}@example.org");
            let text = b"Subject: load\r\n\r\ntext\r\n";
            let reply = session.mail("sender@example.org", &name, text);
            let Ok(reply) = reply else { break };
            if reply.require(250).is_ok() {
                taken.lock().unwrap().insert(name);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

#[test]
fn nothing_that_was_answered_250_is_lost_over_crashes_under_load() {
    let mut crashing = supervised();
    let dump = crashing.plan.directory().join("sunk");
    let sink = Sink::start(&dump);
    crashing.plan = crashing.plan.setting("plugin-crash-limit", 0).smarthost(sink.address());
    let mut server = crashing.plan.start();
    let mut lives = vec![await_next(server.process(), &[])];
    let (stop, taken) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let address = server.smtp();
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (stop, taken) = (&stop, &taken);
            scope.spawn(move || load(address, client, stop, taken));
        }
        for way in ["segv", "killed", "abort", "exit", "overflow"] {
            let count = taken.lock().unwrap().len();
            within(PATIENCE, || (taken.lock().unwrap().len() > count + 50).then_some(()))
                .expect("mail is taken");
            match way {
                // By nobody's fault, and without a last word.
                "killed" => {
                    let server = Pid::from_raw(*lives.last().unwrap()).unwrap();
                    kill_process(server, Signal::KILL).unwrap();
                }
                way => assert!(!ask(&server, way)),
            }
            let next = await_next(server.process(), &lives);
            lives.push(next);
        }
        stop.store(true, Ordering::Relaxed);
    });
    server.await_empty_queue(PATIENCE);
    assert_eq!(crashing.crashes().len(), 4);
    assert!(server.terminate().success());
    let sunk = String::from_utf8(sink.terminate()).unwrap();
    let taken = taken.into_inner().unwrap();
    let lost: Vec<_> = taken.iter().filter(|name| !sunk.contains(&format!("\"{name}\""))).collect();
    assert!(
        taken.len() > 200 && lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        taken.len()
    );
}
