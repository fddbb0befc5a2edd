//! Owns: the proof that the set tells what `poll(2)` would, under random watching, taking back and
//! passing on of numbers.
//!
//! Must never: leave a number open or closed for the next test to stumble over.
//!
//! Diagnostics: prints its seed; set `ROHRPOST_SEED` to run one alone.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mio::{Events, Poll, Token};
use rohrpost_reactor::{HostReadiness, Interest, Ready, WatchKey, WatchSet};

use super::support::{Random, seeds};
use super::{Foreign, numbers};

/// A number, with the two ends of the stream behind it now. It can be written at all times.
struct Slot {
    fd: Foreign,
    ours: UnixStream,
    theirs: UnixStream,
    readable: bool,
    /// In order of registration.
    watches: Vec<(WatchKey, Interest)>,
}

impl Slot {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = Foreign::new(ours.try_clone().unwrap());
        Slot { fd, ours, theirs, readable: false, watches: Vec::new() }
    }

    /// Takes all watches back, closes the number, and gives it to another file.
    fn pass_on(&mut self, set: &mut WatchSet<usize>) {
        for (key, _) in self.watches.drain(..) {
            assert!(set.unwatch(key).is_some());
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.fd = self.fd.passed_to(&ours);
        (self.ours, self.theirs, self.readable) = (ours, theirs, false);
    }

    fn toggle_readable(&mut self) {
        match self.readable {
            true => self.ours.read_exact(&mut [0]).unwrap(),
            false => self.theirs.write_all(b"x").unwrap(),
        }
        self.readable = !self.readable;
    }

    /// What its watches must be told, in order.
    fn expected(&self) -> Vec<(WatchKey, Interest)> {
        let ready = match self.readable {
            true => Interest::READ | Interest::WRITE,
            false => Interest::WRITE,
        };
        let told = |&(key, interest): &(WatchKey, Interest)| {
            interest.intersection(ready).map(|interest| (key, interest))
        };
        self.watches.iter().filter_map(told).collect()
    }
}

/// The payload of watches that name the host's own poll.
const HOST: usize = usize::MAX;

/// The poll around the set, with one socket, and the watches that name its number.
struct Host {
    poll: Poll,
    fd: Foreign,
    ours: mio::net::UnixStream,
    theirs: mio::net::UnixStream,
    watches: Vec<WatchKey>,
}

impl Host {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let fd = Foreign::new(poll.registry().as_fd().try_clone_to_owned().unwrap());
        let (mut ours, theirs) = mio::net::UnixStream::pair().unwrap();
        poll.registry().register(&mut ours, Token(1), mio::Interest::READABLE).unwrap();
        Host { poll, fd, ours, theirs, watches: Vec::new() }
    }

    fn call(&mut self) {
        self.theirs.write_all(b"x").unwrap();
    }

    /// Its poll tells what came, and nothing else.
    fn hear(&mut self, called: bool) {
        let mut events = Events::with_capacity(4);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(!events.is_empty(), called);
        if called {
            self.ours.read_exact(&mut [0]).unwrap();
        }
    }
}

#[test]
fn tells_what_is_ready_under_random_operations() {
    let _numbers = numbers();
    for seed in seeds(20) {
        let mut random = Random::new(seed);
        let mut set: WatchSet<usize> = WatchSet::new(1_000);
        let mut host = Host::new();
        let mut slots: Vec<Slot> = (0..8).map(|_| Slot::new()).collect();
        for _ in 0..300 {
            for _ in 0..random.below(6) {
                let index = random.index(slots.len());
                let slot = &mut slots[index];
                match random.below(8) {
                    0..=2 => {
                        let interest = Interest::from_bits(1 + random.below(3) as u8).unwrap();
                        let key = set.watch(slot.fd.0, interest, index).unwrap();
                        slot.watches.push((key, interest));
                    }
                    3 | 4 if !slot.watches.is_empty() => {
                        let (key, _) = slot.watches.remove(random.index(slot.watches.len()));
                        assert_eq!(set.unwatch(key), Some(index));
                        assert_eq!(set.unwatch(key), None);
                    }
                    5 if random.one_in(3) => slot.pass_on(&mut set),
                    6 => host.watches.push(set.watch(host.fd.0, Interest::READ, HOST).unwrap()),
                    7 => host.watches.retain(|&key| set.unwatch(key).is_none()),
                    _ => slot.toggle_readable(),
                }
            }
            let called = random.one_in(2);
            if called {
                host.call();
            }
            let readiness = set.wait(Some(Duration::ZERO), Some(host.fd.0)).unwrap();
            // Before the first watch nobody looks.
            if set.fd().is_some() {
                assert_eq!(readiness == HostReadiness::Ready, called);
            }
            host.hear(called);
            let mut told: HashMap<usize, Vec<(WatchKey, Interest)>> = HashMap::new();
            while let Some((key, index, ready)) = set.take_ready() {
                if index == HOST {
                    assert!(matches!(ready, Ready::Dead { .. }), "{ready:?}");
                    host.watches.retain(|&watch| watch != key);
                    continue;
                }
                let Ready::Fired(interest) = ready else { panic!("{ready:?}: nothing died") };
                told.entry(index).or_default().push((key, interest));
            }
            for (index, slot) in slots.iter().enumerate() {
                assert_eq!(told.remove(&index).unwrap_or_default(), slot.expected());
            }
            assert!(host.watches.is_empty(), "each had its last callback");
            assert_eq!(set.len(), slots.iter().map(|slot| slot.watches.len()).sum::<usize>());
        }
        slots.iter().for_each(|slot| slot.fd.close());
        host.fd.close();
    }
}
