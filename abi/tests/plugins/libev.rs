//! `MQ_ev` with Debian's libev: what runs in the loop, who is blamed, and what happens to those who take
//! it for their own (D-9F).
//!
//! The library is the one that `tests/tools/fetch.sh` unpacks. Nothing waits for time to pass.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rohrpost_abi::{Command, ConnectionId, ForeignLoop, Level, Site, Verdict};

use crate::reload::touch;
use crate::support::{Folder, Line, Stage, child, is_child, scenario, transcript};

/// Where the library and its header are.
fn unpacked() -> PathBuf {
    let tools = std::env::var_os("ROHRPOST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        PathBuf::from,
    );
    let folder = tools.join("deb/libraries/usr");
    assert!(folder.is_dir(), "no {}: run tests/tools/fetch.sh once", folder.display());
    folder
}

fn library() -> PathBuf {
    let folders = fs::read_dir(unpacked().join("lib")).expect("it was unpacked");
    let found = folders.flatten().map(|entry| entry.path().join("libev.so.4"));
    found.into_iter().find(|library| library.exists()).expect("libev was unpacked")
}

/// What compiles a source against libev's header, and links it with that file of it.
fn options(library: &Path) -> [String; 3] {
    let place = library.parent().expect("a file is in a folder").display();
    [
        format!("-isystem{}", unpacked().join("include").display()),
        library.display().to_string(),
        format!("-Wl,-rpath,{place}"),
    ]
}

/// Compiles ev.c into plugins of these names, each linked with a file of libev.
fn folder(plugins: &[(&str, &Path)]) -> Folder {
    let folder = Folder::new();
    for (name, library) in plugins {
        let options = options(library);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        folder.plugin_linked(name, include_str!("ev.c"), &options);
    }
    folder
}

/// A worker in whose loop one plugin has asked for libev, and the end of a pipe for its own descriptor.
struct Asleep {
    stage: Stage,
    connection: ConnectionId,
    foreign: ForeignLoop,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Asleep {
    fn new() -> Asleep {
        Asleep::with(folder(&[("10-ev.so", &library())]))
    }

    fn with(folder: Folder) -> Asleep {
        let mut stage = Stage::in_folder(folder);
        let connection = stage.open();
        assert!(stage.worker.foreign_loop().is_none());
        stage.run(connection, "ev");
        assert_eq!(stage.said(), ["ev=yes"]);
        let commands = stage.commands();
        assert!(matches!(commands[..], [Command::WaitWithin]), "{commands:?}");
        let foreign = stage.worker.foreign_loop().expect("it was asked for");
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        Asleep { stage, connection, foreign, reader, writer }
    }

    fn run(&mut self, word: &str) {
        self.stage.run(self.connection, word);
    }

    /// One wait; whether the worker's own descriptor ended it.
    fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.foreign.wait(self.reader.as_fd(), 0, timeout)
    }

    fn said(&mut self) -> Vec<String> {
        self.stage.said()
    }

    #[track_caller]
    fn assert_critical(&mut self, words: &str) {
        let lines = self.stage.complaints();
        let [(Level::Critical, plugin, text)] = &*lines else { panic!("{lines:?}") };
        assert!(plugin == "10-ev.so" && text.contains(words), "{lines:?}");
    }
}

const NOW: Option<Duration> = Some(Duration::ZERO);

scenario! {
    fn d_9f_a_timer_of_libev_ends_the_wait_and_may_hand_back() {
        let mut asleep = Asleep::new();
        asleep.run("timer");
        assert!(!asleep.wait(None), "a sleep without end");
        assert_eq!(asleep.said(), ["timer active=0"]);
        let commands = asleep.stage.commands();
        assert!(
            matches!(commands[..], [Command::TimerStart { after_ms: 1_000, .. }, Command::Resume { .. }]),
            "{commands:?}"
        );
        let verdict = asleep.stage.worker.take_verdict(asleep.connection);
        assert_eq!(verdict, Some(Verdict::Continue));
    }
}

