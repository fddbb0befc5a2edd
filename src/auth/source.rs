//! What `smtp-auth` names: the places where users are written down.
//!
//! Owns the syntax of the setting's value. It opens nothing.
//!
//! Must never: put a password into what it says about a value that is wrong.
//!
//! **Diagnostics**: [`SourceError`], the end of a sentence about the setting.

use std::path::{Path, PathBuf};

use crate::smtp::sasl::{LOGIN_BYTES_MAX, Secret};

/// Users and their passwords, or a file of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginSource {
    /// `hardcoded://user:password,user:password`.
    Hardcoded(Vec<(Box<str>, Secret)>),
    /// `file:///path`, with a line `user:hash` for each.
    File(PathBuf),
}

/// Why a text names no source. Never quotes it: a part of it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It does not begin with a known word and `://`.
    #[error("begins with neither hardcoded:// nor file://")]
    Form,
    /// One of MailerQ's backends that are not here.
    #[error("names a backend of the kind {0}, which is not supported: use hardcoded:// or file://")]
    Unsupported(&'static str),
    /// `hardcoded://` without a user, or with one that has no password.
    #[error("has an item behind hardcoded:// that is not a user, a colon and a password")]
    Pair,
    /// A name that could never log in.
    #[error(
        "names a user that is longer than {LOGIN_BYTES_MAX} octets or holds control characters"
    )]
    Name,
    /// `file://` with something else than an absolute path behind it.
    #[error("has no absolute path behind file://, as in file:///etc/rohrpost/users.txt")]
    Path,
    /// More than anybody writes.
    #[error("names more than {SOURCES_MAX} backends")]
    Many,
}

/// How many backends one setting may name.
const SOURCES_MAX: usize = 16;

/// MailerQ's other backends.
const UNSUPPORTED: &[&str] = &["ldap", "radius", "users", "http", "https", "exec"];

impl LoginSource {
    /// Reads a list: items are separated by `,`, and one that does not begin with `word://` belongs to
    /// the one before it, so that users behind `hardcoded://` can be several.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_list(text: &str) -> Result<Vec<LoginSource>, SourceError> {
        let mut sources: Vec<LoginSource> = Vec::new();
        for item in text.split(',').map(str::trim) {
            match (scheme(item), sources.last_mut()) {
                (Some(("hardcoded", rest)), _) => {
                    sources.push(LoginSource::Hardcoded(vec![pair(rest)?]));
                }
                (Some(("file", rest)), _) => {
                    let path = Path::new(rest);
                    if !path.is_absolute() {
                        return Err(SourceError::Path);
                    }
                    sources.push(LoginSource::File(path.into()));
                }
                (Some((word, _)), _) => {
                    let known = UNSUPPORTED.iter().find(|known| **known == word);
                    return Err(
                        known.map_or(SourceError::Form, |known| SourceError::Unsupported(known))
                    );
                }
                (None, Some(LoginSource::Hardcoded(users))) => users.push(pair(item)?),
                (None, Some(LoginSource::File(_)) | None) => return Err(SourceError::Form),
            }
            if sources.len() > SOURCES_MAX {
                return Err(SourceError::Many);
            }
        }
        Ok(sources)
    }
}

/// `word://rest`. A colon in a password is no end of a word, as it comes behind a user.
fn scheme(item: &str) -> Option<(&str, &str)> {
    let (word, rest) = item.split_once("://")?;
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    plain.then_some((word, rest))
}

fn pair(item: &str) -> Result<(Box<str>, Secret), SourceError> {
    let (user, password) = item.split_once(':').ok_or(SourceError::Pair)?;
    if user.is_empty() || password.is_empty() {
        return Err(SourceError::Pair);
    }
    if !is_name(user) {
        return Err(SourceError::Name);
    }
    Ok((user.into(), Secret::copy_from(password.as_bytes())))
}

/// Whether a client could ever give this name (see [`crate::smtp::sasl::Credentials`]).
pub(super) fn is_name(user: &str) -> bool {
    (1..=LOGIN_BYTES_MAX).contains(&user.len()) && !user.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_separated_by_commas_and_so_are_users() {
        let text = "hardcoded://a:b, c:d:e://f,file:///users.txt,hardcoded://g://h";
        let hardcoded = |pairs: &[(&str, &str)]| {
            let secret = |(user, password): &(&str, &str)| {
                ((*user).into(), Secret::copy_from(password.as_bytes()))
            };
            LoginSource::Hardcoded(pairs.iter().map(secret).collect())
        };
        assert_eq!(
            LoginSource::parse_list(text).unwrap(),
            [
                hardcoded(&[("a", "b"), ("c", "d:e://f")]),
                LoginSource::File("/users.txt".into()),
                hardcoded(&[("g", "//h")]),
            ]
        );
        assert!(
            !format!("{:?}", LoginSource::parse_list("hardcoded://a:geheim")).contains("geheim")
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_what_it_was() {
        use SourceError::{Form, Many, Name, Pair, Path, Unsupported};
        let most = vec!["file:///a"; SOURCES_MAX].join(",");
        assert_eq!(LoginSource::parse_list(&most).map(|sources| sources.len()), Ok(SOURCES_MAX));
        let many = format!("{most},file:///a");
        let long = format!("hardcoded://{}:b", "a".repeat(LOGIN_BYTES_MAX + 1));
        for (text, expected) in [
            ("", Form),
            ("user:geheim", Form),
            ("file:///a,user:geheim", Form),
            ("passwd:///geheim", Form),
            ("hardcoded://", Pair),
            ("hardcoded://geheim", Pair),
            ("hardcoded://a:", Pair),
            ("hardcoded://:geheim", Pair),
            ("hardcoded://a:geheim,", Pair),
            ("hardcoded://a\tb:geheim", Name),
            (&long, Name),
            ("file://geheim", Path),
            ("file://", Path),
            ("ldap://host:389/geheim", Unsupported("ldap")),
            ("exec:///geheim", Unsupported("exec")),
            (&many, Many),
        ] {
            let error = LoginSource::parse_list(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
