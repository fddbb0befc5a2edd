//! What is known of one key, and the macro that writes a section of the table.
//!
//! Owns the shape of a row. Never holds a value that somebody set: that is `load.rs`.
//!
//! Diagnostics: none of its own; a row refuses a text with the reason that its kind gives.

use std::borrow::Cow;

use super::machine::Machine;
use super::model::{Delivery, General, Logging, Plugin, Queue, Smtp};

/// One setting: everything that is known of it apart from its value.
pub struct Key {
    /// The name in files and, with two dashes before it, on the command line.
    pub name: &'static str,
    /// Names that mean the same: spellings of older or contradicting MailerQ documentation.
    pub aliases: &'static [&'static str],
    /// The part of the program it belongs to, as a title.
    pub section: &'static str,
    pub(super) preset: Preset,
    pub(super) doc: &'static str,
    pub(super) allowed: fn() -> String,
    pub(super) is_secret: fn() -> bool,
    pub(super) check: fn(&str) -> Result<(), Cow<'static, str>>,
}

impl Key {
    /// What the setting means, in one sentence or two.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }

    /// The values that are allowed, as a phrase.
    pub fn allowed(&self) -> String {
        (self.allowed)()
    }

    /// Whether its value is not to be repeated: a part of it may be a password.
    pub fn is_secret(&self) -> bool {
        (self.is_secret)()
    }

    /// The default as a reader of the documentation wants to see it: without this machine's facts.
    pub fn default_text(&self) -> &'static str {
        match &self.preset {
            Preset::Text(text) => text,
            Preset::Derived { rule, .. } => rule,
        }
    }

    /// Whether the default depends on the machine.
    pub fn is_derived(&self) -> bool {
        matches!(self.preset, Preset::Derived { .. })
    }

    /// The default on this machine, in the words that a file could use.
    pub fn default_on(&self, machine: &Machine) -> Cow<'static, str> {
        match &self.preset {
            Preset::Text(text) => Cow::Borrowed(text),
            Preset::Derived { value, .. } => Cow::Owned(value(machine)),
        }
    }

    /// Whether a text is a value for this key.
    ///
    /// # Errors
    /// The reason why it is not, as the end of a sentence that begins with the text.
    pub fn check(&self, text: &str) -> Result<(), Cow<'static, str>> {
        (self.check)(text)
    }
}

/// Where a default comes from.
pub(super) enum Preset {
    /// The same everywhere.
    Text(&'static str),
    /// Computed from facts of the machine; `rule` says how.
    Derived { rule: &'static str, value: fn(&Machine) -> String },
}

/// All keys in the order of the documentation.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    [General::KEYS, Smtp::KEYS, Delivery::KEYS, Queue::KEYS, Plugin::KEYS, Logging::KEYS]
        .into_iter()
        .flatten()
}

/// Finds a key by its name or by one of its aliases.
pub fn lookup(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name || key.aliases.contains(&name))
}

/// Declares one section: the typed struct, its rows in the table, and how it is built.
///
/// A row reads `/// meaning` then `"name" field: Type = preset, kind;`.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $section:ident, $title:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:literal $(| $alias:literal)* $field:ident: $type:ty = $preset:expr, $kind:expr;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $section {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nKey: `", $key, "`.")]
                pub $field: $type,
            )+
        }

        impl $section {
            pub(super) const KEYS: &'static [Key] = &[$(
                Key {
                    name: $key,
                    aliases: &[$($alias),*],
                    section: $title,
                    preset: $preset,
                    doc: concat!($($doc),+),
                    allowed: || $kind.allowed(),
                    is_secret: || $kind.is_secret(),
                    check: |text| $kind.parse(text).map(drop),
                }
            ),+];

            pub(super) fn build(values: &Values<'_>) -> Self {
                Self { $($field: values.value($key, &$kind)),+ }
            }
        }
    };
}
pub(super) use section;
