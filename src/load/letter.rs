//! The texts of messages: every size out of one piece of memory, which is made once.
//!
//! A text is the front of the longest one and an end of its own, so that nothing is copied and each has
//! exactly as many octets as it should. No line begins with a dot, so that DATA and BDAT carry the same
//! octets.
//!
//! **Diagnostics**: none.

use crate::cli::{Flight, Share};

/// Octets of a line without its end: what mail programs wrap at.
const LINE_BYTES: usize = 76;

/// A text, ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    /// Octets of the longest text that it begins with.
    pub(super) front: usize,
    /// What ends it, and in DATA the lone dot.
    pub(super) end: &'static [u8],
}

impl Letter {
    /// Octets of both.
    pub(super) fn len(self) -> usize {
        self.front + self.end.len()
    }
}

/// All texts.
#[derive(Debug)]
pub(super) struct Letters {
    longest: Vec<u8>,
    dotted: bool,
}

impl Letters {
    /// Texts of these sizes, with this header at their front.
    pub(super) fn new(header: &str, sizes: &[Share], flight: Flight) -> Letters {
        let most = sizes.iter().map(|share| share.most).max().unwrap_or_default() as usize;
        let mut longest = Vec::with_capacity(most + LINE_BYTES + 2);
        longest.extend_from_slice(header.as_bytes());
        let letters = || (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').cycle();
        for line in 0.. {
            if longest.len() >= most {
                break;
            }
            longest.extend(letters().skip(line % 62).take(LINE_BYTES));
            longest.extend_from_slice(b"\r\n");
        }
        longest.truncate(most);
        Letters { longest, dotted: flight != Flight::Bdat }
    }

    /// The text of so many octets, which are 2 at least; the lone dot is not among them.
    pub(super) fn of(&self, octets: u32) -> Letter {
        let front = (octets as usize).min(self.longest.len()).saturating_sub(2);
        // A line end that would be cut in two becomes a letter.
        let cut = front > 0 && self.longest[front - 1] == b'\r';
        let end: &'static [u8] = match (cut, self.dotted) {
            (false, true) => b"\r\n.\r\n",
            (false, false) => b"\r\n",
            (true, true) => b"x\r\n.\r\n",
            (true, false) => b"x\r\n",
        };
        Letter { front: front - usize::from(cut), end }
    }

    /// The octets that a letter begins with.
    pub(super) fn front(&self, letter: Letter) -> &[u8] {
        &self.longest[..letter.front]
    }
}

/// Draws sizes; the same ones at every start, so that runs can be compared.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// One for each thread.
    pub(super) fn new(index: u32) -> Dice {
        Dice(0x9e37_79b9_7f4a_7c15 ^ (u64::from(index) << 17))
    }

    /// A number below `bound`, which is not 0. Xorshift: enough to mix sizes.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Octets of the next message.
    pub(super) fn octets(&mut self, sizes: &[Share]) -> u32 {
        let share = match sizes {
            [only] => *only,
            [] => return 2,
            many => {
                let total = many.iter().map(|share| u64::from(share.weight)).sum();
                let mut left = self.below(total);
                let found = many.iter().find(|share| match left.checked_sub(share.weight.into()) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                });
                *found.expect("the weights add up to their sum")
            }
        };
        match share.most - share.least {
            0 => share.least,
            // Below a u32 by its bound.
            width => share.least + self.below(u64::from(width) + 1) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::is_crlf_only;

    const HEADER: &str = "From: <a@b.example>\r\nSubject: Load\r\n\r\n";

    fn share(least: u32, most: u32, weight: u32) -> Share {
        Share { least, most, weight }
    }

    #[test]
    fn a_text_has_exactly_its_octets_and_whole_lines_whatever_the_size() {
        let chunks = Letters::new(HEADER, &[share(2, 500, 1)], Flight::Bdat);
        let dotted = Letters::new(HEADER, &[share(2, 500, 1)], Flight::Lockstep);
        for octets in 2..=500 {
            let letter = chunks.of(octets);
            let text = [chunks.front(letter), letter.end].concat();
            assert_eq!((text.len(), letter.len()), (octets as usize, octets as usize));
            assert!(text.ends_with(b"\r\n") && is_crlf_only(&text), "{octets}");
            assert!(!text.starts_with(b".") && !text.windows(2).any(|pair| pair == b"\n."));
            let letter = dotted.of(octets);
            let with_dot = [dotted.front(letter), letter.end].concat();
            assert_eq!(with_dot, [&text, &b".\r\n"[..]].concat());
        }
    }

    #[test]
    fn sizes_come_as_often_as_they_weigh() {
        let sizes = [share(4096, 4096, 90), share(100, 200, 10)];
        let mut dice = Dice::new(0);
        let drawn: Vec<u32> = (0..10_000).map(|_| dice.octets(&sizes)).collect();
        let small = drawn.iter().filter(|octets| **octets != 4096).count();
        assert!((800..1200).contains(&small), "{small}");
        assert!(drawn.iter().all(|octets| *octets == 4096 || (100..=200).contains(octets)));
        assert!([100, 200].iter().all(|edge| drawn.contains(edge)), "both ends are drawn");
    }
}
