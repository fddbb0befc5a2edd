//! How an outgoing connection ends: by its deadlines, by the far end, or with QUIT.
//!
//! Must never: forget a mail that was started.
//!
//! **Diagnostics**: why a far end could not be talked to goes to the journey, which may have another.

use std::time::Duration;

use rohrpost_abi::Ruling;

use crate::delivery::{Carried, Fate, Finish, state_of};
use crate::plugin::failure::OnFailure;
use crate::smtp::client::{Problem, Stage};

use super::asked::{Ending, Follow, Moment};
use super::desk::{Desk, Io};
use super::incoming::Keep;
use super::outgoing::{Current, Outgoing};

/// How long the far end may take to answer QUIT.
const QUIT_MS: u64 = 5_000;

impl Outgoing {
    /// The plugins were changed: an idle connection is not to keep those of before in use.
    pub fn on_other_plugins(&mut self, desk: &mut Desk, io: &mut Io) -> Keep {
        if self.greeted && desk.plugins.is_outdated(self.plugin) {
            return self.on_unneeded(desk, io);
        }
        Keep::Yes
    }

    /// The far end could not be talked to; the next host is tried.
    pub(super) fn on_unreachable(&mut self, why: Finish, desk: &mut Desk, io: &Io) -> bool {
        if let Some(journey) = self.journey.take() {
            desk.on_stop_failed(journey, &self.stop, why, io);
        }
        self.over = true;
        false
    }

    /// The connection is of no use any more.
    pub(super) fn on_lost_event(
        &mut self,
        stage: Stage,
        problem: Problem,
        desk: &mut Desk,
        io: &Io,
    ) {
        let result = match problem {
            Problem::TimedOut => "timeout",
            Problem::Closed => "lost",
            Problem::ReplyTooLong
            | Problem::BadReply
            | Problem::UnexpectedReply
            | Problem::EarlyInput => "invalid",
        };
        if !self.greeted && self.goes_clear(stage) {
            return self.go_clear(problem, desk, io);
        }
        let outworn = self.is_outworn(stage, problem);
        let stage = self.came_to(stage);
        let failure = self.guard.take_failure();
        // RFC 3463 3.8, X.7.5: a cryptographic failure.
        let status = if failure.is_some() { "4.7.5" } else { "" };
        let text = failure.unwrap_or_else(|| problem.to_string());
        let mut finish = Finish::without_reply(Fate::Temporary, state_of(stage), result, text);
        finish.status = status.to_owned();
        if outworn {
            self.give_back(desk, io);
        }
        if !self.greeted {
            self.on_unreachable(finish, desk, io);
        } else if stage == Stage::FinalDot {
            // RFC 5321 4.5.3.2.6: it may have arrived. Another host would have it twice, and at once.
            self.finish(finish, desk, io);
        } else {
            self.lose(finish, desk, io);
        }
        self.over = true;
    }

    /// The mail under way ended here. Plugins are told before that counts, unless one of them holds it:
    /// then it counts at once (D-81).
    pub(super) fn finish(&mut self, finish: Finish, desk: &mut Desk, io: &Io) {
        self.text = None;
        if self.current.is_none() {
            return;
        }
        if self.is_held() {
            let ending = Ending::told(finish.code, &finish.description);
            self.ended_while_held = Some((finish.state, ending));
            return self.settle(finish, desk, io);
        }
        self.asked = None;
        self.conclude(finish, Follow::Settle, desk, io);
    }

    /// Its attempt ends.
    pub(super) fn settle(&mut self, finish: Finish, desk: &mut Desk, io: &Io) {
        self.keep_made(desk, io);
        self.made = None;
        let Some(Current { id, transaction, .. }) = self.current.take() else {
            return;
        };
        let mut finish =
            finish.between(self.local.map(|local| local.ip()), Some(self.stop.address));
        let facts = self.facts(id, &transaction, desk);
        finish.facts = facts.or_else(|| self.facts_of_failure(finish.fate));
        self.release_mail(desk);
        desk.finish(id, &transaction, finish, self.session.extensions().dsn, io);
    }

