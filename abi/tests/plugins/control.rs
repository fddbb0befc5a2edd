//! Control: who may hand back what, when, from where, and how often.

use rohrpost_abi::{
    Command, ContextStep, EnterError, HostInit, Level, Plugins, Returned, Step, Verdict, Worker,
};

use crate::support::{Stage, WORKER, is_child, scenario};

const DECLINED: Returned = Returned { took_control: false, verdict: None, answered: false };
const HELD: Returned = Returned { took_control: true, verdict: None, answered: false };

fn with(took_control: bool, verdict: Verdict) -> Returned {
    Returned { took_control, verdict: Some(verdict), answered: false }
}

/// The one command says that a held step of `connection` goes on.
#[track_caller]
fn assert_resumed(commands: &[Command], connection: rohrpost_abi::ConnectionId) {
    assert!(
        matches!(commands, [Command::Resume { connection: resumed }] if *resumed == connection),
        "{commands:?}"
    );
}

scenario! {
    fn false_goes_on_and_true_holds() {
        let mut stage = Stage::new();
        let connection = stage.open();
        assert_eq!(stage.run(connection, ""), DECLINED);
        assert_eq!(stage.worker.held(connection), None);
        assert_eq!(stage.run(connection, "true"), HELD);
        assert_eq!(stage.worker.held(connection), Some(stage.plugin(0)));
        assert!(stage.commands().is_empty());
        assert!(stage.said().is_empty());
    }
}

scenario! {
    fn d_0f_a_hook_of_int_is_true_by_its_low_byte() {
        let folder = crate::support::Folder::new();
        folder.plugin("int.so", "#include <stddef.h>\n\
            #define X __attribute__((visibility(\"default\")))\n\
            X int mq_version(void) { return 201; }\n\
            X int mq_smtp_in_mailfrom(void *c, void *s, const char *m, size_t n)\n\
            { (void)c; (void)s; (void)m; return (int)n; }");
        let mut stage = Stage::in_folder(folder);
        for (value, expected) in [(0, false), (1, true), (2, true), (255, true), (256, false), (257, true)] {
            let connection = stage.open();
            let text = vec![b'x'; value];
            let text = rohrpost_abi::Text::from_vec(text);
            let step = Step::MailFrom(text.as_terminated());
            let returned = stage.worker.call(stage.plugin(0), connection, step);
            assert_eq!(returned.took_control, expected, "{value}");
        }
    }
}

scenario! {
    fn every_hook_gets_its_arguments() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let plugin = stage.plugin(0);
        let login = Step::Authenticate { login: c"joe".into(), password: c"secret".into() };
        for (step, expected) in [
            (Step::RcptTo(c"a@b".into()), "rcptto a@b/3"),
            (Step::Data(c"Subject: x".into()), "data Subject: x/10"),
            (login, "login joe/3 password secret/6"),
        ] {
            stage.worker.call(plugin, connection, step);
            assert_eq!(stage.said(), [expected]);
        }
        let connection_hooks = [Step::Connect, Step::Secure, Step::Close];
        for (step, name) in connection_hooks.into_iter().zip(["connect", "secure", "close"]) {
            stage.run(connection, &format!("on-{name}=true,continue,fd"));
            let returned = stage.worker.call(plugin, connection, step);
            assert_eq!(returned, with(true, Verdict::Continue), "{name}");
            assert_eq!(stage.said(), ["fd=77"]);
        }
    }
}

scenario! {
    fn d_20_a_hand_back_inside_the_hook_is_taken_at_once() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let verdicts = [Verdict::Continue, Verdict::Complete, Verdict::Retry];
        for (word, verdict) in ["continue", "complete", "retry"].into_iter().zip(verdicts) {
            let returned = stage.run(connection, &format!("{word} true"));
            assert_eq!(returned, with(true, verdict));
            assert_eq!(stage.worker.held(connection), None);
        }
        assert!(stage.commands().is_empty(), "there is nothing to resume");
        assert!(stage.said().is_empty());
    }
}

