//! Ten thousand idle connections beside live mail.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{TEXT, await_count, bounds::resident_kib};
use crate::support::{PATIENCE, Server, Sink, SmtpClient};

/// Idle connections, where the descriptor limit allows so many at both ends.
const IDLE: usize = 10_000;
/// The least that still shows something, where they do not.
const LEAST: usize = 2_000;
/// Descriptors that both ends need for everything else.
const OTHERS: usize = 1_000;
/// Mails that flow while the others idle.
const LIVE: usize = 200;

/// Raises the soft limit of descriptors to the hard one; how many idle connections it is good for.
///
/// # Panics
/// When that is less than [`LEAST`].
fn idle_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
    let allowed = limit.maximum.map_or(usize::MAX, |max| max as usize);
    let count = IDLE.min(allowed.saturating_sub(OTHERS));
    println!("{count} idle connections, with {allowed} descriptors");
    assert!(
        count >= LEAST,
        "{allowed} descriptors allow {count} idle connections, which prove nothing; at least {} are needed",
        LEAST + OTHERS
    );
    count
}

#[test]
fn ten_thousand_idle_connections_beside_live_mail() {
    let count = idle_connections();
    let plan = Server::builder()
        .setting("smtp-connections", count + OTHERS / 2)
        .setting("smtp-connections-per-address", 0)
        .setting("smtp-timeout", 600);
    let sink = Sink::start(&plan.directory().join("dump"));
    let mut server = plan.smarthost(sink.address()).start();
    let before = resident_kib(server.process().pid());
    let mut idle: Vec<SmtpClient> =
        (0..count).map(|_| SmtpClient::connect(server.smtp()).unwrap()).collect();
    for client in &mut idle {
        client.reply().unwrap().require(220).unwrap();
    }
    await_count(&server, "incoming_connections", count as u64);
    let grown = resident_kib(server.process().pid()).saturating_sub(before);
    println!("{count} idle connections: {:.2} KiB resident each", grown as f64 / count as f64);
    assert!(grown < 64 * count as u64, "{grown} KiB");

    for number in 0..LIVE {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let to = format!("live{number}@example.net");
        let reply = client.mail("a@example.org", &to, TEXT);
        reply.unwrap().require(250).unwrap();
    }
    sink.await_count(LIVE, PATIENCE);

    for client in &mut idle {
        client.command("NOOP").unwrap().require(250).unwrap();
    }
    assert_eq!(server.status().count("incoming_connections"), count as u64);
    drop(idle);
    await_count(&server, "incoming_connections", 0);
    await_count(&server, "queued", 0);
}
