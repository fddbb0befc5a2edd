//! AUTH within the dialogue (RFC 4954): when it may come, and what is left of it.

use super::super::support::Driver;
use super::*;

/// `tim` and `good` in PLAIN; what the driver of the tests takes.
const GOOD: &[u8] = b"AUTH PLAIN AHRpbQBnb29k\r\n";
/// `tim` and `bad` in PLAIN.
const BAD: &[u8] = b"AUTH PLAIN AHRpbQBiYWQ=\r\n";

fn offering(offer: LoginOffer) -> Driver {
    let mut driver = Driver::plain();
    driver.session.offer_login(offer);
    driver
}

fn greeted(offer: LoginOffer) -> Driver {
    let mut driver = offering(offer);
    driver.feed(b"EHLO c\r\n");
    driver
}

#[test]
fn auth_is_advertised_where_it_is_possible_and_until_it_is_done() {
    let offers =
        |driver: &mut Driver| driver.answers(b"EHLO c\r\n").contains("250-AUTH PLAIN LOGIN\r\n");
    assert!(offers(&mut offering(LoginOffer::Yes)));
    assert!(!offers(&mut offering(LoginOffer::No)));
    // D-37: a password must not be sent in clear only to hear that it must not be.
    assert!(!offers(&mut offering(LoginOffer::AfterTls)));
    let mut driver = greeted(LoginOffer::Yes);
    assert_eq!(driver.answers(GOOD), "235 2.7.0 Authentication successful\r\n");
    assert!(!offers(&mut driver));
}

#[test]
fn rfc_4954_4_auth_comes_once_before_mail_and_after_ehlo() {
    let answer = |driver: &mut Driver, before: &[u8]| {
        driver.feed(before);
        driver.answers(GOOD)[..9].to_owned()
    };
    let yes = || offering(LoginOffer::Yes);
    assert_eq!(answer(&mut yes(), b""), "503 5.5.1");
    assert_eq!(answer(&mut yes(), b"HELO c\r\n"), "503 5.5.1");
    assert_eq!(answer(&mut yes(), b"EHLO c\r\n"), "235 2.7.0");
    assert_eq!(answer(&mut yes(), b"EHLO c\r\nMAIL FROM:<a@b>\r\n"), "503 5.5.1");
    assert_eq!(answer(&mut yes(), &[b"EHLO c\r\n", GOOD].concat()), "503 5.5.1");
    // RSET and EHLO end no login.
    let again = [b"EHLO c\r\n", GOOD, b"RSET\r\nEHLO c\r\n"].concat();
    assert_eq!(answer(&mut yes(), &again), "503 5.5.1");
    let no = |offer| answer(&mut offering(offer), b"EHLO c\r\n");
    assert_eq!(no(LoginOffer::No), "502 5.5.1");
    assert_eq!(no(LoginOffer::AfterTls), "538 5.7.1");
}

/// RFC 5321 4.1.1.11: a parameter of an extension that was not offered is refused.
#[test]
fn rfc_4954_5_mail_names_a_submitter_only_where_auth_is_offered() {
    let answer = |offer| {
        let mut driver = greeted(offer);
        driver.answers(b"MAIL FROM:<a@b> AUTH=<>\r\n")[..9].to_owned()
    };
    assert_eq!(answer(LoginOffer::Yes), "250 2.1.0");
    assert_eq!(answer(LoginOffer::No), "555 5.5.4");
    assert_eq!(answer(LoginOffer::AfterTls), "555 5.5.4");
}

#[test]
fn where_tls_is_required_a_password_in_clear_is_not_asked_for() {
    let options = Options { tls_required: true, starttls: true, ..Options::new("h") };
    let mut driver = Driver::new(options, usize::MAX);
    driver.session.offer_login(LoginOffer::Yes);
    assert!(!driver.answers(b"EHLO c\r\n").contains("AUTH"));
    assert!(!driver.session.is_confidential());
    assert!(driver.answers(GOOD).starts_with("538 5.7.11 "));
    driver.feed(b"STARTTLS\r\n");
    driver.session.on_secure();
    assert!(driver.answers(b"EHLO c\r\n").contains("250-AUTH PLAIN LOGIN\r\n"));
    assert!(driver.answers(GOOD).starts_with("235 "));
}

