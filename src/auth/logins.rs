//! All users in one table.
//!
//! Owns who is known, and what a name costs: all the same time and the same way, so that nobody can find
//! out by asking which are known. Made at the start, and again when it is told to; workers share it and never wait
//! for it.
//!
//! Must never: compute a hash itself, which takes longer than a worker may wait.
//!
//! **Diagnostics**: [`LoginsError`], before a port opens.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::smtp::sasl::{Credentials, Secret};

use super::hash::Hash;
use super::source::LoginSource;
use super::users::{self, UsersError};

/// Why the users that are named cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// A file of them.
    #[error(transparent)]
    File(#[from] UsersError),
    /// Somebody twice, so that nobody knows which password is meant.
    #[error("{place}: user `{user}` is named twice in smtp-auth")]
    Twice {
        /// The second place.
        place: Place,
        /// Who.
        user: Box<str>,
    },
}

/// Where a user was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the setting itself.
    Setting,
    /// In this line of a file.
    Line(PathBuf, usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Setting => f.write_str("hardcoded://"),
            Place::Line(path, line) => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// The users of a server.
#[derive(Debug, Default)]
pub struct Logins {
    proofs: HashMap<Box<str>, Proof>,
    /// Every hash, for names that are not known.
    hashes: Vec<Arc<Hash>>,
    /// Which hash stands for which unknown name: the same one every time.
    seed: RandomState,
}

/// What a user must know.
#[derive(Clone, Debug)]
enum Proof {
    Password(Secret),
    Hash(Arc<Hash>),
}

/// What can be said of credentials at once.
#[derive(Debug)]
pub enum Judgement {
    /// Whether they are good.
    Known(bool),
    /// A hash must be computed.
    Hash {
        /// The user's, or another's of whom nothing else is used.
        hash: Arc<Hash>,
        /// What it says of them.
        meaning: Meaning,
    },
}

/// What a hash says of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// They are good if it matches.
    Proof,
    /// Nothing: this is known already. It is computed so that all names cost the same.
    Cost(bool),
}

impl Meaning {
    /// Whether the credentials are good, now that it is known whether the hash `matches`.
    pub fn is_good(self, matches: bool) -> bool {
        match self {
            Meaning::Proof => matches,
            Meaning::Cost(good) => good,
        }
    }
}

