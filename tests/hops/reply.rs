//! Replies that no hop should send (field notes S5): the mail waits or arrives, and memory stays where it is.

use super::{
    arrived,
    far::{Conduct, Far, Said},
    post, show, towards,
};
use crate::support::{PATIENCE, eventually};

fn saying(line: &'static str, said: Said) -> Conduct {
    Conduct { says: Some((line, said)), ..Conduct::default() }
}

#[test]
fn replies_that_come_by_the_octet_are_replies() {
    for line in ["EHLO", "MAIL", "RCPT", "DATA", "."] {
        let far = Far::start(saying(line, Said::Drops));
        let server = towards(&far).start();
        post(&server, "b@example.net");
        arrived(&server, &far);
    }
}

/// The attempt ends as invalid, and the mail arrives when the hop has come to its senses.
#[test]
fn replies_without_end_end_the_attempt() {
    let rows = [
        ("MAIL", Said::Lines(1_000_000), "mailfrom"),
        ("RCPT", Said::Octets(64 << 20), "rcptto"),
        ("MAIL", Said::Text("hello"), "mailfrom"),
        ("DATA", Said::Text("250 2.0.0 taken, whatever it is"), "data"),
        ("DATA", Said::Text("354 go on\r\n250 2.0.0 taken before it came"), "data"),
    ];
    for (line, said, state) in rows {
        let far = Far::start(saying(line, said));
        let server = towards(&far).start();
        let id = post(&server, "b@example.net");
        let mail = eventually("an attempt that ended as invalid", PATIENCE, || {
            let mail = show(&server, &id);
            let results = mail["results"].as_array().unwrap().clone();
            results.into_iter().find(|result| result["result"] == "invalid")
        });
        assert_eq!(mail["state"], state, "{line} {said:?}");
        far.set(Conduct::default());
        arrived(&server, &far);
    }
}

#[test]
fn a_greeting_without_end_is_trouble_of_the_hop() {
    for line in ["banner", "EHLO"] {
        let far = Far::start(saying(line, Said::Lines(1_000_000)));
        let server = towards(&far).start();
        let id = post(&server, "b@example.net");
        super::waits_because_of(&server, &id, "longer than the limit");
        far.set(Conduct::default());
        arrived(&server, &far);
    }
}
