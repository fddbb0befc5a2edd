//! What an administrator may choose about the receiving side.
//!
//! Owns defaults. Settings are checked where they are read; nothing is refused here.
//!
//! Diagnostics: none.

/// Limits and names of one listener, shared by its sessions.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name in the banner and the EHLO reply.
    pub hostname: String,
    /// Octets that a message may have; offered as `SIZE` (RFC 1870).
    pub size_max: u64,
    /// Accepted recipients that one mail may have. RFC 5321 4.5.3.1.8 asks for at least 100.
    pub recipients_max: usize,
    /// Octets that a command line may have with its CRLF. RFC 5321 4.5.3.1.4 asks for at least 512,
    /// and SIZE, BODY and SMTPUTF8 for about 60 more.
    pub command_line_bytes_max: usize,
    /// Errors of the client that are forgiven since its last accepted message; one more ends the
    /// session. Of the driver's refusals only those of recipients count, if they are permanent.
    pub errors_max: u32,
    /// Whether STARTTLS is offered to clients in clear.
    pub starttls: bool,
    /// Whether mail is taken only under TLS.
    pub tls_required: bool,
    /// Whether `DSN` is offered, and with it the parameters of RFC 3461.
    pub dsn: bool,
    /// Octets of unsent replies at which the session stops to read commands.
    pub output_bytes_max: usize,
}

/// What the driver wants to be asked about beyond what it always is. Where it does not want to, the
/// session answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asks {
    /// HELO and EHLO: [`Event::Hello`](super::Event::Hello).
    pub hello: bool,
    /// RSET, and an EHLO that drops a transaction: [`Event::Rset`](super::Event::Rset).
    pub reset: bool,
}

impl Options {
    /// The defaults under a name.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            size_max: 100 * 1024 * 1024,
            recipients_max: 1000,
            command_line_bytes_max: 2048,
            errors_max: 20,
            starttls: false,
            tls_required: false,
            dsn: true,
            output_bytes_max: 64 * 1024,
        }
    }
}
