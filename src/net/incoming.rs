//! One connection that brings mail: its session, its plugins, its deadlines.
//!
//! The driver turns readiness into session input, session events into steps of the plugin chain,
//! and the end of a chain into a decision. One thing is under way at a time: a step, a commit, or
//! the session itself; while it is not the session's turn the socket is not read (D-47).
//!
//! Must never: parse a command, touch the disk, answer `250` to a text before the queue said that
//! it is durable.
//!
//! **Diagnostics**: limits that turn a client away and plugins that hold too long are logged,
//! rate-limited by kind; what a client does wrong is answered, not logged.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rohrpost_abi::{ConnectionId, Hook, OUTPUT_BYTES_MAX};
use rohrpost_reactor::{Key, Readiness};
use zeroize::Zeroize as _;

use crate::limits::IncomingPermit;
use crate::metrics::Number;
use crate::plugin::chain::Chain;
use crate::plugin::view::{Audience, Walk};
use crate::queue::{Refusal, TransactionId};
use crate::smtp::server::{Decision, Event, Phase, Session};
use crate::smtp::{Address, answer};

use super::deadline::Deadline;
use super::desk::{Desk, Io};
use super::incoming_begin::Shake;
use super::incoming_mail::not_accepting;
use super::listener::Entrance;
use super::login::Login;
use super::message::{Draft, Message};
use super::receipt::receipt;
use super::step::{Step, terminated};
use super::transport::{Moved, Transport};
use super::withheld::Withheld;

pub use super::incoming_begin::Arrival;

/// Reads of one connection in one turn; then the others have their turn.
pub(super) const READS_MAX: usize = 16;

/// Whether a connection is still there after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is.
    Yes,
    /// Everything is done: remove it.
    No,
}

/// What is under way.
#[derive(Debug)]
pub(super) enum Stage {
    /// A proxy is to say for whom it speaks.
    Header,
    /// TLS is being agreed on.
    Handshake(Shake),
    /// The session parses what the client sends.
    Session,
    /// Plugins are asked; the host goes on when the chain is done.
    Step(Step, Chain),
    /// The password that the client gave is being checked.
    Verify,
    /// It was wrong, and the client hears so a little later.
    Refusal,
    /// The message is on its way to the disk.
    /// With how many recipients the client hears of then.
    Commit(TransactionId, usize),
    /// The close chain is done.
    Done,
}

/// How much of the peer is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Both directions.
    There,
    /// It sends nothing more; what it sent is still answered (D-49a).
    Silent,
    /// Nothing (HUP or ERR, or a write that failed).
    Gone,
}

/// One connection that brings mail.
#[derive(Debug)]
pub struct Incoming {
    pub(super) key: Key,
    pub(super) transport: Transport,
    pub(super) session: Session,
    pub(super) remote: SocketAddr,
    /// A proxy did not say who the client is: `remote` is the proxy's, and grants the client nothing.
    pub(super) unnamed: bool,
    pub(super) local: SocketAddr,
    pub(super) entrance: Entrance,
    pub(super) plugin: Option<ConnectionId>,
    pub(super) stage: Stage,
    pub(super) draft: Option<Draft>,
    pub(super) login: Login,
    pub(super) peer: Peer,
    pub(super) readable: bool,
    pub(super) read_closed: bool,
    pub(super) writable: bool,
    pub(super) queued_flush: bool,
    /// The session is over; when its output is gone, so is the connection.
    pub(super) leaving: bool,
    /// All output is out, and what the client still sends is thrown away.
    pub(super) lingering: bool,
    /// The server stops: this transaction is the last.
    pub(super) last: bool,
    pub(super) deadline: Deadline,
    /// A plugin wants the connection to end with the reply to come.
    pub(super) parting: bool,
    /// How plugins were told that the client has introduced itself.
    pub(super) told: Option<Arc<str>>,
    /// They were told that the client is gone.
    pub(super) told_lost: bool,
    /// How long the plugin that holds the step wants to hold it at most.
    pub(super) hold_ms: Option<u64>,
    /// When the stage began.
    pub(super) stage_ms: u64,
    /// When the client last got something done: a reply was made, output left, octets of a text came.
    pub(super) progress_ms: u64,
    /// When the text began.
    pub(super) text_ms: Option<u64>,
    pub(super) withheld: Withheld,
    /// Its place among the connections, given back when it is dropped.
    pub(super) permit: IncomingPermit,
}

