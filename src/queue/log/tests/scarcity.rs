//! What happens when the disk is full, and what mail it takes before it is.

use std::io::ErrorKind;

use super::*;
use crate::queue::engine::Accepting;
use crate::queue::memory::{Fault, Loss};
use crate::queue::storage::Storage;

/// Two mails in a log without room for the third.
fn nearly_full() -> (MemoryStorage, Rig) {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    rig.accept(&transaction(2, 1, 50)).unwrap();
    storage.limit(storage.used_bytes() + 10_000);
    (storage, rig)
}

fn outcome(mail: u64, next: Next) -> Entry {
    Entry::Settle(attempt(id(mail).mail(0), next))
}

#[test]
fn r_4_a_record_that_filled_the_disk_is_cut_off_and_mail_goes_on() {
    let (storage, mut rig) = nearly_full();
    for round in 0..20 {
        let before = storage.used_bytes();
        assert_eq!(rig.accept(&transaction(1_000 + round, 1, 20_000)), Err(Refusal::Full));
        assert_eq!(storage.used_bytes(), before, "what was written of it is given back");
        assert_eq!(rig.status().total_bytes, before);
        assert_eq!(rig.accept(&transaction(3 + round, 1, 50)), Ok(()));
        rig.settle(id(3 + round).mail(0), Next::Delivered);
        rig.rest();
        assert_eq!(rig.status().settles_unsynced, 0);
        assert_eq!(rig.status().total_bytes, storage.used_bytes());
    }
    storage.crash(Loss::Unsynced);
    let (_, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.report.damaged, []);
    let ids: Vec<_> = recovered.waiting.iter().map(|waiting| waiting.id).collect();
    assert_eq!(ids, [id(1), id(2)]);
}

#[test]
fn r_4_what_could_not_be_cut_off_is_counted_and_cut_off_later() {
    let (storage, mut rig) = nearly_full();
    // Two appends, the second without any room, then the cut.
    storage.fail_call(storage.calls() + 3, Fault::Error(ErrorKind::Other));
    assert_eq!(rig.accept(&transaction(3, 1, 20_000)), Err(Refusal::Full));
    assert_eq!(storage.free_bytes().unwrap(), 0);
    assert_eq!(rig.status().total_bytes, storage.used_bytes());
    assert_eq!(rig.accept(&transaction(4, 1, 50)), Ok(()), "it is tried again by itself");
    assert_eq!(rig.status().total_bytes, storage.used_bytes());
}

#[test]
fn r_4_a_start_on_a_full_disk_cuts_off_what_fills_it() {
    for loss in [Loss::Nothing, Loss::Prefix, Loss::Unsynced] {
        let (storage, mut rig) = nearly_full();
        storage.fail_call(storage.calls() + 3, Fault::Crash);
        let _ = rig.accept(&transaction(3, 1, 20_000));
        drop(rig);
        storage.crash(loss);
        let (mut rig, recovered) = Rig::open(&storage).unwrap();
        assert_eq!(recovered.waiting.len(), 2, "{loss:?}");
        assert_eq!(rig.status().accepting, Accepting::Yes, "{loss:?}");
        assert_eq!(rig.status().total_bytes, storage.used_bytes(), "{loss:?}");
        rig.settle(id(1).mail(0), Next::Delivered);
        rig.settle(id(2).mail(0), Next::Delivered);
        rig.rest();
        assert_eq!(rig.status().settles_unsynced, 0, "{loss:?}");
        storage.crash(Loss::Unsynced);
        let (_, recovered) = Rig::open(&storage).unwrap();
        assert_eq!(recovered.waiting, [], "{loss:?}: nothing is delivered twice");
        assert_eq!(recovered.report.damaged, [], "{loss:?}");
    }
}

#[test]
fn a_start_cuts_off_what_follows_a_seal() {
    let (storage, mut rig) = nearly_full();
    let name = storage.list().unwrap().remove(0);
    rig.accept(&transaction(3, 1, 1_500)).unwrap();
    rig.accept(&transaction(4, 1, 50)).unwrap();
    assert_eq!(rig.status().segments, 2);
    let mut bytes = storage.contents(&name).unwrap();
    let length = bytes.len();
    bytes.extend([7; 3_000]);
    storage.put(&name, bytes);
    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting.len(), 4);
    assert_eq!(storage.contents(&name).unwrap().len(), length);
    assert_eq!(rig.status().total_bytes, storage.used_bytes());
}

