//! A pair in memory: a session that sends mail and one that takes it, with the chains of plugins between,
//! in one thread, without sockets, disk or event loop. What a plugin costs shows beside the pair without it.
//!
//! Owns the way of a message from one session into the other, with each step that a connection of the
//! server would ask about. Must never be part of a server: nobody fires timers or watches here, so a plugin
//! that waits for one cannot be measured.
//!
//! **Diagnostics**: [`PairError`].

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rohrpost_abi::{
    Command, ConnectionId, ConnectionInit, ContextStep, Copies, Direction, Hook, Host, HostInit,
    LoadError, LoadOptions, LogSink, MessageId, MessageInit, OnError, PluginDirectory,
    SettingsError, Step, Terminated, Text, setting_key,
};

use super::folder;
use crate::log::Log;
use crate::plugin::census::{Census, Tally};
use crate::plugin::trace::Trace as CallTrace;
use crate::plugin::view::{Plugins, Walk};
use crate::program::warn;
use crate::smtp::command::BodyKind;
use crate::smtp::dsn::Request;
use crate::smtp::memory::Unlimited;
use crate::smtp::stuffer::{LineRepair, Stuffer};
use crate::smtp::trace::Trace;
use crate::smtp::{client, server};

/// Retries of a step, as the server's default has it (D-29).
const RETRIES_MAX: u32 = 100;
const SENDER: &str = "bounces+12345@mail.example.com";
const RECIPIENT: &str = "someone.else@example.org";
const NAME: &str = "mx.example.com";
const CLIENT: &str = "client.example.com";
/// Lines of the plugin that are shown.
const LINES_MAX: u32 = 20;
/// As much as one read of a socket brings.
const READ_BYTES: usize = 64 * 1024;

const PASSWORD: &CStr = c"correct horse battery staple";

/// The hooks that a message or a connection has, in their order.
pub const HOOKS: [Hook; 17] = [
    Hook::Connect,
    Hook::Secure,
    Hook::Helo,
    Hook::Authenticate,
    Hook::MailFrom,
    Hook::RcptTo,
    Hook::Data,
    Hook::Message,
    Hook::Reset,
    Hook::Close,
    Hook::OutConnect,
    Hook::OutSecure,
    Hook::OutMessage,
    Hook::OutData,
    Hook::OutSent,
    Hook::OutResult,
    Hook::OutClose,
];

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The plugin is not to be had.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server would not take it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A setting cannot be given to it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A setting is none of it.
    #[error("the setting {key:?} is not one of this plugin: they begin with {prefix:?}")]
    Stranger {
        /// What it was called.
        key: String,
        /// What it would begin with.
        prefix: String,
    },
    /// It does not want to be used.
    #[error(transparent)]
    Initialize(#[from] rohrpost_abi::InitializeError),
    /// There is one host in a process, and one worker in a thread.
    #[error("a process measures one plugin; there is one already")]
    Taken,
    /// It waits for something that does not come here.
    #[error(
        "{0} keeps its step: it waits for a timer or descriptor, and there is no event loop here; \
         measure it in a server"
    )]
    Held(Hook),
    /// It answers for the host.
    #[error("{0} answers its step in place of the host, so that no message passes")]
    Answered(Hook),
    /// A bug of the pair.
    #[error("the sessions do not understand each other: {0}")]
    Broken(String),
}

/// A text of about so many octets: lines of letters, as most have them.
pub fn text(octets: usize) -> Vec<u8> {
    let line = b"The quick brown fox jumps over the lazy dog and over what is left of it.\r\n";
    let mut text = b"Subject: a message\r\n\r\n".to_vec();
    while text.len() + line.len() <= octets {
        text.extend_from_slice(line);
    }
    text
}

/// A plugin of a pair, and what it sees.
#[derive(Debug)]
struct Seen {
    plugins: Plugins,
    incoming: ConnectionId,
    outgoing: ConnectionId,
    commands: Vec<Command>,
    /// The address that is shown, with its zero.
    text: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Pair {
    server: server::Session,
    client: client::Session,
    seen: Option<Seen>,
    wire: Vec<u8>,
}

impl Pair {
    /// A pair that no plugin sees.
    ///
    /// # Errors
    /// [`PairError::Broken`] alone.
    pub fn alone() -> Result<Pair, PairError> {
        Pair::of(None)
    }

