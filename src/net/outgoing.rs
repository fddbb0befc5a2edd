//! One connection that takes mail away: its session, its plugins, its deadlines.
//!
//! Mails are taken from the worker's store only once the far end has greeted, one after the other,
//! until there are none or the connection has carried as many as it may. Between the 354 and the
//! text the plugins are asked (D-80); while one of them holds the mail the connection is still
//! read, because the far end may give up first (D-81).
//!
//! Must never: touch the disk; say that a mail was delivered before its final 250 was read, or
//! forget it afterwards.
//!
//! **Diagnostics**: every attempt ends in a [`Finish`]; a hop that cannot be reached is the pool's
//! trouble and costs no mail an attempt.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rohrpost_abi::{ConnectionId, ConnectionInit, Direction, Edit, Hook, MessageId, MessageInit};
use rohrpost_reactor::{Key, Readiness};

use crate::blocking::Job;
use crate::delivery::{Fate, Finish, NextHop, Work, own_listener};
use crate::limits::OutgoingPermit;
use crate::log::Level;
use crate::metrics::Number;
use crate::plugin::chain::Chain;
use crate::plugin::view::Walk;
use crate::queue::{Entry, MailId, Transaction};
use crate::smtp::client::{Envelope, Event, Options, Outcome, Problem, Session, Stage};
use crate::smtp::command::BodyKind;

use super::deadline::{Change, Deadline};
use super::desk::{Desk, Io, Mood, Timer};
use super::incoming::Keep;
use super::message::repaired;
use super::text::{Sent, TextOut};
use super::transport::{Moved, Transport};

/// Reads of one connection in one turn.
const READS_MAX: usize = 4;
/// How long the far end may take to answer QUIT.
const QUIT_MS: u64 = 5_000;

/// The mail under way.
#[derive(Debug)]
struct Current {
    id: MailId,
    transaction: Arc<Transaction>,
}

/// The plugins are asked about the mail under way.
#[derive(Debug)]
struct Asked {
    chain: Chain,
    message: MessageId,
    since_ms: u64,
}

/// One connection that takes mail away.
#[derive(Debug)]
pub struct Outgoing {
    key: Key,
    transport: Transport,
    session: Session,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    hop: NextHop,
    plugin: Option<ConnectionId>,
    connected: bool,
    greeted: bool,
    current: Option<Current>,
    asked: Option<Asked>,
    text: Option<TextOut>,
    messages: u32,
    readable: bool,
    writable: bool,
    queued_flush: bool,
    idle: bool,
    /// The session is over, or the socket is: what is left is to be cleaned up.
    over: bool,
    /// The socket brings nothing more; what was read before still counts.
    lost: Option<Problem>,
    deadline: Deadline,
    stage: Stage,
    stage_ms: u64,
    _permit: OutgoingPermit,
}

/// What a new connection is made of.
#[derive(Debug)]
pub struct Departure {
    /// The registered, connecting socket.
    pub transport: Transport,
    /// Where it goes.
    pub remote: SocketAddr,
    /// As which hop.
    pub hop: NextHop,
    /// Its place among the connections.
    pub permit: OutgoingPermit,
}

impl Outgoing {
    /// A connection whose connect is under way; the pool counts it as opening already.
    pub fn new(departure: Departure, io: &Io, key: Key, desk: &Desk) -> Outgoing {
        let options = Options::new(desk.settings.smtp.hostname.clone());
        Outgoing {
            key,
            transport: departure.transport,
            session: Session::new(&options),
            remote: departure.remote,
            local: None,
            hop: departure.hop,
            plugin: None,
            connected: false,
            greeted: false,
            current: None,
            asked: None,
            text: None,
            messages: 0,
            readable: true,
            writable: false,
            queued_flush: false,
            idle: false,
            over: false,
            lost: None,
            deadline: Deadline::default(),
            stage: Stage::Banner,
            stage_ms: io.now_ms(),
            _permit: departure.permit,
        }
    }

