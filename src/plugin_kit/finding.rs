//! Findings: what a look at a plugin came to, as text and as JSON.
//!
//! Must never: judge; that is `check`.
//!
//! **Diagnostics**: this is the report itself.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::libraries::Library;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The server would refuse the plugin, or pass over something that it means to do.
    Fault,
    /// It works, and not as its author may think.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// For programs: never changed once given.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// All that is known of a plugin.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) file: PathBuf,
    /// As the server places it; where it was not loaded, as far as the names that it calls tell.
    pub(super) generation: String,
    /// What `mq_version` returned, where it was refused for that.
    pub(super) version: Option<i64>,
    pub(super) hooks: Vec<String>,
    pub(super) functions: Vec<String>,
    pub(super) libraries: Vec<Library>,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Report {
        Report {
            file: file.to_owned(),
            generation: "unknown".to_owned(),
            version: None,
            hooks: Vec::new(),
            functions: Vec::new(),
            libraries: Vec::new(),
            findings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, severity: Severity, kind: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { severity, kind, text: text.into() });
    }

    pub(super) fn is_usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Fault)
    }

    /// One object; `findings` is empty for a plugin of which there is nothing to say.
    pub(super) fn json(&self) -> Value {
        let libraries = self.libraries.iter().map(|library| {
            json!({ "name": library.name, "path": library.path, "needed-by": library.needed_by })
        });
        let findings = self.findings.iter().map(|finding| {
            let severity = finding.severity.to_string();
            json!({ "severity": severity, "kind": finding.kind, "text": finding.text })
        });
        json!({
            "file": self.file,
            "usable": self.is_usable(),
            "generation": self.generation,
            "version": self.version,
            "hooks": self.hooks,
            "functions": self.functions,
            "libraries": libraries.collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        writeln!(f, "file       {}", self.file.display())?;
        write!(f, "generation {}", self.generation)?;
        match self.version {
            Some(version) => writeln!(f, "; mq_version returns {version}")?,
            None => writeln!(f)?,
        }
        writeln!(f, "hooks      {}", list(&self.hooks))?;
        writeln!(f, "functions  {}", list(&self.functions))?;
        for library in &self.libraries {
            let Library { name, path, needed_by } = library;
            match path {
                Some(path) => writeln!(f, "library    {name}: {}", path.display())?,
                None => writeln!(f, "library    {name}: not found (needed by {needed_by})")?,
            }
        }
        for Finding { severity, text, .. } in &self.findings {
            writeln!(f, "{severity}: {text}")?;
        }
        f.write_str(if self.is_usable() { "usable" } else { "not usable" })
    }
}
