//! Tables of addresses and paths, the nasty ones above all.

use super::*;

fn reverse(path: &[u8]) -> Result<String, AddressError> {
    Address::split_path(Path::Reverse, path).map(|(address, _)| address.to_string())
}

fn forward(path: &[u8]) -> Result<String, AddressError> {
    Address::split_path(Path::Forward, path).map(|(address, _)| address.to_string())
}

/// RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3.
#[test]
fn addresses_of_the_grammar_are_read() {
    let rows: &[(&str, &str, &str)] = &[
        ("a@b", "a", "b"),
        ("user+tag@example.com", "user+tag", "example.com"),
        ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com"),
        ("a..b.@docomo.example", "a..b.", "docomo.example"),
        ("\"a@b\"@example.com", "\"a@b\"", "example.com"),
        ("\"a b>c\"@example.com", "\"a b>c\"", "example.com"),
        ("\"a\\\"b\\\\\"@example.com", "\"a\\\"b\\\\\"", "example.com"),
        ("\"\"@example.com", "\"\"", "example.com"),
        ("a@_dmarc.example.com", "a", "_dmarc.example.com"),
        ("a@[127.0.0.1]", "a", "[127.0.0.1]"),
        ("a@[IPv6:::1]", "a", "[IPv6:::1]"),
        ("a@[ipv6:2001:db8::1]", "a", "[ipv6:2001:db8::1]"),
        (
            "\u{7528}\u{6237}@\u{4f8b}\u{5b50}.example",
            "\u{7528}\u{6237}",
            "\u{4f8b}\u{5b50}.example",
        ),
        ("\"\u{e4} b\"@example.com", "\"\u{e4} b\"", "example.com"),
    ];
    for (text, local, domain) in rows {
        let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((address.local(), address.domain()), (*local, *domain), "{text}");
        assert_eq!(address.as_str(), *text);
        assert_eq!(address.is_ascii(), text.is_ascii());
    }
}

#[test]
fn malformed_addresses_are_refused() {
    use AddressError::*;
    let rows: &[(&str, AddressError)] = &[
        ("", Local),
        ("a", Local),
        ("@", Local),
        ("@b", Local),
        ("a@", Domain),
        ("a b@c", Local),
        ("a(b)@c", Local),
        ("a@b@c", Domain),
        ("a@b c", Domain),
        ("a@b>", Domain),
        ("a@-b", Domain),
        ("a@b-", Domain),
        ("a@.b", Domain),
        ("a@b.", Domain),
        ("a@b..c", Domain),
        ("a@[", Domain),
        ("a@[]", Domain),
        ("a@[1.2.3]", Domain),
        ("a@[1.2.3.4", Domain),
        ("a@[1.2.3.4]x", Domain),
        ("a@[::1]", Domain),
        ("a@[IPv6:1.2.3.4]", Domain),
        ("a@[tag:x]", Domain),
        ("\"a@b", Local),
        ("\"a\\", Local),
        ("\"a\\\u{e4}\"@b", Local),
        ("\"a\"b@c", Local),
        // CVE-2020-7247: what a shell would read stays outside of quotes nowhere.
        (";sleep 66;@b", Local),
        ("a@b;c", Domain),
        ("a@$(id)", Domain),
        ("a\r\nRCPT TO:<b@c>@d", Character),
        ("\"a\tb\"@c", Character),
        ("a\0@b", Character),
        ("a@b\u{7f}", Character),
        ("a\u{85}@b", Character),
        ("a@\u{200b}b", Character),
        ("a\u{202e}@b", Character),
        ("a@b\u{3000}c", Character),
        ("a@b\u{3002}c", Domain),
        ("a@b\u{ff0e}c", Domain),
    ];
    for (text, error) in rows {
        assert_eq!(Address::parse(text), Err(*error), "{}", text.escape_debug());
    }
}

