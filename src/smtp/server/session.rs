//! The server session as its driver sees it.
//!
//! Owns the state, the order of events and replies, and the way input travels. What commands mean is in
//! `dialogue`, what becomes of text in `receiver`. It never decides about mail and never runs ahead of
//! a decision: while one is open nothing is parsed.
//!
//! Diagnostics: [`Event::Close`] names why a session ended. A driver that appends wrongly to the body
//! buffer panics; stale decisions and deadlines are ignored, as they cannot be avoided.

use std::sync::Arc;

use super::super::answer::{self, Fixed};
use super::super::buffer::Buffer;
use super::super::command::Dialect;
use super::super::line;
use super::super::memory::Memory;
use super::super::reply::Reply;
use super::super::sasl::{self, Exchange};
use super::event::{CloseReason, Decision, Event, Greeting, Hello, LoginOffer, Phase};
use super::options::{Asks, Options};
use super::receiver::{Framing, Progress, Receiver};

/// One client's dialogue. Small while idle: no buffer is held between commands.
#[derive(Debug)]
pub struct Session {
    pub(super) options: Arc<Options>,
    pub(super) state: State,
    pub(super) hello: Option<Hello>,
    /// An introduction that is being decided.
    pub(super) proposed: Option<Hello>,
    pub(super) asks: Asks,
    pub(super) transaction: Option<Transaction>,
    /// At most one; while it waits to be polled nothing is parsed.
    pub(super) event: Option<Event>,
    pub(super) login: Login,
    input: Buffer,
    output: Buffer,
    pub(super) errors: u32,
    pub(super) secure: bool,
    stop: Stop,
}

/// What is awaited.
#[derive(Debug)]
pub(super) enum State {
    AwaitGreeting,
    AwaitCommand,
    /// The rest of a line that is too long already; then this is said.
    SkipLine(Fixed),
    /// A line of an AUTH exchange.
    AwaitResponse(Exchange),
    AwaitDecision(Question),
    /// The client has heard 220, and the driver does the handshake.
    AwaitTls,
    /// The text of DATA.
    AwaitText,
    AwaitChunk(Chunk),
    Closing,
}

/// What the driver was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Mail,
    Rcpt,
    StartTls,
    Message,
    Authenticate,
    /// HELO or EHLO, if somebody wants to be asked.
    Hello,
    /// The same, and it drops a transaction that somebody wants to be asked about.
    HelloReset,
    /// RSET, if somebody wants to be asked.
    Reset,
}

/// What is known about who the client is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Login {
    pub(super) offer: LoginOffer,
    /// AUTH was successful.
    pub(super) done: bool,
}

/// The rest of a chunk, and what is answered at its end.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) left: u64,
    pub(super) fate: ChunkFate,
}

/// Why a chunk is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkFate {
    /// It is part of the message.
    Keep,
    /// It ends the message.
    KeepLast,
    /// It came out of order: skip it, then say this (RFC 3030 2).
    Skip(Fixed),
}

/// A sender was proposed; until the driver accepts it the state is `AwaitDecision`.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) receiver: Receiver,
    pub(super) smtputf8: bool,
    /// Recipients that were accepted.
    pub(super) accepted: usize,
    /// Whether any recipient was proposed.
    pub(super) proposed: bool,
    /// Whether a chunk has come: DATA and RCPT are out of order then.
    pub(super) chunked: bool,
}

/// Whether the session ends at the next chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Told to stop while parked: answer first, so that no accepted mail is sent twice.
    AfterDecision,
}

impl Session {
    /// A session for a new connection. It waits for [`greet`](Self::greet).
    pub fn new(options: Arc<Options>) -> Self {
        Self {
            options,
            state: State::AwaitGreeting,
            hello: None,
            proposed: None,
            asks: Asks::default(),
            transaction: None,
            event: None,
            login: Login::default(),
            input: Buffer::default(),
            output: Buffer::default(),
            errors: 0,
            secure: false,
            stop: Stop::No,
        }
    }

    /// Told the verdict of the connect chain. Ignored but for the first time.
    pub fn greet(&mut self, greeting: Greeting, memory: &mut dyn Memory) {
        if !matches!(self.state, State::AwaitGreeting) {
            return;
        }
        match greeting {
            Greeting::Accept => {
                self.state = State::AwaitCommand;
                let options = Arc::clone(&self.options);
                self.say_all(&[b"220 ", options.hostname.as_bytes(), b" ESMTP Rohrpost\r\n"]);
            }
            Greeting::Refuse(reply) => {
                self.say_reply(&refusal(reply));
                self.close(CloseReason::Refused, memory);
            }
        }
    }

