//! Real plugins, compiled from C by these tests, against the whole crate.

mod connection;
mod control;
mod crash;
mod event;
mod header;
mod introduce;
mod load;
mod log;
mod message;
mod misuse;
mod reload;
mod support;
