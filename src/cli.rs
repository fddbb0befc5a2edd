//! The command line: arguments in, a typed [`Command`] out.
//!
//! Owns the names of subcommands and options, the help text and the exit codes. Options that set
//! settings are made from the table of settings, so that none can be forgotten. Never does what a
//! command asks for, and never looks at a setting's value: that is `settings/`.
//!
//! Diagnostics: [`Stop`], which carries the text to print and the exit code: 0 for help and
//! version, 64 for wrong usage.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use clap_complete::Shell;

use crate::settings::{self, Arguments};

mod load;
mod plugin;
mod queue;
pub use load::{Extent, Flight, Load, LoadTls, LoginFile, Share};
pub use plugin::{Language, Plugin, PluginBench, PluginCheck, PluginNew, PluginTest, PluginTop};
pub use queue::{Queue, QueueView};

/// The command was used wrongly (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// The program found a bug in itself (`EX_SOFTWARE`).
pub const EXIT_BUG: u8 = 70;
/// Something is not available now; trying again may help (`EX_TEMPFAIL`).
pub const EXIT_TRY_AGAIN: u8 = 75;
/// The settings are wrong (`EX_CONFIG`).
pub const EXIT_SETTINGS: u8 = 78;

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the server until told to stop.
    Run(Run),
    /// Check the settings and do nothing else.
    Check(Check),
    /// Be a server that takes mail and throws it away.
    Sink(Sink),
    /// Send mail and measure.
    Load(Load),
    /// Look at the queue.
    Queue(Queue),
    /// Say how the server is.
    Status(Status),
    /// Have the server read its settings again.
    Reload(Reload),
    /// Have the server take no mail, or take it again.
    Drain(Drain),
    /// Help an author with a plugin.
    Plugin(Plugin),
    /// Print the manual page.
    Man,
    /// Print what a shell needs to complete our words.
    Completions(Shell),
}

/// How the server runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Where the settings come from.
    pub arguments: Arguments,
    /// Start it in a process of its own, and again when it crashes (`--supervise`).
    pub supervise: bool,
    /// The process that did so: when that is gone, this one ends. For `--supervise` itself.
    pub keeper: Option<u32>,
}

/// A question about the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// Where the settings come from, of which only `queue-directory` matters.
    pub arguments: Arguments,
    /// What is printed.
    pub form: StatusForm,
}

/// How a status is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusForm {
    /// One JSON object.
    Json,
    /// One line a field, with what it means (`--table`).
    Table,
    /// What the fields mean, as Markdown for the documentation; no server is asked (`--explain`).
    Explain,
}

/// What is to be read again.
#[derive(Debug, PartialEq, Eq)]
pub struct Reload {
    /// Where the settings come from, of which only `queue-directory` matters.
    pub arguments: Arguments,
    /// The log files alone are opened again (`--logs`).
    pub logs: bool,
}

/// Whether mail is taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Drain {
    /// Where the settings come from, of which only `queue-directory` matters.
    pub arguments: Arguments,
    /// Mail is taken again (`--off`).
    pub off: bool,
    /// How long to wait until nothing is under way any more.
    pub patience: Duration,
}

/// What `check` shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// Where the settings come from.
    pub arguments: Arguments,
    /// What else to print.
    pub listing: Listing,
    /// Whether to try what a start does before it takes mail (`--start`).
    pub rehearse: bool,
}

/// What `check` prints besides problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Nothing.
    None,
    /// All settings with defaults, allowed values and meaning (`--list`).
    Text,
    /// The same as Markdown, for the documentation (`--markdown`).
    Markdown,
}

