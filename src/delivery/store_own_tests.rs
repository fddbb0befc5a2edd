//! Mails of one transaction that have their own ways.

use super::*;
use crate::queue::MailNotes;

fn own(wishes: Wishes) -> Option<Arc<Extras>> {
    Some(Arc::new(Extras { wishes: Some(Box::new(wishes)), ..Extras::default() }))
}

/// The second of three has its own time, the third waits at first.
fn mixed() -> Arc<Transaction> {
    let mut transaction = Transaction::clone(&transaction(1, 3, 10, at(0)));
    let until = Wishes { deliver_until_ms: Some(UNIX_MS + 5_000), ..Wishes::default() };
    let later = Wishes { not_before_ms: Some(UNIX_MS + 7_000), ..Wishes::default() };
    transaction.mails[1].extras = own(until);
    transaction.mails[2].extras = own(later);
    Arc::new(transaction)
}

#[test]
fn mails_of_one_transaction_have_their_own_times() {
    let id = |index| TransactionId::from_u64(1).mail(index);
    let gone = |aged: Vec<Ended>| -> Vec<u16> {
        aged.into_iter().map(|ended| ended.attempt.mail.index).collect()
    };
    for restored in [false, true] {
        let mut store = store();
        match restored {
            false => store.admit(mixed(), 0, at(0)),
            true => store.restore(waiting(&mixed(), None), at(0)),
        }
        assert_eq!(ready(&mut store), 2, "{restored}");
        assert_eq!(place(&store, id(2)), Some(Place::Waiting(7_000)));
        assert_eq!(gone(aged(&mut store, at(5_001))), [1]);
        assert!(gone(aged(&mut store, at(7_001))).is_empty());
        assert_eq!(place(&store, id(2)), Some(Place::Ready));
        assert_eq!(gone(aged(&mut store, at(LIFE_MS + 1))), [0, 2]);
        assert_eq!((store.queued(), store.next_due()), (0, None), "nothing is left to look at");
    }
}

#[test]
fn what_changed_on_the_way_out_goes_with_each_outcome_and_comes_back_with_the_text() {
    let mut store = store();
    store.admit(mixed(), 0, at(0));
    let Some(Work::Deliver(id, transaction)) = take_work(&mut store, |_| true) else {
        panic!("it is ready")
    };
    let mut notes = MailNotes::default();
    assert!(notes.set("tried", b"1"));
    let wishes = Some(Box::new(Wishes { retries_s: Some([3].into()), ..Wishes::default() }));
    let extras = Arc::new(Extras { wishes, notes });
    let now = store.change(id, extras.clone(), &transaction, at(1)).unwrap();
    assert_eq!(now.mail(id.index).unwrap().extras.as_ref(), Some(&extras));
    let ended = store.on_finish(id, finish(Fate::Temporary), at(2)).unwrap();
    assert_eq!(ended.attempt.extras.as_ref(), Some(&extras));
    assert_eq!(place(&store, id), Some(Place::Waiting(3_002)), "its own pause counts");
    assert_eq!(store.view(id).unwrap().recent[0].extras, None, "memory keeps them once");
    store.unload(id.transaction);
    aged(&mut store, at(3_002));
    let mut reads = 0;
    while let Some(work) = take_work(&mut store, |_| true) {
        match work {
            Work::Load(transaction) => {
                reads += 1;
                store.on_loaded(transaction, Ok(mixed()), at(3_003));
            }
            Work::Deliver(mail, read) if mail == id => {
                assert_eq!(read.mail(id.index).unwrap().extras.as_ref(), Some(&extras));
                let ended = store.on_finish(id, finish(Fate::Permanent), at(3_004)).unwrap();
                assert_eq!(ended.attempt.extras.as_ref(), Some(&extras), "the latest suffices");
            }
            Work::Deliver(..) => {}
        }
    }
    assert!(reads <= 1 && place(&store, id) == Some(Place::Failed));
}

/// What plugins made of a mail on its way out.
fn noted(name: &str) -> Arc<Extras> {
    let mut notes = MailNotes::default();
    assert!(notes.set(name, b"1"));
    Arc::new(Extras { notes, ..Extras::default() })
}

#[test]
fn what_changed_of_one_recipient_stays_when_that_of_another_changes_on_another_connection() {
    let mut store = store();
    let all = transaction(1, 3, 10, at(0));
    store.admit(all.clone(), 0, at(0));
    let taken = |store: &mut Store| match take_work(store, |_| true) {
        Some(Work::Deliver(id, transaction)) => (id, transaction),
        work => panic!("{work:?}"),
    };
    let (first, second) = (taken(&mut store), taken(&mut store));
    for ((id, transaction), name) in [(&first, "first"), (&second, "second")] {
        let now = store.change(*id, noted(name), transaction, at(1)).unwrap();
        assert_eq!(now.mail(id.index).unwrap().extras, Some(noted(name)));
        let body = |of: &Transaction| of.body(of.mail(id.index).unwrap()).cloned();
        assert_eq!(body(&now), body(&all), "its text is that of all");
        store.give_back(*id);
    }
    for _ in 0..2 {
        let (id, transaction) = taken(&mut store);
        let name = if id == first.0 { "first" } else { "second" };
        assert_eq!(transaction.mail(id.index).unwrap().extras, Some(noted(name)), "{name}");
        let ended = store.on_finish(id, finish(Fate::Temporary), at(2)).unwrap();
        assert_eq!(ended.attempt.extras, Some(noted(name)), "{name}");
    }
    let (id, transaction) = taken(&mut store);
    assert_eq!((id.index, Arc::ptr_eq(&transaction, &all)), (2, true), "nobody copied it");
}

