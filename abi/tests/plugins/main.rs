//! Real plugins, compiled from C by these tests, against the whole crate.

mod answer;
mod blocked;
mod connection;
mod context;
mod control;
mod crash;
mod decision;
mod event;
mod extra;
mod header;
mod introduce;
mod json;
mod libev;
mod load;
mod log;
mod message;
mod misuse;
mod note;
mod reload;
mod report;
mod support;
