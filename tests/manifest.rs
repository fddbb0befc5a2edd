//! What stands in two places must agree: Cargo.toml and README.
//!
//! **Diagnostics**: names what one of the two lacks.

use std::collections::BTreeSet;

use crate::tidy::read;

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

#[test]
fn reactor_and_abi_depend_on_nothing_of_ours() {
    for (manifest, strangers) in [
        ("reactor/Cargo.toml", ["rohrpost", "rohrpost-abi"]),
        ("abi/Cargo.toml", ["rohrpost", "rohrpost-reactor"]),
    ] {
        let text = read(manifest).expect("both crates have a manifest");
        // A bench may join the two; nothing that is built from them does.
        let text = text.split("[dev-dependencies]").next().unwrap_or_default();
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
fn manifests_and_readmes_are_read_right() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nmio = \"1\"\nours = { path = \"o\" }\n\
                    [dependencies.slab]\nversion = \"0.4\"\n[dev-dependencies]\n\"tempfile\" = \"3\"\n";
    let found = dependencies(&manifest.replace('"', "").replace("path = o", "path = \"o\""));
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["mio", "slab", "tempfile"]);
    assert_eq!(
        unexplained(&found, "`slab` is named in a sentence\n- `mio`: why\n| `tempfile` |\n"),
        ["slab"]
    );
}
