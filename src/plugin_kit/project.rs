//! `rohrpost plugin new`: a folder with a plugin to begin with, which builds and passes its test.
//!
//! It carries the header, so that it builds on a machine that has nothing of Rohrpost but the program.
//! Must never: write into a folder that is there already.
//!
//! **Diagnostics**: [`ProjectError`], with the path; nothing is left of a project that failed half-way
//! but what the system would not remove.

use std::io;
use std::path::{Path, PathBuf};

use crate::cli::{Language, PluginNew};
use crate::program::say;

/// A name is one for files, C identifiers and crates.
const NAME_BYTES_MAX: usize = 64;

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProjectError {
    /// The name cannot be that of a plugin.
    #[error(
        "{0:?} cannot be the name of a plugin: it wants a letter, then letters, digits, - and _, \
         lower-case, {NAME_BYTES_MAX} at most"
    )]
    Name(String),
    /// The folder is there.
    #[error("{0} exists already")]
    Exists(String),
    /// The folder cannot be written.
    #[error("{} cannot be made: {source}", path.display())]
    Write {
        /// What was to be made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file of a project: its path, and its text, in which `{name}` stands for the name, `{Name}` for it
/// with a capital, and `{ident}` for it as an identifier.
type Template = (&'static str, &'static str);

const HEADER: &str = include_str!("../../abi/include/mailerq.h");
const DIALOGUE: &str = include_str!("template/dialogue.txt");

const C: &[Template] = &[
    ("{name}.c", include_str!("template/c/plugin.c")),
    ("Makefile", include_str!("template/c/Makefile")),
    ("README.md", include_str!("template/c/README.md")),
    (".gitignore", include_str!("template/c/gitignore")),
    ("tests/{name}.txt", DIALOGUE),
];

const CPP: &[Template] = &[
    ("{name}.cpp", include_str!("template/cpp/plugin.cpp")),
    ("Makefile", include_str!("template/cpp/Makefile")),
    ("README.md", include_str!("template/cpp/README.md")),
    (".gitignore", include_str!("template/c/gitignore")),
    ("tests/{name}.txt", DIALOGUE),
];

const RUST: &[Template] = &[
    ("src/lib.rs", include_str!("template/rust/lib.rs.txt")),
    ("Cargo.toml", include_str!("template/rust/Cargo.toml")),
    ("rohrpost-plugin/Cargo.toml", include_str!("template/rust/layer.toml")),
    ("Makefile", include_str!("template/rust/Makefile")),
    ("README.md", include_str!("template/rust/README.md")),
    (".gitignore", include_str!("template/rust/gitignore")),
    ("tests/{name}.txt", DIALOGUE),
];

/// Files in which nothing is filled in.
const C_WHOLE: &[Template] = &[("mailerq.h", HEADER)];
const CPP_WHOLE: &[Template] =
    &[("mailerq.h", HEADER), ("mailerq.hpp", include_str!("../../abi/include/mailerq.hpp"))];

macro_rules! layer {
    ($($file:literal)*) => {
        /// The layer for Rust, which a project carries as C carries the header.
        const RUST_WHOLE: &[Template] = &[$(
            (
                concat!("rohrpost-plugin/src/", $file),
                include_str!(concat!("../../abi/sdk/src/", $file)),
            ),
        )*];
    };
}

layer! {
    "address.rs" "connection.rs" "context.rs" "edge.rs" "failure.rs" "ffi.rs" "hold.rs" "lib.rs" "log.rs"
    "message.rs" "plugin.rs" "post.rs" "setup.rs" "step.rs" "timer.rs" "watch.rs"
}

/// Makes the folder.
///
/// # Errors
/// See [`ProjectError`].
pub(super) fn create(new: &PluginNew) -> Result<(), ProjectError> {
    let PluginNew { name, language } = new;
    if !is_name(name) {
        return Err(ProjectError::Name(name.clone()));
    }
    let folder = PathBuf::from(name);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ProjectError::Write { path, source }
    };
    std::fs::create_dir(&folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ProjectError::Exists(name.clone()),
        _ => failed(&folder)(error),
    })?;
    let (templates, whole) = match language {
        Language::C => (C, C_WHOLE),
        Language::Cpp => (CPP, CPP_WHOLE),
        Language::Rust => (RUST, RUST_WHOLE),
    };
    let filled = templates.iter().map(|(path, text)| (fill(path, name), fill(text, name)));
    let copied = whole.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    for (path, text) in filled.chain(copied) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text));
        if let Err(source) = written {
            // What it would not remove, it said above why.
            let _ = std::fs::remove_dir_all(&folder);
            return Err(ProjectError::Write { path, source });
        }
    }
    say(format_args!("made {name}/; try: cd {name} && make test"));
    Ok(())
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn fill(text: &str, name: &str) -> String {
    let mut capital = name.to_owned();
    capital[..1].make_ascii_uppercase();
    let capital = capital.replace('_', "-");
    let text = text.replace("{version}", env!("CARGO_PKG_VERSION"));
    text.replace("{name}", name)
        .replace("{Name}", &capital)
        .replace("{ident}", &name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_files_and_identifiers() {
        for good in ["a", "spam-filter", "x_1", "a0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "-a", "A", "a/b", "..", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(fill("{name} {Name} {ident}", "spam_a-b"), "spam_a-b Spam-a-b spam_a_b");
    }
}
