//! What a load prints at its end: a table for people, or one JSON object.
//!
//! **Diagnostics**: none; whoever closed stdout wants no more.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::Plan;
use super::tally::Tally;
use crate::cli::Extent;
use crate::program::say;
use crate::view::counted;

/// All that was measured; the names are those of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    messages: u64,
    accepted: u64,
    lost: u64,
    missed: u64,
    refused_recipients: u64,
    seconds: f64,
    rate: f64,
    cpu_seconds: f64,
    replies: BTreeMap<String, u64>,
    connections: u64,
    failed_connections: u64,
    failure: Option<String>,
    latency_us: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// Prints it; whether everything was accepted that was to be sent.
pub(super) fn print(plan: &Plan, tally: &Tally, cpu: Duration, json: bool) -> bool {
    let report = Report::of(tally, cpu);
    if json {
        say(serde_json::to_string(&report).expect("numbers and texts are always JSON"));
    } else {
        say(report.table(plan));
    }
    is_all_accepted(plan, tally)
}

fn is_all_accepted(plan: &Plan, tally: &Tally) -> bool {
    let complete = match plan.extent {
        _ if plan.idle => tally.connections >= u64::from(plan.connections),
        Extent::Messages(count) => tally.messages == count,
        Extent::Time(_) => tally.messages > 0,
    };
    complete
        && tally.accepted == tally.messages
        && tally.missed == 0
        && tally.refused_recipients == 0
        && tally.failed_connections == 0
}

impl Report {
    fn of(tally: &Tally, cpu: Duration) -> Report {
        let seconds = tally.time().as_secs_f64();
        Report {
            messages: tally.messages,
            accepted: tally.accepted,
            lost: tally.lost,
            missed: tally.missed,
            refused_recipients: tally.refused_recipients,
            seconds,
            rate: if seconds > 0.0 { tally.accepted as f64 / seconds } else { 0.0 },
            cpu_seconds: cpu.as_secs_f64(),
            replies: tally.codes().map(|(code, count)| (code.to_string(), count)).collect(),
            connections: tally.connections,
            failed_connections: tally.failed_connections,
            failure: tally.failure.clone(),
            latency_us: Latency {
                p50: tally.latency_us(0.5),
                p90: tally.latency_us(0.9),
                p99: tally.latency_us(0.99),
                p999: tally.latency_us(0.999),
                max: tally.latency_us(1.0),
            },
        }
    }

    fn table(&self, plan: &Plan) -> String {
        let connections = counted(self.connections, "connection");
        let opened = format!("{connections} opened, {} failed", self.failed_connections);
        if plan.idle {
            return opened;
        }
        let mut lines = vec![
            format!("{} in {:.3} s", counted(self.messages, "message"), self.seconds),
            format!("accepted   {}, {:.0} a second", self.accepted, self.rate),
        ];
        let replies = self.replies.iter().map(|(code, count)| format!("{code}: {count}"));
        lines.push(format!("replies    {}", replies.collect::<Vec<_>>().join(", ")));
        for (name, count) in [
            ("lost       ", self.lost),
            ("missed     ", self.missed),
            ("recipients refused ", self.refused_recipients),
        ] {
            lines.extend((count > 0).then(|| format!("{name}{count}")));
        }
        let Latency { p50, p90, p99, p999, max } = &self.latency_us;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(|us| ms(*us));
        lines.push(format!(
            "latency    p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} ms"
        ));
        lines.push(opened);
        lines.push(format!("this load took {:.3} s of CPU", self.cpu_seconds));
        lines.join("\n")
    }
}

fn ms(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_json_object_are_those_that_scripts_know() {
        let json = serde_json::to_value(Report::of(&Tally::default(), Duration::ZERO)).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        for name in [
            "messages",
            "accepted",
            "seconds",
            "rate",
            "cpu_seconds",
            "replies",
            "failed_connections",
            "latency_us",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        for name in ["p50", "p90", "p99", "p999", "max"] {
            assert_eq!(json["latency_us"][name], 0, "{name}");
        }
        assert_eq!(json["rate"], 0.0, "nothing in no time is no rate");
    }

    #[test]
    fn milliseconds_keep_their_thousandths() {
        assert_eq!(
            (ms(0), ms(1_020), ms(12_345)),
            ("0.000".into(), "1.020".into(), "12.345".into())
        );
    }
}
