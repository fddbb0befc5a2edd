//! Connections that end while they rest: the next mail is neither lost nor doubled, and has had no attempt.

use super::{
    far::{Conduct, End, Far},
    paper::self_signed,
    post, towards,
};
use crate::support::{PATIENCE, Server, eventually};
use std::{thread::sleep, time::Duration};

/// A little longer than the pauses of a connection that is in use.
const REST: Duration = Duration::from_millis(1_200);

/// Sends a mail, lets the connection rest, ends it, and sends another.
fn ends_at_rest(how: End, conduct: Conduct) -> (Far, Server) {
    let far = Far::start(conduct);
    let server = towards(&far)
        .setting("smtp-out-idle-timeout", 600)
        .setting("smtp-out-timeout", 1)
        .setting("retry-interval", 3600)
        .start();
    post(&server, "b@example.net");
    far.await_mails(1);
    server.await_empty_queue(PATIENCE);
    sleep(REST);
    far.end(how);
    if how != End::Silence {
        eventually("no connection", PATIENCE, || {
            (server.status().count("outgoing_connections") == 0).then_some(())
        });
    }
    post(&server, "c@example.net");
    let taken = far.await_mails(2);
    server.await_empty_queue(PATIENCE);
    assert_eq!(far.taken().len(), 2, "{how:?}: nothing came twice");
    assert_eq!(taken[1].connection, 1, "{how:?}");
    assert_eq!(server.status().count("retried"), 0, "{how:?}: no attempt was counted");
    (far, server)
}

fn chunking() -> Conduct {
    Conduct { keywords: &["PIPELINING", "CHUNKING"], ..Conduct::default() }
}

#[test]
fn a_resting_connection_that_is_closed_is_noticed_at_once() {
    ends_at_rest(End::Fin, Conduct::default());
    ends_at_rest(End::Fin, Conduct { tls: Some(self_signed("127.0.0.1")), ..Conduct::default() });
}

#[test]
fn a_resting_connection_that_is_reset_is_noticed_at_once() {
    ends_at_rest(End::Reset, Conduct::default());
}

/// As behind a firewall that forgot it: nobody answers, and nobody says so. Nothing of the text is risked,
/// though the hop takes chunks.
#[test]
fn a_resting_connection_that_nobody_hears_is_left_after_one_silence() {
    let (far, _server) = ends_at_rest(End::Silence, chunking());
    assert!(far.taken()[0].chunk && far.taken()[1].chunk, "the new connection has not rested");
}

/// What goes first over a connection that has rested waits for its replies.
#[test]
fn nothing_goes_ahead_over_a_connection_that_has_rested() {
    let far = Far::start(chunking());
    let server = towards(&far).setting("smtp-out-idle-timeout", 600).start();
    for (count, recipient) in ["b@example.net", "c@example.net"].into_iter().enumerate() {
        post(&server, recipient);
        far.await_mails(count + 1);
        server.await_empty_queue(PATIENCE);
        sleep(REST);
    }
    let taken = far.taken();
    assert_eq!((taken[0].chunk, taken[1].chunk, far.opened()), (true, false, 1));
}
