//! A file of users: a line `user:hash` for each, `#` before comments.
//!
//! Owns its syntax and its limits. The hash is what `openssl passwd -6`, `mkpasswd` or `/etc/shadow`
//! have; see [`struct@Hash`].
//!
//! Must never: quote a hash, or anything that could be a password written in its place.
//!
//! **Diagnostics**: [`UsersError`] names file, line and user.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::hash::{Hash, HashError};
use super::source::is_name;

/// Octets that a file may have.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// Users that a file may have.
pub const USERS_MAX: usize = 100_000;

/// Why a file of users is not used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("{}: the users cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds more than is taken.
    #[error("{}: a file of users has at most {USERS_MAX} lines and {} bytes", .0.display(), FILE_BYTES_MAX)]
    Size(PathBuf),
    /// A line is not one.
    #[error("{}:{line}: the line is not `user:hash`", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A user's hash is not one.
    #[error("{}:{line}: user `{user}`: {why}", path.display())]
    Hash {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Whose.
        user: Box<str>,
        /// Why.
        why: HashError,
    },
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Box<str>,
    /// What proves it.
    pub hash: Hash,
    /// Where it stands, counted from 1.
    pub line: usize,
}

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, is too large, or has one line that is not as it must be.
pub fn read(path: &Path) -> Result<Vec<User>, UsersError> {
    let failed = |source| UsersError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = String::new();
    let bytes = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(UsersError::Size(path.into()));
    }
    parse(path, &text)
}

/// Reads the text of the file `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<User>, UsersError> {
    let mut users = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if users.len() == USERS_MAX {
            return Err(UsersError::Size(path.into()));
        }
        let pair = content.split_once(':').filter(|(name, _)| is_name(name));
        let Some((name, hash)) = pair else {
            return Err(UsersError::Line { path: path.into(), line });
        };
        let hash = Hash::parse(hash).map_err(|why| UsersError::Hash {
            path: path.into(),
            line,
            user: name.into(),
            why,
        })?;
        users.push(User { name: name.into(), hash, line });
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$5$Uo1jr3bXz2rg$rF0Hn6P8K.7vbmD.1OTqkIKow8ylsOn9ByxUQlxXpzD";

    fn parsed(text: &str) -> Result<Vec<User>, String> {
        parse(Path::new("/users"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_users_and_comments() {
        let text = format!("# Ours.\n\n tim:{HASH}\r\n  # tom:{HASH}\nt o m@x:{HASH}");
        let users = parsed(&text).unwrap();
        let names: Vec<_> = users.iter().map(|user| (&*user.name, user.line)).collect();
        assert_eq!(names, [("tim", 3), ("t o m@x", 5)]);
        assert_eq!(parsed("").unwrap(), []);
    }

    #[test]
    fn a_bad_line_is_named_with_its_user_and_without_its_hash() {
        for (line, expected) in [
            ("geheim", "/users:2: the line is not `user:hash`"),
            (":geheim", "/users:2: the line is not `user:hash`"),
            ("tim:geheim", "/users:2: user `tim`: what follows is not a hash"),
            ("tim:", "/users:2: user `tim`: what follows is not a hash"),
            (
                "tim:$2b$10$geheim",
                "/users:2: user `tim`: the scheme $2b$ (bcrypt) is not supported",
            ),
            ("tim:$6$rounds=600000$geheim$x", "/users:2: user `tim`: a hash may have 1000 to"),
        ] {
            let error = parsed(&format!("a:{HASH}\n{line}\n")).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("geheim"), "{error}");
        }
        let error = read(Path::new("/nonexistent/users")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/users: the users cannot be read: "), "{error}");
    }
}