    /// A pair that the plugin in `file` sees, as if it were loaded `copies` times. Once in a process.
    ///
    /// # Errors
    /// When it cannot be loaded, or takes control and keeps it.
    pub fn with(file: &Path, copies: usize) -> Result<Pair, PairError> {
        Pair::of(Some(Seen::load(file, copies, &[])?))
    }

    /// The same, once, with settings by their whole names: `plugin-NAME-KEY`.
    ///
    /// # Errors
    /// As [`with`](Pair::with), and when a setting is none of it.
    pub fn with_settings(file: &Path, settings: &[(String, String)]) -> Result<Pair, PairError> {
        Pair::of(Some(Seen::load(file, 1, settings)?))
    }

    /// The host of its plugin, if it has one.
    pub fn host(&self) -> Option<&'static Host> {
        self.seen.as_ref().map(|seen| seen.plugins.cell.host())
    }

    fn of(seen: Option<Seen>) -> Result<Pair, PairError> {
        let mut server = server::Session::new(Arc::new(server::Options::new(NAME)));
        server.greet(server::Greeting::Accept, &mut Unlimited);
        let client = client::Session::new(&client::Options::new(CLIENT));
        let mut pair = Pair { server, client, seen, wire: Vec::new() };
        for hook in [Hook::Connect, Hook::OutConnect] {
            pair.ask(hook)?;
        }
        match pair.turn()? {
            Some(client::Event::Ready { .. }) => Ok(pair),
            other => Err(broken("a greeting", &other)),
        }
    }

    /// The hooks of messages and connections that the plugin exports.
    pub fn hooks(&self) -> Vec<Hook> {
        let Some(seen) = &self.seen else { return Vec::new() };
        HOOKS.into_iter().filter(|hook| !seen.plugins.set().with(*hook).is_empty()).collect()
    }

