//! Control: who has a step, and what becomes of a hand-back.
//!
//! Owns the rules D-20 to D-28: for the hook that runs ([`Asked`]), and for one serial chain, be it a
//! connection's or a context's ([`Chain`]). A verdict is recorded here and never acted upon: that is the
//! worker's, after the callback has returned. Must never know what a step is about. Diagnostics:
//! [`Misuse`].

use std::cell::Cell;

use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::step::Verdict;
use crate::token::Token;

/// The hook that runs on a worker, and what its plugin has handed back meanwhile.
///
/// One hook runs at a time, so this is a worker's and not a chain's; and it is no part of the cell, so that a
/// hook that is not interested costs neither a borrow nor a look-up after it has returned.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The bits of a context's token, or 0, which is none.
    context: Cell<u64>,
    verdict: Cell<Option<Verdict>>,
}

impl Asked {
    /// A hook that is given `context` is about to be called.
    #[inline(always)]
    pub(crate) fn begin(&self, context: Token) {
        self.context.set(context.bits());
    }

    /// It has returned: what it has handed back already.
    #[inline(always)]
    pub(crate) fn end(&self) -> Option<Verdict> {
        self.context.set(0);
        // Nothing is written where nothing is to be taken.
        let verdict = self.verdict.get();
        if verdict.is_some() {
            self.verdict.set(None);
        }
        verdict
    }

    /// Whether the hook that runs is one of `context`: the same plugin, in the same step.
    pub(crate) fn is_of(&self, context: Token) -> bool {
        self.context.get() == context.bits()
    }

    fn hand_back(&self, verdict: Verdict) -> Result<HandBack, Misuse> {
        match self.verdict.get() {
            None => {
                self.verdict.set(Some(verdict));
                Ok(HandBack::Recorded)
            }
            // D-22, D-25: the first counts.
            Some(_) => Err(Misuse::Doubled),
        }
    }
}

/// Where one chain stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Control {
    /// No plugin has it, be it that a hook runs.
    #[default]
    Host,
    /// A hook returned true.
    Held { plugin: PluginIndex },
    /// A held step was handed back, and the worker has not yet looked.
    Answered { plugin: PluginIndex, verdict: Verdict },
}

/// What a hand-back came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandBack {
    /// Its hook still runs; the verdict is taken when it returns (D-20).
    Recorded,
    /// A held step can go on.
    Resumes,
    /// It was for a hold that has been revoked (D-28).
    Swallowed,
}

/// One serial chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    control: Control,
    /// Who owes a hand-back for a revoked hold; at most one entry per plugin.
    late: Vec<PluginIndex>,
}

impl Chain {
    /// A hook of a step of this chain is about to be called. A step is at one plugin at a time (D-2D).
    #[inline]
    pub(crate) fn expect_free(&self) {
        assert_eq!(self.control, Control::Host, "a chain is at one plugin at a time");
    }

    /// A hook of `plugin` took control, and handed nothing back.
    pub(crate) fn hold(&mut self, plugin: PluginIndex) {
        self.expect_free();
        self.control = Control::Held { plugin };
    }

    /// `asked` is what runs, if that is a hook of `caller` in this chain's step.
    pub(crate) fn hand_back(
        &mut self,
        asked: Option<&Asked>,
        caller: PluginIndex,
        verdict: Verdict,
    ) -> Result<HandBack, Misuse> {
        if let Some(place) = self.late.iter().position(|late| *late == caller) {
            self.late.swap_remove(place);
            return Ok(HandBack::Swallowed);
        }
        if let Some(asked) = asked {
            return asked.hand_back(verdict);
        }
        match self.control {
            Control::Held { plugin } if plugin == caller => {
                self.control = Control::Answered { plugin, verdict };
                Ok(HandBack::Resumes)
            }
            // D-22, D-25: the first counts.
            Control::Answered { plugin, .. } if plugin == caller => Err(Misuse::Doubled),
            // D-23, D-24
            Control::Host | Control::Held { .. } | Control::Answered { .. } => Err(Misuse::NotHeld),
        }
    }

    /// Who has control and has not handed back.
    pub(crate) fn held(&self) -> Option<PluginIndex> {
        match self.control {
            Control::Held { plugin } => Some(plugin),
            Control::Host | Control::Answered { .. } => None,
        }
    }

    /// The verdict on a held step, once.
    pub(crate) fn take_verdict(&mut self) -> Option<Verdict> {
        let Control::Answered { verdict, .. } = self.control else {
            return None;
        };
        self.control = Control::Host;
        Some(verdict)
    }

