//! A message as a JSON object of the plugin's own library.
//!
//! Made when a plugin first asks, of what the worker then tells; shared by all plugins of the chain that
//! use the same copy of a library. One that uses another gets an object of its own, made of what the one
//! before says now: the object that was handed out last is the message. Owns these objects, with one
//! reference to each, until the chain is over and they were read back (D-61, D-62).
//!
//! Must never call into a library while the cell is borrowed, but to look at the text of a member.
//! Diagnostics: a plugin without its library is told so once, as critical; an object that does not say
//! what a mail needs is a [`JsonProblem`] (D-63).

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::ptr;
use std::sync::Arc;

use crate::access::{self, Wanted};
use crate::address::Live;
use crate::call;
use crate::hook::{Hook, Site};
use crate::host::{self, Level};
use crate::id::MessageId;
use crate::json_library::{JsonLibrary, Member, Object};
use crate::message::{Direction, Message, MessageEdits, Part};
use crate::misuse::{Misuse, Once};
use crate::note::Notes;
use crate::plugin::PluginIndex;
use crate::state::State;
use crate::text::Text;
use crate::token::{Opaque, Token};

/// How many bytes of names and values are read back, without the three that have setters: no queue
/// keeps more.
const MEMBERS_BYTES_MAX: usize = 1 << 20;

/// Tells what a message is as JSON, when a plugin asks.
pub trait JsonSource: fmt::Debug + Send + Sync {
    /// The text of a JSON object, without envelope, recipient and mime: these are added to it.
    fn object(&self, mail: u16) -> String;

    /// The MIME data in the JSON of an outgoing message, which plugins are not shown otherwise (D-67).
    fn mime(&self, mail: u16) -> Option<Text>;
}

/// Who tells of a message, and which of its mails it is.
#[derive(Clone, Debug)]
pub struct Described {
    /// Who tells.
    pub by: Arc<dyn JsonSource>,
    /// Handed to it.
    pub mail: u16,
}

/// A message's JSON object as plugins left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonEdits {
    /// Its members but envelope, recipient and mime, in their order: the name, and the text of the value.
    /// What is no UTF-8 in them was replaced.
    pub members: Vec<(Box<str>, Box<str>)>,
    /// The plugin that asked for it last.
    pub plugin: PluginIndex,
    /// Why it says no mail. What it says of the property in question is not among the edits.
    pub problem: Option<JsonProblem>,
}

/// What plugins have made of an outgoing message so far, beside what goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its JSON object, if a plugin asked for one, whether it was changed or not.
    pub json: Option<Box<JsonEdits>>,
    /// All notes on it, if plugins set any or took any away.
    pub notes: Option<Notes>,
}

/// Why an object says no mail (D-63). Incoming messages only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonProblem {
    /// The property of this name is no string.
    NoString(&'static str),
    /// The property of this name is longer than any such value may be.
    TooLong(&'static str),
    /// There is more of it than is read.
    TooMuch,
}

impl fmt::Display for JsonProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonProblem::NoString(property) => write!(f, "its property {property} is no string"),
            JsonProblem::TooLong(property) => write!(f, "its property {property} is too long"),
            JsonProblem::TooMuch => {
                write!(
                    f,
                    "its properties are longer than {MEMBERS_BYTES_MAX} octets, or nested too deep"
                )
            }
        }
    }
}

/// The objects of one message.
#[derive(Debug)]
pub(crate) struct Json {
    /// At most one of each copy of a library. Never empty.
    views: Vec<View>,
    /// The one that says what the message is.
    active: usize,
    /// Who asked last.
    asker: PluginIndex,
}

/// An object, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) library: &'static JsonLibrary,
    pub(crate) object: Object,
}

/// What is needed to make an object; taken out of the cell, which is not borrowed while it is made.
struct Plan {
    /// What says the message now.
    before: Option<View>,
    described: Option<Described>,
    direction: Direction,
    parts: [Option<Text>; 3],
    /// An object of that library that was handed out before: plugins may still hold it.
    stale: Option<Object>,
}

enum Asked {
    Ready(Object),
    Missing,
    Make(Plan),
}

