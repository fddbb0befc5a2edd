//! What each command does (RFC 5321 3.3, 4.1.4; RFC 3030 2).
//!
//! Owns the sequence rules and the choice of replies. Each arm of the one `match` has a method. It moves
//! no bytes and holds no text.
//!
//! Diagnostics: every error is answered and counted; one more than is forgiven ends the session.

use super::super::answer::{self, Fixed};
use super::super::command::{Command, CommandError, Dialect, MailFrom, RcptTo};
use super::super::line::{self, LineError};
use super::super::memory::Memory;
use super::event::{CloseReason, Decision, Event, LoginOffer, Protocol, Received, Via};
use super::receiver::{Fault, Receiver};
use super::session::{Chunk, ChunkFate, Question, Session, State, Transaction, refusal};

impl Session {
    /// A line that ends in LF.
    pub(super) fn on_line(&mut self, line: &[u8], memory: &mut dyn Memory) {
        if matches!(self.state, State::AwaitResponse(_)) {
            return self.on_response(line, memory);
        }
        let content = match line::content(line, self.options.command_line_bytes_max) {
            Ok(content) => content,
            Err(error) => return self.fail(line_reply(error), memory),
        };
        match Command::parse(content, self.dialect()) {
            Ok(command) => self.on_command(command, memory),
            Err(error) => self.on_command_error(error, memory),
        }
    }

    fn on_command(&mut self, command: Command<'_>, memory: &mut dyn Memory) {
        match command {
            Command::Ehlo(name) => self.on_hello(name, Dialect::Esmtp, memory),
            Command::Helo(name) => self.on_hello(name, Dialect::Smtp, memory),
            Command::Mail(mail) => self.on_mail(mail, memory),
            Command::Rcpt(rcpt) => self.on_rcpt(rcpt, memory),
            Command::Data => self.on_data(memory),
            Command::Bdat { size, last } => self.on_bdat(size, last, memory),
            Command::Rset => self.on_rset(memory),
            Command::Noop => self.say(answer::NOTHING_DONE),
            Command::Help => self.say(answer::HELP),
            Command::Vrfy => self.say(answer::CANNOT_VERIFY),
            Command::Expn => self.fail(answer::NOT_IMPLEMENTED, memory),
            Command::Auth { mechanism, initial } => self.on_auth(mechanism, initial, memory),
            Command::StartTls => self.on_starttls(memory),
            Command::Quit => {
                self.say(answer::GOODBYE);
                self.close(CloseReason::Quit, memory);
            }
        }
    }

    fn on_command_error(&mut self, error: CommandError, memory: &mut dyn Memory) {
        let reply = match error {
            CommandError::Unknown => answer::UNKNOWN_COMMAND,
            CommandError::Hello => answer::HELLO_SYNTAX,
            CommandError::Argument => answer::NO_ARGUMENT,
            CommandError::Sender => answer::SENDER_SYNTAX,
            CommandError::Recipient => answer::RECIPIENT_SYNTAX,
            CommandError::ParameterSyntax => answer::PARAMETER_SYNTAX,
            CommandError::ParameterUnknown => answer::PARAMETER_UNKNOWN,
            CommandError::Login => answer::LOGIN_ARGUMENT,
            CommandError::NeedsSmtpUtf8 => answer::NEEDS_SMTPUTF8,
            CommandError::ChunkSize => {
                // What follows may be text: read as commands, it could say anything.
                self.say(answer::CHUNK_SIZE_SYNTAX);
                return self.close(CloseReason::Desynchronised, memory);
            }
            CommandError::ChunkArgument { size } => {
                return self.skip(size, answer::CHUNK_SYNTAX, memory);
            }
        };
        self.fail(reply, memory);
    }

    /// An error of the client: answered, and counted.
    pub(super) fn fail(&mut self, reply: Fixed, memory: &mut dyn Memory) {
        if !self.count_error(memory) {
            self.say(reply);
        }
    }

    /// Counts an error of the client; whether it was one too many, which ends the session.
    pub(super) fn count_error(&mut self, memory: &mut dyn Memory) -> bool {
        self.errors = self.errors.saturating_add(1);
        let over = self.errors > self.options.errors_max;
        if over {
            self.say(answer::TOO_MANY_ERRORS);
            self.close(CloseReason::TooManyErrors, memory);
        }
        over
    }

    /// Refuses what is out of order. It is no error of a client that pipelined it behind a MAIL or RCPT
    /// which was refused: counting it would end sessions for our own refusals.
    fn refuse(&mut self, reply: Fixed, memory: &mut dyn Memory) {
        if reply == answer::MAIL_FIRST || reply == answer::NO_VALID_RECIPIENTS {
            self.say(reply);
        } else {
            self.fail(reply, memory);
        }
    }

    pub(super) fn offers_tls(&self) -> bool {
        self.options.starttls && !self.secure
    }

    /// RFC 3207 4.
    fn on_starttls(&mut self, memory: &mut dyn Memory) {
        if self.secure {
            self.fail(answer::TLS_TWICE, memory);
        } else if !self.offers_tls() {
            self.fail(answer::NOT_IMPLEMENTED, memory);
        } else if self.transaction.is_some() {
            self.fail(answer::IN_TRANSACTION, memory);
        } else {
            self.ask(Question::StartTls, Event::StartTls);
        }
    }

