//! Addresses: the one thing that plugins are given a real pointer to.
//!
//! `MQ_Address *` points to the address itself, so that the documentation's two readings of
//! `MQ_recipient`, as an address and as a string, both work. Owns which pointers are live, and whose
//! text each is. Must never read one that was not found to be live. Diagnostics: `None`.

use std::collections::HashMap;
use std::ffi::c_char;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::message::Part;
use crate::slot::Key;
use crate::text::Text;
use crate::token::Opaque;

/// Says whether an address is a local one.
pub type Locals = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Whose text a pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The address step of a connection.
    Step(Key),
    /// A message.
    Message(Key, Part),
}

/// The address that a step shows. A copy of its own: so its pointer is good until the next one comes,
/// whatever the worker does with the step.
#[derive(Debug)]
pub(crate) struct StepAddress {
    pub(crate) text: Text,
    /// What plugins said with `MQ_setLocal` (D-71).
    pub(crate) local: Option<bool>,
}

impl StepAddress {
    pub(crate) fn new(bytes: &[u8]) -> StepAddress {
        StepAddress { text: Text::copy_from(bytes), local: None }
    }
}

/// The pointers of one worker that were given out as addresses and still are.
#[derive(Debug, Default)]
pub(crate) struct Live(HashMap<usize, Owner, BuildHasherDefault<PointerHasher>>);

/// One multiplication, folded. The keys are addresses of memory of ours, which nobody chooses; what plugins
/// pass is only looked up.
#[derive(Default)]
pub(crate) struct PointerHasher(u64);

impl Hasher for PointerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        /// 2^64 divided by the golden ratio, made odd.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        let product = u128::from(self.0 ^ number as u64) * u128::from(SPREAD);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Live {
    /// `text` is given out from now on; it belongs to `owner` until it is forgotten.
    pub(crate) fn show(&mut self, text: &Text, owner: Owner) -> *const c_char {
        let pointer = text.as_terminated().as_ptr();
        self.0.insert(pointer.addr(), owner);
        pointer
    }

    /// To be called before `text` goes. Costs nothing where no address was given out.
    pub(crate) fn forget(&mut self, text: Option<&Text>) {
        if let Some(text) = text
            && !self.0.is_empty()
        {
            self.0.remove(&text.as_terminated().as_ptr().addr());
        }
    }

    pub(crate) fn owner(&self, pointer: *const Opaque) -> Option<Owner> {
        self.0.get(&pointer.addr()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_found_until_its_text_is_forgotten() {
        let mut live = Live::default();
        let (shown, other) = (Text::copy_from(b"a@b.example"), Text::copy_from(b"a@b.example"));
        let owner = Owner::Step(Key::from_bits(7));
        let pointer = live.show(&shown, owner).cast::<Opaque>();
        assert_eq!(live.owner(pointer), Some(owner));
        assert_eq!(live.owner(other.as_terminated().as_ptr().cast()), None);
        live.forget(Some(&other));
        assert_eq!(live.owner(pointer), Some(owner));
        live.forget(Some(&shown));
        assert_eq!(live.owner(pointer), None);
    }
}
