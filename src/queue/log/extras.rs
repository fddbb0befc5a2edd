//! Extras of a mail to bytes and back, as part of the metadata of its record or of an outcome.
//!
//! Owns their layout (see `codec`) and its checks. Must not give back what exceeds its bounds.
//!
//! Diagnostics: none; what does not fit or parse is told by `false` and `None`.

use std::sync::Arc;

use super::codec::{Fields, put_bytes, put_u16};
use crate::queue::extras::{Extras, MailNotes};
use crate::queue::wishes::Wishes;

/// Appends `extras`. Whether they keep their bounds; beyond these they would not read back.
#[must_use]
pub(super) fn put_extras(out: &mut Vec<u8>, extras: &Extras) -> bool {
    let wishes = extras.wishes.as_deref().map(Wishes::to_json).unwrap_or_default();
    put_bytes(out, &wishes);
    put_u16(out, extras.notes.iter().len() as u16);
    for (name, value) in extras.notes.iter() {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value);
    }
    wishes.len() <= Wishes::BYTES_MAX
}

/// The reverse of [`put_extras`]; `None` is damage.
pub(super) fn take_extras(fields: &mut Fields<'_>) -> Option<Arc<Extras>> {
    let wishes = match fields.bytes()? {
        [] => None,
        json => Some(Box::new(Wishes::from_json(json)?)),
    };
    let mut notes = MailNotes::default();
    for _ in 0..fields.u16()? {
        let name = fields.text()?;
        if !notes.set(&name, fields.bytes()?) {
            return None;
        }
    }
    Some(Arc::new(Extras { wishes, notes }))
}
