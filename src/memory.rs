//! Live heap octets, for tests that nothing leaks, and allocations, for tests of what a message costs; counted
//! only where the build asks for it.
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

/// Allocations so far, each block that was made larger or smaller counted again, or `None` in a build
/// without the feature `count-allocations`.
#[cfg(feature = "count-allocations")]
pub fn allocations() -> Option<usize> {
    let stats = ALLOCATOR.stats();
    Some(stats.allocations + stats.reallocations)
}

/// Allocations so far, or `None` in a build without the feature `count-allocations`.
#[cfg(not(feature = "count-allocations"))]
pub fn allocations() -> Option<usize> {
    None
}

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: stats_alloc::StatsAlloc<std::alloc::System> = stats_alloc::StatsAlloc::system();
