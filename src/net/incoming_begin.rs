//! How an incoming connection begins: who the client is, whether it may stay, and TLS.
//!
//! The order is fixed (D-30): range and limits, header of the PROXY protocol and then range and limits
//! for whom it names, connect chain, TLS, secure chain, banner. STARTTLS comes back here later, for
//! TLS and the secure chain.
//!
//! Must never: call a plugin for a client that is turned away (D-31); send in clear what was to go
//! under TLS; use what came in clear once TLS was agreed on.
//!
//! **Diagnostics**: clients that are turned away, broken headers and handshakes that fail are logged,
//! rate-limited by kind.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rohrpost_abi::{ConnectionInit, Direction};
use rohrpost_reactor::Key;

use crate::limits::IncomingPermit;
use crate::log::Level;
use crate::metrics::Number;
use crate::plugin::view::SlotsSpent;
use crate::smtp::server::{Decision, Greeting, Options, Phase, Session};
use crate::smtp::{Fixed, answer};

use super::deadline::Deadline;
use super::desk::{Desk, Io};
use super::incoming::{Incoming, Peer, Stage};
use super::listener::Entrance;
use super::login::Login;
use super::proxy::{self, Named, Parsed};
use super::step::Step;
use super::transport::{Handshake, Transport};
use super::withheld::Withheld;

/// How long a proxy may take to say for whom it speaks; it knows that before it connects.
pub(super) const HEADER_MS: u64 = 10_000;

/// What a new connection is made of.
#[derive(Debug)]
pub struct Arrival {
    /// The registered socket.
    pub transport: Transport,
    /// The client, or the proxy that speaks for it.
    pub remote: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// How it came in.
    pub entrance: Entrance,
    /// Whether a header of the PROXY protocol comes first; the permit has no address yet then.
    pub proxied: bool,
    /// Its place among the connections.
    pub permit: IncomingPermit,
    /// Limits and names of the session.
    pub options: Arc<Options>,
}

/// A handshake that is to come, or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shake {
    /// So many octets of output go out in clear before it, the `220` at their end.
    After(usize),
    /// The socket belongs to TLS.
    Begun,
}

impl Incoming {
    /// A connection that passed the limits; drive it to let it begin.
    pub fn new(arrival: Arrival, desk: &mut Desk, io: &Io, key: Key) -> Incoming {
        desk.numbers().add(Number::IncomingConnections, 1);
        let mut incoming = Incoming {
            key,
            transport: arrival.transport,
            session: Session::new(arrival.options),
            remote: arrival.remote,
            unnamed: false,
            local: arrival.local,
            entrance: arrival.entrance,
            plugin: None,
            stage: Stage::Header,
            draft: None,
            login: Login::default(),
            peer: Peer::There,
            readable: true,
            read_closed: false,
            writable: true,
            queued_flush: false,
            leaving: false,
            lingering: false,
            last: false,
            deadline: Deadline::new(key),
            parting: false,
            told: None,
            told_lost: false,
            hold_ms: None,
            stage_ms: io.now_ms(),
            withheld: Withheld::default(),
            progress_ms: io.now_ms(),
            text_ms: None,
            permit: arrival.permit,
        };
        if !arrival.proxied {
            incoming.connect(desk, io);
        }
        incoming
    }

    /// Starts the connect chain.
    fn connect(&mut self, desk: &mut Desk, io: &Io) {
        // D-2E: plugins that have more to do than they can are given no more.
        let most = desk.settings.plugin.holds_max.map_or(u64::MAX, |most| u64::from(most.get()));
        if desk.numbers().value(Number::Held) >= most {
            desk.count(Number::Turned);
            let text =
                format_args!("{} is turned away: plugins hold plugin-holds steps", self.remote);
            desk.log.limited("plugin-holds", Level::Warning, "plugin", text);
            return self.turn_away(answer::TOO_MANY_CONNECTIONS, desk);
        }
        self.offer_login(desk);
        let init = ConnectionInit {
            fd: self.transport.descriptor(),
            direction: Direction::Incoming,
            secure: false,
            authenticated: false,
        };
        match desk.plugins.open(init) {
            Ok(plugin) => {
                self.plugin = plugin;
                if let Some(plugin) = plugin {
                    desk.by_plugin.insert(plugin, self.key);
                }
                self.ask_about(desk);
                self.tell_peer(desk);
                self.begin(Step::Connect, desk, io);
            }
            // No plugin could see the connection, and it must not pass them by.
            Err(SlotsSpent) => self.turn_away(answer::NO_DESCRIPTORS, desk),
        }
    }

