//! Metrics of plugins: numbers that any thread of a plugin may change, and that whoever watches the server
//! reads.
//!
//! Changing one is an atomic instruction or a few, without a lock. A metric belongs to the plugin's name
//! and not to an instance of it: what is loaded in its place goes on with the same numbers, or gives the
//! name another meaning. Owns them for good, and their bounds. Must never call a plugin.
//!
//! Diagnostics: [`Misuse`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::misuse::Misuse;
use crate::plugin::PluginIndex;

/// How many metrics all plugins of a process can have.
pub const METRICS_MAX: usize = 4_096;
/// How many metrics one plugin can have. The header's number.
pub const PLUGIN_METRICS_MAX: usize = 256;
/// How many places all instances of one plugin can take of [`METRICS_MAX`], which no metric gives back: room
/// for those that later ones replace. The header's number.
const PLUGIN_PLACES_MAX: usize = 2 * PLUGIN_METRICS_MAX;
/// How many buckets a histogram can have, besides that for all the rest. The header's number.
pub const BUCKETS_MAX: usize = 64;
/// How long the name of a metric may be. The header's number.
const NAME_BYTES_MAX: usize = 64;
/// How much of a help text is kept.
const HELP_BYTES_MAX: usize = 512;
/// The buckets of a histogram that names none: seconds that a request may take.
const BUCKETS_DEFAULT: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Ends of names that mean something of their own to whoever reads metrics.
const RESERVED_ENDS: [&str; 6] = ["_total", "_created", "_bucket", "_sum", "_count", "_info"];

/// What a metric counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// What only grows.
    Counter,
    /// What moves.
    Gauge,
    /// How often values up to each of these bounds came.
    Histogram(Box<[f64]>),
}

impl Shape {
    /// A histogram with these bounds, or the usual ones if there are none.
    pub(crate) fn histogram(bounds: &[f64]) -> Result<Shape, Misuse> {
        let bounds = if bounds.is_empty() { &BUCKETS_DEFAULT } else { bounds };
        if bounds.len() > BUCKETS_MAX {
            return Err(Misuse::Argument("a histogram has at most 64 buckets"));
        }
        let rise = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !rise || !bounds.iter().all(|bound| bound.is_finite()) {
            return Err(Misuse::Argument("buckets must be finite, each above the one before"));
        }
        Ok(Shape::Histogram(bounds.into()))
    }
}

/// A number with a fraction.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn add(&self, amount: f64) {
        let sum = |bits| Some((f64::from_bits(bits) + amount).to_bits());
        let added = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        debug_assert!(added.is_ok(), "a sum is always some number");
    }
}

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    plugin: String,
    name: String,
    family: String,
    help: String,
    shape: Shape,
    /// The value, or the sum of all values.
    number: Number,
    /// Of a histogram: how many values were in each bucket, the last of which is for the rest.
    counts: Box<[AtomicU64]>,
}

impl Metric {
    fn new(plugin: &str, name: &str, family: &str, help: &str, shape: Shape) -> Metric {
        let buckets = match &shape {
            Shape::Histogram(bounds) => bounds.len() + 1,
            Shape::Counter | Shape::Gauge => 0,
        };
        Metric {
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            family: family.to_owned(),
            help: one_line(help),
            shape,
            number: Number::default(),
            counts: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Adds to a counter or a gauge.
    pub(crate) fn add(&self, amount: f64) -> Result<(), Misuse> {
        match self.shape {
            _ if !amount.is_finite() => Err(Misuse::Argument("the number is not finite")),
            Shape::Counter if amount < 0.0 => Err(Misuse::Argument("a counter only grows")),
            Shape::Counter | Shape::Gauge => {
                self.number.add(amount);
                Ok(())
            }
            Shape::Histogram(_) => Err(Misuse::Argument("this is a histogram; use MQX_observe")),
        }
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, value: f64) -> Result<(), Misuse> {
        match self.shape {
            _ if !value.is_finite() => Err(Misuse::Argument("the number is not finite")),
            Shape::Gauge => {
                self.number.set(value);
                Ok(())
            }
            Shape::Counter => Err(Misuse::Argument("this is a counter; use MQX_add")),
            Shape::Histogram(_) => Err(Misuse::Argument("this is a histogram; use MQX_observe")),
        }
    }

    /// Counts a value in a histogram.
    pub(crate) fn observe(&self, value: f64) -> Result<(), Misuse> {
        match &self.shape {
            _ if !value.is_finite() => Err(Misuse::Argument("the number is not finite")),
            Shape::Histogram(bounds) => {
                let bucket = bounds.partition_point(|bound| *bound < value);
                self.counts[bucket].fetch_add(1, Ordering::Relaxed);
                self.number.add(value);
                Ok(())
            }
            Shape::Counter | Shape::Gauge => {
                Err(Misuse::Argument("this is no histogram; use MQX_add or MQX_set"))
            }
        }
    }

    fn reading(&self) -> Reading {
        match &self.shape {
            Shape::Counter => Reading::Counter(self.number.value()),
            Shape::Gauge => Reading::Gauge(self.number.value()),
            Shape::Histogram(bounds) => {
                let bounds = bounds.iter().copied().chain([f64::MAX]);
                let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
                let buckets = bounds.zip(counts).collect();
                Reading::Histogram { sum: self.number.value(), buckets }
            }
        }
    }
}

/// What a metric says now.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// It only grows.
    Counter(f64),
    /// It moves.
    Gauge(f64),
    /// Values by their size.
    Histogram {
        /// All values together.
        sum: f64,
        /// How many values came up to each bound and above the one before; the last bound is the
        /// largest number that there is.
        buckets: Vec<(f64, u64)>,
    },
}

/// A metric of a plugin as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginMetric {
    /// The name under which it is known: that of the plugin and its own, in letters, digits and `_`.
    pub family: String,
    /// What it says, in the plugin's words.
    pub help: String,
    /// The numbers.
    pub reading: Reading,
}

