//! The status report: one JSON object, and what each of its fields means.
//!
//! Owns the meanings; the man page, the README and `rohrpost status --table` show them. Must never:
//! measure anything itself.
//!
//! **Diagnostics**: none; a test proves that no field is without a meaning and no meaning without
//! a field.

use serde_json::{Value, json};

use crate::metrics::{Metrics, Number};
use crate::queue::Status;

/// The report of a running server. `mode` is `open` or `draining`.
/// `plugins` is what [`Census::report`](crate::plugin::census::Census::report) says.
pub fn report(mode: &str, log: &Status, metrics: &Metrics, plugins: Value) -> Value {
    let mut report = json!({
        "pid": std::process::id(),
        "mode": mode,
        "version": env!("CARGO_PKG_VERSION"),
        "settles_unwritten": log.settles_unsynced,
        "queue": log,
        "live_bytes": crate::memory::live_bytes(),
        "allocations": crate::memory::allocations(),
        "plugins": plugins,
    });
    for (name, value) in metrics.report() {
        report[name] = value.into();
    }
    report
}

/// A field of the report: its name, `queue.` before it where it is inside that object, and what it
/// means.
pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    let numbers = Number::ALL.iter().map(|number| (number.name(), number.meaning()));
    SERVER.iter().copied().chain(numbers).chain(QUEUE.iter().copied())
}

/// What concerns the process.
const SERVER: &[(&str, &str)] = &[
    ("pid", "The server's process."),
    ("version", "Its version."),
    ("mode", "`open`, or `draining` after `rohrpost drain`."),
    ("settles_unwritten", "Mails that would be delivered twice if the process were killed now."),
    (
        "plugins",
        "For each plugin: `name`; what it has now: `timers`, `watches`, `holds`, `connections` that it keeps data for; `misuses` of the interface; `hold_ms`, its holds that ended by their time, and `hold_ms_sum`; `busy`, where it was found at work, by looking every 10 ms. At most a second old.",
    ),
    ("live_bytes", "Heap octets in use, in a build for tests; null otherwise."),
    ("allocations", "Heap allocations so far, in a build for tests; null otherwise."),
];

/// What concerns the log on disk; the fields of [`Status`].
const QUEUE: &[(&str, &str)] = &[
    (
        "queue.accepting",
        "`yes`; `full` while the disk is, and mail is answered 452; `failed` after the disk failed, and mail is answered 451.",
    ),
    ("queue.delivering", "False while the disk is away and no more outcomes can be remembered."),
    (
        "queue.recovering",
        "True while mail from before the start is still being read: it is neither delivered nor listed, and in no other figure, until then.",
    ),
    ("queue.settles_unsynced", "The same as settles_unwritten."),
    ("queue.transactions", "Messages held; a mail is one recipient of a message."),
    ("queue.segments", "Files of the log."),
    ("queue.total_bytes", "Octets in them."),
    ("queue.live_bytes", "Of these, octets of messages that are still held."),
    ("queue.damaged", "Damaged places found in the log; look at the disk if there are any."),
    ("queue.commits", "Batches written since the start."),
    (
        "queue.syncs",
        "Syncs since the start; accepted divided by syncs is what a sync is shared by.",
    ),
    ("queue.accepted", "Messages made durable since the start."),
    ("queue.refused", "Messages refused since the start, for want of space or a disk."),
    ("queue.rewritten", "Messages copied forward since the start, to free the files they were in."),
    ("queue.trouble", "The last failure of the disk as a sentence, or null."),
];

/// The value of a field in a report.
fn value<'a>(report: &'a Value, name: &str) -> &'a Value {
    name.split('.').fold(report, |part, key| &part[key])
}

/// A report for a terminal: one line a field, with what it means.
pub fn table(report: &Value) -> String {
    let shown = |name: &str| match value(report, name) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<_> = fields().map(|(name, meaning)| (name, shown(name), meaning)).collect();
    let name_width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|row| row.1.len()).max().unwrap_or(0).min(VALUE_WIDTH_MAX);
    rows.iter()
        .map(|(name, value, meaning)| {
            format!("{name:name_width$}  {value:>value_width$}  {meaning}\n")
        })
        .collect()
}

/// Longer values move their meaning to the right instead of everybody's.
const VALUE_WIDTH_MAX: usize = 20;

/// The fields as a Markdown table.
pub fn markdown() -> String {
    let rows = fields().map(|(name, meaning)| format!("| `{name}` | {meaning} |\n"));
    format!("| Field | Meaning |\n|---|---|\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::queue::Accepting;

    fn sample() -> Value {
        let log = Status {
            accepting: Accepting::Yes,
            delivering: true,
            recovering: false,
            settles_unsynced: 0,
            transactions: 0,
            segments: 1,
            total_bytes: 0,
            live_bytes: 0,
            damaged: 0,
            commits: 0,
            syncs: 0,
            accepted: 0,
            refused: 0,
            rewritten: 0,
            trouble: None,
        };
        report("open", &log, &Metrics::new(1), json!([]))
    }

    #[test]
    fn every_field_has_a_meaning_and_every_meaning_a_field() {
        let mut found = BTreeSet::new();
        for (name, value) in sample().as_object().unwrap() {
            match value.as_object() {
                Some(inner) => found.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                None => drop(found.insert(name.clone())),
            }
        }
        let told: BTreeSet<String> = fields().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(found, told);
        assert!(fields().all(|(_, meaning)| meaning.ends_with('.')));
    }

    #[test]
    fn the_readme_tells_the_same() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("<!-- status: begin -->").expect("README marks them");
        let (text, _) = rest.split_once("<!-- status: end -->").expect("README marks them");
        assert_eq!(text.trim(), markdown().trim(), "run `rohrpost status --explain`");
    }

    #[test]
    fn the_fields_come_in_the_same_order_each_time() {
        let text = sample().to_string();
        let again: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(again.to_string(), text);
        let keys: Vec<&String> = again.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn a_table_has_a_line_for_each_field() {
        let table = table(&sample());
        assert_eq!(table.lines().count(), fields().count());
        assert!(table.lines().any(|line| line.starts_with("mode ") && line.contains(" open ")));
    }
}
