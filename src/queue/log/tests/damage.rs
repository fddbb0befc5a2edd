//! What damage costs: its own record, and a line in the report.

use std::io::ErrorKind;

use super::*;
use crate::queue::log::record::{HEADER_BYTES, frame};
use crate::queue::log::scan::{End, Found, Scan};
use crate::queue::log::segment::{QUARANTINE, SegmentName};
use crate::queue::memory::{Fault, Loss};
use crate::queue::report::DamageReason;
use crate::queue::storage::Storage;

/// A log of several small segments in which nothing was removed, and its entries in order.
fn sample() -> (MemoryStorage, Vec<Entry>) {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) =
        Rig::open_with(&storage, Options { segment_bytes: 700, ..options() }).unwrap();
    let mut entries = Vec::new();
    for number in 1..=4 {
        entries.push(Entry::Accept(Arc::new(transaction(number, 2, 60))));
        entries.push(Entry::Settle(attempt(id(number).mail(0), LATER)));
        if number > 1 {
            entries.push(Entry::Settle(attempt(id(number).mail(0), LATER)));
            entries.push(Entry::Settle(attempt(id(number).mail(1), Next::Delivered)));
        }
    }
    for entry in &entries {
        rig.now_ms += 200;
        rig.commit([(0, entry.clone())]);
    }
    assert!(rig.status().segments >= 3);
    (storage, entries)
}

/// What is left when the entry at `without` had never been written: id, index, attempts.
fn expected(entries: &[Entry], without: Option<usize>) -> Vec<(TransactionId, u16, u32)> {
    let mut left: Vec<(TransactionId, u16, u32)> = Vec::new();
    let mut numbers: Vec<MailId> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Accept(transaction) if without != Some(at) => {
                left.extend(transaction.mails.iter().map(|mail| (transaction.id, mail.index, 0)));
            }
            Entry::Settle(attempt) => {
                numbers.push(attempt.mail);
                let number = numbers.iter().filter(|mail| **mail == attempt.mail).count() as u32;
                let of = |mail: &(TransactionId, u16, u32)| mail.0.mail(mail.1) == attempt.mail;
                if without == Some(at) {
                } else if attempt.next.frees() {
                    left.retain(|mail| !of(mail));
                } else if let Some(mail) = left.iter_mut().find(|mail| of(mail)) {
                    mail.2 = number;
                }
            }
            Entry::Accept(_) => {}
        }
    }
    left
}

fn found(recovered: &Recovered) -> Vec<(TransactionId, u16, u32)> {
    let waiting = recovered.waiting.iter();
    waiting
        .flat_map(|waiting| {
            waiting.mails.iter().map(|mail| (waiting.id, mail.index, mail.attempts))
        })
        .collect()
}

/// The names of the segments, oldest first.
fn names(storage: &MemoryStorage) -> Vec<SegmentName> {
    let names = storage.list().unwrap();
    names.iter().filter_map(|name| SegmentName::parse(name)).collect()
}

/// Where each record of a segment is, and how long.
fn records(storage: &MemoryStorage, name: SegmentName) -> Vec<(usize, usize)> {
    let reader = storage.open(&name.to_string()).unwrap();
    let length = reader.length().unwrap();
    let mut scan = Scan::new(name, reader, length, End::Newest);
    std::iter::from_fn(|| scan.next())
        .map(|found| match found {
            Found::Record(location, _) => (location.place.offset as usize, location.bytes as usize),
            other => panic!("an undamaged log holds {other:?}"),
        })
        .collect()
}

fn replay(storage: &MemoryStorage) -> Recovered {
    LogReader::open(Arc::new(storage.clone())).unwrap().1
}

