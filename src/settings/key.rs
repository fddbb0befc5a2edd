//! What is known of one key, and the macro that writes a section of the table.
//!
//! Owns the shape of a row. Never holds a value that somebody set: that is `load.rs`.
//!
//! Diagnostics: none of its own; a row refuses a text with the reason that its kind gives.

use std::borrow::Cow;

use super::hop::Hop;
use super::machine::Machine;
use super::model::{Delivery, Dns, General, Logging, Plugin, Queue, Smtp};
use super::notice::Notices;
use super::records::Records;
use super::tls::Tls;

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
    /// When a new value takes effect.
    pub change: Change,
}

/// When a new value of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// With `rohrpost reload`.
    Reload,
    /// When the server is started anew.
    Restart,
}

impl Change {
    /// The word in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Restart => "restart",
        }
    }
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
    let sections = [
        General::KEYS,
        Smtp::KEYS,
        Tls::KEYS,
        Delivery::KEYS,
        Hop::KEYS,
        Dns::KEYS,
        Notices::KEYS,
        Queue::KEYS,
        Plugin::KEYS,
        Logging::KEYS,
        Records::KEYS,
    ];
    sections.into_iter().flatten()
}

/// Finds a key by its name or by one of its aliases.
pub fn lookup(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name || key.aliases.contains(&name))
}

/// Declares one section: the typed struct, its rows in the table, and how it is built.
///
/// A row reads `/// meaning` then `"name" field: Type = preset, kind;`, with `, live` before the
/// semicolon where [`Settings::with_changes`](super::Settings::with_changes) may change the value of a running
/// server: whoever uses it must look at it each time, or be told.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $section:ident, $title:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:literal $(| $alias:literal)* $field:ident: $type:ty = $preset:expr, $kind:expr
                    $(, $live:ident)?;
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
                    change: change!($($live)?),
                }
            ),+];

            pub(super) fn build(values: &Values<'_>) -> Self {
                Self { $($field: values.value($key, &$kind)),+ }
            }

            /// Takes over from `new` what may change while the server runs; names every key
            /// whose value differs.
            pub(super) fn adopt(&mut self, new: &Self, differing: &mut Vec<&'static str>) {
                $(
                    if self.$field != new.$field {
                        differing.push($key);
                        if change!($($live)?) == $crate::settings::Change::Reload {
                            self.$field = new.$field.clone();
                        }
                    }
                )+
            }
        }
    };
}
pub(super) use section;

/// The mark of a row as a [`Change`].
macro_rules! change {
    () => {
        $crate::settings::Change::Restart
    };
    (live) => {
        $crate::settings::Change::Reload
    };
}
pub(super) use change;
