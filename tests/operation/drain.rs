//! `rohrpost drain`: no mail in, mail out, and back again.

use super::TEXT;
use crate::support::{PATIENCE, Server, Sink, SmtpClient, eventually, fresh_port};

#[test]
fn a_drain_lets_clients_finish_delivers_what_is_due_and_takes_no_more() {
    let plan = Server::builder();
    let sink = Sink::start(&plan.directory().join("dump"));
    let plan = plan.smarthost(sink.address());
    let server = plan.start();
    let mut sending = SmtpClient::hello(server.smtp()).unwrap();
    let mut idle = SmtpClient::hello(server.smtp()).unwrap();
    sending.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    sending.command("RCPT TO:<b@example.net>").unwrap().require(250).unwrap();
    sending.command("DATA").unwrap().require(354).unwrap();

    let said = plan.order(&["drain", "--timeout=0"]);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(said.stderr.contains("still draining"), "{said:?}");
    idle.reply().unwrap().require(421).unwrap();
    assert_eq!(server.status().text("/mode"), "draining");
    let mut late = SmtpClient::connect(server.smtp()).unwrap();
    let reply = late.reply().unwrap().require(421).unwrap();
    assert_eq!(reply.lines, ["4.3.2 No mail is taken at the moment; try again later"]);

    sending.send(TEXT).unwrap();
    sending.command(".").unwrap().require(250).unwrap();
    let said = plan.order(&["drain"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(0), "drained: 0 mails left for later attempts\n")
    );
    sink.await_count(1, PATIENCE);

    let said = plan.order(&["drain", "--off"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.mail("a@example.org", "c@example.net", TEXT).unwrap().require(250).unwrap();
    sink.await_count(2, PATIENCE);
    assert_eq!(server.status().text("/mode"), "open");
}

/// A client whose proxy has not named it yet hears the same as others (D-51).
#[test]
fn a_drain_answers_clients_that_are_not_named_yet() {
    let plan = Server::builder().setting("smtp-proxy", "127.0.0.0/8");
    let server = plan.start();
    let mut silent = SmtpClient::connect(server.smtp()).unwrap();
    eventually("the client", PATIENCE, || {
        (server.status().count("incoming_connections") == 1).then_some(())
    });
    assert_eq!(plan.order(&["drain"]).code, Some(0));
    silent.reply().unwrap().require(421).unwrap();
    silent.await_close().unwrap();
}

#[test]
fn a_drain_says_when_mail_cannot_leave_and_a_stop_is_still_a_stop() {
    let plan = Server::builder().smarthost(fresh_port());
    let mut server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    drop(client);
    let said = plan.order(&["drain", "--timeout=1"]);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(said.stderr.contains("1 mail due"), "{said:?}");
    assert!(server.terminate().success());
    // The next one takes mail.
    let server = plan.start();
    SmtpClient::hello(server.smtp()).unwrap();
    assert_eq!(server.queue_count(), 1);
}
