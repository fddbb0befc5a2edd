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
const SANS_IO: &[&str] = &[
    "src/smtp/",
    "src/queue/mail.rs",
    "src/queue/schedule.rs",
    "src/plugin/chain.rs",
];

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
    ("println", "prints nothing"),
    ("eprintln", "prints nothing"),
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
const BANNED_NAMES: &[&str] = &[
    "util", "utils", "helper", "helpers", "manager", "common", "misc",
];

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
}

impl Source<'_> {
    fn violation(&self, index: usize, rule: impl Into<String>) -> Violation {
        Violation {
            path: self.path.to_owned(),
            line: index + 1,
            rule: rule.into(),
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is only compiled for tests or benches.
    fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let name = parts.last().copied().unwrap_or_default();
        parts
            .iter()
            .any(|part| ["tests", "benches", "fuzz"].contains(part))
            || name == "tests.rs"
    }

    /// Lines of code: without comments, string contents, and the `tests` module at the end of a file.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        let end = if self.is_test() {
            None
        } else {
            tests_begin(self.text)
        };
        let lines = self
            .text
            .lines()
            .enumerate()
            .take(end.unwrap_or(usize::MAX));
        lines.map(|(index, line)| (index, without_text(line)))
    }
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
    let used = code
        .trim_start()
        .trim_start_matches("pub ")
        .strip_prefix("use ");
    let used = used.is_some_and(|path| names(path.split("::").next().unwrap_or(path), krate));
    used || (names(code, krate) && code.contains(&format!("{krate}::")))
}

fn layering(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let below = |folder: &str| match folder.ends_with('/') {
        true => source.path.starts_with(folder),
        false => source.path == folder,
    };
    let sans_io = SANS_IO.iter().any(|place| below(place)) && !source.is_test();
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
            if below(folder) && !source.is_test() && named {
                found.push(source.violation(index, format!("{folder} may not know {krate}")));
            }
        }
    }
    found
}

