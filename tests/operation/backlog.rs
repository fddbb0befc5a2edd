//! A start on a long log: mail is taken while what was there before is still being read.
//!
//! **Diagnostics**: what the server and its log said.

use std::{net::TcpListener, time::Duration};

use super::TEXT;
use crate::support::{Load, PATIENCE, Server, Sink, SmtpClient, Tool, eventually};

/// With texts of 64 KiB more than what is read before the server greets.
const MESSAGES: u64 = 540;
const DRAIN: Duration = Duration::from_secs(120);

#[test]
fn a_long_log_is_read_while_mail_is_taken_and_all_of_it_is_delivered() {
    let hop = TcpListener::bind("127.41.0.1:0").unwrap().local_addr().unwrap();
    let plan = Server::builder()
        .smarthost(hop)
        .setting("queue-segment-size", "1MiB")
        .setting("retry-interval", 1);
    let mut server = plan.start();
    let load = format!("--octets 64K --connections 8 --messages {MESSAGES}");
    Load::on(server.smtp(), &load).run().assert_all(MESSAGES);
    server.kill9();

    // A disk that takes its time: strace counts the reads of each thread by itself.
    let slow = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64"];
    let slow =
        slow.into_iter().chain(["-e", "inject=pread64:delay_exit=150000:when=30+"]).map(Into::into);
    let command = [Tool::path("strace").into()].into_iter().chain(slow);
    let mut server = plan.clone().below(command).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let reply = client.mail("a@example.org", "b@example.net", TEXT).unwrap();
    assert_eq!(reply.code, 250);
    let recovering = || server.status().flag("/queue/recovering");
    assert!(recovering(), "it answered before all was read");
    let said = server.plan().order(&["queue", "count"]);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(said.stderr.contains("still being read"), "{said:?}");

    eventually("the end of the reading", PATIENCE, || (!recovering()).then_some(()));
    assert_eq!(server.queue_count(), MESSAGES + 1);
    // The next one finds what was taken meanwhile behind what was there before.
    server.kill9();
    let sink = Sink::start_on(hop, &plan.directory().join("dump"), &[] as &[&str]);
    let server = plan.start();
    let recovering = || server.status().flag("/queue/recovering");
    eventually("the end of the reading", PATIENCE, || (!recovering()).then_some(()));
    server.await_empty_queue(DRAIN);
    assert_eq!(sink.count(), MESSAGES as usize + 1);
}
