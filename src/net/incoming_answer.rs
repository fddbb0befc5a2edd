//! Steps of an incoming connection that a plugin has answered (D-3D, D-73), and what plugins are told of
//! one.
//!
//! Owns what each answer means at each step. An answer ends its step: nobody else is asked. What ends
//! because a plugin failed is in `incoming_fail`.
//!
//! Must never: answer `250` to a text that is neither durable nor dropped by a plugin that said so.
//!
//! **Diagnostics**: what a plugin drops is logged, with the plugin, rate-limited: nobody else will ever
//! say that the mail was there. What it refuses is logged for whoever looks closer.

use std::net::SocketAddr;
use std::sync::Arc;

use rohrpost_abi::{Answer, Fact, Hook, Ruling, TlsFacts};

use crate::log::Level;
use crate::metrics::Number;
use crate::plugin::answer::{self as reply_to, Lasting};
use crate::plugin::failure::OnFailure;
use crate::plugin::view::Audience;
use crate::smtp::server::{Asks, Decision, Greeting, Hello};
use crate::smtp::{Reply, answer};

use super::desk::{Desk, Io};
use super::incoming::{Incoming, Peer, Stage};
use super::listener::Entrance;
use super::message::Message;
use super::receipt::receipt;
use super::step::{Step, terminated};

impl Incoming {
    /// A plugin has answered the step: it is over, unless the plugin failed and the next one is asked.
    pub(super) fn on_answered(&mut self, desk: &mut Desk, io: &mut Io) {
        let answer = self.plugin.and_then(|plugin| desk.plugins.cell.take_answer(plugin));
        let (Some(answer), Stage::Step(step, _)) = (answer, &self.stage) else {
            return self.finish_step(desk, io);
        };
        let hook = step.hook();
        if answer.ruling == Some(Ruling::Fail) {
            return self.on_failed(&answer, hook, desk, io);
        }
        if self.peer == Peer::Gone {
            return self.finish_step(desk, io);
        }
        self.parting |= answer.disconnect;
        // D-3C: the host refuses by itself what nobody has called local, whatever else is said of it.
        if step.audience() == Audience::Welcomers && !self.is_welcomed(desk) {
            return self.finish_step(desk, io);
        }
        let plugin = desk.plugins.name(answer.plugin);
        match answer.ruling {
            None => self.refuse(answer::DISMISSED.into(), plugin, desk, io),
            Some(Ruling::Reject(words)) => {
                let reply = reply_to::reply(hook, Lasting::ForGood, words, self.speaks_utf8());
                self.refuse(reply, plugin, desk, io);
            }
            Some(Ruling::Defer(words)) => {
                let reply = reply_to::reply(hook, Lasting::ForNow, words, self.speaks_utf8());
                self.refuse(reply, plugin, desk, io);
            }
            Some(Ruling::Discard) => self.discard(plugin, desk, io),
            Some(Ruling::Fail) => unreachable!("it was dealt with above"),
        }
    }

    /// D-27: the plugin says itself that it failed; the settings say what that means.
    fn on_failed(&mut self, answer: &Answer, hook: Hook, desk: &mut Desk, io: &mut Io) {
        let plugin = desk.plugins.name(answer.plugin);
        let text = format_args!("{plugin}: {hook} failed, as it says itself");
        desk.log.limited("failed-step", Level::Warning, "plugin", text);
        // Where nothing can be refused, nothing is; the close hook is for all of them.
        let reply = match hook {
            Hook::Close | Hook::Reset => None,
            _ => desk.settings.plugin.failure.reply(hook),
        };
        self.forget_said(answer.plugin, desk);
        // A failure that is to mean nothing takes all that the plugin said with it.
        self.parting |= answer.disconnect && desk.settings.plugin.failure != OnFailure::Accept;
        match (reply, &mut self.stage) {
            (Some(reply), _) => self.refuse_step(reply, desk, io),
            (None, Stage::Step(_, chain)) => chain.on_pass(),
            (None, _) => {}
        }
    }