    /// Reads the header of the PROXY protocol (D-30, D-51); `false` when there is nothing to do before
    /// the next event. What follows it is left in the socket: it is the client's.
    pub(super) fn read_header(&mut self, desk: &mut Desk, io: &mut Io) -> bool {
        if self.peer == Peer::Gone {
            self.stage = Stage::Session;
            return true;
        }
        if !self.readable {
            return false;
        }
        let mut space = [0; proxy::HEADER_BYTES_MAX];
        let parsed = match self.transport.peek(&mut space) {
            Ok(0) => Err("it ended before its header".into()),
            Ok(count) => proxy::parse(&space[..count]).map_err(|error| error.to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(Parsed::Incomplete),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Ok(Parsed::Incomplete) if !self.read_closed => {
                // More of it makes a new edge.
                self.readable = false;
                return false;
            }
            Ok(Parsed::Incomplete) => self.refuse_header("it ended within its header", desk),
            Ok(Parsed::Header { length, client }) => {
                if let Err(error) = self.transport.skip(&mut space[..length]) {
                    self.refuse_header(&error.to_string(), desk);
                } else {
                    self.on_header(client, desk, io);
                }
            }
            Err(why) => self.refuse_header(&why, desk),
        }
        true
    }

    fn on_header(&mut self, client: Named, desk: &mut Desk, io: &Io) {
        match client {
            Named::Proxy => {}
            Named::Nobody => self.unnamed = true,
            Named::Client { remote, local } => (self.remote, self.local) = (remote, local),
        }
        let client = self.remote.ip();
        if !desk.settings.smtp.clients.contains(client) {
            desk.count(Number::Turned);
            return self.turn_away(answer::CLIENT_REFUSED, desk);
        }
        if let Err(limit) = self.permit.name(client) {
            desk.count(Number::Turned);
            let text = format_args!("{client} is turned away: {limit}");
            desk.log.limited("connections", Level::Warning, "smtp", text);
            return self.turn_away(answer::TOO_MANY_CONNECTIONS, desk);
        }
        self.connect(desk, io);
    }

    fn refuse_header(&mut self, why: &str, desk: &mut Desk) {
        let text = format_args!("{} is in smtp-proxy, but {why}; it is closed", self.remote);
        desk.log.limited("proxy-header", Level::Warning, "smtp", text);
        desk.count(Number::Turned);
        self.stage = Stage::Session;
        self.on_gone(desk);
    }

    /// Ends a connection that no plugin has seen. Where TLS is to come first nothing can be said.
    pub(super) fn turn_away(&mut self, reply: Fixed, desk: &mut Desk) {
        self.stage = Stage::Session;
        match self.entrance {
            Entrance::Clear => {
                self.session.greet(Greeting::Refuse(reply.into()), &mut desk.memory);
            }
            Entrance::Secure => self.on_gone(desk),
        }
    }

    /// The connect chain is done.
    pub(super) fn on_welcome(&mut self, desk: &mut Desk, io: &Io) {
        match self.entrance {
            // The server stops: nothing can be said before a handshake, and none is begun.
            Entrance::Secure if self.last => self.on_gone(desk),
            Entrance::Clear => self.session.greet(Greeting::Accept, &mut desk.memory),
            Entrance::Secure => self.begin_handshake(0, io),
        }
    }

    /// STARTTLS: the reply goes out in clear, and nothing after it.
    pub(super) fn on_starttls(&mut self, desk: &mut Desk, io: &Io) {
        if desk.tls.server.is_none() {
            return self.decide(Decision::Refuse(answer::TLS_UNAVAILABLE.into()), desk, io);
        }
        if self.last {
            // It was pipelined behind the last transaction.
            let reply = answer::SHUTTING_DOWN.into();
            return self.decide(Decision::RefuseAndClose(reply), desk, io);
        }
        self.decide(Decision::Accept, desk, io);
        self.begin_handshake(self.session.output().len(), io);
    }

    fn begin_handshake(&mut self, clear: usize, io: &Io) {
        self.stage = Stage::Handshake(Shake::After(clear));
        self.stage_ms = io.now_ms();
    }

    /// Does what it can of the handshake; `false` when there is nothing to do before the next event.
    pub(super) fn shake(&mut self, desk: &mut Desk, io: &mut Io) -> bool {
        if self.peer == Peer::Gone {
            self.stage = Stage::Session;
            return true;
        }
        match &self.stage {
            Stage::Handshake(Shake::After(0)) => {
                let Some(server) = &desk.tls.server else {
                    self.on_handshake_failed("there is no certificate any more", desk);
                    return true;
                };
                let config = match self.entrance {
                    Entrance::Clear => server.starttls(),
                    Entrance::Secure => server.implicit(),
                };
                if let Err(error) = self.transport.start_server_tls(config) {
                    self.on_handshake_failed(&error.to_string(), desk);
                    return true;
                }
                self.stage = Stage::Handshake(Shake::Begun);
            }
            Stage::Handshake(Shake::Begun) => {}
            // The flush goes first.
            _ => return false,
        }
        if !desk.may_shake() {
            io.again(Token::from(self.key));
            return false;
        }
        match self.transport.handshake() {
            Handshake::Done => self.on_handshake(desk, io),
            Handshake::Blocked => return false,
            Handshake::More => {
                io.again(Token::from(self.key));
                return false;
            }
            Handshake::Failed(error) => self.on_handshake_failed(&error.to_string(), desk),
        }
        true
    }

    /// D-32: on every way in.
    fn on_handshake(&mut self, desk: &mut Desk, io: &Io) {
        // What came with the end of the handshake makes no edge.
        self.readable = true;
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_secure(plugin);
        }
        self.tell_tls(desk);
        self.begin(Step::Secure, desk, io);
    }

