//! A client says who it is: plugins are asked, then the users of `smtp-auth` (D-34).
//!
//! Owns who may log in and who must, the way of credentials through the plugins and to the thread that
//! computes hashes, and what a connection is logged in as.
//!
//! Must never: log a password, keep one longer than it takes to judge it, or let a failed login tell how
//! it failed.
//!
//! **Diagnostics**: every login that fails is logged with address and name: `smtp-errors` and
//! `smtp-auth-delay` bound how many a connection has, and whoever blocks addresses by the log needs all.

use std::net::IpAddr;
use std::sync::Arc;

use rohrpost_abi::{Fact, Hook};

use crate::auth::logins::Judgement;
use crate::auth::{Check, Checks};
use crate::log::Level;
use crate::metrics::Number;
use crate::rolls::Rolls;
use crate::settings::{Settings, Smtp};
use crate::smtp::Address;
use crate::smtp::sasl::Credentials;
use crate::smtp::server::{Decision, LoginOffer};
use crate::smtp::{Fixed, Reply, answer};

use super::desk::{Desk, Io};
use super::incoming::{Incoming, Peer, Stage};
use super::step::Step;

/// How long the check of a password may take; behind a full queue of the costliest hashes it takes half
/// as long.
pub(super) const VERIFY_MS: u64 = 60_000;

/// What a worker knows about who may log in, and what those may who have not.
#[derive(Debug)]
pub struct Admission {
    rolls: Arc<Rolls>,
    checks: Checks,
    /// A plugin judges credentials.
    asks_plugins: bool,
    /// `smtp-relay-range` was written down, not left to its default.
    range_is_set: bool,
}

impl Admission {
    /// For the logins of one worker; `asks_plugins` is whether any plugin exports the hook.
    pub fn new(
        settings: &Settings,
        rolls: Arc<Rolls>,
        checks: Checks,
        asks_plugins: bool,
    ) -> Admission {
        let range_is_set = settings.is_set("smtp-relay-range");
        Admission { rolls, checks, asks_plugins, range_is_set }
    }

    /// Other settings, other users, and perhaps other plugins, from now on.
    pub fn change(&mut self, settings: &Settings, rolls: Arc<Rolls>, asks_plugins: bool) {
        self.rolls = rolls;
        self.asks_plugins = asks_plugins;
        self.range_is_set = settings.is_set("smtp-relay-range");
    }

    /// Whether there is anybody to ask.
    pub fn is_open(&self) -> bool {
        self.asks_plugins || !self.rolls.logins.is_empty()
    }

    /// What is offered to this client (D-37), whose address may be unknown.
    pub fn offer(&self, smtp: &Smtp, remote: Option<IpAddr>, secure: bool) -> LoginOffer {
        match secure || remote.is_some_and(|remote| smtp.auth_plaintext.contains(remote)) {
            _ if !self.is_open() => LoginOffer::No,
            true => LoginOffer::Yes,
            false => LoginOffer::AfterTls,
        }
    }

    /// Whether the client's address alone, if it is known, lets it send to everybody. D-35: where one can log in one must,
    /// unless the administrator has said which networks need not.
    pub fn trusts(&self, smtp: &Smtp, remote: Option<IpAddr>) -> bool {
        (self.range_is_set || !self.is_open())
            && remote.is_some_and(|remote| smtp.relay_clients.contains(remote))
    }

    /// Whether mail for this address is taken from everybody.
    pub fn is_local(&self, address: &Address) -> bool {
        self.rolls.locals.has(address.as_str().as_bytes())
    }

    /// What a client hears that may not send to a recipient.
    pub fn refusal(&self) -> Fixed {
        if self.is_open() { answer::LOGIN_FIRST } else { answer::NO_RELAY }
    }
}

/// What a connection is logged in as.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// The last login that was successful.
    user: Option<Arc<str>>,
    /// Who is being judged, from AUTH to its answer.
    pending: Option<Box<str>>,
    /// The login is by `smtp-auth`: what becomes of plugins does not touch it.
    by_host: bool,
    /// A plugin had granted what a login would (D-3A) when AUTH came.
    granted: bool,
    /// How a plugin wants the refusal to be put.
    refusal: Option<Box<Reply>>,
    /// When AUTH came.
    begun_ms: u64,
}

