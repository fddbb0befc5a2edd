//! The plugin that is measured where none is named.
//!
//! Diagnostics: panics when it cannot be compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The file in `ROHRPOST_PLUGIN`, or `benches/declines.c`, compiled: it returns false on every hook.
pub(crate) fn plugin() -> PathBuf {
    std::env::var_os("ROHRPOST_PLUGIN").map_or_else(compiled, PathBuf::from)
}

fn compiled() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let object = target.join(format!("declines-{}.so", std::process::id()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    gcc.arg(source.join("abi/include")).arg("-o").arg(&object);
    let status = gcc.arg(source.join("benches/declines.c")).status().expect("gcc runs");
    assert!(status.success(), "declines.c is compiled");
    object
}
