//! Tokens: the numbers that plugins get in place of pointers.
//!
//! Owns the bit layout and the check of a pointer that comes back. Must never dereference one, nor
//! know what a slot holds. Diagnostics: none of its own; what does not parse is a [`Misuse`].
//!
//! ```text
//! bit 63..60  59..48  47..40  39..20      19..0
//!     kind    plugin  worker  generation  slot
//! ```
//! Kind is never 0, so that NULL and real user-space addresses (whose top 16 bits are 0) are told
//! apart from tokens before anything else is looked at.

use std::ffi::c_void;
use std::ptr;

use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::slot::{GENERATION_BITS, Key, SLOT_BITS};

/// What C sees as a pointer to one of the header's opaque types.
pub(crate) type Opaque = c_void;

const WORKER_SHIFT: u32 = SLOT_BITS + GENERATION_BITS;
const PLUGIN_SHIFT: u32 = WORKER_SHIFT + 8;
const WORKER_MASK: u64 = 0xff << WORKER_SHIFT;
const PLUGIN_MASK: u64 = ((1 << PluginIndex::BITS) - 1) << PLUGIN_SHIFT;
const KIND_SHIFT: u32 = PLUGIN_SHIFT + PluginIndex::BITS;

/// A worker and a connection or message of it: what its tokens share, whoever they are shown to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(u64);

impl Name {
    #[inline(always)]
    pub(crate) const fn new(worker: u8, key: Key) -> Name {
        Name((worker as u64) << WORKER_SHIFT | key.bits())
    }

    /// Of a connection: the [shared bits](Token::shared_bits) of its steps' contexts.
    #[inline(always)]
    pub(crate) const fn step_bits(self) -> u64 {
        (Kind::StepContext as u64) << KIND_SHIFT | self.0
    }
}

/// What the tokens of one kind and plugin share, whatever they name: found once, so that a token is put together
/// in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form(u64);

impl Form {
    pub(crate) const fn new(kind: Kind, plugin: PluginIndex) -> Form {
        Form((kind as u64) << KIND_SHIFT | (plugin.bits() as u64) << PLUGIN_SHIFT)
    }

    #[inline(always)]
    pub(crate) const fn of(self, name: Name) -> Token {
        Token(name.0 | self.0)
    }

    pub(crate) const fn plugin(self) -> PluginIndex {
        PluginIndex::from_bits((self.0 >> PLUGIN_SHIFT) as u16)
    }
}

/// The same for the contexts of one plugin: what they keep of a connection's name differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextForm {
    kept: u64,
    form: Form,
}

impl ContextForm {
    /// They name the step.
    pub(crate) const fn of_step(plugin: PluginIndex) -> ContextForm {
        ContextForm { kept: !0, form: Form::new(Kind::StepContext, plugin) }
    }

    /// They name none: all that there are on a worker are one.
    pub(crate) const fn bare(plugin: PluginIndex) -> ContextForm {
        ContextForm { kept: WORKER_MASK, form: Form::new(Kind::Context, plugin) }
    }

    #[inline(always)]
    pub(crate) const fn of(self, connection: Name) -> Token {
        self.form.of(Name(connection.0 & self.kept))
    }
}

const _: () = assert!(KIND_SHIFT + 4 == u64::BITS && usize::BITS == u64::BITS);

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A worker as one plugin sees it: what `mq_context_initialize` is given. Names no connection.
    Context = 1,
    /// The same, and the connection whose step is shown (D-10).
    StepContext = 2,
    /// A connection.
    Connection = 3,
    /// A message.
    Message = 4,
    /// A watch on a descriptor.
    Watch = 5,
    /// A timer.
    Timer = 6,
    /// A query to name servers.
    Query = 9,
    /// A hold that `MQX_hold` named.
    Hold = 10,
    /// A plugin itself. Of no worker.
    Plugin = 12,
    /// A metric of a plugin. Of no worker.
    Metric = 13,
}

impl Kind {
    const fn from_bits(bits: u64) -> Option<Kind> {
        match bits {
            1 => Some(Kind::Context),
            2 => Some(Kind::StepContext),
            3 => Some(Kind::Connection),
            4 => Some(Kind::Message),
            5 => Some(Kind::Watch),
            6 => Some(Kind::Timer),
            9 => Some(Kind::Query),
            10 => Some(Kind::Hold),
            12 => Some(Kind::Plugin),
            13 => Some(Kind::Metric),
            _ => None,
        }
    }

    /// The header's name of the type.
    pub(crate) const fn type_name(self) -> &'static str {
        match self {
            Kind::Context | Kind::StepContext => "MQ_Context",
            Kind::Connection => "MQ_Connection",
            Kind::Message => "MQ_Message",
            Kind::Watch => "MQ_IOWatcher",
            Kind::Timer => "MQ_Timer",
            Kind::Query => "MQX_Query",
            Kind::Hold => "MQX_Hold",
            Kind::Plugin => "MQX_Plugin",
            Kind::Metric => "MQX_Metric",
        }
    }
}

