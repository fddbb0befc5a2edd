//! What the log does, one behaviour a test.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::queue::engine::{Accepting, Completion, Queue, ReadError, ShutdownError};
use crate::queue::log::LogQueue;
use crate::queue::mail::NO_BODY;
use crate::queue::memory::{Fault, Loss};
use crate::queue::storage::{DiskStorage, Storage};

#[test]
fn what_is_accepted_is_waiting_after_a_restart() {
    let storage = MemoryStorage::new(1);
    let (mut rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.id_max, None);
    for number in 1..=3 {
        assert_eq!(rig.accept(&transaction(number, 2, 50)), Ok(()));
    }
    rig.settle(id(1).mail(0), Next::Delivered);
    rig.settle(id(1).mail(1), LATER);
    rig.settle(id(1).mail(1), Next::Failed);
    rig.settle(id(2).mail(0), Next::Removed);
    rig.settle(id(2).mail(1), Next::Delivered);
    storage.crash(Loss::Nothing);

    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.id_max, Some(id(3)));
    assert_eq!(recovered.report.damaged, []);
    let [first, third] = &recovered.waiting[..] else { panic!("two are left") };
    assert_eq!((first.id, third.id), (id(1), id(3)));
    let [mail] = &first.mails[..] else { panic!("one recipient is left") };
    assert_eq!((mail.index, mail.attempts), (1, 2));
    assert_eq!(mail.last.as_deref(), Some(&attempt(id(1).mail(1), Next::Failed)));
    assert_eq!(third.mails.len(), 2);
    assert_eq!(third.mails[0].last, None);
    assert_eq!(rig.reader.read(id(3)).unwrap(), transaction(3, 2, 50));
    assert!(matches!(rig.reader.read(id(2)), Err(ReadError::Unknown(_))));
}

#[test]
fn settles_alone_are_synced_when_their_time_is_up() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 2, 50)).unwrap();
    let syncs = rig.status().syncs;
    let done = rig.commit([(1, Entry::Settle(attempt(id(1).mail(0), LATER)))]);
    assert!(done.is_empty());
    assert_eq!(rig.status().settles_unsynced, 1);
    assert_eq!(rig.journal.next_wake(rig.now_ms), Some(100));
    rig.now_ms = 100;
    let done = rig.commit([]);
    assert_eq!(done[&1].settled, 1);
    assert_eq!((rig.status().settles_unsynced, rig.status().syncs), (0, syncs + 1));
    assert_eq!(rig.journal.next_wake(rig.now_ms), None);
}

#[test]
fn settles_become_durable_with_the_next_transaction() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    rig.settle(id(1).mail(0), Next::Delivered);
    // One for a mail that is not held is counted in its turn.
    let done = rig.commit([
        (0, Entry::Settle(attempt(id(99).mail(0), Next::Delivered))),
        (0, Entry::Accept(Arc::new(transaction(2, 1, 50)))),
    ]);
    assert_eq!(done[&0], Completion { accepted: vec![(id(2), Ok(()))], settled: 2 });
    storage.crash(Loss::Unsynced);
    let (_, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting.len(), 1);
}

#[test]
fn what_no_record_can_hold_is_refused() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    let good = transaction(1, 2, 50);
    let mut rows = vec![("no mails", Transaction { mails: Vec::new(), ..good.clone() })];
    rows.push(("no body", Transaction { bodies: Vec::new(), ..good.clone() }));
    let mut unordered = good.clone();
    unordered.mails.reverse();
    rows.push(("mails out of order", unordered));
    for (name, transaction) in rows {
        assert_eq!(rig.accept(&transaction), Err(Refusal::Failed), "{name}");
    }
    assert_eq!(rig.accept(&good), Ok(()));
    assert_eq!(rig.accept(&good), Err(Refusal::Failed), "an id that is in use");
    assert_eq!(rig.status().accepting, Accepting::Yes);
}

