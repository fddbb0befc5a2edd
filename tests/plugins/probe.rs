//! The stage of a plugin test: probes (`c/probe.c`) in a server's plugin directory, their script, and
//! the journal that they keep.
//!
//! It owns the files between the test and its probes. Compiled plugins are shared by all tests of a run
//! and by later runs, under a name that changes with their source.
//!
//! **Diagnostics**: a line that never comes panics with the whole journal.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::support::{
    PATIENCE, Sanitizer, Server, ServerBuilder, Sink, SmtpClient, compile_plugin, eventually,
};

const PROBE: &str = include_str!("c/probe.c");

/// One compiler at a time, and none twice for one source.
static COMPILER: Mutex<()> = Mutex::new(());

/// Compiles `source`, or finds what it was compiled to before.
pub(crate) fn compiled(source: &str, sanitizer: Sanitizer) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (source, PROBE, sanitizer == Sanitizer::Off).hash(&mut hasher);
    let header = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/include/mailerq.h"));
    header.expect("the header is there").hash(&mut hasher);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    let name = format!("{:016x}", hasher.finish());
    let object = place.join(format!("{name}.so"));
    // A test that failed while it compiled has left nothing half done.
    let _one = COMPILER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !object.exists() {
        let work = tempfile::tempdir().expect("a temporary directory can be made");
        let file = work.path().join("plugin.c");
        fs::write(&file, source).expect("a new directory can be written");
        let made = compile_plugin(&file, work.path(), "plugin", sanitizer);
        fs::create_dir_all(&place).expect("the target directory can be written");
        let near = place.join(format!("{name}.{}", std::process::id()));
        fs::copy(made, &near).expect("the object was made");
        fs::rename(near, &object).expect("both are in one directory");
    }
    object
}

/// The source of a probe of this name, which may have more hooks, and its generation by its version.
pub(crate) fn probe_source(name: &str, more: &str, version: u32) -> String {
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/probe.c");
    format!(
        "#define MQ_API_VERSION {version}\n#define PROBE_NAME \"{name}\"\n{more}#include \"{}\"\n",
        probe.display()
    )
}

/// What the extensions do they do for plugins of every generation: the first of those probes is of the
/// latest one.
fn version(more: &str, name: &str) -> u32 {
    if more.contains("GREETS") && name.starts_with("10-") { 506 } else { 201 }
}

/// A server that is not started yet, with probes.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) plan: ServerBuilder,
    directory: PathBuf,
}

impl Stage {
    /// A server with one worker and these probes, which are asked in the order of their names.
    pub(crate) fn new(names: &[&str]) -> Stage {
        Stage::with(names, "")
    }

    /// The same with probes that hear of EHLO, RSET and lost clients.
    pub(crate) fn greeting(names: &[&str]) -> Stage {
        Stage::with(names, "#define PROBE_GREETS\n")
    }

    /// The same with probes that judge logins, for clients that may log in without TLS.
    pub(crate) fn judging(names: &[&str]) -> Stage {
        Stage::with(names, "#define PROBE_AUTHENTICATES\n")
            .setting("smtp-auth-plaintext", "127.0.0.0/8")
            .setting("smtp-auth-delay", 0)
    }

    fn with(names: &[&str], more: &str) -> Stage {
        let plan = Server::builder();
        let directory = plan.directory().join("probe");
        fs::create_dir_all(&directory).expect("a new directory can be written");
        let plugins = plan.directory().join("plugins");
        fs::create_dir_all(&plugins).expect("a new directory can be written");
        let plan = plan
            .setting("plugin-directory", plugins.display())
            .setting("smtp-threads", 1)
            .setting("smtp-connections-per-address", 0)
            .environment("PROBE_DIRECTORY", directory.as_os_str());
        let stage = Stage { plan, directory };
        for name in names {
            stage.add(
                name,
                &compiled(&probe_source(name, more, version(more, name)), Sanitizer::Off),
            );
        }
        stage
    }

    /// The same with one more probe, of the generation that this `MQ_API_VERSION` names.
    pub(crate) fn probe(self, name: &str, version: u32) -> Stage {
        self.add(name, &compiled(&probe_source(name, "", version), Sanitizer::Off));
        self
    }

    /// The same with a setting.
    pub(crate) fn setting(mut self, key: &str, value: impl ToString) -> Stage {
        self.plan = self.plan.setting(key, value);
        self
    }

