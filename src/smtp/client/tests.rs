//! The client against scripted far ends, hostile ones above all.

use super::super::command::BodyKind;
use super::super::dsn::{Notify, Request, Ret};
use super::*;

const ESMTP: &[u8] =
    b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8bitmime\r\n250 SMTPUTF8\r\n";
const PLAIN: &[u8] = b"220 hi\r\n250 mx\r\n";
const GROUP: &str = "MAIL FROM:<a@b> SIZE=5\r\nRCPT TO:<c@d>\r\nDATA\r\n";

fn mail() -> Envelope<'static> {
    Envelope {
        from: "a@b",
        to: "c@d",
        size: 5,
        body: BodyKind::SevenBit,
        smtputf8: false,
        request: Request::default(),
    }
}

fn sent(session: &mut Session) -> String {
    let mut out = Vec::new();
    session.take_output(&mut out);
    String::from_utf8(out).unwrap()
}

fn ready(greeting: &[u8]) -> Session {
    let mut session = Session::new(&Options::new("me.example"));
    session.handle_input(greeting);
    assert!(matches!(session.poll_event(), Some(Event::Ready { .. })));
    assert_eq!(sent(&mut session), "EHLO me.example\r\n");
    session
}

fn started(greeting: &[u8]) -> Session {
    let mut session = ready(greeting);
    session.start(mail()).unwrap();
    session
}

