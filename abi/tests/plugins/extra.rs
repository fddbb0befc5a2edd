//! What plugins have of the loop beyond MailerQ's interface: timers that repeat, masks, posts, queries.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use rohrpost_abi::{
    Command, ConnectionId, Level, QUERIES_PER_PLUGIN_MAX, QueryAnswer, QueryId, QueryStatus, READ,
    RecordKind, TIMER_MS_MAX, TimerId, WRITE, WatchId,
};

use crate::support::{Folder, Stage, WORKER, scenario};

fn stage() -> (Stage, ConnectionId) {
    let folder = Folder::new();
    folder.plugin("10-loop.so", include_str!("loop.c"));
    let stage = Stage::in_folder(folder);
    let connection = stage.open();
    (stage, connection)
}

#[track_caller]
fn repeating(commands: &[Command]) -> (TimerId, u64, u64) {
    let [Command::TimerRepeat { timer, after_ms, interval_ms }] = commands else {
        panic!("{commands:?}")
    };
    (*timer, *after_ms, *interval_ms)
}

#[track_caller]
fn watched(commands: &[Command]) -> (WatchId, u8) {
    let [Command::Watch { watch, fd, interest }] = commands else { panic!("{commands:?}") };
    assert_eq!(fd.as_raw_fd(), 0);
    (*watch, *interest)
}

#[track_caller]
fn asked(commands: &[Command]) -> QueryId {
    let [Command::Resolve { query, .. }] = commands else { panic!("{commands:?}") };
    *query
}

scenario! {
    fn a_repeating_timer_fires_until_it_is_stopped() {
        let (mut stage, connection) = stage();
        stage.run(connection, "repeat:0.5/2");
        let (timer, after_ms, interval_ms) = repeating(&stage.commands());
        assert_eq!((after_ms, interval_ms), (500, 2_000));
        for _ in 0..3 {
            assert!(stage.worker.fire_timer(timer));
            assert!(stage.commands().is_empty(), "the worker goes on by itself");
        }
        assert_eq!(stage.said(), ["timer=yes", "timer 7", "timer 7", "timer 7"]);
        stage.run(connection, "reset:0.25");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::TimerReset { after_ms: 250, .. }]), "{commands:?}");
        stage.run(connection, "stop");
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::TimerStop { timer: t }] if t == timer), "{commands:?}");
        assert!(!stage.worker.fire_timer(timer), "it was due in the same turn");
        assert_eq!(stage.said(), [""; 0]);
        assert_eq!(stage.worker.live().timers, 0);
    }
}

scenario! {
    fn a_repeating_timer_may_be_stopped_in_its_own_callback() {
        let (mut stage, connection) = stage();
        stage.run(connection, "stop-at:2 repeat:0/0.001");
        let (timer, after_ms, interval_ms) = repeating(&stage.commands());
        assert_eq!((after_ms, interval_ms), (0, 1));
        assert!(stage.worker.fire_timer(timer));
        assert!(stage.worker.fire_timer(timer));
        assert!(matches!(stage.commands()[..], [Command::TimerStop { .. }]));
        assert!(!stage.worker.fire_timer(timer));
        assert_eq!(stage.said(), ["timer=yes", "timer 7", "timer 7"]);
    }
}

scenario! {
    fn d_92_odd_intervals() {
        let (mut stage, connection) = stage();
        for (times, expected) in
            [("-1/1e-9", (0, 1)), ("0.1/0.3", (100, 300)), ("inf/1e300", (TIMER_MS_MAX, TIMER_MS_MAX))]
        {
            stage.run(connection, &format!("repeat:{times}"));
            let (_, after_ms, interval_ms) = repeating(&stage.commands());
            assert_eq!((after_ms, interval_ms), expected, "{times}");
            assert_eq!(stage.said(), ["timer=yes"]);
        }
        for times in ["1/0", "1/-1", "1/nan", "nan/1"] {
            stage.run(connection, &format!("repeat:{times}"));
            stage.assert_complaint(Level::Warning, "10-loop.so", "is not a number");
        }
    }
}

scenario! {
    fn d_9c_another_mask_keeps_the_watch() {
        let (mut stage, connection) = stage();
        stage.run(connection, "watch:1");
        let (watch, interest) = watched(&stage.commands());
        assert_eq!(interest, READ);
        stage.run(connection, "mask:2 mask:1 mask:3");
        let commands = stage.commands();
        let [Command::SetInterest { watch: changed, interest }] = commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!((changed, interest), (watch, READ | WRITE));
        assert!(stage.worker.fire_watch(watch, READ | WRITE));
        stage.run(connection, "mask:2");
        assert!(!stage.worker.fire_watch(watch, READ), "collected before, and not asked for any more");
        assert!(stage.worker.fire_watch(watch, WRITE));
        let said = stage.said();
        assert_eq!(said[..3], ["mask=1"; 3]);
        assert_eq!(said[3..], ["watch fd=0 events=3 same=1", "mask=1", "watch fd=0 events=2 same=1"]);
    }
}

