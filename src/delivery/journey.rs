//! One connection in the making: the addresses it may still try, and the mail that travels with it.
//!
//! A host that cannot be reached costs no attempt while there is another: the journey goes on to the
//! next stop. A mail whose connection was lost travels on to the hosts that it has not tried, within
//! the same attempt.
//!
//! Must never: open a socket.
//!
//! **Diagnostics**: [`Journey::failure`] is what went wrong last.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::queue::{MailId, Transaction};

use super::destinations::DestinationId;
use super::finish::Finish;
use super::route::{RouteHost, Stop};
use super::target::Target;

/// A mail whose connection was lost, on its way to another host.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The mail.
    pub id: MailId,
    /// Its transaction.
    pub transaction: Arc<Transaction>,
    /// How its attempt ends if no other host takes over.
    pub finish: Finish,
    /// Hosts that it was lost at.
    pub tried: Vec<Arc<str>>,
}

/// A connection in the making.
#[derive(Debug)]
pub struct Journey {
    /// Whose connection it is.
    pub destination: DestinationId,
    /// What that destination is.
    pub target: Target,
    /// The mail that goes first; others follow once the far end has greeted.
    pub carried: Option<Box<Carried>>,
    stops: VecDeque<Stop>,
    /// Where the next try does without TLS.
    in_clear: Option<SocketAddr>,
    failure: Option<Finish>,
    /// The best preference at which something failed.
    failed_preference: Option<u16>,
}

impl Journey {
    /// A journey over `stops`, of which there must be one.
    pub fn new(
        destination: DestinationId,
        target: Target,
        stops: Vec<Stop>,
        carried: Option<Box<Carried>>,
    ) -> Journey {
        assert!(!stops.is_empty(), "a journey goes somewhere");
        Journey {
            destination,
            target,
            carried,
            stops: stops.into(),
            in_clear: None,
            failure: None,
            failed_preference: None,
        }
    }

    /// The next address to try.
    pub fn next_stop(&mut self) -> Option<Stop> {
        self.stops.pop_front()
    }

    /// A stop is to be tried once more, before all others, and in clear.
    pub fn repeat_in_clear(&mut self, stop: Stop) {
        self.in_clear = Some(stop.address);
        self.stops.push_front(stop);
    }

    /// Whether this address is to be met in clear now.
    pub fn goes_clear_to(&self, address: SocketAddr) -> bool {
        self.in_clear == Some(address)
    }

    /// Whether there is one more.
    pub fn goes_on(&self) -> bool {
        !self.stops.is_empty()
    }

    /// The connection to a stop failed before it was greeted.
    pub fn on_failed(&mut self, preference: u16, why: Finish) {
        let best = self.failed_preference.map_or(preference, |best| best.min(preference));
        self.failed_preference = Some(best);
        self.failure = Some(why);
    }

    /// A stop was this server itself: those that are no better are left out (RFC 5321 5.1). Whether
    /// nothing better was there at all, so that the mail can never leave.
    pub fn on_own(&mut self, preference: u16) -> bool {
        self.stops.retain(|stop| stop.preference < preference);
        self.stops.is_empty() && self.failed_preference.is_none_or(|best| best >= preference)
    }

    /// What went wrong last.
    pub fn failure(&self) -> Option<&Finish> {
        self.failure.as_ref()
    }
}

impl Carried {
    /// Whether this host is one that the mail has not tried.
    pub fn may_try(&self, host: &RouteHost) -> bool {
        !self.tried.contains(&host.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Fate;

    fn stop(host: &str, preference: u16) -> Stop {
        Stop { host: host.into(), preference, address: "192.0.2.1:25".parse().unwrap() }
    }

    fn journey(stops: Vec<Stop>) -> Journey {
        let target = Target::Domain("example.org".into());
        Journey::new(DestinationId::default(), target, stops, None)
    }

    fn why() -> Finish {
        Finish::without_reply(Fate::Temporary, "connect", "error", "refused")
    }

    #[test]
    fn a_journey_tries_each_stop_once_and_knows_what_failed_last() {
        let mut journey = journey(vec![stop("a", 10), stop("b", 20)]);
        assert_eq!(&*journey.next_stop().unwrap().host, "a");
        assert!(journey.goes_on() && journey.failure().is_none());
        journey.on_failed(10, why());
        assert_eq!(&*journey.next_stop().unwrap().host, "b");
        assert!(!journey.goes_on());
        assert_eq!(journey.failure(), Some(&why()));
        assert_eq!(journey.next_stop(), None);
    }

    #[test]
    fn a_stop_is_repeated_in_clear_and_no_other_is() {
        let mut journey = journey(vec![stop("a", 10)]);
        let first = journey.next_stop().unwrap();
        assert!(!journey.goes_clear_to(first.address));
        journey.repeat_in_clear(first.clone());
        assert_eq!(journey.next_stop(), Some(first.clone()));
        assert!(journey.goes_clear_to(first.address));
        assert!(!journey.goes_clear_to("192.0.2.2:25".parse().unwrap()));
    }

    /// RFC 5321 5.1: hosts no better than ourselves are left out, and only if nothing was better the
    /// mail is lost.
    #[test]
    fn meeting_ourselves_ends_the_journey_for_good_only_if_nothing_was_better() {
        let stops = || vec![stop("us", 20), stop("worse", 30), stop("better", 10)];
        let mut one = journey(stops());
        one.next_stop();
        assert!(!one.on_own(20), "a better one follows, which failed lately");
        assert_eq!(&*one.next_stop().unwrap().host, "better");
        assert!(!one.goes_on());
        let mut one = journey(stops());
        one.on_failed(10, why());
        one.stops.pop_back();
        assert!(!one.on_own(20), "a better one may come back");
        let mut one = journey(vec![stop("us", 20)]);
        assert!(one.on_own(20));
    }
}
