//! Dialogues with a scripted driver, and properties over random ones.

use std::sync::Arc;

use super::super::answer;
use super::super::memory::{Memory, Unlimited};
use super::super::reply::Reply;
use super::super::support::{Counting, Driver, Random, seed};
use super::*;

const START: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

fn codes(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.get(3..4) == Some(" ")).map(|line| &line[..3]).collect()
}

fn started() -> Driver {
    let mut driver = Driver::plain();
    driver.feed(START);
    driver
}

#[test]
fn a_mail_is_taken() {
    let mut driver = Driver::plain();
    assert_eq!(driver.answers(b""), "");
    let mut driver2 = Driver::plain();
    driver2.settle();
    assert_eq!(driver2.text(), "220 mx.example ESMTP Rohrpost\r\n");
    assert_eq!(
        driver.answers(b"EHLO client.example\r\n"),
        "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n\
         250-SMTPUTF8\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"
    );
    assert_eq!(driver.answers(b"MAIL FROM:<a@b> SIZE=9\r\n"), "250 2.1.0 Sender ok\r\n");
    assert_eq!(driver.answers(b"RCPT TO:<c@d>\r\n"), "250 2.1.5 Recipient ok\r\n");
    assert_eq!(driver.answers(b"DATA\r\n"), "354 End the text with <CRLF>.<CRLF>\r\n");
    assert_eq!(driver.answers(b"a\r\n..b\r\n.\r\n"), "250 2.0.0 Message accepted\r\n");
    assert_eq!(driver.answers(b"QUIT\r\n"), "221 2.0.0 Goodbye\r\n");
    assert_eq!(driver.bodies, [b"a\r\n.b\r\n"]);
    assert_eq!(driver.events.last().unwrap(), "close Quit");
    assert_eq!(driver.memory.held, 0);
}

/// RFC 2920 3.2.
#[test]
fn pipelined_commands_are_answered_in_order() {
    let mut driver = Driver::plain();
    let group = [START, b"RCPT TO:<refused@d>\r\nDATA\r\nx\r\n.\r\nRSET\r\nQUIT\r\nNOOP\r\n"];
    driver.feed(&group.concat());
    let text = driver.text();
    let expected = ["220", "250", "250", "250", "550", "354", "250", "250", "221"];
    assert_eq!(codes(&text), expected);
    assert_eq!(driver.bodies, [b"x\r\n"]);
}

