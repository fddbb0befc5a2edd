//! Servers of others: smtp-sink of Postfix, aiosmtpd.

use std::path::Path;

use crate::support::{Load, Tool};

/// How many lines of the file name a recipient.
fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[test]
fn smtp_sink_takes_what_was_sent_and_no_chunks() {
    let folder = tempfile::tempdir().unwrap();
    crate::interop::writable_by_all(folder.path(), &folder.path().join("dumps"));
    for flight in ["lockstep", "pipelined"] {
        let dump = folder.path().join("dumps").join(flight);
        let sink = Tool::new("smtp-sink").arg("-D").arg(&dump).words("127.0.0.1:0 64").listen();
        let line = format!("--messages 300 --per-connection 10 --flight {flight}");
        Load::on(sink.address, &line).run().assert_all(300);
        let arrived = std::fs::read_to_string(&dump).unwrap();
        assert_eq!(arrived.matches("\nSubject: Load\n").count(), 300, "{flight}");
    }
    let sink = Tool::new("smtp-sink").words("127.0.0.1:0 64").listen();
    let measured = Load::on(sink.address, "--messages 10 --flight bdat").run();
    assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
    let advice = "does not offer CHUNKING: use --flight pipelined";
    assert!(measured.stderr.contains(advice), "{measured:?}");
}

#[test]
fn aiosmtpd_takes_what_was_sent_one_command_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let digests = folder.path().join("digests");
    let receiver = Tool::python("receiver.py").arg("127.0.0.1:0").arg(&digests);
    let receiver = receiver.listen_when_ready();
    let line = "--messages 100 --recipients 2 --connections 5 --octets 1K-20K";
    Load::on(receiver.address, line).run().assert_all(100);
    assert_eq!(lines(&digests), 200);
    for flight in ["bdat", "pipelined"] {
        let line = format!("--messages 10 --threads 2 --flight {flight}");
        let measured = Load::on(receiver.address, &line).run();
        assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
        let advice = "does not offer PIPELINING: use --flight lockstep";
        assert!(measured.stderr.contains(advice), "{measured:?}");
    }
    assert_eq!(lines(&digests), 200, "nothing was begun");
}
