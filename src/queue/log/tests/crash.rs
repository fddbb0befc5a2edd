//! What survives: every call of the storage fails once, in every way, then the machine crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;

use super::*;
use crate::queue::dice::Dice;
use crate::queue::engine::Accepting;
use crate::queue::memory::{Fault, Loss};

/// What the callers of the queue know.
#[derive(Default)]
struct Model {
    /// Accepted: the transactions answered Ok, with what was handed over for each mail.
    mails: BTreeMap<MailId, History>,
    transactions: BTreeMap<TransactionId, Transaction>,
    /// Handed over, no answer yet when the storage went away; or refused, and not yet voided.
    doubtful: BTreeSet<TransactionId>,
    /// Refused, and the voiding is durable.
    voided: BTreeSet<TransactionId>,
    /// Results, each with the mail and the number of the attempt that it tells of.
    results: Vec<(TransactionId, MailId, usize)>,
    /// Results of an earlier life.
    older_results: BTreeSet<TransactionId>,
    /// Settles without completion, by worker.
    owed: [VecDeque<MailId>; 2],
}

#[derive(Default)]
struct History {
    attempts: Vec<Next>,
    durable: usize,
}

impl History {
    /// Whether a freeing outcome is among the first `count`.
    fn frees(&self, count: usize) -> bool {
        self.attempts[..count].iter().any(|next| next.frees())
    }
}

impl Model {
    fn on_done(&mut self, done: Completions) {
        for (worker, completion) in done {
            for (id, answer) in completion.accepted {
                match answer {
                    Ok(()) => {
                        self.doubtful.remove(&id);
                        for mail in &self.transactions[&id].mails {
                            self.mails.insert(id.mail(mail.index), History::default());
                        }
                    }
                    Err(_) => assert!(self.doubtful.contains(&id), "only what is asked is refused"),
                }
            }
            for _ in 0..completion.settled {
                let mail = self.owed[worker].pop_front().expect("only what is owed is completed");
                self.mails.get_mut(&mail).unwrap().durable += 1;
            }
        }
    }

    /// A mail with something to settle.
    fn pick(&self, dice: &mut Dice) -> Option<MailId> {
        let open = self.mails.iter().filter(|(_, h)| !h.frees(h.attempts.len()));
        let open: Vec<MailId> = open.map(|(mail, _)| *mail).collect();
        (!open.is_empty()).then(|| open[dice.below(open.len() as u64) as usize])
    }

    /// What was refused stays away.
    fn on_void_durable(&mut self) {
        self.voided.append(&mut self.doubtful);
    }

    /// What a start found of an earlier life is there from now on.
    fn go_on_from(&mut self, mut before: Model, found: &Recovered) {
        for waiting in &found.waiting {
            let known = before.transactions.remove(&waiting.id).unwrap();
            self.transactions.insert(waiting.id, known);
            for mail in &waiting.mails {
                let attempts = vec![LATER; mail.attempts as usize];
                let durable = attempts.len();
                self.mails.insert(waiting.id.mail(mail.index), History { attempts, durable });
            }
        }
    }

    fn check(&self, recovered: &Recovered, reader: &LogReader, context: &str) {
        let mut seen = BTreeMap::new();
        for waiting in &recovered.waiting {
            assert!(!self.voided.contains(&waiting.id), "{context}: a refused mail came back");
            let known = self.transactions.get(&waiting.id);
            let known = known.unwrap_or_else(|| panic!("{context}: unknown {}", waiting.id));
            let read = reader.read(waiting.id).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(read.bodies, known.bodies, "{context}: a body changed");
            assert_eq!(read.origin, known.origin, "{context}: an origin changed");
            assert_eq!(read.wishes, known.wishes, "{context}: wishes changed");
            assert_eq!(waiting.wishes, known.wishes, "{context}: wishes changed");
            for mail in &waiting.mails {
                assert_eq!(read.mail(mail.index), known.mail(mail.index), "{context}");
                seen.insert(waiting.id.mail(mail.index), mail.attempts as usize);
            }
        }
        self.check_results(&seen, reader, context);
        for (mail, history) in &self.mails {
            match seen.get(mail) {
                Some(attempts) => {
                    assert!(!history.frees(history.durable), "{context}: settled {mail} came back");
                    let possible = history.durable..=history.attempts.len();
                    assert!(possible.contains(attempts), "{context}: attempts of {mail}");
                }
                None => {
                    let handed = history.attempts.len();
                    assert!(history.frees(handed), "{context}: accepted {mail} was lost");
                }
            }
        }
    }
}

