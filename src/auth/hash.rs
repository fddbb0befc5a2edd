//! One hashed password, in the form that crypt(3) and `/etc/shadow` have.
//!
//! Owns which schemes are taken and how much work one check may be: a login must not keep the thread
//! that computes them busy for seconds.
//!
//! Must never: show a hash, which can be guessed at.
//!
//! **Diagnostics**: [`HashError`] names the scheme or the limit, never the text.

use std::fmt;

use crate::smtp::sasl::bleach_stack;

/// Rounds of `$5$` and `$6$` that are computed; 5,000 are usual, and take some 4 ms.
pub const ROUNDS_MAX: u32 = 500_000;
/// Octets of memory that `$y$` may take, to which its time is proportional; 16 MiB are usual, and take
/// some 26 ms.
pub const MEMORY_BYTES_MAX: u64 = 64 << 20;
/// Octets of a password that are hashed (libxcrypt's own limit); longer ones are wrong.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// The fewest rounds that crypt(3) computes.
const ROUNDS_MIN: u32 = 1_000;
/// Characters of the salt of `$5$` and `$6$` that count.
const SHA_SALT_MAX: usize = 16;
/// Characters of the salt of `$y$`: 64 octets.
const YESCRYPT_SALT_MAX: usize = 86;
/// Characters of what is computed, by scheme.
const SHA_256_CHARACTERS: usize = 43;
const SHA_512_CHARACTERS: usize = 86;
const YESCRYPT_CHARACTERS: usize = 43;
/// Characters of the parameters of `$y$`: flavour, N and r, and no more.
const YESCRYPT_PARAMETERS_MAX: usize = 6;
/// Octets of a block of yescrypt, for each unit of r.
const YESCRYPT_BLOCK_BYTES: u64 = 128;

/// What computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `$5$` and `$6$`.
    Sha,
    /// `$y$`.
    Yescrypt,
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    scheme: Scheme,
    text: Box<str>,
}

/// Why a text is not used as a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// A scheme that is not computed here.
    #[error(
        "the scheme {0} is not supported: use $5$, $6$ or $y$, as `openssl passwd -6` makes them"
    )]
    Scheme(&'static str),
    /// Not a hash at all, or a damaged one.
    #[error(
        "what follows is not a hash of the form $5$, $6$ or $y$, as `openssl passwd -6` makes them"
    )]
    Malformed,
    /// More or less work than is done.
    #[error("a hash may have {ROUNDS_MIN} to {ROUNDS_MAX} rounds, or take up to 64 MiB of memory")]
    Cost,
}

/// Schemes that others know, by how they begin.
const FOREIGN: &[(&str, &str)] = &[
    ("$1$", "$1$ (MD5)"),
    ("$2a$", "$2a$ (bcrypt)"),
    ("$2b$", "$2b$ (bcrypt)"),
    ("$2y$", "$2y$ (bcrypt)"),
    ("$7$", "$7$ (scrypt)"),
    ("$gy$", "$gy$ (gost-yescrypt)"),
    ("$apr1$", "$apr1$ (MD5)"),
    ("$argon2", "$argon2"),
    ("{", "in braces"),
];

impl Hash {
    /// Reads a hash.
    ///
    /// # Errors
    /// Another scheme, a form that its scheme does not have, or too much work.
    pub fn parse(text: &str) -> Result<Hash, HashError> {
        let scheme = match text.get(..3) {
            Some("$5$") => check_sha(&text[3..], SHA_256_CHARACTERS)?,
            Some("$6$") => check_sha(&text[3..], SHA_512_CHARACTERS)?,
            Some("$y$") => check_yescrypt(&text[3..])?,
            Some(_) | None => {
                let foreign = FOREIGN.iter().find(|(start, _)| text.starts_with(start));
                return Err(
                    foreign.map_or(HashError::Malformed, |(_, name)| HashError::Scheme(name))
                );
            }
        };
        Ok(Hash { scheme, text: text.into() })
    }

    /// Whether this is the hash of `password`. Takes milliseconds, up to half a second.
    pub fn matches(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let matches = self.compute(password);
        // What was computed with lies on the stack still.
        bleach_stack::<STACK_BYTES>();
        matches
    }

