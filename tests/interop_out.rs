//! Rohrpost as the client of mail servers that others wrote: every octet that was submitted is what
//! they keep, below what they themselves add.
//!
//! **Diagnostics**: the first mail that differs is shown with the place at which it does.

use std::time::Duration;

use crate::{
    limits,
    peers::{House, LOGIN, Peer, Received, Text, UNDER_TEST, assert_same_octets, find, texts},
    support::{Authority, Random, Server, ServerBuilder, SmtpClient, eventually},
};

/// How long a whole batch may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(120);

/// Mails of random octets beside those of each kind.
const RANDOM_MAILS: usize = 20;

/// Fields that a receiver may put above ours.
const ADDED: &[&str] =
    &["return-path", "delivered-to", "x-original-to", "received", "authentication-results"];

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

/// How a mail leaves, where the receiver lets us choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunking {
    Auto,
    Off,
}

fn keeps_every_octet(house: House, chunking: Chunking) -> Peer {
    let mut random = Random::from_environment(house.name());
    let peer = Peer::receiver(house);
    let value = if chunking == Chunking::Auto { "auto" } else { "off" };
    let plan = plan().setting("smtp-out-chunking", value);
    let server = plan.smarthost(peer.address()).start();
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
    peer
}

#[test]
fn postfix_keeps_every_octet() {
    let peer = keeps_every_octet(House::Postfix, Chunking::Auto);
    assert!(peer.logged(" bdat="), "{peer}");
}

#[test]
fn postfix_keeps_every_octet_without_chunks() {
    let peer = keeps_every_octet(House::Postfix, Chunking::Off);
    assert!(!peer.logged(" bdat="), "{peer}");
}

#[test]
fn exim_keeps_every_octet() {
    let peer = keeps_every_octet(House::Exim, Chunking::Auto);
    assert!(peer.logged(" K S="), "{peer}");
}

#[test]
fn exim_keeps_every_octet_without_chunks() {
    let peer = keeps_every_octet(House::Exim, Chunking::Off);
    assert!(!peer.logged(" K S="), "{peer}");
}

#[test]
fn opensmtpd_keeps_every_octet() {
    keeps_every_octet(House::OpenSmtpd, Chunking::Auto);
}

#[test]
fn haraka_keeps_every_octet() {
    keeps_every_octet(House::Haraka, Chunking::Auto);
}

#[test]
fn aiosmtpd_keeps_every_octet() {
    keeps_every_octet(House::Aiosmtpd, Chunking::Auto);
}

/// RFC 3207: over TLS, by the certificate that each has for its address.
fn keeps_every_octet_over_tls(house: House, security: &str, login: bool) {
    let mut random = Random::from_environment(house.name());
    let authority = Authority::new();
    let peer = Peer::secure_receiver(house, &authority);
    let plan = plan().smarthost(peer.address());
    let trusted = plan.directory().join("authority.pem");
    authority.write(&trusted);
    let mut plan =
        plan.setting("smtp-out-security", security).setting("smtp-out-ca-file", trusted.display());
    if login {
        plan = plan.setting("smarthost-username", LOGIN.0).setting("smarthost-password", LOGIN.1);
    }
    let server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut texts = texts(&mut random, 5);
    texts.retain(Text::ends_in_line_end);
    for (number, text) in texts.iter().enumerate() {
        submit(&mut client, Way::Data, &format!("m{number}@example.net"), text);
    }
    server.await_empty_queue(BATCH);
    for (number, text) in texts.iter().enumerate() {
        let kept = peer.await_kept(&format!("m{number}"), BATCH);
        assert_same(text, &kept, house);
        // What each says of how it came; aiosmtpd says nothing.
        let added = String::from_utf8_lossy(&kept.added).to_ascii_lowercase();
        let said = match house {
            House::Postfix => "(using tlsv1.3",
            House::Exim if login => "with esmtpsa",
            House::Exim => "with esmtps",
            // Its TLS may work or not, see below.
            House::OpenSmtpd => "",
            House::Haraka if login => "with esmtpsa",
            House::Haraka => "with esmtps",
            House::Aiosmtpd => "",
        };
        assert!(added.contains(said), "{}: {added}", house.name());
    }
    assert_eq!(peer.count(), texts.len());
}