/// What was on the way when everything ended, torn or cut at any octet: a result is there exactly if the
/// outcome is that it tells of.
impl Model {
    fn check_results(&self, seen: &BTreeMap<MailId, usize>, reader: &LogReader, context: &str) {
        let entries = reader.shelved(RESULTS, None, usize::MAX);
        let there: BTreeSet<TransactionId> = entries.into_iter().map(|(id, _)| id).collect();
        let there = &there - &self.older_results;
        let known: BTreeSet<TransactionId> = self.results.iter().map(|(id, ..)| *id).collect();
        assert!(there.is_subset(&known), "{context}: a result that nobody made");
        for (result, mail, number) in &self.results {
            let history = &self.mails[mail];
            let ended = seen.get(mail).copied().unwrap_or(history.attempts.len());
            let is_last = *number == ended;
            match there.contains(result) {
                true => assert!(*number <= ended, "{context}: a result before its outcome"),
                // An outcome that was torn away in the middle takes its result with it.
                false if context.contains("Torn") && !is_last => {}
                false => assert!(*number > ended, "{context}: an outcome of {mail} without result"),
            }
        }
    }
}

const RESULTS: &str = "results";

/// An entry of a named queue.
fn result(number: u64) -> Transaction {
    let origin = Origin::internal("mail.example");
    let shelf = Some(RESULTS.into());
    Transaction { shelf, origin, ..transaction(number, 1, 60) }
}

fn run(rig: &mut Rig, model: &mut Model, storage: &MemoryStorage, dice: &mut Dice, first_id: u64) {
    let mut number = first_id;
    for _ in 0..60 {
        rig.now_ms += 20 + dice.below(400) * dice.below(4);
        let mut entries = Vec::new();
        for _ in 0..dice.below(4) {
            let worker = dice.below(2) as usize;
            if dice.below(5) < 2 {
                let t =
                    transaction(number, 1 + dice.below(3) as u16, 30 + dice.below(500) as usize);
                number += 1;
                model.doubtful.insert(t.id);
                model.transactions.insert(t.id, t.clone());
                entries.push((worker, Entry::Accept(Arc::new(t))));
            } else if let Some(mail) = model.pick(dice) {
                let next = [LATER, Next::Failed, Next::Removed, Next::Delivered, Next::Delivered];
                let next = next[dice.below(5) as usize];
                let attempts = &mut model.mails.get_mut(&mail).unwrap().attempts;
                attempts.push(next);
                let attempt_number = attempts.len();
                for _ in 0..dice.below(3) {
                    let result = result(100_000 + number);
                    number += 1;
                    model.results.push((result.id, mail, attempt_number));
                    entries.push((worker, Entry::Accept(Arc::new(result))));
                }
                model.owed[worker].push_back(mail);
                entries.push((worker, Entry::Settle(attempt(mail, next))));
            }
        }
        let done = rig.commit(entries);
        model.on_done(done);
        if storage.has_crashed() {
            return;
        }
        if rig.status().accepting == Accepting::Yes {
            model.on_void_durable();
        }
    }
}

/// A second life that takes mail before it knows what is waiting from the first, and maybe never comes to
/// know it; then a third.
fn live_on_unread(seed: u64, loss: Loss) {
    let context = format!("seed {seed}, loss {loss:?}");
    let storage = MemoryStorage::new(seed);
    let mut dice = Dice::new(seed);
    let mut first = Model::default();
    let (mut rig, _) = Rig::open(&storage).unwrap();
    run(&mut rig, &mut first, &storage, &mut dice, 1);
    storage.crash(loss);

    let (reader, whole) = LogReader::open(Arc::new(storage.copy())).unwrap();
    let (mut rig, reading) = Rig::open_unread(&storage).unwrap();
    if let Reading::Open(unread) = &reading {
        assert_eq!(unread.id_max, whole.id_max, "{context}: an id could be given twice");
    }
    let entries = reader.shelved(RESULTS, None, usize::MAX);
    let older_results = entries.into_iter().map(|(id, _)| id).collect();
    let mut second = Model { older_results, ..Model::default() };
    run(&mut rig, &mut second, &storage, &mut dice, 200_000);
    second.go_on_from(first, &whole);
    if dice.below(2) == 0 {
        let found = rig.journal.absorb(match reading {
            Reading::Open(unread) => unread.replay().unwrap(),
            Reading::Done(replay) => *replay,
        });
        assert_eq!(found.waiting, whole.waiting, "{context}: what came since is not found");
        assert_eq!(found.report, whole.report, "{context}");
        rig.rest();
        second.results.clear();
        settle_results(&mut rig);
        second.older_results.clear();
        run(&mut rig, &mut second, &storage, &mut dice, 400_000);
    }
    storage.crash(loss);

    let (mut rig, recovered) = Rig::open(&storage).unwrap();
    second.check(&recovered, &rig.reader, &context);
    deliver_all(&mut rig, &storage, recovered, &context);
}

