//! The plugins as one worker sees them: chains are walked here, through the plugin interface.
//!
//! Must never: touch a socket or a timer; what plugins ask for is left as commands.
//!
//! **Diagnostics**: a retry loop (D-29) and a revoked hold (D-27) are logged with the plugin.

use rohrpost_abi::{
    Callee, Command, ConnectionId, ConnectionInit, ContextStep, Expiry, Generation, Hook, Host,
    PluginIndex, PluginSet, QueryAnswer, QueryId, Returned, Step, TimerId, Walked, WatchId,
};

use crate::log::{Level, Log};

use super::census::Tally;
use super::chain::{Chain, Next, Verdict};
use super::trace::Trace;

/// What became of a chain that was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// A plugin holds the step.
    Held,
    /// A plugin has answered the step; nobody else is asked.
    Answered,
    /// The host goes on.
    Done,
}

/// Which of the plugins that export a hook are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All of them.
    All,
    /// Those that can say that a recipient is local (D-71), about one that the client may not send to.
    Welcomers,
    /// The others, about one that is welcome after all.
    Others,
}

/// The plugin interface of one worker.
#[derive(Debug)]
pub struct Plugins {
    host: &'static Host,
    /// The worker's cell of host state; all `MQ_*` calls of plugins touch only this.
    pub cell: rohrpost_abi::Worker,
    log: Log,
    retries_max: u32,
    trace: Trace,
    tally: Tally,
}

impl Plugins {
    /// Joins the worker's cell to the process's plugins.
    pub fn new(
        host: &'static Host,
        cell: rohrpost_abi::Worker,
        log: Log,
        retries_max: u32,
        trace: Trace,
        tally: Tally,
    ) -> Plugins {
        Plugins { host, cell, log, retries_max, trace, tally }
    }

    /// Can any plugin of this connection ask for messages as JSON?
    pub fn ask_json(&self, connection: ConnectionId) -> bool {
        self.cell.set_of(connection).is_some_and(|set| set.ask_json())
    }

    /// The plugins that connections begin with.
    pub fn set(&self) -> &PluginSet {
        self.cell.set()
    }

    /// Whether any plugin of this connection exports `hook`; none does where no plugin sees it.
    #[inline]
    pub fn asks(&self, connection: Option<ConnectionId>, hook: Hook) -> bool {
        connection.is_some_and(|connection| self.cell.asked(connection, hook) > 0)
    }

    /// Whether a connection that began now would be asked about by others (D-0E).
    pub fn is_outdated(&self, connection: Option<ConnectionId>) -> bool {
        match connection {
            Some(connection) => self.cell.is_outdated(connection),
            None => !self.set().is_empty(),
        }
    }

    /// Whether any plugin of this connection can say that a recipient is local (D-71): one that exports the
    /// hook for recipients, of a generation that has the call.
    pub fn may_say_local(&self, connection: Option<ConnectionId>) -> bool {
        let Some(set) = connection.and_then(|connection| self.cell.set_of(connection)) else {
            return false;
        };
        set.with(Hook::RcptTo).iter().any(|plugin| self.is_welcomer(*plugin))
    }

    fn is_welcomer(&self, plugin: PluginIndex) -> bool {
        let generation = self.host.plugins().generation(plugin);
        generation.is_some_and(|generation| generation != Generation::G1)
    }

    /// Those of `callees` that belong to `audience`, in their order.
    fn audience(&self, callees: &[Callee], audience: Audience) -> Vec<Callee> {
        let belongs = |callee: &Callee| match audience {
            Audience::All => true,
            Audience::Welcomers => self.is_welcomer(callee.plugin()),
            Audience::Others => !self.is_welcomer(callee.plugin()),
        };
        callees.iter().copied().filter(belongs).collect()
    }

    /// A slot for a connection, or `None` when no plugin would ever see it.
    ///
    /// # Errors
    /// When the tokens of this worker are used up: 2^20 connections.
    pub fn open(&self, init: ConnectionInit) -> Result<Option<ConnectionId>, SlotsSpent> {
        if self.set().is_empty() {
            return Ok(None);
        }
        self.cell.open_connection(init).map(Some).map_err(|_| SlotsSpent)
    }

    /// Tells the plugins of this connection that the peer is gone, while one of them holds its step (D-4B).
    pub fn tell_lost(&mut self, connection: ConnectionId) {
        let Some(set) = self.cell.set_of(connection) else { return };
        for plugin in set.with(Hook::Lost) {
            // D-28: until it has handed back, it is called for nothing but the end.
            if !self.cell.skips(*plugin, connection) {
                self.cell.call_lost(*plugin, connection);
                let returned = Returned::default();
                self.trace.called(&self.log, || self.name(*plugin), Hook::Lost, returned);
            }
        }
    }

