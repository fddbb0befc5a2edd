//! Crashes of plugins: who is named, on stderr and in the file, and how the process ends.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use rohrpost_abi::{Copies, OnError, PLUGINS_MAX, Plugins, report_crashes};

use crate::support::{Folder, Stage, child_by, is_child, options, transcript};

const SIGILL: i32 = 4;
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// Names the file of crashes, and the way to crash, to a child.
const FILE: &str = "ROHRPOST_TEST_CRASHES";
const WAY: &str = "ROHRPOST_TEST_WAY";

fn variable(name: &str) -> String {
    std::env::var(name).expect("the parent sets it")
}

fn crash_file() -> File {
    let path = PathBuf::from(variable(FILE));
    OpenOptions::new().append(true).create(true).open(path).expect("a new file")
}

/// What a child left behind.
struct Left {
    output: Output,
    line: String,
}

impl Left {
    /// The words of the line in the file, without time, process and frames.
    fn words(&self) -> Vec<&str> {
        let words = self.line.split(' ').skip(1);
        words.filter(|word| !word.starts_with("pid=") && !word.starts_with("at=")).collect()
    }

    fn frames(&self) -> Vec<&str> {
        self.line.split(' ').filter_map(|word| word.strip_prefix("at=")).collect()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    fn assert_signal(&self, signal: i32) {
        let ended = self.output.status.signal();
        assert_eq!(ended, Some(signal), "{}\n{}", self.line, transcript(&self.output));
    }
}

/// Runs this test again in a process that ends so.
fn left(path: &str, way: &str, more: &[(&str, &str)]) -> Left {
    left_by(&[], path, way, more)
}

/// The same, by another program.
fn left_by(program: &[&str], path: &str, way: &str, more: &[(&str, &str)]) -> Left {
    let folder = Folder::new();
    let file = folder.path().join("crashes");
    let file_name = file.to_str().expect("a plain path").to_owned();
    let mut variables = vec![(FILE, file_name.as_str()), (WAY, way)];
    variables.extend(more);
    let output = child_by(program, path, &variables);
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    assert_eq!(lines.next(), None, "one crash is one line: {text}");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    Left { output, line }
}

/// In the child: a stage whose plugin does as the parent says.
fn misbehave() {
    report_crashes(Some(crash_file())).expect("handlers are taken");
    let folder = Folder::new();
    folder.plugin("10-crashing.so", include_str!("crashing.c"));
    let mut stage = Stage::in_folder(folder);
    let connection = stage.open();
    stage.run(connection, &variable(WAY));
}

/// The same, and it ends the process.
fn crash() {
    misbehave();
    unreachable!("the process has ended");
}

macro_rules! path {
    ($name:literal) => {
        concat!(module_path!(), "::", $name)
    };
}

#[test]
fn each_signal_names_plugin_and_hook_and_ends_the_process_as_it_would_have() {
    let path = path!("each_signal_names_plugin_and_hook_and_ends_the_process_as_it_would_have");
    if is_child(path) {
        return crash();
    }
    let rows = [
        ("segv", "SEGV", SIGSEGV, "0x0"),
        ("bus", "BUS", SIGBUS, "0x0"),
        ("abort", "ABRT", SIGABRT, "0x0"),
        ("illegal", "ILL", SIGILL, ""),
        ("divide", "FPE", SIGFPE, ""),
        ("in-libc", "SEGV", SIGSEGV, "0x0"),
        ("null-call", "SEGV", SIGSEGV, "0x0"),
    ];
    for (way, cause, signal, address) in rows {
        let left = left(path, way, &[]);
        left.assert_signal(signal);
        let words = left.words();
        assert_eq!(words[0], cause, "{}", left.line);
        assert!(words[1].starts_with("thread="), "{}", left.line);
        let at = words[2].strip_prefix("address=").unwrap_or_default();
        assert!(address.is_empty() || at == address, "{way}: {}", left.line);
        assert_eq!(words[3..], ["plugin=10-crashing.so", "in=mq_smtp_in_mailfrom"], "{way}");
        let plugin = left.frames().iter().any(|frame| frame.starts_with("10-crashing.so+0x"));
        assert!(plugin, "{way}: {}", left.line);
        let said = left.stderr();
        let report = "rohrpost: plugin 10-crashing.so ended the server in mq_smtp_in_mailfrom: ";
        assert!(said.contains(&format!("{report}{cause}")), "{way}: {said}");
        let first = ["rohrpost: * #0 ", "rohrpost:   #0 "].iter().any(|first| said.contains(first));
        assert!(first, "{way}: {said}");
    }
}

#[test]
fn a_plugin_that_uses_up_its_stack_is_named() {
    let path = path!("a_plugin_that_uses_up_its_stack_is_named");
    if is_child(path) {
        return crash();
    }
    let left = left(path, "overflow", &[]);
    // What the standard library makes of it, whose handler was there before.
    left.assert_signal(SIGABRT);
    assert_eq!(left.words()[0], "SEGV");
    assert!(left.line.contains(" plugin=10-crashing.so in=mq_smtp_in_mailfrom"), "{}", left.line);
    assert!(left.frames().len() > 20, "{}", left.line);
    assert!(left.stderr().contains("has overflowed its stack"), "{}", left.stderr());
}

#[test]
fn a_crash_on_a_thread_of_a_plugin_is_laid_to_its_code() {
    let path = path!("a_crash_on_a_thread_of_a_plugin_is_laid_to_its_code");
    if is_child(path) {
        return crash();
    }
    let rows = [
        ("aside-segv", "SEGV", SIGSEGV),
        // The faulting place is the C library's, or nowhere at all.
        ("aside-abort", "ABRT", SIGABRT),
        ("aside-in-libc", "SEGV", SIGSEGV),
        ("aside-null-call", "SEGV", SIGSEGV),
    ];
    for (way, cause, signal) in rows {
        let left = left(path, way, &[]);
        left.assert_signal(signal);
        let expected = [cause, "thread=plugin%27s%20own", "address=0x0", "plugin=10-crashing.so"];
        assert_eq!(left.words(), expected, "{way}: {}", left.line);
        let said = "plugin 10-crashing.so ended the server on a thread of its own";
        assert!(left.stderr().contains(said), "{way}: {}", left.stderr());
    }
}

/// The unwinder believes what a plugin says of its frames, and faults: the report is cut, not lost, and
/// the handler of before still has its turn.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_crash_under_wrong_unwind_tables_is_reported_and_passed_on() {
    let path = path!("a_crash_under_wrong_unwind_tables_is_reported_and_passed_on");
    if is_child(path) {
        // Before ours, as a sanitizer's would be.
        // SAFETY: it only writes and ends the process.
        unsafe { libc::signal(SIGSEGV, had_its_turn as *const () as usize) };
        return crash();
    }
    for way in ["mislead", "aside-mislead"] {
        let left = left(path, way, &[]);
        assert_eq!(left.output.status.code(), Some(41), "{}\n{}", way, transcript(&left.output));
        assert_eq!(left.words()[0], "SEGV", "{}", left.line);
        assert!(left.line.contains(" plugin=10-crashing.so"), "{}", left.line);
        assert!(left.line.ends_with(" cut"), "{}", left.line);
        assert!(left.frames().iter().any(|at| at.starts_with("10-crashing.so+")), "{}", left.line);
    }
}

