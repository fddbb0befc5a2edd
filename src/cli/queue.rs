//! The arguments of `rohrpost queue`: what to look at, to take, to remove or to try again.
//!
//! Never does any of it.
//!
//! Diagnostics: as the rest of the command line.

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Shown, required, settings_of, with_settings};
use crate::control::Which;
use crate::settings::Arguments;

/// Messages that `queue list` shows.
const LIST_LINES_DEFAULT: &str = "1000";
/// Ids of one command: a request is bounded.
const IDS_MAX: usize = 1_000;

/// A question about the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Queue {
    /// Where the settings come from, of which only `queue-directory` matters.
    pub arguments: Arguments,
    /// The question.
    pub view: QueueView,
}

/// What to show of the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum QueueView {
    /// How much is in it.
    Count,
    /// One line a message.
    List {
        /// Lines at most.
        limit: u32,
    },
    /// One line a destination, those with the most mail first; a running server's only.
    Destinations {
        /// Lines at most.
        limit: u32,
    },
    /// All that is known of one message.
    Show {
        /// The message's id, as `list` prints it.
        id: String,
    },
    /// Take results out of a named queue.
    Take {
        /// The queue.
        name: String,
        /// Results at most.
        max: u64,
        /// Wait for more when it is empty.
        follow: bool,
    },
    /// Remove messages.
    Remove {
        /// Their ids, or those of transactions.
        ids: Vec<String>,
    },
    /// Try waiting messages now.
    Retry(Which),
}

pub(super) fn command() -> clap::Command {
    let limit = Arg::new("limit")
        .long("limit")
        .value_name("N")
        .value_parser(value_parser!(u32))
        .default_value(LIST_LINES_DEFAULT)
        .help("Messages to list at most");
    let id = Arg::new("id").value_name("ID").required(true).help("The id that `list` prints");
    let destinations = clap::Command::new("destinations")
        .about("Print one line a destination: its mail, its connections, and what it waits for")
        .arg(limit.clone());
    let list = clap::Command::new("list").about("Print one line a message").arg(limit);
    let show = clap::Command::new("show").about("Print all that is known of a message").arg(id);
    let count = clap::Command::new("count").about("Print how much is in the queue");
    let queue = clap::Command::new("queue").about("Look at the queue").subcommand_required(true);
    let views =
        [count, destinations, list, show, take_command(), remove_command(), retry_command()];
    let views = views.map(|view| with_settings(view, Shown::QueueOnly));
    queue.arg_required_else_help(true).subcommands(views)
}

fn take_command() -> clap::Command {
    clap::Command::new("take")
        .about(
            "Take results out of a named queue: one JSON object a line; they leave it when written",
        )
        .arg(Arg::new("name").value_name("QUEUE").required(true).help("The queue"))
        .arg(
            Arg::new("max")
                .long("max")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Results to take at most [default: all]"),
        )
        .arg(
            Arg::new("follow")
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Wait for more when the queue is empty"),
        )
}

fn remove_command() -> clap::Command {
    let ids = Arg::new("id").value_name("ID").required(true).num_args(1..=IDS_MAX);
    clap::Command::new("remove")
        .about("Remove messages; their senders hear nothing of it")
        .arg(ids.help("Ids that `list` prints, or what stands before the `-` of one for all of it"))
}

fn retry_command() -> clap::Command {
    let ids = Arg::new("id").value_name("ID").num_args(1..=IDS_MAX);
    clap::Command::new("retry")
        .about("Try waiting messages now")
        .arg(ids.help("Ids that `list` prints, or what stands before the `-` of one for all of it"))
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("All that wait"))
        .arg(
            Arg::new("recipient-domain")
                .long("recipient-domain")
                .value_name("DOMAIN")
                .help("Those to recipients in this domain"),
        )
        .group(clap::ArgGroup::new("which").args(["id", "all", "recipient-domain"]).required(true))
}

fn ids(matches: &ArgMatches) -> Vec<String> {
    matches.get_many("id").into_iter().flatten().cloned().collect()
}

fn which(matches: &ArgMatches) -> Which {
    match matches.get_one::<String>("recipient-domain") {
        Some(domain) => Which::RecipientDomain(domain.clone()),
        None if matches.get_flag("all") => Which::All,
        None => Which::Ids(ids(matches)),
    }
}

pub(super) fn read(matches: &ArgMatches) -> Queue {
    let (name, matches) = matches.subcommand().expect("a subcommand is required");
    let view = match name {
        "count" => QueueView::Count,
        "list" => QueueView::List { limit: required(matches, "limit") },
        "destinations" => QueueView::Destinations { limit: required(matches, "limit") },
        "show" => QueueView::Show { id: required(matches, "id") },
        "take" => QueueView::Take {
            name: required(matches, "name"),
            max: matches.get_one("max").copied().unwrap_or(u64::MAX),
            follow: matches.get_flag("follow"),
        },
        "remove" => QueueView::Remove { ids: ids(matches) },
        "retry" => QueueView::Retry(which(matches)),
        other => unreachable!("`{other}` is not among the subcommands of this file"),
    };
    Queue { arguments: settings_of(matches), view }
}