#[test]
fn postfix_keeps_every_octet_over_tls() {
    keeps_every_octet_over_tls(House::Postfix, "verified", false);
}

#[test]
fn exim_keeps_every_octet_over_tls_and_a_login() {
    keeps_every_octet_over_tls(House::Exim, "verified", true);
}

/// Debian 12 has built OpenSMTPD 6.8 with OpenSSL 3, with which it offers STARTTLS and then cannot sign:
/// the handshake fails, and the mail goes in clear within the same attempt (design, section 5).
#[test]
fn opensmtpd_keeps_every_octet_though_its_tls_may_fail() {
    keeps_every_octet_over_tls(House::OpenSmtpd, "opportunistic", false);
}

#[test]
fn haraka_keeps_every_octet_over_tls_and_a_login() {
    keeps_every_octet_over_tls(House::Haraka, "verified", true);
}

#[test]
fn aiosmtpd_keeps_every_octet_over_tls() {
    keeps_every_octet_over_tls(House::Aiosmtpd, "verified", false);
}

/// RFC 6531 3.2: a mail with such addresses goes to whoever offers SMTPUTF8, and to nobody else.
#[test]
fn international_addresses_reach_those_who_take_them() {
    for house in House::ALL {
        let peer = Peer::receiver(house);
        let server = plan().smarthost(peer.address()).start();
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let text = "Subject: Grüße\r\n\r\nGrüße\r\n";
        for command in
            ["MAIL FROM:<> BODY=8BITMIME SMTPUTF8", "RCPT TO:<grüße@example.net>", "DATA"]
        {
            assert!(client.command(command).unwrap().code < 400, "{command}");
        }
        client.send(text.as_bytes()).unwrap();
        let id = limits::id_of(&client.command(".").unwrap().require(250).unwrap());
        if house == House::OpenSmtpd {
            let mail = eventually("a mail that failed", BATCH, || {
                let mail = limits::show(server.plan(), &id);
                (mail["state"] == "failed").then_some(mail)
            });
            assert!(mail["results"].to_string().contains("5.6.7"), "{mail}");
            assert_eq!(peer.count(), 0);
        } else {
            server.await_empty_queue(BATCH);
            eventually("a mail that is kept", BATCH, || (peer.count() == 1).then_some(()));
            // Its recipient in letters and digits alone; some count octets, some characters.
            let kept = [peer.kept("gr____e"), peer.kept("gr__e")].concat();
            assert_same_octets(house.name(), text.as_bytes(), &kept[0].rest);
        }
    }
}

/// RFC 3461 5.2: what the sender wants to hear is passed on to whoever offers DSN; they then tell it.
#[test]
fn wishes_for_notices_are_passed_on() {
    for house in [House::Postfix, House::Exim, House::OpenSmtpd] {
        let peer = Peer::receiver(house);
        let server = plan().smarthost(peer.address()).start();
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        for command in [
            "MAIL FROM:<teller@example.org> RET=HDRS ENVID=proof-1",
            "RCPT TO:<told@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@example.com",
            "RCPT TO:<untold@example.net> NOTIFY=NEVER",
            "DATA",
        ] {
            assert!(client.command(command).unwrap().code < 400, "{command}");
        }
        client.send(b"Subject: x\r\n\r\nText.\r\n").unwrap();
        client.command(".").unwrap().require(250).unwrap();
        server.await_empty_queue(BATCH);
        peer.await_kept("told", BATCH);
        peer.await_kept("untold", BATCH);
        let notice = peer.await_kept("teller", BATCH).rest;
        let notice = String::from_utf8_lossy(&notice).to_ascii_lowercase();
        assert!(notice.contains("told@example.net"), "{}: {notice}", house.name());
        // OpenSMTPD tells the sender neither.
        let told =
            ["original-envelope-id: proof-1", "original-recipient: rfc822;first@example.com"];
        for field in told.iter().filter(|_| house != House::OpenSmtpd) {
            assert!(notice.contains(field), "{}: no {field} in\n{notice}", house.name());
        }
        assert!(!notice.contains("untold"), "{}: {notice}", house.name());
    }
}
