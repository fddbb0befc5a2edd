//! The subcommands: what each does, and the code it exits with.
//!
//! Must never: parse arguments (`cli`) or hold state.
//!
//! **Diagnostics**: one sentence on stderr, and an exit code of `cli`.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{self, Check, Command, Listing, QueueView};
use crate::control::{self, Request};
use crate::lock::Lock;
use crate::queue::{DiskStorage, LogReader, MailId, Recovered, TransactionId};
use crate::settings::{self, Arguments, Loaded, Machine, Report, Settings, Sources};
use crate::{manual, sink, supervisor, upkeep, view};

/// How long a running server may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(10);

/// Does what was asked; returns the exit code.
pub fn run(command: Command) -> u8 {
    match command {
        Command::Run(arguments) => serve(arguments),
        Command::Check(check) => check_settings(check),
        Command::Sink(sink) => match sink::run(sink) {
            Ok(()) => 0,
            Err(error) => complain(&error, error.exit()),
        },
        Command::Queue(queue) => match load(queue.arguments) {
            Ok(loaded) => show_queue(&loaded.settings.queue.directory, &queue.view),
            Err(report) => complain(report, cli::EXIT_SETTINGS),
        },
        Command::Status(status) => upkeep::status(status),
        Command::Reload(reload) => upkeep::reload(reload),
        Command::Drain(drain) => upkeep::drain(drain),
        Command::Man => print(manual::page()),
        Command::Completions(shell) => print(manual::completions(shell)),
    }
}

pub(crate) fn load(arguments: Arguments) -> Result<Loaded, Report> {
    Settings::load(&Sources::of_process(arguments), &Machine::detect())
}

/// A line on stdout; whoever closed it wants no more.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn print(bytes: Vec<u8>) -> u8 {
    let _ = std::io::stdout().write_all(&bytes);
    0
}

pub(crate) fn complain(what: impl Display, exit: u8) -> u8 {
    eprintln!("rohrpost: {}", what.to_string().trim_end());
    exit
}

fn serve(arguments: Arguments) -> u8 {
    let sources = Sources::of_process(arguments);
    let loaded = match Settings::load(&sources, &Machine::detect()) {
        Ok(loaded) => loaded,
        Err(report) => return complain(report, cli::EXIT_SETTINGS),
    };
    match supervisor::run(sources, loaded) {
        Ok(exit) => exit,
        Err(error) => complain(&error, error.exit()),
    }
}

fn check_settings(check: Check) -> u8 {
    let machine = Machine::detect();
    match check.listing {
        Listing::None => {}
        Listing::Text => say(settings::list(&machine).trim_end()),
        Listing::Markdown => say(settings::markdown().trim_end()),
    }
    match Settings::load(&Sources::of_process(check.arguments), &machine) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            if check.listing == Listing::None {
                say("the settings are usable");
            }
            0
        }
        Err(report) => complain(report, cli::EXIT_SETTINGS),
    }
}

pub(crate) fn ask(directory: &Path, request: &Request) -> Result<Vec<Value>, String> {
    let answer =
        control::ask(directory, request, ASK_PATIENCE).map_err(|error| error.to_string())?;
    answer.map(|row| row.map_err(|error| error.to_string())).collect()
}

pub(crate) fn show(rows: Result<Vec<Value>, String>) -> u8 {
    match rows {
        Ok(rows) => {
            rows.iter().for_each(say);
            0
        }
        Err(error) => complain(error, cli::EXIT_TRY_AGAIN),
    }
}

fn show_queue(directory: &Path, view: &QueueView) -> u8 {
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
    let (_, recovered) = LogReader::open(storage).map_err(|error| error.to_string())?;
    recovered.report.damaged.iter().for_each(|damage| eprintln!("damaged: {damage}"));
    let all = || rows(&recovered);
    Ok(match queue_view {
        QueueView::Count => {
            let failed = all().filter(|row| row["state"] == "failed").count();
            vec![json!({ "queued": all().count(), "failed": failed })]
        }
        QueueView::List { limit } => all().take(*limit as usize).collect(),
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
    })
}

fn rows(recovered: &Recovered) -> impl Iterator<Item = Value> + '_ {
    recovered
        .waiting
        .iter()
        .flat_map(|waiting| waiting.mails.iter().map(move |mail| view::stored(waiting, mail)))
}
