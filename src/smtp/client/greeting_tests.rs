//! The client before its first mail: STARTTLS, AUTH, and far ends that lie about either.

use std::sync::Arc;

use super::*;

const OFFER: &[u8] = b"220 mx.example hi\r\n250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";

fn login(in_clear: bool) -> Option<Login> {
    let credentials = Arc::new(Credentials::new("user", "secret"));
    Some(Login { credentials, in_clear })
}

fn session(security: Security, login: Option<Login>) -> Session {
    Session::new(&Options { security, login, ..Options::new("me") })
}

fn sent(session: &mut Session) -> String {
    let text = String::from_utf8(session.output().to_vec()).unwrap();
    session.consume_output(text.len());
    text
}

fn hear(session: &mut Session, input: &[u8]) -> Vec<Event> {
    session.handle_input(input);
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// Stage, code and origin of a refusal of the whole connection.
fn refusal(events: &[Event]) -> (Stage, u16, Origin) {
    match events {
        [Event::Done(Outcome::Refused { stage, reply, origin })] => (*stage, reply.code(), *origin),
        other => panic!("{other:?} is no refusal"),
    }
}

/// A session that has just been secured, its EHLO sent.
fn secured(login: Option<Login>) -> Session {
    let mut session = session(Security::IfOffered, login);
    assert_eq!(hear(&mut session, OFFER), []);
    assert_eq!(sent(&mut session), "EHLO me\r\nSTARTTLS\r\n");
    assert_eq!(hear(&mut session, b"220 go\r\n"), [Event::StartTls]);
    assert_eq!(session.stage(), Stage::Handshake);
    session.on_secured();
    assert_eq!(sent(&mut session), "EHLO me\r\n");
    session
}

/// RFC 3207 4.2.
#[test]
fn what_was_offered_in_clear_is_forgotten() {
    let mut session = secured(None);
    assert_eq!(session.extensions(), Extensions::default());
    let events = hear(&mut session, b"250-mx\r\n250 SIZE 7\r\n");
    let extensions = Extensions { size: Some(7), ..Extensions::default() };
    assert_eq!(events, [Event::Ready { extensions }]);
    assert_eq!(session.far_name().map(AsRef::as_ref), Some("mx.example"));
}

#[test]
fn a_second_offer_of_starttls_is_not_taken() {
    let mut session = secured(None);
    assert_eq!(hear(&mut session, b"250-mx\r\n250 STARTTLS\r\n").len(), 1);
    assert_eq!((sent(&mut session).as_str(), session.stage()), ("", Stage::Idle));
}

/// RFC 3207 6, and what Postfix called CVE-2011-0411 on the other side.
#[test]
fn nothing_that_came_before_the_handshake_is_used_after_it() {
    for behind in [&b"250 mx\r\n"[..], b"\r\n", b"2", b"250-mx\r\n250 AUTH PLAIN\r\n"] {
        let mut session = session(Security::Required, None);
        hear(&mut session, OFFER);
        let events = hear(&mut session, &[b"220 go\r\n", behind].concat());
        let lost = Event::Lost { stage: Stage::StartTls, problem: Problem::EarlyInput };
        assert_eq!(events, [lost]);
    }
}

#[test]
fn tls_that_is_not_to_be_had_matters_only_where_it_is_required() {
    let plain = b"220 hi\r\n250 mx\r\n";
    let mut optional = session(Security::IfOffered, None);
    assert!(matches!(hear(&mut optional, plain)[..], [Event::Ready { .. }]));
    let mut required = session(Security::Required, None);
    assert_eq!(refusal(&hear(&mut required, plain)), (Stage::StartTls, 451, Origin::Local));
    assert_eq!(sent(&mut required), "EHLO me\r\nQUIT\r\n");

    let mut optional = session(Security::IfOffered, None);
    hear(&mut optional, OFFER);
    assert!(matches!(hear(&mut optional, b"454 4.7.0 later\r\n")[..], [Event::Ready { .. }]));
    let mut required = session(Security::Required, None);
    hear(&mut required, OFFER);
    let events = hear(&mut required, b"454 4.7.0 later\r\n");
    assert_eq!(refusal(&events), (Stage::StartTls, 454, Origin::Remote));
}

#[test]
fn where_tls_is_not_wanted_it_is_not_asked_for() {
    let mut session = session(Security::Clear, None);
    assert!(matches!(hear(&mut session, OFFER)[..], [Event::Ready { .. }]));
    assert_eq!(sent(&mut session), "EHLO me\r\n");
}

/// RFC 8314 3.3.
#[test]
fn implicit_tls_comes_before_the_banner() {
    let mut session = session(Security::Implicit, login(false));
    assert_eq!(session.stage(), Stage::Handshake);
    session.on_secured();
    assert_eq!(session.stage(), Stage::Banner);
    hear(&mut session, OFFER);
    assert_eq!(sent(&mut session), "EHLO me\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n");
}

/// RFC 4616 2.
#[test]
fn plain_sends_the_credentials_with_the_command() {
    let mut session = secured(login(false));
    assert_eq!(hear(&mut session, b"250-mx\r\n250 AUTH LOGIN PLAIN CRAM-MD5\r\n"), []);
    assert_eq!(session.stage(), Stage::Auth(Exchange::PlainResponse));
    assert_eq!(sent(&mut session), "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n");
    assert!(matches!(hear(&mut session, b"235 in\r\n")[..], [Event::Ready { .. }]));
    assert_eq!(session.mechanism(), Some(Mechanism::Plain));
}

#[test]
fn login_sends_the_name_and_then_the_password() {
    let mut session = secured(login(false));
    hear(&mut session, b"250-mx\r\n250 AUTH=LOGIN\r\n");
    let steps = [
        ("AUTH LOGIN\r\n", Exchange::Login, &b"334 VXNlcm5hbWU6\r\n"[..]),
        ("dXNlcg==\r\n", Exchange::LoginUsername, b"334 UGFzc3dvcmQ6\r\n"),
        ("c2VjcmV0\r\n", Exchange::LoginPassword, b"235 in\r\n"),
    ];
    for (line, exchange, reply) in steps {
        assert_eq!((sent(&mut session).as_str(), session.stage()), (line, Stage::Auth(exchange)));
        hear(&mut session, reply);
    }
    assert_eq!((session.stage(), session.mechanism()), (Stage::Idle, Some(Mechanism::Login)));
}

/// RFC 4954 4: a command line has 512 octets.
#[test]
fn long_credentials_come_after_a_334() {
    let credentials = Arc::new(Credentials::new("user", "x".repeat(500)));
    let mut session = secured(Some(Login { credentials, in_clear: false }));
    hear(&mut session, b"250-mx\r\n250 AUTH PLAIN\r\n");
    assert_eq!(sent(&mut session), "AUTH PLAIN\r\n");
    hear(&mut session, b"334 \r\n");
    assert_eq!(session.stage(), Stage::Auth(Exchange::PlainResponse));
    assert!(sent(&mut session).len() > 512);
    assert!(matches!(hear(&mut session, b"235 in\r\n")[..], [Event::Ready { .. }]));
}

#[test]
fn a_password_is_sent_in_clear_only_where_its_owner_says_so() {
    let offer = b"220 hi\r\n250-mx\r\n250 AUTH PLAIN\r\n";
    for (in_clear, line) in [(false, "QUIT\r\n"), (true, "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n")] {
        for security in [Security::Clear, Security::IfOffered] {
            let mut session = session(security, login(in_clear));
            let events = hear(&mut session, offer);
            assert_eq!(sent(&mut session), format!("EHLO me\r\n{line}"));
            assert_eq!(events.is_empty(), in_clear, "{events:?}");
        }
    }
    // Nor where the far end talks its way out of TLS.
    let mut session = session(Security::IfOffered, login(false));
    hear(&mut session, OFFER);
    let events = hear(&mut session, b"502 what\r\n");
    assert_eq!(refusal(&events), (Stage::Auth(Exchange::Plain), 454, Origin::Local));
    assert_eq!(sent(&mut session), "EHLO me\r\nSTARTTLS\r\nQUIT\r\n");
}

#[test]
fn a_login_that_fails_ends_the_connection() {
    let auth = |exchange, code, origin| (Stage::Auth(exchange), code, origin);
    let rows = [
        (&b"250 mx\r\n"[..], auth(Exchange::Plain, 454, Origin::Local)),
        (b"250-mx\r\n250 AUTH GSSAPI\r\n", auth(Exchange::Plain, 454, Origin::Local)),
        (
            b"250-mx\r\n250 AUTH PLAIN\r\n535 5.7.8 no\r\n",
            auth(Exchange::PlainResponse, 535, Origin::Remote),
        ),
        (
            b"250-mx\r\n250 AUTH LOGIN\r\n454 4.7.0 later\r\n",
            auth(Exchange::Login, 454, Origin::Remote),
        ),
    ];
    for (input, expected) in rows {
        let mut session = secured(login(false));
        assert_eq!(refusal(&hear(&mut session, input)), expected, "{}", input.escape_ascii());
        assert!(sent(&mut session).ends_with("QUIT\r\n"));
    }
}

#[test]
fn replies_that_no_mechanism_knows_end_the_connection() {
    for input in [&b"334 and?\r\n"[..], b"354 go\r\n", b"no\r\n"] {
        let mut session = secured(login(false));
        hear(&mut session, b"250-mx\r\n250 AUTH PLAIN\r\n");
        let events = hear(&mut session, input);
        assert!(matches!(events[..], [Event::Lost { stage: Stage::Auth(_), .. }]), "{events:?}");
    }
    // In before the password was said.
    let mut session = secured(login(false));
    hear(&mut session, b"250-mx\r\n250 AUTH LOGIN\r\n");
    let events = hear(&mut session, b"235 in\r\n");
    assert!(matches!(events[..], [Event::Lost { stage: Stage::Auth(_), .. }]), "{events:?}");
}

#[test]
fn a_421_before_the_first_mail_refuses_the_connection() {
    let mut session = session(Security::Required, None);
    hear(&mut session, OFFER);
    let events = hear(&mut session, b"421 4.3.2 bye\r\n");
    let [Event::Done(Outcome::Refused { stage: Stage::StartTls, .. }), Event::Goodbye] =
        &events[..]
    else {
        panic!("{events:?}");
    };
}

#[test]
fn what_shows_a_session_shows_no_password() {
    let mut session = session(Security::IfOffered, login(true));
    let options = Options { login: login(true), ..Options::new("me") };
    let before = format!("{session:?}");
    assert!(before.contains("Credentials(..)"), "{before}");
    hear(&mut session, b"220 hi\r\n250-mx\r\n250 AUTH PLAIN\r\n");
    assert!(session.output().ends_with(b"AHVzZXIAc2VjcmV0\r\n"));
    for shown in [before, format!("{session:?}"), format!("{options:?}")] {
        assert!(shown.contains("Credentials(..)"), "{shown}");
        // Nor as octets: `AHVz` in decimal.
        assert!(!shown.contains("65, 72, 86, 122"), "{shown}");
        assert!(!shown.contains("AHVzZXIAc2VjcmV0") && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_name_that_is_too_long_for_a_host_is_not_kept() {
    let mut session = session(Security::Clear, None);
    hear(&mut session, format!("220 {} hi\r\n", "x".repeat(256)).as_bytes());
    assert_eq!(session.far_name(), None);
}

#[test]
fn a_driver_that_asks_has_its_word_between_the_banner_and_ehlo() {
    let options = Options { asks_at_banner: true, ..Options::new("me") };
    let mut session = Session::new(&options);
    assert_eq!(hear(&mut session, b"220 mx.example hi\r\n"), [Event::Banner]);
    assert_eq!((session.stage(), sent(&mut session).as_str()), (Stage::Banner, ""));
    assert_eq!(session.far_name().map(AsRef::as_ref), Some("mx.example"));
    session.proceed();
    assert_eq!((session.stage(), sent(&mut session).as_str()), (Stage::Ehlo, "EHLO me\r\n"));
    session.proceed();
    assert_eq!(sent(&mut session), "", "it is said once");
}
