//! Misuse: whatever a plugin passes, nothing happens but a warning on it. Also under ASan.

use std::ffi::CString;
use std::thread;

use rohrpost_abi::{ConnectionInit, Direction, Level, Step, Verdict, Worker};

use crate::support::{Stage, WORKER, child, is_child, sanitized_child, scenario, transcript};

/// Every function that takes a token, each once.
const CONTEXT: &str =
    "continue complete retry context-data set-context-data:1 timer:1 watch:0:1 ev";
const CONNECTION: &str = "fd send:x authenticated set-authenticated:1 secure data set-data:1";
const MESSAGE: &str = "envelope recipient mime set-envelope:x set-recipient:x set-mime:x json";
const EVENT: &str = "unwatch stop reset:1";

const NULLS: [&str; 13] = [
    "context-data=0",
    "timer=NULL",
    "watch=NULL",
    "ev=NULL",
    "fd=-1",
    "sent=0",
    "authenticated=0",
    "secure=0",
    "data=0",
    "envelope=NULL",
    "recipient=NULL",
    "mime=NULL",
    "json=NULL",
];
const CALLS: usize = 25;

fn all() -> String {
    format!("{CONTEXT} {CONNECTION} {MESSAGE} {EVENT}")
}

/// Runs `all` after `with` in a message hook: every answer is the null one, every call is counted.
#[track_caller]
fn assert_all_refused(with: &str) {
    let mut stage = Stage::new();
    let connection = stage.open();
    stage.run(connection, "timer:9 watch:0:1 unwatch stop");
    stage.take_lines();
    stage.commands();
    let message = stage.worker.open_message(connection, Default::default()).expect("room");
    stage.show(connection, message, &format!("{with} {}", all()));
    let lines = stage.take_lines();
    let said: Vec<_> =
        lines.iter().filter(|line| line.0 == Level::Info).map(|line| &*line.2).collect();
    assert_eq!(said, NULLS, "{lines:?}");
    assert!(lines.iter().all(|line| line.1 == "10-a.so"), "{lines:?}");
    // Ten in each of the seconds that this took.
    let warnings = lines.iter().filter(|line| line.0 != Level::Info).count();
    assert!((10..=CALLS).contains(&warnings), "{lines:?}");
    assert_eq!(stage.host.misuses(stage.plugin(0)), CALLS as u64);
    assert!(stage.commands().is_empty());
    assert_eq!(stage.worker.live().timers, 0);
}

scenario! {
    fn d_05_null_everywhere() {
        assert_all_refused("with-null");
    }
}

scenario! {
    fn d_05_pointers_of_another_kind_everywhere() {
        assert_all_refused("with-mixed");
    }
}

scenario! {
    fn d_05_real_addresses_are_not_read() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = stage.worker.open_message(connection, Default::default()).expect("room");
        let script = format!("with-address {CONTEXT} {CONNECTION} {MESSAGE} unwatch");
        stage.show(connection, message, &script);
        let lines = stage.take_lines();
        let said: Vec<_> = lines.iter().filter(|line| line.0 == Level::Info).collect();
        assert!(said.iter().map(|line| &*line.2).eq(NULLS), "{lines:?}");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 23);
    }
}

scenario! {
    fn d_05_after_the_close_every_token_is_stale() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open());
        let message = stage.worker.open_message(connection, Default::default()).expect("room");
        stage.show(connection, message, "keep timer:1 watch:0:1 unwatch stop");
        stage.worker.close_message(message);
        stage.worker.close_connection(connection);
        stage.said();
        stage.run(other, &format!("with-kept continue complete retry {CONNECTION} {MESSAGE} {EVENT}"));
        let lines = stage.take_lines();
        let said: Vec<_> = lines.iter().filter(|line| line.0 == Level::Info).collect();
        assert!(said.iter().map(|line| &*line.2).eq(NULLS[4..].iter().copied()), "{lines:?}");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 20);
        // A new connection in the old slot's place is not taken for the old one.
        for _ in 0..200 {
            let connection = stage.open();
            stage.worker.close_connection(connection);
        }
        let fresh = stage.open();
        stage.run(other, "with-kept data");
        stage.worker.close_connection(fresh);
        assert_eq!(stage.host.misuses(stage.plugin(0)), 21);
    }
}

scenario! {
    fn d_05_another_plugins_tokens_are_laid_to_the_caller() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let connection = stage.open();
        stage.run_in(0, connection, "set-data:5 tokens true");
        let tokens = stage.said().remove(0);
        let (context, smtp) = tokens.split_once(' ').expect("two tokens");
        let other = stage.open();
        stage.run_in(1, other, &format!("with-context:{context} with-connection:{smtp} continue data"));
        let lines = stage.take_lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.1 == "20-b.so"), "{lines:?}");
        assert_eq!(lines[2].2, "data=0");
        assert_eq!(stage.worker.held(connection), Some(stage.plugin(0)));
        assert_eq!(stage.host.misuses(stage.plugin(1)), 2);
    }
}

scenario! {
    fn d_05_ten_lines_a_second_and_all_are_counted() {
        let mut stage = Stage::new();
        let connection = stage.open();
        for _ in 0..500 {
            stage.run(connection, "with-null data");
        }
        let lines = stage.complaints();
        assert_eq!(stage.host.misuses(stage.plugin(0)), 500);
        // As many seconds as this took, and one.
        assert!(lines.len() >= 10 && lines.len() < 500, "{}", lines.len());
    }
}