    /// D-33: no secure chain, but the close chain.
    fn on_handshake_failed(&mut self, why: &str, desk: &mut Desk) {
        let text = format_args!("{}: the TLS handshake failed: {why}", self.remote);
        desk.log.limited("handshake", Level::Info, "tls", text);
        self.stage = Stage::Session;
        self.on_gone(desk);
    }

    /// The secure chain is done.
    pub(super) fn on_secure(&mut self, desk: &mut Desk) {
        self.session.on_secure();
        self.forget_login(desk);
        self.offer_login(desk);
        if self.session.phase() == Phase::Greeting {
            self.session.greet(Greeting::Accept, &mut desk.memory);
        }
    }

    /// All output so far may be written, whatever happens to the mail that is under way.
    pub(super) fn let_go(&mut self) {
        self.withheld.let_go(self.session.output().len());
    }

    /// Whether replies wait for a commit.
    pub(super) fn is_withholding(&self) -> bool {
        self.withheld.is_any(self.session.output().len())
    }

    /// What may be written now.
    pub(super) fn sendable(&self) -> &[u8] {
        let output = self.session.output();
        if self.entrance == Entrance::Secure && !self.transport.is_secure() {
            return &[];
        }
        match self.stage {
            // A lost peer has cleared its output.
            Stage::Handshake(Shake::After(clear)) => &output[..clear.min(output.len())],
            Stage::Handshake(Shake::Begun) | Stage::Header => &[],
            // Replies to MAIL and RCPT of one flight go with that to its text, in one write: that is what
            // the client waits for, and the server not for input (RFC 2920 3.2). What came before this
            // mail goes now.
            Stage::Commit(..) => &output[..self.withheld.sendable(output.len())],
            Stage::Session | Stage::Step(..) | Stage::Verify | Stage::Refusal | Stage::Done => {
                output
            }
        }
    }
}
