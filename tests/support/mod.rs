//! What the whole-program tests share: the server and the sink as processes, foreign tools, a plain
//! SMTP client, plugins compiled from C, and waiting with a deadline.
//!
//! Nothing here knows what is being tested, and nothing waits without a bound. **Diagnostics**: every
//! failure panics with the step, the process and the tail of what that process wrote.

mod certificate;
mod client;
mod library;
mod load;
mod plugin;
mod process;
mod seed;
mod server;
mod sink;
mod tool;
mod trace;
mod wait;

#[allow(unused_imports, reason = "an offer to every test module, not all taken yet")]
pub(crate) use self::{
    certificate::{Authority, Certificate},
    client::{Reply, SmtpClient},
    library::Library,
    load::{Load, Measured},
    plugin::{Sanitizer, asan_library, compile_plugin, compile_plugin_with},
    process::{Process, Written},
    seed::Random,
    server::{Server, ServerBuilder, Status, program, ready},
    sink::Sink,
    tool::{Listener, Tool, fresh_port},
    trace::{Call, Trace},
    wait::{PATIENCE, eventually, within},
};