/// How a sink behaves. Its purpose is to be delivered to: in benchmarks and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What becomes of a received message.
    pub output: SinkOutput,
    /// Time to wait before the answer to each command.
    pub command_delay: Duration,
    /// Time to wait before the answer to the final dot.
    pub dot_delay: Duration,
    /// Commands to refuse, each with its own chance; the first that strikes is used.
    pub refusals: Vec<Refusal>,
    /// Messages on one connection after which it is closed without a word.
    pub close_after: Option<NonZeroU32>,
    /// A file to which each message is appended as one JSON line: envelope, recipients, body.
    pub dump: Option<PathBuf>,
    /// Threads, among which the system divides connections; several only where all is discarded.
    pub threads: u32,
}

/// What becomes of a message that a sink received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkOutput {
    /// It is counted; a status line says how many came.
    Count,
    /// Envelope, recipients, headers and text are printed.
    Print {
        /// Lines of a message that are printed at most.
        lines_max: u32,
    },
    /// Nothing at all.
    Discard,
}

/// A refusal with a chance: `rcpt=550@10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// When it strikes.
    pub phase: SinkPhase,
    /// The code to answer, from 400 to 599.
    pub code: u16,
    /// How many of a hundred are struck, from 1 to 100.
    pub percent: u8,
}

/// A step of the dialogue that a sink can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkPhase {
    /// The greeting.
    Connect,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// The final dot.
    Dot,
}

/// Why there is no command: something to print, and the code to exit with.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// The text, which ends with a newline.
    pub text: String,
    /// 0 (print to standard output) or [`EXIT_USAGE`] (print to standard error).
    pub exit: u8,
}

/// Reads the arguments, the program's own name first.
///
/// # Errors
/// Help and version, which were asked for, and wrong usage.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let matches = program().try_get_matches_from(arguments).map_err(|error| Stop {
        text: error.to_string(),
        exit: if error.use_stderr() { EXIT_USAGE } else { 0 },
    })?;
    let (name, matches) = matches.subcommand().expect("a subcommand is required");
    Ok(match name {
        "run" => Command::Run(Run {
            arguments: settings_of(matches),
            supervise: matches.get_flag("supervise"),
            keeper: matches.get_one("keeper").copied(),
        }),
        "check" => Command::Check(check(matches)),
        "sink" => Command::Sink(sink(matches)),
        "load" => Command::Load(load::read(matches)),
        "queue" => Command::Queue(queue::read(matches)),
        "status" => Command::Status(Status {
            arguments: settings_of(matches),
            form: match (matches.get_flag("table"), matches.get_flag("explain")) {
                (true, _) => StatusForm::Table,
                (false, true) => StatusForm::Explain,
                (false, false) => StatusForm::Json,
            },
        }),
        "reload" => Command::Reload(Reload {
            arguments: settings_of(matches),
            logs: matches.get_flag("logs"),
        }),
        "drain" => Command::Drain(Drain {
            arguments: settings_of(matches),
            off: matches.get_flag("off"),
            patience: Duration::from_secs(required(matches, "timeout")),
        }),
        "plugin" => Command::Plugin(plugin::read(matches)),
        "man" => Command::Man,
        "completions" => Command::Completions(required(matches, "shell")),
        other => unreachable!("`{other}` is not among the subcommands of this file"),
    })
}

/// The whole command line, as clap knows it.
pub fn program() -> clap::Command {
    clap::Command::new("rohrpost")
        .about("An open mail transfer runtime")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(run_command(), Shown::All))
        .subcommand(with_settings(check_command(), Shown::All))
        .subcommand(sink_command())
        .subcommand(load::command())
        .subcommand(queue::command())
        .subcommands(upkeep().map(|command| with_settings(command, Shown::QueueOnly)))
        .subcommand(plugin::command())
        .subcommand(
            clap::Command::new("man").about("Print the manual page, for `man -l -` or a package"),
        )
        .subcommand(
            clap::Command::new("completions")
                .about("Print a script that lets a shell complete words of this program")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
        )
}

