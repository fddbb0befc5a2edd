//! Every limit and deadline of the whole server, each by a test of its own.
//!
//! Settings make the limits small; what is asserted is the state that follows, never how fast.
//! **Diagnostics**: a state that does not come in time panics with what was awaited.

mod ages;
#[cfg(feature = "count-allocations")]
mod allocations;
mod bounds;
mod calls;
mod client_deadlines;
mod crowd;
mod full_disk;
pub(crate) mod hop;
mod hop_deadlines;
mod memory;
mod opening_deadlines;
mod scarcity;
mod stop;
mod stop_under_load;
mod views;

pub(crate) use self::bounds::resident_kib;

use serde_json::Value;

use crate::support::{PATIENCE, Reply, Server, ServerBuilder, SmtpClient, Status, eventually};

/// A mail text without dots or surprises.
const TEXT: &[u8] = b"Subject: limits\r\n\r\nText.\r\n";

/// Sends one mail over a connection of its own.
fn send(server: &Server, recipient: &str) -> Reply {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.mail("a@example.org", recipient, TEXT).unwrap()
}

/// Sends one mail, which must be taken, and returns its id in the queue.
pub(crate) fn queued(server: &Server, recipient: &str) -> String {
    let reply = send(server, recipient).require(250).unwrap();
    id_of(&reply)
}

/// The first id in `2.0.0 Queued as ID ID …`.
pub(crate) fn id_of(reply: &Reply) -> String {
    let (_, ids) = reply.lines[0].split_once("Queued as ").unwrap();
    ids.split(' ').next().unwrap().to_owned()
}

/// What `rohrpost queue show` says of a mail that must be there.
pub(crate) fn show(plan: &ServerBuilder, id: &str) -> Value {
    serde_json::from_str(&plan.report(&["queue", "show", id])).unwrap()
}

/// What `rohrpost queue list` says.
fn list(plan: &ServerBuilder) -> Vec<Value> {
    let text = plan.report(&["queue", "list"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the status satisfies `is_so`.
pub(crate) fn await_status(server: &Server, what: &str, is_so: impl Fn(&Status) -> bool) {
    eventually(what, PATIENCE, || is_so(&server.status()).then_some(()));
}

/// Waits until a count of the status is `value`.
pub(crate) fn await_count(server: &Server, name: &str, value: u64) {
    let what = format!("{name} = {value}");
    await_status(server, &what, |status| status.count(name) == value);
}
