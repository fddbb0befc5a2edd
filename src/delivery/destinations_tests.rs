//! Destinations by themselves: what a step asks for, what ends mails, and a model over random events.
//!
//! The clock is a number of the test. **Diagnostics**: the model prints its seed, which
//! `ROHRPOST_SEED` overrides.

use super::*;
use crate::delivery::{Account, RouteHost};
use crate::queue::{Dice, TransactionId};

const LIMITS: DestinationLimits =
    DestinationLimits { domain_connections_max: 3, smarthost_connections_max: 5, look_ups_max: 2 };

fn destinations() -> Destinations {
    Destinations::new(LIMITS, None, 1)
}

fn mail(number: u64) -> MailId {
    TransactionId::from_u64(number).mail(0)
}

/// So many new mails for `domain`.
fn bring(all: &mut Destinations, domain: &str, mails: u64) -> DestinationId {
    let id = all.of_recipient(&format!("a@{domain}"));
    for number in 0..mails {
        all.enter(id);
        all.push(id, mail(number), false);
    }
    id
}

fn route() -> Route {
    let host = |name: &str, preference, address: &str| RouteHost {
        name: name.into(),
        preference,
        addresses: vec![address.parse().unwrap()],
    };
    Route::new(vec![host("mx1", 10, "192.0.2.1:25"), host("mx2", 20, "192.0.2.2:25")])
}

fn refused() -> Finish {
    Finish::without_reply(Fate::Temporary, "connect", "error", "refused")
}

fn key(number: usize) -> Key {
    Key::from(Token(number))
}

/// Routed, with one connection that was greeted.
fn connected(all: &mut Destinations, domain: &str, mails: u64) -> DestinationId {
    let id = bring(all, domain, mails);
    assert!(matches!(all.step(id, 0), Step::LookUp(_)));
    all.on_routed(id, route(), 1_000, 0);
    let mut journey = all.journey(id, None, 0).unwrap();
    let stop = journey.next_stop().unwrap();
    all.on_greeted(id, stop.address);
    id
}

#[test]
fn a_domain_is_looked_up_once_and_then_connected_to() {
    let mut all = destinations();
    let id = bring(&mut all, "example.org", 2);
    assert_eq!(bring(&mut all, "EXAMPLE.org", 2), id, "one destination for all its mail");
    assert_eq!(all.pop_awake(), Some(id));
    assert_eq!(all.step(id, 0), Step::LookUp(Target::Domain("example.org".into())));
    assert_eq!(all.step(id, 0), Step::Wait, "for the answer");
    assert_eq!(all.pop_awake(), None);
    assert_eq!(all.explain(id, 0).unwrap().look_up, Some(LookUp::Asked));
    all.on_routed(id, route(), 1_000, 0);
    assert_eq!(all.pop_awake(), Some(id), "woken by the answer");
    assert_eq!(all.step(id, 0), Step::Connect(3), "its share");
    (0..3).for_each(|_| drop(all.journey(id, None, 0).unwrap()));
    assert_eq!(all.step(id, 0), Step::Wait);
    assert_eq!(all.connections(), 3);
}

#[test]
fn an_old_route_serves_until_the_new_one_is_here() {
    let mut all = destinations();
    let id = connected(&mut all, "example.org", 9);
    assert_eq!(all.step(id, 999), Step::Connect(2));
    assert!(matches!(all.step(id, 1_000), Step::LookUp(_)), "its time is over");
    assert_eq!(all.step(id, 1_000), Step::Connect(2), "meanwhile");
    let no_answer = Finish::without_reply(Fate::Temporary, "dns", "timeout", "no answer");
    all.on_unroutable(id, no_answer, 1_000);
    assert!(!all.is_ending(id), "the old one still serves");
    assert_eq!(all.step(id, 1_000 + STALE_MS - 1), Step::Connect(2));
    assert!(matches!(all.step(id, 1_000 + STALE_MS), Step::LookUp(_)));
    let gone = Finish::without_reply(Fate::Permanent, "dns", "error", "no such domain");
    all.on_unroutable(id, gone, 1_000 + STALE_MS);
    assert!(all.is_ending(id), "for good is for good");
}

