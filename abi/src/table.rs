//! The table of all plugins that this process ever loaded, and the set that is asked now.
//!
//! The table only grows: callbacks and threads of a plugin may outlive its use, and its tokens name a
//! place in here (D-0E). Owns the order of life: loaded, initialized, in a set, over. Must never move or
//! forget an entry, nor be locked in a way that a call of a plugin could wait for.
//!
//! Diagnostics: [`InitializeError`]; loading reports its own (see `load`).

use std::ffi::OsStr;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;

use crate::copy::Fingerprint;
use crate::generation::Generation;
use crate::hook::Hook;
use crate::load::{LoadError, Refused};
use crate::plugin::{Life, PLUGINS_MAX, Plugin, PluginIndex};
use crate::set::PluginSet;
use crate::setting::{PluginSettings, SettingsError, Texts, plugin_name};

/// All loaded plugins.
pub struct Plugins {
    table: Box<[OnceLock<&'static Plugin>]>,
    loaded: AtomicUsize,
    /// Taken by whoever loads, never on behalf of a plugin.
    current: Mutex<Arc<PluginSet>>,
    /// Files that are loaded and have no place in the table. They count as if they had.
    refused: Mutex<Vec<Refused>>,
    texts: Texts,
    asks_json: AtomicBool,
}

/// A plugin does not want to be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "plugin {plugin} refuses to start: its mqx_initialize returned false; what it logged says why"
)]
pub struct InitializeError {
    /// Its file name.
    pub plugin: &'static str,
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins {
            table: (0..PLUGINS_MAX).map(|_| OnceLock::new()).collect(),
            loaded: AtomicUsize::new(0),
            current: Mutex::default(),
            refused: Mutex::default(),
            texts: Texts::default(),
            asks_json: AtomicBool::new(false),
        }
    }
}

impl Plugins {
    /// The set that is asked now: by connections that begin.
    pub fn set(&self) -> Arc<PluginSet> {
        lock(&self.current).clone()
    }

    /// Makes `set` the one that is asked from now on. Workers are told by their owner.
    pub fn adopt(&self, set: Arc<PluginSet>) {
        *lock(&self.current) = set;
    }

    /// How many were ever loaded, at most [`PLUGINS_MAX`].
    pub fn loaded(&self) -> usize {
        self.loaded.load(Ordering::Acquire)
    }

    /// Could any of them ask for a message as JSON? Otherwise nobody needs to tell of it.
    pub fn ask_json(&self) -> bool {
        self.asks_json.load(Ordering::Relaxed)
    }

