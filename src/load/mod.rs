//! `rohrpost load`: sends mail as fast as a server takes it, or at a rate, and measures.
//!
//! | file | owns |
//! |---|---|
//! | `plan` | what is sent to whom, made ready before the clock starts |
//! | `letter` | texts of all sizes, out of one piece of memory |
//! | `envelope` | MAIL and RCPT |
//! | `transaction` | the order of one message's commands and replies, as values |
//! | `replies` | codes out of octets |
//! | `pace` | when each message of an open loop is due |
//! | `connection` | one connection, from the connect to QUIT |
//! | `worker` | the connections of one thread, on a reactor |
//! | `tally` | counts and latencies |
//! | `report` | what is printed |
//!
//! A load must cost little beside the server that it measures: what is sent is made once, a message
//! takes no allocation, and replies are reduced to their codes. From the banner to the login
//! [`smtp::client`](crate::smtp::client) speaks, the same as for the real server; then `transaction` does.
//!
//! It verifies no certificate, keeps no message for a second attempt, and is bounded in connections, memory
//! and time: an answer that does not come in time ends its connection.
//!
//! **Diagnostics**: what the server refused is counted by code; the first failure of a connection is
//! told in words. Exit codes: 0 all was accepted, 1 not all, 75 and 78 as elsewhere.

mod connection;
mod envelope;
mod letter;
mod pace;
mod plan;
mod replies;
mod report;
mod tally;
mod transaction;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rohrpost_reactor::{Config, Pin, Reactor, Sender, SystemClock, spawn};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{self, Load};
use crate::program::complain;

use plan::{Plan, PlanError};
use tally::Tally;
use worker::{Halt, Io, Worker};

/// Not every message was accepted.
const EXIT_NOT_ALL: u8 = 1;

/// Runs a load to its end, or until SIGTERM or SIGINT, and prints what it measured; returns the exit code.
pub fn run(load: &Load) -> u8 {
    let plan = match Plan::of(load) {
        Ok(plan) => Arc::new(plan),
        Err(error) => return complain(&error, exit(&error)),
    };
    raise_descriptor_limit();
    let before = cpu_time();
    let tally = match tally_of(&plan) {
        Ok(tally) => tally,
        Err(error) => {
            return complain(format!("the load failed: {error}"), cli::EXIT_TRY_AGAIN);
        }
    };
    let cpu = cpu_time().saturating_sub(before);
    let all_accepted = report::print(&plan, &tally, cpu, load.json);
    if let Some(why) = &tally.failure {
        complain(why, EXIT_NOT_ALL);
    }
    if all_accepted { 0 } else { EXIT_NOT_ALL }
}

fn exit(error: &PlanError) -> u8 {
    match error {
        PlanError::Resolve { .. } => cli::EXIT_TRY_AGAIN,
        PlanError::NoAddress { .. }
        | PlanError::Name { .. }
        | PlanError::Password { .. }
        | PlanError::Tls(_) => cli::EXIT_SETTINGS,
    }
}

/// What all threads counted together.
fn tally_of(plan: &Arc<Plan>) -> io::Result<Tally> {
    let mut reactors: Vec<Io> = (0..plan.threads)
        .map(|_| Reactor::new(Config::default(), SystemClock::new()))
        .collect::<io::Result<_>>()?;
    let senders: Vec<Sender<Halt>> = reactors.iter().map(Reactor::sender).collect();
    let mut threads: Vec<JoinHandle<io::Result<Tally>>> = Vec::new();
    for (index, mut io) in (0..).zip(reactors.drain(..)) {
        let mut worker = Worker::new(Arc::clone(plan), index, senders.clone(), &mut io)?;
        let work = move |_| io.run(&mut worker).map(|()| worker.into_tally());
        threads.push(spawn("load", index as usize, Pin::Off, work)?);
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let handle = signals.handle();
    let listener = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in &mut signals {
            worker::halt(&senders);
        }
    })?;
    let mut tally = Tally::default();
    for thread in threads {
        let counted = thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
        tally.add(counted);
    }
    handle.close();
    // It waits for nothing but signals, and those are over.
    let _ = listener.join();
    Ok(tally)
}

/// What this process has computed so far, in all its threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Each connection takes a descriptor. Where the limit stays as it is, what does not fit fails and says
/// so.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