#[test]
fn no_more_look_ups_run_than_allowed_and_each_end_lets_one_begin() {
    let mut all = destinations();
    let ids = ["a.example", "b.example", "c.example", "d.example"].map(|d| bring(&mut all, d, 1));
    let asked = |all: &mut Destinations| {
        let mut asked = Vec::new();
        while let Some(id) = all.pop_awake() {
            if matches!(all.step(id, 0), Step::LookUp(_)) {
                asked.push(id);
            }
        }
        asked
    };
    assert_eq!(asked(&mut all), ids[..2]);
    assert_eq!(all.explain(ids[2], 0).unwrap().look_up, Some(LookUp::Waiting));
    all.on_routed(ids[0], route(), 1_000, 0);
    assert_eq!(asked(&mut all), ids[2..3]);
    // One that waits has nothing to send any more: its place goes to the next.
    let mut all_gone = |id| {
        all.leave(id, |_| false);
        all.on_unroutable(ids[1], refused(), 0);
        asked(&mut all)
    };
    assert_eq!(all_gone(ids[3]), [] as [DestinationId; 0]);
    assert!(all.explain(ids[3], 0).is_none());
    assert_eq!(all.asking, 1);
}

#[test]
fn a_domain_that_cannot_be_reached_ends_what_is_ready_and_rests() {
    let mut all = destinations();
    let id = bring(&mut all, "example.org", 5);
    all.step(id, 0);
    all.on_routed(id, route(), 1_000_000, 0);
    let journeys = [(); 2].map(|()| all.journey(id, None, 0).unwrap());
    drop(journeys);
    all.on_unreachable(id, refused(), 0);
    assert!(!all.is_ending(id), "another connection is still being made");
    all.on_unreachable(id, refused(), 0);
    assert!(all.is_ending(id));
    assert_eq!(all.step(id, 0), Step::Wait);
    all.enter(id);
    all.push(id, mail(99), false);
    let (mails, finish) = all.take_ending(id, 3).unwrap();
    assert_eq!((mails.len(), finish), (3, refused()));
    let (mails, _) = all.take_ending(id, 3).unwrap();
    assert_eq!(mails.len(), 2, "what came later waits");
    assert!(!all.is_ending(id) && all.ready(id) == 1);
    (0..5).for_each(|_| all.leave(id, |_| true));
    assert_eq!(all.step(id, 0), Step::Wait, "it rests");
    assert_eq!(all.explain(id, 0).unwrap().back_at_ms, Some(1_000));
    while all.pop_awake().is_some() {}
    assert!(!all.wake_rested(999));
    assert!(all.wake_rested(1_000));
    assert_eq!(all.pop_awake(), Some(id));
    assert_eq!(all.step(id, 1_000), Step::Connect(1), "one probe");
}

/// A hop that restarts costs no mail an attempt.
#[test]
fn a_smarthost_that_cannot_be_reached_costs_no_attempt() {
    let hop = NextHop { host: "relay.example".into(), port: 25, account: Account::OfSettings };
    let mut all = Destinations::new(LIMITS, Some(hop), 1);
    let id = bring(&mut all, "example.org", 5);
    assert_eq!(bring(&mut all, "example.net", 0), id, "all mail goes there");
    assert!(matches!(all.step(id, 0), Step::LookUp(Target::Host(_))));
    all.on_unroutable(id, refused(), 0);
    assert!(!all.is_ending(id), "nor does a name server that does not answer");
    assert_eq!(all.step(id, 0), Step::Wait);
    assert!(matches!(all.step(id, 1_000), Step::LookUp(_)));
    all.on_routed(id, route(), 1_000, 1_000);
    drop(all.journey(id, None, 1_000).unwrap());
    all.on_unreachable(id, refused(), 1_000);
    assert!(!all.is_ending(id));
    assert_eq!(all.explain(id, 1_000).unwrap().back_at_ms, Some(3_000), "twice as long");
    (0..5).for_each(|_| all.leave(id, |_| true));
    all.step(id, 10_000);
    assert!(all.explain(id, 10_000).is_some(), "the smarthost stays");
}