#[test]
fn r_5_every_flipped_byte_costs_at_most_its_own_record_and_is_reported() {
    let (storage, entries) = sample();
    assert_eq!(found(&replay(&storage)), expected(&entries, None));
    let mut entry = 0;
    for name in names(&storage) {
        let intact = storage.contents(&name.to_string()).unwrap();
        for (start, length) in records(&storage, name) {
            // The first record of a segment is its opening.
            let written = (start > 0).then_some(entry);
            entry += usize::from(start > 0);
            let expected = expected(&entries, written);
            for offset in start..start + length {
                for mask in [1 << (offset % 8), 0xff] {
                    let mut bytes = intact.clone();
                    bytes[offset] ^= mask;
                    storage.put(&name.to_string(), bytes);
                    let recovered = replay(&storage);
                    assert_eq!(found(&recovered), expected, "{name} at {offset}");
                    let [damage] = &recovered.report.damaged[..] else {
                        panic!("{name} at {offset}: {:?}", recovered.report)
                    };
                    assert_eq!(damage.segment, name.number);
                    assert_eq!((damage.offset, damage.length), (start as u64, length as u64));
                }
            }
        }
        storage.put(&name.to_string(), intact);
    }
    assert_eq!(entry, entries.len());
}

#[test]
fn r_5_a_log_cut_anywhere_at_its_end_is_torn_and_not_damaged() {
    let (storage, _) = sample();
    let name = *names(&storage).last().unwrap();
    let intact = storage.contents(&name.to_string()).unwrap();
    let ends: Vec<usize> =
        records(&storage, name).iter().map(|(start, length)| start + length).collect();
    for cut in 0..intact.len() {
        storage.put(&name.to_string(), intact[..cut].to_vec());
        let recovered = replay(&storage);
        let whole = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
        assert_eq!(recovered.report.damaged, [], "cut at {cut}");
        assert_eq!(recovered.report.torn_bytes, (cut - whole) as u64, "cut at {cut}");
    }
    // Later starts know how far it counted.
    let cut = ends[1] + HEADER_BYTES + 5;
    storage.put(&name.to_string(), intact[..cut].to_vec());
    let before = found(&replay(&storage));
    for _ in 0..3 {
        let (_, recovered) = Rig::open(&storage).unwrap();
        assert_eq!(recovered.report.damaged, []);
        assert_eq!(found(&recovered), before);
        storage.crash(Loss::Nothing);
    }
}

/// A server may be killed when it has made a new segment and not yet written it.
#[test]
fn r_5_a_torn_end_before_segments_without_content_is_no_damage() {
    let followers: [&[&[u8]]; 4] = [&[b""], &[&[0; 100]], &[&[9; 20]], &[b"", &[0; 40], b""]];
    for followers in followers {
        let (storage, entries) = sample();
        let name = *names(&storage).last().unwrap();
        let mut bytes = storage.contents(&name.to_string()).unwrap();
        let whole = bytes.len();
        let (start, length) = records(&storage, names(&storage)[0])[1];
        let next = storage.contents(&names(&storage)[0].to_string()).unwrap();
        let place = (name.number, name.salt, whole as u32);
        let record = frame(place, 2, &next[start + HEADER_BYTES..start + length], b"");
        bytes.extend(&record[..HEADER_BYTES + 50]);
        storage.put(&name.to_string(), bytes);
        for (after, content) in (1..).zip(followers) {
            let name = SegmentName { number: name.number + after, salt: 5 };
            storage.put(&name.to_string(), content.to_vec());
        }
        let torn = HEADER_BYTES + 50 + followers.iter().map(|bytes| bytes.len()).sum::<usize>();
        for round in 0..3 {
            let (mut rig, recovered) = Rig::open(&storage).unwrap();
            assert_eq!(recovered.report.damaged, [], "{followers:?}");
            assert_eq!(found(&recovered), expected(&entries, None), "{followers:?}");
            let now = if round == 0 { torn as u64 } else { 0 };
            assert_eq!(recovered.report.torn_bytes, now, "{followers:?}");
            rig.accept(&transaction(90, 1, 50)).unwrap();
            rig.settle(id(90).mail(0), Next::Delivered);
            rig.rest();
            storage.crash(Loss::Nothing);
        }
    }
}