    fn on_mail(&mut self, mail: MailFrom, memory: &mut dyn Memory) {
        if self.hello.is_none() {
            return self.fail(answer::HELLO_FIRST, memory);
        }
        if self.options.tls_required && !self.secure {
            return self.fail(answer::TLS_FIRST, memory);
        }
        if self.transaction.is_some() {
            return self.fail(answer::MAIL_TWICE, memory);
        }
        if mail.asks_for_notices() && !self.options.dsn {
            return self.fail(answer::PARAMETER_UNKNOWN, memory);
        }
        // RFC 4954 5: the parameter comes with the extension.
        if mail.submitter && self.login.offer != LoginOffer::Yes {
            return self.fail(answer::PARAMETER_UNKNOWN, memory);
        }
        let size_max = self.options.size_max;
        // RFC 1870 6.1: refused by its declared size alone. No error of the client's making.
        if mail.size.is_some_and(|size| size > size_max) {
            return self.say(answer::TOO_LARGE);
        }
        let Some(receiver) = Receiver::open(mail.size, size_max, memory) else {
            return self.say(answer::NO_MEMORY);
        };
        self.transaction = Some(Transaction {
            receiver,
            smtputf8: mail.smtputf8,
            accepted: 0,
            proposed: false,
            chunked: false,
        });
        self.ask(Question::Mail, Event::Mail(mail));
    }

    fn on_rcpt(&mut self, rcpt: RcptTo, memory: &mut dyn Memory) {
        let recipients_max = self.options.recipients_max;
        let reply = match &mut self.transaction {
            None => return self.refuse(answer::MAIL_FIRST, memory),
            Some(transaction) if transaction.chunked => answer::CHUNKS_STARTED,
            Some(_) if rcpt.asks_for_notices() && !self.options.dsn => answer::PARAMETER_UNKNOWN,
            Some(transaction) if rcpt.utf8 && !transaction.smtputf8 => answer::NEEDS_SMTPUTF8,
            Some(transaction) if transaction.accepted >= recipients_max => {
                // RFC 5321 4.5.3.1.10: a limit, not an error; the client sends the rest later.
                return self.say(answer::TOO_MANY_RECIPIENTS);
            }
            Some(transaction) => {
                transaction.proposed = true;
                return self.ask(Question::Rcpt, Event::Rcpt(rcpt));
            }
        };
        self.fail(reply, memory);
    }

    /// What stands in the way of text, if anything.
    fn text_obstacle(&self) -> Option<Fixed> {
        match &self.transaction {
            None => Some(answer::MAIL_FIRST),
            Some(transaction) if transaction.accepted > 0 => None,
            Some(transaction) if transaction.proposed => Some(answer::NO_VALID_RECIPIENTS),
            Some(_) => Some(answer::RECIPIENT_FIRST),
        }
    }

    fn on_data(&mut self, memory: &mut dyn Memory) {
        let chunked = self.transaction.as_ref().is_some_and(|transaction| transaction.chunked);
        match self.text_obstacle() {
            // RFC 3030 2: DATA and BDAT do not mix.
            _ if chunked => self.fail(answer::CHUNKS_STARTED, memory),
            Some(reply) => self.refuse(reply, memory),
            None if !self.begin_text(memory) => self.say(answer::NO_MEMORY),
            None => {
                self.say(answer::SEND_TEXT);
                self.state = State::AwaitText;
            }
        }
    }

    /// Reserves the memory for the text that is to come.
    fn begin_text(&mut self, memory: &mut dyn Memory) -> bool {
        self.transaction.as_mut().is_some_and(|transaction| transaction.receiver.begin(memory))
    }

    fn on_bdat(&mut self, size: u64, last: bool, memory: &mut dyn Memory) {
        if let Some(reply) = self.text_obstacle() {
            return self.skip(size, reply, memory);
        }
        let transaction = self.transaction.as_mut().expect("without one there is an obstacle");
        transaction.chunked = true;
        transaction.receiver.on_chunk(size, memory);
        let fate = if last { ChunkFate::KeepLast } else { ChunkFate::Keep };
        self.begin_chunk(size, fate, memory);
    }

    /// RFC 3030 2: a refused chunk is read to its last octet, or text would be taken for commands.
    /// The message would have a gap there: it is not accepted any more, even if more chunks come.
    fn skip(&mut self, size: u64, reply: Fixed, memory: &mut dyn Memory) {
        if let Some(transaction) = &mut self.transaction {
            transaction.chunked = true;
            transaction.receiver.on_gap(memory);
        }
        self.begin_chunk(size, ChunkFate::Skip(reply), memory);
    }

    fn begin_chunk(&mut self, left: u64, fate: ChunkFate, memory: &mut dyn Memory) {
        if left == 0 {
            self.on_chunk_end(fate, memory);
        } else {
            self.state = State::AwaitChunk(Chunk { left, fate });
        }
    }

