//! What tells of an outcome: kept as one with it, found again, and the attempts that it tells of.

use super::*;
use crate::queue::engine::{Recalled, Shelf};
use crate::queue::log::history::ATTEMPTS_KEPT_MAX;

/// A result with a text of `bytes` bytes.
pub(super) fn result(number: u64, bytes: usize) -> Transaction {
    let origin = Origin::internal("mail.example");
    Transaction { shelf: Some("results".into()), origin, ..transaction(number, 1, bytes) }
}

fn with_result(rig: &mut Rig, result: &Transaction, mail: MailId, next: Next) -> Completions {
    let accept = Entry::Accept(Arc::new(result.clone()));
    rig.commit([(0, accept), (0, Entry::Settle(attempt(mail, next)))])
}

fn sizes(reader: &LogReader) -> Vec<(Box<str>, u64)> {
    reader.shelves().into_iter().map(|Shelf { name, entries, .. }| (name, entries)).collect()
}

#[test]
fn a_result_is_there_when_its_outcome_is_durable_and_leaves_when_it_is_taken() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 40)).unwrap();
    let done = with_result(&mut rig, &result(2, 60), id(1).mail(0), Next::Delivered);
    assert_eq!((done.len(), sizes(&rig.reader)), (0, vec![]), "nobody waits for it");
    rig.rest();
    assert_eq!(sizes(&rig.reader), [("results".into(), 1)]);
    assert_eq!(rig.reader.read(id(2)).unwrap().bodies, result(2, 60).bodies);
    drop(rig);
    let (mut rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting, [], "it is no mail");
    assert_eq!(recovered.id_max, Some(id(2)));
    assert_eq!(sizes(&rig.reader), [("results".into(), 1)]);
    rig.settle(id(2).mail(0), Next::Removed);
    rig.rest();
    drop(rig);
    assert_eq!(sizes(&LogReader::open(Arc::new(storage)).unwrap().0), []);
}

/// A notice is mail of this server's own: its worker is told, and no outcome need follow.
#[test]
fn a_notice_is_answered_and_stands_alone_as_well() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    let origin = Origin::internal("mail.example");
    let notice = Transaction { origin, ..transaction(1, 1, 40) };
    assert_eq!(rig.commit([(3, Entry::Accept(Arc::new(notice)))]).len(), 0);
    rig.now_ms += 1000;
    let done = rig.commit([]);
    assert_eq!(done[&3].accepted, [(id(1), Ok(()))]);
    drop(rig);
    let (_, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting.len(), 1);
}

#[test]
fn results_are_written_where_mail_is_refused_for_want_of_room() {
    let storage = MemoryStorage::new(1);
    let options = Options { min_free_bytes: 50_000, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, options).unwrap();
    rig.accept(&transaction(1, 1, 40)).unwrap();
    storage.limit(storage.used_bytes() + 40_000);
    rig.now_ms += 10_000;
    assert_eq!(rig.accept(&transaction(2, 1, 40)), Err(Refusal::Full));
    with_result(&mut rig, &result(3, 60), id(1).mail(0), Next::Delivered);
    rig.now_ms += 1000;
    rig.commit([]);
    assert_eq!(sizes(&rig.reader), [("results".into(), 1)]);
}

/// A damaged octet in a result costs the outcome as well: the mail is tried again, and tells of it again.
#[test]
fn a_damaged_result_takes_its_outcome_with_it() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 40)).unwrap();
    with_result(&mut rig, &result(2, 60), id(1).mail(0), Next::Delivered);
    rig.rest();
    drop(rig);
    let name = &crate::queue::Storage::list(&storage).unwrap()[0];
    let mut bytes = storage.contents(name).unwrap();
    let text = bytes.windows(11).position(|window| window == b"Subject: 2\r").unwrap();
    bytes[text] ^= 1;
    storage.overwrite(name, bytes);
    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting[0].id, id(1));
    assert_eq!((recovered.report.damaged.len(), sizes(&rig.reader)), (1, vec![]));
}

fn recall(rig: &Rig, mail: MailId) -> (Transaction, Vec<u32>) {
    let recalled = rig.reader.recall(mail.transaction, &[mail.index], 20).unwrap();
    let Recalled { transaction, mut attempts } = recalled;
    let attempts = attempts.pop().unwrap();
    assert!(attempts.iter().all(|(_, attempt)| attempt.mail == mail));
    (transaction, attempts.into_iter().map(|(number, _)| number).collect())
}

/// The first ten and the latest ninety: over a restart, and when the record was rewritten meanwhile.
#[test]
fn the_attempts_of_a_mail_are_recalled_and_bounded() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 2, 400)).unwrap();
    let mail = id(1).mail(1);
    let retry = |rig: &mut Rig| {
        rig.settle(mail, LATER);
        rig.rest();
    };
    (0..80).for_each(|_| retry(&mut rig));
    assert!(rig.status().rewritten > 0, "the record moved on");
    assert_eq!(recall(&rig, mail).1, (1..=80).collect::<Vec<u32>>());
    (80..150).for_each(|_| retry(&mut rig));
    drop(rig);
    let (rig, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting[0].mails[1].attempts, 150);
    let (transaction, numbers) = recall(&rig, mail);
    assert!(numbers.len() >= ATTEMPTS_KEPT_MAX, "{}", numbers.len());
    assert_eq!((numbers[9], *numbers.last().unwrap()), (10, 150));
    assert!(numbers.is_sorted() && numbers.contains(&61));
    assert_eq!(transaction.mails.len(), 1, "only what was asked for");
    assert_eq!(transaction.bodies[0].as_bytes(), &b"Subject: 1\r\n\r\nbbbbbbbbb"[..20]);
}

/// Attempts of very many recipients with very long texts are more than a record can hold.
#[test]
fn mail_is_rewritten_whatever_its_attempts_take() {
    let storage = MemoryStorage::new(1);
    let options = Options { segment_bytes: 1 << 20, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, options).unwrap();
    let recipients = 22_000;
    rig.accept(&transaction(1, recipients, 40)).unwrap();
    let long: Box<str> = "x".repeat(1024).into();
    let settle = |index| {
        let [status, result, description] = [(); 3].map(|()| long.clone());
        let attempt = attempt(id(1).mail(index), LATER);
        (0, Entry::Settle(Attempt { status, result, description, ..attempt }))
    };
    let mut queue: VecDeque<Handed> = (0..recipients).map(settle).collect();
    while !queue.is_empty() {
        rig.journal.commit(&mut queue, rig.now_ms);
    }
    rig.rest();
    assert!(rig.status().rewritten > 0);
    assert_eq!(rig.status().damaged, 0);
    drop(rig);
    let (_, recovered) = Rig::open(&storage).unwrap();
    assert_eq!(recovered.waiting[0].mails.len(), usize::from(recipients));
    assert_eq!(recovered.waiting[0].mails[7].attempts, 1);
}
