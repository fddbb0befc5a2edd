//! Facts of the machine that defaults and checks rest on.
//!
//! Owns the only place where settings look at the machine; everything else takes the facts as a
//! value, so that tests choose them. Never changes anything: raising the descriptor limit is the
//! supervisor's.
//!
//! Diagnostics: none; a fact that cannot be learned is replaced by a careful guess.

use std::fs;
use std::thread;

use rustix::process::{Resource, getrlimit};

use super::host::is_domain;
use super::kind::{KIB, MIB};

/// What the defaults depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cpus: u32,
    /// Physical memory, or the control group's limit where that is lower; bytes.
    pub memory_bytes: u64,
    /// Descriptors that this process may open: the hard limit, which the start raises the soft
    /// one to.
    pub descriptors: u64,
    /// The system's host name, a valid domain name.
    pub hostname: String,
}

impl Machine {
    /// Looks at the machine we run on.
    pub fn detect() -> Self {
        let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let limit = getrlimit(Resource::Nofile).maximum;
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_string_lossy().to_ascii_lowercase();
        Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes: memory_bytes(),
            descriptors: limit.unwrap_or(DESCRIPTORS_UNKNOWN),
            hostname: if is_domain(&hostname) { hostname } else { HOSTNAME_UNKNOWN.into() },
        }
    }
}

/// The name of a machine that has none.
const HOSTNAME_UNKNOWN: &str = "localhost";
/// The kernel's own ceiling where the limit is "unlimited" (`fs.nr_open`).
const DESCRIPTORS_UNKNOWN: u64 = 1 << 20;
/// A guess for machines that do not say how much memory they have.
const MEMORY_UNKNOWN_BYTES: u64 = 512 * MIB;

fn memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let physical = meminfo_total(&meminfo).unwrap_or(MEMORY_UNKNOWN_BYTES);
    // Only the root of the visible hierarchy is read: within a container that is the container's.
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    group.trim().parse().map_or(physical, |limit: u64| limit.min(physical))
}

/// Finds `MemTotal:  16315432 kB`; the kernel's kB are KiB.
fn meminfo_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_total_is_found_in_meminfo() {
        let text = "MemFree: 1 kB\nMemTotal:       16315432 kB\nBuffers: 2 kB\n";
        assert_eq!(meminfo_total(text), Some(16_315_432 * 1024));
        assert_eq!(meminfo_total("MemTotal: many"), None);
    }

    #[test]
    fn the_machine_we_run_on_has_usable_facts() {
        let machine = Machine::detect();
        assert!(machine.cpus >= 1 && machine.memory_bytes > 0 && machine.descriptors > 0);
        assert!(is_domain(&machine.hostname));
    }
}
