//! Rohrpost, an open mail transfer runtime.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod control;
pub mod limits;
pub mod log;
pub mod queue;
pub mod settings;
pub mod smtp;
