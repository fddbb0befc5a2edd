//! The plugins' contexts of this worker: initialised before traffic, cleaned up after it, and in between
//! those of plugins that come and go with a reload (D-0E).
//!
//! Any of it may be held by a plugin while the loop runs (D-14, D-16), for a bounded time. One thing is
//! done at a time; traffic goes on meanwhile, but at the start and at the end.
//!
//! Must never: call a plugin that has no context here, or one after its cleanup.
//!
//! **Diagnostics**: a plugin that keeps its context at the start keeps the server from starting, and at a
//! reload keeps that from taking effect.

use rohrpost_abi::{ContextStep, PluginIndex};

use crate::net::desk::{Intent, Io, Mood, Timer};
use crate::plugin::chain::Chain;
use crate::plugin::view::Walk;

use super::turn::{Report, TICK_MS, Worker};

/// Why contexts are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The worker starts.
    Start,
    /// New plugins come; the number is the supervisor's.
    Renewal(u64),
    /// Nobody uses these plugins any more.
    Retirement,
    /// The worker ends.
    End,
}

impl Cause {
    fn step(self) -> ContextStep {
        match self {
            Cause::Start | Cause::Renewal(_) => ContextStep::Initialize,
            Cause::Retirement | Cause::End => ContextStep::Cleanup,
        }
    }
}

/// The work under way.
#[derive(Debug)]
pub(super) struct ContextWork {
    cause: Cause,
    /// Whom it is about.
    plugins: Vec<PluginIndex>,
    /// Those of them that export the hook, in the order in which they are called.
    asked: Vec<PluginIndex>,
    pub(super) chain: Chain,
}

impl Worker {
    /// Initialises the plugins' contexts, with the loop running (D-14).
    pub fn begin(&mut self, io: &mut Io) {
        io.arm(io.now_ms() + TICK_MS, Timer::Tick);
        let plugins = self.desk.plugins.cell.present().to_vec();
        self.begin_context(Cause::Start, plugins, io);
    }

    /// The last traffic is over.
    pub(super) fn end_contexts(&mut self, io: &mut Io) {
        let plugins = self.desk.plugins.cell.present().to_vec();
        self.begin_context(Cause::End, plugins, io);
    }

    /// What the supervisor intends with plugins that were loaded anew.
    pub(super) fn on_intent(&mut self, intent: Intent, io: &mut Io) {
        match intent {
            Intent::Renew(serial, plugins, abandoned) if self.desk.mood != Mood::Draining => {
                // An earlier one has failed meanwhile, if there was any.
                self.abandon_plugins(&abandoned, io);
                self.renewal = Some((serial, plugins));
                self.begin_renewal(io);
            }
            Intent::Renew(..) => {}
            Intent::Abandon(plugins) => self.abandon_plugins(&plugins, io),
        }
    }

    fn abandon_plugins(&mut self, plugins: &[PluginIndex], io: &mut Io) {
        self.abandon_renewal(io);
        let present = self.desk.plugins.cell.present();
        let absent = plugins.iter().copied().filter(|plugin| !present.contains(plugin));
        let absent: Vec<PluginIndex> = absent.collect();
        if !absent.is_empty() {
            // They never came, or are gone.
            self.report(Report::Departed(self.desk.index, absent));
        }
    }

    /// New plugins are not to come after all.
    pub(super) fn abandon_renewal(&mut self, io: &mut Io) {
        self.renewal = None;
        if matches!(&self.context, Some(work) if matches!(work.cause, Cause::Renewal(_))) {
            self.desk.plugins.cell.revoke_context();
            self.stop_context(io);
        }
        // Those that have a context already are in no set, and so are left behind.
        self.desk.plugins.cell.abandon();
    }

    fn begin_renewal(&mut self, io: &mut Io) {
        if self.context.is_none()
            && let Some((serial, plugins)) = self.renewal.take()
        {
            self.desk.plugins.cell.admit(&plugins);
            self.begin_context(Cause::Renewal(serial), plugins.to_vec(), io);
        }
    }

    /// Looks once a second who is in no set any more, and has no connection left.
    pub(super) fn retire(&mut self, io: &mut Io) {
        if self.context.is_none() && self.desk.mood != Mood::Starting {
            let left = self.desk.plugins.cell.left();
            if !left.is_empty() {
                self.begin_context(Cause::Retirement, left, io);
            }
        }
    }

    fn begin_context(&mut self, cause: Cause, plugins: Vec<PluginIndex>, io: &mut Io) {
        let asked = self.desk.plugins.cell.exporters(&plugins, cause.step().hook());
        let chain = self.desk.plugins.chain_of(asked.len());
        self.context = Some(ContextWork { cause, plugins, asked, chain });
        let settings = &self.desk.settings.plugin;
        let patience = match cause.step() {
            ContextStep::Initialize => settings.start_timeout,
            ContextStep::Cleanup => settings.shutdown_timeout,
        };
        let deadline = io.deadline_after(patience.as_millis() as u64);
        self.context_timer = Some(io.arm(deadline, Timer::Context));
        self.walk_context(io);
    }

    pub(super) fn walk_context(&mut self, io: &mut Io) {
        let Some(ContextWork { cause, asked, chain, .. }) = &mut self.context else {
            return;
        };
        let walked = self.desk.plugins.walk_context(chain, cause.step(), asked);
        self.desk.apply_commands(io);
        if walked == Walk::Done {
            self.finish_context(io);
        }
    }

    fn stop_context(&mut self, io: &mut Io) -> Option<ContextWork> {
        if let Some(timer) = self.context_timer.take() {
            io.cancel(timer);
        }
        self.context.take()
    }

    fn finish_context(&mut self, io: &mut Io) {
        let Some(ContextWork { cause, plugins, .. }) = self.stop_context(io) else { return };
        let index = self.desk.index;
        match cause {
            Cause::Start => self.report(Report::Ready(index)),
            Cause::Renewal(serial) => self.report(Report::Renewed(index, serial)),
            Cause::Retirement => {
                self.desk.plugins.cell.depart(&plugins);
                self.desk.apply_commands(io);
                self.report(Report::Departed(index, plugins));
            }
            Cause::End => {
                self.desk.drop_plugin_sources(io);
                self.report(Report::Ended(index));
                return io.stop();
            }
        }
        self.begin_renewal(io);
    }

    pub(super) fn on_context_timeout(&mut self, io: &mut Io) {
        self.context_timer = None;
        let Some(ContextWork { cause, .. }) = &self.context else {
            return;
        };
        let (cause, index) = (*cause, self.desk.index);
        let holder = self.desk.plugins.revoke_context();
        let late = format!(
            "plugin {holder}: mq_context_initialize was not handed back within plugin-start-timeout"
        );
        match cause {
            Cause::Start => {
                self.context = None;
                self.report(Report::StartFailed(index, late));
            }
            Cause::Renewal(serial) => {
                self.context = None;
                self.report(Report::RenewalFailed(serial, late));
            }
            Cause::Retirement | Cause::End => {
                // D-16: a stuck plugin must not block the stop for ever.
                let text = format_args!(
                    "{holder}: mq_context_cleanup was not handed back within plugin-shutdown-timeout"
                );
                self.desk.log.warning("plugin", text);
                self.finish_context(io);
            }
        }
    }
}