impl Incoming {
    /// Something happened to the socket.
    pub fn on_ready(&mut self, ready: Readiness, desk: &mut Desk, io: &mut Io) -> Keep {
        self.readable |= ready.readable() || ready.read_closed();
        self.read_closed |= ready.read_closed();
        self.writable |= ready.writable();
        if ready.writable() {
            self.transport.on_writable();
        }
        if ready.gone() {
            self.on_gone(desk);
        } else if ready.writable() && !self.sendable().is_empty() {
            self.mark_dirty(desk);
        }
        self.drive(desk, io)
    }

    /// The deadline's timer fired.
    pub fn on_timer(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.deadline.on_fired(io) {
            self.on_deadline(desk, io);
        }
        self.drive(desk, io)
    }

    /// A plugin handed a held step back, or says so: the verdict decides.
    pub fn on_resume(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if let (Some(plugin), Stage::Step(_, chain)) = (self.plugin, &mut self.stage)
            && desk.plugins.resume(chain, plugin, io.now_ms() - self.stage_ms)
        {
            desk.numbers().sub(Number::Held, 1);
        }
        self.drive(desk, io)
    }

    /// Raw output of a plugin that was called for something else.
    pub fn on_send(&mut self, bytes: &[u8], desk: &mut Desk) {
        self.session.inject_output(bytes);
        self.let_go();
        self.mark_dirty(desk);
    }

    /// The queue made the message durable, or refused it.
    pub fn on_committed(
        &mut self,
        id: TransactionId,
        outcome: Result<usize, Refusal>,
        desk: &mut Desk,
        io: &mut Io,
    ) -> Keep {
        if let Stage::Commit(waiting, answered) = self.stage
            && waiting == id
        {
            let decision = match outcome {
                Ok(kept) => {
                    desk.numbers().add(Number::Discarded, (answered - kept) as u64);
                    Decision::AcceptWith(receipt(id, answered))
                }
                Err(Refusal::Full) => Decision::Refuse(answer::STORAGE_FULL.into()),
                Err(Refusal::TooLarge) => Decision::Refuse(answer::TOO_LARGE.into()),
                Err(Refusal::Failed) => Decision::Refuse(answer::LOCAL_ERROR.into()),
            };
            self.decide(decision, desk, io);
        }
        self.drive(desk, io)
    }

    /// The password that the client gave was checked.
    pub fn on_verified(&mut self, good: bool, desk: &mut Desk, io: &mut Io) -> Keep {
        self.on_hashed(good, desk, io);
        self.drive(desk, io)
    }

    /// The server stops: idle clients are told now, others after their transaction.
    pub fn on_drain(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.last = true;
        match self.stage {
            Stage::Header => self.turn_away(answer::SHUTTING_DOWN, desk),
            // Nothing can be said now.
            Stage::Handshake(_) => self.on_gone(desk),
            Stage::Session
            | Stage::Step(..)
            | Stage::Verify
            | Stage::Refusal
            | Stage::Commit(..)
            | Stage::Done => {}
        }
        self.drive(desk, io)
    }

    /// The server stops and waits for plugins no longer (D-53).
    pub fn on_hold_over(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.is_held() {
            self.revoke(desk, io, answer::SHUTTING_DOWN, "the server stops");
        }
        self.drive(desk, io)
    }

    /// The server stops at once: whatever is under way is refused.
    pub fn on_abort(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.is_held() {
            self.revoke(desk, io, answer::SHUTTING_DOWN, "the server stops");
        }
        self.abort_login(desk, io);
        // It was told at an earlier call and did not listen; or nothing can be said.
        if self.leaving || matches!(self.stage, Stage::Header | Stage::Handshake(_)) {
            self.on_gone(desk);
        }
        self.session.on_shutdown(&mut desk.memory);
        self.drive(desk, io)
    }

