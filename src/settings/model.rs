//! The table of all settings, and the typed values that come out of it.
//!
//! Owns names, kinds, defaults and meanings, each written once. Never reads a source and never
//! looks at the machine: derived defaults are given its facts.
//!
//! Diagnostics: none; a row refuses a text through its kind.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::hop::Hop;
use super::host::{DomainName, DomainSet, Domains, Host, HostName, UserName};
use super::key::{Key, Preset, change, section};
use super::kind::{
    AbsolutePath, Choice, Count, DAY_S, Deadline, GIB, HOUR_S, KIB, Kind, Limit, MIB, Optional,
    Port, QueueName, Size, Time, size_text,
};
use super::list::{
    Address, Addresses, ListenIp, LogTargets, NameServers, Numbers, Ports, SocketAddress, Times,
};
use super::load::Values;
use super::login::LoginSources;
use super::machine::Machine;
use super::network::{NetworkSet, Networks};
use super::notice::{Notices, Switch};
use super::own::PluginValues;
use super::records::Records;
use super::tls::Tls;
use crate::auth::LoginSource;
use crate::limits::ConnectionBounds;
use crate::log::{Level, Target};
use crate::plugin::failure::OnFailure;
use crate::plugin::trace::Trace;
use crate::results::ResultQueues;

/// The largest [`Smtp::message_bytes_max`]: what a record of the queue can hold, less some room for
/// what plugins add to a message.
pub(super) const MESSAGE_BYTES_MAX: u64 = GIB - 64 * KIB;

/// All settings, with every default filled in. Made by [`load`](Self::load) alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What concerns the whole process.
    pub general: General,
    /// Receiving mail, and the connections of both directions.
    pub smtp: Smtp,
    /// TLS in both directions.
    pub tls: Tls,
    /// Sending mail.
    pub delivery: Delivery,
    /// How next hops are met.
    pub hop: Hop,
    /// Telling senders what became of their mail.
    pub notices: Notices,
    /// Asking name servers.
    pub dns: Dns,
    /// Keeping mail.
    pub queue: Queue,
    /// Plugins.
    pub plugin: Plugin,
    /// The application log.
    pub logging: Logging,
    /// The send log and the received log.
    pub records: Records,
    /// What plugins are told.
    pub own: PluginValues,
    /// Names of the keys that some source has set.
    pub(super) set: BTreeSet<&'static str>,
}

impl Settings {
    /// Whether some source has set the key, even to its default.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.contains(key)
    }

    /// Takes over from `new` what may change while the server runs; returns every key whose value
    /// differs, those that wait for a restart included.
    pub(super) fn adopt(&mut self, new: &Settings) -> Vec<&'static str> {
        let mut differing = Vec::new();
        self.general.adopt(&new.general, &mut differing);
        self.smtp.adopt(&new.smtp, &mut differing);
        self.tls.adopt(&new.tls, &mut differing);
        self.delivery.adopt(&new.delivery, &mut differing);
        self.dns.adopt(&new.dns, &mut differing);
        self.hop.adopt(&new.hop, &mut differing);
        self.notices.adopt(&new.notices, &mut differing);
        self.queue.adopt(&new.queue, &mut differing);
        self.plugin.adopt(&new.plugin, &mut differing);
        self.logging.adopt(&new.logging, &mut differing);
        self.records.adopt(&new.records, &mut differing);
        self.own.clone_from(&new.own);
        self.set.clone_from(&new.set);
        differing
    }

    pub(super) fn build(values: &Values<'_>) -> Self {
        Self {
            general: General::build(values),
            smtp: Smtp::build(values),
            tls: Tls::build(values),
            delivery: Delivery::build(values),
            hop: Hop::build(values),
            notices: Notices::build(values),
            dns: Dns::build(values),
            queue: Queue::build(values),
            plugin: Plugin::build(values),
            logging: Logging::build(values),
            records: Records::build(values),
            own: PluginValues::default(),
            set: values.set(),
        }
    }
}