/// Whoever brings a host along brings its trouble along: attempts end as those of a domain do.
#[test]
fn a_host_that_a_message_brought_is_not_waited_for() {
    let asked = Smarthost { host: "h.example".into(), port: 25, username: None, password: None };
    let mut all = destinations();
    let id = all.of_host(&asked);
    let bring = |all: &mut Destinations, number| {
        all.enter(id);
        all.push(id, mail(number), false);
    };
    bring(&mut all, 1);
    assert!(matches!(all.step(id, 0), Step::LookUp(Target::Host(_))));
    all.on_unroutable(id, refused(), 0);
    assert_eq!(all.take_ending(id, 9).unwrap(), (vec![mail(1)], refused()));
    bring(&mut all, 2);
    assert_eq!(all.step(id, 0), Step::Wait, "it rests");
    assert!(matches!(all.step(id, 1_000), Step::LookUp(_)));
    all.on_routed(id, route(), 1_000, 1_000);
    drop(all.journey(id, None, 1_000).unwrap());
    all.on_unreachable(id, refused(), 1_000);
    assert_eq!(all.take_ending(id, 9).unwrap(), (vec![mail(2)], refused()));
}

#[test]
fn a_destination_is_forgotten_when_nothing_is_left_of_it() {
    let mut all = destinations();
    let id = connected(&mut all, "example.org", 1);
    all.on_idle(id, key(1));
    all.leave(id, |_| true);
    all.step(id, 0);
    assert_eq!(all.len(), 1, "its connection is open");
    assert_eq!(all.idle_in_all(), 1);
    all.on_closed(id, key(1));
    assert_eq!(all.pop_awake(), Some(id));
    all.step(id, 0);
    assert_eq!((all.len(), all.domains.len(), all.idle_in_all()), (0, 0, 0));
    let other = bring(&mut all, "example.org", 1);
    assert_ne!(other, id);
    assert_eq!(all.ready(id), 0, "an old name means nothing");
}

#[test]
fn the_connection_that_is_longest_idle_makes_room() {
    let mut all = destinations();
    let [a, b] = ["a.example", "b.example"].map(|domain| connected(&mut all, domain, 1));
    all.on_idle(a, key(1));
    all.on_idle(b, key(2));
    assert_eq!(all.longest_idle(None), Some(key(1)));
    assert_eq!(all.longest_idle(Some(a)), Some(key(2)));
    assert_eq!(all.take_idle(a), Some(key(1)));
    assert_eq!(all.longest_idle(None), Some(key(2)));
    all.on_busy(b, key(2));
    assert_eq!(all.longest_idle(None), None);
}

#[test]
fn whoever_waits_for_a_place_is_woken_when_one_comes_free_and_not_before() {
    let mut all = destinations();
    let a = connected(&mut all, "a.example", 1);
    let b = bring(&mut all, "b.example", 1);
    all.step(b, 0);
    all.on_routed(b, route(), 1_000, 0);
    while all.pop_awake().is_some() {}
    drop(all.journey(b, None, 0).unwrap());
    all.on_refused(b);
    assert!(!all.has_awake(), "or the loop would spin");
    assert!(all.explain(b, 0).unwrap().starved);
    all.on_closed(a, key(1));
    assert_eq!([all.pop_awake(), all.pop_awake()], [Some(a), Some(b)]);
}

#[test]
fn an_address_that_failed_is_tried_last_for_a_while() {
    let mut all = destinations();
    let id = bring(&mut all, "example.org", 9);
    all.step(id, 0);
    all.on_routed(id, route(), 1_000_000, 0);
    let first = |all: &mut Destinations, now_ms| {
        let mut journey = all.journey(id, None, now_ms).unwrap();
        all.on_given_up(id);
        journey.next_stop().unwrap()
    };
    let best = first(&mut all, 0);
    assert_eq!(&*best.host, "mx1");
    all.avoid(id, best.address, 0);
    assert_eq!(&*first(&mut all, AVOIDED_MS - 1).host, "mx2");
    assert_eq!(&*first(&mut all, AVOIDED_MS).host, "mx1");
}

#[test]
fn a_mail_that_was_lost_goes_to_hosts_that_it_has_not_tried() {
    let mut all = destinations();
    let id = connected(&mut all, "example.org", 1);
    let carried = |tried: &[&str]| {
        Box::new(Carried {
            id: mail(0),
            transaction: crate::delivery::store::tests::transaction_of(0),
            finish: refused(),
            tried: tried.iter().map(|&host| host.into()).collect(),
        })
    };
    let mut journey = all.journey(id, Some(carried(&["mx1"])), 0).unwrap();
    assert_eq!(&*journey.next_stop().unwrap().host, "mx2");
    assert!(!journey.goes_on() && journey.carried.is_some());
    let back = all.journey(id, Some(carried(&["mx1", "mx2"])), 0).unwrap_err();
    assert_eq!(back.unwrap().tried.len(), 2, "it comes back to end its attempt");
}

