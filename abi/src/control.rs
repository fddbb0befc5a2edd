//! Control: who has a step, and what becomes of a hand-back.
//!
//! Owns the rules D-20 to D-28 for one serial chain, be it a connection's or a context's, and which hook
//! runs. A verdict is recorded here and never acted upon: that is the worker's, after the callback has returned. Must
//! never know what a step is about. Diagnostics: [`Misuse`].

use std::cell::Cell;

use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::slot::Key;
use crate::step::Verdict;
use crate::token::Token;

/// The step whose hooks run on a worker.
///
/// A hook that says nothing of its step leaves the chain alone, so that it costs no look-up: whoever is about
/// to say something has the chain told of the call first, and the worker sees afterwards that it was. Whose hook
/// runs, the [current call](crate::call::current) says.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// The bits of its contexts' tokens that all plugins share, or 0, which is none.
    step: Cell<u64>,
    told: Cell<bool>,
}

impl Asked {
    /// Hooks that are given contexts with these [bits](Token::shared_bits) are about to be called, one after
    /// the other.
    #[inline(always)]
    pub(crate) fn begin(&self, step: u64) {
        self.step.set(step);
    }

    /// Whether the chain was told of the hook that has just returned.
    #[inline(always)]
    pub(crate) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// The last one has returned.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.step.set(0);
        self.told.set(false);
    }

    /// Whether the hook that runs is one of `context`, which is its plugin's.
    pub(crate) fn is(&self, context: Token) -> bool {
        self.step.get() == context.shared_bits()
    }

    /// Whether the hook that runs is one of `context`, which is its plugin's, and the chain is still to be told
    /// of it; it counts as told.
    pub(crate) fn tell(&self, context: Token) -> bool {
        self.is(context) && !self.told.replace(true)
    }
}

/// Where one chain stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Control {
    /// No plugin has it.
    #[default]
    Host,
    /// A hook runs. `swallowed` is what it handed back while it owed another hand-back.
    Calling { plugin: PluginIndex, verdict: Option<Verdict>, swallowed: Option<Verdict> },
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
    /// The same for one with a name, which is settled with this.
    Settled(Key),
}

/// How many revoked holds with a name a chain remembers. A plugin that loses more of them on one connection, and
/// releases none, is passed over until it hands back, as if the last had none.
const OVERDUE_MAX: usize = 64;

/// One serial chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    control: Control,
    /// Who owes a hand-back for a revoked hold; at most one entry per plugin.
    late: Vec<PluginIndex>,
    /// Revoked holds with a name whose plugin was not told, and has not released them; the oldest first.
    overdue: Vec<(PluginIndex, Key)>,
}

impl Chain {
    /// D-2D.
    #[inline]
    pub(crate) fn expect_free(&self) {
        assert_eq!(self.control, Control::Host, "a chain is at one plugin at a time");
    }

    /// D-28: does any plugin owe a hand-back?
    #[inline]
    pub(crate) fn owes_any(&self) -> bool {
        !self.late.is_empty()
    }

    /// A hook of `plugin` is about to be called. A step is at one plugin at a time (D-2D).
    pub(crate) fn on_call(&mut self, plugin: PluginIndex) {
        self.expect_free();
        self.control = Control::Calling { plugin, verdict: None, swallowed: None };
    }

    /// That hook has returned: what it has handed back already. One that took control and has handed back
    /// meant its own step, also if it owed a hand-back: nobody would give it another (D-28).
    pub(crate) fn on_return(&mut self, took_control: bool) -> Option<Verdict> {
        let Control::Calling { plugin, verdict, swallowed } = self.control else {
            unreachable!("only the worker moves a chain on, and it waits for the hook to return");
        };
        let verdict = verdict.or(swallowed.filter(|_| took_control));
        self.control = match verdict {
            None if took_control => Control::Held { plugin },
            _ => Control::Host,
        };
        verdict
    }

    pub(crate) fn hand_back(
        &mut self,
        caller: PluginIndex,
        verdict: Verdict,
    ) -> Result<HandBack, Misuse> {
        if let Some(place) = self.late.iter().position(|late| *late == caller) {
            self.late.swap_remove(place);
            if let Control::Calling { plugin, swallowed, .. } = &mut self.control
                && *plugin == caller
            {
                *swallowed = Some(verdict);
            }
            return Ok(HandBack::Swallowed);
        }
        if let Some(place) = self.overdue.iter().position(|(late, _)| *late == caller)
            && !matches!(self.control, Control::Calling { plugin, .. } if plugin == caller)
        {
            return Ok(HandBack::Settled(self.overdue.remove(place).1));
        }
        self.release(caller, verdict)
    }

