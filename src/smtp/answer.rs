//! The table of fixed replies: every reply that needs no word of its own, ready for the wire.
//!
//! Owns their texts. Nothing is formatted when one is sent. Replies that name something (a host, a
//! limit, a plugin's text) are [`Reply`](super::Reply)s.
//!
//! Diagnostics: none. A test proves each entry well-formed.

/// A reply that never changes, with its CRLF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(&'static str);

impl Fixed {
    /// The reply as it goes over the wire.
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The three-digit code.
    pub const fn code(self) -> u16 {
        let digits = self.0.as_bytes();
        (digits[0] - b'0') as u16 * 100 + (digits[1] - b'0') as u16 * 10 + (digits[2] - b'0') as u16
    }

    /// What follows the code, without the CRLF.
    pub fn text(self) -> &'static str {
        &self.0[4..self.0.len() - 2]
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Fixed = Fixed(concat!($text, "\r\n"));)*
        #[cfg(test)]
        const ALL: &[Fixed] = &[$($name),*];
    };
}

fixed! {
    /// RSET, and nothing was there to be reset that matters.
    RESET = "250 2.0.0 Reset";
    /// NOOP.
    NOTHING_DONE = "250 2.0.0 Ok";
    /// HELP.
    HELP = "214 2.0.0 EHLO HELO AUTH MAIL RCPT DATA BDAT RSET NOOP HELP VRFY QUIT (RFC 5321)";
    /// VRFY: neither yes nor no (RFC 5321 3.5.3, 7.3).
    CANNOT_VERIFY = "252 2.0.0 Send some mail, and it will be tried";
    /// EXPN.
    NOT_IMPLEMENTED = "502 5.5.1 Not implemented here";
    /// QUIT.
    GOODBYE = "221 2.0.0 Goodbye";
    /// MAIL accepted.
    SENDER_OK = "250 2.1.0 Sender ok";
    /// RCPT accepted.
    RECIPIENT_OK = "250 2.1.5 Recipient ok";
    /// DATA accepted.
    SEND_TEXT = "354 End the text with <CRLF>.<CRLF>";
    /// A chunk that is not the last one.
    CHUNK_OK = "250 2.0.0 Chunk received";
    /// The message is durable.
    MESSAGE_OK = "250 2.0.0 Message accepted";

    /// STARTTLS: the next octet is TLS (RFC 3207 4).
    READY_FOR_TLS = "220 2.0.0 Ready to start TLS";

    /// No such command.
    UNKNOWN_COMMAND = "500 5.5.2 Unknown command";
    /// Longer than the limit of command lines.
    LINE_TOO_LONG = "500 5.5.2 Line too long";
    /// A line that ends in LF alone, or with a CR inside.
    LINE_END = "500 5.5.2 Lines end in CRLF, and CR or LF never stand alone (curl --crlf)";
    /// A NUL in a command line.
    NUL_IN_COMMAND = "500 5.5.2 A command holds no NUL";
    /// EHLO or HELO without a usable name.
    HELLO_SYNTAX = "501 5.5.4 Say EHLO or HELO and the name of your host";
    /// A command that takes no argument has one.
    NO_ARGUMENT = "501 5.5.4 This command takes no argument";
    /// MAIL without a path that can be read.
    SENDER_SYNTAX = "501 5.1.7 Say MAIL FROM:<address>";
    /// RCPT without a path that can be read.
    RECIPIENT_SYNTAX = "501 5.1.3 Say RCPT TO:<address>";
    /// A parameter of MAIL or RCPT that cannot be read.
    PARAMETER_SYNTAX = "501 5.5.4 A parameter has no valid value, or comes twice";
    /// A parameter of MAIL or RCPT that was not offered (RFC 5321 4.1.1.11).
    PARAMETER_UNKNOWN = "555 5.5.4 A parameter is not known here";
    /// BDAT of a size that cannot be read: where the next command begins is unknown.
    CHUNK_SIZE_SYNTAX = "501 5.5.4 Say BDAT, a size and perhaps LAST; closing, as the rest has no order";
    /// BDAT with a size and something else than LAST.
    CHUNK_SYNTAX = "501 5.5.4 Say BDAT, a size and perhaps LAST";
    /// A non-ASCII address without SMTPUTF8 (RFC 6531 3.7.4.2).
    NEEDS_SMTPUTF8 = "553 5.6.7 This address needs the SMTPUTF8 parameter";
    /// MAIL before EHLO.
    HELLO_FIRST = "503 5.5.1 EHLO first";
    /// STARTTLS when TLS is active already.
    TLS_TWICE = "503 5.5.1 TLS is active already";
    /// A command that must not come between MAIL and the end of the text.
    IN_TRANSACTION = "503 5.5.1 Not within a mail; RSET first";
    /// MAIL in clear where TLS is demanded (RFC 3207 4).
    TLS_FIRST = "530 5.7.0 Must issue a STARTTLS command first";
    /// STARTTLS, and there is no usable certificate now (RFC 3207 4).
    TLS_UNAVAILABLE = "454 4.7.0 TLS is not available now";
    /// RCPT, DATA or BDAT before MAIL.
    MAIL_FIRST = "503 5.5.1 MAIL first";
    /// MAIL within a transaction.
    MAIL_TWICE = "503 5.5.1 One sender a mail; RSET to start over";
    /// RCPT or DATA after BDAT (RFC 3030 2).
    CHUNKS_STARTED = "503 5.5.1 Chunks have begun: BDAT or RSET";
    /// A chunk behind one that was refused.
    CHUNK_MISSING = "503 5.5.1 A chunk before was refused; RSET to start over";
    /// DATA or BDAT before any RCPT.
    RECIPIENT_FIRST = "503 5.5.1 RCPT first";
    /// DATA or BDAT, and every recipient was refused (D-55).
    NO_VALID_RECIPIENTS = "554 5.5.1 No valid recipients";
    /// More recipients than one mail may have here (RFC 5321 4.5.3.1.10).
    TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients; send the rest in another mail";
    /// The budget for bodies is used up.
    NO_MEMORY = "452 4.3.1 No room for this mail now";
    /// Larger than SIZE as offered (RFC 1870 6.1).
    TOO_LARGE = "552 5.3.4 The mail is larger than allowed";
    /// More header than is looked through for `x-mq-*` fields, which are in it.
    HEADER_TOO_LARGE = "552 5.3.4 The header is larger than one with x-mq fields may be";
    /// The text has a bare CR or LF: relaying it would let someone smuggle a second mail.
    TEXT_LINE_ENDS = "554 5.6.0 Lines end in CRLF, and CR or LF never stand alone (curl --crlf)";

    /// AUTH accepted (RFC 4954 6).
    LOGIN_OK = "235 2.7.0 Authentication successful";
    /// PLAIN without an initial response: an empty challenge (RFC 4954 4).
    CHALLENGE = "334 ";
    /// LOGIN: `Username:` in base64.
    ASK_LOGIN = "334 VXNlcm5hbWU6";
    /// LOGIN: `Password:` in base64.
    ASK_PASSWORD = "334 UGFzc3dvcmQ6";
    /// AUTH without a mechanism, or with too many words.
    LOGIN_ARGUMENT = "501 5.5.4 Say AUTH, a mechanism and perhaps a response";
    /// A response that is not base64, or not what the mechanism sends (RFC 4954 4).
    LOGIN_SYNTAX = "501 5.5.2 The response cannot be read";
    /// The client said `*` (RFC 4954 4).
    LOGIN_CANCELLED = "501 5.7.0 Authentication cancelled";
    /// A response longer than RFC 4954 4 has it.
    LOGIN_LINE_TOO_LONG = "500 5.5.6 The response is too long";
    /// A mechanism that was not offered (RFC 4954 4).
    MECHANISM_UNKNOWN = "504 5.5.4 This mechanism is not known here";
    /// AUTH after one that was successful (RFC 4954 4).
    LOGGED_IN = "503 5.5.1 You are authenticated";
    /// AUTH within a transaction (RFC 4954 4).
    LOGIN_IN_TRANSACTION = "503 5.5.1 AUTH comes before MAIL";
    /// AUTH where TLS must come first (RFC 4954 6).
    LOGIN_NEEDS_TLS = "538 5.7.11 Say STARTTLS first";
    /// Wrong credentials (RFC 4954 6). It says no more, whatever is wrong with them.
    LOGIN_REFUSED = "535 5.7.8 Authentication failed";
    /// Nobody can say now whether they are right (RFC 4954 6).
    LOGIN_LATER = "454 4.7.0 Authentication is not possible now; try again later";
    /// The check of a password took longer than a client waits.
    LOGIN_TIMEOUT = "421 4.7.0 Authentication took too long; closing";
    /// A recipient that only authenticated clients may send to (RFC 4954 6).
    LOGIN_FIRST = "530 5.7.0 Authentication required";

    /// More than 50 Received fields (RFC 5321 6.3).
    MAIL_LOOP = "554 5.4.6 Too many Received fields: a loop";
    /// The recipient is not ours and the client may not relay.
    NO_RELAY = "550 5.7.1 Relaying is not allowed";
    /// A plugin rejects the connection (RFC 5321 3.1).
    CONNECTION_REJECTED = "554 5.7.1 This connection is not accepted";
    /// A plugin defers it.
    CONNECTION_DEFERRED = "421 4.7.0 No connection of yours is accepted now; try again later";
    /// A plugin rejects an introduction (RFC 5321 4.1.4).
    HELLO_REJECTED = "550 5.7.1 You are not accepted under this name";
    /// A plugin defers it.
    HELLO_DEFERRED = "450 4.7.1 You are not accepted now; try again later";
    /// A plugin rejects a sender.
    SENDER_REJECTED = "550 5.7.1 This sender is not accepted";
    /// A plugin defers it.
    SENDER_DEFERRED = "451 4.7.1 This sender is not accepted now; try again later";
    /// A plugin rejects a recipient.
    RECIPIENT_REJECTED = "550 5.7.1 This recipient is not accepted";
    /// A plugin defers it.
    RECIPIENT_DEFERRED = "451 4.7.1 This recipient is not accepted now; try again later";
    /// A plugin rejects a message.
    MESSAGE_REJECTED = "554 5.7.1 This message is not accepted";
    /// A plugin defers it.
    MESSAGE_DEFERRED = "451 4.7.1 This message is not accepted now; try again later";
    /// A plugin wants the connection to end.
    DISMISSED = "421 4.7.0 The connection is closed";
    /// Something here failed; the client loses nothing by trying again.
    LOCAL_ERROR = "451 4.3.0 Local error; try again later";
    /// The disk is full.
    STORAGE_FULL = "452 4.3.1 No room on disk now";
    /// Too many errors of the client.
    TOO_MANY_ERRORS = "421 4.7.0 Too many errors; closing";
    /// A deadline passed.
    TIMED_OUT = "421 4.4.2 Timed out; closing";
    /// The disk took longer than a client waits.
    COMMIT_TIMEOUT = "421 4.3.0 The mail could not be stored in time; closing";
    /// A plugin kept a new connection for too long (D-27).
    PLUGIN_TIMEOUT = "421 4.3.0 Local error; try again later";
    /// The same where the settings have such a step refused for good (`plugin-failure`).
    PLUGIN_FAILED = "554 5.3.0 Local error; refused";
    /// The client's address is outside smtp-range.
    CLIENT_REFUSED = "554 5.7.1 Your address may not connect here";
    /// A limit of connections is reached.
    TOO_MANY_CONNECTIONS = "421 4.7.0 Too many connections; try again later";
    /// No file descriptor is left.
    NO_DESCRIPTORS = "421 4.3.2 Out of resources; try again later";
    /// The server takes no mail for now, and goes on delivering.
    NOT_NOW = "421 4.3.2 No mail is taken at the moment; try again later";
    /// The server stops.
    SHUTTING_DOWN = "421 4.3.2 The server is stopping; closing";
}

#[cfg(test)]
mod tests {
    use super::super::reply::{EnhancedStatus, Reply};
    use super::*;

    #[test]
    fn every_fixed_reply_is_well_formed() {
        for fixed in ALL {
            let text = std::str::from_utf8(fixed.as_bytes()).unwrap();
            assert!(text.len() <= 512 && text.ends_with("\r\n"), "{text}");
            assert!(text[..text.len() - 2].bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
            assert!((200..=599).contains(&fixed.code()), "{text}");
            assert_eq!(&text[3..4], " ", "{text}");
            // RFC 2034 4: every 2yz, 4yz and 5yz reply carries a status of its own class.
            let status = EnhancedStatus::split(fixed.text()).map(|(status, _)| status);
            let class = status.map(|s| u16::from(s.class()));
            assert_eq!(class, (fixed.code() / 100 != 3).then_some(fixed.code() / 100), "{text}");
        }
    }

    #[test]
    fn a_fixed_reply_keeps_its_wire_form_as_a_value() {
        for fixed in ALL {
            let mut out = Vec::new();
            Reply::from(*fixed).write_to(&mut out);
            assert_eq!(out, fixed.as_bytes());
        }
    }
}
