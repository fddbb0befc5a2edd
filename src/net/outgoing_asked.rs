//! What plugins are asked of an outgoing connection and its mails, and what follows from that.
//!
//! Connect and secure come before any mail, message before MAIL, data after the 354 (D-80), sent when
//! the text is out, result when it is known how that ended, close at the very end (D-84). A step that is
//! held holds up what follows from it and nothing else: while the far end can still change its mind it is
//! read (D-81), and its last word on a text waits for the step that it overtook (D-82).
//!
//! A mail is shown as one message from its first step over this connection to its last. What plugins
//! decide of it (bounce, later, elsewhere) counts where it cannot have arrived: before its text, and
//! after its failure. Where the text was out and no answer was read, only later does.
//!
//! Must never: let a mail pass by a plugin that is to be asked; act on a decision about a mail that the
//! far end took.
//!
//! **Diagnostics**: what plugins decide is logged for whoever debugs, and stands in the attempt.

use rohrpost_abi::{
    Admitted, ConnectionInit, Decided, Decision, Direction, Edit, Exhausted, Fact, Hook,
    MessageEdits, MessageId, MessageInit, TlsFacts, Words,
};

use crate::delivery::{Fate, Finish};
use crate::plugin::view::{SlotsSpent, Walk};
use crate::queue::{Body, Smarthost};
use crate::smtp::client::Stage;

use super::asked::{Asked, Ending, Follow, Moment};
use super::desk::{Desk, Io};
use super::extras;
use super::message::{label, repaired};
use super::outgoing::Outgoing;
use super::transport::Secured;

/// What a plugin may say of why a mail fails, where it says nothing.
const BOUNCE_CODE: u16 = 550;
const BOUNCE_STATUS: [u16; 3] = [5, 7, 1];

impl Outgoing {
    /// Whether plugins are asked at this hook.
    pub(super) fn asks(&self, hook: Hook, desk: &Desk) -> bool {
        desk.plugins.asks(self.plugin, hook)
    }

    fn ask(&mut self, moment: Moment, desk: &Desk) {
        let Some(plugin) = self.plugin else { return };
        debug_assert!(self.asked.is_none(), "the steps of a connection are serial (D-2D)");
        self.asked = Some(Asked::new(moment, plugin, desk));
    }

    /// Plugins may see the connection from now on.
    pub(super) fn show_connection(&mut self, desk: &mut Desk) -> Result<(), SlotsSpent> {
        if self.plugin.is_some() {
            return Ok(());
        }
        let init = ConnectionInit {
            fd: self.transport.descriptor(),
            direction: Direction::Outgoing,
            secure: self.transport.is_secure(),
            authenticated: false,
        };
        self.plugin = desk.plugins.open(init)?;
        if let Some(plugin) = self.plugin {
            desk.by_plugin.insert(plugin, self.key);
            let cell = &desk.plugins.cell;
            cell.tell(plugin, Fact::Peer(Some(self.stop.address)));
            cell.tell(plugin, Fact::Host(self.stop.host.clone()));
            cell.tell(plugin, Fact::Helo(self.session.far_name().cloned()));
            self.tell_tls(desk);
        }
        Ok(())
    }

    /// Whether plugins that came with a reload would have been asked before this, had they been there.
    pub(super) fn missed_steps(&self, was_shown: bool, desk: &Desk) -> bool {
        !was_shown && (self.asks(Hook::OutConnect, desk) || self.asks(Hook::OutSecure, desk))
    }

    /// What was agreed on in the handshake, if there was one.
    fn tell_tls(&self, desk: &Desk) {
        if let (Some(plugin), Some(secured)) = (self.plugin, self.transport.secured()) {
            let Secured { version, cipher, server_name, .. } = secured;
            let facts = TlsFacts { version, cipher, server_name };
            desk.plugins.cell.tell(plugin, Fact::Tls(facts));
        }
    }

