//! Texts that go with their envelope (BDAT, RFC 3030), and those that do not.

use super::{
    TEXT, arrived,
    far::{Conduct, Far},
    paper::self_signed,
    post, post_text, show, towards,
};
use crate::support::{PATIENCE, eventually};

const CHUNKING: Conduct = Conduct {
    tls: None,
    starttls: super::far::StartTls::Works,
    implicit: false,
    keywords: &["PIPELINING", "CHUNKING"],
    auth: None,
    says: None,
};

#[test]
fn a_small_text_goes_as_one_chunk() {
    for tls in [None, Some(self_signed("127.0.0.1"))] {
        let far = Far::start(Conduct { tls, ..CHUNKING });
        let server = towards(&far).start();
        post(&server, "b@example.net");
        assert!(arrived(&server, &far).chunk);
        assert!(far.heard_of("DATA").is_empty());
    }
}

/// The text is the same whichever way it goes: the end of its last line is added to a chunk as well.
#[test]
fn a_large_text_and_one_where_chunks_are_off_go_by_data() {
    let far = Far::start(CHUNKING);
    let server = towards(&far).start();
    let large = b"A line of a text that is large.\r\n".repeat(3000);
    post_text(&server, "b@example.net", &large);
    let taken = far.await_mails(1);
    assert!(!taken[0].chunk && taken[0].text == large);

    let far = Far::start(CHUNKING);
    let server = towards(&far).setting("smtp-out-chunking", "off").start();
    post(&server, "b@example.net");
    assert!(!arrived(&server, &far).chunk);
}

#[test]
fn a_refused_chunk_is_as_final_as_a_refused_recipient_and_harms_no_other() {
    let far = Far::start(CHUNKING);
    let server = towards(&far).start();
    let refused = post(&server, "refused@example.net");
    let mail = eventually("a mail that failed", PATIENCE, || {
        let mail = show(&server, &refused);
        (mail["state"] == "failed").then_some(mail)
    });
    assert_eq!(mail["results"][0]["state"], "rcptto", "{mail}");
    assert_eq!(mail["results"][0]["code"], 550, "{mail}");
    post(&server, "b@example.net");
    let taken = far.await_mails(1);
    assert_eq!(taken[0].text, TEXT);
    assert_eq!(far.heard_of("RSET").len(), 1);
    let odd: Vec<_> = far
        .heard()
        .into_iter()
        .filter(|heard| {
            !["EHLO", "MAIL", "RCPT", "BDAT", "DATA", "RSET", "QUIT"]
                .iter()
                .any(|verb| heard.line.starts_with(verb))
        })
        .collect();
    assert_eq!(odd, [], "no line of a text was taken for a command");
}
