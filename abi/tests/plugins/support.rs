//! What the tests share: C compiled on the spot, a process of its own per scenario, and a stage.
//!
//! One process has one host, so each scenario runs in a child: this test binary again, with that one test
//! selected. Must never sleep or open a port. Diagnostics: a failed child is shown with all it said.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rohrpost_abi as abi;
use rohrpost_abi::{
    ConnectionId, ConnectionInit, ContextStep, Copies, Direction, Hook, Host, HostInit, Level,
    LoadOptions, MessageId, OnError, PluginDirectory, PluginIndex, Plugins, Returned, Step,
    Terminated, Worker,
};

/// Names the one test that a child runs.
const SCENARIO: &str = "ROHRPOST_SCENARIO";
/// Tells a child to compile plugins with the address sanitizer.
const SANITIZE: &str = "ROHRPOST_SANITIZE";

/// A test that gets a process for itself.
macro_rules! scenario {
    ($(#[$attribute:meta])* fn $name:ident() $body:block) => {
        #[test]
        $(#[$attribute])*
        fn $name() {
            crate::support::in_child(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    };
}
pub(crate) use scenario;

/// Runs `body` if this is the child for it, else a child, which must succeed.
pub(crate) fn in_child(path: &str, body: impl FnOnce()) {
    if is_child(path) {
        return body();
    }
    let output = child(path, &[]);
    assert!(output.status.success(), "{}", transcript(&output));
}

/// Is this process the child for that test?
pub(crate) fn is_child(path: &str) -> bool {
    env::var(SCENARIO).is_ok_and(|scenario| scenario == path)
}

/// Runs one test in a process of its own.
pub(crate) fn child(path: &str, variables: &[(&str, &str)]) -> Output {
    child_by(&[], path, variables)
}

/// The same, started by another program and its arguments.
pub(crate) fn child_by(program: &[&str], path: &str, variables: &[(&str, &str)]) -> Output {
    let (_, test) = path.split_once("::").expect("a test has a module");
    let own = env::current_exe().expect("a test knows its binary");
    let mut words: Vec<OsString> = program.iter().map(OsString::from).collect();
    words.push(own.into());
    Command::new(&words[0])
        .args(&words[1..])
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCENARIO, path)
        .envs(variables.iter().copied())
        .output()
        .expect("a test can start itself")
}

/// Runs one test in a process whose plugins are compiled with the address sanitizer.
pub(crate) fn sanitized_child(path: &str) -> Output {
    let library =
        Command::new("gcc").arg("-print-file-name=libasan.so").output().expect("gcc runs");
    let library = String::from_utf8(library.stdout).expect("a path");
    let options = ("ASAN_OPTIONS", "detect_leaks=0");
    child(path, &[("LD_PRELOAD", library.trim()), options, (SANITIZE, "1")])
}

pub(crate) fn transcript(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(stdout), text(stderr))
}

/// The folder of the header.
pub(crate) fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// A fresh directory for one process's files; removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("abi-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a test can write to its target directory");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a test can write to its target directory");
        path
    }

    /// Compiles C into a plugin of that name.
    pub(crate) fn plugin(&self, name: &str, source: &str) -> PathBuf {
        self.compile(name, "gcc", "c", source, &[])
    }

    /// The same, with options for the linker.
    pub(crate) fn plugin_linked(&self, name: &str, source: &str, options: &[&str]) -> PathBuf {
        self.compile(name, "gcc", "c", source, options)
    }

    /// Compiles C++ into a plugin of that name.
    pub(crate) fn plugin_cpp(&self, name: &str, source: &str) -> PathBuf {
        self.plugin_cpp_linked(name, source, &[])
    }

    /// The same, with options for the linker.
    pub(crate) fn plugin_cpp_linked(&self, name: &str, source: &str, options: &[&str]) -> PathBuf {
        self.compile(name, "g++", "cpp", source, options)
    }

    fn compile(
        &self,
        name: &str,
        compiler: &str,
        extension: &str,
        source: &str,
        options: &[&str],
    ) -> PathBuf {
        let output = self.0.join(name);
        let mut command = Command::new(compiler);
        // The compiler itself needs no sanitizer.
        command.env_remove("LD_PRELOAD");
        command.args([
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-g",
            "-Wall",
            "-Wextra",
            "-pthread",
        ]);
        if env::var_os(SANITIZE).is_some() {
            command.args(["-fsanitize=address", "-fno-omit-frame-pointer"]);
        }
        command.arg("-I").arg(include()).arg("-o").arg(&output);
        command.arg(self.file(&format!("{name}.{extension}"), source));
        command.args(options);
        let done = command.output().expect("a C compiler runs");
        assert!(done.status.success(), "{}", transcript(&done));
        output
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn options(directory: &Path) -> LoadOptions {
    LoadOptions {
        directory: PluginDirectory::Set(directory.to_owned()),
        copies: Copies::Directory(directory.to_owned()),
        extra_versions: Vec::new(),
        on_error: OnError::Refuse,
    }
}

/// A line of the log: level, plugin, text.
pub(crate) type Line = (Level, String, String);

/// A host with one worker, this thread's.
pub(crate) struct Stage {
    pub(crate) host: &'static Host,
    pub(crate) worker: Worker,
    lines: Arc<Mutex<Vec<Line>>>,
    woken: Arc<Mutex<Vec<u8>>>,
    /// Who said something while it was initialized.
    pub(crate) initialized: Vec<String>,
    pub(crate) folder: Folder,
}

pub(crate) const WORKER: u8 = 3;

impl Stage {
    /// With one puppet.
    pub(crate) fn new() -> Stage {
        Stage::with_puppets(&["10-a.so"])
    }

    /// With a puppet under each of the names.
    pub(crate) fn with_puppets(names: &[&str]) -> Stage {
        let folder = Folder::new();
        let puppet = folder.plugin(names[0], include_str!("puppet.c"));
        for name in &names[1..] {
            fs::copy(&puppet, folder.path().join(name)).expect("a test can copy a plugin");
        }
        Stage::in_folder(folder)
    }

    /// With what is in `folder`.
    pub(crate) fn in_folder(folder: Folder) -> Stage {
        let (plugins, _) = Plugins::load(&options(folder.path())).expect("plugins load");
        let (lines, woken) = (Arc::default(), Arc::default());
        let host = install(plugins, &lines, &woken);
        host.plugins().initialize(&host.plugins().set()).expect("puppets do not refuse");
        let worker = Worker::enter(WORKER).expect("the first to enter");
        let mut stage = Stage { host, worker, lines, woken, initialized: Vec::new(), folder };
        stage.initialized = stage.take_lines().into_iter().map(|(_, plugin, _)| plugin).collect();
        for plugin in stage.host.plugins().set().with(Hook::ContextInitialize) {
            stage.worker.call_context(*plugin, ContextStep::Initialize);
        }
        stage
    }

    pub(crate) fn plugin(&self, index: usize) -> PluginIndex {
        self.host.plugins().set().with(Hook::Version)[index]
    }

    pub(crate) fn open(&self) -> ConnectionId {
        self.open_to(Direction::Incoming)
    }

    pub(crate) fn open_to(&self, direction: Direction) -> ConnectionId {
        let init = ConnectionInit { fd: 77, direction, secure: false, authenticated: false };
        self.worker.open_connection(init).expect("there is room")
    }

    /// Runs a script in the first puppet's `mq_smtp_in_mailfrom`.
    pub(crate) fn run(&mut self, connection: ConnectionId, script: &str) -> Returned {
        self.run_in(0, connection, script)
    }

    /// The same in another puppet.
    pub(crate) fn run_in(&mut self, plugin: usize, on: ConnectionId, script: &str) -> Returned {
        let script = CString::new(script).expect("a script has no NUL");
        let step = Step::MailFrom(Terminated::from(script.as_c_str()));
        self.worker.call(self.plugin(plugin), on, step)
    }

    /// Runs a script in a callback of the first puppet, with what it kept.
    pub(crate) fn run_timer(&mut self, script: &str) {
        self.run_timer_of(0, script);
    }

    /// The same of another puppet.
    pub(crate) fn run_timer_of(&mut self, plugin: usize, script: &str) {
        let other = self.open();
        let script = format!("on-timer={} timer:0", script.replace(' ', ","));
        self.run_in(plugin, other, &script);
        let started = self.commands().into_iter().find_map(|command| match command {
            abi::Command::TimerStart { timer, .. } => Some(timer),
            _ => None,
        });
        assert!(self.worker.fire_timer(started.expect("the puppet has started one")));
        self.worker.close_connection(other);
    }

    /// What releases came to since last asked.
    pub(crate) fn released(&mut self) -> Vec<String> {
        let mut lines = self.lines.lock().expect("no panic");
        let (released, kept) =
            lines.drain(..).partition(|(_, _, text)| text.starts_with("released="));
        *lines = kept;
        let released: Vec<Line> = released;
        released.into_iter().map(|(_, _, text)| text).collect()
    }

    /// How often a puppet was told that its hold is over, since last asked.
    pub(crate) fn expired(&mut self) -> usize {
        let lines = self.take_lines();
        lines.iter().filter(|(_, _, text)| text == "expired same=1 data=9").count()
    }

    /// Gives the first puppet a script for another hook, and calls that.
    pub(crate) fn show(&mut self, on: ConnectionId, message: MessageId, script: &str) -> Returned {
        self.show_to(0, on, message, script)
    }

    pub(crate) fn show_to(
        &mut self,
        plugin: usize,
        on: ConnectionId,
        message: MessageId,
        script: &str,
    ) -> Returned {
        self.run_in(plugin, on, &format!("on-message={}", script.replace(' ', ",")));
        self.worker.call(self.plugin(plugin), on, Step::Message(message))
    }

    pub(crate) fn commands(&mut self) -> Vec<abi::Command> {
        let mut commands = Vec::new();
        self.worker.take_commands(&mut commands);
        commands
    }

    /// Which workers were told of hand-backs since last asked.
    pub(crate) fn woken(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.woken.lock().expect("no panic"))
    }

    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines.lock().expect("no panic"))
    }

    /// What the puppets said since last asked; nothing else may have been logged.
    pub(crate) fn said(&mut self) -> Vec<String> {
        let lines = self.take_lines();
        assert!(lines.iter().all(|(level, ..)| *level == Level::Info), "{lines:?}");
        lines.into_iter().map(|(_, _, text)| text).collect()
    }

    /// What was logged about the puppets since last asked, leaving out what they said.
    pub(crate) fn complaints(&mut self) -> Vec<Line> {
        let mut lines = self.take_lines();
        lines.retain(|(level, ..)| *level != Level::Info);
        lines
    }

    /// There is exactly one complaint: of that level, on that plugin, with these words in it.
    #[track_caller]
    pub(crate) fn assert_complaint(&mut self, level: Level, plugin: &str, words: &str) {
        let lines = self.complaints();
        match &*lines {
            [(l, p, text)] if *l == level && p == plugin && text.contains(words) => {}
            _ => panic!("expected one {level} on {plugin} with {words:?}, got {lines:?}"),
        }
    }
}

pub(crate) fn install(
    plugins: Plugins,
    lines: &Arc<Mutex<Vec<Line>>>,
    woken: &Arc<Mutex<Vec<u8>>>,
) -> &'static Host {
    let (lines, woken) = (Arc::clone(lines), Arc::clone(woken));
    abi::install(HostInit {
        plugins,
        log: Box::new(move |level, _, plugin, text| {
            assert!(!text.contains("panic"), "a log that is broken");
            if level == Level::Critical {
                // What is only in memory is lost in an abort.
                eprintln!("log: {plugin}: {text}");
            }
            lines.lock().expect("no panic").push((level, plugin.to_owned(), text.to_owned()));
        }),
        post: Box::new(move |worker| {
            woken.lock().expect("no panic").push(worker);
        }),
    })
    .expect("the first of this process")
}
