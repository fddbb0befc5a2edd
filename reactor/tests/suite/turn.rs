//! Owns: the proof that a turn runs in its order, within its budgets, and loses nothing.
//!
//! Must never: use real time; a manual clock and turns that do not sleep drive everything, but for
//! the tests in which something that has already happened ends the sleep.
//!
//! Diagnostics: model tests print their seed; set `ROHRPOST_SEED` to run one alone.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::UnixStream;
use mio::{Interest as SocketInterest, Token};
use rohrpost_reactor::{
    Budget, Config, Handler, Interest, Io, Key, ManualClock, Pending, Reactor, Readiness, Ready,
    Sender, Slab, TimerKey, WatchKey,
};

use crate::support::{Random, seeds};

/// A phase of the turn, as a handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Timer,
    Watch,
    Socket,
    Mail,
    Verdict,
    Commit,
    Flush,
}

/// What a scripted handler does in its next callback.
type Act = Box<dyn FnOnce(&mut Script, &mut Io<Script>)>;

/// Writes down what it is called for, and does what it was told to.
#[derive(Default)]
struct Script {
    calls: Vec<(Phase, u64)>,
    acts: HashMap<(Phase, u64), Act>,
    verdicts: VecDeque<u64>,
    pending: Pending,
}

impl Script {
    fn called(&mut self, io: &mut Io<Self>, phase: Phase, id: u64) {
        self.calls.push((phase, id));
        if let Some(act) = self.acts.remove(&(phase, id)) {
            act(self, io);
        }
    }

    fn on(
        &mut self,
        phase: Phase,
        id: u64,
        act: impl FnOnce(&mut Script, &mut Io<Script>) + 'static,
    ) {
        self.acts.insert((phase, id), Box::new(act));
    }

    /// The calls since the last look, without commit and flush, which come every turn.
    fn take_calls(&mut self) -> Vec<(Phase, u64)> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().filter(|(phase, _)| *phase < Phase::Commit).collect()
    }
}

impl Handler for Script {
    type Timer = u64;
    type Watch = u64;
    type Mail = u64;

    fn on_timer(&mut self, io: &mut Io<Self>, key: TimerKey, id: u64) {
        assert_eq!(io.cancel(key), None, "D-91: a timer has fired when its callback runs");
        self.called(io, Phase::Timer, id);
    }

    fn on_watch(&mut self, io: &mut Io<Self>, _: WatchKey, id: u64, ready: Ready) {
        assert!(matches!(ready, Ready::Fired(_)));
        self.called(io, Phase::Watch, id);
    }

    fn on_socket(&mut self, io: &mut Io<Self>, token: Token, _: Readiness) {
        self.called(io, Phase::Socket, token.0 as u64);
    }

    fn on_mail(&mut self, io: &mut Io<Self>, id: u64) {
        self.called(io, Phase::Mail, id);
    }

    fn resume(&mut self, io: &mut Io<Self>) -> bool {
        let Some(id) = self.verdicts.pop_front() else {
            return false;
        };
        self.called(io, Phase::Verdict, id);
        true
    }

    fn commit(&mut self, io: &mut Io<Self>) {
        self.called(io, Phase::Commit, 0);
    }

    fn flush(&mut self, io: &mut Io<Self>) {
        self.called(io, Phase::Flush, 0);
    }

    fn pending(&self) -> Pending {
        Pending { verdicts: self.verdicts.len(), ..self.pending }
    }
}

const ONE_EACH: Budget = Budget { timers: 1, watches: 1, sockets: 1, mail: 1, verdicts: 1 };

fn reactor(budget: Budget) -> (Reactor<u64, u64, u64>, ManualClock) {
    let clock = ManualClock::new(1_000);
    let config = Config { budget, ..Config::default() };
    (Reactor::new(config, clock.clone()).unwrap(), clock)
}

/// A descriptor that stays open, as the watch set asks for.
fn lasting(fd: impl Into<OwnedFd>) -> BorrowedFd<'static> {
    let open: &'static OwnedFd = Box::leak(Box::new(fd.into()));
    open.as_fd()
}

/// A descriptor that is always readable.
fn readable() -> BorrowedFd<'static> {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    lasting(reader)
}

