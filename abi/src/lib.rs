//! MailerQ's plugin interface as a host offers it.
//!
//! | part | owns |
//! |---|---|
//! | `include/mailerq.h`, `include/mailerq.hpp` | the contract with plugins; a thin layer for C++ |
//! | `sdk/` | the layer for Rust, a crate of its own that knows nothing of this one |
//! | `GUIDE.md` | for authors; its code is compiled and run by the tests |
//! | `load`, `copy` | from files to plugins |
//! | `table`, `plugin` | all [`Plugins`] that were ever loaded, and how far their life has come |
//! | `setting`, `metric` | what a plugin is told by the administrator, and what it counts |
//! | `set`, `sets` | who is asked in which order, and who is in no set of a worker any more |
//! | `generation`, `hook`, `hooks`, `step` | what is called, under which prototype, with what |
//! | `call` | the one way into plugin code |
//! | `callee` | hooks of plugins, ready to be called in a step |
//! | `ask` | a step shown to plugins in a row |
//! | `token`, `slot`, `id` | the names of things, on both sides |
//! | `control` | who has a step |
//! | `answer`, `hold`, `fact` | what plugins say of a step, how they name a hold, and what they are told |
//! | `inbox`, `post` | hand-backs, and callbacks to run, from other threads |
//! | `query` | questions to name servers |
//! | `libev`, `libev_layout` | the loop of plugins that are built on libev, in which the worker then sleeps |
//! | `state`, `command`, `message`, `decision`, `address`, `text` | one worker's cell |
//! | `json`, `json_library`, `note` | messages as objects of the plugin's own json-c or libfastjson; notes |
//! | `access`, `export` | the one way back: `MQ_*` |
//! | `host`, `misuse` | the process's host, and its account of every plugin's mistakes |
//! | `image`, `symbols` | which code lies where in this process, and what its functions are called |
//! | `crash`, `stack`, `unwind` | who ended the process: told from within a signal handler |
//! | `blocked` | where a worker is that a plugin blocks |
//! | `census` | how much each plugin has |
//! | `worker`, `extension` | what the event loop drives |
//! | `allocator` | what becomes of memory that came free |
//!
//! This crate knows neither SMTP nor the event loop: it says what is to be done as [`Command`]s, and is
//! told what happened. It is the only one with `unsafe`.
//!
//! # How a worker drives it
//!
//! ```text
//! main    Plugins::load -> install -> plugins().initialize(set)
//! worker  Worker::enter
//!         for each of exporters(present, ContextInitialize): call_context, then obey
//!         per step: ask, which calls the set of the connection in its order, then obey; as Walked says:
//!         ask the next, wait, or go on
//!         timers, watches: fire_timer, fire_watch, then obey
//!         woken by PostSink: apply_posted, run_post, then obey
//!         answers of name servers: fire_query, then obey
//!         asleep: in foreign_loop, once a WaitWithin came; then obey
//!         obey: take_commands; on Resume: take_verdict, and go on with the chain
//!         for each of exporters(present, ContextCleanup): call_context, then obey; drop_all
//! main    plugins().cleanup()
//!
//! reload  main    prepare -> initialize(set)
//!         worker  admit(fresh), their ContextInitialize; when all workers have: adopt(set)
//!         worker  left(), from time to time: their ContextCleanup, then depart
//! main    when all workers departed: end(those)
//! ```
//!
//! # Invariants
//!
//! Each with the tests below `tests/plugins/` that prove it.
//!
//! 1. No cell is borrowed while plugin code runs, and no plugin code runs while one is borrowed.
//!    (`control.rs`: `d_20_…`, hand-backs from within hooks)
//! 2. A hand-back is recorded, never acted upon, before the callback has returned. (`control.rs`:
//!    `d_20_…` to `d_26_…`)
//! 3. A token is never dereferenced; a stale one finds nothing. (`misuse.rs`, once under the address
//!    sanitizer)
//! 4. What plugins can ask for without end has a limit: slots, commands, output, lines in the log.
//!    (`event.rs`: `the_limit_of_…`; `connection.rs`: `d_40_…`; `log.rs`: `d_b1_…`)
//! 5. A connection is asked about by the plugins with which it began, whatever is reloaded meanwhile;
//!    a plugin is never unloaded, and nothing of it is called after its cleanup hook. (`reload.rs`)
//! 6. Nothing that a plugin throws passes through a frame of ours: the process ends, and says who it
//!    was. (`crash.rs`)
//! 7. A crash in plugin code names the plugin, also on a thread of its own and with its stack used up, and
//!    the process ends as it would have without us. (`report.rs`)
//! 8. A look at a blocked thread changes nothing of what its plugin sees, whatever that plugin says of its
//!    frames: no call ends early, and nothing faults. (`blocked.rs`)
//! 9. libev runs with no cell borrowed, and never on behalf of a plugin while the worker sleeps; what a plugin
//!    that is gone has left in the loop is not called. (`libev.rs`)
//! 10. A hold with a name ends once: after its release, its expiry or its step, the name finds nothing and
//!     owes nothing. (`answer.rs`)
//! 11. An object of JSON belongs to the library of the plugin that is given it, and one reference to us until
//!     the message is closed; no cell is borrowed while a library may run what plugins hung onto it.
//!     (`json.rs`, also under the address sanitizer)
#![deny(
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    clippy::multiple_unsafe_ops_per_block
)]

