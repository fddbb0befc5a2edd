//! What a worker makes of its settings, at its start and when they change while it runs.
//!
//! Most code looks at the settings of the desk each time; what was made from them is made anew in
//! here. Sessions that are under way keep the options with which they greeted their client.
//!
//! Must never: drop a connection or a mail for a change.
//!
//! **Diagnostics**: none; the settings were checked before.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::net::desk::{Io, News};
use crate::net::incoming::Keep;
use crate::net::login;
use crate::settings::Settings;
use crate::smtp::server;
use crate::tls::Tls;

use super::turn::{Connection, Worker};

impl Worker {
    /// Uses other settings from now on.
    pub(super) fn adopt(&mut self, news: &News, io: &mut Io) {
        let News { settings, tls, rolls, plugins } = news;
        let (settings, rolls) = (settings.clone(), rolls.clone());
        let others = self.desk.plugins.cell.set().plugins() != plugins.plugins();
        if others {
            self.desk.plugins.cell.adopt(plugins);
        }
        self.options = Arc::new(session_options(&settings, tls));
        self.desk.tls = tls.for_worker();
        let delivery = &settings.delivery;
        self.desk.store.retry(
            intervals_s(&delivery.retry_intervals),
            delivery.attempts_max.map_or(0, NonZeroU32::get),
        );
        let asks_plugins = login::asks_plugins(&self.desk.plugins);
        self.desk.admission.change(&settings, rolls.clone(), asks_plugins);
        self.desk.plugins.cell.set_locals(Arc::new(move |address| rolls.locals.has(address)));
        self.desk.settings = settings;
        if others {
            for key in self.keys() {
                self.with(key, io, |connection, desk, io| match connection {
                    Connection::Outgoing(outgoing) => outgoing.on_other_plugins(desk, io),
                    Connection::Incoming(_) | Connection::Opening | Connection::Listener(..) => {
                        Keep::Yes
                    }
                });
            }
        }
    }
}

/// What the sessions of incoming connections are told of the settings.
pub(super) fn session_options(settings: &Settings, tls: &Tls) -> server::Options {
    let smtp = &settings.smtp;
    server::Options {
        size_max: smtp.message_bytes_max,
        recipients_max: smtp.recipients_max as usize,
        errors_max: smtp.errors_max.map_or(u32::MAX, NonZeroU32::get),
        dsn: settings.notices.advertise,
        starttls: tls.server.is_some(),
        tls_required: settings.tls.required,
        ..server::Options::new(smtp.hostname.clone())
    }
}

/// `retry-interval` as the queue's schedule takes it.
pub(crate) fn intervals_s(intervals: &[Duration]) -> Vec<u32> {
    let seconds = |time: &Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    intervals.iter().map(seconds).collect()
}
