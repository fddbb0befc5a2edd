//! State: one worker's cell, the only thing that `MQ_*` functions touch.
//!
//! Owns the slots and what each holds. Must never call anybody: it is borrowed while it works. What
//! needs the worker is queued as a [`Command`]. Diagnostics: [`Misuse`].

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_char, c_void};
use std::fmt;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use crate::address::{Live, Locals, Owner, StepAddress};
use crate::answer::Answer;
use crate::call;
use crate::command::{Command, Queue, Timer, WATCHES_MAX, Watch};
use crate::control::{Asked, Chain, HandBack};
use crate::fact::Facts;
use crate::hold::{Hold, Staged};
use crate::hook::{Hook, Site};
use crate::id::{ConnectionId, MessageId, QueryId, TimerId, WatchId};
use crate::libev::Loop;
use crate::message::{Direction, Message, MessageInit, Part};
use crate::misuse::Misuse;
use crate::note::Notes;
use crate::plugin::PluginIndex;
use crate::query::{QUERIES_MAX, QUERIES_PER_PLUGIN_MAX, Query, RecordKind};
use crate::set::PluginSet;
use crate::slot::{Key, SLOTS_MAX, Slots};
use crate::step::Verdict;
use crate::text::Text;
use crate::token::{Kind, Token};

/// How much output one connection may hold for plugins (D-40).
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many watches are remembered whose descriptor was closed (D-97), each until it is unwatched. Who closes
/// more and unwatches later is warned of a watch that is no more.
const WATCHES_CLOSED_MAX: usize = 1024;

/// How many messages that are over keep their memory.
const SPARE_MESSAGES_MAX: usize = 16;

/// One pointer per plugin, NULL at first. Grows at the first store: most connections hold none, and after
/// many reloads few of the plugins that there were (D-0E).
#[derive(Debug, Default)]
pub(crate) struct PluginData(Vec<(PluginIndex, *mut c_void)>);

impl PluginData {
    pub(crate) fn value(&self, plugin: PluginIndex) -> *mut c_void {
        match self.place(plugin) {
            Ok(place) => self.0[place].1,
            Err(_) => ptr::null_mut(),
        }
    }

    /// Who keeps something.
    pub(crate) fn owners(&self) -> impl Iterator<Item = PluginIndex> {
        let kept = self.0.iter().filter(|(_, value)| !value.is_null());
        kept.map(|(plugin, _)| *plugin)
    }

    /// D-54: what was there is replaced, never freed.
    pub(crate) fn set(&mut self, plugin: PluginIndex, value: *mut c_void) {
        match self.place(plugin) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (plugin, value)),
        }
    }

    /// The plugin is gone.
    pub(crate) fn forget(&mut self, plugin: PluginIndex) {
        if let Ok(place) = self.place(plugin) {
            self.0.remove(place);
        }
    }

    fn place(&self, plugin: PluginIndex) -> Result<usize, usize> {
        self.0.binary_search_by_key(&plugin, |entry| entry.0)
    }
}

/// What a plugin last said of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) by: PluginIndex,
    pub(crate) good: bool,
    /// What others had said before it.
    pub(crate) before: Option<bool>,
}

/// A connection as plugins see it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) fd: RawFd,
    pub(crate) direction: Direction,
    pub(crate) secure: bool,
    pub(crate) authenticated: bool,
    /// What plugins said since the worker last asked (D-34).
    pub(crate) plugin_authentication: Option<Said>,
    /// How that and `authenticated` were before the plugin that has the step first said something of it there.
    pub(crate) unjudged: Option<(bool, Option<Said>)>,
    pub(crate) closed: bool,
    /// How many bytes [`State::send`] may still take.
    pub(crate) output_space: usize,
    pub(crate) data: PluginData,
    pub(crate) chain: Chain,
    /// Who is asked about it, from its begin to its end (D-0E).
    pub(crate) set: Rc<PluginSet>,
    /// What plugins are asked, or were asked last.
    pub(crate) hook: Hook,
    /// What a plugin says that the step is to come to.
    pub(crate) answer: Option<Box<Answer>>,
    /// The name of the hold that there is, or is about to be.
    pub(crate) hold: Option<Key>,
    /// What its holder said that has an older hold to release.
    pub(crate) staged: Option<Box<Staged>>,
    pub(crate) facts: Facts,
    /// What the address step of now shows to plugins of G2 and later.
    pub(crate) address: StepAddress,
    pub(crate) notes: Notes,
}

