//! What goes out: texts that came by BDAT and leave by DATA, texts that plugins made, trace fields with
//! what strangers called themselves, and addresses of every shape.

use std::time::Duration;

use super::{SMUGGLED, VICTIM, wire::Wire};
use crate::{
    peers::{House, Peer, Received, UNDER_TEST},
    plugins::probe::Stage,
    support::{Server, ServerBuilder, SmtpClient, eventually},
};

/// How long a whole table may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(120);

/// Texts that DATA could not have brought as they are, or whose ends are dots.
const CHUNKED: &[&[u8]] = &[
    b"",
    b".",
    b"..",
    b"\r\n",
    b".\r\n",
    b"\r\n.",
    b"\r\n.\r\n",
    b"Subject: x\r\n\r\n.",
    b"Subject: x\r\n\r\nText\r\n.",
    b"Subject: x\r\n\r\nText\r\n.\r\n",
    b"Subject: x\r\n\r\nText\r\n.\r\n.\r\n\r\n.",
    b"Subject: x\r\n\r\nText without an end",
    b"Subject: x\r\n\r\n\0\r\n.\0\r\n",
];

/// What a stranger may call itself.
const NAMES: &[&str] = &[
    "client.example",
    "[192.0.2.1]",
    "a(b",
    "a)b;c",
    "a;\tSubject:",
    "<a>",
    "\"a\"",
    "a\\",
    ".",
    "..",
    "a\x01\x7fb",
    "Gr\u{fc}\u{df}e.example",
    "by under-test.example (Rohrpost) with SMTP",
];

/// Addresses with all that RFC 5321 4.1.2 lets stand in them, and some that it does not.
const ADDRESSES: &[&str] = &[
    "\"a b\"@example.net",
    "\"a>b\"@example.net",
    "\"a\\\"b\"@example.net",
    "\"a\\\\\"@example.net",
    "\".\"@example.net",
    "\"\"@example.net",
    "\"RCPT TO:<victim@example.net>\"@example.net",
    "a+b=c/d!e@example.net",
    "'a'@example.net",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "a..b@example.net",
    "a>b@example.net",
    "a\x01b@example.net",
    "a\"b@example.net",
    "@example.org:a@example.net",
];

fn plan(wire: &Wire) -> ServerBuilder {
    Server::builder()
        .smarthost(wire.address())
        .setting("smtp-hostname", UNDER_TEST)
        .setting("smtp-errors", 0)
}

/// Waits until every mail is delivered or has failed for good; how many have failed.
fn settled(server: &Server) -> usize {
    let failed = eventually("an end for every mail", BATCH, || {
        let status = server.status();
        let (queued, failed) = (status.count("queued"), status.count("failed"));
        (queued == failed).then_some(failed)
    });
    failed as usize
}

/// Sends one mail by BDAT, which must be taken; from nobody, whom no notice reaches.
fn chunk(client: &mut SmtpClient, recipient: &str, text: &[u8]) {
    client.command("MAIL FROM:<> BODY=8BITMIME").unwrap().require(250).unwrap();
    client.command(&format!("RCPT TO:<{recipient}>")).unwrap().require(250).unwrap();
    client.send(format!("BDAT {} LAST\r\n", text.len()).as_bytes()).unwrap();
    client.send(text).unwrap();
    client.reply().unwrap().require(250).unwrap();
}

