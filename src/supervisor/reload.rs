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
use rohrpost_abi::{PluginSettings, Prepared};
use serde_json::{Value, json};

use crate::log::Log;
use crate::net::desk::{Intake, Mail, News};
use crate::rolls::Rolls;
use crate::settings::{Changes, Loaded, Machine, Settings};
use crate::tls::Tls;
use crate::view::counted;

use super::orders::Order;
use super::renewal::Renewal;
use super::server::{Answer, Server};
use super::start::{misspelt, plugin_options};

/// How long the workers may take to change over; one that a plugin blocks does so later.
const CHANGE_PATIENCE: Duration = Duration::from_secs(5);

/// What a reload has found, all of it good.
pub(super) struct Found {
    settings: Settings,
    applied: Vec<String>,
    waiting: Vec<&'static str>,
    warnings: Vec<String>,
    tls: Arc<Tls>,
    rolls: Arc<Rolls>,
    pub(super) prepared: Prepared,
    /// What plugins are told.
    pub(super) own: PluginSettings,
}

impl Server {
    /// Reads the settings again and applies what can be applied; `answer` is told, perhaps later: new
    /// plugins may take a while to start.
    pub(super) fn reload(&mut self, answer: Answer, log: &Log) {
        if self.renewal.is_some() {
            // Whoever asked may have given up; here and below.
            let _ = answer.send(Err("another reload is under way; try again later".to_owned()));
            return;
        }
        self.readiness.reloading();
        let found = self.find(log);
        match found.and_then(|found| self.begin_renewal(found)) {
            Ok((found, fresh)) if fresh.is_empty() => {
                let outcome = self.apply(found, log);
                self.end_reload(&answer, outcome, log);
            }
            Ok((found, fresh)) => self.renew(Renewal::new(found, fresh, answer, &self.settings)),
            Err(why) => self.end_reload(&answer, Err(why), log),
        }
    }

    /// Says how a reload ended.
    pub(super) fn end_reload(
        &mut self,
        answer: &Answer,
        outcome: Result<Vec<Value>, String>,
        log: &Log,
    ) {
        match &outcome {
            Ok(rows) => log.info("reload", format_args!("settings were read again: {}", rows[0])),
            Err(why) => {
                log.warning("reload", "nothing has changed:");
                why.lines().for_each(|line| log.warning("reload", line));
            }
        }
        self.readiness.ready(&self.mode_text());
        let _ = answer.send(outcome);
    }

    /// Everything that can be wrong, and changes nothing.
    fn find(&mut self, log: &Log) -> Result<Found, String> {
        let machine = Machine::detect();
        let Loaded { settings: new, warnings } =
            Settings::load(&self.sources, &machine).map_err(|report| report.to_string())?;
        let Changes { settings, applied, waiting } =
            self.settings.with_changes(&new, &machine).map_err(|report| report.to_string())?;
        // The files are read even where their names are the old ones.
        let tls = Tls::load(&settings.tls.files()).map_err(|error| error.to_string())?;
        let rolls = Rolls::load(&settings.smtp).map_err(|error| error.to_string())?;
        let plugins = self.host.plugins();
        let own = plugins.settings(settings.own.rows()).map_err(|error| error.to_string())?;
        let mut applied: Vec<String> = applied.into_iter().map(str::to_owned).collect();
        applied.extend(settings.own.differing(&self.settings.own));
        let options = plugin_options(&settings);
        self.watch_plugins(&settings, log);
        let prepared = plugins.prepare(&options).map_err(|error| error.to_string())?;
        let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let skipped = prepared.skipped.iter();
        warnings
            .extend(skipped.map(|one| format!("left out (plugin-errors: skip): {}", one.error)));
        let (before, new) = (plugins.set(), prepared.set.plugins());
        let new: Vec<_> = new.iter().copied().filter(|plugin| !before.contains(*plugin)).collect();
        warnings.extend(misspelt(plugins, &new));
        let (tls, rolls) = (Arc::new(tls), Arc::new(rolls));
        Ok(Found { settings, applied, waiting, warnings, tls, rolls, prepared, own })
    }

    /// All workers change over, now that nothing is left that could fail.
    pub(super) fn apply(&mut self, found: Found, log: &Log) -> Result<Vec<Value>, String> {
        let Found { settings, applied, waiting, warnings, tls, rolls, prepared, own } = found;
        if settings.logging != self.settings.logging {
            let logging = &settings.logging;
            log.redirect(&logging.targets, logging.level).map_err(|error| error.to_string())?;
        }
        self.settings = Arc::new(settings);
        self.connections.limit(self.settings.smtp.connection_bounds());
        let before = self.host.plugins().set();
        let certificates = self.settings.tls.certificates.len();
        let set = prepared.set.clone();
        let news = News { settings: self.settings.clone(), tls, rolls, plugins: set.clone() };
        let late = self.tell_workers(&news);
        if !Arc::ptr_eq(&before, &set) {
            self.host.plugins().adopt(set);
        }
        let after = &prepared.set;
        self.host.plugins().configure(after.plugins(), &own);
        let kept = after.plugins().iter().filter(|plugin| before.contains(**plugin));
        self.host.plugins().on_reload(&kept.copied().collect::<Vec<_>>());
        let names = |set: &rohrpost_abi::PluginSet, other: &rohrpost_abi::PluginSet| -> Vec<&str> {
            let members = set.plugins().iter().zip(set.names());
            members.filter(|(index, _)| !other.contains(**index)).map(|(_, name)| name).collect()
        };
        let loaded = names(after, &before);
        let gone: Vec<&str> = names(&before, after);
        let gone: Vec<&str> = gone.into_iter().filter(|name| !loaded.contains(name)).collect();
        Ok(vec![json!({
            "applied": applied,
            "restart": waiting,
            "certificates": certificates,
            "late_workers": late,
            "plugins_loaded": loaded,
            "plugins_gone": gone,
            "warnings": warnings,
        })])
    }

    /// Hands what was found to the workers; how many have not taken it in time. They will: what their
    /// mailbox has no room for is kept for them.
    fn tell_workers(&mut self, news: &News) -> usize {
        let workers = self.mailboxes.len();
        let (done, dones) = bounded(workers);
        self.orders.give(Order::Settings, || Mail::Settings(news.clone(), done.clone()));
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
