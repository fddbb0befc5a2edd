//! What plugins decide of outgoing messages: when it counts, whose it is, and what is refused.

use rohrpost_abi::{
    Admitted, ConnectionId, Decided, Decision, Direction, Level, MessageId, MessageInit, Returned,
    Step, Terminated, Words,
};

use crate::support::{Stage, is_child, sanitized_child, scenario, transcript};

/// An outgoing message of a stage with two plugins.
fn outgoing() -> (Stage, ConnectionId, MessageId) {
    let stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
    let connection = stage.open_to(Direction::Outgoing);
    let message = stage.worker.open_message(connection, MessageInit::default()).expect("room");
    (stage, connection, message)
}

/// Has a plugin do this when the message is shown.
fn show(
    stage: &mut Stage,
    plugin: usize,
    (connection, message): (ConnectionId, MessageId),
    words: &str,
) -> Returned {
    stage.run_in(plugin, connection, &format!("on-out-data={}", words.replace(' ', ",")));
    stage.worker.call(stage.plugin(plugin), connection, Step::OutData(message))
}

scenario! {
    fn d_69_the_last_decision_counts_with_who_took_it_and_once() {
        let (mut stage, connection, message) = outgoing();
        let at = (connection, message);
        stage.worker.admit_decisions(message, true);
        show(&mut stage, 0, at, "bounce:550/5.7.1/No retry-at:1700000000.0001");
        assert!(stage.worker.is_decided(message));
        show(&mut stage, 1, at, "route:[::1]/2525");
        let host = Decision::Route { host: "::1".into(), port: 2525.try_into().ok() };
        let expected = Decided { plugin: stage.plugin(1), decision: host };
        assert_eq!(stage.worker.take_decision(message), Some(expected));
        assert_eq!(stage.worker.take_decision(message), None);
        show(&mut stage, 0, at, "retry-at:1700000000.0001");
        let decided = stage.worker.take_decision(message).map(|decided| decided.decision);
        assert_eq!(decided, Some(Decision::RetryAt { unix_ms: 1_700_000_000_001 }));
        show(&mut stage, 0, at, "bounce:0/5.7.1/Not bounce:0");
        let decided = stage.worker.take_decision(message).map(|decided| decided.decision);
        assert_eq!(decided, Some(Decision::Bounce(Words::default())));
        assert_eq!(stage.said().iter().filter(|line| line.ends_with("=1")).count(), 6);
    }
}

scenario! {
    fn nothing_is_decided_where_the_worker_does_not_admit_it() {
        let (mut stage, connection, message) = outgoing();
        let at = (connection, message);
        show(&mut stage, 0, at, "state keep");
        assert_eq!(stage.said(), ["state=NULL"]);
        show(&mut stage, 0, at, "bounce:0");
        stage.assert_complaint(Level::Warning, "10-a.so", "MQX_bounce: nothing can be decided");
        // What a callback says outside of the step is as late.
        stage.worker.begin_result(message, "data", Admitted::All);
        stage.run_timer("state");
        assert!(stage.said().contains(&"state=data".to_owned()));
        stage.run_timer("route:a.example");
        stage.assert_complaint(Level::Warning, "10-a.so", "MQX_route: nothing can be decided");
        stage.worker.admit_decisions(message, false);
        let text = Terminated::new(b"no\0").expect("it ends in a zero");
        let step = Step::OutResult { message, code: 250, text };
        assert_eq!(step.message(), Some(message));
        show(&mut stage, 1, at, "bounce:0");
        stage.assert_complaint(Level::Warning, "20-b.so", "MQX_bounce: nothing can be decided");
        assert!(!stage.worker.is_decided(message));
    }
}

scenario! {
    fn d_28_a_decision_that_comes_late_or_is_of_another_kind_is_none() {
        let (mut stage, connection, message) = outgoing();
        stage.worker.admit_decisions(message, true);
        show(&mut stage, 0, (connection, message), "keep true");
        // While it is held, its holder decides.
        stage.run_timer("bounce:0");
        assert!(stage.worker.take_decision(message).is_some());
        assert!(stage.worker.revoke(connection).is_some());
        stage.complaints();
        stage.run_timer("bounce:0");
        stage.assert_complaint(Level::Warning, "10-a.so", "held too long and taken back");
        stage.worker.close_message(message);
        stage.run_timer("bounce:0");
        stage.assert_complaint(Level::Warning, "10-a.so", "no longer exists");
        assert!(!stage.worker.is_decided(message));
        // An incoming message is nothing that could be bounced.
        let incoming = stage.open();
        let message = stage.worker.open_message(incoming, MessageInit::default()).expect("room");
        stage.worker.admit_decisions(message, true);
        stage.complaints();
        stage.run_in(1, incoming, "on-message=bounce:0");
        stage.worker.call(stage.plugin(1), incoming, Step::Message(message));
        stage.assert_complaint(Level::Warning, "20-b.so", "not an outgoing one");
    }
}

#[test]
fn what_plugins_say_is_read_no_further_than_its_end() {
    let path = concat!(module_path!(), "::d_69_the_last_decision_counts_with_who_took_it_and_once");
    let output = sanitized_child(path);
    assert!(output.status.success(), "{}", transcript(&output));
    assert!(!is_child(path));
}