scenario! {
    fn a_watch_without_events_rests_and_comes_back() {
        let (mut stage, connection) = stage();
        stage.run(connection, "watch:1");
        let (watch, _) = watched(&stage.commands());
        stage.run(connection, "mask:0");
        assert!(matches!(stage.commands()[..], [Command::Unwatch { watch: w }] if w == watch));
        assert!(!stage.worker.fire_watch(watch, READ));
        stage.run(connection, "mask:0");
        assert!(stage.commands().is_empty());
        assert_eq!(stage.worker.live().watches, 1);
        stage.run(connection, "mask:3");
        assert_eq!(watched(&stage.commands()), (watch, READ | WRITE));
        stage.said();
        stage.run(connection, "mask:4");
        stage.assert_complaint(Level::Warning, "10-loop.so", "MQ_READ");
        stage.run(connection, "unwatch mask:1");
        stage.assert_complaint(Level::Warning, "10-loop.so", "no longer exists");
    }
}

scenario! {
    fn d_97_the_last_callback_cannot_bring_the_watch_back() {
        let (mut stage, connection) = stage();
        stage.run(connection, "watch:1 mask-in-watch:1");
        let (watch, _) = watched(&stage.commands());
        stage.said();
        stage.worker.remove_watch(watch, 2);
        let lines = stage.take_lines();
        assert!(lines[0].2.contains("descriptor 0 was closed"), "{lines:?}");
        let said: Vec<_> = lines[1..].iter().map(|line| &*line.2).collect();
        assert_eq!(said, ["watch fd=0 events=1 same=1", "mask=0", "mask=0"]);
        assert!(stage.commands().is_empty(), "the number may be another file's by now");
        assert_eq!(stage.worker.live().watches, 0);
        assert!(!stage.worker.fire_watch(watch, READ));
        stage.run(connection, "mask:2 unwatch");
        assert_eq!(stage.said(), ["mask=0"]);
        assert!(stage.commands().is_empty());
        stage.run(connection, "mask:1");
        stage.assert_complaint(Level::Warning, "10-loop.so", "no longer exists");
    }
}

scenario! {
    fn posts_of_threads_run_on_the_worker_in_order_and_once() {
        let (mut stage, connection) = stage();
        assert!(!stage.worker.has_posts());
        stage.run(connection, "post-elsewhere:3 set-data post:4");
        assert_eq!(stage.said(), ["post=1"], "none runs from within the call");
        assert_eq!(stage.woken(), [WORKER]);
        assert!(stage.worker.has_posts());
        while stage.worker.run_post() {}
        assert!(!stage.worker.has_posts());
        assert_eq!(stage.said(), ["post 1", "post 2", "post 3", "post 4"]);
        let commands = stage.commands();
        assert_eq!(commands.len(), 4, "a post may use its context: {commands:?}");
        stage.run(connection, "post-nothing");
        stage.assert_complaint(Level::Warning, "10-loop.so", "callback is NULL");
        assert!(!stage.worker.run_post());
    }
}

scenario! {
    fn posts_have_a_bound_and_what_is_left_at_the_end_is_counted() {
        let (mut stage, connection) = stage();
        stage.run(connection, "post-elsewhere:65537");
        let lines = stage.take_lines();
        let complaint = |(level, plugin, text): &(Level, String, String)| {
            *level == Level::Warning && plugin == "10-loop.so" && text.contains("65536 posts")
        };
        assert!(lines.iter().any(complaint), "{lines:?}");
        assert!(lines.iter().any(|line| line.2 == "refused 65537"), "{lines:?}");
        assert!(stage.worker.run_post());
        stage.worker.drop_all();
        let lines = stage.take_lines();
        assert!(lines.iter().any(|line| line.2.contains("65535 callbacks were not run")), "{lines:?}");
        stage.run(connection, "post:1");
        assert_eq!(stage.said(), ["post=0"]);
        assert!(!stage.worker.run_post());
    }
}

