//! Answers, holds with a name, and facts, as the worker hears of them and plugins see them.

use std::net::SocketAddr;

use rohrpost_abi::{
    Answer, Command, Direction, Expiry, Fact, Level, MessageInit, Ruling, Step, Terminated,
    TlsFacts, Verdict, Words,
};

use crate::support::{Stage, is_child, sanitized_child, scenario, transcript};

fn words(code: u16, status: [u16; 3], text: &str) -> Words {
    Words { code: Some(code), status: Some(status), text: Some(text.into()) }
}

scenario! {
    fn d_3d_the_worker_is_told_the_last_answer_once_and_who_gave_it() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let connection = stage.open();
        assert!(!stage.run(connection, "").answered);
        let returned = stage.run_in(1, connection, "defer reject:550,5.1.1,Nobody disconnect");
        assert!(returned.answered && !returned.took_control && stage.worker.is_answered(connection));
        let expected = Answer {
            plugin: stage.plugin(1),
            ruling: Some(Ruling::Reject(words(550, [5, 1, 1], "Nobody"))),
            disconnect: true,
        };
        assert_eq!(stage.worker.take_answer(connection), Some(expected));
        assert_eq!(stage.worker.take_answer(connection), None);
        // Of a step whose answer nobody took, nothing is left in the next one.
        assert!(stage.run(connection, "discard").answered);
        assert!(!stage.run(connection, "").answered);
    }
}

scenario! {
    fn d_2a_retry_takes_an_answer_back_inside_the_hook_and_later() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let returned = stage.run(connection, "reject retry true");
        assert_eq!((returned.verdict, returned.answered), (Some(Verdict::Retry), false));
        stage.run(connection, "keep true");
        stage.commands();
        // What was said while the step is held is there when it is handed back.
        stage.run_timer("reject retry");
        assert!(stage.worker.is_answered(connection));
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Retry));
        assert!(!stage.worker.is_answered(connection));
    }
}

scenario! {
    fn d_23_d_28_who_is_not_in_control_has_no_say() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let (connection, outgoing) = (stage.open(), stage.open_to(Direction::Outgoing));
        stage.run_in(1, connection, "keep");
        stage.run_timer_of(1, "reject");
        stage.assert_complaint(Level::Warning, "20-b.so", "MQX_reject: this plugin is not in control");
        stage.run(outgoing, "on-out-data=reject,fail");
        let message = stage.worker.open_message(outgoing, MessageInit::default()).expect("room");
        // There is no client to refuse anything to; to have failed can be said anywhere.
        assert!(stage.worker.call(stage.plugin(0), outgoing, Step::OutData(message)).answered);
        stage.assert_complaint(Level::Warning, "10-a.so", "takes no such answer");
        stage.run(connection, "keep true");
        assert!(stage.worker.revoke(connection).is_some());
        stage.complaints();
        stage.run_timer("reject");
        stage.assert_complaint(Level::Warning, "10-a.so", "held too long and taken back");
        assert!(!stage.worker.is_answered(connection));
    }
}

scenario! {
    fn d_73_a_message_may_stand_for_its_step() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let open = |stage: &Stage| {
            stage.worker.open_message(connection, MessageInit::default()).expect("room")
        };
        let message = open(&stage);
        assert!(stage.show(connection, message, "discard-message keep").answered);
        let answer = stage.worker.take_answer(connection).expect("it was answered");
        assert_eq!(answer.ruling, Some(Ruling::Discard));
        stage.worker.close_message(message);
        let other = open(&stage);
        assert!(!stage.show(connection, other, "with-kept discard-message").answered);
        stage.assert_complaint(Level::Warning, "10-a.so", "MQX_discard: the MQ_Message given no longer");
    }
}

scenario! {
    fn a_hold_with_a_name_is_released_once_and_by_that_name_alone() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let held = stage.run(connection, "name:1.5 keep true");
        assert!(held.took_control && held.verdict.is_none());
        assert_eq!(stage.worker.hold_timeout_ms(connection), Some(1500));
        assert_eq!(stage.worker.live().holds, 1);
        stage.run_timer("release:0 release:1");
        assert_eq!(stage.released(), ["released=1", "released=0"]);
        assert!(matches!(stage.commands()[..], [.., Command::Resume { .. }]));
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Continue));
        assert_eq!((stage.worker.live().holds, stage.worker.hold_timeout_ms(connection)), (0, None));
        // Inside the hook, and by the hook's own way, which ends the name.
        assert_eq!(stage.run(connection, "name:0 release:1").verdict, Some(Verdict::Complete));
        assert_eq!(stage.run(connection, "name:0 retry release:0").verdict, Some(Verdict::Retry));
        assert_eq!(stage.worker.live().holds, 0);
        assert_eq!(stage.released(), ["released=1", "released=0"]);
        assert_eq!(stage.complaints().len(), 1, "handed back, and then false: once");
    }
}

