//! Plugins compiled from C by the test that loads them.
//!
//! It owns the compiler's command line: the one that the header promises to work. **Diagnostics**: a
//! source that does not compile without a warning panics with what the compiler said.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{library::Library, process::Process, wait::PATIENCE};

/// What the compiled code shall watch of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sanitizer {
    /// Nothing.
    Off,
    /// Addresses; the process that loads it must be started with [`asan_library`] in `LD_PRELOAD`.
    Address,
}

/// Compiles `source` (`.c` or `.cpp`) into `directory/NAME.so` and returns that path.
pub(crate) fn compile_plugin(
    source: &Path,
    directory: &Path,
    name: &str,
    sanitizer: Sanitizer,
) -> PathBuf {
    compile_plugin_with(source, directory, name, sanitizer, &[])
}

/// As [`compile_plugin`], linked with `libraries`.
pub(crate) fn compile_plugin_with(
    source: &Path,
    directory: &Path,
    name: &str,
    sanitizer: Sanitizer,
    libraries: &[Library],
) -> PathBuf {
    std::fs::create_dir_all(directory).expect("a plugin directory can be made");
    let output = directory.join(format!("{name}.so"));
    let plus = source.extension().is_some_and(|extension| extension != "c");
    let mut command = Command::new(if plus { "g++" } else { "gcc" });
    command.args([
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-g",
        "-O1",
        "-Wall",
        "-Werror",
        "-I",
    ]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/include"));
    match sanitizer {
        Sanitizer::Off => (),
        Sanitizer::Address => {
            command.args(["-fsanitize=address", "-fno-omit-frame-pointer"]);
        }
    }
    if !libraries.is_empty() {
        command.args(Library::headers());
    }
    command.arg("-o").arg(&output).arg(source);
    if !libraries.is_empty() {
        command.args(Library::places()).args(libraries.iter().map(|library| library.link()));
    }
    let mut compiler = Process::spawn("the C compiler", &mut command);
    let status = compiler.wait(PATIENCE);
    assert!(status.success(), "{} does not compile\n{compiler}", source.display());
    output
}

/// The sanitizer's library, to be loaded before everything else.
pub(crate) fn asan_library() -> PathBuf {
    let mut command = Command::new("gcc");
    command.arg("-print-file-name=libasan.so");
    let mut compiler = Process::spawn("gcc", &mut command);
    assert!(compiler.wait(PATIENCE).success(), "{compiler}");
    PathBuf::from(compiler.stdout.complete().trim())
}

#[test]
fn a_plain_c_source_becomes_a_shared_object() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("answer.c");
    std::fs::write(&source, "int answer(void) { return 42; }\n").unwrap();
    for (name, sanitizer) in [("plain", Sanitizer::Off), ("watched", Sanitizer::Address)] {
        let object = compile_plugin(&source, directory.path(), name, sanitizer);
        assert!(std::fs::read(object).unwrap().starts_with(b"\x7fELF"), "{name}");
    }
    assert!(asan_library().is_absolute());
}