#[test]
fn r_3_a_failed_sync_refuses_its_batch_and_the_next_one_is_accepted() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    rig.settle(id(1).mail(0), LATER);
    // The append is the next call, the sync the one after.
    storage.fail_call(storage.calls() + 2, Fault::Error(ErrorKind::Other));
    assert_eq!(rig.accept(&transaction(2, 1, 50)), Err(Refusal::Failed));
    assert_eq!(rig.status().accepting, Accepting::Failed);
    assert!(rig.status().trouble.is_some());
    assert_eq!(rig.accept(&transaction(3, 1, 50)), Ok(()));
    storage.crash(Loss::Nothing);
    let (_, recovered) = Rig::open(&storage).unwrap();
    let ids: Vec<_> = recovered.waiting.iter().map(|waiting| waiting.id).collect();
    assert_eq!(ids, [id(1), id(3)], "the refused one is in the bytes but does not count");
    assert_eq!(recovered.waiting[0].mails[0].attempts, 1, "its settle was repeated, counted once");
    assert_eq!(recovered.report.damaged, []);
}

#[test]
fn r_4_a_disk_that_was_full_is_used_again_without_a_restart() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    storage.limit(storage.used_bytes() + 20);
    assert_eq!(rig.accept(&transaction(2, 1, 50)), Err(Refusal::Full));
    for number in 3..10 {
        rig.now_ms += 500;
        assert_eq!(rig.accept(&transaction(number, 1, 50)), Err(Refusal::Full));
    }
    rig.settle(id(1).mail(0), LATER);
    assert_eq!(rig.status().accepting, Accepting::Full);
    storage.limit(u64::MAX);
    let wake = rig.journal.next_wake(rig.now_ms).expect("it tries again by itself");
    assert!(wake <= rig.now_ms + 2000);
    rig.now_ms = wake;
    assert_eq!(settled_within(&mut rig, 5), 1, "what waited is durable");
    assert_eq!(rig.status().accepting, Accepting::Yes);
    assert_eq!(rig.accept(&transaction(10, 1, 50)), Ok(()));
}

/// How many outcomes are told of in so many batches: what waited is written some at a time.
fn settled_within(rig: &mut Rig, batches: usize) -> usize {
    let mut settled = 0;
    for _ in 0..batches {
        settled += rig.commit([]).get(&0).map_or(0, |completion| completion.settled);
        rig.now_ms += 100;
    }
    settled
}

#[test]
fn outcomes_are_held_within_a_bound_while_the_disk_is_away() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 2, 50)).unwrap();
    storage.limit(0);
    assert_eq!(rig.accept(&transaction(2, 1, 50)), Err(Refusal::Full));
    for _ in 0..70 {
        rig.commit((0..1000).map(|_| (0, Entry::Settle(attempt(id(1).mail(0), LATER)))));
    }
    assert!(!rig.status().delivering);
    for _ in 0..70 {
        rig.commit((0..1000).map(|_| (0, Entry::Settle(attempt(id(1).mail(0), LATER)))));
    }
    assert!(rig.status().settles_unsynced < 70_000, "all but the last of a mail are forgotten");
    storage.limit(u64::MAX);
    rig.now_ms += 5000;
    assert_eq!(settled_within(&mut rig, 50), 140_000);
    assert!(rig.status().delivering);
    let (_, recovered) = LogReader::open(Arc::new(storage)).unwrap();
    assert_eq!(recovered.waiting[0].mails[0].attempts, 140_000);
}

#[test]
fn space_is_bounded_under_one_mail_that_stays() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 3, 50)).unwrap();
    rig.settle(id(1).mail(0), Next::Delivered);
    rig.settle(id(1).mail(1), LATER);
    rig.settle(id(1).mail(2), LATER);
    for number in 2..600 {
        rig.now_ms += 10;
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
        assert!(storage.used_bytes() < 5 * options().segment_bytes);
    }
    let status = rig.status();
    assert!((1..100).contains(&status.rewritten), "{} times", status.rewritten);
    let expected = transaction(1, 3, 50);
    let read = rig.reader.read(id(1)).unwrap();
    assert_eq!(read.mails, expected.mails[1..]);
    assert_eq!(read.bodies, expected.bodies);
    storage.crash(Loss::Unsynced);
    let (_, recovered) = Rig::open(&storage).unwrap();
    let mail = &recovered.waiting[0].mails[0];
    assert_eq!((mail.index, mail.attempts), (1, 1));
    assert_eq!(mail.last.as_deref(), Some(&attempt(id(1).mail(1), LATER)));
}

