//! The names of MailerQ 5.13's settings, so that a file written for it is understood.
//!
//! Owns the list and what is said about a name that Rohrpost does not have. Never knows what the
//! values mean.
//!
//! Diagnostics: a warning for each such name; MailerQ's file must not keep Rohrpost from starting.

use super::key::lookup;

/// All 135 names that MailerQ 5.13 documents, by the part of it that they belong to.
#[rustfmt::skip]
pub(super) const MAILERQ_KEYS: &[&[&str]] = &[
    &[
        "rabbitmq-address", "rabbitmq-verify", "rabbitmq-outbox", "rabbitmq-inbox",
        "rabbitmq-local", "rabbitmq-reports", "rabbitmq-refused", "rabbitmq-dsn",
        "rabbitmq-results", "rabbitmq-success", "rabbitmq-failure", "rabbitmq-retry",
        "rabbitmq-exchange", "rabbitmq-declare", "rabbitmq-durable", "rabbitmq-persistent",
        "rabbitmq-lazy", "rabbitmq-maxpriority", "rabbitmq-consumers", "rabbitmq-publishers",
        "rabbitmq-encoding", "rabbitmq-qos", "rabbitmq-minqos", "rabbitmq-flush-qos",
        "rabbitmq-throttle",
    ],
    &["cluster-address", "cluster-exchange", "cluster-verify", "cluster-timeout"],
    &["database-address", "database-ttl", "database-validate"],
    &[
        "smtp-ip", "smtp-port", "smtp-secure-port", "smtp-certificate", "smtp-key",
        "smtp-ciphers", "smtp-range", "smtp-auth", "smtp-check", "smtp-auth-results",
        "spamassassin-host", "spamassassin-port", "smtp-proxy", "smtp-validate-address",
        "smtp-connections", "smtp-connections-in", "smtp-connections-out", "smtp-maxsize",
        "smtp-threads", "smtp-timeout", "smtp-protection", "smtp-extract", "smtp-default-ips",
        "smtp-mappable-ips", "smtp-unmappable-ips",
    ],
    &[
        "smarthost", "smarthost-port", "smarthost-username", "smarthost-password",
        "smtp-sink-address", "smtp-sink-port", "smtp-sink-username", "smtp-sink-password",
    ],
    &[
        "max-delivertime", "max-attempts", "retry-interval", "validate-envelope",
        "validate-recipient", "dsn-notify", "dsn-ret", "dsn-advertise",
    ],
    &[
        "dns-min-ttl", "dns-timeout", "dns-interval", "dns-attempts", "dns-capacity",
        "dns-sockets", "dns-buffersize", "dns-rotate",
    ],
    &[
        "storage-address", "storage-policy", "storage-threads", "storage-ttl", "storage-timeout",
        "storage-reschedule",
    ],
    &[
        "spool-directory", "spool-fail-directory", "spool-delay", "spool-remove", "spool-extract",
        "spool-open-files", "spool-threads",
    ],
    &[
        "application-log", "error-log", "send-log-file", "send-log-format", "send-bin-log-file",
        "received-log-file", "received-log-format", "received-bin-log-file", "download-log-file",
        "download-log-format", "download-bin-log-file", "www-log-file", "www-log-format",
        "www-bin-log-file",
    ],
    &[
        "download-cache", "download-ttl", "download-user-agent", "download-blacklist",
        "download-whitelist", "download-proxy", "proxy-server",
    ],
    &[
        "www-port", "www-ip", "www-dir", "www-connections", "www-auth", "www-secure-port",
        "www-certificate", "www-privatekey", "www-ciphers", "www-host", "www-url",
        "www-cache-control", "render-useragent",
    ],
    &[
        "license", "user", "lock", "server-id", "heartbeat", "plugin-directory", "config-file",
    ],
];

/// Other spellings that MailerQ's documentation uses for settings that Rohrpost does not have.
#[rustfmt::skip]
const MAILERQ_ALIASES: &[&str] = &[
    "smtp-defaultips", "smtp-defaultip", "smtp-sink-ip", "smtp-username",
    "smtp-password", "database", "storage", "heartbeat-enabled", "www-private-key", "www-password",
];

/// Names that MailerQ has and Rohrpost does not: they are warned of and ignored.
pub fn foreign_keys() -> impl Iterator<Item = &'static str> {
    let names = MAILERQ_KEYS.iter().copied().flatten().chain(MAILERQ_ALIASES);
    names.copied().filter(|name| lookup(name).is_none())
}

/// What to say about a name of [`foreign_keys`]; the end of a sentence that begins with it.
pub(super) fn foreign_note(name: &str) -> &'static str {
    match name {
        "config-file" => "is an option of the command line only, and is ignored here",
        "lock" => "is ignored: the lock is a file in `queue-directory`",
        "license" | "heartbeat" | "heartbeat-enabled" => {
            "is ignored: Rohrpost needs no licence file and reports to nobody"
        }
        "smtp-ciphers" => "is ignored: there is no weak cipher suite to leave out",
        "error-log" => "is ignored: use `application-log`",
        _ => "is a setting of MailerQ that Rohrpost does not have; it is ignored",
    }
}
