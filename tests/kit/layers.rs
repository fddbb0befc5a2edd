//! The layers for C++ and Rust: what is thrown in a hook or callback costs one step, and nothing is leaked
//! or forgotten.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kit;
use crate::support::{PATIENCE, Process, Sanitizer, Server, Sink, SmtpClient, asan_library};

pub(super) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(name: &str, command: &mut Command) {
    let mut process = Process::spawn(name, command.stdin(Stdio::null()));
    assert!(process.wait(PATIENCE).success(), "{process}");
}

/// Compiles a plugin in Rust with the layer, without cargo: neither needs anything else.
pub(super) fn compile_rust(source: &Path, folder: &Path) -> PathBuf {
    let layer = folder.join("librohrpost_plugin.rlib");
    let rustc = || {
        let mut command = Command::new("rustc");
        command.args(["--edition", "2024", "-g", "-D", "warnings", "-O"]);
        command
    };
    let mut command = rustc();
    command.args(["--crate-type", "rlib", "--crate-name", "rohrpost_plugin"]);
    run("rustc", command.arg("-o").arg(&layer).arg(root("abi/sdk/src/lib.rs")));
    let object = folder.join(source.file_stem().unwrap()).with_extension("so");
    let mut command = rustc();
    command.args(["--crate-type", "cdylib"]).arg("--extern");
    command.arg(format!("rohrpost_plugin={}", layer.display()));
    run("rustc", command.arg("-o").arg(&object).arg(source));
    object
}

pub(super) fn compile_cpp(source: &Path, folder: &Path, sanitizer: Sanitizer) -> PathBuf {
    let object = folder.join(source.file_stem().unwrap()).with_extension("so");
    let mut command = Command::new("g++");
    command.args(["-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-g", "-O1"]);
    command.args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-I"]).arg(root("abi/include"));
    if sanitizer == Sanitizer::Address {
        command.args(["-fsanitize=address", "-fno-omit-frame-pointer"]);
    }
    run("g++", command.arg("-o").arg(&object).arg(source));
    object
}

/// Plays a dialogue, which must pass.
fn passes(object: &Path, dialogue: &str, sanitizer: Sanitizer) -> String {
    let file = object.with_extension("txt");
    std::fs::write(&file, dialogue).unwrap();
    let arguments = ["test", object.to_str().unwrap(), file.to_str().unwrap()];
    let said = match sanitizer {
        Sanitizer::Off => kit(arguments),
        Sanitizer::Address => {
            // The sanitizer looks for what throws before anything that can is loaded.
            let preload = format!("{}:libstdc++.so.6", asan_library().display());
            let environment =
                [("LD_PRELOAD", preload.as_str()), ("ASAN_OPTIONS", "detect_leaks=0")];
            super::kit_with(arguments, environment)
        }
    };
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    said.stdout
}

/// The start of a dialogue, and then for each recipient: what happens meanwhile, and the reply.
fn recipients(rows: &[(&str, &str, &str)]) -> String {
    let mut text =
        "S: 220\nC: HELO client.example\nS: 250\nC: MAIL FROM:<a@example.org>\nS: 250\n".to_owned();
    for (name, steps, reply) in rows {
        text.push_str(&format!("C: RCPT TO:<{name}@example.net>\n{steps}S: {reply}\n"));
    }
    text
}

fn goes_off(what: &str) -> String {
    format!("expect log {what} goes off\n")
}

const TEXT: &str = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: text\nC: .\nS: 250\n\
                    expect sent X-Client: client.example\nC: QUIT\nS: 221\nclose\n\
                    expect log a seat is gone\n";

