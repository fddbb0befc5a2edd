//! The commands of one message and what their replies mean, as values: codes in, what to send out.
//!
//! Must never: know sockets or octets.
//!
//! **Diagnostics**: none; a server that answers out of order ends up with a code that says so.

use crate::cli::Flight;

/// One message under way.
#[derive(Debug)]
pub(super) struct Transaction {
    flight: Flight,
    recipients: u32,
    step: Step,
    /// Replies to RCPT so far, and how many of those said yes.
    answered: u32,
    taken: u32,
    /// The first refusal.
    refusal: Option<u16>,
}

/// What the next reply is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reset,
    Mail,
    Rcpt,
    Data,
    /// The text's final dot, or its last chunk.
    Text,
    /// A dot that ends nothing: 354 came though no recipient was taken.
    EmptyDot,
}

/// What a reply calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// More replies are under way.
    Wait,
    /// MAIL.
    Mail,
    /// RCPT to that recipient, counted from 0.
    Rcpt(u32),
    /// DATA.
    Data,
    /// The text and its end.
    Text,
    /// The lone dot without a text.
    EmptyDot,
    /// The message is over.
    Over(Verdict),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The code that decided: of the first refusal, or of the last reply.
    pub(super) code: u16,
    /// Whether it is the reply to the text.
    pub(super) to_text: bool,
    /// Whether the server has taken it, for one recipient at least.
    pub(super) accepted: bool,
    /// How many recipients it was not taken for, though it was accepted.
    pub(super) refused_recipients: u32,
    /// Whether RSET is due before the next message.
    pub(super) unclean: bool,
}

impl Verdict {
    /// Of a message that was cut short by this code.
    pub(super) fn refused(code: u16) -> Verdict {
        Verdict { code, to_text: false, accepted: false, refused_recipients: 0, unclean: true }
    }
}

impl Transaction {
    /// Begins; `reset` if RSET goes ahead.
    pub(super) fn new(flight: Flight, recipients: u32, reset: bool) -> Transaction {
        let step = if reset { Step::Reset } else { Step::Mail };
        Transaction { flight, recipients, step, answered: 0, taken: 0, refusal: None }
    }

    /// Whether the next reply is to what ends the message: then all of the text must have been sent.
    pub(super) fn awaits_text(&self) -> bool {
        self.step == Step::Text
    }

    /// Takes the code of the next reply.
    pub(super) fn on_reply(&mut self, code: u16) -> Order {
        let good = (200..300).contains(&code);
        match self.step {
            // Whatever it is, MAIL tells.
            Step::Reset => {
                self.step = Step::Mail;
                self.once_alone(Order::Mail)
            }
            Step::Mail => {
                self.note(good, code);
                self.step = Step::Rcpt;
                match self.flight {
                    Flight::Lockstep if !good => self.over(code, false),
                    Flight::Lockstep | Flight::Pipelined | Flight::Bdat => {
                        self.once_alone(Order::Rcpt(0))
                    }
                }
            }
            Step::Rcpt => self.on_rcpt(good, code),
            Step::Data if code == 354 && self.taken > 0 => {
                self.step = Step::Text;
                Order::Text
            }
            Step::Data if code == 354 => {
                self.step = Step::EmptyDot;
                Order::EmptyDot
            }
            // 2yz makes no sense here: no text was sent.
            Step::Data => {
                self.note(false, code);
                self.over(code, false)
            }
            Step::Text => self.over(code, good),
            Step::EmptyDot => self.over(code, false),
        }
    }

    fn on_rcpt(&mut self, good: bool, code: u16) -> Order {
        self.note(good, code);
        self.answered += 1;
        self.taken += u32::from(good);
        if self.answered < self.recipients {
            return self.once_alone(Order::Rcpt(self.answered));
        }
        match self.flight {
            Flight::Lockstep if self.taken == 0 => self.over(code, false),
            Flight::Lockstep | Flight::Pipelined => {
                self.step = Step::Data;
                self.once_alone(Order::Data)
            }
            Flight::Bdat => {
                self.step = Step::Text;
                Order::Wait
            }
        }
    }

