//! How an incoming connection ends: by its deadlines, by its client, or in good order.
//!
//! Must never: close under a plugin that holds it (D-49), or before the last reply had its chance.
//!
//! **Diagnostics**: a deadline that passed is logged with its setting, rate-limited.

use mio::Token;

use crate::metrics::Number;
use crate::smtp::answer;
use crate::smtp::server::{Decision, Phase};

use super::desk::{Desk, Io};
use super::incoming::{Incoming, Peer, READS_MAX, Stage};
use super::incoming_begin::HEADER_MS;
use super::login::VERIFY_MS;
use super::step::Step;
use super::transport::Moved;

/// How long the disk may take to make a message durable before its client is told to come back.
const COMMIT_MS: u64 = 300_000;
/// How long replies to a mail's envelope wait for that to its text.
const WITHHELD_MS: u64 = 200;
/// How long the last reply may take to leave.
const LEAVE_MS: u64 = 10_000;
/// How long a client that still sends may take to end, once the last reply has left: closing before
/// would reset the connection, and a reset destroys a reply that is under way.
const LINGER_MS: u64 = 2_000;

impl Incoming {
    /// Whether the connection has nothing to do but to go.
    pub(super) fn is_over(&self) -> bool {
        match self.peer {
            Peer::Gone => true,
            Peer::Silent if !self.leaving => {
                // Buffered commands are answered first: the session says when it has run dry.
                self.session.output().is_empty() && self.session.is_dry()
            }
            Peer::Silent => self.session.output().is_empty(),
            Peer::There => false,
        }
    }

    /// The last reply is out. Reads and throws away what the client sent before it saw that; one
    /// that has sent nothing more is gone at once. `false` when there is nothing to do before the
    /// next event.
    pub(super) fn linger(&mut self, reads: &mut usize, desk: &mut Desk, io: &mut Io) -> bool {
        if !self.readable {
            if !self.lingering {
                self.peer = Peer::Gone;
            }
            return !self.lingering;
        }
        if *reads == READS_MAX {
            io.again(Token::from(self.key));
            return false;
        }
        *reads += 1;
        desk.scratch.clear();
        let moved = self.transport.read(&mut desk.scratch);
        if !desk.scratch.is_empty() && !self.lingering {
            self.lingering = true;
            self.stage_ms = io.now_ms();
            self.transport.shut_write();
        }
        match moved {
            Moved::Some(_) => {}
            Moved::Blocked(_) => self.readable = false,
            Moved::End | Moved::Gone(_) => self.peer = Peer::Gone,
        }
        true
    }

    pub(super) fn begin_close(&mut self, desk: &mut Desk, io: &Io) {
        self.session.on_lost(&mut desk.memory);
        self.transport.shut();
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_closed(plugin);
        }
        self.begin(Step::Close, desk, io);
    }

    pub(super) fn on_deadline(&mut self, desk: &mut Desk, io: &mut Io) {
        match &self.stage {
            Stage::Header => {
                let text = format_args!("{} is in smtp-proxy and sent no header", self.remote);
                desk.log.limited("proxy-header", crate::log::Level::Warning, "smtp", text);
                self.on_gone(desk);
            }
            Stage::Handshake(_) => {
                let what = "did not finish its TLS handshake";
                self.log_deadline(what, "smtp-tls-timeout", desk);
                self.on_gone(desk);
            }
            Stage::Step(..) => self.fail_hold(desk, io),
            // The disk takes its time: a client that counts it by command is answered those.
            Stage::Commit(..) if self.is_withholding() => self.let_go(),
            Stage::Commit(id, _) => {
                desk.log.limited(
                    "commit-deadline",
                    crate::log::Level::Critical,
                    "queue",
                    format_args!("transaction {id} was not durable in {} s", COMMIT_MS / 1000),
                );
                self.decide(Decision::RefuseAndClose(answer::COMMIT_TIMEOUT.into()), desk, io);
            }
            Stage::Verify => {
                self.decide(Decision::RefuseAndClose(answer::LOGIN_TIMEOUT.into()), desk, io);
            }
            Stage::Refusal => self.refuse_login(desk, io),
            Stage::Session if self.leaving => self.on_gone(desk),
            Stage::Session if !self.session.output().is_empty() => {
                self.log_deadline("takes no replies", "smtp-timeout", desk);
                self.on_gone(desk);
            }
            Stage::Session => {
                let phase = self.session.phase();
                match phase {
                    Phase::Data => {
                        let settings = "smtp-timeout or smtp-data-timeout";
                        self.log_deadline("did not finish its text", settings, desk);
                    }
                    _ => self.log_deadline("said nothing", "smtp-timeout", desk),
                }
                self.session.on_timeout(phase, &mut desk.memory);
            }
            Stage::Done => {}
        }
    }

    pub(super) fn log_deadline(&self, what: &str, setting: &str, desk: &Desk) {
        let text = format_args!("{} {what} within {setting}; it is closed", self.remote);
        desk.log.limited("client-deadline", crate::log::Level::Info, "smtp", text);
    }

    pub(super) fn on_gone(&mut self, desk: &mut Desk) {
        self.peer = Peer::Gone;
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_closed(plugin);
        }
    }

    /// The end of what is under way; `None` where the settings say so.
    pub(super) fn deadline_ms(&self, desk: &Desk) -> Option<u64> {
        let settings = &desk.settings;
        let idle_ms = settings.smtp.idle_timeout.as_millis() as u64;
        match &self.stage {
            Stage::Header => Some(self.stage_ms + HEADER_MS),
            // From its beginning on, whatever drips.
            Stage::Handshake(_) => {
                Some(self.stage_ms + settings.tls.handshake_timeout.as_millis() as u64)
            }
            Stage::Step(..) => {
                // The plugin may want less, and never gets more.
                let most = settings.plugin.hold_timeout.map(|most| most.as_millis() as u64);
                let hold_ms = most.into_iter().chain(self.hold_ms).min()?;
                Some(self.stage_ms + hold_ms)
            }
            Stage::Commit(..) if self.is_withholding() => Some(self.stage_ms + WITHHELD_MS),
            Stage::Commit(..) => Some(self.stage_ms + COMMIT_MS),
            Stage::Verify => Some(self.stage_ms + VERIFY_MS),
            Stage::Refusal => Some(self.refusal_ms(desk)),
            Stage::Session if self.lingering => Some(self.stage_ms + LINGER_MS),
            Stage::Session if self.leaving => Some(self.stage_ms + LEAVE_MS),
            Stage::Session => {
                let idle = self.progress_ms + idle_ms;
                let text =
                    self.text_ms.map(|begun| begun + settings.smtp.data_timeout.as_millis() as u64);
                Some(text.map_or(idle, |text| text.min(idle)))
            }
            Stage::Done => None,
        }
    }

    /// The very end: tokens go stale, the timer goes, the socket closes when `self` is dropped.
    pub(super) fn end(&mut self, desk: &mut Desk, io: &mut Io) {
        self.session.on_lost(&mut desk.memory);
        if let Some(plugin) = self.plugin.take() {
            desk.by_plugin.remove(&plugin);
            desk.plugins.cell.close_connection(plugin);
        }
        self.deadline.cancel(io);
        desk.numbers().sub(Number::IncomingConnections, 1);
    }
}
