//! Owns: starting worker threads, each on a processor of its own.
//!
//! Must never: hold a worker, or know what it does.
//!
//! Diagnostics: a thread that cannot be started is the caller's to report. A processor that cannot
//! be had, because the process may not run there any more, leaves the thread unpinned and slower,
//! nothing else.

use std::io;
use std::thread::{self, JoinHandle};

/// Whether worker threads stay on one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// Worker `n` runs on the `n`-th of the processors that the process may use, and starts over at
    /// the first.
    #[default]
    Auto,
    /// The system decides.
    Off,
}

/// How many processors the process may use, at least 1: the sensible number of workers.
pub fn processors() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1))
}

/// Starts a thread called `name` that runs `work(index)`. To be called from a thread that is not
/// pinned itself, since a thread inherits the processors of the one that starts it.
pub fn spawn<R: Send + 'static>(
    name: &str,
    index: usize,
    pin: Pin,
    work: impl FnOnce(usize) -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    let core = match pin {
        Pin::Auto => core_affinity::get_core_ids()
            .filter(|cores| !cores.is_empty())
            .map(|cores| cores[index % cores.len()]),
        Pin::Off => None,
    };
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(core) = core {
            core_affinity::set_for_current(core);
        }
        work(index)
    })
}