#[test]
fn what_is_panicked_in_rust_fails_one_step_and_no_more() {
    let place = tempfile::tempdir().unwrap();
    let object = compile_rust(&root("tests/kit/layers/misbehaving.rs"), place.path());
    let said = kit(["check", object.to_str().unwrap()]);
    assert!(said.code == Some(0) && said.stdout.ends_with("\nusable\n"), "{said:?}");
    let held = "expect hook mq_smtp_in_rcptto held\n";
    let waits = format!("{held}wait 1s\nexpect back continue\n");
    let timer = format!("{held}wait 1s\nexpect log panic in a timer: in the timer\n");
    let repeat = format!("{held}wait 3s\nexpect log 0 left\nexpect back continue\n");
    let thread = format!("{held}expect back continue\n");
    let dialogue = recipients(&[
        ("good", "", "250"),
        ("panic", "expect log panic in mq_smtp_in_rcptto: in the hook for panic@\n", "451"),
        ("error", "expect log mq_smtp_in_rcptto: invalid digit found\n", "451"),
        ("held-panic", "expect log while it is held\n", "451"),
        ("timer-panic", &timer, "451"),
        ("watch-panic", "expect log panic in a watch: in the watch\n", "451"),
        ("dropped", "expect log dropped without a verdict\n", "451"),
        ("thread", &thread, "250"),
        ("thread-answer", held, "550 5.7.1 the worker says no"),
        ("thread-panic", "expect log dropped without a verdict\n", "451"),
        ("wait", &waits, "250"),
        ("echo", "expect callback watch\nexpect back continue\n", "250"),
        ("repeat", &repeat, "250"),
        ("reject", "expect hook mq_smtp_in_rcptto\n", "551-5.1.6 Not\nS: 551 5.1.6 here"),
        ("complete", "expect hook mq_smtp_in_rcptto complete\n", "250"),
        ("good-again", "expect hook mq_smtp_in_rcptto false\n", "250"),
    ]);
    let start = "# setting: smtp-errors=100\n";
    passes(&object, &format!("{start}{dialogue}{TEXT}"), Sanitizer::Off);
    // What a closure captured panics as well, when it goes.
    let repeat = format!("{held}wait 1s\nexpect log in the repeating timer\n{}", goes_off("timer"));
    let own = format!("{held}wait 1s\n{}", goes_off("own timer"));
    let watch = format!("{}{}", goes_off("watch"), goes_off("descriptor"));
    let rows = recipients(&[
        ("bomb-in-timer", &repeat, "451"),
        ("bomb-in-own-timer", &own, "250"),
        ("bomb-in-watch", &format!("expect log in the watch\n{watch}"), "250"),
        ("bomb-in-own-watch", &watch, "250"),
        ("good-again", "", "250"),
    ]);
    passes(&object, &rows, Sanitizer::Off);
    // A hook that is about a message: one reply for all of it.
    let rows = recipients(&[("good", "", "250"), ("message-panic", "", "250")]);
    let end = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: text\nC: .\nS: 451\nC: QUIT\nS: 221\nclose\n";
    passes(&object, &format!("{rows}{end}"), Sanitizer::Off);
    // On the way out: one is given up, one tried again, and a panic of a third is a reason to try again.
    let rows = recipients(&[("bounce", "", "250"), ("retry", "", "250"), ("route", "", "250")]);
    let text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: text\nC: .\nS: 250\n";
    let end = "repeat 3 expect hook mqx_smtp_out_message\nexpect log no such host\n";
    passes(&object, &format!("# misuses: 1\n{rows}{text}{end}"), Sanitizer::Off);
    let rows = recipients(&[("good", "", "250")]);
    let end = "expect log 550 of 127.0.0.1 at rcptto\n";
    passes(&object, &format!("# hop: rcpt=550\n{rows}{text}{end}"), Sanitizer::Off);
    // D-27: what is leaked is taken back.
    let rows =
        recipients(&[("forgotten", "expect held 1\nwait 299s\nexpect held 1\nwait 1s\n", "451")]);
    passes(&object, &rows, Sanitizer::Off);
}

