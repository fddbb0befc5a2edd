//! What a result repeats of its mail's header: `extracted`.
//!
//! Values come as they are written, on one line. Bounded: of a very long header the first part counts.
//!
//! Diagnostics: none; what is no address is left out.

use serde_json::{Map, Value, json};

use crate::header::{self, Field};
use crate::queue::{Mail, Transaction};

/// Octets of a text that are looked at.
pub(super) const HEADER_BYTES_MAX: usize = 64 << 10;
/// Fields that are repeated.
const FIELDS_MAX: usize = 200;
/// Octets of all values together.
const VALUES_BYTES_MAX: usize = 32 << 10;
/// Addresses of the recipients that are repeated.
const ADDRESSES_MAX: usize = 100;

/// The object.
pub(super) fn extracted(transaction: &Transaction, mail: &Mail) -> Value {
    let body = transaction.body(mail).map(|body| body.as_bytes()).unwrap_or_default();
    let body = &body[..body.len().min(HEADER_BYTES_MAX)];
    let mut object = Map::new();
    let mut headers = Map::new();
    let mut left = VALUES_BYTES_MAX;
    let mut to = Vec::new();
    for field in header::fields(body).take(FIELDS_MAX) {
        let text = field.text();
        let Some(rest) = left.checked_sub(text.len() + field.name.len()) else {
            break;
        };
        left = rest;
        if field.is("From") && !object.contains_key("from") {
            object.extend(addresses(&text).next().map(|from| ("from".into(), from.into())));
        } else if field.is("To") {
            to.extend(addresses(&text).take(ADDRESSES_MAX - to.len()).map(Value::from));
        } else if field.is("Subject") && !object.contains_key("subject") {
            object.insert("subject".into(), text.as_str().into());
        }
        add(&mut headers, &field, text);
    }
    object.insert("to".into(), to.into());
    object.insert("headers".into(), headers.into());
    object.insert("envelope".into(), split(&mail.envelope));
    object.insert("recipient".into(), split(&mail.recipient));
    object.into()
}

/// A name that comes more than once has a list of its values.
fn add(headers: &mut Map<String, Value>, field: &Field<'_>, text: String) {
    let name = String::from_utf8_lossy(field.name);
    let known = headers.keys().find(|known| known.eq_ignore_ascii_case(&name)).cloned();
    match known.and_then(|known| headers.get_mut(&known)) {
        None => drop(headers.insert(name.into_owned(), text.into())),
        Some(Value::Array(values)) => values.push(text.into()),
        Some(value) => *value = json!([value.take(), text]),
    }
}

fn split(address: &str) -> Value {
    match address.rsplit_once('@') {
        Some((local, domain)) => json!({ "local": local, "domain": domain }),
        None => json!({ "local": address, "domain": "" }),
    }
}

/// The addresses in a list (RFC 5322 section 3.4), without display names, comments and groups.
fn addresses(list: &str) -> impl Iterator<Item = String> + '_ {
    let (mut rest, mut done) = (list, false);
    std::iter::from_fn(move || {
        while !done {
            let (one, after) = first(rest);
            (rest, done) = (after.unwrap_or_default(), after.is_none());
            if one.contains('@') {
                return Some(one);
            }
        }
        None
    })
}

/// The first address of a list, and what follows the comma behind it.
fn first(list: &str) -> (String, Option<&str>) {
    let (mut plain, mut angle) = (String::new(), None);
    let (mut quoted, mut depth) = (false, 0_u32);
    let mut chars = list.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quoted || depth > 0 => {
                let next = chars.next().map(|(_, next)| next);
                if depth == 0 {
                    plain.extend(std::iter::once('\\').chain(next));
                }
            }
            '"' if depth == 0 => {
                quoted = !quoted;
                plain.push(c);
            }
            _ if quoted => plain.push(c),
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            '<' => plain.clear(),
            '>' => angle = Some(std::mem::take(&mut plain)),
            // The name of a group ends, or the group.
            ':' => plain.clear(),
            ',' | ';' => return (angle.unwrap_or(plain).trim().to_owned(), Some(&list[at + 1..])),
            _ => plain.push(c),
        }
    }
    (angle.unwrap_or(plain).trim().to_owned(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_any_list() {
        let rows: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a@example.org", &["a@example.org"]),
            ("A, b c <b@example.org>, c@example.org", &["b@example.org", "c@example.org"]),
            ("\"Last, First <x>\" <d@example.org>", &["d@example.org"]),
            ("e@example.org (a comment, with (more) \\) of it)", &["e@example.org"]),
            ("\"quoted\\\" @ local\"@example.org", &["\"quoted\\\" @ local\"@example.org"]),
            (
                "friends: f@example.org, <g@example.org>;, h@example.org",
                &["f@example.org", "g@example.org", "h@example.org"],
            ),
            ("undisclosed-recipients:;", &[]),
            ("<never@closed", &["never@closed"]),
            ("\"never closed", &[]),
            ("((((", &[]),
        ];
        for (list, expected) in rows {
            assert_eq!(addresses(list).collect::<Vec<_>>(), *expected, "{list}");
        }
    }
}