scenario! {
    fn d_9f_descriptors_threads_and_phases_of_libev_run() {
        let mut asleep = Asleep::new();
        asleep.run("io");
        assert!(!asleep.wait(None));
        assert_eq!(asleep.said(), ["io x"]);
        asleep.run("async");
        assert!(!asleep.wait(None));
        assert_eq!(asleep.said(), ["async"]);
        asleep.run("phases");
        // Something idle keeps the loop from sleeping, as libev has it.
        assert!(!asleep.wait(None));
        assert!(!asleep.wait(None));
        assert_eq!(asleep.said(), ["prepare", "check", "idle", "idle"]);
        assert!(!asleep.wait(NOW));
        assert_eq!(asleep.said(), [""; 0]);
    }
}

scenario! {
    fn d_9f_the_workers_own_descriptor_and_deadline_end_the_wait() {
        let mut asleep = Asleep::new();
        assert!(!asleep.wait(Some(Duration::from_millis(1))), "the deadline");
        assert!(!asleep.wait(NOW));
        asleep.writer.write_all(b"x").unwrap();
        for timeout in [None, NOW, Some(Duration::from_secs(3_600))] {
            assert!(asleep.wait(timeout), "level-triggered: {timeout:?}");
        }
        assert!(asleep.said().is_empty());
        assert_eq!(asleep.stage.host.current(crate::support::WORKER), None);
    }
}

scenario! {
    fn a_worker_that_sleeps_in_libev_is_in_no_plugins_code() {
        let mut asleep = Asleep::new();
        let (host, mut writer) = (asleep.stage.host, asleep.writer.try_clone().unwrap());
        let watchdog = std::thread::spawn(move || {
            let looks = (0..1_000).filter(|_| {
                std::thread::yield_now();
                host.current(crate::support::WORKER).is_some()
            });
            let seen = looks.count();
            writer.write_all(b"x").unwrap();
            seen
        });
        assert!(asleep.wait(None));
        assert_eq!(watchdog.join().unwrap(), 0);
    }
}

scenario! {
    fn d_9f_another_file_behind_the_same_number_is_watched_anew() {
        let mut asleep = Asleep::new();
        assert!(!asleep.wait(NOW));
        let (silent, _other) = std::io::pipe().unwrap();
        let (ready, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        assert!(!asleep.foreign.wait(silent.as_fd(), 0, NOW));
        assert!(asleep.foreign.wait(ready.as_fd(), 0, NOW), "another number");
        asleep.reader = silent;
        assert!(!asleep.wait(NOW));
        // The number passes to a file that is ready.
        let number = asleep.reader.as_fd().try_clone_to_owned().unwrap();
        assert!(!asleep.foreign.wait(number.as_fd(), 0, NOW));
        let taken = std::os::fd::AsRawFd::as_raw_fd(&number);
        drop(number);
        let ready = ready.try_clone().unwrap();
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&ready), taken, "the lowest number that is free");
        assert!(asleep.foreign.wait(ready.as_fd(), 1, NOW));
    }
}

scenario! {
    fn d_9f_callbacks_are_laid_to_the_one_plugin_that_uses_the_loop() {
        let mut asleep = Asleep::new();
        asleep.run("foreign");
        asleep.wait(NOW);
        let lines = asleep.stage.take_lines();
        let [(Level::Warning, plugin, text), (Level::Info, _, said)] = &*lines else {
            panic!("{lines:?}")
        };
        assert!(plugin == "10-ev.so" && text.contains("MQ_Co") && text.contains("NULL"), "{lines:?}");
        assert_eq!(said, "data=mine");
    }
}

scenario! {
    fn d_9f_plugins_with_one_copy_of_libev_share_the_loop_and_only_their_own_tokens_work() {
        let library = library();
        let mut asleep =
            Asleep::with(folder(&[("10-ev.so", &library), ("20-ev.so", &library)]));
        let connection = asleep.connection;
        asleep.stage.run_in(1, connection, "ev");
        assert_eq!(asleep.stage.said(), ["ev=yes"]);
        assert!(asleep.stage.commands().is_empty(), "the worker sleeps there already");
        asleep.stage.run_in(1, connection, "foreign");
        asleep.wait(NOW);
        let lines: Vec<Line> = asleep.stage.take_lines();
        let [(Level::Warning, plugin, text), (Level::Info, _, said)] = &*lines else {
            panic!("{lines:?}")
        };
        // Nobody is blamed who may be another.
        assert!(plugin == "unknown plugin" && text.contains("NULL"), "{lines:?}");
        assert_eq!(said, "data=mine");
        assert_eq!(Site::LibevShared.to_string().split(' ').nth(1), Some("libev"));
    }
}

