//! Misuse: what a plugin can do wrong with a call, how it is counted, and how often it is said.
//!
//! Owns the sentences and the limit on them. Must never fail a mail because of one. Diagnostics: a
//! warning per misuse that names the plugin, at most [`LINES_PER_SECOND_MAX`] a second and plugin; how
//! many were left out is said with the next one (D-05).

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use thiserror::Error;

use crate::hook::Hook;
use crate::host::{self, Level};
use crate::plugin::PluginIndex;

/// How many lines about misuse one plugin gets in a second.
pub(crate) const LINES_PER_SECOND_MAX: u64 = 10;

/// Why a call of a plugin did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Misuse {
    #[error("{expected} is NULL")]
    Null { expected: &'static str },
    #[error("the pointer given as {expected} is none that this host gave out")]
    NotOurs { expected: &'static str },
    #[error("a pointer to {found} was given where {expected} is asked for")]
    WrongKind { expected: &'static str, found: &'static str },
    #[error("the {kind} given belongs to another plugin")]
    Foreign { kind: &'static str },
    #[error(
        "called on a thread that does not own the {kind}; only hand-backs, MQX_post and MQ_log may be"
    )]
    WrongThread { kind: &'static str },
    #[error("the {kind} given no longer exists")]
    Stale { kind: &'static str },
    #[error("the pointer given as MQ_Address is none, or the step that showed it is over")]
    AddressGone,
    #[error("the timer given has fired or was stopped")]
    TimerGone,
    #[error("control was handed back already; the first hand-back counts")]
    Doubled,
    #[error("this plugin is not in control of that step; ignored")]
    NotHeld,
    #[error(
        "the step was held too long and taken back; what this plugin says about the connection counts \
         again once it has handed back"
    )]
    Late,
    #[error(
        "the context given names no connection, so nothing can be handed back with it; \
         use the context that was passed to the hook that took control"
    )]
    BareContext,
    #[error(
        "nothing can be decided of this message now: only in mqx_smtp_out_message, mq_smtp_out_data and \
         mqx_smtp_out_result, or while one of them is held; never if the peer took it, and MQX_retryAt \
         alone if the peer may have it"
    )]
    Undecidable,
    #[error("{hook} takes no such answer; nothing is changed")]
    Unanswerable { hook: Hook },
    #[error("{0}")]
    Argument(&'static str),
    #[error("{limit} {kind} exist on this worker, which is the limit")]
    Exhausted { kind: &'static str, limit: usize },
    #[error("one callback asked for more than {limit} things")]
    TooMuch { limit: usize },
}

impl Misuse {
    fn level(self) -> Level {
        match self {
            // D-90: racing with a timer is common, and harmless here.
            Misuse::TimerGone => Level::Debug,
            Misuse::BareContext => Level::Critical,
            Misuse::Null { .. }
            | Misuse::NotOurs { .. }
            | Misuse::WrongKind { .. }
            | Misuse::Foreign { .. }
            | Misuse::WrongThread { .. }
            | Misuse::Stale { .. }
            | Misuse::AddressGone
            | Misuse::Doubled
            | Misuse::NotHeld
            | Misuse::Late
            | Misuse::Undecidable
            | Misuse::Unanswerable { .. }
            | Misuse::Argument(_)
            | Misuse::Exhausted { .. }
            | Misuse::TooMuch { .. } => Level::Warning,
        }
    }
}

/// A misuse and the plugin that it is laid to, if one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) plugin: Option<PluginIndex>,
    pub(crate) misuse: Misuse,
}

/// Counts a misuse of `function` and says so, within the limit.
#[cold]
pub(crate) fn report(function: &'static str, refusal: Refusal) {
    let Refusal { plugin, misuse } = refusal;
    let Some(host) = host::installed() else {
        // Before `mq_initialize` there is nobody to count for.
        return host::log(misuse.level(), plugin, &format!("{function}: {misuse}"));
    };
    let meter = host.meter(plugin);
    meter.count.fetch_add(1, Ordering::Relaxed);
    if misuse == Misuse::BareContext && !meter.first(Once::BareContext) {
        return;
    }
    say(host, misuse.level(), plugin, format_args!("{function}: {misuse}"));
}

/// Says what a plugin can provoke without end, within the limit.
pub(crate) fn say(
    host: &host::Host,
    level: Level,
    plugin: Option<PluginIndex>,
    text: fmt::Arguments<'_>,
) {
    match host.meter(plugin).limiter.admit(host.uptime_s()) {
        Admission::Suppressed => {}
        Admission::Said { left_out: 0 } => host::log(level, plugin, &text.to_string()),
        Admission::Said { left_out } => {
            let text = format!("{text} ({left_out} more such lines were left out)");
            host::log(level, plugin, &text);
        }
    }
}

/// What is said once per plugin.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Once {
    /// D-11
    BareContext = 1,
    /// D-21
    VerdictThenFalse = 2,
    /// `MQ_Json`
    Json = 4,
    /// `MQ_ev`
    Libev = 8,
    /// `MQX_hold`
    HoldThenFalse = 16,
}

/// One plugin's account.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) count: AtomicU64,
    limiter: Limiter,
    said: AtomicU8,
}

impl Meter {
    /// True the first time.
    pub(crate) fn first(&self, once: Once) -> bool {
        self.said.fetch_or(once as u8, Ordering::Relaxed) & once as u8 == 0
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Said { left_out: u64 },
    Suppressed,
}

/// At most [`LINES_PER_SECOND_MAX`] lines in each second. Shared by threads; under a race a line more
/// or less may pass, which does not matter here.
#[derive(Debug, Default)]
struct Limiter {
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
}

impl Limiter {
    fn admit(&self, now_s: u64) -> Admission {
        if self.second.swap(now_s, Ordering::Relaxed) != now_s {
            self.lines.store(0, Ordering::Relaxed);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND_MAX {
            Admission::Said { left_out: self.left_out.swap(0, Ordering::Relaxed) }
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            Admission::Suppressed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_05_ten_lines_a_second_then_a_count_of_the_rest() {
        let limiter = Limiter::default();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(limiter.admit(7), Admission::Said { left_out: 0 });
        }
        for _ in 0..1_000 {
            assert_eq!(limiter.admit(7), Admission::Suppressed);
        }
        assert_eq!(limiter.admit(8), Admission::Said { left_out: 1_000 });
        assert_eq!(limiter.admit(8), Admission::Said { left_out: 0 });
    }

    #[test]
    fn the_first_second_is_limited_as_well() {
        let limiter = Limiter::default();
        let said = (0..100).filter(|_| limiter.admit(0) != Admission::Suppressed).count();
        assert_eq!(said as u64, LINES_PER_SECOND_MAX);
    }

    #[test]
    fn once_is_once_for_each_thing() {
        let meter = Meter::default();
        assert!(meter.first(Once::Json));
        assert!(meter.first(Once::Libev));
        assert!(!meter.first(Once::Json));
    }
}
