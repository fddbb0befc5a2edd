//! What does a plugin cost? Its hooks one by one, and the throughput of two sessions in memory with and
//! without it.
//!
//! `ROHRPOST_PLUGIN=path/to/plugin.so cargo bench --bench plugin`; without a name it is one that returns
//! false on every hook, compiled here. A hook that takes control must hand it back before it returns: the
//! time is that of the hand-over then. What waits for a timer or a descriptor is measured in a server.
//! What it costs in instructions says `benches/counted.rs`.
//!
//! Diagnostics: a plugin that cannot be measured is named with the reason, and ends the run.

use std::process::ExitCode;

use criterion::{Criterion, Throughput};
use rohrpost::plugin_kit::pair::{Pair, PairError, text};

#[path = "support/plugin.rs"]
mod support;
use support::plugin;

/// Of a message without attachment, and of one with.
const OCTETS: [usize; 2] = [4 * 1024, 64 * 1024];

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plugin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), PairError> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut alone = Pair::alone()?;
    let mut beside = Pair::with(&plugin(), 1)?;
    let mut group = criterion.benchmark_group("plugin/hook");
    for hook in beside.hooks() {
        beside.ask(hook)?;
        group.bench_function(hook.name(), |bencher| {
            bencher.iter(|| beside.ask(hook).expect("as it did before"));
        });
    }
    group.finish();
    for octets in OCTETS {
        let text = text(octets);
        let mut group = criterion.benchmark_group(format!("plugin/pair, {octets} octets"));
        group.throughput(Throughput::Elements(1));
        for (name, pair) in [("without", &mut alone), ("with", &mut beside)] {
            pair.pass(&text)?;
            group.bench_function(name, |bencher| {
                bencher.iter(|| pair.pass(&text).expect("as it did before"));
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
