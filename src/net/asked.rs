//! One step of an outgoing connection on its way through the plugins: what they are asked, who holds it,
//! and until when.
//!
//! The steps of a connection are strictly serial (D-2D); what follows from each is the driver's.
//!
//! **Diagnostics**: a step that is held too long is taken back (D-27) and logged.

use rohrpost_abi::{ConnectionId, Hook, MessageId, PluginIndex, Step, Terminated};

use crate::delivery::Finish;
use crate::metrics::Number;
use crate::plugin::chain::{Chain, Verdict};
use crate::plugin::failure::OnFailure;
use crate::plugin::view::Walk;

use super::desk::{Desk, Io};

/// What plugins are asked about.
#[derive(Debug)]
pub(super) enum Moment {
    /// The far end greeted; nothing was said to it.
    Connect,
    /// The TLS handshake is done.
    Secure,
    /// A mail is about to be announced.
    Message(MessageId),
    /// The far end waits for the text (D-80).
    Data(MessageId),
    /// The text is out. What the far end said of it meanwhile waits (D-82).
    Sent(MessageId, Option<Box<Finish>>),
    /// How it ended.
    Result(MessageId, Ending),
    /// The connection is gone (D-84).
    Close,
}

/// How a mail ended at one far end, as plugins are told and as it is acted upon afterwards.
#[derive(Debug)]
pub(super) struct Ending {
    code: u16,
    /// With a zero at its end.
    text: Vec<u8>,
    /// What follows if nobody wants otherwise; `None`: it is settled.
    pub(super) then: Option<(Box<Finish>, Follow)>,
}

/// What follows from the end of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// Its attempt ends.
    Settle,
    /// It goes on to a host that it has not tried, if there is one (D-85).
    CarryOn,
}

impl Ending {
    /// An end that nothing can be done about.
    pub(super) fn told(code: u16, text: &str) -> Ending {
        let mut text = text.as_bytes().to_vec();
        text.push(0);
        Ending { code, text, then: None }
    }

    pub(super) fn new(finish: Finish, follow: Follow) -> Ending {
        let told = Ending::told(finish.code, &finish.description);
        Ending { then: Some((Box::new(finish), follow)), ..told }
    }
}

impl Moment {
    fn hook(&self) -> Hook {
        match self {
            Moment::Connect => Hook::OutConnect,
            Moment::Secure => Hook::OutSecure,
            Moment::Message(_) => Hook::OutMessage,
            Moment::Data(_) => Hook::OutData,
            Moment::Sent(..) => Hook::OutSent,
            Moment::Result(..) => Hook::OutResult,
            Moment::Close => Hook::OutClose,
        }
    }

    fn step(&self) -> Step<'_> {
        match self {
            Moment::Connect => Step::OutConnect,
            Moment::Secure => Step::OutSecure,
            Moment::Message(message) => Step::OutMessage(*message),
            Moment::Data(message) => Step::OutData(*message),
            Moment::Sent(message, _) => Step::OutSent(*message),
            Moment::Result(message, Ending { code, text, .. }) => {
                let text = Terminated::new(text).expect("it was made with its zero");
                Step::OutResult { message: *message, code: *code, text }
            }
            Moment::Close => Step::OutClose,
        }
    }

    /// The mail of which plugins may decide in it.
    fn decidable(&self) -> Option<MessageId> {
        match self {
            Moment::Message(message) | Moment::Data(message) | Moment::Result(message, _) => {
                Some(*message)
            }
            Moment::Connect | Moment::Secure | Moment::Sent(..) | Moment::Close => None,
        }
    }

    /// Whether it is about a mail that is still on its way.
    pub(super) fn is_of_mail(&self) -> bool {
        match self {
            Moment::Message(_) | Moment::Data(_) | Moment::Sent(..) => true,
            Moment::Connect | Moment::Secure | Moment::Result(..) | Moment::Close => false,
        }
    }
}

/// One step on its way through the plugins.
#[derive(Debug)]
pub(super) struct Asked {
    plugin: ConnectionId,
    chain: Chain,
    pub(super) moment: Moment,
    held_ms: u64,
    /// The time that the holder gave itself.
    hold_ms: Option<u64>,
}

impl Asked {
    pub(super) fn new(moment: Moment, plugin: ConnectionId, desk: &Desk) -> Asked {
        let chain = desk.plugins.chain(plugin, moment.hook());
        Asked { plugin, chain, moment, held_ms: 0, hold_ms: None }
    }