section! {
    /// What concerns the whole process.
    General, "General" {
        /// Memory that messages may take over all workers; beyond it new mail is answered 452.
        "memory-limit" memory_bytes_max: u64 = Preset::Derived {
            rule: "half of the memory, at least 64MiB",
            value: |machine| size_text((machine.memory_bytes / 2).max(MEMORY_BYTES_FLOOR)),
        }, Size { min: MEMORY_BYTES_MIN, max: 1024 * GIB };

        /// The user that the server becomes, with its groups, once ports and files that need root
        /// are open; empty for none. Only root can become another.
        "user" user: Option<String> = Preset::Text(""), Optional(UserName);

        /// Address and port on which the numbers of the server and of plugins are shown to Prometheus, at
        /// `/metrics`, to everybody who can connect: an address of this machine, or of a network that
        /// is yours; empty for none.
        "metrics-listen" metrics: Option<SocketAddr> = Preset::Text(""), Optional(SocketAddress);

        /// How long a stop waits for work that is under way.
        "shutdown-timeout" shutdown_timeout: Duration = Preset::Text("30"), Time::seconds(0, DAY_S), live;
    }
}

section! {
    /// Receiving mail, and the connections of both directions.
    Smtp, "SMTP" {
        /// Addresses to listen on.
        "smtp-ip" listen: ListenIp = Preset::Text("all"), Addresses;

        /// Ports to listen on, on each address.
        "smtp-port" ports: Vec<u16> = Preset::Text("25"), Ports;

        /// Networks that may connect; others are refused at once.
        "smtp-range" | "smtp-ranges" clients: Networks = Preset::Text("all"), NetworkSet, live;

        /// Networks whose clients may send to any recipient without logging in. Where clients can log
        /// in (`smtp-auth`, or a plugin that judges logins) the default holds no longer: then all
        /// must, but those in networks that are set here.
        "smtp-relay-range" relay_clients: Networks = Preset::Text("127.0.0.0/8;::1/128"),
            NetworkSet, live;

        /// Who may log in: `hardcoded://user:password,user:password` or `file:///path`, a file with a
        /// line `user:hash` for each (`$5$`, `$6$` or `$y$`); several are separated by `,`.
        "smtp-auth" auth: Vec<LoginSource> = Preset::Text(""), LoginSources,
            live;

        /// Networks whose clients may log in without TLS, so that everybody on the way can read their
        /// passwords.
        "smtp-auth-plaintext" auth_plaintext: Networks = Preset::Text(""), NetworkSet, live;

        /// When a failed login is answered, counted from its AUTH command; 0 at once.
        "smtp-auth-delay" auth_delay: Duration = Preset::Text("1"), Time::seconds(0, 60),
            live;

        /// Domains whose recipients are local: mail for them is accepted from every client.
        "local-domains" local_domains: Domains = Preset::Text(""), DomainSet, live;

        /// A file of more local addresses, one in a line: `user@domain`, in which `*` stands for any octets
        /// and `?` for one; `#` before comments. It is read again at each reload.
        "local-addresses" local_addresses: Option<PathBuf> = Preset::Text(""),
            Optional(AbsolutePath), live;

        /// Networks of proxies: connections from there begin with a header of the PROXY protocol that
        /// says who the client is, and no others may.
        "smtp-proxy" proxies: Networks = Preset::Text(""), NetworkSet, live;

        /// The name in our greeting, in EHLO and in Received fields.
        "smtp-hostname" hostname: String = Preset::Derived {
            rule: "the system's host name",
            value: |machine| machine.hostname.clone(),
        }, DomainName, live;

        /// Connections in both directions together.
        "smtp-connections" connections_max: u32 = Preset::Derived {
            rule: "half of the descriptor limit, at most 65536",
            value: |machine| connections_default(machine).to_string(),
        }, Count { min: 1, max: CONNECTIONS_MAX }, live;

        /// Incoming connections; empty for no limit below the total.
        "smtp-connections-in" connections_in_max: Option<u32> = Preset::Text(""),
            Optional(Count { min: 1, max: CONNECTIONS_MAX }), live;

        /// Outgoing connections; empty for no limit below the total.
        "smtp-connections-out" connections_out_max: Option<u32> = Preset::Text(""),
            Optional(Count { min: 1, max: CONNECTIONS_MAX }), live;

        /// Incoming connections from one address, or from one /64 of IPv6, the machine itself
        /// included.
        "smtp-connections-per-address" connections_per_address_max: Option<NonZeroU32> =
            Preset::Text("1000"), Limit { max: CONNECTIONS_MAX }, live;

        /// The largest message that is accepted, announced as SIZE.
        "smtp-maxsize" message_bytes_max: u64 = Preset::Text("100MB"),
            Size { min: KIB, max: MESSAGE_BYTES_MAX }, live;

        /// Worker threads, each of which does SMTP in both directions.
        "smtp-threads" threads: u32 = Preset::Derived {
            rule: "the number of CPUs",
            value: |machine| machine.cpus.clamp(1, THREADS_MAX).to_string(),
        }, Count { min: 1, max: THREADS_MAX };

        /// Whether each worker is pinned to a CPU of its own.
        "smtp-pin" pinning: Pinning = Preset::Text("auto"),
            Choice(&[("auto", Pinning::Auto), ("off", Pinning::Off)]);

        /// How long a client may stay silent before it is answered 421 and closed.
        "smtp-timeout" idle_timeout: Duration = Preset::Text("300"), Time::seconds(1, DAY_S), live;

        /// How long the body of one message may take from DATA to the final dot.
        "smtp-data-timeout" data_timeout: Duration = Preset::Text("3600"), Time::seconds(1, DAY_S), live;

        /// Recipients of one message; those beyond are answered 452 (RFC 5321 4.5.3.1.10).
        "smtp-recipients" recipients_max: u32 = Preset::Text("1000"), Count { min: 1, max: 50_000 }, live;

        /// Commands of one connection that fail before it is closed with 421; 0 for no limit.
        "smtp-errors" errors_max: Option<NonZeroU32> = Preset::Text("20"), Limit { max: 1_000_000 }, live;

        /// How closely addresses in MAIL FROM and RCPT TO are looked at; only `strict` is done so
        /// far.
        "smtp-validate-address" address_rule: AddressRule = Preset::Text("strict"),
            Choice(&[("strict", AddressRule::Strict), ("loose", AddressRule::Loose)]);

        /// Whether `x-mq-*` fields are taken out of texts, and followed where the client may send to
        /// any recipient.
        "smtp-extract" extract: bool = Preset::Text("yes"), Switch, live;
    }
}