/// `MQ_json`: the message's object for the plugin that owns this token.
pub(crate) fn object(function: &'static str, message: *mut Opaque) -> *mut Opaque {
    let asked = access::serve(function, Wanted::Message, message, None, |state, token| {
        let plugin = token.plugin();
        let Some(library) = library_of(plugin) else {
            state.message(token)?;
            return Ok(Some((plugin, None, Asked::Missing)));
        };
        Ok(Some((plugin, Some(library), ask(state, token, library)?)))
    });
    match asked {
        None => ptr::null_mut(),
        Some((_, _, Asked::Ready(object))) => object.as_ptr(),
        Some((plugin, Some(library), Asked::Make(plan))) => {
            let made = call::host_code(function, || make(library, plan));
            match made {
                Some(object) => install(function, message, View { library, object }),
                None => {
                    access::serve(function, Wanted::Message, message, (), |state, token| {
                        state.message(token)?.json_busy = false;
                        Ok(())
                    });
                    say_once(plugin, "no JSON object could be made of a message; NULL is returned");
                    ptr::null_mut()
                }
            }
        }
        Some((plugin, _, _)) => {
            say_missing(plugin);
            ptr::null_mut()
        }
    }
}

fn library_of(plugin: PluginIndex) -> Option<&'static JsonLibrary> {
    host::installed()?.plugins().plugin(plugin).json
}

#[cold]
fn say_missing(plugin: PluginIndex) {
    let Some(host) = host::installed() else { return };
    let generation = host.plugins().plugin(plugin).generation;
    let (name, option) = (JsonLibrary::name_of(generation), JsonLibrary::option_of(generation));
    let text = format!(
        "it asks for a message as an object of {name} and is not linked with that library; link it \
         with {option}. NULL is returned"
    );
    say_once(plugin, &text);
}

fn say_once(plugin: PluginIndex, text: &str) {
    call::host_code("the log", || {
        if host::installed().is_some_and(|host| host.meter(Some(plugin)).first(Once::Json)) {
            host::log(Level::Critical, Some(plugin), text);
        }
    });
}

fn ask(state: &mut State, token: Token, library: &'static JsonLibrary) -> Result<Asked, Misuse> {
    let message = state.message(token)?;
    if message.json_busy {
        return Err(Misuse::Argument(
            "the library of an object of this message is at work on it; nothing that runs in there \
             may ask for it",
        ));
    }
    let direction = message.direction();
    if let Some(json) = &mut message.json {
        let active = json.views[json.active];
        if active.library.is(library) {
            json.asker = token.plugin();
            return Ok(Asked::Ready(active.object));
        }
    }
    let message = state.message_with(token, &Part::ALL)?;
    let json = message.json.as_deref();
    let stale = json.and_then(|json| json.views.iter().find(|view| view.library.is(library)));
    let stale = stale.map(|view| view.object);
    let before = json.map(|json| json.views[json.active]);
    let texts = Part::ALL.map(|part| message.text(part).cloned());
    message.json_busy = true;
    Ok(Asked::Make(Plan {
        before,
        described: message.described.clone(),
        direction,
        parts: texts,
        stale,
    }))
}

/// Makes an object outside of the cell. `None` without memory, or of one that is too much to be read.
fn make(library: &'static JsonLibrary, plan: Plan) -> Option<Object> {
    let Plan { before, described, direction, mut parts, stale } = plan;
    let text = match (before, &described) {
        (Some(view), _) => call::object_code(|| text_of(view))?,
        (None, Some(described)) => described.by.object(described.mail).into_bytes(),
        (None, None) => b"{}".to_vec(),
    };
    if direction == Direction::Outgoing {
        // What the message says of itself, and not what goes over the wire.
        match (before, described) {
            (Some(view), _) => parts = Part::ALL.map(|part| view.text(part)),
            (None, Some(described)) => {
                parts[Part::Mime as usize] = described.by.mime(described.mail);
            }
            (None, None) => parts[Part::Mime as usize] = None,
        }
    }
    let object = library.parsed(&text)?;
    for (part, text) in Part::ALL.into_iter().zip(&parts) {
        if let Some(text) = text {
            // SAFETY: the object was just made by this library.
            unsafe { library.set(object, part.key(), Some(text.as_bytes())) };
        }
    }
    let Some(stale) = stale else { return Some(object) };
    call::object_code(|| {
        // SAFETY: both are live, of this library, and not the same: one was just made.
        unsafe { library.refill(stale, object) };
    });
    // SAFETY: what it held is held by the other one; nobody else has seen it.
    unsafe { library.put(object) };
    Some(stale)
}

