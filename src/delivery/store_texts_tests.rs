//! Which texts stay in memory, and that the others come back.

use super::super::tests::{at, deliver, finish, store, take_work, transaction, way};
use super::*;
use crate::delivery::{Fate, Route};

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
fn no_text_stays_for_a_host_that_cannot_be_reached_and_all_do_while_it_takes_mail() {
    let mut store = store();
    let way = way(&mut store);
    let refused = || finish(Fate::Temporary);
    let mut admitted = 0;
    let mut released_of_one_more = |store: &mut Store| {
        admitted += 1;
        store.admit(transaction(admitted, 1, 10, at(0)), 64, at(0));
        store.take_released()
    };
    assert_eq!(released_of_one_more(&mut store), 0, "nobody knows yet");
    store.destinations.on_unroutable(way, refused(), 0);
    assert_eq!(released_of_one_more(&mut store), 64);
    let address = "127.0.0.1:25".parse().unwrap();
    store.destinations.on_routed(way, Route::to("mx", address), u64::MAX, 0);
    store.destinations.journey(way, None, 0).unwrap();
    assert_eq!(released_of_one_more(&mut store), 64, "one more is tried");
    store.destinations.on_greeted(way, address);
    assert_eq!(released_of_one_more(&mut store), 0);
    store.destinations.journey(way, None, 0).unwrap();
    store.destinations.on_unreachable(way, refused(), 0);
    assert_eq!(released_of_one_more(&mut store), 0, "it takes no more connections, but mail");
}
