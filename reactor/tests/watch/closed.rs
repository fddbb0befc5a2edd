//! Owns: descriptors that are closed under a watch, and numbers that are used again (D-97).
//!
//! Must never: close a number twice, for somebody else may have it by then.
//!
//! Diagnostics: none beyond the assertions.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Events, Poll, Token};
use nix::errno::Errno;
use rohrpost_reactor::{HostReadiness, Interest};

use super::{
    Foreign, dead, fired, foreign_reader, numbers, pipe, ready_pipe, regular_file, set, turn, watch,
};

const BOTH: fn() -> Interest = || Interest::READ | Interest::WRITE;

#[test]
fn d_97_a_close_is_noticed_with_the_next_change_and_told_once() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let first = watch(&mut set, fd, Interest::READ, "first");
    assert_eq!(turn(&mut set), [fired("first", Interest::READ)]);
    fd.close();
    // Silent: the kernel has dropped the registration.
    assert_eq!(turn(&mut set), []);
    let second = watch(&mut set, fd, Interest::WRITE, "second");
    let expected = [
        dead("first", Interest::READ, Errno::EBADF),
        dead("second", Interest::WRITE, Errno::EBADF),
    ];
    assert_eq!(turn(&mut set), expected);
    assert_eq!(turn(&mut set), []);
    assert_eq!((set.unwatch(first), set.unwatch(second)), (None, None));
    assert!(set.is_empty());
}

#[test]
fn d_97_a_descriptor_closed_before_the_kernel_heard_of_it_is_dead() {
    let _numbers = numbers();
    let mut set = set();
    // The set is there, or it would get the number.
    let (other, _other_writer) = pipe();
    watch(&mut set, other, Interest::READ, "other");
    assert_eq!(turn(&mut set), []);
    let (fd, _writer) = ready_pipe();
    watch(&mut set, fd, BOTH(), "a");
    fd.close();
    set.apply(None);
    assert!(set.has_ready(), "the last callback must not wait");
    assert_eq!(turn(&mut set), [dead("a", BOTH(), Errno::EBADF)]);
}

#[test]
fn d_97_closing_before_taking_back_is_harmless() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let key = watch(&mut set, fd, Interest::READ, "a");
    assert_eq!(turn(&mut set).len(), 1);
    fd.close();
    assert_eq!(set.unwatch(key), Some("a"));
    assert_eq!(turn(&mut set), []);
    assert!(set.is_empty());
}

#[test]
fn d_99_a_dead_watch_taken_back_before_its_last_callback_is_not_called() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let key = watch(&mut set, fd, Interest::READ, "a");
    fd.close();
    set.wait(Some(Duration::ZERO), None).unwrap();
    assert_eq!(set.unwatch(key), Some("a"));
    assert_eq!(set.take_ready(), None);
}

#[test]
fn d_97_the_hosts_socket_of_the_same_number_keeps_working() {
    let _numbers = numbers();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let key = watch(&mut set, fd, Interest::READ, "a");
    assert_eq!(turn(&mut set).len(), 1);
    // The host's next connection gets the number.
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = fd.passed_to(&ours);
    drop(ours);
    let raw = fd.number();
    poll.registry()
        .register(&mut mio::unix::SourceFd(&raw), Token(1), mio::Interest::READABLE)
        .unwrap();
    // A late change, then a late removal.
    let late = watch(&mut set, fd, BOTH(), "late");
    set.unwatch(key);
    set.unwatch(late);
    assert_eq!(turn(&mut set), []);
    assert!(set.is_empty());
    theirs.write_all(b"x").unwrap();
    poll.poll(&mut events, None).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(1) && event.is_readable()));
    // And the set does not listen to the host's socket.
    assert_eq!(turn(&mut set), []);
    fd.close();
}

#[test]
fn d_97_a_late_change_kills_the_old_watch_and_not_the_number() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    watch(&mut set, fd, Interest::READ, "old");
    assert_eq!(turn(&mut set).len(), 1);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = fd.passed_to(&reader);
    // The number belongs to whoever registers it next.
    watch(&mut set, fd, Interest::READ, "new");
    assert_eq!(turn(&mut set), [dead("old", Interest::READ, Errno::ENOENT)]);
    writer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [fired("new", Interest::READ)]);
    fd.close();
}

#[test]
fn a_number_unwatched_closed_and_used_again_within_a_turn_is_watched_afresh() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = pipe();
    let old = watch(&mut set, fd, Interest::READ, "old");
    assert_eq!(turn(&mut set), []);
    set.unwatch(old);
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    let fd = fd.passed_to(&reader);
    watch(&mut set, fd, Interest::READ, "new");
    assert_eq!(turn(&mut set), [fired("new", Interest::READ)]);
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(turn(&mut set), []);
    assert_eq!(set.rebuilds(), 0);
    fd.close();
}

#[test]
fn a_number_that_passes_between_files_of_different_kinds_is_watched_afresh() {
    let _numbers = numbers();
    let mut set = set();
    // From a pipe to a regular file.
    let (fd, _writer) = pipe();
    let pipe = watch(&mut set, fd, Interest::READ, "pipe");
    assert_eq!(turn(&mut set), []);
    set.unwatch(pipe);
    let fd = fd.passed_to(regular_file());
    let file = watch(&mut set, fd, Interest::READ, "file");
    assert_eq!(turn(&mut set), [fired("file", Interest::READ)]);
    assert!(set.has_ready());
    // And back, while the watch of the file persists.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = fd.passed_to(&reader);
    watch(&mut set, fd, Interest::READ, "pipe again");
    assert_eq!(turn(&mut set), [dead("file", Interest::READ, Errno::ENOENT)]);
    assert!(!set.has_ready());
    assert_eq!(set.unwatch(file), None);
    writer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [fired("pipe again", Interest::READ)]);
    fd.close();
}

