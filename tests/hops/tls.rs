//! TLS towards next hops: design §5 (opportunistic, and in clear within the attempt), `required` and
//! `verified`, and hops that do it wrong.

use super::{
    arrived,
    far::{Conduct, Far, Said, StartTls},
    paper::{Authority, self_signed},
    post, post_text, towards, waits_because_of,
};
use crate::plugins::probe::Stage;
use crate::support::{PATIENCE, eventually};

const HOST: &str = "127.0.0.1";

fn offering(starttls: StartTls) -> Conduct {
    Conduct { tls: Some(self_signed(HOST)), starttls, ..Conduct::default() }
}

/// RFC 3207 4.2: after the handshake everything begins anew.
#[test]
fn tls_is_used_where_it_is_offered_whoever_signed_it() {
    let far = Far::start(offering(StartTls::Works));
    let server = towards(&far).start();
    post(&server, "b@example.net");
    assert!(arrived(&server, &far).secure);
    let lines: Vec<_> = far.heard().into_iter().map(|heard| (heard.secure, heard.line)).collect();
    let secure: Vec<_> = lines.iter().map(|(secure, _)| *secure).collect();
    assert_eq!(secure[..3], [false, false, true], "{lines:?}");
    assert!(lines[0].1.starts_with("EHLO ") && lines[1].1 == "STARTTLS", "{lines:?}");
    assert!(lines[2].1.starts_with("EHLO "), "{lines:?}");
    assert_eq!(far.names(), [None], "an address is no name to ask for (RFC 6066 3)");
}

/// Design §5: a failed handshake is retried in clear within the attempt, and not tried again with every
/// mail; where only the connection was lost or silent, the second time decides.
#[test]
fn a_broken_handshake_costs_no_attempt_and_is_not_repeated() {
    let refused = StartTls::Says("454 4.7.0 not now");
    for starttls in [StartTls::Garbage, StartTls::Closes, StartTls::Stalls, refused] {
        let far = Far::start(offering(starttls));
        let server = towards(&far)
            .setting("smtp-out-tls-timeout", 1)
            .setting("smarthost-messages", 1)
            .setting("retry-interval", 3600)
            .start();
        post(&server, "b@example.net");
        assert!(!arrived(&server, &far).secure, "{starttls:?}");
        for (count, recipient) in [(2, "c@example.net"), (3, "d@example.net")] {
            post(&server, recipient);
            far.await_mails(count);
        }
        let (tries, connections) = match starttls {
            // In good order it needs no other connection, and may be over with the next one.
            StartTls::Says(_) => (3, 3),
            StartTls::Closes | StartTls::Stalls => (2, 5),
            _ => (1, 4),
        };
        assert_eq!(far.heard_of("STARTTLS").len(), tries, "{starttls:?}");
        assert_eq!(far.opened(), connections, "{starttls:?}");
    }
}

/// Design §5: the reply to STARTTLS has a deadline as any other, and its silence is as good as a handshake
/// that fails.
#[test]
fn a_starttls_that_is_never_answered_costs_no_attempt() {
    let says = Some(("STARTTLS", Said::Nothing));
    let far = Far::start(Conduct { says, ..offering(StartTls::Works) });
    let server =
        towards(&far).setting("smtp-out-timeout", 1).setting("retry-interval", 3600).start();
    post(&server, "b@example.net");
    assert!(!arrived(&server, &far).secure);
    assert_eq!(far.opened(), 2);
}

/// A stop of ours is no failure of theirs: nobody is told of a broken TLS.
#[test]
fn a_stop_during_a_handshake_is_no_alarm() {
    let far = Far::start(offering(StartTls::Stalls));
    let mut server = towards(&far).setting("smtp-out-tls-timeout", 600).start();
    post(&server, "b@example.net");
    eventually("a handshake", PATIENCE, || (far.heard_of("STARTTLS").len() == 1).then_some(()));
    assert!(server.terminate().success(), "{}", server.process());
    let said = server.process().stderr.tail();
    assert!(!said.contains("TLS with"), "{said}");
}

/// RFC 6066 3: a host is asked for by its name.
#[test]
fn the_name_of_the_host_is_asked_for_and_verified() {
    let authority = Authority::new("trusted");
    let far =
        Far::start(Conduct { tls: Some(authority.certify("localhost")), ..Conduct::default() });
    let plan = towards(&far).setting("smarthost", "localhost");
    let trusted = authority.write(plan.directory());
    let plan = plan.setting("smtp-out-security", "verified");
    let server = plan.setting("smtp-out-ca-file", trusted).start();
    post(&server, "b@example.net");
    assert!(arrived(&server, &far).secure);
    assert_eq!(far.names(), [Some("localhost".to_owned())]);
}