mod access;
mod address;
mod allocator;
mod answer;
mod ask;
mod blocked;
mod call;
mod callee;
mod census;
mod command;
mod control;
mod copy;
mod crash;
mod decision;
#[allow(non_snake_case, reason = "the header's names")]
pub mod export;
mod extension;
mod fact;
mod generation;
mod hold;
mod hook;
mod hooks;
mod host;
mod id;
mod image;
mod inbox;
mod json;
mod json_library;
mod libev;
mod libev_layout;
mod load;
mod message;
mod metric;
mod misuse;
mod note;
mod plugin;
mod post;
mod query;
mod set;
mod sets;
mod setting;
mod slot;
mod stack;
mod state;
mod step;
mod symbols;
mod table;
mod text;
mod token;
mod unwind;
mod worker;

pub use address::Locals;
pub use allocator::keep_freed_memory;
pub use answer::{ANSWER_BYTES_MAX, Answer, Ruling, Words};
pub use blocked::{Stack, Unseen, stack_of_main};
pub use call::{Current, current_main, watch_main};
pub use callee::Callee;
pub use census::{Count, Holdings};
pub use command::{Command, READ, TIMER_MS_MAX, WATCHES_MAX, WRITE};
pub use copy::Copies;
pub use crash::{end_at_once, expect_exit, note_blocker, report_crashes};
pub use decision::{Admitted, Decided, Decision};
pub use fact::{Fact, TlsFacts};
pub use generation::{
    Accepted, Generation, Mismatch, VERSION_G1, VERSION_G2, VERSION_G2A, VERSION_G3, VERSION_LATEST,
};
pub use hold::Expiry;
pub use hook::{Hook, Site};
pub use host::{
    AlreadyInstalled, Host, HostInit, Level, LogSink, PostSink, Speaker, WORKERS_MAX, install,
    installed, name_of,
};
pub use id::{ConnectionId, MessageId, QueryId, TimerId, WatchId};
pub use json::{Described, JsonEdits, JsonProblem, JsonSource, Made};
pub use libev::ForeignLoop;
pub use load::{LoadError, LoadOptions, OnError, PluginDirectory, Prepared, Skipped};
pub use message::{Direction, Edit, MessageEdits, MessageInit, MessageLabel};
pub use metric::{BUCKETS_MAX, METRICS_MAX, PLUGIN_METRICS_MAX, PluginMetric, Reading};
pub use note::Notes;
pub use plugin::{PLUGINS_MAX, PluginIndex};
pub use query::{QUERIES_MAX, QUERIES_PER_PLUGIN_MAX, QueryAnswer, QueryStatus, RecordKind};
pub use set::PluginSet;
pub use setting::{PluginSettings, SettingsError, plugin_name, setting_key};
pub use state::OUTPUT_BYTES_MAX;
pub use step::{ContextStep, Returned, Step, Verdict, Walked};
pub use symbols::{Symbols, describe};
pub use table::{InitializeError, Plugins};
pub use text::{Terminated, Text};
pub use worker::{ConnectionInit, Counts, EnterError, Exhausted, Worker};