/// Unsafe code lives in abi/; every other crate root forbids it.
fn unsafe_code(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let in_abi = source.path.starts_with("abi/") || source.path.starts_with("examples/plugins/");
    let roots = ["lib.rs", "main.rs", "build.rs"];
    let root = source
        .path
        .split('/')
        .next_back()
        .is_some_and(|name| roots.contains(&name))
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
    missing
        .map(|(index, _)| source.violation(index, "no SAFETY comment"))
        .collect()
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

fn size(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    if lines <= FILE_LINES_MAX || source.is_test() || LONG_FILES.contains(&source.path) {
        return Vec::new();
    }
    vec![source.violation(
        FILE_LINES_MAX,
        format!("{lines} lines; {FILE_LINES_MAX} are the limit"),
    )]
}

fn opens_with_docs(source: &Source) -> Vec<Violation> {
    let opens = source.text.starts_with("//!") || source.text.starts_with("#![no_main]");
    if opens {
        Vec::new()
    } else {
        vec![source.violation(0, "a file opens with //! docs")]
    }
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
    banned
        .map(|part| source.violation(0, format!("{part} names nothing")))
        .collect()
}

/// All rules that look at one Rust file.
fn check(source: &Source) -> Vec<Violation> {
    let rules: [fn(&Source) -> Vec<Violation>; 7] = [
        layering,
        unsafe_code,
        safety_comments,
        size,
        opens_with_docs,
        leftovers,
        module_name,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// The direct dependencies that a Cargo.toml names, except those inside the repository.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.insert(name.to_owned());
            }
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
            let name = name.trim().trim_end_matches(".workspace");
            let local = value.contains("path =") || value.contains("path=");
            if !local && !name.starts_with('#') {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// Dependencies that no list item or table row of the README begins with.
fn unexplained(dependencies: &BTreeSet<String>, readme: &str) -> Vec<String> {
    let explains = |name: &String| {
        readme.lines().any(|line| {
            let item = line.trim_start_matches(['-', '*', '|', ' ']);
            item != line && item.contains(&format!("`{name}`"))
        })
    };
    dependencies
        .iter()
        .filter(|name| !explains(name))
        .cloned()
        .collect()
}

/// The C names `MQ_…(` and `MQX_…(` that a header declares: prototypes, not comments or macros.
fn declared(header: &str) -> BTreeSet<String> {
    let code = without_c_comments(header);
    let prototypes = code
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let joined = prototypes.collect::<Vec<_>>().join(" ");
    called_names(&joined)
}

fn without_c_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    code.lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The names of exported functions in Rust source: `extern "C" fn MQ_…(`.
fn exported(source: &str) -> BTreeSet<String> {
    let defined = source
        .split("fn ")
        .skip(1)
        .map(|rest| format!("{} ", head(rest, 200)));
    let named = defined.filter(|rest| rest.starts_with("MQ_") || rest.starts_with("MQX_"));
    named
        .filter_map(|rest| called_names(&rest).into_iter().next())
        .collect()
}

fn head(text: &str, bytes: usize) -> &str {
    let end = text.find('(').map_or(text.len(), |at| at + 1).min(bytes);
    text.get(..end).unwrap_or_default()
}

fn called_names(code: &str) -> BTreeSet<String> {
    let part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = code.match_indices("MQ").filter_map(|(at, _)| {
        let fresh = !code[..at].ends_with(part);
        let rest = &code[at..];
        let name = &rest[..rest.find(|char| !part(char)).unwrap_or(rest.len())];
        let function = rest[name.len()..].trim_start().starts_with('(');
        let known = name.starts_with("MQ_") || name.starts_with("MQX_");
        (fresh && function && known).then(|| name.to_owned())
    });
    words.collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// Every file below `folder` whose name ends in `.extension`, by its path from the root.
fn files(folder: &str, extension: &str) -> Vec<String> {
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
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

fn rust_files() -> Vec<String> {
    let folders = [
        "src", "reactor", "abi", "benches", "tests", "fuzz", "examples",
    ];
    let mut found: Vec<String> = folders
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .collect();
    found.push("build.rs".to_owned());
    found
}

#[test]
fn every_source_file_keeps_the_rules() {
    let mut violations = Vec::new();
    for path in rust_files() {
        let text = read(&path).expect("a listed file can be read");
        let source = Source {
            path: &path,
            text: &text,
        };
        assert!(source.is_rust());
        violations.extend(check(&source));
    }
    violations.sort();
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(
        list.is_empty(),
        "{} violations:\n{}",
        list.len(),
        list.join("\n")
    );
}

#[test]
fn the_list_of_long_files_only_names_long_files() {
    for path in LONG_FILES {
        let lines = read(path).map_or(0, |text| text.lines().count());
        assert!(
            lines > FILE_LINES_MAX,
            "{path} has become shorter: take it off the list"
        );
    }
}

#[test]
fn reactor_and_abi_depend_on_nothing_of_ours() {
    for (manifest, strangers) in [
        ("reactor/Cargo.toml", ["rohrpost", "rohrpost-abi"]),
        ("abi/Cargo.toml", ["rohrpost", "rohrpost-reactor"]),
    ] {
        let text = read(manifest).expect("both crates have a manifest");
        let names =
            |line: &str, name: &str| line.split('=').next().is_some_and(|key| key.trim() == name);
        for stranger in strangers {
            assert!(
                !text.lines().any(|line| names(line, stranger)),
                "{manifest}: {stranger}"
            );
        }
    }
}

#[test]
fn the_readme_says_why_each_dependency_is_not_written_here() {
    let manifests = [
        "Cargo.toml",
        "reactor/Cargo.toml",
        "abi/Cargo.toml",
        "fuzz/Cargo.toml",
    ];
    let texts = manifests.iter().filter_map(|path| read(path));
    let all: BTreeSet<String> = texts.flat_map(|text| dependencies(&text)).collect();
    let readme = read("README.md").unwrap_or_default();
    assert_eq!(
        unexplained(&all, &readme),
        [] as [String; 0],
        "no line `name` in README.md"
    );
}

#[test]
fn header_and_exports_agree() {
    let header = read("abi/include/mailerq.h").unwrap_or_default();
    let sources: String = files("abi/src", "rs")
        .iter()
        .filter_map(|path| read(path))
        .collect();
    let (declared, exported) = (declared(&header), exported(&sources));
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(
        only(&declared, &exported),
        [] as [String; 0],
        "declared, not exported"
    );
    assert_eq!(
        only(&exported, &declared),
        [] as [String; 0],
        "exported, not declared"
    );
}

/// The rules that `text`, as the file `path`, breaks: the line and the start of the rule.
#[cfg(test)]
fn broken(path: &str, text: &str) -> Vec<(usize, String)> {
    check(&Source { path, text })
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
        (
            "names std::fs",
            "src/smtp/a/x.rs",
            "//! X.\nuse std::fs::File;\n",
            2,
        ),
        (
            "names std::net::Tcp",
            "src/smtp/x.rs",
            "//! X.\n\nfn f(s: std::net::TcpStream) {}\n",
            3,
        ),
        (
            "names Instant::now",
            "src/queue/schedule.rs",
            "//! X.\nlet now = Instant::now();\n",
            2,
        ),
        (
            "names SystemTime",
            "src/queue/mail.rs",
            "//! X.\nuse std::time::SystemTime;\n",
            2,
        ),
        (
            "names thread",
            "src/plugin/chain.rs",
            "//! X.\nuse std::thread;\n",
            2,
        ),
        (
            "names println",
            "src/smtp/x.rs",
            "//! X.\nprintln!(\"x\");\n",
            2,
        ),
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
        (
            "no SAFETY",
            "abi/src/x.rs",
            "//! X.\nfn f() {\n    unsafe { g() }\n}\n",
            3,
        ),
        ("701 lines", "src/x.rs", &long, 701),
        ("a file opens", "src/x.rs", "use std::fmt;\n", 1),
        (concat!("#[ig", "nore"), "tests/x.rs", ignored, 2),
        (concat!("to", "do!("), "src/x.rs", unfinished, 2),
        ("util names nothing", "src/util.rs", "//! X.\n", 1),
        ("common names nothing", "src/common/mod.rs", "//! X.\n", 1),
    ] {
        let found = broken(path, text);
        assert_eq!(found.len(), 1, "{rule}: {found:?}");
        assert!(
            found[0].0 == line && found[0].1.starts_with(rule),
            "{rule}: {found:?}"
        );
    }
}

#[test]
fn no_rule_catches_what_is_allowed() {
    for (path, text) in [
        (
            "src/smtp/x.rs",
            "//! Never names mio.\n// No std::fs here.\nlet a = \"SystemTime\";\n",
        ),
        (
            "src/smtp/x.rs",
            "//! X.\nuse std::net::IpAddr;\nlet threads = amio;\n",
        ),
        (
            "src/smtp/x.rs",
            "//! X.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        ),
        (
            "src/net/x.rs",
            "//! X.\nuse mio::Poll;\nuse crate::{queue, smtp};\n",
        ),
        (
            "reactor/src/lib.rs",
            "//! For rohrpost.\n#![forbid(unsafe_code)]\nuse mio::Poll;\n",
        ),
        (
            "abi/src/x.rs",
            "//! X.\n// SAFETY: g is sound.\nunsafe { g() }\n",
        ),
        (
            "abi/src/x.rs",
            "//! X.\n// SAFETY: g is sound.\nlet x =\n    unsafe { g() };\n",
        ),
        (
            "abi/src/x.rs",
            "//! X.\nunsafe { g() } // SAFETY: g is sound.\n",
        ),
        ("abi/src/x.rs", "//! X.\nunsafe extern \"C\" fn f() {}\n"),
    ] {
        assert_eq!(broken(path, text), [], "{path}: {text}");
    }
}

#[test]
fn manifests_readmes_and_headers_are_read_right() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nmio = \"1\"\nours = { path = \"o\" }\n\
                    [dependencies.slab]\nversion = \"0.4\"\n[dev-dependencies]\n\"tempfile\" = \"3\"\n";
    let found = dependencies(
        &manifest
            .replace('"', "")
            .replace("path = o", "path = \"o\""),
    );
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        ["mio", "slab", "tempfile"]
    );
    assert_eq!(
        unexplained(
            &found,
            "`slab` is named in a sentence\n- `mio`: why\n| `tempfile` |\n"
        ),
        ["slab"]
    );

    let header = "/* MQ_Old(x) */\n#define MQ_X(a) a\nvoid MQ_Continue(MQ_Context *context);\n\
                  MQ_Timer *MQ_TimerStart(MQ_Context *c, float t,\n  void(*callback)(void *), void *d);\n\
                  // MQ_Gone()\nint MQX_new (void);\n";
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    assert_eq!(
        names(declared(header)),
        ["MQX_new", "MQ_Continue", "MQ_TimerStart"]
    );
    let source = "pub unsafe extern \"C\" fn MQ_Continue(context: *mut Context) {}\n\
                  fn helper(x: u8) { MQ_Other(x) }\npub extern \"C\" fn MQX_new() {}\n";
    assert_eq!(names(exported(source)), ["MQX_new", "MQ_Continue"]);
}