    // A frame of its own, so that `bleach_stack` has the same place.
    #[inline(never)]
    fn compute(&self, password: &[u8]) -> bool {
        match self.scheme {
            Scheme::Sha => {
                use sha_crypt::PasswordVerifier as _;
                sha_crypt::ShaCrypt::default().verify_password(password, &*self.text).is_ok()
            }
            Scheme::Yescrypt => {
                use yescrypt::PasswordVerifier as _;
                yescrypt::Yescrypt::default().verify_password(password, &*self.text).is_ok()
            }
        }
    }
}

/// The scheme alone.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({:?})", self.scheme)
    }
}

/// Octets of the stack that computing a hash may touch.
const STACK_BYTES: usize = 32 * 1024;

/// `[rounds=N$]salt$hash`.
fn check_sha(text: &str, characters: usize) -> Result<Scheme, HashError> {
    let rest = match text.strip_prefix("rounds=") {
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$').ok_or(HashError::Malformed)?;
            let plain = !rounds.is_empty() && rounds.bytes().all(|byte| byte.is_ascii_digit());
            if !plain {
                return Err(HashError::Malformed);
            }
            let rounds: u32 = rounds.parse().map_err(|_| HashError::Cost)?;
            if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds) {
                return Err(HashError::Cost);
            }
            rest
        }
        None => text,
    };
    check_pair(rest, SHA_SALT_MAX, characters)?;
    Ok(Scheme::Sha)
}

/// `parameters$salt$hash`.
fn check_yescrypt(text: &str) -> Result<Scheme, HashError> {
    let (parameters, rest) = text.split_once('$').ok_or(HashError::Malformed)?;
    check_pair(rest, YESCRYPT_SALT_MAX, YESCRYPT_CHARACTERS)?;
    if parameters.len() > YESCRYPT_PARAMETERS_MAX || !parameters.bytes().all(is_crypt_64) {
        return Err(HashError::Malformed);
    }
    let read: yescrypt::Params = parameters.parse().map_err(|_| HashError::Malformed)?;
    // The ordinary flavour without parallelism or extra time: what mkpasswd and passwd make.
    let plain = yescrypt::Params::new(yescrypt::Mode::Rw, read.n(), read.r(), 1);
    if plain != Ok(read) {
        return Err(HashError::Malformed);
    }
    let block_bytes = YESCRYPT_BLOCK_BYTES * u64::from(read.r());
    match read.n().checked_mul(block_bytes) {
        Some(bytes) if bytes <= MEMORY_BYTES_MAX => Ok(Scheme::Yescrypt),
        Some(_) | None => Err(HashError::Cost),
    }
}

/// `salt$hash`.
fn check_pair(text: &str, salt_max: usize, characters: usize) -> Result<(), HashError> {
    let (salt, hash) = text.split_once('$').ok_or(HashError::Malformed)?;
    let good = (1..=salt_max).contains(&salt.len())
        && hash.len() == characters
        && salt.bytes().chain(hash.bytes()).all(is_crypt_64);
    if good { Ok(()) } else { Err(HashError::Malformed) }
}

