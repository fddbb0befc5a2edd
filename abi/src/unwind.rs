//! Unwinding: the frames of this thread from within a signal handler, and of a sleeping one from outside.
//!
//! Owns both ways. [`frames`] follows the unwind tables: it is exact, and faults where they are wrong,
//! so it is for a process that ends. [`look`] and [`scan`] pick what looks like a return address into a
//! plugin: it may be of a call that is over. They must never read memory that may not be there; none of
//! them allocates or locks. Diagnostics: none; what cannot be read ends the list.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::image;

/// Frames of one stack that are looked at.
pub(crate) const FRAMES_MAX: usize = 48;
/// Frames of a handler and of the system between it and what it interrupted.
const OWN_FRAMES_MAX: usize = 24;
/// How much of a stack is scanned.
const SCANNED_WORDS_MAX: usize = 8 * 1024;
/// Read in one system call.
const WORDS_AT_ONCE: usize = 128;

/// Room for the frames of one stack; the innermost first. Each but the first is the address within the
/// call, not behind it.
#[derive(Debug)]
pub(crate) struct Frames {
    addresses: [AtomicUsize; FRAMES_MAX],
    count: AtomicUsize,
}

impl Frames {
    pub(crate) const fn new() -> Frames {
        Frames {
            addresses: [const { AtomicUsize::new(0) }; FRAMES_MAX],
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn clear(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.addresses[..self.len()].iter().map(|address| address.load(Ordering::Relaxed))
    }

    /// Whether there is room for more.
    fn push(&self, address: usize) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        let Some(place) = self.addresses.get(count) else { return false };
        place.store(address, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
        count + 1 < FRAMES_MAX
    }
}

/// Where a thread was when a signal came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// The instruction.
    pub(crate) instruction: usize,
    /// The innermost word of its stack.
    pub(crate) stack: usize,
}

impl Place {
    /// Reads what a signal handler is given. Unknown on a machine that this does not know.
    ///
    /// # Safety
    /// `context` is the third argument of a handler with `SA_SIGINFO`, or NULL.
    pub(crate) unsafe fn of(context: *const c_void) -> Place {
        // SAFETY: by the caller's promise.
        let Some(context) = (unsafe { context.cast::<libc::ucontext_t>().as_ref() }) else {
            return Place::default();
        };
        place(context)
    }
}

#[cfg(target_arch = "x86_64")]
fn place(context: &libc::ucontext_t) -> Place {
    let register = |index: i32| context.uc_mcontext.gregs[index as usize] as usize;
    Place { instruction: register(libc::REG_RIP), stack: register(libc::REG_RSP) }
}

#[cfg(target_arch = "aarch64")]
fn place(context: &libc::ucontext_t) -> Place {
    let machine = &context.uc_mcontext;
    Place { instruction: machine.pc as usize, stack: machine.sp as usize }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn place(_: &libc::ucontext_t) -> Place {
    Place::default()
}

/// The frames of this thread, from where the signal came that is being handled, or from here on if
/// `from` is none. The unwinder of the C compiler's runtime keeps no lock and no memory here since
/// glibc 2.35; before that it takes the linker's lock, which is recursive.
pub(crate) fn frames(from: Option<Place>, into: &Frames) {
    into.clear();
    let mut inside = from.is_none();
    let mut passed = 0;
    let each = |frame: &backtrace::Frame| {
        let address = frame.ip() as usize;
        if !inside {
            inside = from.is_some_and(|place| place.instruction == address);
            passed += 1;
            if !inside {
                return passed < OWN_FRAMES_MAX;
            }
            return into.push(address);
        }
        address != 0 && into.push(address - 1)
    };
    // SAFETY: unsynchronised concerns the symbols of that crate, which are not asked for.
    unsafe { backtrace::trace_unsynchronized(each) };
    let Some(place) = from else { return };
    if into.len() == 0 {
        into.push(place.instruction);
    }
    if into.len() == 1 {
        // A jump to nowhere, or code without unwind tables: the callers are still on the stack.
        scan(place.stack, into);
    }
}

/// Where this thread was when a signal came, and what looks like return addresses into plugins on its
/// stack.
pub(crate) fn look(from: Place, into: &Frames) {
    into.clear();
    into.push(from.instruction);
    scan(from.stack, into);
}

/// Adds what looks like return addresses into plugins, from `stack` outwards.
pub(crate) fn scan(stack: usize, into: &Frames) {
    let word = size_of::<usize>();
    let mut words = [0usize; WORDS_AT_ONCE];
    for step in 0..SCANNED_WORDS_MAX / WORDS_AT_ONCE {
        let from = stack.wrapping_add(step * WORDS_AT_ONCE * word);
        let count = read_words(from, &mut words);
        for address in words[..count].iter().filter(|word| is_return_address(**word)) {
            if !into.push(*address - 1) {
                return;
            }
        }
        if count < WORDS_AT_ONCE {
            return;
        }
    }
}

/// Whether the instruction before it is a call, in a plugin.
fn is_return_address(address: usize) -> bool {
    let in_plugin = image::containing(address).is_some_and(|image| image.plugin().is_some());
    in_plugin && follows_a_call(address)
}

#[cfg(target_arch = "x86_64")]
fn follows_a_call(address: usize) -> bool {
    let mut word = [0usize; 1];
    if read_words(address.wrapping_sub(8), &mut word) == 0 {
        return false;
    }
    let before = word[0].to_le_bytes();
    // `call rel32`, and `call r/m64` in its lengths of two, three, six and seven octets.
    let indirect = |at: usize| before[at] == 0xff && before[at + 1] & 0x38 == 0x10;
    before[3] == 0xe8 || [6, 5, 2, 1].into_iter().any(indirect)
}

#[cfg(target_arch = "aarch64")]
fn follows_a_call(address: usize) -> bool {
    let mut word = [0usize; 1];
    if address % 4 != 0 || read_words(address.wrapping_sub(8), &mut word) == 0 {
        return false;
    }
    let instruction = (word[0] >> 32) as u32;
    // BL, and BLR in its kinds.
    instruction >> 26 == 0b100101 || instruction & 0xfeff_f800 == 0xd63f_0000
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn follows_a_call(_: usize) -> bool {
    true
}

/// Copies words of this process, as far as they are there: the system looks, so nothing can fault.
fn read_words(from: usize, into: &mut [usize]) -> usize {
    let size = size_of_val(into);
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: size };
    let remote = libc::iovec { iov_base: from as *mut c_void, iov_len: size };
    // SAFETY: takes nothing.
    let own = unsafe { libc::getpid() };
    // SAFETY: writes into `local` alone, which is as large as it says.
    let read = unsafe { libc::process_vm_readv(own, &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0) / size_of::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_not_read() {
        let mut words = [7; 4];
        assert_eq!(read_words(8, &mut words), 0);
        let there = [1, 2, 3, 4];
        assert_eq!(read_words(there.as_ptr() as usize, &mut words), 4);
        assert_eq!(words, there);
        let frames = Frames::new();
        scan(16, &frames);
        assert_eq!(frames.len(), 0);
    }

    #[test]
    fn the_frames_of_this_thread_lead_to_this_test() {
        image::learn();
        let frames = Frames::new();
        super::frames(None, &frames);
        let own = image::containing(read_words as *const () as usize).map(image::Image::name);
        let named = |address| image::containing(address).map(image::Image::name);
        assert!(frames.iter().filter(|address| named(*address) == own).count() >= 2);
    }

    #[test]
    fn a_list_of_frames_ends_where_its_room_ends() {
        let frames = Frames::new();
        let pushed = (0..FRAMES_MAX + 3).filter(|n| frames.push(*n)).count();
        assert_eq!((pushed, frames.len()), (FRAMES_MAX - 1, FRAMES_MAX));
    }
}