extern "C" fn had_its_turn(_: i32) {
    // SAFETY: nothing is left to be done.
    unsafe { libc::_exit(41) }
}

/// The first process of a container, say: no signal that it raises itself ends it.
#[test]
fn the_first_process_of_a_container_ends_after_its_report() {
    let path = path!("the_first_process_of_a_container_ends_after_its_report");
    if is_child(path) {
        assert_eq!(std::process::id(), 1);
        return crash();
    }
    if !can_unshare() {
        return eprintln!("this system makes no containers: not tested");
    }
    for (way, code) in [("bus", 128 + SIGBUS), ("abort", 128 + SIGABRT)] {
        let left = left_by(&UNSHARE, path, way, &[]);
        assert_eq!(left.output.status.code(), Some(code), "{way}: {}", transcript(&left.output));
        assert!(
            left.line.contains(" plugin=10-crashing.so in=mq_smtp_in_mailfrom"),
            "{}",
            left.line
        );
    }
}

const UNSHARE: [&str; 6] =
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

fn can_unshare() -> bool {
    let done = std::process::Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").output();
    done.is_ok_and(|output| output.status.success())
}

#[test]
fn exit_is_a_crash_that_names_who_called_it() {
    let path = path!("exit_is_a_crash_that_names_who_called_it");
    if is_child(path) {
        return crash();
    }
    for (way, end) in [("exit", " in=mq_smtp_in_mailfrom"), ("aside-exit", "")] {
        let left = left(path, way, &[]);
        // Not the code that the plugin chose: nobody would start the server again.
        left.assert_signal(SIGABRT);
        assert_eq!(left.words()[0], "exit");
        let line = left.line.split(" at=").next().unwrap_or_default();
        assert!(line.ends_with(&format!(" plugin=10-crashing.so{end}")), "{}", left.line);
        assert!(left.stderr().contains("it called exit()"), "{}", left.stderr());
    }
}

