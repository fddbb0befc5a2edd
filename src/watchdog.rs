//! The thread that notices plugin code which keeps a worker busy (D-9E).
//!
//! It looks every ten milliseconds which call each worker is in. The same call seen over a longer time
//! is reported once with plugin and hook, once with its stack when it has lasted a second, and once more
//! with the whole time when it is over. Each look that finds plugin code counts, so that where plugins
//! spend a worker's time can be told without a clock read per call ([`Samples`]). Workers pay two plain
//! stores per call.
//!
//! Must never: touch a worker, but for a look at its stack that its plugin does not notice.
//!
//! **Diagnostics**: warnings with plugin, hook or callback, the time, and the functions.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rohrpost_abi::{Current, Host, PluginIndex, Site};

use crate::log::Log;

/// How often the watchdog looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A call that takes longer is shown with its functions.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// A call that was seen, and for how long.
#[derive(Clone, Copy, Debug)]
struct Seen {
    call: Current,
    since: Instant,
    reported: bool,
    shown: bool,
}

/// What there is to say after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It has lasted longer than is allowed.
    Blocks(Current, Duration),
    /// It has lasted so long that its functions are of interest.
    Stays(Current, Duration),
    /// One that was reported is over.
    Over(Current, Duration),
}

/// How often plugin code was found at one place, and for how long at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Looks, of one each ten milliseconds and worker, that found it.
    pub looks: u64,
    /// The longest that one call was seen, in milliseconds; 0 if none was seen twice.
    pub longest_ms: u64,
}

/// Where plugins spend the workers' time, by sampling. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<HashMap<(PluginIndex, Site), Sampled>>>);

impl Samples {
    fn count(&self, call: Current, time: Duration) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded: by the plugins that a process can load, and the places there are.
        let place = places.entry((call.plugin, call.site)).or_default();
        place.looks += 1;
        place.longest_ms = place.longest_ms.max(time.as_millis() as u64);
    }

    /// Every place that was found in one plugin, the most frequent first.
    pub fn of(&self, plugin: PluginIndex) -> Vec<(Site, Sampled)> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = places.iter().filter(|((owner, _), _)| *owner == plugin);
        let mut found: Vec<_> = own.map(|((_, site), sampled)| (*site, *sampled)).collect();
        drop(places);
        found.sort_by_key(|(site, sampled)| (u64::MAX - sampled.looks, site.to_string()));
        found
    }
}

/// Starts the thread, which ends with the process. Without a `warning` it only counts.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    host: &'static Host,
    workers: usize,
    warning: Option<Duration>,
    samples: Samples,
    log: Log,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut seen: Vec<Option<Seen>> = vec![None; workers];
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = Instant::now();
            for (worker, seen) in (0..=u8::MAX).zip(&mut seen) {
                let news = look(host.current(worker), seen, now, warning);
                if let Some(seen) = seen {
                    samples.count(seen.call, now - seen.since);
                }
                if let Some(news) = news {
                    tell(news, worker, host, &log);
                }
            }
            note_blocker(&seen);
        }
    })
}

/// Who blocks a worker is named if somebody loses patience with this process.
fn note_blocker(seen: &[Option<Seen>]) {
    let blocks = seen.iter().flatten().filter(|seen| seen.shown);
    let first = blocks.min_by_key(|seen| seen.since);
    rohrpost_abi::note_blocker(first.map(|seen| seen.call));
}

/// One look at one worker.
fn look(
    current: Option<Current>,
    seen: &mut Option<Seen>,
    now: Instant,
    warning: Option<Duration>,
) -> Option<News> {
    match (current, seen) {
        (Some(call), Some(before)) if call.sequence == before.call.sequence => {
            let time = now - before.since;
            let warning = warning?;
            if time >= warning && !before.reported {
                before.reported = true;
                return Some(News::Blocks(call, time));
            }
            if time >= warning.max(SHOW_AFTER) && !before.shown {
                before.shown = true;
                return Some(News::Stays(call, time));
            }
            None
        }
        (current, seen) => {
            let before = seen.take().filter(|before| before.reported);
            *seen = current.map(|call| Seen { call, since: now, reported: false, shown: false });
            before.map(|before| News::Over(before.call, now - before.since))
        }
    }
}

fn tell(news: News, worker: u8, host: &'static Host, log: &Log) {
    let (call, time, what) = match news {
        News::Blocks(call, time) => (call, time, "has blocked"),
        News::Stays(call, time) => (call, time, "still blocks"),
        News::Over(call, time) => (call, time, "blocked"),
    };
    let plugin = host.plugins().name(call.plugin).unwrap_or("unknown plugin");
    let (site, ms) = (call.site, time.as_millis());
    let said = format_args!("{plugin}: {site} {what} worker {worker} for {ms} ms");
    match news {
        News::Blocks(..) | News::Over(..) => {
            log.warning("plugin", format_args!("{said}; plugins must not block"));
        }
        News::Stays(..) => {
            log.warning("plugin", format_args!("{said}; {}", stack(worker, call, host)))
        }
    }
}

/// The functions that a worker is in, as the end of a sentence.
fn stack(worker: u8, call: Current, host: &'static Host) -> String {
    match host.stack_of(worker, call) {
        Ok(stack) => {
            let does = if stack.computes { "computes" } else { "waits" };
            let lines = rohrpost_abi::describe(&stack.addresses);
            format!("it {does}, and seems to be in\n  {}", lines.join("\n  "))
        }
        Err(unseen) => format!("where cannot be said: {unseen}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARNING: Option<Duration> = Some(Duration::from_millis(50));

    fn looks(calls: &[(u64, Option<Current>)], warning: Option<Duration>) -> Vec<(u64, News)> {
        let begun = Instant::now();
        let mut seen = None;
        let news = calls.iter().filter_map(|(ms, call)| {
            let now = begun + Duration::from_millis(*ms);
            Some((*ms, look(*call, &mut seen, now, warning)?))
        });
        news.collect()
    }

    fn call(sequence: u64) -> Option<Current> {
        let plugin = rohrpost_abi::PluginIndex::FIRST;
        Some(Current { sequence, plugin, site: Site::Timer })
    }

    #[test]
    fn d_9e_a_call_is_reported_shown_and_summed_up_once_each() {
        let ms = Duration::from_millis;
        let one = call(1).unwrap();
        let calls = [0, 49, 50, 60, 999, 1000, 1010, 5000].map(|at| (at, call(1)));
        let mut calls = calls.to_vec();
        calls.extend([(6000, None), (6010, call(2)), (6020, call(3)), (6030, None)]);
        let expected = [
            (50, News::Blocks(one, ms(50))),
            (1000, News::Stays(one, ms(1000))),
            (6000, News::Over(one, ms(6000))),
        ];
        assert_eq!(looks(&calls, WARNING), expected);
        assert_eq!(looks(&calls, None), [], "nobody wants to know");
    }

    #[test]
    fn samples_count_looks_and_keep_the_longest() {
        let samples = Samples::default();
        let timer = call(1).unwrap();
        let watch = Current { site: Site::Watch, ..timer };
        samples.count(timer, Duration::ZERO);
        samples.count(watch, Duration::from_millis(7));
        samples.count(watch, Duration::from_millis(3));
        let found = samples.of(timer.plugin);
        let expected = [
            (Site::Watch, Sampled { looks: 2, longest_ms: 7 }),
            (Site::Timer, Sampled { looks: 1, longest_ms: 0 }),
        ];
        assert_eq!(found, expected);
    }
}
