//! The author's kit: `rohrpost plugin`, run on plugins that the tests write and compile.
//!
//! **Diagnostics**: what the program said is part of every message.

mod bench;
mod check;
mod dialogue;
mod guide;
mod layers;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{PATIENCE, Process};

/// How a run of `rohrpost plugin` ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `rohrpost plugin` to its end.
pub(crate) fn kit(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
    kit_with(arguments, [] as [(&str, &str); 0])
}

/// The same, with variables of the environment.
pub(crate) fn kit_with(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    command.arg("plugin").args(arguments).envs(environment).stdin(Stdio::null());
    let mut process = Process::spawn("rohrpost plugin", &mut command);
    let code = process.wait(PATIENCE).code();
    Said { code, stdout: process.stdout.complete(), stderr: process.stderr.complete() }
}

/// Compiles `text` with the arguments of the caller alone, besides what makes a plugin of it.
pub(crate) fn compile(folder: &Path, name: &str, text: &str, arguments: &[&str]) -> PathBuf {
    let plus = name.ends_with(".cpp");
    let source = folder.join(name);
    std::fs::write(&source, text).unwrap();
    let object = source.with_extension("so");
    let mut command = Command::new(if plus { "g++" } else { "gcc" });
    command.args(["-shared", "-fPIC", "-g", "-I"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/include"));
    command.arg("-o").arg(&object).arg(&source).args(arguments);
    let mut compiler = Process::spawn("the compiler", &mut command);
    assert!(compiler.wait(PATIENCE).success(), "{name} does not compile\n{compiler}");
    object
}
