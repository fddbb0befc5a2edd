//! Owns: the proof that workers start with their name and number, pinned or not.
//!
//! Must never: assume how many processors there are.
//!
//! Diagnostics: none beyond the assertions.

use rohrpost_reactor::{Pin, processors, spawn};

#[test]
fn a_worker_knows_its_number_and_bears_its_name() {
    for pin in [Pin::Auto, Pin::Off] {
        // More workers than processors start over at the first.
        for index in 0..=processors() {
            let worker = spawn("worker", index, pin, |index| {
                (index, std::thread::current().name().map(str::to_owned))
            });
            let outcome = worker.unwrap().join().unwrap();
            assert_eq!(outcome, (index, Some("worker".to_owned())));
        }
    }
}

#[test]
fn a_pinned_worker_has_one_processor_and_an_unpinned_one_all() {
    let pinned = spawn("pinned", 0, Pin::Auto, |_| processors()).unwrap().join().unwrap();
    let free = spawn("free", 0, Pin::Off, |_| processors()).unwrap().join().unwrap();
    assert_eq!((pinned, free), (1, processors()));
}
