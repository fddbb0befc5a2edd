//! Notes: what plugins leave for each other on a connection or a message.
//!
//! Owns the values and their bounds. Must never look for a meaning in them. Diagnostics: `false` for a
//! note that is none, or that has no room.

use std::collections::BTreeMap;

use crate::text::Text;

/// Notes by name. Without any, nothing is held: most messages have none, and each has a place for them.
#[derive(Clone, Debug, Default)]
pub struct Notes(Option<Box<ByName>>);

type ByName = BTreeMap<Box<str>, Text>;

impl PartialEq for Notes {
    fn eq(&self, other: &Notes) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Notes {}

impl Notes {
    /// Most notes on one thing. The header's number.
    pub const COUNT_MAX: usize = 64;
    /// Most bytes of a name. The header's number.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Most bytes of all names and values of one thing. The header's number.
    pub const BYTES_MAX: usize = 16 << 10;

    /// Puts a note in place of what stands under that name, or takes it away; `false`, and nothing
    /// changes, where that is no name or there is no room.
    #[must_use]
    pub fn set(&mut self, name: &str, value: Option<&[u8]>) -> bool {
        let is_name = (1..=Notes::NAME_BYTES_MAX).contains(&name.len())
            && !name.chars().any(char::is_control);
        let Some(value) = value.filter(|_| is_name) else {
            if let Some(notes) = &mut self.0 {
                notes.remove(name);
            }
            return is_name;
        };
        let known = self.get(name);
        let before = known.map_or(0, |text| name.len() + text.as_bytes().len());
        let count = self.iter().len() + usize::from(known.is_none());
        let bytes = (self.bytes() - before).saturating_add(name.len()).saturating_add(value.len());
        let fits = count <= Notes::COUNT_MAX && bytes <= Notes::BYTES_MAX;
        if fits {
            self.0.get_or_insert_default().insert(name.into(), Text::copy_from(value));
        }
        fits
    }

    /// The note of that name.
    pub fn get(&self, name: &str) -> Option<&Text> {
        self.0.as_ref()?.get(name)
    }

    /// Each with its name, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        static NONE: ByName = ByName::new();
        let notes = self.0.as_deref().unwrap_or(&NONE);
        notes.iter().map(|(name, value)| (&**name, value.as_bytes()))
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.iter().len() == 0
    }

    fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_set_replaced_and_taken_away_within_bounds() {
        let mut notes = Notes::default();
        assert!(notes.set("a", Some(b"1")) && notes.set("a", Some(b"\0\xff")));
        assert_eq!(notes.get("a").map(Text::as_bytes), Some(&b"\0\xff"[..]));
        assert!(!notes.set("", Some(b"")) && !notes.set("a\nb", Some(b"")) && !notes.set("", None));
        assert!(!notes.set("b", Some(&vec![0; Notes::BYTES_MAX])));
        assert!(notes.set("a", Some(&vec![0; Notes::BYTES_MAX - 1])));
        assert!(!notes.set("b", Some(b"")));
        assert!(notes.set("a", None) && notes.is_empty() && notes.set("never there", None));
        for at in 0..Notes::COUNT_MAX {
            assert!(notes.set(&format!("n{at}"), Some(b"")));
        }
        assert!(!notes.set("more", Some(b"")) && notes.set("n0", Some(b"x")));
    }
}
