//! What is in `packaging/` agrees with the program: the settings that are shipped, and the unit.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{PATIENCE, Process};

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(packaged(name)).unwrap()
}

/// What the unit says for a key, each line of it.
fn of_unit(key: &str) -> Vec<String> {
    let unit = read("rohrpost.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

/// How a run of the program on some settings ends.
fn check(file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    command.arg("check").arg(format!("--config-file={}", file.display()));
    command.arg("--queue-directory=/tmp");
    let mut process = Process::spawn("rohrpost check", &mut command);
    (process.wait(PATIENCE).code(), process.stderr.complete())
}

#[test]
fn the_settings_that_are_shipped_are_usable_as_they_are_and_with_every_line_of_them() {
    let (code, said) = check(&packaged("config.txt"));
    assert_eq!(code, Some(0), "{said}");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("config.txt");
    let lines: Vec<String> = read("config.txt")
        .lines()
        // An example is a comment that reads `# key: value`.
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(": ").is_some_and(|(key, _)| !key.contains(' ')) => {
                Some(rest.replace("/var/log/rohrpost", "/tmp"))
            }
            Some(_) => None,
            None => Some(line.to_owned()),
        })
        .collect();
    assert!(lines.iter().any(|line| line.starts_with("smarthost: ")));
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (code, said) = check(&file);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn the_unit_gives_a_stop_its_time_and_does_not_repeat_what_cannot_work() {
    assert_eq!(of_unit("ExecStart"), ["/usr/bin/rohrpost run"]);
    assert_eq!(of_unit("ExecReload"), ["/usr/bin/rohrpost reload"]);
    assert_eq!(of_unit("Type"), ["notify"]);
    assert_eq!(of_unit("RestartPreventExitStatus"), ["64 78"]);
    // Back within a second, however often it was away.
    assert_eq!(of_unit("Restart"), ["always"]);
    assert_eq!(of_unit("RestartSec"), ["200ms"]);
    assert_eq!(of_unit("StartLimitIntervalSec"), ["0"]);
    // shutdown-timeout and plugin-shutdown-timeout by default, and 30 s for the disk; then a control
    // client (18 s), the last sync and the last lines of three logs (2 s each).
    let stop = of_unit("TimeoutStopSec")[0].strip_suffix("min").unwrap().parse::<u64>().unwrap();
    assert!(Duration::from_secs(stop * 60) > Duration::from_secs(30 + 30 + 30 + 18 + 8));
}

/// systemd's own opinion, where it is installed.
#[test]
fn systemd_understands_the_unit() {
    let found = |folder: &str| Path::new(folder).join("systemd-analyze").exists();
    if !["/usr/bin", "/bin"].into_iter().any(found) {
        // Then nothing here could load it either; the lines above are read all the same.
        return;
    }
    // It wants the program to be where the unit says.
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("rohrpost.service");
    let text =
        read("rohrpost.service").replace("/usr/bin/rohrpost", env!("CARGO_BIN_EXE_rohrpost"));
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&file);
    let mut process = Process::spawn("systemd-analyze", &mut command);
    let status = process.wait(PATIENCE);
    let said = process.stderr.complete();
    assert!(status.success() && !said.contains("rohrpost.service"), "{said}");
}

/// Each block of settings in the README is what somebody will paste.
#[test]
fn the_settings_in_the_readme_are_usable() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks: Vec<&str> =
        readme.split("```conf\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() >= 4);
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("users.txt"), format!("alice:{HASH}\n")).unwrap();
    let folder = place.path().to_str().unwrap();
    for (number, block) in blocks.into_iter().enumerate() {
        let file = place.path().join(format!("{number}.txt"));
        std::fs::write(&file, block.replace("/etc/rohrpost", folder)).unwrap();
        let (code, said) = check(&file);
        assert_eq!(code, Some(0), "{block}{said}");
        assert!(!said.contains("does not have"), "{block}{said}");
    }
}

/// What `openssl passwd -6 -salt saltstring 'Hello world!'` prints.
pub(super) const HASH: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
