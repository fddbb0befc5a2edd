//! Settings of plugins: what the administrator says to one of them, and which are whose.
//!
//! Texts that were given out stay where they are for good, so that any thread of a plugin may keep one;
//! each is kept once, however often settings are read. Owns that memory and its bound. Must never change
//! what a plugin reads but as a whole.
//!
//! Diagnostics: [`SettingsError`].

use std::collections::{BTreeMap, HashSet};
use std::ffi::{CStr, CString};
use std::sync::{Mutex, PoisonError, RwLock};

use thiserror::Error;

/// How many octets all texts together may have that were ever settings of plugins in this process.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Why settings cannot be given to plugins.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// C could not read on behind it.
    #[error("plugin-{plugin}-{key}: a value must not hold a zero byte")]
    Zero {
        /// The plugin's name.
        plugin: String,
        /// The key.
        key: String,
    },
    /// Every text that was ever given out is kept.
    #[error(
        "settings of plugins have had {TEXT_BYTES_MAX} bytes of different values since the start, which \
         is the limit; restart the server"
    )]
    Spent,
}

/// The settings of all plugins, by [name](plugin_name) and [key](setting_key).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginSettings(BTreeMap<String, Values>);

type Values = BTreeMap<String, &'static CStr>;

/// What a plugin is called in the names of its settings: its file name without `.so`, and without digits
/// and a dash at the beginning, which are there for the order; in lower case, with `-` for `_`.
pub fn plugin_name(file_name: &str) -> String {
    let stem = file_name.strip_suffix(".so").unwrap_or(file_name);
    let digits = stem.bytes().take_while(u8::is_ascii_digit).count();
    let name = match stem[digits..].strip_prefix('-') {
        Some(name) if digits > 0 && !name.is_empty() => name,
        _ => stem,
    };
    setting_key(name)
}

/// A name as settings have it: in lower case, with `-` for `_`.
pub fn setting_key(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Every text that was ever given out.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: HashSet<&'static CStr>,
    bytes: usize,
}

impl Texts {
    /// The one text that has these octets, for good.
    fn keep(&self, text: CString) -> Result<&'static CStr, SettingsError> {
        let kept = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = kept.texts.get(&*text) {
            return Ok(there);
        }
        let bytes = kept.bytes + text.as_bytes_with_nul().len();
        if bytes > TEXT_BYTES_MAX {
            return Err(SettingsError::Spent);
        }
        kept.bytes = bytes;
        let text: &'static CStr = Box::leak(text.into_boxed_c_str());
        kept.texts.insert(text);
        Ok(text)
    }

    /// Settings from plugin, key and value.
    pub(crate) fn settings<'a>(
        &self,
        rows: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> Result<PluginSettings, SettingsError> {
        let mut all = PluginSettings::default();
        for (plugin, key, value) in rows {
            let zero = |_| SettingsError::Zero { plugin: plugin.into(), key: key.into() };
            let text = self.keep(CString::new(value).map_err(zero)?)?;
            all.0.entry(plugin.to_owned()).or_default().insert(key.to_owned(), text);
        }
        Ok(all)
    }
}

/// The settings of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Given(RwLock<Values>);

impl Given {
    /// Other values from now on; whether any of them differs.
    pub(crate) fn change(&self, name: &str, all: &PluginSettings) {
        let values = all.0.get(name).cloned().unwrap_or_default();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = values;
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'static CStr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_called_as_its_file_without_what_is_there_for_the_order() {
        for (file, name) in [
            ("10-dnsbl.so", "dnsbl"),
            ("dnsbl.so", "dnsbl"),
            ("005-Redis_Auth.so", "redis-auth"),
            ("10-20-x.so", "20-x"),
            ("10.so", "10"),
            ("10-.so", "10-"),
            ("3proxy.so", "3proxy"),
            ("-x.so", "-x"),
        ] {
            assert_eq!(plugin_name(file), name, "{file}");
        }
    }

    #[test]
    fn a_text_is_kept_once_and_changes_reach_one_plugin() {
        let texts = Texts::default();
        let read = |value: &str| {
            let rows = [("a", "zone", value), ("b", "zone", "other")];
            texts.settings(rows.into_iter()).expect("there is room")
        };
        let given = Given::default();
        given.change("a", &read("one"));
        let first = given.value("zone").expect("it is set");
        given.change("a", &read("two"));
        assert_eq!(given.value("zone"), Some(c"two"));
        given.change("a", &read("one"));
        assert!(std::ptr::eq(given.value("zone").expect("it is set"), first));
        assert_eq!((first, given.value("port")), (c"one", None));
        given.change("c", &read("one"));
        assert_eq!(given.value("zone"), None);
        let zero = texts.settings([("a", "zone", "x\0y")].into_iter()).expect_err("no C text");
        assert!(zero.to_string().contains("plugin-a-zone"), "{zero}");
    }
}
