//! Placeholder replaced by the crate's map.