    /// The same for a hand-back that names the hold it is for: nothing that is owed can be meant.
    pub(crate) fn release(
        &mut self,
        caller: PluginIndex,
        verdict: Verdict,
    ) -> Result<HandBack, Misuse> {
        match self.control {
            Control::Calling { plugin, verdict: None, .. } if plugin == caller => {
                let (verdict, swallowed) = (Some(verdict), None);
                self.control = Control::Calling { plugin, verdict, swallowed };
                Ok(HandBack::Recorded)
            }
            Control::Held { plugin } if plugin == caller => {
                self.control = Control::Answered { plugin, verdict };
                Ok(HandBack::Resumes)
            }
            // D-22, D-25: the first counts.
            Control::Calling { plugin, .. } | Control::Answered { plugin, .. }
                if plugin == caller =>
            {
                Err(Misuse::Doubled)
            }
            // D-23, D-24
            Control::Host
            | Control::Calling { .. }
            | Control::Held { .. }
            | Control::Answered { .. } => Err(Misuse::NotHeld),
        }
    }

    /// Does its hook run, or does it hold the step?
    pub(crate) fn is_at(&self, plugin: PluginIndex) -> bool {
        match self.control {
            Control::Calling { plugin: at, .. } | Control::Held { plugin: at } => at == plugin,
            Control::Host | Control::Answered { .. } => false,
        }
    }

    /// The hook that runs has named its hold, which is handed back by that name: what was swallowed was
    /// not meant for it.
    pub(crate) fn forget_swallowed(&mut self) {
        if let Control::Calling { swallowed, .. } = &mut self.control {
            *swallowed = None;
        }
    }

    /// Does its hook run, and has it not handed back?
    pub(crate) fn is_calling(&self, plugin: PluginIndex) -> bool {
        matches!(self.control, Control::Calling { plugin: at, verdict: None, .. } if at == plugin)
    }

    /// Who has control and has not handed back.
    pub(crate) fn held(&self) -> Option<PluginIndex> {
        match self.control {
            Control::Held { plugin } => Some(plugin),
            Control::Host | Control::Calling { .. } | Control::Answered { .. } => None,
        }
    }

