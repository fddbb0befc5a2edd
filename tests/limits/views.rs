//! `rohrpost queue` and `status`: why each mail waits, with and without a running server.

use serde_json::Value;

use super::{
    hop::{At, Hop, How},
    id_of, list, queued, show,
};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

fn settled(server: &Server, id: &str, state: &str) -> Value {
    eventually(&format!("a mail that is {state}"), PATIENCE, || {
        let mail = show(server.plan(), id);
        (mail["state"] == state).then_some(mail)
    })
}

fn why(mail: &Value) -> &str {
    mail["why"].as_str().unwrap()
}

/// Each state is explained by the running server, and by the log when it has stopped.
#[test]
fn each_mail_says_why_it_waits() {
    let hop = Hop::start(Some((At::Rcpt, How::Say("450 4.2.1 mailbox busy"))));
    let plan = Server::builder().setting("smtp-threads", 1).smarthost(hop.address());
    let mut server = plan.start();
    let failed = queued(&server, "refused@example.net");
    let waiting = queued(&server, "busy@example.net");

    let mail = settled(&server, &failed, "failed");
    assert!(why(&mail).contains("max-delivertime"), "{mail}");
    assert_eq!(mail["results"][0]["code"], 550);
    assert_eq!(mail["envelope"], "a@example.org");
    assert_eq!(mail["recipient"], "refused@example.net");
    let mail = settled(&server, &waiting, "waiting");
    assert!(why(&mail).starts_with("the next attempt is in "), "{mail}");
    let attempt = &mail["results"][0];
    assert_eq!(attempt["status"], "4.2.1", "{mail}");
    assert_eq!(attempt["to"], hop.address().to_string(), "{mail}");
    assert_eq!(attempt["from"], "127.0.0.1", "{mail}");
    assert_eq!(server.queue_count(), 2);
    assert_eq!(server.status().count("failed"), 1);
    assert_eq!(states(&list(&plan)), ["failed", "waiting"]);

    assert!(server.terminate().success(), "{}", server.process());
    assert_eq!(server.queue_count(), 2, "the log counts the same");
    assert_eq!(states(&list(&plan)), ["failed", "waiting"]);
    let mail = show(&plan, &waiting);
    assert!(why(&mail).starts_with("no server is running; it is due at "), "{mail}");
    assert_eq!(mail["attempts"], 1);
    assert_eq!(mail["results"][0]["description"], "mailbox busy", "{mail}");
    let mail = show(&plan, &failed);
    assert_eq!(mail["results"][0]["code"], 550, "{mail}");

    // A new server knows the same: attempts and results came with the mail.
    let server = plan.start();
    assert_eq!(settled(&server, &failed, "failed")["attempts"], 1);
    let mail = settled(&server, &waiting, "waiting");
    assert_eq!(mail["results"][0]["description"], "mailbox busy", "{mail}");
}

fn states(mails: &[Value]) -> Vec<&str> {
    let mut states: Vec<&str> = mails.iter().map(|mail| mail["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    states
}

/// The hop is down: the reason and the time of the next try, without an attempt.
#[test]
fn a_mail_for_a_hop_that_is_down_says_so() {
    let plan = Server::builder().smarthost(crate::support::fresh_port());
    let mut server = plan.start();
    let id = queued(&server, "b@example.net");
    let mail = eventually("a reason", PATIENCE, || {
        let mail = show(&plan, &id);
        why(&mail).contains("next try in ").then_some(mail)
    });
    assert_eq!(mail["state"], "ready");
    assert_eq!(mail["attempts"], 0);
    assert!(why(&mail).contains("refused"), "{mail}");
    assert!(server.terminate().success());
    let mail = show(&plan, &id);
    assert_eq!(why(&mail), "no server is running; it is due at once");
}

/// `list` goes on where a page ends: ids in order, none twice, none missing, at most as many as asked.
#[test]
fn a_long_queue_is_listed_in_order() {
    const MAILS: usize = 250;
    let plan = Server::builder().smarthost(crate::support::fresh_port());
    let server = plan.start();
    let mut clients = [(); 4].map(|()| SmtpClient::hello(server.smtp()).unwrap());
    let mut ids: Vec<String> = (0..MAILS)
        .map(|number| {
            let client = &mut clients[number % 4];
            let to = format!("r{number}@example.net");
            let reply = client.mail("a@example.org", &to, b"x\r\n").unwrap();
            id_of(&reply.require(250).unwrap())
        })
        .collect();
    ids.sort_unstable();
    let text = plan.report(&["queue", "list", "--limit", "1000"]);
    let listed: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|mail| mail["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ids);
    let some = plan.report(&["queue", "list", "--limit", "7"]);
    assert_eq!(some.lines().count(), 7);
    assert_eq!(server.queue_count(), MAILS as u64);
}

/// Many attempts: the number is exact, the latest are shown, oldest first.
#[test]
fn attempts_are_listed() {
    let hop = Hop::start(Some((At::Mail, How::Say("451 4.3.0 try later"))));
    let server = Server::builder()
        .setting("smtp-threads", 1)
        .setting("retry-interval", 1)
        .smarthost(hop.address())
        .start();
    let id = queued(&server, "b@example.net");
    let mail = eventually("three attempts", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["attempts"].as_u64().unwrap() >= 3).then_some(mail)
    });
    let results = mail["results"].as_array().unwrap();
    assert_eq!(results.len() as u64, mail["attempts"].as_u64().unwrap());
    let times: Vec<&str> = results.iter().map(|result| result["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

/// The Received field names the transaction: that finds all its mails, running or not.
#[test]
fn the_name_in_the_received_field_finds_the_mails() {
    let mut server = Server::builder().start();
    let mail = queued(&server, "b@example.net");
    let (transaction, _) = mail.split_once('-').unwrap();
    assert_eq!(show(server.plan(), transaction)["id"], mail.as_str());
    server.terminate();
    assert_eq!(show(server.plan(), transaction)["id"], mail.as_str());
}
