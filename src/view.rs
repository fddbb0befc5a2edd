//! How a mail in the queue is shown: one JSON object, with why it waits.
//!
//! The names of results are MailerQ's (`state`, `result`, `code`, …). Must never: show message
//! text.
//!
//! **Diagnostics**: none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Value, json};

use crate::clock::utc_text;
use crate::delivery::{DestinationView, Destinations, LookUp, MailView, Now, Place};
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
        "envelope": mail.addresses.envelope(),
        "recipient": mail.addresses.recipient(),
        "received": utc_text(mail.received_ms),
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
            ("waiting", format!("no server is running; it is due at {}", utc_text(not_before_ms)))
        }
        Some(Next::Failed | Next::Delivered | Next::Removed) => ("failed", FAILED.to_owned()),
    };
    json!({
        "id": waiting.id.mail(mail.index).to_string(),
        "envelope": mail.addresses.envelope(),
        "recipient": mail.addresses.recipient(),
        "received": utc_text(waiting.received_ms),
        "size": waiting.body_bytes,
        "state": state,
        "why": why,
        "attempts": mail.attempts,
        "results": last.iter().map(|last| attempt(last)).collect::<Vec<_>>(),
    })
}

const FAILED: &str = "it failed for good and is kept until max-delivertime is over";

fn why_ready(mail: &MailView, destinations: &Destinations, now: Now) -> String {
    match destinations.explain(mail.destination, now.mono_ms) {
        Some(view) => why_waiting(&view, now),
        None => "it is about to be delivered".to_owned(),
    }
}

/// What the ready mails of a destination wait for.
fn why_waiting(view: &DestinationView, now: Now) -> String {
    let target = &view.target;
    match (&view.trouble, view.back_at_ms, view.look_up) {
        (Some(trouble), Some(back_ms), _) => {
            let seconds = back_ms.saturating_sub(now.mono_ms).div_ceil(1000);
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
        (None, _, None) if view.idle > 0 => {
            "its text is about to be read back, when memory-limit has room".to_owned()
        }
        (None, _, None) => format!("all {} connections to {target} are busy", view.connections),
    }
}

/// The destinations of one worker, those with the most mail first.
pub fn destinations(destinations: &Destinations, limit: usize, now: Now) -> Vec<Value> {
    let mut views: Vec<DestinationView> = destinations.explain_all(now.mono_ms).collect();
    if limit < views.len() {
        views.select_nth_unstable_by_key(limit, |view| std::cmp::Reverse(view.mails));
        views.truncate(limit);
    }
    views.iter().map(|view| destination(view, now)).collect()
}

fn destination(view: &DestinationView, now: Now) -> Value {
    let next_try_ms = view.back_at_ms.map(|back_ms| back_ms.saturating_sub(now.mono_ms));
    let why = (view.ready > 0).then(|| why_waiting(view, now));
    json!({
        "destination": view.target.to_string(),
        "mails": view.mails,
        "ready": view.ready,
        "connections": view.connections,
        "idle": view.idle,
        "trouble": view.trouble,
        "next_try_s": next_try_ms.map(|ms| ms.div_ceil(1000)),
        "why": why,
    })
}

/// The destinations of all workers: one row each, the numbers added up.
pub fn merged_destinations(rows: Vec<Value>, limit: usize) -> Vec<Value> {
    let mut merged: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let name = row["destination"].as_str().unwrap_or_default().to_owned();
        match merged.entry(name) {
            Entry::Vacant(place) => {
                place.insert(row);
            }
            Entry::Occupied(mut place) => add(place.get_mut(), &row),
        }
    }
    let mut rows: Vec<Value> = merged.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row["mails"].as_u64()));
    rows.truncate(limit);
    rows
}

fn add(sum: &mut Value, row: &Value) {
    for number in ["mails", "ready", "connections", "idle"] {
        let (a, b) = (sum[number].as_u64(), row[number].as_u64());
        sum[number] = (a.unwrap_or(0) + b.unwrap_or(0)).into();
    }
    for text in ["trouble", "next_try_s", "why"] {
        if sum[text].is_null() {
            sum[text] = row[text].clone();
        }
    }
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "time": utc_text(attempt.at_ms),
        "state": attempt.state,
        "result": attempt.result,
        "code": attempt.code,
        "status": attempt.status,
        "description": attempt.description,
        "from": attempt.from.map(|from| from.to_string()),
        "to": attempt.to.map(|to| to.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_of_workers_are_added_up_and_the_fullest_come_first() {
        let row = |name: &str, mails: u64, trouble: Option<&str>| {
            json!({
                "destination": name, "mails": mails, "ready": 1, "connections": 2, "idle": 0,
                "trouble": trouble, "next_try_s": null, "why": null,
            })
        };
        let rows = vec![row("a", 3, None), row("b", 4, None), row("a", 2, Some("refused"))];
        let merged = merged_destinations(rows.clone(), 9);
        assert_eq!(merged.len(), 2);
        assert_eq!((&merged[0]["destination"], &merged[0]["mails"]), (&json!("a"), &json!(5)));
        assert_eq!(merged[0]["connections"], 4);
        assert_eq!(merged[0]["trouble"], "refused");
        assert_eq!(merged_destinations(rows, 1).len(), 1);
    }
}
