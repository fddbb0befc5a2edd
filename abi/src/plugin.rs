//! A plugin: one loaded instance of a file.
//!
//! Owns what is known of it, and how far its life has come. Must never unload one: callbacks and threads
//! of its own may outlive whatever we know of it. Diagnostics: none; loading reports its own (see `load`).

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU8, Ordering};

use libloading::os::unix::Library;

use crate::call::Word;
use crate::copy::{Fingerprint, Kept};
use crate::generation::Generation;
use crate::hook::Hook;
use crate::hooks::Hooks;
use crate::image;
use crate::json_library::JsonLibrary;
use crate::misuse::Meter;
use crate::setting::Given;
use crate::slot::Key;
use crate::step::ContextStep;
use crate::token::{Kind, Token};

/// A plugin's place in the table of all that this process ever loaded. It names one instance for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginIndex(u16);

impl PluginIndex {
    pub(crate) const BITS: u32 = 12;
    const MASK: u16 = (1 << PluginIndex::BITS) - 1;

    /// Bits above the token's 12 are ignored.
    pub(crate) const fn from_bits(bits: u16) -> PluginIndex {
        PluginIndex(bits & PluginIndex::MASK)
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// The first that was loaded.
    pub const FIRST: PluginIndex = PluginIndex(0);

    /// As an index into an array with one entry per plugin.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How many instances of plugins one process can load in its life, reloads included (D-0E).
pub const PLUGINS_MAX: usize = 1 << PluginIndex::BITS;

/// How far the life of a plugin has come. It only goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Life {
    /// It has said its version, and nothing else was asked of it.
    Loaded,
    /// `mq_initialize` was called.
    Initialized,
    /// `mq_cleanup` was called, or it is never going to be used: nothing of it is called any more.
    Over,
}

/// A loaded plugin.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: Box<str>,
    pub(crate) index: PluginIndex,
    pub(crate) generation: Generation,
    pub(crate) hooks: Hooks,
    /// What it exports under names of hooks that there are not.
    pub(crate) unknown: Vec<String>,
    /// The copy of json-c or libfastjson that it is linked with.
    pub(crate) json: Option<&'static JsonLibrary>,
    /// Kept for later look-ups, and never dropped: that would unload it (D-0E).
    pub(crate) library: ManuallyDrop<Library>,
    /// What its file held.
    pub(crate) fingerprint: Fingerprint,
    /// What it was loaded from, until its life is over.
    pub(crate) copy: Kept,
    /// What the administrator said to it.
    pub(crate) settings: Given,
    /// What it did wrong.
    pub(crate) meter: Meter,
    life: AtomicU8,
}

/// What loading found.
pub(crate) struct Loaded {
    pub(crate) name: Box<str>,
    pub(crate) generation: Generation,
    pub(crate) hooks: Hooks,
    pub(crate) unknown: Vec<String>,
    pub(crate) json: Option<&'static JsonLibrary>,
    pub(crate) library: ManuallyDrop<Library>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) copy: Kept,
}

impl Plugin {
    pub(crate) fn new(index: PluginIndex, loaded: Loaded) -> Plugin {
        let Loaded { name, generation, hooks, unknown, json, library, fingerprint, copy } = loaded;
        let (settings, meter) = (Given::default(), Meter::default());
        let life = AtomicU8::new(Life::Loaded as u8);
        Plugin {
            name,
            index,
            generation,
            hooks,
            unknown,
            json,
            library,
            fingerprint,
            copy,
            settings,
            meter,
            life,
        }
    }

    pub(crate) fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            life if life == Life::Loaded as u8 => Life::Loaded,
            life if life == Life::Initialized as u8 => Life::Initialized,
            _ => Life::Over,
        }
    }

    /// Calls `mq_initialize`, once.
    pub(crate) fn initialize(&self) {
        if self.life() == Life::Loaded {
            self.life.store(Life::Initialized as u8, Ordering::Release);
            self.call_process(Hook::Initialize);
        }
    }

    /// Calls `mqx_initialize`: may the plugin be used?
    pub(crate) fn introduce(&self) -> bool {
        self.hooks.call_plugin(self.index, Hook::PluginInitialize, self.token())
    }

    /// Calls `mqx_reload`.
    pub(crate) fn on_reload(&self) {
        if self.life() == Life::Initialized {
            self.hooks.call_plugin(self.index, Hook::Reload, self.token());
        }
    }

    fn token(&self) -> Token {
        Token::new(Kind::Plugin, self.index, 0, Key::from_bits(0))
    }

    /// Calls `mq_cleanup` if `mq_initialize` was called, and lets go of what only the living need.
    pub(crate) fn end(&self) {
        if self.life() == Life::Initialized {
            self.call_process(Hook::Cleanup);
        }
        self.life.store(Life::Over as u8, Ordering::Release);
        image::close(self.index);
        self.copy.close();
    }

    pub(crate) fn exports(&self, hook: Hook) -> bool {
        self.hooks.exports(hook)
    }

    fn call_process(&self, hook: Hook) {
        self.hooks.call_process(self.index, hook);
    }

    /// For look-ups in the plugin and what it is linked with.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    pub(crate) fn call_context(&self, word: &Word, step: ContextStep, context: Token) -> bool {
        self.hooks.call_context(word, step.hook(), context)
    }
}
