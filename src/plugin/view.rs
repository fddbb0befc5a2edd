//! The plugins as one worker sees them: chains are walked here, through the plugin interface.
//!
//! Must never: touch a socket or a timer; what plugins ask for is left as commands.
//!
//! **Diagnostics**: a retry loop (D-29) and a revoked hold (D-27) are logged with the plugin.

use rohrpost_abi::{
    Command, ConnectionId, ConnectionInit, ContextStep, Generation, Hook, Host, PluginIndex,
    PluginSet, Returned, Step,
};

use crate::log::{Level, Log};

use super::chain::{Chain, Next, Verdict};

/// What became of a chain that was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// A plugin holds the step.
    Held,
    /// The host goes on.
    Done,
}

/// The plugin interface of one worker.
#[derive(Debug)]
pub struct Plugins {
    host: &'static Host,
    /// The worker's cell of host state; all `MQ_*` calls of plugins touch only this.
    pub cell: rohrpost_abi::Worker,
    log: Log,
    retries_max: u32,
}

impl Plugins {
    /// Joins the worker's cell to the process's plugins.
    pub fn new(
        host: &'static Host,
        cell: rohrpost_abi::Worker,
        log: Log,
        retries_max: u32,
    ) -> Plugins {
        Plugins { host, cell, log, retries_max }
    }

    /// The plugins that connections begin with.
    pub fn set(&self) -> &PluginSet {
        self.cell.set()
    }

    /// Whether any plugin of this connection exports `hook`; none does where no plugin sees it.
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
        let generation = |plugin: &PluginIndex| self.host.plugins().generation(*plugin);
        let Some(set) = connection.and_then(|connection| self.cell.set_of(connection)) else {
            return false;
        };
        let asked = set.with(Hook::RcptTo).iter();
        asked.filter_map(generation).any(|generation| generation != Generation::G1)
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

    /// A chain over the plugins of this connection that export `hook`.
    pub fn chain(&self, connection: ConnectionId, hook: Hook) -> Chain {
        Chain::new(self.cell.asked(connection, hook), self.retries_max)
    }

    /// A chain over so many plugins.
    pub fn chain_of(&self, length: usize) -> Chain {
        Chain::new(length, self.retries_max)
    }

    /// Calls plugin after plugin until one holds the step or all were asked. What they ask for
    /// meanwhile stays in the cell for [`Plugins::take_commands`].
    pub fn walk(&mut self, chain: &mut Chain, connection: ConnectionId, step: Step<'_>) -> Walk {
        let hook = step.hook();
        // A connection that is gone has nobody to ask.
        let Some(set) = self.cell.set_of(connection) else { return Walk::Done };
        let plugins = set.with(hook);
        loop {
            match chain.poll_next() {
                Next::Call(position) => {
                    let plugin = plugins[position];
                    // D-28: but the close hook is where a plugin frees its data.
                    if hook != Hook::Close && self.cell.skips(plugin, connection) {
                        chain.on_skip();
                        continue;
                    }
                    answer(chain, self.cell.call(plugin, connection, step));
                }
                Next::RetriesSpent => self.on_retries_spent(hook, chain.retries()),
                Next::Held => return Walk::Held,
                Next::Done => return Walk::Done,
            }
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
                    answer(chain, self.cell.call_context(plugins[position], step));
                }
                Next::RetriesSpent => self.on_retries_spent(step.hook(), chain.retries()),
                Next::Held => return Walk::Held,
                Next::Done => return Walk::Done,
            }
        }
    }

    /// The verdict that a plugin left for a held connection, if it is still wanted.
    pub fn take_verdict(&self, connection: ConnectionId) -> Option<Verdict> {
        self.cell.take_verdict(connection).map(verdict)
    }

    /// The same for the context.
    pub fn take_context_verdict(&self) -> Option<Verdict> {
        self.cell.take_context_verdict().map(verdict)
    }

    /// What plugins asked for since the last call, in order.
    pub fn take_commands(&self, commands: &mut Vec<Command>) {
        self.cell.take_commands(commands);
    }

    /// D-27: takes control back and says so. Returns whether anybody had it.
    pub fn revoke(&self, connection: ConnectionId, hook: Hook, why: &str) -> bool {
        let Some(plugin) = self.cell.revoke(connection) else {
            return false;
        };
        let name = self.name(plugin);
        let text = format_args!(
            "{name}: {hook} was held too long and is taken back ({why}); it is not asked again on \
             this connection until it hands back"
        );
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
    chain.on_return(returned.took_control, returned.verdict.map(verdict));
}

fn verdict(verdict: rohrpost_abi::Verdict) -> Verdict {
    match verdict {
        rohrpost_abi::Verdict::Continue => Verdict::Continue,
        rohrpost_abi::Verdict::Complete => Verdict::Complete,
        rohrpost_abi::Verdict::Retry => Verdict::Retry,
    }
}
