//! Owns: the proof that the wheel fires what a sorted list would, when it would.
//!
//! Must never: use real time.
//!
//! Diagnostics: model tests print their seed; set `ROHRPOST_SEED` to run one alone.

use std::collections::BTreeMap;

use rohrpost_reactor::{DELAY_MS_MAX, TimerKey, Wheel};

use crate::support::{Random, seeds};

/// Timers as a sorted map of (deadline, order of arming), and the list of those that are due.
#[derive(Default)]
struct Model {
    armed: BTreeMap<(u64, u64), TimerKey>,
    due: Vec<((u64, u64), TimerKey)>,
    now_ms: u64,
    order: u64,
}

impl Model {
    fn place(&mut self, deadline_ms: u64) -> (u64, u64) {
        self.order += 1;
        (deadline_ms.clamp(self.now_ms, self.now_ms.saturating_add(DELAY_MS_MAX)), self.order)
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let later = self.armed.split_off(&(now_ms.saturating_add(1), 0));
        self.due.extend(std::mem::replace(&mut self.armed, later));
    }

    fn remove(&mut self, key: TimerKey) -> bool {
        let before = self.armed.len() + self.due.len();
        self.armed.retain(|_, armed| *armed != key);
        self.due.retain(|(_, due)| *due != key);
        before != self.armed.len() + self.due.len()
    }
}

/// Distances as they occur: ticks, seconds, hours, beyond a year.
fn distance(random: &mut Random) -> u64 {
    let magnitude = random.below(38);
    random.below(1 << magnitude)
}

fn take_all<T>(wheel: &mut Wheel<T>) -> Vec<T> {
    std::iter::from_fn(|| wheel.take_due()).map(|(_, value)| value).collect()
}

#[test]
fn fires_as_a_sorted_list_under_random_operations() {
    for seed in seeds(60) {
        let mut random = Random::new(seed);
        // Some start just below a boundary of many levels, where all bits change at once.
        let start_ms = [0, (1 << 36) - 5, (1 << 42) - 100, 123_456_789][seed as usize % 4];
        let mut wheel = Wheel::new(start_ms);
        let mut model = Model { now_ms: start_ms, ..Model::default() };
        let mut keys = Vec::new();
        for _ in 0..1_500 {
            match random.below(10) {
                0..=3 => {
                    let deadline_ms = (model.now_ms + distance(&mut random)).saturating_sub(5);
                    let place = model.place(deadline_ms);
                    let key = wheel.arm(deadline_ms, place);
                    model.armed.insert(place, key);
                    keys.push(key);
                }
                4 | 5 if !keys.is_empty() => {
                    let key = keys[random.index(keys.len())];
                    let deadline_ms = model.now_ms + distance(&mut random);
                    let lives = model.remove(key);
                    assert_eq!(wheel.deadline_ms(key).is_some(), lives);
                    // The payload is the place, so re-arming is told by a new one.
                    assert_eq!(wheel.rearm(key, deadline_ms), lives);
                    if lives {
                        wheel.cancel(key).unwrap();
                        let place = model.place(deadline_ms);
                        let key = wheel.arm(deadline_ms, place);
                        assert_eq!(wheel.deadline_ms(key), Some(place.0));
                        model.armed.insert(place, key);
                        keys.push(key);
                    }
                }
                6 if !keys.is_empty() => {
                    let key = keys.swap_remove(random.index(keys.len()));
                    assert_eq!(wheel.cancel(key).is_some(), model.remove(key));
                    assert_eq!(wheel.cancel(key), None);
                }
                7 => {
                    let now_ms = match wheel.next_deadline() {
                        Some(next_ms) if random.one_in(2) => next_ms,
                        _ => model.now_ms + distance(&mut random) / 2,
                    };
                    wheel.advance(now_ms);
                    model.advance(now_ms.max(model.now_ms));
                }
                _ => {
                    let fired = wheel.take_due();
                    let expected = (!model.due.is_empty()).then(|| model.due.remove(0));
                    assert_eq!(fired.map(|(key, place)| (place, key)), expected);
                }
            }
            assert_eq!(wheel.has_due(), !model.due.is_empty());
            assert_eq!(wheel.len(), model.armed.len() + model.due.len());
            let first_ms = model.armed.first_key_value().map(|((deadline_ms, _), _)| *deadline_ms);
            let next_ms = wheel.next_deadline();
            assert_eq!(next_ms.is_some(), first_ms.is_some());
            assert!(next_ms <= first_ms && next_ms.is_none_or(|next| next >= model.now_ms));
        }
    }
}

#[test]
fn rearmed_timers_fire_once_at_their_last_deadline() {
    for seed in seeds(10) {
        let mut random = Random::new(seed);
        let mut wheel = Wheel::new(0);
        let mut now_ms = 0;
        let mut last: Vec<Option<u64>> = vec![None; 500];
        let keys: Vec<TimerKey> = (0..500).map(|id| wheel.arm(u64::MAX, id)).collect();
        let fire = |wheel: &mut Wheel<usize>, now_ms, next_ms, last: &mut [Option<u64>]| {
            wheel.advance(next_ms);
            let mut latest_ms = now_ms;
            for id in take_all(wheel) {
                let deadline_ms = last[id].take().expect("each fires once");
                assert!(
                    (latest_ms..=next_ms).contains(&deadline_ms),
                    "early, late or out of order"
                );
                latest_ms = deadline_ms;
            }
            let left_ms = last.iter().flatten().min();
            assert!(left_ms.is_none_or(|left_ms| *left_ms > next_ms), "not fired in time");
        };
        for order in 0..20_000 {
            let id = if order < 500 { order } else { random.index(500) };
            let deadline_ms = now_ms + 1 + distance(&mut random).min(DELAY_MS_MAX - 1);
            let lives = order < 500 || last[id].is_some();
            assert_eq!(wheel.rearm(keys[id], deadline_ms), lives);
            if lives {
                last[id] = Some(deadline_ms);
            }
            if order > 500 && random.one_in(50) {
                let next_ms = match wheel.next_deadline() {
                    Some(next_ms) if random.one_in(2) => next_ms,
                    _ => now_ms + distance(&mut random) / 1_000,
                };
                let next_ms = next_ms.max(now_ms);
                fire(&mut wheel, now_ms, next_ms, &mut last);
                now_ms = next_ms;
            }
        }
        while let Some(next_ms) = wheel.next_deadline() {
            fire(&mut wheel, now_ms, next_ms, &mut last);
            now_ms = next_ms;
        }
        assert!(wheel.is_empty() && last.iter().all(Option::is_none));
    }
}