/// RFC 3030 2 and RFC 5321 4.5.2: whatever came in chunks leaves stuffed by DATA, or unstuffed in chunks.
#[test]
fn a_text_that_came_in_chunks_leaves_as_one_mail() {
    for extensions in ["", "250-CHUNKING\r\n", "250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n"]
    {
        let wire = Wire::offering(extensions);
        let server = plan(&wire).start();
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let texts: Vec<Vec<u8>> = CHUNKED
            .iter()
            .flat_map(|text| [text.to_vec(), [text, &b"\r\n.\r\n"[..], SMUGGLED].concat()])
            .collect();
        for (number, text) in texts.iter().enumerate() {
            chunk(&mut client, &format!("row{number}@example.net"), text);
        }
        server.await_empty_queue(BATCH);
        wire.assert_clean();
        let record = wire.record();
        assert_eq!(record.mails.len(), texts.len());
        let chunked = record.mails.iter().filter(|mail| mail.chunked).count();
        assert!(extensions.contains("PIPELINING") || chunked == 0, "{chunked}");
        for (number, text) in texts.iter().enumerate() {
            let to = format!("<row{number}@example.net>");
            let mail = record.mails.iter().find(|mail| mail.to[0].contains(&to)).unwrap();
            let mut expected = text.clone();
            // The text is the same whichever way it leaves.
            if !text.is_empty() && !text.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            assert_eq!(Received::new(mail.octets.clone()).rest, expected, "{to} {extensions:?}");
        }
    }
}

/// D-66, D-86: a plugin that means well or not cannot make two mails of one by what it sets.
#[test]
fn what_plugins_set_leaves_as_one_mail() {
    let smuggled = percent(SMUGGLED);
    let texts = [
        "%0A.%0A",
        "%0D.%0D",
        "%0D%0A.%0D%0A",
        "%0A.%0D%0A",
        "%0D%0A.%0A",
        "%0D%0D%0A.%0D%0D%0A",
        "%0D%0A.",
        "%0D",
        "%0A",
        ".",
        "%0D%0A.%0D",
        "%00",
        "%0D%00%0A.%0D%00%0A",
    ];
    for extensions in ["", "250-CHUNKING\r\n"] {
        let wire = Wire::offering(extensions);
        let stage = Stage::new(&["10-a"]).smarthost(wire.address());
        let mut script = String::new();
        for (number, text) in texts.iter().enumerate() {
            for (hook, from) in [("message", "in"), ("out-data", "out")] {
                script +=
                    &format!("10-a {hook}@{from}{number} set-mime:Text{text}{smuggled}{text}\n");
                script += &format!("10-a {hook}@{from}end{number} set-mime:{smuggled}{text}\n");
            }
            script += &format!(
                "10-a message@to{number} set-recipient:x>{text}RCPT%20TO:<victim@example.net\n"
            );
            script += &format!(
                "10-a message@from{number} set-envelope:x>{text}RCPT%20TO:<victim@example.net>%0D%0A\n"
            );
        }
        stage.script(&script);
        let server = stage.start();
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let mut sent = 0;
        for number in 0..texts.len() {
            for kind in ["in", "out", "inend", "outend", "to", "from"] {
                let recipient = format!("{kind}{number}@example.net");
                let reply = client.mail("", &recipient, b"Subject: x\r\n\r\nx\r\n");
                let code = reply.unwrap().code;
                assert!([250, 550, 553, 554, 501, 451].contains(&code), "{recipient}: {code}");
                sent += usize::from(code == 250);
            }
        }
        let failed = settled(&server);
        wire.assert_clean();
        assert_eq!(wire.record().mails.len() + failed, sent, "{extensions:?}");
    }
}

/// Octets as the script of a probe has them.
fn percent(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("%{octet:02X}")).collect()
}

