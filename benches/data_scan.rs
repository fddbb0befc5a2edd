//! How fast is the text of DATA taken off the wire, beside the speed of looking at each octet once?
//!
//! Owns one question for three texts: ordinary mail, mail of short lines, and lines that all begin with
//! a dot. `taken` is copy, scan, check and unstuffing in a session; `line_ends` the check alone;
//! `memchr` and `copy` are the yardsticks over the same octets. `cargo test` runs each once.
//!
//! Diagnostics: each bench asserts what it got.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rohrpost::smtp::is_crlf_only;
use rohrpost::smtp::memory::Unlimited;
use rohrpost::smtp::server::{Decision, Event, Greeting, Options, Session};

const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog, and comes back for more.\r\n";

/// Without an end of the header, counting Received fields would look at every line.
const HEADER: &[u8] = b"Received: from here\r\nSubject: speed\r\n\r\n";

/// Name, line, and octets that unstuffing takes off each line.
const TEXTS: &[(&str, &[u8], usize)] =
    &[("ordinary", LINE, 0), ("short", b"word\r\n", 0), ("dotty", b"..dots and more dots\r\n", 1)];

const SIZES: &[(&str, usize)] = &[("4k", 4 * 1024), ("100k", 100 * 1024)];

fn scan(criterion: &mut Criterion) {
    for (text, line, stuffed) in TEXTS {
        for (size, bytes) in SIZES {
            let lines = bytes / line.len();
            let wire = [HEADER, &line.repeat(lines), b".\r\n"].concat();
            let mut group = criterion.benchmark_group(format!("data_scan/{text}_{size}"));
            group.throughput(Throughput::Bytes(wire.len() as u64));
            group.bench_function("taken", |bencher| {
                let expected = wire.len() - 3 - lines * stuffed;
                let session = || session(wire.len());
                bencher.iter_batched_ref(
                    session,
                    |session| assert_eq!(taken(session, black_box(&wire)), expected),
                    BatchSize::SmallInput,
                );
            });
            group.bench_function("line_ends", |bencher| {
                bencher.iter(|| assert!(is_crlf_only(black_box(&wire))));
            });
            group.bench_function("memchr", |bencher| {
                bencher.iter(|| {
                    let count = memchr::memchr_iter(b'\n', black_box(&wire)).count();
                    assert_eq!(count, lines + 4);
                });
            });
            group.bench_function("copy", |bencher| {
                let mut target = Vec::with_capacity(wire.len());
                bencher.iter(|| {
                    target.clear();
                    target.extend_from_slice(black_box(&wire));
                    assert_eq!(black_box(&target).len(), wire.len());
                });
            });
            group.finish();
        }
    }
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
