//! The subcommands: what each does, and the code it exits with.
//!
//! Must never: parse arguments (`cli`) or hold state.
//!
//! **Diagnostics**: one sentence on stderr, and an exit code of `cli`.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::cli::{self, Check, Command, Listing, Run};
use crate::control::{self, Request};
use crate::settings::{self, Arguments, Located, Machine, Report, Settings, Sources};
use crate::view::counted;
use crate::{keeper, load, manual, plugin_kit, sink, supervisor, upkeep};

mod queue;

/// How long a running server may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(10);

/// Does what was asked; returns the exit code.
pub fn run(command: Command) -> u8 {
    match command {
        Command::Run(run) if run.supervise => keeper::run(),
        Command::Run(run) => serve(run),
        Command::Check(check) => check_settings(check),
        Command::Sink(sink) => match sink::run(&sink) {
            Ok(()) => 0,
            Err(error) => complain(&error, error.exit()),
        },
        Command::Load(load) => load::run(&load),
        Command::Queue(queue) => match locate(queue.arguments) {
            Ok(directory) => queue::run(&directory, &queue.view),
            Err(report) => complain(report, cli::EXIT_SETTINGS),
        },
        Command::Status(status) => upkeep::status(status),
        Command::Reload(reload) => upkeep::reload(reload),
        Command::Drain(drain) => upkeep::drain(drain),
        Command::Plugin(plugin) => plugin_kit::run(&plugin),
        Command::Man => print(manual::page()),
        Command::Completions(shell) => print(manual::completions(shell)),
    }
}

/// Where the queue is that a command is about. Other settings may be wrong: whoever has just broken one
/// must still be able to look.
pub(crate) fn locate(arguments: Arguments) -> Result<PathBuf, Report> {
    let sources = Sources::of_process(arguments);
    let Located { directory, mistakes } = Settings::queue_directory(&sources, &Machine::detect())?;
    if mistakes > 0 {
        let mistakes = counted(mistakes, "mistake");
        let text = "(see `rohrpost check`), of no matter here";
        warn(format_args!("rohrpost: the settings have {mistakes} {text}"));
    }
    Ok(directory)
}

/// A line on stdout; whoever closed it wants no more.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn print(bytes: Vec<u8>) -> u8 {
    let _ = std::io::stdout().write_all(&bytes);
    0
}

/// A line on stderr; the exit code tells whoever closed it.
pub(crate) fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn complain(what: impl Display, exit: u8) -> u8 {
    warn(format_args!("rohrpost: {}", what.to_string().trim_end()));
    exit
}

fn serve(run: Run) -> u8 {
    let sources = Sources::of_process(run.arguments);
    let loaded = match Settings::load(&sources, &Machine::detect()) {
        Ok(loaded) => loaded,
        Err(report) => return complain(report, cli::EXIT_SETTINGS),
    };
    match supervisor::run(sources, loaded, run.keeper) {
        Ok(0) if run.keeper.is_some() => keeper::EXIT_ORDERED,
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
            loaded.warnings.iter().for_each(|warning| warn(format_args!("warning: {warning}")));
            if check.listing == Listing::None {
                say("the settings are usable");
            }
            match check.rehearse.then(|| supervisor::rehearse(&loaded.settings)) {
                None => 0,
                Some(Ok(found)) => {
                    found.iter().for_each(say);
                    0
                }
                Some(Err(error)) => complain(&error, error.exit()),
            }
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
