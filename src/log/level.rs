//! How important a line is.
//!
//! Owns the names of the levels. Diagnostics: none.

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

impl Level {
    /// A number that grows with the level, 0 being below all of them.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Critical => 1,
            Self::Warning => 2,
            Self::Info => 3,
            Self::Debug => 4,
        }
    }

    /// The name that a line begins with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "Critical",
            Self::Warning => "Warning",
            Self::Info => "Info",
            Self::Debug => "Debug",
        }
    }
}
