//! Owns: what a watch is told, and when.
//!
//! Must never: wait for something that has not happened.
//!
//! Diagnostics: none beyond the assertions.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Poll, Token};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rohrpost_reactor::{HostReadiness, Interest, WatchError, WatchSet};

use super::{Foreign, fired, numbers, pipe, ready_pipe, regular_file, set, turn, watch};

const BOTH: fn() -> Interest = || Interest::READ | Interest::WRITE;

#[test]
fn d_94_a_partial_read_fires_again_until_all_is_read() {
    let _numbers = numbers();
    let mut set = set();
    let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = Foreign::new(ours.try_clone().unwrap());
    watch(&mut set, fd, Interest::READ, "a");
    assert_eq!(turn(&mut set), []);
    theirs.write_all(b"123").unwrap();
    for _ in 0..3 {
        assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
        ours.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(turn(&mut set), []);
}

#[test]
fn d_94_both_bits_may_come_at_once_and_only_those_requested() {
    let _numbers = numbers();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.write_all(b"x").unwrap();
    for interest in [Interest::READ, Interest::WRITE, BOTH()] {
        let mut set = set();
        watch(&mut set, Foreign::new(ours.try_clone().unwrap()), interest, "a");
        assert_eq!(turn(&mut set), [fired("a", interest)]);
    }
}

#[test]
fn d_94_a_hang_up_is_reported_as_the_requested_bits() {
    let _numbers = numbers();
    for interest in [Interest::READ, Interest::WRITE, BOTH()] {
        let mut set = set();
        // The reader's end sees HUP, the writer's end sees ERR.
        let (reader, writer) = pipe();
        drop(writer);
        watch(&mut set, reader, interest, "hup");
        assert_eq!(turn(&mut set), [fired("hup", interest)]);

        let mut set = super::set();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        watch(&mut set, Foreign::new(writer), interest, "err");
        assert_eq!(turn(&mut set), [fired("err", interest)]);
    }
}

#[test]
fn an_eventfd_fires_until_it_is_read() {
    let _numbers = numbers();
    let mut set = set();
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
    let fd = Foreign::new(event.as_fd().try_clone_to_owned().unwrap());
    watch(&mut set, fd, Interest::READ, "a");
    assert_eq!(turn(&mut set), []);
    event.write(3).unwrap();
    assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
    assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
    event.read().unwrap();
    assert_eq!(turn(&mut set), []);
}

#[test]
fn d_95_an_interest_in_nothing_does_not_exist() {
    assert_eq!(Interest::from_bits(0), None);
    assert_eq!(Interest::from_bits(0b1111_1100), None);
    assert_eq!(Interest::from_bits(0b1111_1101), Some(Interest::READ));
    assert_eq!(Interest::from_bits(2), Some(Interest::WRITE));
    assert_eq!(Interest::from_bits(3), Some(BOTH()));
    assert_eq!(format!("{:?}", BOTH()), "READ | WRITE");
}

#[test]
fn d_96_watches_of_one_descriptor_are_called_in_order_of_registration_with_their_own_bits() {
    let _numbers = numbers();
    let mut set = set();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = Foreign::new(ours);
    watch(&mut set, fd, Interest::WRITE, "first");
    watch(&mut set, fd, Interest::READ, "second");
    watch(&mut set, fd, BOTH(), "third");
    assert_eq!(turn(&mut set), [fired("first", Interest::WRITE), fired("third", Interest::WRITE)]);
    theirs.write_all(b"x").unwrap();
    assert_eq!(
        turn(&mut set),
        [fired("first", Interest::WRITE), fired("second", Interest::READ), fired("third", BOTH())]
    );
}

#[test]
fn d_96_interests_of_one_descriptor_are_merged_and_unmerged() {
    let _numbers = numbers();
    let mut set = set();
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = Foreign::new(ours);
    let reads = watch(&mut set, fd, Interest::READ, "reads");
    let writes = watch(&mut set, fd, Interest::WRITE, "writes");
    assert_eq!(turn(&mut set), [fired("writes", Interest::WRITE)]);
    assert_eq!(set.unwatch(writes), Some("writes"));
    assert_eq!(turn(&mut set), []);
    theirs.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [fired("reads", Interest::READ)]);
    assert_eq!(set.unwatch(reads), Some("reads"));
    assert_eq!(turn(&mut set), []);
    assert!(set.is_empty());
}

#[test]
fn d_98_a_regular_file_is_always_ready() {
    let _numbers = numbers();
    let mut set = set();
    let fd = Foreign::new(regular_file());
    let reads = watch(&mut set, fd, Interest::READ, "reads");
    let writes = watch(&mut set, fd, BOTH(), "both");
    for _ in 0..3 {
        assert_eq!(turn(&mut set), [fired("reads", Interest::READ), fired("both", BOTH())]);
        assert!(set.has_ready(), "the next wait must not sleep");
    }
    set.unwatch(reads);
    assert_eq!(turn(&mut set), [fired("both", BOTH())]);
    set.unwatch(writes);
    assert_eq!(turn(&mut set), []);
    assert!(!set.has_ready());
}

