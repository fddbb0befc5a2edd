//! What does it cost to make a message durable, alone and in company?
//!
//! Commits 1, 16 and 64 messages of 4 KiB and 100 KiB per sync through [`LogQueue`] with its thread,
//! on the disk of the temporary directory (`TMPDIR` chooses another), beside one plain write and
//! fdatasync of as many bytes. Then prints the CPU time of a message at 16 per sync. Every batch is
//! checked to be accepted, and at the end nothing may be left.
//!
//! Diagnostics: panics when a result is not what it should be.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use crossbeam_channel::Receiver;
use rohrpost::queue::{
    Body, Completion, DiskStorage, Entry, Ids, LogQueue, LogReader, Queue, TransactionId,
};
use tempfile::TempDir;

#[path = "support/log.rs"]
mod log;
#[path = "support/mail.rs"]
mod mail;
use mail::{accept, body, settle};

const COUNTS: [usize; 3] = [1, 16, 64];
const SIZES: [usize; 2] = [4 << 10, 100 << 10];
/// After so many bytes the plain file is started anew, as the log starts a segment.
const FILE_BYTES_MAX: usize = 64 << 20;

fn directory(name: &str) -> TempDir {
    let directory = tempfile::Builder::new().prefix(&format!("rohrpost-{name}-")).tempdir();
    directory.expect("the temporary directory can be written")
}

/// A queue and one worker that hands over a batch and waits for it.
struct Bench {
    queue: LogQueue,
    completions: Receiver<Completion>,
    ids: Ids,
    body: Body,
    /// What the next batch settles.
    accepted: Vec<TransactionId>,
    directory: TempDir,
}

impl Bench {
    fn new(name: &str, bytes: usize) -> Self {
        let directory = directory(name);
        let (queue, completions) = log::open(directory.path());
        let (ids, body) = (Ids::new(0, None), body(bytes));
        Self { queue, completions, ids, body, accepted: Vec::new(), directory }
    }

    /// Settles the last batch and commits the next, as a busy server does.
    fn commit(&mut self, count: usize) {
        let settles = std::mem::take(&mut self.accepted);
        let mut batch: Vec<Entry> = settles.into_iter().map(settle).collect();
        for _ in 0..count {
            let id = self.ids.next_id(1_700_000_000_000_000);
            self.accepted.push(id);
            batch.push(accept(id, &self.body));
        }
        self.queue.hand_over(0, batch);
        let completion = self.completions.recv().expect("the queue answers");
        let answers = completion.accepted.iter().map(|(_, answer)| *answer);
        assert_eq!(answers.collect::<Vec<_>>(), vec![Ok(()); count]);
    }

    /// Everything is settled: nothing may be left.
    fn finish(mut self) {
        let settles = std::mem::take(&mut self.accepted);
        self.queue.hand_over(0, settles.into_iter().map(settle).collect());
        self.queue.shutdown(Duration::from_secs(60)).expect("the disk works");
        let storage = Arc::new(DiskStorage::new(self.directory.path()));
        let (_, recovered) = LogReader::open(storage).expect("the log reads back");
        assert!(recovered.waiting.is_empty() && recovered.report.damaged.is_empty());
    }
}

/// One write and one sync of the same number of bytes, with nothing around them.
struct Plain {
    file: File,
    written: usize,
    bytes: Vec<u8>,
    directory: TempDir,
}

impl Plain {
    fn new(name: &str, bytes: usize) -> Self {
        let directory = directory(name);
        let file = Self::file(&directory);
        Self { file, written: 0, bytes: vec![b'x'; bytes], directory }
    }

    fn file(directory: &TempDir) -> File {
        let path = directory.path().join("plain");
        let _ = std::fs::remove_file(&path);
        OpenOptions::new().append(true).create_new(true).open(path).expect("a file can be created")
    }

    fn commit(&mut self) {
        if self.written >= FILE_BYTES_MAX {
            (self.file, self.written) = (Self::file(&self.directory), 0);
        }
        self.file.write_all(&self.bytes).expect("the disk has room");
        self.file.sync_data().expect("the disk works");
        self.written += self.bytes.len();
    }
}

fn wall(criterion: &mut Criterion) {
    for bytes in SIZES {
        let mut group = criterion.benchmark_group(format!("commit_{}_kib", bytes >> 10));
        group.sample_size(20).measurement_time(Duration::from_secs(3));
        for count in COUNTS {
            group.throughput(Throughput::Elements(count as u64));
            let mut bench = Bench::new("commit", bytes);
            group.bench_function(BenchmarkId::new("log", count), |b| {
                b.iter(|| bench.commit(count));
            });
            bench.finish();
            let mut plain = Plain::new("plain", count * bytes);
            group.bench_function(BenchmarkId::new("plain", count), |b| b.iter(|| plain.commit()));
        }
        group.finish();
    }
}

/// CPU time in nanoseconds of this process's threads, by name, as the scheduler counts it.
fn cpu_ns(thread: Option<&str>) -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let mut total = 0;
    for task in tasks.flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if thread.is_none_or(|name| read("comm").trim() == name) {
            let spent = read("schedstat");
            total += spent.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    total
}

fn cpu(rounds: usize) {
    const COUNT: usize = 16;
    for bytes in SIZES {
        let mut bench = Bench::new("cpu", bytes);
        let (commit, all, start) = (cpu_ns(Some("commit")), cpu_ns(None), Instant::now());
        (0..rounds).for_each(|_| bench.commit(COUNT));
        let messages = (rounds * COUNT) as f64;
        let us = |ns: u64| ns as f64 / 1000.0 / messages;
        let commit = us(cpu_ns(Some("commit")) - commit);
        let all = us(cpu_ns(None) - all);
        let wall = start.elapsed().as_secs_f64() * 1e6 / messages;
        bench.finish();
        let mut plain = Plain::new("cpu-plain", COUNT * bytes);
        let before = cpu_ns(None);
        (0..rounds).for_each(|_| plain.commit());
        let plain = us(cpu_ns(None) - before);
        println!(
            "{} KiB, {COUNT} per sync: CPU {commit:.2} us a message on the commit thread, {all:.2} us \
             in the process, {plain:.2} us for the plain write and sync; {wall:.1} us wall",
            bytes >> 10
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    wall(&mut criterion);
    criterion.final_summary();
    let measuring = std::env::args().any(|argument| argument == "--bench");
    cpu(if measuring { 1000 } else { 2 });
}