impl Connection {
    /// A hook has been called, and has something to say or took control.
    pub(crate) fn on_call(&mut self, plugin: PluginIndex, hook: Hook) {
        self.chain.on_call(plugin);
        self.hook = hook;
        self.answer = None;
        self.staged = None;
        self.unjudged = None;
    }

    /// The holder releases the hold of now: what it said before counts.
    pub(crate) fn hear_staged(&mut self, plugin: PluginIndex) {
        let Some(staged) = self.staged.take() else { return };
        if staged.answer.is_some() {
            self.answer = staged.answer;
        }
        if let Some(good) = staged.authenticated {
            self.set_authenticated(plugin, good);
        }
    }

    /// A hook has returned: whether it took a hold with a name, what it has handed back, and whether the
    /// step is answered.
    pub(crate) fn on_return(&mut self, took_control: bool) -> (bool, Option<Verdict>, bool) {
        let holds = self.hold.is_some();
        if holds {
            self.chain.forget_swallowed();
        }
        let verdict = self.chain.on_return(took_control || holds);
        if verdict == Some(Verdict::Retry) {
            self.answer = None;
        }
        (holds, verdict, self.answer.is_some())
    }

    /// D-3A: at once, and on incoming connections only.
    pub(crate) fn set_authenticated(&mut self, by: PluginIndex, authenticated: bool) {
        match self.direction {
            Direction::Incoming => {
                if self.chain.is_at(by) {
                    let now = (self.authenticated, self.plugin_authentication);
                    self.unjudged.get_or_insert(now);
                }
                self.authenticated = authenticated;
                let before = match self.plugin_authentication {
                    Some(said) if said.by == by => said.before,
                    said => said.map(|said| said.good),
                };
                self.plugin_authentication = Some(Said { by, good: authenticated, before });
            }
            Direction::Outgoing => {}
        }
    }

    /// The plugin that has the step, or had it last, has failed in it: what it said there of the address is
    /// as if it had not been said, and what it granted to the client there is not granted. A login that it
    /// ended stays so.
    pub(crate) fn forget_step(&mut self, plugin: PluginIndex) {
        self.address.forget(plugin);
        let is_last = self.plugin_authentication.is_some_and(|said| said.by == plugin);
        if let Some((authenticated, said)) = self.unjudged.take().filter(|_| is_last) {
            self.authenticated &= authenticated;
            self.plugin_authentication = said;
        }
    }

    /// What `plugin` said since the worker last asked is as if it had not been said. What was said before
    /// by others holds again; without that, nobody has granted anything.
    pub(crate) fn forget_authentication(&mut self, plugin: PluginIndex) {
        if let Some(said) = self.plugin_authentication.filter(|said| said.by == plugin) {
            self.authenticated = said.before == Some(true);
            // Of what came before that, nobody can be told apart any more; so it stays as it is.
            self.plugin_authentication =
                said.before.map(|good| Said { by: plugin, good, before: None });
        }
    }
}

const fn exhausted(kind: &'static str, limit: usize) -> Misuse {
    Misuse::Exhausted { kind, limit }
}

/// The cell.
pub(crate) struct State {
    pub(crate) worker: u8,
    pub(crate) asked: Rc<Asked>,
    pub(crate) context_data: PluginData,
    pub(crate) context_chain: Chain,
    pub(crate) connections: Slots<Connection>,
    pub(crate) messages: Slots<Box<Message>>,
    /// Messages that are over, whose memory the next ones get.
    #[allow(clippy::vec_box, reason = "it is what a slot holds")]
    spare_messages: Vec<Box<Message>>,
    pub(crate) holds: Slots<Hold>,
    pub(crate) timers: Slots<Timer>,
    pub(crate) watches: Slots<Watch>,
    /// Those that were removed because their descriptor was closed, and not unwatched since; the oldest
    /// first.
    watches_closed: VecDeque<Key>,
    pub(crate) queries: Slots<Query>,
    /// How many of them each plugin has.
    pub(crate) queries_of: HashMap<PluginIndex, usize>,
    pub(crate) commands: Queue,
    /// The loop that plugins with libev share, once one has asked for it.
    pub(crate) libev: Option<&'static Loop>,
    pub(crate) addresses: Live,
    pub(crate) locals: Locals,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { worker, connections, messages, .. } = self;
        let counts = (connections.len(), messages.len());
        f.debug_struct("State")
            .field("worker", worker)
            .field("counts", &counts)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn new(worker: u8, asked: Rc<Asked>) -> State {
        State {
            worker,
            asked,
            context_data: PluginData::default(),
            context_chain: Chain::default(),
            connections: Slots::new(),
            messages: Slots::new(),
            spare_messages: Vec::new(),
            holds: Slots::new(),
            timers: Slots::new(),
            watches: Slots::new(),
            watches_closed: VecDeque::new(),
            queries: Slots::new(),
            queries_of: HashMap::new(),
            commands: Queue::default(),
            libev: None,
            addresses: Live::default(),
            locals: Arc::new(|_| false),
        }
    }

