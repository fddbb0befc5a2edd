//! Plugins that come and go while the server runs (D-0E).
//!
//! New instances are initialised here, on the main thread; then each worker gives them a context, which may
//! take a while; and when all have, the workers change over. If one of them fails nothing has changed,
//! and those that were new are ended. Those that are in no set any more are ended when their last
//! connection is gone.
//!
//! Must never: wait on the main thread; let one worker use what another has not.
//!
//! **Diagnostics**: the answer to the reload names the plugin and what it did; ends are logged.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use rohrpost_abi::PluginIndex;

use crate::log::Log;
use crate::net::desk::{Intent, Mail};
use crate::settings::Settings;
use crate::worker::Report;

use super::orders::Order;
use super::reload::Found;
use super::server::{Answer, START_SLACK, Server};

/// A reload that waits for contexts of its new plugins.
pub(super) struct Renewal {
    found: Found,
    fresh: Arc<[PluginIndex]>,
    answer: Answer,
    /// Workers that have not given them contexts.
    waits: BTreeSet<usize>,
    /// When that is to be done.
    pub(super) end: Instant,
}

impl Renewal {
    pub(super) fn new(
        found: Found,
        fresh: Vec<PluginIndex>,
        answer: Answer,
        settings: &Settings,
    ) -> Renewal {
        // The workers keep the deadline themselves, unless a hook blocks.
        let end = Instant::now() + settings.plugin.start_timeout + START_SLACK;
        let waits = (0..settings.smtp.threads as usize).collect();
        Renewal { found, fresh: fresh.into(), answer, waits, end }
    }
}

/// Plugins on their way out.
#[derive(Debug)]
pub(super) struct Departures<P = PluginIndex> {
    /// With the workers that have left each.
    left: HashMap<P, BTreeSet<usize>>,
    /// Those that were not to be used after all, and that some worker has not left yet.
    abandoned: BTreeSet<P>,
    /// Those that are over. A worker may say so again of what it was told twice to abandon.
    over: BTreeSet<P>,
}

impl<P> Default for Departures<P> {
    fn default() -> Departures<P> {
        let (abandoned, over) = (BTreeSet::new(), BTreeSet::new());
        Departures { left: HashMap::new(), abandoned, over }
    }
}

impl<P: Copy + Ord + Hash> Departures<P> {
    /// These are not to be used after all; all of whom that is true and who are not over.
    fn on_abandoned(&mut self, plugins: &[P]) -> Arc<[P]> {
        self.abandoned.extend(plugins);
        self.abandoned.iter().copied().collect()
    }

    /// A worker has left these; those that all `workers` have left now, in the order of their coming.
    fn on_departed(&mut self, worker: usize, plugins: Vec<P>, workers: usize) -> Vec<P> {
        let mut over = Vec::new();
        for plugin in plugins.into_iter().filter(|plugin| !self.over.contains(plugin)) {
            let left = self.left.entry(plugin).or_default();
            left.insert(worker);
            if left.len() == workers {
                over.push(plugin);
            }
        }
        for plugin in &over {
            self.left.remove(plugin);
            self.abandoned.remove(plugin);
            self.over.insert(*plugin);
        }
        over.sort_unstable();
        over
    }
}

impl Server {
    /// Initialises the plugins that are new; returns them.
    pub(super) fn begin_renewal(
        &mut self,
        found: Found,
    ) -> Result<(Found, Vec<PluginIndex>), String> {
        let plugins = self.host.plugins();
        let (now, set) = (plugins.set(), &found.prepared.set);
        let new = set.plugins().iter().copied().filter(|plugin| !now.contains(*plugin));
        plugins.configure(&new.collect::<Vec<_>>(), &found.own);
        let fresh = plugins.initialize(set);
        fresh.map(|fresh| (found, fresh)).map_err(|error| error.to_string())
    }

