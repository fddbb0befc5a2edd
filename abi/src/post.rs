//! Posts: callbacks that threads of plugins have a worker run (`MQX_post`).
//!
//! Owns their order and their bound. Each is run exactly once, or dropped and counted when the worker has
//! cleaned up, or the plugin has left it. Must never be locked while plugin code runs. Diagnostics: [`Misuse`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::command::TimerCallback;
use crate::inbox::Wake;
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;

/// How many posts of one plugin may wait for one worker. The header's number.
pub(crate) const POSTS_MAX: usize = 65_536;

/// A callback to be run.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) plugin: PluginIndex,
    pub(crate) callback: TimerCallback,
    pub(crate) data: *mut c_void,
}

// SAFETY: `data` is carried to the worker and given to the callback there, never read; that the plugin
// may have one thread make it and another use it is what the header says of `MQX_post`.
unsafe impl Send for Post {}

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// It will be run.
    Taken(Wake),
    /// The worker has not begun, or has cleaned up, or the plugin has left it: nothing is run there.
    Closed,
}

#[derive(Debug, Default)]
struct Inner {
    is_open: bool,
    waiting: VecDeque<Post>,
    counts: HashMap<PluginIndex, usize>,
    /// Who has left this worker. At most all that were ever loaded.
    left: HashSet<PluginIndex>,
}

/// One worker's.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    /// Something waits. Changed under the lock only.
    waiting: AtomicBool,
    inner: Mutex<Inner>,
}

impl Posts {
    /// The worker begins.
    pub(crate) fn open(&self) {
        self.with(|inner| inner.is_open = true);
    }

    /// Any thread's end.
    pub(crate) fn put(&self, post: Post) -> Result<Posted, Misuse> {
        self.with(|inner| {
            if !inner.is_open || inner.left.contains(&post.plugin) {
                return Ok(Posted::Closed);
            }
            let count = inner.counts.entry(post.plugin).or_default();
            if *count >= POSTS_MAX {
                return Err(Misuse::Exhausted { kind: "posts", limit: POSTS_MAX });
            }
            *count += 1;
            inner.waiting.push_back(post);
            match self.waiting.swap(true, Ordering::SeqCst) {
                true => Ok(Posted::Taken(Wake::No)),
                false => Ok(Posted::Taken(Wake::Yes)),
            }
        })
    }

    /// Whether there is anything, without the lock.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// The worker's end: everything, in order.
    pub(crate) fn take(&self) -> VecDeque<Post> {
        self.with(|inner| {
            inner.counts.clear();
            self.waiting.store(false, Ordering::SeqCst);
            std::mem::take(&mut inner.waiting)
        })
    }

    /// The plugin has left this worker: nothing of it is taken any more. How many waited.
    pub(crate) fn close_for(&self, plugin: PluginIndex) -> usize {
        self.with(|inner| {
            inner.left.insert(plugin);
            inner.counts.remove(&plugin);
            let before = inner.waiting.len();
            inner.waiting.retain(|post| post.plugin != plugin);
            before - inner.waiting.len()
        })
    }

    /// The worker has cleaned up; what is left.
    pub(crate) fn close(&self) -> VecDeque<Post> {
        self.with(|inner| inner.is_open = false);
        self.take()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C-unwind" fn nothing(_: *mut c_void) {}

    fn post(plugin: u16, number: usize) -> Post {
        let data = std::ptr::without_provenance_mut(number);
        Post { plugin: PluginIndex::from_bits(plugin), callback: nothing, data }
    }

    fn numbers(posts: VecDeque<Post>) -> Vec<usize> {
        posts.iter().map(|post| post.data.addr()).collect()
    }

    #[test]
    fn posts_come_in_order_with_one_wake_up_until_the_worker_came() {
        let posts = Posts::default();
        assert_eq!(posts.put(post(0, 1)), Ok(Posted::Closed), "before the worker begins");
        posts.open();
        assert_eq!(posts.put(post(0, 1)), Ok(Posted::Taken(Wake::Yes)));
        assert_eq!(posts.put(post(1, 2)), Ok(Posted::Taken(Wake::No)));
        assert_eq!(posts.put(post(0, 3)), Ok(Posted::Taken(Wake::No)));
        assert_eq!(numbers(posts.take()), [1, 2, 3]);
        assert!(!posts.is_waiting());
        assert_eq!(posts.put(post(0, 4)), Ok(Posted::Taken(Wake::Yes)));
        assert_eq!(numbers(posts.close()), [4]);
        assert_eq!(posts.put(post(0, 5)), Ok(Posted::Closed), "after it has cleaned up");
    }

    #[test]
    fn who_has_left_is_told_that_nothing_is_run_and_others_go_on() {
        let posts = Posts::default();
        posts.open();
        for (plugin, number) in [(0, 1), (1, 2), (0, 3)] {
            assert!(posts.put(post(plugin, number)).is_ok());
        }
        assert_eq!((posts.close_for(PluginIndex::from_bits(0)), posts.is_waiting()), (2, true));
        assert_eq!(posts.put(post(0, 4)), Ok(Posted::Closed));
        assert_eq!(posts.put(post(1, 5)), Ok(Posted::Taken(Wake::No)));
        assert_eq!(numbers(posts.take()), [2, 5]);
        assert_eq!(posts.close_for(PluginIndex::from_bits(0)), 0);
    }

    #[test]
    fn one_plugin_cannot_take_the_place_of_another() {
        let posts = Posts::default();
        posts.open();
        for number in 0..POSTS_MAX {
            assert!(posts.put(post(0, number)).is_ok());
        }
        let refused = Misuse::Exhausted { kind: "posts", limit: POSTS_MAX };
        assert_eq!(posts.put(post(0, 0)), Err(refused));
        assert!(posts.put(post(1, 0)).is_ok());
        assert_eq!(posts.take().len(), POSTS_MAX + 1);
        assert!(posts.put(post(0, 0)).is_ok());
    }
}