    /// Something happened to the socket.
    pub fn on_ready(&mut self, ready: Readiness, desk: &mut Desk, io: &mut Io) -> Keep {
        self.transport.note(ready);
        self.readable |= ready.readable() || ready.read_closed() || ready.error();
        self.writable |= ready.writable();
        if self.connected && ready.writable() && self.has_output() {
            self.mark_dirty(desk);
        }
        self.drive(desk, io)
    }

    /// The deadline's timer fired.
    pub fn on_timer(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        let (over, change) = self.deadline.on_fired(io.now_ms());
        self.arm(change, io);
        if over {
            self.on_deadline(desk, io);
        }
        self.drive(desk, io)
    }

    /// There is mail for an idle connection.
    pub fn on_work(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.idle = false;
        self.take_work(desk, io);
        self.drive(desk, io)
    }

    /// A plugin handed the mail back.
    pub fn on_resume(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if let (Some(plugin), Some(asked)) = (self.plugin, &mut self.asked)
            && asked.chain.is_held()
            && let Some(verdict) = desk.plugins.take_verdict(plugin)
        {
            desk.numbers().sub(Number::Held, 1);
            asked.chain.on_verdict(verdict);
        }
        self.drive(desk, io)
    }

    /// Raw output of a plugin (D-87): it goes out, and nothing counts it as text.
    pub fn on_send(&mut self, bytes: &[u8], desk: &mut Desk) {
        self.session.inject_output(bytes);
        self.mark_dirty(desk);
    }

    /// The server stops: the mail under way is the last.
    pub fn on_drain(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.current.is_none() {
            self.leave(desk);
        }
        self.drive(desk, io)
    }

    /// The server stops at once.
    pub fn on_abort(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.revoke(desk, "the server stops");
        self.session.on_lost(Problem::TimedOut);
        let keep = self.drive(desk, io);
        if keep == Keep::Yes && !self.over {
            if !self.greeted {
                desk.pool.on_given_up();
            }
            self.over = true;
            return self.drive(desk, io);
        }
        keep
    }

    /// Offers commands and text to the socket.
    pub fn flush(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.queued_flush = false;
        if self.connected && self.writable && !self.over {
            self.write(desk, io);
        }
        self.drive(desk, io)
    }

    fn write(&mut self, desk: &mut Desk, io: &Io) {
        if !self.session.output().is_empty() {
            match self.transport.write(self.session.output()) {
                Moved::Some(count) => self.session.consume_output(count),
                Moved::Blocked(count) => {
                    self.writable = false;
                    self.session.consume_output(count);
                }
                Moved::End | Moved::Gone(_) => return self.on_lost(),
            }
        }
        if let Some(text) = &mut self.text
            && self.session.output().is_empty()
            && self.writable
        {
            let (sent, count) = text.write(&mut self.transport);
            if count > 0 {
                self.stage_ms = io.now_ms();
            }
            match sent {
                Sent::All => {
                    self.text = None;
                    self.session.end_body();
                }
                Sent::Blocked => self.writable = false,
                Sent::Gone => self.on_lost(),
            }
        }
        if let Some(plugin) = self.plugin {
            let space = rohrpost_abi::OUTPUT_BYTES_MAX.saturating_sub(self.session.output().len());
            desk.plugins.cell.set_output_space(plugin, space);
        }
    }

    /// Does all that can be done now.
    pub fn drive(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        let mut reads = 0;
        while !self.over && self.step(&mut reads, desk, io) {}
        if self.over {
            if self.is_held() {
                // D-81: what the plugin holds stays where it is until it is handed back.
                self.settle_deadline(desk, io);
                return Keep::Yes;
            }
            self.end(desk, io);
            return Keep::No;
        }
        if self.has_output() && self.writable {
            self.mark_dirty(desk);
        }
        if self.session.stage() != self.stage {
            self.stage = self.session.stage();
            self.stage_ms = io.now_ms();
        }
        self.settle_deadline(desk, io);
        Keep::Yes
    }

