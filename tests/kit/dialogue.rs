//! `rohrpost plugin test` and `plugin new`: dialogues that pass, and dialogues that must not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Said, compile, kit};
use crate::support::{PATIENCE, Process};

fn play(object: &Path, dialogue: &str) -> Said {
    let file = object.with_extension("txt");
    std::fs::write(&file, dialogue).unwrap();
    kit(["test", "--patience=2", object.to_str().unwrap(), file.to_str().unwrap()])
}

/// Plays what must pass.
fn passes(object: &Path, dialogue: &str) -> String {
    let said = play(object, dialogue);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    said.stdout
}

/// Plays what must fail; its last line.
fn fails(object: &Path, dialogue: &str) -> String {
    let said = play(object, dialogue);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    said.stdout.lines().last().unwrap_or_default().to_owned()
}

fn example(folder: &Path, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plugins").join(name);
    compile(folder, name, &std::fs::read_to_string(source).unwrap(), &["-fvisibility=hidden"])
}

/// A plugin with which senders that are new wait for twenty seconds, on each connection.
fn patient(folder: &Path) -> PathBuf {
    let source = "#include <mailerq.h>\n\
        static char seen;\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        static void over(void *data) { MQ_continue(data); }\n\
        MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *a, MQ_Connection *b, MQ_Address *c)\n\
        { (void)c; if (MQ_connectionData(b)) return false;\n\
          MQ_setConnectionData(b, &seen); MQ_log(MQ_INFO, \"a stranger waits\");\n\
          return MQ_startTimer(a, 20, over, b) != NULL; }\n\
        MQ_EXPORT bool mq_smtp_in_close(MQ_Context *a, MQ_Connection *b)\n\
        { (void)a; (void)b; return false; }\n";
    compile(folder, "patient.c", source, &["-fvisibility=hidden"])
}

const HELLO: &str = "S: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<a@example.org>\nS: 250\n";
const TEXT: &str = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: text\nC: .\nS: 250\n";

/// Twenty seconds pass in no time at all, and not before they are told to.
#[test]
fn time_passes_by_the_script_alone() {
    let place = tempfile::tempdir().unwrap();
    let object = patient(place.path());
    let known = "C: MAIL FROM:<a@example.org>\nS: 250\nC: RCPT TO:<b@example.net>\n\
                 expect hook mq_smtp_in_rcptto";
    let dialogue = format!(
        "{HELLO}C: RCPT TO:<b@example.net>\nexpect hook mq_smtp_in_rcptto held\n\
         expect log a stranger waits\nwait 19s\nexpect no callback timer\nexpect held 1\n\
         wait 1s\nexpect callback timer\nexpect back continue\nexpect held 0\nS: 250\n{TEXT}\
         expect sent b@example.net\n{known} false\nS: 250\n{TEXT}\
         C: QUIT\nS: 221\nclose\nexpect hook mq_smtp_in_close false\n"
    );
    let said = passes(&object, &dialogue);
    assert!(said.contains("\npassed: "), "{said}");
    assert!(said.contains("holds 1, callbacks 1, misuses 0"), "{said}");
}

#[test]
fn what_happens_otherwise_fails_at_its_line() {
    let place = tempfile::tempdir().unwrap();
    let object = patient(place.path());
    let held = format!("{HELLO}C: RCPT TO:<b@example.net>\n");
    for (dialogue, line, why) in [
        ("S: 220\nC: HELO x\nS: 550\n".to_owned(), 3, "awaited 550, got \"250"),
        ("S: 220\nC: EHLO x\nS: 250-* NOTHING\n".to_owned(), 3, "awaited a line with NOTHING"),
        ("S: 220\nclose\n".to_owned(), 2, "awaited the end"),
        (format!("{HELLO}expect hook mq_smtp_in_data\n"), 6, "the call \"hook mq_smtp_in_data\""),
        (format!("{held}S: 250\n"), 7, "time passes with `wait` alone"),
        (format!("{held}expect no hook mq_smtp_in_rcptto\n"), 7, "unexpected: hook"),
        (format!("{held}expect log never said\n"), 7, "never said"),
        (format!("{held}expect held 2\n"), 7, "found 1"),
        (format!("{HELLO}expect sent x\n"), 6, "at the next hop"),
    ] {
        let last = fails(&object, &dialogue);
        assert!(last.starts_with("failed: ") && last.contains(why), "{last}");
        assert!(last.contains(&format!(".txt:{line}: ")), "{line}: {last}");
    }
}

