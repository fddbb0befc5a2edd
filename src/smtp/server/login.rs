//! AUTH: when it may come, and the lines of its exchange (RFC 4954).
//!
//! Owns the sequence rules. What a line means is in [`sasl`](crate::smtp::sasl), and whether credentials
//! are good is the driver's to say.
//!
//! Must never: keep a response, or take one where AUTH was not offered.
//!
//! Diagnostics: every error is answered and counted, so that guessing has an end.

use super::super::answer::{self, Fixed};
use super::super::command::Dialect;
use super::super::line::{self, LineError};
use super::super::memory::Memory;
use super::super::sasl::{Exchange, LINE_BYTES_MAX, Mechanism, Next};
use super::dialogue::line_reply;
use super::event::{Event, LoginOffer};
use super::session::{Question, Session, State};

impl Session {
    pub(super) fn on_auth(
        &mut self,
        mechanism: &[u8],
        initial: Option<&[u8]>,
        memory: &mut dyn Memory,
    ) {
        if let Some(reply) = self.login_obstacle() {
            return self.fail(reply, memory);
        }
        match Mechanism::named(mechanism) {
            Some(mechanism) => self.on_exchange(Exchange::begin(mechanism, initial), memory),
            None => self.fail(answer::MECHANISM_UNKNOWN, memory),
        }
    }

    /// A line of the exchange that ends in LF; whatever it is, the exchange gets on or ends.
    pub(super) fn on_response(&mut self, line: &[u8], memory: &mut dyn Memory) {
        let State::AwaitResponse(exchange) =
            std::mem::replace(&mut self.state, State::AwaitCommand)
        else {
            unreachable!("a response is taken only where one is awaited")
        };
        match line::content(line, LINE_BYTES_MAX) {
            Ok(content) => self.on_exchange(exchange.respond(content), memory),
            Err(LineError::TooLong) => self.fail(answer::LOGIN_LINE_TOO_LONG, memory),
            Err(error) => self.fail(line_reply(error), memory),
        }
    }

    /// What stands in the way of AUTH, if anything.
    fn login_obstacle(&self) -> Option<Fixed> {
        let greeted = self.hello.as_ref().is_some_and(|hello| hello.dialect == Dialect::Esmtp);
        match self.login.offer {
            LoginOffer::No => Some(answer::NOT_IMPLEMENTED),
            _ if !greeted => Some(answer::HELLO_FIRST),
            _ if self.login.done => Some(answer::LOGGED_IN),
            _ if self.transaction.is_some() => Some(answer::LOGIN_IN_TRANSACTION),
            LoginOffer::AfterTls => Some(answer::LOGIN_NEEDS_TLS),
            LoginOffer::Yes => None,
        }
    }

    fn on_exchange(&mut self, next: Next, memory: &mut dyn Memory) {
        match next {
            Next::Ask(exchange, question) => {
                self.say(question);
                self.state = State::AwaitResponse(exchange);
            }
            Next::Done(credentials) => {
                self.ask(Question::Authenticate, Event::Authenticate(credentials));
            }
            Next::Failed(failure) => self.fail(failure.reply(), memory),
        }
    }
}
