//! A plugin that uses up what the server needs: mail is refused then, and never half taken.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::crashing::Crashing;
use crate::support::{PATIENCE, Sink, SmtpClient};

#[test]
fn a_plugin_that_leaks_every_descriptor_costs_no_octet_of_a_mail() {
    let crashing = Crashing::new();
    // Small files, so that the queue wants new ones.
    let plan =
        crashing.plan.clone().setting("queue-segment-size", "1MiB").setting("smtp-threads", 1);
    let mut server = plan.start();
    let pid = Pid::from_raw(server.process().pid()).unwrap();
    let few = Rlimit { current: Some(256), ..getrlimit(Resource::Nofile) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<leak@example.org>").unwrap().require(250).unwrap();
    client.command("RSET").unwrap().require(250).unwrap();
    let text = [&[b'x'; 62][..], b"\r\n"].concat().repeat(3000);
    let mut taken = Vec::new();
    for number in 0..20 {
        let recipient = format!("r{number}@example.net");
        let reply = client.mail("sender@example.org", &recipient, &text).unwrap();
        match reply.code {
            250 => taken.push(recipient),
            code => assert!((400..500).contains(&code), "{reply:?}"),
        }
    }
    assert!(!taken.is_empty(), "the file that was open when it began");
    server.kill9();
    let dump = plan.directory().join("sunk");
    let sink = Sink::start(&dump);
    let mut server = plan.smarthost(sink.address()).start();
    server.await_empty_queue(PATIENCE);
    assert!(server.terminate().success());
    let sunk = String::from_utf8(sink.terminate()).unwrap();
    let body = "x".repeat(62);
    for recipient in &taken {
        let mut mails = sunk.lines().filter(|line| line.contains(&format!("\"{recipient}\"")));
        let mail = mails.next().unwrap_or_else(|| panic!("{recipient} is lost"));
        assert_eq!(mail.matches(&body).count(), 3000, "{recipient}");
        assert_eq!(mails.next(), None);
    }
    assert_eq!(sunk.lines().count(), taken.len(), "nothing else was taken");
}
