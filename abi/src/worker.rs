//! The worker's side: how the event loop opens things, calls plugins, and hears what they asked for.
//!
//! Owns the cell of its thread and the order in which things are said to it. Must never hold the cell
//! while plugin code runs. Diagnostics: a call for a step that is held, or of a thing that is gone, is a
//! bug of the caller and panics; plugins' mistakes are reported by `misuse`.

use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_char, c_int};
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::rc::Rc;

use thiserror::Error;

use crate::access;
use crate::address::Locals;
use crate::call::{self, Call, Word};
use crate::command::{Command, Watch};
use crate::control::Asked;
use crate::decision::{Admitted, Decided};
use crate::fact::Facts;
use crate::hook::{Hook, Site};
use crate::host::{self, Host, Level};
use crate::id::{ConnectionId, MessageId, QueryId, TimerId, WatchId};
use crate::inbox::Post;
use crate::json::{self, Made};
use crate::libev::ForeignLoop;
use crate::message::{Direction, MessageEdits, MessageInit};
use crate::misuse::{self, Once};
use crate::note::Notes;
use crate::plugin::PluginIndex;
use crate::post;
use crate::query::QueryAnswer;
use crate::set::PluginSet;
use crate::sets::Sets;
use crate::slot::SLOTS_MAX;
use crate::stack::HandlerStack;
use crate::state::{Connection, OUTPUT_BYTES_MAX, PluginData, State};
use crate::step::{ContextStep, Returned, Verdict};
use crate::text::Text;
use crate::token::{Kind, Token};

/// What a connection is when plugins first see it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInit {
    /// The socket. Only its number is kept, for `MQ_SmtpFileDescriptor`.
    pub fd: RawFd,
    /// Whose it is.
    pub direction: Direction,
    /// Is it encrypted already?
    pub secure: bool,
    /// Does the client count as authenticated already?
    pub authenticated: bool,
}

/// Every slot of a kind is taken on this worker: answer as to any lack of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{SLOTS_MAX} {things} exist on this worker, which is the limit")]
pub struct Exhausted {
    things: &'static str,
}

/// Why a thread did not become a worker. Each is a bug of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EnterError {
    /// There is no host.
    #[error("no plugin host is installed; install one before the workers start")]
    NotInstalled,
    /// This thread is a worker.
    #[error("this thread is a worker already")]
    ThreadTaken,
    /// The index was used before; its tokens may still be about.
    #[error("worker index {0} was used before; each names one worker in the life of a process")]
    IndexTaken(u8),
}

/// How much lives on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Timers that have not fired.
    pub timers: usize,
    /// Watches.
    pub watches: usize,
    /// Connections.
    pub connections: usize,
    /// Queries to name servers that were not answered.
    pub queries: usize,
    /// Messages.
    pub messages: usize,
    /// Holds with a name (`MQX_hold`).
    pub holds: usize,
}

/// This thread as plugins see it.
///
/// Bound to its thread. Dropping it leaves: what plugins call on this thread afterwards is misuse.
#[derive(Debug)]
pub struct Worker {
    pub(crate) host: &'static Host,
    pub(crate) index: u8,
    pub(crate) word: &'static Word,
    pub(crate) asked: Rc<Asked>,
    pub(crate) state: Rc<RefCell<State>>,
    /// Out of the inbox, and not applied.
    posted: VecDeque<Post>,
    /// Where a crash of this thread is reported from.
    _handler_stack: Option<HandlerStack>,
    /// Out of the host's, and not run.
    posts: VecDeque<post::Post>,
    pub(crate) sets: Sets,
}

impl Drop for Worker {
    fn drop(&mut self) {
        call::leave();
    }
}

