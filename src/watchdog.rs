//! The thread that notices plugin code which keeps a worker busy (D-9E).
//!
//! It looks every ten milliseconds which call each worker is in. The same call seen over a longer time
//! is reported once with plugin and hook, once with its stack when it has lasted a second, and once more
//! with the whole time when it is over. Each look that finds plugin code counts, so that where plugins
//! spend a worker's time can be told without a clock read per call ([`Samples`]). Workers pay two plain
//! stores per call. The main thread, on which plugins are loaded, begin and end, is watched as well, from
//! before the first of them; what takes less than a second there disturbs nobody.
//!
//! Must never: touch a worker, but for a look at its stack that its plugin does not notice.
//!
//! **Diagnostics**: warnings with plugin, hook or callback, the time, and the functions.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rohrpost_abi::{Current, PluginIndex, Site, Unseen};

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

/// How long plugin code was found at one place, in all and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// The time up to each look that found it since the look before, added up, in microseconds.
    pub busy_us: u64,
    /// The longest that one call was seen, in milliseconds; 0 if none was seen twice.
    pub longest_ms: u64,
}

/// Where plugins spend the workers' time, by sampling. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Samples(Arc<Mutex<HashMap<(PluginIndex, Site), Sampled>>>);

impl Samples {
    /// A look found the call, `since_last` after the one before; it was seen for `time` by now.
    fn count(&self, call: Current, since_last: Duration, time: Duration) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded: by the plugins that a process can load, and the places there are.
        let place = places.entry((call.plugin, call.site)).or_default();
        place.busy_us += since_last.as_micros() as u64;
        place.longest_ms = place.longest_ms.max(time.as_millis() as u64);
    }

    /// Every place that was found in one plugin, the busiest first.
    pub fn of(&self, plugin: PluginIndex) -> Vec<(Site, Sampled)> {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = places.iter().filter(|((owner, _), _)| *owner == plugin);
        let mut found: Vec<_> = own.map(|((_, site), sampled)| (*site, *sampled)).collect();
        drop(places);
        found.sort_by_key(|(site, sampled)| (u64::MAX - sampled.busy_us, site.to_string()));
        found
    }
}

/// Starts the thread, which ends with the process. Without a `warning` it only counts.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    workers: usize,
    warning: Option<Duration>,
    samples: Samples,
    log: Log,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        let mut seen: Vec<Option<Seen>> = vec![None; workers];
        let (mut main, main_warning) = (None, warning.map(|warning| warning.max(SHOW_AFTER)));
        let mut before = Instant::now();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let now = Instant::now();
            let since_last = now - std::mem::replace(&mut before, now);
            for (worker, seen) in (0..=u8::MAX).zip(&mut seen) {
                let current = rohrpost_abi::installed().and_then(|host| host.current(worker));
                let news = look(current, seen, now, warning);
                if let Some(seen) = seen {
                    samples.count(seen.call, since_last, now - seen.since);
                }
                if let Some(news) = news {
                    tell(news, Watched::Worker(worker), &log);
                }
            }
            if let Some(news) = look(rohrpost_abi::current_main(), &mut main, now, main_warning) {
                tell(news, Watched::Main, &log);
            }
            rohrpost_abi::note_blocker(blocker(seen.iter().chain([&main]), now));
        }
    })
}

/// Who blocks a worker or the main thread is named if somebody loses patience with this process.
fn blocker<'a>(seen: impl Iterator<Item = &'a Option<Seen>>, now: Instant) -> Option<Current> {
    let blocks = seen.flatten().filter(|seen| now - seen.since >= SHOW_AFTER);
    blocks.min_by_key(|seen| seen.since).map(|seen| seen.call)
}

/// Whose calls are looked at.
#[derive(Clone, Copy, Debug)]
enum Watched {
    Worker(u8),
    Main,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Worker(worker) => write!(f, "worker {worker}"),
            Watched::Main => f.write_str("the main thread"),
        }
    }
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

fn tell(news: News, watched: Watched, log: &Log) {
    let (call, time, what) = match news {
        News::Blocks(call, time) => (call, time, "has blocked"),
        News::Stays(call, time) => (call, time, "still blocks"),
        News::Over(call, time) => (call, time, "blocked"),
    };
    let plugin = rohrpost_abi::name_of(call.plugin).unwrap_or("unknown plugin");
    let (site, ms) = (call.site, time.as_millis());
    let said = format_args!("{plugin}: {site} {what} {watched} for {ms} ms");
    match news {
        News::Blocks(..) | News::Over(..) => {
            log.warning("plugin", format_args!("{said}; plugins must not block"));
        }
        News::Stays(..) => log.warning("plugin", format_args!("{said}; {}", stack(watched, call))),
    }
}

/// The functions that a thread is in, as the end of a sentence.
fn stack(watched: Watched, call: Current) -> String {
    let stack = match (watched, rohrpost_abi::installed()) {
        (Watched::Worker(worker), Some(host)) => host.stack_of(worker, call),
        (Watched::Worker(_), None) => Err(Unseen::Returned),
        (Watched::Main, _) => rohrpost_abi::stack_of_main(call),
    };
    match stack {
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
    fn who_blocks_for_a_second_is_known_without_warnings() {
        let begun = Instant::now();
        let seen = |sequence, ms| {
            let since = begun + Duration::from_millis(ms);
            let call = call(sequence).unwrap();
            Some(Seen { call, since, reported: false, shown: false })
        };
        let all = [None, seen(1, 500), seen(2, 400), seen(3, 1000)];
        let at = |ms| blocker(all.iter(), begun + Duration::from_millis(ms));
        assert_eq!((at(1399), at(1400), at(9000)), (None, call(2), call(2)));
    }

    #[test]
    fn samples_add_up_the_time_between_looks_and_keep_the_longest() {
        let samples = Samples::default();
        let timer = call(1).unwrap();
        let watch = Current { site: Site::Watch, ..timer };
        let ms = Duration::from_millis;
        samples.count(timer, ms(10), Duration::ZERO);
        samples.count(watch, ms(10), ms(7));
        // The watchdog itself came late.
        samples.count(watch, ms(310), ms(3));
        let found = samples.of(timer.plugin);
        let expected = [
            (Site::Watch, Sampled { busy_us: 320_000, longest_ms: 7 }),
            (Site::Timer, Sampled { busy_us: 10_000, longest_ms: 0 }),
        ];
        assert_eq!(found, expected);
    }
}
