//! Loading a plugin in a process of its own, by the code that the server loads it with: a constructor
//! that crashes, hangs or exits costs that process alone. What it leaves running goes with it; what has left
//! its group is not waited for.
//!
//! **Diagnostics**: what the server would have said; a signal, an exit or a deadline, with the last of
//! what the process wrote.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use rohrpost_abi::{Copies, LoadError, LoadOptions, OnError, PluginDirectory, Plugins};
use serde_json::{Value, json};

use super::folder;
use crate::program::say;

/// How long loading may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what was written may take to arrive when the process has ended.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(1);
/// Of what it prints, so much is read.
const READ_BYTES_MAX: u64 = 1 << 20;
/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Of what it wrote, so much is shown.
const WRITTEN_BYTES_MAX: usize = 2_000;
/// A line of our own, among what a constructor may print.
const MARK: &str = "rohrpost-loaded ";

/// What loading came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its generation, if it was taken.
    pub(super) generation: Option<String>,
    /// What `mq_version` returned, if that is why it was not.
    pub(super) version: Option<i64>,
    /// Why the server would not take it.
    pub(super) refusal: Option<String>,
}

/// Loads `file` in another process.
///
/// # Errors
/// How that process ended instead of answering.
pub(super) fn load(file: &Path, needed: &[String]) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot load it: {error}"))?;
    let mut command = Command::new(program);
    command.args(["plugin", "load"]).arg(file).stdin(Stdio::null());
    // The sanitizer insists on being loaded before everything else.
    if let Some(sanitizer) = needed.iter().find(|name| name.starts_with("libasan.so")) {
        command.env("LD_PRELOAD", sanitizer).env("ASAN_OPTIONS", "detect_leaks=0");
    }
    command.process_group(0);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot load it: {error}"))?;
    let written = [Written::by(child.stdout.take()), Written::by(child.stderr.take())];
    let status = wait(&mut child)?;
    let end = Instant::now() + ARRIVAL_PATIENCE;
    let [out, err] = written.map(|written| written.until(end));
    let answer = out.lines().find_map(|line| line.strip_prefix(MARK));
    match answer.and_then(|json| serde_json::from_str::<Value>(json).ok()) {
        Some(answer) => Ok(Outcome {
            generation: answer["generation"].as_str().map(str::to_owned),
            version: answer["version"].as_i64(),
            refusal: answer["refusal"].as_str().map(str::to_owned),
        }),
        None => Err(format!("loading it {}{}", ending(status), tail(&err))),
    }
}

/// What the process writes, read by a thread of its own.
struct Written {
    bytes: Arc<Mutex<Vec<u8>>>,
    done: Receiver<()>,
}

impl Written {
    fn by(stream: Option<impl Read + Send + 'static>) -> Written {
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (ending, done) = bounded::<()>(0);
        let written = bytes.clone();
        std::thread::spawn(move || {
            // Gone with the thread, which is what is waited for.
            let _ending = ending;
            // What a plugin prints without end is not wanted without end.
            let Some(mut stream) = stream.map(|stream| stream.take(READ_BYTES_MAX)) else { return };
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut bytes = written.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Written { bytes, done }
    }

    /// All of it, or what has come until then: somebody may hold the other end open.
    fn until(self, end: Instant) -> String {
        // Nothing is ever sent.
        let _ = self.done.recv_deadline(end);
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Waits for its end, and ends all of its group.
fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let end = Instant::now() + PATIENCE;
    let group = Pid::from_child(child);
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        let ended = waitid(WaitId::Pid(group), look);
        if matches!(ended, Ok(None)) && Instant::now() < end {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        // It was not waited for yet, so the number is still that of its group, which may be empty.
        let _ = kill_process_group(group, Signal::KILL);
        let status = child.wait().map_err(|error| format!("its end is not known: {error}"))?;
        if matches!(ended, Ok(Some(_))) {
            return Ok(status);
        }
        let seconds = PATIENCE.as_secs();
        return Err(format!(
            "loading it took more than {seconds} s: a constructor or mq_version waits"
        ));
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("ended the process by signal {signal}"),
        (None, Some(code)) => format!("ended the process with code {code}"),
        (None, None) => "ended the process".to_owned(),
    }
}

fn tail(written: &str) -> String {
    let written = written.trim();
    let from = written.len().saturating_sub(WRITTEN_BYTES_MAX);
    let from = (from..=written.len()).find(|at| written.is_char_boundary(*at)).unwrap_or(0);
    if written.is_empty() { String::new() } else { format!("; it said:\n{}", &written[from..]) }
}

/// The other process: loads `file` as a server would, and says what came of it.
pub(super) fn run(file: &Path) -> u8 {
    let answer = match attempt(file) {
        Ok(generation) => json!({ "generation": generation }),
        Err((version, refusal)) => json!({ "version": version, "refusal": refusal }),
    };
    say(format_args!("{MARK}{answer}"));
    0
}

fn attempt(file: &Path) -> Result<Option<String>, (Option<i32>, String)> {
    let refusal = |what: &str, error: std::io::Error| (None, format!("{what}: {error}"));
    let file = std::fs::canonicalize(file).map_err(|error| refusal("the file is gone", error))?;
    let place = folder().map_err(|error| refusal("no temporary folder can be made", error))?;
    // D-06: whatever it is called, here it is a plugin.
    let link = place.path().join("plugin.so");
    std::os::unix::fs::symlink(&file, &link)
        .map_err(|error| refusal("no link can be made", error))?;
    let options = LoadOptions {
        directory: PluginDirectory::Set(place.path().to_owned()),
        copies: Copies::Memory,
        extra_versions: Vec::new(),
        on_error: OnError::Refuse,
    };
    match Plugins::load(&options) {
        Ok((plugins, _)) => {
            let set = plugins.set();
            let first = set.plugins().first();
            let generation = first.and_then(|plugin| plugins.generation(*plugin));
            Ok(generation.map(|generation| generation.to_string()))
        }
        Err(error) => {
            let version = match &error {
                LoadError::VersionRefused { version, .. } => Some(*version),
                _ => None,
            };
            let text = error.to_string().replace(&*link.to_string_lossy(), &file.to_string_lossy());
            Err((version, text))
        }
    }
}