    /// The last octet of a chunk was taken.
    pub(super) fn on_chunk_end(&mut self, fate: ChunkFate, memory: &mut dyn Memory) {
        self.state = State::AwaitCommand;
        let fault = self.transaction.as_ref().and_then(|transaction| transaction.receiver.fault());
        match (fate, fault) {
            (ChunkFate::Skip(reply), _) => self.refuse(reply, memory),
            (ChunkFate::Keep, None) => self.say(answer::CHUNK_OK),
            // Said for each chunk up to the last, for a client that pipelined them all.
            (ChunkFate::Keep, Some(fault)) => self.say(fault_reply(fault)),
            (ChunkFate::KeepLast, _) => self.finish(Via::Bdat, memory),
        }
    }

    /// CRLF.CRLF was taken.
    pub(super) fn on_text_end(&mut self, memory: &mut dyn Memory) {
        self.state = State::AwaitCommand;
        self.finish(Via::Data, memory);
    }

    fn finish(&mut self, via: Via, memory: &mut dyn Memory) {
        let protocol = self.protocol();
        let transaction = self.transaction.as_mut().expect("text ends within a transaction");
        match transaction.receiver.finish(memory) {
            Ok(finished) => {
                self.transaction = None;
                let received = Received {
                    body: finished.body,
                    via,
                    received_fields: finished.received_fields,
                    protocol,
                    reserved: finished.reserved,
                };
                self.ask(Question::Message, Event::Message(received));
            }
            Err(fault) => {
                self.say(fault_reply(fault));
                self.reset(memory);
            }
        }
    }

    fn protocol(&self) -> Protocol {
        Protocol {
            dialect: self.dialect(),
            smtputf8: self.transaction.as_ref().is_some_and(|transaction| transaction.smtputf8),
            secure: self.secure,
            authenticated: self.login.done,
        }
    }

    pub(super) fn reset(&mut self, memory: &mut dyn Memory) {
        if self.drop_transaction(memory) {
            self.event = Some(Event::Reset);
        }
    }

    pub(super) fn ask(&mut self, question: Question, event: Event) {
        self.state = State::AwaitDecision(question);
        self.event = Some(event);
    }

    /// The driver decided; the state is `AwaitCommand` already.
    pub(super) fn on_decision(
        &mut self,
        question: Question,
        decision: Decision,
        memory: &mut dyn Memory,
    ) {
        if let Question::Hello | Question::HelloReset | Question::Reset = question {
            return self.on_beginning(question, decision, memory);
        }
        let (reply, is_error) = match decision {
            Decision::Accept => {
                self.say(accepted_reply(question));
                return self.on_accepted(question);
            }
            Decision::AcceptWith(reply) => {
                match reply.is_success() {
                    true => self.say_reply(&reply),
                    false => self.say(accepted_reply(question)),
                }
                return self.on_accepted(question);
            }
            Decision::Refuse(reply) => (reply, false),
            Decision::RefuseAsError(reply) => (reply, true),
            Decision::RefuseAndClose(reply) => {
                self.say_reply(&refusal(reply));
                return self.close(CloseReason::Refused, memory);
            }
        };
        let reply = refusal(reply);
        // What is refused for good is an error: guessing recipients, and passwords, must have an end.
        let guess = matches!(question, Question::Rcpt | Question::Authenticate);
        let counts = is_error || (guess && reply.is_permanent());
        if counts && self.count_error(memory) {
            return;
        }
        self.say_reply(&reply);
        if question == Question::Mail {
            self.drop_transaction(memory);
        }
    }

    fn on_accepted(&mut self, question: Question) {
        match question {
            Question::Mail => {}
            Question::Authenticate => self.on_logged_in(),
            Question::StartTls => {
                self.forget();
                self.state = State::AwaitTls;
            }
            Question::Rcpt => {
                let transaction =
                    self.transaction.as_mut().expect("recipients come within a transaction");
                transaction.accepted += 1;
            }
            Question::Message => self.errors = 0,
            Question::Hello | Question::HelloReset | Question::Reset => {
                unreachable!("these are decided in `hello`")
            }
        }
    }
}

fn accepted_reply(question: Question) -> Fixed {
    match question {
        Question::Mail => answer::SENDER_OK,
        Question::Rcpt => answer::RECIPIENT_OK,
        Question::StartTls => answer::READY_FOR_TLS,
        Question::Message => answer::MESSAGE_OK,
        Question::Authenticate => answer::LOGIN_OK,
        // An introduction has a reply of its own.
        Question::Hello | Question::HelloReset | Question::Reset => answer::RESET,
    }
}

fn fault_reply(fault: Fault) -> Fixed {
    match fault {
        Fault::Memory => answer::NO_MEMORY,
        Fault::Size => answer::TOO_LARGE,
        Fault::LineEnds => answer::TEXT_LINE_ENDS,
        Fault::Gap => answer::CHUNK_MISSING,
    }
}

pub(super) fn line_reply(error: LineError) -> Fixed {
    match error {
        LineError::TooLong => answer::LINE_TOO_LONG,
        LineError::LineEnd => answer::LINE_END,
        LineError::Nul => answer::NUL_IN_COMMAND,
    }
}
