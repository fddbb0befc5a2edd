//! A load by the clock.

use super::sink;
use crate::support::Load;

#[test]
fn a_rate_is_kept_to_the_message() {
    for more in ["--connections 20", "--connections 3 --threads 3 --flight bdat"] {
        let (_folder, sink) = sink(&[]);
        let measured = Load::on(sink.address(), &format!("--rate 300 --seconds 2 {more}")).run();
        // A machine that is too slow for this shows it as missed.
        let (messages, missed) = (measured.count("messages"), measured.count("missed"));
        assert_eq!(messages + missed, 600, "{measured:?}");
        assert!(messages >= 300 && measured.number("/seconds") >= 0.9, "{measured:?}");
        assert_eq!(sink.count() as u64, measured.count("accepted"));
    }
}

#[test]
fn a_rate_with_a_number_of_messages_ends_with_the_last() {
    let (_folder, sink) = sink(&[]);
    let line = "--rate 400 --messages 200 --threads 2 --per-connection 7";
    let measured = Load::on(sink.address(), line).run();
    measured.assert_all(200);
    assert!(measured.number("/seconds") >= 0.49, "the last is due after 199/400 s: {measured:?}");
}

#[test]
fn latency_counts_from_when_a_message_was_due() {
    let (_folder, sink) = sink(&["--delay-dot-ms", "200"]);
    let line = "--rate 20 --messages 10 --connections 1";
    let measured = Load::on(sink.address(), line).run();
    measured.assert_all(10);
    // One after the other they take 2 s, and the last was due after 0.45 s.
    assert!(measured.number("/latency_us/max") >= 1_500_000.0, "{measured:?}");
}

#[test]
fn messages_that_were_due_and_not_sent_are_missed() {
    let (_folder, sink) = sink(&["--delay-dot-ms", "400"]);
    let measured = Load::on(sink.address(), "--rate 20 --seconds 1 --connections 1").run();
    let (messages, missed) = (measured.count("messages"), measured.count("missed"));
    assert_eq!((messages + missed, measured.code), (20, Some(1)), "{measured:?}");
    assert!(missed >= 16, "three fit into the second, and one more: {measured:?}");
    assert_eq!(measured.count("accepted"), messages, "those under way were ended");
}
