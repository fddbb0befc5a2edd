//! Bodies of the fuzz targets, beside the code they drive.
//!
//! Owns the invariants that hold for any input whatsoever: no panic, bounded output, bounded memory,
//! everything that was reserved is released. `fuzz/` holds the targets, the tests below run each body
//! over its seeds.
//!
//! Diagnostics: a broken invariant panics with its name.

use std::sync::Arc;

use super::answer;
use super::body::is_crlf_only;
use super::client;
use super::command::BodyKind;
use super::dsn;
use super::memory::Memory;
use super::reply::Reply;
use super::sasl;
use super::server::{Asks, Decision, Event, Greeting, LoginOffer, Options, Session};

/// Room for a few mails, so that it runs out now and then.
const BUDGET_BYTES: usize = 80 * 1024;
/// One reply at most comes on top of the bound.
const REPLY_BYTES_MAX: usize = 512;

/// Mails that one connection starts; those that are refused locally need no reply to go on.
const MAILS_MAX: usize = 30;

/// A budget that knows what is held.
struct Budget {
    held: usize,
}

impl Memory for Budget {
    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = bytes <= BUDGET_BYTES - self.held;
        self.held += if fits { bytes } else { 0 };
        fits
    }

    fn release(&mut self, bytes: usize) {
        self.held = self.held.checked_sub(bytes).expect("no byte is released twice");
    }
}

/// A server session over any input. The first octet chooses how it is read, decided and ended.
pub fn server_session(data: &[u8]) {
    let Some((&control, input)) = data.split_first() else {
        return;
    };
    let options = Options {
        size_max: 50_000,
        output_bytes_max: 1024,
        starttls: true,
        ..Options::new("fuzz")
    };
    let mut server = Server {
        session: Session::new(Arc::new(options)),
        budget: Budget { held: 0 },
        decisions: control,
    };
    server.session.greet(Greeting::Accept, &mut server.budget);
    if control & 4 != 0 {
        server.session.offer_login(LoginOffer::Yes);
    }
    server.session.ask_about(Asks { hello: control & 8 != 0, reset: control & 16 != 0 });
    let read_bytes = 1 + usize::from(control >> 2) * 7;
    for read in input.chunks(read_bytes) {
        server.read(read);
        server.settle();
    }
    match control & 3 {
        0 => server.session.on_lost(&mut server.budget),
        1 => server.session.on_shutdown(&mut server.budget),
        _ => {
            let phase = server.session.phase();
            server.session.on_timeout(phase, &mut server.budget);
        }
    }
    server.settle();
    let open = server.session.phase() != super::server::Phase::Closing;
    assert!(!open, "a session that was told to end is closing");
    assert_eq!(server.budget.held, 0, "what was reserved is released");
}

struct Server {
    session: Session,
    budget: Budget,
    decisions: u8,
}

