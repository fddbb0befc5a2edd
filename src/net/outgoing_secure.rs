//! How an outgoing connection is secured: what is wanted of it, the handshake, and what follows if that
//! fails.
//!
//! What is wanted follows from the settings, and from the password if the connection carries one:
//! a password wants more than mail, for whoever gets it once has it for ever.
//!
//! A handshake that fails on a connection that needs none costs the mail nothing: the next
//! connection to that host is made in clear at once, and if TLS itself failed, or the connection was lost
//! twice in a row, others are for a while ([`BrokenTls`]). Mails are taken only by connections that are
//! greeted, so none has noticed.
//!
//! Must never: use a connection in clear where that is not allowed; send a password to whom it is not for.
//!
//! **Diagnostics**: handshakes that fail and logins that are refused are logged, rate-limited; the second
//! as critical, as no mail leaves until somebody mends the settings.
//!
//! [`BrokenTls`]: super::broken::BrokenTls

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::delivery::{Account, Stop, Target};
use crate::log::Level;
use crate::settings::{AuthRule, Security, Settings, TlsStart};
use crate::smtp::Reply;
use crate::smtp::client::{self, Credentials, Login, Options, Problem, Stage};

use super::broken::Failure;
use super::desk::{Desk, Io};
use super::outgoing::Outgoing;
use super::transport::Handshake;

/// What is wanted of one connection.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    security: Security,
    /// Whom it is to lead to, as a certificate would have it.
    name: Result<ServerName<'static>, Arc<str>>,
    begun: bool,
    /// Why the handshake failed.
    failure: Option<(String, Failure)>,
}

/// What a connection to `stop` is made with: the session's options, and its guard. A host whose TLS is
/// known to be broken is spared a handshake that it does not need.
pub(super) fn plan(
    stop: &Stop,
    target: &Target,
    settings: &Settings,
    spared: bool,
) -> (Options, Guard) {
    let Stop { host, address, .. } = stop;
    let mut options = Options::new(settings.smtp.hostname.clone());
    let mut security = settings.hop.security;
    let is_smarthost = is_smarthost(target, settings);
    options.login = login(target, *address, settings);
    if options.login.as_ref().is_some_and(|login| !login.in_clear) {
        security = match settings.hop.auth {
            AuthRule::Verified => Security::Verified,
            AuthRule::Encrypted | AuthRule::Clear => security.max(Security::Required),
        };
    }
    if is_smarthost && settings.hop.smarthost_tls == TlsStart::Implicit {
        security = security.max(Security::Required);
        options.security = client::Security::Implicit;
    } else {
        if security == Security::Opportunistic && spared {
            security = Security::Off;
        }
        options.security = match security {
            Security::Off => client::Security::Clear,
            Security::Opportunistic => client::Security::IfOffered,
            Security::Required | Security::Verified => client::Security::Required,
        };
    }
    let guard = Guard { security, name: name(host), begun: false, failure: None };
    (options, guard)
}

/// Whether it is the smarthost of the settings: not one that a mail brings along, nor whatever stands in
/// for it.
fn is_smarthost(target: &Target, settings: &Settings) -> bool {
    let delivery = &settings.delivery;
    match (target, &delivery.smarthost) {
        (Target::Host(hop), Some(smarthost)) => {
            delivery.sink.is_none()
                && hop.account == Account::OfSettings
                && hop.port == delivery.smarthost_port
                && hop.host == smarthost.to_string()
        }
        (Target::Host(_), None) | (Target::Domain(_), _) => false,
    }
}

/// The login of the settings belongs to their smarthost and to nobody else; that of a mail to the host
/// that it names.
fn login(target: &Target, address: SocketAddr, settings: &Settings) -> Option<Login> {
    let hop = &settings.hop;
    let own = is_smarthost(target, settings) && !hop.username.is_empty();
    let (username, password) = match target {
        Target::Host(host) => match &host.account {
            Account::OfSettings => (hop.username.as_str(), hop.password.expose()),
            Account::OfMessage(None) => return None,
            Account::OfMessage(Some(_)) if settings.delivery.sink.is_some() => return None,
            Account::OfMessage(Some((username, password))) => (&**username, password.expose()),
        },
        Target::Domain(_) => return None,
    };
    let brought =
        matches!(target, Target::Host(host) if matches!(host.account, Account::OfMessage(_)));
    (own || brought).then(|| Login {
        credentials: Arc::new(Credentials::new(username, password)),
        // Whoever lets his own password go in clear has not said so of others'.
        in_clear: address.ip().is_loopback() || (own && hop.auth == AuthRule::Clear),
    })
}

