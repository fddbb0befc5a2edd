//! Owns: what changes cost (D-9C).
//!
//! Must never: count anything but calls that change the kernel's set.
//!
//! Diagnostics: none beyond the assertions.

use std::io::Write;
use std::time::Duration;

use rohrpost_reactor::Interest;

use super::{Foreign, fired, numbers, ready_pipe, set, turn, watch};

#[test]
fn d_9c_watching_and_taking_back_in_one_turn_costs_nothing() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    for _ in 0..10 {
        let key = watch(&mut set, fd, Interest::READ, "a");
        set.unwatch(key);
    }
    assert_eq!(turn(&mut set), []);
    assert_eq!(set.changes(), 0);
}

#[test]
fn d_9c_toggling_in_one_turn_costs_one_call() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let key = watch(&mut set, fd, Interest::READ, "a");
    set.unwatch(key);
    let mut key = watch(&mut set, fd, Interest::READ, "b");
    assert_eq!(turn(&mut set), [fired("b", Interest::READ)]);
    assert_eq!(set.changes(), 1);
    for round in 2..20 {
        for interest in [Interest::WRITE, Interest::READ | Interest::WRITE, Interest::READ] {
            set.unwatch(key);
            key = watch(&mut set, fd, interest, "c");
        }
        assert_eq!(turn(&mut set), [fired("c", Interest::READ)]);
        assert_eq!(set.changes(), round);
    }
}

#[test]
fn d_9c_turns_without_changes_cost_no_call() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    watch(&mut set, fd, Interest::READ, "a");
    let second = watch(&mut set, fd, Interest::READ, "b");
    assert_eq!(turn(&mut set).len(), 2);
    // Taking back one of two with the same interest leaves the union as it is.
    set.unwatch(second);
    for _ in 0..5 {
        assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
    }
    assert_eq!(set.changes(), 1);
}

#[test]
fn d_9c_another_interest_costs_one_call_a_turn_and_none_if_it_comes_to_nothing() {
    let _numbers = numbers();
    let mut set = set();
    let (end, other) = std::os::unix::net::UnixStream::pair().unwrap();
    (&other).write_all(b"x").unwrap();
    let fd = Foreign::new(end);
    let key = watch(&mut set, fd, Interest::READ, "a");
    assert!(set.set_interest(key, Interest::WRITE), "before the kernel was told");
    assert_eq!(turn(&mut set), [fired("a", Interest::WRITE)]);
    assert_eq!(set.changes(), 1);
    for _ in 0..10 {
        assert!(set.set_interest(key, Interest::READ | Interest::WRITE));
        assert!(set.set_interest(key, Interest::READ));
    }
    assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
    assert_eq!(set.changes(), 2);
    set.set_interest(key, Interest::WRITE);
    set.set_interest(key, Interest::READ);
    assert_eq!(turn(&mut set), [fired("a", Interest::READ)]);
    assert_eq!(set.changes(), 2);
    set.unwatch(key);
    assert!(!set.set_interest(key, Interest::WRITE), "a stale key");
    assert_eq!(turn(&mut set), []);
}

#[test]
fn what_was_collected_counts_only_as_far_as_it_is_still_asked_for() {
    let _numbers = numbers();
    let mut set = set();
    let (fd, _writer) = ready_pipe();
    let first = watch(&mut set, fd, Interest::READ, "first");
    let second = watch(&mut set, fd, Interest::READ, "second");
    set.wait(Some(Duration::ZERO), None).unwrap();
    // As the callback of the first would.
    set.set_interest(second, Interest::WRITE);
    let (key, ..) = set.take_ready().unwrap();
    assert_eq!(key, first);
    assert!(set.take_ready().is_none());
    set.set_interest(second, Interest::READ);
    assert!(set.take_ready().is_none(), "not before the next wait");
    let names: Vec<_> = turn(&mut set).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn many_descriptors_are_collected_by_one_wait() {
    let _numbers = numbers();
    let mut set = rohrpost_reactor::WatchSet::new(1_000);
    let ends: Vec<_> = (0..300).map(|_| ready_pipe()).collect();
    for (fd, _) in &ends {
        set.watch(fd.0, Interest::READ, "many").unwrap();
    }
    assert_eq!(turn(&mut set).len(), 300);
    ends.iter().for_each(|(fd, _)| Foreign::close(*fd));
}
