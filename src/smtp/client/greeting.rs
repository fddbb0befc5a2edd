//! The session from the banner to the first mail: EHLO, STARTTLS (RFC 3207), AUTH (RFC 4954).
//!
//! Owns what must be so before a mail may be started: the far end greeted, the connection is as
//! encrypted as it has to be, and we are logged in where we have a login. Nothing that was learnt in clear
//! is used after a handshake, and no password goes out in clear unless its owner says so.
//!
//! Diagnostics: a far end that does not want us, or lacks what we need, is [`Event::Done`] before any
//! [`Event::Ready`]; its reply, or one of the replies below.

use super::super::reply::{EnhancedStatus, Reply};
use super::envelope::Extensions;
use super::event::{Event, Origin, Outcome, Problem, Stage};
use super::login::{Exchange, Login};
use super::session::{Security, Session, State, refused};

/// The longest host name (RFC 1035 2.3.4); more of a banner's first word is not one.
const NAME_BYTES_MAX: usize = 255;

/// What the far end lacks, before any mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    StartTls,
    SafeLogin,
    Mechanism,
}

impl Lack {
    /// The reply that stands for it. For now, as the far end may mend it, or our own settings.
    fn reply(self) -> Reply {
        let (code, detail, text) = match self {
            Self::StartTls => (451, 4, "TLS is required and the next hop does not offer it"),
            Self::SafeLogin => (454, 4, "The password is not sent over an unencrypted connection"),
            Self::Mechanism => (454, 0, "The next hop offers neither AUTH PLAIN nor AUTH LOGIN"),
        };
        let status = EnhancedStatus::new(4, 7, detail);
        Reply::new(code, status, text).expect("all are temporary, and so is their status")
    }
}

impl Session {
    /// Told that the handshake is done: from now on everything goes over TLS, and whatever was learnt
    /// before is forgotten (RFC 3207 4.2).
    ///
    /// # Panics
    /// When none was awaited.
    pub fn on_secured(&mut self) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let awaited = matches!(self.state, State::AwaitHandshake);
        assert!(awaited, "a handshake is done where one was awaited");
        self.secured = true;
        self.extensions = Extensions::default();
        self.parser.clear();
        if self.security == Security::Implicit {
            self.state = State::AwaitBanner;
        } else {
            self.introduce();
        }
    }

    /// Told that the driver has nothing against the far end: EHLO goes out. Ignored where nobody asked.
    pub fn proceed(&mut self) {
        if matches!(self.state, State::AwaitDriver) {
            self.introduce();
        }
    }

    pub(super) fn on_banner(&mut self, reply: Reply) {
        if reply.is_success() {
            let name = reply.text().split_ascii_whitespace().next();
            self.far_name = name.filter(|name| name.len() <= NAME_BYTES_MAX).map(Into::into);
            if self.asks_at_banner {
                self.state = State::AwaitDriver;
                return self.events.push_back(Event::Banner);
            }
            self.introduce();
        } else {
            self.unwelcome(Stage::Banner, reply);
        }
    }

    pub(super) fn on_ehlo(&mut self, reply: Reply) {
        if reply.is_success() {
            self.extensions = Extensions::of(&reply);
            self.on_introduced();
        } else if reply.is_permanent() {
            // RFC 5321 3.2: a server that knows no EHLO is asked with HELO.
            self.say_hello("HELO ");
            self.state = State::AwaitHelo;
        } else {
            self.unwelcome(Stage::Ehlo, reply);
        }
    }

    pub(super) fn on_helo(&mut self, reply: Reply) {
        match reply.is_success() {
            true => self.on_introduced(),
            false => self.unwelcome(Stage::Ehlo, reply),
        }
    }

    pub(super) fn on_starttls(&mut self, reply: Reply) {
        if reply.is_success() {
            if self.parser.is_empty() {
                self.state = State::AwaitHandshake;
                self.events.push_back(Event::StartTls);
            } else {
                self.lose(Problem::EarlyInput);
            }
        } else if reply.is_refusal() && self.security == Security::IfOffered {
            self.log_in();
        } else {
            self.unwelcome(Stage::StartTls, reply);
        }
    }

    pub(super) fn on_auth(&mut self, exchange: Exchange, reply: Reply) {
        let login = self.login.as_ref();
        let next = login.and_then(|login| exchange.next(&login.credentials));
        match next {
            Some((next, line)) if reply.code() == 334 => {
                self.output.push(line.as_bytes());
                self.state = State::AwaitAuth(next);
            }
            None if reply.is_success() => {
                self.mechanism = Some(exchange.mechanism());
                self.ready();
            }
            _ => self.unwelcome(Stage::Auth(exchange), reply),
        }
    }

    fn introduce(&mut self) {
        self.say_hello("EHLO ");
        self.state = State::AwaitEhlo;
    }

    /// What the far end can do is known: TLS before all else.
    fn on_introduced(&mut self) {
        let offered = self.extensions.starttls;
        match self.security {
            Security::IfOffered | Security::Required if offered && !self.secured => {
                self.output.push(b"STARTTLS\r\n");
                self.state = State::AwaitStartTls;
            }
            Security::Required if !self.secured => self.lack(Stage::StartTls, Lack::StartTls),
            Security::Clear | Security::IfOffered | Security::Required | Security::Implicit => {
                self.log_in();
            }
        }
    }

    fn log_in(&mut self) {
        let Some(Login { credentials, in_clear }) = &self.login else {
            return self.ready();
        };
        let mechanism = self.extensions.auth.preferred();
        // It stands for every stage of AUTH: nothing of it was said.
        let stage = Stage::Auth(Exchange::Plain);
        match mechanism {
            _ if !self.secured && !in_clear => self.lack(stage, Lack::SafeLogin),
            None => self.lack(stage, Lack::Mechanism),
            Some(mechanism) => {
                let (exchange, line) = Exchange::begin(mechanism, credentials);
                self.output.push(line.as_bytes());
                self.state = State::AwaitAuth(exchange);
            }
        }
    }

    fn ready(&mut self) {
        self.login = None;
        self.output.set_wiping(false);
        self.state = State::Idle;
        self.events.push_back(Event::Ready { extensions: self.extensions });
    }

    /// The far end wants no mail from us.
    fn unwelcome(&mut self, stage: Stage, reply: Reply) {
        if reply.is_refusal() {
            self.leave(refused((stage, reply)));
        } else {
            self.lose(Problem::UnexpectedReply);
        }
    }

    /// We want to send it no mail.
    fn lack(&mut self, stage: Stage, lack: Lack) {
        self.leave(Outcome::Refused { stage, reply: lack.reply(), origin: Origin::Local });
    }

    fn leave(&mut self, outcome: Outcome) {
        self.login = None;
        self.say_quit();
        self.done(outcome);
    }
}