scenario! {
    fn d_21_a_hand_back_and_then_false_counts_and_is_warned_of_once() {
        let mut stage = Stage::new();
        let connection = stage.open();
        assert_eq!(stage.run(connection, "complete"), with(false, Verdict::Complete));
        stage.assert_complaint(Level::Warning, "10-a.so", "returned false");
        assert_eq!(stage.run(connection, "continue"), with(false, Verdict::Continue));
        assert!(stage.complaints().is_empty());
    }
}

scenario! {
    fn d_22_d_25_the_first_hand_back_counts() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let returned = stage.run(connection, "continue complete true");
        assert_eq!(returned, with(true, Verdict::Continue));
        stage.assert_complaint(Level::Warning, "10-a.so", "handed back already");

        // From one later callback.
        let other = stage.open();
        stage.run(connection, "keep true");
        stage.run(other, "with-kept complete retry");
        stage.assert_complaint(Level::Warning, "10-a.so", "handed back already");
        assert_resumed(&stage.commands(), connection);
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Complete));
        assert_eq!(stage.worker.take_verdict(connection), None);

        // From another callback, when nothing is held any more.
        stage.run(other, "with-kept complete");
        stage.assert_complaint(Level::Warning, "10-a.so", "not in control");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 3);
        assert!(stage.commands().is_empty());
    }
}

scenario! {
    fn d_10_the_context_names_the_connection() {
        let mut stage = Stage::new();
        let (first, second, third) = (stage.open(), stage.open(), stage.open());
        stage.run(first, "keep true");
        stage.run(second, "true");
        stage.run(third, "with-kept continue");
        assert_resumed(&stage.commands(), first);
        assert_eq!(stage.worker.held(first), None);
        assert_eq!(stage.worker.held(second), Some(stage.plugin(0)));
    }
}

scenario! {
    fn d_11_the_bare_context_hands_back_nothing_and_the_cure_is_said_once() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "true");
        for _ in 0..3 {
            stage.run(other, "with-bare continue");
        }
        stage.assert_complaint(Level::Critical, "10-a.so", "use the context that was passed");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 3);
        assert_eq!(stage.worker.held(connection), Some(stage.plugin(0)));
        assert!(stage.commands().is_empty());
    }
}

/// As in D-14, with the hand-back from a timer.
#[test]
fn d_14_an_asynchronous_context_start_is_handed_back_with_the_bare_context() {
    let path = concat!(
        module_path!(),
        "::d_14_an_asynchronous_context_start_is_handed_back_with_the_bare_context"
    );
    if !is_child(path) {
        let script = [("PUPPET_CONTEXT", "keep timer:0.01 true on-timer=complete")];
        let output = crate::support::child(path, &script);
        assert!(output.status.success(), "{}", crate::support::transcript(&output));
        return;
    }
    let mut stage = Stage::new();
    assert_eq!(stage.worker.context_held(), Some(stage.plugin(0)));
    let commands = stage.commands();
    let [Command::TimerStart { timer, after_ms: 10 }] = commands[..] else {
        panic!("{commands:?}")
    };
    assert!(stage.worker.fire_timer(timer));
    assert!(matches!(stage.commands()[..], [Command::ResumeContext]));
    assert_eq!(stage.worker.context_held(), None);
    assert_eq!(stage.worker.take_context_verdict(), Some(Verdict::Complete));
    assert_eq!(stage.said(), ["timer=yes", "timer 7"]);
}

scenario! {
    fn d_16_a_cleanup_that_is_never_handed_back_is_revoked_and_its_answer_swallowed() {
        let mut stage = Stage::new();
        let (plugin, connection) = (stage.plugin(0), stage.open());
        stage.run(connection, "on-cleanup=true");
        assert_eq!(stage.worker.call_context(plugin, ContextStep::Cleanup), HELD);
        assert_eq!(stage.worker.revoke_context(), Some(plugin));
        stage.run(connection, "with-bare continue");
        assert!(stage.commands().is_empty());
        assert!(stage.said().is_empty());
    }
}

