//! The client session: what is sent, what each reply means, and when a mail is whose.
//!
//! Owns the order of commands and the fate of the current mail. It never sees a message text, and never
//! sends a command that depends on a reply it does not have, but for the groups that PIPELINING allows.
//!
//! Diagnostics: [`Event::Lost`] with the stage and the problem. Calls at a wrong stage are bugs of the
//! driver and panic, but for those that a race with the far end can cause, which are ignored.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::buffer::Buffer;
use super::super::reply::Reply;
use super::super::sasl::Mechanism;
use super::envelope::{Checked, Envelope, Extensions, StartError};
use super::event::{Event, Origin, Outcome, Problem, Stage};
use super::login::{Exchange, Login};
use super::parser::{Bounds, ReplyParser};

/// Names and bounds of the sending side.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name that EHLO gives: a host name or address literal, checked by the settings.
    pub helo: String,
    /// Octets that a line of a reply may have; RFC 5321 4.5.3.1.5 allows 512.
    pub reply_line_bytes_max: usize,
    /// Lines that a reply may have.
    pub reply_lines_max: usize,
    /// Octets of text that a reply may have, over all its lines but the last.
    pub reply_bytes_max: usize,
    /// Whether and how the connection is encrypted.
    pub security: Security,
    /// Who we are to the far end; without one it is not asked.
    pub login: Option<Login>,
    /// Whether the driver is asked behind the banner, before anything is said to the far end.
    pub asks_at_banner: bool,
}

/// Whether and how a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Not at all.
    Clear,
    /// Where the far end offers it, and does not refuse it then.
    IfOffered,
    /// By STARTTLS, or the connection is not used.
    Required,
    /// From its first octet on (RFC 8314 3.3).
    Implicit,
}

impl Options {
    /// The defaults under a name.
    pub fn new(helo: impl Into<String>) -> Self {
        Self {
            helo: helo.into(),
            reply_line_bytes_max: 4096,
            reply_lines_max: 256,
            reply_bytes_max: 64 * 1024,
            security: Security::Clear,
            login: None,
            asks_at_banner: false,
        }
    }
}

/// One connection to a far end.
#[derive(Debug)]
pub struct Session {
    helo: Box<str>,
    pub(super) state: State,
    pub(super) extensions: Extensions,
    pub(super) security: Security,
    pub(super) asks_at_banner: bool,
    /// Whether TLS runs.
    pub(super) secured: bool,
    /// Until it is used.
    pub(super) login: Option<Login>,
    /// What the login was done with.
    pub(super) mechanism: Option<Mechanism>,
    /// What the banner called the far end.
    pub(super) far_name: Option<Arc<str>>,
    /// MAIL was accepted and no end of its transaction seen: RSET comes before the next mail.
    dirty: bool,
    pub(super) parser: ReplyParser,
    pub(super) output: Buffer,
    /// Events in order; never more than three.
    pub(super) events: VecDeque<Event>,
}

/// What is awaited.
#[derive(Debug)]
pub(super) enum State {
    AwaitBanner,
    /// The banner was read, and EHLO waits for the driver.
    AwaitDriver,
    AwaitEhlo,
    AwaitHelo,
    AwaitStartTls,
    AwaitHandshake,
    AwaitAuth(Exchange),
    Idle,
    /// A mail is under way.
    Mail(Mail),
    AwaitGoodbye,
    Closed,
}

/// The mail under way.
#[derive(Debug)]
pub(super) struct Mail {
    step: Step,
    envelope: Checked,
    carriage: Carriage,
    /// The first refusal. With pipelining, replies to what was sent behind it still come.
    refused: Option<(Stage, Reply)>,
}

/// How its text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carriage {
    /// After the 354 to DATA.
    Data,
    /// In one chunk of so many octets, ahead of all replies.
    Chunk { octets: u64, written: bool },
}

/// What the mail under way waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reset,
    Mail,
    Rcpt,
    Data,
    Held,
    Body,
    FinalDot,
    /// The reply to a lone dot: 354 came though nothing was accepted.
    EmptyDot,
}