#[test]
fn a_text_without_recipients_is_not_rewritten() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    let mut two = transaction(1, 2, 50);
    two.bodies.push(Body::try_from(b"the other text\0".to_vec()).unwrap());
    two.mails[1].body = 1;
    rig.accept(&two).unwrap();
    rig.settle(id(1).mail(0), Next::Delivered);
    for number in 2..100 {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
    }
    assert!(rig.status().rewritten > 0);
    let read = rig.reader.read(id(1)).unwrap();
    assert_eq!(read.body(&read.mails[0]), Some(&two.bodies[1]));
    assert_eq!(read.bodies[0], Body::default());
}

/// D-64: a plugin may take the text away.
#[test]
fn d_64_a_mail_without_a_text_is_waiting_after_a_restart() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    let mut one_of_two = transaction(1, 2, 50);
    one_of_two.mails[1].body = NO_BODY;
    let mut alone = transaction(2, 1, 50);
    (alone.mails[0].body, alone.bodies) = (NO_BODY, Vec::new());
    rig.accept(&one_of_two).unwrap();
    rig.accept(&alone).unwrap();
    rig.settle(id(2).mail(0), LATER);
    storage.crash(Loss::Unsynced);

    let (mut rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.report.damaged, []);
    let mails: Vec<usize> = recovered.waiting.iter().map(|waiting| waiting.mails.len()).collect();
    assert_eq!(mails, [2, 1]);
    assert_eq!(rig.reader.read(id(1)).unwrap(), one_of_two);
    assert_eq!(rig.reader.read(id(2)).unwrap(), alone);
    // The one with a text goes; what is left is rewritten, and found by the next start.
    rig.settle(id(1).mail(0), Next::Delivered);
    for number in 3..100 {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
    }
    rig.rest();
    assert!(rig.status().rewritten > 0);
    storage.crash(Loss::Unsynced);
    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!((recovered.waiting.len(), recovered.report.damaged.len()), (2, 0));
    for id in [id(1), id(2)] {
        let read = rig.reader.read(id).unwrap();
        let [mail] = &read.mails[..] else { panic!("one recipient is left") };
        assert_eq!(read.body(mail), None);
    }
}

#[test]
fn ids_whose_records_are_gone_are_not_forgotten() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    // The clock went back after the first.
    for number in [1_000].into_iter().chain(1..60) {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
    }
    rig.rest();
    assert!(rig.status().segments == 1);
    for _ in 0..3 {
        storage.crash(Loss::Unsynced);
        let (_, recovered) = Rig::open(&storage).unwrap();
        assert_eq!(recovered.id_max, Some(id(1_000)));
    }
}

#[test]
fn short_lived_mail_is_written_once() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    for number in 1..500 {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        if number > 20 {
            rig.settle(id(number - 20).mail(0), Next::Delivered);
        }
    }
    assert_eq!(rig.status().rewritten, 0);
    assert!(storage.used_bytes() < 30_000);
}

#[test]
fn an_outcome_in_the_batch_that_rewrites_its_mail_counts() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 2, 50)).unwrap();
    let mut number = 2;
    // As far as the point where the next batch rewrites.
    while rig.journal.next_wake(rig.now_ms) != Some(rig.now_ms) {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
        number += 1;
    }
    rig.commit([
        (0, Entry::Settle(attempt(id(1).mail(0), Next::Delivered))),
        (0, Entry::Settle(attempt(id(1).mail(1), LATER))),
    ]);
    rig.rest();
    assert!(rig.status().rewritten > 0);
    let (_, recovered) = LogReader::open(Arc::new(storage)).unwrap();
    let [waiting] = &recovered.waiting[..] else { panic!("one is left") };
    let [mail] = &waiting.mails[..] else { panic!("one recipient is left") };
    assert_eq!((mail.index, mail.attempts), (1, 1));
    assert!(mail.last.is_some());
}

