//! Where settings come from: files, environment, command line.
//!
//! Owns the syntax of files and of environment names, and the order in which sources are read.
//! Never knows what a value means.
//!
//! Diagnostics: a file that cannot be read or is too large, a line without a colon, a value that
//! is not text.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::key::keys;
use super::load::{Problem, Report};
use super::mailerq::foreign_keys;

/// The file that is read first, and that may be absent.
pub const MAIN_FILE: &str = "/etc/rohrpost/config.txt";

/// What the command line says about settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// `--config-file`: read after the main file; it must exist.
    pub config_file: Option<PathBuf>,
    /// `--key=value` pairs; of several for one key the last one holds.
    pub values: Vec<(String, String)>,
}

/// All sources, lowest precedence first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The main file, which may be absent.
    pub main_file: Option<PathBuf>,
    /// What the environment holds; names without our prefix are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// The command line, including the second file.
    pub arguments: Arguments,
}

impl Sources {
    /// The sources of a server: [`MAIN_FILE`], the process's environment, and its arguments.
    pub fn of_process(arguments: Arguments) -> Self {
        Self {
            main_file: Some(MAIN_FILE.into()),
            environment: std::env::vars_os().collect(),
            arguments,
        }
    }

    /// Reads everything that is set, lowest precedence first.
    pub(super) fn read(&self, report: &mut Report) -> Vec<Assignment> {
        let mut found = Vec::new();
        if let Some(path) = &self.main_file {
            read_file(path, Presence::Optional, &mut found, report);
        }
        if let Some(path) = &self.arguments.config_file {
            read_file(path, Presence::Required, &mut found, report);
        }
        read_environment(&self.environment, &mut found, report);
        for (name, value) in &self.arguments.values {
            found.push(Assignment::new(name, value, Origin::Argument));
        }
        found
    }
}

/// Where a setting, or a problem with one, was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file as a whole.
    File(PathBuf),
    /// A line of a file, counted from 1.
    Line(PathBuf, usize),
    /// A variable of the environment.
    Variable(String),
    /// The command line.
    Argument,
    /// Several settings together, or the machine.
    Together,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}: ", path.display()),
            Self::Line(path, line) => write!(f, "{}:{line}: ", path.display()),
            Self::Variable(name) => write!(f, "environment {name}: "),
            Self::Argument => f.write_str("command line: "),
            Self::Together => Ok(()),
        }
    }
}

/// One `key: value`, not yet understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

impl Assignment {
    fn new(name: &str, value: &str, origin: Origin) -> Self {
        Self { name: name.trim().into(), value: value.trim().into(), origin }
    }
}

/// A settings file larger than this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What the names of our variables begin with.
const PREFIX: &str = "ROHRPOST_";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

fn read_file(path: &Path, presence: Presence, found: &mut Vec<Assignment>, report: &mut Report) {
    match read_text(path) {
        Ok(text) => read_lines(path, &text, found, report),
        Err(error) if error.kind() == io::ErrorKind::NotFound && presence == Presence::Optional => {
        }
        Err(error) => {
            let text = format!("the file cannot be read: {error}");
            report.errors.push(Problem::new(Origin::File(path.into()), text));
        }
    }
}

/// Reads a file up to the limit; what is not UTF-8 is an error of its kind.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES_MAX {
        let text = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(text)
}

/// Reads `key: value` lines; blank lines and lines that begin with `#` say nothing.
pub(super) fn read_lines(
    path: &Path,
    text: &str,
    found: &mut Vec<Assignment>,
    report: &mut Report,
) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = found.len();
    for (index, line) in text.lines().enumerate() {
        let origin = Origin::Line(path.into(), index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            report.errors.push(Problem::new(origin, "the line is not `key: value`"));
            continue;
        };
        let assignment = Assignment::new(name, value, origin);
        if found[first..].iter().any(|earlier| earlier.name == assignment.name) {
            let text = format!("`{}` is set a second time; this line holds", assignment.name);
            report.warnings.push(Problem::new(assignment.origin.clone(), text));
        }
        found.push(assignment);
    }
}

fn read_environment(
    variables: &[(OsString, OsString)],
    found: &mut Vec<Assignment>,
    report: &mut Report,
) {
    let ours = variables.iter().filter_map(|(name, value)| {
        let name = name.to_str().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value))
    });
    for (variable, value) in ours {
        let origin = Origin::Variable(variable.into());
        let name = variable[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
        // Container systems put variables of their own under a service's name, so a name that we
        // do not know cannot keep us from starting.
        let known = keys().any(|key| key.name == name || key.aliases.contains(&name.as_str()))
            || foreign_keys().any(|foreign| foreign == name)
            || name.starts_with(super::own::PREFIX);
        match value.to_str() {
            _ if !known => {
                report.warnings.push(Problem::new(origin, "names no setting; it is ignored"));
            }
            Some(value) => found.push(Assignment::new(&name, value, origin)),
            None => report.errors.push(Problem::new(origin, "the value is not valid UTF-8")),
        }
    }
}
