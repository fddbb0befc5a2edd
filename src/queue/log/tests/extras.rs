//! What plugins have made of single mails: it reads back, over restarts and rewriting, and the latest
//! holds.

use super::*;
use crate::queue::dice::Dice;
use crate::queue::log::accepted::take_accept;
use crate::queue::log::extras::put_extras;
use crate::queue::log::history::History;
use crate::queue::log::record::METADATA_BYTES_MAX;

fn random(dice: &mut Dice) -> Extras {
    let text = |dice: &mut Dice| format!("\u{e4}{}\"\\\n", dice.next());
    let wishes = (dice.below(2) == 0).then(|| {
        let attempts_max = (dice.below(2) == 0).then(|| dice.next() as u32);
        let properties = Some(serde_json::json!({ text(dice): text(dice) }).to_string().into());
        Box::new(Wishes { attempts_max, properties, tags: [text(dice).into()].into(), ..wishes(1) })
    });
    let mut notes = MailNotes::default();
    for _ in 0..dice.below(5) {
        let value = dice.next().to_le_bytes();
        assert!(notes.set(&text(dice), &value[..dice.below(9) as usize]));
    }
    Extras { wishes, notes }
}

fn read_back(transaction: &Transaction) -> Option<Transaction> {
    let mut out = Vec::new();
    codec::put_accept(&mut out, transaction, &[]).ok()?;
    let bytes = transaction.bodies.iter().map(|body| body.as_bytes_with_nul().len() as u32).sum();
    Some(take_accept(&out, bytes)?.transaction)
}

#[test]
fn any_extras_of_a_mail_and_of_an_outcome_read_back() {
    let mut dice = Dice::from_environment();
    for number in 1..300 {
        let mut known = transaction(number, 3, 40);
        for mail in &mut known.mails {
            mail.extras = (dice.below(3) > 0).then(|| Arc::new(random(&mut dice)));
        }
        let read = read_back(&known).expect("they keep their bounds");
        assert_eq!(read.mails, known.mails);
        let extras = known.mails[0].extras.clone();
        let facts = (dice.below(2) == 0).then(|| "{}".into());
        let settle = Attempt { extras, facts, ..attempt(id(1).mail(0), LATER) };
        let mut out = Vec::new();
        if let Some(extras) = &known.mails[0].extras {
            assert!(put_extras(&mut out, extras));
            assert_eq!(extras.bytes(), out.len(), "their bound is one of bytes on disk");
            out.clear();
        }
        codec::put_settle(&mut out, &settle, 7);
        assert_eq!(codec::take_settle(&out).map(|read| read.attempt), Some(settle));
        for cut in 0..out.len() {
            assert!(codec::take_settle(&out[..cut]).is_none(), "{cut}");
        }
    }
}

#[test]
fn extras_beyond_their_bounds_have_no_record_and_cost_no_outcome() {
    let tags = ["x".repeat(Wishes::BYTES_MAX).into()].into();
    let long = Arc::new(Extras {
        wishes: Some(Box::new(Wishes { tags, ..Wishes::default() })),
        ..Extras::default()
    });
    let mut known = transaction(1, 1, 40);
    known.mails[0].extras = Some(long.clone());
    assert_eq!(read_back(&known), None);
    let settle = Attempt { extras: Some(long), ..attempt(id(1).mail(0), LATER) };
    let mut out = Vec::new();
    codec::put_settle(&mut out, &settle, 1);
    let read = codec::take_settle(&out).map(|read| read.attempt);
    assert_eq!(read, Some(Attempt { extras: None, ..settle }));
}

#[test]
fn the_latest_extras_of_a_mail_hold_over_a_restart_and_over_rewriting() {
    let storage = MemoryStorage::new(0);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(4, 2, 40)).unwrap();
    let waits_with = |storage: &MemoryStorage| {
        let (_, recovered) = LogReader::open(Arc::new(storage.clone())).unwrap();
        let mails = recovered.waiting.into_iter().flat_map(|waiting| waiting.mails);
        mails.map(|mail| mail.extras.as_deref().cloned()).collect::<Vec<_>>()
    };
    rig.rest();
    assert_eq!(waits_with(&storage), [None, Some(extras(4))]);
    for number in [5, 6] {
        let extras = Some(Arc::new(extras(number)));
        let changed = Attempt { extras, ..attempt(id(4).mail(1), LATER) };
        rig.commit([(0, Entry::Settle(changed))]);
    }
    rig.settle(id(4).mail(1), LATER);
    rig.rest();
    assert_eq!(waits_with(&storage), [None, Some(extras(6))]);
    // Much mail comes and goes: the one that stays is rewritten.
    for number in 100..300 {
        rig.accept(&transaction(number * 4 + 1, 1, 400)).unwrap();
        rig.settle(id(number * 4 + 1).mail(0), Next::Delivered);
    }
    rig.rest();
    assert!(rig.status().rewritten > 0);
    assert_eq!(waits_with(&storage), [None, Some(extras(6))]);
    let read = rig.reader.read(id(4)).unwrap();
    assert_eq!(read.mails[1].extras.as_deref(), Some(&extras(6)));
}

