//! Hooks and sites: the names of the places where plugin code runs.
//!
//! Owns the list and each hook's symbol. Must never know a prototype (those belong to a generation,
//! see `hooks`). Diagnostics: none.

use std::ffi::CStr;
use std::fmt;

/// A function that a plugin may export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hook {
    /// `mq_version`, the only one that every plugin has.
    Version,
    /// `mq_initialize`
    Initialize,
    /// `mq_cleanup`
    Cleanup,
    /// `mq_context_initialize`
    ContextInitialize,
    /// `mq_context_cleanup`
    ContextCleanup,
    /// `mq_smtp_in_connect`
    Connect,
    /// `mq_smtp_in_secure`
    Secure,
    /// `mq_smtp_in_authenticate`
    Authenticate,
    /// `mq_smtp_in_mailfrom`
    MailFrom,
    /// `mq_smtp_in_rcptto`
    RcptTo,
    /// `mq_smtp_in_data`
    Data,
    /// `mq_smtp_in_message`
    Message,
    /// `mq_smtp_in_close`
    Close,
    /// `mq_smtp_out_data`
    OutData,
    /// `mq_smtp_out_sent`, of G2 and later
    OutSent,
    /// `mqx_smtp_in_helo`
    Helo,
    /// `mqx_smtp_in_reset`
    Reset,
    /// `mqx_smtp_lost` (D-4B)
    Lost,
    /// `mqx_smtp_out_connect`
    OutConnect,
    /// `mqx_smtp_out_secure`
    OutSecure,
    /// `mqx_smtp_out_message`
    OutMessage,
    /// `mqx_smtp_out_result`
    OutResult,
    /// `mqx_smtp_out_close` (D-84)
    OutClose,
    /// `mqx_initialize`
    PluginInitialize,
    /// `mqx_reload`
    Reload,
}

impl Hook {
    /// Every hook, in the order of their numbers.
    pub const ALL: [Hook; 25] = [
        Hook::Version,
        Hook::Initialize,
        Hook::Cleanup,
        Hook::ContextInitialize,
        Hook::ContextCleanup,
        Hook::Connect,
        Hook::Secure,
        Hook::Authenticate,
        Hook::MailFrom,
        Hook::RcptTo,
        Hook::Data,
        Hook::Message,
        Hook::Close,
        Hook::OutData,
        Hook::OutSent,
        Hook::Helo,
        Hook::Reset,
        Hook::Lost,
        Hook::OutConnect,
        Hook::OutSecure,
        Hook::OutMessage,
        Hook::OutResult,
        Hook::OutClose,
        Hook::PluginInitialize,
        Hook::Reload,
    ];

    /// The exported name.
    pub fn name(self) -> &'static str {
        self.symbol().to_str().expect("symbols are ASCII")
    }

    pub(crate) const fn symbol(self) -> &'static CStr {
        match self {
            Hook::Version => c"mq_version",
            Hook::Initialize => c"mq_initialize",
            Hook::Cleanup => c"mq_cleanup",
            Hook::ContextInitialize => c"mq_context_initialize",
            Hook::ContextCleanup => c"mq_context_cleanup",
            Hook::Connect => c"mq_smtp_in_connect",
            Hook::Secure => c"mq_smtp_in_secure",
            Hook::Authenticate => c"mq_smtp_in_authenticate",
            Hook::MailFrom => c"mq_smtp_in_mailfrom",
            Hook::RcptTo => c"mq_smtp_in_rcptto",
            Hook::Data => c"mq_smtp_in_data",
            Hook::Message => c"mq_smtp_in_message",
            Hook::Close => c"mq_smtp_in_close",
            Hook::OutData => c"mq_smtp_out_data",
            Hook::OutSent => c"mq_smtp_out_sent",
            Hook::Helo => c"mqx_smtp_in_helo",
            Hook::Reset => c"mqx_smtp_in_reset",
            Hook::Lost => c"mqx_smtp_lost",
            Hook::OutConnect => c"mqx_smtp_out_connect",
            Hook::OutSecure => c"mqx_smtp_out_secure",
            Hook::OutMessage => c"mqx_smtp_out_message",
            Hook::OutResult => c"mqx_smtp_out_result",
            Hook::OutClose => c"mqx_smtp_out_close",
            Hook::PluginInitialize => c"mqx_initialize",
            Hook::Reload => c"mqx_reload",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where plugin code runs: in a hook, or in a callback that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// One of its hooks.
    Hook(Hook),
    /// The callback of a timer.
    Timer,
    /// The callback of a watch.
    Watch,
    /// What runs while its file is loaded: constructors.
    Load,
    /// Callbacks that libev calls (`MQ_ev`).
    Libev,
    /// The same, where several plugins share the loop: the plugin named with this is one of them.
    LibevShared,
    /// A callback that was posted (`MQX_post`).
    Post,
    /// The callback of a query to name servers (`MQX_resolve`).
    Query,
    /// The callback of a hold whose time is over.
    Hold,
}

impl Site {
    const TIMER: u8 = Hook::ALL.len() as u8;
    const WATCH: u8 = Site::TIMER + 1;
    const LOAD: u8 = Site::WATCH + 1;
    const LIBEV: u8 = Site::TIMER + 3;
    const LIBEV_SHARED: u8 = Site::TIMER + 4;
    const POST: u8 = Site::TIMER + 5;
    const QUERY: u8 = Site::TIMER + 6;
    const HOLD: u8 = Site::TIMER + 7;

    pub(crate) const fn code(self) -> u8 {
        match self {
            Site::Hook(hook) => hook as u8,
            Site::Timer => Site::TIMER,
            Site::Watch => Site::WATCH,
            Site::Load => Site::LOAD,
            Site::Libev => Site::LIBEV,
            Site::LibevShared => Site::LIBEV_SHARED,
            Site::Post => Site::POST,
            Site::Query => Site::QUERY,
            Site::Hold => Site::HOLD,
        }
    }

    /// The inverse of [`Site::code`]; a number that it never gives is taken for a watch.
    pub(crate) fn from_code(code: u8) -> Site {
        match Hook::ALL.get(usize::from(code)) {
            Some(hook) => Site::Hook(*hook),
            None => match code {
                Site::TIMER => Site::Timer,
                Site::LIBEV => Site::Libev,
                Site::LIBEV_SHARED => Site::LibevShared,
                Site::POST => Site::Post,
                Site::QUERY => Site::Query,
                Site::LOAD => Site::Load,
                Site::HOLD => Site::Hold,
                _ => Site::Watch,
            },
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Hook(hook) => hook.fmt(f),
            Site::Timer => f.write_str("a timer callback"),
            Site::Watch => f.write_str("a watch callback"),
            Site::Load => f.write_str("its constructors"),
            Site::Libev => f.write_str("a libev callback"),
            Site::LibevShared => {
                f.write_str("a libev callback (this plugin's, or another's that shares the loop)")
            }
            Site::Post => f.write_str("a posted callback"),
            Site::Query => f.write_str("a query callback"),
            Site::Hold => f.write_str("the callback of a hold"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        let hooks = Hook::ALL.into_iter().map(Site::Hook);
        let callbacks = [
            Site::Timer,
            Site::Watch,
            Site::Load,
            Site::Libev,
            Site::LibevShared,
            Site::Post,
            Site::Query,
            Site::Hold,
        ];
        for (code, site) in hooks.chain(callbacks).enumerate() {
            assert_eq!(usize::from(site.code()), code);
            assert_eq!(Site::from_code(site.code()), site);
        }
    }
}