scenario! {
    fn d_0e_d_9f_nothing_of_a_departed_plugin_is_called_and_the_loop_is_its_successors() {
        let mut asleep = Asleep::new();
        asleep.run("leave");
        let (before, gone) = (asleep.connection, asleep.stage.plugin(0));
        touch(&asleep.stage.folder.path().join("10-ev.so"));
        asleep.stage.reload();
        asleep.connection = asleep.stage.open();
        asleep.run("ev");
        asleep.wait(NOW);
        let said = asleep.said();
        assert!(said.iter().filter(|line| *line == "left").count() >= 5, "not yet: {said:?}");
        asleep.stage.worker.close_connection(before);
        assert_eq!(asleep.stage.bury(), [gone]);
        asleep.run("io");
        asleep.run("async");
        for _ in 0..5 {
            asleep.wait(NOW);
        }
        let mut lines = asleep.stage.take_lines();
        lines.sort();
        let [(Level::Critical, plugin, text), (_, _, one), (_, _, other)] = &*lines else {
            panic!("{lines:?}")
        };
        assert!(plugin == "10-ev.so" && text.contains("mq_context_cleanup"), "{lines:?}");
        assert_eq!([one, other], ["async", "io x"]);
        // What was due over and over is stopped: a wait without end waits for the descriptor.
        asleep.writer.write_all(b"x").unwrap();
        assert!(asleep.wait(None), "nothing else ends the wait");
        // The loop is one plugin's alone again, which is named and held to its own.
        asleep.run("foreign");
        asleep.wait(NOW);
        let lines = asleep.stage.take_lines();
        assert!(lines[0].0 == Level::Warning && lines[0].1 == "10-ev.so", "{lines:?}");
    }
}

scenario! {
    /// There are so many that a look at all of them for each is not to be waited for.
    fn d_9f_after_a_plugin_has_departed_callbacks_run_in_the_order_of_libev() {
        let mut asleep = Asleep::new();
        let run_many = |asleep: &mut Asleep| {
            ["many", "forgotten"].map(|which| {
                asleep.run(which);
                asleep.wait(NOW);
                asleep.run("called");
                asleep.said().pop().expect("it says what was called")
            })
        };
        let before = run_many(&mut asleep);
        assert!(before[0].starts_with("calls=20000 "), "{before:?}");
        // What libev has lost count of is called all the same, and not for ever.
        assert!(before[1].starts_with("calls=2 "), "{before:?}");
        let (connection, gone) = (asleep.connection, asleep.stage.plugin(0));
        touch(&asleep.stage.folder.path().join("10-ev.so"));
        asleep.stage.reload();
        asleep.connection = asleep.stage.open();
        asleep.run("ev");
        asleep.stage.worker.close_connection(connection);
        assert_eq!(asleep.stage.bury(), [gone]);
        assert_eq!(run_many(&mut asleep), before);
    }
}

/// Debian's libev under another name: for the dynamic linker that is another library.
fn another_copy(folder: &Folder) -> PathBuf {
    let mut bytes = fs::read(library()).expect("it can be read");
    let (name, other) = (b"libev.so.4\0", b"libew.so.4\0");
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(name.len()).position(|window| window == name) {
        at += found;
        bytes[at..at + other.len()].copy_from_slice(other);
    }
    assert!(at > 0, "it names itself");
    fs::create_dir(folder.path().join("other")).expect("a test can write");
    folder.file("other/libew.so.4", bytes)
}

scenario! {
    fn d_9f_a_second_copy_of_libev_gets_no_loop() {
        let place = Folder::new();
        let other = another_copy(&place);
        let mut asleep = Asleep::with(folder(&[("10-ev.so", &library()), ("20-ev.so", &other)]));
        for _ in 0..3 {
            asleep.stage.run_in(1, asleep.connection, "ev");
        }
        let lines = asleep.stage.take_lines();
        let critical: Vec<_> = lines.iter().filter(|line| line.0 == Level::Critical).collect();
        let [(_, plugin, text)] = &critical[..] else { panic!("{lines:?}") };
        assert!(plugin == "20-ev.so" && text.contains("another copy of libev than 10-ev.so"), "{text}");
        assert_eq!(lines.iter().filter(|line| line.2 == "ev=NULL").count(), 3);
    }
}