/// The name that a host's certificate must be for.
fn name(host: &str) -> Result<ServerName<'static>, Arc<str>> {
    let plain = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(plain.to_owned())
        .map_err(|_| format!("no certificate can be for a host called {host}").into())
}

impl Guard {
    /// Whether a connection that cannot be encrypted is good enough.
    fn may_go_clear(&self) -> bool {
        match self.security {
            Security::Off | Security::Opportunistic => true,
            Security::Required | Security::Verified => false,
        }
    }

    /// Whether settings that were read again want more than this.
    pub(super) fn is_outdated(&self, wanted: Security) -> bool {
        match wanted {
            Security::Off | Security::Opportunistic => false,
            Security::Required | Security::Verified => self.security < wanted,
        }
    }

    /// Whom the connection is to lead to, if a certificate can say so.
    pub(super) fn name(&self) -> Option<&ServerName<'static>> {
        self.name.as_ref().ok()
    }

    /// Why the handshake failed, if it did.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take().map(|(why, _)| why)
    }

    /// What to shake hands with, and the name to ask for.
    fn config(
        &self,
        address: SocketAddr,
        desk: &Desk,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), Arc<str>> {
        match self.security {
            Security::Verified => Ok((desk.tls.client.verified()?, self.name.clone()?)),
            Security::Off | Security::Opportunistic | Security::Required => {
                // Who answers does not matter: then the name does not either.
                let name = self.name.clone().unwrap_or_else(|_| address.ip().into());
                Ok((desk.tls.client.opportunistic(), name))
            }
        }
    }
}

impl Outgoing {
    /// Whether settings that were read again would not have made this connection: they want it more
    /// secure, or trust somebody else. Costs nothing until they are read again.
    pub(super) fn is_outdated(&mut self, desk: &Desk) -> bool {
        if Arc::ptr_eq(&self.settings, &desk.settings) {
            return false;
        }
        let (_, wanted) = plan(&self.stop, &self.target, &desk.settings, false);
        if self.guard.is_outdated(wanted.security) || self.is_distrusted(wanted.security, desk) {
            return true;
        }
        self.settings = desk.settings.clone();
        false
    }

    /// Whether the authorities of now do not speak for a far end that must be known.
    fn is_distrusted(&self, wanted: Security, desk: &Desk) -> bool {
        let trusts = |name| desk.tls.client.judge(self.transport.peer_certificates(), name).is_ok();
        wanted == Security::Verified && !self.guard.name().is_some_and(trusts)
    }

    /// Goes on with the handshake; `false` when there is nothing to do before the next event.
    pub(super) fn shake_hands(&mut self, desk: &mut Desk, io: &mut Io) -> bool {
        if !desk.may_shake() {
            io.again(Token::from(self.key));
            return false;
        }
        if !self.guard.begun {
            self.guard.begun = true;
            let config = self.guard.config(self.stop.address, desk);
            let started = config.and_then(|(config, name)| {
                let started = self.transport.start_client_tls(config, name);
                started.map_err(|error| error.to_string().into())
            });
            if let Err(why) = started {
                return self.on_handshake_failed(why.to_string(), Failure::Tls);
            }
        }
        match self.transport.handshake() {
            Handshake::Done => {
                desk.broken_tls.on_secured(self.stop.address);
                self.on_handshake_done(desk);
                // What follows may have come in one piece with its end.
                self.readable = true;
                true
            }
            Handshake::Blocked => false,
            Handshake::More => {
                io.again(Token::from(self.key));
                false
            }
            Handshake::Failed(error) => {
                let tls = error.get_ref().is_some_and(|error| error.is::<rustls::Error>());
                let failure = if tls { Failure::Tls } else { Failure::Lost };
                self.on_handshake_failed(error.to_string(), failure)
            }
        }
    }

    fn on_handshake_failed(&mut self, why: String, failure: Failure) -> bool {
        self.guard.failure = Some((why, failure));
        self.session.on_lost(Problem::Closed);
        true
    }

    /// Whether a connection that was lost at `stage` is replaced by one in clear.
    pub(super) fn goes_clear(&self, stage: Stage) -> bool {
        matches!(stage, Stage::StartTls | Stage::Handshake) && self.guard.may_go_clear()
    }