    /// The token is a connection's or a step's, of this worker.
    pub(crate) fn connection(&mut self, token: Token) -> Result<&mut Connection, Misuse> {
        let stale = Misuse::Stale { kind: token.kind().type_name() };
        self.connections.get_mut(token.key()).ok_or(stale)
    }

    /// The token is a message's, of this worker. For its values see [`State::message_with`].
    pub(crate) fn message(&mut self, token: Token) -> Result<&mut Message, Misuse> {
        let stale = Misuse::Stale { kind: token.kind().type_name() };
        self.messages.get_mut(token.key()).map(|message| &mut **message).ok_or(stale)
    }

    /// The same, with these values as its JSON object says them now: each is compared with what it was.
    pub(crate) fn message_with(
        &mut self,
        token: Token,
        parts: &[Part],
    ) -> Result<&mut Message, Misuse> {
        let stale = Misuse::Stale { kind: token.kind().type_name() };
        let message = self.messages.get_mut(token.key()).ok_or(stale)?;
        if let Some(json) = message.json.as_deref()
            && !message.json_busy
        {
            let view = json.active();
            // D-62: plugins may have changed the object behind our back.
            message.adopt_live(&view, parts, &mut self.addresses);
        }
        Ok(message)
    }

    /// The notes of a connection or message of this worker, to be read.
    pub(crate) fn notes(&mut self, token: Token) -> Result<&Notes, Misuse> {
        match token.kind() {
            Kind::Message => {
                let stale = Misuse::Stale { kind: token.kind().type_name() };
                self.messages.get(token.key()).map(|message| message.notes()).ok_or(stale)
            }
            _ => self.connection(token).map(|connection| &connection.notes),
        }
    }

    /// The same, to be changed.
    pub(crate) fn notes_mut(&mut self, token: Token) -> Result<&mut Notes, Misuse> {
        match token.kind() {
            Kind::Message => {
                let stale = Misuse::Stale { kind: token.kind().type_name() };
                let message = self.messages.get_mut(token.key()).ok_or(stale)?;
                Ok(message.notes_mut(token.plugin()))
            }
            _ => self.connection(token).map(|connection| &mut connection.notes),
        }
    }

    /// A plugin is about to say something of its step: if its hook runs, the chain is told so. The token is
    /// a context or a connection of this worker.
    pub(crate) fn tell_chain(&mut self, token: Token) {
        if !self.asked.tell(token.step()) {
            return;
        }
        let plugin = token.plugin();
        match (token.kind(), call::current().map(|current| current.site)) {
            (Kind::Context, _) => self.context_chain.on_call(plugin),
            (_, Some(Site::Hook(hook))) => {
                let connection = self.connections.get_mut(token.key());
                connection.expect("only the worker closes a connection").on_call(plugin, hook);
            }
            (_, _) => unreachable!("what is asked is asked by a hook"),
        }
    }

    /// The token is a context or a connection of this worker.
    pub(crate) fn hand_back(&mut self, token: Token, verdict: Verdict) -> Result<(), Misuse> {
        if token.kind() == Kind::Hold {
            return self.release(token, verdict).map(|_| ());
        }
        self.tell_chain(token);
        if token.kind() == Kind::Context {
            return self.hand_back_context(token.plugin(), verdict);
        }
        let outcome = self.connection(token)?.chain.hand_back(token.plugin(), verdict)?;
        self.on_handed_back(ConnectionId(token.key()), outcome);
        Ok(())
    }

