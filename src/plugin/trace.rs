//! The trace of plugins: a line of the log for every call of a hook or callback, and every hand-back.
//!
//! For authors (`plugin-trace`, `rohrpost plugin test`). Must never: cost more than one test where it
//! is off.
//!
//! **Diagnostics**: this is one; its lines belong to the part `trace` of the log.

use std::fmt;

use rohrpost_abi::{Hook, Returned};

use super::chain::Verdict;
use crate::log::Log;

/// The part of the log.
const PART: &str = "trace";

/// Whether there is a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// None.
    Off,
    /// All calls.
    On,
}

impl Trace {
    /// A hook has returned.
    #[inline]
    pub fn called(
        self,
        log: &Log,
        plugin: impl FnOnce() -> &'static str,
        hook: Hook,
        returned: Returned,
    ) {
        if self == Trace::On {
            log.info(PART, format_args!("{} {hook} {}", plugin(), Outcome(returned)));
        }
    }

    /// A hook was not called: its plugin owes a hand-back (D-28).
    pub fn passed_over(self, log: &Log, plugin: &'static str, hook: Hook) {
        if self == Trace::On {
            let text = format_args!("passed over {plugin} {hook} (owes a hand-back)");
            log.info(PART, text);
        }
    }

    /// A step was handed back after its hook had returned.
    #[inline]
    pub fn handed_back(self, log: &Log, verdict: Verdict) {
        if self == Trace::On {
            log.info(PART, format_args!("back {}", word(verdict)));
        }
    }

    /// A callback was to be called; whether it was there still.
    #[inline]
    pub fn called_back(self, log: &Log, what: &'static str, ran: bool) {
        if self == Trace::On && ran {
            log.info(PART, format_args!("callback {what}"));
        }
    }
}

/// What a hook came to, in one word.
struct Outcome(Returned);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.0.verdict, self.0.took_control) {
            (Some(verdict), _) => word(verdict.into()),
            (None, true) => "held",
            (None, false) => "false",
        })
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Continue => "continue",
        Verdict::Complete => "complete",
        Verdict::Retry => "retry",
    }
}