impl Session {
    /// A session for a connection that is being made; it waits for the banner, or for a handshake.
    pub fn new(options: &Options) -> Self {
        let implicit = options.security == Security::Implicit;
        let mut output = Buffer::default();
        // Until the login is done.
        output.set_wiping(options.login.is_some());
        Self {
            helo: options.helo.as_str().into(),
            state: if implicit { State::AwaitHandshake } else { State::AwaitBanner },
            extensions: Extensions::default(),
            security: options.security,
            asks_at_banner: options.asks_at_banner,
            secured: false,
            login: options.login.clone(),
            mechanism: None,
            far_name: None,
            dirty: false,
            parser: ReplyParser::new(Bounds::of(options)),
            output,
            events: VecDeque::new(),
        }
    }

    /// Takes what the far end sent. Call [`poll_event`](Self::poll_event) behind each read: it bounds
    /// what is kept.
    pub fn handle_input(&mut self, input: &[u8]) {
        if !matches!(self.state, State::Closed) {
            self.parser.push(input);
        }
    }

    /// The next event; reads one reply after the other until there is one.
    pub fn poll_event(&mut self) -> Option<Event> {
        while self.events.is_empty() && !matches!(self.state, State::Closed) {
            match self.parser.next() {
                Ok(Some(reply)) => self.on_reply(reply),
                Ok(None) => break,
                Err(problem) => self.lose(problem),
            }
        }
        self.events.pop_front()
    }

    /// Commands that are not sent yet.
    pub fn output(&self) -> &[u8] {
        self.output.as_slice()
    }

    /// Told that the first `count` octets of the output were sent.
    pub fn consume_output(&mut self, count: usize) {
        self.output.consume(count);
    }

    /// Moves all output to the end of `target`.
    pub fn take_output(&mut self, target: &mut Vec<u8>) {
        self.output.drain_into(target);
    }

    /// Puts octets of somebody else behind the commands that wait (D-87). Whether they make sense to
    /// the far end is their owner's business.
    pub fn inject_output(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }

