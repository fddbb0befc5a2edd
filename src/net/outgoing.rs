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
//! **Diagnostics**: every attempt ends in a [`Finish`]; a host that cannot be reached is the journey's
//! trouble, which may have another one.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rohrpost_abi::{ConnectionId, Hook, MessageEdits, MessageId};
use rohrpost_reactor::{Key, Readiness};

use crate::blocking::Job;
use crate::delivery::{
    Carried, DestinationId, Fate, Finish, Journey, Stop, Target, Work, own_listener, state_of,
};
use crate::limits::OutgoingPermit;
use crate::log::Level;
use crate::notice::wanted;
use crate::queue::{Body, MailId, Transaction};
use crate::settings::Settings;
use crate::smtp::client::{Envelope, Event, Outcome, Problem, Session, Stage};
use crate::smtp::command::BodyKind;

use super::asked::{Asked, Ending};
use super::deadline::Deadline;
use super::desk::{Desk, Io};
use super::incoming::Keep;
use super::outgoing_asked::{edited, made_of, misaddressed};
use super::outgoing_end::unconnected;
use super::outgoing_secure::{Guard, plan};
use super::reuse::Reuse;
use super::tally::Tally;
use super::text::TextOut;
use super::transport::{Moved, Transport};

/// Mails that one connection starts in one call; more than one only where they fail before anything is
/// sent.
const STARTS_MAX: usize = 100;
/// Reads of one connection in one turn.
const READS_MAX: usize = 4;
/// Steps that plugins are asked in of one connection in one turn: they may end mail after mail before
/// anything is sent.
const STEPS_MAX: usize = 400;

/// What one connection may still do in one turn.
struct Budget {
    reads: usize,
    steps: usize,
}

/// The mail under way.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) id: MailId,
    pub(super) transaction: Arc<Transaction>,
    /// What it has behind it in this attempt, where a connection was lost before.
    pub(super) before: Option<Box<Carried>>,
}

