//! The application log.
//!
//! Owns the levels. Diagnostics: none yet.

/// How important a line is; the most important compares lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Somebody must act.
    Critical,
    /// Somebody should look.
    Warning,
    /// What happened.
    Info,
    /// What happened, in detail.
    Debug,
}