/// The subcommands that an operator uses on a running server.
fn upkeep() -> [clap::Command; 3] {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let status = clap::Command::new("status")
        .about("Say how the running server is, as JSON")
        .arg(flag("table").help("Print one line a field, with what it means"))
        .arg(
            flag("explain")
                .conflicts_with("table")
                .help("Print what the fields mean, as Markdown; asks no server"),
        );
    let reload = clap::Command::new("reload")
        .about("Have the running server read its settings again; 78 if they are not usable")
        .arg(flag("logs").help("Only open the log files again, as SIGHUP does"));
    let timeout = Arg::new("timeout")
        .long("timeout")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64).range(..=DRAIN_S_MAX))
        .default_value(DRAIN_S_DEFAULT)
        .help("Wait so long at most; 75 if mail is under way then");
    let drain = clap::Command::new("drain")
        .about("Have the running server take no mail, and wait until what is due is delivered")
        .arg(flag("off").help("Take mail again"))
        .arg(timeout);
    [status, reload, drain]
}

/// Which settings the help text of a command lists; all of them are taken by each command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// All.
    All,
    /// Where the queue is, which is all that a command needs that asks a running server.
    QueueOnly,
}

/// Adds `--config-file` and an option for every setting, those of MailerQ included.
fn with_settings(command: clap::Command, shown: Shown) -> clap::Command {
    let file = Arg::new("config-file")
        .long("config-file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("A file of settings, read after {}", settings::MAIN_FILE));
    let own = settings::keys().map(move |key| {
        setting(key.name)
            .aliases(key.aliases.iter().copied())
            .help(help(key))
            .hide(shown == Shown::QueueOnly && key.name != "queue-directory")
    });
    // These are warned of, like the same names in a file, rather than refused.
    let foreign = settings::foreign_keys().filter(|name| *name != "config-file");
    command
        .next_help_heading("Settings")
        .arg(file)
        .args(own)
        .args(foreign.map(|name| setting(name).hide(true)))
}

fn setting(name: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("VALUE").action(ArgAction::Append)
}

fn help(key: &settings::Key) -> String {
    let default = match key.default_text() {
        "" => "empty",
        text => text,
    };
    format!("{} [default: {default}] [allowed: {}]", key.meaning(), key.allowed())
}

fn settings_of(matches: &ArgMatches) -> Arguments {
    let names = settings::keys().map(|key| key.name).chain(settings::foreign_keys());
    let values = names.filter(|name| *name != "config-file").flat_map(|name| {
        let given = matches.get_many::<String>(name).into_iter().flatten();
        given.map(move |value| (name.to_owned(), value.clone()))
    });
    Arguments {
        config_file: matches.get_one::<PathBuf>("config-file").cloned(),
        values: values.collect(),
    }
}

fn run_command() -> clap::Command {
    let supervise = Arg::new("supervise")
        .long("supervise")
        .action(ArgAction::SetTrue)
        .help("Run the server in a process of its own, and start it again when it crashes");
    let keeper = Arg::new("keeper")
        .long("keeper")
        .value_name("PID")
        .value_parser(value_parser!(u32))
        .conflicts_with("supervise")
        .hide(true);
    clap::Command::new("run").about("Receive, queue and deliver mail").arg(supervise).arg(keeper)
}

fn check_command() -> clap::Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    clap::Command::new("check")
        .about("Check the settings and exit: 0 if they are usable, 78 if not")
        .arg(flag("start").help("Also open the ports, load the plugins, and close all again"))
        .arg(flag("list").help("Print all settings with defaults, allowed values and meaning"))
        .arg(flag("markdown").help("Print the same as Markdown").conflicts_with("list"))
}

fn check(matches: &ArgMatches) -> Check {
    let listing = match (matches.get_flag("list"), matches.get_flag("markdown")) {
        (true, _) => Listing::Text,
        (false, true) => Listing::Markdown,
        (false, false) => Listing::None,
    };
    let rehearse = matches.get_flag("start");
    Check { arguments: settings_of(matches), listing, rehearse }
}

