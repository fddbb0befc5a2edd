//! `rohrpost queue`: asks the running server, or reads the log where none runs.
//!
//! Must never: change a queue that no server runs on.
//!
//! **Diagnostics**: one sentence on stderr, and an exit code of `cli`.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ask, complain, say, show, warn};
use crate::cli::{self, QueueView};
use crate::control::{self, ControlError, Request};
use crate::lock::Lock;
use crate::queue::{DiskStorage, LogReader, MailId, Recovered, TransactionId};
use crate::taking::{self, TakeError};
use crate::view;

/// How long one answer with results may take, written down and acknowledged.
const TAKE_PATIENCE: Duration = Duration::from_secs(180);
/// How often a queue that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// What is to be done before a queue can be changed.
const NO_SERVER: &str = "no server runs on this queue, and only a running one may change it: start it, \
                         with the same queue-directory";

/// Does what was asked; returns the exit code.
pub(super) fn run(directory: &Path, view: &QueueView) -> u8 {
    if let QueueView::Take { name, max, follow } = view {
        return take(directory, name, *max, *follow);
    }
    if let QueueView::Show { id } = view
        && id.parse::<TransactionId>().is_err()
        && let Err(error) = id.parse::<MailId>()
    {
        return complain(error, cli::EXIT_USAGE);
    }
    let rows =
        if Lock::is_taken(directory) { asked(directory, view) } else { read(directory, view) };
    match (rows, view) {
        (Ok(rows), QueueView::Show { id }) if rows.is_empty() => {
            complain(format_args!("there is no mail {id} in the queue"), 1)
        }
        (Ok(rows), QueueView::Show { .. }) => {
            rows.iter().for_each(|row| say(format_args!("{row:#}")));
            0
        }
        // A bare number, for scripts.
        (Ok(rows), QueueView::Count) => {
            rows.iter().for_each(|row| say(&row["queued"]));
            // Below it those named queues that hold something.
            for shelf in rows.iter().filter_map(|row| row["queues"].as_array()).flatten() {
                let name = shelf["name"].as_str().unwrap_or_default();
                say(format_args!("{name} {} ({} bytes)", shelf["entries"], shelf["bytes"]));
            }
            0
        }
        (rows, _) => show(rows),
    }
}

/// The server runs: it knows what each mail waits for.
fn asked(directory: &Path, view: &QueueView) -> Result<Vec<Value>, String> {
    match view {
        QueueView::Count => ask(directory, &Request::QueueCount),
        QueueView::Show { id } => ask(directory, &Request::QueueShow { id: id.clone() }),
        QueueView::Remove { ids } => ask(directory, &Request::QueueRemove { ids: ids.clone() }),
        QueueView::Retry(which) => ask(directory, &Request::QueueRetry { which: which.clone() }),
        QueueView::Take { .. } => unreachable!("it is dealt with before"),
        QueueView::Destinations { limit } => {
            ask(directory, &Request::QueueDestinations { limit: *limit })
        }
        QueueView::List { limit } => {
            let mut rows: Vec<Value> = Vec::new();
            loop {
                let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
                let page = left.min(control::ROWS_MAX);
                if page == 0 {
                    return Ok(rows);
                }
                let after = rows.last().and_then(|row| row["id"].as_str()).map(str::to_owned);
                let more = ask(directory, &Request::QueueList { limit: page, after })?;
                let count = more.len();
                rows.extend(more);
                if count < page as usize {
                    return Ok(rows);
                }
            }
        }
    }
}

/// No server runs: the log says what is there, and nothing is changed.
fn read(directory: &Path, queue_view: &QueueView) -> Result<Vec<Value>, String> {
    if !directory.is_dir() {
        return Err(format!("there is no queue in {}; see queue-directory", directory.display()));
    }
    let storage = Arc::new(DiskStorage::new(directory));
    if let QueueView::Remove { .. } | QueueView::Retry(_) | QueueView::Take { .. } = queue_view {
        return Err(NO_SERVER.to_owned());
    }
    let (reader, recovered) = LogReader::open(storage).map_err(|error| error.to_string())?;
    recovered.report.damaged.iter().for_each(|damage| warn(format_args!("damaged: {damage}")));
    let all = || rows(&recovered);
    Ok(match queue_view {
        QueueView::Count => {
            let failed = all().filter(|row| row["state"] == "failed").count();
            let queues = reader.shelves();
            vec![json!({ "queued": all().count(), "failed": failed, "queues": queues })]
        }
        QueueView::List { limit } => all().take(*limit as usize).collect(),
        QueueView::Destinations { .. } => {
            return Err("no server is running: no mail is on its way anywhere".to_owned());
        }
        QueueView::Show { id } => {
            let names = |row: &Value, id: &dyn Display| row["id"] == id.to_string();
            match (id.parse::<MailId>(), id.parse::<TransactionId>()) {
                (Ok(id), _) => all().filter(|row| names(row, &id)).collect(),
                (_, Ok(id)) => {
                    let of = format!("{id}-");
                    let is_of =
                        |row: &Value| row["id"].as_str().is_some_and(|id| id.starts_with(&of));
                    all().filter(is_of).collect()
                }
                (Err(error), _) => return Err(error.to_string()),
            }
        }
        QueueView::Remove { .. } | QueueView::Retry(_) | QueueView::Take { .. } => Vec::new(),
    })
}

fn rows(recovered: &Recovered) -> impl Iterator<Item = Value> + '_ {
    recovered
        .waiting
        .iter()
        .flat_map(|waiting| waiting.mails.iter().map(move |mail| view::stored(waiting, mail)))
}

/// Nothing was in the named queue: the name may be misspelt, so those are named that hold something.
fn tell_others(directory: &Path, name: &str) {
    let rows = ask(directory, &Request::QueueCount).unwrap_or_default();
    let shelves = rows.iter().filter_map(|row| row["queues"].as_array()).flatten();
    let names: Vec<&str> = shelves.filter_map(|shelf| shelf["name"].as_str()).collect();
    if !names.is_empty() && !names.contains(&name) {
        warn(format_args!("rohrpost: `{name}` holds nothing; {} does", names.join(", ")));
    }
}

/// Results as JSON lines on stdout; each leaves the queue when its line was written.
fn take(directory: &Path, name: &str, max: u64, follow: bool) -> u8 {
    let mut left = max;
    while left > 0 {
        let mut out = std::io::stdout().lock();
        let wanted = u32::try_from(left).unwrap_or(u32::MAX);
        match taking::take(directory, name, wanted, &mut out, TAKE_PATIENCE) {
            Ok(0) if follow => std::thread::sleep(FOLLOW_EVERY),
            Ok(0) => {
                if left == max {
                    tell_others(directory, name);
                }
                return 0;
            }
            Ok(taken) => left = left.saturating_sub(taken),
            Err(TakeError::Control(ControlError::NoServer(_))) => {
                return complain(NO_SERVER, cli::EXIT_TRY_AGAIN);
            }
            Err(error) => return complain(error, cli::EXIT_TRY_AGAIN),
        }
    }
    0
}
