//! Owns: the question what a timer costs among a million others: to re-arm, which each command of
//! each connection does, and to arm and cancel, which each connection does.
//!
//! Must never: measure a wheel that does something else than it should; the number of timers is
//! asserted.
//!
//! Diagnostics: `cargo bench --bench wheel`; under `cargo test --benches` each runs once, with few
//! timers.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rohrpost_reactor::{TimerKey, Wheel};

/// Five minutes, as the time-outs of SMTP are.
const SPREAD_MS: u64 = 300_000;

/// Timers to arm before the measurement: a few when only tested.
fn crowd() -> u64 {
    if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 1_000 }
}

/// A cheap sequence without pattern (an xorshift).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn full_wheel(state: &mut u64) -> (Wheel<u64>, Vec<TimerKey>) {
    let mut wheel = Wheel::new(0);
    let keys = (0..crowd()).map(|id| wheel.arm(1 + random(state) % SPREAD_MS, id)).collect();
    (wheel, keys)
}

fn rearm(criterion: &mut Criterion) {
    let mut state = 88_172_645_463_325_252;
    let (mut wheel, keys) = full_wheel(&mut state);
    criterion.bench_function("re-arm one of a million", |bencher| {
        bencher.iter(|| {
            let key = keys[(random(&mut state) % keys.len() as u64) as usize];
            assert!(wheel.rearm(key, 1 + random(&mut state) % SPREAD_MS));
        });
    });
    assert_eq!(wheel.len() as u64, crowd());
}

fn arm_and_cancel(criterion: &mut Criterion) {
    let mut state = 88_172_645_463_325_252;
    let (mut wheel, _) = full_wheel(&mut state);
    criterion.bench_function("arm and cancel beside a million", |bencher| {
        bencher.iter(|| {
            let key = wheel.arm(1 + random(&mut state) % SPREAD_MS, 0);
            assert!(wheel.cancel(key).is_some());
        });
    });
    assert_eq!(wheel.len() as u64, crowd());
}

fn tick(criterion: &mut Criterion) {
    let mut state = 88_172_645_463_325_252;
    let (mut wheel, _) = full_wheel(&mut state);
    let mut now_ms = 0;
    criterion.bench_function("a tick of a million, each fired one armed again", |bencher| {
        bencher.iter(|| {
            now_ms += 1;
            wheel.advance(now_ms);
            while let Some((_, id)) = wheel.take_due() {
                wheel.arm(now_ms + 1 + random(&mut state) % SPREAD_MS, black_box(id));
            }
        });
    });
    assert_eq!(wheel.len() as u64, crowd());
}

criterion_group!(benches, rearm, arm_and_cancel, tick);
criterion_main!(benches);
