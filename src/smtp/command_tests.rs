//! Tables of command lines.

use super::*;

fn esmtp(line: &str) -> Result<Command<'_>, CommandError> {
    Command::parse(line.as_bytes(), Dialect::Esmtp)
}

fn mail(address: &str) -> MailFrom {
    let address = Address::parse_for(Path::Reverse, address).unwrap();
    MailFrom {
        address,
        size: None,
        body: BodyKind::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        submitter: false,
    }
}

fn rcpt(address: &str) -> Command<'static> {
    let address = Address::parse_for(Path::Forward, address).unwrap();
    let utf8 = !address.is_ascii();
    Command::Rcpt(RcptTo { address, notify: None, orcpt: None, utf8 })
}

/// RFC 5321 4.1.1, 4.1.2; RFC 1870; RFC 6152; RFC 6531; RFC 3030.
#[test]
fn commands_are_read_in_any_case() {
    let sized = |size| MailFrom { size: Some(size), ..mail("a@b") };
    let eight = MailFrom { body: BodyKind::EightBit, smtputf8: true, ..mail("\u{e4}@b") };
    let rows = [
        ("EHLO client.example", Command::Ehlo("client.example")),
        ("ehlo [IPv6:::1]", Command::Ehlo("[IPv6:::1]")),
        ("HeLo under_score", Command::Helo("under_score")),
        ("MAIL FROM:<>", Command::Mail(mail(""))),
        ("mail from:<a@b>", Command::Mail(mail("a@b"))),
        ("MAIL FROM: <a@b>  ", Command::Mail(mail("a@b"))),
        ("MAIL FROM:<a@b> size=12", Command::Mail(sized(12))),
        ("MAIL FROM:<a@b> SIZE=18446744073709551615", Command::Mail(sized(u64::MAX))),
        ("MAIL FROM:<a@b> BODY=7bit", Command::Mail(mail("a@b"))),
        ("MAIL FROM:<\u{e4}@b> SMTPUTF8  BODY=8BITMIME", Command::Mail(eight)),
        ("RCPT TO:<postmaster>", rcpt("postmaster")),
        ("rcpt to: <\"a b\"@[127.0.0.1]>", rcpt("\"a b\"@[127.0.0.1]")),
        ("RCPT TO:<\u{e4}@b>", rcpt("\u{e4}@b")),
        ("DATA", Command::Data),
        ("data ", Command::Data),
        ("BDAT 0", Command::Bdat { size: 0, last: false }),
        ("bdat 007  last", Command::Bdat { size: 7, last: true }),
        ("RSET", Command::Rset),
        ("NOOP anything", Command::Noop),
        ("HELP MAIL", Command::Help),
        ("VRFY a", Command::Vrfy),
        ("EXPN", Command::Expn),
        ("quit", Command::Quit),
    ];
    for (line, expected) in rows {
        assert_eq!(esmtp(line), Ok(expected), "{line}");
    }
}