scenario! {
    fn d_9f_a_plugin_without_libev_gets_no_loop() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "ev ev");
        let lines = stage.take_lines();
        let [(Level::Critical, _, why), (_, _, first), (_, _, second)] = &*lines else {
            panic!("{lines:?}")
        };
        assert!(why.contains("-lev"), "{why}");
        assert_eq!([first, second], ["ev=NULL"; 2]);
        assert!(stage.commands().is_empty() && stage.worker.foreign_loop().is_none());
    }
}

scenario! {
    fn a_plugin_that_breaks_out_of_the_loop_ends_one_wait() {
        let mut asleep = Asleep::new();
        asleep.run("break");
        assert!(!asleep.wait(None));
        assert_eq!(asleep.said(), ["broke"]);
        asleep.run("io");
        assert!(!asleep.wait(None));
        assert_eq!(asleep.said(), ["io x"]);
    }
}

scenario! {
    fn a_plugin_that_runs_the_loop_is_sent_back_when_there_is_mail_to_handle() {
        let mut asleep = Asleep::new();
        assert!(!asleep.wait(NOW));
        asleep.writer.write_all(b"x").unwrap();
        asleep.run("run");
        let lines = asleep.stage.take_lines();
        let [(Level::Critical, plugin, why), (Level::Info, _, back)] = &*lines else {
            panic!("{lines:?}")
        };
        assert!(plugin == "10-ev.so" && why.contains("Only the host"), "{lines:?}");
        assert_eq!(back, "back");
        asleep.run("nested");
        assert!(asleep.wait(None));
        assert_eq!(asleep.said(), ["depth 1", "back at 1"], "complained of once");
        assert!(asleep.wait(None));
    }
}

scenario! {
    fn a_plugin_that_destroys_the_loop_in_a_hook_leaves_the_worker_without_it() {
        let mut asleep = Asleep::new();
        assert!(!asleep.wait(NOW));
        asleep.run("destroy");
        asleep.assert_critical("destroyed");
        assert!(!asleep.foreign.is_alive());
        asleep.run("ev");
        let lines = asleep.stage.take_lines();
        assert!(lines.iter().any(|line| line.2 == "ev=NULL"), "{lines:?}");
        assert!(lines.iter().any(|line| line.2.contains("destroyed")), "{lines:?}");
    }
}

#[test]
fn a_plugin_that_destroys_the_loop_in_its_own_callback_ends_the_process_by_name() {
    let path = concat!(
        module_path!(),
        "::a_plugin_that_destroys_the_loop_in_its_own_callback_ends_the_process_by_name"
    );
    if is_child(path) {
        let mut asleep = Asleep::new();
        asleep.run("destroy-within");
        asleep.wait(NOW);
        unreachable!("the process has ended");
    }
    let output = child(path, &[]);
    assert_eq!(output.status.signal(), Some(6), "{}", transcript(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("log: 10-ev.so: the libev loop"), "{}", transcript(&output));
}

const THROWING: &str = r#"
#include <mailerq.h>
#include <ev.h>
static ev_timer timer;
static void on_timer(struct ev_loop *, ev_timer *, int) { throw 1; }
MQ_EXPORT int mq_version() { return MQ_API_VERSION; }
MQ_EXPORT void mq_context_initialize(MQ_Context *context) {
    ev_timer_init(&timer, on_timer, 0., 0.);
    ev_timer_start(MQ_ev(context), &timer);
}
"#;

#[test]
fn d_0a_an_exception_from_a_libev_callback_names_the_plugin() {
    let path =
        concat!(module_path!(), "::d_0a_an_exception_from_a_libev_callback_names_the_plugin");
    if is_child(path) {
        let folder = Folder::new();
        let options = options(&library());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        folder.plugin_cpp_linked("throwing.so", THROWING, &options);
        let stage = Stage::in_folder(folder);
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut foreign = stage.worker.foreign_loop().expect("it was asked for");
        foreign.wait(reader.as_fd(), 0, NOW);
        unreachable!("the process has ended");
    }
    let output = child(path, &[]);
    assert_eq!(output.status.signal(), Some(6), "{}", transcript(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = "plugin throwing.so: an exception left a libev callback";
    assert!(stderr.contains(report), "{}", transcript(&output));
}