/// All metrics of all plugins.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    table: OnceLock<Box<[OnceLock<&'static Metric>]>>,
    taken: AtomicUsize,
    /// Those that are shown, by family.
    shown: Mutex<BTreeMap<String, Shown>>,
}

/// A metric that is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    place: usize,
    /// The latest instance that declared it: only one after it may mean something else by the name. So
    /// each takes a place for a name once, and what one means is not undone by those that it replaced.
    by: PluginIndex,
}

impl Registry {
    /// The metric of the plugin called `plugin` with this name, for its instance `by`: the one that there
    /// is, or a new one. Returns its place.
    pub(crate) fn declare(
        &self,
        by: PluginIndex,
        plugin: &str,
        name: &str,
        help: &str,
        shape: Shape,
    ) -> Result<usize, Misuse> {
        let name = checked_name(name, &shape)?;
        let family = family(plugin, name);
        let shown = &mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shown.get_mut(&family) {
            let there = self.metric(known.place).ok_or(SPENT)?;
            if there.plugin != plugin || there.name != name {
                return Err(Misuse::Argument("another plugin has a metric of that name"));
            }
            if there.shape == shape {
                known.by = known.by.max(by);
                return Ok(known.place);
            }
            if by <= known.by {
                return Err(OTHER_SHAPE);
            }
            // A later build means something else by it. The old one is shown no more.
        }
        let names = sample_names(&family, &shape);
        let others = || {
            let others = shown.iter().filter(|(name, _)| **name != family);
            others.filter_map(|(_, shown)| self.metric(shown.place))
        };
        if others().any(|other| {
            let taken = sample_names(&other.family, &other.shape);
            taken.iter().any(|name| names.contains(name))
        }) {
            return Err(Misuse::Argument("another metric has numbers of that name"));
        }
        if others().filter(|other| other.plugin == plugin).count() >= PLUGIN_METRICS_MAX {
            return Err(Misuse::Argument("a plugin has at most 256 metrics"));
        }
        let metric = Metric::new(plugin, name, &family, help, shape);
        let place = self.add(metric)?;
        shown.insert(family, Shown { place, by });
        Ok(place)
    }

    /// With [`shown`](Registry::shown) held. Kept for good: a plugin may have it as long as it likes.
    fn add(&self, metric: Metric) -> Result<usize, Misuse> {
        let place = self.taken.load(Ordering::Relaxed);
        let ever = (0..place).filter_map(|place| self.metric(place));
        if ever.filter(|other| other.plugin == metric.plugin).count() >= PLUGIN_PLACES_MAX {
            return Err(Misuse::Argument(
                "all instances of a plugin have at most 512 metrics, those that were replaced included",
            ));
        }
        let table = self.table.get_or_init(|| (0..METRICS_MAX).map(|_| OnceLock::new()).collect());
        let free = table.get(place).ok_or(SPENT)?;
        let taken = free.set(Box::leak(Box::new(metric))).is_ok();
        assert!(taken, "places are taken one after the other, under the lock");
        self.taken.store(place + 1, Ordering::Relaxed);
        Ok(place)
    }

    pub(crate) fn metric(&self, place: usize) -> Option<&'static Metric> {
        self.table.get()?.get(place)?.get().copied()
    }

    /// All that are shown, by family.
    pub(crate) fn read(&self) -> Vec<PluginMetric> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = shown.values().filter_map(|shown| self.metric(shown.place));
        let read = metrics.map(|metric| PluginMetric {
            family: metric.family.clone(),
            help: metric.help.clone(),
            reading: metric.reading(),
        });
        read.collect()
    }
}

