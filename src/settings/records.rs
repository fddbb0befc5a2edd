//! The settings of the send log and the received log.
//!
//! Owns names, defaults and meanings. Never opens a file.
//!
//! Diagnostics: a form that is not understood is refused with its reason.

use std::path::PathBuf;

use super::key::{Key, Preset, change, section};
use super::kind::{AbsolutePath, Kind, Optional, Reason};
use super::load::Values;
use crate::logbook::{Page, Subject, Template};

section! {
    /// The logs of mail that came in and of attempts to deliver.
    Records, "Send log and received log" {
        /// The file that gets a line for each attempt to deliver; empty for none. MailerQ's default is
        /// `send.log` in its working directory, ours is none.
        "send-log-file" sent_file: Option<PathBuf> = Preset::Text(""), Optional(AbsolutePath);

        /// The form of its lines, with MailerQ's variables: `{$email.…}`, `{$result.…}`,
        /// `{$attempt}`, `{$date}`, `{$time}`, and `{if $x}…{else}…{/if}`.
        "send-log-format" sent_form: Template = Preset::Text(Subject::Sent.shipped()),
            Form(Subject::Sent);

        /// The file that gets a line for each mail (one a recipient) that came in over SMTP; empty
        /// for none. It may be the same as the other.
        "received-log-file" received_file: Option<PathBuf> = Preset::Text(""), Optional(AbsolutePath);

        /// The form of its lines: `{$json.…}`, `{$date}`, `{$time}` and `{$report}`, which is empty.
        "received-log-format" received_form: Template =
            Preset::Text(Subject::Received.shipped()), Form(Subject::Received);
    }
}

impl Records {
    /// The send log, if it is kept.
    pub fn sent(&self) -> Option<Page> {
        let path = self.sent_file.clone()?;
        Some(Page { path, template: self.sent_form.clone() })
    }

    /// The received log, if it is kept.
    pub fn received(&self) -> Option<Page> {
        let path = self.received_file.clone()?;
        Some(Page { path, template: self.received_form.clone() })
    }
}

/// The form of a line.
struct Form(Subject);

impl Kind for Form {
    type Value = Template;

    fn parse(&self, text: &str) -> Result<Template, Reason> {
        Template::parse(text, self.0).map_err(|error| error.to_string().into())
    }

    fn allowed(&self) -> String {
        "a text with variables in braces".into()
    }
}
