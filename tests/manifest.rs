//! What stands in two places must agree: Cargo.toml and README, the C header and what `abi/` exports.
//!
//! **Diagnostics**: names what one of the two lacks.

use std::collections::BTreeSet;

use crate::tidy::{files, read};

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
    dependencies.iter().filter(|name| !explains(name)).cloned().collect()
}

/// The C names `MQ_…(` and `MQX_…(` that a header declares: prototypes, not comments or macros.
fn declared(header: &str) -> BTreeSet<String> {
    let code = without_c_comments(header);
    let prototypes = code.lines().filter(|line| !line.trim_start().starts_with('#'));
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
    code.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The names of exported functions in Rust source: `extern "C" fn MQ_…(`.
fn exported(source: &str) -> BTreeSet<String> {
    let defined = source.split("fn ").skip(1).map(|rest| format!("{} ", head(rest, 200)));
    let named = defined.filter(|rest| rest.starts_with("MQ_") || rest.starts_with("MQX_"));
    named.filter_map(|rest| called_names(&rest).into_iter().next()).collect()
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
            assert!(!text.lines().any(|line| names(line, stranger)), "{manifest}: {stranger}");
        }
    }
}

#[test]
fn the_readme_says_why_each_dependency_is_not_written_here() {
    let manifests = ["Cargo.toml", "reactor/Cargo.toml", "abi/Cargo.toml", "fuzz/Cargo.toml"];
    let texts = manifests.iter().filter_map(|path| read(path));
    let all: BTreeSet<String> = texts.flat_map(|text| dependencies(&text)).collect();
    let readme = read("README.md").unwrap_or_default();
    assert_eq!(unexplained(&all, &readme), [] as [String; 0], "no line `name` in README.md");
}

#[test]
fn header_and_exports_agree() {
    let header = read("abi/include/mailerq.h").expect("abi/ has the header");
    let sources: String = files("abi/src", "rs").iter().filter_map(|path| read(path)).collect();
    let (declared, exported) = (declared(&header), exported(&sources));
    let only =
        |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(only(&declared, &exported), [] as [String; 0], "declared, not exported");
    assert_eq!(only(&exported, &declared), [] as [String; 0], "exported, not declared");
}

#[test]
fn manifests_readmes_and_headers_are_read_right() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nmio = \"1\"\nours = { path = \"o\" }\n\
                    [dependencies.slab]\nversion = \"0.4\"\n[dev-dependencies]\n\"tempfile\" = \"3\"\n";
    let found = dependencies(&manifest.replace('"', "").replace("path = o", "path = \"o\""));
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["mio", "slab", "tempfile"]);
    assert_eq!(
        unexplained(&found, "`slab` is named in a sentence\n- `mio`: why\n| `tempfile` |\n"),
        ["slab"]
    );

    let header = "/* MQ_Old(x) */\n#define MQ_X(a) a\nvoid MQ_Continue(MQ_Context *context);\n\
                  MQ_Timer *MQ_TimerStart(MQ_Context *c, float t,\n  void(*callback)(void *), void *d);\n\
                  // MQ_Gone()\nint MQX_new (void);\n";
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    assert_eq!(names(declared(header)), ["MQX_new", "MQ_Continue", "MQ_TimerStart"]);
    let source = "pub unsafe extern \"C\" fn MQ_Continue(context: *mut Context) {}\n\
                  fn helper(x: u8) { MQ_Other(x) }\npub extern \"C\" fn MQX_new() {}\n";
    assert_eq!(names(exported(source)), ["MQX_new", "MQ_Continue"]);
}
