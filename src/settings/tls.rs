//! The settings of TLS, and what must hold between them.
//!
//! Owns names and meanings; reads no certificate: that a file is usable is found out by whoever loads it.
//!
//! Diagnostics: errors for what cannot work together.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Key, Preset, change, section};
use super::kind::{AbsolutePath, Choice, HOUR_S, Kind, Optional, Time};
use super::list::{Paths, Ports};
use super::load::Values;
use crate::tls::{CertificateFiles, Files};

section! {
    /// TLS in both directions.
    Tls, "TLS" {
        /// Our certificates, as PEM files: our own certificate first in each, then those of its
        /// issuers. Without any there is no STARTTLS. Clients get the one for the name that they
        /// ask for, or the first.
        "smtp-certificate" certificates: Vec<PathBuf> = Preset::Text(""), Paths, live;

        /// The private keys of the certificates, in the same order, as PEM files without a password.
        "smtp-key" | "smtp-privatekey" keys: Vec<PathBuf> = Preset::Text(""), Paths, live;

        /// Ports on which TLS begins with the first octet, on each address of smtp-ip; usually
        /// 465.
        "smtp-secure-port" secure_ports: Option<Vec<u16>> = Preset::Text(""), Optional(Ports);

        /// Whether mail is taken only under TLS; without it the answer to MAIL is 530.
        "smtp-tls-required" required: bool = Preset::Text("no"),
            Choice(&[("no", false), ("yes", true)]), live;

        /// How long a client may take for the TLS handshake, however fast it drips.
        "smtp-tls-timeout" handshake_timeout: Duration = Preset::Text("30"),
            Time::seconds(1, HOUR_S), live;

        /// Certificate authorities of next hops, as a PEM file; empty for those of the system. Only
        /// verified connections need them.
        "smtp-out-ca-file" authorities: Option<PathBuf> = Preset::Text(""), Optional(AbsolutePath), live;
    }
}

impl Tls {
    /// The files that TLS is made from.
    pub fn files(&self) -> Files {
        let pairs = self.certificates.iter().cloned().zip(self.keys.iter().cloned());
        let certificates =
            pairs.map(|(certificate, key)| CertificateFiles { certificate, key }).collect();
        Files { certificates, authorities: self.authorities.clone() }
    }

    /// The ports on which TLS begins with the first octet.
    pub fn secure_ports(&self) -> &[u16] {
        self.secure_ports.as_deref().unwrap_or_default()
    }

    /// What is wrong with the settings together.
    pub(super) fn faults(&self, plain_ports: &[u16]) -> Vec<String> {
        let mut faults = Vec::new();
        let (certificates, keys) = (self.certificates.len(), self.keys.len());
        if certificates != keys {
            faults.push(format!(
                "smtp-certificate names {certificates} files and smtp-key {keys}: each certificate \
                 needs its key, in the same order"
            ));
        }
        let needing = [
            ("smtp-secure-port", self.secure_ports.is_some()),
            ("smtp-tls-required", self.required),
        ];
        for (key, _) in needing.into_iter().filter(|(_, set)| *set && certificates == 0) {
            faults.push(format!("{key} needs a certificate: set smtp-certificate and smtp-key"));
        }
        let twice =
            self.secure_ports().iter().find(|port| **port != 0 && plain_ports.contains(port));
        if let Some(port) = twice {
            faults.push(format!("port {port} is both in smtp-port and in smtp-secure-port"));
        }
        faults
    }
}
