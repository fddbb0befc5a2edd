//! What plugins have made of one mail, beside its addresses and its text.
//!
//! Owns the values, their bounds and the form in which they are kept. Never decides what they mean:
//! wishes are read where mail comes in and obeyed where it goes out, notes are between plugins.
//!
//! Diagnostics: none; whoever makes extras keeps their bounds, and the log refuses what exceeds them.

use std::collections::BTreeMap;

use super::wishes::Wishes;

/// What a record adds to the extras of a mail: the length of the wishes, the number of notes.
const FRAME_BYTES: usize = 4 + 2;
/// What it adds to each note: two lengths.
const NOTE_FRAME_BYTES: usize = 4 + 4;

/// What plugins have made of one mail. Most mails have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// What this mail asks for, in place of all that its transaction does; `None` where that holds.
    /// Properties that mean nothing to us are among it ([`Wishes::properties`]).
    pub wishes: Option<Box<Wishes>>,
    /// What plugins noted for each other.
    pub notes: MailNotes,
}

impl Extras {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.wishes.is_none() && self.notes.is_empty()
    }

    /// Most bytes of the extras of all mails of a transaction together. What a record may have of the rest
    /// leaves so much of it to them: else mail that was accepted could not be written anew when plugins
    /// have changed them on its way out.
    pub const BYTES_MAX: usize = 20 << 20;

    /// As many bytes as they take on disk, and about as many in memory.
    pub fn bytes(&self) -> usize {
        let wishes = self.wishes.as_deref().map_or(0, |wishes| wishes.to_json().len());
        wishes + self.notes.bytes() + FRAME_BYTES + self.notes.iter().len() * NOTE_FRAME_BYTES
    }
}

/// Notes by name: octets that mean nothing to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailNotes(BTreeMap<Box<str>, Box<[u8]>>);

impl MailNotes {
    /// Most notes of one mail.
    pub const COUNT_MAX: usize = 64;
    /// Most bytes of a name.
    pub const NAME_BYTES_MAX: usize = 128;
    /// Most bytes of all names and values of a mail.
    pub const BYTES_MAX: usize = 16 << 10;

    /// Puts a note in place of what stands under that name; `false`, and nothing changes, where that is
    /// no name or would exceed the bounds.
    #[must_use]
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        let before = self.0.get(name).map_or(0, |value| name.len() + value.len());
        let bytes = self.bytes() - before + name.len() + value.len();
        let count = self.0.len() + usize::from(!self.0.contains_key(name));
        let named = (1..=Self::NAME_BYTES_MAX).contains(&name.len());
        let fits = named && count <= Self::COUNT_MAX && bytes <= Self::BYTES_MAX;
        if fits {
            self.0.insert(name.into(), value.into());
        }
        fits
    }

    /// Each with its name, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_their_bounds() {
        let mut notes = MailNotes::default();
        assert!(notes.set("a", b"1") && notes.set("a", b"\0\xff"));
        assert_eq!(notes.iter().collect::<Vec<_>>(), [("a", &b"\0\xff"[..])]);
        assert!(!notes.set("", b"") && !notes.set(&"n".repeat(129), b""));
        assert!(!notes.set("b", &vec![0; MailNotes::BYTES_MAX]));
        assert!(notes.set("a", &vec![0; MailNotes::BYTES_MAX - 1]), "in place of what it had");
        assert!(!notes.set("b", b"") && notes.bytes() == MailNotes::BYTES_MAX);
        assert!(notes.set("a", b""));
        for at in 1..MailNotes::COUNT_MAX {
            assert!(notes.set(&format!("n{at}"), b""));
        }
        assert!(!notes.set("one more", b"") && notes.set("n1", b"again"));
    }
}