    /// The mail under way was not tried here after all; nor elsewhere, unless it came from there.
    pub(super) fn give_back(&mut self, desk: &mut Desk, io: &Io) {
        self.release_mail(desk);
        match self.current.take() {
            Some(Current { id, before: None, .. }) => desk.store.give_back(id),
            Some(Current { id, transaction, before: Some(before) }) => {
                desk.finish(id, &transaction, before.finish, false, io);
            }
            None => {}
        }
    }

    /// A mail was lost with its connection. While a plugin holds it the attempt ends (D-81); else
    /// another host may take it in the same attempt, with its hooks run again (D-85).
    pub(super) fn lose(&mut self, finish: Finish, desk: &mut Desk, io: &Io) {
        if self.current.is_none() || self.is_held() {
            return self.finish(finish, desk, io);
        }
        self.text = None;
        self.asked = None;
        self.conclude(finish, Follow::CarryOn, desk, io);
    }

    /// The mail goes on to another host, if there is one that it has not tried.
    pub(super) fn carry_on(&mut self, finish: Finish, desk: &mut Desk, io: &Io) {
        self.keep_made(desk, io);
        self.hide_mail(desk);
        let Some(Current { id, transaction, before }) = self.current.take() else {
            return;
        };
        let mut finish =
            finish.between(self.local.map(|local| local.ip()), Some(self.stop.address));
        let facts = self.facts(id, &transaction, desk);
        finish.facts = facts.or_else(|| self.facts_of_failure(finish.fate));
        let mut tried = before.map(|before| before.tried).unwrap_or_default();
        tried.push(self.stop.host.clone());
        let carried = Box::new(Carried { id, transaction, finish, tried });
        desk.carry_on(self.destination, carried, io);
    }

    /// Nothing can be written any more; what the far end said before it went still counts, a refusal
    /// of the text above all.
    pub(super) fn on_deaf(&mut self) {
        self.writable = false;
        self.deaf = true;
        self.readable = true;
    }

    /// The socket brings nothing more.
    pub(super) fn on_lost(&mut self) {
        self.readable = false;
        self.writable = false;
        self.lost = Some(Problem::Closed);
    }

    pub(super) fn leave(&mut self, desk: &mut Desk, io: &Io) {
        if !self.greeted {
            return self.leave_ungreeted(desk, io);
        }
        if self.idle {
            desk.store.destinations.on_busy(self.destination, self.key);
            self.idle = false;
        }
        self.session.quit();
    }

    /// We end what was not greeted: no mail is lost with it, no QUIT would be polite, and it says nothing of
    /// the host or its TLS.
    pub(super) fn leave_ungreeted(&mut self, desk: &mut Desk, io: &Io) {
        self.give_up(desk, io);
        self.over = true;
    }

    /// A connection that was not greeted is not needed any more.
    pub(super) fn give_up(&mut self, desk: &mut Desk, io: &Io) {
        if let Some(journey) = self.journey.take() {
            desk.give_up(journey, io);
        }
    }

    /// D-27: takes the step back from the plugin that holds it. What is known of the mail counts.
    pub(super) fn revoke(&mut self, desk: &mut Desk, why: &str, io: &Io) {
        let Some(asked) = self.asked.take_if(|asked| asked.is_held()) else { return };
        match asked.revoke(why, desk, io) {
            Moment::Sent(_, Some(reply)) => self.settle(*reply, desk, io),
            Moment::Result(message, Ending { then: Some((finish, _)), .. }) => {
                // No other host is tried now.
                let ending = Ending::new(*finish, Follow::Settle);
                self.end_result(message, ending, desk, io);
            }
            Moment::Connect
            | Moment::Secure
            | Moment::Message(_)
            | Moment::Data(_)
            | Moment::Sent(_, None)
            | Moment::Result(..)
            | Moment::Close => {}
        }
    }

