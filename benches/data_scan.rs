//! How fast is the text of DATA taken off the wire, beside the speed of looking at each octet once?
//!
//! For four texts of 4 and 100 KiB: ordinary mail, mail with a dot at the start of every twentieth line, mail
//! of short lines, and lines that all begin with a dot. `taken` is copy, scan, check and unstuffing in a
//! session; `scanned` the scan with its check where the text lies; `line_ends` the check alone.
//!
//! The yardsticks over the same octets: `memchr` counts LF, `memmem` finds the dots that begin a line and
//! nothing else, `copy` is what a buffer costs. What a scanner does beyond `memmem` is to refuse a CR or LF
//! that stands alone, which takes a look at every octet of its own. `cargo test` runs each once.
//!
//! Diagnostics: each bench asserts what it got.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use rohrpost::smtp::bench::text_octets;
use rohrpost::smtp::is_crlf_only;
use rohrpost::smtp::memory::Unlimited;
use rohrpost::smtp::server::{Decision, Event, Greeting, Options, Session};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog, and comes back for more.\r\n";

/// Without an end of the header, counting Received fields would look at every line.
const HEADER: &[u8] = b"Received: from here\r\nSubject: speed\r\n\r\n";

const DOTTED: &[u8] = b"..dots and more dots\r\n";

/// Name, the lines that repeat, and one after so many of them that begins with a dot.
const TEXTS: &[(&str, &[u8], Option<usize>)] = &[
    ("ordinary", LINE, None),
    ("few_dots", LINE, Some(20)),
    ("short", b"word\r\n", None),
    ("dotty", DOTTED, Some(1)),
];

const SIZES: &[(&str, usize)] = &[("4k", 4 * 1024), ("100k", 100 * 1024)];

/// A text in its wire form, and what is in it.
struct Text {
    wire: Vec<u8>,
    lines: usize,
    dots: usize,
}

impl Text {
    fn new(line: &[u8], dot_every: Option<usize>, bytes: usize) -> Text {
        let mut text = Text { wire: HEADER.to_vec(), lines: 3, dots: 0 };
        while text.wire.len() + line.len() <= bytes {
            let dotted = dot_every.is_some_and(|every| text.lines.is_multiple_of(every));
            text.wire.extend_from_slice(if dotted { DOTTED } else { line });
            text.lines += 1;
            text.dots += usize::from(dotted);
        }
        text.wire.extend_from_slice(b".\r\n");
        text
    }

    /// Octets of it without stuffing and end.
    fn octets(&self) -> usize {
        self.wire.len() - 3 - self.dots
    }
}

fn scan(criterion: &mut Criterion) {
    for (name, line, dot_every) in TEXTS {
        for (size, bytes) in SIZES {
            let text = Text::new(line, *dot_every, *bytes);
            let mut group = criterion.benchmark_group(format!("data_scan/{name}_{size}"));
            group.throughput(Throughput::Bytes(text.wire.len() as u64));
            ours(&mut group, &text);
            yardsticks(&mut group, &text);
            group.finish();
        }
    }
}

fn ours(group: &mut Group<'_>, text: &Text) {
    let wire = text.wire.as_slice();
    group.bench_function("taken", |bencher| {
        bencher.iter_batched_ref(
            || session(wire.len()),
            |session| assert_eq!(taken(session, black_box(wire)), text.octets()),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("scanned", |bencher| {
        bencher.iter(|| assert_eq!(text_octets(black_box(wire)), Some(text.octets())));
    });
    group.bench_function("line_ends", |bencher| {
        bencher.iter(|| assert!(is_crlf_only(black_box(wire))));
    });
}

fn yardsticks(group: &mut Group<'_>, text: &Text) {
    let wire = text.wire.as_slice();
    group.bench_function("memchr", |bencher| {
        bencher.iter(|| {
            let count = memchr::memchr_iter(b'\n', black_box(wire)).count();
            assert_eq!(count, text.lines + 1);
        });
    });
    group.bench_function("memmem", |bencher| {
        let finder = memchr::memmem::Finder::new(b"\r\n.");
        bencher.iter(|| {
            let count = finder.find_iter(black_box(wire)).count();
            assert_eq!(count, text.dots + 1);
        });
    });
    group.bench_function("copy", |bencher| {
        let mut target = Vec::with_capacity(wire.len());
        bencher.iter(|| {
            target.clear();
            target.extend_from_slice(black_box(wire));
            assert_eq!(black_box(&target).len(), wire.len());
        });
    });
}

/// A session that waits for text, with its buffer allocated and touched once.
fn session(bytes: usize) -> Session {
    let mut session = Session::new(Arc::new(Options::new("mx.example.com")));
    session.greet(Greeting::Accept, &mut Unlimited);
    let start = format!("EHLO c\r\nMAIL FROM:<a@b> SIZE={bytes}\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    session.handle_input(start.as_bytes(), &mut Unlimited);
    while session.poll_event(&mut Unlimited).is_some() {
        session.decide(Decision::Accept, &mut Unlimited);
    }
    if let Some(target) = session.body_target(&mut Unlimited) {
        target.resize(bytes, 0);
        target.clear();
    }
    session
}

/// Takes the wire form in one read; octets of the text.
fn taken(session: &mut Session, wire: &[u8]) -> usize {
    let target = session.body_target(&mut Unlimited).expect("the session waits for text");
    target.extend_from_slice(wire);
    session.handle_body(&mut Unlimited);
    match session.poll_event(&mut Unlimited) {
        Some(Event::Message(received)) => received.body.len(),
        other => panic!("{other:?} is no message"),
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