/// All members but those that have setters, as the text of one object; `None` where it is too much to be
/// read.
fn text_of(view: View) -> Option<Vec<u8>> {
    if !view.fits() {
        return None;
    }
    let mut text = vec![b'{'];
    view.each(|name, value| {
        if text.len() > 1 {
            text.push(b',');
        }
        quote(&mut text, name);
        text.push(b':');
        text.extend_from_slice(value);
        true
    });
    text.push(b'}');
    Some(text)
}

/// Appends a name as a JSON string (RFC 8259 section 7).
fn quote(text: &mut Vec<u8>, name: &[u8]) {
    text.push(b'"');
    for &byte in name {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', byte]),
            0..0x20 => {
                let mut escape = String::new();
                write!(escape, "\\u{byte:04x}").expect("a string takes text");
                text.extend(escape.bytes());
            }
            _ => text.push(byte),
        }
    }
    text.push(b'"');
}

/// From now on the object says what the message is.
fn install(function: &'static str, message: *mut Opaque, view: View) -> *mut Opaque {
    let installed = access::serve(function, Wanted::Message, message, false, |state, token| {
        let message = state.message(token)?;
        message.json_busy = false;
        let asker = token.plugin();
        let json = message
            .json
            .get_or_insert_with(|| Box::new(Json { views: Vec::new(), active: 0, asker }));
        // An object of this library that was there was filled anew, in its place.
        let known = json.views.iter().position(|known| known.object == view.object);
        json.active = known.unwrap_or_else(|| {
            json.views.push(view);
            json.views.len() - 1
        });
        json.asker = asker;
        Ok(true)
    });
    // Nobody but its worker closes a message, so it is there.
    if installed { view.object.as_ptr() } else { ptr::null_mut() }
}

fn has_setter(name: &[u8]) -> bool {
    Part::ALL.iter().any(|part| part.key().to_bytes() == name)
}

impl View {
    /// No plugin code runs: this may be called while the cell is borrowed.
    pub(crate) fn member<'a>(&self, part: Part) -> Member<'a> {
        // SAFETY: a view's object is live, of this library, and callers are done with the bytes before
        // any plugin code runs.
        unsafe { self.library.member(self.object, part.key()) }
    }

    fn text(&self, part: Part) -> Option<Text> {
        match self.member(part) {
            Member::Text(bytes) => Some(Text::copy_from(bytes)),
            Member::None | Member::Other => None,
        }
    }

    /// Only of one that [`fits`](View::fits).
    fn each(&self, f: impl FnMut(&[u8], &[u8]) -> bool) {
        // SAFETY: a view's object is live and of this library; nobody changes it from within.
        unsafe { self.library.each(self.object, has_setter, f) };
    }

    /// Can it be written as text? To be asked before: to write it takes stack and memory without end.
    fn fits(&self) -> bool {
        // SAFETY: a view's object is live and of this library.
        unsafe { self.library.fits(self.object, MEMBERS_BYTES_MAX, has_setter) }
    }

    /// A setter was called: the object says so too.
    pub(crate) fn set(&self, part: Part, text: Option<&Text>) {
        // SAFETY: a view's object is live and of this library.
        unsafe { self.library.set(self.object, part.key(), text.map(Text::as_bytes)) };
    }
}

impl Json {
    pub(crate) fn active(&self) -> View {
        self.views[self.active]
    }
}

impl View {
    /// What it says now; `plugin` asked for it last.
    fn read(&self, plugin: PluginIndex) -> JsonEdits {
        let (mut members, mut bytes, mut problem) = (Vec::new(), 0, None);
        if !self.fits() {
            return JsonEdits { members, plugin, problem: Some(JsonProblem::TooMuch) };
        }
        self.each(|name, value| {
            bytes += name.len() + value.len();
            if bytes > MEMBERS_BYTES_MAX {
                problem = Some(JsonProblem::TooMuch);
                return false;
            }
            let lossy = |bytes| String::from_utf8_lossy(bytes).into();
            members.push((lossy(name), lossy(value)));
            true
        });
        JsonEdits { members, plugin, problem }
    }
}