    /// Asks on, as far as it goes now.
    pub(super) fn walk(&mut self, desk: &mut Desk, io: &mut Io) -> Walk {
        let mut walked = desk.plugins.walk(&mut self.chain, self.plugin, &self.moment.step());
        while walked == Walk::Answered && self.passes(desk) {
            // A failure that is to mean nothing takes all that the plugin said with it.
            if let Some(failed) = desk.plugins.cell.take_answer(self.plugin) {
                self.forget_decision(failed.plugin, desk);
            }
            self.chain.on_pass();
            walked = desk.plugins.walk(&mut self.chain, self.plugin, &self.moment.step());
        }
        desk.apply_commands(io);
        if walked == Walk::Held {
            desk.numbers().add(Number::Held, 1);
            self.held_ms = io.now_ms();
            self.hold_ms = desk.plugins.cell.hold_timeout_ms(self.plugin);
        }
        walked
    }

    /// Whether what a plugin answered means nothing: it says that it failed, and the settings let that
    /// pass, or there is nothing in the step that could fail.
    fn passes(&self, desk: &Desk) -> bool {
        if desk.plugins.cell.wants_to_leave(self.plugin) {
            return false;
        }
        match &self.moment {
            Moment::Sent(..) | Moment::Result(..) | Moment::Close => true,
            Moment::Connect | Moment::Secure | Moment::Message(_) | Moment::Data(_) => {
                desk.settings.plugin.failure == OnFailure::Accept
            }
        }
    }

    /// What a plugin that failed in this step has decided of its mail counts no longer.
    fn forget_decision(&self, failed: PluginIndex, desk: &Desk) {
        if let Some(message) = self.moment.decidable() {
            desk.plugins.cell.forget_decision(message, failed);
        }
    }

    /// The holder handed back, if it is so.
    pub(super) fn on_resume(&mut self, desk: &Desk, io: &Io) {
        let held_ms = io.now_ms() - self.held_ms;
        if desk.plugins.resume(&mut self.chain, self.plugin, held_ms) {
            desk.numbers().sub(Number::Held, 1);
        }
    }

    /// Whether a plugin holds the step.
    pub(super) fn is_held(&self) -> bool {
        self.chain.is_held()
    }

    /// Whether nothing else is done on the connection until it is over: there is nobody to hear, or what
    /// the far end said last is not acted upon yet.
    pub(super) fn blocks(&self) -> bool {
        match &self.moment {
            Moment::Connect | Moment::Secure | Moment::Result(..) | Moment::Close => true,
            Moment::Sent(_, reply) => reply.is_some(),
            Moment::Message(_) | Moment::Data(_) => false,
        }
    }

    /// D-82: keeps the far end's last word on a mail whose step is not over; gives it back where there is
    /// no such step.
    pub(super) fn keep_reply(&mut self, finish: Finish) -> Option<Finish> {
        match &mut self.moment {
            Moment::Sent(_, reply) => {
                *reply = Some(Box::new(finish));
                None
            }
            _ => Some(finish),
        }
    }

    /// When the holder's time is over; `None` where it has no end or nobody holds.
    pub(super) fn deadline_ms(&self, desk: &Desk) -> Option<u64> {
        let most = desk.settings.plugin.hold_timeout.map(|most| most.as_millis() as u64);
        let hold_ms = most.into_iter().chain(self.hold_ms).min().filter(|_| self.is_held())?;
        Some(self.held_ms + hold_ms)
    }

    /// The holder's time is over: it is told, if it wants that; whether it hands back then.
    pub(super) fn expire(&self, desk: &mut Desk, io: &mut Io) -> bool {
        let released = desk.plugins.expire(self.plugin);
        desk.apply_commands(io);
        released
    }

    /// D-27: takes the step back, whoever has it; what it was about.
    pub(super) fn revoke(self, why: &str, desk: &mut Desk, io: &Io) -> Moment {
        let held_ms = io.now_ms() - self.held_ms;
        if desk.plugins.revoke(self.plugin, self.moment.hook(), held_ms, why) {
            desk.count(Number::Revoked);
        }
        if self.chain.is_held() {
            desk.numbers().sub(Number::Held, 1);
        }
        self.moment
    }

    /// D-27: takes the step back, and the next plugin is asked (`plugin-failure: accept`). Whether the one
    /// that had it is not asked any more on this connection (D-28).
    pub(super) fn pass_over(&mut self, why: &str, desk: &mut Desk, io: &Io) -> bool {
        let held_ms = io.now_ms() - self.held_ms;
        let holder = desk.plugins.cell.held(self.plugin);
        if desk.plugins.revoke(self.plugin, self.moment.hook(), held_ms, why) {
            // What was decided of how it ended was decided of something that is known, and holds.
            if let (Some(holder), true) = (holder, self.moment.is_of_mail()) {
                self.forget_decision(holder, desk);
            }
            desk.count(Number::Revoked);
            desk.numbers().sub(Number::Held, 1);
            self.chain.on_verdict(Verdict::Continue);
        }
        holder.is_some_and(|holder| desk.plugins.cell.skips(holder, self.plugin))
    }
}