scenario! {
    fn d_17_what_is_left_after_cleanup_vanishes_silently() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "timer:1 watch:0:1");
        let commands = stage.commands();
        let [Command::TimerStart { timer, .. }, Command::Watch { watch, .. }] = commands[..] else {
            panic!("{commands:?}")
        };
        stage.run(connection, "timer:2");
        stage.said();
        stage.worker.drop_all();
        assert!(stage.commands().is_empty());
        assert!(!stage.worker.fire_timer(timer));
        assert!(!stage.worker.fire_watch(watch, 1));
        let counts = stage.worker.live();
        assert_eq!((counts.timers, counts.watches, counts.connections), (0, 0, 1));
        assert!(stage.said().is_empty());
    }
}

scenario! {
    fn d_23_d_24_nobody_hands_back_what_it_does_not_hold() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let (connection, other) = (stage.open(), stage.open());
        // It was asked, and declined.
        stage.run_in(1, connection, "keep");
        stage.run_in(0, connection, "true");
        stage.run_in(1, other, "with-kept continue");
        stage.assert_complaint(Level::Warning, "20-b.so", "not in control");
        assert_eq!(stage.worker.held(connection), Some(stage.plugin(0)));

        // With the other plugin's own context.
        stage.run_in(0, other, "tokens");
        let tokens = stage.said().remove(0);
        let (context, _) = tokens.split_once(' ').expect("two tokens");
        let third = stage.open();
        stage.run_in(1, third, &format!("with-context:{context} complete"));
        stage.assert_complaint(Level::Warning, "20-b.so", "belongs to another plugin");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 0);
        assert_eq!(stage.host.misuses(stage.plugin(1)), 2);
    }
}

scenario! {
    fn d_26_another_thread_may_hand_back_and_log_but_nothing_else() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "keep true");
        stage.run(other, "with-kept continue-elsewhere");
        assert_eq!(stage.worker.held(connection), Some(stage.plugin(0)), "it is on its way");
        assert!(stage.commands().is_empty());
        assert_eq!(stage.woken(), [WORKER]);
        assert!(stage.worker.has_posted());
        stage.worker.apply_posted(1);
        assert!(!stage.worker.has_posted());
        assert_resumed(&stage.commands(), connection);
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Continue));

        // The same again hits nothing.
        stage.run(other, "with-kept continue-elsewhere");
        assert_eq!(stage.woken(), [WORKER]);
        stage.worker.apply_posted(1);
        stage.assert_complaint(Level::Warning, "10-a.so", "not in control");

        stage.run(other, "misuse-elsewhere");
        let lines = stage.take_lines();
        let said = |line: &&crate::support::Line| line.0 == Level::Info;
        let (said, complaints): (Vec<_>, Vec<_>) = lines.iter().partition(said);
        assert_eq!(said[0].2, "elsewhere: data=0 timer=0");
        assert_eq!(said[0].1, "unknown plugin");
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        for (level, plugin, text) in complaints {
            assert_eq!((*level, plugin.as_str()), (Level::Warning, "10-a.so"));
            assert!(text.contains("thread"), "{text}");
        }
    }
}

scenario! {
    fn d_26_a_hand_back_that_overtakes_the_hook_waits_for_it() {
        let mut stage = Stage::new();
        let connection = stage.open();
        assert_eq!(stage.run(connection, "continue-elsewhere true"), HELD);
        stage.worker.apply_posted(1);
        assert_resumed(&stage.commands(), connection);
    }
}

scenario! {
    fn d_26_hand_backs_of_many_steps_wake_once_and_are_taken_some_at_a_time() {
        let mut stage = Stage::new();
        let connections: Vec<_> = (0..5).map(|_| stage.open()).collect();
        for connection in &connections {
            // The second and the third of each are doubles.
            let words = "continue-elsewhere continue-elsewhere continue-elsewhere true";
            assert_eq!(stage.run(*connection, words), HELD);
        }
        assert_eq!(stage.woken(), [WORKER]);
        assert_eq!(stage.host.misuses(stage.plugin(0)), 5);
        let mut resumed = Vec::new();
        while stage.worker.has_posted() {
            stage.worker.apply_posted(2);
            let commands = stage.commands();
            assert!(commands.len() <= 2);
            resumed.extend(commands.into_iter().map(|command| match command {
                Command::Resume { connection } => connection,
                other => panic!("{other:?}"),
            }));
        }
        assert_eq!(resumed, connections);
        assert_eq!(stage.host.misuses(stage.plugin(0)), 10);
        assert!(stage.woken().is_empty());
    }
}

