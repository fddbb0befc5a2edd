//! Failure: a plugin could not do what it was asked. Must never: end anything but one step.
//!
//! Diagnostics: its text goes to the log, as a warning.

use std::fmt;

/// What a hook comes to. `Ok`: the step goes on, unless it is held or was answered.
pub type Outcome = Result<(), Failure>;

/// Why a step failed; the server's `plugin-failure` says what the client hears. Made of any error by `?`.
pub struct Failure(Box<str>);

impl Failure {
    /// A failure for this reason.
    pub fn new(reason: impl fmt::Display) -> Failure {
        Failure(reason.to_string().into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