const OTHER_SHAPE: Misuse = Misuse::Argument(
    "the plugin has a metric of that name which is of another kind or has other buckets; only a later \
     build of it can replace it",
);
const SPENT: Misuse =
    Misuse::Argument("plugins of this process have 4,096 metrics, which is the limit");

/// What Prometheus takes for the name of a metric, without what it adds itself.
fn checked_name<'a>(name: &'a str, shape: &Shape) -> Result<&'a str, Misuse> {
    let name = match shape {
        // As authors are used to write it.
        Shape::Counter => name.strip_suffix("_total").unwrap_or(name),
        Shape::Gauge | Shape::Histogram(_) => name,
    };
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !begins || !goes_on || name.len() > NAME_BYTES_MAX {
        return Err(Misuse::Argument(
            "a metric's name has 1 to 64 letters, digits and `_`, and begins with no digit",
        ));
    }
    if RESERVED_ENDS.iter().any(|end| name.ends_with(end)) {
        return Err(Misuse::Argument(
            "a metric's name must not end in _total, _created, _bucket, _sum, _count or _info",
        ));
    }
    Ok(name)
}

/// The plugin's name and the metric's.
fn family(plugin: &str, name: &str) -> String {
    let plugin: String =
        plugin.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{plugin}_{name}")
}

/// Under which names whoever reads metrics finds this one and its numbers.
fn sample_names(family: &str, shape: &Shape) -> Vec<String> {
    let ends: &[&str] = match shape {
        Shape::Counter => &["", "_total"],
        Shape::Gauge => &[""],
        Shape::Histogram(_) => &["", "_bucket", "_sum", "_count"],
    };
    ends.iter().map(|end| format!("{family}{end}")).collect()
}

