//! What does a plugin cost? Its hooks one by one, and the throughput of two sessions in memory with and
//! without it.
//!
//! `ROHRPOST_PLUGIN=path/to/plugin.so cargo bench --bench plugin`; without a name it is one that returns
//! false on every hook, compiled here. A hook that takes control must hand it back before it returns: the
//! time is that of the hand-over then. What waits for a timer or a descriptor is measured in a server.
//!
//! `-- --messages N --octets M [--copies C]` passes messages and nothing else, for those who count
//! instructions (`benches/instructions.sh`); C = 0 is without a plugin.
//!
//! Diagnostics: a plugin that cannot be measured is named with the reason, and ends the run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use criterion::{Criterion, Throughput};
use rohrpost::plugin_kit::pair::{Pair, PairError, text};

/// Of a message without attachment, and of one with.
const OCTETS: [usize; 2] = [4 * 1024, 64 * 1024];

fn main() -> ExitCode {
    let outcome = match number("--messages") {
        Some(messages) => pass(messages),
        None => measure(),
    };
    match outcome {
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

fn pass(messages: usize) -> Result<(), PairError> {
    let text = text(number("--octets").unwrap_or(OCTETS[0]));
    let mut pair = match number("--copies").unwrap_or(1) {
        0 => Pair::alone()?,
        copies => Pair::with(&plugin(), copies)?,
    };
    for _ in 0..messages {
        pair.pass(&text)?;
    }
    Ok(())
}

fn number(option: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != option).skip(1);
    arguments.next().and_then(|value| value.parse().ok())
}

fn plugin() -> PathBuf {
    match std::env::var_os("ROHRPOST_PLUGIN") {
        Some(named) => named.into(),
        None => compiled(),
    }
}

/// `benches/declines.c`, which returns false on every hook.
fn compiled() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let object = target.join(format!("declines-{}.so", std::process::id()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    gcc.arg(source.join("abi/include")).arg("-o").arg(&object);
    let status = gcc.arg(source.join("benches/declines.c")).status().expect("gcc runs");
    assert!(status.success(), "declines.c is compiled");
    object
}