    /// Which deadline runs.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::AwaitBanner | State::AwaitDriver => Stage::Banner,
            State::AwaitEhlo | State::AwaitHelo => Stage::Ehlo,
            State::AwaitStartTls => Stage::StartTls,
            State::AwaitHandshake => Stage::Handshake,
            State::AwaitAuth(exchange) => Stage::Auth(*exchange),
            State::Idle => Stage::Idle,
            State::Mail(mail) if mail.is_writing() => Stage::Body,
            State::Mail(mail) => mail.step.stage(),
            State::AwaitGoodbye => Stage::Quit,
            State::Closed => Stage::Closed,
        }
    }

    /// What the far end offered; nothing before [`Event::Ready`], and nothing after HELO.
    pub fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// The name that the banner began with, cut to 255 octets; `None` before it, or without one.
    pub fn far_name(&self) -> Option<&Arc<str>> {
        self.far_name.as_ref()
    }

    /// What we logged in with.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Whether the next text may go ahead of all replies: the far end offers CHUNKING and PIPELINING (RFC
    /// 3030 4.2), and needs no RSET first, behind which a far end that stalls would find a whole mail.
    pub fn takes_chunk(&self) -> bool {
        self.extensions.chunking && self.extensions.pipelining && !self.dirty
    }

    /// Starts a mail. Where PIPELINING is offered MAIL, RCPT and DATA go out together, behind the RSET
    /// that a refused mail before it may need. A mail that the far end cannot take is refused by the
    /// next event and nothing is sent.
    pub fn start(&mut self, envelope: Envelope<'_>) -> Result<(), StartError> {
        self.start_as(envelope, Carriage::Data)
    }

    /// Starts a mail whose text goes out with its commands, as one chunk of `octets` (RFC 3030). If the
    /// [`stage`](Self::stage) is [`Stage::Body`] afterwards, exactly as many are to be written behind the
    /// output, as they are, whatever the far end says; else the mail was refused as by
    /// [`start`](Self::start).
    ///
    /// # Panics
    /// Where the far end does not [take that](Self::takes_chunk).
    pub fn start_chunk(&mut self, envelope: Envelope<'_>, octets: u64) -> Result<(), StartError> {
        assert!(self.takes_chunk(), "a chunk goes only to whom it is offered");
        self.start_as(envelope, Carriage::Chunk { octets, written: false })
    }

    fn start_as(&mut self, envelope: Envelope<'_>, carriage: Carriage) -> Result<(), StartError> {
        // Octets that nobody asked for would be taken for the replies to this mail.
        let idle = matches!(self.state, State::Idle) && self.parser.is_empty();
        if !idle || !self.events.is_empty() {
            return Err(StartError::Busy);
        }
        let envelope = Checked::of(&envelope)?;
        if let Some(obstacle) = envelope.obstacle(&self.extensions) {
            let (stage, reply) = (Stage::Mail, obstacle.reply());
            let outcome = Outcome::Refused { stage, reply, origin: Origin::Local };
            self.events.push_back(Event::Done(outcome));
            return Ok(());
        }
        let step = if self.dirty { Step::Reset } else { Step::Mail };
        let mail = Mail { step, envelope, carriage, refused: None };
        let last = mail.after_rcpt();
        let steps: &[Step] = match (self.extensions.pipelining, step) {
            (true, Step::Reset) => &[Step::Reset, Step::Mail, Step::Rcpt, last],
            (true, _) => &[Step::Mail, Step::Rcpt, last],
            (false, _) => &[step],
        };
        steps.iter().for_each(|step| mail.send(*step, &self.extensions, self.output.tail()));
        self.state = State::Mail(mail);
        Ok(())
    }

    /// Told that the driver writes the text now, behind what [`output`](Self::output) still holds.
    ///
    /// False if the far end gave up meanwhile: then nothing may be written.
    #[must_use]
    pub fn begin_body(&mut self) -> bool {
        self.step_on(Step::Held, Step::Body)
    }

    /// Told that the last octet of the text and its end is written. Ignored if the mail is over.
    pub fn end_body(&mut self) {
        if let State::Mail(Mail { carriage: Carriage::Chunk { written, .. }, .. }) = &mut self.state
        {
            *written = true;
        }
        self.step_on(Step::Body, Step::FinalDot);
    }

    /// Gives the mail up that is held or half written. There is no way back in SMTP but to close the
    /// connection: no event follows, and nothing more is sent.
    pub fn abandon(&mut self) {
        self.close();
    }

    /// Sends QUIT; [`Event::Goodbye`] follows. Ignored while a mail is under way and at the end.
    pub fn quit(&mut self) {
        if matches!(self.state, State::Idle) {
            self.say_quit();
        }
    }

    /// Told that the connection is gone, or that a deadline passed. Poll until there is nothing left
    /// first: what was read before counts.
    ///
    /// With a mail under way its fate follows: the first refusal if there was one, else
    /// [`Event::Lost`]. After QUIT a closed connection is as good as a reply.
    pub fn on_lost(&mut self, problem: Problem) {
        match self.state {
            State::Closed => {}
            State::AwaitGoodbye => self.part(None),
            State::AwaitBanner
            | State::AwaitDriver
            | State::AwaitEhlo
            | State::AwaitHelo
            | State::AwaitStartTls
            | State::AwaitHandshake
            | State::AwaitAuth(_)
            | State::Idle
            | State::Mail(_) => self.lose(problem),
        }
    }

    fn step_on(&mut self, from: Step, to: Step) -> bool {
        match &mut self.state {
            State::Mail(mail) if mail.step == from => {
                mail.step = to;
                true
            }
            _ => false,
        }
    }

    /// How far the replies came; a text may have gone ahead of them.
    fn reached(&self) -> Stage {
        match &self.state {
            State::Mail(mail) => mail.step.stage(),
            _ => self.stage(),
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.login = None;
        self.parser.clear();
        self.output.clear();
    }

    /// The connection is useless. A mail that was refused already stays refused.
    pub(super) fn lose(&mut self, problem: Problem) {
        let stage = self.reached();
        match self.take_refusal() {
            Some(outcome) => self.part(Some(outcome)),
            None => {
                self.close();
                self.events.push_back(Event::Lost { stage, problem });
            }
        }
    }

    /// The connection is over, perhaps with the fate of a mail.
    fn part(&mut self, outcome: Option<Outcome>) {
        self.close();
        self.events.extend(outcome.map(Event::Done));
        self.events.push_back(Event::Goodbye);
    }

    pub(super) fn done(&mut self, outcome: Outcome) {
        self.events.push_back(Event::Done(outcome));
    }

    fn take_refusal(&mut self) -> Option<Outcome> {
        match &mut self.state {
            State::Mail(mail) => mail.refused.take().map(refused),
            _ => None,
        }
    }

    pub(super) fn say_quit(&mut self) {
        self.output.push(b"QUIT\r\n");
        self.state = State::AwaitGoodbye;
    }

    pub(super) fn say_hello(&mut self, verb: &str) {
        self.output.push(verb.as_bytes());
        self.output.push(self.helo.as_bytes());
        self.output.push(b"\r\n");
    }

    fn on_reply(&mut self, reply: Reply) {
        if reply.code() == 421 {
            return self.on_goodbye(reply);
        }
        match &self.state {
            State::AwaitBanner => self.on_banner(reply),
            State::AwaitEhlo => self.on_ehlo(reply),
            State::AwaitHelo => self.on_helo(reply),
            State::AwaitStartTls => self.on_starttls(reply),
            State::AwaitAuth(exchange) => self.on_auth(*exchange, reply),
            State::Mail(mail) => self.on_mail_reply(mail.step, reply),
            State::AwaitGoodbye => self.part(None),
            State::Idle | State::AwaitDriver | State::AwaitHandshake | State::Closed => {
                self.lose(Problem::UnexpectedReply);
            }
        }
    }

    /// RFC 5321 3.8: the far end closes. What is under way failed for now.
    fn on_goodbye(&mut self, reply: Reply) {
        let stage = self.reached();
        match self.state {
            State::AwaitBanner
            | State::AwaitDriver
            | State::AwaitEhlo
            | State::AwaitHelo
            | State::AwaitStartTls
            | State::AwaitHandshake
            | State::AwaitAuth(_)
            | State::Mail(_) => {
                let outcome = self.take_refusal().unwrap_or_else(|| refused((stage, reply)));
                self.part(Some(outcome));
            }
            State::Idle | State::AwaitGoodbye | State::Closed => {
                self.part(None);
            }
        }
    }

    fn on_mail_reply(&mut self, step: Step, reply: Reply) {
        if !step.expects(&reply) {
            return self.lose(Problem::UnexpectedReply);
        }
        match step {
            Step::Reset => {
                self.dirty = false;
                self.next_step(Step::Mail);
            }
            Step::Mail => {
                self.dirty |= reply.is_success();
                self.on_envelope_reply(Stage::Mail, reply, Step::Rcpt);
            }
            Step::Rcpt => {
                let next = self.mail().map_or(Step::Data, Mail::after_rcpt);
                self.on_envelope_reply(Stage::Rcpt, reply, next);
            }
            Step::Data => self.on_data_reply(reply),
            // The far end refused text it has not seen whole. What was written of it would be taken
            // for commands now: the connection ends.
            Step::Held | Step::Body => self.part(Some(refused((step.stage(), reply)))),
            Step::FinalDot if self.mail().is_some_and(Mail::is_writing) => self.on_early(reply),
            Step::FinalDot => self.on_final_reply(reply),
            // Whatever it says: a mail to nobody.
            Step::EmptyDot => {
                self.dirty = true;
                self.refuse();
            }
        }
    }

    /// A reply to MAIL or RCPT. Once pipelined, all replies are awaited whatever they say.
    fn on_envelope_reply(&mut self, stage: Stage, reply: Reply, next: Step) {
        let refused = reply.is_refusal();
        if refused {
            self.note_refusal(stage, reply);
        }
        if refused && !self.extensions.pipelining {
            self.refuse();
        } else {
            self.next_step(next);
        }
    }

    fn mail(&self) -> Option<&Mail> {
        match &self.state {
            State::Mail(mail) => Some(mail),
            _ => None,
        }
    }

    /// A reply to a chunk that is not complete: it can only be bad news, and as the rest of the chunk would
    /// be taken for commands by a far end that does not wait for it, the connection ends.
    fn on_early(&mut self, reply: Reply) {
        if reply.is_success() {
            return self.lose(Problem::UnexpectedReply);
        }
        self.note_refusal(Stage::Body, reply);
        let outcome = self.take_refusal();
        self.part(outcome);
    }

    fn next_step(&mut self, next: Step) {
        if let State::Mail(mail) = &mut self.state {
            mail.step = next;
            if !self.extensions.pipelining {
                mail.send(next, &self.extensions, self.output.tail());
            }
        }
    }

    fn on_data_reply(&mut self, reply: Reply) {
        let State::Mail(mail) = &mut self.state else {
            return;
        };
        if reply.is_refusal() {
            self.note_refusal(Stage::Data, reply);
            self.refuse();
        } else if mail.refused.is_some() {
            // RFC 2920 3.1: there is nobody to send to, and only the dot leads out of DATA.
            mail.step = Step::EmptyDot;
            self.output.push(b".\r\n");
        } else {
            mail.step = Step::Held;
            self.events.push_back(Event::Data354);
        }
    }

    fn on_final_reply(&mut self, reply: Reply) {
        if self.mail().is_some_and(|mail| mail.refused.is_some()) {
            // A chunk to nobody: whatever is said of it.
            self.dirty = true;
            return self.refuse();
        }
        self.state = State::Idle;
        self.dirty = reply.is_refusal();
        self.done(match reply.is_success() {
            true => Outcome::Accepted(reply),
            false => refused((Stage::FinalDot, reply)),
        });
    }

    /// The first refusal is the one that counts: those behind it follow from it.
    fn note_refusal(&mut self, stage: Stage, reply: Reply) {
        if let State::Mail(mail) = &mut self.state {
            mail.refused.get_or_insert((stage, reply));
        }
    }

    /// The mail is over with its first refusal; the connection goes on.
    fn refuse(&mut self) {
        let outcome = self.take_refusal().expect("a mail is refused for a reason");
        self.state = State::Idle;
        self.done(outcome);
    }
}