    /// All that were ever loaded, in the order of their coming.
    pub fn indexes(&self) -> impl Iterator<Item = PluginIndex> + '_ {
        self.all().map(|plugin| plugin.index)
    }

    /// One plugin's file name; `None` for an index that is not of this table.
    pub fn name(&self, plugin: PluginIndex) -> Option<&'static str> {
        self.find(plugin).map(|plugin| &*plugin.name)
    }

    /// One plugin's generation.
    pub fn generation(&self, plugin: PluginIndex) -> Option<Generation> {
        self.find(plugin).map(|plugin| plugin.generation)
    }

    /// What a plugin exports under names that are kept for hooks, and that no hook has; some of many. It is
    /// never called: most often it is a hook that was misspelt.
    pub fn unknown_exports(&self, plugin: PluginIndex) -> &[String] {
        self.find(plugin).map_or(&[], |plugin| &plugin.unknown)
    }

    /// Calls `mq_initialize` of those in `set` that have not had it, then their `mqx_initialize`; returns
    /// them. On the main thread, after the host was installed and before a worker is told of the set
    /// (D-08).
    ///
    /// # Errors
    /// When one of them refuses. Those that this call has initialized are over then.
    pub fn initialize(&self, set: &PluginSet) -> Result<Vec<PluginIndex>, InitializeError> {
        let fresh = set.plugins().iter().map(|index| self.plugin(*index));
        let fresh: Vec<_> = fresh.filter(|plugin| plugin.life() == Life::Loaded).collect();
        let indexes: Vec<PluginIndex> = fresh.iter().map(|plugin| plugin.index).collect();
        fresh.iter().for_each(|plugin| plugin.initialize());
        if let Some(refused) = fresh.iter().find(|plugin| !plugin.introduce()) {
            self.end(&indexes);
            return Err(InitializeError { plugin: &refused.name });
        }
        Ok(indexes)
    }

    /// Settings of plugins, by [`plugin_name`] and key.
    ///
    /// # Errors
    /// When a value cannot be given to a plugin.
    pub fn settings<'a>(
        &self,
        rows: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Result<PluginSettings, SettingsError> {
        self.texts.settings(rows)
    }

    /// These plugins have these settings from now on.
    pub fn configure(&self, plugins: &[PluginIndex], settings: &PluginSettings) {
        for index in plugins {
            let plugin = self.plugin(*index);
            plugin.settings.change(&plugin_name(&plugin.name), settings);
        }
    }

    /// Settings were read again: calls `mqx_reload` of these, in their order. On the main thread.
    pub fn on_reload(&self, plugins: &[PluginIndex]) {
        plugins.iter().for_each(|index| self.plugin(*index).on_reload());
    }

    /// These are in no set and have no connection any more: calls their `mq_cleanup`, in reverse order
    /// (D-09). On the main thread, after every worker has left them.
    pub fn end(&self, plugins: &[PluginIndex]) {
        for index in plugins.iter().rev() {
            self.plugin(*index).end();
        }
    }

    /// Ends every plugin, the last one first. Once, on the main thread, after all workers ended.
    pub fn cleanup(&self) {
        for index in (0..self.loaded()).rev() {
            if let Some(plugin) = self.table[index].get() {
                plugin.end();
            }
        }
    }

    /// Those of `plugins` that export `hook`, in the same order.
    pub fn exporters(&self, plugins: &[PluginIndex], hook: Hook) -> Vec<PluginIndex> {
        plugins.iter().copied().filter(|index| self.plugin(*index).exports(hook)).collect()
    }

    /// The place of the next plugin, if there is one.
    pub(crate) fn next(&self) -> Option<PluginIndex> {
        let loaded = self.loaded();
        let all = loaded + lock(&self.refused).len();
        (all < PLUGINS_MAX).then(|| PluginIndex::from_bits(loaded as u16))
    }

    /// Remembers a file that was loaded in vain.
    pub(crate) fn refuse(&self, refused: Refused) {
        lock(&self.refused).push(refused);
    }

    /// # Errors
    /// This file was refused before.
    pub(crate) fn find_refused(
        &self,
        name: &OsStr,
        fingerprint: Fingerprint,
    ) -> Result<(), LoadError> {
        let refused = lock(&self.refused);
        let again = refused.iter().find(|one| one.name == name && one.fingerprint == fingerprint);
        again.map_or(Ok(()), |one| Err(LoadError::Again { reason: one.reason.clone() }))
    }

    /// Puts a plugin into its place, which [`Plugins::next`] gave.
    pub(crate) fn append(&self, plugin: Plugin) -> &'static Plugin {
        let place = plugin.index.index();
        assert_eq!(place, self.loaded(), "plugins are loaded one after the other");
        // Leaked as its library is.
        let plugin: &'static Plugin = Box::leak(Box::new(plugin));
        let free = self.table[place].set(plugin).is_ok();
        assert!(free, "a place of the table is taken once");
        if plugin.json.is_some() {
            self.asks_json.store(true, Ordering::Relaxed);
        }
        self.loaded.store(place + 1, Ordering::Release);
        plugin
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Plugin> + '_ {
        self.table[..self.loaded()].iter().filter_map(|place| place.get().copied())
    }

    pub(crate) fn find(&self, plugin: PluginIndex) -> Option<&'static Plugin> {
        self.table[plugin.index()].get().copied()
    }

    /// `index` is of this table.
    pub(crate) fn plugin(&self, index: PluginIndex) -> &'static Plugin {
        self.table[index.index()].get().expect("indexes are given out for loaded plugins alone")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("current", &lock(&self.current)).finish_non_exhaustive()
    }
}