#[test]
fn d_99_a_watch_taken_back_after_it_was_collected_is_not_called() {
    let _numbers = numbers();
    let mut set = set();
    let (a, _a) = ready_pipe();
    let (b, _b) = ready_pipe();
    let keys = [watch(&mut set, a, Interest::READ, "a"), watch(&mut set, b, Interest::READ, "b")];
    set.wait(None, None).unwrap();
    let (called, _, _) = set.take_ready().unwrap();
    let other = if called == keys[0] { keys[1] } else { keys[0] };
    assert!(set.unwatch(other).is_some());
    assert_eq!(set.take_ready(), None);
}

#[test]
fn d_9a_taking_back_twice_is_seen() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let key = watch(&mut set, fd, Interest::READ, "a");
    assert_eq!((set.unwatch(key), set.unwatch(key)), (Some("a"), None));
    let next = watch(&mut set, fd, Interest::READ, "b");
    assert_eq!(set.unwatch(key), None);
    assert_ne!(key, next);
    assert_eq!(turn(&mut set), [fired("b", Interest::READ)]);
}

#[test]
fn a_watch_that_waited_over_its_budget_is_called_only_if_still_ready() {
    let _numbers = numbers();
    let mut set = set();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let fd = Foreign::new(reader.try_clone().unwrap());
    watch(&mut set, fd, Interest::READ, "first");
    watch(&mut set, fd, Interest::READ, "second");
    set.wait(None, None).unwrap();
    assert_eq!(set.take_ready().unwrap().1, "first");
    assert!(set.has_ready());
    // Not called in this turn; by the next, the byte is gone, or is still there.
    set.wait(Some(Duration::ZERO), None).unwrap();
    assert_eq!(set.take_ready().unwrap().1, "second", "keeps its place");
    reader.read_exact(&mut [0]).unwrap();
    set.wait(Some(Duration::ZERO), None).unwrap();
    assert_eq!(set.take_ready(), None, "must not be called for what is not there");
    assert!(!set.has_ready());
}

#[test]
fn d_96_many_watches_of_one_descriptor_are_taken_back_in_little_time_and_keep_their_order() {
    const COUNT: usize = 60_000;
    let _numbers = numbers();
    let mut set = WatchSet::new(COUNT);
    let (fd, _writer) = ready_pipe();
    let keys: Vec<_> = (0..COUNT).map(|n| set.watch(fd.0, Interest::READ, n).unwrap()).collect();
    set.wait(Some(Duration::ZERO), None).unwrap();
    // From the front, where closing each gap at once would move all the others: 1.8 * 10^9 moves.
    for key in keys.iter().filter(|key| key.key().index() % 1_000 != 7) {
        assert!(set.unwatch(*key).is_some());
    }
    set.wait(Some(Duration::ZERO), None).unwrap();
    let told: Vec<usize> = std::iter::from_fn(|| set.take_ready()).map(|(_, n, _)| n).collect();
    assert_eq!(told.len(), COUNT / 1_000);
    assert!(told.is_sorted(), "in order of registration");
}

#[test]
fn the_limit_holds() {
    let _numbers = numbers();
    let mut set = WatchSet::new(1);
    let (fd, _writer) = pipe();
    let key = set.watch(fd.0, Interest::READ, ()).unwrap();
    let error = set.watch(fd.0, Interest::READ, ()).unwrap_err();
    assert!(matches!(error, WatchError::Full { watches_max: 1 }));
    assert_eq!(error.to_string(), "the limit of 1 watches is reached");
    set.unwatch(key);
    assert!(set.watch(fd.0, Interest::READ, ()).is_ok());
}

#[test]
fn the_hosts_own_poll_ends_the_wait() {
    let _numbers = numbers();
    let mut poll = Poll::new().unwrap();
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    poll.registry().register(&mut ours, Token(1), mio::Interest::READABLE).unwrap();
    let mut set = set();
    let (fd, _writer) = pipe();
    watch(&mut set, fd, Interest::READ, "a");
    let host = |poll: &Poll| poll.registry().as_fd().try_clone_to_owned().unwrap();
    let host = host(&poll);
    let zero = Some(Duration::ZERO);
    assert_eq!(set.wait(zero, Some(host.as_fd())).unwrap(), HostReadiness::Idle);
    theirs.write_all(b"x").unwrap();
    assert_eq!(set.wait(None, Some(host.as_fd())).unwrap(), HostReadiness::Ready);
    assert_eq!(set.take_ready(), None);
    poll.poll(&mut Events::with_capacity(4), zero).unwrap();
    assert_eq!(set.wait(zero, Some(host.as_fd())).unwrap(), HostReadiness::Idle);
}
