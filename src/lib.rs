//! Rohrpost, an open mail transfer runtime.
#![forbid(unsafe_code)]

pub mod blocking;
pub mod cli;
pub mod clock;
pub mod control;
pub mod delivery;
pub mod limits;
pub mod lock;
pub mod log;
pub mod mailboxes;
pub mod memory;
pub mod metrics;
pub mod net;
pub mod plugin;
pub mod program;
pub mod queue;
pub mod settings;
pub mod sink;
pub mod smtp;
pub mod supervisor;
pub mod view;
pub mod watchdog;
pub mod worker;