#[test]
fn mail_that_comes_before_the_log_is_read_is_kept_with_what_was_waiting_in_it() {
    let mut dice = Dice::from_environment();
    for _ in 0..40 {
        let seed = dice.next();
        LOSSES.into_iter().for_each(|loss| live_on_unread(seed, loss));
    }
}

/// One life, a fault at call `number`, a crash, a second life, and the end of all mail.
fn live_twice(seed: u64, fault: Option<(u64, Fault)>, loss: Loss) -> (u64, Status) {
    let context = format!("seed {seed}, fault {fault:?}, loss {loss:?}");
    let storage = MemoryStorage::new(seed);
    if let Some((number, fault)) = fault {
        storage.fail_call(number, fault);
    }
    let mut dice = Dice::new(seed);
    let mut model = Model::default();
    let mut status = None;
    // A fault during the first opening leaves nothing to check.
    if let Ok((mut rig, _)) = Rig::open(&storage) {
        run(&mut rig, &mut model, &storage, &mut dice, 1);
        status = Some(rig.status());
    }
    let calls = storage.calls();
    storage.crash(loss);

    let (mut rig, recovered) = Rig::open(&storage).unwrap_or_else(|e| panic!("{context}: {e}"));
    if loss != Loss::Torn {
        assert_eq!(recovered.report.damaged, [], "{context}");
    }
    model.check(&recovered, &rig.reader, &context);
    let again = LogReader::open(Arc::new(storage.clone())).unwrap().1;
    assert_eq!(again.waiting, recovered.waiting, "{context}: recovered twice differs");

    let mut second = Model::default();
    settle_results(&mut rig);
    second.go_on_from(model, &recovered);
    run(&mut rig, &mut second, &storage, &mut dice, 1_000);
    let (reader, recovered) = LogReader::open(Arc::new(storage.clone())).unwrap();
    second.check(&recovered, &reader, &context);

    deliver_all(&mut rig, &storage, recovered, &context);
    let (_, recovered) = LogReader::open(Arc::new(storage)).unwrap();
    assert_eq!(recovered.waiting, [], "{context}");
    (calls, status.unwrap_or_else(|| rig.status()))
}

/// The end of all mail: nearly nothing stays on disk.
fn deliver_all(rig: &mut Rig, storage: &MemoryStorage, recovered: Recovered, context: &str) {
    for waiting in recovered.waiting {
        for mail in waiting.mails {
            rig.settle(waiting.id.mail(mail.index), Next::Delivered);
        }
    }
    settle_results(rig);
    let room = 2 * options().segment_bytes + 4_000;
    assert!(storage.used_bytes() < room, "{context}: {} bytes stay", storage.used_bytes());
}

/// Takes every result.
fn settle_results(rig: &mut Rig) {
    for (id, _) in rig.reader.shelved(RESULTS, None, usize::MAX) {
        rig.settle(id.mail(0), Next::Removed);
    }
    assert_eq!(rig.reader.shelves(), []);
    rig.rest();
}

const LOSSES: [Loss; 4] = [Loss::Nothing, Loss::Unsynced, Loss::Prefix, Loss::Torn];

#[test]
fn r_2_without_faults_every_crash_keeps_what_was_promised() {
    let mut dice = Dice::from_environment();
    let mut rewritten = 0;
    for _ in 0..50 {
        let seed = dice.next();
        for loss in LOSSES {
            rewritten += live_twice(seed, None, loss).1.rewritten;
        }
    }
    assert!(rewritten > 0, "the workload must reach rewriting");
}

#[test]
fn r_3_any_call_may_fail_once() {
    let mut dice = Dice::from_environment();
    let seed = dice.next();
    let calls = live_twice(seed, None, Loss::Nothing).0;
    let faults = [
        Fault::Error(ErrorKind::Other),
        Fault::Error(ErrorKind::StorageFull),
        Fault::Error(ErrorKind::Interrupted),
        Fault::Partial(ErrorKind::QuotaExceeded),
        Fault::Short,
        Fault::Crash,
        Fault::CrashPartial,
    ];
    for number in 1..=calls {
        for (turn, fault) in faults.into_iter().enumerate() {
            // Each fault meets each loss at every fourth call.
            let loss = LOSSES[(number as usize + turn) % LOSSES.len()];
            live_twice(seed, Some((number, fault)), loss);
        }
    }
}

#[test]
fn r_1_random_faults_in_random_lives() {
    let mut dice = Dice::from_environment();
    for _ in 0..300 {
        let number = 1 + dice.below(400);
        let fault = match dice.below(4) {
            0 => Fault::Error(ErrorKind::Other),
            1 => Fault::Partial(ErrorKind::StorageFull),
            2 => Fault::Crash,
            _ => Fault::CrashPartial,
        };
        let loss = LOSSES[dice.below(4) as usize];
        live_twice(dice.next(), Some((number, fault)), loss);
    }
}