    /// The mail under way as plugins see it, over all its steps; they see no text but one that they made
    /// (D-67).
    fn show_mail(&mut self, desk: &Desk) -> Result<Option<MessageId>, Exhausted> {
        if self.message.is_some() {
            return Ok(self.message);
        }
        let (Some(plugin), Some(current)) = (self.plugin, &self.current) else { return Ok(None) };
        let id = current.id;
        let mail = current.transaction.mail(id.index);
        let init = MessageInit {
            envelope: mail.map(|mail| mail.envelope.as_bytes()),
            recipient: mail.map(|mail| mail.recipient.as_bytes()),
            id: Some(label(id.transaction, id.index)),
            attempt: desk.store.attempts(id).saturating_add(1),
            json: extras::described(plugin, &current.transaction, id.index, desk),
            notes: mail.map(extras::noted).unwrap_or_default(),
            ..MessageInit::default()
        };
        self.message = Some(desk.plugins.cell.open_message(plugin, init)?);
        Ok(self.message)
    }

    /// Nobody is shown the mail any more.
    pub(super) fn hide_mail(&mut self, desk: &Desk) {
        if let Some(message) = self.message.take() {
            desk.plugins.cell.close_message(message);
        }
    }

    /// The mail is over here: nobody is shown it any more but whoever holds its step, and there is nothing
    /// left to be decided of it.
    pub(super) fn release_mail(&mut self, desk: &Desk) {
        match self.message {
            Some(message) if self.asked.is_some() => {
                desk.plugins.cell.admit_decisions(message, false);
            }
            _ => self.hide_mail(desk),
        }
    }

    /// The far end greeted; it is told who we are when nobody has anything against it.
    pub(super) fn on_banner(&mut self, desk: &mut Desk, io: &Io) {
        if self.show_connection(desk).is_err() {
            // No plugin could see the far end, and no mail must pass them by.
            if let Some(journey) = self.journey.take() {
                desk.refuse(journey, io);
            }
            self.over = true;
            return;
        }
        match self.asks(Hook::OutConnect, desk) {
            true => self.ask(Moment::Connect, desk),
            false => self.on_connect_asked(desk),
        }
    }

    /// Where TLS came with the first octet its step follows that of the connection.
    fn on_connect_asked(&mut self, desk: &Desk) {
        if self.transport.is_secure() && self.asks(Hook::OutSecure, desk) {
            return self.ask(Moment::Secure, desk);
        }
        self.session.proceed();
    }

