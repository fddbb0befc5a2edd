//! Sets: which plugins are asked, and in which order.
//!
//! A set never changes. A reload makes another one, and whatever began with this one goes on with it
//! (D-0E). Must never hold a plugin itself: that is the table's, for good. Diagnostics: none.

use crate::callee::Callee;
use crate::hook::Hook;
use crate::plugin::{Plugin, PluginIndex};

/// Plugins that are asked together.
#[derive(Clone, Debug)]
pub struct PluginSet {
    all: Vec<PluginIndex>,
    names: Vec<&'static str>,
    by_hook: [Vec<PluginIndex>; Hook::ALL.len()],
    callees: [Vec<Callee>; Hook::ALL.len()],
    asks_json: bool,
}

impl Default for PluginSet {
    fn default() -> PluginSet {
        PluginSet::new(&[])
    }
}

impl PluginSet {
    /// In the order in which they are to be asked.
    pub(crate) fn new(plugins: &[&'static Plugin]) -> PluginSet {
        let by_hook = Hook::ALL.map(|hook| {
            let exporters = plugins.iter().filter(|plugin| plugin.exports(hook));
            let mut exporters: Vec<_> = exporters.map(|plugin| plugin.index).collect();
            // D-09: what was set up last is taken down first.
            if matches!(hook, Hook::Cleanup | Hook::ContextCleanup) {
                exporters.reverse();
            }
            exporters
        });
        let callees = Hook::ALL
            .map(|hook| plugins.iter().filter_map(|plugin| Callee::new(plugin, hook)).collect());
        PluginSet {
            all: plugins.iter().map(|plugin| plugin.index).collect(),
            names: plugins.iter().map(|plugin| &*plugin.name).collect(),
            by_hook,
            callees,
            asks_json: plugins.iter().any(|plugin| plugin.json.is_some()),
        }
    }

    /// How many plugins there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, in their order.
    pub fn plugins(&self) -> &[PluginIndex] {
        &self.all
    }

    /// Is this one of them?
    pub fn contains(&self, plugin: PluginIndex) -> bool {
        self.all.contains(&plugin)
    }

    /// Their file names, in their order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.names.iter().copied()
    }

    /// Can any of them ask for a message as JSON? Otherwise nobody needs to tell of it.
    pub fn ask_json(&self) -> bool {
        self.asks_json
    }

    /// Who exports `hook`, in the order in which they are to be asked: that of their names, reversed for
    /// the two cleanup hooks (D-09). Empty for an event that concerns nobody.
    #[inline]
    pub fn with(&self, hook: Hook) -> &[PluginIndex] {
        &self.by_hook[hook as usize]
    }

    /// The same for a hook of a step, ready to be called; empty for any other.
    #[inline]
    pub fn callees(&self, hook: Hook) -> &[Callee] {
        &self.callees[hook as usize]
    }
}
