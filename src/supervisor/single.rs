//! A server of one worker that its owner drives, turn by turn, by a clock of its own: sessions, queue,
//! plugins and delivery as they are, without the threads and the socket of a server that runs.
//!
//! For the dialogue of one plugin (`rohrpost plugin test`); a process has one at most, for plugins are
//! never unloaded. Must never: let time pass by itself.
//!
//! **Diagnostics**: [`StartError`], as a start would give it.

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rohrpost_abi::Host;
use rohrpost_reactor::{Config, ManualClock, Reactor};

use crate::limits::{Connections, MemoryBudget};
use crate::log::Log;
use crate::mailboxes::Mailboxes;
use crate::metrics::{Metrics, Number};
use crate::net::desk::{Io, Mail};
use crate::plugin::census::Census;
use crate::rolls::Rolls;
use crate::settings::Settings;
use crate::tls::Tls;
use crate::worker::{Common, Report, Worker};

use super::backlog::open_queue;
use super::server::{Event, StartError, system};
use super::start::{Aides, Plan, bind, initialize_plugins, load_plugins, open_logbook};

/// The server. Dropping it abandons what is under way.
pub(crate) struct Single {
    io: Io,
    worker: Worker,
    clock: ManualClock,
    host: &'static Host,
    mailboxes: Mailboxes,
    reports: Receiver<Report>,
    addresses: Vec<SocketAddr>,
    /// What its aides would be told on; they live as long as this does.
    _lost: (Sender<Event>, Receiver<Event>),
    _aides: Aides,
}

impl Single {
    /// Opens what `settings` say, loads and initialises the plugins, and begins with their contexts.
    ///
    /// # Errors
    /// What would keep a server from starting.
    pub(crate) fn start(settings: Settings, log: &Log) -> Result<Single, StartError> {
        let settings = Arc::new(settings);
        let bound = bind(&settings, 1)?;
        let addresses: Vec<SocketAddr> = bound.clear.iter().chain(&bound.secure).copied().collect();
        let listeners: Arc<[SocketAddr]> = addresses.clone().into();
        let mailboxes = Mailboxes::default();
        let (logbook, _) = open_logbook(&settings, &mailboxes, log)?;
        let (queue, backlog) = open_queue(&settings, &mailboxes, log)?;
        let host = load_plugins(&settings, &mailboxes, log)?;
        initialize_plugins(host, &settings)?;
        let aides = Aides::start(&settings, listeners.clone(), &queue, &mailboxes, None, log)?;
        let (report, reports) = unbounded();
        let lost = unbounded();
        let plan = Plan {
            log: log.clone(),
            logbook,
            metrics: Arc::new(Metrics::new(1)),
            census: Census::new(1),
            host,
            tls: Arc::new(Tls::load(&settings.tls.files())?),
            budget: MemoryBudget::new(settings.general.memory_bytes_max, 1),
            id_floor: backlog.id_max(),
            jobs: aides.jobs.clone(),
            services: aides.services.clone(),
            rolls: Arc::new(Rolls::load(&settings.smtp)?),
            checks: aides.checks.clone(),
            listeners,
            common: Common {
                queue,
                connections: Connections::new(settings.smtp.connection_bounds()),
                spares: Arc::default(),
                reports: report,
            },
            lost: lost.0.clone(),
            settings,
        };
        let clock = ManualClock::default();
        let config = Config { watches_max: rohrpost_abi::WATCHES_MAX, ..Config::default() };
        let reactor = Reactor::new(config, clock.clone());
        let mut io = reactor.map_err(system("an event loop cannot be made"))?;
        mailboxes.fill(vec![io.sender()]);
        let doors = bound.doors.into_iter().next().unwrap_or_default();
        let mut worker = Worker::new(plan.desk(0), plan.common.clone(), doors);
        worker.begin(&mut io);
        let (_lost, _aides) = (lost, aides);
        Ok(Single { io, worker, clock, host, mailboxes, reports, addresses, _lost, _aides })
    }

    /// One turn of the loop, which does not sleep.
    ///
    /// # Errors
    /// What the system says of the poll.
    pub(crate) fn turn(&mut self) -> std::io::Result<()> {
        self.io.turn_now(&mut self.worker)
    }

    /// What the worker has reported since this was last asked.
    pub(crate) fn report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Takes clients and delivers from now on.
    pub(crate) fn open(&self) {
        self.mailboxes.deliver(0, Mail::Open);
    }

    /// Takes nothing any more, and ends when nothing is left.
    pub(crate) fn drain(&self) {
        self.mailboxes.deliver(0, Mail::Drain);
    }

    /// Where clients are taken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The plugins' host.
    pub(crate) const fn host(&self) -> &'static Host {
        self.host
    }

    /// What lives in the worker for plugins.
    pub(crate) fn live(&self) -> rohrpost_abi::Counts {
        self.worker.live()
    }

    /// Steps that plugins hold.
    pub(crate) fn held(&self) -> u64 {
        self.worker.number(Number::Held)
    }

    /// Steps that were taken back from plugins, so far.
    pub(crate) fn revoked(&self) -> u64 {
        self.worker.number(Number::Revoked)
    }

    /// Whether nothing is on its way that ends by itself: to the disk, to another thread, through the
    /// loop. Connections and plugins may wait for others all the same.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.worker.is_at_rest() && self.io.mailbox().is_empty()
    }

    /// Lets time pass until the next timer, but not beyond `until_ms`; the time that it is then.
    pub(crate) fn advance(&mut self, until_ms: u64) -> u64 {
        let now_ms = self.now_ms();
        let next = self.io.next_deadline().unwrap_or(until_ms).clamp(now_ms, until_ms);
        self.clock.advance(next - now_ms);
        next
    }

    /// The time, from the start.
    pub(crate) fn now_ms(&self) -> u64 {
        use rohrpost_reactor::Clock;
        self.clock.now_ms()
    }
}