/// Each command of each connection puts its timer off.
#[test]
fn a_timer_that_is_put_off_is_moved_once_a_slot_and_wakes_no_more_often() {
    let mut wheel = Wheel::new(0);
    let key = wheel.arm(300_000, ());
    let mut wakes = 0;
    for now_ms in 1..=3_600_000 {
        if wheel.next_deadline() == Some(now_ms) {
            wheel.advance(now_ms);
            wakes += 1;
        }
        assert!(!wheel.has_due());
        if now_ms % 100 == 0 {
            assert!(wheel.rearm(key, now_ms + 300_000));
        }
    }
    assert!(wakes <= 60, "{wakes} wake-ups in an hour");
}

#[test]
fn d_93_a_timer_is_never_early_and_fires_on_its_tick() {
    for delay_ms in [1, 63, 64, 65, 4_095, 4_096, 262_144, DELAY_MS_MAX] {
        let mut wheel = Wheel::new(7);
        wheel.arm(7 + delay_ms, ());
        wheel.advance(7 + delay_ms - 1);
        assert!(!wheel.has_due(), "early by a tick at {delay_ms}");
        wheel.advance(7 + delay_ms);
        assert!(wheel.has_due(), "late at {delay_ms}");
    }
}

#[test]
fn d_92_a_deadline_in_the_past_fires_with_the_next_advance() {
    let mut wheel = Wheel::new(1_000);
    wheel.arm(3, 'a');
    wheel.arm(0, 'b');
    wheel.arm(1_000, 'c');
    assert!(!wheel.has_due());
    assert_eq!(wheel.next_deadline(), Some(1_000));
    wheel.advance(1_000);
    assert_eq!(take_all(&mut wheel), ['a', 'b', 'c']);
}

#[test]
fn d_92_a_deadline_beyond_a_year_is_clamped() {
    let mut wheel = Wheel::new(10);
    let key = wheel.arm(u64::MAX, ());
    assert_eq!(wheel.deadline_ms(key), Some(10 + DELAY_MS_MAX));
    let mut end_of_time = Wheel::new(u64::MAX - 1);
    end_of_time.arm(u64::MAX, ());
    end_of_time.advance(u64::MAX);
    assert!(end_of_time.has_due());
}

#[test]
fn a_clock_that_went_back_changes_nothing() {
    let mut wheel = Wheel::new(100);
    wheel.arm(101, ());
    wheel.advance(50);
    assert!(!wheel.has_due());
    wheel.advance(101);
    assert!(wheel.has_due());
}

#[test]
fn d_90_keys_of_fired_timers_are_stale() {
    let mut wheel = Wheel::new(0);
    let key = wheel.arm(5, 'x');
    wheel.advance(5);
    assert_eq!(wheel.take_due(), Some((key, 'x')));
    assert_eq!(
        (wheel.cancel(key), wheel.rearm(key, 9), wheel.deadline_ms(key)),
        (None, false, None)
    );
    assert!(wheel.is_empty());
}

#[test]
fn a_due_timer_can_be_cancelled_or_put_off_until_it_is_taken() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<TimerKey> = (0..4).map(|id| wheel.arm(5, id)).collect();
    wheel.advance(5);
    assert_eq!(wheel.take_due(), Some((keys[0], 0)));
    assert_eq!(wheel.cancel(keys[1]), Some(1));
    assert!(wheel.rearm(keys[2], 6));
    assert_eq!(wheel.take_due(), Some((keys[3], 3)));
    assert_eq!(wheel.take_due(), None);
    wheel.advance(6);
    assert_eq!(wheel.take_due(), Some((keys[2], 2)));
}

#[test]
fn one_timer_a_year_ahead_costs_a_handful_of_wakeups() {
    let mut wheel = Wheel::new(12_345);
    wheel.arm(12_345 + DELAY_MS_MAX, ());
    let mut wakeups = 0;
    while let Some(next_ms) = wheel.next_deadline() {
        wheel.advance(next_ms);
        wakeups += 1;
    }
    assert!(wheel.has_due() && wakeups <= 6, "{wakeups} wake-ups");
}

#[test]
fn memory_returns_after_a_peak() {
    let mut wheel = Wheel::new(0);
    let lasting = wheel.arm(DELAY_MS_MAX, 0);
    for id in 1..=10_000 {
        wheel.arm(id, id);
    }
    assert!(wheel.capacity() > 10_000);
    wheel.advance(10_000);
    assert_eq!(take_all(&mut wheel).len(), 10_000);
    assert!(wheel.capacity() <= 1_024, "{} places for one timer", wheel.capacity());
    assert_eq!(wheel.cancel(lasting), Some(0));
}
