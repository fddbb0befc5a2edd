//! Timers and watches: what is asked of the worker, and what comes back.

use std::os::fd::AsRawFd;

use rohrpost_abi::{Command, Level, READ, TIMER_MS_MAX, TimerId, WATCHES_MAX, WRITE, WatchId};

use crate::support::{Stage, scenario};

/// The one command is the start of a timer.
#[track_caller]
fn started(commands: &[Command]) -> (TimerId, u64) {
    let [Command::TimerStart { timer, after_ms }] = commands else { panic!("{commands:?}") };
    (*timer, *after_ms)
}

/// The one command is a watch.
#[track_caller]
fn watched(commands: &[Command]) -> WatchId {
    let [Command::Watch { watch, .. }] = commands else { panic!("{commands:?}") };
    *watch
}

scenario! {
    fn d_90_d_91_a_timer_is_free_before_its_callback_runs() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "keep timer:2.5 on-timer=stop,reset:1,stop");
        let (timer, after_ms) = started(&stage.commands());
        assert_eq!(after_ms, 2_500);
        assert_eq!(stage.said(), ["timer=yes"]);
        assert!(stage.worker.fire_timer(timer));
        let lines = stage.take_lines();
        assert_eq!(lines[0].2, "timer 7");
        // Three times too late, for which nobody is woken up.
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1..].iter().all(|(level, _, text)| *level == Level::Debug && text.contains("fired")));
        assert!(stage.commands().is_empty());
        assert!(!stage.worker.fire_timer(timer));
        assert_eq!(stage.worker.live().timers, 0);
        assert_eq!(stage.host.misuses(stage.plugin(0)), 3);
    }
}

scenario! {
    fn a_timer_can_be_reset_and_stopped_until_it_fires() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "timer:1");
        let (timer, _) = started(&stage.commands());
        stage.run(connection, "reset:0.25");
        let commands = stage.commands();
        assert!(
            matches!(commands[..], [Command::TimerReset { timer: t, after_ms: 250 }] if t == timer),
            "{commands:?}"
        );
        stage.run(connection, "stop");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::TimerStop { timer: t }] if t == timer), "{commands:?}");
        assert!(!stage.worker.fire_timer(timer), "it was due in the same turn");
        assert_eq!(stage.said(), ["timer=yes"]);
    }
}

scenario! {
    fn d_92_odd_timeouts() {
        let mut stage = Stage::new();
        let connection = stage.open();
        for (timeout, expected) in
            [("0", 0), ("-5", 0), ("-inf", 0), ("0.0001", 1), ("1e30", TIMER_MS_MAX), ("inf", TIMER_MS_MAX)]
        {
            stage.run(connection, &format!("timer:{timeout}"));
            assert_eq!(started(&stage.commands()).1, expected, "{timeout}");
            assert_eq!(stage.said(), ["timer=yes"]);
        }
        for script in ["timer:nan", "timer-no-callback"] {
            stage.run(connection, script);
            let lines = stage.take_lines();
            assert_eq!(lines.iter().filter(|line| line.2 == "timer=NULL").count(), 1, "{lines:?}");
            assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        }
        stage.run(connection, "timer:5");
        stage.commands();
        stage.said();
        stage.run(connection, "reset:nan");
        stage.assert_complaint(Level::Warning, "10-a.so", "not a number");
        assert!(stage.commands().is_empty(), "NaN changes nothing");
    }
}

scenario! {
    fn d_19_d_9b_a_closed_connections_context_still_starts_timers() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        stage.run(connection, "keep on-timer=with-kept,set-context-data:5,timer:3,continue");
        stage.worker.close_connection(connection);
        stage.run(other, "with-kept timer:1 context-data");
        let (timer, _) = started(&stage.commands());
        assert_eq!(stage.said(), ["timer=yes", "context-data=0"]);
        assert!(stage.worker.fire_timer(timer));
        assert_eq!(started(&stage.commands()).1, 3_000);
        // Only the hand-back has nothing left to hit.
        let lines = stage.take_lines();
        assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        stage.run(other, "context-data");
        assert_eq!(stage.said(), ["context-data=5"]);
    }
}

scenario! {
    fn d_a0_a_timer_may_hand_back_any_step_that_its_plugin_holds() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "keep timer:1 true on-timer=retry");
        let (timer, _) = started(&stage.commands());
        assert!(stage.worker.fire_timer(timer));
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::Resume { connection: c }] if c == connection));
        assert_eq!(stage.worker.take_verdict(connection), Some(rohrpost_abi::Verdict::Retry));
    }
}