    /// D-27: takes control away from who has it.
    pub(crate) fn revoke(&mut self) -> Option<PluginIndex> {
        let plugin = self.held()?;
        self.control = Control::Host;
        // It may owe one already, from before its close hook.
        if !self.late.contains(&plugin) {
            self.late.push(plugin);
        }
        Some(plugin)
    }

    /// D-28: does any plugin owe a hand-back?
    #[inline]
    pub(crate) fn owes_any(&self) -> bool {
        !self.late.is_empty()
    }

    /// D-28: does this plugin still owe a hand-back for a revoked hold?
    pub(crate) fn owes(&self, plugin: PluginIndex) -> bool {
        self.late.contains(&plugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Key;
    use crate::token::Kind;

    const A: PluginIndex = PluginIndex::from_bits(0);
    const B: PluginIndex = PluginIndex::from_bits(1);

    fn held_by(plugin: PluginIndex) -> Chain {
        let mut chain = Chain::default();
        chain.hold(plugin);
        chain
    }

    fn context(plugin: PluginIndex) -> Token {
        Token::new(Kind::StepContext, plugin, 0, Key::from_bits(7))
    }

    #[test]
    fn d_20_a_verdict_inside_the_hook_ends_the_step_without_a_hold() {
        let (mut chain, asked) = (Chain::default(), Asked::default());
        asked.begin(context(A));
        assert!(asked.is_of(context(A)) && !asked.is_of(context(B)));
        assert_eq!(chain.hand_back(Some(&asked), A, Verdict::Retry), Ok(HandBack::Recorded));
        assert_eq!(asked.end(), Some(Verdict::Retry));
        assert_eq!((asked.end(), chain.held()), (None, None));
        assert!(!asked.is_of(context(A)));
    }

    #[test]
    fn d_22_d_25_the_first_of_two_verdicts_counts() {
        let (mut chain, asked) = (Chain::default(), Asked::default());
        asked.begin(context(A));
        assert_eq!(chain.hand_back(Some(&asked), A, Verdict::Continue), Ok(HandBack::Recorded));
        assert_eq!(chain.hand_back(Some(&asked), A, Verdict::Complete), Err(Misuse::Doubled));
        assert_eq!(asked.end(), Some(Verdict::Continue));

        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(None, A, Verdict::Complete), Ok(HandBack::Resumes));
        assert_eq!(chain.hand_back(None, A, Verdict::Retry), Err(Misuse::Doubled));
        assert_eq!(chain.take_verdict(), Some(Verdict::Complete));
        assert_eq!(chain.hand_back(None, A, Verdict::Retry), Err(Misuse::NotHeld));
        assert_eq!(chain.take_verdict(), None);
    }

    #[test]
    fn d_23_nobody_hands_back_for_another() {
        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(None, B, Verdict::Continue), Err(Misuse::NotHeld));
        assert_eq!(chain.held(), Some(A));
        let mut free = Chain::default();
        assert_eq!(free.hand_back(None, A, Verdict::Continue), Err(Misuse::NotHeld));
    }

    #[test]
    fn d_28_a_late_hand_back_is_swallowed_and_does_not_release_a_newer_hold() {
        let mut chain = held_by(A);
        assert_eq!(chain.revoke(), Some(A));
        assert_eq!(chain.revoke(), None);
        assert!(chain.owes_any() && chain.owes(A) && !chain.owes(B));
        chain.hold(B);
        assert_eq!(chain.hand_back(None, A, Verdict::Complete), Ok(HandBack::Swallowed));
        assert_eq!(chain.held(), Some(B));
        assert!(!chain.owes(A) && !chain.owes_any());
        assert_eq!(chain.hand_back(None, A, Verdict::Complete), Err(Misuse::NotHeld));
    }

    #[test]
    fn d_28_what_is_late_is_so_within_the_close_hook_too() {
        let (mut chain, asked) = (held_by(A), Asked::default());
        chain.revoke();
        asked.begin(context(A));
        assert_eq!(chain.hand_back(Some(&asked), A, Verdict::Retry), Ok(HandBack::Swallowed));
        assert_eq!(asked.end(), None);
    }

    #[test]
    fn a_plugin_that_is_revoked_twice_is_listed_once() {
        let mut chain = held_by(A);
        chain.revoke();
        chain.hold(A);
        assert_eq!(chain.revoke(), Some(A));
        assert_eq!(chain.late, [A]);
    }

    #[test]
    fn an_answered_step_cannot_be_revoked() {
        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(None, A, Verdict::Continue), Ok(HandBack::Resumes));
        assert_eq!(chain.revoke(), None);
        assert_eq!(chain.take_verdict(), Some(Verdict::Continue));
    }

    #[test]
    #[should_panic(expected = "one plugin at a time")]
    fn d_2d_a_held_chain_calls_nobody() {
        held_by(A).expect_free();
    }
}
