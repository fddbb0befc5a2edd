//! What plugins mean to a connection: the order in which they are asked, and what they may see.
//!
//! - [`answer`] is what a plugin says of a step, as a reply.
//! - [`chain`] is pure: which plugin comes next in one step, given what the last one answered.
//! - [`census`] is what each plugin has and takes.
//! - [`failure`] is what becomes of a step that a plugin failed.
//! - [`trace`] writes down every call, for authors.
//! - [`view`] walks a chain through the plugin interface of one worker.
//!
//! Neither touches a socket; `worker/` joins them to connections, timers and watches.

pub mod answer;
pub mod census;
pub mod chain;
pub mod failure;
pub mod trace;
pub mod view;
