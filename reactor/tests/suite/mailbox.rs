//! Owns: the proof that mail arrives, that its owner is woken for it, and not more often than
//! needed.
//!
//! Must never: depend on which thread runs when.
//!
//! Diagnostics: none beyond the assertions.

use std::thread;

use mio::{Events, Poll, Token};
use rohrpost_reactor::{Rest, SendError, mailbox};

const WAKE: Token = Token(7);

#[test]
fn mail_of_four_threads_arrives_in_order_and_wakes_once_a_rest() {
    const EACH: u64 = 100_000;
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let (sender, mut mailbox) = mailbox(poll.registry(), WAKE, 4_096).unwrap();
    let threads: Vec<_> = (0..4_usize)
        .map(|id| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..EACH {
                    let mut mail = (id, number);
                    while let Err(error) = sender.send(mail) {
                        assert!(matches!(error, SendError::Full(_)));
                        mail = error.into_mail();
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    let mut rests = 0;
    while next.iter().sum::<u64>() < 4 * EACH {
        // As a reactor does it: never asleep unless resting soundly, and then only a wake-up ends
        // it.
        rests += 1;
        if mailbox.lie_down() == Rest::Sound {
            poll.poll(&mut events, None).unwrap();
            mailbox.get_up();
        }
        while let Some((id, number)) = mailbox.take() {
            assert_eq!(number, next[id], "out of order");
            next[id] += 1;
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(next, [EACH; 4]);
    assert!(mailbox.wakeups() <= rests, "{} wake-ups for {rests} rests", mailbox.wakeups());
}

#[test]
fn an_owner_that_is_awake_is_not_woken() {
    let poll = Poll::new().unwrap();
    let (sender, mut mailbox) = mailbox(poll.registry(), WAKE, 8).unwrap();
    (0..4).for_each(|number| sender.send(number).unwrap());
    assert_eq!((mailbox.len(), mailbox.wakeups()), (4, 0));
    assert_eq!(mailbox.lie_down(), Rest::Disturbed);
    while mailbox.take().is_some() {}
    assert_eq!(mailbox.lie_down(), Rest::Sound);
    (0..4).for_each(|number| sender.send(number).unwrap());
    assert_eq!(mailbox.wakeups(), 1);
}

#[test]
fn a_full_mailbox_gives_the_mail_back() {
    let poll = Poll::new().unwrap();
    let (sender, mut mailbox) = mailbox(poll.registry(), WAKE, 2).unwrap();
    assert_eq!((sender.send('a'), sender.send('b')), (Ok(()), Ok(())));
    let error = sender.send('c').unwrap_err();
    assert_eq!(error.to_string(), "the mailbox is full");
    assert_eq!(error.into_mail(), 'c');
    assert_eq!(mailbox.take(), Some('a'));
    assert_eq!(sender.send('c'), Ok(()));
}

#[test]
fn a_mailbox_without_owner_is_closed() {
    let poll = Poll::new().unwrap();
    let (sender, mailbox) = mailbox(poll.registry(), WAKE, 2).unwrap();
    drop((mailbox, poll));
    assert_eq!(sender.send(1), Err(SendError::Closed(1)));
}
