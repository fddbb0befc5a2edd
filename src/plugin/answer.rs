//! What a plugin says of an incoming step, as a reply of SMTP.
//!
//! Owns what is said where the plugin leaves it open. Must never let a text of a plugin forge a reply:
//! [`Reply`] sees to that.
//!
//! **Diagnostics**: none.

use rohrpost_abi::{Hook, Words};

use crate::smtp::{EnhancedStatus, Fixed, Reply, answer};

/// Whether a refusal is for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// 4yz
    ForNow,
    /// 5yz
    ForGood,
}

/// The reply to a step that a plugin refuses; `utf8` if its client takes replies in UTF-8 (RFC 6531).
pub fn reply(hook: Hook, lasting: Lasting, words: Words, utf8: bool) -> Reply {
    let unsaid = Reply::from(unsaid(hook, lasting));
    let status = match words.status {
        Some([class, subject, detail]) => {
            u8::try_from(class).ok().and_then(|class| EnhancedStatus::new(class, subject, detail))
        }
        None => unsaid.status(),
    };
    let text = words.text.map_or_else(|| unsaid.text().to_owned(), String::from);
    // The interface has checked that codes are of their class.
    let reply = Reply::new(words.code.unwrap_or(unsaid.code()), status, text).unwrap_or(unsaid);
    if utf8 { reply.in_utf8() } else { reply }
}

/// What is said if the plugin says nothing.
fn unsaid(hook: Hook, lasting: Lasting) -> Fixed {
    use Lasting::{ForGood, ForNow};
    match (hook, lasting) {
        (Hook::Connect | Hook::Secure, ForGood) => answer::CONNECTION_REJECTED,
        (Hook::Connect | Hook::Secure, ForNow) => answer::CONNECTION_DEFERRED,
        (Hook::Helo, ForGood) => answer::HELLO_REJECTED,
        (Hook::Helo, ForNow) => answer::HELLO_DEFERRED,
        (Hook::Authenticate, ForGood) => answer::LOGIN_REFUSED,
        (Hook::Authenticate, ForNow) => answer::LOGIN_LATER,
        (Hook::MailFrom, ForGood) => answer::SENDER_REJECTED,
        (Hook::MailFrom, ForNow) => answer::SENDER_DEFERRED,
        (Hook::RcptTo, ForGood) => answer::RECIPIENT_REJECTED,
        (Hook::RcptTo, ForNow) => answer::RECIPIENT_DEFERRED,
        (_, ForGood) => answer::MESSAGE_REJECTED,
        (_, ForNow) => answer::MESSAGE_DEFERRED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(code: Option<u16>, status: Option<[u16; 3]>, text: Option<&str>) -> Words {
        Words { code, status, text: text.map(Into::into) }
    }

    #[test]
    fn d_3d_what_a_plugin_leaves_open_is_said_for_it() {
        use Lasting::{ForGood, ForNow};
        for (lasting, words, expected) in [
            (ForGood, words(None, None, None), "550 5.7.1 This recipient is not accepted"),
            (
                ForNow,
                words(None, None, None),
                "451 4.7.1 This recipient is not accepted now; try again later",
            ),
            (ForGood, words(Some(552), None, Some("Full")), "552 5.7.1 Full"),
            (
                ForNow,
                words(Some(450), Some([4, 2, 0]), Some("Wait\nlonger")),
                "450 4.2.0 Wait / longer",
            ),
            (ForGood, words(None, Some([5, 1, 1]), Some("")), "550 5.1.1 "),
        ] {
            let said = reply(Hook::RcptTo, lasting, words.clone(), false);
            assert_eq!(said.to_string(), expected, "{words:?}");
        }
    }

    #[test]
    fn d_3d_every_hook_has_a_reply_of_its_own_class() {
        for hook in Hook::ALL {
            for (lasting, class) in [(Lasting::ForNow, 4), (Lasting::ForGood, 5)] {
                let said = reply(hook, lasting, Words::default(), false);
                assert_eq!(said.code() / 100, class, "{hook}: {said}");
            }
        }
    }
}
