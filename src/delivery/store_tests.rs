//! The store by itself: tables for each way of a mail, and a model over random operations.
//!
//! The clock is a number of the test. **Diagnostics**: the model prints its seed, which
//! `ROHRPOST_SEED` overrides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::delivery::held::ATTEMPTS_SHOWN;
use crate::delivery::{Account, DestinationLimits, MailView, NextHop};
use crate::queue::{Addresses, Body, Mail, Origin, WaitingMail};

const LIFE_MS: u64 = 100_000;
const RETRY_S: u32 = 10;
/// Both clocks run together, this far apart.
const UNIX_MS: u64 = 1_000_000_000;

pub(in crate::delivery) fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: UNIX_MS + mono_ms }
}

pub(in crate::delivery) fn store() -> Store {
    store_to(Some(NextHop { host: "relay.example".into(), port: 25, account: Account::OfSettings }))
}

/// A store whose mails go to their domains, without a smarthost.
fn store_to(smarthost: Option<NextHop>) -> Store {
    let limits = StoreLimits {
        retry: Retry { intervals_s: vec![RETRY_S], attempts_max: 0, deliver_ms_max: LIFE_MS },
        deliver_ms_max: LIFE_MS,
        loading_max: 2,
        queues: ResultQueues::default(),
    };
    let few = DestinationLimits {
        domain_connections_max: 2,
        smarthost_connections_max: 2,
        look_ups_max: 2,
    };
    Store::new(limits, Destinations::new(few, smarthost, 1))
}

/// Where all mail of [`transaction`] goes.
pub(super) fn way(store: &mut Store) -> DestinationId {
    store.destinations.of_recipient("r0@example.net")
}

pub(super) fn take_work(store: &mut Store, reserve: impl FnMut(usize) -> bool) -> Option<Work> {
    let way = way(store);
    store.take_work(way, reserve)
}

fn ready(store: &mut Store) -> usize {
    let way = way(store);
    store.destinations.ready(way)
}

fn fail_ready(store: &mut Store, finish: Finish, now: Now) -> Vec<Ended> {
    let way = way(store);
    store.destinations.end_ready(way, finish);
    store.end_some(way, usize::MAX, now)
}

fn aged(store: &mut Store, now: Now) -> Vec<Ended> {
    let mut aged = Vec::new();
    while let Some(more) = store.pop_aged(now) {
        aged.extend(more);
    }
    while let Some(due) = store.pop_due(now) {
        aged.extend(due);
    }
    aged
}

pub(in crate::delivery) fn transaction(
    id: u64,
    mails: u16,
    bytes: usize,
    now: Now,
) -> Arc<Transaction> {
    let mail = |index| Mail {
        index,
        envelope: "a@example.org".into(),
        recipient: format!("r{index}@example.net").into(),
        body: 0,
        dsn: None,
        extras: None,
    };
    let mut text = vec![b'x'; bytes];
    text.push(0);
    let address = "127.0.0.1:25".parse().unwrap();
    Arc::new(Transaction {
        id: TransactionId::from_u64(id),
        received_ms: now.unix_ms,
        mails: (0..mails).map(mail).collect(),
        bodies: vec![Body::try_from(text).unwrap()],
        trace: Box::default(),
        origin: Origin {
            remote: address,
            local: address,
            helo: "client.example".into(),
            user: None,
            secure: false,
            authenticated: false,
        },
        eight_bit: false,
        smtputf8: false,
        wishes: None,
        shelf: None,
    })
}

/// A transaction of one mail, for tests of other files.
pub(in crate::delivery) fn transaction_of(id: u64) -> Arc<Transaction> {
    transaction(id, 1, 10, at(0))
}

pub(in crate::delivery) fn waiting(transaction: &Transaction, last: Option<Next>) -> Waiting {
    let last = |index| {
        last.map(|next| {
            Box::new(Attempt {
                mail: transaction.id.mail(index),
                at_ms: transaction.received_ms,
                next,
                state: "rcptto".into(),
                result: "error".into(),
                code: 450,
                status: "".into(),
                description: "".into(),
                from: None,
                to: None,
                facts: None,
                extras: None,
            })
        })
    };
    Waiting {
        id: transaction.id,
        received_ms: transaction.received_ms,
        body_bytes: transaction.body_bytes(),
        wishes: transaction.wishes.clone(),
        mails: transaction
            .mails
            .iter()
            .map(|mail| WaitingMail {
                index: mail.index,
                addresses: Addresses::new(&mail.envelope, &mail.recipient),
                attempts: u32::from(last(mail.index).is_some()),
                last: last(mail.index),
                extras: mail.extras.clone(),
            })
            .collect(),
    }
}

