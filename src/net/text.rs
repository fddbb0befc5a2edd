//! A message text on its way to a socket, stuffed as it goes or counted as one chunk, and never copied.
//!
//! Commands that wait to be sent go before it in the same write, so that a small mail leaves in one.
//!
//! Must never: hold more than references to the text.
//!
//! **Diagnostics**: none; the transport says how a write ended.

use std::io::IoSlice;
use std::sync::Arc;

use crate::queue::{Body, Transaction};
use crate::smtp::stuffer::{LineRepair, Place, Stuffer};

use super::transport::{Moved, Transport};

/// Slices handed to one write; the system takes 1,024 at most.
const SLICES_MAX: usize = 64;

/// Writes of one text in one turn.
const WRITES_MAX: usize = 16;

/// What a far end has to take of a text at least, on the average.
const BYTES_PER_S_MIN: usize = 4096;

/// What ends a text whose last line has no end.
const LINE_END: &[u8] = b"\r\n";

/// A text that is being sent.
#[derive(Debug)]
pub struct TextOut {
    transaction: Arc<Transaction>,
    body: Body,
    /// Whether our Received field goes before it.
    traced: bool,
    form: Form,
    /// Octets that are out, as they are sent.
    sent: usize,
}

/// How it goes out, and how much of it is.
#[derive(Debug)]
enum Form {
    /// As DATA wants it (RFC 5321 4.5.2): stuffed, ended by a dot.
    Stuffed {
        place: Place,
        /// Octets of the slice at `place` that are out.
        skip: usize,
    },
    /// As BDAT wants it (RFC 3030 2): as it is, so many octets.
    Chunk {
        /// Octets that are out.
        sent: usize,
    },
}

/// How far a text has come.
#[derive(Debug)]
pub enum Sent {
    /// All of it, with the line that ends it.
    All,
    /// Much of it; the socket may take more, after the others had their turn.
    Some,
    /// The socket is full.
    Blocked,
    /// The connection is lost.
    Gone,
}

/// Octets that a write brought out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Of what goes before the text.
    pub head: usize,
    /// Of the text as it is sent.
    pub text: usize,
}

impl TextOut {
    /// The stored text, with our Received field before it.
    pub fn stored(transaction: Arc<Transaction>, body: Body) -> TextOut {
        let form = Form::Stuffed { place: Place::START, skip: 0 };
        TextOut { transaction, body, traced: true, form, sent: 0 }
    }

    /// A text that a plugin made for this attempt: it is final as it is.
    pub fn made(transaction: Arc<Transaction>, body: Body) -> TextOut {
        TextOut { traced: false, ..TextOut::stored(transaction, body) }
    }

    /// The same text as one chunk of [`octets`](Self::octets).
    pub fn into_chunk(self) -> TextOut {
        TextOut { form: Form::Chunk { sent: 0 }, ..self }
    }

