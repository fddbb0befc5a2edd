//! How a mail in the queue is shown: one JSON object, with why it waits.
//!
//! The names of results are MailerQ's (`state`, `result`, `code`, …). Must never: show message
//! text.
//!
//! **Diagnostics**: none.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::delivery::{Destinations, LookUp, MailView, Now, Place};
use crate::queue::{Attempt, Next, Waiting, WaitingMail};

/// A number with what it counts: `1 mail`, `2 mails`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A mail of a running server.
pub fn mail(mail: &MailView, destinations: &Destinations, now: Now) -> Value {
    let (state, why) = match mail.place {
        Place::Ready => ("ready", why_ready(mail, destinations, now)),
        Place::Loading => ("loading", "its text is being read back from disk".to_owned()),
        Place::Active => ("active", "it is being delivered".to_owned()),
        Place::Waiting(due_ms) => {
            let seconds = due_ms.saturating_sub(now.mono_ms).div_ceil(1000);
            ("waiting", format!("the next attempt is in {seconds} s"))
        }
        Place::Failed => ("failed", FAILED.to_owned()),
        Place::Freed => ("gone", "it is no longer in the queue".to_owned()),
    };
    json!({
        "id": mail.id.to_string(),
        "envelope": mail.envelope,
        "recipient": mail.recipient,
        "received": time(mail.received_ms),
        "size": mail.body_bytes,
        "state": state,
        "why": why,
        "attempts": mail.attempts,
        "results": mail.recent.iter().map(attempt).collect::<Vec<_>>(),
    })
}

/// A mail of a server that does not run, as the log has it.
pub fn stored(waiting: &Waiting, mail: &WaitingMail) -> Value {
    let last = mail.last.as_deref();
    let (state, why) = match last.map(|last| last.next) {
        None => ("ready", "no server is running; it is due at once".to_owned()),
        Some(Next::Retry { not_before_ms }) => {
            ("waiting", format!("no server is running; it is due at {}", time(not_before_ms)))
        }
        Some(Next::Failed | Next::Delivered | Next::Removed) => ("failed", FAILED.to_owned()),
    };
    json!({
        "id": waiting.id.mail(mail.index).to_string(),
        "envelope": mail.envelope,
        "recipient": mail.recipient,
        "received": time(waiting.received_ms),
        "size": waiting.body_bytes,
        "state": state,
        "why": why,
        "attempts": mail.attempts,
        "results": last.iter().map(|last| attempt(last)).collect::<Vec<_>>(),
    })
}

const FAILED: &str = "it failed for good and is kept until max-delivertime is over";

fn why_ready(mail: &MailView, destinations: &Destinations, now: Now) -> String {
    let Some(view) = destinations.explain(mail.destination, now.mono_ms) else {
        return "it is about to be delivered".to_owned();
    };
    let target = &view.target;
    match (&view.trouble, view.back_at_ms, view.look_up) {
        (Some(trouble), Some(back_ms), _) => {
            let seconds = (back_ms - now.mono_ms).div_ceil(1000);
            format!("{target} cannot be reached ({trouble}); next try in {seconds} s")
        }
        (_, _, Some(LookUp::Asked)) => format!("waiting for DNS: the route to {target}"),
        (_, _, Some(LookUp::Waiting)) => {
            format!("waiting for DNS: the route to {target}, when dns-capacity has room")
        }
        (Some(trouble), None, None) => format!("{target} is being tried again ({trouble})"),
        (None, _, None) if view.starved && view.connections == 0 => format!(
            "no connection to {target} is open: smtp-connections, smtp-connections-out or \
             memory-limit is reached"
        ),
        (None, _, None) if view.connections == 0 => format!("{target} is about to be connected to"),
        (None, _, None) if view.opening == view.connections => {
            format!("a connection to {target} is being opened")
        }
        (None, _, None) => format!("all {} connections to {target} are busy", view.connections),
    }
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "time": time(attempt.at_ms),
        "state": attempt.state,
        "result": attempt.result,
        "code": attempt.code,
        "status": attempt.status,
        "description": attempt.description,
        "from": attempt.from.map(|from| from.to_string()),
        "to": attempt.to.map(|to| to.to_string()),
    })
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, as MailerQ's JSON has it.
fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
