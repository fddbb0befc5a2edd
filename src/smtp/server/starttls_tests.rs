//! STARTTLS as the session sees it (RFC 3207).

use std::sync::Arc;

use super::super::answer;
use super::super::command::Dialect;
use super::super::memory::Unlimited;
use super::super::support::Driver;
use super::*;

fn offering() -> Options {
    Options { starttls: true, ..Options::new("h") }
}

/// A session in the state of `state` whose client hears 220 next.
fn asked(before: &[u8]) -> Session {
    let mut session = Session::new(Arc::new(offering()));
    session.greet(Greeting::Accept, &mut Unlimited);
    session.handle_input(before, &mut Unlimited);
    assert_eq!(session.poll_event(&mut Unlimited), Some(Event::StartTls));
    session.consume_output(session.output().len());
    session
}

#[test]
fn rfc_3207_4_it_is_offered_until_it_is_active() {
    let mut driver = Driver::new(offering(), usize::MAX);
    assert!(driver.answers(b"EHLO c\r\n").contains("250-STARTTLS\r\n"));
    assert_eq!(driver.answers(b"STARTTLS\r\n"), "220 2.0.0 Ready to start TLS\r\n");
    assert_eq!(driver.session.phase(), Phase::Handshake);
    driver.session.on_secure();
    assert!(driver.session.is_secure());
    assert!(driver.answers(b"MAIL FROM:<a@b>\r\n").starts_with("503 5.5.1 EHLO first"));
    assert!(!driver.answers(b"EHLO c\r\n").contains("STARTTLS"));
    assert!(driver.answers(b"STARTTLS\r\n").starts_with("503 5.5.1 TLS is active"));
    let mut without = Driver::plain();
    assert!(!without.answers(b"EHLO c\r\n").contains("STARTTLS"));
    assert!(without.answers(b"STARTTLS\r\n").starts_with("502 "));
}

/// CVE-2011-0411: whoever sits on the line must not put commands before what comes under TLS.
#[test]
fn rfc_3207_4_2_nothing_that_came_in_clear_is_used_after_the_handshake() {
    let mut session = asked(b"EHLO forged\r\nSTARTTLS\r\nMAIL FROM:<forged@b>\r\nRCPT");
    session.decide(Decision::Accept, &mut Unlimited);
    assert_eq!(session.output(), answer::READY_FOR_TLS.as_bytes());
    assert!(!session.wants_input() && session.is_dry() && session.hello().is_none());
    session.handle_input(b" TO:<forged@b>\r\n", &mut Unlimited);
    assert_eq!(session.poll_event(&mut Unlimited), None);
    session.consume_output(session.output().len());
    session.on_secure();
    assert!(session.wants_input());
    assert_eq!(session.poll_event(&mut Unlimited), None);
    session.handle_input(b"NOOP\r\n", &mut Unlimited);
    assert_eq!(session.output(), answer::NOTHING_DONE.as_bytes());
}

#[test]
fn rfc_3207_4_a_refusal_leaves_the_session_as_it_was() {
    let mut session = asked(b"EHLO c\r\nSTARTTLS\r\nNOOP\r\n");
    session.decide(Decision::Refuse(answer::TLS_UNAVAILABLE.into()), &mut Unlimited);
    assert_eq!(session.poll_event(&mut Unlimited), None);
    let said = [answer::TLS_UNAVAILABLE.as_bytes(), answer::NOTHING_DONE.as_bytes()].concat();
    assert_eq!(session.output(), said);
    assert!(session.hello().is_some() && !session.is_secure());
}

#[test]
fn a_mail_that_has_begun_is_not_taken_under_tls_half_way() {
    let mut driver = Driver::new(offering(), usize::MAX);
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\n");
    assert!(driver.answers(b"STARTTLS\r\n").starts_with("503 "));
    assert!(driver.answers(b"RCPT TO:<c@d>\r\n").starts_with("250 "));
}

#[test]
fn a_connection_that_begins_with_tls_says_nothing_before_it() {
    let mut session = Session::new(Arc::new(offering()));
    session.on_secure();
    assert_eq!(session.output(), b"");
    assert_eq!(session.phase(), Phase::Greeting);
    session.greet(Greeting::Accept, &mut Unlimited);
    session.handle_input(b"EHLO c\r\n", &mut Unlimited);
    let said = String::from_utf8_lossy(session.output()).into_owned();
    assert!(said.starts_with("220 ") && !said.contains("STARTTLS"), "{said}");
}