    /// D-27: a step that may decide ends the attempt where the plugin held it, and with it the connection;
    /// one that may not holds up nothing any more.
    pub(super) fn take_back(&mut self, fate: Fate, why: &str, desk: &mut Desk, io: &mut Io) {
        let Some(asked) = self.asked.take_if(|asked| asked.is_held()) else { return };
        let moment = asked.revoke(why, desk, io);
        // Whoever it was taken from is not asked on this connection any more, and must not miss a mail.
        self.retired = true;
        self.end_step(moment, (fate, "timeout"), why, desk, io);
    }

    /// A plugin has answered the step: it failed, or wants nothing to do with the far end.
    pub(super) fn on_answered(&mut self, desk: &mut Desk, io: &mut Io) {
        let (Some(plugin), Some(asked)) = (self.plugin, self.asked.take()) else { return };
        let answer = desk.plugins.cell.take_answer(plugin);
        let by = answer.as_ref().map_or("a plugin", |answer| desk.plugins.name(answer.plugin));
        if answer.as_ref().is_some_and(|answer| answer.ruling == Some(Ruling::Fail)) {
            let fate = match desk.settings.plugin.failure {
                OnFailure::Tempfail | OnFailure::Accept => Fate::Temporary,
                OnFailure::Reject => Fate::Permanent,
            };
            let why = format!("the plugin {by} failed, as it says itself");
            return self.end_step(asked.moment, (fate, "plugin"), &why, desk, io);
        }
        let why = format!("the plugin {by} does not want this host");
        self.end_step(asked.moment, (Fate::Temporary, "plugin"), &why, desk, io);
    }