impl Logins {
    /// Reads all sources.
    ///
    /// # Errors
    /// The first file or line that is not as it must be, or a user that is named twice.
    pub fn load(sources: &[LoginSource]) -> Result<Logins, LoginsError> {
        let mut logins = Logins::default();
        for source in sources {
            match source {
                LoginSource::Hardcoded(users) => {
                    for (user, password) in users {
                        let proof = Proof::Password(password.clone());
                        logins.add(user, proof, || Place::Setting)?;
                    }
                }
                LoginSource::File(path) => logins.add_file(path)?,
            }
        }
        Ok(logins)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), LoginsError> {
        for user in users::read(path)? {
            let proof = Proof::Hash(Arc::new(user.hash));
            self.add(&user.name, proof, || Place::Line(path.into(), user.line))?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        user: &str,
        proof: Proof,
        place: impl FnOnce() -> Place,
    ) -> Result<(), LoginsError> {
        match self.proofs.entry(user.into()) {
            Entry::Occupied(_) => Err(LoginsError::Twice { place: place(), user: user.into() }),
            Entry::Vacant(vacant) => {
                if let Proof::Hash(hash) = &proof {
                    self.hashes.push(hash.clone());
                }
                vacant.insert(proof);
                Ok(())
            }
        }
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.proofs.len()
    }

    /// Judges credentials, or says what is to be computed.
    pub fn judge(&self, credentials: &Credentials) -> Judgement {
        let password = credentials.password.as_bytes();
        let good = match self.proofs.get(credentials.name()) {
            Some(Proof::Hash(hash)) => {
                return Judgement::Hash { hash: hash.clone(), meaning: Meaning::Proof };
            }
            Some(Proof::Password(known)) => same(password, known.as_bytes()),
            None => {
                same(password, b"");
                false
            }
        };
        match self.hashes.len() {
            // With passwords alone, a comparison is all that any name takes.
            0 => Judgement::Known(good),
            // With hashes, one of them is computed for every other name too, known or not, and for this
            // name always the same: neither its cost, nor that it must wait for its turn or come back,
            // says anything that is not said of some user with a hash as well.
            count => {
                let place = self.seed.hash_one(credentials.name()) % count as u64;
                let hash = self.hashes[place as usize].clone();
                Judgement::Hash { hash, meaning: Meaning::Cost(good) }
            }
        }
    }
}

/// Compares in a time that depends on the length of what was given alone.
fn same(given: &[u8], known: &[u8]) -> bool {
    let mut difference = given.len() ^ known.len();
    for (index, byte) in given.iter().enumerate() {
        let other = known.get(index).copied().unwrap_or(0);
        difference |= usize::from(std::hint::black_box(byte ^ other));
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::sasl::Mechanism;

    const HASH: &str = "$5$rounds=1000$Uo1jr3bXz2rg$1rF0Hn6P8K.7vbmD.1OTqkIKow8ylsOn9ByxUQlxXpz";

    fn credentials(login: &str, password: &str) -> Credentials {
        Credentials {
            mechanism: Mechanism::Plain,
            login: Secret::copy_from(login.as_bytes()),
            password: Secret::copy_from(password.as_bytes()),
        }
    }

    fn known(logins: &Logins, login: &str, password: &str) -> Option<bool> {
        match logins.judge(&credentials(login, password)) {
            Judgement::Known(good) => Some(good),
            Judgement::Hash { .. } => None,
        }
    }

    #[test]
    fn hardcoded_users_are_judged_at_once() {
        let sources = LoginSource::parse_list("hardcoded://tim:geheim,tom:x").unwrap();
        let logins = Logins::load(&sources).unwrap();
        assert_eq!((logins.len(), logins.is_empty()), (2, false));
        assert_eq!(known(&logins, "tim", "geheim"), Some(true));
        for (login, password) in [
            ("tim", "geheiM"),
            ("tim", "geheim1"),
            ("tim", "gehei"),
            ("Tim", "geheim"),
            ("tam", "x"),
        ] {
            assert_eq!(known(&logins, login, password), Some(false), "{login} {password}");
        }
        assert!(Logins::default().is_empty());
        assert!(!format!("{logins:?}").contains("geheim"));
    }

    #[test]
    fn a_name_without_a_hash_costs_one_and_always_the_same_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let lines: String = (0..8).map(|user| format!("u{user}:{HASH}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let sources = [
            LoginSource::File(path),
            LoginSource::Hardcoded(vec![("tim".into(), Secret::copy_from(b"geheim"))]),
        ];
        let logins = Logins::load(&sources).unwrap();
        let judged = |name: &str, password: &str| match logins.judge(&credentials(name, password)) {
            Judgement::Hash { hash, meaning } => (hash, meaning),
            Judgement::Known(_) => panic!("{name} was judged at once"),
        };
        let hash = |name: &str| judged(name, "x");
        assert_eq!(hash("u3").1, Meaning::Proof);
        for name in ["nobody", "tim"] {
            let (first, meaning) = hash(name);
            assert_eq!(meaning, Meaning::Cost(false));
            assert!((0..20).all(|_| Arc::ptr_eq(&hash(name).0, &first)));
        }
        // A password in the setting is compared all the same: matching the other's hash says nothing.
        let (_, meaning) = judged("tim", "geheim");
        assert!([true, false].map(|matches| meaning.is_good(matches)) == [true; 2]);
        let (_, meaning) = judged("tim", "x");
        assert!([true, false].map(|matches| meaning.is_good(matches)) == [false; 2]);
        assert_eq!([true, false].map(|matches| Meaning::Proof.is_good(matches)), [true, false]);
        let names = (0..100).map(|name| Arc::as_ptr(&hash(&name.to_string()).0));
        let used: std::collections::HashSet<_> = names.collect();
        assert!(used.len() > 1, "names are spread over the hashes");
    }

    #[test]
    fn a_user_that_is_named_twice_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, format!("tom:{HASH}\ntim:{HASH}\n")).unwrap();
        let twice = |text: &str| {
            let sources = LoginSource::parse_list(text).unwrap();
            Logins::load(&sources).unwrap_err().to_string()
        };
        let file = format!("file://{}", path.display());
        assert_eq!(
            twice("hardcoded://a:b,a:c"),
            "hardcoded://: user `a` is named twice in smtp-auth"
        );
        let error = twice(&format!("hardcoded://tim:b,{file}"));
        assert!(error.ends_with("users:2: user `tim` is named twice in smtp-auth"), "{error}");
        let error = twice(&format!("{file},hardcoded://tim:b"));
        assert!(error.starts_with("hardcoded://: user `tim`"), "{error}");
    }
}
