//! The plugin that ends the server on demand (`crashing.c`), and what it leaves behind.

use std::fs;
use std::path::PathBuf;

use crate::plugins::probe::compiled;
use crate::support::{Sanitizer, Server, ServerBuilder, SmtpClient};

/// A server's plan with that plugin, as `10-crashing.so`.
#[derive(Debug, Clone)]
pub(super) struct Crashing {
    pub(super) plan: ServerBuilder,
}

impl Crashing {
    pub(super) fn new() -> Crashing {
        let plan = Server::builder();
        let plugins = plan.directory().join("plugins");
        fs::create_dir_all(&plugins).unwrap();
        let once = plan.directory().join("once");
        let plan =
            plan.setting("plugin-directory", plugins.display()).environment("CRASHING_ONCE", once);
        let crashing = Crashing { plan };
        crashing.install();
        crashing
    }

    /// Puts the plugin's file there, as if it were new.
    pub(super) fn install(&self) {
        let object = compiled(include_str!("crashing.c"), Sanitizer::Off);
        let place = self.plugin();
        let near = place.with_extension("near");
        fs::copy(object, &near).unwrap();
        fs::rename(near, place).unwrap();
    }

    pub(super) fn plugin(&self) -> PathBuf {
        self.plan.directory().join("plugins/10-crashing.so")
    }

    /// The lines of the file of crashes.
    pub(super) fn lines(&self) -> Vec<String> {
        let path = self.plan.queue_directory().join("crashes");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Those that tell of a crash.
    pub(super) fn crashes(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.starts_with('#')).collect()
    }
}

/// Has a server's plugin do as the sender says; whether the server is still there.
pub(super) fn ask(server: &Server, sender: &str) -> bool {
    let mut client = SmtpClient::hello(server.smtp()).expect("the server greets");
    client.command(&format!("MAIL FROM:<{sender}@example.org>")).is_ok()
}
