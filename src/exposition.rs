//! All numbers of the server for those who scrape them: Prometheus, in its text format or in OpenMetrics.
//!
//! Owns the names, units and kinds under which numbers are shown. What the server counts is
//! `rohrpost_…`, what it counts about each plugin `rohrpost_plugins_…` with the file name as a label, and what
//! a plugin counts itself `rohrpost_plugin_NAME_…`. Must never hold a number of its own, nor wait for a
//! worker.
//!
//! **Diagnostics**: none.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use rohrpost_abi::{Host, PluginMetric, Reading};

use crate::metrics::{Metrics, Number};
use crate::plugin::census::{BOUNDS_MS, Census, Figures};
use crate::queue::{Accepting, Queue, Status};

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus's own, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.
    OpenMetrics,
}

impl Form {
    /// What a client that sent this `Accept` wants.
    pub fn wanted(accept: &str) -> Form {
        match accept.contains("application/openmetrics-text") {
            true => Form::OpenMetrics,
            false => Form::Prometheus,
        }
    }

    /// The `Content-Type` of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Where the numbers are.
pub struct Exposition {
    metrics: Arc<Metrics>,
    queue: Arc<dyn Queue>,
    census: Census,
    host: &'static Host,
    started_s: f64,
}

impl Exposition {
    /// Of a server that starts now.
    pub fn new(
        metrics: Arc<Metrics>,
        queue: Arc<dyn Queue>,
        census: Census,
        host: &'static Host,
    ) -> Exposition {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Exposition { metrics, queue, census, host, started_s: now.as_secs_f64() }
    }

    /// All numbers as they are now.
    pub fn render(&self, form: Form) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.snapshot()));
        let mut text = String::new();
        // Writing to a string cannot fail, and names are the same each time.
        let written = text::encode(&mut text, &registry);
        debug_assert!(written.is_ok(), "every family can be encoded");
        match form {
            Form::OpenMetrics => text,
            Form::Prometheus => plain(&text),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let numbers = Number::ALL.iter().map(|number| (*number, self.metrics.sum(*number)));
        Snapshot {
            numbers: numbers.collect(),
            queue: self.queue.status(),
            plugins: self.plugins(),
            own: self.host.plugin_metrics(),
            started_s: self.started_s,
        }
    }

    /// By file name: what is loaded in the place of another goes on with its numbers.
    fn plugins(&self) -> BTreeMap<&'static str, About> {
        let mut all: BTreeMap<&'static str, About> = BTreeMap::new();
        let plugins = self.host.plugins();
        for plugin in plugins.indexes() {
            let about = all.entry(plugins.name(plugin).unwrap_or("unknown")).or_default();
            about.instances += 1;
            about.misuses += self.host.misuses(plugin);
            let Figures { holdings, hold_times } = self.census.of(plugin);
            about.timers += holdings.timers;
            about.watches += holdings.watches;
            about.holds += holdings.holds;
            about.connections += holdings.connections;
            for (sum, count) in about.hold_counts.iter_mut().zip(hold_times.counts) {
                *sum += count;
            }
            about.hold_ms += hold_times.sum_ms;
            for (site, sampled) in self.census.samples.of(plugin) {
                *about.busy_us.entry(site.to_string()).or_default() += sampled.busy_us;
            }
        }
        all
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

/// One plugin's numbers, over all of its instances.
#[derive(Debug, Default)]
struct About {
    instances: u64,
    misuses: u64,
    timers: u64,
    watches: u64,
    holds: u64,
    connections: u64,
    hold_counts: [u64; BOUNDS_MS.len() + 1],
    hold_ms: u64,
    busy_us: BTreeMap<String, u64>,
}

/// The numbers of one moment.
#[derive(Debug)]
struct Snapshot {
    numbers: Vec<(Number, u64)>,
    queue: Status,
    plugins: BTreeMap<&'static str, About>,
    own: Vec<PluginMetric>,
    started_s: f64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut Out(&mut encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.family("rohrpost_build_info", "The version that runs.", MetricType::Gauge, |metric| {
            metric.encode_family(&version)?.encode_gauge(&1_u64)
        })?;
        let help = "Unix time of the start, in seconds.";
        out.gauge("rohrpost_start_time_seconds", help, self.started_s)?;
        for (number, value) in &self.numbers {
            let (name, is_gauge) = shown(*number);
            let help = number.meaning().trim_start_matches("Gauge: ");
            match is_gauge {
                true => out.gauge(name, help, *value as f64)?,
                false => out.counter(name, help, *value as f64)?,
            }
        }
        self.encode_queue(out)?;
        self.encode_plugins(out)?;
        self.own.iter().try_for_each(|metric| encode_own(metric, out))
    }
}

