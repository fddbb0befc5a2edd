//! The part of a notice that people read.
//!
//! Owns its words: what happened to which mail, why in the words of whoever decided it, and what can be
//! done. Plain and short; no blame, no jargon where a word will do.
//!
//! Diagnostics: none.

use std::fmt::Write;

use crate::clock::Wall;

use super::case::{Case, Kind};
use super::field::{Charset, clean};
use super::status::with_status;

/// The subject of the notice.
pub(super) fn subject(case: &Case<'_>) -> String {
    let recipient = clean(case.recipient, Charset::Utf8);
    match case.kind {
        Kind::Failed => format!("Not delivered: your mail to {recipient}"),
        Kind::Delayed { .. } => format!("Delayed: your mail to {recipient}"),
        Kind::Relayed => format!("Passed on: your mail to {recipient}"),
    }
}

/// The part's text, lines with CRLF.
pub(super) fn write(case: &Case<'_>, hostname: &str, wall: &mut Wall) -> String {
    let recipient = clean(case.recipient, Charset::Utf8);
    let received = wall.date(case.received_ms).to_owned();
    let mut out = format!("This is the mail server {hostname}.\n\n");
    let _ = write!(out, "Your mail of {received} to\n\n    {recipient}\n\n");
    match case.kind {
        Kind::Failed if case.is_given_up() => out.push_str("could not be delivered in time.\n\n"),
        Kind::Failed => out.push_str("could not be delivered.\n\n"),
        Kind::Delayed { .. } => out.push_str("has not been delivered yet.\n\n"),
        Kind::Relayed => out.push_str(
            "was taken by the next server on its way, which reports nothing. So this is\n\
             the last you hear of it from here.\n\n",
        ),
    }
    words(case, &mut out);
    let advice = advice(case);
    if !advice.is_empty() {
        let _ = write!(out, "\n{advice}\n");
    }
    match case.kind {
        Kind::Failed => {
            let times = if case.attempts > 1 {
                format!("It was tried {} times, and will", case.attempts)
            } else {
                "It will".to_owned()
            };
            let _ = write!(out, "\n{times} not be tried again.\n");
        }
        Kind::Delayed { next_ms } => {
            let next = wall.date(next_ms).to_owned();
            let until = wall.date(case.until_ms);
            let _ = write!(
                out,
                "\nThere is nothing you need to do. It is tried again, next on\n{next},\nand until \
                 {until}.\nYou will hear of it if it cannot be delivered until then.\n"
            );
        }
        Kind::Relayed => {}
    }
    let _ = write!(out, "\nIt is known here as {}.\n", case.mail);
    out.replace('\n', "\r\n")
}

/// Who said what.
fn words(case: &Case<'_>, out: &mut String) {
    let words = case.words();
    let text = clean(&words.description, Charset::Utf8);
    match (case.speaker(), words.code) {
        (Some(remote), code) => {
            let verb = if case.kind == Kind::Relayed { "said" } else { "answered" };
            let reply = with_status(&words.status, &text);
            let _ = write!(out, "The server at {} {verb}:\n\n    {code} {reply}\n", remote.ip());
        }
        (None, 0) if text.is_empty() => {}
        (None, 0) => {
            let _ = write!(out, "The reason:\n\n    {text}\n");
        }
        (None, code) => {
            let reply = with_status(&words.status, &text);
            let _ = write!(out, "The reason:\n\n    {code} {reply}\n");
        }
    }
}

/// What can be done about it (RFC 3463 3).
fn advice(case: &Case<'_>) -> &'static str {
    if case.kind != Kind::Failed {
        return "";
    }
    let status = case.status();
    match (status.subject(), status.detail()) {
        (1, 2) | (4, 4) => {
            "The part of the address after the @ may be misspelt, or that domain takes\n\
             no mail."
        }
        (1, 10) => "That domain says that it takes no mail.",
        (1, _) => {
            "Please check the address. If it is right, ask the recipient in another\n\
             way whether it is still in use."
        }
        (2, 2) => "The mailbox is full. The recipient can only be told in another way.",
        (2, 3) | (3, 4) => {
            "The mail is too large for the recipient's server. Send less at once, or\n\
             a link."
        }
        (2, _) => {
            "Something is wrong with that mailbox. The recipient can be told in\n\
             another way."
        }
        (4, 6) => "The mail went in circles. Whoever runs the servers needs to know.",
        (4, 7) => {
            "The recipient's server could not be reached, or kept asking to come back\n\
             later. Send the mail again another day, or tell the recipient in another\n\
             way."
        }
        (6, 7) => "The recipient's server does not take addresses in this script yet.",
        (7, _) => {
            "The recipient's server does not want this mail. Its words above say why;\n\
             if they do not help, show them to whoever runs your mail."
        }
        _ => {
            "If the reason above does not help, show this notice to whoever runs your\n\
             mail."
        }
    }
}