    /// Told that the handshake is over. What the client said before it is forgotten (RFC 3207 4.2),
    /// but not how many errors it made.
    pub fn on_secure(&mut self) {
        self.secure = true;
        self.forget();
        self.on_logged_out();
        if self.login.offer == LoginOffer::AfterTls {
            self.offer_login(LoginOffer::Yes);
        }
        if matches!(self.state, State::AwaitTls) {
            self.state = State::AwaitCommand;
        }
    }

    /// Whether TLS is active.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Drops the introduction, and what came after the STARTTLS: whoever sits on the line could have put
    /// it there (CVE-2011-0411).
    pub(super) fn forget(&mut self) {
        self.hello = None;
        self.login.done = false;
        self.input.clear();
    }

    /// Says `reply`, which refuses, and ends the session: for a client that is not at fault, and waits for
    /// nothing. Ignored while a decision is open.
    pub fn dismiss(&mut self, reply: Reply, memory: &mut dyn Memory) {
        if !matches!(self.state, State::AwaitDecision(_) | State::AwaitTls | State::Closing) {
            self.say_reply(&refusal(reply));
            self.close(CloseReason::Refused, memory);
        }
    }

    /// Takes all of `input`: parses as far as it may and keeps the rest. A driver that heeds
    /// [`wants_input`](Self::wants_input) never makes it keep more than one read.
    pub fn handle_input(&mut self, input: &[u8], memory: &mut dyn Memory) {
        if matches!(self.state, State::Closing | State::AwaitTls) {
            return;
        }
        if self.input.is_empty() {
            let used = self.advance(input, memory);
            if !matches!(self.state, State::Closing) {
                self.input.push(&input[used..]);
            }
        } else {
            self.input.push(input);
            self.advance_kept(memory);
        }
    }

    /// The next event; parses what is kept. `None` means: more input, a decision, or room for output.
    pub fn poll_event(&mut self, memory: &mut dyn Memory) -> Option<Event> {
        if self.event.is_none() {
            self.advance_kept(memory);
        }
        self.event.take()
    }

    /// Answers the event that was handed out last. Ignored if none waits for an answer (D-22, D-24).
    pub fn decide(&mut self, decision: Decision, memory: &mut dyn Memory) {
        let State::AwaitDecision(question) = self.state else {
            return;
        };
        if self.event.is_some() {
            return;
        }
        self.state = State::AwaitCommand;
        self.on_decision(question, decision, memory);
        if self.stop == Stop::AfterDecision {
            self.on_shutdown(memory);
        }
    }

    /// Replies that are not sent yet.
    pub fn output(&self) -> &[u8] {
        self.output.as_slice()
    }

    /// Told that the first `count` octets of the output were sent.
    pub fn consume_output(&mut self, count: usize) {
        self.output.consume(count);
    }

    /// Moves all output to the end of `target`.
    pub fn take_output(&mut self, target: &mut Vec<u8>) {
        self.output.drain_into(target);
    }

    /// Puts octets of somebody else before the replies to come (D-3E). Whether they make sense to the
    /// client is their owner's business.
    pub fn inject_output(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }

    /// Whether everything that was read is answered, and no event waits.
    pub fn is_dry(&self) -> bool {
        self.event.is_none() && !matches!(self.state, State::AwaitDecision(_)) && !self.has_line()
    }

    /// Whether the kept input holds something that can be parsed without more.
    fn has_line(&self) -> bool {
        !self.input.is_empty() && line::complete(self.input.as_slice()).is_some()
    }

    /// Whether the driver may read the socket now. False before the greeting, while an event or a
    /// decision waits, while too much output does, and at the end.
    pub fn wants_input(&self) -> bool {
        self.runs()
    }

    /// Where the driver may read message text to, straight from the socket: it appends to the vector's
    /// spare room, which is never empty, and calls [`handle_body`](Self::handle_body). `None` when
    /// what comes next is not text, or is not kept.
    pub fn body_target(&mut self, memory: &mut dyn Memory) -> Option<&mut Vec<u8>> {
        let receiving = match &self.state {
            State::AwaitText => true,
            State::AwaitChunk(chunk) => !matches!(chunk.fate, ChunkFate::Skip(_)),
            State::AwaitGreeting
            | State::AwaitCommand
            | State::SkipLine(_)
            | State::AwaitResponse(_)
            | State::AwaitDecision(_)
            | State::AwaitTls
            | State::Closing => false,
        };
        if !receiving || !self.runs() || !self.input.is_empty() {
            return None;
        }
        self.transaction.as_mut()?.receiver.room(memory)
    }

