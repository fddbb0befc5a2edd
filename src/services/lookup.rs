//! Finding one route: MX, then the addresses of its hosts, all within one deadline.
//!
//! Answers are cached by their TTL, in the resolver; who may take a domain's mail is decided by
//! [`crate::delivery::mx`]. Must never: wait without that deadline, or keep more answers than
//! [`ANSWERS_MAX`].
//!
//! **Diagnostics**: [`Unroutable`] with the question that had no answer.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use tokio::time::{Instant, timeout_at};

use crate::delivery::mx::{
    Addresses, Exchange, MxAnswer, NoAnswer, RouteRules, Unroutable, exchanges, route,
};
use crate::delivery::{HopRules, NextHop, Route, Target, route_to_hop};
use crate::settings::Settings;

use super::Routed;

/// Answers that are kept in memory.
const ANSWERS_MAX: u64 = 8_192;
/// How long an answer is kept at most, and with it a route.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long it is kept that there is no answer (RFC 2308 5).
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(3 * 3600);
/// How long a route is kept at most that some question had no answer for: a host that is missing in it
/// may well be the best one.
const UNSURE_MAX: Duration = Duration::from_secs(60);
/// Questions that one name server may have open at a time over one connection.
const QUESTIONS_MAX: usize = 4_096;
/// Where the system says which name servers there are.
const SYSTEM_FILE: &str = "/etc/resolv.conf";

/// Whom to ask, and by which rules.
pub(super) struct LookUps {
    settings: Arc<Settings>,
    listeners: Arc<[SocketAddr]>,
    resolver: Option<TokioResolver>,
    /// When the system's file was changed, as it was read.
    read_of: Option<SystemTime>,
}

/// What one look-up goes by.
pub(super) struct LookUp {
    settings: Arc<Settings>,
    listeners: Arc<[SocketAddr]>,
    resolver: TokioResolver,
    deadline: Instant,
}

impl LookUps {
    pub(super) fn new(settings: Arc<Settings>, listeners: Arc<[SocketAddr]>) -> LookUps {
        LookUps { settings, listeners, resolver: None, read_of: None }
    }