    /// Has the workers give them contexts.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        self.renewals += 1;
        let (serial, fresh) = (self.renewals, renewal.fresh.clone());
        let abandoned = self.departures.on_abandoned(&[]);
        let intent = Intent::Renew(serial, fresh, abandoned);
        self.orders.give(Order::Plugins, || Mail::Plugins(intent.clone()));
        self.orders.pass_on();
        self.renewal = Some(renewal);
    }

    /// A worker has something to say while the server runs.
    pub(super) fn on_report(&mut self, report: Report, log: &Log) {
        match report {
            Report::Renewed(worker, serial) if serial == self.renewals => {
                let Some(renewal) = &mut self.renewal else { return };
                renewal.waits.remove(&worker);
                if renewal.waits.is_empty()
                    && let Some(renewal) = self.renewal.take()
                {
                    let Renewal { found, fresh, answer, .. } = renewal;
                    let outcome = self.apply(found, log);
                    if outcome.is_err() {
                        self.abandon(fresh);
                    }
                    self.end_reload(&answer, outcome, log);
                }
            }
            Report::RenewalFailed(serial, why) if serial == self.renewals => {
                self.fail_renewal(why, log);
            }
            // They were about a reload that has failed meanwhile.
            Report::Renewed(..) | Report::RenewalFailed(..) => {}
            Report::Departed(worker, plugins) => {
                let workers = self.mailboxes.len();
                let over = self.departures.on_departed(worker, plugins, workers);
                self.host.plugins().end(&over);
                for plugin in over {
                    let name = self.host.plugins().name(plugin).unwrap_or("a plugin");
                    let text =
                        format_args!("{name}: an instance that was replaced or removed has ended");
                    log.info("plugin", text);
                }
            }
            Report::Ready(_) | Report::StartFailed(..) | Report::Ended(_) => {}
        }
    }

    /// Looks whether a reload waits for too long.
    pub(super) fn look_at_renewal(&mut self, log: &Log) {
        if self.renewal.as_ref().is_some_and(|renewal| Instant::now() >= renewal.end) {
            let why = self.blocker();
            self.fail_renewal(why, log);
        }
    }

    fn fail_renewal(&mut self, why: String, log: &Log) {
        if let Some(Renewal { fresh, answer, .. }) = self.renewal.take() {
            self.abandon(fresh);
            self.end_reload(&answer, Err(why), log);
        }
    }

    fn abandon(&mut self, fresh: Arc<[PluginIndex]>) {
        let abandoned = self.departures.on_abandoned(&fresh);
        let intent = Intent::Abandon(abandoned);
        self.orders.give(Order::Plugins, || Mail::Plugins(intent.clone()));
        self.orders.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_over_when_every_worker_has_left_it() {
        let mut departures = Departures::default();
        assert_eq!(departures.on_departed(0, vec!["a", "b"], 2), [""; 0]);
        assert_eq!(departures.on_departed(1, vec!["b"], 2), ["b"]);
        assert_eq!(departures.on_departed(1, vec!["a"], 2), ["a"]);
        assert!(departures.left.is_empty());
    }

    /// An order may be replaced before a worker has taken it, so each names all of them.
    #[test]
    fn what_was_abandoned_is_named_until_it_is_over_and_is_over_once() {
        let mut departures = Departures::default();
        assert_eq!(&*departures.on_abandoned(&["a"]), ["a"]);
        assert_eq!(departures.on_departed(0, vec!["a"], 2), [""; 0]);
        assert_eq!(&*departures.on_abandoned(&["b"]), ["a", "b"]);
        assert_eq!(departures.on_departed(0, vec!["a", "b"], 2), [""; 0], "worker 0 again");
        assert_eq!(departures.on_departed(1, vec!["a", "b"], 2), ["a", "b"]);
        assert_eq!(departures.on_departed(1, vec!["a"], 2), [""; 0]);
        assert_eq!(departures.on_departed(0, vec!["a"], 2), [""; 0], "once");
        assert_eq!(departures.on_abandoned(&[]).len(), 0);
    }
}
