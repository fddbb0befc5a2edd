//! `rohrpost check --start`: what a start does before it takes mail, and then none of it is left.
//!
//! Must never: write into the queue directory, or call a hook of a plugin.
//!
//! **Diagnostics**: [`StartError`], as a start would give it.

use std::net::SocketAddr;

use crate::lock::Lock;
use crate::log::Log;
use crate::net::listener;
use crate::rolls::Rolls;
use crate::settings::Settings;
use crate::tls::Tls;

use super::rights::Rights;
use super::server::{Ending, StartError, system};
use super::start::{bind, open_plugins};

/// Opens what a start opens and closes it; sentences about what was found.
///
/// # Errors
/// What would keep a server from starting.
pub fn rehearse(settings: &Settings) -> Result<Vec<String>, StartError> {
    let mut found = Vec::new();
    let rights = Rights::of(settings)?;
    found.extend(rights.warning().map(|warning| format!("warning: {warning}")));
    rights.inspect(settings)?;
    if Lock::is_taken(&settings.queue.directory) {
        found.push("a server runs on this queue; its ports were not tried".to_owned());
    } else {
        let bound = bind(settings, 1)?;
        if let Some(address) = settings.general.metrics {
            listener::bind_one(address)?;
        }
        let all = bound.clear.iter().chain(&bound.secure);
        let addresses: Vec<String> = all.map(SocketAddr::to_string).collect();
        found.push(format!("ports: {}", addresses.join(", ")));
    }
    Tls::load(&settings.tls.files())?;
    Rolls::load(&settings.smtp)?;
    // D-08: as the user that the server would be.
    rights.give_up()?;
    // One that calls exit() here would say that all is well.
    let _ending = Ending;
    rohrpost_abi::report_crashes(None).map_err(system("signals cannot be handled"))?;
    let plugins = open_plugins(settings, &Log::none())?;
    let names: Vec<&str> = plugins.set().names().collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    found.push(format!("plugins: {names}"));
    Ok(found)
}
