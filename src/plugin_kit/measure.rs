//! `rohrpost plugin bench`: what a plugin costs, measured here and now.
//!
//! Owns how often something is done and which of the times is told: the median of rounds, which a machine
//! that does something else now and then does not move. What is measured is [`pair`](super::pair)'s: each
//! hook that the plugin exports, by itself, and two sessions in memory that pass messages with and without it,
//! in turns.
//!
//! Must never: measure anything that waits: of a hook that takes its step and does not hand it back within
//! the call, that is said in place of a time. Nor keep silent about one that it does not measure.
//!
//! **Diagnostics**: a plugin that cannot be loaded is named with the reason, exit 1; so is one that does not
//! return. One that crashes ends it by its signal, one that calls `exit()` by SIGABRT.

use std::time::{Duration, Instant};

use serde_json::json;

use super::EXIT_FAULTY;
use super::guard::Guard;
use super::pair::{Pair, PairError, text};
use crate::cli::{self, PluginBench};
use crate::program::{complain, say};

/// Octets of the messages that are passed: one without attachment.
const OCTETS: usize = 4 * 1024;
/// Rounds of each measurement; the time told is that in their middle.
const ROUNDS: usize = 25;
/// How often a hook is called before the clock is read again, at most. A round begins with one call and
/// doubles from there, so that one that is slow does not keep it.
const CALLS_MAX: u32 = 16;
/// A measurement ends when it has taken so much more than its share; one of a slow hook has fewer rounds.
const OVERTIME: u32 = 2;

/// Measures the plugin and says what came of it; returns the exit code.
pub(super) fn run(bench: &PluginBench) -> u8 {
    if let Err(error) = rohrpost_abi::report_crashes(None) {
        let text = format_args!("signals cannot be handled: {error}");
        return complain(text, cli::EXIT_TRY_AGAIN);
    }
    let code = judged(bench);
    // Until here an exit is one that the plugin has called.
    rohrpost_abi::expect_exit();
    code
}

fn judged(bench: &PluginBench) -> u8 {
    let guard = match Guard::set(bench.time) {
        Ok(guard) => guard,
        Err(error) => {
            let text = format_args!("no thread can be started: {error}");
            return complain(text, cli::EXIT_TRY_AGAIN);
        }
    };
    match measure(bench, &guard) {
        Ok(figures) => {
            if bench.json {
                say(figures.json());
            } else {
                figures.print();
            }
            0
        }
        Err(error) => {
            let exit = match error {
                PairError::Stranger { .. } => cli::EXIT_USAGE,
                _ => EXIT_FAULTY,
            };
            complain(format_args!("{}: {error}", bench.file.display()), exit)
        }
    }
}

/// Nanoseconds, or why there are none.
type Time = Result<f64, String>;

