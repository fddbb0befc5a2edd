//! The rules of the repository, as a test: what may name what, how large a file may be, what must be
//! documented. A rule that is only prose would drift.
//!
//! Every rule is a function of a path and a text, so that each is shown below to catch what it forbids.
//! **Diagnostics**: one panic lists every violation as `path:line: rule`.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// Files may have this many lines, outside tests and generated tables.
const FILE_LINES_MAX: usize = 700;

/// Files that may be longer. This list may only shrink.
const LONG_FILES: &[&str] = &[];

/// Modules that take bytes and time and give bytes and events: folders end in a slash.
const SANS_IO: &[&str] =
    &["src/smtp/", "src/queue/mail.rs", "src/queue/schedule.rs", "src/plugin/chain.rs"];

/// What a sans-IO module may not name, and what it does instead.
const SANS_IO_BANNED: &[(&str, &str)] = &[
    ("mio", "has no sockets"),
    ("rohrpost_reactor", "does not know the loop"),
    ("rohrpost_abi", "does not know plugins' C side"),
    ("std::fs", "opens no file"),
    ("std::net::Tcp", "opens no socket"),
    ("std::net::Udp", "opens no socket"),
    ("std::os", "has no descriptors"),
    ("Instant::now", "is told what time it is"),
    ("SystemTime", "is told what time it is"),
    ("thread", "starts no thread"),
];

/// Crates that may not know each other: (folder, may not name).
const ARROWS: &[(&str, &str)] = &[
    ("reactor/", "rohrpost_abi"),
    ("reactor/", "rohrpost"),
    ("abi/", "rohrpost_reactor"),
    ("abi/", "rohrpost"),
    ("abi/", "mio"),
    // Modules of the root package: the queue knows no sessions, sessions no queue or network.
    ("src/queue/", "crate::smtp"),
    ("src/queue/", "crate::net"),
    ("src/queue/", "crate::delivery"),
    ("src/smtp/", "crate::queue"),
    ("src/smtp/", "crate::net"),
    ("src/smtp/", "crate::plugin"),
    ("src/settings/", "crate::net"),
    ("src/settings/", "crate::delivery"),
];

/// Names that say nothing about what is in a module.
const BANNED_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "manager", "common", "misc"];

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// A source file with its path from the root of the repository.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    /// Whether it is only compiled for tests or benches.
    test: bool,
}

impl Source<'_> {
    fn violation(&self, index: usize, rule: impl Into<String>) -> Violation {
        Violation { path: self.path.to_owned(), line: index + 1, rule: rule.into() }
    }

    /// Lines of code: without comments, string contents, and the `tests` module at the end of a file.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        let end = if self.test { None } else { tests_begin(self.text) };
        let lines = self.text.lines().enumerate().take(end.unwrap_or(usize::MAX));
        lines.map(|(index, line)| (index, without_text(line)))
    }
}

/// Whether a path alone says that its file is only compiled for tests or benches.
fn is_test_path(path: &str) -> bool {
    let mut parts = path.split('/');
    path.ends_with("_tests.rs")
        || parts.any(|part| ["tests", "benches", "fuzz", "tests.rs"].contains(&part))
}

/// The modules that the file `path` declares for tests alone (`#[cfg(test)] mod name;`), as their paths
/// without `.rs` or `/mod.rs`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]");
    let declared = pairs.filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'));
    declared.map(|name| format!("{folder}/{name}")).collect()
}

/// The line of a `#[cfg(test)]` that opens an inline module, which by our order is the end of the file.
fn tests_begin(text: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    })
}

/// The line without what stands in double quotes, and without its comment.
fn without_text(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if quoted => drop(chars.next()),
            '\'' if !quoted && chars.peek() == Some(&'"') => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => (),
            _ => code.push(char),
        }
    }
    code
}

/// Whether `code` contains `word` as a whole path: not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        // `std::net::Tcp` stands for a family of types.
        let open_end = word.ends_with("Tcp") || word.ends_with("Udp");
        !before.is_some_and(part) && (open_end || !after.is_some_and(part))
    })
}

