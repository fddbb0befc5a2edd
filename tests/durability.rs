//! The order of system calls: no mail is answered 250 before its record is on the disk.
//!
//! The server runs under strace; the judgement itself is a function of the trace, tested below with
//! made-up traces. **Diagnostics**: names the step that is missing or comes too late.

use crate::support::{Call, Server, SmtpClient, Tool, Trace};

/// What is traced: all that writes, and all that makes durable.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,\
                     fdatasync,fsync,sync_file_range,io_uring_enter";

/// Judges one mail, whose record contains `marker`, on a server that received nothing else: between the
/// end of the write of its record and the start of the send of its 250, a sync of the same descriptor
/// began and succeeded.
fn synced_before_answer(trace: &Trace, marker: &str) -> Result<(), String> {
    let writes = |call: &&Call| call.writes();
    let says = |call: &Call, reply: &str| call.arguments.contains(&format!("\"{reply}"));

    let go_ahead = trace.0.iter().filter(writes).find(|call| says(call, "354"));
    let go_ahead = go_ahead.ok_or("no 354 was sent")?;
    let answer = trace.0.iter().filter(writes).find(|call| {
        call.started > go_ahead.ended
            && call.descriptor() == go_ahead.descriptor()
            && says(call, "250")
    });
    let answer = answer.ok_or("no 250 was sent after the 354")?;
    let record = trace.0.iter().filter(writes).rfind(|call| {
        call.started < answer.started
            && call.descriptor().contains("</")
            && call.arguments.contains(marker)
    });
    let record = record.ok_or("no file was written that contains the mail, before its 250")?;
    let synced = trace.0.iter().any(|call| {
        call.syncs()
            && call.descriptor() == record.descriptor()
            && call.started > record.ended
            && call.ended < answer.started
    });
    if synced {
        return Ok(());
    }
    Err(format!(
        "{} was written on line {}, the 250 sent on line {}, and no successful sync of it between",
        record.descriptor(),
        record.started + 1,
        answer.started + 1,
    ))
}

#[test]
fn no_250_before_its_record_is_synced() {
    const MARKER: &str = "durable-or-not-4711";
    let plan = Server::builder();
    let output = plan.directory().join("trace");
    // -y names what a descriptor is; -s shows the strings whole.
    let strace = ["-f", "-y", "-s", "65536", "-e", CALLS, "-o"].map(Into::into);
    let command = [Tool::path("strace").into()].into_iter().chain(strace);
    let mut server = plan.below(command.chain([output.clone().into()])).start();

    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let content = format!("Subject: {MARKER}\r\n\r\nText.\r\n");
    let reply = client.mail("a@example.org", "b@example.net", content.as_bytes()).unwrap();
    assert_eq!(reply.code, 250, "{}", client.transcript());
    client.command("QUIT").unwrap().require(221).unwrap();
    assert!(server.terminate().success(), "{}", server.process());

    let text = std::fs::read_to_string(&output).expect("strace wrote its output");
    if let Err(why) = synced_before_answer(&Trace::parse(&text), MARKER) {
        let kept = std::env::temp_dir().join("rohrpost-durability.trace");
        let _ = std::fs::copy(&output, &kept);
        panic!("{why}; see {}", kept.display());
    }
    assert!(!text.contains("io_uring_enter("), "what io_uring does, this test cannot see");
    assert!(server.process().try_wait().is_some_and(|status| status.success()));
}

#[test]
fn the_judgement_tells_right_from_wrong() {
    const GO_AHEAD: &str = "7 sendto(9<socket:[5]>, \"354 go\\r\\n\", 8, 0, NULL, 0) = 8\n";
    const RECORD: &str = "8 writev(5</q/1.log>, [{iov_base=\"..m1..\", iov_len=6}], 1) = 6\n";
    const SYNC: &str = "8 fdatasync(5</q/1.log>) = 0\n";
    const FAILED: &str = "8 fdatasync(5</q/1.log>) = -1 EIO (Input/output error)\n";
    const OTHER: &str = "8 fdatasync(6</q/2.log>) = 0\n";
    const STARTED: &str = "8 fdatasync(5</q/1.log> <unfinished ...>\n";
    const FINISHED: &str = "8 <... fdatasync resumed>) = 0\n";
    const ANSWER: &str = "7 sendto(9<socket:[5]>, \"250 2.0.0 ok\\r\\n\", 14, 0, NULL, 0) = 14\n";

    let judge = |lines: &[&str]| synced_before_answer(&Trace::parse(&lines.concat()), "m1");
    assert_eq!(judge(&[GO_AHEAD, RECORD, SYNC, ANSWER]), Ok(()));
    assert_eq!(judge(&[GO_AHEAD, RECORD, STARTED, OTHER, FINISHED, ANSWER]), Ok(()));
    for (name, lines) in [
        ("no sync", &[GO_AHEAD, RECORD, ANSWER][..]),
        ("sync of another file", &[GO_AHEAD, RECORD, OTHER, ANSWER]),
        ("sync that failed", &[GO_AHEAD, RECORD, FAILED, ANSWER]),
        ("sync before the record", &[GO_AHEAD, SYNC, RECORD, ANSWER]),
        ("sync after the answer", &[GO_AHEAD, RECORD, ANSWER, SYNC]),
        ("sync not finished at the answer", &[GO_AHEAD, RECORD, STARTED, ANSWER, FINISHED]),
        ("record after the answer", &[GO_AHEAD, ANSWER, RECORD, SYNC]),
        ("no answer", &[GO_AHEAD, RECORD, SYNC]),
    ] {
        assert!(judge(lines).is_err(), "{name}");
    }
}
