//! What an operator does with single mails of a running server, worker by worker.
//!
//! Must never: hold a worker up; each is asked for a bounded part at a time.
//!
//! **Diagnostics**: an id that is none is refused; a worker that does not answer in time is named.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde_json::{Value, json};

use crate::control::Which;
use crate::mailboxes::Mailboxes;
use crate::net::desk::{Mail, Question};
use crate::queue::{MailId, TransactionId};

/// How long all workers together may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Removes mails: one row that counts them.
pub(super) fn remove(ids: Vec<String>, mailboxes: &Mailboxes) -> Result<Vec<Value>, String> {
    check(&ids)?;
    let end = Instant::now() + PATIENCE;
    let (mut removed, mut busy) = (0, 0);
    for worker in 0..mailboxes.len() {
        let answer = ask(worker, Question::Remove(ids.clone()), end, mailboxes)?;
        removed += answer["removed"].as_u64().unwrap_or(0);
        busy += answer["under-way"].as_u64().unwrap_or(0);
    }
    Ok(vec![json!({ "removed": removed, "under-way": busy })])
}

/// Makes waiting mails due now: one row that counts them.
pub(super) fn retry(which: Which, mailboxes: &Mailboxes) -> Result<Vec<Value>, String> {
    if let Which::Ids(ids) = &which {
        check(ids)?;
    }
    let end = Instant::now() + PATIENCE;
    let mut retried = 0;
    for worker in 0..mailboxes.len() {
        let mut before = None;
        loop {
            let question = Question::Retry { which: which.clone(), before };
            let answer = ask(worker, question, end, mailboxes)?;
            retried += answer["retried"].as_u64().unwrap_or(0);
            let next = &answer["next"];
            let due_ms = next[0].as_u64();
            let id = next[1].as_str().and_then(|id| id.parse::<MailId>().ok());
            before = due_ms.zip(id);
            if before.is_none() {
                break;
            }
        }
    }
    Ok(vec![json!({ "retried": retried })])
}

fn check(ids: &[String]) -> Result<(), String> {
    for id in ids {
        if id.parse::<TransactionId>().is_err()
            && let Err(error) = id.parse::<MailId>()
        {
            return Err(format!("{id}: {error}"));
        }
    }
    Ok(())
}

fn ask(
    worker: usize,
    question: Question,
    end: Instant,
    mailboxes: &Mailboxes,
) -> Result<Value, String> {
    let (answers, answered) = bounded(1);
    let busy = || format!("worker {worker} is too busy to answer; some may be done already");
    mailboxes.offer(worker, Mail::Ask(question, answers)).map_err(|_| busy())?;
    let rows = answered.recv_deadline(end).map_err(|_| busy())?;
    Ok(rows.into_iter().next().unwrap_or_default())
}