fn sink_command() -> clap::Command {
    let option = |name: &'static str, value| Arg::new(name).long(name).value_name(value);
    let delay = |name| {
        option(name, "MS")
            .value_parser(value_parser!(u64).range(..=DELAY_MS_MAX))
            .default_value("0")
    };
    clap::Command::new("sink")
        .about("Receive mail and throw it away, for benchmarks and tests")
        .arg(
            option("listen", "ADDRESS:PORT")
                .value_parser(value_parser!(SocketAddr))
                .default_value(SINK_LISTEN_DEFAULT)
                .help("Where to listen; port 0 lets the system choose"),
        )
        .arg(
            option("print", "LINES")
                .value_parser(value_parser!(u32))
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(PRINT_LINES_DEFAULT)
                .help("Print each message: envelope, recipients and up to LINES lines [20]"),
        )
        .arg(
            Arg::new("discard")
                .long("discard")
                .action(ArgAction::SetTrue)
                .conflicts_with("print")
                .help("Print nothing; without this and --print, messages are counted"),
        )
        .arg(delay("delay-ms").help("Wait before the answer to each command"))
        .arg(delay("delay-dot-ms").help("Wait before the answer to the final dot"))
        .arg(
            option("refuse", "PHASE=CODE[@PERCENT%]")
                .value_parser(refusal)
                .action(ArgAction::Append)
                .help("Refuse with a chance, e.g. rcpt=550@10%; phases: connect, mail, rcpt, dot"),
        )
        .arg(
            option("close-after", "N")
                .value_parser(value_parser!(NonZeroU32))
                .help("Close a connection without a word after N messages"),
        )
        .arg(
            option("dump", "FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Append each message to FILE as one JSON line"),
        )
        .arg(
            option("threads", "N")
                .value_parser(value_parser!(u32).range(1..=SINK_THREADS_MAX))
                .requires("discard")
                .conflicts_with("dump")
                .help("Take mail by N threads instead of one"),
        )
}

fn sink(matches: &ArgMatches) -> Sink {
    let output = match (matches.get_one::<u32>("print"), matches.get_flag("discard")) {
        (Some(lines), _) => SinkOutput::Print { lines_max: *lines },
        (None, true) => SinkOutput::Discard,
        (None, false) => SinkOutput::Count,
    };
    Sink {
        listen: required(matches, "listen"),
        output,
        command_delay: Duration::from_millis(required(matches, "delay-ms")),
        dot_delay: Duration::from_millis(required(matches, "delay-dot-ms")),
        refusals: matches.get_many("refuse").into_iter().flatten().copied().collect(),
        close_after: matches.get_one("close-after").copied(),
        dump: matches.get_one("dump").cloned(),
        threads: matches.get_one("threads").copied().unwrap_or(1),
    }
}

/// Reads `rcpt=550@10%`; without a percentage all are refused.
/// Reads `PHASE=CODE[@PERCENT%]`.
pub(crate) fn refusal(text: &str) -> Result<Refusal, String> {
    let (phase, rest) = text.split_once('=').ok_or("it has no `=`")?;
    let (code, percent) = rest.split_once('@').unwrap_or((rest, "100%"));
    let phase = match phase.to_ascii_lowercase().as_str() {
        "connect" => SinkPhase::Connect,
        "mail" => SinkPhase::Mail,
        "rcpt" => SinkPhase::Rcpt,
        "dot" => SinkPhase::Dot,
        _ => return Err("the phase is none of connect, mail, rcpt, dot".into()),
    };
    let code = code.parse().ok().filter(|code| (400..=599).contains(code));
    let percent = percent.strip_suffix('%').unwrap_or(percent).parse().ok();
    let percent = percent.filter(|percent| (1..=100).contains(percent));
    Ok(Refusal {
        phase,
        code: code.ok_or("the code is not from 400 to 599")?,
        percent: percent.ok_or("the percentage is not from 1 to 100")?,
    })
}

fn required<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> T {
    matches.get_one::<T>(name).expect("the option is required or has a default").clone()
}