#[test]
fn below_the_floor_mail_is_refused_and_outcomes_are_written() {
    let storage = MemoryStorage::new(1);
    storage.limit(100_000);
    let floor = Options { min_free_bytes: 50_000, segment_bytes: 200_000, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, floor).unwrap();
    let mut number = 1;
    while rig.accept(&transaction(number, 1, 2_000)).is_ok() {
        number += 1;
        rig.now_ms += 1;
    }
    let free = storage.free_bytes().unwrap();
    assert!((50_000..53_000).contains(&free), "{free} bytes are left");
    // Something else takes more.
    storage.limit(100_000 - 20_000);
    rig.now_ms += 1000;
    rig.commit([]);
    assert_eq!(rig.status().accepting, Accepting::Full);
    assert_eq!(rig.accept(&transaction(number, 1, 10)), Err(Refusal::Full));
    let done = rig.commit([(0, Entry::Settle(attempt(id(1).mail(0), Next::Delivered)))]);
    assert!(done.is_empty());
    rig.now_ms += 100;
    assert_eq!(rig.commit([])[&0].settled, 1);
    storage.limit(u64::MAX);
    rig.now_ms = rig.journal.next_wake(rig.now_ms).expect("it looks again by itself");
    rig.commit([]);
    assert_eq!(rig.status().accepting, Accepting::Yes);
}

#[test]
fn a_mail_that_would_go_below_the_floor_is_refused_unwritten() {
    let storage = MemoryStorage::new(1);
    storage.limit(100_000);
    let floor = Options { min_free_bytes: 50_000, segment_bytes: 200_000, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, floor).unwrap();
    rig.accept(&transaction(1, 1, 2_000)).unwrap();
    let before = storage.used_bytes();
    assert_eq!(rig.accept(&transaction(2, 1, 49_000)), Err(Refusal::Full));
    assert_eq!(storage.used_bytes(), before);
    // Two that would fit one by one do not go together.
    let accept = |number| (0, Entry::Accept(Arc::new(transaction(number, 1, 25_000))));
    let done = rig.commit([accept(3), accept(4)]);
    assert_eq!(done[&0].accepted, [(id(3), Ok(())), (id(4), Err(Refusal::Full))]);
    assert_eq!(rig.status().accepting, Accepting::Yes, "there is room for smaller ones");
    assert_eq!(rig.accept(&transaction(5, 1, 2_000)), Ok(()));
}

#[test]
fn on_a_disk_that_runs_short_one_mail_that_stays_keeps_nothing_else() {
    let storage = MemoryStorage::new(1);
    storage.limit(60_000);
    let floor = Options { min_free_bytes: 30_000, segment_bytes: 12_000, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, floor).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    for number in 2..300 {
        rig.now_ms += 100;
        assert_eq!(rig.accept(&transaction(number, 1, 1_000)), Ok(()), "mail {number}");
        rig.settle(id(number).mail(0), Next::Delivered);
    }
    rig.rest();
    assert!((1..100).contains(&rig.status().rewritten), "{} times", rig.status().rewritten);
}

#[test]
fn on_a_disk_that_others_fill_outcomes_are_written_from_the_reserve() {
    for floor in [0, 20_000] {
        let storage = MemoryStorage::new(1);
        storage.limit(200_000);
        let kept = Options { reserve_bytes: 5_000, min_free_bytes: floor, ..options() };
        let (mut rig, _) = Rig::open_with(&storage, kept.clone()).unwrap();
        for number in 1..=20 {
            rig.accept(&transaction(number, 1, 50)).unwrap();
        }
        assert_eq!(storage.contents("reserve").unwrap().len(), 5_000);
        // Others take all that is left.
        storage.limit(storage.used_bytes());
        for number in 1..=20 {
            rig.settle(id(number).mail(0), Next::Delivered);
        }
        // It never rests: it looks for room once a second.
        for _ in 0..10 {
            rig.now_ms += 200;
            rig.commit([]);
        }
        assert_eq!(rig.status().settles_unsynced, 0, "floor {floor}");
        assert_eq!(storage.contents("reserve"), None);
        // What outcomes need is not given to mail.
        assert_eq!(rig.status().accepting, Accepting::Full);
        assert_eq!(rig.accept(&transaction(21, 1, 10)), Err(Refusal::Full), "floor {floor}");
        drop(rig);
        storage.crash(Loss::Unsynced);
        let (mut rig, recovered) = Rig::open_with(&storage, kept).unwrap();
        assert_eq!(recovered.waiting, [], "floor {floor}");
        assert_eq!(rig.status().accepting, Accepting::Full, "floor {floor}");
        storage.limit(200_000);
        rig.now_ms = rig.journal.next_wake(rig.now_ms).expect("it looks again by itself") + 1_000;
        rig.commit([]);
        assert_eq!(rig.status().accepting, Accepting::Yes, "floor {floor}");
        assert_eq!(storage.contents("reserve").unwrap().len(), 5_000);
        assert_eq!(rig.accept(&transaction(21, 1, 10)), Ok(()));
    }
}