/// C: what every plugin that passes must not do.
#[test]
fn a_step_that_is_never_handed_back_and_misuse_fail_a_dialogue() {
    let place = tempfile::tempdir().unwrap();
    let source = "#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *a, MQ_Connection *b, MQ_Address *c)\n\
        { (void)a; (void)b; (void)c; return true; }\n\
        MQ_EXPORT bool mqx_smtp_in_nothing(void);\n\
        MQ_EXPORT bool mq_smtp_in_close(MQ_Context *a, MQ_Connection *b)\n\
        { (void)a; MQ_continue(b); MQ_stopTimer(NULL); return false; }\n";
    let object = compile(place.path(), "bad.c", source, &["-fvisibility=hidden"]);
    let start = "S: 220\nC: HELO x\nS: 250\n";
    let last = fails(&object, &format!("{start}C: MAIL FROM:<>\nexpect held 1\n"));
    assert!(last.contains("1 steps were not handed back at the end"), "{last}");
    let last = fails(&object, &format!("{start}C: QUIT\nS: 221\nclose\n"));
    assert!(last.contains("1 calls were misuse, 0 expected"), "{last}");
    passes(&object, &format!("# misuses: 1\n{start}C: QUIT\nS: 221\nclose\n"));
}

#[test]
fn a_close_hook_that_is_never_handed_back_fails_a_dialogue() {
    let place = tempfile::tempdir().unwrap();
    let leaving = |name: &str, hook: &str| {
        let source = format!(
            "#include <mailerq.h>\n\
             MQ_EXPORT int mq_version(void) {{ return MQ_API_VERSION; }}\n\
             MQ_EXPORT bool {hook}(MQ_Context *a, MQ_Connection *b)\n\
             {{ (void)a; (void)b; return true; }}\n"
        );
        compile(place.path(), name, &source, &["-fvisibility=hidden"])
    };
    let object = leaving("in.c", "mq_smtp_in_close");
    let start = "S: 220\nC: HELO x\nS: 250\n";
    for end in ["", "drop\n", "C: QUIT\nS: 221\n"] {
        let last = fails(&object, &format!("{start}{end}"));
        assert!(last.contains("1 steps were not handed back at the end"), "{end}: {last}");
    }
    // The connection to the next hop rests until the stop.
    let object = leaving("out.c", "mqx_smtp_out_close");
    let mail = format!("{HELLO}C: RCPT TO:<b@example.net>\nS: 250\n{TEXT}expect sent text\n");
    let last = fails(&object, &mail);
    assert!(last.contains("1 steps were not handed back at the end"), "{last}");
}

#[test]
fn a_close_hook_that_is_handed_back_in_time_passes_a_dialogue() {
    let place = tempfile::tempdir().unwrap();
    let source = "#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        static void over(void *data) { MQ_continue(data); }\n\
        MQ_EXPORT bool mq_smtp_in_close(MQ_Context *a, MQ_Connection *b)\n\
        { return MQ_startTimer(a, 3, over, b) != NULL; }\n";
    let object = compile(place.path(), "late.c", source, &["-fvisibility=hidden"]);
    let start = "S: 220\nC: HELO x\nS: 250\n";
    passes(&object, &format!("{start}drop\nexpect held 1\nwait 3s\nexpect held 0\n"));
    // The clients' leaving comes with no line in which time could pass.
    passes(&object, start);
    let short = format!("# setting: plugin-timeout=2s\n{start}");
    let last = fails(&object, &short);
    assert!(last.contains("1 steps were not handed back at the end"), "{last}");
}

/// A plugin whose MAIL hook does `body`, and whose constructor `first`.
fn misbehaving(folder: &Path, name: &str, first: &str, body: &str) -> PathBuf {
    let source = format!(
        "#include <mailerq.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
         MQ_EXPORT int mq_version(void) {{ return MQ_API_VERSION; }}\n\
         static char *volatile nowhere;\n\
         __attribute__((constructor)) static void first(void) {{ {first} (void)nowhere; }}\n\
         MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *a, MQ_Connection *b, MQ_Address *c)\n\
         {{ (void)a; (void)b; (void)c; {body} return false; }}\n"
    );
    compile(folder, name, &source, &["-fvisibility=hidden"])
}

