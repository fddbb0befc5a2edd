//! Whole-program tests: one binary, one module a subject. They start the real server, talk to it with
//! foreign programs (`tests/tools/fetch.sh` fetches those) and stop it by its process id.
//!
//! No test sleeps for a fixed time, binds a fixed port, or needs the world outside this machine.
//! Random choices come from one seed, printed on failure and set again by `ROHRPOST_SEED`.
#![forbid(unsafe_code)]
// A test that meets what it does not expect is to fail there and then.
#![allow(clippy::unwrap_used)]

mod comparison;
mod containment;
mod crash;
mod dialogue;
mod durability;
mod examples;
mod hops;
mod interop;
mod interop_in;
mod interop_out;
mod kit;
mod libraries;
mod limits;
mod load;
mod logbook;
mod login;
mod manifest;
mod matrix;
mod notices;
mod operation;
mod peers;
mod plugins;
mod results;
mod routes;
mod smuggling;
mod support;
mod tidy;
mod tls;
