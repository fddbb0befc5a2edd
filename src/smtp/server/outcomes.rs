//! Every command in every state: reply codes and the state behind them, as one file under review.
//!
//! `ROHRPOST_BLESS=1` writes the file anew; a change of behaviour is a visible diff.

use std::fmt::Write;

use super::super::support::{Driver, assert_as_reviewed};
use super::session::State;
use super::*;

/// States by the dialogue that leads there.
const STATES: &[(&str, &[u8])] = &[
    ("new", b""),
    ("helo", b"HELO c\r\n"),
    ("ehlo", b"EHLO c\r\n"),
    ("mail", b"EHLO c\r\nMAIL FROM:<a@b>\r\n"),
    ("mail-helo", b"HELO c\r\nMAIL FROM:<a@b>\r\n"),
    ("mail-utf8", b"EHLO c\r\nMAIL FROM:<a@b> SMTPUTF8\r\n"),
    ("none-valid", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<refused@d>\r\n"),
    ("rcpt", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"),
    ("full", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n"),
    ("chunks", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1\r\nx"),
    ("bad-chunk", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\nx\ny"),
    ("data", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
    ("done", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n"),
    ("asked", b"EHLO c\r\nAUTH LOGIN\r\n"),
    ("login", b"EHLO c\r\nAUTH PLAIN AHRpbQBnb29k\r\n"),
    ("weary", b"X\r\nX\r\nX\r\n"),
    ("secure", b"EHLO c\r\n"),
    ("hooked", b""),
    ("hooked-ehlo", b"EHLO c\r\n"),
    ("hooked-rcpt", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"),
    ("closing", b"QUIT\r\n"),
];

const COMMANDS: &[&[u8]] = &[
    b"EHLO c\r\n",
    b"EHLO refused\r\n",
    b"EHLO closed\r\n",
    b"EHLO\r\n",
    b"HELO c\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<refused@b>\r\n",
    b"MAIL FROM:<closed@b>\r\n",
    b"MAIL FROM:<a@b> SIZE=50\r\n",
    b"MAIL FROM:<a@b> SIZE=101\r\n",
    b"MAIL FROM:<a@b> SIZE=x\r\n",
    b"MAIL FROM:<a@b> RET=HDRS ENVID=x\r\n",
    b"MAIL FROM:<a@b> RET=x\r\n",
    b"MAIL FROM:<a@b> AUTHOR=x\r\n",
    b"MAIL FROM:<\xc3\xa4@b> SMTPUTF8\r\n",
    b"MAIL FROM:<\xc3\xa4@b>\r\n",
    b"MAIL FROM:a@b\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"RCPT TO:<refused@d>\r\n",
    b"RCPT TO:<closed@d>\r\n",
    b"RCPT TO:<\xc3\xa4@d>\r\n",
    b"RCPT TO:<>\r\n",
    b"RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d\r\n",
    b"RCPT TO:<c@d> NOTIFY=x\r\n",
    b"RCPT TO:<c@d> X=x\r\n",
    b"DATA\r\n",
    b"DATA x\r\n",
    b"BDAT 0\r\n",
    b"BDAT 1\r\nx",
    b"BDAT 1\r\n\r",
    b"BDAT 1 LAST\r\nx",
    b"BDAT 1 LAST\r\n\n",
    b"BDAT 101 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 1 X\r\nx",
    b"BDAT x\r\n",
    b"RSET\r\n",
    b"RSET x\r\n",
    b"NOOP\r\n",
    b"HELP\r\n",
    b"VRFY a\r\n",
    b"EXPN a\r\n",
    b"AUTH\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH PLAIN AHRpbQBnb29k\r\n",
    b"AUTH PLAIN AHRpbQBiYWQ=\r\n",
    b"AUTH PLAIN AHRpbQBsYXRlcg==\r\n",
    b"AUTH PLAIN x\r\n",
    b"AUTH PLAIN x x\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"*\r\n",
    b"MAIL FROM:<a@b> AUTH=<>\r\n",
    b"MAIL FROM:<a@b> AUTH=a+4\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
    b"STARTTLS x\r\n",
    b"starttls \r\nQUIT\r\n",
    b"STARTTLSX\r\n",
    b"\r\n",
    b"NOOP\n",
    b"NO\rOP\r\n",
    b"NO\0OP\r\n",
    b".\r\n",
    b"x\r\n.\r\n",
    b"x\n.\r\n\r\n.\r\n",
];

fn driver() -> Driver {
    let options = Options {
        size_max: 100,
        recipients_max: 2,
        errors_max: 3,
        starttls: true,
        ..Options::new("h")
    };
    let mut driver = Driver::new(options, usize::MAX);
    driver.session.offer_login(LoginOffer::Yes);
    driver
}

/// The state in a word or two, from what decides about the next command.
fn name(session: &Session) -> String {
    let base = match &session.state {
        State::AwaitCommand => match &session.hello {
            None => "new",
            Some(hello) => match hello.dialect {
                super::super::command::Dialect::Smtp => "helo",
                super::super::command::Dialect::Esmtp => "ehlo",
            },
        },
        State::AwaitText => "text",
        State::AwaitChunk(_) => "chunk",
        State::SkipLine(_) => "skip",
        State::AwaitResponse(_) => "response",
        State::AwaitGreeting => "greeting",
        State::AwaitDecision(_) => "parked",
        State::AwaitTls => "handshake",
        State::Closing => "closing",
    };
    let base = if session.login.done { &format!("{base} login") } else { base };
    match &session.transaction {
        None => base.to_owned(),
        Some(t) => {
            let chunked = if t.chunked { " chunks" } else { "" };
            let fault = if t.receiver.fault().is_some() { " fault" } else { "" };
            format!("{base} mail rcpt={}{chunked}{fault}", t.accepted)
        }
    }
}

fn outcomes() -> String {
    let mut table = String::from(
        "# state | command | replies | state behind it | errors | events\n\
         # Written by a test with ROHRPOST_BLESS=1. size_max 100, recipients_max 2, errors_max 3.\n",
    );
    for (state, dialogue) in STATES {
        for command in COMMANDS {
            let mut driver = driver();
            if *state == "secure" {
                driver.session.on_secure();
            }
            // Plugins are asked about introductions and RSET.
            let hooked = state.starts_with("hooked");
            driver.session.ask_about(Asks { hello: hooked, reset: hooked });
            driver.feed(dialogue);
            driver.settle();
            driver.events.clear();
            let answers = driver.answers(command);
            let codes: Vec<_> = answers
                .lines()
                .filter(|line| line.get(3..4) == Some(" "))
                .map(|line| {
                    line.split(' ').take(2).filter(|w| w.bytes().next().is_some_and(|b| b < b'A'))
                })
                .map(|words| words.collect::<Vec<_>>().join(" "))
                .collect();
            let after = name(&driver.session);
            let (command, codes) = (command.escape_ascii(), codes.join(", "));
            let (errors, events) = (driver.session.errors, driver.events.join("; "));
            writeln!(table, "{state} | {command} | {codes} | {after} | {errors} | {events}")
                .unwrap();
        }
    }
    table
}

#[test]
fn every_outcome_is_as_reviewed() {
    assert_as_reviewed("src/smtp/server/outcomes.golden", &outcomes());
}
