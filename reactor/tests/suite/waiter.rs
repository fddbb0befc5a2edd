//! Owns: the proof that a reactor which sleeps in a foreign loop misses nothing, and is not woken for
//! nothing.
//!
//! Must never: use real time but where something that has already happened ends the sleep.
//!
//! Diagnostics: none beyond the assertions.

use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::Token;
use mio::net::UnixStream;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rohrpost_reactor::{
    Config, Handler, Interest, Io, ManualClock, Pending, Reactor, Readiness, Ready, Source,
    TimerKey, Waiter, WatchKey, Woken,
};

/// A loop of its own, with one descriptor of its own.
struct Foreign {
    epoll: Epoll,
    source: Option<(i32, u64)>,
    /// What the reactor asked for.
    timeouts: Vec<Option<Duration>>,
    /// How often its own descriptor was ready.
    own: usize,
}

const SOURCE: u64 = 1;
const OWN: u64 = 2;

impl Foreign {
    fn new() -> (Foreign, PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let own: &'static OwnedFd = Box::leak(Box::new(reader.into()));
        epoll.add(own, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, OWN)).unwrap();
        (Foreign { epoll, source: None, timeouts: Vec::new(), own: 0 }, writer)
    }

    fn adopt(&mut self, source: Source<'_>) {
        let this = (source.fd.as_raw_fd(), source.generation);
        if self.source != Some(this) {
            // Whether the one before is still there does not matter to this test.
            let _ = self.epoll.delete(source.fd);
            self.epoll.add(source.fd, EpollEvent::new(EpollFlags::EPOLLIN, SOURCE)).unwrap();
            self.source = Some(this);
        }
    }
}

impl Waiter for Foreign {
    fn wait(&mut self, source: Source<'_>, timeout: Option<Duration>) -> io::Result<Woken> {
        self.adopt(source);
        self.timeouts.push(timeout);
        let timeout = timeout.map_or(EpollTimeout::NONE, |timeout| {
            EpollTimeout::try_from(timeout).expect("a short time")
        });
        let mut events = [EpollEvent::empty(); 4];
        let count = self.epoll.wait(&mut events, timeout)?;
        let is = |which| events[..count].iter().any(|event| event.data() == which);
        self.own += usize::from(is(OWN));
        Ok(if is(SOURCE) { Woken::BySource } else { Woken::Otherwise })
    }
}

/// Sleeps in a foreign loop, and writes down what it is called for.
struct Script {
    foreign: Option<Foreign>,
    waited: usize,
    calls: Vec<&'static str>,
}

impl Script {
    fn called(&mut self, io: &mut Io<Self>, name: &'static str) {
        self.calls.push(name);
        io.stop();
    }
}

impl Handler for Script {
    type Timer = ();
    type Watch = ();
    type Mail = ();

    fn on_timer(&mut self, io: &mut Io<Self>, _: TimerKey, (): ()) {
        self.called(io, "timer");
    }

    fn on_watch(&mut self, io: &mut Io<Self>, _: WatchKey, (): (), _: Ready) {
        self.called(io, "watch");
    }

    fn on_socket(&mut self, io: &mut Io<Self>, _: Token, _: Readiness) {
        self.called(io, "socket");
    }

    fn on_mail(&mut self, io: &mut Io<Self>, (): ()) {
        self.called(io, "mail");
    }

    fn resume(&mut self, _: &mut Io<Self>) -> bool {
        false
    }

    fn commit(&mut self, _: &mut Io<Self>) {}

    fn flush(&mut self, _: &mut Io<Self>) {}

    fn pending(&self) -> Pending {
        Pending::NONE
    }

    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        self.foreign.as_mut().map(|foreign| foreign as &mut dyn Waiter)
    }

    fn on_waited(&mut self, io: &mut Io<Self>) {
        self.waited += 1;
        if self.foreign.as_ref().is_some_and(|foreign| foreign.own > 0) {
            self.called(io, "own");
        }
    }
}