impl Snapshot {
    fn encode_queue(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let queue = &self.queue;
        let accepting = u8::from(queue.accepting == Accepting::Yes);
        let delivering = u8::from(queue.delivering);
        let recovering = u8::from(queue.recovering);
        for (name, help, value) in [
            (
                "accepting",
                "1 while mail is taken, 0 while the disk keeps from it.",
                accepting.into(),
            ),
            ("delivering", "1 while outcomes can be remembered.", delivering.into()),
            (
                "recovering",
                "1 while mail from before the start is read: it is in no other figure until then.",
                recovering.into(),
            ),
            (
                "unsynced_settles",
                "Mails that a crash now would send twice.",
                queue.settles_unsynced,
            ),
            ("transactions", "Messages held, one for all of its recipients.", queue.transactions),
            ("segments", "Files of the log.", queue.segments),
            ("size_bytes", "Octets in the files of the log.", queue.total_bytes),
            ("live_bytes", "Of these, octets of messages that are held.", queue.live_bytes),
            ("damages", "Damaged places found in the log.", queue.damaged),
        ] {
            out.gauge(&format!("rohrpost_queue_{name}"), help, value as f64)?;
        }
        for (name, help, value) in [
            ("commits", "Batches written.", queue.commits),
            ("syncs", "Syncs of the log to the disk.", queue.syncs),
            ("accepted_messages", "Messages made durable.", queue.accepted),
            ("refused_messages", "Messages refused for want of space or a disk.", queue.refused),
            ("rewritten_messages", "Messages copied forward to free their files.", queue.rewritten),
        ] {
            out.counter(&format!("rohrpost_queue_{name}"), help, value as f64)?;
        }
        Ok(())
    }

    fn encode_plugins(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        type Look = fn(&About) -> u64;
        let gauges: [(&str, &str, Look); 5] = [
            ("instances", "Instances loaded since the start; reloads make more.", |a| a.instances),
            ("timers", "Timers of plugins that have not fired.", |a| a.timers),
            ("watches", "Descriptors that plugins watch.", |a| a.watches),
            ("holds", "Steps that plugins hold.", |a| a.holds),
            ("connections", "Connections that plugins keep data for.", |a| a.connections),
        ];
        for (name, help, look) in gauges {
            self.each(out, name, help, MetricType::Gauge, |metric, about| {
                metric.encode_gauge(&(look(about) as f64))
            })?;
        }
        let help = "Calls of plugins that were refused or ignored.";
        self.each(out, "misuses", help, MetricType::Counter, |metric, about| {
            metric.encode_counter::<NoLabelSet, f64, f64>(&(about.misuses as f64), None)
        })?;
        let help = "How long plugins held steps that were handed back or taken from them.";
        self.each(out, "hold_seconds", help, MetricType::Histogram, |metric, about| {
            let ends = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(about.hold_counts).collect();
            let count = about.hold_counts.iter().sum();
            metric.encode_histogram::<NoLabelSet>(about.hold_ms as f64 / 1e3, count, &buckets, None)
        })?;
        let help = "Time that workers were seen in plugin code, by looks every 10 ms.";
        let name = "rohrpost_plugins_busy_seconds";
        out.family(name, help, MetricType::Counter, |metric| {
            for (plugin, about) in &self.plugins {
                for (place, us) in &about.busy_us {
                    let labels = [("plugin", *plugin), ("place", place.as_str())];
                    let seconds = *us as f64 / 1e6;
                    let mut one = metric.encode_family(&labels)?;
                    one.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
                }
            }
            Ok(())
        })
    }

    /// One family with a number for each plugin.
    fn each(
        &self,
        out: &mut Out<'_, '_>,
        name: &str,
        help: &str,
        kind: MetricType,
        encode: impl Fn(&mut MetricEncoder<'_>, &About) -> fmt::Result,
    ) -> fmt::Result {
        out.family(&format!("rohrpost_plugins_{name}"), help, kind, |metric| {
            self.plugins.iter().try_for_each(|(plugin, about)| {
                encode(&mut metric.encode_family(&[("plugin", *plugin)])?, about)
            })
        })
    }
}

/// What a plugin counts itself.
fn encode_own(metric: &PluginMetric, out: &mut Out<'_, '_>) -> fmt::Result {
    let name = format!("rohrpost_plugin_{}", metric.family);
    match &metric.reading {
        Reading::Counter(value) => out.counter(&name, &metric.help, *value),
        Reading::Gauge(value) => out.gauge(&name, &metric.help, *value),
        Reading::Histogram { sum, buckets } => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            let end = |bound| if bound == f64::MAX { f64::INFINITY } else { bound };
            let buckets: Vec<_> = buckets.iter().map(|(bound, n)| (end(*bound), *n)).collect();
            out.family(&name, &metric.help, MetricType::Histogram, |encoder| {
                encoder.encode_histogram::<NoLabelSet>(*sum, count, &buckets, None)
            })
        }
    }
}