    /// In a flight it was sent already.
    fn once_alone(&self, order: Order) -> Order {
        match self.flight {
            Flight::Lockstep => order,
            Flight::Pipelined | Flight::Bdat => Order::Wait,
        }
    }

    fn note(&mut self, good: bool, code: u16) {
        if !good {
            self.refusal.get_or_insert(code);
        }
    }

    fn over(&self, last: u16, accepted: bool) -> Order {
        // Where some recipient was taken the text's own reply decides.
        let code = match self.refusal {
            Some(refusal) if !accepted && self.taken == 0 => refusal,
            Some(_) | None => last,
        };
        Order::Over(Verdict {
            code,
            to_text: self.step == Step::Text,
            accepted,
            refused_recipients: if accepted { self.recipients - self.taken } else { 0 },
            unclean: !accepted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows each code, and the verdict.
    fn play(mut transaction: Transaction, codes: &[u16]) -> (Vec<Order>, Verdict) {
        let mut orders = Vec::new();
        for (index, code) in codes.iter().enumerate() {
            match transaction.on_reply(*code) {
                Order::Over(verdict) => {
                    assert_eq!(index + 1, codes.len(), "it was over at {code}");
                    return (orders, verdict);
                }
                order => orders.push(order),
            }
        }
        panic!("not over after {codes:?}: {orders:?}");
    }

    fn verdict(flight: Flight, recipients: u32, codes: &[u16]) -> Verdict {
        play(Transaction::new(flight, recipients, false), codes).1
    }

    #[test]
    fn in_lockstep_each_reply_calls_for_the_next_command() {
        let transaction = Transaction::new(Flight::Lockstep, 2, true);
        let (orders, verdict) = play(transaction, &[250, 250, 250, 250, 354, 250]);
        let expected = [Order::Mail, Order::Rcpt(0), Order::Rcpt(1), Order::Data, Order::Text];
        assert_eq!(orders, expected);
        assert!(verdict.accepted && verdict.to_text && !verdict.unclean);
    }

    #[test]
    fn in_a_flight_replies_are_awaited_and_only_354_calls_for_the_text() {
        let (orders, _) =
            play(Transaction::new(Flight::Pipelined, 1, true), &[250, 250, 250, 354, 250]);
        assert_eq!(orders, [Order::Wait, Order::Wait, Order::Wait, Order::Text]);
        let (orders, verdict) = play(Transaction::new(Flight::Bdat, 1, false), &[250, 250, 250]);
        assert_eq!(orders, [Order::Wait, Order::Wait]);
        assert!(verdict.accepted && verdict.to_text);
    }

    #[test]
    fn a_message_counts_by_the_code_that_decided() {
        use Flight::{Bdat, Lockstep, Pipelined};
        for (flight, recipients, codes, code) in [
            (Lockstep, 1, &[451][..], 451),
            (Lockstep, 1, &[250, 550], 550),
            (Lockstep, 2, &[250, 550, 452], 550),
            (Lockstep, 1, &[250, 250, 451], 451),
            (Lockstep, 1, &[250, 250, 250], 250),
            (Lockstep, 1, &[250, 250, 354, 552], 552),
            (Pipelined, 1, &[451, 503, 503], 451),
            (Pipelined, 1, &[250, 550, 554], 550),
            (Pipelined, 1, &[250, 550, 354, 554], 550),
            (Pipelined, 1, &[250, 550, 354, 250], 550),
            (Pipelined, 2, &[250, 550, 250, 354, 451], 451),
            (Bdat, 1, &[250, 550, 503], 550),
            (Bdat, 2, &[250, 550, 250, 452], 452),
        ] {
            let verdict = verdict(flight, recipients, codes);
            assert_eq!(verdict.code, code, "{flight:?} {codes:?}");
            assert!(!verdict.accepted && verdict.unclean, "{flight:?} {codes:?}");
        }
    }

    #[test]
    fn recipients_that_an_accepted_message_lost_are_counted() {
        let codes = [250, 250, 550, 250, 354, 250];
        let verdict = verdict(Flight::Pipelined, 3, &codes);
        assert_eq!((verdict.code, verdict.accepted, verdict.refused_recipients), (250, true, 1));
    }
}