scenario! {
    fn a_watch_gets_the_bits_it_asked_for() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "keep watch:0:1");
        let commands = stage.commands();
        let [Command::Watch { watch, fd, interest: READ }] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(fd.as_raw_fd(), 0);
        assert!(stage.worker.fire_watch(*watch, READ | WRITE));
        assert!(!stage.worker.fire_watch(*watch, WRITE), "not asked for");
        assert!(stage.worker.fire_watch(*watch, READ), "until it is taken back");
        let line = "watch fd=0 events=1 data=8";
        assert_eq!(stage.said(), ["watch=yes", line, line]);
    }
}

scenario! {
    fn d_95_a_watch_that_could_never_fire_is_refused() {
        let mut stage = Stage::new();
        let connection = stage.open();
        for script in ["watch:0:0", "watch:0:4", "watch:0:256", "watch:-1:1", "watch-no-callback"] {
            stage.run(connection, script);
            let lines = stage.take_lines();
            assert_eq!(lines.iter().filter(|line| line.2 == "watch=NULL").count(), 1, "{lines:?}");
            assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        }
        stage.run(connection, "watch:5:255");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::Watch { interest: 3, .. }]), "{commands:?}");
    }
}

scenario! {
    fn d_99_a_watch_taken_back_in_the_same_turn_is_not_called() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "keep watch:0:1 on-watch=unwatch");
        let watch = watched(&stage.commands());
        assert!(stage.worker.fire_watch(watch, READ), "which takes itself back");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::Unwatch { watch: w }] if w == watch), "{commands:?}");
        assert!(!stage.worker.fire_watch(watch, READ));
        assert_eq!(stage.said(), ["watch=yes", "watch fd=0 events=1 data=8"]);
    }
}

scenario! {
    fn d_9a_unwatch_twice_is_warned_of() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "watch:0:1 unwatch unwatch");
        stage.assert_complaint(Level::Warning, "10-a.so", "MQ_IOUnwatch");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::Watch { .. }, Command::Unwatch { .. }]), "{commands:?}");
    }
}

scenario! {
    fn d_97_a_watch_on_a_closed_descriptor_is_called_once_more_and_removed() {
        close_while_watched("keep watch:0:3");
    }
}

scenario! {
    fn d_97_the_last_callback_may_take_the_watch_back() {
        close_while_watched("keep watch:0:3 on-watch=unwatch");
    }
}

scenario! {
    fn d_97_a_watch_that_was_removed_is_still_its_owners_to_let_go_of_once() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "keep watch:0:3");
        let watch = watched(&stage.commands());
        stage.worker.remove_watch(watch, 9);
        stage.take_lines();
        stage.run(connection, "with-kept unwatch");
        assert!(stage.take_lines().is_empty());
        assert!(stage.commands().is_empty());
        stage.run(connection, "with-kept unwatch");
        stage.assert_complaint(Level::Warning, "10-a.so", "MQ_IOUnwatch");
    }
}

fn close_while_watched(script: &str) {
    let mut stage = Stage::new();
    let connection = stage.open();
    stage.run(connection, script);
    let watch = watched(&stage.commands());
    stage.said();
    stage.worker.remove_watch(watch, 9);
    let lines = stage.take_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0].0, Level::Warning);
    assert!(lines[0].2.contains("descriptor 0 was closed"), "{}", lines[0].2);
    assert_eq!(lines[1].2, "watch fd=0 events=3 data=8");
    assert_eq!(stage.worker.live().watches, 0);
    stage.worker.remove_watch(watch, 9);
    assert!(stage.take_lines().is_empty());
}

scenario! {
    fn the_limit_of_watches_is_a_null_and_a_warning() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "watches:65540");
        let lines = stage.take_lines();
        assert!(lines.iter().any(|line| line.2 == "watches=65536"), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        assert_eq!(stage.commands().len(), WATCHES_MAX);
    }
}

scenario! {
    fn d_05_the_last_callbacks_of_many_watches_are_warned_of_within_the_limit() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "watches:1000");
        let commands = stage.commands();
        stage.take_lines();
        for command in commands {
            let Command::Watch { watch, .. } = command else { panic!("{command:?}") };
            stage.worker.remove_watch(watch, 9);
        }
        assert_eq!(stage.worker.live().watches, 0);
        let warnings = stage.complaints().len();
        assert!((1..=50).contains(&warnings), "{warnings} lines");
    }
}

scenario! {
    fn the_limit_of_timers_is_a_null_and_a_warning() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "timers:1048580");
        let lines = stage.take_lines();
        assert!(lines.iter().any(|line| line.2 == "timers=1048576"), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        assert_eq!(stage.commands().len(), 1 << 20);
    }
}
