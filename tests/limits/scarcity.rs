//! When the system runs short: of descriptors, of disk. The server says so, lives on, and takes mail
//! again when there is enough.

use std::{ffi::OsString, fs::File, time::Duration};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    process::{Pid, Resource, Rlimit, getrlimit, prlimit},
};

use super::{TEXT, await_count, hop::Hop, queued, send};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

/// The start of a command line that runs what follows it after `preparation`.
fn shell(preparation: &str) -> Vec<OsString> {
    let script = format!("{preparation}; exec \"$0\" \"$@\"");
    ["sh", "-c", &script].map(OsString::from).to_vec()
}

/// Without a descriptor left, clients hear 421 and no connection stays in the backlog; when there are
/// some again, mail comes in and goes out.
#[test]
fn a_server_without_descriptors_says_421_and_lives_on() {
    const CLIENTS: usize = 120;
    let hop = Hop::start(None);
    let mut server = Server::builder()
        .smarthost(hop.address())
        .setting("smtp-connections", 1000)
        .setting("smtp-connections-per-address", 0)
        .setting("smtp-out-idle-timeout", 0)
        .start();
    let pid = Pid::from_raw(server.process().pid()).unwrap();
    let few = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..CLIENTS {
        let mut client = SmtpClient::connect(server.smtp()).unwrap();
        let banner = client.line().unwrap();
        if banner.starts_with("220 ") {
            open.push(client);
        } else {
            assert!(banner.starts_with("421 4.3.2 "), "{banner}");
            refused += 1;
        }
    }
    assert!(open.len() > 5 && refused > CLIENTS / 2, "{refused} refused");
    // Mail is still taken: the queue has its files open. To go out it needs a descriptor more.
    open[0].command("EHLO client.example").unwrap();
    let reply = open[0].mail("a@example.org", "first@example.net", TEXT);
    reply.unwrap().require(250).unwrap();
    drop(open);
    hop.await_mail("first@example.net");
    queued(&server, "second@example.net");
    hop.await_mail("second@example.net");
    await_count(&server, "queued", 0);
    await_count(&server, "incoming_connections", 0);
    let told = server.status().count("turned_away");
    assert_eq!(told, refused as u64);
    assert!(server.terminate().success(), "{}", server.process());
}

/// queue-min-free: below it a mail is answered 452 4.3.1 after the dot, and above it taken again.
#[test]
fn a_disk_that_is_nearly_full_answers_452() {
    let plan = Server::builder();
    let space = statvfs(plan.directory()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    // Wide enough for whatever else is written on this disk meanwhile.
    let margin = (free / 8).min(4 << 30);
    let server = plan.setting("queue-min-free", free - margin).start();
    queued(&server, "before@example.net");

    let path = server.plan().directory().join("filler");
    let filler = File::create(&path).unwrap();
    fallocate(&filler, FallocateFlags::empty(), 0, 2 * margin).unwrap();
    let refused = eventually("a refusal", PATIENCE, || {
        let reply = send(&server, "full@example.net");
        (reply.code != 250).then_some(reply)
    });
    assert_eq!((refused.code, &refused.lines[0][..6]), (452, "4.3.1 "));
    assert_eq!(server.status().text("/queue/accepting"), "full");
    let used = server.status().count("memory_used");
    send(&server, "full@example.net").require(452).unwrap();
    await_count(&server, "memory_used", used);
    drop(filler);
    std::fs::remove_file(&path).unwrap();
    eventually("room again", PATIENCE, || {
        (send(&server, "after@example.net").code == 250).then_some(())
    });
}

/// A disk that takes no more octets (here: a file that may not grow) is a failed write: 451, nothing
/// that was answered 250 is lost, and mail is taken again when it does.
#[test]
fn a_disk_that_refuses_to_be_written_answers_451_and_recovers() {
    // In blocks of 512 octets; the signal would end the process before it saw the error.
    const LIMIT_BYTES: u64 = 512 * 512;
    let mut server = Server::builder().below(shell("trap '' XFSZ; ulimit -S -f 512")).start();
    let pid = Pid::from_raw(server.process().pid()).unwrap();
    let text = [&[b'x'; 62][..], b"\r\n"].concat().repeat(1024);
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut taken = 0;
    let refused = eventually("a refusal", PATIENCE, || {
        let reply = client.mail("a@example.org", "b@example.net", &text).unwrap();
        taken += u64::from(reply.code == 250);
        (reply.code != 250).then_some(reply)
    });
    assert!([451, 452].contains(&refused.code), "{refused:?}");
    assert!(taken > 0 && taken * (text.len() as u64) < LIMIT_BYTES);
    assert_eq!(server.queue_count(), taken);
    let unlimited = Rlimit { current: None, maximum: None };
    prlimit(Some(pid), Resource::Fsize, unlimited).unwrap();
    eventually("a mail that is taken", Duration::from_secs(60), || {
        let reply = client.mail("a@example.org", "b@example.net", &text).unwrap();
        (reply.code == 250).then_some(())
    });
    assert_eq!(server.queue_count(), taken + 1);
    drop(client);
    let plan = server.plan().clone();
    server.kill9();
    assert_eq!(super::list(&plan).len() as u64, taken + 1);
}
