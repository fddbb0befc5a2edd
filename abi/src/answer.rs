//! Answers: what a plugin has an incoming step come to, in place of what the host would say.
//!
//! Owns the vocabulary, and which hook takes which answer. What an answer means on the wire is the
//! host's. Must never know a command of SMTP. Diagnostics: [`Misuse`] for an answer where there is
//! nothing to answer, and for codes that no reply can have.

use crate::hold::Hearing;
use crate::hook::Hook;
use crate::id::ConnectionId;
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;
use crate::state::State;
use crate::token::{Kind, Token};

/// How much of the text of an answer is taken; the rest is cut off. A reply has 32 lines of at most
/// 512 octets.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What a plugin says of a step. The last value before the step ends counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who said so.
    pub plugin: PluginIndex,
    /// What is to become of the step; `None` if it only asked to disconnect.
    pub ruling: Option<Ruling>,
    /// Close the connection after the reply.
    pub disconnect: bool,
}

/// What is to become of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Refuse it for good.
    Reject(Words),
    /// Refuse it for now.
    Defer(Words),
    /// Answer as if it were accepted, and drop it (D-73).
    Discard,
    /// The plugin failed in this step: the administrator has said what that means.
    Fail,
}

/// How a refusal is put. What is `None` is left to the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// 400 to 459 or 500 to 559, of the ruling's class (RFC 5321 4.2).
    pub code: Option<u16>,
    /// Class, subject and detail (RFC 3463), of the same class.
    pub status: Option<[u16; 3]>,
    /// Lines separated by LF, as the plugin gave them but for octets that are no UTF-8.
    pub text: Option<Box<str>>,
}

/// Which kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 4yz
    Temporary,
    /// 5yz
    Permanent,
}

/// What an answer asks for, to be compared with what its hook takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Refuse,
    Discard,
    Disconnect,
    Fail,
}

impl State {
    /// The answer to the step of a connection, or of a message's, to be changed by the plugin whose hook
    /// runs or that holds it. The token is of this worker.
    pub(crate) fn answer(&mut self, token: Token, wish: Wish) -> Result<&mut Answer, Misuse> {
        let plugin = token.plugin();
        let ConnectionId(key) = match token.kind() {
            Kind::Message => self.message(token)?.connection,
            _ => ConnectionId(token.key()),
        };
        let owner = Token::new(Kind::Connection, plugin, self.worker, key);
        self.tell_chain(owner);
        let hearing = self.hearing(owner)?;
        let stale = Misuse::Stale { kind: token.kind().type_name() };
        let connection = self.connections.get_mut(key).ok_or(stale)?;
        if hearing == Hearing::Late {
            return Err(Misuse::Late);
        }
        if !connection.chain.is_at(plugin) {
            return Err(Misuse::NotHeld);
        }
        admit(connection.hook, wish)?;
        let none = || Box::new(Answer { plugin, ruling: None, disconnect: false });
        if hearing == Hearing::AtRelease {
            let said = connection.answer.clone();
            let staged = connection.staged.get_or_insert_default();
            return Ok(staged.answer.get_or_insert_with(|| said.unwrap_or_else(none)));
        }
        Ok(connection.answer.get_or_insert_with(none))
    }
}

/// Whether a step of `hook` takes such an answer.
pub(crate) fn admit(hook: Hook, wish: Wish) -> Result<(), Misuse> {
    let takes = match (wish, hook) {
        (
            Wish::Refuse | Wish::Disconnect,
            Hook::Connect | Hook::Secure | Hook::Helo | Hook::Authenticate,
        ) => true,
        // Another host is tried.
        (Wish::Disconnect, Hook::OutConnect | Hook::OutSecure) => true,
        (
            Wish::Refuse | Wish::Disconnect | Wish::Discard,
            Hook::MailFrom | Hook::RcptTo | Hook::Data | Hook::Message,
        ) => true,
        // RFC 5321 4.1.1.5: RSET is answered 250; only the end of the connection may come instead.
        (Wish::Disconnect, Hook::Reset) => true,
        // A layer that catches exceptions says so wherever it does.
        (Wish::Fail, _) => true,
        (Wish::Refuse | Wish::Disconnect | Wish::Discard, _) => false,
    };
    if takes { Ok(()) } else { Err(Misuse::Unanswerable { hook }) }
}