/// D-47: nothing is parsed while a decision is open, and none is taken twice.
#[test]
fn d_47_a_parked_session_waits() {
    let mut memory = Unlimited;
    let mut session = Session::new(Arc::new(Options::new("h")));
    assert!(!session.wants_input());
    session.handle_input(b"EHLO early\r\n", &mut memory);
    assert_eq!(session.poll_event(&mut memory), None);
    assert_eq!(session.output(), b"");
    session.greet(Greeting::Accept, &mut memory);
    assert_eq!(session.poll_event(&mut memory), None);
    session.consume_output(session.output().len());
    session.handle_input(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", &mut memory);
    session.decide(Decision::Accept, &mut memory);
    assert!(session.is_parked(), "a decision before its event is no decision");
    assert!(matches!(session.poll_event(&mut memory), Some(Event::Mail(_))));
    assert_eq!(session.phase(), Phase::Parked);
    assert!(!session.wants_input());
    assert_eq!(session.poll_event(&mut memory), None);
    session.on_timeout(Phase::Parked, &mut memory);
    session.on_timeout(Phase::Command, &mut memory);
    assert_eq!(session.output(), b"");
    session.decide(Decision::Accept, &mut memory);
    session.decide(Decision::Refuse(answer::NO_RELAY.into()), &mut memory);
    assert_eq!(session.output(), answer::SENDER_OK.as_bytes());
    assert!(matches!(session.poll_event(&mut memory), Some(Event::Rcpt(_))));
}

#[test]
fn decisions_say_what_they_mean_whatever_their_reply() {
    let good = Reply::new(250, None, "fine").unwrap();
    let bad = Reply::new(550, None, "bad").unwrap();
    let rows = [
        (Decision::AcceptWith(good.clone()), "250 fine\r\n"),
        (Decision::AcceptWith(bad.clone()), "250 2.1.0 Sender ok\r\n"),
        (Decision::Refuse(bad.clone()), "550 bad\r\n"),
        (Decision::Refuse(good.clone()), "451 4.3.0 Local error; try again later\r\n"),
        (Decision::RefuseAndClose(good), "451 4.3.0 Local error; try again later\r\n"),
    ];
    for (decision, expected) in rows {
        let mut driver = Driver::plain();
        driver.feed(b"EHLO c\r\n");
        driver.output.clear();
        driver.session.handle_input(b"MAIL FROM:<a@b>\r\n", &mut driver.memory);
        assert!(driver.session.poll_event(&mut driver.memory).is_some());
        driver.session.decide(decision.clone(), &mut driver.memory);
        driver.settle();
        assert_eq!(driver.text(), expected, "{decision:?}");
        assert_eq!(driver.memory.held, 0, "what is only announced holds no memory: {decision:?}");
    }
}

/// Strangers who announce much and send nothing must keep nobody out.
#[test]
fn memory_is_held_from_the_beginning_of_the_text_on() {
    for (text, code) in [(&b"DATA\r\n"[..], "354"), (b"BDAT 3\r\nabc", "250")] {
        let mut driver = Driver::plain();
        driver.feed(b"EHLO c\r\nMAIL FROM:<a@b> SIZE=1000000\r\nRCPT TO:<c@d>\r\n");
        assert_eq!(driver.memory.held, 0);
        assert_eq!(codes(&driver.answers(text)), [code]);
        assert!(driver.memory.held >= 1_000_000, "{}", driver.memory.held);
        driver.feed(b"\r\n.\r\nRSET\r\nQUIT\r\n");
    }
}

/// S1: whatever a lenient next hop might take for the end of the text is refused here.
#[test]
fn text_with_bare_line_ends_is_dropped_and_the_session_goes_on() {
    let rows: &[&[u8]] = &[
        b"a\n.\nMAIL FROM:<x@y>\r\n.\r\n",
        b"a\n.\r\nb\r\n.\r\n",
        b"a\r\n.\nb\r\n.\r\n",
        b"a\r.\rb\r\n.\r\n",
        b"a\r\n.\rb\r\n.\r\n",
        b"a\rb\r\n.\r\n",
        b"a\nb\r\n.\r\n",
        b"a\r\r\n.\r\n",
        b"\n.\r\n\r\n.\r\n",
    ];
    for text in rows {
        let name = text.escape_ascii().to_string();
        let mut driver = started();
        driver.feed(b"DATA\r\n");
        let out = driver.answers(&[text, &b"NOOP\r\n"[..]].concat());
        assert_eq!(codes(&out), ["554", "250"], "{name}");
        assert!(out.contains("5.6.0") && out.contains("--crlf"), "{name}");
        assert_eq!(driver.events.last().unwrap(), "reset", "{name}");
        assert!(driver.bodies.is_empty(), "{name}");
        assert_eq!(driver.memory.held, 0, "{name}");
    }
}

/// RFC 5321 2.3.8: commands end in CRLF; the client learns at once that its line did not.
#[test]
fn command_lines_with_bare_line_ends_are_answered_at_once() {
    let mut driver = Driver::plain();
    for line in [&b"NOOP\n"[..], b"NO\rOP\r\n", b"NOOP\r\r\n"] {
        let out = driver.answers(line);
        assert!(out.starts_with("500 5.5.2 ") && out.contains("--crlf"), "{out}");
    }
    assert_eq!(codes(&driver.answers(b"NO\0OP\r\nNOOP\r\n")), ["500", "250"]);
}

#[test]
fn over_long_lines_are_skipped_in_constant_memory() {
    let mut driver = Driver::plain();
    driver.settle();
    driver.output.clear();
    for _ in 0..10_000 {
        driver.feed(&[b'x'; 1000]);
    }
    assert_eq!(driver.text(), "");
    let out = driver.answers(b"\r\nNOOP\r\n");
    assert_eq!(out, "500 5.5.2 Line too long\r\n250 2.0.0 Ok\r\n");
    let line = |count: usize| [&vec![b'x'; count - 2], &b"\r\n"[..]].concat();
    assert_eq!(driver.answers(&line(2048)), "500 5.5.2 Unknown command\r\n");
    assert_eq!(driver.answers(&line(2049)), "500 5.5.2 Line too long\r\n");
}

/// RFC 3030 2.
#[test]
fn chunks_make_a_message() {
    let mut driver = started();
    let out = driver.answers(b"BDAT 3\r\na\r\nBDAT 1\r\n\rBDAT 4 LAST\r\n\n.\r\nNOOP\r\n");
    assert_eq!(codes(&out), ["250", "250", "250", "250"]);
    assert_eq!(driver.bodies, [b"a\r\n\r\n.\r\n"]);
    assert_eq!(driver.events.last().unwrap(), "message Bdat Body(8 octets)");
    driver.feed(&START[8..]);
    assert_eq!(codes(&driver.answers(b"BDAT 1\r\naBDAT 0 LAST\r\n")), ["250", "250"]);
    assert_eq!(driver.bodies[1], b"a");
    driver.feed(&START[8..]);
    assert_eq!(codes(&driver.answers(b"BDAT 0 LAST\r\n")), ["250"]);
    assert_eq!(driver.memory.held, 0);
}

/// RFC 3030 2, S3: a refused chunk is eaten to its last octet, with one reply.
#[test]
fn refused_chunks_are_eaten() {
    let rows: &[(&[u8], &[u8], &[&str])] = &[
        (b"", b"BDAT 6\r\nQUIT\r\nNOOP\r\n", &["503", "250"]),
        (b"EHLO c\r\nMAIL FROM:<a@b>\r\n", b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", &["503", "250"]),
        (
            b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@b>\r\n",
            b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
            &["554", "250"],
        ),
        (START, b"BDAT 6 FIRST\r\nQUIT\r\nNOOP\r\n", &["501", "250"]),
        (START, b"BDAT 1\r\naBDAT 1 X\r\nbBDAT 1 LAST\r\ncNOOP\r\n", &["250", "501", "503", "250"]),
        (START, b"BDAT 1\r\naDATA\r\n", &["250", "503"]),
        (START, b"BDAT 1\r\naRCPT TO:<e@f>\r\n", &["250", "503"]),
        (START, b"BDAT 1 LAST\r\naBDAT 6 LAST\r\nQUIT\r\n", &["250", "503"]),
        (
            START,
            b"BDAT 3\r\na\nbBDAT 2\r\nccBDAT 0 LAST\r\nNOOP\r\n",
            &["554", "554", "554", "250"],
        ),
        (START, b"BDAT 2\r\na\rBDAT 0 LAST\r\nNOOP\r\n", &["250", "554", "250"]),
        (START, b"BDAT 2\r\na\rBDAT 1 LAST\r\nbNOOP\r\n", &["250", "554", "250"]),
        (START, b"BDAT 200000000 LAST\r\n", &[]),
    ];
    for (before, input, expected) in rows {
        for byte_wise in [false, true] {
            let mut driver = Driver::plain();
            driver.feed(before);
            driver.answers(b"");
            match byte_wise {
                true => input.iter().for_each(|byte| driver.feed(&[*byte])),
                false => driver.feed(input),
            }
            assert_eq!(codes(&driver.text()), *expected, "{}", input.escape_ascii());
        }
    }
}

/// A message never has a gap: not where a chunk was malformed, nor where nobody was there to get it.
#[test]
fn a_refused_chunk_spoils_the_message() {
    let mut driver = Driver::plain();
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@d>\r\n");
    let out = driver.answers(b"BDAT 1\r\naRCPT TO:<c@d>\r\nBDAT 1 LAST\r\nb");
    assert_eq!(codes(&out), ["554", "503", "554"]);
    let mut driver = started();
    let out = driver.answers(b"BDAT 1 X\r\naBDAT 1 LAST\r\nb");
    assert_eq!(codes(&out), ["501", "503"]);
    assert_eq!((driver.bodies.len(), driver.memory.held), (0, 0));
}

/// RFC 2920 3.2: what was pipelined behind a refused MAIL is answered, not held against the client.
#[test]
fn refused_mails_do_not_use_up_the_errors() {
    let mut driver = Driver::plain();
    driver.feed(b"EHLO c\r\n");
    let group = b"MAIL FROM:<refused@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    let out = driver.answers(&group.repeat(100));
    assert_eq!(codes(&out), ["550", "503", "503"].repeat(100));
}

/// Behind a size that cannot be read, text and commands cannot be told apart.
#[test]
fn a_chunk_without_a_size_ends_the_session() {
    let mut driver = started();
    let out = driver.answers(b"BDAT 99999999999999999999\r\nMAIL FROM:<x@y>\r\n");
    assert_eq!(codes(&out), ["501"]);
    assert_eq!(driver.events.last().unwrap(), "close Desynchronised");
    assert_eq!(driver.memory.held, 0);
}

/// S3: a million chunks of one octet hold one buffer of about a megabyte, and no list of chunks.
#[test]
fn a_million_small_chunks_cost_what_their_text_costs() {
    let mut driver = Driver::new(Options::new("h"), 4 << 20);
    driver.feed(START);
    let many = b"BDAT 1\r\nx".repeat(1000);
    for _ in 0..1000 {
        driver.feed(&many);
        driver.output.clear();
    }
    assert_eq!(codes(&driver.answers(b"BDAT 0 LAST\r\n")), ["250"]);
    assert_eq!(driver.bodies[0].len(), 1_000_000);
    assert_eq!(driver.memory.held, 0);
}

/// RFC 1870 6.1, 6.3.
#[test]
fn size_is_refused_at_mail_and_after_the_text() {
    let options = Options { size_max: 10, ..Options::new("h") };
    let mut driver = Driver::new(options, usize::MAX);
    driver.feed(b"EHLO c\r\n");
    assert_eq!(codes(&driver.answers(b"MAIL FROM:<a@b> SIZE=11\r\n")), ["552"]);
    driver.feed(b"MAIL FROM:<a@b> SIZE=10\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    assert_eq!(codes(&driver.answers(b"12345678\r\n.\r\n")), ["250"]);
    driver.feed(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    assert_eq!(codes(&driver.answers(b"123456789\r\n.\r\nNOOP\r\n")), ["552", "250"]);
    driver.feed(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    let out = driver.answers(b"BDAT 10\r\n1234567890BDAT 1\r\n1BDAT 1 LAST\r\n1NOOP\r\n");
    assert_eq!(codes(&out), ["250", "552", "552", "250"]);
    assert_eq!(driver.memory.held, 0);
}

#[test]
fn a_full_budget_discards_the_text_and_says_so_after_the_dot() {
    let mut driver = Driver::new(Options::new("h"), 100_000);
    driver.feed(b"EHLO c\r\n");
    assert_eq!(codes(&driver.answers(b"MAIL FROM:<a@b> SIZE=99999\r\n")), ["452"]);
    driver.feed(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    driver.output.clear();
    for _ in 0..1000 {
        driver.feed(&b"0123456789abcdef\r\n".repeat(100));
        assert!(driver.memory.held <= 100_000);
    }
    assert_eq!(driver.memory.held, 0, "a mail that will be refused holds nothing");
    assert_eq!(codes(&driver.answers(b".\r\nNOOP\r\n")), ["452", "250"]);
    driver.feed(&START[8..]);
    assert_eq!(codes(&driver.answers(b"DATA\r\nx\r\n.\r\n")), ["354", "250"]);
}

#[test]
fn a_message_takes_along_what_it_holds_and_no_more() {
    let mut driver = Driver::plain();
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b> SIZE=1000000\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    driver.session.handle_input(b"Received: x\r\n\r\na\r\n.\r\n", &mut driver.memory);
    let Some(Event::Message(received)) = driver.session.poll_event(&mut driver.memory) else {
        panic!("the message is complete");
    };
    assert_eq!(driver.memory.held, received.reserved);
    assert!(received.reserved < 2048, "{}", received.reserved);
    assert!(received.body.capacity() <= received.reserved);
    assert_eq!(received.received_fields, 1);
    assert_eq!((received.via, received.protocol.keyword()), (Via::Data, "ESMTP"));
}

/// RFC 5321 4.5.3.1.10 and D-55.
#[test]
fn d_55_recipients_are_limited_and_one_must_remain() {
    let options = Options { recipients_max: 2, ..Options::new("h") };
    let mut driver = Driver::new(options, usize::MAX);
    driver.feed(b"EHLO c\r\nMAIL FROM:<a@b>\r\n");
    assert_eq!(codes(&driver.answers(b"DATA\r\n")), ["503"]);
    assert_eq!(codes(&driver.answers(b"RCPT TO:<refused@d>\r\nDATA\r\n")), ["550", "554"]);
    let three = b"RCPT TO:<c@d>\r\n".repeat(3);
    assert_eq!(codes(&driver.answers(&three)), ["250", "250", "452"]);
    assert_eq!(codes(&driver.answers(b"DATA\r\n")), ["354"]);
}

#[test]
fn too_many_errors_end_the_session() {
    let options = Options { errors_max: 3, ..Options::new("h") };
    let mut driver = Driver::new(options, usize::MAX);
    driver.feed(START);
    let refused = b"RCPT TO:<refused@d>\r\n".repeat(2);
    assert_eq!(codes(&driver.answers(&refused)), ["550"; 2]);
    let out = driver.answers(&b"X\r\n".repeat(10));
    assert_eq!(codes(&out), ["500", "421"], "recipients refused for good count as well");
    assert_eq!(driver.events.last().unwrap(), "close TooManyErrors");
    assert_eq!((driver.memory.held, driver.session.phase()), (0, Phase::Closing));
}

#[test]
fn output_is_bounded_for_a_client_that_does_not_read() {
    let mut memory = Unlimited;
    let options = Options::new("h");
    let bound = options.output_bytes_max + 512;
    let mut session = Session::new(Arc::new(options));
    session.greet(Greeting::Accept, &mut memory);
    session.handle_input(&b"NOOP\r\n".repeat(100_000), &mut memory);
    assert_eq!(session.poll_event(&mut memory), None);
    assert!(!session.wants_input() && session.output().len() < bound);
    let mut sent = 0;
    while !session.output().is_empty() {
        let count = session.output().len();
        assert!(count < bound);
        sent += count;
        session.consume_output(count);
        assert_eq!(session.poll_event(&mut memory), None);
    }
    let banner = "220 h ESMTP Rohrpost\r\n".len();
    assert_eq!(sent, banner + 100_000 * answer::NOTHING_DONE.as_bytes().len());
}

#[test]
fn deadlines_and_shutdown_say_421_and_release_all() {
    for text in [&b""[..], START, b"DATA\r\nabc", b"BDAT 9\r\nabc"] {
        for stops in [false, true] {
            let mut driver = if text == START { Driver::plain() } else { started() };
            driver.feed(text);
            driver.answers(b"");
            let phase = driver.session.phase();
            match stops {
                true => driver.session.on_shutdown(&mut driver.memory),
                false => driver.session.on_timeout(phase, &mut driver.memory),
            }
            driver.settle();
            let expected = if stops { "421 4.3.2" } else { "421 4.4.2" };
            assert!(driver.text().starts_with(expected), "{}", driver.text());
            assert_eq!(driver.memory.held, 0);
            driver.feed(b"NOOP\r\n");
            assert_eq!(codes(&driver.text()).len(), 1, "nothing is answered behind the 421");
        }
    }
}

/// A 421 in place of the open answer could make a client send an accepted mail twice.
#[test]
fn shutdown_while_parked_answers_first() {
    let mut driver = started();
    driver.feed(b"DATA\r\n");
    driver.output.clear();
    driver.session.handle_input(b"x\r\n.\r\n", &mut driver.memory);
    let Some(Event::Message(received)) = driver.session.poll_event(&mut driver.memory) else {
        panic!("the message is complete");
    };
    driver.session.on_shutdown(&mut driver.memory);
    driver.memory.release(received.reserved);
    driver.session.decide(Decision::Accept, &mut driver.memory);
    driver.settle();
    assert_eq!(codes(&driver.text()), ["250", "421"]);
    assert_eq!(driver.events.last().unwrap(), "close Shutdown");
    assert_eq!(driver.memory.held, 0);
}

#[test]
fn a_lost_peer_leaves_nothing_reserved() {
    let ends: &[&[u8]] = &[b"", b"DATA\r\nabc", b"BDAT 3\r\nabc", b"DATA\r\nx\r\n.\r\n"];
    for end in ends {
        let mut driver = started();
        driver.session.handle_input(end, &mut driver.memory);
        driver.session.on_lost(&mut driver.memory);
        assert_eq!(driver.memory.held, 0, "{}", end.escape_ascii());
        assert_eq!(driver.session.poll_event(&mut driver.memory), None);
    }
}

#[test]
fn a_refused_client_hears_why() {
    let mut memory = Unlimited;
    let mut session = Session::new(Arc::new(Options::new("h")));
    let reply = Reply::new(554, None, "Go away").unwrap();
    session.greet(Greeting::Refuse(reply), &mut memory);
    assert_eq!(session.output(), b"554 Go away\r\n");
    assert_eq!(session.poll_event(&mut memory), Some(Event::Close(CloseReason::Refused)));
}

#[test]
fn an_idle_session_is_small() {
    let mut driver = started();
    driver.feed(b"DATA\r\n");
    driver.feed(&b"0123456789\r\n".repeat(10_000));
    driver.feed(b".\r\n");
    // Two buffers may keep up to 256 octets each; nothing else is allocated but the client's name.
    assert!(size_of::<Session>() + 2 * 256 < 1024, "{}", size_of::<Session>());
    assert_eq!(driver.memory.held, 0);
}

/// Pieces of which random dialogues are made.
const WORDS: &[&[u8]] = &[
    b"EHLO c\r\n",
    b"EHLO c\r\n",
    b"HELO c\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<> SIZE=7 BODY=8BITMIME\r\n",
    b"MAIL FROM:<refused@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"RCPT TO:<refused@d>\r\n",
    b"DATA\r\n",
    b"DATA\r\n",
    b"text\r\n",
    b"..stuffed\r\n",
    b".\r\n",
    b".\r\n",
    b"bare\n",
    b"BDAT 4\r\nab\r\n",
    b"BDAT 3\r\na\rb",
    b"BDAT 5 LAST\r\nabc\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 9 X\r\n123456789",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"X\r\n",
    b"\r\n",
    b"closed@b",
    b"RCPT TO:<closed@d>\r\n",
    b"BDAT x\r\n",
    b"\0",
    b"VRFY a\r\n",
    b"MAIL FROM:<\xc3\xa4@b> SMTPUTF8\r\n",
];

fn dialogue(random: &mut Random) -> Vec<u8> {
    let mut bytes = if random.below(2) == 0 { START.to_vec() } else { Vec::new() };
    for _ in 0..random.below(30) {
        // Words that end sessions are rarer, or no dialogue would go far.
        let word = random.pick(WORDS);
        let ends =
            [&b"QUIT"[..], b"RCPT TO:<closed", b"BDAT x"].iter().any(|w| word.starts_with(w));
        if !ends || random.below(8) == 0 {
            bytes.extend_from_slice(word);
        }
    }
    if random.below(10) == 0 {
        bytes.extend_from_slice(&[b'y'; 3000]);
        bytes.extend_from_slice(b"\r\nNOOP\r\n");
    }
    bytes
}

#[test]
fn the_borders_of_reads_change_nothing() {
    let mut random = Random(seed(2));
    for round in 0..1500 {
        let bytes = dialogue(&mut random);
        let mut whole = Driver::plain();
        whole.settle();
        whole.feed_plainly(&bytes);
        let mut split = Driver::plain();
        let mut rest = &bytes[..];
        let step_max = 1 + random.below(40);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(step_max)));
            split.feed(now);
            rest = later;
        }
        split.settle();
        let name = format!("round {round}: {}", bytes.escape_ascii());
        assert_eq!(whole.text(), split.text(), "{name}");
        assert_eq!(whole.events, split.events, "{name}");
        assert_eq!(whole.bodies, split.bodies, "{name}");
    }
}

#[test]
fn no_dialogue_leaks_memory() {
    let mut random = Random(seed(3));
    for _ in 0..3000 {
        let bytes = dialogue(&mut random);
        let budget = *random.pick(&[0, 10_000, 17_408, 100_000, usize::MAX]);
        let mut driver = Driver::new(Options::new("h"), budget);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(200)));
            driver.feed(now);
            rest = later;
        }
        match random.below(3) {
            0 => driver.session.on_lost(&mut driver.memory),
            1 => driver.session.on_shutdown(&mut driver.memory),
            _ => {
                let phase = driver.session.phase();
                driver.session.on_timeout(phase, &mut driver.memory);
            }
        }
        driver.settle();
        assert_eq!(driver.memory.held, 0, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_declared_size_beyond_all_memory_is_refused_without_harm() {
    let options = Options { size_max: u64::MAX, ..Options::new("h") };
    let mut memory = Counting::of(1 << 20);
    assert!(memory.reserve(1));
    let mut session = Session::new(Arc::new(options));
    session.greet(Greeting::Accept, &mut memory);
    let line = format!("EHLO c\r\nMAIL FROM:<a@b> SIZE={}\r\n", u64::MAX);
    session.handle_input(line.as_bytes(), &mut memory);
    assert_eq!(session.poll_event(&mut memory), None);
    assert!(session.output().ends_with(answer::NO_MEMORY.as_bytes()));
    assert_eq!(memory.held, 1);
}

/// RFC 6533 3: an ORCPT in UTF-8 is for transactions with SMTPUTF8; its escaped form is for all.
#[test]
fn rfc_6533_3_an_orcpt_in_utf_8_needs_smtputf8() {
    let answer = |mail: &[u8], orcpt: &str| {
        let mut driver = Driver::plain();
        driver.feed(b"EHLO c\r\n");
        driver.feed(mail);
        driver.answers(format!("RCPT TO:<c@d> ORCPT=utf-8;{orcpt}@d\r\n").as_bytes())[..9]
            .to_owned()
    };
    assert_eq!(answer(b"MAIL FROM:<a@b>\r\n", "\u{e4}"), "553 5.6.7");
    assert_eq!(answer(b"MAIL FROM:<a@b>\r\n", "\\x{E4}"), "250 2.1.5");
    assert_eq!(answer(b"MAIL FROM:<a@b> SMTPUTF8\r\n", "\u{e4}"), "250 2.1.5");
}