scenario! {
    fn d_0e_posts_of_a_plugin_that_a_reload_replaced_are_refused_and_what_waits_is_counted() {
        let (mut stage, connection) = stage();
        let plugin = stage.plugin(0);
        stage.run(connection, "post:1 post:2 post:3");
        assert!(stage.worker.run_post(), "the other two are with the worker by now");
        stage.run(connection, "post:4 post-until-refused");
        fs::remove_file(stage.folder.path().join("10-loop.so")).expect("it is ours");
        stage.reload();
        stage.worker.close_connection(connection);
        stage.take_lines();
        let left = stage.worker.left();
        assert_eq!(left, [plugin]);
        stage.worker.depart(&left);
        // Its threads go on for as long as they are told that what they post is run.
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut lines = stage.take_lines();
        while !lines.iter().any(|line| line.2 == "over") && Instant::now() < deadline {
            thread::yield_now();
            lines.extend(stage.take_lines());
        }
        let counts = lines.iter().filter_map(|line| {
            let (_, count) = line.2.split_once("MQX_post: ")?;
            count.strip_suffix(" callbacks were not run, because the plugin was replaced")
        });
        let counts: Vec<usize> = counts.map(|count| count.parse().expect("a number")).collect();
        assert!(counts.len() == 1 && counts[0] >= 3, "{lines:?}");
        assert!(lines.iter().any(|line| line.2 == "over"), "{lines:?}");
        assert!(!stage.worker.run_post());
        assert_eq!(stage.said(), [""; 0], "nothing of it was called");
    }
}

scenario! {
    fn a_query_is_answered_once() {
        let (mut stage, connection) = stage();
        stage.run(connection, "resolve:example.org");
        let commands = stage.commands();
        let [Command::Resolve { query, name, kind: RecordKind::Txt }] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(&**name, b"example.org");
        let values = ["one", "two"].map(|text| CString::new(text).unwrap()).to_vec();
        let answer = QueryAnswer { status: QueryStatus::Found, values };
        assert_eq!(stage.worker.live().queries, 1);
        assert!(stage.worker.fire_query(*query, &answer));
        assert!(!stage.worker.fire_query(*query, &answer));
        assert_eq!(stage.said(), ["query=yes", "answer 0 same=1 count=2 data=5", "one", "two"]);
        assert_eq!(stage.worker.live().queries, 0);
        stage.run(connection, "resolve:example.org");
        let query = asked(&stage.commands());
        assert!(stage.worker.fire_query(query, &QueryAnswer::without_records(QueryStatus::NoName)));
        assert_eq!(stage.said()[1], "answer 2 same=1 count=0 data=5");
    }
}

scenario! {
    fn a_cancelled_query_says_nothing_and_counts_until_it_is_answered() {
        let (mut stage, connection) = stage();
        stage.run(connection, "resolve:example.org cancel");
        let query = asked(&stage.commands());
        assert_eq!(stage.said(), ["query=yes"]);
        stage.run(connection, "cancel");
        stage.assert_complaint(Level::Warning, "10-loop.so", "no longer exists");
        assert_eq!(stage.worker.live().queries, 1);
        assert!(!stage.worker.fire_query(query, &QueryAnswer::without_records(QueryStatus::TimedOut)));
        assert_eq!(stage.worker.live().queries, 0);
        assert_eq!(stage.said(), [""; 0]);
    }
}

scenario! {
    fn queries_have_a_bound_and_go_without_a_word_at_the_end() {
        let (mut stage, connection) = stage();
        stage.run(connection, &format!("resolve-many:{}", QUERIES_PER_PLUGIN_MAX + 1));
        let lines = stage.take_lines();
        assert!(lines.iter().any(|line| line.2 == format!("refused {QUERIES_PER_PLUGIN_MAX}")));
        assert_eq!(lines.iter().filter(|line| line.0 == Level::Warning).count(), 1, "{lines:?}");
        let queries = stage.commands();
        assert_eq!(queries.len(), QUERIES_PER_PLUGIN_MAX);
        stage.worker.drop_all();
        let Command::Resolve { query, .. } = &queries[0] else { panic!("{queries:?}") };
        assert!(!stage.worker.fire_query(*query, &QueryAnswer::without_records(QueryStatus::Failed)));
        assert_eq!(stage.said(), [""; 0]);
    }
}

scenario! {
    fn a_query_for_nothing_is_refused() {
        let (mut stage, connection) = stage();
        for kind in ["0", "255", "-1"] {
            stage.run(connection, &format!("resolve-type:{kind}"));
            stage.assert_complaint(Level::Warning, "10-loop.so", "none that can be asked for");
        }
        stage.run(connection, "resolve-null");
        assert_eq!(stage.complaints().len(), 2);
        assert!(stage.commands().is_empty());
        // Longer than any name: what is carried is no name either.
        stage.run(connection, &format!("resolve:{}", "a".repeat(400)));
        let commands = stage.commands();
        assert!(matches!(&commands[..], [Command::Resolve { name, .. }] if name.len() == 256));
    }
}