    fn hand_back_context(&mut self, plugin: PluginIndex, verdict: Verdict) -> Result<(), Misuse> {
        match self.context_chain.hand_back(plugin, verdict) {
            Ok(HandBack::Resumes) => self.commands.push(Command::ResumeContext),
            // The context's steps have no names.
            Ok(HandBack::Recorded | HandBack::Swallowed | HandBack::Settled(_)) => {}
            // D-11: with no step of the context to hand back, a connection's was meant, and there is
            // no telling which.
            Err(Misuse::NotHeld) => return Err(Misuse::BareContext),
            Err(misuse) => return Err(misuse),
        }
        Ok(())
    }

    pub(crate) fn start_timer(&mut self, timer: Timer, after_ms: u64) -> Result<Token, Misuse> {
        self.commands.admit()?;
        let key = self.timers.insert(timer).ok_or(exhausted("timers", SLOTS_MAX))?;
        self.commands.push(Command::TimerStart { timer: TimerId(key), after_ms });
        Ok(Token::new(Kind::Timer, timer.plugin, self.worker, key))
    }

    pub(crate) fn start_repeating(
        &mut self,
        timer: Timer,
        after_ms: u64,
        interval_ms: u64,
    ) -> Result<Token, Misuse> {
        self.commands.admit()?;
        let key = self.timers.insert(timer).ok_or(exhausted("timers", SLOTS_MAX))?;
        self.commands.push(Command::TimerRepeat { timer: TimerId(key), after_ms, interval_ms });
        Ok(Token::new(Kind::Timer, timer.plugin, self.worker, key))
    }

    /// A timer is due. It is free from now on, unless it repeats.
    pub(crate) fn take_due(&mut self, timer: TimerId) -> Option<Timer> {
        match self.timers.get(timer.0)? {
            timer if timer.repeats => Some(*timer),
            _ => self.timers.remove(timer.0),
        }
    }

    pub(crate) fn stop_timer(&mut self, token: Token) -> Result<(), Misuse> {
        self.timers.remove(token.key()).ok_or(Misuse::TimerGone)?;
        self.commands.push(Command::TimerStop { timer: TimerId(token.key()) });
        Ok(())
    }

    pub(crate) fn reset_timer(&mut self, token: Token, after_ms: u64) -> Result<(), Misuse> {
        self.timers.get(token.key()).ok_or(Misuse::TimerGone)?;
        self.commands.admit()?;
        self.commands.push_reset(TimerId(token.key()), after_ms);
        Ok(())
    }

    pub(crate) fn watch(&mut self, watch: Watch) -> Result<Token, Misuse> {
        self.commands.admit()?;
        let refusal = exhausted("watches", WATCHES_MAX);
        if self.watches.len() >= WATCHES_MAX {
            return Err(refusal);
        }
        let key = self.watches.insert(watch).ok_or(refusal)?;
        let id = WatchId(key);
        let fd = borrow(watch.fd);
        self.commands.push(Command::Watch { watch: id, fd, interest: watch.interest });
        Ok(Token::new(Kind::Watch, watch.plugin, self.worker, key))
    }

    /// Another interest; 0 lets the watch rest until it is given one again. False for one that was
    /// removed here, of which its owner need not know yet.
    pub(crate) fn set_interest(&mut self, token: Token, interest: u8) -> Result<bool, Misuse> {
        let stale = Misuse::Stale { kind: Kind::Watch.type_name() };
        self.commands.admit()?;
        let Some(watch) = self.watches.get_mut(token.key()) else {
            return self.watches_closed.contains(&token.key()).then_some(false).ok_or(stale);
        };
        let before = std::mem::replace(&mut watch.interest, interest);
        let (id, fd) = (WatchId(token.key()), watch.fd);
        match (before, interest) {
            (before, interest) if before == interest => {}
            (_, 0) => self.commands.push(Command::Unwatch { watch: id }),
            (0, _) => self.commands.push(Command::Watch { watch: id, fd: borrow(fd), interest }),
            (_, _) => self.commands.push_interest(id, interest),
        }
        Ok(true)
    }

    pub(crate) fn unwatch(&mut self, token: Token) -> Result<(), Misuse> {
        let stale = Misuse::Stale { kind: Kind::Watch.type_name() };
        if self.watches.remove(token.key()).is_some() {
            self.commands.push(Command::Unwatch { watch: WatchId(token.key()) });
            return Ok(());
        }
        // What was removed here is still its owner's to let go of.
        let place = self.watches_closed.iter().position(|key| *key == token.key());
        self.watches_closed.remove(place.ok_or(stale)?);
        Ok(())
    }

