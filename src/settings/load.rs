//! From sources to settings: names are known, values allowed, the whole makes sense.
//!
//! Owns the report of problems and the rule that all of them are reported, those of values that a
//! later source overrides included. Never reads a source itself.
//!
//! Diagnostics: unknown names with the nearest known one, names of MailerQ, values that are not
//! allowed, and what `check.rs` finds.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::key::{Change, Key, keys, lookup};
use super::kind::Kind;
use super::machine::Machine;
use super::mailerq::{foreign_keys, foreign_note};
use super::model::Settings;
use super::own::{self, PluginValues};
use super::source::{Assignment, Origin, Sources};

/// Settings without errors, and what is worth saying all the same.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Problems that do not keep the server from starting.
    pub warnings: Vec<Problem>,
}

/// Settings of a running server after a reload.
#[derive(Debug)]
pub struct Changes {
    /// What is to hold now.
    pub settings: Settings,
    /// Keys whose new value is in it.
    pub applied: Vec<&'static str>,
    /// Keys whose new value waits for a restart.
    pub waiting: Vec<&'static str>,
}

/// All that is wrong with the settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Problems that keep the server from starting: exit code 78.
    pub errors: Vec<Problem>,
    /// Problems that do not.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.iter().try_for_each(|problem| writeln!(f, "error: {problem}"))?;
        self.warnings.iter().try_for_each(|problem| writeln!(f, "warning: {problem}"))
    }
}

impl std::error::Error for Report {}

/// Where the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The queue directory.
    pub directory: PathBuf,
    /// Settings that are wrong, none of which says where the queue is.
    pub mistakes: u64,
}

const QUEUE_DIRECTORY: &str = "queue-directory";

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was found.
    pub origin: Origin,
    /// What is wrong, and what is allowed.
    pub text: Cow<'static, str>,
}

impl Problem {
    pub(super) fn new(origin: Origin, text: impl Into<Cow<'static, str>>) -> Self {
        Self { origin, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.text)
    }
}

impl Settings {
    /// Reads all sources and checks everything that can be checked before a port opens.
    ///
    /// # Errors
    /// All problems, if at least one of them is an error.
    pub fn load(sources: &Sources, machine: &Machine) -> Result<Loaded, Report> {
        let mut report = Report::default();
        let assignments = sources.read(&mut report);
        let mut values = Values::new(machine);
        for assignment in &assignments {
            values.choose(assignment, &mut report);
        }
        let mut settings = Settings::build(&values);
        let directory = &settings.plugin.directory;
        settings.own = PluginValues::claim(&values.unclaimed, directory, &mut report);
        settings.check(machine, &mut report);
        if report.errors.is_empty() {
            Ok(Loaded { settings, warnings: report.warnings })
        } else {
            Err(report)
        }
    }

    /// The queue directory, for commands that look for a server and start none, and how many mistakes
    /// there are besides: what is wrong elsewhere does not concern them.
    ///
    /// # Errors
    /// What keeps the directory from being known for sure, unless the command line names it.
    pub fn queue_directory(sources: &Sources, machine: &Machine) -> Result<Located, Report> {
        let mut report = Report::default();
        let assignments = sources.read(&mut report);
        let mut doubtful = !report.errors.is_empty();
        let mut values = Values::new(machine);
        for assignment in &assignments {
            let before = report.errors.len();
            values.choose(assignment, &mut report);
            let meant = lookup(&assignment.name).map(|key| key.name).or(nearest(&assignment.name));
            if meant == Some(QUEUE_DIRECTORY) {
                let wrong = report.errors.len() > before;
                let last = assignment.origin == Origin::Argument;
                doubtful = wrong || (doubtful && !last);
            }
        }
        if doubtful {
            return Err(report);
        }
        let directory = Settings::build(&values).queue.directory;
        Ok(Located { directory, mistakes: report.errors.len() as u64 })
    }