    /// Offers the output to the socket.
    pub fn flush(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.queued_flush = false;
        if self.peer == Peer::Gone || !self.writable || self.sendable().is_empty() {
            return Keep::Yes;
        }
        match self.write() {
            Moved::Some(count) => self.on_written(count, io),
            Moved::Blocked(count) => {
                self.writable = false;
                self.on_written(count, io);
            }
            Moved::End | Moved::Gone(_) => self.on_gone(desk),
        }
        if let Some(plugin) = self.plugin {
            let unsent = self.session.output().len();
            desk.plugins.cell.set_output_space(plugin, OUTPUT_BYTES_MAX.saturating_sub(unsent));
        }
        // A session that stopped for want of room goes on, and one that is over can leave. What the
        // socket brings waits for the next turn: one client must not make this phase endless.
        self.drive_after(READS_MAX, desk, io)
    }

    /// Does all that can be done now.
    pub fn drive(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.drive_after(0, desk, io)
    }

    /// The same, with that many reads of this turn used up.
    fn drive_after(&mut self, mut reads: usize, desk: &mut Desk, io: &mut Io) -> Keep {
        loop {
            match &self.stage {
                Stage::Header => {
                    if !self.read_header(desk, io) {
                        break;
                    }
                }
                Stage::Handshake(_) => {
                    if !self.shake(desk, io) {
                        break;
                    }
                }
                Stage::Step(..) => {
                    if !self.walk(desk, io) {
                        break;
                    }
                }
                Stage::Verify | Stage::Refusal if self.is_login_over() => {
                    self.begin_close(desk, io);
                }
                Stage::Commit(..) | Stage::Verify | Stage::Refusal => break,
                Stage::Session if self.is_over() => self.begin_close(desk, io),
                Stage::Session if self.leaving && self.session.output().is_empty() => {
                    if !self.linger(&mut reads, desk, io) {
                        break;
                    }
                }
                Stage::Session => {
                    if !self.advance(&mut reads, desk, io) {
                        break;
                    }
                }
                Stage::Done => {
                    self.end(desk, io);
                    return Keep::No;
                }
            }
        }
        if !self.sendable().is_empty() && self.writable {
            self.mark_dirty(desk);
        }
        let deadline = self.deadline_ms(desk);
        self.deadline.set(deadline, io);
        Keep::Yes
    }

    /// Lets the session take one step; `false` when there is nothing to do before the next event.
    fn advance(&mut self, reads: &mut usize, desk: &mut Desk, io: &mut Io) -> bool {
        self.check_login(desk);
        let sent_before = self.session.output().len();
        let event = self.session.poll_event(&mut desk.memory);
        if self.session.output().len() != sent_before {
            self.progress_ms = io.now_ms();
            // Nobody was asked: what is answered so is no part of a mail's envelope.
            self.let_go();
        }
        if let Some(event) = event {
            self.progress_ms = io.now_ms();
            self.on_event(event, desk, io);
            return true;
        }
        if self.last && self.draft.is_none() && self.session.phase() == Phase::Command {
            self.session.on_shutdown(&mut desk.memory);
            return true;
        }
        if self.leaving || !self.readable || self.peer != Peer::There || !self.session.wants_input()
        {
            return false;
        }
        if *reads == READS_MAX {
            io.again(Token::from(self.key));
            return false;
        }
        *reads += 1;
        self.read(desk, io);
        true
    }

    fn read(&mut self, desk: &mut Desk, io: &Io) {
        let before = self.session.output().len();
        let text = self.session.phase() == Phase::Data;
        let moved = if let Some(target) = self.session.body_target(&mut desk.memory) {
            let moved = self.transport.read(target);
            self.session.handle_body(&mut desk.memory);
            moved
        } else {
            desk.scratch.clear();
            let moved = self.transport.read(&mut desk.scratch);
            let confidential = self.session.is_confidential();
            self.session.handle_input(&desk.scratch, &mut desk.memory);
            if confidential {
                desk.scratch.as_mut_slice().zeroize();
            }
            moved
        };
        // Octets of a text are progress; those of a command are only when it is answered, so that
        // a dripping client cannot keep its connection for ever.
        let answered = self.session.output().len() != before;
        if text || answered {
            self.progress_ms = io.now_ms();
        }
        if answered {
            self.let_go();
        }
        // It runs on between chunks, until the message is complete or dropped.
        if self.session.phase() == Phase::Data && self.text_ms.is_none() {
            self.text_ms = Some(io.now_ms());
        }
        match moved {
            Moved::Some(_) => {}
            // The end makes no edge of its own once it was seen: it is read until it comes.
            Moved::Blocked(_) => self.readable = self.read_closed,
            Moved::End => self.peer = Peer::Silent,
            Moved::Gone(_) => self.on_gone(desk),
        }
    }

