//! `rohrpost plugin check`: whether the server would take a plugin, and call what it means to be called.
//!
//! Looks at the file first, which runs nothing of it; then has it loaded by a process of its own, as
//! the server would, unless told not to.
//!
//! Must never: let a plugin run in this process.
//!
//! **Diagnostics**: a [`Report`]; exit code 0, or 1 if a finding is a fault, or 64 for no such file.

use std::collections::BTreeSet;
use std::path::Path;

use rohrpost_abi::Hook;

use super::EXIT_FAULTY;
use super::elf::{Binding, ElfError, Image, Machine};
use super::finding::{Report, Severity};
use super::libraries::Search;
use super::loading::{self, Outcome};
use crate::cli::{self, PluginCheck};
use crate::program::{complain, say};

/// Names that are listed in one finding.
const NAMES_MAX: usize = 8;
/// A hook has been misspelt if so few letters differ.
const LETTERS_MAX: usize = 3;
/// What linkers and languages export by themselves.
const CUSTOMARY: &[&str] =
    &["_init", "_fini", "_edata", "_end", "__bss_start", "rust_eh_personality"];

/// Looks and reports; returns the exit code.
pub(super) fn run(check: &PluginCheck) -> u8 {
    let report = match look(check) {
        Ok(report) => report,
        Err(error) => return complain(error, cli::EXIT_USAGE),
    };
    if check.json {
        say(report.json());
    } else {
        say(&report);
    }
    if report.is_usable() { 0 } else { EXIT_FAULTY }
}

fn look(check: &PluginCheck) -> Result<Report, ElfError> {
    let mut report = Report::new(&check.file);
    let image = match Image::read(&check.file) {
        Ok(image) => image,
        Err(error @ (ElfError::Unreadable { .. } | ElfError::TooLarge { .. })) => {
            return Err(error);
        }
        Err(error) => {
            report.add(Severity::Fault, "file", error.to_string());
            return Ok(report);
        }
    };
    if image.machine != Machine::OURS {
        let (found, ours) = (image.machine, Machine::OURS);
        let text = format!("made for {found}; this host runs on {ours}");
        report.add(Severity::Fault, "machine", text);
        return Ok(report);
    }
    // What a linker makes where `-shared` is missing.
    if Image::is_program(&check.file) {
        report.add(Severity::Fault, "file", "a program, not a shared object; link it with -shared");
        return Ok(report);
    }
    look_at_name(&check.file, &mut report);
    look_at_hooks(&image, &mut report);
    look_at_functions(&image, &mut report);
    look_at_symbols(&check.file, &image, &mut report);
    look_at_visibility(&image, &mut report);
    if !check.unloaded {
        look_at_loading(&check.file, &image, &mut report);
    }
    Ok(report)
}

/// D-06
fn look_at_name(file: &Path, report: &mut Report) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if !name.ends_with(".so") || name.starts_with('.') {
        let text = "the server loads files whose names end in .so and do not begin with a dot";
        report.add(Severity::Warning, "name", text);
    }
}

fn look_at_hooks(image: &Image, report: &mut Report) {
    let hooks: Vec<&str> = Hook::ALL.iter().map(|hook| hook.name()).collect();
    let known = |name: &&str| image.exported.contains(*name);
    report.hooks = hooks.iter().filter(|name| known(name)).map(|name| (*name).to_owned()).collect();
    for name in &image.hidden {
        if hooks.contains(&name.as_str()) {
            let text = format!("{name} is not visible to the server: put MQ_EXPORT before it");
            report.add(Severity::Fault, "hidden-hook", text);
        }
    }
    let mangled = |name: &String| mangled_hook(name, &hooks);
    for (name, hook) in
        image.exported.iter().chain(&image.hidden).filter_map(|name| Some((name, mangled(name)?)))
    {
        let text = format!("{hook} has a C++ name ({name}): put MQ_EXPORT before it");
        report.add(Severity::Fault, "mangled-hook", text);
    }
    for name in image.exported.iter().filter(|name| !hooks.contains(&name.as_str())) {
        look_at_misspelling(name, &hooks, report);
    }
    if !image.exported.contains(Hook::Version.name()) && !image.hidden.contains("mq_version") {
        let text = "mq_version is missing, which every plugin has: it returns MQ_API_VERSION";
        report.add(Severity::Fault, "version", text);
    }
    if report.hooks.iter().all(|name| name == "mq_version") && report.is_usable() {
        report.add(Severity::Warning, "hooks", "no hook but mq_version: it will never be called");
    }
}