    /// Begins to look for a route; the future is done within `dns-timeout`.
    pub(super) fn begin(
        &mut self,
        target: &Target,
    ) -> impl Future<Output = Routed> + Send + 'static {
        let look_up = self.look_up();
        let target = target.clone();
        async move {
            let found = match look_up {
                Ok(look_up) => look_up.find(&target).await,
                Err(error) => {
                    let text = format!("there are no name servers to ask: {error}");
                    Err(Unroutable::NoAnswer(NoAnswer { timed_out: false, text }))
                }
            };
            found
                .map(|(route, fresh)| (route, fresh.as_millis() as u64))
                .map_err(|error| Box::new(error.finish()))
        }
    }

    /// What a look-up of now goes by.
    pub(super) fn look_up(&mut self) -> Result<LookUp, NetError> {
        let resolver = self.resolver()?;
        Ok(LookUp {
            settings: self.settings.clone(),
            listeners: self.listeners.clone(),
            resolver,
            deadline: Instant::now() + self.settings.dns.timeout,
        })
    }

    /// The resolver, made anew when the system's file has changed.
    fn resolver(&mut self) -> Result<TokioResolver, NetError> {
        let own = !self.settings.dns.servers.is_empty();
        let changed = || std::fs::metadata(SYSTEM_FILE).and_then(|file| file.modified()).ok();
        let changed = if own { None } else { changed() };
        if let Some(resolver) = &self.resolver
            && changed == self.read_of
        {
            return Ok(resolver.clone());
        }
        let resolver = self.make()?;
        self.read_of = changed;
        self.resolver = Some(resolver.clone());
        Ok(resolver)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let dns = &self.settings.dns;
        let (config, mut options) = if dns.servers.is_empty() {
            system_conf::read_system_conf()?
        } else {
            let servers = dns.servers.iter().copied().map(name_server).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        options.timeout = dns.interval;
        options.attempts = dns.attempts as usize - 1;
        options.cache_size = ANSWERS_MAX;
        options.positive_min_ttl = Some(dns.ttl_min);
        options.positive_max_ttl = Some(TTL_MAX.max(dns.ttl_min));
        options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        options.max_active_requests = QUESTIONS_MAX;
        let provider = TokioRuntimeProvider::default();
        TokioResolver::builder_with_config(config, provider).with_options(options).build()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    ways.iter_mut().for_each(|way| way.port = address.port());
    NameServerConfig::new(address.ip(), true, ways)
}

/// Records, until when they are good; or none, whether the name exists or not.
pub(super) enum Answer {
    Records(Lookup),
    NoRecords,
    NoName,
}

impl LookUp {
    async fn find(&self, target: &Target) -> Result<(Route, Duration), Unroutable> {
        match target {
            Target::Domain(domain) => self.find_domain(domain).await,
            Target::Host(hop) => self.find_hop(hop).await,
        }
    }

    async fn find_domain(&self, domain: &str) -> Result<(Route, Duration), Unroutable> {
        let not_a_domain = |_| Unroutable::NotADomain(domain.to_owned());
        let name = whole(domain).map_err(not_a_domain)?;
        let mut good_until = Instant::now().into_std() + TTL_MAX;
        let answer = match self.ask(name, RecordType::MX).await.map_err(Unroutable::NoAnswer)? {
            Answer::NoName => MxAnswer::NoDomain,
            Answer::NoRecords => MxAnswer::NoRecords,
            Answer::Records(found) => {
                good_until = good_until.min(found.valid_until());
                let records = found.answers().iter().filter_map(|record| match &record.data {
                    RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
                    _ => None,
                });
                MxAnswer::Records(records.collect())
            }
        };
        let hosts = exchanges(domain, answer, &self.settings.smtp.hostname)?;
        let looking = hosts.into_iter().map(|host| async move {
            let found = self.addresses(whole(&host.name).ok(), &host.name).await;
            (host, found)
        });
        let mut found: Vec<(Exchange, Addresses)> = Vec::new();
        for (host, (addresses, good)) in together(looking).await {
            good_until = good_until.min(good.unwrap_or(good_until));
            found.push((host, addresses));
        }
        let private = &self.settings.dns.private_targets;
        let rules = RouteRules {
            port: self.settings.delivery.mx_port,
            is_allowed: &|ip| private.contains(ip),
            listeners: &self.listeners,
        };
        let route = route(domain, found, &rules)?;
        Ok((route, left(good_until)))
    }

    async fn find_hop(&self, hop: &NextHop) -> Result<(Route, Duration), Unroutable> {
        // A short name is the system's to complete.
        let is_short = !hop.host.contains('.');
        let name = if is_short { Name::from_ascii(&hop.host).ok() } else { whole(&hop.host).ok() };
        let (found, good_until) = self.addresses(name, &hop.host).await;
        match found {
            Addresses::Failed(why) => Err(Unroutable::NoAnswer(why)),
            Addresses::Found(found) if found.is_empty() => {
                Err(Unroutable::NoAddress(hop.host.clone()))
            }
            Addresses::Found(found) => {
                let good = good_until.map_or(Duration::from_secs(1), left);
                let private = &self.settings.dns.private_targets;
                let smarthost = self.settings.delivery.smarthost_place();
                let rules = HopRules {
                    is_allowed: &|ip| private.contains(ip),
                    smarthost: smarthost.as_ref().map(|(host, port)| (host.as_str(), *port)),
                };
                Ok((route_to_hop(hop, &found, &rules)?, good))
            }
        }
    }

    /// The addresses of a host of both families, and until when they are good. That one family has no
    /// answer does not matter while the other has one.
    async fn addresses(
        &self,
        name: Option<Name>,
        shown: &str,
    ) -> (Addresses, Option<std::time::Instant>) {
        let Some(name) = name else {
            return (Addresses::Found(Vec::new()), None);
        };
        let v6 = self.ask(name.clone(), RecordType::AAAA);
        let v4 = self.ask(name, RecordType::A);
        let (v6, v4) = tokio::join!(v6, v4);
        gather([v6, v4], shown)
    }

    /// One question, answered or not by the deadline.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<Answer, NoAnswer> {
        let question = format!("{kind} of {}", name.to_ascii());
        let asked = timeout_at(self.deadline, self.resolver.lookup(name, kind)).await;
        let late = |text| Err(NoAnswer { timed_out: true, text });
        match asked {
            Err(_) => late(format!("no answer within dns-timeout to the question for {question}")),
            Ok(Ok(found)) => Ok(Answer::Records(found)),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
                response_code, ..
            })))) => match response_code {
                ResponseCode::NXDomain => Ok(Answer::NoName),
                _ => Ok(Answer::NoRecords),
            },
            Ok(Err(NetError::Timeout)) => {
                late(format!("no name server answered the question for {question}"))
            }
            Ok(Err(error)) => {
                let text = format!("no answer to the question for {question}: {error}");
                Err(NoAnswer { timed_out: false, text })
            }
        }
    }
}