    /// The host cannot do the TLS that it offers, and need not: it is the next stop once more.
    pub(super) fn go_clear(&mut self, problem: Problem, desk: &mut Desk, io: &Io) {
        let Stop { host, address, .. } = &self.stop;
        let (why, failure) = self.guard.failure.take().unwrap_or_else(|| {
            let lost = matches!(problem, Problem::Closed | Problem::TimedOut);
            (problem.to_string(), if lost { Failure::Lost } else { Failure::Tls })
        });
        let spared = desk.broken_tls.on_failed(*address, failure, io.now_ms());
        let what = if spared { "mail goes" } else { "this once mail goes" };
        let text =
            format_args!("TLS with {host} ({address}) failed, {what} there unencrypted: {why}");
        desk.log.limited("tls-out", Level::Warning, "smtp", text);
        if let Some(mut journey) = self.journey.take() {
            journey.repeat_in_clear(self.stop.clone());
            desk.onward.push_back(journey);
        }
        self.over = true;
    }

    /// The far end, or our own rule, let the connection come no further than this. A login that fails is
    /// our own fault, and nothing gets better by itself.
    pub(super) fn log_refusal(&self, stage: Stage, reply: &Reply, desk: &Desk) {
        if matches!(stage, Stage::Auth(_)) {
            let Stop { host, address, .. } = &self.stop;
            let text = format_args!("the login to {host} ({address}) failed, mail waits: {reply}");
            desk.log.limited("login-out", Level::Critical, "smtp", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::NextHop;
    use crate::queue::{Password, Smarthost};
    use crate::settings::{Arguments, Machine, Sources};

    const RELAY: &str = "192.0.2.1:587";

    fn planned(
        values: &[(&str, &str)],
        target: &Target,
        address: &str,
        spared: bool,
    ) -> (Options, Guard) {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let arguments = Arguments { config_file: None, values: values.collect() };
        let sources = Sources { arguments, ..Sources::default() };
        let settings = Settings::load(&sources, &Machine::detect()).unwrap().settings;
        let address = address.parse().unwrap();
        let stop = Stop { host: "relay.example".into(), preference: 0, address };
        plan(&stop, target, &settings, spared)
    }

    fn host(host: &str, port: u16) -> Target {
        let account = Account::OfSettings;
        Target::Host(Arc::new(NextHop { host: host.to_owned(), port, account }))
    }

    /// One that a mail names, with a login or without.
    fn brought(name: &str, password: Option<&str>) -> Target {
        Target::Host(Arc::new(NextHop::of_message(&Smarthost {
            host: name.into(),
            port: 587,
            username: password.map(|_| "mine".into()),
            password: password.map(|password| Password::new(password.to_owned())),
        })))
    }

    fn relay(values: &[(&str, &str)], address: &str) -> (Options, Guard) {
        let base = [
            ("queue-directory", "/tmp/queue"),
            ("smarthost", "relay.example"),
            ("smarthost-port", "587"),
        ];
        planned(&[&base, values].concat(), &host("relay.example", 587), address, false)
    }

    const LOGIN: [(&str, &str); 2] = [("smarthost-username", "u"), ("smarthost-password", "p")];

    #[test]
    fn what_is_asked_of_tls_follows_from_the_settings() {
        use client::Security::{Clear, IfOffered, Implicit, Required};
        let rows = [
            ("off", "starttls", Clear, Security::Off),
            ("optional", "starttls", IfOffered, Security::Opportunistic),
            ("opportunistic", "starttls", IfOffered, Security::Opportunistic),
            ("required", "starttls", Required, Security::Required),
            ("verified", "starttls", Required, Security::Verified),
            ("off", "implicit", Implicit, Security::Required),
            ("verified", "implicit", Implicit, Security::Verified),
        ];
        for (security, start, asked, guarded) in rows {
            let values = [("smtp-out-security", security), ("smarthost-tls", start)];
            let (options, guard) = relay(&values, RELAY);
            assert_eq!((options.security, guard.security), (asked, guarded), "{security} {start}");
            assert!(options.login.is_none());
        }
    }

    /// A password goes only where its owner allows it, whatever is wanted of mail.
    #[test]
    fn a_password_asks_for_more_than_mail() {
        let rows = [
            ("verified", "off", Security::Verified, false),
            ("verified", "required", Security::Verified, false),
            ("encrypted", "off", Security::Required, false),
            ("encrypted", "verified", Security::Verified, false),
            ("clear", "opportunistic", Security::Opportunistic, true),
        ];
        for (auth, security, guarded, in_clear) in rows {
            let values = [("smarthost-auth", auth), ("smtp-out-security", security)];
            let (options, guard) = relay(&[&values[..], &LOGIN].concat(), RELAY);
            assert_eq!(guard.security, guarded, "{auth} {security}");
            assert_eq!(options.login.unwrap().in_clear, in_clear, "{auth} {security}");
            assert_eq!(guard.may_go_clear(), in_clear);
        }
        let (options, guard) = relay(&LOGIN, "127.0.0.1:587");
        assert!(options.login.unwrap().in_clear, "nobody listens on the way to this machine");
        assert_eq!(guard.security, Security::Opportunistic);
    }

    #[test]
    fn nobody_but_the_smarthost_gets_the_password() {
        let values = [
            ("queue-directory", "/tmp/queue"),
            ("smarthost", "relay.example"),
            ("smarthost-port", "587"),
        ];
        let values = [&values[..], &LOGIN].concat();
        let rows = [
            (host("relay.example", 587), "", true),
            (host("relay.example", 25), "", false),
            (host("other.example", 587), "", false),
            (Target::Domain("relay.example".into()), "", false),
            (brought("relay.example", None), "", false),
            (brought("relay.example", Some("p")), "127.0.0.1", false),
            (brought("other.example", None), "", false),
            (host("relay.example", 587), "127.0.0.1", false),
            (host("relay.example", 587), "0.0.0.0", true),
            (host("relay.example", 587), "::", true),
        ];
        for (target, sink, expected) in rows {
            let values = [&values[..], &[("smtp-sink-address", sink)]].concat();
            let (options, _) = planned(&values, &target, RELAY, false);
            assert_eq!(options.login.is_some(), expected, "{target} {sink}");
        }
    }

    #[test]
    fn a_mail_brings_its_own_login_along() {
        let values = [("queue-directory", "/tmp/queue")];
        let values = [&values[..], &LOGIN].concat();
        let (options, guard) =
            planned(&values, &brought("other.example", Some("own")), RELAY, false);
        let login = options.login.unwrap();
        assert!(*login.credentials == Credentials::new("mine", "own"));
        assert_eq!(guard.security, Security::Verified, "a password asks for more than mail");
        // What the settings allow for their own password they do not allow for others'.
        let clear = [&values[..], &[("smarthost-auth", "clear")]].concat();
        let (options, guard) =
            planned(&clear, &brought("other.example", Some("own")), RELAY, false);
        assert!(!options.login.unwrap().in_clear);
        assert_eq!(guard.security, Security::Required);
        let (options, _) =
            planned(&clear, &brought("other.example", Some("own")), "127.0.0.1:587", false);
        assert!(options.login.unwrap().in_clear, "nobody listens on the way to this machine");
    }

    #[test]
    fn a_host_is_spared_only_where_tls_is_not_needed() {
        use client::Security::{Clear, Required};
        for (security, asked) in [("opportunistic", Clear), ("required", Required)] {
            let values = [("queue-directory", "/tmp/queue"), ("smtp-out-security", security)];
            let target = Target::Domain("example".into());
            let (options, _) = planned(&values, &target, "192.0.2.1:25", true);
            assert_eq!(options.security, asked);
        }
    }

    #[test]
    fn settings_that_want_more_make_a_connection_outdated() {
        use Security::{Off, Opportunistic, Required, Verified};
        for (is, wanted, outdated) in [
            (Off, Opportunistic, false),
            (Opportunistic, Required, true),
            (Required, Verified, true),
            (Verified, Verified, false),
            (Verified, Off, false),
        ] {
            let guard = Guard { security: is, name: name("h"), begun: true, failure: None };
            assert_eq!(guard.is_outdated(wanted), outdated, "{is:?} {wanted:?}");
        }
        // What the password of the smarthost wants counts as well, and how TLS begins there.
        let planned = |values: &[(&str, &str)]| relay(&[values, &LOGIN].concat(), RELAY).1;
        let clear = planned(&[("smarthost-auth", "clear")]);
        for values in [&[][..], &[("smarthost-auth", "clear"), ("smarthost-tls", "implicit")]] {
            assert!(clear.is_outdated(planned(values).security), "{values:?}");
        }
        assert!(!planned(&[]).is_outdated(clear.security));
    }

    #[test]
    fn names_are_as_certificates_have_them() {
        for (host, expected) in
            [("mx.example.", Some("mx.example")), ("[::1]", Some("::1")), ("under_score!", None)]
        {
            let name = name(host).ok().map(|name| name.to_str().into_owned());
            assert_eq!(name.as_deref(), expected);
        }
    }
}