#[test]
fn phases_run_in_the_written_order() {
    let (mut io, clock) = reactor(Budget::default());
    let mut script = Script::default();
    // Put in against the order.
    script.on(Phase::Mail, 4, |script, _| script.verdicts.push_back(5));
    io.sender().send(4).unwrap();
    io.again(Token(3));
    io.watch(readable(), Interest::READ, 2).unwrap();
    io.arm(1_010, 1);
    clock.advance(10);
    io.turn_now(&mut script).unwrap();
    use Phase::*;
    let expected =
        [(Timer, 1), (Watch, 2), (Socket, 3), (Mail, 4), (Verdict, 5), (Commit, 0), (Flush, 0)];
    assert_eq!(script.calls, expected);
}

#[test]
fn all_of_a_turn_sees_one_time() {
    let (mut io, clock) = reactor(Budget::default());
    let mut script = Script::default();
    let later = clock.clone();
    script.on(Phase::Timer, 1, move |_, io| {
        later.advance(50);
        assert_eq!(io.now_ms(), 1_005);
    });
    script.on(Phase::Commit, 0, |_, io| assert_eq!(io.now_ms(), 1_005));
    io.arm(1_005, 1);
    clock.advance(5);
    io.turn_now(&mut script).unwrap();
    io.turn_now(&mut script).unwrap();
    assert_eq!(io.now_ms(), 1_055);
}

#[test]
fn a_verdict_from_any_phase_is_resumed_within_the_turn() {
    for phase in [Phase::Timer, Phase::Watch, Phase::Socket, Phase::Mail, Phase::Verdict] {
        let (mut io, _) = reactor(Budget::default());
        let mut script = Script::default();
        match phase {
            Phase::Timer => {
                io.arm(0, 9);
            }
            Phase::Watch => {
                io.watch(readable(), Interest::READ, 9).unwrap();
            }
            Phase::Socket => io.again(Token(9)),
            Phase::Mail => io.sender().send(9).unwrap(),
            Phase::Verdict | Phase::Commit | Phase::Flush => {
                script.verdicts.push_back(9);
                io.stay_awake();
            }
        }
        script.on(phase, 9, |script, _| script.verdicts.push_back(10));
        io.turn_now(&mut script).unwrap();
        assert_eq!(script.take_calls(), [(phase, 9), (Phase::Verdict, 10)]);
    }
}

#[test]
fn what_a_callback_starts_waits_for_the_next_turn() {
    let (mut io, _) = reactor(Budget::default());
    let mut script = Script::default();
    script.on(Phase::Timer, 1, |_, io| {
        io.arm(0, 2);
    });
    script.on(Phase::Socket, 3, |_, io| io.again(Token(3)));
    script.on(Phase::Mail, 4, |_, io| io.sender().send(5).unwrap());
    io.arm(0, 1);
    io.again(Token(3));
    io.sender().send(4).unwrap();
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Timer, 1), (Phase::Socket, 3), (Phase::Mail, 4)]);
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Timer, 2), (Phase::Socket, 3), (Phase::Mail, 5)]);
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), []);
}

#[test]
fn d_90_a_timer_stopped_by_another_of_the_same_turn_does_not_fire() {
    let (mut io, clock) = reactor(Budget::default());
    let mut script = Script::default();
    io.arm(1_001, 1);
    let stopped = io.arm(1_002, 2);
    let put_off = io.arm(1_003, 3);
    script.on(Phase::Timer, 1, move |_, io| {
        assert_eq!(io.cancel(stopped), Some(2));
        assert!(io.rearm(put_off, 1_020));
    });
    clock.advance(10);
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Timer, 1)]);
    clock.advance(10);
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Timer, 3)]);
}

#[test]
fn d_99_a_watch_taken_back_by_another_of_the_same_turn_is_not_called() {
    let (mut io, _) = reactor(Budget::default());
    let mut script = Script::default();
    let fd = readable();
    io.watch(fd, Interest::READ, 1).unwrap();
    let taken_back = io.watch(fd, Interest::READ, 2).unwrap();
    script.on(Phase::Watch, 1, move |_, io| assert_eq!(io.unwatch(taken_back), Some(2)));
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Watch, 1)]);
}

#[test]
fn d_93_a_delay_is_at_least_that_long_and_none_is_the_next_turn() {
    let (io, _) = reactor(Budget::default());
    assert_eq!(io.deadline_after(0), 1_000);
    assert_eq!(io.deadline_after(5), 1_006);
    assert_eq!(io.deadline_after(u64::MAX), u64::MAX);
}