impl Server {
    fn read(&mut self, read: &[u8]) {
        let mut rest = read;
        while !rest.is_empty() {
            if let Some(target) = self.session.body_target(&mut self.budget) {
                let room = (target.capacity() - target.len()).min(rest.len());
                assert!(room > 0, "a body target has room");
                target.extend_from_slice(&rest[..room]);
                rest = &rest[room..];
                self.session.handle_body(&mut self.budget);
                self.settle();
            } else {
                self.session.handle_input(rest, &mut self.budget);
                return;
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let before = self.session.output().len();
            assert!(before <= 1024 + REPLY_BYTES_MAX, "output is bounded");
            self.session.consume_output(before);
            match self.session.poll_event(&mut self.budget) {
                Some(event) => self.on_event(event),
                None if self.session.output().is_empty() => return,
                None => {}
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Mail(mail) => assert!(mail.address.as_str().len() <= 254),
            Event::Rcpt(rcpt) => {
                assert!(!rcpt.address.is_null(), "a recipient has an address");
                assert!(!rcpt.address.as_str().contains(char::is_control));
            }
            Event::Authenticate(credentials) => {
                let login = credentials.login.as_bytes();
                assert!((1..=sasl::LOGIN_BYTES_MAX).contains(&login.len()));
                assert!(!credentials.name().contains(char::is_control));
                let password = credentials.password.as_bytes();
                assert!((1..=sasl::PASSWORD_BYTES_MAX).contains(&password.len()));
            }
            Event::Message(received) => {
                let body = &received.body;
                assert!(is_crlf_only(body.as_bytes()), "an accepted text is clean");
                assert!(body.len() <= 50_000, "an accepted text is not too large");
                assert_eq!(body.as_bytes_with_nul().last(), Some(&0));
                assert!(body.capacity() <= received.reserved, "a body is paid for");
                self.budget.release(received.reserved);
            }
            Event::StartTls => {}
            Event::Hello(_) | Event::Rset => {}
            Event::Reset | Event::Close(_) => return,
        }
        self.decisions = self.decisions.rotate_left(3) ^ 0x1d;
        let decision = match self.decisions % 8 {
            0 => Decision::Refuse(answer::NO_RELAY.into()),
            1 => Reply::new(250, None, "fine").map_or(Decision::Accept, Decision::AcceptWith),
            _ => Decision::Accept,
        };
        self.session.decide(decision, &mut self.budget);
        if self.session.phase() == super::server::Phase::Handshake {
            self.session.handle_input(b"QUIT\r\n", &mut self.budget);
            assert!(!self.session.wants_input() && self.session.is_dry(), "TLS comes first");
            self.session.on_secure();
        }
    }
}

/// A client session over any replies. The first octet chooses security, login, mails and the size of
/// reads.
pub fn client_session(data: &[u8]) {
    let Some((&control, input)) = data.split_first() else {
        return;
    };
    let mut session = client::Session::new(&client_options(control));
    let (mut started, mut settled, mut secured) = (0, 0, false);
    for read in input.chunks(1 + usize::from(control >> 2)) {
        session.handle_input(read);
        while let Some(event) = session.poll_event() {
            settled += usize::from(started > settled && settles(&event));
            match event {
                client::Event::Data354 if control & 1 == 0 && session.begin_body() => {
                    session.end_body();
                }
                client::Event::StartTls => {
                    check_output(&mut session, secured);
                    session.on_secured();
                    secured = true;
                }
                client::Event::Banner => session.proceed(),
                client::Event::Data354
                | client::Event::Ready { .. }
                | client::Event::Done(_)
                | client::Event::Lost { .. }
                | client::Event::Goodbye => {}
            }
            let idle = session.stage() == client::Stage::Idle && started < MAILS_MAX;
            if idle && start(&mut session, control) {
                started += 1;
            }
        }
        check_output(&mut session, secured);
    }
    session.on_lost(client::Problem::Closed);
    while let Some(event) = session.poll_event() {
        settled += usize::from(started > settled && settles(&event));
    }
    assert_eq!(started, settled, "each mail that was started is settled once");
    assert_eq!(session.stage(), client::Stage::Closed);
}

fn client_options(control: u8) -> client::Options {
    let login = client::Login {
        credentials: Arc::new(client::Credentials::new("user", "password")),
        in_clear: false,
    };
    let (security, login) = match control >> 4 & 3 {
        0 => (client::Security::Clear, None),
        1 => (client::Security::IfOffered, None),
        2 => (client::Security::IfOffered, Some(login)),
        _ => (client::Security::Required, Some(login)),
    };
    let asks_at_banner = control >> 7 == 1;
    client::Options { security, login, asks_at_banner, ..client::Options::new("fuzz") }
}

/// Starts a mail, its text ahead of all replies where that may be.
fn start(session: &mut client::Session, control: u8) -> bool {
    let envelope = envelope(control);
    if !session.takes_chunk() {
        return session.start(envelope).is_ok();
    }
    let started = session.start_chunk(envelope, envelope.size).is_ok();
    if session.stage() == client::Stage::Body && control & 1 == 0 {
        session.end_body();
    }
    started
}

fn settles(event: &client::Event) -> bool {
    match event {
        client::Event::Done(_) | client::Event::Lost { .. } => true,
        client::Event::Banner
        | client::Event::Ready { .. }
        | client::Event::StartTls
        | client::Event::Data354
        | client::Event::Goodbye => false,
    }
}

fn envelope(control: u8) -> client::Envelope<'static> {
    let to = if control & 2 == 0 { "c@d" } else { "\u{e4}@d" };
    let body = BodyKind::EightBit;
    let smtputf8 = control & 2 != 0;
    let request =
        dsn::Request { envid: Some("x"), orcpt: Some("rfc822;c@d"), ..Default::default() };
    client::Envelope { from: "a@b", to, size: 1000, body, smtputf8, request }
}

/// The values of RFC 3461's parameters: what is read can be said again and reads the same, and what is
/// said of any text holds nothing that could end a line or another parameter.
pub fn dsn_values(data: &[u8]) {
    if let Some(envid) = dsn::parse_envid(data) {
        let again = dsn::envid_value(&envid).expect("what was read can be said");
        assert_eq!(dsn::parse_envid(again.as_bytes()), Some(envid));
    }
    if let Some(orcpt) = dsn::parse_orcpt(data) {
        assert!(orcpt.is_ascii() && !orcpt.contains(char::is_control));
        if let Some(again) = dsn::orcpt_value(&orcpt) {
            assert_eq!(dsn::parse_orcpt(again.as_bytes()), Some(orcpt));
        }
    }
    let text = String::from_utf8_lossy(data);
    let request = dsn::Request {
        ret: dsn::Ret::parse(data),
        envid: Some(&text),
        notify: dsn::Notify::parse(data),
        orcpt: Some(&text),
    };
    let mut out = Vec::new();
    request.write_mail(&mut out);
    request.write_rcpt(&mut out);
    assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)), "parameters are printable");
    assert!(out.len() <= dsn::ENVID_BYTES_MAX + dsn::ORCPT_BYTES_MAX + 60, "and short");
}

