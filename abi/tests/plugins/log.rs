//! `MQ_log`, and what others see while plugin code runs.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use rohrpost_abi::{
    ConnectionInit, Direction, Hook, Host, HostInit, Level, Plugins, Site, Step, Worker,
};

use crate::support::{Folder, Line, Stage, options, scenario};

const TALKING: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
#include <stdlib.h>
#include <string.h>
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_SmtpConnection *connection) {
    char *longest = malloc(100001);
    (void)context; (void)connection;
    memset(longest, 'x', 100000);
    longest[100000] = 0;
    MQ_log(MQ_CRIT, "critical");
    MQ_log(MQ_WARN, "warning\nof two lines\n");
    MQ_log(MQ_INFO, "\xff\x1b[2J");
    MQ_log(9, "odd");
    MQ_log(MQ_INFO, NULL);
    MQ_log(MQ_INFO, longest);
    free(longest);
    return false;
}
"#;

scenario! {
    fn d_b1_lines_are_split_marked_and_capped() {
        let folder = Folder::new();
        folder.plugin("talking.so", TALKING);
        let mut stage = Stage::in_folder(folder);
        let connection = stage.open();
        stage.worker.call(stage.plugin(0), connection, Step::Connect);
        let lines: Vec<Line> = stage.take_lines();
        assert!(lines.iter().all(|line| line.1 == "talking.so"));
        let lines: Vec<_> = lines.iter().map(|(level, _, text)| (*level, text.as_str())).collect();
        let longest = "x".repeat(64 * 1024);
        let expected = [
            (Level::Critical, "critical"),
            (Level::Warning, "warning"),
            (Level::Warning, "of two lines"),
            (Level::Info, "\u{fffd}\u{fffd}[2J"),
            (Level::Info, "(invalid priority) odd"),
            (Level::Info, longest.as_str()),
        ];
        assert_eq!(lines, expected);
    }
}

scenario! {
    fn d_9e_another_thread_sees_which_plugin_is_in_which_hook() {
        let folder = Folder::new();
        folder.plugin("talking.so", TALKING);
        let (plugins, _) = Plugins::load(&options(folder.path())).expect("it loads");
        let host: Arc<OnceLock<&'static Host>> = Arc::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (its_host, its_seen) = (Arc::clone(&host), Arc::clone(&seen));
        let installed = rohrpost_abi::install(HostInit {
            plugins,
            // The log is called from within the hook.
            log: Box::new(move |_, _, _, _| {
                let host: &'static Host = its_host.get().expect("set below");
                let current = thread::spawn(|| host.current(5)).join().expect("no panic");
                its_seen.lock().expect("no panic").push(current.expect("a hook runs"));
            }),
            post: Box::new(|_| {}),
        });
        let installed = installed.expect("the first");
        host.set(installed).expect("once");
        let mut worker = Worker::enter(5).expect("the first");
        let init = ConnectionInit {
            fd: 0,
            direction: Direction::Incoming,
            secure: false,
            authenticated: false,
        };
        let connection = worker.open_connection(init).expect("room");
        let plugin = installed.plugins().set().with(Hook::Connect)[0];
        assert_eq!(installed.current(5), None);
        worker.call(plugin, connection, Step::Connect);
        worker.call(plugin, connection, Step::Connect);
        assert_eq!(installed.current(5), None);
        let seen = seen.lock().expect("no panic");
        assert_eq!(seen.len(), 12);
        assert!(seen.iter().all(|now| (now.plugin, now.site) == (plugin, Site::Hook(Hook::Connect))));
        assert_eq!(seen[0].sequence, seen[5].sequence, "one call");
        assert_eq!(seen[6].sequence, seen[0].sequence + 1, "the next");
    }
}
