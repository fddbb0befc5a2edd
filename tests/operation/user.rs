//! `user`: root opens what needs root, and is gone before anything else happens.
//!
//! Only root can give root up, so each test has a second half for whoever is not root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::process::geteuid;

use super::TEXT;
use super::packaging::HASH;
use crate::support::{PATIENCE, Sanitizer, Server, Sink, SmtpClient, compile_plugin};

/// A user that every system has, and its number.
fn somebody() -> (&'static str, u32) {
    let name = "daemon";
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("daemon:")).unwrap();
    (name, line.split(':').nth(2).unwrap().parse().unwrap())
}

/// The lines of one field in the status of all threads of a process.
fn of_all_threads(pid: i32, field: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn d_08_root_is_given_up_for_good_before_a_plugin_is_loaded() {
    let (name, uid) = somebody();
    let plan = Server::builder().setting("user", name);
    fs::create_dir(plan.queue_directory()).unwrap();
    if !geteuid().is_root() {
        let (code, said) = plan.start_in_vain();
        assert_eq!(code, Some(78));
        assert!(said.contains("only root can become another"), "{said}");
        return;
    }
    // The user may pass here, and write in its queue alone.
    fs::set_permissions(plan.directory(), Permissions::from_mode(0o755)).unwrap();
    chown(plan.queue_directory(), Some(uid), None).unwrap();
    let plugins = plan.directory().join("plugins");
    let source = plan.directory().join("who.c");
    fs::write(&source, WHO).unwrap();
    compile_plugin(&source, &plugins, "who", Sanitizer::Off);
    let (dump, log) = (plan.directory().join("dump"), plan.directory().join("log"));
    let sink = Sink::start(&dump);
    // What the user could not read any more.
    let users = plan.directory().join("users.txt");
    fs::write(&users, format!("alice:{HASH}\n")).unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    let plan = plan
        .smarthost(sink.address())
        .setting("smtp-auth", format!("file://{}", users.display()))
        .setting("smtp-relay-range", "127.0.0.0/8")
        .setting("plugin-directory", plugins.display())
        .setting("application-log", log.display());
    let mut server = plan.start();

    let pid = server.process().pid();
    for (field, number) in [("Uid:", uid), ("Gid:", gid_of(name))] {
        let all = of_all_threads(pid, field);
        assert!(all.len() > 4, "{all:?}");
        let expected = format!("{number} {number} {number} {number}");
        assert!(all.iter().all(|own| *own == expected), "{all:?}");
    }
    // Whose that is may look into itself, and leave a core behind.
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), uid);
    let rights = of_all_threads(pid, "CapPrm:");
    assert!(rights.iter().all(|rights| rights.trim_matches('0').is_empty()), "{rights:?}");
    let groups = of_all_threads(pid, "Groups:");
    assert!(groups.iter().all(|groups| !groups.split(' ').any(|group| group == "0")), "{groups:?}");

    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    sink.await_count(1, PATIENCE);
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&log), uid);
    for file in fs::read_dir(plan.queue_directory()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().uid(), uid);
    }
    assert!(server.terminate().success());
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("who: version {uid}, initialize {uid}")), "{log}");
}

/// Tells who it ran as.
const WHO: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
#include <stdio.h>
#include <unistd.h>

static unsigned first;

MQ_EXPORT int mq_version(void) { first = geteuid(); return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    char text[64];
    snprintf(text, sizeof text, "who: version %u, initialize %u", first, (unsigned)geteuid());
    MQ_log(MQ_INFO, text);
}
"#;

fn gid_of(name: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_queue_that_belongs_to_somebody_else_keeps_the_server_from_starting() {
    let (name, _) = somebody();
    if !geteuid().is_root() {
        return not_for(name);
    }
    let (code, said) = Server::builder().setting("user", name).start_in_vain();
    assert_eq!(code, Some(78));
    assert!(said.contains("chown -R daemon"), "{said}");
    assert_eq!(said.lines().count(), 1, "said once: {said}");
}

#[test]
fn missing_places_are_made_for_the_user() {
    let (name, uid) = somebody();
    if !geteuid().is_root() {
        return not_for(name);
    }
    let plan = Server::builder().setting("user", name);
    fs::set_permissions(plan.directory(), Permissions::from_mode(0o755)).unwrap();
    let spool = plan.directory().join("spool");
    let mut server = plan.clone().setting("queue-directory", spool.display()).start();
    let made = fs::metadata(&spool).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (uid, 0o700));
    assert!(server.terminate().success());
}

/// Somebody who is not root cannot become another.
fn not_for(name: &str) {
    let (code, said) = Server::builder().setting("user", name).start_in_vain();
    assert_eq!(code, Some(78));
    assert!(said.contains("only root can become another"), "{said}");
}

#[test]
fn being_oneself_is_allowed_to_everybody_and_strangers_are_named() {
    let uid = geteuid().as_raw();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let own = users.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string())).unwrap();
    let own = own.split(':').next().unwrap();
    let mut server = Server::builder().setting("user", own).start();
    assert!(server.terminate().success());
    let (code, said) = Server::builder().setting("user", "nobody-like-that").start_in_vain();
    assert_eq!(code, Some(78));
    assert!(said.contains("user nobody-like-that does not exist"), "{said}");
}