/// What waits is more than a batch takes, so that an opening which failed would leave one that is full.
#[test]
fn on_a_full_disk_everybody_is_answered_however_much_waits() {
    let (storage, mut rig) = nearly_full();
    storage.limit(storage.used_bytes());
    let result = |number| results::result(number, 1 << 20);
    let told = |number| [(0, Entry::Accept(Arc::new(result(number)))), (0, outcome(1, LATER))];
    rig.commit((10..17).flat_map(told));
    for round in 0..4 {
        rig.now_ms += 3_000;
        rig.commit(told(200 + round));
        assert_eq!(rig.accept(&transaction(100 + round, 1, 50)), Err(Refusal::Full));
    }
    rig.commit([(0, outcome(2, Next::Delivered))]);
    // A stop takes what it can from the queue and says what is left.
    assert_eq!(rig.journal.finish(rig.now_ms, &mut Completions::new()), 12);
    storage.limit(u64::MAX);
    rig.now_ms += 3_000;
    rig.rest();
    assert!(rig.status().delivering);
    drop(rig);
    storage.crash(Loss::Unsynced);
    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting.len(), 1);
    assert_eq!(recovered.waiting[0].mails[0].attempts, 11);
    assert_eq!(rig.reader.shelved("results", None, 200).len(), 11);
}

fn shelved(rig: &Rig) -> Vec<TransactionId> {
    rig.reader.shelved("results", None, usize::MAX).into_iter().map(|(id, _)| id).collect()
}

/// Commits a while after the other; it never rests while something waits for room.
fn pass(rig: &mut Rig, rounds: usize) {
    for _ in 0..rounds {
        rig.now_ms += 500;
        rig.commit([]);
    }
}

/// Results end where outcomes begin: what lets go of them can be written, and what waited follows.
#[test]
fn results_take_neither_the_reserve_nor_what_outcomes_need() {
    for (floor, reserve_bytes) in [(40_000, 0), (40_000, 5_000), (0, 5_000)] {
        let context = format!("floor {floor}, reserve {reserve_bytes}");
        let storage = MemoryStorage::new(1);
        storage.limit(400_000);
        let kept = Options { reserve_bytes, min_free_bytes: floor, ..options() };
        let (mut rig, _) = Rig::open_with(&storage, kept.clone()).unwrap();
        for number in 1..=40 {
            rig.accept(&transaction(number, 1, 50)).unwrap();
        }
        // Others leave room for some of the results.
        storage.limit(storage.used_bytes() + floor / 2 + 20_000);
        pass(&mut rig, 3);
        for number in 1..=40 {
            let result = results::result(100 + number, 1_000);
            rig.commit([(0, Entry::Accept(Arc::new(result))), (0, outcome(number, LATER))]);
            pass(&mut rig, 3);
        }
        let there = shelved(&rig);
        let waiting = rig.status().settles_unsynced as usize;
        assert!((5..30).contains(&there.len()), "{context}: {}", there.len());
        assert_eq!(there.len() + waiting, 40, "{context}");
        // A mail whose outcome waits is delivered: neither passes the other.
        rig.commit([(0, outcome(40, Next::Delivered))]);
        pass(&mut rig, 3);
        assert_eq!(rig.status().settles_unsynced as usize, waiting + 1, "{context}");
        // A crash here costs outcomes with their results.
        let copy = storage.copy();
        copy.crash(Loss::Unsynced);
        let (other, recovered) = Rig::open_with(&copy, kept.clone()).unwrap();
        let tried = |mail: &&crate::queue::Waiting| mail.mails[0].attempts > 0;
        assert_eq!(recovered.waiting.iter().filter(tried).count(), there.len(), "{context}");
        assert_eq!((recovered.waiting.len(), shelved(&other)), (40, there.clone()), "{context}");
        drop(other);
        // What lets go of results is written at once; with more room the rest follows.
        for id in there {
            rig.settle(id.mail(0), Next::Removed);
        }
        pass(&mut rig, 3);
        assert_eq!(shelved(&rig).len() + rig.status().settles_unsynced as usize, waiting + 1);
        storage.limit(400_000);
        pass(&mut rig, 10);
        assert_eq!(rig.status().settles_unsynced, 0, "{context}");
        drop(rig);
        storage.crash(Loss::Unsynced);
        let (_, recovered) = Rig::open_with(&storage, kept).unwrap();
        assert_eq!(recovered.waiting.len(), 39, "{context}");
        assert!(recovered.waiting.iter().all(|mail| mail.mails[0].attempts == 1), "{context}");
    }
}