    /// The handshake is done. Plugins are asked before the session goes on, where it goes on by itself.
    pub(super) fn on_handshake_done(&mut self, desk: &Desk) {
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_secure(plugin);
            self.tell_tls(desk);
            if self.asks(Hook::OutSecure, desk) {
                return self.ask(Moment::Secure, desk);
            }
        }
        self.session.on_secured();
    }

    fn on_secure_asked(&mut self) {
        match self.session.stage() {
            Stage::Handshake => self.session.on_secured(),
            _ => self.session.proceed(),
        }
    }

    /// A mail is to be started: plugins are asked, then it is.
    pub(super) fn announce(&mut self, desk: &mut Desk, io: &Io) {
        if !self.asks(Hook::OutMessage, desk) {
            return self.begin(None, desk, io);
        }
        match self.show_mail(desk) {
            Ok(Some(message)) => {
                desk.plugins.cell.admit_decisions(message, true);
                self.ask(Moment::Message(message), desk);
            }
            Ok(None) => self.begin(None, desk, io),
            Err(error) => self.finish(unshown("mailfrom", error), desk, io),
        }
    }

    fn on_message_asked(&mut self, message: MessageId, desk: &mut Desk, io: &mut Io) {
        desk.plugins.cell.admit_decisions(message, false);
        match desk.plugins.cell.take_decision(message) {
            Some(decided) => {
                // Nothing was tried, unless elsewhere before.
                let came_from = self.current.as_ref().is_some_and(|mail| mail.before.is_some());
                let fate = if came_from { Fate::Temporary } else { Fate::Untried };
                self.obey(decided, ("mailfrom", fate), desk, io);
            }
            None => {
                let edits = desk.plugins.cell.edits(message);
                let later = [Hook::OutData, Hook::OutSent, Hook::OutResult];
                if !later.into_iter().any(|hook| self.asks(hook, desk)) {
                    self.keep_made(desk, io);
                    self.hide_mail(desk);
                }
                self.begin(Some(edits), desk, io);
            }
        }
        if self.current.is_none() {
            self.take_work(desk, io);
        }
    }

    /// D-80: a positive 354; the plugins are asked, then the text goes out.
    pub(super) fn on_354(&mut self, desk: &mut Desk, io: &Io) {
        if !self.asks(Hook::OutData, desk) {
            let made = self.made.take();
            return self.send_text(made, desk, io);
        }
        match self.show_mail(desk) {
            Ok(Some(message)) => {
                desk.plugins.cell.admit_decisions(message, true);
                self.ask(Moment::Data(message), desk);
            }
            Ok(None) => self.send_text(None, desk, io),
            Err(error) => {
                self.session.abandon();
                self.finish(unshown("data", error), desk, io);
                self.over = true;
            }
        }
    }

    fn on_data_asked(&mut self, message: MessageId, desk: &mut Desk, io: &Io) {
        desk.plugins.cell.admit_decisions(message, false);
        if let Some(decided) = desk.plugins.cell.take_decision(message) {
            // RFC 5321 3.3: behind the 354 there is no other way out.
            self.session.abandon();
            self.over = true;
            return self.obey(decided, ("data", Fate::Temporary), desk, io);
        }
        // D-6E: addresses are out already, so only the text can still be changed.
        let MessageEdits { mime, .. } = desk.plugins.cell.edits(message);
        if !self.asks(Hook::OutSent, desk) && !self.asks(Hook::OutResult, desk) {
            self.keep_made(desk, io);
            self.hide_mail(desk);
        }
        self.send_text(made_of(&mime), desk, io);
    }

    /// All of the text is out, and the far end waits for nothing.
    pub(super) fn on_text_out(&mut self, desk: &Desk) {
        let awaits = self.session.stage() == Stage::FinalDot && self.current.is_some();
        if !awaits || !self.asks(Hook::OutSent, desk) {
            return;
        }
        // Nothing is lost if it cannot be shown: nobody can do anything about it any more.
        if let Ok(Some(message)) = self.show_mail(desk) {
            self.ask(Moment::Sent(message, None), desk);
        }
    }

    /// How the mail under way ended here: plugins are told before that counts, if any want to know.
    pub(super) fn conclude(&mut self, finish: Finish, follow: Follow, desk: &mut Desk, io: &Io) {
        let shown = match self.asks(Hook::OutResult, desk) {
            true => self.show_mail(desk).ok().flatten(),
            false => None,
        };
        let Some(message) = shown else { return self.follow(finish, follow, desk, io) };
        let admitted = match finish.fate {
            Fate::Delivered => Admitted::Nothing,
            // RFC 5321 4.5.3.2.6: to bounce it may be a lie, and another host would have it twice.
            Fate::Temporary | Fate::Permanent | Fate::Untried if finish.may_have_arrived() => {
                Admitted::RetryAt
            }
            Fate::Temporary | Fate::Permanent | Fate::Untried => Admitted::All,
        };
        desk.plugins.cell.begin_result(message, finish.state, admitted);
        self.ask(Moment::Result(message, Ending::new(finish, follow)), desk);
    }

    fn on_result_asked(
        &mut self,
        message: MessageId,
        ending: Ending,
        desk: &mut Desk,
        io: &mut Io,
    ) {
        self.end_result(message, ending, desk, io);
        if !self.over && self.session.stage() == Stage::Idle {
            self.take_work(desk, io);
        }
    }

    /// The step that told of the end of a mail is over, or was taken back: what plugins decided in it holds
    /// all the same.
    pub(super) fn end_result(
        &mut self,
        message: MessageId,
        ending: Ending,
        desk: &mut Desk,
        io: &Io,
    ) {
        desk.plugins.cell.admit_decisions(message, false);
        let decided = desk.plugins.cell.take_decision(message);
        match (ending.then, decided) {
            (None, _) => self.hide_mail(desk),
            (Some((finish, follow)), None) => self.follow(*finish, follow, desk, io),
            (Some((finish, _)), Some(decided)) => self.overrule(*finish, decided, desk, io),
        }
    }

    pub(super) fn follow(&mut self, finish: Finish, follow: Follow, desk: &mut Desk, io: &Io) {
        match follow {
            Follow::Settle => self.settle(finish, desk, io),
            Follow::CarryOn => self.carry_on(finish, desk, io),
        }
    }

    /// Asks on in the step under way, and goes on with what follows from it.
    pub(super) fn walk(&mut self, desk: &mut Desk, io: &mut Io) {
        if self.current.is_none()
            && self.asked.as_ref().is_some_and(|asked| asked.moment.is_of_mail())
        {
            return self.drop_step(desk);
        }
        let (Some(plugin), Some(asked)) = (self.plugin, &mut self.asked) else { return };
        let walked = asked.walk(desk, io);
        let sent = desk.take_sends(plugin);
        if !sent.is_empty() && !self.over {
            self.session.inject_output(&sent);
        }
        match walked {
            Walk::Held => return self.on_held(desk, io),
            Walk::Answered => return self.on_answered(desk, io),
            Walk::Done => {}
        }
        let Some(asked) = self.asked.take() else { return };
        match asked.moment {
            Moment::Connect => self.on_connect_asked(desk),
            Moment::Secure => self.on_secure_asked(),
            Moment::Message(message) => self.on_message_asked(message, desk, io),
            Moment::Data(message) => self.on_data_asked(message, desk, io),
            Moment::Sent(_, reply) => {
                if let Some(reply) = reply {
                    self.on_reply(*reply, desk, io);
                }
            }
            Moment::Result(message, ending) => self.on_result_asked(message, ending, desk, io),
            Moment::Close => {}
        }
    }

    /// A plugin took control. That a mail arrived does not wait for it: a crash would have it sent again.
    fn on_held(&mut self, desk: &mut Desk, io: &Io) {
        let Some(asked) = &mut self.asked else { return };
        let Moment::Result(_, ending) = &mut asked.moment else { return };
        let arrived = |then: &mut (Box<Finish>, Follow)| then.0.fate == Fate::Delivered;
        if let Some((finish, _)) = ending.then.take_if(arrived) {
            self.settle(*finish, desk, io);
        }
    }

    /// D-81: the mail of the step is over; the plugins behind the one that held it are not asked any more.
    /// Those that want to know how it ended are told.
    fn drop_step(&mut self, desk: &Desk) {
        self.asked = None;
        let ended = self.ended_while_held.take();
        match (ended, self.message) {
            (Some((state, ending)), Some(message)) if self.asks(Hook::OutResult, desk) => {
                desk.plugins.cell.begin_result(message, state, Admitted::Nothing);
                self.ask(Moment::Result(message, ending), desk);
            }
            _ => self.hide_mail(desk),
        }
    }

    /// The far end's last word on the mail under way.
    pub(super) fn on_reply(&mut self, finish: Finish, desk: &mut Desk, io: &mut Io) {
        self.finish(finish, desk, io);
        if !self.over && self.session.stage() == Stage::Idle {
            self.take_work(desk, io);
        }
    }

    /// The connection is over: plugins are told, once, and the rest waits for them.
    pub(super) fn takes_leave(&mut self, desk: &mut Desk, io: &Io) -> bool {
        if self.left || !self.asks(Hook::OutClose, desk) {
            return false;
        }
        self.left = true;
        self.give_up(desk, io);
        self.give_back(desk, io);
        self.hide_mail(desk);
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_closed(plugin);
        }
        self.ask(Moment::Close, desk);
        true
    }

    /// Does what a plugin decided of a mail before its text; `state` is how far it came, and `fate` what it
    /// means for it to be put off here.
    fn obey(
        &mut self,
        decided: Decided,
        (state, fate): (&'static str, Fate),
        desk: &mut Desk,
        io: &Io,
    ) {
        let name = desk.plugins.name(decided.plugin);
        self.note(&decided, desk);
        self.keep_made(desk, io);
        match decided.decision {
            Decision::Bounce(words) => self.finish(bounced(words, state, name), desk, io),
            Decision::RetryAt { unix_ms } => {
                let text = format!("put off by the plugin {name}");
                let mut finish = Finish::without_reply(fate, state, "plugin", text);
                finish.put_off_ms = Some(unix_ms);
                self.finish(finish, desk, io);
            }
            Decision::Route { host, port } => {
                let port = port.map_or(desk.settings.delivery.mx_port, u16::from);
                if let Err(error) = self.route(&host, port, desk) {
                    let fate = Fate::Temporary;
                    let finish = Finish::without_reply(fate, state, "plugin", error.to_string());
                    self.finish(finish, desk, io);
                }
            }
        }
    }

    /// Does what a plugin decided of a mail that failed.
    fn overrule(&mut self, mut finish: Finish, decided: Decided, desk: &mut Desk, io: &Io) {
        let name = desk.plugins.name(decided.plugin);
        self.note(&decided, desk);
        self.keep_made(desk, io);
        match decided.decision {
            Decision::Bounce(words) if words == Words::default() => {
                // The words of the far end are as good as any.
                finish.fate = Fate::Permanent;
            }
            Decision::Bounce(words) => finish = bounced(words, finish.state, name),
            Decision::RetryAt { unix_ms } => {
                finish.fate = match finish.fate {
                    Fate::Untried => Fate::Untried,
                    Fate::Delivered | Fate::Permanent | Fate::Temporary => Fate::Temporary,
                };
                finish.put_off_ms = Some(unix_ms);
            }
            Decision::Route { host, port } => {
                let port = port.map_or(desk.settings.delivery.mx_port, u16::from);
                if self.route(&host, port, desk).is_ok() {
                    return;
                }
            }
        }
        self.settle(finish, desk, io);
    }

    /// The mail under way goes on to another host.
    fn route(
        &mut self,
        host: &str,
        port: u16,
        desk: &mut Desk,
    ) -> Result<(), crate::delivery::RoutedTooOften> {
        let Some(current) = &self.current else { return Ok(()) };
        let hop = Smarthost { host: host.into(), port, username: None, password: None };
        desk.store.reroute(current.id, &hop)?;
        self.current = None;
        self.hide_mail(desk);
        Ok(())
    }

    /// Says what was decided, to whoever debugs and to the result of the attempt.
    fn note(&mut self, decided: &Decided, desk: &Desk) {
        let (name, what) = match &decided.decision {
            Decision::Bounce(_) => ("bounce", "bounces it".to_owned()),
            Decision::RetryAt { .. } => ("retry", "puts it off".to_owned()),
            Decision::Route { host, .. } => ("route", format!("leads it to {host}")),
        };
        let plugin = desk.plugins.name(decided.plugin);
        self.decided = Some((plugin.into(), name));
        if let Some(current) = &self.current {
            desk.log.debug("plugin", format_args!("mail {}: {plugin} {what}", current.id));
        }
    }
}