impl Incoming {
    /// Tells the session whether to offer AUTH: at the start, and when the connection was encrypted.
    pub(super) fn offer_login(&mut self, desk: &Desk) {
        let secure = self.session.is_secure();
        let offer = desk.admission.offer(&desk.settings.smtp, self.trusted_address(), secure);
        self.session.offer_login(offer);
    }

    /// What was said in clear counts no longer once the connection is encrypted (RFC 3207 4.2).
    pub(super) fn forget_login(&mut self, desk: &Desk) {
        if self.login.user.is_some() {
            self.login = Login::default();
            self.tell_login(desk);
            self.set_authenticated(false, desk);
        }
    }

    /// The client gave credentials: the plugins are asked first (D-34).
    pub(super) fn on_credentials(&mut self, credentials: Credentials, desk: &Desk, io: &Io) {
        self.login = Login {
            user: None,
            pending: Some(credentials.name().into()),
            by_host: false,
            granted: self.is_authenticated(desk),
            refusal: None,
            begun_ms: io.now_ms(),
        };
        // The first plugin sees false, whatever the client was taken for before, and what plugins said
        // outside of this step is no answer to it.
        self.set_authenticated(false, desk);
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.take_authentication(plugin);
        }
        self.begin(Step::Authenticate(Box::new(credentials)), desk, io);
    }

    /// Every plugin was asked. D-39: the last value that one of them set decides; without one the users
    /// of `smtp-auth` do (D-34).
    pub(super) fn judge(&mut self, credentials: Credentials, desk: &mut Desk, io: &Io) {
        let said = self.plugin.and_then(|plugin| desk.plugins.cell.take_authentication(plugin));
        if let Some(good) = said {
            return self.on_judged(good, desk, io);
        }
        match desk.admission.rolls.logins.judge(&credentials) {
            Judgement::Known(good) => {
                self.login.by_host = good;
                self.on_judged(good, desk, io);
            }
            Judgement::Hash { hash, meaning } => {
                let password = credentials.password;
                let (worker, connection) = (desk.index, self.key);
                let check = Check { worker, connection, hash, meaning, password };
                if !desk.admission.checks.begin(self.remote.ip(), check) {
                    let text =
                        "too many passwords are being checked; clients are told to come back";
                    desk.log.limited("logins-busy", Level::Warning, "smtp", text);
                    self.login.pending = None;
                    // Nobody said that the client is not who it was taken for.
                    self.set_authenticated(self.login.granted, desk);
                    let refusal = Decision::RefuseAsError(answer::LOGIN_LATER.into());
                    return self.decide(refusal, desk, io);
                }
                desk.count(Number::PasswordsHashed);
                self.stage = Stage::Verify;
                self.stage_ms = io.now_ms();
            }
        }
    }

    /// The hash was computed.
    pub(super) fn on_hashed(&mut self, good: bool, desk: &mut Desk, io: &Io) {
        // The connection may have given up in the meantime.
        if matches!(self.stage, Stage::Verify) {
            self.login.by_host = good;
            self.on_judged(good, desk, io);
        }
    }

    fn on_judged(&mut self, good: bool, desk: &mut Desk, io: &Io) {
        let name = self.login.pending.take();
        self.set_authenticated(good, desk);
        if good {
            desk.count(Number::LoggedIn);
            self.login.user = name.map(Arc::from);
            self.tell_login(desk);
            return self.decide(Decision::Accept, desk, io);
        }
        desk.count(Number::LoginsFailed);
        let (remote, name) = (self.remote, name.unwrap_or_default());
        let text = format_args!("{remote} failed to log in as {name:?}");
        desk.log.warning("smtp", text);
        // All refusals take the same time, which also slows down whoever guesses.
        self.stage = Stage::Refusal;
        self.stage_ms = self.login.begun_ms;
        if io.now_ms() >= self.refusal_ms(desk) {
            self.refuse_login(desk, io);
        }
    }

    /// When a failed login is answered.
    pub(super) fn refusal_ms(&self, desk: &Desk) -> u64 {
        self.stage_ms + desk.settings.smtp.auth_delay.as_millis() as u64
    }

    /// A plugin refuses the login with a reply of its own, whatever else was said of it.
    pub(super) fn refuse_login_with(&mut self, reply: Reply, desk: &mut Desk, io: &Io) {
        if reply.is_permanent() {
            self.login.refusal = Some(Box::new(reply));
            return self.on_judged(false, desk, io);
        }
        self.login.pending = None;
        // Nobody said that the client is not who it was taken for.
        self.set_authenticated(self.login.granted, desk);
        self.decide(Decision::RefuseAsError(reply), desk, io);
    }

    /// Answers a failed login.
    pub(super) fn refuse_login(&mut self, desk: &mut Desk, io: &Io) {
        let reply = self.login.refusal.take();
        let reply = reply.map_or_else(|| answer::LOGIN_REFUSED.into(), |reply| *reply);
        self.decide(Decision::Refuse(reply), desk, io);
    }

    /// Nothing is to be waited for any more: the client is gone.
    pub(super) fn is_login_over(&self) -> bool {
        matches!(self.stage, Stage::Verify | Stage::Refusal) && self.peer == Peer::Gone
    }

    /// The server stops at once: nothing is waited for any more.
    pub(super) fn abort_login(&mut self, desk: &mut Desk, io: &Io) {
        if matches!(self.stage, Stage::Verify | Stage::Refusal) {
            self.decide(Decision::RefuseAndClose(answer::SHUTTING_DOWN.into()), desk, io);
        }
    }

    /// A plugin's step is taken back. It is not asked again until it hands back (D-28), so what it
    /// granted before, perhaps to another sender, holds no longer. A login by `smtp-auth` was not its to
    /// grant, and is left as it is.
    pub(super) fn revoke_login(&mut self, desk: &Desk) {
        if !self.login.by_host {
            self.set_authenticated(false, desk);
            // Who is being judged is still to be answered.
            let (pending, begun_ms) = (self.login.pending.take(), self.login.begun_ms);
            self.login = Login { pending, begun_ms, ..Login::default() };
            self.tell_login(desk);
            self.session.on_logged_out();
        }
    }

    /// Plugins may take a login back at any time (D-3A): then the client may log in again.
    pub(super) fn check_login(&mut self, desk: &Desk) {
        if self.session.is_logged_in() && !self.is_authenticated(desk) {
            self.login = Login::default();
            self.tell_login(desk);
            self.session.on_logged_out();
        }
    }

    /// The client's address, as far as it is known: what is granted by address is granted by this.
    pub(super) fn trusted_address(&self) -> Option<IpAddr> {
        (!self.unnamed).then(|| self.remote.ip())
    }

    /// Whether the client may send to everybody by who it is.
    pub(super) fn is_authenticated(&self, desk: &Desk) -> bool {
        match self.plugin {
            // Plugins may say so, and take it back, at any time (D-3A).
            Some(plugin) => desk.plugins.cell.authenticated(plugin),
            None => self.login.user.is_some(),
        }
    }

    /// What the connection is logged in as, as long as that holds.
    pub(super) fn user(&self, desk: &Desk) -> Option<Arc<str>> {
        self.login.user.clone().filter(|_| self.is_authenticated(desk))
    }

    /// What plugins see of the login.
    fn tell_login(&self, desk: &Desk) {
        if self.plugin.is_some() {
            self.tell(Fact::Login(self.login.user.clone()), desk);
        }
    }

    fn set_authenticated(&self, authenticated: bool, desk: &Desk) {
        if let Some(plugin) = self.plugin {
            desk.plugins.cell.set_authenticated(plugin, authenticated);
        }
    }
}

/// Whether any plugin judges credentials.
pub fn asks_plugins(plugins: &crate::plugin::view::Plugins) -> bool {
    !plugins.set().with(Hook::Authenticate).is_empty()
}