scenario! {
    fn an_expiry_is_told_once_and_may_release() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let plugin = stage.plugin(0);
        assert_eq!(stage.worker.expire_hold(connection), Expiry::None);
        stage.run(connection, "on-expired=reject name:1 true");
        assert_eq!(stage.worker.expire_hold(connection), Expiry::Kept);
        assert_eq!(stage.worker.expire_hold(connection), Expiry::Kept);
        assert_eq!(stage.worker.revoke(connection), Some(plugin));
        assert_eq!(stage.expired(), 1);
        assert!(!stage.worker.skips(plugin, connection) && !stage.worker.is_answered(connection));
        stage.run(connection, "on-expired=release:2,reject name:1 true");
        assert_eq!(stage.worker.expire_hold(connection), Expiry::Released);
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Retry));
        // Taken back without a word before: it is told, and its release is too late.
        stage.run(connection, "on-expired=release:0 name:1 true");
        stage.take_lines();
        assert_eq!(stage.worker.revoke(connection), Some(plugin));
        assert_eq!(stage.released(), ["released=0"]);
        // One without a name owes its hand-back as ever.
        stage.run(connection, "true");
        assert_eq!(stage.worker.expire_hold(connection), Expiry::None);
        stage.worker.revoke(connection);
        assert!(stage.worker.skips(plugin, connection));
    }
}

scenario! {
    fn d_26_a_release_from_another_thread_is_taken_by_the_worker() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "name:0 keep true");
        stage.run_timer("release-elsewhere");
        assert!(stage.worker.has_posted() && stage.commands().iter().all(|c| !matches!(c, Command::Resume { .. })));
        stage.worker.apply_posted(9);
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Continue));
        // Late: it goes to nobody, and nobody is told.
        stage.run_timer("release-elsewhere");
        stage.worker.apply_posted(9);
        assert_eq!(stage.complaints(), []);
        assert_eq!(stage.worker.take_verdict(connection), None);
    }
}

/// What is known only by its place in memory must not be read after that is gone.
#[test]
fn facts_and_holds_are_sound_under_the_address_sanitizer() {
    let path = concat!(module_path!(), "::facts_are_lent_until_they_change");
    let output = sanitized_child(path);
    assert!(output.status.success(), "{}", transcript(&output));
    let output =
        sanitized_child(concat!(module_path!(), "::an_expiry_is_told_once_and_may_release"));
    assert!(output.status.success(), "{}", transcript(&output));
    assert!(!is_child(path));
}

scenario! {
    fn facts_are_lent_until_they_change() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let peer: SocketAddr = "[2001:db8::7]:4321".parse().expect("an address");
        stage.run(connection, "facts");
        let unknown = ["peer", "helo", "login", "tls", "cipher", "sni"].map(|name| format!("{name}=NULL/0"));
        assert_eq!(stage.said()[..6], unknown);
        for fact in [
            Fact::Peer(Some(peer)),
            Fact::Helo(Some("a.example".into())),
            Fact::Login(Some("tim".into())),
            Fact::Tls(TlsFacts { version: "TLSv1.3", cipher: "X", server_name: Some("mx".into()) }),
        ] {
            stage.worker.tell(connection, fact);
        }
        stage.run(connection, "facts keep");
        let known =
            ["peer=2001:db8::7/11", "helo=a.example/9", "login=tim/3", "tls=TLSv1.3/7", "cipher=X/1", "sni=mx/2", "port=4321"];
        assert_eq!(stage.said(), known);
        stage.worker.tell(connection, Fact::Login(None));
        let login = Terminated::new(b"facts\0").expect("it ends in a zero");
        stage.worker.call(stage.plugin(0), connection, Step::MailFrom(login));
        assert_eq!(stage.said()[2], "login=NULL/0");
        stage.worker.close_connection(connection);
        stage.run_timer("facts");
        assert_eq!(stage.complaints().len(), 7);
    }
}