    /// One step; `false` when there is nothing to do before the next event.
    fn step(&mut self, reads: &mut usize, desk: &mut Desk, io: &mut Io) -> bool {
        if !self.connected {
            return self.try_connected(desk, io);
        }
        if let Some(event) = self.session.poll_event() {
            self.on_event(event, desk, io);
            return true;
        }
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| !asked.chain.is_held())
        {
            self.walk(desk, io);
            return true;
        }
        if let Some(problem) = self.lost.take() {
            self.session.on_lost(problem);
            return true;
        }
        if !self.readable {
            return false;
        }
        if *reads == READS_MAX {
            io.again(Token::from(self.key));
            return false;
        }
        *reads += 1;
        self.read(desk);
        true
    }

    fn try_connected(&mut self, desk: &mut Desk, io: &Io) -> bool {
        if let Some(error) = self.transport.take_error() {
            return self.on_unreachable(&format!("connect: {error}"), desk, io);
        }
        if !self.writable || !self.transport.connected() {
            return false;
        }
        self.connected = true;
        self.stage_ms = io.now_ms();
        self.local = self.transport.local();
        // Listeners on all addresses are known by our own end only.
        let local = self.local.map(|local| local.ip());
        if let Some(error) = own_listener(&desk.listeners, self.remote, local) {
            desk.fail_ready(&error.to_string(), io);
            return self.on_unreachable(&error.to_string(), desk, io);
        }
        true
    }

    fn on_unreachable(&mut self, why: &str, desk: &mut Desk, io: &Io) -> bool {
        if !self.greeted && !self.over {
            let why = format!("{}: {why}", self.remote);
            let text = format_args!("the next hop {} cannot be reached: {why}", self.hop);
            desk.log.limited("next-hop", Level::Warning, "smtp", text);
            desk.pool.on_failed(why, io.now_ms());
        }
        self.over = true;
        false
    }

    fn read(&mut self, desk: &mut Desk) {
        desk.scratch.clear();
        let moved = self.transport.read(&mut desk.scratch);
        self.session.handle_input(&desk.scratch);
        match moved {
            Moved::Some(_) => {}
            Moved::Blocked(_) => self.readable = false,
            Moved::End | Moved::Gone(_) => {
                self.readable = false;
                self.on_lost();
            }
        }
    }

    fn on_lost(&mut self) {
        self.readable = false;
        self.writable = false;
        self.lost = Some(Problem::Closed);
    }

    fn on_event(&mut self, event: Event, desk: &mut Desk, io: &mut Io) {
        match event {
            Event::Ready { .. } => {
                self.greeted = true;
                desk.pool.on_greeted();
                let init = ConnectionInit {
                    fd: self.transport.descriptor(),
                    direction: Direction::Outgoing,
                    secure: false,
                    authenticated: false,
                };
                self.plugin = desk.plugins.open(init).unwrap_or(None);
                if let Some(plugin) = self.plugin {
                    desk.by_plugin.insert(plugin, self.key);
                }
                self.take_work(desk, io);
            }
            Event::Data354 => self.on_354(desk, io),
            Event::Done(outcome) if !self.greeted => {
                let Outcome::Refused { reply, .. } = outcome else {
                    return;
                };
                self.on_unreachable(&reply.to_string(), desk, io);
            }
            Event::Done(outcome) => {
                let finish = finish_of(&outcome);
                self.finish(finish, desk, io);
                if self.session.stage() == Stage::Idle {
                    self.take_work(desk, io);
                }
            }
            Event::Lost { stage, problem } => {
                if !self.greeted {
                    self.on_unreachable(&format!("{}: {problem}", state_of(stage)), desk, io);
                }
                let result = match problem {
                    Problem::TimedOut => "timeout",
                    Problem::Closed => "lost",
                    Problem::ReplyTooLong | Problem::BadReply | Problem::UnexpectedReply => {
                        "invalid"
                    }
                };
                let text = problem.to_string();
                let finish = Finish::without_reply(Fate::Temporary, state_of(stage), result, text);
                self.finish(finish, desk, io);
                self.over = true;
            }
            Event::Goodbye => {
                if !self.greeted {
                    self.on_unreachable("the next hop said goodbye", desk, io);
                }
                self.give_back(desk);
                self.over = true;
            }
        }
    }

    /// Starts the next mail, or rests, or leaves.
    fn take_work(&mut self, desk: &mut Desk, io: &mut Io) {
        while self.session.stage() == Stage::Idle && self.current.is_none() {
            if desk.mood != Mood::Open || self.is_used_up(desk) {
                return self.leave(desk);
            }
            let Desk { store, memory, .. } = desk;
            let work = if desk.delivering {
                store.take_work(|bytes| memory.reserve(bytes as u64))
            } else {
                None
            };
            match work {
                Some(Work::Deliver(id, transaction)) => {
                    self.start(Current { id, transaction }, desk, io);
                }
                Some(Work::Load(id)) => {
                    let job = Job::Read(desk.index, id);
                    if let Err(error) = desk.jobs.try_send(job) {
                        // The channel holds more than all workers may ask for at a time.
                        unreachable!("the helper takes every job: {error}");
                    }
                }
                None => return self.rest(desk),
            }
        }
    }

    fn is_used_up(&self, desk: &Desk) -> bool {
        desk.settings
            .delivery
            .smarthost_messages_max
            .is_some_and(|max| self.messages >= max.get())
    }

    fn rest(&mut self, desk: &mut Desk) {
        if desk.settings.delivery.idle_timeout.is_zero() {
            return self.leave(desk);
        }
        if !self.idle {
            self.idle = true;
            desk.pool.on_idle(self.key);
        }
    }

    fn leave(&mut self, desk: &mut Desk) {
        if !self.connected {
            // A connect may take as long as its deadline, and nothing is lost with it.
            desk.pool.on_given_up();
            self.over = true;
            return;
        }
        if !self.greeted {
            // Nothing was said yet that a QUIT would end politely.
            self.session.on_lost(Problem::Closed);
            return;
        }
        if self.idle {
            desk.pool.on_busy(self.key);
            self.idle = false;
        }
        self.session.quit();
    }

    fn start(&mut self, current: Current, desk: &mut Desk, io: &Io) {
        let Current { id, transaction } = &current;
        let Some(mail) = transaction.mail(id.index) else {
            unreachable!("the store hands out mails of the transaction")
        };
        let body = transaction.body(mail);
        if body.is_none() && desk.plugins.with(Hook::OutData).is_empty() {
            self.current = Some(current);
            return self.finish(no_text(), desk, io);
        }
        let size = transaction.trace.len() + body.map_or(0, |body| body.as_bytes().len());
        let envelope = Envelope {
            from: &mail.envelope,
            to: &mail.recipient,
            size: size as u64,
            body: if transaction.eight_bit {
                BodyKind::EightBit
            } else {
                BodyKind::SevenBit
            },
            smtputf8: transaction.smtputf8,
        };
        let started = self.session.start(envelope);
        self.current = Some(current);
        match started {
            Ok(()) => {
                self.messages += 1;
                self.stage_ms = io.now_ms();
            }
            Err(crate::smtp::client::StartError::Busy) => {
                // Octets that nobody asked for. It counts as an attempt: a hop that always does so
                // would else be connected to again and again without a pause.
                let text = Problem::UnexpectedReply.to_string();
                let finish = Finish::without_reply(Fate::Temporary, "idle", "invalid", text);
                self.finish(finish, desk, io);
                self.session.on_lost(Problem::UnexpectedReply);
            }
            Err(error) => {
                let finish =
                    Finish::without_reply(Fate::Permanent, "process", "invalid", describe(&error));
                self.finish(finish, desk, io);
            }
        }
    }

    /// D-80: a positive 354; the plugins are asked, then the text goes out.
    fn on_354(&mut self, desk: &mut Desk, io: &Io) {
        let asks = !desk.plugins.with(Hook::OutData).is_empty();
        let (Some(plugin), true, Some(current)) = (self.plugin, asks, &self.current) else {
            return self.send_text(None, desk, io);
        };
        let mail = current.transaction.mail(current.id.index);
        let init = MessageInit {
            envelope: mail.map(|mail| mail.envelope.as_bytes()),
            recipient: mail.map(|mail| mail.recipient.as_bytes()),
            mime: None,
        };
        match desk.plugins.cell.open_message(plugin, init) {
            Ok(message) => {
                let chain = desk.plugins.chain(Hook::OutData);
                self.asked = Some(Asked {
                    chain,
                    message,
                    since_ms: io.now_ms(),
                });
            }
            Err(error) => {
                let finish =
                    Finish::without_reply(Fate::Temporary, "data", "error", error.to_string());
                self.session.abandon();
                self.finish(finish, desk, io);
                self.over = true;
            }
        }
    }

    fn walk(&mut self, desk: &mut Desk, io: &mut Io) {
        let (Some(plugin), Some(asked)) = (self.plugin, &mut self.asked) else {
            return;
        };
        let step = rohrpost_abi::Step::OutData(asked.message);
        let walked = desk.plugins.walk(&mut asked.chain, plugin, step);
        desk.apply_commands(io);
        let sent = desk.take_sends(plugin);
        if !sent.is_empty() {
            self.session.inject_output(&sent);
        }
        if walked == Walk::Held {
            desk.numbers().add(Number::Held, 1);
            asked.since_ms = io.now_ms();
            return;
        }
        let message = asked.message;
        self.asked = None;
        let edits = desk.plugins.cell.close_message(message);
        // D-6E: addresses are out already, so only the text can still be changed.
        let made = match edits.mime {
            Edit::Set(text) => Some(repaired(&text)),
            Edit::Unchanged | Edit::Removed => None,
        };
        self.send_text(made, desk, io);
    }

    fn send_text(&mut self, made: Option<crate::queue::Body>, desk: &mut Desk, io: &Io) {
        let Some(current) = &self.current else { return };
        let transaction = current.transaction.clone();
        let stored = transaction
            .mail(current.id.index)
            .and_then(|mail| transaction.body(mail));
        let text = match (made, stored) {
            (Some(made), _) => TextOut::made(transaction.clone(), made),
            (None, Some(stored)) => TextOut::stored(transaction.clone(), stored.clone()),
            (None, None) => {
                self.session.abandon();
                self.finish(no_text(), desk, io);
                self.over = true;
                return;
            }
        };
        if self.session.begin_body() {
            self.text = Some(text);
            self.stage_ms = io.now_ms();
        }
    }

    fn finish(&mut self, finish: Finish, desk: &mut Desk, io: &Io) {
        self.text = None;
        let Some(Current { id, .. }) = self.current.take() else {
            return;
        };
        let finish = finish.between(self.local.map(|local| local.ip()), Some(self.remote));
        desk.count(match finish.fate {
            Fate::Delivered => Number::Delivered,
            Fate::Permanent => Number::Bounced,
            Fate::Temporary => Number::Retried,
        });
        let now = desk.now(io);
        desk.batch
            .extend(desk.store.on_finish(id, finish, now).map(Entry::Settle));
    }

    /// The mail under way was not tried after all.
    fn give_back(&mut self, desk: &mut Desk) {
        if let Some(Current { id, .. }) = self.current.take() {
            desk.store.give_back(id);
        }
    }

    fn is_held(&self) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|asked| asked.chain.is_held())
    }

    /// D-27: takes the mail back from the plugin; the attempt ends as `timeout`.
    fn revoke(&mut self, desk: &mut Desk, why: &str) -> bool {
        let (Some(plugin), true) = (self.plugin, self.is_held()) else {
            return false;
        };
        if !desk.plugins.revoke(plugin, Hook::OutData, why) {
            return false;
        }
        desk.numbers().sub(Number::Held, 1);
        desk.count(Number::Revoked);
        if let Some(asked) = self.asked.take() {
            desk.plugins.cell.close_message(asked.message);
        }
        true
    }

    fn on_deadline(&mut self, desk: &mut Desk, io: &Io) {
        if self.is_held() && self.hold_over(desk, io) && self.revoke(desk, "plugin-timeout") {
            self.session.abandon();
            let text = "a plugin held the mail for longer than plugin-timeout";
            let finish = Finish::without_reply(Fate::Temporary, "data", "timeout", text);
            self.finish(finish, desk, io);
            self.over = true;
            return;
        }
        if !self.connected {
            self.on_unreachable("connect: no answer within connect-timeout", desk, io);
        } else if self.idle {
            self.leave(desk);
        } else {
            self.session.on_lost(Problem::TimedOut);
        }
    }

    fn hold_over(&self, desk: &Desk, io: &Io) -> bool {
        match (&self.asked, desk.settings.plugin.hold_timeout) {
            (Some(asked), Some(limit)) => io.now_ms() >= asked.since_ms + limit.as_millis() as u64,
            _ => false,
        }
    }

    fn deadline_ms(&self, desk: &Desk) -> Option<u64> {
        let settings = &desk.settings.delivery;
        let hold = self
            .asked
            .as_ref()
            .filter(|asked| asked.chain.is_held())
            .and_then(|asked| {
                let limit = desk.settings.plugin.hold_timeout?;
                Some(asked.since_ms + limit.as_millis() as u64)
            });
        if self.over {
            return hold;
        }
        let patience = if !self.connected {
            settings.connect_timeout
        } else {
            match self.stage {
                Stage::Idle => settings.idle_timeout,
                Stage::Data | Stage::Held | Stage::Body => settings.data_timeout,
                Stage::FinalDot => settings.dot_timeout,
                Stage::Quit | Stage::Closed => std::time::Duration::from_millis(QUIT_MS),
                Stage::Banner | Stage::Ehlo | Stage::Reset | Stage::Mail | Stage::Rcpt => {
                    settings.reply_timeout
                }
            }
        };
        // While a plugin holds the mail its own deadline counts, the far end's ends by itself.
        hold.or(Some(self.stage_ms + patience.as_millis() as u64))
    }

    fn settle_deadline(&mut self, desk: &Desk, io: &mut Io) {
        let change = self.deadline.set(self.deadline_ms(desk));
        self.arm(change, io);
    }

    fn has_output(&self) -> bool {
        !self.session.output().is_empty() || self.text.is_some()
    }

    fn mark_dirty(&mut self, desk: &mut Desk) {
        if !self.queued_flush {
            self.queued_flush = true;
            desk.mark_dirty(self.key);
        }
    }

    fn arm(&mut self, change: Change, io: &mut Io) {
        match change {
            Change::Keep => {}
            Change::Arm(at_ms) => {
                let timer = io.arm(at_ms, Timer::Connection(self.key));
                self.deadline.on_armed(timer, at_ms);
            }
            Change::Rearm(timer, at_ms) => {
                io.rearm(timer, at_ms);
            }
        }
    }

    /// The very end. D-84: outgoing connection data goes without a callback.
    fn end(&mut self, desk: &mut Desk, io: &mut Io) {
        if let Some(asked) = self.asked.take() {
            desk.plugins.cell.close_message(asked.message);
        }
        self.give_back(desk);
        if let Some(plugin) = self.plugin.take() {
            desk.by_plugin.remove(&plugin);
            desk.plugins.cell.close_connection(plugin);
        }
        if self.greeted {
            desk.pool.on_closed(self.key);
        }
        if let Some(timer) = self.deadline.take_timer() {
            io.cancel(timer);
        }
    }
}

/// The outcome of a mail as an attempt.
fn finish_of(outcome: &Outcome) -> Finish {
    match outcome {
        Outcome::Accepted(reply) => Finish::of_reply("message", reply),
        Outcome::Refused { stage, reply, .. } => Finish::of_reply(state_of(*stage), reply),
    }
}

/// MailerQ's word for a stage.
fn state_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Banner => "intro",
        Stage::Ehlo => "ehlo",
        Stage::Idle | Stage::Reset | Stage::Quit | Stage::Closed => "idle",
        Stage::Mail => "mailfrom",
        Stage::Rcpt => "rcptto",
        Stage::Data | Stage::Held | Stage::Body => "data",
        Stage::FinalDot => "message",
    }
}

/// D-6A: there is nothing that could be sent.
fn no_text() -> Finish {
    Finish::without_reply(Fate::Permanent, "data", "error", "the mail has no text")
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