/// Seconds that `drain` waits.
const DRAIN_S_DEFAULT: &str = "300";
/// Whoever waits longer than a day should look again.
const DRAIN_S_MAX: u64 = 86_400;
const SINK_LISTEN_DEFAULT: &str = "127.0.0.1:2600";
/// More than any machine has processors to spare for a sink.
const SINK_THREADS_MAX: i64 = 256;
/// Lines of a message that `sink --print` shows.
const PRINT_LINES_DEFAULT: &str = "20";
/// A sink that waits longer than this has hung: one hour.
const DELAY_MS_MAX: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Command, Stop> {
        parse(std::iter::once("rohrpost").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        program().debug_assert();
    }

    #[test]
    fn every_setting_is_an_option_of_run_and_is_in_its_help() {
        let help = parse_words("run --help").unwrap_err();
        assert_eq!(help.exit, 0);
        for key in settings::keys() {
            assert!(help.text.contains(&format!("--{} ", key.name)), "{} is missing", key.name);
        }
        assert!(!help.text.contains("--rabbitmq-address"));
    }

    #[test]
    fn both_spellings_of_an_override_are_taken_in_order() {
        let line = "run --smtp-port=1 --smtp-port 2 --config-file /etc/x --rabbitmq-qos=5";
        let Ok(Command::Run(Run { arguments, .. })) = parse_words(line) else {
            panic!("not a run")
        };
        assert_eq!(arguments.config_file, Some("/etc/x".into()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("smtp-port", "1"), pair("smtp-port", "2"), pair("rabbitmq-qos", "5")];
        assert_eq!(arguments.values, expected);
    }

    #[test]
    fn an_alias_sets_the_key_it_stands_for() {
        let Ok(Command::Run(Run { arguments, .. })) = parse_words("run --smtp-ranges=all") else {
            panic!()
        };
        assert_eq!(arguments.values, [("smtp-range".to_owned(), "all".to_owned())]);
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let Ok(Command::Run(Run { arguments, .. })) = parse_words("run --smarthost=") else {
            panic!()
        };
        assert_eq!(arguments.values, [("smarthost".to_owned(), String::new())]);
    }

    #[test]
    fn wrong_usage_exits_with_64_and_says_why() {
        let cases = [
            ("", "Usage"),
            ("fly", "fly"),
            ("statsu", "'status'"),
            ("drain --timeout=x", "timeout"),
            ("completions", "<shell>"),
            ("run --smtp-prot=1", "--smtp-port"),
            ("run --smtp-port", "VALUE"),
            ("queue", "Usage"),
            ("queue show", "<ID>"),
            ("plugin", "Usage"),
            ("plugin check", "<FILE>"),
            ("sink --refuse=rcpt", "it has no `=`"),
            ("sink --refuse=rcpt=250", "400 to 599"),
            ("sink --refuse=rcpt=550@0%", "1 to 100"),
            ("sink --print --discard", "cannot be used with"),
            ("sink --threads 2", "--discard"),
            ("sink --threads 2 --discard --dump x", "cannot be used with"),
            ("sink --listen=here", "here"),
            ("sink --close-after=0", "close-after"),
        ];
        for (line, part) in cases {
            let stop = parse_words(line).unwrap_err();
            assert_eq!(stop.exit, EXIT_USAGE, "{line}");
            assert!(stop.text.contains(part), "{line}: {}", stop.text);
        }
    }

    #[test]
    fn version_and_help_exit_with_0() {
        let list = parse_words("queue list --help").unwrap_err().text;
        assert!(list.contains("--queue-directory ") && !list.contains("--smtp-port "));
        for line in ["--version", "--help", "sink --help", "queue list --help"] {
            assert_eq!(parse_words(line).unwrap_err().exit, 0, "{line}");
        }
        let version = parse_words("--version").unwrap_err().text;
        assert_eq!(version, format!("rohrpost {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_running_server_is_looked_after() {
        let arguments = Arguments::default;
        let status = Status { arguments: arguments(), form: StatusForm::Json };
        assert_eq!(parse_words("status"), Ok(Command::Status(status)));
        let reload = Reload { arguments: arguments(), logs: true };
        assert_eq!(parse_words("reload --logs"), Ok(Command::Reload(reload)));
        let patience = Duration::from_secs(300);
        let drain = Drain { arguments: arguments(), off: true, patience };
        assert_eq!(parse_words("drain --off"), Ok(Command::Drain(drain)));
        let patience = Duration::from_secs(5);
        let drain = Drain { arguments: arguments(), off: false, patience };
        assert_eq!(parse_words("drain --timeout=5"), Ok(Command::Drain(drain)));
        assert_eq!(parse_words("completions fish"), Ok(Command::Completions(Shell::Fish)));
    }

    #[test]
    fn check_says_what_to_list() {
        let listing = |line: &str| match parse_words(line) {
            Ok(Command::Check(check)) => check.listing,
            other => panic!("{other:?}"),
        };
        assert_eq!(listing("check"), Listing::None);
        assert_eq!(listing("check --list"), Listing::Text);
        assert_eq!(listing("check --markdown"), Listing::Markdown);
    }

    #[test]
    fn queue_views_are_told_apart() {
        let view = |line: &str| match parse_words(line) {
            Ok(Command::Queue(queue)) => (queue.view, queue.arguments.values),
            other => panic!("{other:?}"),
        };
        let directory = vec![("queue-directory".to_owned(), "/q".to_owned())];
        assert_eq!(view("queue count"), (QueueView::Count, vec![]));
        assert_eq!(view("queue list"), (QueueView::List { limit: 1000 }, vec![]));
        assert_eq!(view("queue list --limit 5").0, QueueView::List { limit: 5 });
        let destinations = QueueView::Destinations { limit: 5 };
        assert_eq!(view("queue destinations --limit 5").0, destinations);
        let show = QueueView::Show { id: "7a".into() };
        assert_eq!(view("queue show 7a --queue-directory /q"), (show, directory));
    }

    #[test]
    fn a_sink_counts_on_its_default_port_unless_told_otherwise() {
        let Ok(Command::Sink(sink)) = parse_words("sink") else { panic!() };
        let expected = Sink {
            listen: "127.0.0.1:2600".parse().unwrap(),
            output: SinkOutput::Count,
            command_delay: Duration::ZERO,
            dot_delay: Duration::ZERO,
            refusals: vec![],
            close_after: None,
            dump: None,
            threads: 1,
        };
        assert_eq!(sink, expected);
    }

    #[test]
    fn a_sink_takes_all_its_options() {
        let line = "sink --listen [::1]:0 --print=5 --delay-ms 10 --delay-dot-ms 20 \
                    --refuse rcpt=550@10% --refuse dot=451 --close-after 3 --dump /tmp/x";
        let Ok(Command::Sink(sink)) = parse_words(line) else { panic!() };
        let expected = Sink {
            listen: "[::1]:0".parse().unwrap(),
            output: SinkOutput::Print { lines_max: 5 },
            command_delay: Duration::from_millis(10),
            dot_delay: Duration::from_millis(20),
            refusals: vec![
                Refusal { phase: SinkPhase::Rcpt, code: 550, percent: 10 },
                Refusal { phase: SinkPhase::Dot, code: 451, percent: 100 },
            ],
            close_after: NonZeroU32::new(3),
            dump: Some("/tmp/x".into()),
            threads: 1,
        };
        assert_eq!(sink, expected);
        let Ok(Command::Sink(sink)) = parse_words("sink --print") else { panic!() };
        assert_eq!(sink.output, SinkOutput::Print { lines_max: 20 });
        let Ok(Command::Sink(sink)) = parse_words("sink --discard --threads 4") else { panic!() };
        assert_eq!((sink.output, sink.threads), (SinkOutput::Discard, 4));
    }
}
