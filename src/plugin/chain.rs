//! The chain of one step: plugin 0, plugin 1, …, host.
//!
//! A step is one hook event on one connection. Plugins are asked in load order; each either lets
//! the step go on, or takes control and hands back later with a [`Verdict`]. The runner is a
//! value and a loop, never a recursion (D-2C), and it knows neither tokens nor sockets.
//!
//! Must never: call a plugin, arm a timer, log.
//!
//! **Diagnostics**: a step that was retried too often reports [`Next::RetriesSpent`] once (D-29);
//! answering a chain that asks nothing is a bug of the caller and panics.

/// How a plugin hands control back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the next plugin.
    Continue,
    /// Skip the remaining plugins of this step (D-2B: of this step only).
    Complete,
    /// Start this step again at the first plugin; what changed so far stays (D-2A).
    Retry,
}

/// What the owner of a chain has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call the plugin at this position in the list of those that export the hook, then answer
    /// with [`Chain::on_return`].
    Call(usize),
    /// A plugin holds control: wait for [`Chain::on_verdict`].
    Held,
    /// A plugin has answered the step: nobody else is asked, and the host does what it said.
    Answered,
    /// As [`Next::Done`], but because the retry limit was reached: log it as critical (D-29).
    RetriesSpent,
    /// Every plugin was asked, or one completed the step: the host goes on.
    Done,
}

/// The progress of one step through its plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    position: u16,
    length: u16,
    retries: u32,
    retries_max: u32,
    /// Retries since the step was last held, which is when the worker did something else.
    retries_at_once: u32,
    place: Place,
}

/// How often a step may start over without a hold, whatever the setting says: all of it is one call,
/// in which the worker does nothing else.
const RETRIES_AT_ONCE_MAX: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The plugin at `position` is to be called.
    Ask,
    /// The plugin at `position` was handed out and has not answered.
    Called,
    /// The plugin at `position` holds control.
    Held,
    /// A plugin has answered the step; `is_left`: somebody is left to be asked but for that.
    Answered {
        is_left: bool,
    },
    /// The retry limit was reached and nobody was told yet.
    Spent,
    Done,
}

impl Chain {
    /// A chain over `length` plugins (at most 4,096, the number that tokens can name).
    /// `retries_max` bounds how often the step may start over; 0 means no bound (D-29) but that on
    /// retries without a hold between them.
    pub fn new(length: usize, retries_max: u32) -> Chain {
        let length = u16::try_from(length).expect("tokens name at most 4096 plugins");
        let place = if length == 0 { Place::Done } else { Place::Ask };
        Chain { position: 0, length, retries: 0, retries_max, retries_at_once: 0, place }
    }

    /// The plugin that is to be called now, as [`Next::Call`] says it; `None`, and nothing is changed, where
    /// something else is to be done.
    #[inline]
    pub fn poll_call(&mut self) -> Option<usize> {
        (self.place == Place::Ask).then(|| {
            self.place = Place::Called;
            usize::from(self.position)
        })
    }

    /// What is to be done now. A plugin is handed out once; until it answered, this is a bug.
    pub fn poll_next(&mut self) -> Next {
        match self.place {
            Place::Ask => {
                self.place = Place::Called;
                Next::Call(usize::from(self.position))
            }
            Place::Called => panic!("the plugin of this chain was called and has not answered"),
            Place::Held => Next::Held,
            Place::Answered { .. } => Next::Answered,
            Place::Spent => {
                self.place = Place::Done;
                Next::RetriesSpent
            }
            Place::Done => Next::Done,
        }
    }

    /// The hook returned. A verdict given inside the hook counts whatever the hook returned
    /// (D-20, D-21); without one, `took_control` decides.
    pub fn on_return(&mut self, took_control: bool, verdict: Option<Verdict>) {
        assert_eq!(self.place, Place::Called, "only a called plugin can return");
        match verdict {
            Some(verdict) => self.apply(verdict),
            None if took_control => self.place = Place::Held,
            None => self.apply(Verdict::Continue),
        }
    }

    /// Several plugins were asked in a row: so many were not interested, or were passed over (D-28). If
    /// there is one after them, it was asked as well, and what it returned is said next.
    #[inline]
    pub fn on_declined(&mut self, count: u16) {
        assert_eq!(self.place, Place::Called, "only a called plugin can decline");
        let left = self.length - self.position;
        assert!(count <= left, "{count} plugins declined and {left} were to be asked");
        self.position += count;
        if count == left {
            self.place = Place::Done;
        }
    }