pub(super) fn finish(fate: Fate) -> Finish {
    Finish::without_reply(fate, "message", "error", "as told")
}

pub(super) fn deliver(store: &mut Store) -> MailId {
    match take_work(store, |_| true) {
        Some(Work::Deliver(id, _)) => id,
        other => panic!("{other:?}"),
    }
}

fn place(store: &Store, id: MailId) -> Option<Place> {
    store.view(id).map(|view| view.place)
}

#[test]
fn each_fate_has_its_place_and_its_count() {
    let rows = [
        (Fate::Delivered, None, (0, 0)),
        (Fate::Temporary, Some(Place::Waiting(u64::from(RETRY_S) * 1000)), (1, 0)),
        (Fate::Permanent, Some(Place::Failed), (1, 1)),
    ];
    for (fate, expected, counts) in rows {
        let mut store = store();
        store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
        assert_eq!((store.queued(), ready(&mut store)), (1, 1));
        let id = deliver(&mut store);
        assert_eq!(place(&store, id), Some(Place::Active));
        let attempt = store.on_finish(id, finish(fate), at(0)).unwrap().attempt;
        assert_eq!(attempt.mail, id);
        assert_eq!(place(&store, id), expected, "{fate:?}");
        assert_eq!((store.queued(), store.failed()), counts, "{fate:?}");
        // In each of them nothing needs the text now.
        assert_eq!(store.take_released(), 64, "{fate:?}");
        assert_eq!(store.take_released(), 0, "{fate:?}");
        assert!(store.on_finish(id, finish(fate), at(0)).is_none() || expected.is_some());
    }
}

#[test]
fn mails_of_one_transaction_share_its_text_until_the_last_needs_it_no_more() {
    let mut store = store();
    store.admit(transaction(1, 3, 10, at(0)), 64, at(0));
    let ids = [(); 3].map(|()| deliver(&mut store));
    assert_eq!(ids.map(|id| id.index), [0, 1, 2], "in their order");
    assert!(take_work(&mut store, |_| true).is_none());
    store.on_finish(ids[1], finish(Fate::Delivered), at(1));
    store.on_finish(ids[0], finish(Fate::Temporary), at(1));
    assert_eq!(store.take_released(), 0);
    store.give_back(ids[2]);
    assert_eq!(deliver(&mut store), ids[2]);
    store.on_finish(ids[2], finish(Fate::Delivered), at(1));
    assert_eq!(store.take_released(), 64);
    assert_eq!(store.queued(), 1);
}

