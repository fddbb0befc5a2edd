//! What the C library's allocator does with memory that came free.
//!
//! Here because it takes `unsafe`, and because plugins allocate from it too. By itself it gives a large block
//! back to the system as soon as it is free, or at the latest a few of them, and takes new ones that the kernel
//! has to clear: for texts of 100 KiB that is nearly half of a server's time.
//!
//! Must never: fail a start; a library that takes no advice works as it does by default.
//!
//! **Diagnostics**: none.

/// Smaller blocks come from memory that is used again, larger ones from the system each time.
#[cfg(target_env = "gnu")]
const BLOCK_OCTETS_MAX: libc::c_int = 4 << 20;
/// Each of its arenas, about one a thread, keeps so much of what came free at its end.
#[cfg(target_env = "gnu")]
const KEPT_OCTETS_MAX: libc::c_int = 32 << 20;
/// An arena grows by so much: a system call for each page or two would be more than the page costs.
#[cfg(target_env = "gnu")]
const GROWTH_OCTETS: libc::c_int = 256 << 10;

/// Has the allocator keep what came free, for the next message. To be called once, before other threads.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    for (what, octets) in [
        (libc::M_MMAP_THRESHOLD, BLOCK_OCTETS_MAX),
        (libc::M_TRIM_THRESHOLD, KEPT_OCTETS_MAX),
        (libc::M_TOP_PAD, GROWTH_OCTETS),
    ] {
        // SAFETY: it takes two numbers and changes how the allocator behaves from now on; no other thread runs.
        unsafe { libc::mallopt(what, octets) };
    }
}
