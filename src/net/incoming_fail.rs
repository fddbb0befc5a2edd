//! Steps of an incoming connection that end without their plugins: taken back, or failed by one.
//!
//! Must never: let a login outlive the plugin that granted it (D-27), or answer where nothing was
//! asked.
//!
//! **Diagnostics**: a hold that is taken back is logged with its plugin, rate-limited.

use rohrpost_abi::PluginIndex;

use crate::metrics::Number;
use crate::plugin::chain::Verdict;
use crate::smtp::server::Decision;
use crate::smtp::{Fixed, Reply};

use super::desk::{Desk, Io};
use super::incoming::{Incoming, Stage};
use super::listener::Entrance;
use super::step::Step;

impl Incoming {
    /// D-27: a plugin has held the step for too long, and the settings say what that means.
    pub(super) fn fail_hold(&mut self, desk: &mut Desk, io: &mut Io) {
        if self.plugin.is_some_and(|plugin| desk.plugins.expire(plugin)) {
            // It goes on as the plugin said, in the verdict phase of this turn.
            return desk.apply_commands(io);
        }
        let Stage::Step(step, _) = &self.stage else { return };
        match desk.settings.plugin.failure.reply(step.hook()) {
            Some(reply) => self.revoke(desk, io, reply, "plugin-timeout"),
            None => {
                let why = "plugin-timeout; the next plugin is asked";
                let holder = self.plugin.and_then(|plugin| desk.plugins.cell.held(plugin));
                if self.take_control(desk, io, why) {
                    if let Some(holder) = holder {
                        self.forget_said(holder, desk);
                    }
                    if let Stage::Step(_, chain) = &mut self.stage {
                        chain.on_verdict(Verdict::Continue);
                    }
                }
            }
        }
    }

    /// D-27: takes control back; the step is answered with `reply`.
    pub(super) fn revoke(&mut self, desk: &mut Desk, io: &mut Io, reply: Fixed, why: &str) {
        if !self.take_control(desk, io, why) {
            return;
        }
        match &mut self.stage {
            Stage::Step(Step::Close, chain) => chain.on_verdict(Verdict::Continue),
            _ => {
                self.revoke_login(desk);
                self.refuse_step(reply, desk, io);
            }
        }
    }

    /// A plugin has failed in the step: whatever it said in it of the client, or of the recipient, is no
    /// judgement. What it granted in steps before holds: it is asked about the next ones.
    pub(super) fn forget_said(&self, failed: PluginIndex, desk: &Desk) {
        match (self.plugin, &self.stage) {
            (Some(plugin), Stage::Step(Step::Authenticate(_), _)) => {
                desk.plugins.cell.forget_authentication(plugin, failed);
            }
            (Some(plugin), _) => desk.plugins.cell.forget_step(plugin, failed),
            (None, _) => {}
        }
    }

    /// Whether anybody had control of the step; nobody has it now.
    fn take_control(&mut self, desk: &mut Desk, io: &mut Io, why: &str) -> bool {
        let (Some(plugin), Stage::Step(step, _)) = (self.plugin, &self.stage) else {
            return false;
        };
        let held_ms = io.now_ms() - self.stage_ms;
        if !desk.plugins.revoke(plugin, step.hook(), held_ms, why) {
            return false;
        }
        // It may have been told, and asked for something.
        desk.apply_commands(io);
        desk.numbers().sub(Number::Held, 1);
        desk.count(Number::Revoked);
        true
    }

    /// Ends the step that a plugin failed; nobody else is asked. A reply of 421 is the last one.
    pub(super) fn refuse_step(&mut self, reply: Fixed, desk: &mut Desk, io: &Io) {
        let stage = std::mem::replace(&mut self.stage, Stage::Session);
        let Stage::Step(step, _) = stage else { return };
        if matches!(step, Step::Authenticate(_)) && reply.code() != 421 {
            // As any other login that fails: nothing is granted, and it costs the client the same.
            self.progress_ms = io.now_ms();
            return self.refuse_login_with(reply.into(), desk, io);
        }
        let secure = matches!(step, Step::Secure);
        let unasked = secure || matches!(step, Step::Connect);
        if matches!(step, Step::MailFrom(_)) {
            self.draft = None;
        }
        self.drop_step(step, desk);
        let last = reply.code() == 421;
        let reply = Reply::from(reply);
        if !secure && unasked && self.entrance == Entrance::Secure {
            // In clear it would not be understood.
            self.on_gone(desk);
        } else if unasked {
            // There is no command to answer (RFC 5321 3.1).
            if secure {
                self.session.on_secure();
            }
            self.session.dismiss(reply, &mut desk.memory);
        } else if last {
            // RFC 5321 3.8: that reply announces the end, and is the last.
            self.decide(Decision::RefuseAndClose(reply), desk, io);
        } else {
            self.decide(Decision::Refuse(reply), desk, io);
        }
    }
}
