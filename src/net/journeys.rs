//! What becomes of a connection in the making that failed, and of a mail whose connection was lost.
//!
//! Both go on to the next host while there is one ([`Desk::onward`]); the worker's dispatch opens the
//! socket. Must never: lose the mail that travels along.
//!
//! **Diagnostics**: a host that cannot be reached is logged, rate-limited.

use crate::delivery::{Carried, DestinationId, Fate, Finish, Journey, OwnListener, Stop, Target};
use crate::log::Level;
use crate::queue::{MailId, Transaction};

use super::desk::{Desk, Io};

impl Desk {
    /// The connection to a stop failed before it was greeted: the next one is tried, or the journey
    /// is over.
    pub fn on_stop_failed(&mut self, mut journey: Journey, stop: &Stop, why: Finish, io: &Io) {
        let Stop { host, address, preference } = stop;
        let text = format_args!("{host} ({address}) cannot be reached: {}", why.trouble());
        self.log.limited("next-hop", Level::Warning, "smtp", text);
        self.store.destinations.avoid(journey.destination, *address, io.now_ms());
        journey.on_failed(*preference, why.between(None, Some(*address)));
        if !self.mood.delivers() {
            return self.give_up(journey, io);
        }
        match journey.goes_on() {
            true => self.onward.push_back(journey),
            false => self.end_journey(journey, io),
        }
    }

    /// A stop was this server itself. With a better host that failed the mails wait for that one;
    /// else they would come back for ever, and fail for good.
    pub fn on_own_stop(&mut self, mut journey: Journey, stop: &Stop, error: OwnListener, io: &Io) {
        self.log.limited("loop", Level::Critical, "smtp", error);
        let id = journey.destination;
        let is_last = journey.on_own(stop.preference);
        if journey.goes_on() {
            return self.onward.push_back(journey);
        }
        if is_last && journey.carried.is_none() {
            let target = self.store.destinations.explain(id, io.now_ms()).map(|view| view.target);
            let advice = match target {
                Some(Target::Host(_)) => "; mend smarthost or smarthost-port",
                Some(Target::Domain(_)) | None => "",
            };
            let text = format!("{error}{advice}");
            let mut finish = Finish::without_reply(Fate::Permanent, "connect", "error", text);
            finish.status = "5.4.6".to_owned();
            journey.on_failed(stop.preference, finish.clone());
            self.end_journey(journey, io);
            return self.store.destinations.end_ready(id, finish);
        }
        self.end_journey(journey, io);
    }

    /// A connection in the making is not wanted any more; that says nothing about its hosts.
    pub fn give_up(&mut self, journey: Journey, io: &Io) {
        self.store.destinations.on_given_up(journey.destination);
        if let Some(carried) = journey.carried {
            self.finish(carried.id, &carried.transaction, carried.finish, false, io);
        }
    }

    /// There is no place for another connection: the destination waits for one, a mail that travels
    /// along does not.
    pub fn refuse(&mut self, journey: Journey, io: &Io) {
        self.store.destinations.on_refused(journey.destination);
        if let Some(carried) = journey.carried {
            self.finish(carried.id, &carried.transaction, carried.finish, false, io);
        }
    }

    /// No stop is left.
    fn end_journey(&mut self, journey: Journey, io: &Io) {
        let failure = journey.failure().cloned();
        match (failure, journey.carried) {
            // That the others cannot be reached says nothing about the host that it was lost at.
            (_, Some(carried)) => {
                self.store.destinations.on_given_up(journey.destination);
                self.finish(carried.id, &carried.transaction, carried.finish, false, io);
            }
            (Some(failure), None) => {
                let now_ms = io.now_ms();
                self.store.destinations.on_unreachable(journey.destination, failure, now_ms);
            }
            (None, None) => self.store.destinations.on_given_up(journey.destination),
        }
    }

    /// A mail's connection was lost: it goes on to a host that it has not tried, or its attempt ends.
    pub fn carry_on(&mut self, id: DestinationId, carried: Box<Carried>, io: &Io) {
        let open = self.mood.delivers();
        let destinations = &mut self.store.destinations;
        let journey = if open {
            destinations.journey(id, Some(carried), io.now_ms())
        } else {
            Err(Some(carried))
        };
        match journey {
            Ok(journey) => self.onward.push_back(journey),
            Err(carried) => {
                if let Some(carried) = carried {
                    self.finish(carried.id, &carried.transaction, carried.finish, false, io);
                }
            }
        }
    }

    /// An attempt ended; `hop_tells` says whether the far end offers DSN.
    pub fn finish(
        &mut self,
        id: MailId,
        transaction: &Transaction,
        finish: Finish,
        hop_tells: bool,
        io: &Io,
    ) {
        let now = self.now(io);
        if let Some(ended) = self.store.on_finish(id, finish, now) {
            self.settle_with(ended, transaction, hop_tells);
        }
    }
}
