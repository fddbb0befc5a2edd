//! Exceptions that leave plugin code end the process, and name who and where (D-0A).

use rohrpost_abi::{Command, Hook, Plugins, Step};

use crate::support::{Folder, Stage, child, is_child, options, transcript};

const SIGABRT: i32 = 6;

const THROWING: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
#include <stdexcept>
MQ_EXPORT int mq_version() { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *, MQ_SmtpConnection *) { throw std::runtime_error("x"); }
static void on_timer(void *) { throw 1; }
MQ_EXPORT bool mq_smtp_in_secure(MQ_Context *context, MQ_SmtpConnection *) {
    MQ_TimerStart(context, 0, on_timer, nullptr);
    return false;
}
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *, MQ_SmtpConnection *) {
    try { throw 1; } catch (...) { return true; }
}
"#;

/// Runs `body` in a child, which must die by SIGABRT with all `words` in one line of stderr.
#[track_caller]
pub(crate) fn assert_aborts(path: &str, words: &[&str], body: impl FnOnce()) -> String {
    if is_child(path) {
        body();
        unreachable!("the process has ended");
    }
    let output = child(path, &[]);
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(SIGABRT), "{}", transcript(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = stderr.lines().find(|line| line.starts_with("rohrpost:")).unwrap_or_default();
    assert!(words.iter().all(|word| report.contains(word)), "{}", transcript(&output));
    stderr.into_owned()
}

fn stage() -> Stage {
    let folder = Folder::new();
    folder.plugin_cpp("throwing.so", THROWING);
    Stage::in_folder(folder)
}

#[test]
fn d_0a_an_exception_from_a_hook() {
    let path = concat!(module_path!(), "::d_0a_an_exception_from_a_hook");
    assert_aborts(path, &["plugin throwing.so", "mq_smtp_in_connect"], || {
        let mut stage = stage();
        let connection = stage.open();
        stage.worker.call(stage.plugin(0), connection, Step::Connect);
    });
}

#[test]
fn d_0a_an_exception_from_a_callback() {
    let path = concat!(module_path!(), "::d_0a_an_exception_from_a_callback");
    assert_aborts(path, &["plugin throwing.so", "timer callback"], || {
        let mut stage = stage();
        let connection = stage.open();
        stage.worker.call(stage.plugin(0), connection, Step::Secure);
        let [Command::TimerStart { timer, .. }] = stage.commands()[..] else {
            return;
        };
        stage.worker.fire_timer(timer);
    });
}

#[test]
fn d_0a_an_exception_from_mq_version_names_the_file_before_there_is_a_host() {
    let path = concat!(
        module_path!(),
        "::d_0a_an_exception_from_mq_version_names_the_file_before_there_is_a_host"
    );
    assert_aborts(path, &["plugin early.so", Hook::Version.name()], || {
        let folder = Folder::new();
        folder.plugin_cpp(
            "early.so",
            "#define MQ_API_VERSION 201\n#include <mailerq.h>\nMQ_EXPORT int mq_version() { throw 1; }",
        );
        let _ = Plugins::load(&options(folder.path()));
    });
}

#[test]
fn a_panic_of_the_host_does_not_enter_the_plugin() {
    let path = concat!(module_path!(), "::a_panic_of_the_host_does_not_enter_the_plugin");
    assert_aborts(path, &["MQ_log panicked", "plugin loud.so", "mq_smtp_in_connect"], || {
        let folder = Folder::new();
        folder.plugin(
            "loud.so",
            "#define MQ_API_VERSION 201\n#include <mailerq.h>\n\
             MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
             MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *c, MQ_SmtpConnection *s)\n\
             { (void)c; (void)s; MQ_log(MQ_INFO, \"panic\"); return false; }",
        );
        let mut stage = Stage::in_folder(folder);
        let connection = stage.open();
        stage.worker.call(stage.plugin(0), connection, Step::Connect);
    });
}

crate::support::scenario! {
    fn an_exception_that_the_plugin_catches_is_its_own_business() {
        let mut stage = stage();
        let connection = stage.open();
        let returned = stage.worker.call(stage.plugin(0), connection, Step::Close);
        assert!(returned.took_control);
    }
}