#[test]
fn a_failed_login_may_be_tried_again_until_the_errors_are_too_many() {
    let options = Options { errors_max: 3, ..Options::new("h") };
    let mut driver = Driver::new(options, usize::MAX);
    driver.session.offer_login(LoginOffer::Yes);
    driver.feed(b"EHLO c\r\n");
    assert_eq!(driver.answers(BAD), "535 5.7.8 Authentication failed\r\n");
    assert_eq!(
        driver.answers(b"AUTH PLAIN\r\n*\r\n").lines().last().unwrap(),
        "501 5.7.0 Authentication cancelled"
    );
    // What is not the client's fault is not counted: `later` is a password that the driver knows.
    for _ in 0..5 {
        assert!(driver.answers(b"AUTH PLAIN AHRpbQBsYXRlcg==\r\n").starts_with("454 4.7.0 "));
    }
    // That too many passwords are waiting is: whoever makes them wait would never be done.
    assert!(driver.answers(b"AUTH PLAIN AHRpbQBidXN5\r\n").starts_with("454 4.7.0 "));
    assert_eq!(driver.answers(BAD), "421 4.7.0 Too many errors; closing\r\n");
    assert_eq!(driver.events.last().unwrap(), "close TooManyErrors");
}

/// RFC 4954 4: 12288 octets a line, in the exchange alone.
#[test]
fn rfc_4954_4_a_response_may_be_longer_than_a_command() {
    let line = |count: usize| [&b"*"[..], &vec![b'x'; count - 3], b"\r\n"].concat();
    let mut driver = greeted(LoginOffer::Yes);
    driver.feed(b"AUTH PLAIN\r\n");
    assert_eq!(driver.answers(&line(12_288)), "501 5.5.2 The response cannot be read\r\n");
    for over in [12_289, 40_000] {
        for pieces in [usize::MAX, 1000, 1] {
            driver.feed(b"AUTH PLAIN\r\n");
            let mut said = String::new();
            for piece in line(over).chunks(pieces.min(over)) {
                said += &driver.answers(piece);
            }
            assert_eq!(said, "500 5.5.6 The response is too long\r\n", "{over} in {pieces}");
            driver.session.errors = 0;
        }
    }
    let said = driver.answers(&line(4000));
    assert!(said.starts_with("500 5.5.2 Line too long"), "{said}");
    assert_eq!(driver.answers(b"NOOP\r\n"), "250 2.0.0 Ok\r\n");
}

#[test]
fn bare_line_ends_and_zeros_end_an_exchange() {
    let mut driver = greeted(LoginOffer::Yes);
    for line in [&b"AHRpbQBnb29k\n"[..], b"AHRp\rbQ\r\n", b"AHRp\0bQ\r\n"] {
        driver.feed(b"AUTH PLAIN\r\n");
        assert!(driver.answers(line).starts_with("500 5.5.2 "), "{}", line.escape_ascii());
        assert_eq!(driver.answers(b"NOOP\r\n"), "250 2.0.0 Ok\r\n");
    }
    assert_eq!(driver.events, [""; 0], "nothing was shown to anybody");
}

#[test]
fn rfc_3848_a_login_shows_in_the_received_field() {
    let keyword = |dialect, smtputf8, secure, authenticated| {
        Protocol { dialect, smtputf8, secure, authenticated }.keyword()
    };
    use crate::smtp::command::Dialect::{Esmtp, Smtp};
    assert_eq!(keyword(Esmtp, false, false, true), "ESMTPA");
    assert_eq!(keyword(Esmtp, false, true, true), "ESMTPSA");
    assert_eq!(keyword(Esmtp, true, true, true), "UTF8SMTPSA");
    assert_eq!(keyword(Smtp, false, false, true), "SMTP");
}

#[test]
fn a_login_that_is_taken_back_can_be_made_again() {
    let mut driver = greeted(LoginOffer::Yes);
    assert!(driver.answers(GOOD).starts_with("235 "));
    assert!(!driver.session.is_confidential());
    driver.session.on_logged_out();
    assert!(driver.session.is_confidential());
    assert!(driver.answers(GOOD).starts_with("235 "));
}
