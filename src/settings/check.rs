//! Checks that need more than one value, the machine or the file system.
//!
//! Owns what must hold between settings. Looks at directories, and changes nothing.
//!
//! Diagnostics: errors for what cannot work, warnings for what will surprise.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::load::{Problem, Report};
use super::machine::Machine;
use super::model::{AddressRule, Settings};
use super::source::Origin;
use crate::auth::LoginSource;
use crate::log::Target;
use crate::rolls::Rolls;

/// Addresses that no network of one owner holds together.
const FAR_APART: [[u8; 4]; 2] = [[8, 8, 8, 8], [198, 41, 0, 4]];

impl Settings {
    /// Adds to the report what is wrong with the settings as a whole.
    pub(super) fn check(&self, machine: &Machine, report: &mut Report) {
        self.check_connections(machine, report);
        self.check_memory(report);
        self.check_smtp(report);
        self.check_logins(report);
        self.tls.faults(&self.smtp.ports).into_iter().for_each(|fault| report.fail(fault));
        self.check_delivery(report);
        self.check_directories(report);
        if self.logging.targets.contains(&Target::Syslog) {
            report.warn("application-log: `syslog` is not supported yet; that target is left out");
        }
    }

    fn check_connections(&self, machine: &Machine, report: &mut Report) {
        let connections = u64::from(self.smtp.connections_max);
        let ports = self.smtp.ports.len() + self.tls.secure_ports().len();
        let listeners = self.smtp.listen.addresses().len() * ports;
        let needed = connections + (listeners as u64 * u64::from(self.smtp.threads)) + RESERVED;
        // A default that does not fit is ours to bear with: very low limits still serve a few.
        if needed > machine.descriptors && self.is_set("smtp-connections") {
            report.fail(format!(
                "smtp-connections {connections} needs {needed} file descriptors with listeners \
                 and files, and the limit is {}; raise the limit (`ulimit -Hn`) or lower it",
                machine.descriptors
            ));
        } else if needed > machine.descriptors {
            report.warn(format!(
                "the limit of {} file descriptors is low: {connections} connections, listeners \
                 and files need {needed}",
                machine.descriptors
            ));
        }
        for (key, own) in [
            ("smtp-connections-in", self.smtp.connections_in_max),
            ("smtp-connections-out", self.smtp.connections_out_max),
        ] {
            if let Some(own) = own.filter(|own| *own > self.smtp.connections_max) {
                report.warn(format!(
                    "{key} {own} is above smtp-connections {connections}, which holds"
                ));
            }
        }
    }

    fn check_memory(&self, report: &mut Report) {
        let (message, limit) = (self.smtp.message_bytes_max, self.general.memory_bytes_max);
        if message > limit {
            report.fail(format!(
                "smtp-maxsize is {message} bytes and memory-limit {limit}: such a message could \
                 never be accepted"
            ));
        }
    }

    fn check_smtp(&self, report: &mut Report) {
        if self.smtp.address_rule == AddressRule::Loose {
            report.warn("smtp-validate-address: `loose` is not supported yet; `strict` is used");
        }
        if !self.smtp.hostname.contains('.') {
            report.warn(format!(
                "smtp-hostname `{}` is not fully qualified; other servers may refuse it",
                self.smtp.hostname
            ));
        }
        let strangers = FAR_APART.map(IpAddr::from);
        let heard = self.smtp.listen.addresses().iter().any(|address| !address.is_loopback());
        let relays = |stranger| {
            self.smtp.relay_clients.contains(stranger) && self.smtp.clients.contains(stranger)
        };
        if heard && strangers.into_iter().all(relays) {
            report.warn(
                "smtp-relay-range lets everybody send mail to anybody: this is an open relay; name \
                 your own networks, or limit smtp-range",
            );
        }
        if self.smtp.clients.is_empty() {
            report.warn("smtp-range is empty: no client may connect");
        }
        if self.smtp.idle_timeout > self.smtp.data_timeout {
            report.warn("smtp-timeout is above smtp-data-timeout, which ends a body first");
        }
    }

    fn check_logins(&self, report: &mut Report) {
        use std::os::unix::fs::PermissionsExt as _;
        if let Err(error) = Rolls::load(&self.smtp) {
            report.fail(error.to_string());
        }
        if !self.smtp.auth.is_empty()
            && self.smtp.auth_plaintext.is_empty()
            && self.tls.certificates.is_empty()
        {
            report.warn(
                "smtp-auth names users, but nobody can log in: there is no TLS (smtp-certificate), and \
                 smtp-auth-plaintext is empty",
            );
        }
        for source in &self.smtp.auth {
            if let LoginSource::File(path) = source
                && let Ok(found) = fs::metadata(path)
                && found.permissions().mode() & READABLE_BY_OTHERS != 0
            {
                report.warn(format!(
                    "smtp-auth: {} can be read by every user of this machine, who may then try \
                     passwords on its hashes",
                    path.display()
                ));
            }
        }
    }

    fn check_delivery(&self, report: &mut Report) {
        if self.delivery.smarthost_connections_max > self.smtp.outgoing_max() {
            report.warn(format!(
                "smarthost-connections {} is above the {} outgoing connections, which hold",
                self.delivery.smarthost_connections_max,
                self.smtp.outgoing_max()
            ));
        }
        if self.dns.interval > self.dns.timeout {
            report.warn("dns-interval is above dns-timeout, which ends a look-up first");
        }
        let (errors, warnings) = self.hop.faults(&self.delivery);
        errors.into_iter().for_each(|text| report.fail(text));
        warnings.into_iter().for_each(|text| report.warn(text));
    }

    fn check_directories(&self, report: &mut Report) {
        // D-07: only a directory that was asked for must be there.
        let plugins = &self.plugin.directory;
        if self.is_set("plugin-directory") && !plugins.is_dir() {
            report.fail(format!("plugin-directory {} is not a directory", plugins.display()));
        }
        self.check_queue_directory(report);
        for target in &self.logging.targets {
            if let Target::File(path) = target
                && (path.is_dir() || !path.parent().is_some_and(Path::is_dir))
            {
                report
                    .fail(format!("application-log {} is not a place for a file", path.display()));
            }
        }
    }

    fn check_queue_directory(&self, report: &mut Report) {
        let directory = &self.queue.directory;
        let shown = directory.display();
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => report.fail(format!("queue-directory {shown} is not a directory")),
            Err(_) if directory.parent().is_some_and(Path::is_dir) => {}
            Err(error) => report.fail(format!(
                "queue-directory {shown} cannot be used ({error}), nor made: its parent is missing"
            )),
        }
        // The path of a Unix socket has 108 bytes in Linux, the closing zero included.
        if directory.as_os_str().len() + "/control".len() > SOCKET_PATH_BYTES_MAX {
            report.fail(format!("queue-directory {shown} is too long for a socket in it"));
        }
    }
}

impl Report {
    fn fail(&mut self, text: impl Into<std::borrow::Cow<'static, str>>) {
        self.errors.push(Problem::new(Origin::Together, text));
    }

    fn warn(&mut self, text: impl Into<std::borrow::Cow<'static, str>>) {
        self.warnings.push(Problem::new(Origin::Together, text));
    }
}

/// Descriptors for logs, segments, polls, the resolver and the control socket.
const RESERVED: u64 = 64;
/// The bit of a file's mode that lets everybody read it.
const READABLE_BY_OTHERS: u32 = 0o004;
/// The longest path of a Unix socket, without its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