/// Whether it names a crate: as a path or in a `use`, not as a field or a method.
fn names_crate(code: &str, krate: &str) -> bool {
    let used = code.trim_start().trim_start_matches("pub ").strip_prefix("use ");
    let used = used.is_some_and(|path| names(path.split("::").next().unwrap_or(path), krate));
    used || (names(code, krate) && code.contains(&format!("{krate}::")))
}

fn layering(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let below = |folder: &str| match folder.ends_with('/') {
        true => source.path.starts_with(folder),
        false => source.path == folder,
    };
    let sans_io = SANS_IO.iter().any(|place| below(place)) && !source.test;
    for (index, code) in source.code() {
        for (banned, instead) in SANS_IO_BANNED.iter().filter(|_| sans_io) {
            if names(&code, banned) {
                found.push(
                    source.violation(index, format!("names {banned}; this module {instead}")),
                );
            }
        }
        for (folder, krate) in ARROWS {
            let named = match krate.split_once("::") {
                Some(_) => names(&code, krate),
                None => names_crate(&code, krate),
            };
            if below(folder) && !source.test && named {
                found.push(source.violation(index, format!("{folder} may not know {krate}")));
            }
        }
    }
    found
}

/// Unsafe code lives in abi/; every other crate root forbids it.
fn unsafe_code(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    // Plugins are on the other side of the interface.
    let plugins = ["abi/", "examples/plugins/", "tests/kit/layers/"];
    let in_abi = plugins.iter().any(|folder| source.path.starts_with(folder));
    let roots = ["lib.rs", "main.rs", "build.rs"];
    let root = source.path.split('/').next_back().is_some_and(|name| roots.contains(&name))
        && !source.path.contains("/bin/")
        && source.path != "build.rs"
        && !source.path.ends_with("/build.rs");
    if root && !in_abi && !source.text.contains("#![forbid(unsafe_code)]") {
        found.push(source.violation(0, "a crate root outside abi/ says #![forbid(unsafe_code)]"));
    }
    for (index, code) in source.code() {
        if !in_abi && names(&code, "unsafe") {
            found.push(source.violation(index, "unsafe outside abi/"));
        }
    }
    found
}

/// Each unsafe block and impl of abi/ has a `// SAFETY:` comment right above its statement.
fn safety_comments(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("abi/src/") {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let needs = |code: &str| {
        names(code, "unsafe") && (code.contains("unsafe {") || code.contains("unsafe impl"))
    };
    let needing = source.code().filter(|(_, code)| needs(code));
    let missing = needing.filter(|(index, _)| !explained(&lines, *index));
    missing.map(|(index, _)| source.violation(index, "no SAFETY comment")).collect()
}

/// Whether a SAFETY comment stands on the line or above the statement that the line is part of.
fn explained(lines: &[&str], index: usize) -> bool {
    if lines[index].contains("// SAFETY:") {
        return true;
    }
    for line in lines[..index].iter().rev() {
        let line = line.trim();
        if line.contains("// SAFETY:") {
            return true;
        }
        let comment = line.starts_with("//") || line.starts_with("#[");
        // The statement began further up, as long as the line above did not end one.
        let ended = line.is_empty() || line.ends_with([';', '}', '{']);
        if ended && !comment {
            return false;
        }
    }
    false
}

/// The macros that print panic where nobody reads any more, which is no reason to end.
fn printing(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("src/") || source.test {
        return Vec::new();
    }
    let printing = source.code().filter(|(_, code)| {
        ["print", "println", "eprint", "eprintln"].iter().any(|name| {
            code.split_once(&format!("{name}!")).is_some_and(|(before, _)| {
                !before.ends_with(|char: char| char.is_alphanumeric() || char == '_')
            })
        })
    });
    let rule = "a macro that prints panics on a closed stream: crate::program has `say` and `warn`";
    printing.map(|(index, _)| source.violation(index, rule)).collect()
}

fn size(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX || source.test || LONG_FILES.contains(&source.path) {
        return Vec::new();
    }
    vec![source.violation(FILE_LINES_MAX, format!("{lines} lines; {FILE_LINES_MAX} are the limit"))]
}

fn opens_with_docs(source: &Source) -> Vec<Violation> {
    let opens = source.text.starts_with("//!") || source.text.starts_with("#![no_main]");
    if opens { Vec::new() } else { vec![source.violation(0, "a file opens with //! docs")] }
}

fn leftovers(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, code) in source.text.lines().map(without_strings).enumerate() {
        // Put together, so that this file does not find itself.
        let banned = [
            concat!("#[ig", "nore"),
            concat!("to", "do!("),
            concat!("unimple", "mented!("),
            concat!("FIX", "ME"),
            concat!("static", " mut "),
        ];
        for word in banned.into_iter().filter(|word| code.contains(word)) {
            found.push(source.violation(index, format!("{word} never merges")));
        }
    }
    found
}

