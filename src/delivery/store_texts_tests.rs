//! Which texts stay in memory, and that the others come back.

use super::super::tests::{at, deliver, finish, store, take_work, transaction, way};
use super::*;
use crate::delivery::Fate;

#[test]
fn the_texts_of_the_first_so_many_mails_stay_and_that_of_the_next_is_read_back() {
    let mut store = store();
    for id in 1..=AHEAD_MAX as u64 {
        store.admit(transaction(id, 1, 10, at(0)), 64, at(0));
    }
    assert_eq!(store.take_released(), 0);
    let last = AHEAD_MAX as u64 + 1;
    store.admit(transaction(last, 1, 10, at(0)), 64, at(0));
    assert_eq!(store.take_released(), 64);
    for _ in 0..AHEAD_MAX {
        deliver(&mut store);
    }
    let text = transaction(last, 1, 10, at(0));
    assert!(matches!(take_work(&mut store, |_| true), Some(Work::Load(id)) if id == text.id));
    store.on_loaded(text.id, Ok(text.clone()), at(0));
    assert_eq!(deliver(&mut store), text.id.mail(0));
}

#[test]
fn no_text_stays_for_a_host_that_could_not_be_reached_until_one_can() {
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let way = way(&mut store);
    let refused = finish(Fate::Temporary);
    store.destinations.on_unroutable(way, refused, 0);
    store.admit(transaction(2, 1, 10, at(0)), 64, at(0));
    assert_eq!(store.take_released(), 64);
}