    fn on_event(&mut self, event: Event, desk: &mut Desk, io: &mut Io) {
        match event {
            Event::Mail(from) => {
                self.let_go();
                self.draft = None;
                if let Some(refusal) = not_accepting(desk) {
                    // Sooner than after a text that cannot be kept.
                    return self.decide(Decision::Refuse(refusal.into()), desk, io);
                }
                let text = self.shown(&from.address, Hook::MailFrom, desk);
                self.draft = Some(Draft::new(from));
                self.begin(Step::MailFrom(text), desk, io);
            }
            Event::Hello(hello) => self.on_hello(hello, desk, io),
            Event::Rset => self.begin(Step::Reset, desk, io),
            Event::StartTls => self.on_starttls(desk, io),
            Event::Rcpt(to) => {
                let relayed = self.is_relayed(desk);
                let welcome = relayed || desk.admission.is_local(&to.address);
                let is_dropped = self.draft.as_ref().is_some_and(Draft::is_dropped);
                // D-71: plugins that can say that an address is local are asked first.
                if !welcome && (is_dropped || !desk.plugins.may_say_local(self.plugin)) {
                    let refusal = desk.admission.refusal();
                    self.decide(Decision::Refuse(refusal.into()), desk, io);
                    return;
                }
                let text = self.shown(&to.address, Hook::RcptTo, desk);
                if let Some(draft) = &mut self.draft {
                    draft.propose(to, relayed);
                }
                // Of a mail that nobody gets, nobody is asked.
                if is_dropped {
                    return self.finish_recipient(desk, io);
                }
                let audience = if welcome { Audience::All } else { Audience::Welcomers };
                self.begin(Step::RcptTo(text, audience), desk, io);
            }
            Event::Message(received) => {
                self.text_ms = None;
                let Some(draft) = self.draft.take() else {
                    unreachable!("the session hands out a message only within a transaction")
                };
                match Message::new(draft, received) {
                    Ok(message) if message.is_empty() => self.pretend(message, desk, io),
                    Ok(message) => self.begin(Step::Data(Box::new(message)), desk, io),
                    Err(refused) => {
                        desk.release(refused.reserved);
                        self.decide(Decision::Refuse(refused.reply.into()), desk, io);
                    }
                }
            }
            Event::Authenticate(credentials) => self.on_credentials(credentials, desk, io),
            Event::Reset => {
                self.draft = None;
                self.text_ms = None;
            }
            Event::Close(_) => {
                self.draft = None;
                self.leaving = true;
                self.stage_ms = io.now_ms();
            }
        }
    }

    /// An address as plugins see it; nothing where none looks.
    fn shown(&self, address: &Address, hook: Hook, desk: &Desk) -> Vec<u8> {
        match desk.plugins.asks(self.plugin, hook) {
            true => terminated(address.as_str()),
            false => Vec::new(),
        }
    }

    /// Starts a step: its chain runs when the connection is driven.
    pub(super) fn begin(&mut self, step: Step, desk: &Desk, io: &Io) {
        let chain = match self.plugin {
            Some(plugin) => desk.plugins.chain_among(plugin, step.hook(), step.audience()),
            None => Chain::new(0, 0),
        };
        self.tell_hello(desk);
        self.stage = Stage::Step(step, chain);
        self.stage_ms = io.now_ms();
    }

    /// Walks the chain of the step; `false` while a plugin holds it.
    fn walk(&mut self, desk: &mut Desk, io: &mut Io) -> bool {
        let Stage::Step(step, chain) = &mut self.stage else {
            return true;
        };
        let held_before = chain.is_held();
        // D-49: the peer went while the step was held; the rest of the chain is dropped.
        let dropped = self.peer == Peer::Gone && !matches!(step, Step::Close) && !held_before;
        let walked = match self.plugin {
            Some(plugin) if !dropped => {
                let walked = step.walk(&mut desk.plugins, chain, plugin);
                desk.apply_commands(io);
                walked
            }
            _ => Walk::Done,
        };
        if walked == Walk::Held && !held_before {
            desk.numbers().add(Number::Held, 1);
            self.stage_ms = io.now_ms();
            self.hold_ms = self.plugin.and_then(|plugin| desk.plugins.cell.hold_timeout_ms(plugin));
        }
        if let Some(plugin) = self.plugin {
            // D-3E: before the host's own reply.
            let sent = desk.take_sends(plugin);
            if !sent.is_empty() {
                self.session.inject_output(&sent);
            }
        }
        match walked {
            Walk::Held => self.tell_lost(desk, io),
            Walk::Answered => self.on_answered(desk, io),
            Walk::Done => self.finish_step(desk, io),
        }
        walked != Walk::Held
    }

