//! `rohrpost reload` and plugins (D-0E): changed files are used by connections that come, nobody who is
//! there notices, and what is replaced goes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use rohrpost::control::{self, Request};

use super::probe::{Stage, await_status, client, compiled, mail, probe_source, say};
use crate::support::{PATIENCE, Sanitizer, Server, SmtpClient, eventually};

const RENEWED: &str = include_str!("c/renewed.c");
/// Reloads of the long test.
const RELOADS: u32 = 300;
/// How many of them come before memory is measured: then every table has its size.
const WARM: u32 = 50;
/// Clients that send mail all the time.
const CLIENTS: u32 = 4;

/// The plugin of `renewed.c` with its build, in a server's directory.
struct Renewed {
    content: Vec<u8>,
    place: usize,
    file: PathBuf,
}

impl Renewed {
    fn new(stage: &Stage, name: &str) -> Renewed {
        let content = fs::read(compiled(RENEWED, Sanitizer::Off)).expect("it was compiled");
        let mark = b"BUILD-000000";
        let found = content.windows(mark.len()).position(|text| text == mark);
        let place = found.expect("the plugin has its mark") + b"BUILD-".len();
        let file = stage.plan.directory().join("plugins").join(format!("{name}.so"));
        let renewed = Renewed { content, place, file };
        renewed.put(0);
        renewed
    }

    /// Puts a build in place of the last one, as a package does: a new file, moved over the old one.
    fn put(&self, build: u32) {
        let mut content = self.content.clone();
        content[self.place..][..6].copy_from_slice(format!("{build:06}").as_bytes());
        let near = self.file.with_extension("new");
        fs::write(&near, content).expect("the plugin directory can be written");
        fs::rename(near, &self.file).expect("both are in one directory");
    }
}

/// Reloads as the command does; the row of the answer, or why there is none.
fn reload(queue: &Path) -> Result<serde_json::Value, String> {
    let answer = control::ask(queue, &Request::Reload, PATIENCE).expect("the server listens");
    let rows: Result<Vec<_>, _> = answer.collect();
    rows.map(|mut rows| rows.remove(0)).map_err(|error| error.to_string())
}

/// The build that greets.
fn greeted_by(client: &mut SmtpClient) -> u32 {
    let reply = client.reply().and_then(|reply| reply.require(220)).expect("the server greets");
    let build = reply.lines[0].strip_prefix("BUILD-").expect("the plugin has its word first");
    build.parse().expect("a build is a number")
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the server runs").count()
}

fn mappings(pid: i32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/maps")).expect("the server runs").lines().count()
}

/// Resident memory in KiB, without what files on disk hold.
fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number")
    };
    of("RssAnon:") + of("RssShmem:")
}

/// Sends mail until told to stop; how many were taken. Whoever connects after a reload has ended is
/// greeted by its build, or by a later one.
fn send(server: &Server, done: &AtomicU32, stop: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let least = done.load(Ordering::SeqCst);
        let mut client = SmtpClient::connect(server.smtp()).expect("the server listens");
        let build = greeted_by(&mut client);
        assert!(build >= least, "{build} greets after {least} was there");
        say(&mut client, "EHLO client.example.org", 250);
        for _ in 0..3 {
            mail(&mut client, "b@example.net");
            sent += 1;
        }
        say(&mut client, "QUIT", 221);
    }
    sent
}

#[test]
fn d_0e_three_hundred_reloads_under_load_drop_nobody_and_leave_only_their_libraries() {
    let stage = Stage::new(&[]).setting("smtp-threads", 2).setting("smtp-out-idle-timeout", 1);
    let sink = stage.sink(&[]);
    let log = stage.plan.directory().join("log");
    let stage = stage.smarthost(sink.address()).setting("application-log", log.display());
    let renewed = Renewed::new(&stage, "10-renewed");
    let mut server = stage.start();
    let queue = stage.plan.queue_directory();
    let pid = server.process().pid();
    let mut first = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut first), 0);
    say(&mut first, "EHLO first.example.org", 250);

    let (done, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let over = || fs::read_to_string(&log).expect("it is there").matches("over BUILD-").count();
    let mut at_begin = (0, 0, 0);
    let sent = std::thread::scope(|scope| {
        let senders: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| send(&server, &done, &stop))).collect();
        for build in 1..=RELOADS {
            renewed.put(build);
            let row = reload(&queue).expect("the plugin is good");
            assert_eq!(row["plugins_loaded"][0], "10-renewed.so", "{row}");
            done.store(build, Ordering::SeqCst);
            if build % 60 == 0 {
                mail(&mut first, "first@example.net");
            }
            if build == WARM {
                at_begin = (mappings(pid), resident_kib(pid), descriptors(pid));
            }
        }
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().expect("nobody was dropped")).sum::<u32>()
    });
    assert!(sent >= RELOADS, "there was no load: {sent}");
    // All but the first, which has a client, and the last.
    eventually("the replaced ones are over", PATIENCE, || {
        (over() >= RELOADS as usize - 1).then_some(())
    });
    mail(&mut first, "first@example.net");
    say(&mut first, "QUIT", 221);
    eventually("the first one is over", PATIENCE, || (over() == RELOADS as usize).then_some(()));
    sink.await_count((sent + RELOADS / 60 + 1) as usize, PATIENCE);
    await_status(&server, "incoming_connections", 0);
    await_status(&server, "outgoing_connections", 0);

    let measured = (RELOADS - WARM) as usize;
    // Five of one library: its text, its data and what the linker protects. Some of an allocator's own.
    let (maps, resident, open) = at_begin;
    let grown = mappings(pid).saturating_sub(maps);
    assert!(grown <= 6 * measured + 50, "{grown} mappings for {measured} libraries");
    // Each library has pages of its own, and the linker's notes: 20 KiB. The log keeps some for each mail.
    let grown = resident_kib(pid).saturating_sub(resident);
    assert!(grown <= 60 * measured as u64, "{grown} KiB for {measured} libraries");
    // Those of clients are gone.
    let left = descriptors(pid);
    assert!(left <= open, "{left} descriptors, and there were {open} under load");
}