    /// Nobody else is to be asked: what the step is about is decided. Not while a plugin has control.
    pub fn end(&mut self) {
        match self.place {
            Place::Ask | Place::Spent | Place::Done => self.place = Place::Done,
            Place::Answered { .. } => {}
            Place::Called | Place::Held => unreachable!("a plugin with control is waited for"),
        }
    }

    /// The plugin that was asked last has answered the step, and does not hold it: nobody else is asked.
    pub fn on_answer(&mut self) {
        assert!(
            !matches!(self.place, Place::Called | Place::Held),
            "a step is over when its plugin has returned or handed back"
        );
        self.place = Place::Answered { is_left: self.place == Place::Ask };
    }

    /// The plugin that answered has failed, and that is to mean nothing: on as it handed back.
    pub fn on_pass(&mut self) {
        let Place::Answered { is_left } = self.place else {
            panic!("only an answer can be passed over")
        };
        self.place = if is_left { Place::Ask } else { Place::Done };
    }

    /// The plugin that holds control handed back.
    pub fn on_verdict(&mut self, verdict: Verdict) {
        assert_eq!(self.place, Place::Held, "a verdict needs a holder");
        self.retries_at_once = 0;
        self.apply(verdict);
    }

    /// Whether nobody is left to be asked, and the host can go on.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Whether a plugin holds control now.
    pub fn is_held(&self) -> bool {
        self.place == Place::Held
    }

    /// Whether it is done though somebody is left to be asked: a plugin has completed the step.
    pub fn is_cut_short(&self) -> bool {
        self.place == Place::Done && self.position < self.length
    }

