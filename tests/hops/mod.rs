//! What is sent to next hops, how it is secured, and what hops that misbehave do to mail: nothing is lost,
//! nothing comes twice, nothing goes out in clear that must not.
//!
//! The hops are played by the tests ([`far`]). **Diagnostics**: what does not come in time panics with what
//! was awaited.

mod asked;
mod chunk;
mod facts;
mod far;
mod login;
mod paper;
mod reload;
mod reply;
mod reuse;
mod tls;

use serde_json::Value;

use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, eventually};

use self::far::{Far, Taken};

/// A text with dots, long lines and eight bits.
const TEXT: &[u8] = b"Subject: hops\r\n\r\n.\r\n..dots\r\nText \xc3\xa4\xff.\r\n.last\r\n";

/// A server with one worker and one connection that delivers to `far`, and tries again soon.
fn towards(far: &Far) -> ServerBuilder {
    Server::builder()
        .smarthost(far.address())
        .setting("smtp-threads", 1)
        .setting("smarthost-connections", 1)
        .setting("retry-interval", 1)
}

/// Hands a mail over; its id.
fn post(server: &Server, recipient: &str) -> String {
    post_text(server, recipient, TEXT)
}

fn post_text(server: &Server, recipient: &str, text: &[u8]) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let stuffed: Vec<u8> =
        text.split_inclusive(|&byte| byte == b'\n').fold(Vec::new(), |all, line| {
            let dot = if line.starts_with(b".") { &b"."[..] } else { b"" };
            [&all[..], dot, line].concat()
        });
    let reply = client.mail("a@example.org", recipient, &stuffed).unwrap().require(250).unwrap();
    let (_, ids) = reply.lines[0].split_once("Queued as ").unwrap();
    ids.split(' ').next().unwrap().to_owned()
}

/// What `rohrpost queue show` says of a mail.
fn show(server: &Server, id: &str) -> Value {
    serde_json::from_str(&server.plan().report(&["queue", "show", id])).unwrap()
}

/// Waits until the mail says that it waits because of this; it has had no attempt.
fn waits_because_of(server: &Server, id: &str, reason: &str) {
    let mail = eventually(&format!("a mail that waits because of {reason}"), PATIENCE, || {
        let mail = show(server, id);
        mail["why"].as_str().unwrap().contains(reason).then_some(mail)
    });
    assert_eq!(mail["attempts"], 0, "{mail}");
}

/// The one mail that the hop took, which is the one that was sent; and the queue is empty.
fn arrived(server: &Server, far: &Far) -> Taken {
    far.await_mails(1);
    server.await_empty_queue(PATIENCE);
    let taken = far.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].text.escape_ascii().to_string(), TEXT.escape_ascii().to_string());
    taken[0].clone()
}