/// A well-formed token: its kind is known. What it names may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

impl Token {
    pub(crate) const fn new(kind: Kind, plugin: PluginIndex, worker: u8, key: Key) -> Token {
        Token(
            (kind as u64) << KIND_SHIFT
                | (plugin.bits() as u64) << PLUGIN_SHIFT
                | (worker as u64) << WORKER_SHIFT
                | key.bits(),
        )
    }

    /// The context token that names no connection.
    pub(crate) const fn bare(plugin: PluginIndex, worker: u8) -> Token {
        Token::new(Kind::Context, plugin, worker, Key::from_bits(0))
    }

    /// Reads back what a plugin passed where the header asks for `expected`.
    pub(crate) fn from_pointer(
        pointer: *mut Opaque,
        expected: &'static str,
    ) -> Result<Token, Misuse> {
        if pointer.is_null() {
            return Err(Misuse::Null { expected });
        }
        let bits = pointer.addr() as u64;
        match Kind::from_bits(bits >> KIND_SHIFT) {
            Some(_) => Ok(Token(bits)),
            None => Err(Misuse::NotOurs { expected }),
        }
    }

    pub(crate) fn to_pointer(self) -> *mut Opaque {
        ptr::without_provenance_mut(self.0 as usize)
    }

    /// Without its plugin's. Never 0.
    pub(crate) const fn shared_bits(self) -> u64 {
        self.0 & !PLUGIN_MASK
    }

    /// What a hand-back of a step names, in any generation: its context.
    pub(crate) fn step(self) -> Token {
        match self.kind() {
            Kind::Connection => {
                Token(self.0 ^ (Kind::StepContext as u64 ^ Kind::Connection as u64) << KIND_SHIFT)
            }
            _ => self,
        }
    }

    /// For a step's context: the same that names no connection.
    #[inline(always)]
    pub(crate) const fn without_step(self) -> Token {
        let whose = ((1 << (KIND_SHIFT - WORKER_SHIFT)) - 1) << WORKER_SHIFT;
        Token((Kind::Context as u64) << KIND_SHIFT | self.0 & whose)
    }

    pub(crate) fn kind(self) -> Kind {
        Kind::from_bits(self.0 >> KIND_SHIFT).expect("a token is only made with a known kind")
    }

    pub(crate) const fn plugin(self) -> PluginIndex {
        PluginIndex::from_bits((self.0 >> PLUGIN_SHIFT) as u16)
    }

    pub(crate) const fn worker(self) -> u8 {
        (self.0 >> WORKER_SHIFT) as u8
    }

    /// The token without the generation: the same for all that a slot ever held.
    pub(crate) const fn place(self) -> u64 {
        self.0 & !(((1 << GENERATION_BITS) - 1) << SLOT_BITS)
    }

    pub(crate) const fn key(self) -> Key {
        Key::from_bits(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_back() {
        for kind in [Kind::Context, Kind::StepContext, Kind::Connection, Kind::Message, Kind::Watch]
        {
            for (plugin, worker, bits) in
                [(0, 0, 0), (4095, 255, (1 << 40) - 1), (7, 3, 0x12345_6789A)]
            {
                let (plugin, key) = (PluginIndex::from_bits(plugin), Key::from_bits(bits));
                let token = Token::new(kind, plugin, worker, key);
                let back = Token::from_pointer(token.to_pointer(), "x").expect("well formed");
                assert_eq!((back.kind(), back.plugin()), (kind, plugin));
                assert_eq!((back.worker(), back.key()), (worker, key));
            }
        }
    }

    #[test]
    fn what_a_step_shows_is_named_as_by_itself() {
        let (plugin, key, other) =
            (PluginIndex::from_bits(4095), Key::from_bits((1 << 40) - 1), Key::from_bits(5));
        let (step, message) = (Name::new(255, key), Name::new(255, other));
        let context = Token::new(Kind::StepContext, plugin, 255, key);
        assert_eq!(ContextForm::of_step(plugin).of(step), context);
        assert_eq!(ContextForm::bare(plugin).of(step), Token::bare(plugin, 255));
        for (kind, name, key) in [(Kind::Connection, step, key), (Kind::Message, message, other)] {
            let form = Form::new(kind, plugin);
            assert_eq!(
                (form.of(name), form.plugin()),
                (Token::new(kind, plugin, 255, key), plugin)
            );
        }
        assert_eq!(context.shared_bits(), step.step_bits());
    }

    #[test]
    fn d_05_null_and_real_addresses_are_no_tokens() {
        let local = 1u8;
        let address = ptr::from_ref(&local).cast_mut().cast();
        assert!(matches!(Token::from_pointer(ptr::null_mut(), "x"), Err(Misuse::Null { .. })));
        assert!(matches!(Token::from_pointer(address, "x"), Err(Misuse::NotOurs { .. })));
        let unknown_kind = ptr::without_provenance_mut(usize::MAX);
        assert!(matches!(Token::from_pointer(unknown_kind, "x"), Err(Misuse::NotOurs { .. })));
    }
}