#[test]
fn rfc_3207_4_where_tls_is_demanded_mail_waits_for_it() {
    let options = Options { tls_required: true, ..offering() };
    let mut driver = Driver::new(options, usize::MAX);
    driver.feed(b"EHLO c\r\n");
    let refused = "530 5.7.0 Must issue a STARTTLS command first\r\n";
    assert_eq!(driver.answers(b"MAIL FROM:<a@b>\r\n"), refused);
    assert!(driver.answers(b"NOOP\r\n").starts_with("250 "));
    driver.feed(b"STARTTLS\r\n");
    driver.session.on_secure();
    driver.feed(b"EHLO c\r\n");
    assert!(driver.answers(b"MAIL FROM:<a@b>\r\n").starts_with("250 "));
}

#[test]
fn rfc_3848_the_keyword_says_what_protected_the_message() {
    let word = |dialect, smtputf8, secure, authenticated| {
        Protocol { dialect, smtputf8, secure, authenticated }.keyword()
    };
    assert_eq!(word(Dialect::Esmtp, false, false, false), "ESMTP");
    assert_eq!(word(Dialect::Esmtp, false, true, false), "ESMTPS");
    assert_eq!(word(Dialect::Esmtp, false, true, true), "ESMTPSA");
    assert_eq!(word(Dialect::Esmtp, true, true, false), "UTF8SMTPS");
    assert_eq!(word(Dialect::Esmtp, true, false, true), "UTF8SMTPA");
    assert_eq!(word(Dialect::Smtp, false, true, true), "SMTP");

    let mut session = Session::new(Arc::new(offering()));
    session.on_secure();
    session.greet(Greeting::Accept, &mut Unlimited);
    let dialogue: [&[u8]; 4] =
        [b"EHLO c\r\nMAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"x\r\n.\r\n"];
    for part in dialogue {
        session.handle_input(part, &mut Unlimited);
        match session.poll_event(&mut Unlimited) {
            Some(Event::Message(received)) => {
                return assert_eq!(received.protocol.keyword(), "ESMTPS");
            }
            _ => session.decide(Decision::Accept, &mut Unlimited),
        }
    }
    panic!("the message came");
}

/// D-37, and RFC 3207 4.2: what was proved in clear proves nothing under TLS.
#[test]
fn a_login_is_offered_under_tls_and_one_in_clear_is_forgotten() {
    let mut driver = Driver::new(offering(), usize::MAX);
    driver.session.offer_login(LoginOffer::AfterTls);
    assert!(!driver.answers(b"EHLO c\r\n").contains("AUTH"));
    driver.feed(b"STARTTLS\r\n");
    driver.session.on_secure();
    assert!(driver.answers(b"EHLO c\r\n").contains("250-AUTH PLAIN LOGIN\r\n"));
    assert!(driver.answers(b"AUTH PLAIN AHRpbQBnb29k\r\n").starts_with("235 "));

    let mut driver = Driver::new(offering(), usize::MAX);
    driver.session.offer_login(LoginOffer::Yes);
    driver.feed(b"EHLO c\r\n");
    assert!(driver.answers(b"AUTH PLAIN AHRpbQBnb29k\r\n").starts_with("235 "));
    driver.feed(b"STARTTLS\r\n");
    driver.session.on_secure();
    assert!(driver.answers(b"EHLO c\r\n").contains("AUTH"));
}

#[test]
fn a_stop_and_a_deadline_say_nothing_within_a_handshake() {
    let mut session = asked(b"STARTTLS\r\n");
    session.decide(Decision::Accept, &mut Unlimited);
    session.consume_output(session.output().len());
    session.on_timeout(Phase::Handshake, &mut Unlimited);
    assert_eq!(session.phase(), Phase::Handshake);
    session.dismiss(answer::LOCAL_ERROR.into(), &mut Unlimited);
    assert_eq!(session.output(), b"");
    session.on_shutdown(&mut Unlimited);
    assert_eq!(session.output(), b"");
    assert_eq!(session.poll_event(&mut Unlimited), Some(Event::Close(CloseReason::Shutdown)));
}

#[test]
fn a_dismissal_is_the_last_reply() {
    let mut session = Session::new(Arc::new(offering()));
    session.greet(Greeting::Accept, &mut Unlimited);
    session.consume_output(session.output().len());
    session.dismiss(answer::PLUGIN_TIMEOUT.into(), &mut Unlimited);
    assert_eq!(session.output(), answer::PLUGIN_TIMEOUT.as_bytes());
    assert_eq!(session.poll_event(&mut Unlimited), Some(Event::Close(CloseReason::Refused)));
}