impl Smtp {
    /// The limits of connections, as the counters take them.
    pub fn connection_bounds(&self) -> ConnectionBounds {
        ConnectionBounds {
            total: self.connections_max,
            incoming: self.incoming_max(),
            outgoing: self.outgoing_max(),
            per_address: self.connections_per_address_max,
        }
    }

    /// The incoming connections that may be open: the own limit or the total, whichever is lower.
    pub fn incoming_max(&self) -> u32 {
        self.connections_in_max.map_or(self.connections_max, |own| own.min(self.connections_max))
    }

    /// The outgoing connections that may be open: the own limit or the total, whichever is lower.
    pub fn outgoing_max(&self) -> u32 {
        self.connections_out_max.map_or(self.connections_max, |own| own.min(self.connections_max))
    }
}

section! {
    /// Sending mail.
    Delivery, "Delivery" {
        /// The host that all mail is sent to; empty to deliver to the hosts that DNS names.
        "smarthost" smarthost: Option<Host> = Preset::Text(""), Optional(HostName);

        /// The port of the smarthost.
        "smarthost-port" smarthost_port: u16 = Preset::Text("25"), Port;

        /// Connections to the smarthost, over all workers; each worker has one at least.
        "smarthost-connections" smarthost_connections_max: u32 = Preset::Text("50"),
            Count { min: 1, max: CONNECTIONS_MAX };

        /// Messages sent over one connection to the smarthost before it is closed; 0 for no limit.
        "smarthost-messages" smarthost_messages_max: Option<NonZeroU32> = Preset::Text("1000"),
            Limit { max: u32::MAX }, live;

        /// Connections to one domain, over all workers; each worker may have one at least.
        "domain-connections" domain_connections_max: u32 = Preset::Text("20"),
            Count { min: 1, max: CONNECTIONS_MAX };

        /// Messages sent over one connection to a domain before it is closed; 0 for no limit.
        "domain-messages" domain_messages_max: Option<NonZeroU32> = Preset::Text("100"),
            Limit { max: u32::MAX }, live;

        /// The port of the hosts that MX records name.
        "smtp-out-port" mx_port: u16 = Preset::Text("25"), Port;

        /// An address that every connection goes to, whatever the route, to try things out: nothing is
        /// looked up, and mail stays queued by its domain; `0.0.0.0` or empty for none.
        "smtp-sink-address" | "smtp-sink-ip" sink: Option<IpAddr> = Preset::Text(""), Address;

        /// The port of `smtp-sink-address`.
        "smtp-sink-port" sink_port: u16 = Preset::Text("25"), Port;

        /// Times to wait after each failed attempt; the last one repeats.
        "retry-interval" retry_intervals: Vec<Duration> =
            Preset::Text("600,600,1800,1800,3600,3600,7200"), Times(Time::seconds(1, 30 * DAY_S)), live;

        /// How long delivery is tried before a message fails for good.
        "max-delivertime" | "max-deliver-time" lifetime: Duration = Preset::Text("86400"),
            Time::seconds(1, 365 * DAY_S);

        /// Attempts before a message fails for good; 0 for no limit.
        "max-attempts" attempts_max: Option<NonZeroU32> = Preset::Text("0"),
            Limit { max: 1_000_000 }, live;

        /// How long a connection may take to open.
        "connect-timeout" connect_timeout: Duration = Preset::Text("30"), Time::seconds(1, HOUR_S), live;

        /// How long the other side may take to greet and to answer a command (RFC 5321 4.5.3.2.1 to
        /// 3).
        "smtp-out-timeout" reply_timeout: Duration = Preset::Text("300"), Time::seconds(1, DAY_S), live;

        /// How long the other side may take to answer DATA, and to take each block of the body (RFC
        /// 5321 4.5.3.2.4 and 5); the whole body may take that long and a second for each 4 KiB.
        "smtp-out-data-timeout" data_timeout: Duration = Preset::Text("180"),
            Time::seconds(1, DAY_S), live;

        /// How long the other side may take to answer the final dot (RFC 5321 4.5.3.2.6).
        "smtp-out-dot-timeout" dot_timeout: Duration = Preset::Text("600"), Time::seconds(1, DAY_S), live;

        /// How long an outgoing connection is kept open without mail for it; 0 closes it at once.
        "smtp-out-idle-timeout" idle_timeout: Duration = Preset::Text("10"),
            Time::seconds(0, HOUR_S), live;
    }
}

