//! Real plugins, compiled from C by these tests, against the whole crate.

mod connection;
mod control;
mod crash;
mod event;
mod header;
mod json;
mod load;
mod log;
mod message;
mod misuse;
mod note;
mod support;