#[test]
fn d_0e_a_file_that_cannot_be_loaded_leaves_everything_as_it_was() {
    let stage = Stage::new(&[]);
    let renewed = Renewed::new(&stage, "10-renewed");
    let server = stage.start();
    renewed.put(1);
    let bad = renewed.file.with_file_name("20-bad.so");
    fs::write(&bad, "no plugin").expect("the plugin directory can be written");
    let said = stage.plan.order(&["reload"]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.stderr.contains("nothing has changed"), "{said:?}");
    assert!(said.stderr.contains("20-bad.so cannot be loaded"), "{said:?}");
    let mut client = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut client), 0);
    fs::remove_file(bad).expect("it is there");
    let said = stage.plan.order(&["reload"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("plugins loaded: 10-renewed.so\n"), "{said:?}");
    let mut client = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut client), 1);
}

#[test]
fn d_0e_d_14_a_new_plugin_that_keeps_its_context_is_not_used_and_the_old_one_stays() {
    let stage = Stage::new(&[]).setting("plugin-start-timeout", 1).setting("smtp-threads", 2);
    let renewed = Renewed::new(&stage, "10-renewed");
    let plan = stage.plan.clone().environment("RENEWED_STUCK", "BUILD-000001");
    let mut server = plan.start();
    renewed.put(1);
    let why = reload(&plan.queue_directory()).expect_err("it never hands back");
    assert!(why.contains("10-renewed.so") && why.contains("plugin-start-timeout"), "{why}");
    server.process().await_complaint(PATIENCE, "over BUILD-000001");
    let mut client = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut client), 0);
    renewed.put(2);
    reload(&plan.queue_directory()).expect("that one hands back");
    let mut client = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut client), 2);
    assert!(server.terminate().success());
}

#[test]
fn d_0e_plugins_come_and_go_and_whoever_was_there_keeps_them() {
    let stage = Stage::new(&[]);
    let mut server = stage.start();
    let queue = stage.plan.queue_directory();
    // Nobody sees this one, neither now nor later.
    let mut plain = client(&server);
    let renewed = Renewed::new(&stage, "10-renewed");
    reload(&queue).expect("the plugin is good");
    let mut seen = SmtpClient::connect(server.smtp()).expect("the server listens");
    assert_eq!(greeted_by(&mut seen), 0);
    say(&mut seen, "EHLO seen.example.org", 250);
    fs::remove_file(&renewed.file).expect("it is there");
    let row = reload(&queue).expect("nothing is wrong with that");
    assert_eq!(row["plugins_gone"][0], "10-renewed.so", "{row}");
    let mut unseen = client(&server);
    for client in [&mut plain, &mut seen, &mut unseen] {
        mail(client, "b@example.net");
    }
    say(&mut seen, "QUIT", 221);
    server.process().await_complaint(PATIENCE, "over BUILD-000000");
    server.process().await_complaint(PATIENCE, "has ended");
    for client in [&mut plain, &mut unseen] {
        mail(client, "b@example.net");
    }
    assert!(server.terminate().success());
}

#[test]
fn d_0e_mail_over_a_connection_that_waits_meets_the_plugins_of_now() {
    let stage = Stage::new(&[]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    let server = stage.start();
    let mut sender = client(&server);
    mail(&mut sender, "b@example.net");
    sink.await_count(1, PATIENCE);
    await_status(&server, "outgoing_connections", 1);
    stage.add("10-a", &compiled(&probe_source("a", "", 201), Sanitizer::Off));
    reload(&stage.plan.queue_directory()).expect("the plugin is good");
    await_status(&server, "outgoing_connections", 0);
    mail(&mut sender, "b@example.net");
    stage.await_line("a out-data");
    sink.await_count(2, PATIENCE);
}