fn stage() -> (Reactor<(), (), ()>, Script, PipeWriter, ManualClock) {
    let clock = ManualClock::new(1_000);
    let io = Reactor::new(Config::default(), clock.clone()).unwrap();
    let (foreign, writer) = Foreign::new();
    (io, Script { foreign: Some(foreign), waited: 0, calls: Vec::new() }, writer, clock)
}

fn lasting(fd: impl Into<OwnedFd>) -> BorrowedFd<'static> {
    let open: &'static OwnedFd = Box::leak(Box::new(fd.into()));
    open.as_fd()
}

/// Each source ends a sleep without end, before the first watch, while there are some, and after the
/// last one.
#[test]
fn every_source_ends_a_sleep_in_a_foreign_loop() {
    for watches in ["none", "some", "gone"] {
        for source in ["socket", "mail", "own"] {
            let (mut io, mut script, mut writer, _) = stage();
            if watches != "none" {
                let silent = std::io::pipe().unwrap();
                let key = io.watch(lasting(silent.0), Interest::READ, ()).unwrap();
                io.turn_now(&mut script).unwrap();
                if watches == "gone" {
                    io.unwatch(key);
                }
                std::mem::forget(silent.1);
            }
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            io.registry().register(&mut ours, Token(5), mio::Interest::READABLE).unwrap();
            match source {
                "socket" => theirs.write_all(b"x").unwrap(),
                "mail" => io.sender().send(()).unwrap(),
                _ => writer.write_all(b"x").unwrap(),
            }
            io.run(&mut script).unwrap();
            assert_eq!(script.calls, [source], "watches: {watches}");
        }
    }
}

#[test]
fn a_watched_descriptor_ends_a_sleep_in_a_foreign_loop() {
    let (mut io, mut script, _writer, _) = stage();
    let (reader, mut other) = std::io::pipe().unwrap();
    io.watch(lasting(reader), Interest::READ, ()).unwrap();
    other.write_all(b"x").unwrap();
    io.run(&mut script).unwrap();
    assert_eq!(script.calls, ["watch"]);
}

#[test]
fn the_foreign_loop_waits_until_the_next_timer_and_not_at_all_on_work() {
    let (mut io, mut script, _writer, clock) = stage();
    io.arm(1_010, ());
    clock.advance(9);
    io.turn(&mut script).unwrap();
    clock.advance(1);
    io.run(&mut script).unwrap();
    assert_eq!(script.calls, ["timer"]);
    io.stay_awake();
    io.turn(&mut script).unwrap();
    let foreign = script.foreign.take().unwrap();
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(foreign.timeouts, [ms(1), ms(0), ms(0)]);
    assert_eq!(script.waited, 3, "each wait is told");
    io.stay_awake();
    io.turn(&mut script).unwrap();
    assert_eq!(script.waited, 3, "and none without a foreign loop");
}

#[test]
fn a_foreign_loop_that_cannot_wait_ends_the_run() {
    struct Broken;
    impl Waiter for Broken {
        fn wait(&mut self, _: Source<'_>, _: Option<Duration>) -> io::Result<Woken> {
            Err(io::Error::other("broken"))
        }
    }
    struct Host(Broken);
    impl Handler for Host {
        type Timer = ();
        type Watch = ();
        type Mail = ();
        fn on_timer(&mut self, _: &mut Io<Self>, _: TimerKey, (): ()) {}
        fn on_watch(&mut self, _: &mut Io<Self>, _: WatchKey, (): (), _: Ready) {}
        fn on_socket(&mut self, _: &mut Io<Self>, _: Token, _: Readiness) {}
        fn on_mail(&mut self, _: &mut Io<Self>, (): ()) {}
        fn resume(&mut self, _: &mut Io<Self>) -> bool {
            false
        }
        fn commit(&mut self, _: &mut Io<Self>) {}
        fn flush(&mut self, _: &mut Io<Self>) {}
        fn pending(&self) -> Pending {
            Pending::NONE
        }
        fn waiter(&mut self) -> Option<&mut dyn Waiter> {
            Some(&mut self.0)
        }
    }
    let mut io: Reactor<(), (), ()> = Reactor::new(Config::default(), ManualClock::new(0)).unwrap();
    assert_eq!(io.run(&mut Host(Broken)).unwrap_err().to_string(), "broken");
}
