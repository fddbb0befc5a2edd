//! What plugins decide of a mail where the decision cannot be carried out, or is no longer meant: a text
//! that may have arrived, a mail that is over, a step that failed.
//!
//! **Diagnostics**: as the stage's and the hop's.

use super::hop::Hop;
use super::outward::{stage, with_mail};
use super::probe::await_status;
use crate::support::PATIENCE;

#[test]
fn nothing_but_its_time_is_decided_of_a_text_that_the_far_end_may_have() {
    for closes in [true, false] {
        let other = Hop::listen();
        let port = other.address().port();
        let (stage, hop) = stage();
        let stage =
            stage.setting("dns-private-targets", "127.0.0.0/8").setting("smtp-out-dot-timeout", 1);
        stage.script(&format!(
            "10-a out-result state retry-in:3600 bounce route:127.0.0.1:{port}\n"
        ));
        let (mut server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        visit.text();
        let visit = (!closes).then_some(visit);
        await_status(&server, "retried", 1);
        for line in ["state message", "retry-in 1", "bounce 0", "route 0"] {
            let journal = stage.journal();
            assert_eq!(stage.lines(&format!("10-a {line}")).len(), 1, "{line}: {journal:?}");
        }
        server.process().await_complaint(PATIENCE, "MQX_retryAt alone if the peer may have it");
        let status = server.status();
        assert_eq!((status.count("bounced"), status.count("delivered")), (0, 0));
        assert!(hop.is_lonely() && other.is_lonely(), "it is not sent again at once");
        drop(visit);
    }
}

/// It may be decided again once the far end has refused the text.
#[test]
fn all_is_decided_of_a_text_that_the_far_end_refused() {
    for (reply, words, number) in [
        ("451 4.7.1 not now", "bounce", "bounced"),
        ("554 5.7.1 never", "retry-in:3600", "retried"),
    ] {
        let (stage, hop) = stage();
        stage.script(&format!("10-a out-result state {words}\n"));
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        visit.text();
        visit.say(reply);
        await_status(&server, number, 1);
        assert_eq!(stage.lines("state"), ["10-a state message"]);
    }
}