/// What the model has besides the destinations.
struct Model {
    all: Destinations,
    now_ms: u64,
    serial: u64,
    asked: Vec<DestinationId>,
    /// Connections in the making and open ones, busy and idle.
    opening: Vec<DestinationId>,
    open: Vec<(DestinationId, Key, bool)>,
    mails: BTreeMap<DestinationId, usize>,
    places: usize,
}

impl Model {
    fn step(&mut self, dice: u64) {
        let pick = |len: usize| (dice >> 8) as usize % len.max(1);
        match dice % 12 {
            0..=2 => {
                let id = bring(&mut self.all, &format!("d{}.example", (dice >> 8) % 12), 1);
                *self.mails.entry(id).or_default() += 1;
            }
            3 | 4 if !self.asked.is_empty() => {
                let id = self.asked.swap_remove(pick(self.asked.len()));
                match (dice >> 32) % 4 {
                    0 => self.all.on_unroutable(id, refused(), self.now_ms),
                    _ => self.all.on_routed(id, route(), (dice >> 40) % 5_000, self.now_ms),
                }
            }
            5 | 6 if !self.opening.is_empty() => {
                let id = self.opening.swap_remove(pick(self.opening.len()));
                if (dice >> 32).is_multiple_of(3) {
                    self.all.on_unreachable(id, refused(), self.now_ms);
                } else {
                    self.serial += 1;
                    self.all.on_greeted(id, "192.0.2.1:25".parse().unwrap());
                    self.open.push((id, key(self.serial as usize), false));
                }
            }
            7 | 8 if !self.open.is_empty() => self.work(pick(self.open.len())),
            9 if !self.open.is_empty() => {
                let (id, key, _) = self.open.swap_remove(pick(self.open.len()));
                self.all.on_closed(id, key);
            }
            10 => self.all.feed(2),
            _ => self.now_ms += (dice >> 8) % 3_000,
        }
        self.serve();
    }

    /// A connection delivers one mail, or rests.
    fn work(&mut self, at: usize) {
        let (id, key, idle) = self.open[at];
        if self.deliver_one(id) {
            if idle {
                self.all.on_busy(id, key);
            }
            self.open[at].2 = false;
        } else if !idle {
            self.all.on_idle(id, key);
            self.open[at].2 = true;
        }
    }

    fn deliver_one(&mut self, id: DestinationId) -> bool {
        let front = self.all.get_mut(id).and_then(|destination| destination.ready.pop_front());
        if front.is_some() {
            self.gone(id);
        }
        front.is_some()
    }

    fn gone(&mut self, id: DestinationId) {
        self.all.leave(id, |_| true);
        let left = self.mails.get_mut(&id).expect("it has mail");
        *left -= 1;
        if *left == 0 {
            self.mails.remove(&id);
        }
    }

    /// What the worker does in a turn.
    fn serve(&mut self) {
        while self.all.wake_rested(self.now_ms) {}
        while let Some(id) = self.all.pop_awake() {
            if self.all.is_ending(id) {
                let (ended, _) = self.all.take_ending(id, 2).expect("it is ending");
                ended.iter().for_each(|_| self.gone(id));
                continue;
            }
            while self.all.ready(id) > 0
                && let Some(key) = self.all.take_idle(id)
            {
                let place = self.open.iter().position(|one| one.1 == key).expect("it is open");
                self.open[place].2 = false;
                self.deliver_one(id);
            }
            self.steps(id);
        }
    }

    fn steps(&mut self, id: DestinationId) {
        loop {
            match self.all.step(id, self.now_ms) {
                Step::Wait => return,
                Step::LookUp(_) => self.asked.push(id),
                Step::Connect(wanted) => {
                    for _ in 0..wanted {
                        drop(self.all.journey(id, None, self.now_ms).expect("there is a route"));
                        if self.opening.len() + self.open.len() >= self.places {
                            return self.all.on_refused(id);
                        }
                        self.opening.push(id);
                    }
                }
            }
        }
    }