/// Where families go.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let help = if help.is_empty() { "Not described by its plugin." } else { help };
        let help = help.replace('\\', r"\\").replace('"', "\\\"");
        encode(&mut self.0.encode_descriptor(name, &help, None, kind)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |metric| metric.encode_gauge(&value))
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |metric| {
            metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
        })
    }
}

/// The name of a number without what its kind adds, and whether it is a gauge.
fn shown(number: Number) -> (&'static str, bool) {
    match number {
        Number::IncomingConnections => ("rohrpost_incoming_connections", true),
        Number::OutgoingConnections => ("rohrpost_outgoing_connections", true),
        Number::Destinations => ("rohrpost_destinations", true),
        Number::Held => ("rohrpost_held_steps", true),
        Number::Queued => ("rohrpost_queued_mails", true),
        Number::Failed => ("rohrpost_failed_mails", true),
        Number::UnderWay => ("rohrpost_mails_under_way", true),
        Number::Committing => ("rohrpost_committing_transactions", true),
        Number::MemoryUsed => ("rohrpost_mail_memory_bytes", true),
        Number::Settling => ("rohrpost_settling_attempts", true),
        Number::Connected => ("rohrpost_connections_accepted", false),
        Number::Turned => ("rohrpost_connections_turned_away", false),
        Number::Accepted => ("rohrpost_mails_accepted", false),
        Number::Discarded => ("rohrpost_mails_discarded", false),
        Number::Refused => ("rohrpost_commands_refused", false),
        Number::Delivered => ("rohrpost_mails_delivered", false),
        Number::Retried => ("rohrpost_attempts_failed", false),
        Number::Bounced => ("rohrpost_mails_failed", false),
        Number::Aged => ("rohrpost_mails_aged_out", false),
        Number::Notices => ("rohrpost_notices", false),
        Number::Results => ("rohrpost_results", false),
        Number::Revoked => ("rohrpost_plugins_holds_revoked", false),
        Number::LoggedIn => ("rohrpost_logins", false),
        Number::LoginsFailed => ("rohrpost_logins_failed", false),
        Number::PasswordsHashed => ("rohrpost_passwords_hashed", false),
        Number::Turns => ("rohrpost_worker_turns", false),
    }
}

/// The older format: a counter's family has the name of its sample, and the end is not marked.
fn plain(text: &str) -> String {
    let mut counters: Vec<&str> = Vec::new();
    for line in text.lines() {
        let name = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"));
        counters.extend(name);
    }
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                out.push_str(&format!("# {what} {name}_total {}\n", rest.replace("\\\"", "\"")));
            }
            (Some("#"), Some("HELP"), ..) => {
                out.push_str(&line.replace("\\\"", "\""));
                out.push('\n');
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name_of_its_own_and_the_kind_that_its_meaning_says() {
        let names: std::collections::BTreeSet<_> =
            Number::ALL.iter().map(|number| shown(*number).0).collect();
        assert_eq!(names.len(), Number::ALL.len());
        for number in Number::ALL {
            let (name, is_gauge) = shown(*number);
            assert_eq!(is_gauge, number.meaning().starts_with("Gauge: "), "{name}");
        }
    }

    #[test]
    fn the_older_format_has_its_counters_whole() {
        let text = "# HELP a_x Some \\\"x\\\".\n# TYPE a_x counter\na_x_total 1\n# HELP b y.\n\
                    # TYPE b gauge\nb 2\n# EOF\n";
        let expected = "# HELP a_x_total Some \"x\".\n# TYPE a_x_total counter\na_x_total 1\n\
                        # HELP b y.\n# TYPE b gauge\nb 2\n";
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn a_client_gets_what_it_asks_for() {
        let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(Form::wanted(scraper), Form::OpenMetrics);
        assert_eq!(Form::wanted("text/html,*/*"), Form::Prometheus);
        assert_eq!(Form::wanted(""), Form::Prometheus);
    }
}
