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
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use crossbeam_channel::{Receiver, unbounded};
use rohrpost::queue::{
    Attempt, Body, Completion, DiskStorage, Entry, Ids, LogQueue, LogReader, Mail, Next, Options,
    Origin, Queue, Transaction, TransactionId,
};

const COUNTS: [usize; 3] = [1, 16, 64];
const SIZES: [usize; 2] = [4 << 10, 100 << 10];
/// After so many bytes the plain file is started anew, as the log starts a segment.
const FILE_BYTES_MAX: usize = 64 << 20;

/// A directory that goes away with the run.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rohrpost-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("the temporary directory can be written");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A queue and one worker that hands over a batch and waits for it.
struct Bench {
    queue: LogQueue,
    completions: Receiver<Completion>,
    ids: Ids,
    body: Body,
    /// What the next batch settles.
    accepted: Vec<TransactionId>,
    directory: Directory,
}

impl Bench {
    fn new(name: &str, bytes: usize) -> Self {
        let directory = Directory::new(name);
        let storage = Arc::new(DiskStorage::new(&directory.0));
        let (sender, completions) = unbounded();
        let sender = Mutex::new(sender);
        let notify = move |_, completion| {
            let _ = sender.lock().expect("nothing panics under this lock").send(completion);
        };
        let (queue, _) = LogQueue::open(storage, Options::default(), Box::new(notify))
            .expect("an empty directory opens");
        let mut text = vec![b'x'; bytes];
        text.push(0);
        let body = Body::try_from(text).expect("it ends in a zero");
        Self { queue, completions, ids: Ids::new(0, None), body, accepted: Vec::new(), directory }
    }

    fn transaction(&mut self) -> Transaction {
        Transaction {
            id: self.ids.next_id(1_700_000_000_000_000),
            received_ms: 1_700_000_000_000,
            mails: vec![Mail {
                index: 0,
                envelope: "bounces-4711@sender.example.com".into(),
                recipient: "somebody@recipient.example.net".into(),
                body: 0,
                dsn: None,
                extras: None,
            }],
            bodies: vec![self.body.clone()],
            trace: [b't'; 160].into(),
            origin: Origin {
                remote: ([192, 0, 2, 1], 1025).into(),
                local: ([192, 0, 2, 2], 25).into(),
                helo: "client.example.org".into(),
                user: None,
                secure: true,
                authenticated: false,
            },
            eight_bit: false,
            smtputf8: false,
            wishes: None,
            shelf: None,
        }
    }

    /// Settles the last batch and commits the next, as a busy server does.
    fn commit(&mut self, count: usize) {
        let settles = std::mem::take(&mut self.accepted);
        let mut batch: Vec<Entry> = settles.into_iter().map(settle).collect();
        for _ in 0..count {
            let transaction = self.transaction();
            self.accepted.push(transaction.id);
            batch.push(Entry::Accept(Arc::new(transaction)));
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
        let storage = Arc::new(DiskStorage::new(&self.directory.0));
        let (_, recovered) = LogReader::open(storage).expect("the log reads back");
        assert!(recovered.waiting.is_empty() && recovered.report.damaged.is_empty());
    }
}

fn settle(id: TransactionId) -> Entry {
    Entry::Settle(Attempt {
        mail: id.mail(0),
        at_ms: 1_700_000_001_000,
        next: Next::Delivered,
        state: "message".into(),
        result: "accepted".into(),
        code: 250,
        status: "2.0.0".into(),
        description: "2.0.0 Ok: queued as 4711".into(),
        from: Some([192, 0, 2, 2].into()),
        to: Some(([198, 51, 100, 1], 25).into()),
        facts: None,
        extras: None,
    })
}

/// One write and one sync of the same number of bytes, with nothing around them.
struct Plain {
    file: File,
    written: usize,
    bytes: Vec<u8>,
    directory: Directory,
}

impl Plain {
    fn new(name: &str, bytes: usize) -> Self {
        let directory = Directory::new(name);
        let file = Self::file(&directory);
        Self { file, written: 0, bytes: vec![b'x'; bytes], directory }
    }

    fn file(directory: &Directory) -> File {
        let path = directory.0.join("plain");
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
    let quick = std::env::args().any(|argument| argument == "--test");
    cpu(if quick { 2 } else { 1000 });
}