/// Plugins may hold references of their own; ours go.
impl Drop for Json {
    fn drop(&mut self) {
        for view in &self.views {
            let (library, object) = (view.library, view.object);
            if view.fits() {
                // SAFETY: this reference was ours since the object was made; libraries stay loaded.
                unsafe { library.put(object) };
            } else {
                // SAFETY: as above.
                unsafe { library.put_deep(object) };
            }
        }
    }
}

/// What plugins have made of a message that they are still shown. The cell is not borrowed.
pub(crate) fn made(state: &RefCell<State>, message: MessageId) -> Option<Made> {
    let be_busy = |busy| {
        let state = &mut *state.borrow_mut();
        let message = state.messages.get_mut(message.0)?;
        let asked = message.json.as_deref().map(|json| (json.asker, json.active()));
        message.json_busy = busy && asked.is_some();
        Some((asked, message.changed_notes().cloned()))
    };
    let (asked, notes) = be_busy(true)?;
    let json = asked.map(|(plugin, view)| {
        let site = Site::Hook(Hook::OutData);
        let edits = call::thread_code(plugin, site, || view.read(plugin));
        be_busy(false);
        Box::new(edits)
    });
    (json.is_some() || notes.is_some()).then_some(Made { json, notes })
}

/// The chain of a message is over: reads its object back, and lets it go. The cell is not borrowed.
pub(crate) fn close(message: &mut Message) -> MessageEdits {
    let Some(json) = message.json.take() else { return message.end() };
    let plugin = json.asker;
    // What a plugin hung onto its objects runs here, and a broken object breaks here.
    let site = Site::Hook(match message.direction() {
        Direction::Incoming => Hook::Message,
        Direction::Outgoing => Hook::OutData,
    });
    let mut read = call::thread_code(plugin, site, || {
        let view = json.active();
        let read = view.read(plugin);
        let problem = read.problem.or(message.adopt(&view));
        drop(json);
        JsonEdits { problem, ..read }
    });
    if message.direction() == Direction::Outgoing {
        read.problem = None;
    }
    let edits = message.end();
    MessageEdits { json: Some(Box::new(read)), ..edits }
}

impl Message {
    /// Takes what the object says for what the message is (D-62). An outgoing message goes over the wire
    /// as it is, whatever its object says.
    pub(crate) fn adopt(&mut self, view: &View) -> Option<JsonProblem> {
        if self.direction() == Direction::Outgoing {
            return None;
        }
        let mut problem = None;
        for part in Part::ALL {
            problem = problem.or(self.adopt_part(part, view.member(part)));
        }
        problem
    }

    /// The same, while the message is shown: what was lent of a value that changes is dead. What says no
    /// mail is told when the chain is over; until then such a value is none.
    pub(crate) fn adopt_live(&mut self, view: &View, parts: &[Part], addresses: &mut Live) {
        if self.direction() == Direction::Outgoing {
            return;
        }
        for &part in parts {
            let member = view.member(part);
            if self.differs(part, member) {
                addresses.forget(self.text(part));
                if self.adopt_part(part, member).is_some() {
                    self.set(part, None);
                }
            }
        }
    }

    fn adopt_part(&mut self, part: Part, member: Member<'_>) -> Option<JsonProblem> {
        let name = part.name();
        match member {
            Member::Other => return Some(JsonProblem::NoString(name)),
            Member::Text(bytes) if bytes.len() > part.bytes_max() => {
                return Some(JsonProblem::TooLong(name));
            }
            Member::Text(_) | Member::None if !self.differs(part, member) => {}
            Member::Text(bytes) => self.set(part, Some(Text::copy_from(bytes))),
            Member::None => self.set(part, None),
        }
        None
    }

    /// Whether the object says something else than the message.
    fn differs(&self, part: Part, member: Member<'_>) -> bool {
        let text = self.text(part).map(Text::as_bytes);
        match member {
            Member::Text(b"") if part != Part::Envelope => text.is_some(),
            Member::Text(bytes) => text != Some(bytes),
            Member::None | Member::Other => text.is_some(),
        }
    }
}