/// One line of a bounded length.
fn one_line(help: &str) -> String {
    let end = (0..=help.len().min(HELP_BYTES_MAX)).rev().find(|end| help.is_char_boundary(*end));
    let help = &help[..end.unwrap_or(0)];
    help.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(index: u16) -> PluginIndex {
        PluginIndex::from_bits(index)
    }

    fn declared(registry: &Registry, name: &str, shape: Shape) -> &'static Metric {
        let place = declare(registry, "10-a", name, shape).expect("there is room");
        registry.metric(place).expect("it was declared")
    }

    fn declare(
        registry: &Registry,
        plugin: &str,
        name: &str,
        shape: Shape,
    ) -> Result<usize, Misuse> {
        registry.declare(instance(0), plugin, name, "help", shape)
    }

    #[test]
    fn a_counter_grows_a_gauge_moves_and_a_histogram_sorts() {
        let registry = Registry::default();
        let counter = declared(&registry, "seen_total", Shape::Counter);
        counter.add(1.0).expect("it grows");
        counter.add(1.5).expect("it grows");
        assert!(counter.add(-1.0).is_err() && counter.set(1.0).is_err());
        assert!(counter.add(f64::NAN).is_err() && counter.observe(1.0).is_err());
        let gauge = declared(&registry, "depth", Shape::Gauge);
        gauge.set(7.0).expect("it moves");
        gauge.add(-2.0).expect("it moves");
        let shape = Shape::histogram(&[1.0, 2.0]).expect("bounds that rise");
        let histogram = declared(&registry, "took_seconds", shape);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value).expect("it sorts");
        }
        assert!(histogram.add(1.0).is_err() && histogram.observe(f64::INFINITY).is_err());
        let read = registry.read();
        let read: Vec<_> = read.iter().map(|one| (&*one.family, &one.reading)).collect();
        let buckets = vec![(1.0, 2), (2.0, 1), (f64::MAX, 1)];
        assert_eq!(
            read,
            [
                ("10_a_depth", &Reading::Gauge(5.0)),
                ("10_a_seen", &Reading::Counter(2.5)),
                ("10_a_took_seconds", &Reading::Histogram { sum: 12.0, buckets }),
            ]
        );
    }

    #[test]
    fn a_name_means_one_metric_of_one_plugin() {
        let registry = Registry::default();
        let first = declared(&registry, "x_y", Shape::Counter);
        assert!(std::ptr::eq(first, declared(&registry, "x_y_total", Shape::Counter)));
        let other = declare(&registry, "10-a-x", "y", Shape::Counter);
        assert!(other.is_err(), "it would have the same family");
    }

    #[test]
    fn only_a_later_instance_gives_a_name_another_shape() {
        let registry = Registry::default();
        let declare =
            |by, shape| registry.declare(instance(by), "a", "x", "", shape).map_err(|_| "refused");
        let histogram = |bound| Shape::histogram(&[bound]).expect("one bound rises");
        let first = declare(3, Shape::Counter).expect("there is room");
        for shape in [Shape::Gauge, histogram(1.0)] {
            assert_eq!(declare(3, shape.clone()), Err("refused"), "the one that has it");
            assert_eq!(declare(2, shape), Err("refused"), "one that was before it");
        }
        let second = declare(4, histogram(1.0)).expect("a later build means something else");
        assert_ne!(first, second);
        assert_eq!(declare(4, histogram(2.0)), Err("refused"));
        assert_eq!(declare(3, Shape::Counter), Err("refused"), "it is shown no more");
        assert_eq!(declare(6, histogram(1.0)), Ok(second));
        assert_eq!(declare(5, Shape::Gauge), Err("refused"));
        registry.metric(first).expect("it stays").add(1.0).expect("who has it may go on");
        registry.metric(second).expect("it stays").observe(0.5).expect("it sorts");
        let read = registry.read();
        let buckets = vec![(1.0, 1), (f64::MAX, 0)];
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].reading, Reading::Histogram { sum: 0.5, buckets });
    }

    #[test]
    fn a_plugin_that_changes_its_mind_with_every_instance_takes_nothing_from_others() {
        let registry = Registry::default();
        let declare = |by, n: usize, shape| {
            registry.declare(instance(by), "a", &format!("n{n}"), "", shape).is_ok()
        };
        let shape = |by| if by % 2 == 0 { Shape::Gauge } else { Shape::Counter };
        let instances = (PLUGIN_PLACES_MAX / PLUGIN_METRICS_MAX) as u16;
        for by in 0..instances {
            let all = (0..PLUGIN_METRICS_MAX).all(|n| declare(by, n, shape(by)));
            assert!(all, "instance {by}: what it replaces does not count");
            assert!(!declare(by, PLUGIN_METRICS_MAX, shape(by)), "a plugin has so many");
        }
        assert!(!declare(instances, 7, shape(instances)), "and had so many");
        assert!(declare(instances, 7, shape(instances - 1)), "which it keeps");
        assert!(registry.declare(instance(0), "b", "n", "", Shape::Gauge).is_ok());
        assert_eq!(registry.read().len(), PLUGIN_METRICS_MAX + 1);
    }

    #[test]
    fn numbers_of_one_metric_have_no_name_of_another_plugins() {
        let histogram = || Shape::histogram(&[1.0]).expect("bounds that rise");
        for own in ["count", "sum", "bucket"] {
            let registry = Registry::default();
            declare(&registry, "a", "x", histogram()).expect("there is room");
            assert!(declare(&registry, "a-x", own, Shape::Gauge).is_err(), "{own}");
            assert!(declare(&registry, "a-x", "other", Shape::Gauge).is_ok());
            let registry = Registry::default();
            declare(&registry, "a-x", own, Shape::Gauge).expect("there is room");
            assert!(declare(&registry, "a", "x", histogram()).is_err(), "{own}");
            assert!(declare(&registry, "a", "x", Shape::Gauge).is_ok(), "a gauge has one");
        }
    }

    #[test]
    fn names_and_buckets_that_nobody_could_read_are_refused() {
        let registry = Registry::default();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "9x", "a-b", "ä", "x_sum", "x_bucket", &long, "_total"] {
            assert!(declare(&registry, "a", name, Shape::Counter).is_err(), "{name}");
        }
        assert!(declare(&registry, "a", "x_total", Shape::Gauge).is_err());
        for bounds in [&[1.0, 1.0][..], &[2.0, 1.0], &[f64::NAN], &[1.0, f64::INFINITY], &[0.0; 65]]
        {
            assert!(Shape::histogram(bounds).is_err(), "{bounds:?}");
        }
        assert_eq!(one_line("two\nlines"), "two lines");
        assert_eq!(one_line(&"ä".repeat(HELP_BYTES_MAX)).len(), HELP_BYTES_MAX);
    }

    #[test]
    fn a_plugin_has_a_bounded_number() {
        let registry = Registry::default();
        for n in 0..PLUGIN_METRICS_MAX {
            declare(&registry, "a", &format!("n{n}"), Shape::Gauge).expect("there is room");
        }
        assert!(declare(&registry, "a", "more", Shape::Gauge).is_err());
        assert!(declare(&registry, "a", "n7", Shape::Gauge).is_ok());
        assert!(declare(&registry, "b", "more", Shape::Gauge).is_ok());
    }

    #[test]
    fn threads_lose_nothing() {
        let registry = Registry::default();
        let counter = declared(&registry, "x", Shape::Counter);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.add(0.5).expect("it grows")));
            }
        });
        assert_eq!(registry.read()[0].reading, Reading::Counter(20_000.0));
    }
}
