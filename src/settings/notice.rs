//! The settings of notices to senders.
//!
//! Owns names, defaults and meanings, and how wishes for notices are written in a file.
//!
//! Diagnostics: refusals name the word that is wrong.

use std::time::Duration;

use super::key::{Key, Preset, change, section};
use super::kind::{Choice, DAY_S, Kind, Reason, Time};
use super::load::Values;
use crate::smtp::dsn::{Notify, Ret};

section! {
    /// Telling senders what became of their mail.
    Notices, "Notices" {
        /// Whether DSN (RFC 3461) is offered to clients, who may then ask for notices mail by mail.
        "dsn-advertise" advertise: bool = Preset::Text("yes"), Switch, live;

        /// What senders hear of mail that asks for nothing itself: `FAILURE` that it will not arrive,
        /// `DELAY` that it takes longer than dsn-delay, `SUCCESS` that it went to a server that will not
        /// tell.
        "dsn-notify" notify: Notify = Preset::Text("FAILURE"), NotifyWords, live;

        /// What comes back with a notice where the mail does not ask for either: its header, or all
        /// of it up to 256 KiB.
        "dsn-ret" ret: Ret = Preset::Text("HDRS"),
            Choice(&[("HDRS", Ret::Headers), ("FULL", Ret::Full)]), live;

        /// The age at which a mail that keeps failing for now is late; its sender hears of it once.
        "dsn-delay" delay: Duration = Preset::Text("4h"), Time::seconds(1, 30 * DAY_S), live;
    }
}

/// Yes or no, in all the words that files of MailerQ use.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, Reason> {
        let is = |words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match text {
            _ if is(["yes", "true", "1"]) => Ok(true),
            _ if is(["no", "false", "0"]) => Ok(false),
            _ => Err("is neither yes nor no".into()),
        }
    }

    fn allowed(&self) -> String {
        "`yes` or `no`; `true`, `false`, `1` and `0` mean the same".into()
    }
}

/// `NEVER`, or some of the others.
struct NotifyWords;

impl Kind for NotifyWords {
    type Value = Notify;

    fn parse(&self, text: &str) -> Result<Notify, Reason> {
        // MailerQ's documentation has blanks behind the commas.
        let packed: Vec<&str> = text.split(',').map(str::trim).collect();
        let notify = Notify::parse(packed.join(",").as_bytes());
        notify.ok_or("is neither NEVER nor a list of the others".into())
    }

    fn allowed(&self) -> String {
        "`NEVER`, or some of `SUCCESS`, `FAILURE`, `DELAY` separated by `,`".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_words_with_or_without_blanks() {
        let both = Notify { success: true, failure: true, delay: false };
        assert_eq!(NotifyWords.parse("SUCCESS, FAILURE"), Ok(both));
        assert_eq!(NotifyWords.parse("success,failure"), Ok(both));
        assert_eq!(NotifyWords.parse("never"), Ok(Notify::NEVER));
        for wrong in ["", "ALWAYS", "NEVER,DELAY", "SUCCESS FAILURE"] {
            assert!(NotifyWords.parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_switch_knows_the_words_of_old_files() {
        for (text, expected) in
            [("yes", true), ("1", true), ("True", true), ("no", false), ("0", false)]
        {
            assert_eq!(Switch.parse(text), Ok(expected), "{text}");
        }
        assert!(Switch.parse("maybe").is_err());
    }
}
