//! What a message costs of the heap, counted; only with the feature `count-allocations`.
//!
//! The bounds are what is measured, rounded up: whoever adds an allocation to the way of every mail sees it
//! here, and decides.

use crate::support::{Load, PATIENCE, Server, Sink};

/// Enough to make every table and buffer that a server has in its steady state.
const WARM: u64 = 1_000;
const MESSAGES: u64 = 4_000;

/// Allocations that the server makes for each of many messages of 4 KiB over sixteen connections.
/// `await_end` waits until so many of all that were sent are done with.
fn per_message(server: &Server, await_end: impl Fn(u64)) -> f64 {
    let pass = |messages, all| {
        let arguments = format!("--connections 16 --messages {messages} --octets 4K");
        Load::on(server.smtp(), &arguments).run().assert_all(messages);
        await_end(all);
        server.status().count("allocations")
    };
    let before = pass(WARM, WARM);
    (pass(MESSAGES, WARM + MESSAGES) - before) as f64 / MESSAGES as f64
}

/// Two addresses; the text, what shares it and the list of texts; the recipients, our Received field, the
/// message before it is whole and after, the receipt; one of the store's.
#[test]
fn an_accepted_message_takes_no_more_than_14_allocations() {
    // Nothing is listening there: what is delivered is not counted.
    let absent = "127.0.0.1:1".parse().unwrap();
    let server = Server::builder().smarthost(absent).setting("smtp-threads", 1).start();
    let count = per_message(&server, |_| {});
    assert!(count < 14.0, "{count}");
}

/// Beyond those of an accepted message: the addresses as they are sent, three replies, and what is recorded of
/// the last one.
#[test]
fn a_message_that_is_passed_on_takes_no_more_than_25_allocations() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start(&folder.path().join("dump"));
    let server = Server::builder().smarthost(sink.address()).setting("smtp-threads", 1).start();
    let count = per_message(&server, |all| sink.await_count(all as usize, PATIENCE));
    assert!(count < 25.0, "{count}");
}

/// Texts of the first thousands stay in memory, so what counts is what those behind them take: an entry of the
/// store's and one of the log's, the addresses, a place among those that are ready, one in its segment.
#[test]
fn a_queued_mail_takes_no_more_than_300_octets() {
    const BEHIND: u64 = 8_000;
    let absent = "127.0.0.1:1".parse().unwrap();
    let server = Server::builder().smarthost(absent).setting("smtp-threads", 1).start();
    let fill = |messages| {
        let arguments = format!("--connections 16 --messages {messages} --octets 512");
        Load::on(server.smtp(), &arguments).run().assert_all(messages);
        server.status().count("live_bytes")
    };
    let before = fill(6_000);
    let each = fill(BEHIND).saturating_sub(before) / BEHIND;
    assert!((100..300).contains(&each), "{each}");
}