/// One connection that takes mail away.
#[derive(Debug)]
pub struct Outgoing {
    pub(super) key: Key,
    pub(super) transport: Transport,
    pub(super) session: Session,
    pub(super) guard: Guard,
    /// What it was made by, or last compared with.
    pub(super) settings: Arc<Settings>,
    /// Whose mail it carries.
    pub(super) destination: DestinationId,
    /// What that is: a domain, or a smarthost.
    pub(super) target: Target,
    /// The host at the other end.
    pub(super) stop: Stop,
    /// Until it is greeted: where else it may go.
    pub(super) journey: Option<Journey>,
    pub(super) local: Option<SocketAddr>,
    pub(super) plugin: Option<ConnectionId>,
    pub(super) connected: bool,
    pub(super) greeted: bool,
    pub(super) current: Option<Current>,
    /// The step that plugins are asked in.
    pub(super) asked: Option<Asked>,
    /// The mail under way as plugins see it.
    pub(super) message: Option<MessageId>,
    /// The text that plugins made of it before it was announced.
    pub(super) made: Option<Body>,
    /// The plugin that decided what becomes of it, and what.
    pub(super) decided: Option<(Box<str>, &'static str)>,
    /// How a mail ended whose step is still held, and how far it came.
    pub(super) ended_while_held: Option<(&'static str, Ending)>,
    /// No plugin that had a step taken from it must miss a mail: none follows.
    pub(super) retired: bool,
    /// So it will be once it has a mail: the step was one before any.
    pub(super) retires: bool,
    /// Plugins were told that it is over.
    pub(super) left: bool,
    pub(super) text: Option<TextOut>,
    pub(super) messages: u32,
    pub(super) readable: bool,
    pub(super) read_closed: bool,
    pub(super) writable: bool,
    pub(super) queued_flush: bool,
    pub(super) idle: bool,
    /// What reusing it risks.
    pub(super) reuse: Reuse,
    /// What it has carried.
    pub(super) tally: Tally,
    /// When the text under way must be out.
    pub(super) text_until_ms: u64,
    /// The session is over, or the socket is: what is left is to be cleaned up.
    pub(super) over: bool,
    /// A write failed.
    pub(super) deaf: bool,
    /// The socket brings nothing more; what was read before still counts.
    pub(super) lost: Option<Problem>,
    pub(super) deadline: Deadline,
    pub(super) stage: Stage,
    pub(super) stage_ms: u64,
    pub(super) _permit: OutgoingPermit,
}

/// What a new connection is made of.
#[derive(Debug)]
pub struct Departure {
    /// The registered, connecting socket.
    pub transport: Transport,
    /// Where it goes: the name of the host, as MX or the settings have it, and its address.
    pub stop: Stop,
    /// Where else it may go.
    pub journey: Journey,
    /// Its place among the connections.
    pub permit: OutgoingPermit,
}

impl Outgoing {
    /// A connection whose connect is under way; the pool counts it as opening already.
    pub fn new(departure: Departure, io: &Io, key: Key, desk: &Desk) -> Outgoing {
        let Departure { stop, journey, .. } = &departure;
        let spared = journey.goes_clear_to(stop.address)
            || desk.broken_tls.spares(stop.address, io.now_ms());
        let (mut options, guard) = plan(stop, &journey.target, &desk.settings, spared);
        let is_asked = |hook| !desk.plugins.set().with(hook).is_empty();
        options.asks_at_banner = is_asked(Hook::OutConnect) || is_asked(Hook::OutSecure);
        Outgoing {
            key,
            transport: departure.transport,
            session: Session::new(&options),
            guard,
            settings: desk.settings.clone(),
            destination: departure.journey.destination,
            target: departure.journey.target.clone(),
            stop: departure.stop,
            journey: Some(departure.journey),
            local: None,
            plugin: None,
            connected: false,
            greeted: false,
            current: None,
            asked: None,
            message: None,
            made: None,
            decided: None,
            ended_while_held: None,
            retired: false,
            retires: false,
            left: false,
            text: None,
            messages: 0,
            readable: true,
            read_closed: false,
            writable: false,
            queued_flush: false,
            idle: false,
            reuse: Reuse::default(),
            tally: Tally::default(),
            text_until_ms: 0,
            over: false,
            deaf: false,
            lost: None,
            deadline: Deadline::new(key),
            stage: Stage::Banner,
            stage_ms: io.now_ms(),
            _permit: departure.permit,
        }
    }

    /// Something happened to the socket.
    pub fn on_ready(&mut self, ready: Readiness, desk: &mut Desk, io: &mut Io) -> Keep {
        self.readable |= ready.readable() || ready.read_closed() || ready.error();
        self.read_closed |= ready.read_closed();
        self.writable |= ready.writable();
        if ready.writable() {
            self.transport.on_writable();
        }
        if self.connected && ready.writable() && self.has_output() {
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

    /// There is mail for an idle connection.
    pub fn on_work(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.idle = false;
        if self.reuse.on_woken(io.now_ms()) {
            // The far end may have gone meanwhile, and said so: better to know before than after.
            self.readable = true;
            if self.drive(desk, io) == Keep::No {
                return Keep::No;
            }
        }
        self.take_work(desk, io);
        self.drive(desk, io)
    }

    /// An idle connection is to make room for another.
    pub fn on_unneeded(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.idle {
            self.leave(desk, io);
        }
        self.drive(desk, io)
    }

    /// A plugin handed the mail back.
    pub fn on_resume(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if let Some(asked) = &mut self.asked {
            asked.on_resume(desk, io);
        }
        self.drive(desk, io)
    }

    /// Raw output of a plugin (D-87): it goes out, and nothing counts it as text.
    pub fn on_send(&mut self, bytes: &[u8], desk: &mut Desk) {
        if self.text.is_some() {
            // It would stand in the middle of the mail, or end it.
            let text = "octets of a plugin were dropped: the text of a mail is being sent";
            desk.log.limited("send-in-text", Level::Warning, "plugin", text);
            return;
        }
        self.session.inject_output(bytes);
        self.mark_dirty(desk);
    }

    /// The server stops: the mail under way is the last.
    pub fn on_drain(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.current.is_none() {
            self.leave(desk, io);
        }
        self.drive(desk, io)
    }

    /// The server stops and waits for plugins no longer (D-53).
    pub fn on_hold_over(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.is_held() {
            self.take_back(Fate::Temporary, "the server stops", desk, io);
        }
        self.drive(desk, io)
    }

    /// The server stops at once.
    pub fn on_abort(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        self.revoke(desk, "the server stops", io);
        if !self.greeted {
            self.leave_ungreeted(desk, io);
            return self.drive(desk, io);
        }
        if !self.has_text_out() && self.session.stage() != Stage::FinalDot {
            // That was no attempt.
            self.give_back(desk, io);
        }
        self.session.on_lost(Problem::Closed);
        let keep = self.drive(desk, io);
        if keep == Keep::Yes && !self.over {
            self.give_up(desk, io);
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

    /// Does all that can be done now.
    pub fn drive(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        let mut budget = Budget { reads: READS_MAX, steps: STEPS_MAX };
        while !self.over && self.step(&mut budget, desk, io) {}
        if self.over {
            return self.wind_up(desk, io);
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

    /// Plugins are asked what is still to be asked; then the connection goes.
    fn wind_up(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        loop {
            if self.is_held() {
                // D-81: what the plugin holds stays where it is until it is handed back.
                self.settle_deadline(desk, io);
                return Keep::Yes;
            }
            if self.asked.is_some() {
                self.walk(desk, io);
            } else if !self.takes_leave(desk, io) {
                self.end(desk, io);
                return Keep::No;
            }
        }
    }

    /// One step; `false` when there is nothing to do before the next event.
    fn step(&mut self, budget: &mut Budget, desk: &mut Desk, io: &mut Io) -> bool {
        if !self.connected {
            return self.try_connected(desk, io);
        }
        if let Some(asked) = self.asked.as_ref().filter(|asked| asked.blocks()) {
            return !asked.is_held() && self.ask_on(budget, desk, io);
        }
        if let Some(event) = self.session.poll_event() {
            self.on_event(event, desk, io);
            return true;
        }
        if self.asked.as_ref().is_some_and(|asked| !asked.is_held()) {
            return self.ask_on(budget, desk, io);
        }
        if let Some(problem) = self.lost.take() {
            self.session.on_lost(problem);
            return true;
        }
        if self.session.stage() == Stage::Handshake {
            return self.shake_hands(desk, io);
        }
        if !self.readable {
            return false;
        }
        if budget.reads == 0 {
            io.again(Token::from(self.key));
            return false;
        }
        budget.reads -= 1;
        self.read(desk);
        true
    }

    /// Asks plugins on, or in the next turn.
    fn ask_on(&mut self, budget: &mut Budget, desk: &mut Desk, io: &mut Io) -> bool {
        if budget.steps == 0 {
            io.again(Token::from(self.key));
            return false;
        }
        budget.steps -= 1;
        self.walk(desk, io);
        true
    }

    fn try_connected(&mut self, desk: &mut Desk, io: &Io) -> bool {
        if let Some(error) = self.transport.take_error() {
            return self.on_unreachable(unconnected(&error), desk, io);
        }
        if !self.writable || !self.transport.connected() {
            return false;
        }
        self.connected = true;
        self.stage_ms = io.now_ms();
        self.local = self.transport.local();
        // Listeners on all addresses are known by our own end only.
        let local = self.local.map(|local| local.ip());
        if let Some(error) = own_listener(&desk.listeners, self.stop.address, local) {
            if let Some(journey) = self.journey.take() {
                desk.on_own_stop(journey, &self.stop, error, io);
            }
            self.over = true;
            return false;
        }
        true
    }

    fn read(&mut self, desk: &mut Desk) {
        desk.scratch.clear();
        let moved = self.transport.read(&mut desk.scratch);
        self.session.handle_input(&desk.scratch);
        match moved {
            Moved::Some(_) => {}
            Moved::Blocked(_) if self.deaf => self.on_lost(),
            // The end makes no edge of its own once it was seen: it is read until it comes.
            Moved::Blocked(_) => self.readable = self.read_closed,
            Moved::End | Moved::Gone(_) => {
                self.readable = false;
                self.on_lost();
            }
        }
    }

    fn on_event(&mut self, event: Event, desk: &mut Desk, io: &mut Io) {
        match event {
            Event::Ready { .. } => {
                self.greeted = true;
                desk.store.destinations.on_greeted(self.destination, self.stop.address);
                let carried = self.journey.take().and_then(|journey| journey.carried);
                self.current = carried.map(Current::carried);
                if self.is_outdated(desk) {
                    self.give_back(desk, io);
                    return self.leave(desk, io);
                }
                let was_shown = self.plugin.is_some();
                if self.show_connection(desk).is_err() || self.missed_steps(was_shown, desk) {
                    // Plugins could not see the mail, or what came before, and nothing may pass them by.
                    self.give_back(desk, io);
                    return self.leave(desk, io);
                }
                if let Some(current) = self.current.take() {
                    self.start(current, desk, io);
                }
                self.take_work(desk, io);
            }
            Event::Banner => self.on_banner(desk, io),
            // The session waits for the handshake: the next step.
            Event::StartTls => {}
            Event::Data354 => self.on_354(desk, io),
            Event::Done(outcome) if !self.greeted => {
                let Outcome::Refused { stage, reply, .. } = outcome else {
                    return;
                };
                self.log_refusal(stage, &reply, desk);
                let mut why = Finish::of_reply(state_of(stage), &reply);
                // Whatever it says, it says it of itself and not of a mail.
                why.fate = Fate::Temporary;
                self.on_unreachable(why, desk, io);
            }
            Event::Done(Outcome::Refused { stage, reply, .. })
                if reply.code() == 421 && self.reuse.is_outworn(stage, Problem::Closed) =>
            {
                self.give_back(desk, io);
            }
            Event::Done(outcome) => {
                let finish = Finish::of_outcome(&outcome);
                let finish = match &mut self.asked {
                    Some(asked) => asked.keep_reply(finish),
                    None => Some(finish),
                };
                if let Some(finish) = finish {
                    self.on_reply(finish, desk, io);
                }
            }
            Event::Lost { stage, problem } => self.on_lost_event(stage, problem, desk, io),
            Event::Goodbye => {
                let why = "the far end said goodbye";
                let why = Finish::without_reply(Fate::Temporary, "intro", "lost", why);
                if self.is_outworn(Stage::Idle, Problem::Closed) {
                    self.give_back(desk, io);
                } else {
                    // It says so whenever plugins are asked about a mail: that counts.
                    self.lose(why.clone(), desk, io);
                }
                self.on_unreachable(why, desk, io);
            }
        }
    }

    /// Starts the next mail, or rests, or leaves.
    pub(super) fn take_work(&mut self, desk: &mut Desk, io: &mut Io) {
        for _ in 0..STARTS_MAX {
            let is_free = self.current.is_none() && self.asked.is_none();
            if self.session.stage() != Stage::Idle || !is_free {
                return;
            }
            // D-0E: mail that is begun now is for the plugins of now.
            let outdated = self.is_outdated(desk) || desk.plugins.is_outdated(self.plugin);
            if !desk.mood.delivers() || self.is_used_up(desk) || outdated {
                return self.leave(desk, io);
            }
            let delivering = desk.may_deliver();
            let Desk { store, memory, .. } = desk;
            let work = if delivering {
                store.take_work(self.destination, |bytes| memory.reserve(bytes as u64))
            } else {
                None
            };
            match work {
                Some(Work::Deliver(id, transaction)) => {
                    self.start(Current { id, transaction, before: None }, desk, io);
                }
                Some(Work::Load(id)) => {
                    let job = Job::Read(desk.index, id);
                    if let Err(error) = desk.jobs.try_send(job) {
                        // The channel holds all that workers may ask for at a time.
                        unreachable!("the helper takes every job: {error}");
                    }
                }
                None => return self.rest(desk, io),
            }
        }
        let is_free = self.current.is_none() && self.asked.is_none();
        if self.session.stage() == Stage::Idle && is_free {
            // Mail after mail that failed before anything was sent: the others have their turn.
            self.rest(desk, io);
            desk.store.destinations.wake(self.destination);
            io.stay_awake();
        }
    }

    fn is_used_up(&self, desk: &Desk) -> bool {
        if self.retired {
            return true;
        }
        let settings = &desk.settings.delivery;
        let max = match self.target {
            Target::Host(_) => settings.smarthost_messages_max,
            Target::Domain(_) => settings.domain_messages_max,
        };
        max.is_some_and(|max| self.messages >= max.get())
    }

    fn rest(&mut self, desk: &mut Desk, io: &Io) {
        let destinations = &mut desk.store.destinations;
        // With mail that waits for memory the next one is worth the wait.
        if desk.settings.delivery.idle_timeout.is_zero()
            && destinations.ready(self.destination) == 0
        {
            return self.leave(desk, io);
        }
        if !self.idle {
            self.idle = true;
            self.reuse.on_idle(io.now_ms());
            destinations.on_idle(self.destination, self.key);
        }
    }

    fn start(&mut self, current: Current, desk: &mut Desk, io: &Io) {
        self.hide_mail(desk);
        self.current = Some(current);
        self.retired |= self.retires;
        self.decided = None;
        self.tally.on_start();
        self.announce(desk, io);
    }

    /// Starts the mail under way, with what plugins made of it.
    pub(super) fn begin(&mut self, edits: Option<MessageEdits>, desk: &mut Desk, io: &Io) {
        let Some(Current { id, transaction, .. }) = &self.current else { return };
        let transaction = transaction.clone();
        let Some(mail) = transaction.mail(id.index) else {
            unreachable!("the store hands out mails of the transaction")
        };
        let edits = edits.unwrap_or_default();
        self.made = made_of(&edits.mime);
        let stored = transaction.body(mail);
        let body = self.made.as_ref().or(stored);
        if body.is_none() && !self.asks(Hook::OutData, desk) {
            return self.finish(Finish::no_text(), desk, io);
        }
        let (from, to) = match (edited(&edits.envelope), edited(&edits.recipient)) {
            (Ok(from), Ok(to)) => (from.unwrap_or(&mail.envelope), to.unwrap_or(&mail.recipient)),
            (Err(_), _) | (_, Err(_)) => return self.finish(misaddressed(), desk, io),
        };
        let trace = if self.made.is_some() { 0 } else { transaction.trace.len() };
        let size = trace + body.map_or(0, |body| body.as_bytes().len());
        let envelope = Envelope {
            from,
            to,
            size: size as u64,
            body: if transaction.eight_bit { BodyKind::EightBit } else { BodyKind::SevenBit },
            smtputf8: transaction.smtputf8,
            request: wanted::request(&transaction, mail),
        };
        self.reuse.on_start();
        let ahead = self.text_ahead(&transaction, stored, desk);
        let started = match &ahead {
            Some(text) => self.session.start_chunk(envelope, text.octets() as u64),
            None => self.session.start(envelope),
        };
        match started {
            Ok(()) => {
                self.messages += 1;
                self.stage_ms = io.now_ms();
                // Else it was refused before anything was sent.
                if let Some(text) = ahead.filter(|_| self.session.stage() == Stage::Body) {
                    self.begin_text(text, desk, io);
                }
            }
            Err(crate::smtp::client::StartError::Busy) => {
                // Octets that nobody asked for. It counts as an attempt: a hop that always does so
                // would else be connected to again and again without a pause.
                let text = Problem::UnexpectedReply.to_string();
                let finish = Finish::without_reply(Fate::Temporary, "idle", "invalid", text);
                self.finish(finish, desk, io);
                self.session.on_lost(Problem::UnexpectedReply);
            }
            // What a plugin made of it may be right the next time.
            Err(_) if (from, to) != (&*mail.envelope, &*mail.recipient) => {
                self.finish(misaddressed(), desk, io);
            }
            Err(error) => {
                let finish =
                    Finish::without_reply(Fate::Permanent, "process", "invalid", describe(&error));
                self.finish(finish, desk, io);
            }
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.asked.as_ref().is_some_and(Asked::is_held)
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
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
