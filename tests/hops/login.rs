//! The login to a smarthost.

use super::{
    TEXT, arrived,
    far::{Auth, Conduct, Far, Said},
    paper::{Authority, self_signed},
    post, towards, waits_because_of,
};
use crate::support::{PATIENCE, Server, ServerBuilder, Tool};

const HOST: &str = "127.0.0.1";

fn asking(offers: &'static str, verdict: &'static str) -> Conduct {
    let auth = Some(Auth { offers, in_clear: false, verdict });
    Conduct { tls: Some(self_signed(HOST)), auth, ..Conduct::default() }
}

fn with_login(far: &Far) -> ServerBuilder {
    let plan = towards(far).setting("smarthost-username", "user");
    plan.environment("ROHRPOST_SMARTHOST_PASSWORD", "hunter2")
}

#[test]
fn we_log_in_by_what_is_offered() {
    let plain = vec!["AUTH PLAIN AHVzZXIAaHVudGVyMg=="];
    let login = vec!["AUTH LOGIN", "dXNlcg==", "aHVudGVyMg=="];
    for (offers, said) in [("LOGIN PLAIN", plain), ("CRAM-MD5 LOGIN", login)] {
        let far = Far::start(asking(offers, "235 2.7.0 in"));
        let server = with_login(&far).start();
        post(&server, "b@example.net");
        assert!(arrived(&server, &far).secure);
        let heard = far.heard();
        assert!(heard[2..].iter().all(|heard| heard.secure));
        let lines: Vec<_> = heard.iter().map(|heard| heard.line.as_str()).collect();
        assert_eq!(lines[3..3 + said.len()], said, "{offers}");
        assert!(lines[3 + said.len()].starts_with("MAIL "), "{lines:?}");
    }
}

/// A wrong password is our own fault: mail waits, and the log says so as loudly as it can.
#[test]
fn a_login_that_is_refused_costs_no_mail_an_attempt() {
    let far = Far::start(asking("PLAIN", "535 5.7.8 wrong"));
    let mut server = with_login(&far).start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "535 5.7.8 wrong");
    server.process().await_complaint(PATIENCE, "critical");
    let said = server.process().stderr.tail();
    assert!(said.contains("login") && said.contains("535"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("AHVzZXI"), "{said}");
    assert_eq!(far.taken(), []);
    far.set(asking("PLAIN", "235 2.7.0 in"));
    arrived(&server, &far);
}

/// Design §5: every step of a login has a deadline.
#[test]
fn a_login_that_is_never_answered_costs_no_mail_an_attempt() {
    let says = Some(("AUTH", Said::Nothing));
    let far = Far::start(Conduct { says, ..asking("LOGIN", "235 2.7.0 in") });
    let server = with_login(&far).setting("smtp-out-timeout", 1).start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "authlogin: the far end did not answer in time");
    far.set(asking("LOGIN", "235 2.7.0 in"));
    arrived(&server, &far);
}

#[test]
fn a_smarthost_that_does_not_ask_gets_no_mail() {
    let far = Far::start(Conduct { auth: None, ..asking("", "") });
    let server = with_login(&far).start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "neither AUTH PLAIN nor AUTH LOGIN");
    assert_eq!(far.taken(), []);
}

/// Nobody listens on the way to this machine itself.
#[test]
fn a_password_may_stay_on_this_machine_in_clear() {
    let auth = Some(Auth { offers: "PLAIN", in_clear: true, verdict: "235 2.7.0 in" });
    let far = Far::start(Conduct { auth, ..Conduct::default() });
    let server = with_login(&far).start();
    post(&server, "b@example.net");
    assert!(!arrived(&server, &far).secure);
    assert_eq!(far.heard_of("AUTH").len(), 1);
}

/// A hop that is verified for mail is verified for the password too.
#[test]
fn no_password_goes_to_a_host_that_is_not_itself() {
    let authority = Authority::new("trusted");
    let far = Far::start(asking("PLAIN", "235 2.7.0 in"));
    let plan = with_login(&far).setting("smtp-out-security", "verified");
    let trusted = authority.write(plan.directory());
    let server = plan.setting("smtp-out-ca-file", trusted).start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "invalid peer certificate");
    assert!(far.heard_of("AUTH").is_empty());
    far.set(Conduct { tls: Some(authority.certify(HOST)), ..asking("PLAIN", "235 2.7.0 in") });
    arrived(&server, &far);
}

/// Python's aiosmtpd, which takes mail only under TLS and from whom it knows.
#[test]
fn aiosmtpd_lets_us_in_and_gets_every_octet() {
    let authority = Authority::new("trusted");
    let plan = Server::builder();
    let trusted = authority.write(plan.directory());
    let [certificate, key] = authority.write_for(HOST, plan.directory());
    let received = plan.directory().join("received");
    let receiver = Tool::python("receiver.py").arg("127.0.0.1:0").arg(&received);
    let receiver = receiver.arg("").arg(certificate).arg(key).words("user hunter2");
    let receiver = receiver.listen_when_ready();
    let server = plan
        .smarthost(receiver.address)
        .setting("smtp-out-security", "verified")
        .setting("smtp-out-ca-file", trusted)
        .setting("smarthost-username", "user")
        .environment("ROHRPOST_SMARTHOST_PASSWORD", "hunter2")
        .start();
    for recipient in ["b@example.net", "c@example.net"] {
        post(&server, recipient);
    }
    server.await_empty_queue(PATIENCE);
    let lines = std::fs::read_to_string(&received).unwrap();
    let sizes: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|entry| entry["bytes"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [TEXT.len() as u64; 2]);
    assert_eq!(server.status().count("delivered"), 2);
}
