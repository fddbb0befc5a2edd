//! A next hop that stalls or drips at any step: design §5, every wait has a deadline with a name.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{
    await_count,
    hop::{At, Hop, How},
    id_of, queued, show,
};
use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, eventually};

/// A server whose patience with `hop` is one second at every step, and which tries again soon.
fn impatient(hop: SocketAddr) -> ServerBuilder {
    Server::builder()
        .smarthost(hop)
        .setting("smtp-threads", 1)
        .setting("smarthost-connections", 1)
        .setting("connect-timeout", 1)
        .setting("smtp-out-timeout", 1)
        .setting("smtp-out-data-timeout", 1)
        .setting("smtp-out-dot-timeout", 1)
        .setting("smtp-out-idle-timeout", 1)
        .setting("retry-interval", 2)
}

/// Larger than what the sockets between the two can hold.
const LARGE_BYTES: usize = 12 << 20;

/// One mail that meets the fault; its id.
fn post(server: &Server, at: At) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    if at == At::Rset {
        // RSET goes out only behind a mail whose MAIL was taken and the rest was not. Both come in one
        // message, so that the connection does not rest between them: after a rest, silence would say
        // nothing of the mail.
        client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
        for recipient in ["refused@example.net", "b@example.net"] {
            client.command(&format!("RCPT TO:<{recipient}>")).unwrap().require(250).unwrap();
        }
        client.command("DATA").unwrap().require(354).unwrap();
        let reply = client.command("x\r\n.").unwrap().require(250).unwrap();
        return reply.lines[0].rsplit_once(' ').unwrap().1.to_owned();
    }
    let line = [b'x'; 62];
    let lines = if at == At::Body { LARGE_BYTES / 64 } else { 1 };
    let text = [&line[..], b"\r\n"].concat().repeat(lines);
    let reply = client.mail("a@example.org", "b@example.net", &text);
    id_of(&reply.unwrap().require(250).unwrap())
}

/// Waits for an attempt that ended as a timeout, and returns its state.
fn timed_out(server: &Server, id: &str) -> String {
    eventually("an attempt that timed out", PATIENCE, || {
        let mail = show(server.plan(), id);
        let results: &Vec<Value> = mail["results"].as_array().unwrap();
        let ended = results.iter().find(|one| one["result"] == "timeout")?;
        Some(ended["state"].as_str().unwrap().to_owned())
    })
}

/// The hop behaves again: the mail arrives, and no connection is left or counted.
fn heals(server: &Server, hop: &Hop) {
    hop.set(None);
    hop.await_mail("b@example.net");
    eventually("the mail gone from the queue", PATIENCE, || {
        let status = server.status();
        (status.count("queued") == status.count("failed")).then_some(())
    });
    await_count(server, "outgoing_connections", 0);
}

/// Design §5: after the greeting a deadline costs the mail one attempt, with state and result.
fn an_attempt_times_out(at: At, how: How, state: &str) {
    let hop = Hop::start(Some((at, how)));
    let server = impatient(hop.address()).start();
    let id = post(&server, at);
    assert_eq!(timed_out(&server, &id), state, "{at:?} {how:?}");
    await_count(&server, "outgoing_connections", 0);
    heals(&server, &hop);
}

/// A message to two, so that the second mail follows the first over its connection without a rest; its id.
fn post_two(server: &Server) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    for recipient in ["b@example.net", "c@example.net"] {
        client.command(&format!("RCPT TO:<{recipient}>")).unwrap().require(250).unwrap();
    }
    client.command("DATA").unwrap().require(354).unwrap();
    let reply = client.command("x\r\n.").unwrap().require(250).unwrap();
    reply.lines[0].rsplit_once(' ').unwrap().1.to_owned()
}

/// A text that went ahead of its replies, over a connection that then ended without any, may have arrived:
/// that is an attempt, and not a mail to be sent again at once.
#[test]
fn a_chunk_without_any_reply_is_an_attempt() {
    let hop = Hop::start(Some((At::Second, How::Close)));
    let server = impatient(hop.address()).setting("retry-interval", 600).start();
    let id = post_two(&server);
    let mail = eventually("a mail that waits", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["state"] == "waiting").then_some(mail)
    });
    let attempt = &mail["results"][0];
    assert_eq!((&attempt["state"], &attempt["result"]), (&json!("message"), &json!("lost")));
    assert_eq!((hop.opened(), hop.mails().len()), (1, 1), "nothing was sent again");
}

/// The same where it is our own stop that ends the connection.
#[test]
fn a_chunk_that_a_stop_cuts_off_from_its_replies_is_an_attempt() {
    let hop = Hop::start(Some((At::Second, How::Stall)));
    let plan = impatient(hop.address())
        .setting("smtp-out-timeout", 600)
        .setting("shutdown-timeout", 1)
        .setting("retry-interval", 600);
    let mut server = plan.start();
    let id = post_two(&server);
    hop.await_mail("b@example.net");
    await_count(&server, "delivered", 1);
    assert!(server.terminate().success(), "{}", server.process());
    let server = plan.start();
    let mail = show(server.plan(), &id);
    assert_eq!((&mail["state"], &mail["attempts"]), (&json!("waiting"), &json!(1)), "{mail}");
    let attempt = &mail["results"][0];
    assert_eq!((&attempt["state"], &attempt["result"]), (&json!("message"), &json!("lost")));
}

/// RSET is about the mail before: the mail behind it goes over another connection, and that was no attempt.
fn the_connection_is_left(at: At, how: How) {
    let hop = Hop::start(Some((at, how)));
    let server = impatient(hop.address()).setting("smtp-out-idle-timeout", 600).start();
    post(&server, at);
    hop.await_mail("b@example.net");
    assert_eq!((server.status().count("retried"), hop.opened()), (0, 2), "{at:?} {how:?}");
}