/// What is said of a step that was taken back counts neither there nor in the step of now; and a decision
/// of another thread arrives also where no more can be posted.
#[test]
fn d_28_answers_of_a_rust_hold_are_for_its_own_step_alone() {
    let place = tempfile::tempdir().unwrap();
    let object = compile_rust(&root("tests/kit/layers/misbehaving.rs"), place.path());
    let late = "expect hook mq_smtp_in_rcptto held\nwait 2s\n";
    let meanwhile = "expect log that is its hold's to say\nexpect held 1\nwait 3s\n\
                     expect log nobody hears it\nexpect log gave up\nexpect back continue\n";
    let rows = recipients(&[
        ("late", late, "451"),
        ("after-late", meanwhile, "250"),
        ("late", late, "451"),
        ("answered-after-late", "expect held 1\nwait 1s\n", "551 5.1.6 in time"),
    ]);
    passes(&object, &rows, Sanitizer::Off);
    let rows = recipients(&[("flood", "expect back continue\n", "250")]);
    // A post too many, and the wake-up of the decision.
    passes(&object, &format!("# misuses: 2\n# setting: plugin-timeout=0\n{rows}"), Sanitizer::Off);
}

#[test]
fn a_rust_plugin_that_cannot_start_keeps_the_server_from_starting() {
    let place = tempfile::tempdir().unwrap();
    compile_rust(&root("tests/kit/layers/misbehaving.rs"), place.path());
    for (how, why) in [("panic", "in start"), ("soon", "start: soon: invalid digit")] {
        let plan = Server::builder()
            .setting("plugin-directory", place.path().display())
            .environment("ROHRPOST_PLUGIN_MISBEHAVING_START", how);
        let (code, said) = plan.start_in_vain();
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(why) && said.contains("misbehaving.so"), "{said}");
    }
}

#[test]
fn what_is_thrown_in_cplusplus_fails_one_step_and_no_more() {
    let place = tempfile::tempdir().unwrap();
    let source = root("tests/kit/layers/misbehaving.cpp");
    let object = compile_cpp(&source, place.path(), Sanitizer::Address);
    let held = "expect hook mq_smtp_in_rcptto held\n";
    let waits = format!("{held}wait 1s\nexpect back continue\n");
    let timer = format!("{held}wait 1s\nexpect log exception in a timer: in the timer\n");
    let repeat = format!("{held}wait 3s\nexpect log 0 left\nexpect back continue\n");
    let dialogue = recipients(&[
        ("good", "", "250"),
        ("throw", "expect log exception in mq_smtp_in_rcptto: in the hook for throw@\n", "451"),
        ("throw-number", "expect log no std::exception\n", "451"),
        ("wrong-state", "expect log of another type\n", "451"),
        ("held-throw", "expect log while it is held\n", "451"),
        ("timer-throw", &timer, "451"),
        ("dropped", "expect log dropped without a verdict\n", "451"),
        ("wait", &waits, "250"),
        ("repeat", &repeat, "250"),
        ("thread", "expect callback post\nexpect back continue\n", "250"),
        ("thread-answer", held, "550 5.7.1 The worker says no"),
        ("thread-drop", "expect log dropped without a verdict\n", "451"),
        ("thread-astray", "expect log on another thread\n", "451"),
        ("thread-undecided", "expect log dropped without a verdict\n", "451"),
        ("post-throw", "expect log exception in a posted function\n", "451"),
        ("reject", "", "551-5.1.6 Not\nS: 551 5.1.6 here"),
        ("good-again", "", "250"),
    ]);
    let start = "# setting: smtp-errors=100\n";
    passes(&object, &format!("{start}{dialogue}{TEXT}"), Sanitizer::Address);
    let rows = recipients(&[("good", "", "250"), ("message-throw", "", "250")]);
    let end = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: text\nC: .\nS: 451\nC: QUIT\nS: 221\nclose\n";
    passes(&object, &format!("{rows}{end}"), Sanitizer::Address);
}

