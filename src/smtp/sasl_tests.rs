//! Exchanges as tables, one row a case.

use super::*;

fn base64(text: &[u8]) -> Vec<u8> {
    STANDARD.encode(text).into_bytes()
}

/// Runs a whole exchange: what is asked, line by line, and how it ends.
fn exchange(mechanism: Mechanism, initial: Option<&[u8]>, lines: &[&[u8]]) -> String {
    let mut said = String::new();
    let mut next = Exchange::begin(mechanism, initial);
    let mut lines = lines.iter();
    loop {
        match next {
            Next::Ask(exchange, question) => {
                said += question.text();
                said += " ";
                match lines.next() {
                    Some(line) => next = exchange.respond(line),
                    None => return said + "waits",
                }
            }
            Next::Done(credentials) => {
                let password = credentials.password.as_bytes().escape_ascii();
                return format!("{said}{}:{password}", credentials.name());
            }
            Next::Failed(failure) => return format!("{said}{failure:?}"),
        }
    }
}

#[test]
fn rfc_4616_plain_is_read_strictly() {
    let long = [b"\0login\0", "p".repeat(PASSWORD_BYTES_MAX).as_bytes()].concat();
    let full = [b"\0login\0", "p".repeat(PASSWORD_BYTES_MAX + 1).as_bytes()].concat();
    let name = ["\0", &"n".repeat(LOGIN_BYTES_MAX + 1), "\0p"].concat();
    let rows: &[(&str, &[u8], &str)] = &[
        ("the usual", b"\0tim\0tanstaaftanstaaf", "tim:tanstaaftanstaaf"),
        ("the same name for both", b"tim\0tim\0pass", "tim:pass"),
        ("somebody else's name", b"root\0tim\0pass", "Refused"),
        ("blanks and colons are kept", b"\0a b\0c: d", "a b:c: d"),
        ("not ASCII", "\0jürgen\0geheim".as_bytes(), "jürgen:geheim"),
        ("not UTF-8", b"\0j\xfcrgen\0geheim", "Refused"),
        ("a control character in the name", b"\0a\rb\0c", "Refused"),
        ("nothing", b"", "Malformed"),
        ("one NUL", b"tim\0pass", "Malformed"),
        ("three NULs", b"\0tim\0pa\0ss", "Malformed"),
        ("no name", b"\0\0pass", "Refused"),
        ("no password", b"\0tim\0", "Refused"),
        ("a long name", name.as_bytes(), "Refused"),
        ("a longer password than is taken", &full, "Refused"),
    ];
    for (name, message, expected) in rows {
        let message = base64(message);
        assert_eq!(exchange(Mechanism::Plain, Some(&message), &[]), *expected, "{name}");
        let asked = exchange(Mechanism::Plain, None, &[&message]);
        assert_eq!(asked, format!(" {expected}"), "{name}, asked for");
    }
    assert!(exchange(Mechanism::Plain, Some(&base64(&long)), &[]).starts_with("login:ppp"));
}

#[test]
fn login_asks_for_a_name_and_a_password() {
    let (user, password) = (base64(b"Username:"), base64(b"Password:"));
    let (user, password) = (str::from_utf8(&user).unwrap(), str::from_utf8(&password).unwrap());
    let (tim, pass) = (base64(b"tim"), base64(b"pass"));
    type Row<'a> = (&'a str, Option<&'a [u8]>, &'a [&'a [u8]], String);
    let rows: &[Row<'_>] = &[
        ("asked for both", None, &[&tim, &pass], format!("{user} {password} tim:pass")),
        ("a name at once", Some(&tim), &[&pass], format!("{password} tim:pass")),
        ("an empty name at once", Some(b"="), &[&pass], format!("{password} Refused")),
        ("an empty name", None, &[b"", &pass], format!("{user} {password} Refused")),
        ("an empty password", None, &[&tim, b""], format!("{user} {password} Refused")),
        ("cancelled at the name", None, &[b"*"], format!("{user} Cancelled")),
        ("cancelled at the password", None, &[&tim, b"*"], format!("{user} {password} Cancelled")),
        ("a name of noise", None, &[b"t!m"], format!("{user} Malformed")),
        ("a password of noise", Some(&tim), &[b"pa ss"], format!("{password} Malformed")),
        ("waiting", Some(&tim), &[], format!("{password} waits")),
    ];
    for (name, initial, lines, expected) in rows {
        assert_eq!(exchange(Mechanism::Login, *initial, lines), *expected, "{name}");
    }
    let zero = exchange(Mechanism::Login, Some(&tim), &[&base64(b"pa\0ss")]);
    assert!(zero.ends_with("tim:pa\\x00ss"), "{zero}");
    let zero = exchange(Mechanism::Login, Some(&base64(b"t\0m")), &[&pass]);
    assert!(zero.ends_with("Refused"), "{zero}");
}

/// RFC 4954 4: what is not base64 is answered 501.
#[test]
fn rfc_4954_4_base64_is_taken_exactly() {
    let good = base64(b"\0tim\0pass1");
    assert_eq!(good.last(), Some(&b'='));
    assert_eq!(exchange(Mechanism::Plain, Some(&good), &[]), "tim:pass1");
    let without = &good[..good.len() - 2];
    let mut dirty = good.clone();
    let place = dirty.iter().position(|byte| *byte == b'=').unwrap() - 1;
    dirty[place] += 1;
    for (name, text) in [
        ("without its padding", without.to_vec()),
        ("with bits left over", dirty),
        ("with a blank behind it", [&good[..], b" "].concat()),
        ("with a line of its own", [&good[..4], b"\r\n", &good[4..]].concat()),
        ("in the alphabet for addresses", b"-___".to_vec()),
        ("an equals sign more", [&good[..], b"="].concat()),
    ] {
        assert_eq!(exchange(Mechanism::Plain, Some(&text), &[]), "Malformed", "{name}");
    }
    // `=` says "empty" as an initial response only.
    assert_eq!(exchange(Mechanism::Plain, Some(b"="), &[]), "Malformed");
    assert_eq!(exchange(Mechanism::Plain, None, &[b"="]), " Malformed");
    assert_eq!(exchange(Mechanism::Plain, None, &[b"*"]), " Cancelled");
}

#[test]
fn secrets_have_a_zero_past_their_end_and_do_not_show() {
    // D-38: what plugins get.
    let Next::Done(credentials) = Exchange::begin(Mechanism::Plain, Some(&base64(b"\0tim\0pass")))
    else {
        panic!("these are good")
    };
    assert_eq!(credentials.login.as_bytes_with_nul(), b"tim\0");
    assert_eq!(credentials.password.as_bytes_with_nul(), b"pass\0");
    let shown = format!("{credentials:?} {:?}", credentials.password);
    assert_eq!(shown, "Credentials(Plain \"tim\") Secret(..)");
    let asked = Exchange::begin(Mechanism::Login, Some(&base64(b"tim")));
    assert!(!format!("{asked:?}").contains("tim"));
}

#[test]
fn mechanisms_are_known_in_any_case() {
    assert_eq!(Mechanism::named(b"plain"), Some(Mechanism::Plain));
    assert_eq!(Mechanism::named(b"LoGiN"), Some(Mechanism::Login));
    for name in [&b"PLAIN "[..], b"CRAM-MD5", b"XOAUTH2", b""] {
        assert_eq!(Mechanism::named(name), None);
    }
}
