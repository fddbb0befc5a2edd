//! What is queued: transactions, their mails and bodies, and the outcome of attempts.
//!
//! Owns the names ([`TransactionId`], [`MailId`]) and the values that cross the queue's trait.
//! Never does IO and never copies a body.
//!
//! Diagnostics: [`IdError`] for a name that does not parse, [`BodyError`] for bytes without the
//! zero at their end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::extras::Extras;
use super::wishes::{MailDsn, Wishes};

/// The name of one transaction: unix microseconds shifted left by 8, or'ed with the worker.
///
/// Unique over restarts as long as it comes from an [`Ids`] that was told the largest recovered
/// one. Ordered by time. Shown as 13 characters of Crockford's base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(u64);

impl TransactionId {
    /// The id with this number, as stored or parsed.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number behind the id.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// As it is shown, without a string of its own.
    pub fn shown(self) -> ShownId {
        ShownId(std::array::from_fn(|at| {
            let value = self.0 >> (5 * (ID_CHARACTERS - 1 - at)) & 31;
            ALPHABET[value as usize]
        }))
    }

    /// The name of the mail for the recipient at `index`.
    pub const fn mail(self, index: u16) -> MailId {
        MailId { transaction: self, index }
    }
}

/// The characters of Crockford's base 32, by value.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a transaction id: 4 bits in the first, 5 in each of the others.
const ID_CHARACTERS: usize = 13;

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown().as_str())
    }
}

/// The characters of a [`TransactionId`].
#[derive(Clone, Copy, Debug)]
pub struct ShownId([u8; ID_CHARACTERS]);

impl ShownId {
    /// They.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("they are ASCII")
    }
}

impl FromStr for TransactionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != ID_CHARACTERS {
            return Err(IdError);
        }
        let mut number: u64 = 0;
        for byte in text.bytes() {
            let value = digit(byte).ok_or(IdError)?;
            // The first character holds four bits only.
            if number >> 59 != 0 {
                return Err(IdError);
            }
            number = number << 5 | u64::from(value);
        }
        Ok(Self(number))
    }
}

/// The value of one character; as Crockford asks, case does not matter and look-alikes are read.
fn digit(byte: u8) -> Option<u8> {
    let upper = match byte.to_ascii_uppercase() {
        b'I' | b'L' => b'1',
        b'O' => b'0',
        other => other,
    };
    ALPHABET.iter().position(|&c| c == upper).map(|value| value as u8)
}

/// A text that is not the name of a transaction or mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a queue id is 13 characters of Crockford's base 32, for a mail followed by '-' and a number up to 65535"
)]
pub struct IdError;

/// The name of one mail: one recipient of one transaction.
///
/// Shown as the transaction, `-`, and the index in decimal; this is what a client sees after its
/// 250, and what an operator types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId {
    /// The transaction it came in with.
    pub transaction: TransactionId,
    /// Which of its recipients; see [`Mail::index`].
    pub index: u16,
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.transaction, self.index)
    }
}

impl FromStr for MailId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (transaction, index) = text.split_once('-').ok_or(IdError)?;
        // `parse` alone would also take a plus sign.
        if !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(IdError);
        }
        Ok(Self { transaction: transaction.parse()?, index: index.parse().map_err(|_| IdError)? })
    }
}

/// Gives out the transaction ids of one worker, strictly increasing.
#[derive(Debug)]
pub struct Ids {
    worker: u8,
    tick: u64,
}

impl Ids {
    /// Ids of `worker` that are all above `floor`, the largest recovered id of any worker.
    pub const fn new(worker: u8, floor: Option<TransactionId>) -> Self {
        let tick = match floor {
            Some(floor) => floor.0 >> 8,
            None => 0,
        };
        Self { worker, tick }
    }

    /// The next id. `now_us` is unix time in microseconds; a clock that stands or goes back is
    /// harmless, the ids then run ahead of it.
    ///
    /// # Panics
    /// When the 56 bits of time are used up, in the year 4253.
    pub fn next_id(&mut self, now_us: u64) -> TransactionId {
        self.tick = (self.tick + 1).max(now_us);
        assert!(self.tick >> 56 == 0, "time in an id has 56 bits");
        TransactionId(self.tick << 8 | u64::from(self.worker))
    }
}

/// The text of one message: contiguous bytes that always keep one zero byte past their end.
///
/// The zero lets a plugin see the text as a C string (D-41). Cloning is a reference count; neither
/// the way to the disk nor that to a socket copies the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Arc<Vec<u8>>);

impl Body {
    /// The text, without the zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The buffer that clones share, with the zero.
    pub fn shared(&self) -> &Arc<Vec<u8>> {
        &self.0
    }