#[test]
fn what_exceeds_a_budget_comes_in_the_next_turn_in_order() {
    let (mut io, _) = reactor(ONE_EACH);
    let mut script = Script::default();
    for id in 1..=3 {
        io.arm(0, id);
        io.watch(readable(), Interest::READ, id).unwrap();
        io.again(Token(id as usize));
        io.sender().send(id).unwrap();
        script.verdicts.push_back(id);
    }
    for id in 1..=3 {
        io.turn_now(&mut script).unwrap();
        use Phase::*;
        let expected = [(Timer, id), (Watch, id), (Socket, id), (Mail, id), (Verdict, id)];
        assert_eq!(script.take_calls(), expected);
    }
    // Watches are level-triggered: they start over, the others are done.
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Watch, 1)]);
}

#[test]
fn a_budget_of_zero_counts_as_one() {
    let (mut io, _) = reactor(Budget { timers: 0, watches: 0, sockets: 0, mail: 0, verdicts: 0 });
    let mut script = Script::default();
    io.arm(0, 1);
    io.again(Token(1));
    io.sender().send(1).unwrap();
    script.verdicts.push_back(1);
    io.turn_now(&mut script).unwrap();
    assert_eq!(script.take_calls().len(), 4);
}

#[test]
fn the_loop_does_not_sleep_on_work() {
    let kinds: [(&str, Pending); 4] = [
        ("verdicts: 1", Pending { verdicts: 1, ..Pending::NONE }),
        ("commands: 1", Pending { commands: 1, ..Pending::NONE }),
        ("unflushed: 1", Pending { unflushed: 1, ..Pending::NONE }),
        ("unhanded: 1", Pending { unhanded: 1, ..Pending::NONE }),
    ];
    for (name, pending) in kinds {
        let outcome = std::panic::catch_unwind(|| {
            let (mut io, _) = reactor(Budget::default());
            let mut script = Script { pending, ..Script::default() };
            script.verdicts.extend((0..pending.verdicts).map(|id| id as u64));
            io.turn_now(&mut script)
        });
        let panic = outcome.expect_err(name);
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.starts_with("invariant: nothing is pending"), "{message}");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn work_left_on_purpose_keeps_the_loop_awake() {
    let (mut io, _) = reactor(Budget::default());
    let mut script = Script::default();
    script.on(Phase::Flush, 0, |script, io| {
        script.verdicts.push_back(1);
        io.stay_awake();
    });
    io.turn_now(&mut script).unwrap();
    // This one may sleep, and would for ever.
    io.turn(&mut script).unwrap();
    assert_eq!(script.take_calls(), [(Phase::Verdict, 1)]);
}

#[test]
fn mail_from_another_thread_ends_a_sleep() {
    for watching in [false, true] {
        let (mut io, _) = reactor(Budget::default());
        let mut script = Script::default();
        let silent = std::io::pipe().unwrap();
        if watching {
            io.watch(lasting(silent.0), Interest::READ, 1).unwrap();
        }
        script.on(Phase::Mail, 7, |_, io| io.stop());
        let sender: Sender<u64> = io.sender();
        let thread = std::thread::spawn(move || sender.send(7).unwrap());
        io.run(&mut script).unwrap();
        thread.join().unwrap();
        assert_eq!(script.take_calls(), [(Phase::Mail, 7)]);
        assert!(io.is_stopped());
    }
}

#[test]
fn a_watched_descriptor_and_a_socket_end_a_sleep() {
    for watched in [false, true] {
        let (mut io, _) = reactor(Budget::default());
        let mut script = Script::default();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        io.registry().register(&mut ours, Token(5), SocketInterest::READABLE).unwrap();
        io.watch(lasting(reader), Interest::READ, 6).unwrap();
        script.on(Phase::Socket, 5, |_, io| io.stop());
        script.on(Phase::Watch, 6, |_, io| io.stop());
        let mut writers = (theirs, writer);
        let thread = std::thread::spawn(move || {
            if watched {
                writers.1.write_all(b"x").unwrap();
            } else {
                writers.0.write_all(b"x").unwrap();
            }
            writers
        });
        io.run(&mut script).unwrap();
        drop(thread.join().unwrap());
        let expected = if watched { (Phase::Watch, 6) } else { (Phase::Socket, 5) };
        assert_eq!(script.take_calls(), [expected]);
    }
}

#[test]
fn a_sleep_ends_in_time_for_the_next_timer() {
    let mut io: Reactor<u64, u64, u64> =
        Reactor::new(Config::default(), rohrpost_reactor::SystemClock::new()).unwrap();
    let mut script = Script::default();
    script.on(Phase::Timer, 1, |_, io| io.stop());
    let deadline_ms = io.deadline_after(2);
    io.arm(deadline_ms, 1);
    io.run(&mut script).unwrap();
    assert!(io.now_ms() >= deadline_ms);
}

#[test]
fn socket_edges_over_the_budget_are_not_lost() {
    let (mut io, _) = reactor(Budget { sockets: 3, ..Budget::default() });
    let mut script = Script::default();
    let mut sockets = Slab::new();
    let mut peers = Vec::new();
    for _ in 0..40 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        peers.push(theirs);
        sockets.insert_with(|key| {
            io.registry().register(&mut ours, key.into(), SocketInterest::READABLE).unwrap();
            ours
        });
    }
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut seen = Vec::new();
    for _ in 0..40_usize.div_ceil(3) {
        io.turn_now(&mut script).unwrap();
        let calls = script.take_calls();
        assert!(calls.len() <= 3);
        seen.extend(calls.into_iter().map(|(_, token)| Key::from(Token(token as usize))));
    }
    seen.iter().for_each(|&key| {
        assert_eq!(sockets.get_mut(key).unwrap().read(&mut [0; 8]).unwrap(), 1);
    });
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 40);
}

