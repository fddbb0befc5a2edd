//! Where users are written down: `smtp-auth`.
//!
//! Owns how its syntax is a kind of value. It reads no file; `check.rs` has that done.
//!
//! Diagnostics: reasons without the text that they are about, which holds passwords.

use super::kind::{Kind, Reason};
use crate::auth::LoginSource;

/// Sources of users, separated by `,`; may be empty.
pub(super) struct LoginSources;

impl Kind for LoginSources {
    type Value = Vec<LoginSource>;

    fn parse(&self, text: &str) -> Result<Vec<LoginSource>, Reason> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        LoginSource::parse_list(text).map_err(|error| error.to_string().into())
    }

    fn allowed(&self) -> String {
        "`hardcoded://` and `file://` sources separated by `,`, or empty".into()
    }

    fn is_secret(&self) -> bool {
        true
    }
}