    /// The chain of a step is done: the host goes on.
    pub(super) fn finish_step(&mut self, desk: &mut Desk, io: &mut Io) {
        let stage = std::mem::replace(&mut self.stage, Stage::Session);
        let Stage::Step(step, chain) = stage else { unreachable!("only a step can be finished") };
        self.progress_ms = io.now_ms();
        match step {
            Step::Close => self.stage = Stage::Done,
            _ if self.peer == Peer::Gone => self.drop_step(step, desk),
            Step::Connect => self.on_welcome(desk, io),
            Step::Secure => self.on_secure(desk),
            Step::Authenticate(credentials) => self.judge(*credentials, desk, io),
            Step::Helo(_) | Step::Reset => self.decide(Decision::Accept, desk, io),
            Step::MailFrom(_) => {
                self.end_address(desk);
                self.decide(Decision::Accept, desk, io);
            }
            // Others have nothing to say of what is refused (D-3C).
            Step::RcptTo(text, Audience::Welcomers)
                if self.is_welcomed(desk) && !chain.is_cut_short() =>
            {
                self.begin(Step::RcptTo(text, Audience::Others), desk, io);
            }
            Step::RcptTo(..) => self.finish_recipient(desk, io),
            Step::Data(mut message) => match self.extract(&mut message, desk) {
                Ok(()) => self.next_message(message, desk, io),
                Err(error) => {
                    let reply = answer::HEADER_TOO_LARGE;
                    self.refuse_message(*message, reply, &error.to_string(), desk, io);
                }
            },
            Step::Message(mut message, _) => match message.close(&desk.plugins, &mut desk.memory) {
                Ok(()) => self.next_message(message, desk, io),
                Err(problem) => {
                    let reply = problem.reply();
                    self.refuse_message(*message, reply, &problem.to_string(), desk, io);
                }
            },
        }
    }

    pub(super) fn decide(&mut self, decision: Decision, desk: &mut Desk, _io: &Io) {
        self.stage = Stage::Session;
        if !matches!(decision, Decision::Accept | Decision::AcceptWith(_)) {
            desk.count(Number::Refused);
        }
        if std::mem::take(&mut self.parting) {
            return self.decide_and_part(decision, desk);
        }
        self.session.decide(decision, &mut desk.memory);
    }

    /// Gives back what a step holds that will not be finished.
    pub(super) fn drop_step(&mut self, step: Step, desk: &mut Desk) {
        match step {
            Step::Data(message) | Step::Message(message, _) => self.drop_message(*message, desk),
            Step::MailFrom(_) | Step::RcptTo(..) => {
                self.end_address(desk);
            }
            Step::Connect
            | Step::Secure
            | Step::Authenticate(_)
            | Step::Helo(_)
            | Step::Reset
            | Step::Close => {}
        }
    }

    fn is_held(&self) -> bool {
        matches!(&self.stage, Stage::Step(_, chain) if chain.is_held())
    }

    fn write(&mut self) -> Moved {
        let length = self.sendable().len();
        self.withheld.on_offered(length);
        self.transport.write(&self.session.output()[..length])
    }

    fn on_written(&mut self, count: usize, io: &Io) {
        if count > 0 {
            self.progress_ms = io.now_ms();
        }
        if let Stage::Handshake(Shake::After(clear)) = &mut self.stage {
            *clear -= count;
        }
        self.session.consume_output(count);
        self.withheld.on_written(count);
    }

    fn mark_dirty(&mut self, desk: &mut Desk) {
        if !self.queued_flush {
            self.queued_flush = true;
            desk.mark_dirty(self.key);
        }
    }
}
