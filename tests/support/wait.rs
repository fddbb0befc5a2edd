//! Waiting for a condition with a deadline. It owns the polling pace and nothing else.
//!
//! **Diagnostics**: panics with what was awaited when the deadline passes.

use std::time::{Duration, Instant};

/// How long a single step of a test may take before it has failed. Long, because a loaded machine is
/// not a bug; a test that passes never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause between two looks, and the longest: short waits end at once, long ones cost little.
const PAUSE_FIRST: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Asks `look` until it answers `Some`, at most `deadline` long.
///
/// # Panics
/// When `deadline` has passed, naming `what` was awaited.
pub(crate) fn eventually<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(deadline, look).unwrap_or_else(|| panic!("not within {deadline:?}: {what}"))
}

/// As [`eventually`], but a deadline that passes is an answer too. Looks once at least.
pub(crate) fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    let mut pause = PAUSE_FIRST;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[test]
fn eventually_returns_the_first_answer() {
    let mut looks = 0;
    let answer = eventually("a third look", PATIENCE, || {
        looks += 1;
        (looks == 3).then_some(looks)
    });
    assert_eq!(answer, 3);
}

#[test]
#[should_panic(expected = "not within 0ns: the impossible")]
fn eventually_names_what_never_came() {
    eventually("the impossible", Duration::ZERO, || None::<()>);
}
