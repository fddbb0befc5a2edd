//! Every kind of reply in every state: what the driver is told, what is sent, and the state behind it,
//! as one file under review.
//!
//! `ROHRPOST_BLESS=1` writes the file anew; a change of behaviour is a visible diff.

use std::fmt::Write;
use std::sync::Arc;

use super::super::command::BodyKind;
use super::super::dsn::Request;
use super::super::support::assert_as_reviewed;
use super::*;

/// What leads to a state: replies and acts, in order.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The driver is to be asked behind the banner.
    Ask,
    /// The far end says this.
    Hear(&'static [u8]),
    /// The handshake succeeds.
    Secure,
    /// A mail is started.
    Start,
    /// A mail is started whose text goes ahead; it is not out yet.
    Chunk,
    /// The text goes out.
    Begin,
    /// The text is out.
    End,
    Quit,
}

use Act::*;

const CLEAR: Act = Hear(b"220 mx\r\n250 mx\r\n");
const PIPES: Act = Hear(b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n");
const CHUNKS: Act = Hear(b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
const OFFER: Act = Hear(b"220 mx\r\n250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN\r\n");
const OK: Act = Hear(b"250 ok\r\n");
const NO: Act = Hear(b"550 5.1.1 no\r\n");
const GO: Act = Hear(b"354 go\r\n");
const TLS: Act = Hear(b"220 go\r\n");
const LOGIN: Act = Hear(b"250-mx\r\n250 AUTH LOGIN\r\n");
const PLAIN: Act = Hear(b"250-mx\r\n250 AUTH PLAIN\r\n");
const MORE: Act = Hear(b"334 x\r\n");

/// States by name, by what leads there, and by the security of the session.
const STATES: &[(&str, Security, &[Act])] = &[
    ("banner", Security::IfOffered, &[]),
    ("banner, driver asks", Security::IfOffered, &[Ask]),
    ("driver", Security::IfOffered, &[Ask, Hear(b"220 mx\r\n")]),
    ("ehlo", Security::IfOffered, &[Hear(b"220 mx\r\n")]),
    ("helo", Security::IfOffered, &[Hear(b"220 mx\r\n502 no\r\n")]),
    ("ehlo, tls required", Security::Required, &[Hear(b"220 mx\r\n")]),
    ("starttls", Security::IfOffered, &[OFFER]),
    ("starttls, required", Security::Required, &[OFFER]),
    ("handshake", Security::Required, &[OFFER, TLS]),
    ("ehlo, secured", Security::Required, &[OFFER, TLS, Secure]),
    ("auth plain", Security::Required, &[OFFER, TLS, Secure, PLAIN]),
    ("auth login", Security::Required, &[OFFER, TLS, Secure, LOGIN]),
    ("auth name", Security::Required, &[OFFER, TLS, Secure, LOGIN, MORE]),
    ("auth password", Security::Required, &[OFFER, TLS, Secure, LOGIN, MORE, MORE]),
    ("idle", Security::Clear, &[CLEAR]),
    ("mail", Security::Clear, &[CLEAR, Start]),
    ("rcpt", Security::Clear, &[CLEAR, Start, OK]),
    ("data", Security::Clear, &[CLEAR, Start, OK, OK]),
    ("reset, mail behind it", Security::Clear, &[CLEAR, Start, OK, NO, Start]),
    ("mail, pipelined", Security::Clear, &[PIPES, Start]),
    ("rcpt, pipelined", Security::Clear, &[PIPES, Start, OK]),
    ("rcpt, pipelined, mail refused", Security::Clear, &[PIPES, Start, NO]),
    ("data, pipelined", Security::Clear, &[PIPES, Start, OK, OK]),
    ("data, pipelined, rcpt refused", Security::Clear, &[PIPES, Start, OK, NO]),
    ("lone dot", Security::Clear, &[PIPES, Start, OK, NO, GO]),
    ("held", Security::Clear, &[PIPES, Start, OK, OK, GO]),
    ("body", Security::Clear, &[PIPES, Start, OK, OK, GO, Begin]),
    ("dot", Security::Clear, &[PIPES, Start, OK, OK, GO, Begin, End]),
    ("mail, chunk half out", Security::Clear, &[CHUNKS, Chunk]),
    ("rcpt, chunk half out", Security::Clear, &[CHUNKS, Chunk, OK]),
    ("bdat, chunk half out", Security::Clear, &[CHUNKS, Chunk, OK, OK]),
    ("bdat, chunk half out, rcpt refused", Security::Clear, &[CHUNKS, Chunk, OK, NO]),
    ("mail, chunk out", Security::Clear, &[CHUNKS, Chunk, End]),
    ("bdat, chunk out", Security::Clear, &[CHUNKS, Chunk, OK, OK, End]),
    ("bdat, chunk out, rcpt refused", Security::Clear, &[CHUNKS, Chunk, OK, NO, End]),
    ("after a refused chunk", Security::Clear, &[CHUNKS, Chunk, OK, OK, End, NO, Start]),
    ("quit", Security::Clear, &[CLEAR, Quit]),
    ("closed", Security::Clear, &[CLEAR, Quit, Hear(b"221 bye\r\n")]),
];

const REPLIES: &[&[u8]] = &[
    b"220 mx.example\r\n",
    b"221 bye\r\n",
    b"235 in\r\n",
    b"250 ok\r\n",
    b"250-mx\r\n250 STARTTLS\r\n",
    b"334 x\r\n",
    b"354 go\r\n",
    b"421 4.3.2 bye\r\n",
    b"450 4.2.0 later\r\n",
    b"535 5.7.8 no\r\n",
    b"550 5.1.1 no\r\n",
    b"junk\r\n",
    b"2",
];

fn act(session: &mut Session, act: Act) {
    let body = BodyKind::SevenBit;
    let request = Request::default();
    let mail = Envelope { from: "a@b", to: "c@d", size: 5, body, smtputf8: false, request };
    match act {
        Hear(bytes) => {
            session.handle_input(bytes);
            while session.poll_event().is_some() {}
        }
        Ask => session.asks_at_banner = true,
        Secure => session.on_secured(),
        Start => session.start(mail).unwrap(),
        Chunk => session.start_chunk(mail, 5).unwrap(),
        Begin => assert!(session.begin_body()),
        End => session.end_body(),
        Quit => session.quit(),
    }
}

fn reached(security: Security, acts: &[Act]) -> Session {
    let login = (security == Security::Required)
        .then(|| Login { credentials: Arc::new(Credentials::new("u", "p")), in_clear: false });
    let mut session = Session::new(&Options { security, login, ..Options::new("me") });
    acts.iter().for_each(|one| act(&mut session, *one));
    session.consume_output(session.output().len());
    session
}

fn told(event: Event) -> String {
    match event {
        Event::Banner => "banner".into(),
        Event::Ready { .. } => "ready".into(),
        Event::StartTls => "handshake".into(),
        Event::Data354 => "text".into(),
        Event::Done(Outcome::Accepted(reply)) => format!("accepted {}", reply.code()),
        Event::Done(Outcome::Refused { stage, reply, origin }) => {
            format!("refused {stage:?} {} {origin:?}", reply.code())
        }
        Event::Lost { stage, problem } => format!("lost {stage:?} {problem:?}"),
        Event::Goodbye => "goodbye".into(),
    }
}

fn row(table: &mut String, state: &str, cause: &str, session: &mut Session) {
    let events = std::iter::from_fn(|| session.poll_event()).map(told).collect::<Vec<_>>();
    let sent = session.output().escape_ascii().to_string();
    let (events, stage) = (events.join("; "), session.stage());
    writeln!(table, "{state} | {cause} | {events} | {sent} | {stage:?}").unwrap();
}

fn outcomes() -> String {
    let mut table = String::from(
        "# state | reply | told | sent | stage behind it\n\
         # Written by a test with ROHRPOST_BLESS=1.\n",
    );
    for &(state, security, acts) in STATES {
        for reply in REPLIES {
            let mut session = reached(security, acts);
            session.handle_input(reply);
            row(&mut table, state, &reply.escape_ascii().to_string(), &mut session);
        }
        for problem in [Problem::Closed, Problem::TimedOut] {
            let mut session = reached(security, acts);
            session.on_lost(problem);
            row(&mut table, state, &format!("({problem:?})"), &mut session);
        }
    }
    table
}

#[test]
fn every_outcome_is_as_reviewed() {
    assert_as_reviewed("src/smtp/client/outcomes.golden", &outcomes());
}