/// Opens a queue with its thread, whose completions come out of the channel.
fn threaded(
    storage: Arc<dyn Storage>,
) -> (LogQueue, Recovered, crossbeam_channel::Receiver<(usize, Completion)>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let sender = Mutex::new(sender);
    let notify = move |worker, completion| {
        let _ = sender.lock().unwrap().send((worker, completion));
    };
    let (queue, recovered) = LogQueue::open(storage, Options::default(), Box::new(notify)).unwrap();
    (queue, recovered, receiver)
}

/// Far longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_thread_answers_every_worker_and_drains_at_shutdown() {
    let storage = Arc::new(MemoryStorage::new(1));
    let (queue, _, completions) = threaded(Arc::<MemoryStorage>::clone(&storage));
    assert_eq!(queue.accepting(), Accepting::Yes);
    for worker in 0..3 {
        let accept = Entry::Accept(Arc::new(transaction(worker as u64 + 1, 1, 50)));
        queue.hand_over(worker, vec![accept]);
    }
    let mut answered: Vec<_> = completions.iter().take(3).collect();
    answered.sort_by_key(|(worker, _)| *worker);
    for (worker, completion) in answered {
        assert_eq!(completion.accepted, [(id(worker as u64 + 1), Ok(()))]);
    }
    assert_eq!(queue.read(id(2)).unwrap(), transaction(2, 1, 50));
    queue.hand_over(1, vec![Entry::Settle(attempt(id(2).mail(0), Next::Delivered))]);
    assert_eq!(queue.shutdown(PATIENCE), Ok(()));
    let (_, last) = completions.recv().unwrap();
    assert_eq!(last.settled, 1);
    assert_eq!(queue.accepting(), Accepting::Failed);
    assert_eq!(queue.shutdown(PATIENCE), Err(ShutdownError::Stopped));
    storage.crash(Loss::Unsynced);
    let (_, recovered) = LogReader::open(storage).unwrap();
    assert_eq!(recovered.waiting.len(), 2);
}

#[test]
fn a_shutdown_says_what_could_not_be_written() {
    let storage = Arc::new(MemoryStorage::new(1));
    let (queue, _, completions) = threaded(Arc::<MemoryStorage>::clone(&storage));
    queue.hand_over(0, vec![Entry::Accept(Arc::new(transaction(1, 1, 50)))]);
    completions.recv().unwrap();
    storage.limit(0);
    queue.hand_over(0, vec![Entry::Settle(attempt(id(1).mail(0), LATER))]);
    assert_eq!(queue.shutdown(PATIENCE), Err(ShutdownError::Unwritten { settles: 1 }));
}

/// A directory of this process that goes away with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rohrpost-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn on_disk_a_batch_of_more_slices_than_one_call_takes_reads_back() {
    let directory = Directory::new("slices");
    let storage = Arc::new(DiskStorage::new(&directory.0));
    let (queue, _, completions) = threaded(Arc::<DiskStorage>::clone(&storage));
    let accept = |number| Entry::Accept(Arc::new(transaction(number, 1, 40)));
    queue.hand_over(0, (1..=1500).map(accept).collect());
    let (_, completion) = completions.recv().unwrap();
    assert_eq!(completion.accepted.len(), 1500);
    assert!(completion.accepted.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(queue.status().commits, 1);
    queue.shutdown(PATIENCE).unwrap();
    let (queue, recovered, _) = threaded(storage);
    assert_eq!(recovered.waiting.len(), 1500);
    assert_eq!(recovered.report.damaged, []);
    assert_eq!(queue.read(id(777)).unwrap(), transaction(777, 1, 40));
    queue.shutdown(PATIENCE).unwrap();
}
