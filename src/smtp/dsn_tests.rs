//! Tables of the parameters of RFC 3461.

use super::*;

/// RFC 3461 4.3.
#[test]
fn ret_is_full_or_hdrs() {
    assert_eq!(Ret::parse(b"full"), Some(Ret::Full));
    assert_eq!(Ret::parse(b"HDRS"), Some(Ret::Headers));
    assert_eq!(Ret::parse(b"HEADERS"), None);
    for ret in [Ret::Full, Ret::Headers] {
        assert_eq!(Ret::parse(ret.keyword().as_bytes()), Some(ret));
    }
}

/// RFC 3461 4.1.
#[test]
fn notify_is_never_or_a_list_of_the_others() {
    let notify = |success, failure, delay| Some(Notify { success, failure, delay });
    let rows: [(&str, Option<Notify>); 12] = [
        ("NEVER", notify(false, false, false)),
        ("never", notify(false, false, false)),
        ("SUCCESS", notify(true, false, false)),
        ("failure,Delay", notify(false, true, true)),
        ("SUCCESS,FAILURE,DELAY", notify(true, true, true)),
        ("DELAY,DELAY", notify(false, false, true)),
        ("NEVER,FAILURE", None),
        ("FAILURE,NEVER", None),
        ("", None),
        ("FAILURE,", None),
        ("FAILURE DELAY", None),
        ("ALWAYS", None),
    ];
    for (value, expected) in rows {
        assert_eq!(Notify::parse(value.as_bytes()), expected, "{value}");
        if let Some(notify) = expected {
            let mut sent = Vec::new();
            notify.write_to(&mut sent);
            assert_eq!(Notify::parse(&sent), Some(notify), "{value}");
        }
    }
}

/// RFC 3461 4.4: at most 100 octets of xtext, which say printable ASCII.
#[test]
fn an_envid_is_xtext_of_100_octets_at_most() {
    let longest = "e".repeat(ENVID_BYTES_MAX);
    let rows = [("QQ314159", "QQ314159"), ("a+2Bb+3D+20c", "a+b= c"), ("<1@b>", "<1@b>")];
    for (value, expected) in rows.into_iter().chain([(&*longest, &*longest)]) {
        let envid = parse_envid(value.as_bytes()).unwrap();
        assert_eq!(&*envid, expected, "{value}");
        let again = envid_value(&envid).unwrap();
        assert_eq!(again, value);
    }
    let too_long = "e".repeat(ENVID_BYTES_MAX + 1);
    let wrong =
        ["", "a=b", "a b", "a+", "a+2", "a+2G", "\u{e4}", "a\r", "a\0", "+0D+0A", "+00", "+E4"];
    // RFC 3461 4: `hexchar` has capitals alone.
    let wrong = wrong.into_iter().chain(["a+2b", "a+3d"]);
    for value in wrong.chain([&*too_long]) {
        assert_eq!(parse_envid(value.as_bytes()), None, "{value:?}");
    }
    for envid in ["", "a\r\nb", "\u{e4}", &too_long, &"=".repeat(34)] {
        assert_eq!(envid_value(envid), None, "{envid:?}");
    }
}

/// RFC 3461 4.2; RFC 6533 3.
#[test]
fn an_orcpt_is_a_type_and_an_xtext() {
    let rows = [
        ("rfc822;Bob@example.com", Some("rfc822;Bob@example.com")),
        ("rfc822;a+2Bb@example.com", Some("rfc822;a+b@example.com")),
        ("x-400;anything;else", Some("x-400;anything;else")),
        ("utf-8;\\x{E4}@example.com", Some("utf-8;\\x{E4}@example.com")),
        ("utf-8;\u{e4}\u{1f600}+2B@b", Some("utf-8;\\x{E4}\\x{1F600}+@b")),
        ("rfc822;\u{e4}@b", None),
        ("utf-8;\\\u{e4}@b", None),
        ("utf-8;\u{85}\u{e4}@b", None),
        ("rfc822", None),
        ("rfc822;", None),
        (";a@b", None),
        ("rfc 822;a@b", None),
        ("rfc822;a@b+", None),
        ("rfc822;a@b+0", None),
        ("rfc822;a+2bb@c", None),
        ("rfc822;a@b+0D+0AX:", None),
    ];
    for (value, expected) in rows {
        let orcpt = parse_orcpt(value.as_bytes());
        assert_eq!(orcpt.as_deref(), expected, "{value}");
        if let Some(orcpt) = orcpt {
            let again = orcpt_value(&orcpt).unwrap();
            assert_eq!(parse_orcpt(again.as_bytes()), Some(orcpt), "{value}: {again}");
        }
    }
    let of = |length: usize| format!("rfc822;{}", "a".repeat(length - "rfc822;".len()));
    assert!(parse_orcpt(of(ORCPT_BYTES_MAX).as_bytes()).is_some());
    assert!(parse_orcpt(of(ORCPT_BYTES_MAX + 1).as_bytes()).is_none());
    assert!(parse_orcpt(b"utf-8;\xff@b").is_none());
    for orcpt in ["a@b", "rfc822;", "r f;a@b", "rfc822;a\r\nb", "utf-8;\u{e4}", &of(501)] {
        assert_eq!(orcpt_value(orcpt), None, "{orcpt:?}");
    }
}

/// What no parameter can say stays away from the wire, whatever way it came.
#[test]
fn a_request_writes_parameters_that_read_back() {
    let notify = Notify { success: true, failure: true, delay: false };
    let request = Request {
        ret: Some(Ret::Full),
        envid: Some("a =+"),
        notify: Some(notify),
        orcpt: Some("rfc822;a b@c"),
    };
    let (mut mail, mut rcpt) = (Vec::new(), Vec::new());
    request.write_mail(&mut mail);
    request.write_rcpt(&mut rcpt);
    assert_eq!(mail, b" RET=FULL ENVID=a+20+3D+2B");
    assert_eq!(rcpt, b" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+20b@c");
    let hostile = Request { envid: Some("a\r\nRSET"), orcpt: Some("x;\r\nRSET"), ..request };
    let (mut mail, mut rcpt) = (Vec::new(), Vec::new());
    hostile.write_mail(&mut mail);
    hostile.write_rcpt(&mut rcpt);
    assert_eq!((&*mail, &*rcpt), (&b" RET=FULL"[..], &b" NOTIFY=SUCCESS,FAILURE"[..]));
    let mut nothing = Vec::new();
    Request::default().write_mail(&mut nothing);
    Request::default().write_rcpt(&mut nothing);
    assert_eq!(nothing, b"");
}
