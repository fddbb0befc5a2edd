//! What the supervisor tells all workers, kept for those whose mailbox is full.
//!
//! A worker that a plugin blocks takes nothing while its mailbox fills up, and the main thread must go on
//! meanwhile. Of each kind only the newest order counts, so what is kept is bounded; hence each says all
//! there is to say, and not what has changed since the one before.
//!
//! Must never: wait without an end, or lose an order.
//!
//! **Diagnostics**: how many workers were not told yet.

use std::time::{Duration, Instant};

use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;

/// The time between two offers to a full mailbox.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Kinds of orders, in the order in which a worker is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// [`Mail::Open`].
    Open,
    /// [`Mail::Settings`]. Before [`Order::Plugins`]: those that it brings have their contexts since an
    /// earlier order of that kind, and a later one is about others.
    Settings,
    /// [`Mail::Plugins`].
    Plugins,
    /// [`Mail::Intake`].
    Intake,
    /// [`Mail::Drain`].
    Stop,
}

const KINDS: usize = Order::Stop as usize + 1;

/// The orders that are not taken yet.
pub(super) struct Orders {
    mailboxes: Mailboxes,
    owed: Vec<[Option<Mail>; KINDS]>,
}

impl Orders {
    /// None, for the workers that have started.
    pub(super) fn new(mailboxes: Mailboxes) -> Orders {
        let owed = (0..mailboxes.len()).map(|_| Default::default()).collect();
        Orders { mailboxes, owed }
    }

    /// Gives every worker an order in place of an older one of its kind. [`Orders::pass_on`] sends it.
    pub(super) fn give(&mut self, order: Order, mail: impl Fn() -> Mail) {
        for owed in &mut self.owed {
            owed[order as usize] = Some(mail());
        }
    }

    /// Sends what has room; how many workers are not told all yet. Never waits.
    pub(super) fn pass_on(&mut self) -> usize {
        let mailboxes = &self.mailboxes;
        let is_late = |(worker, owed): (usize, &mut [Option<Mail>; KINDS])| {
            owed.iter_mut().any(|slot| {
                let refused = slot.take().and_then(|mail| mailboxes.offer(worker, mail).err());
                *slot = refused;
                slot.is_some()
            })
        };
        self.owed.iter_mut().enumerate().map(is_late).filter(|late| *late).count()
    }

    /// The same, and waits for room so long.
    pub(super) fn pass_on_until(&mut self, end: Instant) -> usize {
        loop {
            let late = self.pass_on();
            if late == 0 || Instant::now() >= end {
                return late;
            }
            std::thread::sleep(FULL_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};
    use rohrpost_reactor::{Mailbox, mailbox};

    use super::*;
    use crate::net::desk::Intake;

    /// Two workers, of which the second has no room.
    fn workers() -> (Vec<Poll>, Vec<Mailbox<Mail>>, Orders) {
        let polls: Vec<Poll> = (0..2).map(|_| Poll::new().unwrap()).collect();
        let made = polls.iter().map(|poll| mailbox(poll.registry(), Token(0), 2).unwrap());
        let (senders, boxes): (Vec<_>, Vec<_>) = made.unzip();
        for _ in 0..2 {
            senders[1].send(Mail::Posted).unwrap();
        }
        let mailboxes = Mailboxes::default();
        mailboxes.fill(senders);
        (polls, boxes, Orders::new(mailboxes))
    }

    #[test]
    fn a_stop_reaches_a_worker_whose_mailbox_was_full() {
        let (_polls, mut boxes, mut orders) = workers();
        orders.give(Order::Stop, || Mail::Drain);
        assert_eq!(orders.pass_on(), 1);
        assert!(matches!(boxes[0].take(), Some(Mail::Drain)));
        assert_eq!(orders.pass_on(), 1, "there is still no room");
        assert!(boxes[0].is_empty(), "nobody is told twice");
        while boxes[1].take().is_some() {}
        assert_eq!(orders.pass_on(), 0);
        assert!(matches!(boxes[1].take(), Some(Mail::Drain)));
    }

    #[test]
    fn the_supervisor_does_not_wait_for_a_full_mailbox_and_tells_the_newest_later() {
        let (_polls, mut boxes, mut orders) = workers();
        orders.give(Order::Intake, || Mail::Intake(Intake::Closed));
        assert_eq!(orders.pass_on_until(Instant::now()), 1);
        orders.give(Order::Intake, || Mail::Intake(Intake::Open));
        orders.give(Order::Open, || Mail::Open);
        while boxes[1].take().is_some() {}
        boxes[0].take();
        assert_eq!(orders.pass_on_until(Instant::now()), 0);
        assert!(matches!(boxes[1].take(), Some(Mail::Open)));
        assert!(matches!(boxes[1].take(), Some(Mail::Intake(Intake::Open))));
        assert!(boxes[1].is_empty());
    }

    /// An intent with plugins is about others than the settings before it, whichever was late.
    #[test]
    fn what_a_reload_has_found_is_told_before_what_the_next_one_intends() {
        let place = |order: Order| order as usize;
        assert!(place(Order::Open) < place(Order::Settings));
        assert!(place(Order::Settings) < place(Order::Plugins));
        assert!(place(Order::Plugins) < place(Order::Stop));
    }
}