    /// Refuses what the step is about. 421 announces the end (RFC 5321 3.8), and is the last.
    fn refuse(&mut self, reply: Reply, plugin: &str, desk: &mut Desk, io: &mut Io) {
        let Stage::Step(step, _) = std::mem::replace(&mut self.stage, Stage::Session) else {
            unreachable!("only a step is answered")
        };
        self.progress_ms = io.now_ms();
        self.parting |= reply.code() == 421;
        let text = format_args!("{}: {plugin} refuses in {}: {reply}", self.remote, step.hook());
        desk.log.limited("plugin-refusal", Level::Debug, "plugin", text);
        match step {
            Step::Connect => self.refuse_connection(reply, desk),
            Step::Secure => {
                self.session.on_secure();
                self.session.dismiss(reply, &mut desk.memory);
            }
            Step::Authenticate(_) => self.refuse_login_with(reply, desk, io),
            Step::MailFrom(_) => {
                self.draft = None;
                self.end_address(desk);
                self.decide(Decision::Refuse(reply), desk, io);
            }
            Step::RcptTo(..) => {
                if let Some(draft) = &mut self.draft {
                    draft.refuse();
                }
                self.end_address(desk);
                self.decide(Decision::Refuse(reply), desk, io);
            }
            Step::Data(message) | Step::Message(message, _) => {
                self.drop_message(*message, desk);
                self.decide(Decision::Refuse(reply), desk, io);
            }
            Step::Helo(_) | Step::Reset => self.decide(Decision::Refuse(reply), desk, io),
            // The interface takes no answer here.
            Step::Close => self.stage = Stage::Done,
        }
    }

    fn refuse_connection(&mut self, reply: Reply, desk: &mut Desk) {
        match self.entrance {
            Entrance::Clear => self.session.greet(Greeting::Refuse(reply), &mut desk.memory),
            // In clear it would not be understood.
            Entrance::Secure => self.on_gone(desk),
        }
    }

    /// D-73: what the step is about is answered as if it were accepted, and gets no further.
    fn discard(&mut self, plugin: &str, desk: &mut Desk, io: &mut Io) {
        let Stage::Step(step, _) = std::mem::replace(&mut self.stage, Stage::Session) else {
            unreachable!("only a step is answered")
        };
        self.progress_ms = io.now_ms();
        let text = format_args!("{}: {plugin} drops mail in {}", self.remote, step.hook());
        desk.log.limited("plugin-discard", Level::Info, "plugin", text);
        match step {
            Step::MailFrom(_) => {
                if let Some(draft) = &mut self.draft {
                    draft.drop_all();
                }
                self.end_address(desk);
                self.decide(Decision::Accept, desk, io);
            }
            Step::RcptTo(..) => {
                if let Some(draft) = &mut self.draft {
                    draft.drop_one();
                }
                // It must be one that the client may send to, as any other.
                self.finish_recipient(desk, io);
            }
            Step::Data(message) => self.pretend(*message, desk, io),
            Step::Message(mut message, _) => {
                message.drop_one(&desk.plugins);
                // Who comes next is still to be answered; the last one's reply is for all.
                self.next_message(message, desk, io);
            }
            // The interface takes no such answer here.
            Step::Connect | Step::Secure | Step::Authenticate(_) | Step::Helo(_) | Step::Reset => {
                self.decide(Decision::Accept, desk, io);
            }
            Step::Close => self.stage = Stage::Done,
        }
    }

    /// Answers a message as if it were accepted, and drops it.
    pub(super) fn pretend(&mut self, mut message: Message, desk: &mut Desk, io: &Io) {
        let id = message.id(desk);
        let answered = message.answered();
        self.drop_message(message, desk);
        desk.numbers().add(Number::Discarded, answered as u64);
        self.decide(Decision::AcceptWith(receipt(id, answered)), desk, io);
    }