    /// What else it exports, which nobody asks it here.
    pub fn others(&self) -> Vec<Hook> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let set = seen.plugins.set();
        let others = Hook::ALL.into_iter().filter(|hook| {
            *hook != Hook::Version && !HOOKS.contains(hook) && !set.with(*hook).is_empty()
        });
        others.collect()
    }

    /// Calls one hook, of all copies.
    ///
    /// # Errors
    /// When it keeps its step or answers it.
    pub fn ask(&mut self, hook: Hook) -> Result<(), PairError> {
        let Some(seen) = &mut self.seen else { return Ok(()) };
        let message = match hook {
            Hook::Message => Some(seen.show(seen.incoming, Some(Text::copy_from(b"\r\n")))),
            Hook::OutMessage | Hook::OutData | Hook::OutSent | Hook::OutResult => {
                Some(seen.show(seen.outgoing, None))
            }
            _ => None,
        };
        let asked = seen.ask_about(hook, message, Terminated::from(c"someone.else@example.org"));
        if let Some(message) = message {
            seen.plugins.cell.close_message(message);
        }
        if hook == Hook::Authenticate {
            // The next login begins with nobody authenticated and nothing said.
            seen.plugins.cell.take_authentication(seen.incoming);
            seen.plugins.cell.set_authenticated(seen.incoming, false);
        }
        if asked.is_err() {
            seen.reconnect();
        }
        asked
    }

    /// Sends one message from one session to the other; `text` has CRLF alone for line ends. Returns the
    /// octets that arrived.
    ///
    /// # Errors
    /// When a hook keeps its step or answers it; the sessions are of no use any more then.
    pub fn pass(&mut self, text: &[u8]) -> Result<usize, PairError> {
        let envelope = client::Envelope {
            from: SENDER,
            to: RECIPIENT,
            size: text.len() as u64,
            body: BodyKind::SevenBit,
            smtputf8: false,
            request: Request::default(),
        };
        let outward = self.show_outward()?;
        let started = self.client.start(envelope);
        started.map_err(|error| PairError::Broken(error.to_string()))?;
        let mut arrived = None;
        let outcome = loop {
            match self.turn_with(&mut arrived)? {
                Some(client::Event::Data354) => {
                    self.ask_outward(outward, Step::OutData)?;
                    if !self.client.begin_body() {
                        return Err(broken("a text", &None));
                    }
                    let field = received_field();
                    self.client.take_output(&mut self.wire);
                    Stuffer::new(&field, text, LineRepair::Trust).write_to(&mut self.wire);
                    self.client.end_body();
                    self.ask_outward(outward, Step::OutSent)?;
                }
                Some(client::Event::Done(client::Outcome::Accepted(_))) => break arrived.take(),
                other => return Err(broken("a mail that is accepted", &other)),
            }
        };
        self.ask_outward(outward, |message| Step::OutResult {
            message,
            code: 250,
            text: Terminated::from(c"250 2.0.0 Queued"),
        })?;
        if let (Some(message), Some(seen)) = (outward, &self.seen) {
            seen.plugins.cell.close_message(message);
        }
        outcome.ok_or_else(|| broken("a message", &None))
    }

    /// Shows the mail that is about to be sent to plugins, if any will be asked about it.
    fn show_outward(&mut self) -> Result<Option<MessageId>, PairError> {
        let hooks = [Hook::OutMessage, Hook::OutData, Hook::OutSent, Hook::OutResult];
        let Some(seen) = &self.seen else { return Ok(None) };
        let outgoing = Some(seen.outgoing);
        if !hooks.into_iter().any(|hook| seen.plugins.asks(outgoing, hook)) {
            return Ok(None);
        }
        let message = Some(seen.show(seen.outgoing, None));
        self.ask_outward(message, Step::OutMessage)?;
        Ok(message)
    }

    fn ask_outward(
        &mut self,
        message: Option<MessageId>,
        step: impl FnOnce(MessageId) -> Step<'static>,
    ) -> Result<(), PairError> {
        match (&mut self.seen, message) {
            (Some(seen), Some(message)) => seen.walk(seen.outgoing, &step(message)),
            (None, _) | (_, None) => Ok(()),
        }
    }

    fn turn(&mut self) -> Result<Option<client::Event>, PairError> {
        self.turn_with(&mut None)
    }

    /// Moves octets both ways until the client has something to say, or nothing moves any more.
    fn turn_with(
        &mut self,
        arrived: &mut Option<usize>,
    ) -> Result<Option<client::Event>, PairError> {
        loop {
            if let Some(event) = self.client.poll_event() {
                return Ok(Some(event));
            }
            self.client.take_output(&mut self.wire);
            let wire = std::mem::take(&mut self.wire);
            for read in wire.chunks(READ_BYTES) {
                self.take_in(read, arrived)?;
            }
            let mut replies = wire;
            let sent = !replies.is_empty();
            replies.clear();
            self.answer(arrived)?;
            self.server.take_output(&mut replies);
            if replies.is_empty() && !sent {
                return Ok(None);
            }
            self.client.handle_input(&replies);
            replies.clear();
            self.wire = replies;
        }
    }

    /// One read of the server.
    fn take_in(&mut self, read: &[u8], arrived: &mut Option<usize>) -> Result<(), PairError> {
        match self.server.body_target(&mut Unlimited) {
            Some(target) => {
                target.extend_from_slice(read);
                self.server.handle_body(&mut Unlimited);
            }
            None => self.server.handle_input(read, &mut Unlimited),
        }
        self.answer(arrived)
    }

    /// Has plugins asked about what the client said, and accepts it.
    #[expect(
        clippy::redundant_closure,
        reason = "a closure is of every lifetime, a constructor of one"
    )]
    fn answer(&mut self, arrived: &mut Option<usize>) -> Result<(), PairError> {
        while let Some(event) = self.server.poll_event(&mut Unlimited) {
            match event {
                server::Event::Mail(from) => {
                    self.ask_text(from.address.as_str(), |text| Step::MailFrom(text))?;
                }
                server::Event::Rcpt(to) => {
                    self.ask_text(to.address.as_str(), |text| Step::RcptTo(text))?
                }
                server::Event::Message(received) => {
                    let bytes = received.body.into_vec_with_nul();
                    *arrived = Some(bytes.len() - 1);
                    self.on_message(Arc::new(bytes))?;
                }
                _ => continue,
            }
            self.server.decide(server::Decision::Accept, &mut Unlimited);
        }
        Ok(())
    }

    fn ask_text(
        &mut self,
        text: &str,
        step: fn(Terminated<'_>) -> Step<'_>,
    ) -> Result<(), PairError> {
        let Some(seen) = &mut self.seen else { return Ok(()) };
        let mut bytes = std::mem::take(&mut seen.text);
        bytes.clear();
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        let text = Terminated::new(&bytes).expect("the zero was put there");
        let asked = seen.walk(seen.incoming, &step(text));
        seen.plugins.cell.end_address(seen.incoming);
        seen.text = bytes;
        asked
    }

    fn on_message(&mut self, bytes: Arc<Vec<u8>>) -> Result<(), PairError> {
        let Some(seen) = &mut self.seen else { return Ok(()) };
        let text =
            Text::from_terminated(bytes).expect("a received body keeps one zero past its end");
        seen.walk(seen.incoming, &Step::Data(text.as_terminated()))?;
        if !seen.plugins.asks(Some(seen.incoming), Hook::Message) {
            return Ok(());
        }
        let message = seen.show(seen.incoming, Some(text));
        let asked = seen.walk(seen.incoming, &Step::Message(message));
        seen.plugins.cell.close_message(message);
        asked
    }
}

