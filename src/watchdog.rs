//! The thread that notices plugin code which keeps a worker busy (D-9E).
//!
//! It looks every ten milliseconds which call each worker is in; the same call seen over a longer
//! time is reported once with plugin and hook, and once more with the whole time when it is over.
//! Workers pay two plain stores per call and no clock.
//!
//! Must never: touch a worker.
//!
//! **Diagnostics**: warnings with plugin, hook or callback, and the time.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rohrpost_abi::{Current, Host};

use crate::log::Log;

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A call that was seen, and for how long.
#[derive(Clone, Copy, Debug)]
struct Seen {
    call: Current,
    since: Instant,
    reported: bool,
}

/// Starts the thread, which ends with the process.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    host: &'static Host,
    workers: usize,
    warning: Duration,
    log: Log,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut seen: Vec<Option<Seen>> = vec![None; workers];
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = Instant::now();
            for (worker, seen) in (0..=u8::MAX).zip(&mut seen) {
                look(host.current(worker), seen, now, warning, |call, time, verb| {
                    let plugin = host.plugins().name(call.plugin).unwrap_or("unknown plugin");
                    log.warning(
                        "plugin",
                        format_args!(
                            "{plugin}: {} {verb} worker {worker} for {} ms; plugins must not block",
                            call.site,
                            time.as_millis()
                        ),
                    );
                });
            }
        }
    })
}

/// One look at one worker.
fn look(
    current: Option<Current>,
    seen: &mut Option<Seen>,
    now: Instant,
    warning: Duration,
    report: impl Fn(Current, Duration, &str),
) {
    match (current, *seen) {
        (Some(call), Some(before)) if call.sequence == before.call.sequence => {
            let time = now - before.since;
            if time >= warning && !before.reported {
                report(call, time, "has blocked");
                *seen = Some(Seen { reported: true, ..before });
            }
        }
        (current, before) => {
            if let Some(before) = before.filter(|before| before.reported) {
                report(before.call, now - before.since, "blocked");
            }
            *seen = current.map(|call| Seen { call, since: now, reported: false });
        }
    }
}