/// RFC 5321 4.4: what a stranger says in EHLO stands in a field of ours, and cannot end it.
#[test]
fn a_name_cannot_leave_its_field() {
    let wire = Wire::offering("");
    let server = plan(&wire).start();
    let text = b"Subject: x\r\n\r\nText\r\n";
    let mut sent = 0;
    for name in NAMES {
        for verb in ["EHLO", "HELO"] {
            let mut client = SmtpClient::connect(server.smtp()).unwrap();
            client.reply().unwrap().require(220).unwrap();
            let reply = client.command(&format!("{verb} {name}")).unwrap();
            assert!([250, 501].contains(&reply.code), "{name}: {reply:?}");
            if reply.code == 250 {
                let recipient = format!("row{sent}@example.net");
                let reply = client.mail("a@example.org", &recipient, text);
                reply.unwrap().require(250).unwrap();
                sent += 1;
            }
        }
    }
    server.await_empty_queue(BATCH);
    wire.assert_clean();
    let record = wire.record();
    assert!(sent > NAMES.len() && record.mails.len() == sent, "{sent} {}", record.mails.len());
    for mail in &record.mails {
        let mail = Received::new(mail.octets.clone());
        assert_eq!(
            (mail.added.as_slice(), mail.rest.as_slice()),
            (&b""[..], &text[..]),
            "{mail:?}"
        );
        let printable = |octet: &u8| (b' '..0x7f).contains(octet) || b"\r\n\t".contains(octet);
        assert!(mail.trace.iter().all(printable), "{mail:?}");
    }
}

/// RFC 5321 4.1.2: an address leaves as it came, or does not come in.
#[test]
fn an_address_cannot_leave_its_brackets() {
    let wire = Wire::offering("");
    let server = plan(&wire).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut sent = Vec::new();
    for address in ADDRESSES {
        for (from, to) in [("a@example.org", *address), (*address, "b@example.net")] {
            let reply = client.mail(from, to, b"Subject: x\r\n\r\nText\r\n").unwrap();
            assert!([250, 501, 550, 553].contains(&reply.code), "{from} {to}: {reply:?}");
            if reply.code == 250 {
                sent.push((from, to));
            }
            client.command("RSET").unwrap().require(250).unwrap();
        }
    }
    server.await_empty_queue(BATCH);
    let record = wire.record();
    assert_eq!(record.violations, [""; 0]);
    assert_eq!(record.mails.len(), sent.len());
    assert!(sent.len() >= ADDRESSES.len(), "{sent:?}");
    for mail in &record.mails {
        assert_eq!(mail.to.len(), 1, "{mail:?}");
        assert!(mail.from.matches("victim").count() + mail.to[0].matches("victim").count() <= 1);
    }
}

/// All of the above, as the servers of others count it.
fn counts_one_each(house: House) {
    let peer = Peer::receiver(house);
    let plan = Server::builder().smarthost(peer.address()).setting("smtp-hostname", UNDER_TEST);
    let server = plan.setting("smtp-errors", 0).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut sent = 0;
    for text in CHUNKED {
        chunk(&mut client, &format!("row{sent}@example.net"), text);
        let text = [text, &b"\r\n.\r\n"[..], SMUGGLED].concat();
        chunk(&mut client, &format!("row{}@example.net", sent + 1), &text);
        sent += 2;
    }
    for address in ADDRESSES {
        let reply = client.mail("", address, b"Subject: x\r\n\r\nText\r\n").unwrap();
        sent += usize::from(reply.code == 250);
        client.command("RSET").unwrap().require(250).unwrap();
    }
    // Some refuse addresses that others take.
    let refused = settled(&server);
    assert!(refused <= ADDRESSES.len(), "{refused} refused");
    eventually("as many mails as were taken", BATCH, || {
        (peer.count() >= sent - refused).then_some(())
    });
    assert_eq!((peer.count(), peer.kept(VICTIM)), (sent - refused, Vec::new()));
}

#[test]
fn postfix_counts_one_mail_each() {
    counts_one_each(House::Postfix);
}

#[test]
fn exim_counts_one_mail_each() {
    counts_one_each(House::Exim);
}

#[test]
fn opensmtpd_counts_one_mail_each() {
    counts_one_each(House::OpenSmtpd);
}

#[test]
fn haraka_counts_one_mail_each() {
    counts_one_each(House::Haraka);
}

#[test]
fn aiosmtpd_counts_one_mail_each() {
    counts_one_each(House::Aiosmtpd);
}
