//! Who watches a dialogue or a measurement that nobody else watches: its one thread runs the plugin, and a
//! hook that does not return would keep it for ever.
//!
//! Must never: count time that the plugin did not have; each turn of the stage begins it anew.
//!
//! **Diagnostics**: the last line of the transcript names the plugin and what does not return; exit code 1.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rohrpost_abi::Host;

use super::EXIT_FAULTY;
use crate::program::say;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a turn may take beyond the patience of the dialogue: the log, and a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// The end of the guard that the dialogue holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    beats: AtomicU64,
    host: OnceLock<&'static Host>,
}

impl Guard {
    /// Watches from now on, until all its ends are gone.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn set(patience: Duration) -> std::io::Result<Guard> {
        let guard = Guard::default();
        let shared = Arc::downgrade(&guard.0);
        std::thread::Builder::new().name("guard".into()).spawn(move || {
            let patience = patience + SLACK;
            // Looks are counted, not the clock: a debugger stops both threads.
            let (mut beats, mut quiet) = (0, Duration::ZERO);
            while let Some(shared) = shared.upgrade() {
                let now = shared.beats.load(Ordering::Relaxed);
                match std::mem::replace(&mut beats, now) == now {
                    true => quiet += LOOK_EVERY,
                    false => quiet = Duration::ZERO,
                }
                if quiet > patience {
                    give_up(&shared, patience);
                }
                drop(shared);
                std::thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(guard)
    }

    /// There is a host, which can say whose code runs.
    pub(super) fn learn(&self, host: &'static Host) {
        // A stage has one.
        let _ = self.0.host.set(host);
    }

    /// The thread of the dialogue does something.
    pub(super) fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }
}

fn give_up(shared: &Shared, patience: Duration) -> ! {
    let call = shared.host.get().and_then(|host| Some((host, host.current(0)?)));
    let seconds = patience.as_secs();
    match call {
        Some((host, call)) => {
            let name = host.plugins().name(call.plugin).unwrap_or("unknown plugin");
            say(format_args!(
                "failed: plugin {name}: {} has not returned for {seconds} s; a hook that waits \
                 takes control and hands back later",
                call.site
            ));
        }
        None => say(format_args!(
            "failed: nothing has happened for {seconds} s: a constructor or a hook of the main \
             thread (mq_version, mq_initialize, mqx_initialize, mq_cleanup) does not return"
        )),
    }
    rohrpost_abi::end_at_once(EXIT_FAULTY)
}
