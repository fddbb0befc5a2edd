//! The kinds of values: how a text becomes a number, a size, a time, a choice, a path.
//!
//! Owns parsing and the phrase that says what is allowed, so that the two cannot drift apart.
//! Lists and names have files of their own. Never touches the file system.
//!
//! Diagnostics: a refusal is a reason that ends a sentence such as ``smtp-port `abc` ...``.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::queue::QueueWish;

/// Why a text is not a value: the end of a sentence that begins with the text.
pub(super) type Reason = Cow<'static, str>;

/// Turns a text, blanks already trimmed, into a value.
pub(super) trait Kind {
    /// What a text becomes.
    type Value;

    /// Reads the text.
    fn parse(&self, text: &str) -> Result<Self::Value, Reason>;

    /// The values that are allowed, as a phrase.
    fn allowed(&self) -> String;

    /// Whether a value is not to be repeated in what is said about it.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A whole number between two bounds, both allowed.
pub(super) struct Count {
    pub(super) min: u32,
    pub(super) max: u32,
}

impl Kind for Count {
    type Value = u32;

    fn parse(&self, text: &str) -> Result<u32, Reason> {
        let number = digits(text).ok_or("is not a whole number")?;
        match u32::try_from(number) {
            Ok(count) if (self.min..=self.max).contains(&count) => Ok(count),
            _ => Err("is out of range".into()),
        }
    }

    fn allowed(&self) -> String {
        format!("a number from {} to {}", self.min, self.max)
    }
}

/// A count where 0 means "no limit".
pub(super) struct Limit {
    pub(super) max: u32,
}

impl Kind for Limit {
    type Value = Option<std::num::NonZeroU32>;

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        Count { min: 0, max: self.max }.parse(text).map(std::num::NonZeroU32::new)
    }

    fn allowed(&self) -> String {
        format!("a number from 1 to {}, or 0 for no limit", self.max)
    }
}

/// The name of a queue for results.
pub(super) struct QueueName;

impl Kind for QueueName {
    type Value = Box<str>;

    fn parse(&self, text: &str) -> Result<Box<str>, Reason> {
        match QueueWish::is_name(text) {
            true => Ok(text.into()),
            false => Err("is not a queue's name".into()),
        }
    }

    fn allowed(&self) -> String {
        format!("a name of at most {} octets without blanks", QueueWish::NAME_BYTES_MAX)
    }
}

/// One TCP port that somebody else listens on.
pub(super) struct Port;

impl Kind for Port {
    type Value = u16;

    fn parse(&self, text: &str) -> Result<u16, Reason> {
        let number = digits(text).ok_or("is not a port")?;
        match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err("is out of range".into()),
        }
    }

    fn allowed(&self) -> String {
        "a port from 1 to 65535".into()
    }
}

/// A number of bytes between two bounds: `100MB`, `1MiB`, `64K`, `1024`.
///
/// `KB`, `MB`, `GB`, `TB` count in thousands; `KiB`, `MiB`, `GiB`, `TiB` and the bare letters in
/// steps of 1024. Case does not matter.
pub(super) struct Size {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Kind for Size {
    type Value = u64;

    fn parse(&self, text: &str) -> Result<u64, Reason> {
        let (number, unit) = split_unit(text).ok_or("does not begin with a number")?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => KB,
            "mb" => MB,
            "gb" => GB,
            "tb" => 1000 * GB,
            "k" | "kib" => KIB,
            "m" | "mib" => MIB,
            "g" | "gib" => GIB,
            "t" | "tib" => 1024 * GIB,
            _ => return Err("has an unknown unit".into()),
        };
        match number.checked_mul(factor) {
            Some(bytes) if (self.min..=self.max).contains(&bytes) => Ok(bytes),
            _ => Err("is out of range".into()),
        }
    }

    fn allowed(&self) -> String {
        format!("a size from {} to {}", size_text(self.min), size_text(self.max))
    }
}

/// A time between two bounds; a bare number counts seconds, `ms`, `s`, `m`, `h`, `d` are units.
pub(super) struct Time {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Time {
    /// Bounds in whole seconds.
    pub(super) const fn seconds(min: u64, max: u64) -> Self {
        Self { min: Duration::from_secs(min), max: Duration::from_secs(max) }
    }
}

impl Kind for Time {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, Reason> {
        let (number, unit) = split_unit(text).ok_or("does not begin with a number")?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err("has an unknown unit".into()),
        };
        match number.checked_mul(unit_ms).map(Duration::from_millis) {
            Some(time) if (self.min..=self.max).contains(&time) => Ok(time),
            _ => Err("is out of range".into()),
        }
    }

    fn allowed(&self) -> String {
        let (min, max) = (time_text(self.min), time_text(self.max));
        format!("seconds from {min} to {max}, or a time such as `50ms`, `5m`, `1h`")
    }
}

/// A time where 0 means "never".
pub(super) struct Deadline {
    pub(super) max: Duration,
}

impl Kind for Deadline {
    type Value = Option<Duration>;

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        let time = Time { min: Duration::ZERO, max: self.max }.parse(text)?;
        Ok((!time.is_zero()).then_some(time))
    }

    fn allowed(&self) -> String {
        let max = time_text(self.max);
        format!("seconds up to {max}, or a time such as `50ms`, `5m`; 0 switches it off")
    }
}

/// One word out of a few.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Kind for Choice<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, Reason> {
        let found = self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or("is none of the words".into())
    }

    fn allowed(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        words.join(" or ")
    }
}

/// A path; it must be absolute, because a server's working directory is nobody's business.
pub(super) struct AbsolutePath;

impl Kind for AbsolutePath {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Result<PathBuf, Reason> {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(path) } else { Err("is not an absolute path".into()) }
    }

    fn allowed(&self) -> String {
        "an absolute path".into()
    }
}

/// A value of another kind, or nothing at all.
pub(super) struct Optional<K>(pub(super) K);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, Reason> {
        if text.is_empty() { Ok(None) } else { self.0.parse(text).map(Some) }
    }

    fn allowed(&self) -> String {
        format!("{}, or empty", self.0.allowed())
    }
}

pub(super) const HOUR_S: u64 = 3600;
pub(super) const DAY_S: u64 = 24 * HOUR_S;

pub(super) const KB: u64 = 1000;
pub(super) const MB: u64 = 1000 * KB;
pub(super) const GB: u64 = 1000 * MB;
pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// Reads a number made of digits alone; `str::parse` would take a sign too.
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits `100 MB` into the number and the unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((digits(number)?, unit.trim_start()))
}

/// Writes a size with the largest unit that loses nothing.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (GB, "GB"), (MIB, "MiB"), (MB, "MB"), (KIB, "KiB"), (KB, "KB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// Writes a time in seconds, or in milliseconds where it has a fraction.
fn time_text(time: Duration) -> String {
    match time.subsec_millis() {
        0 => time.as_secs().to_string(),
        _ => format!("{}ms", time.as_millis()),
    }
}