/// Whether the end of the process was announced or not. Here the handler of before takes its time, which
/// comes last in a report.
#[test]
fn exit_does_not_outrun_the_report_of_another_thread() {
    let path = path!("exit_does_not_outrun_the_report_of_another_thread");
    if is_child(path) {
        // SAFETY: it only notes that it runs, sleeps, and ends the process.
        unsafe { libc::signal(SIGSEGV, takes_its_time as *const () as usize) };
        report_crashes(Some(crash_file())).expect("handlers are taken");
        // SAFETY: it has a handler.
        std::thread::spawn(|| unsafe { libc::raise(SIGSEGV) });
        while !TAKES_ITS_TIME.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        if variable(WAY) == "announced" {
            rohrpost_abi::expect_exit();
        }
        std::process::exit(0);
    }
    for way in ["announced", "not"] {
        let left = left(path, way, &[]);
        assert_eq!(left.output.status.code(), Some(41), "{way}: {}", transcript(&left.output));
        assert_eq!(left.words()[0], "SEGV", "{way}: {}", left.line);
    }
}

static TAKES_ITS_TIME: AtomicBool = AtomicBool::new(false);

extern "C" fn takes_its_time(signal: i32) {
    TAKES_ITS_TIME.store(true, Ordering::Release);
    std::thread::sleep(std::time::Duration::from_millis(300));
    had_its_turn(signal)
}

#[test]
fn a_process_that_a_plugin_forks_ends_as_it_likes() {
    let path = path!("a_process_that_a_plugin_forks_ends_as_it_likes");
    if is_child(path) {
        misbehave();
        return rohrpost_abi::expect_exit();
    }
    let left = left(path, "fork", &[]);
    assert!(left.output.status.success(), "{}", transcript(&left.output));
    assert_eq!(left.line, "");
}

crate::support::scenario! {
    fn an_end_that_was_announced_is_no_crash() {
        report_crashes(None).expect("handlers are taken");
        report_crashes(None).expect("twice is once");
        rohrpost_abi::expect_exit();
    }
}

#[test]
fn d_0a_an_exception_is_written_down_with_its_plugin_and_a_panic_of_the_host_without() {
    let path =
        path!("d_0a_an_exception_is_written_down_with_its_plugin_and_a_panic_of_the_host_without");
    if is_child(path) {
        if variable(WAY) == "throw" {
            report_crashes(Some(crash_file())).expect("handlers are taken");
            let folder = Folder::new();
            folder.plugin_cpp("20-throwing.so", THROWING);
            let mut stage = Stage::in_folder(folder);
            let connection = stage.open();
            stage.run(connection, "");
        }
        return crash();
    }
    let thrown = left(path, "throw", &[]);
    thrown.assert_signal(SIGABRT);
    assert_eq!(thrown.words()[0], "exception");
    assert!(thrown.line.contains(" plugin=20-throwing.so in=mq_smtp_in_mailfrom at="));
    let panicked = left(path, "host-panic", &[]);
    panicked.assert_signal(SIGABRT);
    assert_eq!(panicked.words()[0], "panic");
    assert!(!panicked.line.contains(" plugin="), "{}", panicked.line);
    assert!(panicked.stderr().contains("a bug of the host: MQ_log panicked"));
}