/// What was found.
struct Figures {
    hooks: Vec<(&'static str, Time)>,
    /// Hooks that it exports and that were not measured.
    others: Vec<&'static str>,
    without: Time,
    with: Time,
}

fn measure(bench: &PluginBench, guard: &Guard) -> Result<Figures, PairError> {
    let mut alone = Pair::alone()?;
    let mut beside = Pair::with_settings(&bench.file, &bench.settings)?;
    if let Some(host) = beside.host() {
        guard.learn(host);
    }
    let hooks = beside.hooks();
    let others = beside.others().into_iter().map(|hook| hook.name()).collect();
    let share = bench.time / u32::try_from(hooks.len() + 2).unwrap_or(u32::MAX);
    let times =
        hooks.into_iter().map(|hook| (hook.name(), middle(share, guard, || beside.ask(hook))));
    let hooks = times.collect();
    let text = text(OCTETS);
    let (mut without, mut with) = (Ok(Vec::new()), Ok(Vec::new()));
    // In turns, so that both see the same machine.
    let round = share / ROUNDS as u32;
    for _ in rounds(2 * share) {
        add_round(&mut without, round, guard, &mut || alone.pass(&text).map(drop));
        add_round(&mut with, round, guard, &mut || beside.pass(&text).map(drop));
    }
    Ok(Figures { hooks, others, without: told(without), with: told(with) })
}

fn told(times: Result<Vec<f64>, PairError>) -> Time {
    times.map(median).map_err(|error| error.to_string())
}

/// Rounds that share `time`, as far as they do not take much longer than that.
fn rounds(time: Duration) -> impl Iterator<Item = usize> {
    let start = Instant::now();
    (0..ROUNDS).take_while(move |round| *round == 0 || start.elapsed() < time * OVERTIME)
}

/// The time of one `work` in the middle of the rounds that fit into `time`.
fn middle(time: Duration, guard: &Guard, mut work: impl FnMut() -> Result<(), PairError>) -> Time {
    let mut times = Ok(Vec::new());
    for _ in rounds(time) {
        add_round(&mut times, time / ROUNDS as u32, guard, &mut work);
    }
    told(times)
}

/// Adds the time of one `work` in another round, unless one has failed.
fn add_round(
    times: &mut Result<Vec<f64>, PairError>,
    time: Duration,
    guard: &Guard,
    work: &mut impl FnMut() -> Result<(), PairError>,
) {
    if let Ok(all) = times {
        match round_of(time, guard, work) {
            Ok(ns) => all.push(ns),
            Err(error) => *times = Err(error),
        }
    }
}

/// The time of one `work` among as many as fit into `time`.
fn round_of(
    time: Duration,
    guard: &Guard,
    work: &mut impl FnMut() -> Result<(), PairError>,
) -> Result<f64, PairError> {
    let start = Instant::now();
    let (mut calls, mut batch) = (0u64, 1);
    loop {
        for _ in 0..batch {
            work()?;
        }
        guard.beat();
        calls += u64::from(batch);
        let passed = start.elapsed();
        if passed >= time {
            return Ok(passed.as_nanos() as f64 / calls as f64);
        }
        batch = (2 * batch).min(CALLS_MAX);
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl Figures {
    fn print(&self) {
        say(format_args!("{:<28} {:>12}", "hook", "ns a call"));
        for (hook, time) in &self.hooks {
            match time {
                Ok(ns) => say(format_args!("{hook:<28} {ns:>12.1}")),
                Err(why) => say(format_args!("{hook:<28} {why}")),
            }
        }
        if !self.others.is_empty() {
            say(format_args!("not measured: {}", self.others.join(", ")));
        }
        say("");
        say(format_args!("{:<28} {:>12} {:>12}", "two sessions in memory", "ns a mail", "mails/s"));
        for (name, time) in [("without the plugin", &self.without), ("with it", &self.with)] {
            match time {
                Ok(ns) => say(format_args!("{name:<28} {ns:>12.0} {:>12.0}", 1e9 / ns)),
                Err(why) => say(format_args!("{name:<28} {why}")),
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let time = |time: &Time| match time {
            Ok(ns) => json!({ "ns": ns }),
            Err(why) => json!({ "why": why }),
        };
        let hooks = self.hooks.iter().map(|(hook, taken)| ((*hook).to_owned(), time(taken)));
        json!({
            "hooks": hooks.collect::<serde_json::Map<_, _>>(),
            "not_measured": self.others,
            "octets": OCTETS,
            "mail": { "without": time(&self.without), "with": time(&self.with) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_that_was_disturbed_moves_nothing() {
        assert_eq!(median(vec![3.0, 1e9, 1.0, 2.0, 4.0]), 3.0);
    }

    /// How often work that takes so long is done in a round of so much.
    fn calls_in(round: Duration, work: Duration) -> u64 {
        let mut calls = 0;
        let once = round_of(round, &Guard::default(), &mut || {
            calls += 1;
            std::thread::sleep(work);
            Ok(())
        });
        assert!(once.is_ok_and(|ns| ns >= work.as_nanos() as f64));
        calls
    }

    #[test]
    fn work_that_fills_its_round_is_done_once_and_its_failure_ends_it() {
        assert_eq!(calls_in(Duration::ZERO, Duration::ZERO), 1);
        assert_eq!(calls_in(Duration::from_millis(10), Duration::from_millis(10)), 1);
        let failed = round_of(Duration::MAX, &Guard::default(), &mut || {
            Err(PairError::Held(rohrpost_abi::Hook::Connect))
        });
        assert!(failed.is_err());
    }

    #[test]
    fn rounds_that_have_taken_too_long_are_the_last() {
        assert_eq!(rounds(Duration::ZERO).count(), 1);
        assert_eq!(rounds(Duration::MAX / OVERTIME).count(), ROUNDS);
    }
}