#[test]
fn zeros_after_the_last_record_are_torn() {
    let (storage, entries) = sample();
    let name = names(&storage).last().unwrap().to_string();
    let mut bytes = storage.contents(&name).unwrap();
    bytes.resize(bytes.len() + 5000, 0);
    storage.put(&name, bytes);
    let recovered = replay(&storage);
    assert_eq!(found(&recovered), expected(&entries, None));
    assert_eq!((recovered.report.damaged.len(), recovered.report.torn_bytes), (0, 5000));
}

#[test]
fn an_older_segment_that_is_cut_or_gone_is_reported() {
    let (storage, _) = sample();
    let names = names(&storage);
    let name = names[1].to_string();
    let intact = storage.contents(&name).unwrap();
    for cut in 0..intact.len() {
        storage.put(&name, intact[..cut].to_vec());
        let damaged = replay(&storage).report.damaged;
        let last = damaged.last().expect("it is reported");
        assert_eq!((last.segment, last.reason), (names[1].number, DamageReason::Truncated));
        assert_eq!(last.offset + last.length, intact.len() as u64, "cut at {cut}");
    }
    storage.remove(&name).unwrap();
    let damaged = replay(&storage).report.damaged;
    let [missing] = &damaged[..] else { panic!("{damaged:?}") };
    assert_eq!((missing.segment, missing.reason), (names[1].number, DamageReason::Missing));
    assert_eq!(missing.length, intact.len() as u64);
}

#[test]
fn a_text_that_contains_records_is_never_taken_for_one() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) =
        Rig::open_with(&storage, Options { segment_bytes: 1 << 20, ..options() }).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    let name = names(&storage)[0];
    let written = storage.contents(&name.to_string()).unwrap();
    // The sender knows the layout, and where its text will be, but not the salt; then it even has
    // real records, which are valid elsewhere only.
    let mut text = Vec::new();
    let (kind, metadata, body) = sample_segment().swap_remove(2);
    for offset in 0..2000 {
        text.extend(frame((name.number, 0, offset), kind, &metadata, &body));
    }
    text.extend(written.repeat(3));
    text.push(0);
    let mut hostile = transaction(2, 1, 10);
    hostile.bodies = vec![Body::try_from(text).unwrap()];
    rig.accept(&hostile).unwrap();
    rig.accept(&transaction(3, 1, 50)).unwrap();

    let mut bytes = storage.contents(&name.to_string()).unwrap();
    bytes[written.len() + 13] ^= 4;
    storage.put(&name.to_string(), bytes);
    let recovered = replay(&storage);
    let ids: Vec<_> = recovered.waiting.iter().map(|waiting| waiting.id).collect();
    assert_eq!(ids, [id(1), id(3)]);
    assert_eq!(recovered.report.damaged.len(), 1);
}

#[test]
fn a_refused_mail_stays_away_though_the_opening_that_seals_it_off_is_damaged() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    storage.fail_call(storage.calls() + 2, Fault::Error(ErrorKind::Other));
    assert!(rig.accept(&transaction(2, 1, 50)).is_err());
    rig.accept(&transaction(3, 1, 50)).unwrap();
    let name = names(&storage)[1].to_string();
    let mut bytes = storage.contents(&name).unwrap();
    bytes[40] ^= 1;
    storage.put(&name, bytes);
    let ids: Vec<_> = replay(&storage).waiting.iter().map(|waiting| waiting.id).collect();
    assert_eq!(ids, [id(1), id(3)]);
}

#[test]
fn a_read_that_fails_once_costs_nothing() {
    let (storage, entries) = sample();
    let first = storage.calls();
    replay(&storage);
    let calls = storage.calls() - first;
    let mut opened = 0;
    for number in 1..=calls {
        storage.fail_call(storage.calls() + number, Fault::Error(ErrorKind::Other));
        if let Ok((_, recovered)) = LogReader::open(Arc::new(storage.clone())) {
            assert_eq!(recovered.report.damaged, [], "call {number}");
            assert_eq!(found(&recovered), expected(&entries, None), "call {number}");
            opened += 1;
        }
    }
    assert!(opened > 0, "reads are among the calls");
}

