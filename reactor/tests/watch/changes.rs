//! Owns: what changes cost (D-9C).
//!
//! Must never: count anything but calls that change the kernel's set.
//!
//! Diagnostics: none beyond the assertions.

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
