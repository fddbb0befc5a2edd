//! Descriptors kept back, so that a client can be told when there are no others.
//!
//! Shared by all workers: one that gives a descriptor up to take a client with it may find that
//! another worker was faster to use it, and then needs a second. The lock is taken only while
//! descriptors are short.
//!
//! Must never: open a socket.
//!
//! **Diagnostics**: none; without a spare descriptor a client waits in the backlog until one is
//! closed.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Descriptors that are kept back.
const SPARES: usize = 16;

/// The descriptors that are kept back.
#[derive(Debug)]
pub struct Spares {
    missing: AtomicBool,
    files: Mutex<Vec<File>>,
}

impl Default for Spares {
    fn default() -> Spares {
        let spares = Spares { missing: AtomicBool::new(true), files: Mutex::default() };
        spares.fill();
        spares
    }
}

impl Spares {
    /// Keeps back what is missing, where there is something to keep: before anybody gets one.
    pub fn fill(&self) {
        if self.missing.load(Ordering::Relaxed) {
            self.refill(&mut self.lock());
        }
    }

    /// Runs `work` with one descriptor given up.
    pub fn without_one(&self, work: impl FnOnce()) {
        let mut files = self.lock();
        files.pop();
        work();
        self.refill(&mut files);
    }

    fn refill(&self, files: &mut Vec<File>) {
        while files.len() < SPARES
            && let Ok(file) = File::open("/dev/null")
        {
            files.push(file);
        }
        self.missing.store(files.len() < SPARES, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_kept_back_again() {
        let spares = Spares::default();
        spares.without_one(|| {
            let Err(_) = spares.files.try_lock() else { panic!("others wait meanwhile") };
        });
        assert_eq!(spares.lock().len(), SPARES);
        spares.lock().clear();
        spares.missing.store(true, Ordering::Relaxed);
        spares.fill();
        assert_eq!(spares.lock().len(), SPARES);
    }
}