    /// How often the step has started over.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    fn is_spent(&self) -> bool {
        let limited = self.retries_max != 0 && self.retries >= self.retries_max;
        limited || self.retries_at_once >= RETRIES_AT_ONCE_MAX
    }

    fn apply(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Complete => self.place = Place::Done,
            Verdict::Continue => {
                self.position += 1;
                self.place = if self.position < self.length { Place::Ask } else { Place::Done };
            }
            Verdict::Retry if self.is_spent() => self.place = Place::Spent,
            Verdict::Retry => {
                self.retries_at_once += 1;
                self.retries = self.retries.saturating_add(1);
                self.position = 0;
                self.place = Place::Ask;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a chain of `length` plugins; `answers` gives, call by call, what the hook returned
    /// and said inside, and then what the holder said later. Returns the positions called.
    fn calls(length: usize, answers: &[(bool, Option<Verdict>, Option<Verdict>)]) -> Vec<usize> {
        let mut chain = Chain::new(length, 100);
        let mut called = Vec::new();
        let mut answers = answers.iter();
        loop {
            match chain.poll_next() {
                Next::Call(position) => {
                    called.push(position);
                    let &(took, inside, later) = answers.next().expect("an answer for each call");
                    chain.on_return(took, inside);
                    if chain.is_held() {
                        assert_eq!(chain.poll_next(), Next::Held);
                        chain.on_verdict(later.expect("a held step is handed back"));
                    }
                }
                Next::Held | Next::Answered => unreachable!("the holder answered above"),
                Next::RetriesSpent => called.push(usize::MAX),
                Next::Done => return called,
            }
        }
    }

    #[test]
    fn no_plugins_means_the_host_goes_on_at_once() {
        assert_eq!(Chain::new(0, 100).poll_next(), Next::Done);
    }

    #[test]
    fn answers_decide_which_plugins_are_called() {
        use Verdict::{Complete, Continue, Retry};
        let no = (false, None, None);
        let held = |verdict| (true, None, Some(verdict));
        let inside = |verdict| (true, Some(verdict), None);
        let rows: &[(&str, Vec<_>, Vec<usize>)] = &[
            ("false goes on", vec![no, no, no], vec![0, 1, 2]),
            ("continue goes on", vec![held(Continue), no, no], vec![0, 1, 2]),
            ("complete skips the rest (D-2B)", vec![no, held(Complete)], vec![0, 1]),
            ("retry starts over (D-2A)", vec![no, held(Retry), no, no, no], vec![0, 1, 0, 1, 2]),
            ("inside the hook, then true (D-20)", vec![inside(Complete)], vec![0]),
            ("inside, then false (D-21)", vec![(false, Some(Complete), None)], vec![0]),
            (
                "continue inside, then false (D-21)",
                vec![(false, Some(Continue), None), no, no],
                vec![0, 1, 2],
            ),
        ];
        for (name, answers, expected) in rows {
            assert_eq!(&calls(3, answers), expected, "{name}");
        }
    }

    #[test]
    fn d_29_a_retry_loop_ends_as_complete_and_says_so_once() {
        let mut chain = Chain::new(2, 100);
        let mut calls = 0;
        while chain.poll_next() == Next::Call(0) {
            calls += 1;
            chain.on_return(true, Some(Verdict::Retry));
        }
        assert_eq!(calls, 101, "the first run and a hundred more");
        assert_eq!(chain.poll_next(), Next::Done);
    }

    #[test]
    fn d_3d_a_step_that_is_answered_asks_nobody_else() {
        for (took, inside) in [(false, None), (true, Some(Verdict::Continue))] {
            let mut chain = Chain::new(3, 100);
            assert_eq!(chain.poll_next(), Next::Call(0));
            chain.on_return(took, inside);
            chain.on_answer();
            assert_eq!((chain.poll_next(), chain.poll_next()), (Next::Answered, Next::Answered));
        }
        let mut chain = Chain::new(3, 100);
        assert_eq!(chain.poll_next(), Next::Call(0));
        chain.on_return(true, None);
        assert_eq!(chain.poll_next(), Next::Held);
        chain.on_verdict(Verdict::Complete);
        chain.on_answer();
        assert_eq!(chain.poll_next(), Next::Answered);
        chain.on_pass();
        assert_eq!(chain.poll_next(), Next::Done);
    }

    #[test]
    fn d_27_a_failure_that_means_nothing_asks_the_next_plugin() {
        let mut chain = Chain::new(2, 100);
        for position in 0..2 {
            assert_eq!(chain.poll_next(), Next::Call(position));
            chain.on_return(false, None);
            chain.on_answer();
            assert_eq!(chain.poll_next(), Next::Answered);
            chain.on_pass();
        }
        assert_eq!(chain.poll_next(), Next::Done);
    }

    #[test]
    fn d_29_zero_means_no_limit() {
        let mut chain = Chain::new(1, 0);
        for _ in 0..3 * RETRIES_AT_ONCE_MAX {
            assert_eq!(chain.poll_next(), Next::Call(0));
            chain.on_return(true, None);
            assert_eq!(chain.poll_next(), Next::Held);
            chain.on_verdict(Verdict::Retry);
        }
    }

    #[test]
    fn d_29_without_a_hold_there_is_a_limit_even_without_one() {
        let mut chain = Chain::new(1, 0);
        let mut calls = 0;
        while chain.poll_next() == Next::Call(0) {
            calls += 1;
            chain.on_return(true, Some(Verdict::Retry));
        }
        assert_eq!(calls, RETRIES_AT_ONCE_MAX + 1);
        assert_eq!((chain.poll_next(), chain.retries()), (Next::Done, RETRIES_AT_ONCE_MAX));
    }

    #[test]
    fn d_2c_a_long_chain_of_immediate_answers_needs_no_stack() {
        let mut chain = Chain::new(4096, 100);
        let mut expected = 0;
        while let Next::Call(position) = chain.poll_next() {
            assert_eq!(position, expected);
            expected += 1;
            chain.on_return(true, Some(Verdict::Continue));
        }
        assert_eq!(expected, 4096);
    }

    #[test]
    fn plugins_that_were_asked_in_a_row_count_as_if_asked_one_by_one() {
        let mut chain = Chain::new(5, 100);
        assert_eq!(chain.poll_next(), Next::Call(0));
        chain.on_declined(3);
        chain.on_return(true, None);
        assert_eq!(chain.poll_next(), Next::Held);
        chain.on_verdict(Verdict::Continue);
        assert_eq!(chain.poll_next(), Next::Call(4));
        chain.on_declined(0);
        chain.on_return(true, Some(Verdict::Retry));
        assert_eq!((chain.poll_next(), chain.retries()), (Next::Call(0), 1));
        chain.on_declined(5);
        assert_eq!(chain.poll_next(), Next::Done);
    }

    #[test]
    #[should_panic(expected = "6 plugins declined and 5 were to be asked")]
    fn more_that_decline_than_there_are_is_a_bug() {
        let mut chain = Chain::new(5, 100);
        chain.poll_next();
        chain.on_declined(6);
    }
}
