//! Plugins: the table of what is loaded, and who exports which hook.
//!
//! Owns the order in which plugins are asked. Must never unload one: callbacks and threads of its own
//! may outlive whatever we know of it. Diagnostics: none; loading reports its own (see `load`).

use std::mem::ManuallyDrop;

use libloading::os::unix::Library;

use crate::call::Blame;
use crate::generation::Generation;
use crate::hook::Hook;
use crate::hooks::{Hooks, StepTokens};
use crate::json_library::JsonLibrary;
use crate::step::{ContextStep, Step};
use crate::token::Token;

/// A plugin's place in the order of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginIndex(u16);

impl PluginIndex {
    pub(crate) const BITS: u32 = 12;
    const MASK: u16 = (1 << PluginIndex::BITS) - 1;

    /// Bits above the token's 12 are ignored.
    pub(crate) const fn from_bits(bits: u16) -> PluginIndex {
        PluginIndex(bits & PluginIndex::MASK)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// The first that was loaded.
    pub const FIRST: PluginIndex = PluginIndex(0);

    /// As an index into an array with one entry per plugin.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How many plugins one process can load.
pub const PLUGINS_MAX: usize = 1 << PluginIndex::BITS;

/// A loaded plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: Box<str>,
    pub(crate) index: PluginIndex,
    pub(crate) generation: Generation,
    pub(crate) hooks: Hooks,
    /// The copy of json-c or libfastjson that it is linked with.
    pub(crate) json: Option<&'static JsonLibrary>,
    /// Kept for later look-ups, and never dropped: that would unload it (D-0E).
    pub(crate) library: ManuallyDrop<Library>,
}

impl Plugin {
    pub(crate) fn blame(&self) -> Blame<'_> {
        Blame { index: self.index, name: &self.name }
    }

    /// For look-ups in the plugin and what it is linked with.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn call_context(&self, step: ContextStep, context: Token) -> bool {
        self.hooks.call_context(self, step.hook(), context)
    }

    pub(crate) fn call_step(&self, step: Step<'_>, tokens: StepTokens) -> bool {
        self.hooks.call_step(self, step, tokens)
    }
}

/// All loaded plugins.
#[derive(Debug, Default)]
pub struct Plugins {
    all: Vec<Plugin>,
    by_hook: [Vec<PluginIndex>; Hook::ALL.len()],
}

impl Plugins {
    /// The order of `all` is the order of loading, and their indexes count up from 0.
    pub(crate) fn new(all: Vec<Plugin>) -> Plugins {
        debug_assert!(all.iter().enumerate().all(|(n, plugin)| plugin.index.index() == n));
        let by_hook = Hook::ALL.map(|hook| {
            let exporters = all.iter().filter(|plugin| plugin.hooks.exports(hook));
            let mut exporters: Vec<_> = exporters.map(|plugin| plugin.index).collect();
            // D-09: what was set up last is taken down first.
            if matches!(hook, Hook::Cleanup | Hook::ContextCleanup) {
                exporters.reverse();
            }
            exporters
        });
        Plugins { all, by_hook }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Their file names, in the order of loading.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.all.iter().map(|plugin| &*plugin.name)
    }

    /// One plugin's file name; `None` for an index that is not of this table.
    pub fn name(&self, plugin: PluginIndex) -> Option<&str> {
        self.all.get(plugin.index()).map(|plugin| &*plugin.name)
    }

    /// One plugin's generation.
    ///
    /// # Panics
    /// For an index that is not of this table.
    pub fn generation(&self, plugin: PluginIndex) -> Generation {
        self.plugin(plugin).generation
    }

    /// Their generations, in the order of loading.
    pub fn generations(&self) -> impl ExactSizeIterator<Item = Generation> {
        self.all.iter().map(|plugin| plugin.generation)
    }

    /// Who exports `hook`, in the order in which they are to be asked: that of loading, reversed for the
    /// two cleanup hooks (D-09). Empty for an event that concerns nobody.
    pub fn with(&self, hook: Hook) -> &[PluginIndex] {
        &self.by_hook[hook as usize]
    }

    /// Can any of them ask for a message as JSON? Otherwise nobody needs to tell of it.
    pub fn ask_json(&self) -> bool {
        self.all.iter().any(|plugin| plugin.json.is_some())
    }

    /// Calls every `mq_initialize`. Once, on the main thread, after the host was installed and before
    /// any worker runs (D-08).
    pub fn initialize(&self) {
        self.call_all(Hook::Initialize);
    }

    /// Calls every `mq_cleanup`, in reverse order. Once, on the main thread, after all workers ended.
    pub fn cleanup(&self) {
        self.call_all(Hook::Cleanup);
    }

    fn call_all(&self, hook: Hook) {
        for plugin in self.with(hook) {
            let plugin = self.plugin(*plugin);
            plugin.hooks.call_process(plugin, hook);
        }
    }

    /// `index` is of this table.
    pub(crate) fn plugin(&self, index: PluginIndex) -> &Plugin {
        &self.all[index.index()]
    }
}