    /// D-97: removes a watch whose descriptor was closed, unless it is gone already. Before its last
    /// callback: one that were still there could be given an interest in whatever has its number by then,
    /// with nobody left to take that back.
    pub(crate) fn remove_closed(&mut self, watch: WatchId) -> Option<Watch> {
        let removed = self.watches.remove(watch.0)?;
        if self.watches_closed.len() >= WATCHES_CLOSED_MAX {
            self.watches_closed.pop_front();
        }
        self.watches_closed.push_back(watch.0);
        Some(removed)
    }

    /// D-17: the plugin was cleaned up; what it left goes without a callback.
    pub(crate) fn drop_plugin(&mut self, plugin: PluginIndex) {
        for key in self.timers.keys_where(|timer| timer.plugin == plugin) {
            self.timers.remove(key);
            self.commands.push(Command::TimerStop { timer: TimerId(key) });
        }
        for key in self.watches.keys_where(|watch| watch.plugin == plugin) {
            self.watches.remove(key);
            self.commands.push(Command::Unwatch { watch: WatchId(key) });
        }
        // They keep their places until the answers come.
        for key in self.queries.keys_where(|query| query.plugin == plugin) {
            if let Some(query) = self.queries.get_mut(key) {
                query.callback = None;
            }
        }
        if let Some(shared) = self.libev {
            shared.depart(plugin);
        }
        self.context_data.forget(plugin);
        self.context_chain.forget(plugin);
    }

    /// The address of the step of now, for plugins of G2 and later. One for the whole chain.
    pub(crate) fn show_address(&mut self, connection: ConnectionId, bytes: &[u8]) -> *const c_char {
        let Some(shown) = self.connections.get_mut(connection.0) else { return ptr::null() };
        shown.address.show(bytes, Owner::Step(connection.0), &mut self.addresses)
    }

    /// The address step is over: what plugins said with `MQ_setLocal`.
    pub(crate) fn end_address(&mut self, connection: ConnectionId) -> Option<bool> {
        self.connections.get_mut(connection.0)?.address.end(&mut self.addresses)
    }

    /// A message's sender or recipient as an address of G2 and later.
    pub(crate) fn message_address(
        &mut self,
        token: Token,
        part: Part,
    ) -> Result<*const c_char, Misuse> {
        let text = self.message_with(token, &[part])?.text(part).cloned();
        let Some(text) = text else { return Ok(ptr::null()) };
        Ok(self.addresses.show(&text, Owner::Message(token.key(), part)))
    }

    /// Sets a value of a message; what was lent of the old one is dead.
    pub(crate) fn set_part(
        &mut self,
        token: Token,
        part: Part,
        text: Option<Text>,
    ) -> Result<(), Misuse> {
        let stale = Misuse::Stale { kind: token.kind().type_name() };
        let message = self.messages.get_mut(token.key()).ok_or(stale)?;
        self.addresses.forget(message.text(part));
        message.set(part, text);
        Ok(())
    }

    /// A message of `connection`, which is open; `None` without a slot.
    #[inline]
    pub(crate) fn open_message(
        &mut self,
        connection: ConnectionId,
        init: MessageInit<'_>,
    ) -> Option<MessageId> {
        let owner = self.connections.get(connection.0);
        let direction = owner.expect("a message is of an open connection").direction;
        let spare = self.spare_messages.pop();
        let mut message = spare.unwrap_or_else(|| Box::new(Message::blank(connection)));
        message.begin(connection, direction, init);
        self.messages.insert(message).map(MessageId)
    }

    /// Frees a message and what was lent of it. It is for [`State::keep_message`].
    #[inline]
    pub(crate) fn remove_message(&mut self, message: MessageId) -> Option<Box<Message>> {
        let message = self.messages.remove(message.0)?;
        if !self.addresses.is_empty() {
            for part in [Part::Envelope, Part::Recipient] {
                self.addresses.forget(message.text(part));
            }
        }
        Some(message)
    }

    /// A message is over, and its [`Message::end`] was taken: its memory is for another.
    pub(crate) fn keep_message(&mut self, message: Box<Message>) {
        if self.spare_messages.len() < SPARE_MESSAGES_MAX {
            self.spare_messages.push(message);
        }
    }

