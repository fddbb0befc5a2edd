//! Rohrpost, an open mail transfer runtime.
#![forbid(unsafe_code)]

pub mod smtp;