fn look_at_misspelling(name: &str, hooks: &[&str], report: &mut Report) {
    let lower = name.to_ascii_lowercase();
    let (distance, nearest) = nearest(&lower, hooks);
    let reserved = lower.starts_with("mq_") || lower.starts_with("mqx_");
    if reserved {
        let text = format!("{name} is no hook, so it is never called; the nearest is {nearest}");
        report.add(Severity::Fault, "unknown-hook", text);
    } else if distance <= LETTERS_MAX {
        let text = format!("{name} is never called; did you mean {nearest}?");
        report.add(Severity::Warning, "unknown-hook", text);
    }
}

/// The hook whose name a C++ compiler has made `_Z<length>name<types>` of.
fn mangled_hook<'a>(name: &str, hooks: &[&'a str]) -> Option<&'a str> {
    let rest = name.strip_prefix("_Z")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let length: usize = rest[..digits].parse().ok()?;
    let plain = rest[digits..].get(..length)?;
    hooks.iter().copied().find(|hook| *hook == plain)
}

fn nearest<'a>(name: &str, among: &[&'a str]) -> (usize, &'a str) {
    let distances = among
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, &known.to_lowercase()), *known));
    distances.min_by_key(|(distance, _)| *distance).unwrap_or((usize::MAX, "none"))
}

/// D-02: G1 writes `MQ_Continue`, all later ones `MQ_continue`; few names are of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    G1,
    Later,
    Both,
}

fn spelling(function: &str) -> Spelling {
    match function {
        "MQ_ev" | "MQ_log" | "MQ_Json" => Spelling::Both,
        _ => match function.strip_prefix("MQ_").and_then(|rest| rest.bytes().next()) {
            Some(b'A'..=b'Z') => Spelling::G1,
            Some(_) => Spelling::Later,
            None => Spelling::Both,
        },
    }
}

fn is_interface(name: &str) -> bool {
    name.starts_with("MQ_") || name.starts_with("MQX_")
}

fn look_at_functions(image: &Image, report: &mut Report) {
    let called = image.imported.keys().filter(|name| is_interface(name));
    report.functions = called.cloned().collect();
    let first = |wanted| report.functions.iter().find(|name| spelling(name) == wanted).cloned();
    report.generation = match (first(Spelling::G1), first(Spelling::Later)) {
        (None, None) => "any".to_owned(),
        (Some(_), None) => "G1".to_owned(),
        (None, Some(_)) => "G2 or G3".to_owned(),
        (Some(old), Some(new)) => {
            let text = format!(
                "it calls functions of two generations, such as {old} and {new}; \
                 use those of one MQ_API_VERSION"
            );
            report.add(Severity::Fault, "mixed-generations", text);
            "mixed".to_owned()
        }
    };
}

