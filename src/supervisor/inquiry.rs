//! Answers for the control socket: how the server is, and what is in the queue.
//!
//! Must never: touch mail; the workers say what they have.
//!
//! **Diagnostics**: a worker that does not answer in time is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use serde_json::{Value, json};

use crate::control::{self, ControlServer, Reply, Request};
use crate::mailboxes::Mailboxes;
use crate::metrics::{Metrics, Number};
use crate::net::desk::{Intake, Mail, Question};
use crate::plugin::census::Census;
use crate::queue::{LogQueue, MailId, Queue};
use crate::settings::Settings;
use crate::status;
use crate::taking::Taking;
use crate::view;

use super::by_hand;
use super::server::{Answer, Event, StartError};

/// How long the control socket waits for a worker's answer.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// What would be told of mail now is not true.
const RECOVERING: &str = "mail from before the start is still being read, so nothing can be said of the \
                          queue: ask again in some seconds, or see queue.recovering in `rohrpost status`";

/// How long it waits for the main thread, which may wait for the workers itself.
const ORDER_PATIENCE: Duration = Duration::from_secs(8);

/// The numbers that are shown.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) metrics: Arc<Metrics>,
    pub(super) census: Census,
    pub(super) host: &'static rohrpost_abi::Host,
}

pub(super) fn serve_control(
    settings: &Settings,
    queue: &Arc<LogQueue>,
    numbers: Numbers,
    mailboxes: &Mailboxes,
    draining: &Arc<AtomicBool>,
    events: &Sender<Event>,
    taking: &Arc<Taking>,
) -> Result<ControlServer, StartError> {
    let queue = queue.clone();
    let (mailboxes, events) = (mailboxes.clone(), events.clone());
    let (draining, taking) = (draining.clone(), taking.clone());
    let patience = settings.plugin.start_timeout + ORDER_PATIENCE;
    let handler = move |request| {
        let concerns_mail = !matches!(
            request,
            Request::Status
                | Request::Reload
                | Request::Reopen
                | Request::Drain
                | Request::Resume
                | Request::Stop
        );
        if concerns_mail && queue.status().recovering {
            return Err(RECOVERING.to_owned());
        }
        match request {
            Request::QueueTake { name, limit } => return taking.take(name, limit),
            Request::Reload => return Ok(reload(events.clone(), patience)),
            _ => {}
        }
        let mode = if draining.load(Ordering::Relaxed) { "draining" } else { "open" };
        answer(request, mode, &*queue, &numbers, &mailboxes, &events, &taking).map(Reply::Rows)
    };
    Ok(ControlServer::start(&settings.queue.directory, Box::new(handler))?)
}

fn answer(
    request: Request,
    mode: &str,
    queue: &dyn Queue,
    numbers: &Numbers,
    mailboxes: &Mailboxes,
    events: &Sender<Event>,
    taking: &Taking,
) -> Result<Vec<Value>, String> {
    let Numbers { metrics, census, host } = numbers;
    match request {
        Request::Status => {
            Ok(vec![status::report(mode, &queue.status(), metrics, census.report(host))])
        }
        Request::QueueCount => {
            let (queued, failed) = (metrics.sum(Number::Queued), metrics.sum(Number::Failed));
            let (shelves, dropped) = (taking.shelves(), taking.dropped());
            Ok(vec![json!({
                "queued": queued,
                "failed": failed,
                "queues": shelves,
                "results-dropped": dropped,
            })])
        }
        Request::QueueList { limit, after } => {
            let after = after.map(|id| id.parse()).transpose().map_err(|e| format!("{e}"))?;
            let limit = limit.min(control::ROWS_MAX) as usize;
            let mut rows = ask_all(&Question::List { limit, after }, mailboxes)?;
            // Not as text: "-10" is after "-9", and the next page begins after the last row.
            rows.sort_by_cached_key(|row| row["id"].as_str()?.parse::<MailId>().ok());
            rows.truncate(limit);
            Ok(rows)
        }
        Request::QueueDestinations { limit } => {
            let limit = limit.min(control::ROWS_MAX) as usize;
            let rows = ask_all(&Question::Destinations { limit }, mailboxes)?;
            Ok(view::merged_destinations(rows, limit))
        }
        Request::QueueShow { id } => {
            // The Received field has the transaction's name, the client was told its mails'.
            let question = match id.parse() {
                Ok(transaction) => Question::ShowAll(transaction),
                Err(_) => Question::Show(id.parse().map_err(|error| format!("{error}"))?),
            };
            ask_all(&question, mailboxes)
        }
        Request::QueueTake { .. } | Request::Reload => Err("this is a conversation".to_owned()),
        Request::QueueRemove { ids } => by_hand::remove(ids, mailboxes),
        Request::QueueRetry { which } => by_hand::retry(which, mailboxes),
        Request::Reopen => {
            let _ = events.send(Event::Reopen);
            Ok(Vec::new())
        }
        Request::Drain => order(events, |answer| Event::Intake(Intake::Closed, answer)),
        Request::Resume => order(events, |answer| Event::Intake(Intake::Open, answer)),
        Request::Stop => {
            let _ = events.send(Event::Stop);
            Ok(Vec::new())
        }
    }
}

/// Has the main thread do something and waits for its answer.
fn order(
    events: &Sender<Event>,
    event: impl FnOnce(Answer) -> Event,
) -> Result<Vec<Value>, String> {
    order_within(ORDER_PATIENCE, events, event)
}

fn order_within(
    patience: Duration,
    events: &Sender<Event>,
    event: impl FnOnce(Answer) -> Event,
) -> Result<Vec<Value>, String> {
    let (answer, answered) = bounded(1);
    let _ = events.send(event(answer));
    let stopping = |_| "the server is stopping, or too busy to answer".to_owned();
    answered.recv_timeout(patience).map_err(stopping)?
}

/// A reload may wait for plugins (D-14); others are answered meanwhile.
fn reload(events: Sender<Event>, patience: Duration) -> Reply {
    Reply::Conversation(Box::new(move |mut stream| {
        let answer = order_within(patience, &events, Event::Reload);
        stream.get_mut().extend(Instant::now() + ORDER_PATIENCE);
        // Whoever asked may have gone.
        let _ = control::give(stream, answer);
    }))
}

fn ask_all(question: &Question, mailboxes: &Mailboxes) -> Result<Vec<Value>, String> {
    let (answers, taken) = unbounded();
    for worker in 0..mailboxes.len() {
        let asked = mailboxes.offer(worker, Mail::Ask(question.clone(), answers.clone()));
        asked.map_err(|_| format!("worker {worker} is too busy to answer"))?;
    }
    drop(answers);
    let end = Instant::now() + ASK_PATIENCE;
    let mut rows = Vec::new();
    for _ in 0..mailboxes.len() {
        let answer = taken.recv_deadline(end);
        rows.extend(answer.map_err(|_| "a worker did not answer in time".to_owned())?);
    }
    Ok(rows)
}