    /// Octets of the text with the end of its last line, before any stuffing.
    pub fn octets(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Octets of it that are out: without the stuffing, once it is all.
    pub fn sent_octets(&self) -> usize {
        self.sent.min(self.octets())
    }

    /// How long all of it may take, in milliseconds, besides the time that each block may: a far end that
    /// takes an octet now and then must not keep a connection for days.
    pub fn patience_ms(&self) -> u64 {
        (self.octets() as u64).saturating_mul(1000) / BYTES_PER_S_MIN as u64
    }

    /// Our Received field, the body, and a line's end if they lack one: the text is the same whichever
    /// way it goes.
    fn parts(&self) -> [&[u8]; 3] {
        let trace: &[u8] = if self.traced { &self.transaction.trace } else { &[] };
        let body = self.body.as_bytes();
        let last = if body.is_empty() { trace } else { body };
        let whole = last.is_empty() || last.ends_with(LINE_END);
        [trace, body, if whole { &[] } else { LINE_END }]
    }

    /// Writes `head` and behind it as much of the text as the socket takes. What of `head` is out must
    /// not be given again, and nothing may be added to it before the text is out.
    pub fn write(&mut self, head: &[u8], transport: &mut Transport) -> (Sent, Written) {
        let mut total = Written::default();
        for _ in 0..WRITES_MAX {
            let head = &head[total.head..];
            let (moved, ended) = match self.form {
                Form::Stuffed { place, skip } => self.write_stuffed(head, place, skip, transport),
                Form::Chunk { sent } => self.write_chunk(head, sent, transport),
            };
            let count = match moved {
                Moved::Some(count) | Moved::Blocked(count) => count,
                Moved::End | Moved::Gone(_) => return (Sent::Gone, total),
            };
            let of_head = count.min(head.len());
            total.head += of_head;
            total.text += count - of_head;
            self.sent += count - of_head;
            if ended {
                return (Sent::All, total);
            }
            if matches!(moved, Moved::Blocked(_)) {
                return (Sent::Blocked, total);
            }
        }
        (Sent::Some, total)
    }

    /// One write of what comes next; whether the text is out behind it.
    fn write_stuffed(
        &mut self,
        head: &[u8],
        place: Place,
        skip: usize,
        transport: &mut Transport,
    ) -> (Moved, bool) {
        let [trace, body, _] = self.parts();
        let mut stuffer = Stuffer::resume(trace, body, LineRepair::Trust, place);
        let mut slices = Vec::with_capacity(5);
        let mut places = Vec::with_capacity(4);
        if !head.is_empty() {
            slices.push(IoSlice::new(head));
        }
        while slices.len() < SLICES_MAX
            && let Some(slice) = stuffer.next()
        {
            let skip = if places.is_empty() { skip } else { 0 };
            places.push((slice.len(), stuffer.place()));
            slices.push(IoSlice::new(&slice[skip..]));
        }
        let moved = transport.write_slices(&slices);
        let ended = match &moved {
            Moved::Some(count) | Moved::Blocked(count) if *count >= head.len() => {
                let (place, skip) = advanced(place, count - head.len() + skip, &places);
                self.form = Form::Stuffed { place, skip };
                place.is_end() && skip == 0
            }
            Moved::Some(_) | Moved::Blocked(_) | Moved::End | Moved::Gone(_) => false,
        };
        (moved, ended)
    }

    fn write_chunk(
        &mut self,
        head: &[u8],
        sent: usize,
        transport: &mut Transport,
    ) -> (Moved, bool) {
        let mut skip = sent;
        let mut rest = self.parts();
        for part in &mut rest {
            let count = skip.min(part.len());
            *part = &part[count..];
            skip -= count;
        }
        let left: usize = rest.iter().map(|part| part.len()).sum();
        let moved = transport.write_slices(&[
            IoSlice::new(head),
            IoSlice::new(rest[0]),
            IoSlice::new(rest[1]),
            IoSlice::new(rest[2]),
        ]);
        let ended = match &moved {
            Moved::Some(count) | Moved::Blocked(count) if *count >= head.len() => {
                let count = count - head.len();
                self.form = Form::Chunk { sent: sent + count };
                count == left
            }
            Moved::Some(_) | Moved::Blocked(_) | Moved::End | Moved::Gone(_) => false,
        };
        (moved, ended)
    }
}

/// Where the text is when `left` octets, counted from the slice at `place`, are out; with those of the
/// slice that is begun.
fn advanced(mut place: Place, mut left: usize, places: &[(usize, Place)]) -> (Place, usize) {
    for &(length, next) in places {
        if left < length {
            break;
        }
        left -= length;
        place = next;
    }
    (place, left)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use mio::{Poll, Token};

    use super::*;
    use crate::queue::{Origin, TransactionId};

    fn text(trace: &[u8], body: &[u8]) -> TextOut {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 25));
        let transaction = Transaction {
            id: TransactionId::from_u64(1),
            received_ms: 0,
            mails: Vec::new(),
            bodies: Vec::new(),
            trace: trace.into(),
            origin: Origin {
                remote: address,
                local: address,
                helo: "client.example".into(),
                user: None,
                secure: false,
                authenticated: false,
            },
            eight_bit: false,
            smtputf8: false,
            wishes: None,
            shelf: None,
        };
        let body = Body::try_from([body, b"\0"].concat()).unwrap();
        TextOut::stored(Arc::new(transaction), body)
    }

    /// What the other end of a small socket gets of a command and a text.
    fn sent(mut text: TextOut) -> (Vec<u8>, usize) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket2::SockRef::from(&near).set_send_buffer_size(4096).unwrap();
        near.set_nonblocking(true).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all
        });
        let poll = Poll::new().unwrap();
        let near = mio::net::TcpStream::from_std(near);
        let mut transport = Transport::register(near, poll.registry(), Token(1)).unwrap();
        let mut head: &[u8] = b"MAIL\r\n";
        let mut count = 0;
        loop {
            let (sent, written) = text.write(head, &mut transport);
            head = &head[written.head..];
            count += written.text;
            match sent {
                Sent::All => break,
                Sent::Some | Sent::Blocked => std::thread::yield_now(),
                Sent::Gone => panic!("the other end reads"),
            }
        }
        assert_eq!(text.sent_octets(), text.octets());
        drop(transport);
        (reader.join().unwrap(), count)
    }

    /// RFC 3030 2, RFC 5321 4.5.2: the same text, whichever way it goes.
    #[test]
    fn a_text_is_the_same_stuffed_and_as_a_chunk() {
        let long = b".dots and a line without an end.\r\n".repeat(4000);
        let rows: &[(&[u8], &[u8], &[u8])] = &[
            (b"R: x\r\n", b"a\r\n.b\r\n", b"R: x\r\na\r\n.b\r\n"),
            (b"R: x\r\n", b"a", b"R: x\r\na\r\n"),
            (b"R: x\r\n", b"", b"R: x\r\n"),
            (b"", b"", b""),
            (b"", &long, &long),
        ];
        for &(trace, body, expected) in rows {
            let (stuffed, count) = sent(text(trace, body));
            assert_eq!(stuffed.len(), count + 6);
            let mut wire = Vec::from(b"MAIL\r\n");
            Stuffer::new(trace, body, LineRepair::Trust).write_to(&mut wire);
            assert!(stuffed == wire, "{}", body.len());
            let chunk = text(trace, body).into_chunk();
            assert_eq!(chunk.octets(), expected.len());
            if !expected.is_empty() {
                let (whole, count) = sent(chunk);
                assert!(whole == [b"MAIL\r\n", expected].concat(), "{}", body.len());
                assert_eq!(count, expected.len());
            }
        }
    }

    #[test]
    fn a_text_may_take_a_second_for_each_4_kib() {
        assert_eq!(text(b"", &[b'x'; 40_958]).patience_ms(), 10_000);
    }
}
