//! `rohrpost plugin top`: what each plugin has and takes, refreshed every second on a terminal.
//!
//! Must never: ask more of the server than its status.
//!
//! **Diagnostics**: one sentence on stderr, and an exit code of `cli`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{self, PluginTop};
use crate::control::Request;
use crate::program::{ask, complain, locate, say};

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Places of one plugin that are shown, those that take the most first.
const PLACES_MAX: usize = 8;
/// Moves the cursor up and to the left, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What was seen before: milliseconds by plugin and place, and when.
#[derive(Default)]
struct Before {
    busy_ms: HashMap<(String, String), u64>,
    at: Option<Instant>,
}

/// Shows it until it is told to stop, or once.
pub fn run(what: &PluginTop) -> u8 {
    let directory = match locate(what.arguments.clone()) {
        Ok(directory) => directory,
        Err(report) => return complain(report, cli::EXIT_SETTINGS),
    };
    let once = what.once || !std::io::stdout().is_terminal();
    let mut before = Before::default();
    loop {
        let rows = match ask(&directory, &Request::Status) {
            Ok(rows) => rows,
            Err(error) => return complain(error, cli::EXIT_TRY_AGAIN),
        };
        let empty = Vec::new();
        let plugins = rows.first().and_then(|row| row["plugins"].as_array()).unwrap_or(&empty);
        let seen = looked_at(plugins, &mut before, Instant::now());
        if what.json {
            seen.iter().for_each(say);
        } else {
            let clear = if once { "" } else { CLEAR };
            let shown = write!(std::io::stdout(), "{clear}{}", table(&seen));
            if shown.and_then(|()| std::io::stdout().flush()).is_err() {
                // Whoever closed it wants no more.
                return 0;
            }
        }
        if once {
            return 0;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What is shown of each plugin: what the server says, with quantiles and shares of the time since the
/// last look.
fn looked_at(plugins: &[Value], before: &mut Before, now: Instant) -> Vec<Value> {
    let elapsed_ms = before.at.map(|at| (now - at).as_millis().max(1) as f64);
    let mut busy_ms = HashMap::new();
    let rows = plugins.iter().map(|plugin| {
        let name = plugin["name"].as_str().unwrap_or_default();
        let places = plugin["busy"].as_array().into_iter().flatten().map(|busy| {
            let place = busy["in"].as_str().unwrap_or_default();
            let (key, ms) = ((name.to_owned(), place.to_owned()), number(&busy["about_ms"]));
            let more = ms.saturating_sub(before.busy_ms.get(&key).copied().unwrap_or(0));
            busy_ms.insert(key, ms);
            let share = elapsed_ms.map(|elapsed| (more as f64 * 1e3 / elapsed).round() / 10.0);
            json!({
                "in": place,
                "about_ms": ms,
                "longest_ms": busy["longest_ms"],
                "share_percent": share,
            })
        });
        json!({
            "name": name,
            "connections": plugin["connections"],
            "timers": plugin["timers"],
            "watches": plugin["watches"],
            "holds": plugin["holds"],
            "hold_p50_ms": quantile(&plugin["hold_ms"], 0.5),
            "hold_p99_ms": quantile(&plugin["hold_ms"], 0.99),
            "misuses": plugin["misuses"],
            "busy": places.collect::<Vec<_>>(),
        })
    });
    let rows = rows.collect();
    *before = Before { busy_ms, at: Some(now) };
    rows
}

/// The upper end of the bucket in which the quantile lies, as text; nothing where nothing was held.
fn quantile(buckets: &Value, part: f64) -> Value {
    let mut counts: Vec<(u64, u64)> = buckets
        .as_object()
        .into_iter()
        .flatten()
        .map(|(end, count)| (end.parse().unwrap_or(u64::MAX), number(count)))
        .collect();
    counts.sort_unstable();
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let wanted = (all as f64 * part).ceil() as u64;
    let mut sum = 0;
    for (end, count) in counts {
        sum += count;
        if sum >= wanted && sum > 0 {
            return if end == u64::MAX { json!("more") } else { json!(format!("<={end}")) };
        }
    }
    Value::Null
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A terminal's table: a line a plugin, and below it one for each place where it was found at work.
fn table(plugins: &[Value]) -> String {
    let mut text = format!(
        "{:<32} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>7}\n",
        "PLUGIN", "CONNS", "TIMERS", "WATCHES", "HOLDS", "P50 ms", "P99 ms", "MISUSE"
    );
    if plugins.is_empty() {
        text.push_str("no plugins are loaded\n");
    }
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for plugin in plugins {
        let name: String = plugin["name"].as_str().unwrap_or_default().escape_debug().collect();
        let [connections, timers, watches, holds, p50, p99, misuses] =
            ["connections", "timers", "watches", "holds", "hold_p50_ms", "hold_p99_ms", "misuses"]
                .map(|field| cell(&plugin[field]));
        // Writing to a string cannot fail; here and below.
        let _ = writeln!(
            text,
            "{name:<32} {connections:>7} {timers:>7} {watches:>7} {holds:>7} {p50:>8} {p99:>8} {misuses:>7}"
        );
        for busy in plugin["busy"].as_array().into_iter().flatten().take(PLACES_MAX) {
            let place = busy["in"].as_str().unwrap_or_default();
            let share = match busy["share_percent"].as_f64() {
                Some(share) => format!("{share:.1} % of a worker, "),
                None => String::new(),
            };
            let ms = cell(&busy["about_ms"]);
            let longest = match number(&busy["longest_ms"]) {
                0 => String::new(),
                longest => format!(", longest {longest} ms"),
            };
            let _ = writeln!(text, "  {place:<30} {share}about {ms} ms by looks{longest}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(ms: u64) -> Value {
        json!({
            "name": "10-a.so", "connections": 1, "timers": 2, "watches": 3, "holds": 4, "misuses": 5,
            "hold_ms": {"1": 50, "50": 48, "500": 1, "more": 1},
            "busy": [{"in": "mq_smtp_in_data", "about_ms": ms, "longest_ms": 30}],
        })
    }

    #[test]
    fn a_share_is_of_the_time_since_the_last_look() {
        let mut before = Before::default();
        let now = Instant::now();
        let first = looked_at(&[plugin(1_000)], &mut before, now);
        assert_eq!(first[0]["busy"][0]["share_percent"], Value::Null);
        let second = looked_at(&[plugin(1_250)], &mut before, now + Duration::from_secs(1));
        assert_eq!(second[0]["busy"][0]["share_percent"], 25.0);
        let text = table(&second);
        assert!(text.contains("10-a.so") && text.contains("25.0 % of a worker"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let buckets = &plugin(0)["hold_ms"];
        assert_eq!(quantile(buckets, 0.5), json!("<=1"));
        assert_eq!(quantile(buckets, 0.51), json!("<=50"));
        assert_eq!(quantile(buckets, 0.99), json!("<=500"));
        assert_eq!(quantile(buckets, 1.0), json!("more"));
        assert_eq!(quantile(&json!({}), 0.5), Value::Null);
    }
}