    /// The same with a next hop.
    pub(crate) fn smarthost(mut self, address: SocketAddr) -> Stage {
        self.plan = self.plan.smarthost(address);
        self
    }

    /// Puts a compiled plugin in as `NAME.so`.
    pub(crate) fn add(&self, name: &str, object: &Path) {
        let target = self.plan.directory().join("plugins").join(format!("{name}.so"));
        fs::copy(object, target).expect("a plugin can be copied");
    }

    /// What the probes do from now on; see `c/probe.c`.
    pub(crate) fn script(&self, script: &str) {
        self.put("script", script);
    }

    /// Lets whoever waits for `tag` go on with `words`; returns when they have run.
    pub(crate) fn release(&self, tag: &str, words: &str) {
        self.put(tag, words);
        self.await_line(&format!("ran {tag}"));
    }

    /// A file that appears whole.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let near = self.directory.join(format!(".{name}"));
        fs::write(&near, text).expect("the probe directory can be written");
        fs::rename(near, self.directory.join(name)).expect("both are in one directory");
    }

    /// What the probes wrote so far.
    pub(crate) fn journal(&self) -> Vec<String> {
        let text = fs::read(self.directory.join("journal")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // The last piece has no end yet, or is nothing.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).to_owned();
        whole.lines().map(str::to_owned).collect()
    }

    /// Forgets what the probes wrote so far.
    pub(crate) fn forget(&self) {
        // There is nothing to forget where nothing was written.
        let _ = fs::remove_file(self.directory.join("journal"));
    }

    /// The lines that contain `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        self.journal().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.await_lines(text, 1).remove(0)
    }

    /// Waits until `count` lines contain `text`.
    pub(crate) fn await_lines(&self, text: &str, count: usize) -> Vec<String> {
        let what = format!("{count} lines with {text:?} in the journal");
        let found = crate::support::within(PATIENCE, || {
            let lines = self.lines(text);
            (lines.len() >= count).then_some(lines)
        });
        found.unwrap_or_else(|| panic!("never came: {what}\n{}", self.journal().join("\n")))
    }

    /// The hooks that were called, as `NAME HOOK`, in order; `hooks` is what to look for.
    pub(crate) fn calls(&self, hooks: &[&str]) -> Vec<String> {
        let called = self.journal().into_iter().filter_map(|line| {
            let mut words = line.split(' ');
            let (name, hook) = (words.next()?, words.next()?);
            hooks.contains(&hook).then(|| format!("{name} {hook}"))
        });
        called.collect()
    }

    /// Starts the server.
    pub(crate) fn start(&self) -> Server {
        self.plan.start()
    }

    /// Starts a sink next to the server that does what `arguments` say.
    pub(crate) fn sink(&self, arguments: &[&str]) -> Sink {
        let dump = self.plan.directory().join("sunk");
        Sink::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), &dump, arguments)
    }
}

/// Waits until `rohrpost status` shows `count` under `name`.
pub(crate) fn await_status(server: &Server, name: &str, count: u64) {
    eventually(&format!("{name} {count} in the status"), PATIENCE, || {
        (server.status().count(name) == count).then_some(())
    });
}

/// A client that has said who it is.
pub(crate) fn client(server: &Server) -> SmtpClient {
    SmtpClient::hello(server.smtp()).expect("the server greets")
}

/// A client with a sender and a recipient that were accepted.
pub(crate) fn client_in_transaction(server: &Server) -> SmtpClient {
    let mut client = client(server);
    for command in ["MAIL FROM:<sender@example.org>", "RCPT TO:<someone@example.org>"] {
        client
            .command(command)
            .and_then(|reply| reply.require(250))
            .expect("the envelope is accepted");
    }
    client
}

/// Sends one command and wants this code.
pub(crate) fn say(client: &mut SmtpClient, command: &str, code: u16) -> String {
    let reply = client.command(command).and_then(|reply| reply.require(code));
    reply
        .unwrap_or_else(|error| panic!("{command}: {error}\n{}", client.transcript()))
        .lines
        .join("\n")
}

/// Sends one mail that must be accepted.
pub(crate) fn mail(client: &mut SmtpClient, recipient: &str) {
    let reply = client.mail("sender@example.org", recipient, b"Subject: x\r\n\r\ntext\r\n");
    reply
        .and_then(|reply| reply.require(250))
        .unwrap_or_else(|error| panic!("{error}\n{}", client.transcript()));
}