#[test]
fn an_event_of_a_file_that_nobody_can_remove_has_the_set_made_anew() {
    let _numbers = numbers();
    let mut set = set();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = foreign_reader(&reader);
    let key = watch(&mut set, fd, Interest::READ, "gone");
    let (other, _other_writer) = ready_pipe();
    watch(&mut set, other, Interest::READ, "other");
    let file = Foreign::new(regular_file());
    let file = watch(&mut set, file, Interest::READ, "file");
    assert_eq!(turn(&mut set).len(), 2);
    // Closed before it was taken back, but the file lives on behind `reader`: removal by number
    // fails.
    fd.close();
    set.unwatch(key);
    set.unwatch(file);
    writer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [fired("other", Interest::READ)]);
    assert_eq!(set.rebuilds(), 1);
    // The new set has the watches that live, and is quiet otherwise.
    assert_eq!(turn(&mut set), [fired("other", Interest::READ)]);
    assert_eq!(set.rebuilds(), 1);
}

#[test]
fn making_the_set_anew_does_not_pick_up_numbers_that_passed_on() {
    let _numbers = numbers();
    let mut set = set();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let orphan = foreign_reader(&reader);
    let key = watch(&mut set, orphan, Interest::READ, "orphan");
    let (stale, _writer) = pipe();
    watch(&mut set, stale, Interest::READ, "stale");
    assert_eq!(turn(&mut set), []);
    orphan.close();
    set.unwatch(key);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let stale = stale.passed_to(&ours);
    theirs.write_all(b"x").unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [dead("stale", Interest::READ, Errno::ENOENT)]);
    assert_eq!(set.rebuilds(), 1);
    assert_eq!(turn(&mut set), []);
    stale.close();
}

#[test]
fn a_file_that_returns_to_its_number_is_registered_once() {
    let _numbers = numbers();
    let mut set = set();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let fd = foreign_reader(&reader);
    let key = watch(&mut set, fd, Interest::READ, "before");
    assert_eq!(turn(&mut set), []);
    fd.close();
    set.unwatch(key);
    assert_eq!(turn(&mut set), []);
    // The kernel still has this file under this number.
    let fd = fd.reused_by(&reader);
    watch(&mut set, fd, Interest::READ, "after");
    writer.write_all(b"x").unwrap();
    assert_eq!(turn(&mut set), [fired("after", Interest::READ)]);
    assert_eq!(set.rebuilds(), 0);
    fd.close();
}

#[test]
fn d_97_the_numbers_of_the_hosts_poll_and_of_the_set_cannot_be_watched() {
    let _numbers = numbers();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    poll.registry().register(&mut ours, Token(1), mio::Interest::READABLE).unwrap();
    let host = poll.registry().as_fd().try_clone_to_owned().unwrap();
    let host = Foreign::new(host);
    let mut set = set();
    let wait = |set: &mut super::Set| {
        let readiness = set.wait(Some(Duration::ZERO), Some(host.0)).unwrap();
        let told: Vec<_> =
            std::iter::from_fn(|| set.take_ready()).map(|(_, name, ready)| (name, ready)).collect();
        (readiness, told)
    };
    // Taken back before, and watched while, the kernel hears of it.
    let early = watch(&mut set, host, BOTH(), "early");
    set.unwatch(early);
    assert_eq!(wait(&mut set), (HostReadiness::Idle, vec![]));
    for name in ["first", "again"] {
        watch(&mut set, host, BOTH(), name);
        assert_eq!(wait(&mut set), (HostReadiness::Idle, vec![dead(name, BOTH(), Errno::EEXIST)]));
    }
    assert!(set.is_empty());
    // The host is heard as before.
    theirs.write_all(b"x").unwrap();
    assert_eq!(wait(&mut set).0, HostReadiness::Ready);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(1) && event.is_readable()));
    host.close();
}

#[test]
fn d_97_a_number_that_the_set_itself_got_is_dead() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    watch(&mut set, fd, BOTH(), "a");
    fd.close();
    assert_eq!(turn(&mut set), [dead("a", BOTH(), Errno::EINVAL)]);
    assert_eq!(set.fd().unwrap().as_raw_fd(), fd.number());
    let late = watch(&mut set, fd, BOTH(), "late");
    set.unwatch(late);
    assert_eq!(turn(&mut set), []);
    let (other, _writer) = ready_pipe();
    watch(&mut set, other, Interest::READ, "other");
    assert_eq!(turn(&mut set), [fired("other", Interest::READ)]);
}

#[test]
fn what_cannot_be_watched_is_dead_at_once() {
    let _numbers = numbers();
    let mut set = set();
    // Waiting in a set that holds our own set would be a circle.
    let outer = nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty()).unwrap();
    let (fd, _writer) = pipe();
    watch(&mut set, fd, Interest::READ, "fine");
    assert_eq!(turn(&mut set), []);
    outer
        .add(
            set.fd().unwrap(),
            nix::sys::epoll::EpollEvent::new(nix::sys::epoll::EpollFlags::EPOLLIN, 0),
        )
        .unwrap();
    let outer = Foreign::new(outer.0);
    watch(&mut set, outer, Interest::READ, "circle");
    assert_eq!(turn(&mut set), [dead("circle", Interest::READ, Errno::ELOOP)]);
}