    fn check(&self) {
        assert!(self.asked.len() <= LIMITS.look_ups_max);
        assert_eq!(self.all.asking, self.asked.len());
        assert_eq!(self.all.connections(), self.opening.len() + self.open.len());
        assert_eq!(self.all.idle_in_all(), self.open.iter().filter(|one| one.2).count());
        for (key, destination) in self.all.slab.iter() {
            let id = DestinationId(key);
            let view = destination.explain(self.now_ms);
            let mails = self.mails.get(&id).copied().unwrap_or(0);
            assert_eq!(view.mails, mails);
            let connections = self.opening.iter().filter(|&&one| one == id).count()
                + self.open.iter().filter(|one| one.0 == id).count();
            assert_eq!(view.connections, connections);
            assert!(connections <= LIMITS.domain_connections_max);
            assert_eq!(destination.ready.len(), mails);
            // Nothing with mail waits for nothing.
            let waits = view.connections > view.idle
                || self.asked.contains(&id)
                || destination.question == Question::Waiting
                || view.back_at_ms.is_some()
                || view.starved;
            assert!(mails == 0 || waits, "{view:?}");
            let kept = mails > 0
                || connections > 0
                || self.asked.contains(&id)
                || view.back_at_ms.is_some();
            // A rest that is just over ends with the next look.
            assert!(kept || self.all.next_rested().is_some(), "{view:?}");
        }
        for id in self.mails.keys() {
            assert!(self.all.explain(*id, self.now_ms).is_some(), "mail without a destination");
        }
        let waiting = |one: &&DestinationId| {
            self.all.slab.get(one.0).is_some_and(|one| one.question == Question::Waiting)
        };
        let waiting = self.all.unasked.iter().filter(waiting).count();
        assert!(waiting == 0 || self.asked.len() == LIMITS.look_ups_max, "a place is left unused");
    }
}

/// Counts, lists and reasons agree with a model over random events, and in the end nothing is left.
#[test]
fn every_destination_with_mail_moves_or_waits_for_something_that_comes() {
    let given = std::env::var("ROHRPOST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("ROHRPOST_SEED={seed}");
    for round in 0..40 {
        let mut dice = Dice::new(seed + round);
        let mut model = Model {
            all: destinations(),
            now_ms: 0,
            serial: 0,
            asked: Vec::new(),
            opening: Vec::new(),
            open: Vec::new(),
            mails: BTreeMap::new(),
            places: 6,
        };
        for _ in 0..600 {
            model.step(dice.next());
            model.check();
        }
        end(model);
    }
}

/// Every answer and connection comes to its end.
fn end(mut model: Model) {
    for _ in 0..10_000 {
        while let Some(id) = model.asked.pop() {
            model.all.on_routed(id, route(), 1, model.now_ms);
        }
        while let Some(id) = model.opening.pop() {
            model.serial += 1;
            model.all.on_greeted(id, "192.0.2.1:25".parse().unwrap());
            model.open.push((id, key(model.serial as usize), false));
        }
        while let Some((id, key, _)) = model.open.pop() {
            while model.deliver_one(id) {}
            model.all.on_closed(id, key);
        }
        model.now_ms += 1_000;
        model.all.feed(4);
        model.serve();
        if model.all.is_empty() {
            break;
        }
    }
    assert!(model.mails.is_empty() && model.all.is_empty());
    assert!(model.all.domains.is_empty() && model.all.idle.is_empty() && model.all.asking == 0);
}

#[test]
fn tables_give_back_what_a_peak_took() {
    let mut all = destinations();
    for number in 0..4_000 {
        let domain = all.of_recipient(&format!("a@d{number}.example"));
        let host = all.of_host(&Smarthost {
            host: format!("h{number}.example").into(),
            port: 25,
            username: None,
            password: None,
        });
        // Nothing is left of them.
        for id in [domain, host] {
            assert_eq!(all.step(id, 0), Step::Wait);
        }
    }
    let peak = 4 * TABLE_KEPT;
    all.domains.reserve(peak);
    all.hosts.reserve(peak);
    all.shrink();
    assert!(all.domains.capacity() < peak && all.hosts.capacity() < peak);
}