/// Design §5: before the greeting is done it costs no attempt, and the mail says why it waits.
fn the_hop_times_out(at: At, how: How) {
    let hop = Hop::start(Some((at, how)));
    let plan = impatient(hop.address());
    let strict = match at {
        // Else a mail would go in clear.
        At::StartTls | At::Handshake => {
            plan.clone().setting("smtp-out-security", "required").setting("smtp-out-tls-timeout", 1)
        }
        At::Auth => {
            plan.clone().setting("smarthost-username", "tim").setting("smarthost-password", "x")
        }
        _ => plan.clone(),
    };
    let mut server = strict.start();
    let id = post(&server, at);
    waits_for_hop(&server, &id);
    assert!(hop.opened() > 0);
    if matches!(at, At::StartTls | At::Handshake | At::Auth) {
        // The hop offers neither when it is well.
        assert!(server.terminate().success(), "{}", server.process());
        server = plan.start();
    }
    heals(&server, &hop);
}

fn waits_for_hop(server: &Server, id: &str) {
    let mail = eventually("a mail that waits for the hop", PATIENCE, || {
        let mail = show(server.plan(), id);
        let why = mail["why"].as_str().unwrap();
        why.contains("cannot be reached").then_some(mail)
    });
    assert_eq!(mail["state"], "ready", "{mail}");
    assert_eq!(mail["attempts"], 0, "{mail}");
}

macro_rules! steps {
    ($($name:ident: $check:ident($at:ident, $how:ident $(, $state:literal)?);)*) => {
        $(#[test] fn $name() { $check(At::$at, How::$how $(, $state)?); })*
    };
}

steps! {
    banner_that_stalls: the_hop_times_out(Banner, Stall);
    banner_that_drips: the_hop_times_out(Banner, Drip);
    ehlo_that_stalls: the_hop_times_out(Ehlo, Stall);
    ehlo_that_drips: the_hop_times_out(Ehlo, Drip);
    starttls_that_stalls: the_hop_times_out(StartTls, Stall);
    starttls_that_drips: the_hop_times_out(StartTls, Drip);
    handshake_that_stalls: the_hop_times_out(Handshake, Stall);
    handshake_that_drips: the_hop_times_out(Handshake, Drip);
    auth_that_stalls: the_hop_times_out(Auth, Stall);
    auth_that_drips: the_hop_times_out(Auth, Drip);
    mail_that_stalls: an_attempt_times_out(Mail, Stall, "mailfrom");
    mail_that_drips: an_attempt_times_out(Mail, Drip, "mailfrom");
    rcpt_that_stalls: an_attempt_times_out(Rcpt, Stall, "rcptto");
    rcpt_that_drips: an_attempt_times_out(Rcpt, Drip, "rcptto");
    data_that_stalls: an_attempt_times_out(Data, Stall, "data");
    data_that_drips: an_attempt_times_out(Data, Drip, "data");
    chunk_that_stalls: an_attempt_times_out(Chunk, Stall, "message");
    chunk_that_drips: an_attempt_times_out(Chunk, Drip, "message");
    text_that_is_not_read: an_attempt_times_out(Body, Stall, "data");
    text_that_is_read_by_the_octet: an_attempt_times_out(Body, Drip, "data");
    dot_that_stalls: an_attempt_times_out(Dot, Stall, "message");
    dot_that_drips: an_attempt_times_out(Dot, Drip, "message");
    rset_that_stalls: the_connection_is_left(Rset, Stall);
    rset_that_drips: the_connection_is_left(Rset, Drip);
}

/// A hop that answers in time and wrongly is left as well.
#[test]
fn rset_that_is_refused() {
    the_connection_is_left(At::Rset, How::Say("502 5.5.1 no"));
}

/// A QUIT that nobody answers costs nothing but its own deadline: the mail was delivered before.
#[test]
fn quit_that_stalls_frees_the_connection() {
    for how in [How::Stall, How::Drip] {
        let hop = Hop::start(Some((At::Quit, how)));
        let server = impatient(hop.address()).start();
        queued(&server, "b@example.net");
        hop.await_mail("b@example.net");
        await_count(&server, "outgoing_connections", 0);
        await_count(&server, "queued", 0);
        assert_eq!(hop.mails().len(), 1, "{how:?}");
    }
}

/// A listener that takes no connection more, and those that it has taken.
pub(super) fn full_backlog() -> (TcpListener, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 64, "a backlog of none is never full");
    }
    (listener, waiting)
}

/// A hop whose backlog is full answers no SYN: connect-timeout.
#[test]
fn connect_that_is_never_answered() {
    let (listener, waiting) = full_backlog();
    let address = listener.local_addr().unwrap();
    let server = impatient(address).start();
    let id = post(&server, At::Banner);
    waits_for_hop(&server, &id);
    let why = show(server.plan(), &id)["why"].to_string();
    assert!(why.contains("connect-timeout"), "{why}");
    drop(waiting);
    let hop = Hop::on(listener, None);
    heals(&server, &hop);
}

/// A hop that says more than it was asked for costs the mail an attempt each time: no tight loop of
/// connections.
#[test]
fn a_hop_that_talks_too_much_is_not_hammered() {
    let twice = How::Say("250 hop.example\r\n250 2.0.0 and more");
    let hop = Hop::start(Some((At::Ehlo, twice)));
    let server = impatient(hop.address()).start();
    let id = post(&server, At::Ehlo);
    let mail = eventually("two attempts", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["attempts"].as_u64().unwrap() >= 2).then_some(mail)
    });
    assert_eq!(mail["results"][0]["result"], "invalid", "{mail}");
    assert!(hop.opened() < 20, "{} connections", hop.opened());
    heals(&server, &hop);
}