    /// A chain over the plugins of this connection that export `hook`.
    #[inline]
    pub fn chain(&self, connection: ConnectionId, hook: Hook) -> Chain {
        Chain::new(self.cell.asked(connection, hook), self.retries_max)
    }

    /// The same over some of them.
    pub fn chain_among(&self, connection: ConnectionId, hook: Hook, audience: Audience) -> Chain {
        match audience {
            Audience::All => self.chain(connection, hook),
            Audience::Welcomers | Audience::Others => {
                let set = self.cell.set_of(connection);
                let asked = set.map_or(0, |set| self.audience(set.callees(hook), audience).len());
                Chain::new(asked, self.retries_max)
            }
        }
    }

    /// A chain over so many plugins.
    pub fn chain_of(&self, length: usize) -> Chain {
        Chain::new(length, self.retries_max)
    }

    /// Calls plugin after plugin until one holds the step or all were asked. What they ask for
    /// meanwhile stays in the cell for [`Plugins::take_commands`]. Those that still owe a hand-back are passed over
    /// (D-28).
    #[inline]
    pub fn walk(&mut self, chain: &mut Chain, connection: ConnectionId, step: &Step<'_>) -> Walk {
        self.walk_among(chain, connection, step, Audience::All)
    }

    /// The same, of a chain over some of them.
    #[inline]
    pub fn walk_among(
        &mut self,
        chain: &mut Chain,
        connection: ConnectionId,
        step: &Step<'_>,
        audience: Audience,
    ) -> Walk {
        // Mostly no plugin is interested, and this is all.
        if (self.trace, audience) == (Trace::Off, Audience::All)
            && !self.is_decided(chain, step)
            && let Some(position) = chain.poll_call()
        {
            let walked = self.cell.ask(connection, position, step);
            // A connection that is gone has nobody to ask.
            let Some(Walked { declined, returned }) = walked else { return Walk::Done };
            chain.on_declined(declined);
            match returned {
                None => return Walk::Done,
                Some(returned) => answer(chain, returned),
            }
        }
        self.walk_on(chain, connection, step, audience)
    }

    /// The same, however it goes on.
    #[inline(never)]
    fn walk_on(
        &mut self,
        chain: &mut Chain,
        connection: ConnectionId,
        step: &Step<'_>,
        audience: Audience,
    ) -> Walk {
        loop {
            if self.is_decided(chain, step) {
                chain.end();
            }
            match chain.poll_next() {
                Next::Call(position) => {
                    let walked = self.ask_among(position, connection, step, audience);
                    let Some(Walked { declined, returned }) = walked else { return Walk::Done };
                    chain.on_declined(declined);
                    if let Some(returned) = returned {
                        answer(chain, returned);
                    }
                }
                Next::RetriesSpent => self.on_retries_spent(step.hook(), chain.retries()),
                Next::Held => return Walk::Held,
                Next::Answered => return Walk::Answered,
                Next::Done => return Walk::Done,
            }
        }
    }

    /// Asks those of the plugins of a connection that are to be asked; with a trace, the first of them.
    fn ask_among(
        &mut self,
        position: usize,
        connection: ConnectionId,
        step: &Step<'_>,
        audience: Audience,
    ) -> Option<Walked> {
        if (self.trace, audience) == (Trace::Off, Audience::All) {
            return self.cell.ask(connection, position, step);
        }
        let set = self.cell.set_of(connection)?;
        let callees = self.audience(set.callees(step.hook()), audience);
        if self.trace == Trace::Off {
            return self.cell.ask_these(&callees[position..], connection, step);
        }
        let callee = callees[position];
        let plugin = callee.plugin();
        let skipped = self.cell.skips(plugin, connection) && !step.is_last();
        let walked = self.cell.ask_these(&[callee], connection, step)?;
        let returned = walked.returned.unwrap_or_default();
        match skipped {
            true => self.trace.passed_over(&self.log, self.name(plugin), step.hook()),
            false => self.trace.called(&self.log, || self.name(plugin), step.hook(), returned),
        }
        Some(walked)
    }

    /// Whether a plugin decided what becomes of the message of a step, so that there is nothing left to ask.
    #[inline]
    fn is_decided(&self, chain: &Chain, step: &Step<'_>) -> bool {
        match step {
            Step::OutMessage(message) | Step::OutData(message) => {
                !chain.is_held() && self.cell.is_decided(*message)
            }
            _ => false,
        }
    }

    /// The same for a step of the worker's context (D-14, D-16), over these plugins.
    pub fn walk_context(
        &mut self,
        chain: &mut Chain,
        step: ContextStep,
        plugins: &[PluginIndex],
    ) -> Walk {
        loop {
            match chain.poll_next() {
                Next::Call(position) => {
                    let plugin = plugins[position];
                    let returned = self.cell.call_context(plugin, step);
                    self.trace.called(&self.log, || self.name(plugin), step.hook(), returned);
                    answer(chain, returned);
                }
                Next::RetriesSpent => self.on_retries_spent(step.hook(), chain.retries()),
                Next::Held => return Walk::Held,
                Next::Answered | Next::Done => return Walk::Done,
            }
        }
    }