/// RFC 5321 4.5.3.1.1 to 4.5.3.1.3, and RFC 1035 2.3.4.
#[test]
fn lengths_are_bounded() {
    let local = |count| format!("{}@b", "a".repeat(count));
    assert!(Address::parse(&local(64)).is_ok());
    assert_eq!(Address::parse(&local(65)), Err(AddressError::LocalTooLong));
    let label = |count| format!("a@{}", "b".repeat(count));
    assert!(Address::parse(&label(63)).is_ok());
    assert_eq!(Address::parse(&label(64)), Err(AddressError::Domain));
    let domain = |count: usize| format!("a@{}", "b.".repeat(200)[..count].to_owned() + "c");
    assert_eq!(Address::parse(&domain(256)), Err(AddressError::DomainTooLong));
    assert_eq!(Address::parse(&domain(254)), Err(AddressError::PathTooLong));
    assert!(Address::parse(&domain(250)).is_ok());
    let quoted = format!("\"{}\"@b", "a".repeat(63));
    assert_eq!(Address::parse(&quoted), Err(AddressError::LocalTooLong));
    let huge = format!("<{}@b>", "a".repeat(100_000));
    assert_eq!(reverse(huge.as_bytes()), Err(AddressError::PathTooLong));
}

/// RFC 5321 4.1.1.2, 4.1.1.3, appendix C.
#[test]
fn paths_lose_brackets_and_routes() {
    let rows: &[(&[u8], Result<&str, AddressError>)] = &[
        (b"<a@b>", Ok("a@b")),
        (b"<@x.example,@[IPv6:::1],@y:a@b>", Ok("a@b")),
        (b"<@x.example:a@b>", Ok("a@b")),
        (b"<\"a>b\"@c>", Ok("\"a>b\"@c")),
        (b"<\"a\\\">b\"@c>", Ok("\"a\\\">b\"@c")),
        (b"<\"a\"@b>", Ok("\"a\"@b")),
        (b"<@x.example>", Err(AddressError::Domain)),
        (b"<@x.example:>", Err(AddressError::Local)),
        (b"<@:a@b>", Err(AddressError::Domain)),
        (b"<@x,:a@b>", Err(AddressError::Domain)),
        (b"<@[:a@b>", Err(AddressError::Domain)),
        (b"a@b", Err(AddressError::Brackets)),
        (b"", Err(AddressError::Brackets)),
        (b"<", Err(AddressError::Brackets)),
        (b"<a@b", Err(AddressError::Brackets)),
        (b"<\"a@b>", Err(AddressError::Brackets)),
        (b"<\"a\\", Err(AddressError::Brackets)),
        (b"<<a@b>>", Err(AddressError::Local)),
        (b"<a@b\xff>", Err(AddressError::NotUtf8)),
        (b"<\xc0\xaf@b>", Err(AddressError::NotUtf8)),
    ];
    for (path, expected) in rows {
        let name = path.escape_ascii().to_string();
        assert_eq!(forward(path), expected.map(str::to_owned), "{name}");
        assert_eq!(reverse(path), expected.map(str::to_owned), "{name}");
    }
}

#[test]
fn null_is_a_sender_and_postmaster_a_recipient() {
    assert_eq!(reverse(b"<>"), Ok(String::new()));
    assert_eq!(forward(b"<>"), Err(AddressError::Empty));
    assert_eq!(forward(b"<PostMaster>"), Ok("PostMaster".to_owned()));
    assert_eq!(reverse(b"<postmaster>"), Err(AddressError::Local));
    let (postmaster, _) = Address::split_path(Path::Forward, b"<postmaster>").unwrap();
    assert_eq!((postmaster.local(), postmaster.domain()), ("postmaster", ""));
    assert!(Address::null().is_null());
    assert_eq!((Address::null().local(), Address::null().domain()), ("", ""));
}

#[test]
fn what_follows_a_path_is_returned() {
    let (address, rest) = Address::split_path(Path::Reverse, b"<a@b> SIZE=1>").unwrap();
    assert_eq!((address.as_str(), rest), ("a@b", &b" SIZE=1>"[..]));
}
