//! What each plugin has and takes, for those who ask: live things, holds and how long they lasted.
//!
//! Owns the numbers. Each worker keeps its own, and puts them here once a second; nothing is counted
//! for this while a hook runs. Must never be waited for by a worker for longer than a copy takes.
//!
//! **Diagnostics**: none; what is shown is a second old at most, and older where a worker has more than
//! a hundred thousand timers.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use rohrpost_abi::{Count, Holdings, Host, PluginIndex, Worker};
use serde_json::{Value, json};

use crate::watchdog::Samples;

/// The upper ends of the buckets of [`HoldTimes`], in milliseconds; above the last is one more.
pub const BOUNDS_MS: [u64; 11] = [1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 60_000, 300_000];

/// How long a plugin held steps, those that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldTimes {
    /// Holds by the first of [`BOUNDS_MS`] that is not below their time; the last is for the rest.
    pub counts: [u64; BOUNDS_MS.len() + 1],
    /// All times together, in milliseconds.
    pub sum_ms: u64,
}

impl HoldTimes {
    /// A hold has ended.
    pub fn add(&mut self, ms: u64) {
        self.counts[BOUNDS_MS.partition_point(|bound| *bound < ms)] += 1;
        self.sum_ms += ms;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn merge(&mut self, other: &HoldTimes) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_ms += other.sum_ms;
    }
}

/// One plugin's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// What it has now.
    pub holdings: Holdings,
    /// How long it held steps.
    pub hold_times: HoldTimes,
}

/// The numbers of all workers. Clones share them.
#[derive(Debug, Clone)]
pub struct Census {
    /// By worker, and within by plugin.
    workers: Arc<[Mutex<Vec<Figures>>]>,
    /// Where plugins spend the workers' time.
    pub samples: Samples,
}

impl Census {
    /// For so many workers, all zero.
    pub fn new(workers: usize) -> Census {
        let workers = (0..workers).map(|_| Mutex::default()).collect();
        Census { workers, samples: Samples::default() }
    }

    /// Puts a worker's numbers in the place of those before, and takes these back for the next time.
    pub fn put(&self, worker: usize, figures: &mut Vec<Figures>) {
        let mut own = self.workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *own, figures);
    }

    /// One plugin's numbers, added up over the workers.
    pub fn of(&self, plugin: PluginIndex) -> Figures {
        let mut all = Figures::default();
        for worker in &*self.workers {
            let worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(own) = worker.get(plugin.index()) else { continue };
            all.holdings.timers += own.holdings.timers;
            all.holdings.watches += own.holdings.watches;
            all.holdings.holds += own.holdings.holds;
            all.holdings.connections += own.holdings.connections;
            all.hold_times.merge(&own.hold_times);
        }
        all
    }

    /// All plugins in the order of their loading, as the status shows them.
    pub fn report(&self, host: &Host) -> Value {
        let plugins = host.plugins();
        let set = plugins.set();
        let rows = set.plugins().iter().map(|plugin| {
            let Figures { holdings, hold_times } = self.of(*plugin);
            let Holdings { timers, watches, holds, connections } = holdings;
            json!({
                "name": plugins.name(*plugin),
                "timers": timers,
                "watches": watches,
                "holds": holds,
                "connections": connections,
                "misuses": host.misuses(*plugin),
                "hold_ms": buckets(&hold_times),
                "hold_ms_sum": hold_times.sum_ms,
                "busy": self.places(*plugin),
            })
        });
        rows.collect()
    }

    /// Where the plugin was found at work.
    fn places(&self, plugin: PluginIndex) -> Value {
        let places = self.samples.of(plugin).into_iter().map(|(site, sampled)| {
            json!({
                "in": site.to_string(),
                "about_ms": sampled.busy_us / 1000,
                "longest_ms": sampled.longest_ms,
            })
        });
        places.collect()
    }
}

/// What one worker has counted.
#[derive(Debug)]
pub struct Tally {
    census: Census,
    worker: usize,
    /// By plugin.
    hold_times: RefCell<Vec<HoldTimes>>,
    holdings: Vec<Holdings>,
    count: Count,
    figures: Vec<Figures>,
}

impl Tally {
    /// For the worker of this index.
    pub fn new(census: Census, worker: usize) -> Tally {
        Tally {
            census,
            worker,
            hold_times: RefCell::default(),
            holdings: Vec::new(),
            count: Count::default(),
            figures: Vec::new(),
        }
    }

    /// A hold of `plugin` has ended.
    pub fn on_hold_over(&self, plugin: PluginIndex, ms: u64) {
        let mut all = self.hold_times.borrow_mut();
        if all.len() <= plugin.index() {
            all.resize(plugin.index() + 1, HoldTimes::default());
        }
        all[plugin.index()].add(ms);
    }

    /// Looks at what is there, and puts all numbers where they can be seen. Once a second.
    pub fn publish(&mut self, cell: &Worker) {
        if let Some(holdings) = cell.count(&mut self.count) {
            self.holdings = holdings;
        }
        let hold_times = self.hold_times.borrow();
        let plugins = hold_times.len().max(self.holdings.len());
        let of = |plugin: usize| Figures {
            holdings: self.holdings.get(plugin).copied().unwrap_or_default(),
            hold_times: hold_times.get(plugin).copied().unwrap_or_default(),
        };
        self.figures.clear();
        self.figures.extend((0..plugins).map(of));
        self.census.put(self.worker, &mut self.figures);
    }
}

/// Buckets that are not empty, by their upper end.
fn buckets(times: &HoldTimes) -> Value {
    let ends = BOUNDS_MS.iter().map(u64::to_string).chain(["more".to_owned()]);
    let taken = ends.zip(times.counts).filter(|(_, count)| *count > 0);
    taken.map(|(end, count)| (end, Value::from(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_counts_in_the_first_bucket_that_holds_it() {
        let mut times = HoldTimes::default();
        for ms in [0, 1, 2, 5, 300_000, 300_001] {
            times.add(ms);
        }
        assert_eq!((times.count(), times.sum_ms), (6, 600_009));
        assert_eq!(buckets(&times), json!({"1": 2, "5": 2, "300000": 1, "more": 1}));
    }

    #[test]
    fn numbers_run_over_the_workers_and_the_newest_count() {
        let census = Census::new(2);
        let figures = |timers| {
            let mut hold_times = HoldTimes::default();
            hold_times.add(7);
            Figures { holdings: Holdings { timers, ..Holdings::default() }, hold_times }
        };
        census.put(0, &mut vec![figures(9)]);
        census.put(0, &mut vec![figures(1)]);
        census.put(1, &mut vec![figures(2), figures(5)]);
        let all = census.of(PluginIndex::FIRST);
        assert_eq!((all.holdings.timers, all.hold_times.count()), (3, 2));
    }
}