/// The line without what stands in double quotes; comments stay.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect()
}

fn module_name(source: &Source) -> Vec<Violation> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let banned = parts.filter(|part| BANNED_NAMES.contains(part));
    banned.map(|part| source.violation(0, format!("{part} names nothing"))).collect()
}

/// All rules that look at one Rust file.
fn check(source: &Source) -> Vec<Violation> {
    let rules: [fn(&Source) -> Vec<Violation>; 8] = [
        layering,
        unsafe_code,
        safety_comments,
        printing,
        size,
        opens_with_docs,
        leftovers,
        module_name,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// Every file below `folder` whose name ends in `.extension`, by its path from the root.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(relative(&path));
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn rust_files() -> Vec<String> {
    let folders = ["src", "reactor", "abi", "benches", "tests", "fuzz", "examples"];
    let mut found: Vec<String> = folders.iter().flat_map(|folder| files(folder, "rs")).collect();
    found.push("build.rs".to_owned());
    found
}

#[test]
fn every_source_file_keeps_the_rules() {
    let files: Vec<(String, String)> = rust_files()
        .into_iter()
        .map(|path| (path.clone(), read(&path).expect("a listed file can be read")))
        .collect();
    let test_modules: BTreeSet<String> =
        files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let mut violations = Vec::new();
    for (path, text) in &files {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let test = is_test_path(path) || test_modules.contains(module);
        violations.extend(check(&Source { path, text, test }));
    }
    violations.sort();
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} violations:\n{}", list.len(), list.join("\n"));
}

/// What is in the repository and was made by a build or a bench.
fn generated<'a>(tracked: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    tracked.filter(|path| path.split('/').any(|part| part == "target")).collect()
}

#[test]
fn nothing_that_was_generated_is_in_the_repository() {
    assert_eq!(
        generated(["abi/target/criterion/a.json", "target", "src/target.rs"].into_iter()),
        ["abi/target/criterion/a.json", "target"]
    );
    // A source archive has no list.
    if !root().join(".git").exists() {
        return;
    }
    let mut git = std::process::Command::new("git");
    let listed = git.args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = listed.expect("a clone can be listed by git");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("paths of ours are UTF-8");
    assert!(listed.split('\0').any(|path| path == "tests/tidy.rs"));
    assert_eq!(generated(listed.split('\0')), [""; 0]);
}

#[test]
fn the_list_of_long_files_only_names_long_files() {
    for path in LONG_FILES {
        let lines = read(path).map_or(0, |text| text.lines().count());
        assert!(lines > FILE_LINES_MAX, "{path} has become shorter: take it off the list");
    }
}

/// The rules that `text`, as the file `path`, breaks: the line and the start of the rule.
#[cfg(test)]
fn broken(path: &str, text: &str) -> Vec<(usize, String)> {
    check(&Source { path, text, test: is_test_path(path) })
        .into_iter()
        .map(|found| (found.line, found.rule))
        .collect()
}

