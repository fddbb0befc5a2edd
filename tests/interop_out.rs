//! Rohrpost as the client of mail servers that others wrote: every octet that was submitted is what
//! they keep, below what they themselves add.
//!
//! **Diagnostics**: the first mail that differs is shown with the place at which it does.

use std::time::Duration;

use crate::{
    peers::{House, Peer, Received, Text, UNDER_TEST, assert_same_octets, find, texts},
    support::{Random, Server, ServerBuilder, SmtpClient},
};

/// How long a whole batch may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(120);

/// Mails of random octets beside those of each kind.
const RANDOM_MAILS: usize = 20;

/// Fields that a receiver may put above ours.
const ADDED: &[&str] = &["return-path", "delivered-to", "x-original-to", "received"];

/// How a mail comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Data,
    Bdat,
}

fn plan() -> ServerBuilder {
    Server::builder().setting("smtp-hostname", UNDER_TEST)
}

/// Hands one mail to the server.
fn submit(client: &mut SmtpClient, way: Way, recipient: &str, text: &Text) {
    let parameter = if text.octets.is_ascii() { "" } else { " BODY=8BITMIME" };
    client.command(&format!("MAIL FROM:<a@example.org>{parameter}")).unwrap().require(250).unwrap();
    client.command(&format!("RCPT TO:<{recipient}>")).unwrap().require(250).unwrap();
    let reply = match way {
        Way::Data => {
            client.command("DATA").unwrap().require(354).unwrap();
            client.send(&text.stuffed()).unwrap();
            client.command(".")
        }
        Way::Bdat => {
            // The chunk ends where the lines do not.
            let (first, last) = text.octets.split_at(text.octets.len() / 3);
            client.send(format!("BDAT {}\r\n", first.len()).as_bytes()).unwrap();
            client.send(first).unwrap();
            client.reply().unwrap().require(250).unwrap();
            client.send(format!("BDAT {} LAST\r\n", last.len()).as_bytes()).unwrap();
            client.send(last).unwrap();
            client.reply()
        }
    };
    reply.unwrap().require(250).unwrap();
}

/// What was kept is what was sent. A file of lines ends in a line end, whether the mail did or not, and
/// so does what DATA carries (RFC 5321 4.1.1.4); and some end a header that is the whole mail.
fn assert_same(text: &Text, kept: &Received, house: House) {
    for name in kept.added_names() {
        assert!(ADDED.contains(&name.as_str()), "{}: {name} in {kept:?}", house.name());
    }
    let mut sent = text.octets.clone();
    if !text.ends_in_line_end() && kept.rest.ends_with(b"\r\n") {
        sent.extend_from_slice(b"\r\n");
    }
    let header_alone = !sent.is_empty() && find(&sent, b"\r\n\r\n").is_none();
    if header_alone && matches!(house, House::Exim | House::Haraka) {
        sent.extend_from_slice(b"\r\n");
    }
    assert_same_octets(&format!("{}, {}", house.name(), text.name), &sent, &kept.rest);
}

fn keeps_every_octet(house: House) {
    let mut random = Random::from_environment(house.name());
    let peer = Peer::receiver(house);
    let server = plan().smarthost(peer.address()).start();
    let texts = texts(&mut random, RANDOM_MAILS);
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut sent = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        for way in [Way::Data, Way::Bdat] {
            if way == Way::Bdat || text.ends_in_line_end() {
                let recipient = format!("m{number}-{way:?}").to_lowercase();
                submit(&mut client, way, &format!("{recipient}@example.net"), text);
                sent.push((recipient, text));
            }
        }
    }
    server.await_empty_queue(BATCH);
    for (recipient, text) in &sent {
        assert_same(text, &peer.await_kept(recipient, BATCH), house);
    }
    assert_eq!(peer.count(), sent.len(), "{peer}");
}

#[test]
fn postfix_keeps_every_octet() {
    keeps_every_octet(House::Postfix);
}

#[test]
fn exim_keeps_every_octet() {
    keeps_every_octet(House::Exim);
}

#[test]
fn opensmtpd_keeps_every_octet() {
    keeps_every_octet(House::OpenSmtpd);
}

#[test]
fn haraka_keeps_every_octet() {
    keeps_every_octet(House::Haraka);
}

#[test]
fn aiosmtpd_keeps_every_octet() {
    keeps_every_octet(House::Aiosmtpd);
}