section! {
    /// Asking name servers where mail goes. `/etc/hosts` counts too.
    Dns, "DNS" {
        /// Name servers, each with a port or not; empty for those of `/etc/resolv.conf`.
        "dns-servers" servers: Vec<SocketAddr> = Preset::Text(""), NameServers;

        /// How long finding one route may take altogether.
        "dns-timeout" timeout: Duration = Preset::Text("60"), Time::seconds(1, HOUR_S);

        /// How long one question waits for its answer before it is asked again.
        "dns-interval" interval: Duration = Preset::Text("3"),
            Time { min: Duration::from_millis(100), max: Duration::from_secs(60) };

        /// How often a question is asked that gets no answer.
        "dns-attempts" attempts: u32 = Preset::Text("5"), Count { min: 1, max: 100 };

        /// How long an answer is good for at least, whatever it says itself.
        "dns-min-ttl" ttl_min: Duration = Preset::Text("60"), Time::seconds(1, DAY_S);

        /// Routes that are looked up at a time, over all workers; each worker may have one at least.
        "dns-capacity" look_ups_max: u32 = Preset::Text("100"), Count { min: 1, max: 10_000 };

        /// Networks beyond the public Internet, such as private ones and this machine, that DNS and
        /// `x-mq-smarthost-hostname` may send mail to; other addresses there are left out, so that no
        /// stranger's records and nobody's mail lead inside.
        "dns-private-targets" private_targets: Networks = Preset::Text(""), NetworkSet;
    }
}

