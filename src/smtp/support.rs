//! What the tests and fuzz bodies of this folder share: random numbers, budgets, a scripted driver.
//!
//! Owns no behaviour of SMTP.
//!
//! Diagnostics: seeds are printed by [`seed`], and taken from `ROHRPOST_SEED`.

use std::sync::Arc;

use super::answer::Fixed;
use super::memory::Memory;
use super::reply::Reply;
use super::server::{Decision, Event, Greeting, Options, Session};

/// The seed of a test: `ROHRPOST_SEED`, or the given one. Printed, so that a failure shows it.
pub(super) fn seed(fallback: u64) -> u64 {
    let seed = std::env::var("ROHRPOST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(fallback);
    println!("ROHRPOST_SEED={seed}");
    seed
}

/// Compares a table of outcomes with the reviewed one in `file`; with `ROHRPOST_BLESS` set, writes it
/// down first, to be reviewed.
#[cfg(test)]
pub(super) fn assert_as_reviewed(file: &str, outcomes: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("ROHRPOST_BLESS").is_some() {
        std::fs::write(&path, outcomes).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap();
    for (line, (got, expected)) in outcomes.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(got, expected, "line {} of {file}", line + 1);
    }
    assert_eq!(outcomes.lines().count(), reviewed.lines().count());
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// A budget that counts, and may run out.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) held: usize,
    pub(super) held_max: usize,
}

impl Counting {
    pub(super) fn of(held_max: usize) -> Self {
        Self { held: 0, held_max }
    }
}

impl Memory for Counting {
    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.held_max - self.held;
        if fits {
            self.held += bytes;
        }
        fits
    }

    fn release(&mut self, bytes: usize) {
        self.held = self.held.checked_sub(bytes).expect("no byte is released twice");
    }
}

/// A driver that accepts all, but for addresses whose local part says otherwise.
pub(super) struct Driver {
    pub(super) session: Session,
    pub(super) memory: Counting,
    pub(super) events: Vec<String>,
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) output: Vec<u8>,
}

impl Driver {
    pub(super) fn new(options: Options, held_max: usize) -> Self {
        let mut memory = Counting::of(held_max);
        let mut session = Session::new(Arc::new(options));
        session.greet(Greeting::Accept, &mut memory);
        Self { session, memory, events: Vec::new(), bodies: Vec::new(), output: Vec::new() }
    }

    pub(super) fn plain() -> Self {
        Self::new(Options::new("mx.example"), usize::MAX)
    }

    /// Gives one read to the session, into the body where it asks for that.
    pub(super) fn feed(&mut self, input: &[u8]) {
        let mut rest = input;
        while !rest.is_empty() {
            let target = self.session.body_target(&mut self.memory);
            rest = match target {
                Some(target) => {
                    let room = target.capacity() - target.len();
                    let (now, later) = rest.split_at(room.min(rest.len()));
                    target.extend_from_slice(now);
                    self.session.handle_body(&mut self.memory);
                    later
                }
                None => {
                    self.session.handle_input(rest, &mut self.memory);
                    &[]
                }
            };
            self.settle();
        }
    }

    /// As [`feed`](Self::feed), and never into the body.
    pub(super) fn feed_plainly(&mut self, input: &[u8]) {
        self.session.handle_input(input, &mut self.memory);
        self.settle();
    }

    /// Polls and decides until nothing is left to do; sends all output.
    pub(super) fn settle(&mut self) {
        loop {
            let before = self.output.len();
            self.session.take_output(&mut self.output);
            match self.session.poll_event(&mut self.memory) {
                Some(event) => self.on_event(event),
                None if self.session.output().is_empty() && before == self.output.len() => return,
                None => {}
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let decision = match event {
            Event::Mail(mail) => {
                self.events.push(format!("mail {mail:?}"));
                verdict(mail.address.local())
            }
            Event::Rcpt(rcpt) => {
                self.events.push(format!("rcpt {:?}", rcpt.address));
                verdict(rcpt.address.local())
            }
            Event::Message(received) => {
                self.events.push(format!("message {:?} {:?}", received.via, received.body));
                self.memory.release(received.reserved);
                self.bodies.push(received.body.as_bytes().to_vec());
                Decision::Accept
            }
            Event::Authenticate(credentials) => {
                self.events.push(format!("{credentials:?}"));
                match credentials.password.as_bytes() {
                    b"good" => Decision::Accept,
                    b"busy" => Decision::RefuseAsError(Reply::from(super::answer::LOGIN_LATER)),
                    b"later" => Decision::Refuse(Reply::from(super::answer::LOGIN_LATER)),
                    _ => Decision::Refuse(Reply::from(super::answer::LOGIN_REFUSED)),
                }
            }
            Event::StartTls => {
                self.events.push("starttls".into());
                Decision::Accept
            }
            Event::Hello(hello) => {
                self.events.push(format!("hello {}", hello.name));
                verdict(&hello.name)
            }
            Event::Rset => {
                self.events.push("rset".into());
                Decision::Accept
            }
            Event::Reset => return self.events.push("reset".into()),
            Event::Close(reason) => return self.events.push(format!("close {reason:?}")),
        };
        self.session.decide(decision, &mut self.memory);
    }

    /// Everything that was answered, from the start.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// What is answered to `input`, from now on.
    pub(super) fn answers(&mut self, input: &[u8]) -> String {
        self.settle();
        self.output.clear();
        self.feed(input);
        self.text()
    }
}

fn verdict(local: &str) -> Decision {
    match local {
        "refused" => Decision::Refuse(Reply::from(REFUSED)),
        "closed" => Decision::RefuseAndClose(Reply::from(super::answer::SHUTTING_DOWN)),
        _ => Decision::Accept,
    }
}

const REFUSED: Fixed = super::answer::NO_RELAY;
