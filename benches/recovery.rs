//! How fast does a start find the mail that was there, beside reading the same files once?
//!
//! Reads a log of mails with texts of 512 octets and 4 KiB through [`LogReader`], as each start does: every
//! record found, checked and decoded, outcomes applied, and the index of all that waits. In one log nothing
//! is delivered yet, in one nine of ten mails are. `floor` reads the same files a mebibyte at a time and
//! computes `crc32fast` over them, which nobody can do without who wants to know what is damaged.
//!
//! The files are in the page cache: it is the processor that is measured, the disk adds to both. `TMPDIR`
//! chooses where they are. `cargo test` runs each once, with few mails.
//!
//! Diagnostics: panics when not each mail is found, or anything is damaged.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rohrpost::queue::{DiskStorage, Entry, Ids, LogReader, Queue};
use tempfile::TempDir;

#[path = "support/log.rs"]
mod log;
#[path = "support/mail.rs"]
mod mail;
use mail::{accept, body, settle};

/// Name, octets of each text, and how many mails of ten are delivered.
const LOGS: [(&str, usize, usize); 3] =
    [("512 octets", 512, 0), ("4 KiB", 4096, 0), ("4 KiB, nine of ten delivered", 4096, 9)];

/// Mails handed over at once.
const BATCH: usize = 1000;

/// As much as is read at a time for the floor.
const READ_BYTES: usize = 1 << 20;

/// Mails in a log: a few when only tested.
fn mails() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { 50_000 } else { 100 }
}

/// A log that a server left, with so many mails that wait.
struct Left {
    directory: TempDir,
    waiting: usize,
}

impl Left {
    fn new(octets: usize, delivered_of_ten: usize) -> Left {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let (queue, completions) = log::open(directory.path());
        let (mut ids, body) = (Ids::new(0, None), body(octets));
        let mut waiting = mails();
        for batch in batches(mails()) {
            let ids: Vec<_> = batch.map(|_| ids.next_id(1_700_000_000_000_000)).collect();
            queue.hand_over(0, ids.iter().map(|id| accept(*id, &body)).collect());
            let completion = completions.recv().expect("the queue answers");
            assert!(completion.accepted.iter().all(|(_, answer)| answer.is_ok()));
            let delivered = ids.iter().enumerate().filter(|(at, _)| at % 10 < delivered_of_ten);
            let settles: Vec<Entry> = delivered.map(|(_, id)| settle(*id)).collect();
            waiting -= settles.len();
            queue.hand_over(0, settles);
        }
        queue.shutdown(Duration::from_secs(60)).expect("the disk works");
        Left { directory, waiting }
    }

    fn recover(&self) -> u64 {
        let storage = Arc::new(DiskStorage::new(self.directory.path()));
        let (_reader, recovered) = LogReader::open(storage).expect("the log reads back");
        assert_eq!(recovered.waiting.len(), self.waiting);
        assert!(recovered.report.damaged.is_empty());
        recovered.report.bytes
    }

    fn floor(&self) -> u64 {
        let files = self.directory.path().read_dir().expect("the directory is ours");
        let paths = files.map(|entry| entry.expect("the directory is ours").path());
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "log")).map(read).sum()
    }
}

fn batches(mails: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..mails).step_by(BATCH).map(move |from| from..(from + BATCH).min(mails))
}

/// Reads a file and computes its checksum; its octets.
fn read(path: impl AsRef<Path>) -> u64 {
    let mut file = File::open(path).expect("the directory is ours");
    let (mut buffer, mut crc) = (vec![0; READ_BYTES], crc32fast::Hasher::new());
    let mut octets = 0;
    loop {
        match file.read(&mut buffer).expect("the disk works") {
            0 => break,
            count => {
                crc.update(&buffer[..count]);
                octets += count as u64;
            }
        }
    }
    std::hint::black_box(crc.finalize());
    octets
}

fn recovery(criterion: &mut Criterion) {
    for (name, octets, delivered_of_ten) in LOGS {
        let left = Left::new(octets, delivered_of_ten);
        let bytes = left.floor();
        assert_eq!(left.recover(), bytes, "every octet is looked at");
        let mut group = criterion.benchmark_group(format!("recovery/{name}"));
        group.sample_size(10);
        group.throughput(Throughput::ElementsAndBytes { elements: mails() as u64, bytes });
        group.bench_function("log", |bencher| bencher.iter(|| left.recover()));
        group.bench_function("floor", |bencher| bencher.iter(|| left.floor()));
        group.finish();
    }
}

criterion_group!(benches, recovery);
criterion_main!(benches);