#[test]
fn a_plugin_that_ends_the_process_fails_the_dialogue_and_is_named() {
    let place = tempfile::tempdir().unwrap();
    for (name, first, body, why) in [
        ("exit.c", "", "exit(0);", "in mq_smtp_in_mailfrom: it called exit()"),
        ("segv.c", "", "*nowhere = 1;", "in mq_smtp_in_mailfrom: SEGV at address 0x0"),
        ("early.c", "exit(0);", "", "it called exit()"),
    ] {
        let object = misbehaving(place.path(), name, first, body);
        let said = play(&object, "S: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<>\nS: 250\n");
        assert_eq!(said.code, None, "{name}: by a signal: {said:?}");
        let named = name.replace(".c", ".so");
        let named = if first.is_empty() { format!("plugin {named} ended") } else { String::new() };
        assert!(said.stderr.contains(&named) && said.stderr.contains(why), "{name}: {said:?}");
        assert!(!said.stdout.contains("passed"), "{name}: {said:?}");
    }
}

#[test]
fn what_a_plugin_says_before_it_refuses_to_start_is_shown() {
    let place = tempfile::tempdir().unwrap();
    let source = "#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT bool mqx_initialize(MQX_Plugin *self)\n\
        { (void)self; MQ_log(MQ_WARN, \"there is no licence\"); return false; }\n\
        MQ_EXPORT bool mq_smtp_in_close(MQ_Context *a, MQ_Connection *b)\n\
        { (void)a; (void)b; return false; }\n";
    let object = compile(place.path(), "refusing.c", source, &["-fvisibility=hidden"]);
    let said = play(&object, "S: 220\n");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("! Warning: there is no licence"), "{said:?}");
    assert!(said.stdout.contains("failed: plugin refusing.so"), "{said:?}");
}

#[test]
fn d_28_a_plugin_that_owes_a_hand_back_is_seen_to_be_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let object = misbehaving(place.path(), "owing.c", "", "return true;");
    let last = play(
        &object,
        "# setting: plugin-timeout=5s\nS: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<>\n\
         expect hook mq_smtp_in_mailfrom held\nwait 6s\nS: 451\nC: MAIL FROM:<>\nexpect passed over\n\
         expect no hook mq_smtp_in_mailfrom\nS: 250\nC: QUIT\nS: 221\nclose\n",
    );
    assert!(last.stdout.contains("| passed over owing.so mq_smtp_in_mailfrom (owes"), "{last:?}");
    assert!(!last.stdout.contains("failed"), "{last:?}");
}

#[test]
fn a_plugin_that_does_not_return_fails_the_dialogue_and_is_named() {
    let place = tempfile::tempdir().unwrap();
    let forever = "for (;;) pause();";
    let dialogue = "S: 220\nC: HELO x\nS: 250\nC: MAIL FROM:<>\nS: 250\n";
    let object = misbehaving(place.path(), "hook.c", "", forever);
    let last = fails(&object, dialogue);
    assert!(last.contains("plugin hook.so: mq_smtp_in_mailfrom has not returned"), "{last}");
    let object = misbehaving(place.path(), "start.c", forever, "");
    let last = fails(&object, dialogue);
    assert!(last.contains("a constructor or a hook of the main thread"), "{last}");
}

#[test]
fn settings_clients_and_the_next_hop_are_the_dialogues() {
    let place = tempfile::tempdir().unwrap();
    let object = example(place.path(), "minimal.c");
    let mail = format!("{HELLO}C: RCPT TO:<b@example.net>\nS: 250\n{TEXT}");
    passes(
        &object,
        &format!("# setting: smtp-hostname=other.example\nS: 220 other.example\n{}drop\n", ""),
    );
    passes(
        &object,
        &format!("{mail}expect sent b@example.net\nexpect sent text\n")
            .replace("sent text", "held 0"),
    );
    // A refusal is for good, so nothing more is tried in a day.
    passes(&object, &format!("# hop: rcpt=550\n{mail}wait 24h\nexpect held 0\n"));
    passes(
        &object,
        "client 2\nS: 220\nclient 1\nS: 220\nC: QUIT\nS: 221\nclose\nclient 2\nC: NOOP\nS: 250\n",
    );
}

