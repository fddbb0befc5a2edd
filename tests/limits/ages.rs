//! max-delivertime: a mail that is too old leaves the queue in whatever state it is (design §5).

use super::{
    await_count,
    hop::{At, Hop, How},
    list, queued, show,
};
use crate::support::{PATIENCE, Server, ServerBuilder, eventually};

fn short_lived() -> ServerBuilder {
    Server::builder().setting("smtp-threads", 1).setting("max-delivertime", 4)
}

/// No mail is left, neither in the server nor, once it has stopped, on the disk.
fn all_gone(mut server: Server) {
    server.await_empty_queue(PATIENCE);
    await_count(&server, "failed", 0);
    await_count(&server, "memory_used", 0);
    let plan = server.plan().clone();
    assert!(server.terminate().success(), "{}", server.process());
    assert_eq!(list(&plan), [] as [serde_json::Value; 0]);
}

#[test]
fn a_mail_without_a_connection_ages_out() {
    let server = short_lived().start();
    let id = queued(&server, "ready@example.net");
    assert_eq!(show(server.plan(), &id)["state"], "ready");
    all_gone(server);
}

#[test]
fn a_mail_that_waits_ages_out() {
    let hop = Hop::start(Some((At::Rcpt, How::Say("450 4.2.1 later"))));
    let server = short_lived().smarthost(hop.address()).setting("retry-interval", 1).start();
    let id = queued(&server, "waiting@example.net");
    eventually("a mail that waits", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["state"] == "waiting").then_some(())
    });
    all_gone(server);
}

#[test]
fn a_mail_that_failed_ages_out() {
    let hop = Hop::start(None);
    let server = short_lived().smarthost(hop.address()).start();
    let id = queued(&server, "refused@example.net");
    eventually("a mail that failed", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["state"] == "failed").then_some(())
    });
    assert_eq!(server.status().count("failed"), 1);
    all_gone(server);
}

/// It ages on the clock of the wall: time with no server running counts.
#[test]
fn a_mail_ages_while_no_server_runs() {
    let plan = Server::builder().setting("smtp-threads", 1);
    let mut server = plan.start();
    queued(&server, "old@example.net");
    assert!(server.terminate().success());
    assert_eq!(list(&plan).len(), 1);
    all_gone(plan.setting("max-delivertime", 1).start());
}