impl Seen {
    fn load(file: &Path, copies: usize, settings: &[(String, String)]) -> Result<Seen, PairError> {
        let system = |what| move |source| PairError::System { what, source };
        let place = folder().map_err(system("a temporary folder cannot be made"))?;
        let file = std::fs::canonicalize(file).map_err(system("the plugin is not there"))?;
        let mut name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".so") {
            name.push_str(".so");
        }
        for copy in 0..copies {
            let link = match copies {
                1 => place.path().join(&name),
                _ => place.path().join(format!("{copy:02}-{name}")),
            };
            std::os::unix::fs::symlink(&file, link).map_err(system("no link can be made"))?;
        }
        let options = LoadOptions {
            directory: PluginDirectory::Set(place.path().to_owned()),
            copies: Copies::Memory,
            extra_versions: Vec::new(),
            on_error: OnError::Refuse,
        };
        let (plugins, _) = rohrpost_abi::Plugins::load(&options)?;
        let init = HostInit { plugins, log: first_lines(), post: Box::new(|_| {}) };
        let host = rohrpost_abi::install(init).map_err(|_| PairError::Taken)?;
        let plugins = host.plugins();
        let rows = own_settings(&rohrpost_abi::plugin_name(&name), settings)?;
        let rows = rows.iter().map(|(name, key, value)| (&**name, &**key, &**value));
        plugins.configure(plugins.set().plugins(), &plugins.settings(rows)?);
        plugins.initialize(&plugins.set())?;
        Seen::enter(host)
    }

    fn enter(host: &'static Host) -> Result<Seen, PairError> {
        let cell = rohrpost_abi::Worker::enter(0).map_err(|_| PairError::Taken)?;
        let tally = Tally::new(Census::new(1), 0);
        let mut plugins = Plugins::new(host, cell, Log::none(), RETRIES_MAX, CallTrace::Off, tally);
        let contexts = plugins.set().with(Hook::ContextInitialize).to_vec();
        let mut chain = plugins.chain_of(contexts.len());
        let walked = plugins.walk_context(&mut chain, ContextStep::Initialize, &contexts);
        if walked == Walk::Held {
            return Err(PairError::Held(Hook::ContextInitialize));
        }
        let incoming = open(&plugins, Direction::Incoming);
        let outgoing = open(&plugins, Direction::Outgoing);
        Ok(Seen { plugins, incoming, outgoing, commands: Vec::new(), text: Vec::new() })
    }

    /// New connections in place of those whose step a plugin keeps: what is asked next finds them free.
    fn reconnect(&mut self) {
        for (connection, direction) in
            [(&mut self.incoming, Direction::Incoming), (&mut self.outgoing, Direction::Outgoing)]
        {
            self.plugins.cell.revoke(*connection);
            self.plugins.cell.close_connection(*connection);
            *connection = open(&self.plugins, direction);
        }
        self.plugins.take_commands(&mut self.commands);
        self.commands.clear();
    }

    fn show(&self, connection: ConnectionId, mime: Option<Text>) -> MessageId {
        let init = MessageInit {
            envelope: Some(SENDER.as_bytes()),
            recipient: Some(RECIPIENT.as_bytes()),
            mime,
            ..MessageInit::default()
        };
        let opened = self.plugins.cell.open_message(connection, init);
        opened.expect("a pair has one message each way at a time")
    }

    /// As [`Seen::walk`], of the step of a hook; with its text or message, where it has one.
    fn ask_about(
        &mut self,
        hook: Hook,
        message: Option<MessageId>,
        text: Terminated<'_>,
    ) -> Result<(), PairError> {
        let (incoming, outgoing) = (self.incoming, self.outgoing);
        let (connection, step) = match (hook, message) {
            (Hook::Connect, _) => (incoming, Step::Connect),
            (Hook::Secure, _) => (incoming, Step::Secure),
            (Hook::Helo, _) => (incoming, Step::Helo(text)),
            (Hook::Authenticate, _) => {
                (incoming, Step::Authenticate { login: text, password: PASSWORD.into() })
            }
            (Hook::MailFrom, _) => (incoming, Step::MailFrom(text)),
            (Hook::RcptTo, _) => (incoming, Step::RcptTo(text)),
            (Hook::Data, _) => (incoming, Step::Data(text)),
            (Hook::Message, Some(message)) => (incoming, Step::Message(message)),
            (Hook::Reset, _) => (incoming, Step::Reset),
            (Hook::Close, _) => (incoming, Step::Close),
            (Hook::OutConnect, _) => (outgoing, Step::OutConnect),
            (Hook::OutSecure, _) => (outgoing, Step::OutSecure),
            (Hook::OutMessage, Some(message)) => (outgoing, Step::OutMessage(message)),
            (Hook::OutData, Some(message)) => (outgoing, Step::OutData(message)),
            (Hook::OutSent, Some(message)) => (outgoing, Step::OutSent(message)),
            (Hook::OutResult, Some(message)) => {
                (outgoing, Step::OutResult { message, code: 250, text })
            }
            (Hook::OutClose, _) => (outgoing, Step::OutClose),
            (_, _) => return Ok(()),
        };
        self.walk(connection, &step)
    }

    /// Walks the chain of one step, as a connection does.
    fn walk(&mut self, connection: ConnectionId, step: &Step<'_>) -> Result<(), PairError> {
        let hook = step.hook();
        let mut chain = self.plugins.chain(connection, hook);
        if chain.is_done() {
            return Ok(());
        }
        let walked = self.plugins.walk(&mut chain, connection, step);
        self.plugins.take_commands(&mut self.commands);
        // Nobody obeys: see the module.
        self.commands.clear();
        match walked {
            Walk::Done => Ok(()),
            Walk::Answered => Err(PairError::Answered(hook)),
            Walk::Held => Err(PairError::Held(hook)),
        }
    }
}