/// The text that plugins made, with its line ends mended (D-6B).
pub(super) fn made_of(mime: &Edit) -> Option<Body> {
    match mime {
        Edit::Set(text) => Some(repaired(text)),
        Edit::Unchanged | Edit::Removed => None,
    }
}

/// What a plugin put in place of an address; an error if that can be none.
pub(super) fn edited(edit: &Edit) -> Result<Option<&str>, std::str::Utf8Error> {
    match edit {
        Edit::Set(text) => std::str::from_utf8(text.as_bytes()).map(Some),
        Edit::Unchanged | Edit::Removed => Ok(None),
    }
}

pub(super) fn misaddressed() -> Finish {
    let text = "a plugin made an address of it that cannot be sent";
    Finish::without_reply(Fate::Temporary, "mailfrom", "invalid", text)
}

/// A mail that could not be shown to plugins must not pass them by.
fn unshown(state: &'static str, error: Exhausted) -> Finish {
    Finish::without_reply(Fate::Temporary, state, "error", error.to_string())
}

fn bounced(words: Words, state: &'static str, plugin: &str) -> Finish {
    let text = words.text.map_or_else(|| format!("refused by the plugin {plugin}"), String::from);
    let [class, subject, detail] = words.status.unwrap_or(BOUNCE_STATUS);
    let mut finish = Finish::without_reply(Fate::Permanent, state, "plugin", text);
    finish.code = words.code.unwrap_or(BOUNCE_CODE);
    finish.status = format!("{class}.{subject}.{detail}");
    finish
}