    /// Who has control, or has handed back what the worker has not yet taken.
    pub(crate) fn holder(&self) -> Option<PluginIndex> {
        match self.control {
            Control::Held { plugin } | Control::Answered { plugin, .. } => Some(plugin),
            Control::Host | Control::Calling { .. } => None,
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

    /// Takes control away from who has it, and was told: nothing is owed.
    pub(crate) fn revoke_told(&mut self) -> Option<PluginIndex> {
        let plugin = self.held()?;
        self.control = Control::Host;
        Some(plugin)
    }

    /// The same for a hold with this name, of a plugin that was not told: what it says without a name may be
    /// about it. Whether there is room to remember it; without, it is revoked as one that has none.
    pub(crate) fn revoke_named(&mut self, hold: Key) -> Option<(PluginIndex, bool)> {
        if self.overdue.len() >= OVERDUE_MAX {
            return self.revoke().map(|plugin| (plugin, false));
        }
        let plugin = self.revoke_told()?;
        self.overdue.push((plugin, hold));
        Some((plugin, true))
    }

    /// A revoked hold was released.
    pub(crate) fn settle(&mut self, hold: Key) {
        self.overdue.retain(|(_, overdue)| *overdue != hold);
    }

    /// May what this plugin says outside of its hooks be about a revoked hold with a name?
    pub(crate) fn is_overdue(&self, plugin: PluginIndex) -> bool {
        self.overdue.iter().any(|(overdue, _)| *overdue == plugin)
    }

    /// The revoked holds that are still remembered.
    pub(crate) fn overdue(&self) -> impl Iterator<Item = Key> + '_ {
        self.overdue.iter().map(|(_, hold)| *hold)
    }

    /// D-27: takes control away from who has it.
    pub(crate) fn revoke(&mut self) -> Option<PluginIndex> {
        let plugin = self.revoke_told()?;
        // It may owe one already, from before its close hook.
        if !self.late.contains(&plugin) {
            self.late.push(plugin);
        }
        Some(plugin)
    }

    /// The plugin is gone, and with it what it owes.
    pub(crate) fn forget(&mut self, plugin: PluginIndex) {
        self.late.retain(|late| *late != plugin);
    }

    /// D-28: does this plugin still owe a hand-back for a revoked hold?
    pub(crate) fn owes(&self, plugin: PluginIndex) -> bool {
        self.late.contains(&plugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Kind;

    const A: PluginIndex = PluginIndex::from_bits(0);
    const B: PluginIndex = PluginIndex::from_bits(1);

    fn held_by(plugin: PluginIndex) -> Chain {
        let mut chain = Chain::default();
        chain.on_call(plugin);
        assert_eq!(chain.on_return(true), None);
        chain
    }

    #[test]
    fn d_20_a_verdict_inside_the_hook_ends_the_step_without_a_hold() {
        for took_control in [true, false] {
            let mut chain = Chain::default();
            chain.on_call(A);
            assert_eq!(chain.hand_back(A, Verdict::Retry), Ok(HandBack::Recorded));
            assert_eq!(chain.on_return(took_control), Some(Verdict::Retry));
            assert_eq!(chain.held(), None);
        }
    }

    #[test]
    fn a_chain_is_told_once_of_the_hook_that_runs_and_of_no_other_step() {
        let context = |key| Token::new(Kind::StepContext, A, 0, Key::from_bits(key));
        let asked = Asked::default();
        assert!(!asked.tell(context(7)) && !asked.is_told());
        asked.begin(context(7).shared_bits());
        assert!(!asked.tell(context(8)) && !asked.is_told());
        assert!(asked.tell(context(7)) && !asked.tell(context(7)) && asked.is_told());
        asked.end();
        assert!(!asked.is(context(7)) && !asked.is_told());
    }

    #[test]
    fn d_22_d_25_the_first_of_two_verdicts_counts() {
        let mut chain = Chain::default();
        chain.on_call(A);
        assert_eq!(chain.hand_back(A, Verdict::Continue), Ok(HandBack::Recorded));
        assert_eq!(chain.hand_back(A, Verdict::Complete), Err(Misuse::Doubled));
        assert_eq!(chain.on_return(true), Some(Verdict::Continue));

        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(A, Verdict::Complete), Ok(HandBack::Resumes));
        assert_eq!(chain.hand_back(A, Verdict::Retry), Err(Misuse::Doubled));
        assert_eq!(chain.take_verdict(), Some(Verdict::Complete));
        assert_eq!(chain.hand_back(A, Verdict::Retry), Err(Misuse::NotHeld));
        assert_eq!(chain.take_verdict(), None);
    }

    #[test]
    fn d_23_nobody_hands_back_for_another() {
        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(B, Verdict::Continue), Err(Misuse::NotHeld));
        assert_eq!(chain.held(), Some(A));
        assert_eq!(Chain::default().hand_back(A, Verdict::Continue), Err(Misuse::NotHeld));
    }

    #[test]
    fn d_28_a_late_hand_back_is_swallowed_and_does_not_release_a_newer_hold() {
        let mut chain = held_by(A);
        assert_eq!(chain.revoke(), Some(A));
        assert_eq!(chain.revoke(), None);
        assert!(chain.owes(A) && !chain.owes(B));
        chain.on_call(B);
        assert_eq!(chain.on_return(true), None);
        assert_eq!(chain.hand_back(A, Verdict::Complete), Ok(HandBack::Swallowed));
        assert_eq!(chain.held(), Some(B));
        assert!(!chain.owes(A));
        assert_eq!(chain.hand_back(A, Verdict::Complete), Err(Misuse::NotHeld));
    }

    #[test]
    fn d_28_a_hook_that_hands_back_and_takes_control_while_it_owes_one_is_not_held() {
        let owing = || {
            let mut chain = held_by(A);
            chain.revoke();
            chain.on_call(A);
            assert_eq!(chain.hand_back(A, Verdict::Complete), Ok(HandBack::Swallowed));
            chain
        };
        let mut chain = owing();
        assert_eq!(chain.on_return(true), Some(Verdict::Complete));
        assert!(chain.held().is_none() && !chain.owes(A));
        let mut chain = owing();
        assert_eq!(chain.on_return(false), None, "it was the late one, and nothing else");
        let mut chain = owing();
        chain.forget_swallowed();
        assert_eq!((chain.on_return(true), chain.held()), (None, Some(A)));
        // With both there is no doubt.
        let mut chain = owing();
        assert_eq!(chain.hand_back(A, Verdict::Retry), Ok(HandBack::Recorded));
        assert_eq!(chain.on_return(true), Some(Verdict::Retry));
    }

    #[test]
    fn a_plugin_that_is_revoked_twice_is_listed_once() {
        let mut chain = held_by(A);
        chain.revoke();
        chain.on_call(A);
        chain.on_return(true);
        assert_eq!(chain.revoke(), Some(A));
        assert_eq!(chain.late, [A]);
    }

    #[test]
    fn a_chain_remembers_so_many_lost_names_and_passes_over_who_loses_more() {
        let mut chain = Chain::default();
        for number in 0..OVERDUE_MAX as u64 + 1 {
            chain.on_call(A);
            chain.on_return(true);
            let kept = number < OVERDUE_MAX as u64;
            assert_eq!(chain.revoke_named(Key::from_bits(number)), Some((A, kept)));
        }
        assert!(chain.is_overdue(A) && chain.owes(A) && !chain.is_overdue(B));
        assert_eq!(chain.hand_back(A, Verdict::Continue), Ok(HandBack::Swallowed));
        let oldest = HandBack::Settled(Key::from_bits(0));
        assert_eq!(chain.hand_back(A, Verdict::Continue), Ok(oldest));
        (1..OVERDUE_MAX as u64).for_each(|number| chain.settle(Key::from_bits(number)));
        assert!(!chain.is_overdue(A) && !chain.owes_any());
    }

    #[test]
    fn an_answered_step_cannot_be_revoked() {
        let mut chain = held_by(A);
        assert_eq!(chain.hand_back(A, Verdict::Continue), Ok(HandBack::Resumes));
        assert_eq!(chain.revoke(), None);
        assert_eq!(chain.take_verdict(), Some(Verdict::Continue));
    }

    #[test]
    #[should_panic(expected = "one plugin at a time")]
    fn d_2d_a_held_chain_calls_nobody() {
        held_by(A).on_call(B);
    }
}