/// The settings of one plugin, as the host takes them: its name, key and value.
fn own_settings(
    plugin: &str,
    settings: &[(String, String)],
) -> Result<Vec<(String, String, String)>, PairError> {
    let prefix = format!("plugin-{plugin}-");
    let own = settings.iter().map(|(key, value)| {
        let name = setting_key(key);
        match name.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) {
            Some(rest) => Ok((plugin.to_owned(), rest.to_owned(), value.clone())),
            None => Err(PairError::Stranger { key: key.clone(), prefix: prefix.clone() }),
        }
    });
    own.collect()
}

fn open(plugins: &Plugins, direction: Direction) -> ConnectionId {
    let init = ConnectionInit { fd: -1, direction, secure: false, authenticated: false };
    plugins.cell.open_connection(init).expect("a new worker has room for two")
}

/// Shows the first lines that the plugin logs: to write all of them would be most of what is measured.
fn first_lines() -> LogSink {
    let lines = AtomicU32::new(0);
    Box::new(move |level, _, plugin, text| match lines.fetch_add(1, Ordering::Relaxed) {
        0..LINES_MAX => warn(format_args!("[{level}] {plugin}: {text}")),
        LINES_MAX => warn("further lines of the plugin are left out"),
        _ => {}
    })
}

fn received_field() -> Box<[u8]> {
    Trace {
        helo: CLIENT,
        remote: std::net::Ipv4Addr::LOCALHOST.into(),
        hostname: NAME,
        protocol: "ESMTP",
        cipher: None,
        id: "0CR6ZV2GWBC00",
        date: "Sun, 22 Nov 2026 22:00:00 +0000",
    }
    .to_field()
}

fn broken(wanted: &str, found: &Option<client::Event>) -> PairError {
    PairError::Broken(format!("{wanted} was awaited, and {found:?} came"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_passes_whole_with_our_field_before_it() {
        let mut pair = Pair::alone().unwrap();
        for text in [&b"\r\n.\r\n..two\r\n"[..], b"", &b"0123456789\r\n".repeat(20_000)] {
            assert_eq!(pair.pass(text).unwrap(), received_field().len() + text.len());
        }
        assert!(pair.hooks().is_empty());
    }
}