#[test]
fn a_change_of_one_recipient_copies_no_other_recipient() {
    let mut store = store();
    store.admit(transaction(1, 1_000, 10, at(0)), 0, at(0));
    while let Some(Work::Deliver(id, transaction)) = take_work(&mut store, |_| true) {
        let now = store.change(id, noted("n"), &transaction, at(1)).unwrap();
        assert_eq!((now.mails.len(), now.bodies.len()), (1, 1));
        store.on_finish(id, finish(Fate::Delivered), at(2));
    }
    assert_eq!(store.queued(), 0);
}

#[test]
fn as_many_ages_are_looked_at_as_there_are_times_however_often_they_change() {
    let wish = |seconds: u64, pause_s: u32| {
        let deliver_until_ms = (seconds > 0).then_some(UNIX_MS + seconds * 1_000);
        own(Wishes { deliver_until_ms, retries_s: Some([pause_s].into()), ..Wishes::default() })
            .unwrap()
    };
    let mut store = store();
    store.admit(transaction(1, 3, 10, at(0)), 0, at(0));
    let Some(Work::Deliver(id, text)) = take_work(&mut store, |_| true) else { panic!("ready") };
    let Some(Work::Deliver(other, _)) = take_work(&mut store, |_| true) else { panic!("ready") };
    for (extras, count) in [
        (wish(0, 1), 0),
        (wish(50, 1), 1),
        (wish(50, 2), 1),
        (wish(60, 2), 1),
        (wish(LIFE_MS / 1_000, 1), 0),
        (wish(70, 2), 1),
    ] {
        // The clocks do not always run together.
        let now = Now { mono_ms: 3, unix_ms: UNIX_MS + 3 + u64::from(count == 1) };
        store.change(id, extras, &text, now).unwrap();
        assert_eq!(store.ages.alone_count(), count);
    }
    store.change(other, wish(70, 2), &text, at(1)).unwrap();
    assert_eq!(store.ages.alone_count(), 2, "two mails may have one time");
    store.change(id, wish(0, 2), &text, at(1)).unwrap();
    assert_eq!(store.ages.alone_count(), 1, "and the other keeps it");
    store.change(TransactionId::from_u64(2).mail(0), wish(9, 1), &text, at(1)).unwrap();
    assert_eq!(store.ages.alone_count(), 1, "of a mail that is gone nothing is kept");
    for mail in [id, other] {
        store.on_finish(mail, finish(Fate::Delivered), at(2));
    }
    let Some(Work::Deliver(last, _)) = take_work(&mut store, |_| true) else { panic!("ready") };
    store.on_finish(last, finish(Fate::Delivered), at(2));
    assert_eq!((store.ages.alone_count(), store.ages.next_due(), store.queued()), (0, None, 0));
}

#[test]
fn plugins_make_no_more_of_a_message_than_its_record_has_room_for() {
    let notes = |bytes: usize| {
        let mut notes = MailNotes::default();
        assert!(notes.set("n", &vec![b'x'; bytes]));
        Arc::new(Extras { notes, ..Extras::default() })
    };
    let full = notes(MailNotes::BYTES_MAX - 1);
    let fit = Extras::BYTES_MAX / full.bytes();
    for restored in [false, true] {
        let mut store = store();
        let mut all = Transaction::clone(&transaction(1, fit as u16 + 1, 10, at(0)));
        for mail in &mut all.mails[1..fit] {
            mail.extras = Some(full.clone());
        }
        let (all, id) = (Arc::new(all), TransactionId::from_u64(1));
        match restored {
            false => store.admit(all.clone(), 0, at(0)),
            true => store.restore(waiting(&all, None), at(0)),
        }
        let last = id.mail(fit as u16);
        store.change(id.mail(0), full.clone(), &all, at(1)).unwrap();
        assert_eq!(store.change(last, full.clone(), &all, at(1)), Err(TooManyExtras));
        store.change(id.mail(0), full.clone(), &all, at(1)).expect("in place of what it had");
        let text = store.change(id.mail(0), notes(1), &all, at(1)).expect("less is always taken");
        assert_eq!(text.mail(0).unwrap().extras, Some(notes(1)));
        store.change(last, full.clone(), &all, at(1)).expect("there is room again");
        assert!(store.change(id.mail(0), full.clone(), &all, at(1)).is_err());
        store.on_finish(last, finish(Fate::Delivered), at(2));
        store.change(id.mail(0), full.clone(), &all, at(2)).expect("what arrived takes no room");
    }
}