    /// Changes the text in place; where others hold it as well, a copy of it.
    pub fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let text = Arc::make_mut(&mut self.0);
        text.pop();
        change(text);
        text.push(0);
    }

    /// The text and the zero past its end.
    pub fn as_bytes_with_nul(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for Body {
    type Error = BodyError;

    /// Takes bytes that already end in the zero.
    fn try_from(bytes: Vec<u8>) -> Result<Self, BodyError> {
        match bytes.last() {
            Some(0) => Ok(Self(Arc::new(bytes))),
            Some(_) | None => Err(BodyError),
        }
    }
}

/// The empty text.
impl Default for Body {
    fn default() -> Self {
        Self(Arc::new(vec![0]))
    }
}

/// Message text stays out of logs: only its length is shown.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.as_bytes().len())
    }
}

/// The bytes of a body did not end in a zero byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body must end in one zero byte")]
pub struct BodyError;

/// One recipient of a transaction, with what it is to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its place among the recipients as they came in. Never changes: when others have been
    /// settled and the transaction was rewritten, the survivors keep theirs. Increasing within
    /// [`Transaction::mails`].
    pub index: u16,
    /// The sender's address; empty is the null sender (RFC 5321 section 4.5.5).
    pub envelope: Box<str>,
    /// The recipient's address.
    pub recipient: Box<str>,
    /// Index into [`Transaction::bodies`], or [`NO_BODY`]; a plugin may change the text per recipient.
    pub body: u16,
    /// What the sender asked for of notices about this recipient, if anything.
    pub dsn: Option<Box<MailDsn>>,
    /// What plugins have made of it, if anything.
    pub extras: Option<Arc<Extras>>,
}

/// The two addresses of a mail that waits, as one allocation: there may be a million of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The sender's and the recipient's.
    text: Box<str>,
    /// Bytes of the sender's.
    envelope_bytes: u32,
}

impl Addresses {
    /// Of the sender, empty for the null sender, and of the recipient.
    ///
    /// # Panics
    /// If an address has 4 GiB: no record can hold it.
    pub fn new(envelope: &str, recipient: &str) -> Self {
        let envelope_bytes = u32::try_from(envelope.len()).expect("an address fits into a record");
        let mut text = String::with_capacity(envelope.len() + recipient.len());
        text.push_str(envelope);
        text.push_str(recipient);
        Self { text: text.into(), envelope_bytes }
    }

    /// The sender's address; empty is the null sender.
    pub fn envelope(&self) -> &str {
        &self.text[..self.envelope_bytes as usize]
    }

    /// The recipient's address.
    pub fn recipient(&self) -> &str {
        &self.text[self.envelope_bytes as usize..]
    }
}

/// The [`Mail::body`] of a mail that has no text (D-6A): a plugin may take it away (D-64).
pub const NO_BODY: u16 = u16::MAX;

/// Where a transaction came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub remote: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
    /// What the client called itself.
    pub helo: Arc<str>,
    /// The user it authenticated as.
    pub user: Option<Arc<str>>,
    /// The connection was encrypted.
    pub secure: bool,
    /// The client was authenticated.
    pub authenticated: bool,
}

impl Origin {
    /// Where a transaction comes from that this server wrote itself: `hostname` is its name, and no
    /// client has the unspecified address.
    pub fn internal(hostname: &str) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self {
            remote: nowhere,
            local: nowhere,
            helo: hostname.into(),
            user: None,
            secure: false,
            authenticated: false,
        }
    }
}

/// What one final dot brought: the message once, all its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its name.
    pub id: TransactionId,
    /// When it was received, unix time in milliseconds.
    pub received_ms: u64,
    /// The recipients, at least one, with increasing [`Mail::index`].
    pub mails: Vec<Mail>,
    /// The texts. In a transaction read back, a text that no remaining mail uses may be empty.
    pub bodies: Vec<Body>,
    /// Our own Received field with its CRLF, sent before the body.
    pub trace: Box<[u8]>,
    /// Where it came from.
    pub origin: Origin,
    /// BODY=8BITMIME was given (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 was given (RFC 6531).
    pub smtputf8: bool,
    /// What it asks for itself, if anything.
    pub wishes: Option<Box<Wishes>>,
    /// The named queue that it is an entry of: then it is no mail to deliver, and its one body is the
    /// JSON of a result.
    pub shelf: Option<Box<str>>,
}

impl Transaction {
    /// Whether this server wrote it itself: a result or a notice. No client waits for it, and it is not
    /// refused for want of space, because the outcome that it tells of must not be held up.
    pub fn is_internal(&self) -> bool {
        self.shelf.is_some() || self.origin.remote.ip().is_unspecified()
    }

    /// The mail with this [`Mail::index`].
    pub fn mail(&self, index: u16) -> Option<&Mail> {
        let place = self.mails.binary_search_by_key(&index, |mail| mail.index).ok()?;
        self.mails.get(place)
    }

    /// What `mail` asks for: its own wishes, or those of all.
    pub fn wishes_of<'a>(&'a self, mail: &'a Mail) -> Option<&'a Wishes> {
        let own = mail.extras.as_deref().and_then(|extras| extras.wishes.as_deref());
        own.or(self.wishes.as_deref())
    }

