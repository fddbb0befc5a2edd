//! One connection of a load, from its connect to QUIT.
//!
//! The session of the real client speaks until it is ready for mail. From then on commands are written
//! from memory, replies are read as codes, and texts go out of the plan's own memory.
//!
//! **Diagnostics**: [`End`] says whether a connection parted in order, and if not why.

use std::io::{IoSlice, Write};
use std::time::Instant;

use mio::Token;
use rohrpost_reactor::{Key, Readiness, TimerKey};

use super::letter::Letter;
use super::replies::Replies;
use super::transaction::{Order, Transaction, Verdict};
use super::worker::{Bench, Io};
use crate::cli::Flight;
use crate::net::transport::{Handshake, Moved, Transport};
use crate::smtp::client::{Event, Extensions, Outcome, Session, Stage};

/// Reads of one connection in one turn.
const READS_MAX: usize = 16;
/// The server closes the connection (RFC 5321 4.2.3).
const CLOSING: u16 = 421;

/// A message that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) octets: u32,
    /// When it was due, in an open loop.
    pub(super) due: Option<Instant>,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Said goodbye to, or not needed any more.
    Parted,
    /// It failed, perhaps with a message under way.
    Failed(String),
    /// No connection to this server can do what is wanted.
    Useless(String),
}

type Outlook = Result<(), End>;

#[derive(Debug)]
enum State {
    Connecting,
    /// Until the server is ready for mail. `shaking` while a handshake is under way.
    Greeting {
        session: Box<Session>,
        shaking: bool,
    },
    /// Ready, and nothing to send.
    Idle,
    Sending(Delivery),
    /// QUIT was said.
    Leaving,
}

/// A message under way.
#[derive(Debug)]
struct Delivery {
    transaction: Transaction,
    message: Message,
    letter: Letter,
    /// When the last octet was given to the system.
    sent: Option<Instant>,
}

/// A text that is being written.
#[derive(Clone, Copy, Debug)]
struct Body {
    letter: Letter,
    written: usize,
}

#[derive(Debug)]
pub(super) struct Connection {
    key: Key,
    transport: Transport,
    state: State,
    replies: Replies,
    /// Commands, and how many octets of them were written; a text goes behind them.
    out: Vec<u8>,
    written: usize,
    body: Option<Body>,
    readable: bool,
    read_closed: bool,
    writable: bool,
    queued: bool,
    /// RSET is due before the next message.
    unclean: bool,
    /// When something moved last.
    moved_ms: u64,
    messages: u64,
    /// How often a connection in this place failed before without a reply to a message.
    pub(super) failures: u32,
    /// Whether the place of this connection was never ready for mail.
    pub(super) is_first: bool,
    pub(super) deadline: TimerKey,
}

impl Connection {
    pub(super) fn new(
        key: Key,
        transport: Transport,
        deadline: TimerKey,
        now_ms: u64,
        failures: u32,
        is_first: bool,
    ) -> Connection {
        Connection {
            key,
            transport,
            state: State::Connecting,
            replies: Replies::default(),
            out: Vec::new(),
            written: 0,
            body: None,
            readable: false,
            read_closed: false,
            writable: false,
            queued: false,
            unclean: false,
            moved_ms: now_ms,
            messages: 0,
            failures,
            is_first,
            deadline,
        }
    }