section! {
    /// Keeping mail.
    Queue, "Queue" {
        /// Where mail is kept; made with mode 0700 if only the last part of it is missing.
        "queue-directory" directory: PathBuf = Preset::Text("/var/spool/rohrpost"), AbsolutePath;

        /// The size at which a segment of the log is closed and the next one begun.
        "queue-segment-size" segment_bytes_max: u64 = Preset::Text("64MB"),
            Size { min: MIB, max: GIB };

        /// Free space on the disk below which new mail is answered 452.
        "queue-min-free" free_bytes_min: u64 = Preset::Text("100MB"),
            Size { min: 0, max: 1024 * GIB };

        /// The named queue for the final results of all mail; none if empty.
        "queue-results" | "rabbitmq-results" results: Option<Box<str>> = Preset::Text(""),
            Optional(QueueName);

        /// The named queue for the results of mail that arrived.
        "queue-success" | "rabbitmq-success" success: Option<Box<str>> = Preset::Text(""),
            Optional(QueueName);

        /// The named queue for the results of mail that failed for good; where its result goes to one
        /// the mail itself is not kept.
        "queue-failure" | "rabbitmq-failure" failure: Option<Box<str>> = Preset::Text(""),
            Optional(QueueName);

        /// The named queue for attempts that another one follows.
        "queue-retry" | "rabbitmq-retry" retry: Option<Box<str>> = Preset::Text(""),
            Optional(QueueName);

        /// Entries of all named queues together; beyond it the oldest are dropped.
        "queue-results-max" results_max: u32 = Preset::Text("1000000"),
            Count { min: 1, max: 100_000_000 };

        /// Octets on disk that all named queues may take together; beyond it the oldest entries are
        /// dropped.
        "queue-results-size" results_bytes_max: u64 = Preset::Text("1GB"),
            Size { min: MIB, max: 1024 * GIB };
    }
}

impl Queue {
    /// The named queues that results go to.
    pub fn result_queues(&self) -> ResultQueues {
        ResultQueues {
            results: self.results.clone(),
            success: self.success.clone(),
            failure: self.failure.clone(),
            retry: self.retry.clone(),
        }
    }
}