#[test]
fn lines_that_are_no_command_say_why() {
    use CommandError::*;
    let long = format!("EHLO {}", "a".repeat(256));
    let rows = [
        ("", Unknown),
        ("DAT", Unknown),
        ("DATAX", Unknown),
        (" DATA", Unknown),
        ("STARTTLSX", Unknown),
        ("STARTTLS\t", Unknown),
        ("STARTTLS now", Argument),
        ("MAIL\tFROM:<a@b>", Unknown),
        ("EHLO", Hello),
        ("EHLO a b", Hello),
        ("EHLO \u{e4}", Hello),
        ("HELO a\tb", Hello),
        (&long, Hello),
        ("DATA x", Argument),
        ("RSET x", Argument),
        ("QUIT x", Argument),
        ("MAIL", Sender),
        ("MAIL FROM", Sender),
        ("MAIL FROM:", Sender),
        ("MAIL TO:<a@b>", Sender),
        ("MAIL FROM:a@b", Sender),
        ("MAIL FROM:<a@b", Sender),
        ("MAIL FROM:<a@b>SIZE=1", Sender),
        ("RCPT TO:<>", Recipient),
        ("RCPT TO:<a@b>>", Recipient),
        ("RCPT FROM:<a@b>", Recipient),
        ("MAIL FROM:<a@b> SIZE", ParameterSyntax),
        ("MAIL FROM:<a@b> SIZE=", ParameterSyntax),
        ("MAIL FROM:<a@b> SIZE=-1", ParameterSyntax),
        ("MAIL FROM:<a@b> SIZE=18446744073709551616", ParameterSyntax),
        ("MAIL FROM:<a@b> SIZE=000000000000000000001", ParameterSyntax),
        ("MAIL FROM:<a@b> SIZE=1 SIZE=1", ParameterSyntax),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", ParameterSyntax),
        ("MAIL FROM:<a@b> SMTPUTF8=1", ParameterSyntax),
        ("MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8", ParameterSyntax),
        ("MAIL FROM:<a@b> =1", ParameterSyntax),
        ("MAIL FROM:<a@b> X=a=b", ParameterSyntax),
        ("MAIL FROM:<a@b> \u{e4}=1", ParameterSyntax),
        ("MAIL FROM:<a@b> AUTH", ParameterSyntax),
        ("MAIL FROM:<a@b> AUTH=a+3d", ParameterSyntax),
        ("MAIL FROM:<a@b> AUTH=a+4", ParameterSyntax),
        ("MAIL FROM:<a@b> AUTH=<> AUTH=<>", ParameterSyntax),
        ("RCPT TO:<a@b> AUTH=<>", ParameterUnknown),
        ("AUTH", Login),
        ("AUTH PLAIN x y", Login),
        ("AUTHPLAIN x", Unknown),
        ("MAIL FROM:<a@b> RET=HEAD", ParameterSyntax),
        ("MAIL FROM:<a@b> RET", ParameterSyntax),
        ("MAIL FROM:<a@b> RET=FULL RET=FULL", ParameterSyntax),
        ("MAIL FROM:<a@b> ENVID=", ParameterSyntax),
        ("MAIL FROM:<a@b> ENVID=a+b", ParameterSyntax),
        ("MAIL FROM:<a@b> ENVID=a ENVID=b", ParameterSyntax),
        ("MAIL FROM:<a@b> ENVID=\u{e4}", ParameterSyntax),
        ("MAIL FROM:<a@b> NOTIFY=NEVER", ParameterUnknown),
        ("RCPT TO:<a@b> RET=FULL", ParameterUnknown),
        ("RCPT TO:<a@b> NOTIFY", ParameterSyntax),
        ("RCPT TO:<a@b> NOTIFY=SOMETIMES", ParameterSyntax),
        ("RCPT TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY", ParameterSyntax),
        ("RCPT TO:<a@b> ORCPT", ParameterSyntax),
        ("RCPT TO:<a@b> ORCPT=a@b", ParameterSyntax),
        ("RCPT TO:<a@b> ORCPT=rfc822;a@b ORCPT=rfc822;a@b", ParameterSyntax),
        ("RCPT TO:<a@b> ==", ParameterSyntax),
        ("MAIL FROM:<\u{e4}@b>", NeedsSmtpUtf8),
        ("BDAT", ChunkSize),
        ("BDAT x", ChunkSize),
        ("BDAT -1 LAST", ChunkSize),
        ("BDAT 99999999999999999999 LAST", ChunkSize),
        ("BDAT LAST", ChunkSize),
        ("BDAT 5 FIRST", ChunkArgument { size: 5 }),
        ("BDAT 5 LAST LAST", ChunkArgument { size: 5 }),
    ];
    for (line, expected) in rows {
        assert_eq!(esmtp(line), Err(expected), "{line}");
    }
}

/// RFC 3461 4.
#[test]
fn the_parameters_of_dsn_are_read() {
    let line = "MAIL FROM:<a@b> ret=hdrs ENVID=QQ+2B1";
    let expected = MailFrom { ret: Some(Ret::Headers), envid: Some("QQ+1".into()), ..mail("a@b") };
    assert!(expected.asks_for_notices());
    assert_eq!(esmtp(line), Ok(Command::Mail(expected)));
    let address = Address::parse_for(Path::Forward, "c@d").unwrap();
    let notify = Some(Notify { success: true, failure: false, delay: true });
    let expected = RcptTo { address, notify, orcpt: Some("rfc822;C@d".into()), utf8: false };
    assert!(expected.asks_for_notices());
    let line = "RCPT TO:<c@d> NOTIFY=success,delay ORCPT=rfc822;C@d";
    assert_eq!(esmtp(line), Ok(Command::Rcpt(expected)));
}

/// RFC 5321 2.2.1: after HELO there are no extensions.
#[test]
fn parameters_need_ehlo() {
    let parse = |line: &'static str| Command::parse(line.as_bytes(), Dialect::Smtp);
    assert_eq!(parse("MAIL FROM:<a@b> SIZE=1"), Err(CommandError::ParameterUnknown));
    assert_eq!(parse("RCPT TO:<a@b> NOTIFY=NEVER"), Err(CommandError::ParameterUnknown));
    assert!(parse("MAIL FROM:<a@b>").is_ok());
}

/// Octets that are not UTF-8 are refused, never lost.
#[test]
fn addresses_that_are_not_utf8_are_refused() {
    let line = b"MAIL FROM:<\xff@b> SMTPUTF8";
    assert_eq!(Command::parse(line, Dialect::Esmtp), Err(CommandError::Sender));
}

#[test]
fn rfc_4954_5_mail_may_name_its_submitter_who_is_not_believed() {
    for value in ["<>", "e+3Dmc2@example.com", "a@b", "+2B"] {
        let line = format!("MAIL FROM:<a@b> AUTH={value} SIZE=1");
        let expected = MailFrom { submitter: true, size: Some(1), ..mail("a@b") };
        assert_eq!(esmtp(&line), Ok(Command::Mail(expected)), "{value}");
    }
    assert_eq!(
        esmtp("auth Plain ="),
        Ok(Command::Auth { mechanism: b"Plain", initial: Some(b"=") })
    );
}