    /// Takes what was appended to [`body_target`](Self::body_target); commands behind the end of the
    /// text are kept for [`poll_event`](Self::poll_event).
    pub fn handle_body(&mut self, memory: &mut dyn Memory) {
        let mut framing = match &self.state {
            State::AwaitText => Framing::Text,
            State::AwaitChunk(chunk) => Framing::Chunk(chunk.left),
            State::AwaitGreeting
            | State::AwaitCommand
            | State::SkipLine(_)
            | State::AwaitResponse(_)
            | State::AwaitDecision(_)
            | State::AwaitTls
            | State::Closing => return,
        };
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let rest = self.input.tail();
        let ended = transaction.receiver.take_appended(&mut framing, rest, memory);
        self.on_text(framing, ended, memory);
    }

    /// Whether an event waits for [`decide`](Self::decide).
    pub fn is_parked(&self) -> bool {
        matches!(self.state, State::AwaitDecision(_))
    }

    /// Which deadline runs.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::AwaitGreeting => Phase::Greeting,
            State::AwaitCommand | State::SkipLine(_) | State::AwaitResponse(_) => Phase::Command,
            State::AwaitText | State::AwaitChunk(_) => Phase::Data,
            State::AwaitDecision(_) => Phase::Parked,
            State::AwaitTls => Phase::Handshake,
            State::Closing => Phase::Closing,
        }
    }

    /// Told that the deadline of `phase` passed. Ignored if another phase has begun; while parked, when
    /// the client is not at fault (D-48) and the driver decides (D-27); and in a handshake, in which
    /// nothing can be said.
    pub fn on_timeout(&mut self, phase: Phase, memory: &mut dyn Memory) {
        match phase {
            Phase::Parked | Phase::Handshake | Phase::Closing => {}
            Phase::Greeting | Phase::Command | Phase::Data => {
                if phase == self.phase() {
                    self.say(answer::TIMED_OUT);
                    self.close(CloseReason::TimedOut(phase), memory);
                }
            }
        }
    }

    /// Told that the server stops. An open decision is answered first.
    pub fn on_shutdown(&mut self, memory: &mut dyn Memory) {
        match self.state {
            State::AwaitDecision(_) => self.stop = Stop::AfterDecision,
            State::Closing => {}
            // In clear it would not be understood any more.
            State::AwaitTls => self.close(CloseReason::Shutdown, memory),
            State::AwaitGreeting
            | State::AwaitCommand
            | State::SkipLine(_)
            | State::AwaitResponse(_)
            | State::AwaitText
            | State::AwaitChunk(_) => {
                self.say(answer::SHUTTING_DOWN);
                self.close(CloseReason::Shutdown, memory);
            }
        }
    }

    /// Told that the peer is gone: memory is released, output and input dropped, and no event follows.
    /// An event that was not polled yet is lost; if it is a message its memory is released too.
    pub fn on_lost(&mut self, memory: &mut dyn Memory) {
        if let Some(Event::Message(received)) = self.event.take() {
            memory.release(received.reserved);
        }
        self.close(CloseReason::Quit, memory);
        self.event = None;
        self.output.clear();
    }

    /// Says what else the driver wants to decide, from now on: nothing at first.
    pub fn ask_about(&mut self, asks: Asks) {
        self.asks = asks;
    }

    /// Says whether the client may log in, from now on. Ignored once it has. Where TLS is required it
    /// comes first: a password is worth no less than mail.
    pub fn offer_login(&mut self, offer: LoginOffer) {
        if !self.login.done {
            self.login.offer = match offer {
                LoginOffer::Yes if self.options.tls_required && !self.secure => {
                    LoginOffer::AfterTls
                }
                offer => offer,
            };
            self.input.set_wiping(self.is_confidential());
        }
    }

    /// Told that a login holds no longer, so that the client may try again.
    pub fn on_logged_out(&mut self) {
        self.login.done = false;
        self.input.set_wiping(self.is_confidential());
    }

    /// Whether a login was successful, and holds for all that the session was told.
    pub fn is_logged_in(&self) -> bool {
        self.login.done
    }

    /// Told that a login was successful.
    pub(super) fn on_logged_in(&mut self) {
        self.login.done = true;
        self.input.set_wiping(false);
    }

    /// Whether what is read now may hold a password, so that its copies are to be wiped.
    pub fn is_confidential(&self) -> bool {
        self.login.offer == LoginOffer::Yes && !self.login.done
    }

    /// How the client introduced itself last.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Whether parsing may go on.
    fn runs(&self) -> bool {
        let reading = match self.state {
            State::AwaitCommand
            | State::SkipLine(_)
            | State::AwaitResponse(_)
            | State::AwaitText
            | State::AwaitChunk(_) => true,
            State::AwaitGreeting | State::AwaitDecision(_) | State::AwaitTls | State::Closing => {
                false
            }
        };
        reading && self.event.is_none() && self.output.len() < self.options.output_bytes_max
    }

    fn advance_kept(&mut self, memory: &mut dyn Memory) {
        if self.input.is_empty() || !self.runs() {
            return;
        }
        let kept = std::mem::take(&mut self.input);
        let used = self.advance(kept.as_slice(), memory);
        self.input = kept;
        match self.state {
            State::Closing => self.input.clear(),
            _ => self.input.consume(used),
        }
    }

    /// Parses until an event, a decision, full output or the end of `bytes`; returns how far it came.
    fn advance(&mut self, bytes: &[u8], memory: &mut dyn Memory) -> usize {
        let mut used = 0;
        while used < bytes.len() && self.runs() {
            let rest = &bytes[used..];
            let step = match &self.state {
                State::AwaitCommand | State::AwaitResponse(_) => self.take_line(rest, memory),
                State::SkipLine(reply) => self.skip_line(*reply, rest, memory),
                State::AwaitText => self.take_text(Framing::Text, rest, memory),
                State::AwaitChunk(Chunk { left, fate: ChunkFate::Skip(_) }) => {
                    self.skip_chunk(*left, rest, memory)
                }
                State::AwaitChunk(Chunk { left, .. }) => {
                    self.take_text(Framing::Chunk(*left), rest, memory)
                }
                State::AwaitGreeting
                | State::AwaitDecision(_)
                | State::AwaitTls
                | State::Closing => 0,
            };
            if step == 0 {
                break;
            }
            used += step;
        }
        used
    }

    fn take_line(&mut self, rest: &[u8], memory: &mut dyn Memory) -> usize {
        let (bytes_max, too_long) = match self.state {
            State::AwaitResponse(_) => (sasl::LINE_BYTES_MAX, answer::LOGIN_LINE_TOO_LONG),
            _ => (self.options.command_line_bytes_max, answer::LINE_TOO_LONG),
        };
        match line::complete(rest) {
            Some(count) => {
                self.on_line(&rest[..count], memory);
                count
            }
            None if rest.len() < bytes_max => 0,
            None => {
                self.state = State::SkipLine(too_long);
                rest.len()
            }
        }
    }

    fn skip_line(&mut self, reply: Fixed, rest: &[u8], memory: &mut dyn Memory) -> usize {
        let Some(count) = line::complete(rest) else {
            return rest.len();
        };
        self.state = State::AwaitCommand;
        self.fail(reply, memory);
        count
    }

    fn take_text(&mut self, mut framing: Framing, rest: &[u8], memory: &mut dyn Memory) -> usize {
        let transaction = self.transaction.as_mut().expect("text comes within a transaction");
        let Progress { used, ended } = transaction.receiver.take(&mut framing, rest, memory);
        self.on_text(framing, ended, memory);
        used
    }

    fn skip_chunk(&mut self, left: u64, rest: &[u8], memory: &mut dyn Memory) -> usize {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        self.on_text(Framing::Chunk(left - count as u64), left == count as u64, memory);
        count
    }

    /// Some of the text or chunk was taken.
    fn on_text(&mut self, framing: Framing, ended: bool, memory: &mut dyn Memory) {
        match (&mut self.state, framing) {
            (State::AwaitChunk(chunk), Framing::Chunk(left)) => {
                chunk.left = left;
                if ended {
                    let fate = chunk.fate;
                    self.on_chunk_end(fate, memory);
                }
            }
            (_, _) if ended => self.on_text_end(memory),
            (_, _) => {}
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.hello.as_ref().map_or(Dialect::Esmtp, |hello| hello.dialect)
    }

    pub(super) fn say(&mut self, fixed: Fixed) {
        self.output.push(fixed.as_bytes());
    }

    pub(super) fn say_reply(&mut self, reply: &Reply) {
        reply.write_to(self.output.tail());
    }

    pub(super) fn say_all(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.output.push(part));
    }

    /// Drops the transaction and gives its memory back; whether there was one.
    pub(super) fn drop_transaction(&mut self, memory: &mut dyn Memory) -> bool {
        match self.transaction.take() {
            Some(mut transaction) => {
                transaction.receiver.release(memory);
                true
            }
            None => false,
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason, memory: &mut dyn Memory) {
        self.drop_transaction(memory);
        self.input.clear();
        self.state = State::Closing;
        self.event = Some(Event::Close(reason));
    }
}

/// A reply that refuses, whatever the driver gave.
pub(super) fn refusal(reply: Reply) -> Reply {
    if reply.is_refusal() { reply } else { answer::LOCAL_ERROR.into() }
}