section! {
    /// Plugins.
    Plugin, "Plugins" {
        /// The directory that plugins are loaded from, in the order of their names; it must exist
        /// if it is set.
        "plugin-directory" directory: PathBuf = Preset::Text("/usr/lib/rohrpost/plugins"),
            AbsolutePath;

        /// How long one hook of one plugin may hold a connection before control is taken back; 0
        /// for ever.
        "plugin-timeout" hold_timeout: Option<Duration> = Preset::Text("300"),
            Deadline { max: Duration::from_secs(DAY_S) }, live;

        /// What becomes of a step that a plugin held for too long, or says that it failed: the client
        /// is told to come back, the next plugin is asked, or the step is refused for good. A mail that
        /// goes out is tried again, goes out, or fails.
        "plugin-failure" failure: OnFailure = Preset::Text("tempfail"), Choice(&[
            ("tempfail", OnFailure::Tempfail),
            ("accept", OnFailure::Accept),
            ("reject", OnFailure::Reject),
        ]), live;

        /// What a plugin that cannot be loaded does to the start.
        "plugin-errors" errors: PluginErrors = Preset::Text("fatal"),
            Choice(&[("fatal", PluginErrors::Fatal), ("skip", PluginErrors::Skip)]);

        /// How often one plugin may end the server within a minute; then it does not start any more
        /// (exit 78) before the plugin's file has changed, or the minute is over; 0 for no limit.
        "plugin-crash-limit" crashes_max: Option<NonZeroU32> = Preset::Text("3"), Limit { max: 1000 };

        /// Numbers of the plugin interface that are accepted besides the built-in ones.
        "plugin-api-versions" api_versions: Vec<i32> = Preset::Text(""), Numbers;

        /// How long all plugins together may take to set a worker up.
        "plugin-start-timeout" start_timeout: Duration = Preset::Text("30"),
            Time::seconds(1, HOUR_S);

        /// How long a stop waits for plugins that hold a connection or a worker.
        "plugin-shutdown-timeout" shutdown_timeout: Duration = Preset::Text("30"),
            Time::seconds(0, HOUR_S), live;

        /// How long a plugin may keep a worker busy before the log says so; 0 for never.
        "plugin-block-warning" block_warning: Option<Duration> = Preset::Text("50ms"),
            Deadline { max: Duration::from_secs(HOUR_S) };

        /// Whether lines that plugins log name the plugin's file, in parentheses behind the tag
        /// `[plugin]`.
        "plugin-log-name" log_name: bool = Preset::Text("no"),
            Choice(&[("no", false), ("yes", true)]);

        /// Whether every call of a hook or callback, and every hand-back, is a line of the log: for
        /// those who write plugins.
        "plugin-trace" trace: Trace = Preset::Text("no"),
            Choice(&[("no", Trace::Off), ("yes", Trace::On)]);

        /// How many steps plugins may hold on one worker at a time; while they hold that many, new
        /// clients are answered 421. 0 for no limit.
        "plugin-holds" holds_max: Option<NonZeroU32> = Preset::Text("0"),
            Limit { max: 1_000_000 }, live;

        /// How often plugins may ask for one step again before it counts as complete; 0 for no
        /// limit.
        "plugin-retries" retries_max: Option<NonZeroU32> = Preset::Text("100"),
            Limit { max: 1_000_000 };
    }
}

section! {
    /// The application log.
    Logging, "Log" {
        /// Where the application log goes; MailerQ's default is nowhere, which hides why a start
        /// fails.
        "application-log" targets: Vec<Target> = Preset::Text("stderr"), LogTargets, live;

        /// The least important level that is logged.
        "log-level" level: Level = Preset::Text("info"), Choice(&[
            ("critical", Level::Critical),
            ("warning", Level::Warning),
            ("info", Level::Info),
            ("debug", Level::Debug),
        ]), live;
    }
}

/// Whether workers stay on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinning {
    /// Each worker on a CPU of its own, where there are enough.
    Auto,
    /// The scheduler decides.
    Off,
}

/// How closely addresses are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRule {
    /// As RFC 5321 4.1.2 has them.
    Strict,
    /// An `@` and a valid domain.
    Loose,
}

/// What a plugin that cannot be loaded does to the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginErrors {
    /// The start fails (D-04).
    Fatal,
    /// The plugin is left out.
    Skip,
}

/// Less than this cannot hold one message and the workers' steps of it.
const MEMORY_BYTES_MIN: u64 = 16 * MIB;
/// The default on small machines.
const MEMORY_BYTES_FLOOR: u64 = 64 * MIB;

/// A worker's number has 8 bits in the tokens that plugins hold.
pub(super) const THREADS_MAX: u32 = 256;
/// A connection's slot has 20 bits in the tokens that plugins hold.
pub(super) const CONNECTIONS_MAX: u32 = 1 << 20;
/// More than this is rarely meant, however high the descriptor limit is.
const CONNECTIONS_DEFAULT_MAX: u64 = 1 << 16;

/// Half of the descriptors: plugins open sockets of their own, often one a connection.
fn connections_default(machine: &Machine) -> u64 {
    (machine.descriptors / 2).clamp(1, CONNECTIONS_DEFAULT_MAX)
}
