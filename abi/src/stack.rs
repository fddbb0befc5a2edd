//! A stack for signal handlers, so that a plugin that has used up its own can still be named.
//!
//! Owns the memory. Must never be dropped on another thread than the one that it was made on. The
//! standard library gives its threads one too, but of the least size, on which nothing can be unwound.
//! Diagnostics: none; without it an overflow ends the process without a report.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

/// Enough for a report with its frames, on top of what the system itself puts there.
const STACK_BYTES: usize = 128 * 1024;
/// Unmapped below it, so that an overflow of this one is a fault and no damage.
const GUARD_BYTES: usize = 64 * 1024;
/// What unwinding wants.
const ROOM_BYTES: usize = 32 * 1024;

/// This thread's stack for handlers; the one before comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct HandlerStack {
    memory: *mut c_void,
    before: libc::stack_t,
}

impl HandlerStack {
    /// `None` where the system has no memory for it.
    pub(crate) fn new() -> Option<HandlerStack> {
        let size = GUARD_BYTES + STACK_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: new memory, wherever the system likes.
        let memory = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return None;
        }
        let stack = memory.wrapping_byte_add(GUARD_BYTES);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: within the mapping above.
        let opened = unsafe { libc::mprotect(stack, STACK_BYTES, access) };
        let new = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: STACK_BYTES };
        let before = if opened == 0 { set(&new) } else { None };
        match before {
            Some(before) => Some(HandlerStack { memory, before }),
            None => {
                // SAFETY: mapped above, and nobody has it.
                unsafe { libc::munmap(memory, size) };
                None
            }
        }
    }
}

impl Drop for HandlerStack {
    fn drop(&mut self) {
        // What is in use now, by a handler that ends its thread, stays.
        if set(&self.before).is_some() {
            // SAFETY: mapped by `new`, and the thread's no longer.
            unsafe { libc::munmap(self.memory, GUARD_BYTES + STACK_BYTES) };
        }
    }
}

/// The stack that was set before; `None` if this one cannot be set.
fn set(stack: &libc::stack_t) -> Option<libc::stack_t> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both are of the type that the call takes, and the memory is the caller's to give.
    let done = unsafe { libc::sigaltstack(stack, before.as_mut_ptr()) };
    // SAFETY: filled in by a call that succeeded.
    (done == 0).then(|| unsafe { before.assume_init() })
}

/// Whether a handler that runs now has room to unwind. Async-signal-safe.
pub(crate) fn is_roomy() -> bool {
    let mut now = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: only asks.
    let done = unsafe { libc::sigaltstack(ptr::null(), now.as_mut_ptr()) };
    if done != 0 {
        return false;
    }
    // SAFETY: filled in by a call that succeeded.
    let now = unsafe { now.assume_init() };
    now.ss_flags & libc::SS_ONSTACK == 0 || now.ss_size >= ROOM_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_before_comes_back() {
        let size = || {
            let mut now = MaybeUninit::<libc::stack_t>::uninit();
            // SAFETY: only asks.
            assert_eq!(unsafe { libc::sigaltstack(ptr::null(), now.as_mut_ptr()) }, 0);
            // SAFETY: filled in by a call that succeeded.
            unsafe { now.assume_init() }.ss_size
        };
        let before = size();
        let outer = HandlerStack::new().expect("there is memory");
        let inner = HandlerStack::new().expect("there is memory");
        drop(inner);
        assert_eq!(size(), STACK_BYTES);
        assert!(is_roomy());
        drop(outer);
        assert_eq!(size(), before);
    }
}
