//! How an outgoing connection ends: by its deadlines, by the far end, or with QUIT.
//!
//! Must never: forget a mail that was started.
//!
//! **Diagnostics**: a hop that cannot be reached is logged, rate-limited, and is the pool's trouble.

use std::time::Duration;

use crate::delivery::{Fate, Finish};
use crate::log::Level;
use crate::smtp::client::{Problem, Stage};

use super::desk::{Desk, Io};
use super::outgoing::Outgoing;

/// How long the far end may take to answer QUIT.
const QUIT_MS: u64 = 5_000;

impl Outgoing {
    pub(super) fn on_unreachable(&mut self, why: &str, desk: &mut Desk, io: &Io) -> bool {
        if !self.greeted && !self.over {
            let why = format!("{}: {why}", self.remote);
            let text = format_args!("the next hop cannot be reached: {why}");
            desk.log.limited("next-hop", Level::Warning, "smtp", text);
            desk.pool.on_failed(why, io.now_ms());
        }
        self.over = true;
        false
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

    pub(super) fn leave(&mut self, desk: &mut Desk) {
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

    /// D-27: takes the mail back from the plugin that holds it.
    pub(super) fn revoke(&mut self, desk: &Desk, why: &str) {
        if let Some(asked) = self.asked.take_if(|asked| asked.is_held()) {
            asked.revoke(why, desk);
        }
    }

    /// D-27: the attempt ends where the plugin held it, and with it the connection.
    pub(super) fn take_back(&mut self, why: &str, desk: &mut Desk, io: &Io) {
        self.revoke(desk, why);
        self.session.abandon();
        let finish = Finish::without_reply(Fate::Temporary, "data", "timeout", why);
        self.finish(finish, desk, io);
        self.over = true;
    }

    pub(super) fn on_deadline(&mut self, desk: &mut Desk, io: &Io) {
        let hold_ms = self.asked.as_ref().and_then(|asked| asked.deadline_ms(desk));
        if hold_ms.is_some_and(|hold_ms| io.now_ms() >= hold_ms) {
            return self.take_back(
                "a plugin held the mail for longer than plugin-timeout",
                desk,
                io,
            );
        }
        if !self.connected {
            self.on_unreachable("connect: no answer within connect-timeout", desk, io);
        } else if self.idle {
            self.leave(desk);
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
                Stage::Quit | Stage::Closed => Duration::from_millis(QUIT_MS),
                Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Auth(_) | Stage::Rcpt => {
                    settings.reply_timeout
                }
                Stage::Handshake => desk.settings.hop.handshake_timeout,
                Stage::Reset | Stage::Mail => self.reuse.patience(settings.reply_timeout),
            }
        };
        // While a plugin holds the mail its own deadline counts, and none where the settings say so;
        // the far end ends the wait by itself.
        let block_ms = self.stage_ms + patience.as_millis() as u64;
        match self.stage {
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
        if let Some(asked) = self.asked.take() {
            asked.close(desk);
        }
        self.give_back(desk);
        if let Some(plugin) = self.plugin.take() {
            desk.by_plugin.remove(&plugin);
            desk.plugins.cell.close_connection(plugin);
        }
        if self.greeted {
            desk.pool.on_closed(self.key);
        }
        self.deadline.cancel(io);
    }
}
