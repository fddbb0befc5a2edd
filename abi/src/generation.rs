//! Generations: which prototypes a plugin was compiled with, by the version that it names.
//!
//! Owns the list of accepted versions (D-01) and how a version that only the settings know is placed
//! (D-02). Must never guess where a wrong guess would call a hook under another's prototype.
//! Diagnostics: none; `load` puts what is refused into a sentence.

use std::ffi::c_int;
use std::fmt;

/// `MQ_API_VERSION` of the "2.1" names, as our header has it (D-01).
pub const VERSION_G1: i32 = 201;
/// `MQ_API_VERSION` of 4.0.
pub const VERSION_G2: i32 = 400;
/// `MQ_API_VERSION` of 4.1 to 4.4.
pub const VERSION_G2A: i32 = 401;
/// `MQ_API_VERSION` of 5.0 to 5.5.
pub const VERSION_G3: i32 = 500;
/// `MQ_API_VERSION` of 5.6 and later: what the header has unless told otherwise.
pub const VERSION_LATEST: i32 = 506;

/// A family of prototypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// The "2.1" names: steps are handed back by their context.
    G1,
    /// 4.0 to 4.4: steps are handed back by their connection, JSON is json-c's.
    G2,
    /// 5.0 and later: as before, and JSON is libfastjson's (D-0D).
    G3,
}

impl Generation {
    /// The generation of a version that is known here.
    pub(crate) const fn of(version: c_int) -> Option<Generation> {
        match version {
            VERSION_G1 => Some(Generation::G1),
            VERSION_G2 | VERSION_G2A => Some(Generation::G2),
            VERSION_G3 | VERSION_LATEST => Some(Generation::G3),
            _ => None,
        }
    }

    /// The versions in which a plugin can say that it is of this generation.
    pub const fn versions(self) -> &'static str {
        match self {
            Generation::G1 => "201",
            Generation::G2 => "400 or 401",
            Generation::G3 => "500 or 506",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Generation::G1 => "G1",
            Generation::G2 => "G2",
            Generation::G3 => "G3",
        })
    }
}

/// The versions that are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted(Vec<i32>);

impl Accepted {
    pub(crate) fn new(extra: &[i32]) -> Accepted {
        let mut all = vec![VERSION_G1, VERSION_G2, VERSION_G2A, VERSION_G3, VERSION_LATEST];
        for version in extra {
            if !all.contains(version) {
                all.push(*version);
            }
        }
        Accepted(all)
    }

    pub(crate) fn contains(&self, version: c_int) -> bool {
        self.0.contains(&version)
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, version) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            write!(f, "{separator}{version}")?;
        }
        Ok(())
    }
}

/// Which families' names a plugin imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imports {
    /// A name that only G1 has, if there is one.
    pub(crate) first: Option<String>,
    /// A name that only G2 and G3 have, if there is one.
    pub(crate) later: Option<String>,
    /// A hook that it exports, and whose prototype the generations do not share.
    pub(crate) hook: Option<String>,
    /// It calls json-c, and not libfastjson: 5.0 and later have the other (D-0D).
    pub(crate) json_c: bool,
}

impl Imports {
    /// Sorts the symbols of a plugin: those that it needs, and those that it has.
    pub(crate) fn of<'a>(
        undefined: impl IntoIterator<Item = &'a str>,
        defined: impl IntoIterator<Item = &'a str>,
    ) -> Imports {
        let mut imports = Imports::default();
        let mut defined = defined.into_iter();
        imports.hook = defined.find(|name| DIFFERENT.contains(name)).map(str::to_owned);
        let (mut json_c, mut fastjson) = (false, false);
        for name in undefined {
            json_c |= name.starts_with("json_object_");
            fastjson |= name.starts_with("fjson_");
            if FIRST.contains(&name) {
                imports.first.get_or_insert_with(|| name.to_owned());
            } else if LATER.contains(&name) {
                imports.later.get_or_insert_with(|| name.to_owned());
            }
        }
        imports.json_c = json_c && !fastjson;
        imports
    }

    /// D-02: the generation of a plugin with this version; what speaks against it otherwise.
    pub(crate) fn place(&self, version: c_int) -> Result<Generation, Mismatch> {
        let known = Generation::of(version);
        let (first, later) = (self.first.clone(), self.later.clone());
        match (known, first, later) {
            (_, Some(first), Some(later)) => Err(Mismatch::Mixed { first, later }),
            (Some(Generation::G1), _, Some(symbol)) => {
                Err(Mismatch::Other { named: Generation::G1, symbol })
            }
            (Some(named @ (Generation::G2 | Generation::G3)), Some(symbol), _) => {
                Err(Mismatch::Other { named, symbol })
            }
            (Some(generation), _, _) => Ok(generation),
            (None, Some(_), None) => Ok(Generation::G1),
            (None, None, Some(_)) if self.json_c => Ok(Generation::G2),
            (None, None, Some(_)) => Ok(Generation::G3),
            (None, None, None) => match &self.hook {
                Some(hook) => Err(Mismatch::Unknown { version, hook: hook.clone() }),
                // Whichever it is, it would be called in the same way.
                None => Ok(Generation::G3),
            },
        }
    }
}