    /// What follows from a step that did not come to its end.
    fn end_step(
        &mut self,
        moment: Moment,
        (fate, result): (Fate, &'static str),
        why: &str,
        desk: &mut Desk,
        io: &mut Io,
    ) {
        let ended = |state| {
            let mut finish = Finish::without_reply(fate, state, result, why);
            if fate == Fate::Permanent {
                // RFC 3463 3.4: what is wrong is wrong here.
                finish.status = "5.3.0".to_owned();
            }
            finish
        };
        match moment {
            Moment::Connect | Moment::Secure => {
                // It is said of our own plugin, and not of a mail.
                let why = Finish::without_reply(Fate::Temporary, "intro", result, why);
                self.on_unreachable(why, desk, io);
            }
            Moment::Message(_) => {
                self.session.quit();
                self.finish(ended("mailfrom"), desk, io);
                self.over = true;
            }
            Moment::Data(_) => {
                self.session.abandon();
                self.finish(ended("data"), desk, io);
                self.over = true;
            }
            // The far end may have it: it would come twice.
            Moment::Sent(_, None) => {}
            Moment::Sent(_, Some(reply)) => self.on_reply(*reply, desk, io),
            Moment::Result(message, ending) => {
                self.end_result(message, ending, desk, io);
                self.take_work(desk, io);
            }
            Moment::Close => {}
        }
    }

    /// D-27: a plugin held the mail for too long, and the settings say what that means.
    fn fail_hold(&mut self, desk: &mut Desk, io: &mut Io) {
        if self.asked.as_ref().is_some_and(|asked| asked.expire(desk, io)) {
            return;
        }
        let why = "a plugin held the mail for longer than plugin-timeout";
        match desk.settings.plugin.failure {
            OnFailure::Tempfail => self.take_back(Fate::Temporary, why, desk, io),
            OnFailure::Reject => self.take_back(Fate::Permanent, why, desk, io),
            OnFailure::Accept => {
                let Some(asked) = &mut self.asked else { return };
                if asked.pass_over("plugin-timeout", desk, io) {
                    // It misses the mail under way, or the first one, and no other.
                    match asked.moment {
                        Moment::Connect | Moment::Secure => self.retires = true,
                        Moment::Message(_)
                        | Moment::Data(_)
                        | Moment::Sent(..)
                        | Moment::Result(..)
                        | Moment::Close => self.retired = true,
                    }
                }
            }
        }
    }

    pub(super) fn on_deadline(&mut self, desk: &mut Desk, io: &mut Io) {
        let hold_ms = self.asked.as_ref().and_then(|asked| asked.deadline_ms(desk));
        if hold_ms.is_some_and(|hold_ms| io.now_ms() >= hold_ms) {
            return self.fail_hold(desk, io);
        }
        if !self.connected {
            let why = "connect: no answer within connect-timeout";
            let why = Finish::without_reply(Fate::Temporary, "connect", "timeout", why);
            self.on_unreachable(why, desk, io);
        } else if self.idle {
            self.leave(desk, io);
        } else {
            self.session.on_lost(Problem::TimedOut);
        }
    }

    pub(super) fn deadline_ms(&self, desk: &Desk) -> Option<u64> {
        let settings = &desk.settings.delivery;
        let hold = self.asked.as_ref().and_then(|asked| asked.deadline_ms(desk));
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
                // The far end may answer all of it when the mail is on its disk (RFC 2920 3.2).
                Stage::Mail | Stage::Rcpt if self.has_text_out() => {
                    settings.reply_timeout.max(settings.dot_timeout)
                }
                Stage::Quit | Stage::Closed => Duration::from_millis(QUIT_MS),
                Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth(_) | Stage::Rcpt => {
                    settings.reply_timeout
                }
                Stage::Handshake => desk.settings.hop.handshake_timeout,
                Stage::Reset | Stage::Mail => self.reuse.patience(settings.reply_timeout),
            }
        };
        // While a plugin holds the mail its own deadline counts, and none where the settings say so;
        // the far end ends the wait by itself. But it has to answer a text in time (D-83).
        let block_ms = self.stage_ms + patience.as_millis() as u64;
        match self.stage {
            Stage::FinalDot if self.is_held() => {
                Some(hold.map_or(block_ms, |hold| hold.min(block_ms)))
            }
            _ if self.is_held() => hold,
            Stage::Body if self.text.is_some() => Some(block_ms.min(self.text_until_ms)),
            _ => Some(block_ms),
        }
    }

    pub(super) fn settle_deadline(&mut self, desk: &Desk, io: &mut Io) {
        self.deadline.set(self.deadline_ms(desk), io);
    }

    /// The very end. D-84: outgoing connection data goes without a callback.
    pub(super) fn end(&mut self, desk: &mut Desk, io: &mut Io) {
        self.give_up(desk, io);
        self.give_back(desk, io);
        if let Some(plugin) = self.plugin.take() {
            desk.by_plugin.remove(&plugin);
            desk.plugins.cell.close_connection(plugin);
        }
        if self.greeted {
            desk.store.destinations.on_closed(self.destination, self.key);
        }
        if self.session.stage() == Stage::Quit && !self.session.output().is_empty() {
            // A far end that is left before any mail hears so (RFC 5321 4.1.1.10), if it listens.
            let _ = self.transport.write(self.session.output());
        }
        if self.transport.is_secure() {
            self.transport.shut();
        }
        self.deadline.cancel(io);
    }
}

impl Current {
    pub(super) fn carried(carried: Box<Carried>) -> Current {
        let (id, transaction) = (carried.id, carried.transaction.clone());
        Current { id, transaction, before: Some(carried) }
    }
}

/// Why a connection did not open.
pub(super) fn unconnected(error: &std::io::Error) -> Finish {
    let timed_out = error.kind() == std::io::ErrorKind::TimedOut;
    let result = if timed_out { "timeout" } else { "error" };
    Finish::without_reply(Fate::Temporary, "connect", result, format!("connect: {error}"))
}
