//! The sets of one worker: the one that begins, those that end, and who is left behind by them.
//!
//! Owns which plugins have a context on this worker. A connection holds its set, so that the number of
//! holders says whether the set is still in use. Must never call a plugin. Diagnostics: none.

use std::rc::Rc;

use crate::hook::Hook;
use crate::plugin::PluginIndex;
use crate::set::PluginSet;
use crate::worker::Worker;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sets {
    now: Rc<PluginSet>,
    /// In use by connections that began with them.
    before: Vec<Rc<PluginSet>>,
    /// Who has a context here, in the order of their indexes, which is that of their coming.
    present: Vec<PluginIndex>,
    /// Of these, those whose set is still to come.
    coming: Vec<PluginIndex>,
}

impl Sets {
    pub(crate) fn new(set: &PluginSet) -> Sets {
        let mut present = set.plugins().to_vec();
        present.sort_unstable();
        Sets { now: Rc::new(set.clone()), before: Vec::new(), present, coming: Vec::new() }
    }

    pub(crate) fn now(&self) -> &Rc<PluginSet> {
        &self.now
    }

    fn admit(&mut self, plugins: &[PluginIndex]) {
        self.coming = plugins.to_vec();
        self.present.extend_from_slice(plugins);
        self.present.sort_unstable();
        self.present.dedup();
    }

    fn adopt(&mut self, set: &PluginSet) {
        self.coming.clear();
        let before = std::mem::replace(&mut self.now, Rc::new(set.clone()));
        self.before.push(before);
    }

    fn left(&mut self) -> Vec<PluginIndex> {
        if self.before.is_empty() && self.present.len() == self.now.len() + self.coming.len() {
            return Vec::new();
        }
        self.before.retain(|set| Rc::strong_count(set) > 1);
        let is_used = |plugin: &PluginIndex| {
            let mut sets = self.before.iter().chain([&self.now]);
            sets.any(|set| set.contains(*plugin)) || self.coming.contains(plugin)
        };
        self.present.iter().copied().filter(|plugin| !is_used(plugin)).collect()
    }
}

impl Worker {
    /// The set that connections begin with.
    pub fn set(&self) -> &Rc<PluginSet> {
        &self.sets.now
    }

    /// Does this connection have another set than those that begin now?
    pub fn is_outdated(&self, connection: crate::id::ConnectionId) -> bool {
        self.has_other_set(connection, &self.sets.now)
    }

    /// These plugins are new, and get contexts here: [`call_context`](Worker::call_context) for those of
    /// them that want it. Then [`adopt`](Worker::adopt) the set that they belong to, or
    /// [`abandon`](Worker::abandon) it.
    pub fn admit(&mut self, plugins: &[PluginIndex]) {
        self.sets.admit(plugins);
    }

    /// Connections begin with this set from now on; those that are there keep theirs (D-0E).
    pub fn adopt(&mut self, set: &PluginSet) {
        self.sets.adopt(set);
    }

    /// The set of those that were [admitted](Worker::admit) does not come.
    pub fn abandon(&mut self) {
        self.sets.coming.clear();
    }

    /// Who has a context here, the first come first.
    pub fn present(&self) -> &[PluginIndex] {
        &self.sets.present
    }

    /// Who has a context here and is in no set that is in use: their cleanup hooks are to be called, in
    /// reverse order, and then [`depart`](Worker::depart).
    pub fn left(&mut self) -> Vec<PluginIndex> {
        self.sets.left()
    }

    /// The contexts of these plugins were cleaned up. What they left goes without a callback (D-17).
    pub fn depart(&mut self, plugins: &[PluginIndex]) {
        self.sets.present.retain(|plugin| !plugins.contains(plugin));
        plugins.iter().for_each(|plugin| self.drop_plugin(*plugin));
    }

    /// Those of `plugins` that are to be asked on this worker's own step: in their order at the start, in
    /// reverse at the end (D-09).
    pub fn exporters(&self, plugins: &[PluginIndex], hook: Hook) -> Vec<PluginIndex> {
        let mut exporters = self.host().plugins().exporters(plugins, hook);
        if hook == Hook::ContextCleanup {
            exporters.reverse();
        }
        exporters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_behind_while_a_connection_holds_the_set() {
        let mut sets = Sets::new(&PluginSet::default());
        let connection = sets.now().clone();
        sets.adopt(&PluginSet::default());
        assert!(sets.left().is_empty());
        assert_eq!(sets.before.len(), 1);
        drop(connection);
        sets.present.push(PluginIndex::from_bits(7));
        assert_eq!(sets.left(), [PluginIndex::from_bits(7)]);
        assert!(sets.before.is_empty());
    }

    #[test]
    fn who_is_coming_is_not_left_behind_until_the_set_is_given_up() {
        let mut sets = Sets::new(&PluginSet::default());
        sets.admit(&[PluginIndex::from_bits(3)]);
        assert!(sets.left().is_empty());
        sets.coming.clear();
        assert_eq!(sets.left(), [PluginIndex::from_bits(3)]);
    }
}