const THROWING: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
MQ_EXPORT int mq_version() { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *, MQ_SmtpConnection *, const char *, size_t) { throw 1; }
"#;

#[test]
fn a_constructor_that_crashes_is_named_before_there_is_a_host() {
    let path = path!("a_constructor_that_crashes_is_named_before_there_is_a_host");
    if is_child(path) {
        report_crashes(Some(crash_file())).expect("handlers are taken");
        let folder = Folder::new();
        folder.plugin(
            "05-early.so",
            "#include <stdlib.h>\n__attribute__((constructor)) static void begin(void) { abort(); }",
        );
        let _ = Plugins::load(&options(folder.path()));
        return;
    }
    let left = left(path, "", &[]);
    left.assert_signal(SIGABRT);
    assert!(left.line.contains(" plugin=05-early.so in=its%20constructors"), "{}", left.line);
}

#[test]
fn files_that_could_not_be_loaded_are_never_blamed_for_one_that_could() {
    let path = path!("files_that_could_not_be_loaded_are_never_blamed_for_one_that_could");
    if is_child(path) {
        report_crashes(Some(crash_file())).expect("handlers are taken");
        let folder = Folder::new();
        folder.file("05-none.so", "no ELF");
        let mut options = options(folder.path());
        (options.copies, options.on_error) = (Copies::Memory, OnError::Skip);
        let plugins = Plugins::default();
        // More than the table of images has places.
        for _ in 0..=2 * PLUGINS_MAX {
            assert_eq!(plugins.prepare(&options).expect("it is skipped").skipped.len(), 1);
        }
        folder.plugin(
            "10-late.so",
            "#include <stdlib.h>\n__attribute__((constructor)) static void begin(void) { abort(); }",
        );
        let _ = plugins.prepare(&options);
        return;
    }
    let left = left(path, "", &[]);
    left.assert_signal(SIGABRT);
    assert!(left.line.contains(" plugin=10-late.so in=its%20constructors"), "{}", left.line);
}

#[test]
fn a_signal_from_outside_is_laid_to_who_blocks_a_worker_or_to_nobody() {
    let path = path!("a_signal_from_outside_is_laid_to_who_blocks_a_worker_or_to_nobody");
    if is_child(path) {
        report_crashes(Some(crash_file())).expect("handlers are taken");
        let blocks = variable(WAY) == "blocks";
        let stage = Stage::new();
        let call = rohrpost_abi::Current {
            sequence: 7,
            plugin: stage.plugin(0),
            site: rohrpost_abi::Site::Timer,
        };
        rohrpost_abi::note_blocker(blocks.then_some(call));
        let own = std::process::id().to_string();
        // A shell, so that the sender is somebody else.
        let _ = std::process::Command::new("sh").args(["-c", "kill -ABRT $0; :", &own]).status();
        std::thread::sleep(std::time::Duration::from_secs(60));
        unreachable!("the process has ended");
    }
    let nobody = left(path, "", &[]);
    nobody.assert_signal(SIGABRT);
    assert!(nobody.line.contains(" sender=") && !nobody.line.contains(" plugin="));
    assert!(nobody.stderr().contains(", sent by process "), "{}", nobody.stderr());
    let blocker = left(path, "blocks", &[]);
    blocker.assert_signal(SIGABRT);
    assert!(blocker.line.ends_with(" plugin=10-a.so in=a%20timer%20callback"), "{}", blocker.line);
}

/// The sanitizer's handler was there before: it still has its turn.
#[test]
fn the_handler_of_before_has_the_last_word() {
    let path = path!("the_handler_of_before_has_the_last_word");
    if is_child(path) {
        return crash();
    }
    let library = std::process::Command::new("gcc").arg("-print-file-name=libasan.so").output();
    let library = String::from_utf8(library.expect("gcc runs").stdout).expect("a path");
    let preload = ("LD_PRELOAD", library.trim());
    let left = left(path, "segv", &[preload, ("ASAN_OPTIONS", "detect_leaks=0")]);
    assert!(!left.output.status.success());
    assert!(left.line.contains(" plugin=10-crashing.so in=mq_smtp_in_mailfrom"), "{}", left.line);
    assert!(left.stderr().contains("ERROR: AddressSanitizer: SEGV"), "{}", left.stderr());
}