fn is_crypt_64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `openssl passwd` (3.0), where it can, and of crypt(3) of libxcrypt (4.4).
    const VECTORS: &[(&str, &str)] = &[
        ("secret", "$5$Uo1jr3bXz2rg$rF0Hn6P8K.7vbmD.1OTqkIKow8ylsOn9ByxUQlxXpzD"),
        (
            "secret",
            "$6$Uo1jr3bXz2rg$gnJQi3U1e4uoGPyF5oQUwzZpjoxOc9ISXBce52NYhi3WT/ZQjL2y9xpOi2XOexQW5mqfGoC4IGW.QFkJF7iKm.",
        ),
        ("Hello wörld!", "$5$saltstring$CkW1LSDiuNRzyjaQQWFYsuOGTLco0NPs8qh.AXEo674"),
        (
            "Hello wörld!",
            "$5$rounds=10000$saltstringsaltst$VWyX7untvVmDJ74JpMq80hQtinSDFpKdVOhfJaVUyd2",
        ),
        (
            "Hello wörld!",
            "$6$saltstring$GNZE85C1mdLF8M.QeDj089KPSPC3Sj6W8ZKKjwz1LKLZ6l2SaycfQyrMgYz44S6ZljOouKaunc59TESn/LAWw/",
        ),
        (
            "Hello wörld!",
            "$6$rounds=1000$abcdefgh./$MSQ3e.Vqtx2nLd/2xH5/t6LHgrAjxdsbjKCWqy/hYutJrj4SH/VvTIVQt/p9rLnhjlo.6UkGCkWJfT6RNSVtt0",
        ),
        (
            "Hello wörld!",
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$8EzFssBUZbIC233VWbAkLQ0aSByNDbw3nMbJlEIPSd.",
        ),
        (
            "Hello wörld!",
            "$y$j9T$LdJMENpBABJJ3hIHjB1Bi.$8JE.kj97MsukrClgsXUuiw3MnBNMCFZVwbJmMwLom81",
        ),
        (
            "Hello wörld!",
            "$y$j75$LdJMENpBABJJ3hIHjB1Bi.$97tCzJHdF36E.T/BBgCvgHheEiOb9gFa7qEvINAXXP5",
        ),
    ];

    #[test]
    fn hashes_of_other_programs_are_understood() {
        for (password, text) in VECTORS {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.matches(password.as_bytes()), "{text}");
            assert!(!hash.matches(b"secret2"), "{text}");
            assert!(!hash.matches(b""), "{text}");
        }
        let hash = Hash::parse(VECTORS[0].1).unwrap();
        assert!(!hash.matches(b"secret\0"));
        assert!(!hash.matches(&[b's'; PASSWORD_BYTES_MAX + 1]));
        assert_eq!(format!("{hash:?}"), "Hash(Sha)");
    }

    #[test]
    fn what_costs_too_much_or_is_damaged_is_refused() {
        let digest = "x".repeat(43);
        let sha = |middle: &str| format!("$5${middle}${digest}");
        for (text, expected) in [
            (sha("rounds=500000$salt"), Ok(())),
            (sha("rounds=500001$salt"), Err(HashError::Cost)),
            (sha("rounds=99999999999$salt"), Err(HashError::Cost)),
            (sha("rounds=999$salt"), Err(HashError::Cost)),
            (sha("rounds=-1$salt"), Err(HashError::Malformed)),
            (sha("rounds=$salt"), Err(HashError::Malformed)),
            (sha("rounds=5000"), Err(HashError::Malformed)),
            (sha(""), Err(HashError::Malformed)),
            (sha("a-b"), Err(HashError::Malformed)),
            (sha("seventeencharacte"), Err(HashError::Malformed)),
            (format!("$6$salt${digest}"), Err(HashError::Malformed)),
            (format!("$5$salt${digest}$"), Err(HashError::Malformed)),
            (format!("$y$j9T$salt${digest}"), Ok(())),
            (format!("$y$jBT$salt${digest}"), Ok(())),
            (format!("$y$jCT$salt${digest}"), Err(HashError::Cost)),
            (format!("$y$jzT$salt${digest}"), Err(HashError::Malformed)),
            (format!("$y$j95.0$salt${digest}"), Err(HashError::Malformed)),
            (format!("$y$j9TzzzzzzzzzZZZZ$salt${digest}"), Err(HashError::Malformed)),
            (format!("$y$$salt${digest}"), Err(HashError::Malformed)),
            (format!("$y$j9T${digest}"), Err(HashError::Malformed)),
            ("secret".into(), Err(HashError::Malformed)),
            ("*".into(), Err(HashError::Malformed)),
            (String::new(), Err(HashError::Malformed)),
            (format!("$1$salt${digest}"), Err(HashError::Scheme("$1$ (MD5)"))),
            ("$2y$10$abc".into(), Err(HashError::Scheme("$2y$ (bcrypt)"))),
            ("{SHA}abc".into(), Err(HashError::Scheme("in braces"))),
        ] {
            assert_eq!(Hash::parse(&text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn every_parameter_of_yescrypt_is_judged_without_a_panic() {
        let digest = "x".repeat(43);
        let letters = "./09AZaz";
        for a in letters.chars().chain(['j']) {
            for b in letters.chars().chain(['9']) {
                for c in letters.chars().chain(['T']) {
                    for d in ["", ".", "z", "zz", "zzz"] {
                        let _ = Hash::parse(&format!("$y${a}{b}{c}{d}$salt${digest}"));
                    }
                }
            }
        }
    }
}
