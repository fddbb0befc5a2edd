//! What changes while the server runs: its settings, and whether it takes mail.
//!
//! A reload reads all sources again. What is wrong with them changes nothing; what can only change
//! with a restart is named in the answer and left as it is. No connection is dropped for a change.
//!
//! Must never: leave some workers with other settings than the rest, or apply half of a change.
//!
//! **Diagnostics**: the answer, and a line in the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde_json::{Value, json};

use crate::log::Log;
use crate::net::desk::{Intake, Mail};
use crate::rolls::Rolls;
use crate::settings::{Changes, Loaded, Machine, Settings};
use crate::tls::Tls;
use crate::view::counted;

use super::orders::Order;
use super::server::Server;

/// How long the workers may take to change over; one that a plugin blocks does so later.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

impl Server {
    /// Reads the settings again and applies what can be applied.
    pub(super) fn reload(&mut self, log: &Log) -> Result<Vec<Value>, String> {
        self.readiness.reloading();
        let answer = self.change_settings(log);
        match &answer {
            Ok(rows) => log.info("reload", format_args!("settings were read again: {}", rows[0])),
            Err(why) => {
                log.warning("reload", "nothing has changed:");
                why.lines().for_each(|line| log.warning("reload", line));
            }
        }
        self.readiness.ready(&self.mode_text());
        answer
    }

    fn change_settings(&mut self, log: &Log) -> Result<Vec<Value>, String> {
        let machine = Machine::detect();
        let Loaded { settings: new, warnings } =
            Settings::load(&self.sources, &machine).map_err(|report| report.to_string())?;
        let Changes { settings, applied, waiting } =
            self.settings.with_changes(&new, &machine).map_err(|report| report.to_string())?;
        // What can fail comes first. The files are read even where their names are the old ones.
        let tls = Tls::load(&settings.tls.files()).map_err(|error| error.to_string())?;
        let rolls = Rolls::load(&settings.smtp).map_err(|error| error.to_string())?;
        if settings.logging != self.settings.logging {
            let logging = &settings.logging;
            log.redirect(&logging.targets, logging.level).map_err(|error| error.to_string())?;
        }
        self.settings = Arc::new(settings);
        self.connections.limit(self.settings.smtp.connection_bounds());
        let late = self.tell_workers(&Arc::new(tls), &Arc::new(rolls));
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        Ok(vec![json!({
            "applied": applied,
            "restart": waiting,
            "certificates": self.settings.tls.certificates.len(),
            "late_workers": late,
            "warnings": warnings,
        })])
    }

    /// Hands the settings to the workers; how many have not taken them in time. They will: what their
    /// mailbox has no room for is kept for them.
    fn tell_workers(&mut self, tls: &Arc<Tls>, rolls: &Arc<Rolls>) -> usize {
        let workers = self.mailboxes.len();
        let (done, dones) = bounded(workers);
        let settings = self.settings.clone();
        self.orders.give(Order::Settings, || {
            Mail::Settings(settings.clone(), tls.clone(), rolls.clone(), done.clone())
        });
        let end = Instant::now() + CHANGE_PATIENCE;
        self.orders.pass_on_until(end);
        workers - (0..workers).map_while(|_| dones.recv_deadline(end).ok()).count()
    }

    /// Takes no mail any more, or takes it again. What is there is delivered all the same.
    pub(super) fn take_mail(&mut self, intake: Intake, log: &Log) -> Result<Vec<Value>, String> {
        self.orders.give(Order::Intake, || Mail::Intake(intake));
        let late = self.orders.pass_on_until(Instant::now() + CHANGE_PATIENCE);
        if late > 0 {
            let workers = counted(late as u64, "busy worker");
            log.warning("drain", format_args!("{workers} will be told later"));
        }
        self.draining.store(intake == Intake::Closed, Ordering::Relaxed);
        log.info(
            "drain",
            match intake {
                Intake::Closed => "no mail is taken until `rohrpost drain --off` or a restart",
                Intake::Open => "mail is taken again",
            },
        );
        self.readiness.status(&self.mode_text());
        Ok(Vec::new())
    }

    /// One line for the service manager.
    pub(super) fn mode_text(&self) -> String {
        match self.draining.load(Ordering::Relaxed) {
            true => "draining: takes no mail, delivers what it has".to_owned(),
            false => format!("takes mail on {}", self.address_text()),
        }
    }
}
