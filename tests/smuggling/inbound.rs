//! What comes in: each false end, in one packet, octet by octet, cut in two at each place, and in chunks.

use std::time::Duration;

use super::{ENDS, Fate, SMUGGLED, VICTIM, wire::Wire};
use crate::{
    peers::{House, Peer},
    support::{Server, SmtpClient},
};

/// How long a whole table may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(120);

/// How the text of one row is sent.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Behind the 354, with the final dot, in one write.
    Whole,
    /// The same, in as many packets as there are octets.
    Octets,
    /// The same, in two packets, the second of which begins at this octet of the false end.
    Cut(usize),
    /// One chunk.
    Chunk,
    /// Two chunks, the second of which begins at this octet of the false end.
    Chunks(usize),
}

/// A client that may make any number of errors.
struct Smuggler {
    client: SmtpClient,
    taken: usize,
}

impl Smuggler {
    fn at(server: &Server) -> Smuggler {
        Smuggler { client: SmtpClient::hello(server.smtp()).unwrap(), taken: 0 }
    }

    /// Sends the row, which must be answered by one reply and no more.
    fn send(&mut self, name: &str, end: &[u8], fate: Fate, way: Way) {
        let outer = b"Subject: outer\r\n\r\nText";
        let text = [outer, end, SMUGGLED].concat();
        let recipient = format!("RCPT TO:<row{}@example.net>", self.taken);
        for command in ["MAIL FROM:<a@example.org> BODY=8BITMIME", &recipient] {
            self.client.command(command).unwrap().require(250).unwrap();
        }
        let cut = |at: usize| text.split_at(outer.len() + at);
        match way {
            Way::Whole | Way::Octets | Way::Cut(_) => {
                self.client.command("DATA").unwrap().require(354).unwrap();
                let ended = [&text[..], b".\r\n"].concat();
                match way {
                    Way::Octets => {
                        ended.iter().for_each(|octet| self.client.send(&[*octet]).unwrap());
                    }
                    Way::Cut(at) => {
                        self.client.send(&ended[..outer.len() + at]).unwrap();
                        self.client.send(&ended[outer.len() + at..]).unwrap();
                    }
                    Way::Whole | Way::Chunk | Way::Chunks(_) => self.client.send(&ended).unwrap(),
                }
            }
            Way::Chunk => self.chunk(&text, " LAST"),
            Way::Chunks(at) => {
                let (first, last) = cut(at);
                self.chunk(first, "");
                let reply = self.client.reply().unwrap();
                assert!([250, 554].contains(&reply.code), "{name}, {way:?}: {reply:?}");
                if reply.code == 554 {
                    // What follows belongs to no mail.
                    self.chunk(last, " LAST");
                    let reply = self.client.reply().unwrap();
                    assert!(reply.code >= 500, "{name}, {way:?}: {reply:?}");
                    self.client.command("RSET").unwrap().require(250).unwrap();
                    return self.assert_answered(name, way, fate == Fate::Refused);
                }
                self.chunk(last, " LAST");
            }
        }
        let reply = self.client.reply().unwrap();
        let expected = match fate {
            Fate::Refused => (554, "5.6.0 "),
            Fate::OneMail => (250, "2.0.0 "),
        };
        assert_eq!((reply.code, &reply.lines[0][..6]), expected, "{name}, {way:?}");
        self.taken += usize::from(fate == Fate::OneMail);
        self.assert_answered(name, way, true);
    }

    fn chunk(&mut self, octets: &[u8], last: &str) {
        self.client.send(format!("BDAT {}{last}\r\n", octets.len()).as_bytes()).unwrap();
        self.client.send(octets).unwrap();
    }

    /// The next reply is that of the next command: 252 is VRFY's alone.
    fn assert_answered(&mut self, name: &str, way: Way, expected: bool) {
        assert!(expected, "{name}, {way:?}");
        let reply = self.client.command("VRFY x").unwrap();
        assert_eq!(reply.code, 252, "{name}, {way:?}: {reply:?}\n{}", self.client.transcript());
    }
}

/// RFC 5321 4.1.1.4 and 2.3.8: only CRLF . CRLF ends a text, and no CR or LF stands alone in one.
#[test]
fn no_false_end_makes_two_mails_of_one() {
    let wire = Wire::offering("");
    let server = Server::builder().smarthost(wire.address()).setting("smtp-errors", 0).start();
    let mut smuggler = Smuggler::at(&server);
    for &(name, end, fate) in ENDS {
        let cuts = 0..=end.len();
        let ways = [Way::Whole, Way::Octets, Way::Chunk].into_iter();
        let ways = ways.chain(cuts.clone().map(Way::Cut)).chain(cuts.map(Way::Chunks));
        for way in ways {
            smuggler.send(name, end, fate, way);
        }
    }
    // What would be the end in DATA is text in a chunk (RFC 3030 2), and must be stuffed when it leaves.
    for way in (0..=5).map(Way::Chunks).chain([Way::Chunk]) {
        smuggler.send("CRLF . CRLF", b"\r\n.\r\n", Fate::OneMail, way);
    }
    server.await_empty_queue(BATCH);
    wire.assert_clean();
    assert_eq!(wire.record().mails.len(), smuggler.taken);
}

/// The texts that we take are one mail to everybody behind us.
fn stay_one_mail_at(house: House) {
    let peer = Peer::receiver(house);
    let server = Server::builder().smarthost(peer.address()).start();
    let mut smuggler = Smuggler::at(&server);
    for &(name, end, fate) in ENDS.iter().filter(|(_, _, fate)| *fate == Fate::OneMail) {
        smuggler.send(name, end, fate, Way::Whole);
    }
    smuggler.send("CRLF . CRLF", b"\r\n.\r\n", Fate::OneMail, Way::Chunk);
    server.await_empty_queue(BATCH);
    for row in 0..smuggler.taken {
        peer.await_kept(&format!("row{row}"), BATCH);
    }
    assert_eq!((peer.kept(VICTIM), peer.count()), (Vec::new(), smuggler.taken));
}

#[test]
fn one_mail_stays_one_at_postfix() {
    stay_one_mail_at(House::Postfix);
}

#[test]
fn one_mail_stays_one_at_exim() {
    stay_one_mail_at(House::Exim);
}

#[test]
fn one_mail_stays_one_at_opensmtpd() {
    stay_one_mail_at(House::OpenSmtpd);
}

#[test]
fn one_mail_stays_one_at_haraka() {
    stay_one_mail_at(House::Haraka);
}

#[test]
fn one_mail_stays_one_at_aiosmtpd() {
    stay_one_mail_at(House::Aiosmtpd);
}
