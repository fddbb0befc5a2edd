//! The plugins' contexts of this worker: initialised before traffic, cleaned up after it.
//!
//! Either may be held by a plugin while the loop runs (D-14, D-16), for a bounded time.
//!
//! **Diagnostics**: a plugin that keeps its context at the start keeps the server from starting.

use rohrpost_abi::ContextStep;

use crate::net::desk::{Io, Timer};
use crate::plugin::view::Walk;

use super::turn::{Report, TICK_MS, Worker};

impl Worker {
    /// Initialises the plugins' contexts, with the loop running (D-14).
    pub fn begin(&mut self, io: &mut Io) {
        io.arm(io.now_ms() + TICK_MS, Timer::Tick);
        let timeout = self.desk.settings.plugin.start_timeout;
        self.begin_context(ContextStep::Initialize, timeout.as_millis() as u64, io);
    }

    pub(super) fn begin_context(&mut self, step: ContextStep, patience_ms: u64, io: &mut Io) {
        self.context = Some((step, self.desk.plugins.chain(step.hook())));
        self.context_timer = Some(io.arm(io.deadline_after(patience_ms), Timer::Context));
        self.walk_context(io);
    }

    pub(super) fn walk_context(&mut self, io: &mut Io) {
        let Some((step, chain)) = &mut self.context else {
            return;
        };
        let step = *step;
        let walked = self.desk.plugins.walk_context(chain, step);
        self.desk.apply_commands(io);
        if walked == Walk::Done {
            self.finish_context(step, io);
        }
    }

    pub(super) fn finish_context(&mut self, step: ContextStep, io: &mut Io) {
        self.context = None;
        if let Some(timer) = self.context_timer.take() {
            io.cancel(timer);
        }
        match step {
            ContextStep::Initialize => self.report(Report::Ready(self.desk.index)),
            ContextStep::Cleanup => {
                self.desk.drop_plugin_sources(io);
                self.report(Report::Ended(self.desk.index));
                io.stop();
            }
        }
    }

    pub(super) fn on_context_timeout(&mut self, io: &mut Io) {
        self.context_timer = None;
        let Some((step, _)) = &self.context else {
            return;
        };
        let holder = self.desk.plugins.revoke_context();
        match step {
            ContextStep::Initialize => {
                let text = format!(
                    "plugin {holder}: mq_context_initialize was not handed back within plugin-start-timeout"
                );
                self.report(Report::StartFailed(self.desk.index, text));
                self.context = None;
            }
            ContextStep::Cleanup => {
                // D-16: a stuck plugin must not block the stop for ever.
                let text = format_args!(
                    "{holder}: mq_context_cleanup was not handed back within plugin-shutdown-timeout"
                );
                self.desk.log.warning("plugin", text);
                self.finish_context(ContextStep::Cleanup, io);
            }
        }
    }
}
