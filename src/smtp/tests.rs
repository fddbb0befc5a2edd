//! Client and server joined by queues of bytes, with random borders between reads.

use super::body::is_crlf_only;
use super::client::{self, Envelope, Event, Outcome, Stage};
use super::command::BodyKind;
use super::dsn::Request;
use super::stuffer::{LineRepair, Stuffer};
use super::support::{Driver, Random, seed};

/// Both ends of one connection.
struct Pair {
    client: client::Session,
    server: Driver,
    /// Server octets that the client has read.
    heard: usize,
    random: Random,
}

impl Pair {
    fn new(random: &mut Random) -> Self {
        Self {
            client: client::Session::new(&client::Options::new("client.example")),
            server: Driver::plain(),
            heard: 0,
            random: Random(random.next()),
        }
    }

    /// Carries octets both ways until the client has something to say.
    fn run(&mut self) -> Event {
        for _ in 0..1_000_000 {
            if let Some(event) = self.client.poll_event() {
                return event;
            }
            self.server.settle();
            let unsent = self.client.output();
            let count = unsent.len().min(1 + self.random.below(30));
            let read = unsent[..count].to_vec();
            self.client.consume_output(count);
            self.server.feed(&read);
            let rest = &self.server.output[self.heard..];
            let count = rest.len().min(1 + self.random.below(30));
            self.client.handle_input(&rest[..count]);
            self.heard += count;
        }
        panic!("the pair makes no progress");
    }

    fn deliver(&mut self, prefix: &[u8], body: &[u8], repair: LineRepair) -> Event {
        let size = (prefix.len() + body.len()) as u64;
        let envelope = Envelope {
            from: "from@example.com",
            to: "to@example.com",
            size,
            body: BodyKind::EightBit,
            smtputf8: false,
            request: Request::default(),
        };
        self.client.start(envelope).unwrap();
        let event = self.run();
        if event != Event::Data354 {
            return event;
        }
        assert!(self.client.begin_body());
        let mut wire = Vec::new();
        Stuffer::new(prefix, body, repair).write_to(&mut wire);
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + self.random.below(5000)));
            self.server.feed(now);
            rest = later;
        }
        self.client.end_body();
        self.run()
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    let lines: &[&[u8]] =
        &[b"", b".", b"..", b".a", b"word", b"\0\0", b"\xc3\xa4\xff", b"Received: x"];
    let mut text = Vec::new();
    for _ in 0..random.below(40) {
        text.extend_from_slice(lines[random.below(lines.len())]);
        if random.below(20) == 0 {
            text.resize(text.len() + random.below(30_000), b'x');
        }
        text.extend_from_slice(b"\r\n");
    }
    text
}

#[test]
fn mails_arrive_as_they_were_sent() {
    let mut random = Random(seed(4));
    for round in 0..60 {
        let mut pair = Pair::new(&mut random);
        assert!(matches!(pair.run(), Event::Ready { .. }));
        for mail in 0..4 {
            let body = text(&mut random);
            let prefix = if mail % 2 == 0 { &b"Received: by us\r\n"[..] } else { b"" };
            let event = pair.deliver(prefix, &body, LineRepair::Trust);
            assert!(matches!(event, Event::Done(Outcome::Accepted(_))), "{event:?}");
            let expected = [prefix, &body[..]].concat();
            assert_eq!(pair.server.bodies[mail], expected, "round {round}, mail {mail}");
        }
        pair.client.quit();
        assert_eq!(pair.run(), Event::Goodbye);
        assert_eq!(pair.client.stage(), Stage::Closed);
        assert_eq!(pair.server.memory.held, 0);
    }
}

/// S1, D-6B: whatever octets a plugin makes of a mail, one clean mail arrives.
#[test]
fn d_6b_repaired_texts_arrive_clean() {
    let mut random = Random(seed(5));
    let mut pair = Pair::new(&mut random);
    assert!(matches!(pair.run(), Event::Ready { .. }));
    for mail in 0..500 {
        let alphabet = b"\r\n.\n\r.a";
        let body: Vec<u8> = (0..random.below(40)).map(|_| *random.pick(alphabet)).collect();
        let event = pair.deliver(b"", &body, LineRepair::ToCrlf);
        let name = body.escape_ascii().to_string();
        assert!(matches!(event, Event::Done(Outcome::Accepted(_))), "{event:?} {name}");
        let arrived = &pair.server.bodies[mail];
        assert_eq!(pair.server.bodies.len(), mail + 1, "{name}");
        assert!(is_crlf_only(arrived), "{name}");
        let ink = |text: &[u8]| -> Vec<u8> {
            text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
        };
        assert_eq!(ink(arrived), ink(&body), "{name}");
    }
}

#[test]
fn a_large_mail_arrives() {
    let mut random = Random(seed(6));
    let mut pair = Pair::new(&mut random);
    assert!(matches!(pair.run(), Event::Ready { .. }));
    let body = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n.\r\n"
        .repeat(40_000);
    let event = pair.deliver(b"R: x\r\n", &body, LineRepair::Trust);
    assert!(matches!(event, Event::Done(Outcome::Accepted(_))), "{event:?}");
    assert!(pair.server.bodies[0].ends_with(&body));
}

#[test]
fn refusals_travel_back_and_the_next_mail_goes_through() {
    let mut random = Random(seed(7));
    let mut pair = Pair::new(&mut random);
    assert!(matches!(pair.run(), Event::Ready { .. }));
    for (from, to, stage) in [("refused@b", "c@d", Stage::Mail), ("a@b", "refused@d", Stage::Rcpt)]
    {
        let body = BodyKind::SevenBit;
        pair.client
            .start(Envelope {
                from,
                to,
                size: 1,
                body,
                smtputf8: false,
                request: Request::default(),
            })
            .unwrap();
        let Event::Done(Outcome::Refused { stage: refused_at, reply, .. }) = pair.run() else {
            panic!("the mail is refused");
        };
        assert_eq!((refused_at, reply.code()), (stage, 550));
        let event = pair.deliver(b"", b"x\r\n", LineRepair::Trust);
        assert!(matches!(event, Event::Done(Outcome::Accepted(_))), "{event:?}");
    }
    assert_eq!(pair.server.bodies.len(), 2);
}
