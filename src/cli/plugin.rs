//! The arguments of `rohrpost plugin`: what an author wants done with a plugin.
//!
//! Never does any of it.
//!
//! Diagnostics: as the rest of the command line.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::required;

/// What is to be done with a plugin.
#[derive(Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Say whether the server would take it.
    Check(PluginCheck),
    /// Load it and say what came of it: the process that `check` starts.
    Load {
        /// The shared object.
        file: PathBuf,
    },
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
        .arg(flag("no-load").help("Look at the file alone; else a process of its own loads it"));
    let load = clap::Command::new("load").hide(true).arg(file());
    clap::Command::new("plugin")
        .about("Help to write plugins")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check)
        .subcommand(load)
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
        "load" => Plugin::Load { file: file() },
        other => unreachable!("`{other}` is not among the subcommands of this file"),
    }
}