/// What nothing defines: not the host, not what it is linked with, not what the host is linked with.
fn look_at_symbols(file: &Path, image: &Image, report: &mut Report) {
    let search = Search::of_process();
    let libraries = search.follow(file, image);
    let ourselves = Path::new("/proc/self/exe");
    // The program that runs has been read by the system already; without it nothing can be said.
    let Ok(host) = Image::read(ourselves) else { return };
    let functions: BTreeSet<&str> =
        host.exported.iter().map(String::as_str).filter(|name| is_interface(name)).collect();
    let beside = search.follow(ourselves, &host).exported;
    for library in libraries.all.iter().filter(|library| library.path.is_none()) {
        let origin = image.search.iter().any(|folder| folder.contains("ORIGIN"));
        let hint = if origin {
            "; $ORIGIN means nothing in a plugin, of which the server loads a private copy"
        } else {
            ""
        };
        let text = format!("the library {} is not found{hint}", library.name);
        report.add(Severity::Fault, "library", text);
    }
    let complete = libraries.all.iter().all(|library| library.path.is_some());
    report.libraries = libraries.all;
    let mut unresolved = Vec::new();
    for (name, binding) in &image.imported {
        let known = libraries.exported.contains(name) || beside.contains(name);
        match (is_interface(name), binding) {
            (true, _) if functions.contains(name.as_str()) => {}
            (true, Binding::Weak) => {
                let text = format!("this host has no {name}: it is NULL, which must be looked at");
                report.add(Severity::Note, "absent-extension", text);
            }
            (true, Binding::Strong) => {
                let all: Vec<&str> = functions.iter().copied().collect();
                let (_, nearest) = nearest(&name.to_lowercase(), &all);
                let text = format!("the host has no function {name}; the nearest is {nearest}");
                report.add(Severity::Fault, "unknown-function", text);
            }
            (false, Binding::Strong) if !known && complete => unresolved.push(name.as_str()),
            (false, _) => {}
        }
    }
    if !unresolved.is_empty() {
        let text = format!(
            "neither the host nor a library that it names has {}; link it with the library (-l…)",
            some_of(&unresolved)
        );
        report.add(Severity::Fault, "unresolved", text);
    }
}

/// The linker lets the first definition of a name win, among all that a process has loaded globally.
fn look_at_visibility(image: &Image, report: &mut Report) {
    let hooks: Vec<&str> = Hook::ALL.iter().map(|hook| hook.name()).collect();
    let rest: Vec<&str> = image
        .exported
        .iter()
        .map(String::as_str)
        .filter(|name| !hooks.contains(name) && !CUSTOMARY.contains(name))
        // Of the language, not of the author.
        .filter(|name| !image.shared.contains(*name))
        .collect();
    if !rest.is_empty() {
        let text = format!(
            "besides its hooks it exports {}; -fvisibility=hidden keeps them its own",
            some_of(&rest)
        );
        report.add(Severity::Note, "visibility", text);
    }
}

fn look_at_loading(file: &Path, image: &Image, report: &mut Report) {
    match loading::load(file, &image.needed) {
        Ok(Outcome { generation, version, refusal }) => {
            report.version = version;
            if let Some(generation) = generation {
                report.generation = generation;
            }
            if let Some(text) = refusal {
                report.add(Severity::Fault, "loading", text);
            }
        }
        Err(text) => report.add(Severity::Fault, "loading", text),
    }
}

fn some_of(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_02_the_spelling_of_a_function_tells_its_generation() {
        for (name, expected) in [
            ("MQ_Continue", Spelling::G1),
            ("MQ_SmtpSend", Spelling::G1),
            ("MQ_continue", Spelling::Later),
            ("MQ_ioWatch", Spelling::Later),
            ("MQ_json", Spelling::Later),
            ("MQ_ev", Spelling::Both),
            ("MQ_Json", Spelling::Both),
            ("MQX_reject", Spelling::Both),
        ] {
            assert_eq!(spelling(name), expected, "{name}");
        }
    }

    #[test]
    fn a_hook_with_a_cplusplus_name_is_recognised() {
        let hooks = ["mq_version", "mq_smtp_in_mailfrom"];
        let mangled = "_Z19mq_smtp_in_mailfromP10MQ_ContextP17MQ_SmtpConnectionPKcm";
        assert_eq!(mangled_hook(mangled, &hooks), Some("mq_smtp_in_mailfrom"));
        for name in ["_Z10mq_versio", "_Z99999999999999999999x", "_Zé", "_Z3abc", "mq_version"] {
            assert_eq!(mangled_hook(name, &hooks), None, "{name}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert_eq!(some_of(&["x"; 10]), "x, x, x, x, x, x, x, x and 2 more");
    }
}
