//! What plugins decide of a mail where the decision cannot be carried out, or is no longer meant: a text
//! that may have arrived, a mail that is over, a step that failed.
//!
//! **Diagnostics**: as the stage's and the hop's.

use super::hop::Hop;
use super::outward::{G3, add, latest, stage, start, take, with_mail};
use super::probe::{await_status, mail};
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

#[test]
fn d_27_what_was_decided_in_a_step_that_was_taken_back_counts_no_longer() {
    for step in ["out-message", "out-data"] {
        for (failure, number) in
            [("tempfail", "retried"), ("reject", "bounced"), ("accept", "delivered")]
        {
            let (stage, hop) = stage();
            add(&stage, "20-b", G3);
            let stage = stage.setting("plugin-timeout", "200ms").setting("plugin-failure", failure);
            stage.script(&format!("10-a {step} bounce-as:550:5.7.9:no true\n"));
            let (server, _client) = with_mail(&stage, &hop);
            let mut visit = hop.accept();
            if step == "out-data" || failure == "accept" {
                visit.mail_to_data();
                visit.say("354 go on");
            }
            if failure == "accept" {
                visit.text();
                visit.say("250 2.0.0 taken");
            }
            await_status(&server, number, 1);
            assert_eq!(stage.lines("10-a bounce-as 1").len(), 1, "{step} {failure}");
            let asked = stage.lines(&format!("20-b {step} ")).len();
            assert_eq!(asked, usize::from(failure == "accept"), "{step}: {:?}", stage.journal());
            if failure != "accept" {
                assert_eq!(latest(&server)["result"], "timeout", "{step} {failure}");
            }
        }
    }
}

#[test]
fn d_27_of_a_failure_that_several_decide_about_the_word_of_one_that_fails_counts_no_longer() {
    for (script, number) in [
        ("10-a out-result bounce fail\n", "retried"),
        ("10-a out-result bounce\n20-b out-result retry-in:0 fail\n", "bounced"),
        ("10-a out-result bounce\n20-b out-result fail\n", "bounced"),
        ("10-a out-result bounce fail\n20-b out-result retry-in:3600\n", "retried"),
    ] {
        let (stage, hop) = stage();
        add(&stage, "20-b", G3);
        stage.script(script);
        let (server, _client) = with_mail(&stage, &hop);
        hop.accept_to_data().say("451 4.7.1 greylisted");
        await_status(&server, number, 1);
        assert_eq!(latest(&server)["description"], "greylisted", "{script}");
    }
}

#[test]
fn d_81_nothing_is_decided_of_a_mail_that_ended_while_it_was_held() {
    for news in ["421 bye", ""] {
        let (stage, hop) = stage();
        stage.script("10-a out-data hold:go\n");
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        await_status(&server, "held", 1);
        if !news.is_empty() {
            visit.say(news);
        }
        drop(visit);
        await_status(&server, "retried", 1);
        stage.script("10-a out-result state bounce retry-in:3600 route:a.example:25\n");
        stage.release("go", "bounce retry-in:3600 route:a.example:25 continue");
        stage.await_line("state");
        assert_eq!(stage.lines("state"), ["10-a state data"], "{news}");
        for word in ["bounce", "retry-in", "route"] {
            let journal = stage.journal();
            let said = [format!("10-a {word} 0"), format!("10-a {word} 0")];
            assert_eq!(stage.lines(&format!("10-a {word} ")), said, "{journal:?}");
        }
        assert_eq!(server.status().count("bounced"), 0);
    }
}

#[test]
fn nothing_is_decided_of_a_mail_that_went_to_another_connection_while_it_was_held() {
    let (stage, hop) = stage();
    let (server, mut client) = start(&stage, &hop);
    mail(&mut client, "someone@example.org");
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    stage.script("10-a out-message hold:go\n");
    mail(&mut client, "another@example.org");
    await_status(&server, "held", 1);
    stage.script("");
    // The far end has had enough of the connection, and knows nothing of this mail.
    drop(visit);
    let mut next = hop.accept_to_data();
    take(&mut next);
    await_status(&server, "delivered", 2);
    stage.release("go", "bounce continue");
    assert_eq!(stage.lines("10-a bounce"), ["10-a bounce 0"]);
    await_status(&server, "held", 0);
}

/// A signer that is late must not be passed over for good, only because its far end is kept.
#[test]
fn d_28_a_connection_whose_plugin_was_passed_over_carries_no_other_mail() {
    for step in ["out-connect", "out-message", "out-data", "out-sent", "out-result"] {
        let (stage, hop) = stage();
        let stage = stage.setting("plugin-timeout", "200ms").setting("plugin-failure", "accept");
        let stage = stage.setting("smtp-out-idle-timeout", 600);
        stage.script(&format!("10-a {step} true\n"));
        let (mut server, mut client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        visit.text();
        if step == "out-sent" {
            server.process().await_complaint(PATIENCE, "mq_smtp_out_sent was held too long");
        }
        visit.say("250 2.0.0 taken");
        await_status(&server, "delivered", 1);
        visit.expect("QUIT");
        visit.say("221 bye");
        stage.script("");
        stage.forget();
        mail(&mut client, "another@example.org");
        let mut next = hop.accept_to_data();
        take(&mut next);
        await_status(&server, "delivered", 2);
        assert_eq!(stage.calls(&["out-message", "out-data"]).len(), 2, "{step}");
    }
}