impl Mail {
    fn send(&self, step: Step, offered: &Extensions, out: &mut Vec<u8>) {
        match step {
            Step::Reset => out.extend_from_slice(b"RSET\r\n"),
            Step::Mail => self.envelope.write_mail(offered, out),
            Step::Rcpt => self.envelope.write_rcpt(offered, out),
            Step::Data => out.extend_from_slice(b"DATA\r\n"),
            Step::FinalDot => {
                if let Carriage::Chunk { octets, .. } = self.carriage {
                    out.extend_from_slice(b"BDAT ");
                    out.extend_from_slice(itoa::Buffer::new().format(octets).as_bytes());
                    out.extend_from_slice(b" LAST\r\n");
                }
            }
            Step::Held | Step::Body | Step::EmptyDot => {}
        }
    }

    fn after_rcpt(&self) -> Step {
        match self.carriage {
            Carriage::Data => Step::Data,
            Carriage::Chunk { .. } => Step::FinalDot,
        }
    }

    /// Whether octets are owed that the far end counts.
    fn is_writing(&self) -> bool {
        matches!(self.carriage, Carriage::Chunk { written: false, .. })
    }
}

impl Step {
    /// Whether a reply of this kind makes sense here.
    fn expects(self, reply: &Reply) -> bool {
        match self {
            Self::Data => reply.code() == 354 || reply.is_refusal(),
            Self::Reset => reply.is_success(),
            Self::Mail | Self::Rcpt | Self::FinalDot | Self::EmptyDot => {
                reply.is_success() || reply.is_refusal()
            }
            // Early: what comes before the text is complete can only be bad news.
            Self::Held | Self::Body => reply.is_refusal(),
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Reset => Stage::Reset,
            Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Held => Stage::Held,
            Self::Body => Stage::Body,
            Self::FinalDot | Self::EmptyDot => Stage::FinalDot,
        }
    }
}

pub(super) fn refused((stage, reply): (Stage, Reply)) -> Outcome {
    Outcome::Refused { stage, reply, origin: Origin::Remote }
}