/// As many bytes as plugins may note on one mail.
fn many_notes() -> Arc<Extras> {
    let mut notes = MailNotes::default();
    assert!(notes.set("n", &vec![b'x'; MailNotes::BYTES_MAX - 1]));
    Arc::new(Extras { notes, ..Extras::default() })
}

/// A log whose oldest segment has a transaction of so many recipients, and a change of each on its way out,
/// after other mail came and went.
fn noted_rig(storage: &MemoryStorage, recipients: u16) -> Rig {
    let whole = Options { segment_bytes: 100 << 20, ..options() };
    let (mut rig, _) = Rig::open_with(storage, whole).unwrap();
    rig.accept(&transaction(1, recipients, 40)).unwrap();
    for index in 0..recipients {
        let extras = Some(many_notes());
        rig.commit([(0, Entry::Settle(Attempt { extras, ..attempt(id(1).mail(index), LATER) }))]);
        rig.now_ms += 200;
    }
    rig.commit([]);
    drop(rig);
    let (mut rig, _) =
        Rig::open_with(storage, Options { segment_bytes: 1 << 20, ..options() }).unwrap();
    for number in 1_000..1_004 {
        rig.accept(&transaction(number * 4 + 1, 1, 1 << 20)).unwrap();
        rig.settle(id(number * 4 + 1).mail(0), Next::Delivered);
        rig.now_ms += 1_000;
        rig.commit([]);
    }
    rig
}

/// How many mails wait with what plugins noted.
fn noted(storage: &MemoryStorage) -> usize {
    let (_, recovered) = LogReader::open(Arc::new(storage.clone())).unwrap();
    assert!(recovered.report.damaged.is_empty());
    let mails = recovered.waiting.into_iter().flat_map(|waiting| waiting.mails);
    mails.filter(|mail| mail.extras.as_ref() == Some(&many_notes())).count()
}

#[test]
fn mail_is_rewritten_with_as_many_extras_as_plugins_may_make() {
    let recipients = (Extras::BYTES_MAX / many_notes().bytes()) as u16;
    let storage = MemoryStorage::new(0);
    let rig = noted_rig(&storage, recipients);
    assert!(rig.status().rewritten > 0);
    assert_eq!((rig.status().damaged, noted(&storage)), (0, recipients.into()));
}

#[test]
fn mail_that_has_no_record_with_its_extras_stays_where_it_is() {
    let recipients = (METADATA_BYTES_MAX / many_notes().bytes()) as u16 + 1;
    let storage = MemoryStorage::new(0);
    let rig = noted_rig(&storage, recipients);
    assert_eq!((rig.status().damaged, noted(&storage)), (0, recipients.into()));
}

#[test]
fn new_mail_leaves_room_for_what_plugins_make_of_it_later() {
    let mut known = transaction(1, 1, 40);
    let long = |bytes: usize| -> Box<[u8]> { vec![b'x'; bytes].into() };
    known.trace = long(METADATA_BYTES_MAX - Extras::BYTES_MAX);
    assert_eq!(read_back(&known), None);
    known.trace = long(METADATA_BYTES_MAX - Extras::BYTES_MAX - 1_000);
    assert!(read_back(&known).is_some());
    let mut out = Vec::new();
    known.mails[0].extras = Some(many_notes());
    assert!(read_back(&known).is_some(), "extras take of that room");
    known.trace = long(METADATA_BYTES_MAX - 20_000);
    let rewritten = codec::put_accept(&mut out, &known, &[History::default()]);
    assert_eq!(rewritten, Ok(()), "what is rewritten has it");
}