/// Random mixtures of work against a count of what is owed: everything is delivered once, in the
/// order of its kind, within the budget of its phase, and at most as many turns later as the queue
/// before it takes.
#[test]
fn nothing_starves_and_no_budget_is_exceeded_under_random_load() {
    for seed in seeds(30) {
        let mut random = Random::new(seed);
        let budget = Budget {
            timers: 1 + random.index(5),
            watches: 1 + random.index(5),
            sockets: 1 + random.index(5),
            mail: 1 + random.index(5),
            verdicts: 1 + random.index(5),
        };
        let (mut io, clock) = reactor(budget);
        let mut script = Script::default();
        let mut owed: HashMap<Phase, VecDeque<u64>> = HashMap::new();
        let watched: Vec<u64> = (0..random.below(12)).collect();
        for &id in &watched {
            io.watch(readable(), Interest::READ, id).unwrap();
        }
        let mut watch_calls: Vec<u64> = Vec::new();
        let mut id = 0;
        for turn in 0..300 {
            let load = if turn < 200 { random.below(12) } else { 0 };
            for _ in 0..load {
                id += 1;
                let phase =
                    [Phase::Timer, Phase::Socket, Phase::Mail, Phase::Verdict][random.index(4)];
                match phase {
                    Phase::Timer => {
                        io.arm(io.now_ms(), id);
                    }
                    Phase::Socket => io.again(Token(id as usize)),
                    Phase::Mail => io.sender().send(id).unwrap(),
                    _ => {
                        script.verdicts.push_back(id);
                        io.stay_awake();
                    }
                }
                owed.entry(phase).or_default().push_back(id);
            }
            clock.advance(random.below(2));
            io.turn_now(&mut script).unwrap();
            let calls = script.take_calls();
            assert!(calls.is_sorted_by_key(|(phase, _)| *phase), "out of order: {calls:?}");
            for (phase, limit) in [
                (Phase::Timer, budget.timers),
                (Phase::Watch, budget.watches),
                (Phase::Socket, budget.sockets),
                (Phase::Mail, budget.mail),
                (Phase::Verdict, budget.verdicts),
            ] {
                let ids: Vec<u64> =
                    calls.iter().filter(|call| call.0 == phase).map(|call| call.1).collect();
                if phase == Phase::Watch {
                    assert_eq!(ids.len(), limit.min(watched.len()));
                    watch_calls.extend(ids);
                    continue;
                }
                let queue = owed.entry(phase).or_default();
                let expected: Vec<u64> = queue.drain(..queue.len().min(limit)).collect();
                assert_eq!(ids, expected, "{phase:?} in turn {turn}");
            }
        }
        // Watches that are ready all the time take turns: each has its place on the queue within a
        // turn of its call, and at most all others before it.
        for window in watch_calls.windows(watched.len() + budget.watches) {
            assert!(watched.iter().all(|id| window.contains(id)), "{window:?} starves a watch");
        }
    }
}
