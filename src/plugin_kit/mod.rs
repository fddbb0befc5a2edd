//! The author's kit: what `rohrpost plugin` does for whoever writes a plugin, without a server.
//!
//! | file | owns |
//! |---|---|
//! | `elf` | what a shared object says of itself |
//! | `libraries` | where the libraries that it needs are |
//! | `check`, `finding` | what is wrong with it, and in which words |
//! | `loading` | loading it in a process of its own |
//! | `dialogue`, `stage`, `player` | a plugin against a scripted dialogue, under a manual clock |
//! | `guard` | the end of a dialogue whose plugin does not return |
//! | `project` | a new plugin to begin with |
//! | `measure`, [`pair`] | two sessions in memory, for what a plugin costs |
//!
//! Must never: run the code of a plugin in the process that reports on it, but for the dialogue that
//! the author wrote for it, and to measure it.
//!
//! **Diagnostics**: a report on standard output, and an exit code: 0 all is well, 1 the plugin is
//! not, 64 wrong usage.

mod check;
mod dialogue;
mod elf;
mod finding;
mod guard;
mod libraries;
mod loading;
mod measure;
pub mod pair;
mod player;
mod project;
mod stage;

use crate::cli::{self, Plugin};
use crate::plugin_top;
use crate::program::complain;

/// What was looked at is not as it should be.
pub(crate) const EXIT_FAULTY: u8 = 1;

/// Does what was asked; returns the exit code.
pub fn run(command: &Plugin) -> u8 {
    match command {
        Plugin::Check(check) => check::run(check),
        Plugin::Load { file } => loading::run(file),
        Plugin::Test(test) => player::run(test),
        Plugin::Bench(bench) => measure::run(bench),
        Plugin::Top(top) => plugin_top::run(top),
        Plugin::New(new) => match project::create(new) {
            Ok(()) => 0,
            Err(error) => complain(error, cli::EXIT_USAGE),
        },
    }
}

/// A new folder that goes when its owner does.
fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("rohrpost-plugin-").tempdir()
}
