//! One client of the sink.
//!
//! **Diagnostics**: none; a client that goes is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use rohrpost_reactor::{Key, Reactor, Readiness};

use crate::cli::{Refusal, Sink, SinkPhase};
use crate::net::transport::{Moved, Transport};
use crate::smtp::memory::Unlimited;
use crate::smtp::server::{Decision, Event, Greeting, Options, Session};
use crate::smtp::{EnhancedStatus, Reply, answer};

use super::output::{Output, Taken};
use super::worker::{Chance, SinkTimer};

/// The reactor of the sink.
pub(super) type Io = Reactor<SinkTimer, (), ()>;

/// Reads of one connection in one turn.
const READS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Connection {
    key: Key,
    transport: Transport,
    session: Session,
    envelope: String,
    recipients: Vec<String>,
    proposed: Option<String>,
    messages: u32,
    readable: bool,
    ended: bool,
    read_closed: bool,
    writable: bool,
    closing: bool,
    /// An answer that waits for its time; the session is parked meanwhile.
    late: Option<Decision>,
    /// Until this timer fires nothing is sent.
    held: bool,
    queued: bool,
}

/// What a connection needs of its worker.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) sink: Sink,
    pub(super) output: Output,
    pub(super) chance: Chance,
    pub(super) scratch: Vec<u8>,
    /// Connections with answers that can be sent when the dump is written.
    pub(super) dirty: VecDeque<Key>,
    pub(super) failure: Option<std::io::Error>,
}

impl Bar {
    fn struck(&mut self, phase: SinkPhase) -> Option<Reply> {
        let Bar { sink, chance, .. } = self;
        let refusal = sink
            .refusals
            .iter()
            .find(|refusal| refusal.phase == phase && chance.strikes(refusal.percent))?;
        Some(reply(*refusal))
    }
}

