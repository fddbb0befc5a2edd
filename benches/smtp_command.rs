//! What does the dialogue around a mail cost, without sockets?
//!
//! Owns two questions: the parse of each command, and a whole transaction of four commands in one
//! session. `cargo test` runs each once.
//!
//! Diagnostics: each bench asserts what it got.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rohrpost::smtp::command::{Command, Dialect};
use rohrpost::smtp::memory::Unlimited;
use rohrpost::smtp::server::{Decision, Event, Greeting, Options, Session};

const COMMANDS: &[(&str, &str)] = &[
    ("ehlo", "EHLO client.example.com"),
    ("mail", "MAIL FROM:<bounces+12345@mail.example.com> SIZE=12345 BODY=8BITMIME"),
    ("rcpt", "RCPT TO:<someone.else@example.org>"),
    ("data", "DATA"),
    ("bdat", "BDAT 86400 LAST"),
    ("quit", "QUIT"),
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp_command/parse");
    for (name, line) in COMMANDS {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let command = Command::parse(black_box(line.as_bytes()), Dialect::Esmtp);
                assert!(command.is_ok());
                command
            });
        });
    }
    group.finish();
}

/// MAIL, RCPT and DATA in one read, the text in another, as a pipelining client sends them.
fn transaction(criterion: &mut Criterion) {
    let group = b"MAIL FROM:<bounces+12345@mail.example.com> SIZE=2100\r\n\
                  RCPT TO:<someone.else@example.org>\r\nDATA\r\n";
    let mut text = b"0123456789012345678901234567890123456789012345678901234567\r\n".repeat(34);
    text.extend_from_slice(b".\r\n");
    let mut session = session();
    let mut output = Vec::new();
    criterion.bench_function("smtp_command/transaction_2k", |bencher| {
        bencher.iter(|| {
            let messages =
                feed(&mut session, group, &mut output) + feed(&mut session, &text, &mut output);
            assert_eq!(messages, 1);
            assert!(output.ends_with(b"250 2.0.0 Message accepted\r\n"));
            output.clear();
        });
    });
}

fn session() -> Session {
    let mut session = Session::new(Arc::new(Options::new("mx.example.com")));
    session.greet(Greeting::Accept, &mut Unlimited);
    feed(&mut session, b"EHLO client.example.com\r\n", &mut Vec::new());
    session
}

/// One read: accepts all, and counts the messages.
fn feed(session: &mut Session, read: &[u8], output: &mut Vec<u8>) -> usize {
    let mut messages = 0;
    session.handle_input(black_box(read), &mut Unlimited);
    while let Some(event) = session.poll_event(&mut Unlimited) {
        messages += usize::from(matches!(event, Event::Message(_)));
        session.decide(Decision::Accept, &mut Unlimited);
    }
    session.take_output(output);
    messages
}

criterion_group!(benches, parse, transaction);
criterion_main!(benches);
