//! What becomes of a step that a plugin failed: it held it too long (D-27), or said so itself.
//!
//! Owns the one place where the policy of the settings (`plugin-failure`) meets a hook. Must never
//! grant anything: a step that goes on does so as if the plugin had said Continue, so a login that
//! nobody judged is still judged by `smtp-auth`, and refused if nobody does.
//!
//! **Diagnostics**: none; whoever takes the step back says why.

use rohrpost_abi::Hook;

use crate::smtp::{Fixed, answer};

/// The setting `plugin-failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The client is to try again later; a mail that goes out is tried again.
    Tempfail,
    /// The step goes on with the next plugin.
    Accept,
    /// What the step is about is refused for good; a mail that goes out fails.
    Reject,
}

impl OnFailure {
    /// What the client of a failed step is told; `None`: the step goes on with the next plugin.
    ///
    /// Before the greeting and right after a handshake there is no command to answer: such a reply is
    /// the last of its connection (RFC 5321 3.1, 3.8). AUTH has replies of its own (RFC 4954 6).
    pub fn reply(self, hook: Hook) -> Option<Fixed> {
        let unasked = matches!(hook, Hook::Connect | Hook::Secure);
        let login = hook == Hook::Authenticate;
        match self {
            OnFailure::Accept => None,
            OnFailure::Tempfail if unasked => Some(answer::PLUGIN_TIMEOUT),
            OnFailure::Tempfail if login => Some(answer::LOGIN_LATER),
            OnFailure::Tempfail => Some(answer::LOCAL_ERROR),
            OnFailure::Reject if login => Some(answer::LOGIN_REFUSED),
            OnFailure::Reject => Some(answer::PLUGIN_FAILED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_27_a_failed_step_is_answered_as_the_settings_say() {
        let code = |policy: OnFailure, hook| {
            let reply = policy.reply(hook);
            reply.map(|reply| String::from_utf8_lossy(reply.as_bytes()).into_owned())
        };
        let rows = [
            (Hook::Connect, "421 4.3.0", "554 5.3.0"),
            (Hook::Secure, "421 4.3.0", "554 5.3.0"),
            (Hook::Authenticate, "454 4.7.0", "535 5.7.8"),
            (Hook::MailFrom, "451 4.3.0", "554 5.3.0"),
            (Hook::RcptTo, "451 4.3.0", "554 5.3.0"),
            (Hook::Data, "451 4.3.0", "554 5.3.0"),
            (Hook::Message, "451 4.3.0", "554 5.3.0"),
        ];
        for (hook, later, never) in rows {
            assert!(code(OnFailure::Tempfail, hook).is_some_and(|text| text.starts_with(later)));
            assert!(code(OnFailure::Reject, hook).is_some_and(|text| text.starts_with(never)));
            assert_eq!(code(OnFailure::Accept, hook), None, "{hook}");
        }
    }
}
