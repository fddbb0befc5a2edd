//! A disk that is full, and freed: 452 as long as it is, 250 again soon after, and nothing lost.
//!
//! The queue is on a small file system of its own. **Diagnostics**: where none can be mounted the tests
//! fail and say so.

use std::{fs::File, io::Write, path::PathBuf, process::Command, time::Duration};

use super::{
    await_count,
    hop::{At, Hop, How},
    queued, send,
};
use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, eventually, within};

/// A file system of some MiB where the queue of a server will be. Dropping it takes it away.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) fn for_queue(plan: &ServerBuilder, mib: usize) -> SmallDisk {
        let queue = plan.queue_directory();
        std::fs::create_dir_all(&queue).unwrap();
        let size = format!("size={mib}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "rohrpost-test"]).arg(&queue);
        let mounted = mount.status().is_ok_and(|status| status.success());
        assert!(
            mounted,
            "a small file system takes root to mount, and in a container CAP_SYS_ADMIN"
        );
        SmallDisk(queue)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
    }

    /// Gives it back.
    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still be about to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// How soon mail is taken again after there is room.
const RECOVERY: Duration = Duration::from_secs(5);

/// Mails that are in the queue when the disk fills.
const MAILS: usize = 100;

/// Design §5: ENOSPC is 452, and recovery is by itself; outcomes that could not be written meanwhile are
/// written then, so that a crash costs no second copy.
fn full_and_freed(min_free: &str) {
    let hop = Hop::start(Some((At::Mail, How::Say("450 4.2.1 later"))));
    let plan = Server::builder()
        .smarthost(hop.address())
        .setting("retry-interval", 1)
        .setting("queue-segment-size", "1MiB")
        .setting("queue-min-free", min_free);
    let disk = SmallDisk::for_queue(&plan, 12);
    let mut server = plan.start();
    for number in 0..MAILS {
        queued(&server, &format!("before{number}@example.net"));
    }

    disk.fill();
    // What was set aside before lasts for some more.
    let mut squeezed = 0;
    let full = eventually("a refusal", PATIENCE, || {
        let reply = send(&server, "full@example.net");
        squeezed += usize::from(reply.code == 250);
        (reply.code != 250).then_some(reply)
    });
    assert_eq!((full.code, &full.lines[0][..6]), (452, "4.3.1 "), "{min_free}");
    // Other than mail nothing stops: commands are answered, and what is in the queue goes out.
    SmtpClient::hello(server.smtp()).unwrap().command("NOOP").unwrap().require(250).unwrap();
    hop.set(None);
    for number in 0..MAILS {
        hop.await_mail(&format!("before{number}@example.net"));
    }
    send(&server, "still-full@example.net").require(452).unwrap();

    disk.free();
    let taken = within(RECOVERY, || {
        let reply = send(&server, "after@example.net");
        (reply.code == 250).then_some(())
    });
    assert!(taken.is_some(), "{min_free}: no mail is taken {RECOVERY:?} after there was room");
    hop.await_mail("after@example.net");
    await_count(&server, "queued", 0);
    await_count(&server, "settles_unwritten", 0);
    server.kill9();

    // Everybody has all, once: the outcomes of the time without room have lasted.
    let server = plan.start();
    queued(&server, "last@example.net");
    hop.await_mail("last@example.net");
    await_count(&server, "queued", 0);
    let mails = hop.mails();
    let count = |name: &str| mails.iter().filter(|mail| mail.recipient.contains(name)).count();
    for number in 0..MAILS {
        assert_eq!(count(&format!("<before{number}@")), 1, "{min_free}: before{number}");
    }
    assert_eq!((count("after@"), count("<full@")), (1, squeezed), "{min_free}");
}

#[test]
fn a_full_disk_answers_452_and_takes_mail_again_when_freed() {
    full_and_freed("1MB");
}

#[test]
fn a_disk_full_to_the_last_octet_answers_452_and_takes_mail_again_when_freed() {
    full_and_freed("0");
}

/// a mail that does not fit is answered 452, and leaves the disk as it was: with the room that
/// queue-min-free keeps, and without it, when it fills the disk first.
#[test]
fn r_4_a_mail_that_filled_the_disk_leaves_room_for_others() {
    let hop = Hop::start(None);
    let large = [&[b'x'; 62][..], b"\r\n"].concat().repeat(12 << 20 >> 6);
    for min_free in ["1MB", "0"] {
        let plan = Server::builder().smarthost(hop.address()).setting("queue-min-free", min_free);
        let _disk = SmallDisk::for_queue(&plan, 8);
        let mut server = plan.start();
        for round in 0..3 {
            let small = format!("{min_free}-{round}@example.net").to_lowercase();
            eventually("a mail that is taken", PATIENCE, || {
                (send(&server, &small).code == 250).then_some(())
            });
            hop.await_mail(&small);
            let mut client = SmtpClient::hello(server.smtp()).unwrap();
            let reply = client.mail("a@example.org", "large@example.net", &large).unwrap();
            assert_eq!((reply.code, &reply.lines[0][..6]), (452, "4.3.1 "), "{min_free} {round}");
        }
        assert!(server.terminate().success(), "{}", server.process());
    }
}