    /// These settings with everything of `new` that may change while the server runs.
    ///
    /// # Errors
    /// What does not fit together: each of the two does with itself.
    pub fn with_changes(&self, new: &Settings, machine: &Machine) -> Result<Changes, Report> {
        let mut settings = self.clone();
        let differing = settings.adopt(new);
        let mut report = Report::default();
        settings.check(machine, &mut report);
        if !report.errors.is_empty() {
            return Err(report);
        }
        let (applied, waiting) =
            differing.into_iter().partition(|name| row(name).change == Change::Reload);
        Ok(Changes { settings, applied, waiting })
    }

    /// The settings of a machine on which nothing is set.
    pub fn defaults(machine: &Machine) -> Self {
        Settings::build(&Values::new(machine))
    }
}

/// The text that holds for each key that is set.
pub(super) struct Values<'a> {
    machine: &'a Machine,
    chosen: BTreeMap<&'static str, &'a str>,
    /// What may be settings of plugins.
    unclaimed: Vec<&'a Assignment>,
}

impl<'a> Values<'a> {
    fn new(machine: &'a Machine) -> Self {
        Self { machine, chosen: BTreeMap::new(), unclaimed: Vec::new() }
    }

    /// Takes one assignment over, in place of an earlier one, if it may stand.
    fn choose(&mut self, assignment: &'a Assignment, report: &mut Report) {
        let Assignment { name, value, origin } = assignment;
        let Some(key) = lookup(name) else {
            if name.starts_with(own::PREFIX) && !foreign_keys().any(|foreign| foreign == name) {
                return self.unclaimed.push(assignment);
            }
            return report_unknown(name, origin, report);
        };
        match key.check(value) {
            Ok(()) => drop(self.chosen.insert(key.name, value)),
            Err(reason) => {
                let allowed = key.allowed();
                let text = match key.is_secret() {
                    true => format!("{} {reason}; allowed: {allowed}", key.name),
                    false => format!("{} `{value}` {reason}; allowed: {allowed}", key.name),
                };
                report.errors.push(Problem::new(origin.clone(), text));
            }
        }
    }

    /// The value of a key: what is set, or its default.
    pub(super) fn value<K: Kind>(&self, name: &'static str, kind: &K) -> K::Value {
        let text = match self.chosen.get(name) {
            Some(text) => Cow::Borrowed(*text),
            None => row(name).default_on(self.machine),
        };
        match kind.parse(&text) {
            Ok(value) => value,
            Err(reason) => panic!("the default of {name}, `{text}`, {reason}"),
        }
    }

    /// The names of the keys that are set.
    pub(super) fn set(&self) -> BTreeSet<&'static str> {
        self.chosen.keys().copied().collect()
    }
}

fn row(name: &str) -> &'static Key {
    lookup(name).expect("a section asks only for keys of its own rows")
}

fn report_unknown(name: &str, origin: &Origin, report: &mut Report) {
    if foreign_keys().any(|foreign| foreign == name) {
        let text = format!("`{name}` {}", foreign_note(name));
        return report.warnings.push(Problem::new(origin.clone(), text));
    }
    let text = match nearest(name) {
        Some(known) => format!("`{name}` is not a setting; did you mean `{known}`?"),
        None => format!("`{name}` is not a setting"),
    };
    report.errors.push(Problem::new(origin.clone(), text));
}

/// The known name that looks most like this one, if any does.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('_', "-");
    let likeness = |known: &str| strsim::jaro_winkler(&name, known);
    let rated = keys().map(|key| (likeness(key.name), key.name));
    let (rating, known) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (rating >= LIKENESS_MIN).then_some(known)
}

/// Names longer than this look like none of ours; comparing costs the product of the lengths.
const NAME_BYTES_MAX: usize = 64;
/// Below this likeness, from 0 to 1, a suggestion puzzles more than it helps.
const LIKENESS_MIN: f64 = 0.8;