/// The addresses that answers for both families brought, and until when they are good: not for long where
/// one was missing.
fn gather(
    answers: [Result<Answer, NoAnswer>; 2],
    shown: &str,
) -> (Addresses, Option<std::time::Instant>) {
    let (mut addresses, mut good_until, mut failed) = (Vec::new(), None, None);
    for answer in answers {
        let until = match answer {
            Ok(Answer::NoRecords | Answer::NoName) => continue,
            Ok(Answer::Records(found)) => {
                let ips = found.answers().iter().filter_map(|record| record.data.ip_addr());
                addresses.extend(ips);
                found.valid_until()
            }
            Err(why) => {
                failed = Some(why);
                Instant::now().into_std() + UNSURE_MAX
            }
        };
        good_until = Some(good_until.map_or(until, |good: std::time::Instant| good.min(until)));
    }
    match failed {
        Some(mut why) if addresses.is_empty() => {
            why.text = format!("{} (for the addresses of {shown})", why.text);
            (Addresses::Failed(why), good_until)
        }
        _ => (Addresses::Found(addresses), good_until),
    }
}

/// A name that is not completed by the system's search list.
pub(super) fn whole(domain: &str) -> Result<Name, ()> {
    let mut name = Name::from_ascii(domain).map_err(|_| ())?;
    name.set_fqdn(true);
    if domain.is_empty() { Err(()) } else { Ok(name) }
}

fn left(until: std::time::Instant) -> Duration {
    until.saturating_duration_since(Instant::now().into_std()).min(TTL_MAX)
}

/// Runs some futures side by side on this task.
async fn together<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        let mut missing = 0;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *done = Some(value),
                    std::task::Poll::Pending => missing += 1,
                }
            }
        }
        match missing {
            0 => std::task::Poll::Ready(waiting.drain(..).filter_map(|(_, done)| done).collect()),
            _ => std::task::Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::Query;

    fn records() -> Result<Answer, NoAnswer> {
        let data = RData::A(std::net::Ipv4Addr::new(192, 0, 2, 1).into());
        let mut found = Lookup::from_rdata(Query::default(), data);
        let late = found.valid_until() + TTL_MAX;
        found = Lookup::new_with_deadline(Query::default(), found.answers().to_vec(), late);
        Ok(Answer::Records(found))
    }

    fn no_answer() -> Result<Answer, NoAnswer> {
        Err(NoAnswer { timed_out: true, text: "no answer".into() })
    }

    /// A name server that says nothing for once sends nobody to the second best host for a day.
    #[test]
    fn what_was_not_answered_is_asked_again_soon() {
        let none = || Ok(Answer::NoRecords);
        for (answers, has_address, is_short) in [
            ([none(), records()], true, false),
            ([records(), records()], true, false),
            ([none(), no_answer()], false, true),
            ([no_answer(), no_answer()], false, true),
            ([records(), no_answer()], true, true),
            ([no_answer(), records()], true, true),
        ] {
            let (found, good_until) = gather(answers, "mx.example");
            assert_eq!(matches!(found, Addresses::Found(_)), has_address, "{found:?}");
            let good = left(good_until.unwrap());
            assert_eq!(good <= UNSURE_MAX, is_short, "{found:?}: {good:?}");
        }
        assert!(gather([none(), none()], "mx.example").1.is_none());
    }
}