    /// Whether the system is still connecting.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting)
    }

    /// Whether a message is under way, which ends with the connection.
    pub(super) fn has_message(&self) -> bool {
        matches!(self.state, State::Sending(_))
    }

    /// When it is to be looked at for the next time; an error if it has waited too long.
    pub(super) fn on_deadline(&self, now_ms: u64, timeout_ms: u64) -> Result<u64, End> {
        let since_ms = match self.state {
            // We are the ones who let wait.
            State::Idle => now_ms,
            State::Connecting | State::Greeting { .. } | State::Sending(_) | State::Leaving => {
                self.moved_ms
            }
        };
        if now_ms.saturating_sub(since_ms) < timeout_ms {
            return Ok(since_ms.saturating_add(timeout_ms).saturating_add(1));
        }
        let what = match &self.state {
            State::Connecting => "to the connect",
            State::Greeting { .. } => "before it was ready for mail",
            State::Idle | State::Sending(_) | State::Leaving => "to a command",
        };
        Err(End::Failed(format!("no answer within {} s {what}", timeout_ms / 1000)))
    }

    pub(super) fn on_ready(&mut self, ready: Readiness, bench: &mut Bench, io: &mut Io) -> Outlook {
        let may_read = ready.readable() || ready.read_closed() || ready.error() || ready.again();
        self.readable |= may_read;
        self.read_closed |= ready.read_closed();
        if ready.writable() {
            self.writable = true;
            self.transport.on_writable();
        }
        if self.is_connecting() {
            if let Some(error) = self.transport.take_error() {
                return Err(End::Failed(format!("cannot connect: {error}")));
            }
            if !self.writable || !self.transport.connected() {
                return Ok(());
            }
            bench.on_connected();
            self.moved_ms = io.now_ms();
            let session = Box::new(Session::new(&bench.plan.options));
            // Where TLS comes first.
            let shaking = session.stage() == Stage::Handshake;
            if shaking {
                self.start_tls(bench)?;
            }
            self.state = State::Greeting { session, shaking };
        }
        self.drive(bench, io)
    }

    /// Does all that can be done now.
    fn drive(&mut self, bench: &mut Bench, io: &mut Io) -> Outlook {
        for _ in 0..READS_MAX {
            if matches!(self.state, State::Greeting { shaking: true, .. }) {
                match self.transport.handshake() {
                    Handshake::Done => self.on_secured(),
                    Handshake::Blocked => return Ok(()),
                    Handshake::More => {
                        io.again(Token::from(self.key));
                        return Ok(());
                    }
                    Handshake::Failed(error) => {
                        return Err(End::Failed(format!("the TLS handshake failed: {error}")));
                    }
                }
            }
            if !self.readable {
                self.offer(bench);
                return Ok(());
            }
            self.read(bench, io)?;
        }
        self.offer(bench);
        io.again(Token::from(self.key));
        Ok(())
    }

    /// Asks for a flush, if there is something to write and room for it.
    fn offer(&mut self, bench: &mut Bench) {
        let waits = match &self.state {
            State::Greeting { session, .. } => !session.output().is_empty(),
            _ => self.written < self.out.len() || self.body.is_some(),
        };
        if waits && self.writable && !self.queued {
            self.queued = true;
            bench.dirty.push_back(self.key);
        }
    }

    fn read(&mut self, bench: &mut Bench, io: &mut Io) -> Outlook {
        let mut scratch = std::mem::take(&mut bench.scratch);
        scratch.clear();
        let moved = self.transport.read(&mut scratch);
        let outlook = match moved {
            Moved::Some(_) => self.take(&scratch, bench, io),
            Moved::Blocked(_) => {
                self.readable = self.read_closed;
                self.take(&scratch, bench, io)
            }
            Moved::End => Err(self.closed()),
            Moved::Gone(error) => Err(match self.state {
                State::Leaving => End::Parted,
                _ => End::Failed(format!("the connection was lost: {error}")),
            }),
        };
        bench.scratch = scratch;
        outlook
    }

    fn closed(&self) -> End {
        match self.state {
            State::Leaving => End::Parted,
            State::Connecting | State::Greeting { .. } => {
                End::Failed("the server closed the connection before it was ready for mail".into())
            }
            State::Idle | State::Sending(_) => {
                End::Failed("the server closed the connection".into())
            }
        }
    }

    fn take(&mut self, mut input: &[u8], bench: &mut Bench, io: &mut Io) -> Outlook {
        if input.is_empty() {
            return Ok(());
        }
        self.moved_ms = io.now_ms();
        if let State::Greeting { session, .. } = &mut self.state {
            session.handle_input(input);
            return self.greet(bench);
        }
        let now = Instant::now();
        loop {
            match self.replies.next(&mut input) {
                Ok(Some(code)) => self.on_code(code, now, bench)?,
                Ok(None) => return Ok(()),
                Err(garbled) => {
                    return Err(End::Failed(format!("the server sent {garbled}")));
                }
            }
        }
    }

    fn greet(&mut self, bench: &mut Bench) -> Outlook {
        while let State::Greeting { session, shaking } = &mut self.state {
            let Some(event) = session.poll_event() else {
                return Ok(());
            };
            match event {
                Event::Ready { extensions } => {
                    self.state = State::Idle;
                    self.able(extensions, bench)?;
                    bench.on_greeted(self.is_first);
                    self.is_first = false;
                    self.go_on(Instant::now(), bench);
                }
                Event::StartTls => {
                    *shaking = true;
                    self.start_tls(bench)?;
                }
                Event::Done(Outcome::Refused { reply, .. }) => {
                    let text = reply.text();
                    let why = format!("the server was not ready for mail: {} {text}", reply.code());
                    return Err(End::Failed(why));
                }
                Event::Lost { problem, .. } => return Err(End::Failed(problem.to_string())),
                // Not asked for, or not before a message.
                Event::Banner | Event::Data354 | Event::Done(Outcome::Accepted(_)) => {}
                Event::Goodbye => return Err(self.closed()),
            }
        }
        Ok(())
    }

    /// Whether the server can take messages as they shall be sent.
    fn able(&self, offered: Extensions, bench: &Bench) -> Outlook {
        let lacks = |what: &str, flight: &str| {
            let target = &bench.plan.target;
            let why = format!("{target} does not offer {what}: use --flight {flight}");
            Err(End::Useless(why))
        };
        match (bench.plan.flight, offered.pipelining, offered.chunking) {
            (Flight::Lockstep, ..) | (Flight::Pipelined, true, _) | (Flight::Bdat, true, true) => {
                Ok(())
            }
            (Flight::Pipelined | Flight::Bdat, false, _) => lacks("PIPELINING", "lockstep"),
            (Flight::Bdat, true, false) => lacks("CHUNKING", "pipelined"),
        }
    }

    fn start_tls(&mut self, bench: &Bench) -> Outlook {
        let (Some(config), Some(name)) = (&bench.tls, &bench.plan.name) else {
            return Err(End::Failed("TLS was not asked for".into()));
        };
        let started = self.transport.start_client_tls(config.clone(), name.clone());
        started.map_err(|error| End::Failed(format!("TLS cannot be begun: {error}")))
    }

    fn on_secured(&mut self) {
        if let State::Greeting { session, shaking } = &mut self.state {
            *shaking = false;
            session.on_secured();
            // What follows may have come in one piece with its end.
            self.readable = true;
        }
    }

    /// The connection is free: the next message, or none.
    pub(super) fn go_on(&mut self, now: Instant, bench: &mut Bench) {
        if bench.plan.idle {
            return bench.on_held();
        }
        let full = bench.plan.per_connection.is_some_and(|count| self.messages >= count);
        if full || bench.is_over() {
            return self.leave(bench);
        }
        match bench.next_message(now) {
            Some(message) => self.begin(message, bench),
            None if bench.is_over() => self.leave(bench),
            None => bench.idle.push_back(self.key),
        }
    }

    /// Whether it has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Says QUIT.
    pub(super) fn leave(&mut self, bench: &mut Bench) {
        self.state = State::Leaving;
        self.push(b"QUIT\r\n");
        self.offer(bench);
    }

    /// Nothing new is to be begun: whoever has a message ends it, and all others go.
    pub(super) fn on_stop(&mut self, bench: &mut Bench) -> Outlook {
        match self.state {
            State::Connecting | State::Greeting { .. } => Err(End::Parted),
            State::Idle => {
                self.leave(bench);
                Ok(())
            }
            State::Sending(_) | State::Leaving => Ok(()),
        }
    }

    fn begin(&mut self, message: Message, bench: &mut Bench) {
        let plan = &bench.plan;
        let recipients = plan.envelope.recipients();
        let transaction = Transaction::new(plan.flight, recipients, self.unclean);
        let letter = plan.letters.of(message.octets);
        let alone = plan.flight == Flight::Lockstep;
        if self.unclean {
            self.push(b"RSET\r\n");
        }
        if !(self.unclean && alone) {
            self.push(plan.envelope.mail());
        }
        if !alone {
            let out = &mut self.out;
            (0..recipients).for_each(|index| plan.envelope.push_rcpt(message.number, index, out));
        }
        match plan.flight {
            Flight::Lockstep => {}
            Flight::Pipelined => self.push(b"DATA\r\n"),
            Flight::Bdat => {
                let command = format_args!("BDAT {} LAST\r\n", letter.len());
                // Writing to memory cannot fail.
                let _ = self.out.write_fmt(command);
                self.body = Some(Body { letter, written: 0 });
            }
        }
        self.unclean = false;
        self.messages += 1;
        bench.tally.messages += 1;
        self.state = State::Sending(Delivery { transaction, message, letter, sent: None });
        self.offer(bench);
    }

    fn on_code(&mut self, code: u16, now: Instant, bench: &mut Bench) -> Outlook {
        let State::Sending(delivery) = &mut self.state else {
            return Err(match self.state {
                State::Leaving => End::Parted,
                _ => End::Failed(format!("the server said {code} though nothing was asked")),
            });
        };
        let (letter, number) = (delivery.letter, delivery.message.number);
        let early = delivery.transaction.awaits_text() && delivery.sent.is_none();
        let order = delivery.transaction.on_reply(code);
        if code == CLOSING {
            // Nothing that was sent behind it is answered any more.
            let verdict = match order {
                Order::Over(verdict) => verdict,
                _ => Verdict::refused(code),
            };
            self.on_over(verdict, now, bench);
            return Err(End::Failed("the server closed the connection (421)".into()));
        }
        match order {
            Order::Over(verdict) => {
                self.on_over(verdict, now, bench);
                if early {
                    // What it would make of the rest nobody knows.
                    let why = format!("the server said {code} before the text had ended");
                    return Err(End::Failed(why));
                }
                self.go_on(now, bench);
            }
            Order::Wait => {}
            Order::Mail => self.push(bench.plan.envelope.mail()),
            Order::Rcpt(index) => bench.plan.envelope.push_rcpt(number, index, &mut self.out),
            Order::Data => self.push(b"DATA\r\n"),
            Order::Text => self.body = Some(Body { letter, written: 0 }),
            Order::EmptyDot => self.push(b".\r\n"),
        }
        Ok(())
    }

    fn on_over(&mut self, verdict: Verdict, now: Instant, bench: &mut Bench) {
        if let State::Sending(delivery) = std::mem::replace(&mut self.state, State::Idle) {
            bench.tally.message(verdict, delivery.message.due.or(delivery.sent), now);
            self.failures = 0;
            self.unclean = verdict.unclean;
        }
    }

    fn push(&mut self, command: &[u8]) {
        self.out.extend_from_slice(command);
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self, bench: &mut Bench, io: &mut Io) {
        self.queued = false;
        if let State::Greeting { session, .. } = &mut self.state {
            let moved = self.transport.write(session.output());
            let count = self.count(moved, io);
            if let State::Greeting { session, .. } = &mut self.state {
                session.consume_output(count);
            }
            return self.offer(bench);
        }
        let begun = Instant::now();
        let commands = &self.out[self.written..];
        let (front, end) = match &self.body {
            None => (&[][..], &[][..]),
            Some(Body { letter, written }) => {
                let front = &bench.plan.letters.front(*letter)[(*written).min(letter.front)..];
                (front, &letter.end[written.saturating_sub(letter.front)..])
            }
        };
        let slices = [commands, front, end].map(IoSlice::new);
        let lengths = (commands.len(), front.len() + end.len());
        let moved = match lengths {
            (_, 0) => self.transport.write(commands),
            (0, _) => self.transport.write_slices(&slices[1..]),
            (_, _) => self.transport.write_slices(&slices),
        };
        let count = self.count(moved, io);
        self.advance(count, lengths.0);
        if self.body.is_some_and(|body| body.written == body.letter.len()) {
            self.body = None;
            if let State::Sending(delivery) = &mut self.state {
                delivery.sent = Some(begun);
            }
        }
        // TLS takes a piece at a time.
        self.offer(bench);
    }

    /// So many octets left; `commands` is how many of commands were there.
    fn advance(&mut self, count: usize, commands: usize) {
        if count < commands {
            self.written += count;
            return;
        }
        self.out.clear();
        self.written = 0;
        if let Some(body) = &mut self.body {
            body.written += count - commands;
        }
    }

    /// How many octets left.
    fn count(&mut self, moved: Moved, io: &mut Io) -> usize {
        let count = match moved {
            Moved::Some(count) => count,
            Moved::Blocked(count) => {
                self.writable = false;
                count
            }
            // A reply may have come before the end: reading finds both.
            Moved::End | Moved::Gone(_) => {
                self.writable = false;
                self.readable = true;
                io.again(Token::from(self.key));
                0
            }
        };
        if count > 0 {
            self.moved_ms = io.now_ms();
        }
        count
    }

    /// Says goodbye to whoever is asked for it: TLS.
    pub(super) fn close(&mut self) {
        if self.transport.is_secure() {
            self.transport.shut_write();
        }
    }
}