#[test]
fn d_28_answers_of_a_cplusplus_hold_are_for_its_own_step_alone() {
    let place = tempfile::tempdir().unwrap();
    let source = root("tests/kit/layers/misbehaving.cpp");
    let object = compile_cpp(&source, place.path(), Sanitizer::Address);
    let late = "expect hook mq_smtp_in_rcptto held\nwait 3500ms\n";
    let meanwhile = "expect log that is its hold's to say\nexpect held 1\nwait 3s\n\
                     expect log nobody hears it\nexpect back continue\n";
    let rows = recipients(&[
        ("late", late, "451"),
        ("after-late", meanwhile, "250"),
        ("late", late, "451"),
        ("answered-after-late", "expect held 1\nwait 1s\n", "551 5.1.6 in time"),
    ]);
    passes(&object, &format!("# setting: plugin-timeout=3500ms\n{rows}"), Sanitizer::Address);
    let rows = recipients(&[
        ("flood", "expect back continue\n", "250"),
        ("flood-drop", "expect log dropped without a verdict\n", "451"),
    ]);
    // Posts that are too many, in both, and the wake-up or the post of the hold.
    let start = "# misuses: 4\n# setting: plugin-timeout=0\n";
    passes(&object, &format!("{start}{rows}"), Sanitizer::Address);
}

/// Beside each other on a real server with its own clock: one step fails, the next mail passes.
#[test]
fn d_0a_the_server_outlives_what_both_layers_stop() {
    let plan = Server::builder();
    let folder = plan.directory().join("plugins");
    std::fs::create_dir(&folder).unwrap();
    compile_rust(&root("tests/kit/layers/misbehaving.rs"), &folder);
    let rust = folder.join("misbehaving.so");
    std::fs::rename(&rust, folder.join("10-rust.so")).unwrap();
    compile_cpp(&root("tests/kit/layers/misbehaving.cpp"), &folder, Sanitizer::Off);
    let sink = Sink::start(&plan.directory().join("dump"));
    let plan = plan.smarthost(sink.address()).setting("plugin-directory", folder.display());
    let mut server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    for name in ["panic", "timer-panic", "thread-panic", "throw", "timer-throw", "post-throw"] {
        let line = format!("RCPT TO:<{name}@example.net>");
        client.command(&line).unwrap().require(451).unwrap();
    }
    client.command("RSET").unwrap().require(250).unwrap();
    let reply = client.mail("a@example.org", "good@example.net", b"Subject: x\r\n\r\nx\r\n");
    reply.unwrap().require(250).unwrap();
    sink.await_count(1, PATIENCE);
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// The example, built as its Makefile says.
#[test]
fn tarpit_lets_those_wait_who_try_many_recipients() {
    let place = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.arg("-C").arg(root("examples/plugins")).arg("rust");
    make.arg(format!("OUTPUT={}", place.path().display())).env_remove("MAKEFLAGS");
    run("make rust", &mut make);
    let object = place.path().join("tarpit.so");
    let held =
        |time: &str| format!("expect hook mq_smtp_in_rcptto held\n{time}expect back continue\n");
    let (first, second) = (held("wait 1s\n"), held("wait 1s\nexpect held 1\nwait 1s\n"));
    let free = ["a", "b", "c", "d", "e"].map(|name| (name, "", "250"));
    let rows: Vec<_> = free
        .into_iter()
        .chain([("f", first.as_str(), "250"), ("g", second.as_str(), "250")])
        .collect();
    // Whoever leaves is not waited for.
    let end = "C: RCPT TO:<h@example.net>\nexpect held 1\ndrop\nexpect hook mqx_smtp_lost\n\
               expect back continue\nexpect held 0\n";
    passes(&object, &format!("{}{end}", recipients(&rows)), Sanitizer::Off);
    // One too many.
    let full = "# setting: plugin-tarpit-waiting-max=0\n# setting: plugin-tarpit-free=1\n";
    let rows = recipients(&[("a", "", "250"), ("b", "", "421 4.7.0")]);
    passes(&object, &format!("{full}{rows}close\n"), Sanitizer::Off);
}
