//! What does the dialogue around a mail cost, without sockets, and how does reading its lines compare with
//! `smtp-proto`, the parser of Stalwart's server?
//!
//! Three questions: each command from the octets of a read to a value, each reply in the same way, and a
//! whole transaction of four commands in one session.
//!
//! Both parsers are given the same octets, line end included, and both give values that the caller may
//! keep: of what `smtp-proto` borrows from a command its `kept` copies (`into_owned`), `borrowed` does not.
//!
//! - Ours searches the end of the line first, refuses lines of more than 512 octets (RFC 5321 4.5.3.1.4) and
//!   any CR, LF or NUL in them, and wants of an address the lengths of 4.5.3.1 and the grammar of 4.1.2 with
//!   its domain or literal. It knows the parameters that the server offers.
//! - `smtp-proto` goes over the line once, in runs. It knows more commands and parameters (BURL, MT-PRIORITY,
//!   BY, MTRK, …), wants of an address one `@` and at most 256 octets, and leaves its domain and the length of
//!   the line to the caller.
//! - Of replies both keep code, status and text, and bound the octets. Ours is a stream: it copies what was
//!   read into its buffer, and shows control characters as `?`. `smtp-proto` reads where the octets are.
//!
//! `cargo test` runs each once.
//!
//! Diagnostics: each bench asserts what it got.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rohrpost::smtp::bench::{Replies, command};
use rohrpost::smtp::memory::Unlimited;
use rohrpost::smtp::server::{Decision, Event, Greeting, Options, Session};
use smtp_proto::Request;
use smtp_proto::response::parser::ResponseReceiver;

const COMMANDS: &[(&str, &str)] = &[
    ("ehlo", "EHLO client.example.com\r\n"),
    ("mail", "MAIL FROM:<bounces+12345@mail.example.com> SIZE=12345 BODY=8BITMIME\r\n"),
    ("rcpt", "RCPT TO:<someone.else@example.org>\r\n"),
    ("data", "DATA\r\n"),
    ("bdat", "BDAT 86400 LAST\r\n"),
    ("quit", "QUIT\r\n"),
];

const REPLIES: &[(&str, &str)] = &[
    ("ok", "250 2.1.0 Ok\r\n"),
    ("queued", "250 2.0.0 Ok: queued as 4F2A91C0B7D3\r\n"),
    (
        "refused",
        "550 5.1.1 <someone.else@example.org>: Recipient address rejected: unknown user\r\n",
    ),
    (
        "extensions",
        "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-ETRN\r\n250-STARTTLS\r\n\
         250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n",
    ),
];

fn commands(criterion: &mut Criterion) {
    for (name, line) in COMMANDS {
        let line = line.as_bytes();
        let mut group = criterion.benchmark_group(format!("smtp_command/{name}"));
        group.bench_function("ours", |bencher| {
            bencher.iter(|| {
                let command = command(black_box(line));
                assert!(matches!(command, Some(Ok(_))));
                command
            });
        });
        group.bench_function("smtp-proto, kept", |bencher| {
            bencher.iter(|| {
                let request = Request::parse(&mut black_box(line).iter());
                request.expect("it reads this").into_owned()
            });
        });
        group.bench_function("smtp-proto, borrowed", |bencher| {
            bencher.iter(|| {
                let request = Request::parse(&mut black_box(line).iter());
                assert!(request.is_ok());
                request
            });
        });
        group.finish();
    }
}

fn replies(criterion: &mut Criterion) {
    for (name, reply) in REPLIES {
        let code: u16 = reply[..3].parse().expect("it begins with a code");
        let reply = reply.as_bytes();
        let mut group = criterion.benchmark_group(format!("smtp_reply/{name}"));
        group.bench_function("ours", |bencher| {
            let mut replies = Replies::new();
            bencher.iter(|| {
                let reply = replies.read(black_box(reply)).expect("it reads this");
                let reply = reply.expect("it is whole");
                assert_eq!(reply.code(), code);
                reply
            });
        });
        group.bench_function("smtp-proto", |bencher| {
            let mut receiver = ResponseReceiver::default();
            bencher.iter(|| {
                let reply = receiver.parse(&mut black_box(reply).iter()).expect("it reads this");
                receiver.reset();
                assert_eq!(reply.code, code);
                reply
            });
        });
        group.finish();
    }
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

criterion_group!(benches, commands, replies, transaction);
criterion_main!(benches);
