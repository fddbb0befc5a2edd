//! One mail stays one mail (CVE-2023-51764 and its kin): what comes in cannot be taken for two by us, and
//! what goes out cannot be taken for two by whoever receives it.
//!
//! Tables of octets, in and out; where they go out a listener looks at every octet (`wire.rs`), and the
//! servers of others count. **Diagnostics**: the row is named, and its way.

mod inbound;
mod outbound;
mod wire;

/// What a text turns into if some receiver splits it: a mail to somebody whom nobody wrote to.
const SMUGGLED: &[u8] = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n\
    Subject: smuggled\r\n\r\nText\r\n";

/// The local part that no mail may ever reach.
const VICTIM: &str = "victim";

/// What becomes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Refused, 554 5.6.0: a CR or LF stands alone in it.
    Refused,
    /// Taken, as one mail.
    OneMail,
}
use Fate::{OneMail, Refused};

/// What some receiver has taken for the end of a text, or might.
const ENDS: &[(&str, &[u8], Fate)] = &[
    ("LF . LF", b"\n.\n", Refused),
    ("LF . CRLF", b"\n.\r\n", Refused),
    ("LF . CR", b"\n.\r", Refused),
    ("CR . LF", b"\r.\n", Refused),
    ("CR . CR", b"\r.\r", Refused),
    ("CR . CRLF", b"\r.\r\n", Refused),
    ("CRLF . CR", b"\r\n.\r", Refused),
    ("CRLF . LF", b"\r\n.\n", Refused),
    ("CRLF . CR CRLF", b"\r\n.\r\r\n", Refused),
    ("CR CRLF . CR CRLF", b"\r\r\n.\r\r\n", Refused),
    ("LF CR . LF CR", b"\n\r.\n\r", Refused),
    ("CR NUL LF . CR NUL LF", b"\r\0\n.\r\0\n", Refused),
    ("CRLF CR . CRLF", b"\r\n\r.\r\n", Refused),
    ("CRLF LF . CRLF", b"\r\n\n.\r\n", Refused),
    ("CRLF NUL . CRLF", b"\r\n\0.\r\n", OneMail),
    ("CRLF . NUL CRLF", b"\r\n.\0\r\n", OneMail),
    ("CRLF . blank CRLF", b"\r\n. \r\n", OneMail),
    ("CRLF . tab CRLF", b"\r\n.\t\r\n", OneMail),
    ("CRLF blank . CRLF", b"\r\n .\r\n", OneMail),
    ("CRLF . . CRLF", b"\r\n..\r\n", OneMail),
    ("VT . VT", b"\x0b.\x0b", OneMail),
    ("FF . FF", b"\x0c.\x0c", OneMail),
    ("NEL . NEL", b"\x85.\x85", OneMail),
    ("LINE SEPARATOR . LINE SEPARATOR", b"\xe2\x80\xa8.\xe2\x80\xa8", OneMail),
    ("CR and LF with the eighth bit", b"\x8d\x8a.\x8d\x8a", OneMail),
];