    /// Lets a chain that was held for `held_ms` go on if its plugin handed back; whether it did.
    pub fn resume(&self, chain: &mut Chain, connection: ConnectionId, held_ms: u64) -> bool {
        let holder = self.cell.holder(connection);
        let verdict = self.cell.take_verdict(connection).filter(|_| chain.is_held());
        let Some(verdict) = verdict.map(Verdict::from) else { return false };
        if let Some(holder) = holder {
            self.tally.on_hold_over(holder, held_ms);
        }
        self.trace.handed_back(&self.log, verdict);
        chain.on_verdict(verdict);
        if verdict != Verdict::Retry && self.cell.is_answered(connection) {
            chain.on_answer();
        }
        true
    }

    /// The time of a held step is over: tells its plugin, if that asked for it. Whether the step has been
    /// released by that.
    pub fn expire(&mut self, connection: ConnectionId) -> bool {
        match self.cell.expire_hold(connection) {
            Expiry::Released => true,
            Expiry::None | Expiry::Kept => false,
        }
    }

    /// Puts the numbers of this worker where they can be seen. Once a second.
    pub fn publish(&mut self) {
        if self.host.plugins().loaded() > 0 {
            self.tally.publish(&self.cell);
        }
    }

    /// The same for the context.
    pub fn take_context_verdict(&self) -> Option<Verdict> {
        let verdict = self.cell.take_context_verdict().map(Verdict::from)?;
        self.trace.handed_back(&self.log, verdict);
        Some(verdict)
    }

    /// A timer fired.
    pub fn fire_timer(&mut self, timer: TimerId) {
        let ran = self.cell.fire_timer(timer);
        self.trace.called_back(&self.log, "timer", ran);
    }

    /// A descriptor is ready for these events.
    pub fn fire_watch(&mut self, watch: WatchId, events: u8) {
        let ran = self.cell.fire_watch(watch, events);
        self.trace.called_back(&self.log, "watch", ran);
    }

    /// Runs the callback that was posted first; false if there is none.
    pub fn run_post(&mut self) -> bool {
        let ran = self.cell.run_post();
        self.trace.called_back(&self.log, "post", ran);
        ran
    }

    /// Name servers have answered.
    pub fn fire_query(&mut self, query: QueryId, answer: &QueryAnswer) {
        let ran = self.cell.fire_query(query, answer);
        self.trace.called_back(&self.log, "query", ran);
    }

    /// What plugins asked for since the last call, in order.
    #[inline]
    pub fn take_commands(&self, commands: &mut Vec<Command>) {
        self.cell.take_commands(commands);
    }

    /// D-27: takes control back after `held_ms` and says so. Returns whether anybody had it.
    pub fn revoke(
        &mut self,
        connection: ConnectionId,
        hook: Hook,
        held_ms: u64,
        why: &str,
    ) -> bool {
        let Some(plugin) = self.cell.revoke(connection) else {
            return false;
        };
        self.tally.on_hold_over(plugin, held_ms);
        let name = self.name(plugin);
        let consequence = match self.cell.skips(plugin, connection) {
            true => "; it is not asked again on this connection until it hands back",
            // It has a name for its hold: what comes late names what is over.
            false => "",
        };
        let text =
            format_args!("{name}: {hook} was held too long and is taken back ({why}){consequence}");
        self.log.limited("revoked-hold", Level::Warning, "plugin", text);
        true
    }

    /// D-14, D-16: takes the context back; the plugin that had it.
    pub fn revoke_context(&self) -> &'static str {
        self.cell.revoke_context().map_or("a plugin", |plugin| self.name(plugin))
    }

    /// The file name of a plugin.
    pub fn name(&self, plugin: PluginIndex) -> &'static str {
        self.host.plugins().name(plugin).unwrap_or("unknown plugin")
    }

    fn on_retries_spent(&self, hook: Hook, retries: u32) {
        let text =
            format_args!("{hook} was retried {retries} times in one step; it counts as complete");
        self.log.limited("retries-spent", Level::Critical, "plugin", text);
    }
}

/// No slot is left for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsSpent;

fn answer(chain: &mut Chain, returned: Returned) {
    chain.on_return(returned.took_control, returned.verdict.map(Verdict::from));
    if returned.answered && !chain.is_held() {
        chain.on_answer();
    }
}

impl From<rohrpost_abi::Verdict> for Verdict {
    fn from(verdict: rohrpost_abi::Verdict) -> Verdict {
        match verdict {
            rohrpost_abi::Verdict::Continue => Verdict::Continue,
            rohrpost_abi::Verdict::Complete => Verdict::Complete,
            rohrpost_abi::Verdict::Retry => Verdict::Retry,
        }
    }
}