#[test]
fn a_dialogue_or_plugin_that_cannot_be_read_is_wrong_usage() {
    let place = tempfile::tempdir().unwrap();
    let object = example(place.path(), "minimal.c");
    let said = play(&object, "S: 220\nwhat\n");
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("minimal.txt:2: a step is one of"), "{said:?}");
    let said = kit(["test", "/nowhere.so", object.with_extension("txt").to_str().unwrap()]);
    assert_eq!(said.code, Some(64), "{said:?}");
    let said = play(&object, "# setting: smtp-treads=1\n");
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("minimal.txt:1: ") && said.stderr.contains("smtp-threads"));
    std::fs::write(&object, "no plugin").unwrap();
    let said = play(&object, "S: 220\n");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("cannot be loaded"), "{said:?}");
}

/// Runs `rohrpost plugin new` in `folder`, then `make test` in what it made.
fn make_new(folder: &Path, arguments: &[&str]) {
    let name = arguments[0];
    let program = env!("CARGO_BIN_EXE_rohrpost");
    let mut command = Command::new(program);
    command.args(["plugin", "new"]).args(arguments).current_dir(folder).stdin(Stdio::null());
    let mut process = Process::spawn("rohrpost plugin new", &mut command);
    assert!(process.wait(PATIENCE).success(), "{process}");
    let said = make(&folder.join(name), &["test"]);
    assert!(said.contains("\nusable\n") && said.contains("\npassed: "), "{said}");
}

/// Runs `make` in a project, which must succeed; what it said.
fn make(project: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("make");
    command.args(arguments).arg(format!("ROHRPOST={}", env!("CARGO_BIN_EXE_rohrpost")));
    command.current_dir(project).stdin(Stdio::null()).env_remove("MAKEFLAGS");
    // What a project in Rust builds stays in it, and needs nothing from elsewhere.
    command.env("CARGO_TARGET_DIR", "target").env("CARGO_NET_OFFLINE", "true");
    let mut process = Process::spawn("make", &mut command);
    assert!(process.wait(PATIENCE).success(), "{process}");
    process.stdout.complete()
}

/// A project is built anew when it shall be watched, and when it shall not any more.
fn is_watched_on_demand(project: &Path, object: &str) {
    let is_watched = || {
        let bytes = std::fs::read(project.join(object)).unwrap();
        bytes.windows(11).any(|window| window == b"__asan_init")
    };
    for (arguments, watched) in [
        (&["SANITIZE=address", "test"][..], true),
        (&["test"], false),
        (&["SANITIZE=address"], true),
    ] {
        make(project, arguments);
        assert_eq!(is_watched(), watched, "{arguments:?}");
    }
    assert!(!make(project, &["SANITIZE=address"]).contains("-shared"), "nothing has changed");
    make(project, &["clean"]);
    let left = std::fs::read_dir(project).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("built")).collect();
    assert!(left.is_empty() && !project.join(object).exists(), "{left:?}");
}

#[test]
fn a_new_project_in_cplusplus_builds_and_passes_its_test() {
    let place = tempfile::tempdir().unwrap();
    make_new(place.path(), &["second_try", "--cpp"]);
    is_watched_on_demand(&place.path().join("second_try"), "second_try.so");
}

#[test]
fn a_new_project_in_rust_builds_and_passes_its_test() {
    let place = tempfile::tempdir().unwrap();
    make_new(place.path(), &["third-try", "--rust"]);
    // All of the layer goes with it.
    let layer = place.path().join("third-try/rohrpost-plugin/src");
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/sdk/src");
    assert_eq!(files(&layer), files(&whole));
}

#[test]
fn a_new_project_builds_and_passes_its_test() {
    let place = tempfile::tempdir().unwrap();
    make_new(place.path(), &["first-try"]);
    is_watched_on_demand(&place.path().join("first-try"), "first-try.so");
    let said = kit(["new", "Not A Name"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("lower-case"), "{said:?}");
    // What is there stays as it is.
    let mut command = Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    command.args(["plugin", "new", "first-try"]).current_dir(place.path()).stdin(Stdio::null());
    let mut process = Process::spawn("rohrpost plugin new", &mut command);
    assert_eq!(process.wait(PATIENCE).code(), Some(64), "{process}");
    assert!(place.path().join("first-try/first-try.c").exists());
}
