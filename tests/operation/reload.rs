//! `rohrpost reload`: what it applies, what it leaves, and that nobody is cut off by it.

use std::path::PathBuf;

use super::TEXT;
use crate::support::{Sanitizer, Server, ServerBuilder, SmtpClient, compile_plugin};

/// A server whose settings stand in a file that a test can write again.
struct Stage {
    plan: ServerBuilder,
    file: PathBuf,
}

impl Stage {
    fn new(settings: &str) -> Stage {
        let plan = Server::builder();
        let file = plan.directory().join("config.txt");
        std::fs::write(&file, settings).unwrap();
        let plan = plan.setting("config-file", file.display());
        Stage { plan, file }
    }

    /// Writes the file again and has the server read it; exit code and what was said.
    fn reload(&self, settings: &str) -> (i32, String) {
        std::fs::write(&self.file, settings).unwrap();
        let said = self.plan.order(&["reload"]);
        (said.code.unwrap(), format!("{}{}", said.stdout, said.stderr))
    }
}

/// What EHLO says of a keyword.
fn offered(server: &Server, keyword: &str) -> String {
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    client.reply().unwrap().require(220).unwrap();
    let reply = client.command("EHLO client.example.org").unwrap().require(250).unwrap();
    reply.lines.into_iter().find(|line| line.starts_with(keyword)).unwrap()
}

#[test]
fn a_hang_up_during_the_start_does_not_end_the_server() {
    let plan = Server::builder();
    let plugins = plan.directory().join("plugins");
    let source = plan.directory().join("early.c");
    let text = "#include <mailerq.h>\n#include <signal.h>\n#include <unistd.h>\n\
                MQ_EXPORT int mq_version(void) { kill(getpid(), SIGHUP); return MQ_API_VERSION; }\n";
    std::fs::write(&source, text).unwrap();
    compile_plugin(&source, &plugins, "early", Sanitizer::Off);
    let mut server = plan.setting("plugin-directory", plugins.display()).start();
    assert!(server.terminate().success());
}

#[test]
fn a_reload_applies_what_it_can_and_names_what_waits_for_a_restart() {
    let stage = Stage::new("smtp-maxsize: 10MB\nlog-level: info\n");
    let server = stage.plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let log = stage.plan.directory().join("log");
    let settings = format!(
        "smtp-maxsize: 5MB\nlog-level: debug\napplication-log: {}\nqueue-min-free: 1MB\n",
        log.display()
    );
    let (code, said) = stage.reload(&settings);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("changed: smtp-maxsize, application-log, log-level\n"), "{said}");
    assert!(said.contains("needs a restart: queue-min-free\n"), "{said}");
    assert_eq!(offered(&server, "SIZE"), "SIZE 5000000");
    assert!(std::fs::read_to_string(log).unwrap().contains("[reload]"));
    // Whoever was there before is still there.
    client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    let (code, said) = stage.reload(&settings);
    assert_eq!(code, 0);
    // What waits goes on waiting; the rest is as it is now.
    assert!(said.contains("queue-min-free") && !said.contains("changed:"), "{said}");
}

#[test]
fn a_reload_changes_who_may_connect_and_how_often() {
    let stage = Stage::new("");
    let server = stage.plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    assert_eq!(stage.reload("smtp-connections-in: 1\n").0, 0);
    let mut second = SmtpClient::connect(server.smtp()).unwrap();
    second.reply().unwrap().require(421).unwrap();
    assert_eq!(stage.reload("smtp-range: 192.0.2.0/24\n").0, 0);
    let mut stranger = SmtpClient::connect(server.smtp()).unwrap();
    stranger.reply().unwrap().require(554).unwrap();
    assert_eq!(stage.reload("smtp-relay-range:\n").0, 0);
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client.command("RCPT TO:<b@example.net>").unwrap().require(550).unwrap();
    assert_eq!(stage.reload("local-domains: example.net\nsmtp-relay-range:\n").0, 0);
    client.command("RCPT TO:<b@example.net>").unwrap().require(250).unwrap();
}

#[test]
fn a_reload_changes_timeouts_of_connections_that_are_open() {
    let stage = Stage::new("smtp-timeout: 3600\n");
    let server = stage.plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    assert_eq!(stage.reload("smtp-timeout: 1\n").0, 0);
    client.command("NOOP").unwrap().require(250).unwrap();
    client.reply().unwrap().require(421).unwrap();
}

#[test]
fn settings_that_are_wrong_change_nothing() {
    let stage = Stage::new("smtp-maxsize: 10MB\n");
    let server = stage.plan.start();
    let (code, said) = stage.reload("smtp-maxsize: 5MB\nsmtp-timeout: soon\nsmtp-prot: 1\n");
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("nothing has changed") && said.contains("did you mean `smtp-port`"));
    assert!(said.contains("config.txt:2: ") && said.contains("soon"), "{said}");
    assert_eq!(offered(&server, "SIZE"), "SIZE 10000000");
}

#[test]
fn without_a_server_there_is_nothing_to_reload() {
    let plan = Server::builder();
    std::fs::create_dir_all(plan.queue_directory()).unwrap();
    for subcommand in ["reload", "drain", "status"] {
        let said = plan.order(&[subcommand]);
        assert_eq!(said.code, Some(75), "{said:?}");
        assert!(said.stderr.contains("no server listens"), "{said:?}");
    }
}

#[test]
fn logs_alone_are_opened_again() {
    let plan = Server::builder();
    let (log, moved) = (plan.directory().join("log"), plan.directory().join("log.1"));
    let plan = plan.setting("application-log", log.display());
    let _server = plan.start();
    std::fs::rename(&log, &moved).unwrap();
    let said = plan.order(&["reload", "--logs"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    crate::support::eventually("a new file", crate::support::PATIENCE, || {
        log.exists().then_some(())
    });
}

#[test]
fn a_reload_changes_who_may_log_in() {
    let users = |password: &str| {
        format!("smtp-auth: hardcoded://alice:{password}\nsmtp-auth-plaintext: 127.0.0.0/8\n")
    };
    let stage = Stage::new(&users("one"));
    let server = stage.plan.start();
    // alice with `one`, and with `two` (RFC 4616).
    let (one, two) = ("AUTH PLAIN AGFsaWNlAG9uZQ==", "AUTH PLAIN AGFsaWNlAHR3bw==");
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command(one).unwrap().require(235).unwrap();
    let (code, said) = stage.reload(&users("two"));
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("two"), "no password is told: {said}");
    // Whoever has logged in stays so.
    client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    let mut again = SmtpClient::hello(server.smtp()).unwrap();
    again.command(one).unwrap().require(535).unwrap();
    again.command(two).unwrap().require(235).unwrap();
}