/// Design §5: age-out works in every state.
#[test]
fn every_state_ages_out() {
    let over = at(LIFE_MS);
    let early = at(LIFE_MS - 1);
    let new = |store: &mut Store| store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let waiting_now = |store: &mut Store| {
        let next = Next::Retry { not_before_ms: UNIX_MS + 2 * LIFE_MS };
        store.restore(waiting(&transaction(1, 1, 10, at(0)), Some(next)), at(0));
    };
    let failed = |store: &mut Store| {
        let mail = waiting(&transaction(1, 1, 10, at(0)), Some(Next::Failed));
        store.restore(mail, at(0));
    };
    let on_disk = |store: &mut Store| {
        store.restore(waiting(&transaction(1, 1, 10, at(0)), None), at(0));
    };
    let loading = |store: &mut Store| {
        on_disk(store);
        assert!(matches!(take_work(store, |_| true), Some(Work::Load(_))));
        let text = transaction(1, 1, 10, at(0));
        store.on_loaded(text.id, Ok(text), at(1));
    };
    type Make<'a> = &'a dyn Fn(&mut Store);
    let rows: [(&str, Make<'_>); 5] = [
        ("ready", &new),
        ("ready on disk", &on_disk),
        ("waiting", &waiting_now),
        ("failed", &failed),
        ("loaded", &loading),
    ];
    for (name, make) in rows {
        let mut store = store();
        make(&mut store);
        assert_eq!(aged(&mut store, early), [], "{name}");
        let settled = aged(&mut store, over);
        assert_eq!(settled.len(), 1, "{name}");
        assert_eq!(settled[0].attempt.next, Next::Removed, "{name}");
        assert_eq!(aged(&mut store, at(2 * LIFE_MS)), [], "{name}: only once");
        assert_eq!((store.queued(), store.failed()), (0, 0), "{name}");
        assert_eq!(ready(&mut store), 0, "{name}: nothing is left to look at");
        assert!(store.held.is_empty(), "{name}");
    }
}

/// A mail that no host could be reached for was never tried: its end says why.
#[test]
fn what_ages_out_for_want_of_a_connection_says_why() {
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let way = way(&mut store);
    let refused = Finish::without_reply(Fate::Temporary, "connect", "error", "connect: refused");
    store.destinations.on_unroutable(way, refused, 1);
    let settled = aged(&mut store, at(LIFE_MS));
    let said = &*settled[0].attempt.description;
    assert_eq!(said, "max-delivertime is over; last: connect: refused");
    assert!(settled[0].attempt.is_age_out());
}

#[test]
fn a_mail_under_way_ages_out_when_its_attempt_has_ended() {
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let id = deliver(&mut store);
    assert!(aged(&mut store, at(LIFE_MS)).is_empty());
    let attempt = store.on_finish(id, finish(Fate::Temporary), at(LIFE_MS)).unwrap().attempt;
    assert_eq!(attempt.next, Next::Failed, "no attempt can follow");
    let settled = store.pop_due(at(LIFE_MS)).unwrap().unwrap();
    assert_eq!(settled.attempt.next, Next::Removed);
    assert_eq!((store.queued(), store.failed()), (0, 0));
}

#[test]
fn a_text_that_cannot_be_read_waits_or_fails() {
    let id = TransactionId::from_u64(1);
    let io = || ReadError::Io { id, source: std::io::ErrorKind::TimedOut.into() };
    let rows = [
        (io(), Place::Waiting(READ_PAUSE_MS)),
        (ReadError::Unknown(id), Place::Failed),
        (ReadError::Damaged(id), Place::Failed),
    ];
    for (error, expected) in rows {
        let name = error.to_string();
        let mut store = store();
        store.restore(waiting(&transaction(1, 2, 10, at(0)), None), at(0));
        assert!(matches!(take_work(&mut store, |bytes| bytes == 10), Some(Work::Load(_))));
        assert!(take_work(&mut store, |_| true).is_none(), "one reading serves both");
        let settled = store.on_loaded(id, Err(error), at(0));
        assert_eq!(settled.len(), 2, "{name}");
        for index in 0..2 {
            assert_eq!(place(&store, id.mail(index)), Some(expected), "{name}");
        }
        assert_eq!(store.take_released(), 10, "{name}");
    }
}

#[test]
fn no_more_texts_are_read_at_a_time_than_allowed() {
    let mut store = store();
    for id in 1..=3 {
        store.restore(waiting(&transaction(id, 1, 10, at(0)), None), at(0));
    }
    let way = way(&mut store);
    let mut load = || store.take_work(way, |_| true);
    let Some(Work::Load(first)) = load() else { panic!() };
    assert!(matches!(load(), Some(Work::Load(_))));
    assert!(load().is_none());
    let text = transaction(first.as_u64(), 1, 10, at(0));
    store.on_loaded(first, Ok(text), at(0));
    assert_eq!(deliver(&mut store).transaction, first);
    assert!(matches!(take_work(&mut store, |_| true), Some(Work::Load(_))));
}

/// Memory: what does not fit waits, but not what is in memory behind it; and alone it goes out.
#[test]
fn a_text_that_does_not_fit_blocks_nothing() {
    let mut store = store();
    store.restore(waiting(&transaction(1, 1, 10, at(0)), None), at(0));
    store.admit(transaction(2, 1, 10, at(0)), 64, at(0));
    let behind = deliver_refused(&mut store);
    assert_eq!(behind.transaction.as_u64(), 2);
    assert!(take_work(&mut store, |_| false).is_none(), "while it is under way");
    store.on_finish(behind, finish(Fate::Delivered), at(0));
    assert_eq!(store.take_released(), 64);
    assert!(matches!(take_work(&mut store, |_| false), Some(Work::Load(_))));
    let text = transaction(1, 1, 10, at(0));
    store.on_loaded(text.id, Ok(text), at(0));
    let alone = deliver_refused(&mut store);
    store.on_finish(alone, finish(Fate::Delivered), at(0));
    assert_eq!(store.take_released(), 0, "nothing was reserved for it");
}

fn deliver_refused(store: &mut Store) -> MailId {
    match take_work(store, |_| false) {
        Some(Work::Deliver(id, _)) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_is_unloaded_only_while_nobody_sends_it() {
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let id = deliver(&mut store);
    store.unload(id.transaction);
    assert_eq!(store.take_released(), 0);
    store.give_back(id);
    store.unload(id.transaction);
    assert_eq!(store.take_released(), 64);
    assert!(matches!(take_work(&mut store, |_| true), Some(Work::Load(_))));
    store.unload(id.transaction);
    assert_eq!(store.take_released(), 0, "it is on its way");
}

#[test]
fn whoever_settles_an_attempt_is_told_of_its_mail_and_of_those_before() {
    for fate in [Fate::Delivered, Fate::Permanent] {
        let mut store = store();
        store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
        let id = deliver(&mut store);
        let mut first = store.on_finish(id, finish(Fate::Temporary), at(0)).unwrap();
        let mail = store.mail_of(&mut first).unwrap();
        assert_eq!((mail.attempts, mail.recent.len()), (1, 0));
        store.pop_due(at(u64::from(RETRY_S) * 1000));
        assert!(matches!(take_work(&mut store, |_| true), Some(Work::Load(_))));
        store.on_loaded(id.transaction, Ok(transaction(1, 1, 10, at(0))), at(0));
        assert_eq!(deliver(&mut store), id);
        let mut last = store.on_finish(id, finish(fate), at(0)).unwrap();
        let mail = store.mail_of(&mut last).unwrap();
        assert_eq!((mail.attempts, mail.recent), (2, vec![first.attempt]), "{fate:?}");
        assert!(!mail.addresses.recipient().is_empty() && mail.id == id, "{fate:?}");
    }
}

#[test]
fn own_listener_fails_all_that_is_ready_and_nothing_else() {
    let mut store = store();
    store.admit(transaction(1, 2, 10, at(0)), 64, at(0));
    let active = deliver(&mut store);
    let settled = fail_ready(&mut store, finish(Fate::Permanent), at(0));
    assert_eq!(settled.len(), 1);
    assert_eq!(settled[0].attempt.next, Next::Failed);
    assert_eq!(place(&store, active), Some(Place::Active));
    assert_eq!((store.failed(), ready(&mut store)), (1, 0));
}

#[test]
fn the_latest_attempts_are_kept_and_all_are_counted() {
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let mut now = 0;
    for attempts in 1..=9 {
        let loaded = match take_work(&mut store, |_| true).unwrap() {
            Work::Deliver(id, _) => id,
            Work::Load(id) => {
                store.on_loaded(id, Ok(transaction(1, 1, 10, at(0))), at(now));
                deliver(&mut store)
            }
        };
        store.on_finish(loaded, finish(Fate::Temporary), at(now));
        let view = store.view(loaded).unwrap();
        assert_eq!(view.attempts, attempts);
        assert_eq!(view.recent.len(), ATTEMPTS_SHOWN.min(attempts as usize));
        assert!(view.recent.is_sorted_by_key(|attempt| attempt.at_ms));
        now = store.next_due().unwrap();
        assert!(store.pop_due(at(now)).is_some_and(|aged| aged.is_none()));
    }
}

/// What the model knows of one mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Idle,
    Active,
    Failed,
}

/// A store with everything that a worker would keep beside it.
struct Model {
    store: Store,
    way: DestinationId,
    now_ms: u64,
    /// Mails that must be there.
    mails: BTreeMap<MailId, Known>,
    born: BTreeMap<TransactionId, (u64, u16)>,
    loading: Vec<TransactionId>,
    /// Octets of the budget that are taken.
    reserved: usize,
    budget: usize,
}

impl Model {
    fn now(&self) -> Now {
        at(self.now_ms)
    }

    fn text(&self, id: TransactionId) -> Arc<Transaction> {
        let (born_ms, mails) = self.born[&id];
        transaction(id.as_u64(), mails, 100, at(born_ms))
    }

    fn settle(&mut self, attempt: &Attempt) {
        let known = self.mails.get_mut(&attempt.mail).expect("it is ours");
        match attempt.next {
            Next::Retry { .. } => *known = Known::Idle,
            Next::Failed => *known = Known::Failed,
            Next::Delivered | Next::Removed => {
                self.mails.remove(&attempt.mail);
            }
        }
    }

    fn step(&mut self, dice: u64, serial: u64) {
        let pick = |len: usize| (dice >> 8) as usize % len.max(1);
        match dice % 8 {
            0 => self.bring(serial, (dice >> 8).is_multiple_of(3)),
            1 | 2 => self.take(),
            3 => self.load(pick(self.loading.len()), dice >> 16),
            4 | 5 => self.end(pick(self.mails.len()), dice >> 16),
            6 => self.unload(pick(self.born.len())),
            _ => self.pass((dice >> 8) % 8_000),
        }
        let released = self.store.take_released();
        assert!(released <= self.reserved, "more comes back than was taken");
        self.reserved -= released;
    }

    fn bring(&mut self, serial: u64, found: bool) {
        let id = TransactionId::from_u64(serial);
        let mails = 1 + (serial % 3) as u16;
        self.born.insert(id, (self.now_ms, mails));
        let text = self.text(id);
        if found {
            self.store.restore(waiting(&text, None), self.now());
        } else {
            let now = self.now();
            self.store.admit(text, 100, now);
            self.reserved += 100;
        }
        for index in 0..mails {
            self.mails.insert(id.mail(index), Known::Idle);
        }
    }

    fn take(&mut self) {
        let (mut reserved, budget) = (self.reserved, self.budget);
        let work = self.store.take_work(self.way, |bytes| {
            let fits = reserved + bytes <= budget;
            reserved += if fits { bytes } else { 0 };
            fits
        });
        self.reserved = reserved;
        match work {
            Some(Work::Deliver(id, text)) => {
                assert_eq!(self.mails.insert(id, Known::Active), Some(Known::Idle));
                assert_eq!(text.id, id.transaction);
            }
            Some(Work::Load(id)) => self.loading.push(id),
            None => {}
        }
    }

    fn load(&mut self, at: usize, dice: u64) {
        if self.loading.is_empty() {
            return;
        }
        let id = self.loading.swap_remove(at);
        let loaded = match dice % 6 {
            0 => Err(ReadError::Damaged(id)),
            1 => Err(ReadError::Io { id, source: std::io::ErrorKind::TimedOut.into() }),
            _ => Ok(self.text(id)),
        };
        let now = self.now();
        for ended in self.store.on_loaded(id, loaded, now) {
            self.settle(&ended.attempt);
        }
    }

    fn end(&mut self, at: usize, dice: u64) {
        let active = |known: &Known| *known == Known::Active;
        let mut found = self.mails.iter().filter(|(_, known)| active(known));
        let count = found.clone().count().max(1);
        let Some((&id, _)) = found.nth(at % count) else {
            return;
        };
        let fate = match dice % 5 {
            0 => {
                self.store.give_back(id);
                self.mails.insert(id, Known::Idle);
                return;
            }
            1 => Fate::Permanent,
            2 => Fate::Delivered,
            _ => Fate::Temporary,
        };
        let now = self.now();
        let ended = self.store.on_finish(id, finish(fate), now).unwrap();
        self.settle(&ended.attempt);
    }

    fn unload(&mut self, at: usize) {
        if let Some(&id) = self.born.keys().nth(at) {
            self.store.unload(id);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now();
        for ended in aged(&mut self.store, now) {
            assert_eq!(ended.attempt.next, Next::Removed);
            self.settle(&ended.attempt);
        }
    }

    fn check(&self) {
        let count = |which| self.mails.values().filter(|known| **known == which).count();
        assert_eq!(self.store.queued(), self.mails.len());
        assert_eq!(self.store.failed(), count(Known::Failed));
        assert_eq!(self.store.active, count(Known::Active));
        let views = self.store.views(None, usize::MAX);
        let ids: Vec<MailId> = views.iter().map(|view| view.id).collect();
        assert!(ids.iter().eq(self.mails.keys()), "{ids:?}");
        let idle = |view: &MailView| matches!(view.place, Place::Ready);
        assert!(
            views.iter().filter(|view| idle(view)).count()
                <= self.store.destinations.ready(self.way)
        );
        if self.mails.is_empty() && self.loading.is_empty() {
            assert_eq!(self.reserved, 0, "memory of mail that is gone");
        }
    }
}

/// Counts, places and memory agree with a model over random operations, and in the end every mail
/// leaves by age.
#[test]
fn counts_agree_with_a_model_over_random_operations() {
    let given = std::env::var("ROHRPOST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("ROHRPOST_SEED={seed}");
    for round in 0..60 {
        let mut dice = crate::queue::Dice::new(seed + round);
        let mut store = store();
        let mut model = Model {
            way: way(&mut store),
            store,
            now_ms: 0,
            mails: BTreeMap::new(),
            born: BTreeMap::new(),
            loading: Vec::new(),
            reserved: 0,
            budget: 500,
        };
        for serial in 1..400 {
            model.step(dice.next(), serial);
            model.check();
        }
        while let Some(id) = model.loading.pop() {
            let now = model.now();
            model.store.on_loaded(id, Ok(model.text(id)), now);
        }
        for id in model.mails.keys().copied().collect::<Vec<_>>() {
            if model.mails[&id] == Known::Active {
                model.store.give_back(id);
                model.mails.insert(id, Known::Idle);
            }
        }
        model.pass(2 * LIFE_MS);
        model.reserved -= model.store.take_released();
        assert!(model.mails.is_empty() && model.store.held.is_empty());
        assert_eq!((model.reserved, ready(&mut model.store)), (0, 0));
        model.check();
    }
}

/// A plugin's time counts, within the bounds of the mail, and over a restart.
#[test]
fn a_mail_that_is_put_off_is_due_then_whatever_the_retry_rule_says() {
    for fate in [Fate::Temporary, Fate::Untried] {
        let mut store = store();
        store.admit(transaction(1, 1, 10, at(0)), 0, at(0));
        let id = deliver(&mut store);
        let put_off_ms = Some(UNIX_MS + 3 * 10_000);
        let ended = store.on_finish(id, Finish { put_off_ms, ..finish(fate) }, at(0)).unwrap();
        assert_eq!(ended.attempt.next, Next::Retry { not_before_ms: UNIX_MS + 30_000 });
        let view = store.view(id).unwrap();
        assert_eq!(view.place, Place::Waiting(30_000));
        assert_eq!(view.attempts, u32::from(fate == Fate::Temporary));
        let mut again = store_to(None);
        again.restore(waiting(&transaction(1, 1, 10, at(0)), Some(ended.attempt.next)), at(5_000));
        assert_eq!(again.next_due(), Some(30_000));
    }
}

#[test]
fn a_mail_is_led_to_another_host_and_not_for_ever() {
    use crate::delivery::REROUTES_MAX;
    use crate::queue::Smarthost;
    let host =
        |port| Smarthost { host: "other.example".into(), port, username: None, password: None };
    let mut store = store();
    store.admit(transaction(1, 1, 10, at(0)), 64, at(0));
    let mut id = deliver(&mut store);
    for port in 1..=u16::from(REROUTES_MAX) {
        store.reroute(id, &host(port)).unwrap();
        assert_eq!((ready(&mut store), store.under_way()), (0, 1), "the old one has nothing of it");
        let next = store.destinations.of_host(&host(port));
        let Some(Work::Deliver(taken, _)) = store.take_work(next, |_| true) else { panic!() };
        id = taken;
    }
    assert!(store.reroute(id, &host(99)).is_err());
    assert_eq!(store.view(id).unwrap().place, Place::Active, "it is as it was");
    // What ends the attempt ends this too: the next one goes where all mail goes.
    store.on_finish(id, finish(Fate::Temporary), at(0));
    assert!(store.pop_due(at(u64::from(RETRY_S) * 1000)).is_some());
    assert!(matches!(take_work(&mut store, |_| true), Some(Work::Load(_))));
    store.on_loaded(id.transaction, Ok(transaction(1, 1, 10, at(0))), at(0));
    let id = deliver(&mut store);
    store.reroute(id, &host(1)).unwrap();
}

#[path = "store_own_tests.rs"]
mod own;