#[test]
fn each_rule_catches_what_it_forbids() {
    let long = format!("//! Long.\n{}", "// line\n".repeat(FILE_LINES_MAX));
    let ignored = concat!("//! T.\n#[ig", "nore]\nfn t() {}\n");
    let unfinished = concat!("//! T.\nfn t() { to", "do!() }\n");
    for (rule, path, text, line) in [
        ("names mio", "src/smtp/x.rs", "//! X.\nuse mio::Poll;\n", 2),
        ("names std::fs", "src/smtp/a/x.rs", "//! X.\nuse std::fs::File;\n", 2),
        ("names std::net::Tcp", "src/smtp/x.rs", "//! X.\n\nfn f(s: std::net::TcpStream) {}\n", 3),
        ("names Instant::now", "src/queue/schedule.rs", "//! X.\nlet now = Instant::now();\n", 2),
        ("names SystemTime", "src/queue/mail.rs", "//! X.\nuse std::time::SystemTime;\n", 2),
        ("names thread", "src/plugin/chain.rs", "//! X.\nuse std::thread;\n", 2),
        ("a macro that prints", "src/x.rs", "//! X.\nfn f() { eprintln!(\"x\") }\n", 2),
        (
            "reactor/ may not know rohrpost_abi",
            "reactor/src/x.rs",
            "//! X.\nuse rohrpost_abi::A;\n",
            2,
        ),
        (
            "abi/ may not know rohrpost_reactor",
            "abi/src/x.rs",
            "//! X.\nrohrpost_reactor::a();\n",
            2,
        ),
        (
            "src/smtp/ may not know crate::queue",
            "src/smtp/x.rs",
            "//! X.\nuse crate::queue::Q;\n",
            2,
        ),
        ("a crate root", "reactor/src/lib.rs", "//! Root.\n", 1),
        ("unsafe outside", "src/x.rs", "//! X.\nunsafe { f() }\n", 2),
        ("no SAFETY", "abi/src/x.rs", "//! X.\nfn f() {\n    unsafe { g() }\n}\n", 3),
        ("701 lines", "src/x.rs", &long, 701),
        ("a file opens", "src/x.rs", "use std::fmt;\n", 1),
        (concat!("#[ig", "nore"), "tests/x.rs", ignored, 2),
        (concat!("to", "do!("), "src/x.rs", unfinished, 2),
        ("util names nothing", "src/util.rs", "//! X.\n", 1),
        ("common names nothing", "src/common/mod.rs", "//! X.\n", 1),
    ] {
        let found = broken(path, text);
        assert_eq!(found.len(), 1, "{rule}: {found:?}");
        assert!(found[0].0 == line && found[0].1.starts_with(rule), "{rule}: {found:?}");
    }
}

#[test]
fn modules_for_tests_alone_are_found_by_their_declaration() {
    let text = "mod a;\n#[cfg(test)]\nmod golden;\n    #[cfg(test)]\n    pub(crate) mod pair;\n";
    assert_eq!(test_modules("src/smtp/mod.rs", text), ["src/smtp/golden", "src/smtp/pair"]);
    assert_eq!(test_modules("src/worker.rs", text), ["src/worker/golden", "src/worker/pair"]);
}

#[test]
fn no_rule_catches_what_is_allowed() {
    for (path, text) in [
        ("src/smtp/x.rs", "//! Never names mio.\n// No std::fs here.\nlet a = \"SystemTime\";\n"),
        ("src/smtp/x.rs", "//! X.\nuse std::net::IpAddr;\nlet threads = amio;\n"),
        ("src/smtp/x.rs", "//! X.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n"),
        ("src/x.rs", "//! X.\n#[cfg(test)]\nmod tests {\n    println!();\n}\n"),
        ("src/x.rs", "//! X.\n// No println! here.\nreprint!(\"print!\");\n"),
        ("src/net/x.rs", "//! X.\nuse mio::Poll;\nuse crate::{queue, smtp};\n"),
        ("reactor/src/lib.rs", "//! For rohrpost.\n#![forbid(unsafe_code)]\nuse mio::Poll;\n"),
        ("abi/src/x.rs", "//! X.\n// SAFETY: g is sound.\nunsafe { g() }\n"),
        ("abi/src/x.rs", "//! X.\n// SAFETY: g is sound.\nlet x =\n    unsafe { g() };\n"),
        ("abi/src/x.rs", "//! X.\nunsafe { g() } // SAFETY: g is sound.\n"),
        ("abi/src/x.rs", "//! X.\nunsafe extern \"C\" fn f() {}\n"),
    ] {
        assert_eq!(broken(path, text), [], "{path}: {text}");
    }
}
