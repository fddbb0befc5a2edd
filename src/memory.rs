//! Live heap octets, for tests that nothing leaks; counted only where the build asks for it.
//!
//! **Diagnostics**: none.

/// Octets that are allocated now, or `None` in a build without the feature `count-allocations`.
#[cfg(feature = "count-allocations")]
pub fn live_bytes() -> Option<usize> {
    let stats = ALLOCATOR.stats();
    Some(stats.bytes_allocated.saturating_sub(stats.bytes_deallocated))
}

/// Octets that are allocated now, or `None` in a build without the feature `count-allocations`.
#[cfg(not(feature = "count-allocations"))]
pub fn live_bytes() -> Option<usize> {
    None
}

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: stats_alloc::StatsAlloc<std::alloc::System> = stats_alloc::StatsAlloc::system();