scenario! {
    fn d_18_d_26_another_worker_may_only_hand_back() {
        let mut stage = Stage::new();
        let (connection, plugin) = (stage.open(), stage.plugin(0));
        stage.run(connection, "set-context-data:6 tokens true");
        let tokens = stage.said().remove(0);
        let (context, smtp) = tokens.split_once(' ').expect("two tokens");
        let script = format!("with-context:{context} with-connection:{smtp} context-data data continue");
        let script = CString::new(script).expect("no NUL");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut worker = Worker::enter(WORKER + 1).expect("the first");
                let init =
                    ConnectionInit { fd: 0, direction: Direction::Incoming, secure: false, authenticated: false };
                let connection = worker.open_connection(init).expect("room");
                let step = Step::MailFrom(script.as_c_str().into());
                worker.call(plugin, connection, step);
                let mut commands = Vec::new();
                worker.take_commands(&mut commands);
                assert!(commands.is_empty(), "what was handed back is not held here: {commands:?}");
            });
        });
        let lines = stage.take_lines();
        let said: Vec<_> = lines.iter().filter(|line| line.0 == Level::Info).map(|line| &*line.2).collect();
        assert_eq!(said, ["context-data=0", "data=0"]);
        assert_eq!(stage.host.misuses(plugin), 2, "{lines:?}");
        assert_eq!(stage.woken(), [WORKER]);
        stage.worker.apply_posted(1);
        assert_eq!(stage.worker.take_verdict(connection), Some(Verdict::Continue));
    }
}

scenario! {
    fn oversized_values_are_refused_unread() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = stage.worker.open_message(connection, Default::default()).expect("room");
        stage.show(connection, message, "set-mime-huge mime");
        stage.assert_complaint(Level::Warning, "10-a.so", "nothing was set");
    }
}

scenario! {
    fn after_the_worker_left_everything_is_misuse() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "tokens");
        let tokens = stage.said().remove(0);
        let (context, _) = tokens.split_once(' ').expect("two tokens");
        let context = usize::from_str_radix(context, 16).expect("a number");
        let (host, plugin) = (stage.host, stage.plugin(0));
        drop(stage.worker);
        // SAFETY: any pointer may be given.
        let data = unsafe { rohrpost_abi::export::MQ_ContextData(std::ptr::without_provenance_mut(context)) };
        assert!(data.is_null());
        assert_eq!(host.misuses(plugin), 1);
        // SAFETY: as above.
        unsafe { rohrpost_abi::export::MQ_ContextData(std::ptr::null_mut()) };
        assert_eq!(host.misuses_of_unknown(), 1);
    }
}

/// The rows above once more, with the plugin compiled so that a wild read or write of it is found.
#[test]
fn misuse_is_harmless_under_the_address_sanitizer() {
    for name in [
        "d_05_null_everywhere",
        "d_05_pointers_of_another_kind_everywhere",
        "d_05_real_addresses_are_not_read",
        "d_05_after_the_close_every_token_is_stale",
        "d_05_another_plugins_tokens_are_laid_to_the_caller",
        "oversized_values_are_refused_unread",
    ] {
        let output = sanitized_child(&format!("{}::{name}", module_path!()));
        assert!(output.status.success(), "{name}: {}", transcript(&output));
    }
    let control = module_path!().replace("misuse", "control");
    for name in [
        "d_22_d_25_the_first_hand_back_counts",
        "d_26_another_thread_may_hand_back_and_log_but_nothing_else",
    ] {
        let output = sanitized_child(&format!("{control}::{name}"));
        assert!(output.status.success(), "{name}: {}", transcript(&output));
    }
    let message = module_path!().replace("misuse", "message");
    for name in [
        "a_value_can_be_set_to_a_part_of_itself",
        "d_66_nul_bytes_are_kept_and_the_getter_stops_at_the_first",
    ] {
        let output = sanitized_child(&format!("{message}::{name}"));
        assert!(output.status.success(), "{name}: {}", transcript(&output));
    }
}

/// The sanitizer is really there: it ends a plugin that reads freed memory.
#[test]
fn the_address_sanitizer_would_find_it() {
    let path = concat!(module_path!(), "::the_address_sanitizer_would_find_it");
    if !is_child(path) {
        assert!(child(path, &[("WITHOUT", "1")]).status.success());
        let output = sanitized_child(path);
        assert!(!output.status.success());
        assert!(transcript(&output).contains("heap-use-after-free"), "{}", transcript(&output));
        return;
    }
    if std::env::var_os("WITHOUT").is_some() {
        return;
    }
    let folder = crate::support::Folder::new();
    folder.plugin(
        "freed.so",
        "#define MQ_API_VERSION 201\n#include <mailerq.h>\n#include <stdlib.h>\n\
         MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
         MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *c, MQ_Connection *s) {\n\
           volatile char *p = malloc(8); (void)c; (void)s; free((void *)p); return p[3]; }",
    );
    let mut stage = Stage::in_folder(folder);
    let connection = stage.open();
    stage.worker.call(stage.plugin(0), connection, Step::Connect);
}