/// RFC 3207 6: what somebody put behind the 220 is not taken for what the hop says under TLS.
#[test]
fn nothing_that_came_before_the_handshake_is_used_after_it() {
    let more = "250-far.example\r\n250 SIZE 1\r\n";
    let far = Far::start(offering(StartTls::Injects(more)));
    let server = towards(&far).start();
    post(&server, "b@example.net");
    assert!(!arrived(&server, &far).secure, "the connection is not used, the next one is in clear");

    let far = Far::start(offering(StartTls::Injects(more)));
    let server = towards(&far).setting("smtp-out-security", "required").start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "behind the reply to STARTTLS");
    assert_eq!(far.taken(), []);
}

#[test]
fn where_tls_is_required_nothing_goes_out_in_clear() {
    let far = Far::start(Conduct::default());
    let server = towards(&far).setting("smtp-out-security", "required").start();
    let id = post(&server, "b@example.net");
    waits_because_of(&server, &id, "TLS is required");
    for starttls in [StartTls::Garbage, StartTls::Says("454 4.7.0 not now")] {
        let opened = far.opened();
        far.set(offering(starttls));
        eventually("another try", PATIENCE, || (far.opened() > opened + 1).then_some(()));
    }
    assert!(far.heard_of("MAIL").is_empty());
    assert_eq!(far.taken(), []);
    far.set(offering(StartTls::Works));
    assert!(arrived(&server, &far).secure);
}

#[test]
fn where_it_is_verified_only_the_host_itself_gets_mail() {
    let authority = Authority::new("trusted");
    let other = Authority::new("unknown");
    let rows = [
        ("signed by itself", self_signed(HOST), "invalid peer certificate"),
        ("of another authority", other.certify(HOST), "UnknownIssuer"),
        ("expired", authority.certify_expired(HOST), "expired"),
        ("for another address", authority.certify("127.0.0.2"), "not valid for"),
        ("for another name", authority.certify("far.example"), "not valid for"),
    ];
    for (what, tls, reason) in rows {
        let far = Far::start(Conduct { tls: Some(tls), ..Conduct::default() });
        let plan = towards(&far);
        let trusted = authority.write(plan.directory());
        let plan = plan.setting("smtp-out-security", "verified");
        let server = plan.setting("smtp-out-ca-file", trusted).start();
        let id = post(&server, "b@example.net");
        waits_because_of(&server, &id, reason);
        assert!(far.heard().iter().all(|heard| !heard.secure), "{what}");
        assert_eq!(far.taken(), [], "{what}");
        far.set(Conduct { tls: Some(authority.certify(HOST)), ..Conduct::default() });
        assert!(arrived(&server, &far).secure, "{what}");
    }
}

/// `MQ_SmtpSecure` of a connection that takes mail away; and with a plugin to be asked between 354 and the
/// text (D-80) no text goes ahead of its envelope.
#[test]
fn plugins_see_that_a_connection_is_secure() {
    for (starttls, secure) in [(StartTls::Works, 1), (StartTls::Garbage, 0)] {
        let keywords = &["PIPELINING", "CHUNKING"];
        let far = Far::start(Conduct { keywords, ..offering(starttls) });
        let stage = Stage::new(&["10-a"]).smarthost(far.address());
        stage.script("10-a out-data secure continue\n");
        let server = stage.start();
        post(&server, "b@example.net");
        let taken = arrived(&server, &far);
        assert_eq!((taken.secure, taken.chunk), (secure == 1, false));
        stage.await_line(&format!("10-a secure {secure}"));
    }
}

/// RFC 8314 3.3.
#[test]
fn a_smarthost_may_begin_with_tls() {
    let conduct = Conduct { implicit: true, ..offering(StartTls::Works) };
    let far = Far::start(conduct);
    let server = towards(&far).setting("smarthost-tls", "implicit").start();
    post(&server, "b@example.net");
    assert!(arrived(&server, &far).secure);
    assert!(far.heard_of("STARTTLS").is_empty());
}

#[test]
fn where_tls_is_off_it_is_not_asked_for() {
    let far = Far::start(offering(StartTls::Works));
    let server = towards(&far).setting("smtp-out-security", "off").start();
    post(&server, "b@example.net");
    assert!(!arrived(&server, &far).secure);
}

/// Larger than every buffer on the way, so that writes stop within records.
#[test]
fn a_large_text_arrives_whole_under_tls() {
    let far = Far::start(offering(StartTls::Works));
    let server = towards(&far).start();
    let text = b".A line of a mail that is larger than all buffers.\r\n".repeat(20_000);
    post_text(&server, "b@example.net", &text);
    let taken = far.await_mails(1);
    assert!(taken[0].secure && taken[0].text == text, "{} octets", taken[0].text.len());
}