#[test]
fn deliveries_pause_while_too_many_results_wait_for_room() {
    let storage = MemoryStorage::new(1);
    let floor = Options { min_free_bytes: 50_000, segment_bytes: 1 << 20, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, floor).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    storage.limit(storage.used_bytes() + 20_000);
    pass(&mut rig, 3);
    let told = |number| {
        [(0, Entry::Accept(Arc::new(results::result(number, 100)))), (0, outcome(1, LATER))]
    };
    rig.commit((10..1_000).flat_map(told));
    assert!(rig.status().delivering);
    rig.commit((1_000..1_100).flat_map(told));
    assert!(!rig.status().delivering);
    storage.limit(u64::MAX);
    pass(&mut rig, 5);
    assert!(rig.status().delivering);
    assert_eq!((rig.status().settles_unsynced, shelved(&rig).len()), (0, 1_090));
}

/// What waited for the disk is more than one batch: it goes on with the next, and nothing is lost.
#[test]
fn what_waited_is_written_batch_by_batch() {
    let (storage, mut rig) = nearly_full();
    storage.limit(storage.used_bytes());
    let told = |number| {
        [(0, Entry::Accept(Arc::new(results::result(number, 3 << 20)))), (0, outcome(1, LATER))]
    };
    rig.commit(told(10));
    rig.commit((11..16).flat_map(told));
    storage.limit(u64::MAX);
    let mut written = vec![storage.used_bytes()];
    for _ in 0..20 {
        rig.now_ms += 1_000;
        rig.commit([]);
        written.push(storage.used_bytes());
    }
    assert!(written.is_sorted_by_key(|&bytes| bytes), "{written:?}");
    let most = written.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(most < 14 << 20, "{written:?}");
    assert_eq!((rig.status().settles_unsynced, shelved(&rig).len()), (0, 6));
}

#[test]
fn a_disk_that_keeps_no_reserve_is_used_without() {
    let kept = Options { reserve_bytes: 5_000, ..options() };
    // One of the first calls makes the reserve.
    let mut without = 0;
    for call in 1..10 {
        let storage = MemoryStorage::new(1);
        storage.fail_call(call, Fault::Error(ErrorKind::Unsupported));
        let Ok((mut rig, _)) = Rig::open_with(&storage, kept.clone()) else { continue };
        rig.now_ms += 5_000;
        rig.commit([]);
        assert_eq!(rig.accept(&transaction(1, 1, 50)), Ok(()), "call {call}");
        without += u32::from(storage.contents("reserve").is_none());
    }
    assert_eq!(without, 1);
}

#[test]
fn a_mail_larger_than_any_record_is_refused_for_good() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    let mut large = transaction(1, 1, 50);
    // 17 times 64 MiB; their memory is one and never touched.
    large.bodies = vec![Body::try_from(vec![0; 64 << 20]).unwrap(); 17];
    assert_eq!(rig.accept(&large), Err(Refusal::TooLarge));
    assert_eq!(rig.accept(&transaction(2, 1, 50)), Ok(()));
}