impl Worker {
    /// Makes this thread the worker `index`.
    pub fn enter(index: u8) -> Result<Worker, EnterError> {
        let host = host::installed().ok_or(EnterError::NotInstalled)?;
        if call::has_worker() {
            return Err(EnterError::ThreadTaken);
        }
        if !host.claim(index) {
            return Err(EnterError::IndexTaken(index));
        }
        let asked = Rc::new(Asked::default());
        let state = Rc::new(RefCell::new(State::new(index, Rc::clone(&asked))));
        let published = host.published(index);
        host.posts(index).open();
        // SAFETY: `Worker` is bound to this thread by its `Rc`, keeps the pointee, and leaves when it is
        // dropped; if it is forgotten, the pointee stays for good.
        unsafe { call::enter(NonNull::from(&*state), published) };
        let sets = Sets::new(&host.plugins().set());
        Ok(Worker {
            host,
            index,
            word: published.word(),
            asked,
            state,
            posted: VecDeque::new(),
            posts: VecDeque::new(),
            _handler_stack: HandlerStack::new(),
            sets,
        })
    }

    /// The host that this worker belongs to.
    pub fn host(&self) -> &'static Host {
        self.host
    }

    // ---- Connections ------------------------------------------------------------------------------

    /// A connection that plugins may see from now on.
    pub fn open_connection(&self, init: ConnectionInit) -> Result<ConnectionId, Exhausted> {
        let ConnectionInit { fd, direction, secure, authenticated } = init;
        let connection = Connection {
            fd,
            direction,
            secure,
            authenticated,
            plugin_authentication: None,
            unjudged: None,
            closed: false,
            output_space: OUTPUT_BYTES_MAX,
            data: PluginData::default(),
            chain: Default::default(),
            set: self.sets.now().clone(),
            hook: Hook::Connect,
            answer: None,
            hold: None,
            staged: None,
            facts: Facts::default(),
            notes: Notes::default(),
            address: Default::default(),
        };
        let key = self.state.borrow_mut().connections.insert(connection);
        key.map(ConnectionId).ok_or(Exhausted { things: "connections" })
    }

    /// The close chain is over: every token of the connection is stale, a verdict not taken is dropped.
    pub fn close_connection(&self, connection: ConnectionId) {
        self.state.borrow_mut().remove_connection(connection);
    }

    /// Who is asked about this connection; `None` if it is gone.
    pub fn set_of(&self, connection: ConnectionId) -> Option<Rc<PluginSet>> {
        Some(self.state.borrow().connections.get(connection.0)?.set.clone())
    }

    pub(crate) fn has_other_set(&self, connection: ConnectionId, set: &Rc<PluginSet>) -> bool {
        let state = self.state.borrow();
        let connection = state.connections.get(connection.0);
        connection.is_some_and(|connection| !Rc::ptr_eq(&connection.set, set))
    }

    /// How many plugins are asked about a step of this connection that calls `hook`.
    #[inline]
    pub fn asked(&self, connection: ConnectionId, hook: Hook) -> usize {
        let state = self.state.borrow();
        state.connections.get(connection.0).map_or(0, |connection| connection.set.with(hook).len())
    }

    /// D-17, for one plugin whose cleanup hook is over: its timers, watches, queries and posts vanish without
    /// a callback; the worker is told as if the plugin had stopped them. How many posts, is said.
    pub(crate) fn drop_plugin(&mut self, plugin: PluginIndex) {
        self.state.borrow_mut().drop_plugin(plugin);
        let before = self.posts.len();
        self.posts.retain(|post| post.plugin != plugin);
        let dropped = before - self.posts.len() + self.host.posts(self.index).close_for(plugin);
        say_dropped(plugin, dropped, "the plugin was replaced");
    }

    /// The peer is gone, the close chain is still to come: nothing can be sent any more (D-50).
    pub fn set_closed(&self, connection: ConnectionId) {
        self.change(connection, |connection| connection.closed = true);
    }

    /// The TLS handshake is done.
    pub fn set_secure(&self, connection: ConnectionId) {
        self.change(connection, |connection| connection.secure = true);
    }

    /// What the host itself found out about the client. Plugins see it, and may change it.
    pub fn set_authenticated(&self, connection: ConnectionId, authenticated: bool) {
        self.change(connection, |connection| connection.authenticated = authenticated);
    }

    /// Does the client count as authenticated? False for a connection that is gone.
    pub fn authenticated(&self, connection: ConnectionId) -> bool {
        let state = self.state.borrow();
        state.connections.get(connection.0).is_some_and(|connection| connection.authenticated)
    }

    /// What plugins last said about the client since this was last asked; `None` if nothing (D-34).
    pub fn take_authentication(&self, connection: ConnectionId) -> Option<bool> {
        let mut state = self.state.borrow_mut();
        let said = state.connections.get_mut(connection.0)?.plugin_authentication.take()?;
        Some(said.good)
    }

    /// A plugin has failed in the step of a login, which began with nobody authenticated and nothing said:
    /// what it said of the client counts no longer, and what others said before it does again (D-27).
    pub fn forget_authentication(&self, connection: ConnectionId, plugin: PluginIndex) {
        self.change(connection, |connection| connection.forget_authentication(plugin));
    }

    /// A plugin has failed in a step, which it has or had last: what it said in it of the address, and what it
    /// granted to the client, counts no longer (D-27).
    pub fn forget_step(&self, connection: ConnectionId, plugin: PluginIndex) {
        self.change(connection, |connection| connection.forget_step(plugin));
    }

    /// How many more bytes the output of a connection can take, at most [`OUTPUT_BYTES_MAX`]. Said
    /// whenever it has changed, with no [`Command::Send`] for the connection waiting (D-40).
    pub fn set_output_space(&self, connection: ConnectionId, bytes: usize) {
        let space = bytes.min(OUTPUT_BYTES_MAX);
        self.change(connection, |connection| connection.output_space = space);
    }

    fn change(&self, connection: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.state.borrow_mut().connections.get_mut(connection.0) {
            change(connection);
        }
    }

    // ---- Messages ---------------------------------------------------------------------------------

    /// A message of `connection`, which must be open.
    pub fn open_message(
        &self,
        connection: ConnectionId,
        init: MessageInit<'_>,
    ) -> Result<MessageId, Exhausted> {
        let message = self.state.borrow_mut().open_message(connection, init);
        message.ok_or(Exhausted { things: "messages" })
    }

    /// The message's chain is over: its tokens and the strings that it lent are stale. Nothing was
    /// changed in a message that is gone.
    pub fn close_message(&self, message: MessageId) -> MessageEdits {
        let mut message = {
            let state = &mut *self.state.borrow_mut();
            let Some(mut message) = state.remove_message(message) else {
                return MessageEdits::default();
            };
            if message.json.is_none() {
                let edits = message.end();
                state.keep_message(message);
                return edits;
            }
            message
        };
        let edits = json::close(&mut message);
        self.state.borrow_mut().keep_message(message);
        edits
    }

    /// What plugins made of an outgoing message so far, without its JSON and notes. Nothing was changed in a
    /// message that is gone.
    pub fn edits(&self, message: MessageId) -> MessageEdits {
        let state = self.state.borrow();
        state.messages.get(message.0).map_or_else(MessageEdits::default, |message| message.edits())
    }

    /// The JSON object and the notes of an outgoing message as they are now; `None` if no plugin asked for
    /// the one or changed the others.
    pub fn made(&self, message: MessageId) -> Option<Made> {
        json::made(&self.state, message)
    }

    /// From now on plugins may decide what becomes of an outgoing message, or they may not. They may
    /// within a step, while it can be acted upon.
    pub fn admit_decisions(&self, message: MessageId, admitted: bool) {
        if let Some(message) = self.state.borrow_mut().messages.get_mut(message.0) {
            message.docket.admit(if admitted { Admitted::All } else { Admitted::Nothing });
        }
    }

    /// The end of an outgoing message at its peer is about to be shown: how far it came, and what plugins
    /// may decide of it all the same. What was decided before, and not taken, counts no longer.
    pub fn begin_result(&self, message: MessageId, reached: &str, admitted: Admitted) {
        if let Some(message) = self.state.borrow_mut().messages.get_mut(message.0) {
            message.state = Some(Text::copy_from(reached.as_bytes()));
            message.docket.admit(admitted);
            message.docket.take();
        }
    }

    /// Have plugins decided what becomes of a message?
    pub fn is_decided(&self, message: MessageId) -> bool {
        let state = self.state.borrow();
        state.messages.get(message.0).is_some_and(|message| message.docket.is_decided())
    }

    /// What plugins decided, once.
    pub fn take_decision(&self, message: MessageId) -> Option<Decided> {
        self.state.borrow_mut().messages.get_mut(message.0)?.docket.take()
    }

    /// A plugin has failed in the step of a message: what it decided counts no longer.
    pub fn forget_decision(&self, message: MessageId, plugin: PluginIndex) {
        if let Some(message) = self.state.borrow_mut().messages.get_mut(message.0) {
            message.docket.forget(plugin);
        }
    }

    // ---- Hooks ------------------------------------------------------------------------------------

    /// Tells a plugin at once that the peer is gone, while a plugin holds its step (D-4B). Whoever holds it
    /// may hand it back meanwhile.
    pub fn call_lost(&mut self, plugin: PluginIndex, connection: ConnectionId) {
        let token = |kind| Token::new(kind, plugin, self.index, connection.0);
        let hooks = &self.host.plugins().plugin(plugin).hooks;
        hooks.call_lost(self.word, token(Kind::StepContext), token(Kind::Connection));
    }

    // ---- Addresses --------------------------------------------------------------------------------

    /// Which addresses are local, until this is said again. None at first.
    pub fn set_locals(&self, locals: Locals) {
        self.state.borrow_mut().locals = locals;
    }

    /// An address step is over: what plugins said with `MQ_setLocal` about its address (D-71).
    pub fn end_address(&self, connection: ConnectionId) -> Option<bool> {
        self.state.borrow_mut().end_address(connection)
    }

    /// What plugins have said so far with `MQ_setLocal` about the address of the step of now.
    pub fn said_local(&self, connection: ConnectionId) -> Option<bool> {
        self.state.borrow().connections.get(connection.0)?.address.local()
    }

    /// Calls one hook of the worker itself; at its start with the loop running (D-14), and at its end
    /// (D-16). Held and handed back as a connection's step is.
    ///
    /// # Panics
    /// When such a step is held: that is a bug of the caller.
    pub fn call_context(&mut self, plugin: PluginIndex, step: ContextStep) -> Returned {
        self.state.borrow().context_chain.expect_free();
        let context = Token::bare(plugin, self.index);
        self.asked.begin(context.shared_bits());
        let callee = self.host.plugins().plugin(plugin);
        let took_control = callee.call_context(self.word, step, context);
        let told = self.asked.is_told();
        self.asked.end();
        let chain = &mut self.state.borrow_mut().context_chain;
        if !told {
            chain.on_call(plugin);
        }
        let verdict = chain.on_return(took_control);
        self.returned(plugin, took_control, verdict)
    }

    pub(crate) fn returned(
        &self,
        plugin: PluginIndex,
        took_control: bool,
        verdict: Option<Verdict>,
    ) -> Returned {
        if verdict.is_some() && !took_control {
            self.warn_verdict_then_false(plugin);
        }
        Returned { took_control, verdict, answered: false }
    }

    #[cold]
    pub(crate) fn warn_hold_then_false(&self, plugin: PluginIndex) {
        if self.host.meter(Some(plugin)).first(Once::HoldThenFalse) {
            let text = "a hook called MQX_hold and then returned false; the step is held, but a hook \
                        that holds should return true";
            host::log(Level::Warning, Some(plugin), text);
        }
    }

    #[cold]
    fn warn_verdict_then_false(&self, plugin: PluginIndex) {
        if self.host.meter(Some(plugin)).first(Once::VerdictThenFalse) {
            let text = "a hook handed control back and then returned false; the hand-back counts, \
                        but a hook that hands back should return true";
            host::log(Level::Warning, Some(plugin), text);
        }
    }

    // ---- Control ----------------------------------------------------------------------------------

    /// Who has control of this connection's step and has not handed it back.
    pub fn held(&self, connection: ConnectionId) -> Option<PluginIndex> {
        self.state.borrow().connections.get(connection.0)?.chain.held()
    }

    /// Who holds this connection's step, or did until a verdict that was not yet taken.
    pub fn holder(&self, connection: ConnectionId) -> Option<PluginIndex> {
        self.state.borrow().connections.get(connection.0)?.chain.holder()
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// The verdict on a held step, once; it comes with a [`Command::Resume`].
    pub fn take_verdict(&self, connection: ConnectionId) -> Option<Verdict> {
        let state = &mut *self.state.borrow_mut();
        let connection = state.connections.get_mut(connection.0)?;
        let verdict = connection.chain.take_verdict();
        if verdict == Some(Verdict::Retry) {
            connection.answer = None;
        }
        verdict
    }

    /// D-28: `plugin` has not yet handed back what was revoked from it on this connection. Until it does,
    /// [`call`](Worker::call) passes over its hooks, except close.
    pub fn skips(&self, plugin: PluginIndex, connection: ConnectionId) -> bool {
        let state = self.state.borrow();
        state.connections.get(connection.0).is_some_and(|connection| connection.chain.owes(plugin))
    }

    /// As [`held`](Worker::held), for the worker's own step.
    pub fn context_held(&self) -> Option<PluginIndex> {
        self.state.borrow().context_chain.held()
    }

    /// As [`take_verdict`](Worker::take_verdict), for the worker's own step; it comes with a
    /// [`Command::ResumeContext`].
    pub fn take_context_verdict(&self) -> Option<Verdict> {
        self.state.borrow_mut().context_chain.take_verdict()
    }

    /// As [`revoke`](Worker::revoke), for the worker's own step (D-14, D-16).
    pub fn revoke_context(&self) -> Option<PluginIndex> {
        self.state.borrow_mut().context_chain.revoke()
    }

    /// Do hand-backs from other threads wait? A look at one flag.
    pub fn has_posted(&self) -> bool {
        !self.posted.is_empty() || self.host.inbox(self.index).is_waiting()
    }

    /// Takes hand-backs from other threads (D-26), in their order, for at most `steps_max` steps. Each
    /// counts as one from a callback of now: a held step gives a [`Command::Resume`], anything else is
    /// reported.
    pub fn apply_posted(&mut self, steps_max: usize) {
        if self.posted.is_empty() {
            self.posted = self.host.inbox(self.index).take();
        }
        for _ in 0..steps_max {
            let Some(post) = self.posted.pop_front() else { return };
            access::apply_post(&self.state, post);
        }
    }

    // ---- Events -----------------------------------------------------------------------------------

    /// Moves out what plugins asked for since the last time, in their order. To be called, and obeyed,
    /// after every call that ran plugin code and after [`apply_posted`](Worker::apply_posted).
    #[inline]
    pub fn take_commands(&self, into: &mut Vec<Command>) {
        let commands = &mut self.state.borrow_mut().commands;
        // Mostly there are none.
        if !commands.is_empty() {
            commands.take(into);
        }
    }

    /// A timer is due: frees it, unless it repeats, then calls back (D-90, D-91). False if it was stopped meanwhile.
    pub fn fire_timer(&mut self, timer: TimerId) -> bool {
        let due = self.state.borrow_mut().take_due(timer);
        let Some(timer) = due else { return false };
        call::plugin_code(self.word, Call::new(timer.plugin, Site::Timer), || {
            // SAFETY: the callback and its data are the plugin's, given together for this call.
            unsafe { (timer.callback)(timer.data) };
        });
        true
    }

    /// A watched descriptor is ready for `events`, of which the watch gets what it asked for. False, and
    /// no callback, if it was taken back meanwhile (D-99) or asked for none of them.
    pub fn fire_watch(&mut self, id: WatchId, events: u8) -> bool {
        let watch = self.state.borrow().watches.get(id.0).copied();
        let Some(watch) = watch else { return false };
        let events = events & watch.interest;
        if events != 0 {
            self.call_watch(id, watch, events);
        }
        events != 0
    }

    fn call_watch(&self, id: WatchId, watch: Watch, events: u8) {
        let token = Token::new(Kind::Watch, watch.plugin, self.index, id.0).to_pointer();
        call::plugin_code(self.word, Call::new(watch.plugin, Site::Watch), || {
            // SAFETY: the callback and its data are the plugin's, given together for such calls; the
            // token is never dereferenced.
            unsafe { (watch.callback)(token, watch.fd, c_int::from(events), watch.data) };
        });
    }

    /// The descriptor of a watch turned out to be closed, or cannot be watched (D-97): warns, frees the
    /// watch, and calls back once more with all the bits asked for; that its owner unwatches it then or
    /// later is no misuse, and nothing brings it back. The worker's own registration is gone already.
    /// `os_error` is what the system said.
    pub fn remove_watch(&mut self, id: WatchId, os_error: i32) {
        let removed = self.state.borrow_mut().remove_closed(id);
        let Some(watch) = removed else { return };
        let fd = watch.fd;
        let why = io::Error::from_raw_os_error(os_error);
        let text = format_args!(
            "descriptor {fd} was closed while it was watched (unwatch it first), or cannot be watched: \
             {why}. The watch is removed"
        );
        misuse::say(self.host, Level::Warning, Some(watch.plugin), text);
        if watch.interest != 0 {
            self.call_watch(id, watch, watch.interest);
        }
    }

    /// A query was answered: frees it, then calls back. False, and no callback, if it was cancelled.
    pub fn fire_query(&mut self, id: QueryId, answer: &QueryAnswer) -> bool {
        let answered = self.state.borrow_mut().take_answered(id);
        let Some(query) = answered else { return false };
        let Some(callback) = query.callback else { return false };
        let token = Token::new(Kind::Query, query.plugin, self.index, id.0).to_pointer();
        let values: Vec<*const c_char> = answer.values.iter().map(|value| value.as_ptr()).collect();
        let status = answer.status as c_int;
        call::plugin_code(self.word, Call::new(query.plugin, Site::Query), || {
            // SAFETY: the callback and its data are the plugin's, given together for this call; the
            // token is never dereferenced, the array and its strings outlive the call.
            unsafe { callback(token, status, values.as_ptr(), values.len(), query.data) };
        });
        true
    }

    /// Do callbacks that were posted wait? A look at one flag.
    pub fn has_posts(&self) -> bool {
        !self.posts.is_empty() || self.host.posts(self.index).is_waiting()
    }

    /// Runs the callback that was posted first; false if there is none.
    pub fn run_post(&mut self) -> bool {
        if self.posts.is_empty() {
            self.posts = self.host.posts(self.index).take();
        }
        let Some(post) = self.posts.pop_front() else { return false };
        call::plugin_code(self.word, Call::new(post.plugin, Site::Post), || {
            // SAFETY: the callback and its data are the plugin's, given together for this one call.
            unsafe { (post.callback)(post.data) };
        });
        true
    }

    /// The event loop that a plugin brought along, after a [`Command::WaitWithin`]: libev's (D-9F).
    pub fn foreign_loop(&self) -> Option<ForeignLoop> {
        self.state.borrow().libev.map(ForeignLoop)
    }

    /// After the cleanup hooks: timers, watches, queries and posts vanish without a callback or command
    /// (D-17). How many posts, is said.
    pub fn drop_all(&mut self) {
        self.drop_posts();
        let state = &mut *self.state.borrow_mut();
        state.timers.clear();
        state.watches.clear();
        state.queries.clear();
        state.queries_of.clear();
        state.commands.forget_events();
    }

    fn drop_posts(&mut self) {
        self.posts.extend(self.host.posts(self.index).close());
        let mut dropped: Vec<(PluginIndex, usize)> = Vec::new();
        for post in self.posts.drain(..) {
            match dropped.iter_mut().find(|(plugin, _)| *plugin == post.plugin) {
                Some((_, count)) => *count += 1,
                None => dropped.push((post.plugin, 1)),
            }
        }
        for (plugin, count) in dropped {
            say_dropped(plugin, count, "the worker has ended");
        }
    }

    /// How much lives here.
    pub fn live(&self) -> Counts {
        let state = self.state.borrow();
        Counts {
            timers: state.timers.len(),
            watches: state.watches.len(),
            queries: state.queries.len(),
            connections: state.connections.len(),
            messages: state.messages.len(),
            holds: state.holds.len(),
        }
    }
}

/// Posts of a plugin that are not run.
fn say_dropped(plugin: PluginIndex, count: usize, why: &str) {
    if count > 0 {
        let text = format!("MQX_post: {count} callbacks were not run, because {why}");
        host::log(Level::Info, Some(plugin), &text);
    }
}
