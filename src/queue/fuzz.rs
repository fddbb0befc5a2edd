//! Bodies of fuzz targets for the queue, next to the code they test.
//!
//! Owns the invariants that hold for any bytes on disk. Never panics but by them.
//!
//! Diagnostics: a broken invariant is a panic with its text.

use std::sync::Arc;

use super::log::{LogReader, frame, segment_file_name};
use super::memory::MemoryStorage;
use super::report::Recovered;

/// The segment that fuzzed bytes become.
const SEGMENT: u64 = 1;
/// Its salt.
const SALT: u64 = 0x5a17_5a17_5a17_5a17;

/// Replays bytes as a segment.
///
/// With an even first byte the rest is the file as it is. With an odd one it is cut into records
/// whose checksums are made valid, so that the decoders behind them are reached: kind (1 byte),
/// length of metadata (2), length of body (2), then these.
pub fn log_replay(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let file = match mode & 1 {
        0 => data.to_vec(),
        _ => framed(data),
    };
    let storage = MemoryStorage::new(0);
    let name = segment_file_name(SEGMENT, SALT);
    let length = file.len() as u64;
    storage.put(&name, file.clone());
    let first = replay(&storage);
    let second = replay(&storage);
    assert_eq!(first.waiting, second.waiting, "recovered twice is the same");
    assert_eq!(first.report, second.report, "reported twice is the same");
    assert_eq!(storage.contents(&name), Some(file), "reading changes nothing");
    check(&first, length);
}

fn replay(storage: &MemoryStorage) -> Recovered {
    let (reader, recovered) =
        LogReader::open(Arc::new(storage.clone())).expect("a storage without faults opens");
    for waiting in &recovered.waiting {
        // A body without its zero passes the checksums and is found out here.
        if let Ok(transaction) = reader.read(waiting.id) {
            assert_eq!(transaction.mails.len(), waiting.mails.len(), "read what is waiting");
        }
    }
    recovered
}

fn check(recovered: &Recovered, length: u64) {
    let report = &recovered.report;
    let damaged: u64 = report.damaged.iter().map(|damage| damage.length).sum();
    let missing = report.damaged.iter().filter(|damage| damage.segment != SEGMENT).count();
    assert!(missing > 0 || damaged + report.torn_bytes <= length, "no byte is damaged twice");
    assert!(report.records * 32 <= length, "a record has a header");
    for waiting in &recovered.waiting {
        assert!(!waiting.mails.is_empty(), "a transaction without mails is not held");
        assert!(waiting.mails.is_sorted_by(|a, b| a.index < b.index), "mails are in order");
        assert!(Some(waiting.id) <= recovered.id_max, "the largest id is the largest");
    }
    assert!(recovered.waiting.is_sorted_by(|a, b| a.id < b.id), "transactions are in order");
}

/// The records that `data` describes, each valid in its place.
fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<5>() {
        let length = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let (metadata, rest) = rest.split_at(length(1).min(rest.len()));
        let (body, rest) = rest.split_at(length(3).min(rest.len()));
        let offset = file.len() as u32;
        file.extend(frame((SEGMENT, SALT, offset), head[0], metadata, body));
        data = rest;
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::dice::Dice;
    use crate::queue::log::sample_segment;

    /// What [`framed`] takes, for a sample of valid records.
    fn seeds() -> Vec<Vec<u8>> {
        let mut described = vec![1];
        let mut raw = vec![0];
        for (kind, metadata, body) in sample_segment() {
            described.push(kind);
            described.extend((metadata.len() as u16).to_le_bytes());
            described.extend((body.len() as u16).to_le_bytes());
            described.extend(&metadata);
            described.extend(&body);
        }
        raw.extend(framed(&described[1..]));
        vec![Vec::new(), vec![0], vec![1; 64], SALT.to_le_bytes().repeat(8), described, raw]
    }

    #[test]
    fn the_seeds_hold_mail() {
        let file = framed(&seeds()[4][1..]);
        let storage = MemoryStorage::new(0);
        storage.put(&segment_file_name(SEGMENT, SALT), file);
        let recovered = replay(&storage);
        assert_eq!(recovered.report.damaged, []);
        assert_eq!(recovered.waiting.len(), 2);
    }

    /// The fuzzer starts from valid records. `ROHRPOST_BLESS=1` writes them anew.
    #[test]
    fn the_seed_files_are_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/log_replay");
        for (name, seed) in ["records", "segment"].into_iter().zip(&seeds()[4..]) {
            let path = folder.join(name);
            if std::env::var_os("ROHRPOST_BLESS").is_some() {
                std::fs::write(&path, seed).unwrap();
            }
            assert_eq!(std::fs::read(&path).ok().as_ref(), Some(seed), "{}", path.display());
        }
    }

    #[test]
    fn exercises_log_replay() {
        let mut dice = Dice::from_environment();
        for seed in seeds() {
            log_replay(&seed);
            for _ in 0..3_000 {
                let mut mutant = seed.clone();
                for _ in 0..=dice.below(4) {
                    mutate(&mut mutant, &mut dice);
                }
                log_replay(&mutant);
            }
        }
    }

    fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
        if bytes.is_empty() {
            bytes.push(dice.next() as u8);
        }
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5) as usize],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, dice.next() as u8),
            _ => {
                let end = (at + dice.below(64) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() as u64) as usize;
                bytes.splice(to..to, piece);
            }
        }
    }
}
