//! The arguments of `rohrpost plugin`: what an author wants done with a plugin.
//!
//! Never does any of it.
//!
//! Diagnostics: as the rest of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Shown, required, settings_of, with_settings};
use crate::settings::Arguments;

/// What is to be done with a plugin.
#[derive(Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Say whether the server would take it.
    Check(PluginCheck),
    /// Make a folder with a plugin to begin with.
    New(PluginNew),
    /// Play a dialogue against it.
    Test(PluginTest),
    /// Measure what it costs.
    Bench(PluginBench),
    /// Show what the plugins of the running server have and take.
    Top(PluginTop),
    /// Load it and say what came of it: the process that `check` starts.
    Load {
        /// The shared object.
        file: PathBuf,
    },
}

/// A look at the plugins of a running server.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginTop {
    /// Where the settings come from, of which only `queue-directory` matters.
    pub arguments: Arguments,
    /// Whether to print JSON, an object a plugin and look (`--json`).
    pub json: bool,
    /// Whether to look only once (`--once`).
    pub once: bool,
}

/// A plugin to begin with.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginNew {
    /// Its name, and that of the folder.
    pub name: String,
    /// What it is written in.
    pub language: Language,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++, on `mailerq.hpp`.
    Cpp,
    /// Rust, on `rohrpost-plugin`.
    Rust,
}

/// A dialogue with a plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginTest {
    /// The shared object.
    pub file: PathBuf,
    /// The dialogue.
    pub dialogue: PathBuf,
    /// How long an answer may take on a real clock.
    pub patience: Duration,
}

/// A measurement of a plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginBench {
    /// The shared object.
    pub file: PathBuf,
    /// How long it takes in all, about.
    pub time: Duration,
    /// Settings of the plugin, by their whole names (`--setting`).
    pub settings: Vec<(String, String)>,
    /// Whether to print one JSON object (`--json`).
    pub json: bool,
}

/// A look at a plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginCheck {
    /// The shared object.
    pub file: PathBuf,
    /// Whether to print one JSON object (`--json`).
    pub json: bool,
    /// Whether nothing of it may run (`--no-load`).
    pub unloaded: bool,
}

/// An answer that takes longer never comes.
/// The language of dialogues in short; the guide for authors has it whole.
const LANGUAGE: &str = "\
A dialogue, a step a line:
  # setting: KEY=VALUE     start the server with this setting
  # hop: rcpt=550          what the next hop refuses
  # misuses: N             so many calls are meant to be misuse
  C: LINE                  the client sends a line; raw: \"a\\nb\\r\\n\" sends bytes
  S: START|START           the next line from the server begins so
  S: CODE-* START, START   a whole reply, in which each of these begins a line
  repeat N STEP            the same N times; n in braces counts them
  half-close, close, drop, client N
  wait 5s                  time passes (ms, s, m, h), and otherwise never
  expect hook NAME [false|held|continue|complete|retry]
  expect back VERDICT, expect passed over, expect callback timer|watch|post|query
  expect log TEXT, expect held N, expect sent TEXT
  expect no ...            of hook, back, callback, log";
const PATIENCE_S_DEFAULT: &str = "5";
const PATIENCE_S_MAX: u64 = 3_600;

pub(super) fn command() -> clap::Command {
    let file = || {
        Arg::new("file")
            .value_name("FILE")
            .required(true)
            .value_parser(value_parser!(PathBuf))
            .help("The shared object")
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let check = clap::Command::new("check")
        .about("Say whether the server would take a plugin; 1 if it would not")
        .arg(file())
        .arg(flag("json").help("Print one JSON object"))
        .arg(flag("no-load").help("Look at the file alone; else a process of its own loads it"))
        .after_help(
            "Of its functions mq_version alone is called: whether mqx_initialize agrees, `plugin test` \
             shows.",
        );
    let dialogue = Arg::new("dialogue")
        .value_name("DIALOGUE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("What is said, and what is to happen");
    let patience = Arg::new("patience")
        .long("patience")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64).range(1..=PATIENCE_S_MAX))
        .default_value(PATIENCE_S_DEFAULT)
        .help("Wait so long for an answer, by a real clock");
    let test = clap::Command::new("test")
        .about("Play a dialogue against a plugin; 1 if something else happens")
        .arg(file())
        .arg(dialogue)
        .arg(patience)
        .after_help(LANGUAGE);
    let seconds = Arg::new("seconds")
        .long("seconds")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64).range(1..=PATIENCE_S_MAX))
        .default_value(PATIENCE_S_DEFAULT)
        .help("Take so long in all, about");
    let setting = Arg::new("setting")
        .long("setting")
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .value_parser(assignment)
        .help("Give it this setting, plugin-NAME-KEY; again for another");
    let bench = clap::Command::new("bench")
        .about("Measure each hook of a plugin, and what it costs two sessions in memory")
        .arg(file())
        .arg(seconds)
        .arg(setting)
        .arg(flag("json").help("Print one JSON object"));
    let name =
        Arg::new("name").value_name("NAME").required(true).help("Its name, and the folder's");
    let new = clap::Command::new("new")
        .about("Make a folder with a plugin to begin with, which builds and passes its test")
        .arg(name)
        .arg(flag("cpp").help("In C++, on mailerq.hpp"))
        .arg(flag("rust").conflicts_with("cpp").help("In safe Rust, on rohrpost-plugin"));
    let top = clap::Command::new("top")
        .about(
            "Show what the plugins of the running server have and take, every second on a terminal",
        )
        .arg(flag("json").help("Print JSON, an object a plugin and look"))
        .arg(flag("once").help("Look only once"));
    let load = clap::Command::new("load").hide(true).arg(file());
    clap::Command::new("plugin")
        .about("Help to write plugins")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check)
        .subcommand(new)
        .subcommand(test)
        .subcommand(bench)
        .subcommand(with_settings(top, Shown::QueueOnly))
        .subcommand(load)
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn read(matches: &ArgMatches) -> Plugin {
    let (name, matches) = matches.subcommand().expect("a subcommand is required");
    let file = || required(matches, "file");
    match name {
        "check" => Plugin::Check(PluginCheck {
            file: file(),
            json: matches.get_flag("json"),
            unloaded: matches.get_flag("no-load"),
        }),
        "test" => Plugin::Test(PluginTest {
            file: file(),
            dialogue: required(matches, "dialogue"),
            patience: Duration::from_secs(required(matches, "patience")),
        }),
        "bench" => Plugin::Bench(PluginBench {
            file: file(),
            time: Duration::from_secs(required(matches, "seconds")),
            settings: matches.get_many("setting").into_iter().flatten().cloned().collect(),
            json: matches.get_flag("json"),
        }),
        "new" => Plugin::New(PluginNew {
            name: required(matches, "name"),
            language: match (matches.get_flag("cpp"), matches.get_flag("rust")) {
                (true, _) => Language::Cpp,
                (false, true) => Language::Rust,
                (false, false) => Language::C,
            },
        }),
        "top" => Plugin::Top(PluginTop {
            arguments: settings_of(matches),
            json: matches.get_flag("json"),
            once: matches.get_flag("once"),
        }),
        "load" => Plugin::Load { file: file() },
        other => unreachable!("`{other}` is not among the subcommands of this file"),
    }
}
