//! The decisions of the plugin interface that are implemented, and a test for each that names it.
//!
//! A name counts in the name of a test or in the comment that opens one, anywhere in the tree.
//! **Diagnostics**: the decisions that nothing names.

use std::collections::BTreeSet;

use crate::tidy;

/// By part of the specification: loading, contexts, control, connections, messages, outgoing, loop, log.
const DECISIONS: &str = "
    01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
    10 11 12 13 14 15 16 17 18 19
    20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f
    30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 49a 4a 4b 4c 4d 4e 4f 50 51 52 53 54 55
    60 61 62 63 64 65 66 67 69 6a 6b 6c 6d 6e 6f 73
    70 71
    80 81 82 83 84 85 86 87 88
    90 91 92 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0
    b0 b1 b2 b3
";

/// The decisions that the tests of `text` name.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("fn ").and_then(|line| line.split('(').next()) else {
            continue;
        };
        // The attribute stands above; a macro may give it, as for tests that share a process.
        let is_test = name.starts_with("d_") || index > 0 && lines[index - 1] == "#[test]";
        if !is_test {
            continue;
        }
        let mut words = name.split('_').peekable();
        while let Some(word) = words.next() {
            if word == "d" {
                found.extend(words.peek().map(|number| (*number).to_owned()));
            }
        }
        let comment = lines.get(index + 1).filter(|line| line.starts_with("// "));
        let numbers = comment.into_iter().flat_map(|line| line.split("D-").skip(1));
        found.extend(numbers.map(|number| {
            number
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect::<String>()
                .to_ascii_lowercase()
        }));
    }
    found
}

#[test]
fn every_decision_is_named_by_a_test() {
    let folders = ["src", "reactor", "abi", "tests"];
    let files = folders.iter().flat_map(|folder| tidy::files(folder, "rs"));
    let named: BTreeSet<String> =
        files.filter_map(|path| tidy::read(&path)).flat_map(|text| named(&text)).collect();
    let missing: Vec<&str> =
        DECISIONS.split_whitespace().filter(|number| !named.contains(*number)).collect();
    assert_eq!(missing, [""; 0], "no test names these decisions");
}

#[test]
fn names_are_found_in_names_and_opening_comments_of_tests_only() {
    let text = "#[test]\nfn d_2a_d_49a_both() {}\n#[test]\nfn other() {\n    // D-81's ground, and D-4F.\n}\n\
        fn plain() {\n    // D-99\n}\n// D-98\n";
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), ["2a", "49a", "4f", "81"]);
}