/// What is sent is made of whole command lines, and short; and no password goes out in clear.
fn check_output(session: &mut client::Session, secured: bool) {
    let output = session.output();
    assert!(output.len() <= 2 * REPLY_BYTES_MAX, "output is bounded");
    assert!(output.is_empty() || output.ends_with(b"\r\n"), "lines are whole");
    assert!(is_crlf_only(output), "commands hold no bare CR or LF");
    assert!(secured || !output.starts_with(b"AUTH"), "a login waits for TLS");
    session.consume_output(output.len());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::support::{Random, seed};

    /// Runs a body over its seeds, and over mutations of them.
    fn exercise(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty());
        body(b"");
        seeds.iter().for_each(|input| body(input));
        let mut random = Random(seed(8));
        for _ in 0..3000 {
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..1 + random.below(6) {
                mutate(&mut input, &seeds, &mut random);
            }
            body(&input);
        }
    }

    fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
        let at = random.below(input.len() + 1);
        match random.below(5) {
            0 => input.truncate(at),
            1 => input.insert(at, *random.pick(b"\r\n.\0 <>@\"\\-=0259\xff")),
            2 if at < input.len() => input[at] = random.next() as u8,
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let count = random.below(other.len() - from).min(200);
                input.splice(at..at, other[from..from + count].iter().copied());
            }
            _ => {
                let end = (at + random.below(40)).min(input.len());
                input.drain(at..end);
            }
        }
    }

    #[test]
    fn exercises_server_session() {
        exercise("server_session", super::server_session);
    }

    #[test]
    fn exercises_dsn_values() {
        exercise("dsn_values", super::dsn_values);
    }

    #[test]
    fn exercises_client_session() {
        exercise("client_session", super::client_session);
    }
}
