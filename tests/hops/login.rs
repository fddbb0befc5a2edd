//! The login to a smarthost.

use super::{
    arrived,
    far::{Auth, Conduct, Far},
    paper::{Authority, self_signed},
    post, towards, waits_because_of,
};
use crate::support::{PATIENCE, ServerBuilder};

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
    let authority = Authority::new();
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