#[test]
fn r_5_a_page_that_cannot_be_read_costs_the_records_in_it() {
    let storage = MemoryStorage::new(1);
    let large = Options { segment_bytes: 1 << 20, ..options() };
    let (mut rig, _) = Rig::open_with(&storage, large).unwrap();
    for number in 1..=20 {
        rig.accept(&transaction(number, 1, 3000)).unwrap();
    }
    let name = names(&storage)[0];
    let records = records(&storage, name);
    for page in 1..10 {
        let lost = page * 4096..(page + 1) * 4096;
        storage.fail_reads(lost.clone());
        let spared = |(start, length): &(usize, usize)| {
            *start as u64 >= lost.end || (start + length) as u64 <= lost.start
        };
        let numbers = records[1..].iter().zip(1..).filter(|(record, _)| spared(record));
        let expected: Vec<_> = numbers.map(|(_, number)| id(number)).collect();
        let recovered = replay(&storage);
        let ids: Vec<_> = recovered.waiting.iter().map(|waiting| waiting.id).collect();
        assert_eq!(ids, expected, "page {page}");
        let first = &recovered.report.damaged[0];
        assert_eq!(first.reason, DamageReason::Unreadable, "page {page}");
        let damaged: u64 = recovered.report.damaged.iter().map(|damage| damage.length).sum();
        let gone = records.iter().filter(|record| !spared(record));
        assert_eq!(damaged, gone.map(|(_, length)| *length as u64).sum::<u64>(), "page {page}");
    }
}

#[test]
fn a_damaged_segment_is_kept_under_another_name_when_it_is_done_with() {
    let (storage, _) = sample();
    let name = names(&storage)[0];
    let mut bytes = storage.contents(&name.to_string()).unwrap();
    bytes[HEADER_BYTES + 30] ^= 1;
    storage.put(&name.to_string(), bytes);
    let (mut rig, recovered) = Rig::open(&storage).unwrap();
    for (id, index, _) in found(&recovered) {
        rig.settle(id.mail(index), Next::Removed);
    }
    rig.rest();
    let left = storage.list().unwrap();
    let kept: Vec<_> = left.iter().filter(|name| name.ends_with(QUARANTINE)).collect();
    assert_eq!(kept, [&name.quarantine()]);
    assert_eq!(left.len(), 2, "that one and the one being written");
}

#[test]
fn a_mail_found_damaged_later_is_lost_alone_and_said_to_be() {
    let storage = MemoryStorage::new(1);
    let (mut rig, _) = Rig::open(&storage).unwrap();
    rig.accept(&transaction(1, 1, 50)).unwrap();
    rig.accept(&transaction(2, 1, 50)).unwrap();
    let name = names(&storage)[0].to_string();
    // The journal's own handle goes on to the old bytes; readers see the new.
    let mut bytes = storage.contents(&name).unwrap();
    bytes[HEADER_BYTES * 2 + 32 + 3] ^= 1;
    storage.overwrite(&name, bytes);
    assert!(matches!(rig.reader.read(id(1)), Err(crate::queue::ReadError::Damaged(_))));
    assert!(rig.reader.read(id(2)).is_ok());
    for number in 3..60 {
        rig.accept(&transaction(number, 1, 300)).unwrap();
        rig.settle(id(number).mail(0), Next::Delivered);
    }
    rig.rest();
    assert_eq!(rig.status().damaged, 1);
    assert!(rig.status().trouble.is_some());
    assert_eq!(rig.reader.read(id(2)).unwrap(), transaction(2, 1, 50));
    assert!(matches!(rig.reader.read(id(1)), Err(crate::queue::ReadError::Unknown(_))));
}
