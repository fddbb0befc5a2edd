//! The subcommands that look after a running server: `status`, `reload`, `drain`.
//!
//! Must never: do anything by themselves; the server is asked over its control socket.
//!
//! **Diagnostics**: one sentence on stderr, and an exit code of `cli`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{self, Drain, Reload, Status, StatusForm};
use crate::control::{self, ControlError, Request};
use crate::program::{ask, complain, locate, say, show};
use crate::settings::Arguments;
use crate::status;
use crate::view::counted;

/// How long a running server may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a reload may take: beyond the longest `plugin-start-timeout`, which the server keeps itself.
const RELOAD_PATIENCE: Duration = Duration::from_secs(3_700);
/// How often a drain looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Does something with the queue directory that the settings name.
fn with_directory(arguments: Arguments, work: impl FnOnce(&Path) -> u8) -> u8 {
    match locate(arguments) {
        Ok(directory) => work(&directory),
        Err(report) => complain(report, cli::EXIT_SETTINGS),
    }
}

/// `rohrpost status`: the server's numbers, as JSON or as a table.
pub fn status(what: Status) -> u8 {
    if what.form == StatusForm::Explain {
        say(status::markdown().trim_end());
        return 0;
    }
    with_directory(what.arguments, |directory| match ask(directory, &Request::Status) {
        Ok(rows) if what.form == StatusForm::Table => {
            rows.iter().for_each(|row| say(status::table(row).trim_end()));
            0
        }
        rows => show(rows),
    })
}

/// `rohrpost reload`: what the server made of its settings.
pub fn reload(what: Reload) -> u8 {
    with_directory(what.arguments, |directory| {
        if what.logs {
            return show(ask(directory, &Request::Reopen));
        }
        match ask_within(RELOAD_PATIENCE, directory, &Request::Reload) {
            Ok(rows) => {
                rows.iter().flat_map(told).for_each(say);
                0
            }
            Err(ControlError::Refused(why)) => {
                complain(format_args!("nothing has changed:\n{why}"), cli::EXIT_SETTINGS)
            }
            Err(error) => complain(error, cli::EXIT_TRY_AGAIN),
        }
    })
}

fn ask_once(directory: &Path, request: &Request) -> Result<Vec<Value>, ControlError> {
    ask_within(ASK_PATIENCE, directory, request)
}

fn ask_within(
    patience: Duration,
    directory: &Path,
    request: &Request,
) -> Result<Vec<Value>, ControlError> {
    control::ask(directory, request, patience)?.collect()
}

/// The answer to a reload in sentences.
fn told(row: &Value) -> Vec<String> {
    let words = |field: &str| -> Vec<String> {
        let words = row[field].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (applied, restart) = (words("applied"), words("restart"));
    let mut lines: Vec<String> =
        words("warnings").into_iter().map(|text| format!("warning: {text}")).collect();
    if applied.is_empty() && restart.is_empty() {
        lines.push("the settings are as they were".to_owned());
    }
    if !applied.is_empty() {
        lines.push(format!("changed: {}", applied.join(", ")));
    }
    if !restart.is_empty() {
        lines.push(format!("needs a restart: {}", restart.join(", ")));
    }
    if let Some(late @ 1..) = row["late_workers"].as_u64() {
        let verb = if late == 1 { "changes" } else { "change" };
        lines.push(format!("{} {verb} over later", counted(late, "busy worker")));
    }
    if row["certificates"].as_u64().is_some_and(|count| count > 0) {
        lines.push("certificates were read again".to_owned());
    }
    let (loaded, gone) = (words("plugins_loaded"), words("plugins_gone"));
    if !loaded.is_empty() {
        lines.push(format!("plugins loaded: {}", loaded.join(", ")));
    }
    if !gone.is_empty() {
        lines.push(format!("plugins not asked any more: {}", gone.join(", ")));
    }
    lines
}

/// `rohrpost drain`: waits until nothing is under way.
pub fn drain(what: Drain) -> u8 {
    with_directory(what.arguments, |directory| {
        let request = if what.off { Request::Resume } else { Request::Drain };
        if let Err(error) = ask_once(directory, &request) {
            return complain(error, cli::EXIT_TRY_AGAIN);
        }
        if what.off {
            say("mail is taken again");
            return 0;
        }
        match await_rest(directory, what.patience) {
            Ok(rest) if rest.is_at_rest() => {
                say(format_args!(
                    "drained: {} left for later attempts",
                    counted(rest.queued, "mail")
                ));
                0
            }
            Ok(Rest { recovering: true, .. }) => complain(
                "still draining: mail from before the start is still being read",
                cli::EXIT_TRY_AGAIN,
            ),
            Ok(rest) => {
                let under_way = counted(rest.under_way, "mail");
                let clients = counted(rest.clients, "client");
                let settling = counted(rest.settling, "outcome");
                let text = format_args!(
                    "still draining: {under_way} due, {settling} not recorded yet, {clients}"
                );
                complain(text, cli::EXIT_TRY_AGAIN)
            }
            Err(error) => complain(error, cli::EXIT_TRY_AGAIN),
        }
    })
}

/// How far a drain is.
struct Rest {
    /// Nobody knows yet what is due.
    recovering: bool,
    queued: u64,
    under_way: u64,
    committing: u64,
    settling: u64,
    clients: u64,
}

impl Rest {
    fn of(status: &Value) -> Rest {
        let count = |field: &str| status[field].as_u64().unwrap_or(0);
        Rest {
            recovering: status["queue"]["recovering"] == true,
            queued: count("queued"),
            under_way: count("under_way"),
            committing: count("committing"),
            settling: count("settling"),
            clients: count("incoming_connections"),
        }
    }

    fn is_at_rest(&self) -> bool {
        let busy = self.under_way + self.committing + self.settling + self.clients;
        busy == 0 && !self.recovering
    }
}

/// Looks until nothing is under way, or the time is over.
fn await_rest(directory: &Path, patience: Duration) -> Result<Rest, ControlError> {
    let end = Instant::now() + patience;
    loop {
        let rows = ask_once(directory, &Request::Status)?;
        let rest = Rest::of(rows.first().unwrap_or(&Value::Null));
        if rest.is_at_rest() || Instant::now() >= end {
            return Ok(rest);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reload_is_told_in_sentences() {
        let row = json!({
            "applied": ["log-level"], "restart": ["smtp-port"], "late_workers": 0, "warnings": [],
        });
        let lines = told(&row);
        assert_eq!(lines[..2], ["changed: log-level", "needs a restart: smtp-port"]);
        let row = json!({ "applied": [], "restart": [], "late_workers": 1, "warnings": ["hm"] });
        let lines = told(&row);
        assert_eq!(lines[..2], ["warning: hm", "the settings are as they were"]);
        assert_eq!(lines[2], "1 busy worker changes over later");
    }

    #[test]
    fn a_drain_is_over_when_nothing_is_due() {
        let busy = json!({ "queued": 2, "under_way": 1 });
        assert!(!Rest::of(&busy).is_at_rest());
        assert!(Rest::of(&json!({ "queued": 2, "under_way": 0 })).is_at_rest());
        for waits in ["committing", "settling", "incoming_connections"] {
            let status = json!({ "queued": 2, "under_way": 0, waits: 1 });
            assert!(!Rest::of(&status).is_at_rest(), "{waits}");
        }
        let unread = json!({ "queued": 0, "under_way": 0, "queue": { "recovering": true } });
        assert!(!Rest::of(&unread).is_at_rest());
    }
}
