//! The guide for authors: every block of code compiles and does what its dialogue says, and every command
//! works.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::layers::{compile_cpp, compile_rust, root};
use super::{compile, kit};
use crate::support::{PATIENCE, Process, Sanitizer};

/// A block between fences: what it is, its name, its text, and the line it begins in.
struct Block {
    language: String,
    name: String,
    text: String,
    line: usize,
}

fn blocks() -> Vec<Block> {
    let guide = std::fs::read_to_string(root("abi/GUIDE.md")).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in guide.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(head), None) => {
                let (language, name) = head.split_once(' ').unwrap_or((head, ""));
                let (language, name) = (language.to_owned(), name.to_owned());
                open = Some(Block { language, name, text: String::new(), line: number + 1 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of the guide is not closed");
    blocks
}

fn build(block: &Block, folder: &Path) -> PathBuf {
    let source = folder.join(&block.name).with_extension(&block.language);
    std::fs::write(&source, &block.text).unwrap();
    match block.language.as_str() {
        "c" => {
            let name = format!("{}.c", block.name);
            let strict =
                ["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread"];
            compile(folder, &name, &block.text, &strict)
        }
        "cpp" => compile_cpp(&source, folder, Sanitizer::Off),
        "rust" => compile_rust(&source, folder),
        other => panic!("line {}: a block in {other}, which nobody runs", block.line),
    }
}

#[test]
fn every_block_of_code_in_the_guide_does_what_its_dialogue_says() {
    let place = tempfile::tempdir().unwrap();
    let blocks = blocks();
    let code: Vec<&Block> =
        blocks.iter().filter(|block| !["sh", "dialogue"].contains(&&*block.language)).collect();
    assert!(code.len() >= 10, "{}", code.len());
    for block in code {
        let line = block.line;
        let object = build(block, place.path());
        let said = kit(["check", object.to_str().unwrap()]);
        assert!(
            said.code == Some(0) && !said.stdout.contains("\nwarning: "),
            "line {line}: {said:?}"
        );
        let dialogues =
            blocks.iter().filter(|it| it.language == "dialogue" && it.name == block.name);
        let mut played = 0;
        for dialogue in dialogues {
            let file = place.path().join(format!("{}.txt", dialogue.name));
            std::fs::write(&file, &dialogue.text).unwrap();
            let said = kit(["test", object.to_str().unwrap(), file.to_str().unwrap()]);
            assert_eq!(
                said.code,
                Some(0),
                "line {}: {}{}",
                dialogue.line,
                said.stdout,
                said.stderr
            );
            played += 1;
        }
        assert!(played > 0, "line {line}: {} has no dialogue", block.name);
    }
    for dialogue in blocks.iter().filter(|block| block.language == "dialogue") {
        let known = |block: &Block| block.language != "dialogue" && block.name == dialogue.name;
        assert!(blocks.iter().any(known), "line {}: a dialogue of nothing", dialogue.line);
    }
}

/// In one folder, in their order, as somebody would type them.
#[test]
fn every_command_in_the_guide_works() {
    let place = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_rohrpost")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let commands: Vec<Block> =
        blocks().into_iter().filter(|block| block.language == "sh").collect();
    assert!(commands.len() >= 2);
    for block in commands {
        let mut command = Command::new("sh");
        command.args(["-e", "-u", "-c", &block.text]).current_dir(place.path());
        command.env("PATH", &path).env_remove("MAKEFLAGS").stdin(Stdio::null());
        let mut process = Process::spawn("sh", &mut command);
        let status = process.wait(PATIENCE);
        assert!(status.success(), "line {}: {process}", block.line);
    }
}