fn hear(session: &mut Session, input: &[u8]) -> Vec<Event> {
    session.handle_input(input);
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// Stage and code of a refusal by the far end.
fn refusal(event: &Event) -> (Stage, u16) {
    match event {
        Event::Done(Outcome::Refused { stage, reply, .. }) => (*stage, reply.code()),
        other => panic!("{other:?} is no refusal"),
    }
}

#[test]
fn offers_are_read() {
    let session = ready(ESMTP);
    let expected = Extensions {
        pipelining: true,
        size: Some(1000),
        eight_bit: true,
        smtputf8: true,
        ..Extensions::default()
    };
    assert_eq!(session.extensions(), expected);
    assert_eq!(ready(PLAIN).extensions(), Extensions::default());
    let odd = ready(b"220 x\r\n250-mx\r\n250-SIZE\r\n250-\r\n250 SIZE=7 X\r\n");
    assert_eq!(odd.extensions().size, Some(0));
}

/// RFC 2920 3.1: MAIL, RCPT and DATA leave together.
#[test]
fn a_group_is_pipelined_where_it_may_be() {
    let mut session = started(ESMTP);
    assert_eq!(sent(&mut session), GROUP);
    assert_eq!(hear(&mut session, b"250 ok\r\n250 ok\r\n354 go\r\n"), [Event::Data354]);
    assert_eq!(session.stage(), Stage::Held);
    assert!(session.begin_body());
    assert_eq!(session.stage(), Stage::Body);
    session.end_body();
    assert_eq!(session.stage(), Stage::FinalDot);
    let events = hear(&mut session, b"250 2.0.0 queued as 7\r\n");
    let [Event::Done(Outcome::Accepted(reply))] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((reply.text(), session.stage()), ("queued as 7", Stage::Idle));
    session.quit();
    assert_eq!(sent(&mut session), "QUIT\r\n");
    assert_eq!(hear(&mut session, b"221 bye\r\n"), [Event::Goodbye]);
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut session = started(PLAIN);
    assert_eq!(sent(&mut session), "MAIL FROM:<a@b>\r\n");
    assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
    assert_eq!(sent(&mut session), "RCPT TO:<c@d>\r\n");
    assert_eq!(hear(&mut session, b"550 5.1.1 who\r\n").len(), 1);
    assert_eq!(sent(&mut session), "", "no DATA behind a refused recipient");
    session.start(mail()).unwrap();
    assert_eq!(sent(&mut session), "RSET\r\n");
    assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
    assert_eq!(sent(&mut session), "MAIL FROM:<a@b>\r\n");
    assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
    assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
    assert_eq!(sent(&mut session), "RCPT TO:<c@d>\r\nDATA\r\n");
    assert_eq!(hear(&mut session, b"354 go\r\n"), [Event::Data354]);
}

#[test]
fn parameters_follow_the_offer() {
    let eight = Envelope { body: BodyKind::EightBit, smtputf8: true, ..mail() };
    let mut session = ready(ESMTP);
    session.start(eight).unwrap();
    assert!(sent(&mut session).starts_with("MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n"));
    let mut session = ready(PLAIN);
    session.start(eight).unwrap();
    assert_eq!(sent(&mut session), "MAIL FROM:<a@b>\r\n");
}

/// RFC 3461 5.2.1: what the sender asked for goes on to who offers DSN, and to nobody else.
#[test]
fn wishes_for_notices_follow_the_offer_of_dsn() {
    let notify = Some(Notify { success: true, failure: false, delay: false });
    let envid = Some("a+b");
    let request = Request { ret: Some(Ret::Headers), envid, notify, orcpt: Some("rfc822;C@d") };
    let mail = Envelope { request, ..mail() };
    let mut session = ready(b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250 dsn\r\n");
    session.start(mail).unwrap();
    let expected = "MAIL FROM:<a@b> RET=HDRS ENVID=a+2Bb\r\n\
                    RCPT TO:<c@d> NOTIFY=SUCCESS ORCPT=rfc822;C@d\r\nDATA\r\n";
    assert_eq!(sent(&mut session), expected);
    let mut session = ready(ESMTP);
    session.start(mail).unwrap();
    assert_eq!(sent(&mut session), GROUP);
}

/// RFC 2920 3.1: a 354 for nobody is answered by a lone dot, never by the text.
#[test]
fn a_354_without_recipients_gets_an_empty_text() {
    let mut session = started(ESMTP);
    sent(&mut session);
    assert_eq!(hear(&mut session, b"250 ok\r\n550 5.1.1 who\r\n354 go\r\n"), []);
    assert_eq!((sent(&mut session).as_str(), session.stage()), (".\r\n", Stage::FinalDot));
    let events = hear(&mut session, b"250 accepted\r\n");
    assert_eq!(refusal(&events[0]), (Stage::Rcpt, 550));
    assert_eq!(events.len(), 1);
    session.start(mail()).unwrap();
    assert_eq!(sent(&mut session), format!("RSET\r\n{GROUP}"));
    let events = hear(&mut session, b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(events, [Event::Data354]);
}

#[test]
fn the_first_refusal_counts() {
    let rows: &[(&[u8], (Stage, u16))] = &[
        (b"450 a\r\n503 b\r\n503 c\r\n", (Stage::Mail, 450)),
        (b"250 a\r\n450 b\r\n554 c\r\n", (Stage::Rcpt, 450)),
        (b"250 a\r\n250 b\r\n451 c\r\n", (Stage::Data, 451)),
        (b"550 a\r\n250 b\r\n503 c\r\n", (Stage::Mail, 550)),
    ];
    for (input, expected) in rows {
        let mut session = started(ESMTP);
        let events = hear(&mut session, input);
        assert_eq!((refusal(&events[0]), events.len()), (*expected, 1));
        assert_eq!(session.stage(), Stage::Idle);
    }
}

#[test]
fn a_421_ends_the_connection_and_fails_the_mail_for_now() {
    let mut session = ready(ESMTP);
    assert_eq!(hear(&mut session, b"421 idle\r\n"), [Event::Goodbye]);
    for input in [&b"421 no\r\n"[..], b"250 a\r\n421 no\r\n", b"250 a\r\n250 b\r\n421 no\r\n"] {
        let mut session = started(ESMTP);
        let events = hear(&mut session, input);
        assert_eq!(refusal(&events[0]).1, 421);
        assert_eq!(events[1..], [Event::Goodbye]);
        assert_eq!(session.stage(), Stage::Closed);
    }
    let mut session = started(ESMTP);
    let events = hear(&mut session, b"250 a\r\n550 b\r\n421 no\r\n");
    assert_eq!(refusal(&events[0]), (Stage::Rcpt, 550), "a refusal for good stays one");
    let mut session = Session::new(&Options::new("me"));
    assert_eq!(refusal(&hear(&mut session, b"421 full\r\n")[0]), (Stage::Banner, 421));
}

#[test]
fn an_unwelcome_client_says_quit() {
    let mut session = Session::new(&Options::new("me"));
    assert_eq!(refusal(&hear(&mut session, b"554 no\r\n")[0]), (Stage::Banner, 554));
    assert_eq!(sent(&mut session), "QUIT\r\n");
    session.on_lost(Problem::Closed);
    assert_eq!(session.poll_event(), Some(Event::Goodbye));
    let mut session = Session::new(&Options::new("me"));
    assert_eq!(refusal(&hear(&mut session, b"220 a\r\n450 no\r\n")[0]), (Stage::Ehlo, 450));
}

/// RFC 5321 3.2.
#[test]
fn ehlo_falls_back_to_helo() {
    let mut session = Session::new(&Options::new("me"));
    let events = hear(&mut session, b"220 a\r\n502 what\r\n250 hello\r\n");
    assert_eq!(events, [Event::Ready { extensions: Extensions::default() }]);
    assert_eq!(sent(&mut session), "EHLO me\r\nHELO me\r\n");
}

/// S6: what could end a command line or an address never leaves.
#[test]
fn dangerous_addresses_are_never_sent() {
    let bad = [
        "a@b\r\nRCPT TO:<x@y>",
        "a@b\n",
        "a\0@b",
        "a@b> SIZE=1",
        "a@b>",
        "<a@b",
        "a b@c",
        "a@b\u{7f}",
        "a@\u{202e}b",
        "\"a\r\"@b",
        "no-domain",
    ];
    for address in bad {
        let mut session = ready(ESMTP);
        let from = session.start(Envelope { from: address, ..mail() });
        assert!(matches!(from, Err(StartError::Sender(_))), "{address:?}");
        let to = session.start(Envelope { to: address, ..mail() });
        assert!(matches!(to, Err(StartError::Recipient(_))), "{address:?}");
        assert_eq!((sent(&mut session).as_str(), session.poll_event()), ("", None));
    }
    let mut session = ready(ESMTP);
    assert!(session.start(Envelope { to: "", ..mail() }).is_err());
    session.start(Envelope { from: "", to: "\"a>b\"@[127.0.0.1]", ..mail() }).unwrap();
    assert!(
        sent(&mut session).starts_with("MAIL FROM:<> SIZE=5\r\nRCPT TO:<\"a>b\"@[127.0.0.1]>\r\n")
    );
}

/// RFC 1870 6.1, RFC 6531 3.5.
#[test]
fn what_the_far_end_cannot_take_is_refused_here() {
    let large = Envelope { size: 1001, ..mail() };
    let international = Envelope { to: "\u{e4}@d", ..mail() };
    let rows = [(ESMTP, large, (552, "5.3.4")), (PLAIN, international, (553, "5.6.7"))];
    for (greeting, envelope, (code, status)) in rows {
        let mut session = ready(greeting);
        session.start(envelope).unwrap();
        let Some(Event::Done(Outcome::Refused { stage, reply, origin })) = session.poll_event()
        else {
            panic!("the mail is refused");
        };
        assert_eq!((stage, origin, reply.code()), (Stage::Mail, Origin::Local, code));
        assert_eq!(reply.status().unwrap().to_string(), status);
        assert_eq!((sent(&mut session).as_str(), session.stage()), ("", Stage::Idle));
    }
    let mut session = ready(b"220 a\r\n250-b\r\n250 SIZE 0\r\n");
    session.start(large).unwrap();
    assert_eq!(sent(&mut session), "MAIL FROM:<a@b> SIZE=1001\r\n");
    let mut session = ready(ESMTP);
    session.start(international).unwrap();
    assert!(sent(&mut session).contains(" SMTPUTF8\r\nRCPT TO:<\u{e4}@d>\r\n"));
}

/// S5.
#[test]
fn hostile_replies_end_the_connection() {
    let long_line = [&b"250 "[..], &[b'x'; 5000]].concat();
    let endless = b"250-x\r\n".repeat(300);
    let rows: &[(&[u8], Problem)] = &[
        (b"\r\n", Problem::BadReply),
        (b"hello\r\n", Problem::BadReply),
        (b"25\r\n", Problem::BadReply),
        (b"250x\r\n", Problem::BadReply),
        (b"150 x\r\n", Problem::BadReply),
        (b"650 x\r\n", Problem::BadReply),
        (b"\xff\xff\xff x\r\n", Problem::BadReply),
        (b"2\x005 x\r\n", Problem::BadReply),
        (b"250-a\r\n251 b\r\n", Problem::BadReply),
        (b"250-a\r\n\r\n", Problem::BadReply),
        (b"354 go\r\n", Problem::UnexpectedReply),
        (b"334 x\r\n", Problem::UnexpectedReply),
        (&long_line, Problem::ReplyTooLong),
        (&endless, Problem::ReplyTooLong),
    ];
    for (input, problem) in rows {
        let mut session = started(ESMTP);
        let expected = Event::Lost { stage: Stage::Mail, problem: *problem };
        assert_eq!(hear(&mut session, input), [expected], "{}", input.escape_ascii());
        assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
        assert_eq!(sent(&mut session), "");
    }
}

#[test]
fn replies_are_read_leniently_where_no_harm_is() {
    let text = b"250-2.1.0 a\0b\r\n250-\r\n250-2.1.0 \xff\n250 2.1.0 c\r\n250\r\n354\r\n";
    let mut session = started(ESMTP);
    assert_eq!(hear(&mut session, text), [Event::Data354]);
    let mut session = ready(PLAIN);
    session.start(mail()).unwrap();
    let events = hear(&mut session, b"550-5.1.1 a\x1b[1m\r\n550 5.1.1 b\r\n");
    let Event::Done(Outcome::Refused { reply, .. }) = &events[0] else {
        panic!("{events:?}");
    };
    assert_eq!((reply.text(), reply.status().unwrap().to_string().as_str()), ("a?[1m\nb", "5.1.1"));
    // A status of another class than the code is text.
    session.start(mail()).unwrap();
    let events = hear(&mut session, b"550 2.1.1 x\r\n");
    let Event::Done(Outcome::Refused { reply, .. }) = &events[0] else {
        panic!("{events:?}");
    };
    assert_eq!((reply.text(), reply.status()), ("2.1.1 x", None));
}

/// Replies that nobody asked for would be taken for those to the next mail.
#[test]
fn surplus_replies_end_the_connection() {
    let mut session = started(ESMTP);
    hear(&mut session, b"250 a\r\n250 b\r\n354 c\r\n");
    assert!(session.begin_body());
    session.end_body();
    session.handle_input(b"250 ok\r\n250 ok\r\n");
    assert!(matches!(session.poll_event(), Some(Event::Done(Outcome::Accepted(_)))));
    assert_eq!(session.start(mail()), Err(StartError::Busy));
    let lost = Event::Lost { stage: Stage::Idle, problem: Problem::UnexpectedReply };
    assert_eq!(session.poll_event(), Some(lost));
}

/// D-81, and a 250 before the dot never counts.
#[test]
fn d_81_news_before_the_final_dot_is_bad_news() {
    for held in [true, false] {
        let data = |reply: &[u8]| {
            let mut session = started(ESMTP);
            hear(&mut session, b"250 a\r\n250 b\r\n354 c\r\n");
            let stage = if held { Stage::Held } else { Stage::Body };
            assert!(held || session.begin_body());
            (hear(&mut session, reply), session, stage)
        };
        let (events, mut session, stage) = data(b"552 too big\r\n");
        assert_eq!(refusal(&events[0]), (stage, 552));
        assert_eq!(events[1..], [Event::Goodbye]);
        assert!(!session.begin_body());
        let (events, _, stage) = data(b"250 ok\r\n");
        assert_eq!(events, [Event::Lost { stage, problem: Problem::UnexpectedReply }]);
    }
}

#[test]
fn a_lost_connection_settles_the_mail() {
    let mut session = started(ESMTP);
    hear(&mut session, b"250 a\r\n");
    session.on_lost(Problem::TimedOut);
    let lost = Event::Lost { stage: Stage::Rcpt, problem: Problem::TimedOut };
    assert_eq!((session.poll_event(), session.poll_event()), (Some(lost), None));
    let mut session = started(ESMTP);
    hear(&mut session, b"250 a\r\n550 b\r\n");
    session.on_lost(Problem::Closed);
    assert_eq!(refusal(&session.poll_event().unwrap()), (Stage::Rcpt, 550));
    assert_eq!(session.poll_event(), Some(Event::Goodbye));
}

#[test]
fn an_abandoned_mail_sends_nothing_more() {
    let mut session = started(ESMTP);
    sent(&mut session);
    hear(&mut session, b"250 a\r\n250 b\r\n354 c\r\n");
    session.abandon();
    assert_eq!((sent(&mut session).as_str(), session.stage()), ("", Stage::Closed));
    assert_eq!(hear(&mut session, b"250 ok\r\n"), []);
}

#[test]
fn a_mail_cannot_be_started_twice() {
    let mut session = Session::new(&Options::new("me"));
    assert_eq!(session.start(mail()), Err(StartError::Busy));
    let mut session = started(ESMTP);
    assert_eq!(session.start(mail()), Err(StartError::Busy));
    session.quit();
    assert_eq!(sent(&mut session), GROUP);
}

const CHUNKING: &[u8] = b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
const CHUNK: &str = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5 LAST\r\n";

fn chunked() -> Session {
    let mut session = ready(CHUNKING);
    assert!(session.takes_chunk());
    session.start_chunk(mail(), 5).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.stage()), (CHUNK, Stage::Body));
    session
}

/// RFC 3030 4.2: the text goes with the commands, and three replies tell its fate.
#[test]
fn a_chunk_goes_ahead_of_all_replies() {
    let mut session = chunked();
    session.end_body();
    assert_eq!(session.stage(), Stage::Mail);
    let events = hear(&mut session, b"250 a\r\n250 b\r\n250 2.0.0 c\r\n");
    assert!(matches!(events[..], [Event::Done(Outcome::Accepted(_))]), "{events:?}");
    session.start_chunk(mail(), 5).unwrap();
    assert_eq!(sent(&mut session), CHUNK, "no RSET between mails that were taken");
}

#[test]
fn a_chunk_to_nobody_is_refused_as_its_recipient_was() {
    for last in ["503 5.5.1 no recipients", "250 2.0.0 fine"] {
        let mut session = chunked();
        session.end_body();
        let replies = format!("250 a\r\n550 5.1.1 b\r\n{last}\r\n");
        let events = hear(&mut session, replies.as_bytes());
        assert_eq!((refusal(&events[0]), events.len()), ((Stage::Rcpt, 550), 1));
        assert!(!session.takes_chunk(), "no whole mail stands behind a RSET");
        session.start(mail()).unwrap();
        assert!(sent(&mut session).starts_with("RSET\r\nMAIL FROM:<a@b>\r\n"));
    }
}

/// RFC 3030 2: the octets of a chunk are counted, so all of them go out whatever is said meanwhile.
#[test]
fn a_chunk_is_finished_when_its_recipient_is_refused() {
    let mut session = chunked();
    assert_eq!(hear(&mut session, b"250 a\r\n550 5.1.1 b\r\n"), []);
    assert_eq!(session.stage(), Stage::Body);
    session.end_body();
    assert_eq!(refusal(&hear(&mut session, b"503 c\r\n")[0]), (Stage::Rcpt, 550));
}

#[test]
fn no_chunk_is_accepted_before_it_was_sent() {
    let mut session = chunked();
    let events = hear(&mut session, b"250 a\r\n250 b\r\n250 c\r\n");
    let lost = Event::Lost { stage: Stage::FinalDot, problem: Problem::UnexpectedReply };
    assert_eq!(events, [lost]);
    let mut session = chunked();
    let events = hear(&mut session, b"250 a\r\n250 b\r\n552 5.3.4 large\r\n");
    assert_eq!((refusal(&events[0]), &events[1..]), ((Stage::Body, 552), &[Event::Goodbye][..]));
}

#[test]
fn a_lost_chunk_says_how_far_the_replies_came() {
    for (replies, stage) in [(&b""[..], Stage::Mail), (b"250 a\r\n", Stage::Rcpt)] {
        for whole in [false, true] {
            let mut session = chunked();
            if whole {
                session.end_body();
            }
            hear(&mut session, replies);
            session.on_lost(Problem::Closed);
            let lost = Event::Lost { stage, problem: Problem::Closed };
            assert_eq!(session.poll_event(), Some(lost));
        }
    }
}

#[test]
fn a_chunk_that_is_too_large_is_not_begun() {
    let mut session =
        ready(b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250-SIZE 4\r\n250 CHUNKING\r\n");
    session.start_chunk(mail(), 5).unwrap();
    assert_eq!((sent(&mut session).as_str(), session.stage()), ("", Stage::Idle));
    assert_eq!(refusal(&session.poll_event().unwrap()), (Stage::Mail, 552));
}

/// S5: lines that are short and many, each within its bound.
#[test]
fn a_reply_is_bounded_as_a_whole() {
    let long = [&b"250-"[..], &[b'x'; 4000], b"\r\n"].concat();
    let mut session = started(ESMTP);
    let events = hear(&mut session, &long.repeat(17));
    let lost = Event::Lost { stage: Stage::Mail, problem: Problem::ReplyTooLong };
    assert_eq!(events, [lost]);
}