fn reply(refusal: Refusal) -> Reply {
    let class = if refusal.code < 500 { 4 } else { 5 };
    let status = EnhancedStatus::new(class, 0, 0);
    Reply::new(refusal.code, status, "Refused by the sink, as it was told")
        .expect("the command line allows codes from 400 to 599")
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        options: Arc<Options>,
        bar: &mut Bar,
        key: Key,
    ) -> Connection {
        let mut session = Session::new(options);
        let greeting = bar.struck(SinkPhase::Connect).map_or(Greeting::Accept, Greeting::Refuse);
        session.greet(greeting, &mut Unlimited);
        Connection {
            key,
            transport,
            session,
            envelope: String::new(),
            recipients: Vec::new(),
            proposed: None,
            messages: 0,
            readable: true,
            ended: false,
            read_closed: false,
            writable: true,
            closing: false,
            late: None,
            held: false,
            queued: false,
        }
    }

    pub(super) fn on_ready(&mut self, ready: Readiness, bar: &mut Bar, io: &mut Io) -> bool {
        self.readable |= !self.ended && (ready.readable() || ready.read_closed());
        self.read_closed |= ready.read_closed();
        self.writable |= ready.writable();
        if ready.gone() {
            return false;
        }
        self.drive(bar, io)
    }

    /// The time of a late answer has come.
    pub(super) fn on_timer(&mut self, bar: &mut Bar, io: &mut Io) -> bool {
        self.held = false;
        if let Some(decision) = self.late.take() {
            self.session.decide(decision, &mut Unlimited);
        }
        self.drive(bar, io)
    }

    /// Does all that can be done now; `false` when the connection is over.
    pub(super) fn drive(&mut self, bar: &mut Bar, io: &mut Io) -> bool {
        let mut reads = 0;
        loop {
            if let Some(event) = self.session.poll_event(&mut Unlimited) {
                if !self.on_event(event, bar, io) {
                    return false;
                }
                continue;
            }
            if self.held || !self.readable || !self.session.wants_input() || self.closing {
                break;
            }
            if reads == READS_MAX {
                io.again(Token::from(self.key));
                break;
            }
            reads += 1;
            if !self.read(bar) {
                return false;
            }
        }
        if !self.session.output().is_empty() && self.writable && !self.queued {
            self.queued = true;
            bar.dirty.push_back(self.key);
        }
        let done = self.closing || (self.ended && !self.held && self.session.is_dry());
        !(done && self.session.output().is_empty())
    }

    fn read(&mut self, bar: &mut Bar) -> bool {
        let moved = if let Some(target) = self.session.body_target(&mut Unlimited) {
            let moved = self.transport.read(target);
            self.session.handle_body(&mut Unlimited);
            moved
        } else {
            bar.scratch.clear();
            let moved = self.transport.read(&mut bar.scratch);
            self.session.handle_input(&bar.scratch, &mut Unlimited);
            moved
        };
        match moved {
            Moved::Some(_) => true,
            Moved::Blocked(_) => {
                self.readable = self.read_closed;
                true
            }
            // What was read is answered first; `drive` says when that is done.
            Moved::End => {
                self.ended = true;
                self.readable = false;
                true
            }
            Moved::Gone(_) => false,
        }
    }

    fn on_event(&mut self, event: Event, bar: &mut Bar, io: &mut Io) -> bool {
        match event {
            Event::Mail(from) => {
                self.recipients.clear();
                self.envelope = from.address.as_str().to_owned();
                self.answer(SinkPhase::Mail, bar, io);
            }
            Event::Rcpt(to) => {
                self.proposed = Some(to.address.as_str().to_owned());
                self.answer(SinkPhase::Rcpt, bar, io);
            }
            // Never offered here.
            Event::Authenticate(_) => {
                let refusal = Decision::Refuse(answer::LOGIN_REFUSED.into());
                self.session.decide(refusal, &mut Unlimited);
            }
            Event::Message(received) => {
                let refused = bar.struck(SinkPhase::Dot);
                if refused.is_none() {
                    let taken = Taken {
                        envelope: &self.envelope,
                        recipients: &self.recipients,
                        body: received.body.as_bytes(),
                    };
                    if let Err(error) = bar.output.take(&taken) {
                        bar.failure = Some(error);
                        io.stop();
                        return false;
                    }
                }
                self.messages += 1;
                if bar.sink.close_after.is_some_and(|max| self.messages >= max.get()) {
                    return false;
                }
                let decision = refused.map_or(Decision::Accept, Decision::Refuse);
                self.decide(decision, bar.sink.dot_delay + bar.sink.command_delay, io);
            }
            // It is not offered.
            Event::StartTls => {
                self.decide(Decision::Refuse(answer::TLS_UNAVAILABLE.into()), Duration::ZERO, io);
            }
            // It does not ask to be asked.
            Event::Hello(_) | Event::Rset => self.decide(Decision::Accept, Duration::ZERO, io),
            Event::Reset => self.recipients.clear(),
            Event::Close(_) => self.closing = true,
        }
        true
    }

    fn answer(&mut self, phase: SinkPhase, bar: &mut Bar, io: &mut Io) {
        let decision = match bar.struck(phase) {
            Some(reply) => Decision::Refuse(reply),
            None => {
                self.recipients.extend(self.proposed.take());
                Decision::Accept
            }
        };
        self.proposed = None;
        self.decide(decision, bar.sink.command_delay, io);
    }

    fn decide(&mut self, decision: Decision, delay: std::time::Duration, io: &mut Io) {
        if delay.is_zero() {
            return self.session.decide(decision, &mut Unlimited);
        }
        self.late = Some(decision);
        self.held = true;
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        io.arm(io.deadline_after(delay_ms), SinkTimer::Answer(self.key));
    }

    /// Sends what can be sent; `false` when the connection is over.
    pub(super) fn flush(&mut self, bar: &mut Bar, io: &mut Io) -> bool {
        self.queued = false;
        match self.transport.write(self.session.output()) {
            Moved::Some(count) => self.session.consume_output(count),
            Moved::Blocked(count) => {
                self.writable = false;
                self.session.consume_output(count);
            }
            Moved::End | Moved::Gone(_) => return false,
        }
        self.drive(bar, io)
    }
}