    /// Answers, and ends the connection, as a plugin wants it.
    pub(super) fn decide_and_part(&mut self, decision: Decision, desk: &mut Desk) {
        match decision {
            Decision::Accept | Decision::AcceptWith(_) => {
                self.session.decide(decision, &mut desk.memory);
                // RFC 5321 3.8: nothing ends without being announced.
                self.session.dismiss(answer::DISMISSED.into(), &mut desk.memory);
            }
            Decision::Refuse(reply)
            | Decision::RefuseAsError(reply)
            | Decision::RefuseAndClose(reply) => {
                self.session.decide(Decision::RefuseAndClose(reply), &mut desk.memory);
            }
        }
    }

    /// Whether the client takes replies in UTF-8.
    fn speaks_utf8(&self) -> bool {
        match &self.stage {
            Stage::Step(Step::Data(message) | Step::Message(message, _), _) => {
                message.speaks_utf8()
            }
            _ => self.draft.as_ref().is_some_and(|draft| draft.speaks_utf8()),
        }
    }

    // ---- Other events that plugins may want -------------------------------------------------------

    /// What the session asks about: what a plugin has a hook for.
    pub(super) fn ask_about(&mut self, desk: &Desk) {
        if self.plugin.is_some() {
            let wanted = |hook| desk.plugins.asks(self.plugin, hook);
            self.session.ask_about(Asks { hello: wanted(Hook::Helo), reset: wanted(Hook::Reset) });
        }
    }

    /// A client introduces itself, and plugins are asked.
    pub(super) fn on_hello(&mut self, hello: Hello, desk: &Desk, io: &Io) {
        let text = terminated(&hello.name);
        self.begin(Step::Helo(text), desk, io);
        self.tell_helo(Some(hello.name), desk);
    }

    /// Tells plugins how the client has introduced itself, if that is news: before each step, so that what
    /// nobody asks for costs a comparison. What was proposed and refused is taken back by this.
    pub(super) fn tell_hello(&mut self, desk: &Desk) {
        let name = self.session.hello().map(|hello| &hello.name);
        let same = match (name, &self.told) {
            (Some(name), Some(told)) => Arc::ptr_eq(name, told),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.tell_helo(name.cloned(), desk);
        }
    }

    fn tell_helo(&mut self, name: Option<Arc<str>>, desk: &Desk) {
        self.told.clone_from(&name);
        self.tell(Fact::Helo(name), desk);
    }

    /// D-51: who the client is, as far as that is known.
    pub(super) fn tell_peer(&self, desk: &Desk) {
        let peer: Option<SocketAddr> = (!self.unnamed).then_some(self.remote);
        self.tell(Fact::Peer(peer), desk);
    }

    /// What was agreed on in the handshake.
    pub(super) fn tell_tls(&self, desk: &Desk) {
        if self.plugin.is_some()
            && let Some(secured) = self.transport.secured()
        {
            let (version, cipher) = (secured.version, secured.cipher);
            let server_name = secured.server_name;
            self.tell(Fact::Tls(TlsFacts { version, cipher, server_name }), desk);
        }
    }

    pub(super) fn tell(&self, fact: Fact, desk: &Desk) {
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.tell(plugin, fact);
        }
    }

    /// D-4B: the peer is gone while a plugin holds the step. Each plugin hears of it once.
    pub(super) fn tell_lost(&mut self, desk: &mut Desk, io: &mut Io) {
        // In the close hook data is freed: whoever has had it must not be called again.
        let is_news = match &self.stage {
            Stage::Step(Step::Close, _) => false,
            _ => self.peer == Peer::Gone && !self.told_lost,
        };
        let Some(plugin) = self.plugin.filter(|_| is_news) else { return };
        self.told_lost = true;
        desk.plugins.tell_lost(plugin);
        desk.apply_commands(io);
    }
}
