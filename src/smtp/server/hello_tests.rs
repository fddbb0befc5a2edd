//! HELO, EHLO and RSET where the driver wants to decide about them.

use super::super::answer;
use super::super::support::Driver;
use super::*;

fn asking(asks: Asks) -> Driver {
    let mut driver = Driver::plain();
    driver.session.ask_about(asks);
    driver
}

const BOTH: Asks = Asks { hello: true, reset: true };

#[test]
fn nobody_is_asked_who_did_not_say_so() {
    let mut driver = Driver::plain();
    driver.feed(b"EHLO refused\r\nMAIL FROM:<a@b>\r\nRSET\r\n");
    assert_eq!(driver.events.len(), 2, "{:?}", driver.events);
    assert_eq!(driver.events[1], "reset");
}

#[test]
fn rfc_5321_4_1_4_a_refused_introduction_changes_nothing() {
    let mut driver = asking(BOTH);
    assert!(driver.answers(b"EHLO refused\r\n").starts_with("550 5.7.1 "));
    assert_eq!(driver.answers(b"MAIL FROM:<a@b>\r\n"), "503 5.5.1 EHLO first\r\n");
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    assert!(driver.answers(b"HELO refused\r\n").starts_with("550 5.7.1 "));
    let hello = driver.session.hello().expect("the first one holds");
    assert_eq!(&*hello.name, "c");
    // The transaction is still there.
    assert!(driver.answers(b"DATA\r\n").starts_with("354 "));
}

#[test]
fn an_introduction_within_a_transaction_asks_for_both_in_order() {
    let mut driver = asking(BOTH);
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\n");
    driver.events.clear();
    assert!(driver.answers(b"EHLO d\r\nMAIL FROM:<e@f>\r\n").contains("250 2.1.0 "));
    assert_eq!(driver.events[..3], ["hello d", "rset", "reset"]);
    // Without one there is nothing to reset.
    driver.feed(b"RSET\r\n");
    driver.events.clear();
    driver.feed(b"EHLO e\r\n");
    assert_eq!(driver.events, ["hello e"]);
}

#[test]
fn rfc_5321_4_1_1_5_rset_is_answered_250_whatever_was_decided() {
    for decision in [
        Decision::Accept,
        Decision::AcceptWith(answer::SENDER_OK.into()),
        Decision::Refuse(answer::LOCAL_ERROR.into()),
        Decision::RefuseAsError(answer::NO_RELAY.into()),
    ] {
        let mut driver = asking(Asks { reset: true, ..Asks::default() });
        driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\n");
        driver.output.clear();
        driver.session.handle_input(b"RSET\r\nNOOP\r\n", &mut driver.memory);
        assert_eq!(driver.session.poll_event(&mut driver.memory), Some(Event::Rset));
        // What was pipelined behind it waits.
        assert!(driver.session.is_parked() && driver.session.output().is_empty());
        driver.session.decide(decision, &mut driver.memory);
        driver.settle();
        assert_eq!(driver.text(), "250 2.0.0 Reset\r\n250 2.0.0 Ok\r\n");
        assert_eq!(driver.memory.held, 0);
    }
}

#[test]
fn both_may_be_answered_with_the_end() {
    for dialogue in [&b"EHLO closed\r\n"[..], b"EHLO c\r\nMAIL FROM:<a@b>\r\nRSET\r\n"] {
        let mut driver = asking(BOTH);
        driver.session.handle_input(dialogue, &mut driver.memory);
        while let Some(event) = driver.session.poll_event(&mut driver.memory) {
            let decision = match event {
                Event::Hello(hello) if &*hello.name == "c" => Decision::Accept,
                Event::Mail(_) => Decision::Accept,
                _ => Decision::RefuseAndClose(answer::SHUTTING_DOWN.into()),
            };
            driver.session.decide(decision, &mut driver.memory);
        }
        driver.session.take_output(&mut driver.output);
        assert!(driver.text().ends_with("421 4.3.2 The server is stopping; closing\r\n"));
        assert_eq!(driver.session.phase(), Phase::Closing);
    }
}
