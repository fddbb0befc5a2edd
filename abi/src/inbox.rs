//! Inbox: hand-backs from threads that do not own the step, until its worker comes for them (D-26).
//!
//! Owns their order and their bound. A thread that hands one step back over and over takes one place:
//! of all hand-backs of a plugin on one connection that wait together, two at most can mean something
//! (one for a hold that was revoked, D-28, and one for the hold of now), the rest is misuse. So nothing
//! genuine is ever left out, however fast threads are and however slow the worker.
//!
//! Must never be locked while a verdict is applied or a line logged. Diagnostics: [`Misuse`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::misuse::Misuse;
use crate::slot::SLOTS_MAX;
use crate::step::Verdict;
use crate::token::Token;

/// How many places are taken at once by tokens, of which some must be made up: each connection is at one
/// plugin at a time, and few plugins owe a hand-back for an earlier step.
const PLACES_MAX: usize = 2 * SLOTS_MAX;
/// Places that are worth no effort to give back.
const PLACES_KEPT: usize = 1024;

/// What waits for one plugin on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) context: Token,
    pub(crate) first: Verdict,
    pub(crate) second: Option<Verdict>,
}

/// What a hand-back that was put in came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) wake: Wake,
    /// What waited for an earlier use of the same slot, and is gone for that.
    pub(crate) displaced: Option<Post>,
}

/// Whether the worker must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It was, and has not come yet.
    No,
    /// Nothing waited before.
    Yes,
}

#[derive(Debug, Default)]
struct Posts {
    /// The first come first.
    order: VecDeque<Post>,
    /// By plugin and slot.
    places: HashMap<u64, usize>,
}

/// One worker's.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Something is in `posts`. Changed under the lock only.
    waiting: AtomicBool,
    posts: Mutex<Posts>,
}

impl Inbox {
    /// Any thread's end. Holds the lock for a look-up.
    pub(crate) fn put(&self, context: Token, verdict: Verdict) -> Result<Put, Misuse> {
        let posts = &mut *self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        let displaced = posts.put(context, verdict)?;
        let wake = match self.waiting.swap(true, Ordering::SeqCst) {
            true => Wake::No,
            false => Wake::Yes,
        };
        Ok(Put { wake, displaced })
    }

    /// Whether there is anything, without the lock.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The worker's end: everything, in order.
    pub(crate) fn take(&self) -> VecDeque<Post> {
        let posts = &mut *self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        posts.places.clear();
        posts.places.shrink_to(PLACES_KEPT);
        self.waiting.store(false, Ordering::SeqCst);
        std::mem::take(&mut posts.order)
    }
}

impl Posts {
    fn put(&mut self, context: Token, verdict: Verdict) -> Result<Option<Post>, Misuse> {
        let post = Post { context, first: verdict, second: None };
        let Some(&index) = self.places.get(&context.place()) else {
            if self.order.len() >= PLACES_MAX {
                return Err(Misuse::TooMuch { limit: PLACES_MAX });
            }
            self.places.insert(context.place(), self.order.len());
            self.order.push_back(post);
            return Ok(None);
        };
        let there = &mut self.order[index];
        if there.context != context {
            // The slot was used again since, so what the older of the two names is gone.
            if context.key().is_after(there.context.key()) {
                return Ok(Some(std::mem::replace(there, post)));
            }
            return Err(Misuse::Stale { kind: context.kind().type_name() });
        }
        if there.second.is_some() {
            return Err(Misuse::Doubled);
        }
        there.second = Some(verdict);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::PluginIndex;
    use crate::slot::Key;
    use crate::token::Kind;

    const YES: Result<Put, Misuse> = Ok(Put { wake: Wake::Yes, displaced: None });
    const NO: Result<Put, Misuse> = Ok(Put { wake: Wake::No, displaced: None });

    fn token(plugin: u16, bits: u64) -> Token {
        Token::new(Kind::StepContext, PluginIndex::from_bits(plugin), 0, Key::from_bits(bits))
    }

    fn taken(inbox: &Inbox) -> Vec<Post> {
        inbox.take().into()
    }

    #[test]
    fn d_26_one_wake_up_until_the_worker_came_and_all_in_order() {
        let inbox = Inbox::default();
        assert_eq!(inbox.put(token(0, 1), Verdict::Continue), YES);
        assert_eq!(inbox.put(token(1, 1), Verdict::Retry), NO);
        assert_eq!(inbox.put(token(0, 0), Verdict::Complete), NO);
        let order: Vec<_> = taken(&inbox).iter().map(|post| (post.context, post.first)).collect();
        let expected = [
            (token(0, 1), Verdict::Continue),
            (token(1, 1), Verdict::Retry),
            (token(0, 0), Verdict::Complete),
        ];
        assert_eq!(order, expected);
        assert!(!inbox.is_waiting() && taken(&inbox).is_empty());
        assert_eq!(inbox.put(token(0, 1), Verdict::Continue), YES);
    }

    #[test]
    fn d_26_d_28_two_for_one_hold_may_both_be_meant_and_a_third_is_not() {
        let inbox = Inbox::default();
        for (verdict, expected) in [
            (Verdict::Complete, YES),
            (Verdict::Continue, NO),
            (Verdict::Retry, Err(Misuse::Doubled)),
        ] {
            assert_eq!(inbox.put(token(0, 1), verdict), expected);
        }
        let post = Post {
            context: token(0, 1),
            first: Verdict::Complete,
            second: Some(Verdict::Continue),
        };
        assert_eq!(taken(&inbox), [post]);
    }

    #[test]
    fn a_hand_back_for_an_earlier_use_of_a_slot_gives_way() {
        let (earlier, later) = (token(0, 7), token(0, 1 << 20 | 7));
        let waiting = |first| {
            let inbox = Inbox::default();
            assert_eq!(inbox.put(first, Verdict::Continue), YES);
            inbox
        };
        let inbox = waiting(later);
        let refused = Err(Misuse::Stale { kind: "MQ_Context" });
        assert_eq!(inbox.put(earlier, Verdict::Retry), refused);
        assert_eq!(taken(&inbox)[0].context, later);
        // The one that counts is told so, and the other is reported.
        let inbox = waiting(earlier);
        let gone = Post { context: earlier, first: Verdict::Continue, second: None };
        let put = Put { wake: Wake::No, displaced: Some(gone) };
        assert_eq!(inbox.put(later, Verdict::Complete), Ok(put));
        let posts = taken(&inbox);
        assert_eq!((posts.len(), posts[0].context, posts[0].first), (1, later, Verdict::Complete));
    }
}
