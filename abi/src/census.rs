//! Census: how much each plugin has on a worker.
//!
//! Owns the count. It is taken now and then by looking at what is there, some slots at a time, so that
//! nothing is counted on the way of mail and no look is long. Must never change anything. Diagnostics:
//! none.

use crate::plugin::PluginIndex;
use crate::state::State;
use crate::worker::Worker;

/// Slots that are looked at in one call.
const SLOTS_AT_ONCE: usize = 32 * 1024;

/// What one plugin has on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Timers that have not fired.
    pub timers: u64,
    /// Watches.
    pub watches: u64,
    /// Steps that it holds.
    pub holds: u64,
    /// Connections that it keeps data for.
    pub connections: u64,
}

/// A count that is under way.
#[derive(Debug, Default)]
pub struct Count {
    kind: Kind,
    slot: usize,
    found: Vec<Holdings>,
}

/// What is being looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Timers,
    Watches,
    Connections,
}

impl Count {
    fn of(&mut self, plugin: PluginIndex) -> &mut Holdings {
        if self.found.len() <= plugin.index() {
            self.found.resize(plugin.index() + 1, Holdings::default());
        }
        &mut self.found[plugin.index()]
    }

    fn look(&mut self, state: &State) {
        let (from, to) = (self.slot, self.slot + SLOTS_AT_ONCE);
        self.slot = to;
        let slots = match self.kind {
            Kind::Timers => {
                let timers = state.timers.values(from..to);
                timers.for_each(|timer| self.of(timer.plugin).timers += 1);
                state.timers.slots()
            }
            Kind::Watches => {
                let watches = state.watches.values(from..to);
                watches.for_each(|watch| self.of(watch.plugin).watches += 1);
                state.watches.slots()
            }
            Kind::Connections => {
                for connection in state.connections.values(from..to) {
                    if let Some(holder) = connection.chain.holder() {
                        self.of(holder).holds += 1;
                    }
                    let owners = connection.data.owners();
                    owners.for_each(|owner| self.of(owner).connections += 1);
                }
                state.connections.slots()
            }
        };
        if to < slots {
            return;
        }
        self.slot = 0;
        self.kind = match self.kind {
            Kind::Timers => Kind::Watches,
            Kind::Watches => Kind::Connections,
            Kind::Connections => Kind::Timers,
        };
    }
}

impl Worker {
    /// Counts on. When all has been looked at: what each plugin has, by its index, and a new count begins.
    /// Plugins behind the last one have nothing.
    pub fn count(&self, count: &mut Count) -> Option<Vec<Holdings>> {
        let state = self.state();
        loop {
            count.look(&state);
            // A large table takes several calls; small ones, one for all.
            if count.slot > 0 {
                return None;
            }
            if count.kind == Kind::Timers {
                return Some(std::mem::take(&mut count.found));
            }
        }
    }
}