scenario! {
    fn d_26_d_28_a_late_hand_back_and_a_genuine_one_that_wait_together_both_count() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "keep on-close=true true");
        assert_eq!(stage.worker.revoke(connection), Some(stage.plugin(0)));
        assert_eq!(stage.worker.call(stage.plugin(0), connection, Step::Close), HELD);
        stage.run(other, "with-kept continue-elsewhere continue-elsewhere");
        stage.worker.apply_posted(1);
        assert_resumed(&stage.commands(), connection);
        assert!(stage.complaints().is_empty());
    }
}

scenario! {
    fn d_28_a_close_hook_that_hands_back_at_once_does_not_hold_the_connection_again() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "on-close=continue,true true");
        let plugin = stage.plugin(0);
        assert_eq!(stage.worker.revoke(connection), Some(plugin));
        let closed = stage.worker.call(plugin, connection, Step::Close);
        assert_eq!(closed, with(true, Verdict::Continue));
        assert_eq!(stage.worker.held(connection), None);
        assert!(!stage.worker.skips(plugin, connection));
    }
}

scenario! {
    fn d_27_d_28_a_revoked_plugin_is_passed_over_until_its_late_hand_back() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let (a, b) = (stage.plugin(0), stage.plugin(1));
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "on-rcptto=true on-close=data");
        stage.run_in(1, connection, "on-rcptto=true");
        stage.run(connection, "keep true");
        assert_eq!(stage.worker.revoke(connection), Some(a));
        assert_eq!((stage.worker.held(connection), stage.worker.revoke(connection)), (None, None));
        assert!(stage.worker.skips(a, connection) && !stage.worker.skips(b, connection));
        assert!(!stage.worker.skips(a, other));

        // All hooks but close.
        let rcpt = Step::RcptTo(c"x".into());
        assert_eq!(stage.worker.call(a, connection, rcpt), DECLINED);
        assert!(stage.said().is_empty());
        assert_eq!(stage.worker.call(a, connection, Step::Close), DECLINED);
        assert_eq!(stage.said(), ["data=0"]);

        // The late one does not release the newer hold.
        assert_eq!(stage.worker.call(b, connection, rcpt), HELD);
        stage.run(other, "with-kept complete");
        assert!(stage.commands().is_empty());
        assert_eq!(stage.worker.held(connection), Some(b));
        assert!(!stage.worker.skips(a, connection));
        assert_eq!(stage.said(), ["rcptto x/1"], "and nobody is blamed");
    }
}

scenario! {
    fn a_verdict_that_was_not_taken_goes_with_the_connection() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "keep true");
        stage.run(other, "with-kept continue");
        stage.worker.close_connection(connection);
        assert_resumed(&stage.commands(), connection);
        assert_eq!(stage.worker.take_verdict(connection), None);
    }
}

scenario! {
    fn a_process_has_one_host_and_an_index_one_worker() {
        let stage = Stage::new();
        let again = HostInit {
            plugins: Plugins::default(),
            log: Box::new(|_, _, _, _| {}),
            post: Box::new(|_| {}),
        };
        assert!(rohrpost_abi::install(again).is_err());
        assert_eq!(Worker::enter(9).err(), Some(EnterError::ThreadTaken));
        drop(stage.worker);
        assert_eq!(Worker::enter(WORKER).err(), Some(EnterError::IndexTaken(WORKER)));
        assert!(Worker::enter(9).is_ok());
    }
}

#[test]
fn without_a_host_there_is_no_worker() {
    assert_eq!(Worker::enter(0).err(), Some(EnterError::NotInstalled));
}