    /// Frees a connection and what was lent of it.
    pub(crate) fn remove_connection(&mut self, connection: ConnectionId) {
        self.forget_hold(connection);
        let gone = self.connections.remove(connection.0);
        for hold in gone.iter().flat_map(|gone| gone.chain.overdue()) {
            self.holds.remove(hold);
        }
        self.addresses.forget(gone.as_ref().and_then(|gone| gone.address.text()));
    }

    /// The text of an address that is live.
    pub(crate) fn address_text(&self, owner: Owner) -> Option<&Text> {
        match owner {
            Owner::Step(key) => self.connections.get(key)?.address.text(),
            Owner::Message(key, part) => self.messages.get(key)?.text(part),
        }
    }

    /// Is the recipient local: by what plugins said, else by the settings (D-6F)?
    pub(crate) fn is_local(&self, owner: Owner) -> bool {
        let (said, text) = match owner {
            Owner::Step(key) => {
                let shown = self.connections.get(key).map(|found| &found.address);
                (shown.and_then(StepAddress::local), shown.and_then(StepAddress::text))
            }
            Owner::Message(key, _) => {
                let message = self.messages.get(key).map(|message| &**message);
                let said = message.and_then(Message::local);
                (said, message.and_then(|message| message.text(Part::Recipient)))
            }
        };
        said.unwrap_or_else(|| text.is_some_and(|text| (self.locals)(text.as_bytes())))
    }

    /// D-70, D-71: what plugins say of the recipient.
    pub(crate) fn set_local(&mut self, owner: Owner, local: bool) {
        match owner {
            Owner::Step(key) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    let by = call::current().map(|current| current.plugin);
                    connection.address.set_local(by, local);
                }
            }
            Owner::Message(key, _) => {
                if let Some(message) = self.messages.get_mut(key) {
                    message.set_local(local);
                }
            }
        }
    }

    pub(crate) fn resolve(
        &mut self,
        query: Query,
        name: &[u8],
        kind: RecordKind,
    ) -> Result<Token, Misuse> {
        self.commands.admit()?;
        let plugin = query.plugin;
        let open = self.queries_of.entry(plugin).or_default();
        if *open >= QUERIES_PER_PLUGIN_MAX {
            return Err(exhausted("queries of this plugin", QUERIES_PER_PLUGIN_MAX));
        }
        if self.queries.len() >= QUERIES_MAX {
            return Err(exhausted("queries", QUERIES_MAX));
        }
        let key = self.queries.insert(query).ok_or(exhausted("queries", QUERIES_MAX))?;
        *open += 1;
        self.commands.push(Command::Resolve { query: QueryId(key), name: name.into(), kind });
        Ok(Token::new(Kind::Query, plugin, self.worker, key))
    }

    /// Its answer is not wanted any more.
    pub(crate) fn cancel(&mut self, token: Token) -> Result<(), Misuse> {
        let stale = Misuse::Stale { kind: Kind::Query.type_name() };
        let query = self.queries.get_mut(token.key()).ok_or(stale)?;
        query.callback.take().map(drop).ok_or(stale)
    }

    /// The answer has come: the query is over.
    pub(crate) fn take_answered(&mut self, query: QueryId) -> Option<Query> {
        let query = self.queries.remove(query.0)?;
        if let Some(open) = self.queries_of.get_mut(&query.plugin) {
            *open -= 1;
        }
        Some(query)
    }

    /// Is there room for `size` more bytes on an open connection (D-40, D-50)?
    pub(crate) fn may_send(&mut self, token: Token, size: usize) -> Result<bool, Misuse> {
        let connection = self.connection(token)?;
        let fits = !connection.closed && size <= connection.output_space;
        if fits {
            self.commands.admit()?;
        }
        Ok(fits)
    }

    /// After [`State::may_send`] said so.
    pub(crate) fn send(&mut self, token: Token, bytes: &[u8]) -> Result<usize, Misuse> {
        self.connection(token)?.output_space -= bytes.len();
        self.commands.push_send(ConnectionId(token.key()), bytes);
        Ok(bytes.len())
    }
}

/// The descriptor of a watch, for the worker.
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: not -1, as whoever made the watch has checked. That it stays open, and is the
    // plugin's, is its promise by the header, and can be broken. The number is only ever given to
    // the epoll calls of a watch set of its own, never read, written or closed: a stale one gives
    // ENOENT or EBADF there (D-97), a socket of the host is registered once more, next to its
    // registration with the host, and that set itself and the one descriptor of the host in it,
    // its poll, are told by their numbers and left alone.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