    /// The text of `mail`.
    pub fn body(&self, mail: &Mail) -> Option<&Body> {
        self.bodies.get(usize::from(mail.body))
    }

    /// The bytes of all texts together.
    pub fn body_bytes(&self) -> u64 {
        self.bodies.iter().map(|body| body.as_bytes().len() as u64).sum()
    }
}

/// The outcome of one attempt to deliver one mail: result and what comes next, settled as one.
///
/// An engine may keep only the first [`Attempt::TEXT_BYTES_MAX`] bytes of each text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub mail: MailId,
    /// When it ended, unix time in milliseconds.
    pub at_ms: u64,
    /// What comes next.
    pub next: Next,
    /// How far it came, in MailerQ's words: `connect`, `mailfrom`, `data`, `message` and so on.
    pub state: Box<str>,
    /// How it ended, in MailerQ's words: `accepted`, `timeout`, `lost`, `invalid`, `error`.
    pub result: Box<str>,
    /// The reply code, 0 when there was none.
    pub code: u16,
    /// The enhanced status code (RFC 3463), empty when there was none.
    pub status: Box<str>,
    /// The reply's text, or why there was none.
    pub description: Box<str>,
    /// The local address it went out from.
    pub from: Option<IpAddr>,
    /// The server it went to.
    pub to: Option<SocketAddr>,
    /// The mail's extras from now on, where plugins changed them on its way out.
    pub extras: Option<Arc<Extras>>,
    /// More about the connection, for results: the text of one JSON object, at most
    /// [`Attempt::FACTS_BYTES_MAX`] bytes; absent where nobody asked.
    pub facts: Option<Box<str>>,
}

impl Attempt {
    /// Most bytes of each text that an engine must keep.
    pub const TEXT_BYTES_MAX: usize = 1024;
    /// Most bytes of [`Attempt::facts`]; an engine keeps no more.
    pub const FACTS_BYTES_MAX: usize = 16 << 10;

    /// Whether its mail's time was over: nothing was tried, and what was said before explains it.
    pub fn is_age_out(&self) -> bool {
        self.next == Next::Removed && (&*self.state, &*self.result) == ("process", "timeout")
    }
}

/// What becomes of a mail after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived: freed.
    Delivered,
    /// It failed for good: kept and shown until it is [`Next::Removed`].
    Failed,
    /// It is to be tried again.
    Retry {
        /// Not before this unix time in milliseconds.
        not_before_ms: u64,
    },
    /// It aged out or was removed by hand: freed.
    Removed,
}

impl Next {
    /// Whether the queue lets go of the mail.
    pub const fn frees(self) -> bool {
        match self {
            Self::Delivered | Self::Removed => true,
            Self::Failed | Self::Retry { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_shown() {
        for number in [0, 1, 31, 32, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = TransactionId(number);
            assert_eq!(id.to_string().len(), ID_CHARACTERS);
            assert_eq!(id.to_string().parse(), Ok(id));
            let mail = id.mail(65535);
            assert_eq!(mail.to_string().parse(), Ok(mail));
        }
    }

    #[test]
    fn look_alike_letters_are_read() {
        assert_eq!("oooooooooooIl".parse(), Ok(TransactionId(33)));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let rows = [
            ("empty", ""),
            ("no index", "0000000000001"),
            ("empty index", "0000000000001-"),
            ("index too large", "0000000000001-65536"),
            ("signed index", "0000000000001-+1"),
            ("more than 64 bits", "G000000000000-0"),
            ("short", "000000000001-0"),
            ("a letter outside the alphabet", "U000000000000-0"),
            ("not ASCII", "00000000000é-0"),
        ];
        for (name, text) in rows {
            assert_eq!(text.parse::<MailId>(), Err(IdError), "{name}");
        }
    }

    #[test]
    fn ids_increase_whatever_the_clock_does() {
        let mut ids = Ids::new(3, None);
        let mut last = ids.next_id(1_000);
        assert_eq!(last.as_u64(), 1_000 << 8 | 3);
        for now in [1_000, 999, 0, 1_001, 5_000] {
            let next = ids.next_id(now);
            assert!(next > last);
            last = next;
        }
        assert!(Ids::new(0, Some(last)).next_id(7) > last);
    }

    #[test]
    fn d_41_a_body_keeps_a_zero_past_its_end() {
        assert_eq!(Body::try_from(b"text".to_vec()), Err(BodyError));
        assert_eq!(Body::try_from(Vec::new()), Err(BodyError));
        let body = Body::try_from(b"te\0xt\0".to_vec()).unwrap();
        assert_eq!(body.as_bytes(), b"te\0xt");
        assert_eq!(body.as_bytes_with_nul(), b"te\0xt\0");
        assert_eq!(format!("{body:?}"), "Body(5 bytes)");
    }
}
