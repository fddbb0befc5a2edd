//! Owns: the proof that clocks go forward.
//!
//! Must never: expect how fast.
//!
//! Diagnostics: none beyond the assertions.

use rohrpost_reactor::{Clock, ManualClock, SystemClock};

#[test]
fn d_93_the_system_clock_never_goes_back() {
    let clock = SystemClock::new();
    let mut last_ms = clock.now_ms();
    for _ in 0..1_000 {
        let now_ms = clock.now_ms();
        assert!(now_ms >= last_ms);
        last_ms = now_ms;
    }
}

#[test]
fn clones_of_a_manual_clock_share_one_time() {
    let clock = ManualClock::new(5);
    let other = clock.clone();
    other.advance(10);
    assert_eq!((clock.now_ms(), other.now_ms()), (15, 15));
}
