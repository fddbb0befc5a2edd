//! Addresses: the one thing that plugins are given a real pointer to.
//!
//! `MQ_Address *` points to the address itself, so that the documentation's two readings of
//! `MQ_recipient`, as an address and as a string, both work. Owns which pointers are live, and whose
//! text each is. Must never read one that was not found to be live. Diagnostics: `None`.

use std::collections::HashMap;
use std::ffi::c_char;
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr;
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
/// whatever the worker does with the step. Its memory stays for the next.
#[derive(Debug, Default)]
pub(crate) struct StepAddress {
    text: Option<Text>,
    shown: bool,
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
    /// The address that is shown.
    pub(crate) fn text(&self) -> Option<&Text> {
        self.text.as_ref().filter(|_| self.shown)
    }

    /// What plugins said with `MQ_setLocal`.
    pub(crate) fn local(&self) -> Option<bool> {
        self.said.map(|said| said.local)
    }

    pub(crate) fn set_local(&mut self, by: Option<PluginIndex>, local: bool) {
        if !self.shown {
            return;
        }
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

    /// Shows `bytes`, as the address of `owner`; the same pointer while they are the same.
    pub(crate) fn show(&mut self, bytes: &[u8], owner: Owner, live: &mut Live) -> *const c_char {
        if self.text().is_none_or(|text| text.as_bytes() != bytes) {
            self.end(live);
            match &mut self.text {
                Some(text) => text.refill(bytes),
                place => *place = Some(Text::refillable(bytes)),
            }
            self.shown = true;
        }
        self.text().map_or(ptr::null(), |text| live.show(text, owner))
    }

    /// Its step is over: what plugins said of it.
    pub(crate) fn end(&mut self, live: &mut Live) -> Option<bool> {
        live.forget(self.text());
        self.shown = false;
        self.said.take().map(|said| said.local)
    }
}

/// The pointers of one worker that were given out as addresses and still are.
///
/// An address is mostly over before the next is shown: so the last one has a place beside the table.
#[derive(Debug, Default)]
pub(crate) struct Live {
    last: Option<(usize, Owner)>,
    others: HashMap<usize, Owner, BuildHasherDefault<PointerHasher>>,
}

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
        let before = self.last.replace((pointer.addr(), owner));
        if let Some((before, owner)) = before.filter(|(before, _)| *before != pointer.addr()) {
            self.others.insert(before, owner);
        }
        pointer
    }

    /// To be called before `text` goes. Costs nothing where no address was given out.
    pub(crate) fn forget(&mut self, text: Option<&Text>) {
        if self.is_empty() {
            return;
        }
        let Some(text) = text else { return };
        let pointer = text.as_terminated().as_ptr().addr();
        self.last.take_if(|(last, _)| *last == pointer);
        if !self.others.is_empty() {
            self.others.remove(&pointer);
        }
    }

    /// Is no address given out?
    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none() && self.others.is_empty()
    }

    pub(crate) fn owner(&self, pointer: *const Opaque) -> Option<Owner> {
        let last = self.last.filter(|(last, _)| *last == pointer.addr());
        last.map(|(_, owner)| owner).or_else(|| self.others.get(&pointer.addr()).copied())
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
    fn all_pointers_are_found_however_many_are_shown_and_in_whatever_order_they_go() {
        let texts: Vec<Text> = (0..4).map(|_| Text::copy_from(b"a@b.example")).collect();
        let owner = |at: usize| Owner::Step(Key::from_bits(at as u64));
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let mut live = Live::default();
            let show =
                |live: &mut Live, at: usize| live.show(&texts[at], owner(at)).cast::<Opaque>();
            let pointers: Vec<_> = (0..4).map(|at| show(&mut live, at)).collect();
            // Again, and in another order: nothing is found twice.
            for at in order {
                assert_eq!(show(&mut live, at), pointers[at]);
            }
            for (gone, at) in order.into_iter().enumerate() {
                assert_eq!(live.owner(pointers[at]), Some(owner(at)));
                live.forget(Some(&texts[at]));
                let left = pointers.iter().filter(|pointer| live.owner(**pointer).is_some());
                assert_eq!(left.count(), 3 - gone);
            }
            assert!(live.is_empty());
        }
    }

    #[test]
    fn the_address_of_a_step_is_one_while_it_is_the_same_and_what_was_said_goes_with_it() {
        let (mut live, mut address) = (Live::default(), StepAddress::default());
        let owner = Owner::Step(Key::from_bits(7));
        let first = address.show(b"a@b.example", owner, &mut live);
        address.set_local(None, true);
        assert_eq!(address.show(b"a@b.example", owner, &mut live), first);
        assert_eq!(address.local(), Some(true));
        let next = address.show(b"c@d.example", owner, &mut live);
        assert_eq!((address.local(), live.owner(next.cast())), (None, Some(owner)));
        assert_eq!(address.end(&mut live), None);
        address.set_local(None, true);
        assert_eq!((address.text(), address.local(), live.owner(next.cast())), (None, None, None));
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
            let (mut live, mut address) = (Live::default(), StepAddress::default());
            address.show(b"a@b.example", Owner::Step(Key::from_bits(7)), &mut live);
            for &(by, local) in said {
                address.set_local(plugin(by), local);
            }
            address.forget(PluginIndex::from_bits(failed));
            assert_eq!(address.local(), expected, "{said:?} {failed}");
        }
    }
}
