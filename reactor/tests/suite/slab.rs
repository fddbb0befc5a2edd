//! Owns: the proof that a slab behaves as a map whose keys are never used again.
//!
//! Must never: look at more than the public face.
//!
//! Diagnostics: model tests print their seed; set `ROHRPOST_SEED` to run one alone.

use std::collections::HashMap;

use mio::Token;
use rohrpost_reactor::{Key, Slab};

use crate::support::{Random, seeds};

#[test]
fn behaves_as_a_map_under_random_operations() {
    for seed in seeds(20) {
        let mut random = Random::new(seed);
        let mut slab = Slab::new();
        let mut model: HashMap<Key, u64> = HashMap::new();
        let mut live = Vec::new();
        let mut stale = Vec::new();
        for step in 0..20_000_u64 {
            // Tides: the slab fills and drains over many pages.
            let insert_bias = if step / 4_000 % 2 == 0 { 7 } else { 2 };
            if live.is_empty() || random.below(10) < insert_bias {
                let key = slab.insert(step);
                assert_eq!(model.insert(key, step), None, "a key was issued twice");
                live.push(key);
            } else {
                let key = live.swap_remove(random.index(live.len()));
                assert_eq!(slab.remove(key), model.remove(&key));
                stale.push(key);
            }
            if let Some(&key) = live.get(random.index(live.len().max(1))) {
                assert_eq!(slab.get(key), model.get(&key));
                *slab.get_mut(key).unwrap() += 1;
                *model.get_mut(&key).unwrap() += 1;
            }
            if !stale.is_empty() {
                let key = stale[random.index(stale.len())];
                assert_eq!((slab.get(key), slab.contains(key)), (None, false));
                assert_eq!(slab.remove(key), None);
            }
            assert_eq!(slab.len(), model.len());
        }
        let listed: HashMap<Key, u64> = slab.iter().map(|(key, &value)| (key, value)).collect();
        assert_eq!(listed, model);
        slab.iter_mut().for_each(|(_, value)| *value = 0);
        assert!(slab.iter().all(|(_, &value)| value == 0));
    }
}

#[test]
fn a_place_that_is_used_again_has_another_key() {
    let mut slab = Slab::new();
    let first = slab.insert("first");
    slab.remove(first);
    let second = slab.insert("second");
    assert_eq!(first.index(), second.index());
    assert_ne!(first, second);
    assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"second")));
}

#[test]
fn a_value_can_know_its_key() {
    let mut slab = Slab::new();
    let key = slab.insert_with(|key| key);
    assert_eq!(slab.get(key), Some(&key));
}

#[test]
fn keys_survive_the_way_through_a_token() {
    let mut slab = Slab::new();
    let keys: Vec<Key> = (0..1_000).map(|value| slab.insert(value)).collect();
    for key in keys {
        let token = Token::from(key);
        assert!(Key::is_key(token));
        assert_eq!(Key::from(token), key);
    }
}

#[test]
fn memory_returns_after_a_peak_around_a_survivor() {
    let mut slab = Slab::new();
    let keys: Vec<Key> = (0..100_000).map(|value| slab.insert(value)).collect();
    assert!(slab.capacity() >= 100_000);
    let survivor = keys[99_999];
    keys[..99_999].iter().for_each(|&key| assert!(slab.remove(key).is_some()));
    assert!(slab.capacity() <= 1_024, "{} places for one value", slab.capacity());
    assert_eq!(slab.get(survivor), Some(&99_999));
    slab.remove(survivor);
    slab.shrink_to_fit();
    assert_eq!(slab.capacity(), 0);
    let key = slab.insert(1);
    assert_eq!((key.index(), slab.get(key)), (0, Some(&1)));
}

#[test]
fn one_value_coming_and_going_keeps_its_page() {
    let mut slab = Slab::new();
    for round in 0..1_000 {
        let key = slab.insert(round);
        let capacity = slab.capacity();
        slab.remove(key);
        assert_eq!(slab.capacity(), capacity);
    }
}