/// Why a plugin is of no generation (D-02).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It calls functions of both families.
    #[error(
        "it calls {first}, which only generation G1 has, and {later}, which G1 has not; compile all of it \
         with one MQ_API_VERSION"
    )]
    Mixed {
        /// A function of G1.
        first: String,
        /// A function of G2 and G3.
        later: String,
    },
    /// It calls functions of another family than that of its version.
    #[error(
        "its mq_version names generation {named}, which has no {symbol}; compile it with the MQ_API_VERSION \
         that it is written for: 201 for G1, {} for G2, {} for G3",
        Generation::G2.versions(), Generation::G3.versions()
    )]
    Other {
        /// What it says.
        named: Generation,
        /// What it calls.
        symbol: String,
    },
    /// Its version says nothing, and it calls nothing that would.
    #[error(
        "version {version} is of no generation that is known, and nothing that it calls tells under which \
         prototype its {hook} is to be called; compile it with one of the versions of mailerq.h"
    )]
    Unknown {
        /// What `mq_version` returned.
        version: i32,
        /// A hook whose prototype depends on it.
        hook: String,
    },
}

/// Hooks that the generations call with different arguments, or whose results they read differently.
const DIFFERENT: [&str; 4] =
    ["mq_context_initialize", "mq_context_cleanup", "mq_smtp_in_mailfrom", "mq_smtp_in_rcptto"];

/// What only G1 has. `MQ_Json` was kept by 4.0 and proves nothing.
pub(crate) const FIRST: [&str; 23] = [
    "MQ_Continue",
    "MQ_Complete",
    "MQ_Retry",
    "MQ_ContextData",
    "MQ_SetContextData",
    "MQ_IOWatch",
    "MQ_IOUnwatch",
    "MQ_TimerStart",
    "MQ_TimerStop",
    "MQ_TimerReset",
    "MQ_SmtpFileDescriptor",
    "MQ_SmtpSend",
    "MQ_SmtpAuthenticated",
    "MQ_SetSmtpAuthenticated",
    "MQ_SmtpSecure",
    "MQ_SmtpData",
    "MQ_SetSmtpData",
    "MQ_Envelope",
    "MQ_SetEnvelope",
    "MQ_Recipient",
    "MQ_SetRecipient",
    "MQ_Mime",
    "MQ_SetMime",
];

/// What G1 has not.
pub(crate) const LATER: [&str; 27] = [
    "MQ_continue",
    "MQ_complete",
    "MQ_retry",
    "MQ_contextData",
    "MQ_setContextData",
    "MQ_ioWatch",
    "MQ_ioUnwatch",
    "MQ_startTimer",
    "MQ_stopTimer",
    "MQ_resetTimer",
    "MQ_fileDescriptor",
    "MQ_send",
    "MQ_authenticated",
    "MQ_setAuthenticated",
    "MQ_secure",
    "MQ_connectionData",
    "MQ_setConnectionData",
    "MQ_json",
    "MQ_envelope",
    "MQ_setEnvelope",
    "MQ_recipient",
    "MQ_setRecipient",
    "MQ_mime",
    "MQ_setMime",
    "MQ_email",
    "MQ_local",
    "MQ_setLocal",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(names: &[&str]) -> Imports {
        Imports::of(names.iter().copied(), ["mq_version"])
    }

    #[test]
    fn d_02_a_known_version_decides_and_must_fit_what_is_called() {
        for (version, names, expected) in [
            (201, &["MQ_Continue", "MQ_log", "MQ_ev"][..], Ok(Generation::G1)),
            (400, &["MQ_continue", "MQ_Json"], Ok(Generation::G2)),
            (401, &[], Ok(Generation::G2)),
            (500, &["MQX_reject"], Ok(Generation::G3)),
            (506, &["MQ_ioWatch"], Ok(Generation::G3)),
            (506, &["MQ_IOWatch"], Err("MQ_IOWatch")),
            (201, &["MQ_mime"], Err("MQ_mime")),
            (201, &["MQ_Mime", "MQ_mime"], Err("one MQ_API_VERSION")),
        ] {
            let placed = imports(names).place(version).map_err(|mismatch| mismatch.to_string());
            match (placed, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{version} {names:?}"),
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (placed, _) => panic!("{version} {names:?}: {placed:?}"),
            }
        }
    }

    #[test]
    fn d_02_an_added_version_is_placed_by_what_is_called() {
        assert_eq!(imports(&["MQ_TimerStart"]).place(4711), Ok(Generation::G1));
        assert_eq!(imports(&["MQ_startTimer"]).place(4711), Ok(Generation::G3));
        let json = ["MQ_json", "json_object_object_add"];
        assert_eq!(imports(&json).place(4711), Ok(Generation::G2));
        let fast = ["MQ_json", "json_object_object_add", "fjson_object_get"];
        assert_eq!(imports(&fast).place(4711), Ok(Generation::G3));
        assert_eq!(imports(&json).place(506), Ok(Generation::G3), "a known version decides");
        assert_eq!(imports(&["strlen", "MQ_ev"]).place(4711), Ok(Generation::G3));
        assert!(imports(&["MQ_TimerStart", "MQ_startTimer"]).place(4711).is_err());
        let silent = Imports::of(["MQ_log"], ["mq_version", "mq_smtp_in_rcptto"]);
        let error = silent.place(4711).expect_err("nothing tells").to_string();
        assert!(error.contains("4711") && error.contains("mq_smtp_in_rcptto"), "{error}");
    }
}
