//! Local addresses: whose mail is accepted from everybody.
//!
//! Owns `local-domains`, the file of `local-addresses`, and how an address is compared with both: without
//! regard to ASCII case. Must never: decide what becomes of a mail; that is the drivers'.
//!
//! **Diagnostics**: [`LocalsError`] names file and line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::settings::{Domains, Smtp};

/// Octets that the file may have.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Lines that are addresses or `*@domain`, which cost nothing to compare with.
const EXACT_MAX: usize = 1_000_000;
/// Lines that are other patterns: each is compared with every address.
const PATTERNS_MAX: usize = 1_000;
/// Octets of one line (RFC 5321 4.5.3.1.3, and room).
const LINE_BYTES_MAX: usize = 512;

/// Why local addresses cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalsError {
    /// The file cannot be read.
    #[error("local-addresses: {} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds more than is taken.
    #[error(
        "local-addresses: {} has more than {FILE_BYTES_MAX} bytes, {EXACT_MAX} addresses, or {PATTERNS_MAX} \
         patterns other than `*@domain`", .0.display()
    )]
    Size(PathBuf),
    /// A line is not one.
    #[error(
        "local-addresses: {}:{line}: `{text}` is neither an address nor a pattern; a line is `user@domain`, \
         in which `*` stands for any octets and `?` for one", path.display()
    )]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
}

/// All local addresses.
#[derive(Debug, Default)]
pub struct Locals {
    domains: Domains,
    addresses: HashSet<Box<[u8]>>,
    /// Of lines `*@domain`.
    whole: HashSet<Box<[u8]>>,
    patterns: Vec<Box<[u8]>>,
}

impl Locals {
    /// What the settings name.
    ///
    /// # Errors
    /// A file that cannot be read, is too large, or has one line that is not as it must be.
    pub fn load(smtp: &Smtp) -> Result<Locals, LocalsError> {
        let mut locals = Locals { domains: smtp.local_domains.clone(), ..Locals::default() };
        if let Some(path) = &smtp.local_addresses {
            locals.add(path, &read(path)?)?;
        }
        Ok(locals)
    }

    fn add(&mut self, path: &Path, text: &[u8]) -> Result<(), LocalsError> {
        for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let content = content.trim_ascii().to_ascii_lowercase();
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let wrong = content.len() > LINE_BYTES_MAX
                || content.iter().any(|byte| byte.is_ascii_control() || *byte == b' ')
                || std::str::from_utf8(&content).is_err();
            let at = content.iter().rposition(|byte| *byte == b'@').filter(|_| !wrong);
            let Some(at) = at.filter(|at| *at > 0 && at + 1 < content.len()) else {
                let shown = &content[..content.len().min(80)];
                let text = String::from_utf8_lossy(shown).escape_debug().to_string();
                return Err(LocalsError::Line { path: path.into(), line, text });
            };
            let wild = |part: &[u8]| part.iter().any(|byte| matches!(byte, b'*' | b'?'));
            if !wild(&content) {
                self.addresses.insert(content.into());
            } else if &content[..at] == b"*" && !wild(&content[at + 1..]) {
                self.whole.insert(content[at + 1..].into());
            } else {
                self.patterns.push(content.into());
            }
            let exact = self.addresses.len() + self.whole.len();
            if exact > EXACT_MAX || self.patterns.len() > PATTERNS_MAX {
                return Err(LocalsError::Size(path.into()));
            }
        }
        Ok(())
    }

    /// Whether mail for this address is local. RFC 5321 4.5.1: `postmaster` without a domain is ours, if
    /// anything is.
    pub fn has(&self, address: &[u8]) -> bool {
        let Some(at) = address.iter().rposition(|byte| *byte == b'@') else {
            return address.eq_ignore_ascii_case(b"postmaster") && !self.is_empty();
        };
        let domain = &address[at + 1..];
        if std::str::from_utf8(domain).is_ok_and(|domain| self.domains.contains(domain)) {
            return true;
        }
        if self.addresses.is_empty() && self.whole.is_empty() && self.patterns.is_empty() {
            return false;
        }
        let lower = address.to_ascii_lowercase();
        self.addresses.contains(&*lower)
            || self.whole.contains(&lower[at + 1..])
            || self.patterns.iter().any(|pattern| fits(pattern, &lower))
    }

    fn is_empty(&self) -> bool {
        self.domains.is_empty()
            && self.addresses.is_empty()
            && self.whole.is_empty()
            && self.patterns.is_empty()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LocalsError> {
    let failed = |source| LocalsError::Read { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    let bytes = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(LocalsError::Size(path.into()));
    }
    Ok(text)
}

/// Compares with one pattern. Only the last `*` is ever gone back to, so the time is at most the product
/// of both lengths, whatever they are.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locals(text: &str) -> Result<Locals, String> {
        let mut locals = Locals::default();
        let added = locals.add(Path::new("/locals"), text.as_bytes());
        added.map(|()| locals).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_domains_and_patterns_are_compared_without_case() {
        let text = "# ours\n\nTim@Example.org\r\n *@whole.example \nsales-*@example.net\n?@one.example\n\
                    a*b*@x.example\n";
        let locals = locals(text).unwrap();
        for (address, expected) in [
            ("tim@example.org", true),
            ("TIM@EXAMPLE.ORG", true),
            ("tom@example.org", false),
            ("anybody@Whole.Example", true),
            ("anybody@sub.whole.example", false),
            ("sales-eu@example.net", true),
            ("sales@example.net", false),
            ("x@one.example", true),
            ("xy@one.example", false),
            ("aXbYb@x.example", true),
            ("aX@x.example", false),
            ("postmaster", true),
            ("tim", false),
            ("", false),
        ] {
            assert_eq!(locals.has(address.as_bytes()), expected, "{address}");
        }
        assert!(!Locals::default().has(b"postmaster"));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, part) in [
            ("a@b.example\nnobody\n", "/locals:2: `nobody`"),
            ("@b.example", "/locals:1"),
            ("a@", "/locals:1"),
            ("a b@c.example", "`a b@c.example`"),
            ("a\u{1}@c.example", "/locals:1: `a\\u{1}@c.example`"),
        ] {
            let error = locals(text).expect_err("it is refused");
            assert!(error.contains(part) && error.contains("user@domain"), "{error}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_their_length() {
        let pattern = [b"a*".repeat(250), b"b".to_vec()].concat();
        assert!(!fits(&pattern, &b"a".repeat(60_000)));
    }
}
