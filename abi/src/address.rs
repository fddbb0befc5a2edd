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
use crate::plugin::PluginIndex;
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
    said: Option<SaidLocal>,
}

/// What was last said of an address with `MQ_setLocal` (D-71).
#[derive(Clone, Copy, Debug)]
struct SaidLocal {
    by: Option<PluginIndex>,
    local: bool,
    /// What others had said before.
    before: Option<bool>,
}

impl StepAddress {
    pub(crate) fn new(bytes: &[u8]) -> StepAddress {
        StepAddress { text: Text::copy_from(bytes), said: None }
    }

    /// What plugins said with `MQ_setLocal`.
    pub(crate) fn local(&self) -> Option<bool> {
        self.said.map(|said| said.local)
    }

    pub(crate) fn set_local(&mut self, by: Option<PluginIndex>, local: bool) {
        let before = match self.said {
            Some(said) if said.by == by => said.before,
            said => said.map(|said| said.local),
        };
        self.said = Some(SaidLocal { by, local, before });
    }

    /// What `plugin` said is as if it had not been said; what others said before it counts again.
    pub(crate) fn forget(&mut self, plugin: PluginIndex) {
        if let Some(said) = self.said.filter(|said| said.by == Some(plugin)) {
            self.said = said.before.map(|local| SaidLocal { by: None, local, before: None });
        }
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

    #[test]
    fn d_71_what_one_that_fails_has_said_is_forgotten_and_what_others_said_is_not() {
        let plugin = |index| Some(PluginIndex::from_bits(index));
        for (said, failed, expected) in [
            (&[(0, true)][..], 0, None),
            (&[(0, true)], 1, Some(true)),
            (&[(0, true), (1, false)], 1, Some(true)),
            (&[(0, true), (1, false), (1, true), (1, false)], 1, Some(true)),
            (&[(0, true), (1, false)], 0, Some(false)),
        ] {
            let mut address = StepAddress::new(b"a@b.example");
            for &(by, local) in said {
                address.set_local(plugin(by), local);
            }
            address.forget(PluginIndex::from_bits(failed));
            assert_eq!(address.local(), expected, "{said:?} {failed}");
        }
    }
}
