//! How a dialogue begins, and begins anew: HELO, EHLO and RSET (RFC 5321 4.1.1.1, 4.1.1.5).
//!
//! Owns what an introduction is answered, and what is decided about it where the driver wants to be
//! asked ([`Asks`](super::Asks)). Must never ask where it does not.
//!
//! Diagnostics: an introduction that is refused for good counts as an error.

use std::io::Write;
use std::sync::Arc;

use super::super::answer;
use super::super::command::Dialect;
use super::super::memory::Memory;
use super::event::{CloseReason, Decision, Event, Hello};
use super::session::{Question, Session, refusal};

impl Session {
    pub(super) fn on_hello(&mut self, name: &str, dialect: Dialect, memory: &mut dyn Memory) {
        let hello = Hello { name: name.into(), dialect };
        if self.asks.hello {
            self.proposed = Some(hello.clone());
            return self.ask(Question::Hello, Event::Hello(hello));
        }
        self.on_introduced(hello, memory);
    }

    /// The introduction is accepted. RFC 5321 4.1.4: a second one works like RSET.
    fn on_introduced(&mut self, hello: Hello, memory: &mut dyn Memory) {
        if self.asks.reset && self.transaction.is_some() {
            self.proposed = Some(hello);
            return self.ask(Question::HelloReset, Event::Rset);
        }
        self.welcome(hello, memory);
    }

    fn welcome(&mut self, hello: Hello, memory: &mut dyn Memory) {
        self.reset(memory);
        let dialect = hello.dialect;
        self.hello = Some(hello);
        let options = Arc::clone(&self.options);
        let hostname = options.hostname.as_bytes();
        match dialect {
            Dialect::Smtp => self.say_all(&[b"250 ", hostname, b"\r\n"]),
            Dialect::Esmtp => {
                let mut size = Vec::with_capacity(20);
                write!(size, "{}", options.size_max).expect("a vector takes all that is written");
                self.say_all(&[b"250-", hostname, b"\r\n250-PIPELINING\r\n250-SIZE ", &size]);
                self.say_all(&[b"\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"]);
                if self.offers_tls() {
                    self.say_all(&[b"250-STARTTLS\r\n"]);
                }
                if self.is_confidential() {
                    self.say_all(&[b"250-AUTH PLAIN LOGIN\r\n"]);
                }
                if options.dsn {
                    self.say_all(&[b"250-DSN\r\n"]);
                }
                self.say_all(&[b"250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"]);
            }
        }
    }

    pub(super) fn on_rset(&mut self, memory: &mut dyn Memory) {
        if self.asks.reset {
            return self.ask(Question::Reset, Event::Rset);
        }
        self.start_over(memory);
    }

    fn start_over(&mut self, memory: &mut dyn Memory) {
        self.reset(memory);
        self.say(answer::RESET);
    }

    /// The driver decided about one of the questions of this file; the state is `AwaitCommand` already.
    pub(super) fn on_beginning(
        &mut self,
        question: Question,
        decision: Decision,
        memory: &mut dyn Memory,
    ) {
        let proposed = self.proposed.take();
        let refused = match decision {
            Decision::Accept | Decision::AcceptWith(_) => None,
            Decision::Refuse(reply) | Decision::RefuseAsError(reply) => Some(refusal(reply)),
            Decision::RefuseAndClose(reply) => {
                self.say_reply(&refusal(reply));
                return self.close(CloseReason::Refused, memory);
            }
        };
        match (question, proposed, refused) {
            (Question::Hello, Some(_), Some(reply)) => {
                // RFC 5321 4.1.4: the state is the one before.
                if !(reply.is_permanent() && self.count_error(memory)) {
                    self.say_reply(&reply);
                }
            }
            (Question::Hello, Some(hello), None) => self.on_introduced(hello, memory),
            (Question::HelloReset, Some(hello), _) => self.welcome(hello, memory),
            (_, _, _) => self.start_over(memory),
        }
    }
}