/// RFC 5321 4.2: a code is a digit for the class, one from 0 to 5, and one; 0 leaves it to the host.
pub(crate) fn code(code: i32, class: Class) -> Result<Option<u16>, Misuse> {
    match (class, code) {
        (_, 0) => Ok(None),
        (Class::Temporary, 400..=459) | (Class::Permanent, 500..=559) => Ok(Some(code as u16)),
        (Class::Temporary, _) => Err(Misuse::Argument("code is neither 0 nor 400 to 459")),
        (Class::Permanent, _) => Err(Misuse::Argument("code is neither 0 nor 500 to 559")),
    }
}

/// RFC 3463 2: `class.subject.detail`, each a number without leading zeros, and the class of the code.
pub(crate) fn status(status: &[u8], class: Class) -> Result<[u16; 3], Misuse> {
    let own = match class {
        Class::Temporary => 4,
        Class::Permanent => 5,
    };
    match parse_status(status) {
        Some(status) if status[0] == own => Ok(status),
        Some(_) | None => Err(Misuse::Argument(match class {
            Class::Temporary => "status is not like 4.7.1",
            Class::Permanent => "status is not like 5.7.1",
        })),
    }
}

fn parse_status(status: &[u8]) -> Option<[u16; 3]> {
    let mut parts = status.split(|byte| *byte == b'.').map(number);
    let parsed = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(parsed)
}

fn number(digits: &[u8]) -> Option<u16> {
    let plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..])
        && digits.len() <= 3
        && digits.iter().all(u8::is_ascii_digit);
    if !plain {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_5321_4_2_codes_are_of_their_class_and_within_it() {
        for (given, class, expected) in [
            (0, Class::Permanent, Some(None)),
            (0, Class::Temporary, Some(None)),
            (550, Class::Permanent, Some(Some(550))),
            (500, Class::Permanent, Some(Some(500))),
            (559, Class::Permanent, Some(Some(559))),
            (560, Class::Permanent, None),
            (499, Class::Permanent, None),
            (250, Class::Permanent, None),
            (450, Class::Permanent, None),
            (421, Class::Temporary, Some(Some(421))),
            (400, Class::Temporary, Some(Some(400))),
            (460, Class::Temporary, None),
            (550, Class::Temporary, None),
            (-1, Class::Temporary, None),
            (i32::MIN, Class::Permanent, None),
            (i32::MAX, Class::Permanent, None),
            // Cut down to 16 bits it would do.
            (65_536 + 550, Class::Permanent, None),
        ] {
            assert_eq!(code(given, class).ok(), expected, "{given} {class:?}");
        }
    }

    #[test]
    fn rfc_3463_2_statuses_are_three_plain_numbers_of_the_class() {
        for (given, class, expected) in [
            ("5.7.1", Class::Permanent, Some([5, 7, 1])),
            ("4.0.0", Class::Temporary, Some([4, 0, 0])),
            ("5.999.999", Class::Permanent, Some([5, 999, 999])),
            ("5.7.1", Class::Temporary, None),
            ("4.7.1", Class::Permanent, None),
            ("2.0.0", Class::Permanent, None),
            ("5.1000.1", Class::Permanent, None),
            ("5.07.1", Class::Permanent, None),
            ("5.7", Class::Permanent, None),
            ("5.7.1.1", Class::Permanent, None),
            ("5.7.1 ", Class::Permanent, None),
            ("5..1", Class::Permanent, None),
            ("+5.7.1", Class::Permanent, None),
            ("", Class::Permanent, None),
        ] {
            assert_eq!(status(given.as_bytes(), class).ok(), expected, "{given} {class:?}");
        }
    }

    #[test]
    fn d_3d_each_hook_takes_what_can_be_said_there() {
        use Wish::{Discard, Disconnect, Fail, Refuse};
        let takes =
            |hook| [Refuse, Discard, Disconnect, Fail].map(|wish| admit(hook, wish).is_ok());
        for hook in [Hook::Connect, Hook::Secure, Hook::Helo, Hook::Authenticate] {
            assert_eq!(takes(hook), [true, false, true, true], "{hook}");
        }
        for hook in [Hook::MailFrom, Hook::RcptTo, Hook::Data, Hook::Message] {
            assert_eq!(takes(hook), [true, true, true, true], "{hook}");
        }
        assert_eq!(takes(Hook::Reset), [false, false, true, true]);
        for hook in [Hook::Close, Hook::OutData, Hook::Lost] {
            assert_eq!(takes(hook), [false, false, false, true], "{hook}");
        }
    }
}
