//! SIGTERM with everybody at work: fifty senders, next hops that drip or stall by turns, a plugin that
//! holds each mail for a while. The process is out in time, and every mail that was answered 250 is in
//! the queue or has been delivered.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    TEXT, await_count,
    hop::{At, Hop, How},
    list,
};
use crate::{
    plugins::probe::Stage,
    support::{PATIENCE, SmtpClient, eventually},
};

const SENDERS: usize = 50;

const SHUTDOWN: Duration = Duration::from_secs(3);

/// How long a stop may take beyond shutdown-timeout: a loaded machine is not a bug, one that waits for
/// its peers is.
const MARGIN: Duration = Duration::from_secs(20);

/// Sends one mail after the other until the server will have no more of it.
fn send_all(address: SocketAddr, sender: usize, taken: &Mutex<Vec<String>>) {
    let Ok(mut client) = SmtpClient::hello(address) else {
        return;
    };
    for number in 0.. {
        let name = format!("load-{sender}-{number}");
        match client.mail("a@example.org", &format!("{name}@example.net"), TEXT) {
            Ok(reply) if reply.code == 250 => taken.lock().unwrap().push(name),
            Ok(_) | Err(_) => return,
        }
    }
}

/// The mails that a list of recipients names: `load-1-2` of `rcpt to:<load-1-2@example.net>`.
fn names<'a>(texts: impl Iterator<Item = &'a str>) -> HashSet<String> {
    let name = |text: &'a str| {
        let (_, rest) = text.split_once("load-")?;
        Some(format!("load-{}", rest.split_once('@')?.0))
    };
    texts.filter_map(name).collect()
}

#[test]
fn a_stop_under_load_keeps_its_time_and_every_mail() {
    let hop = Hop::start(None);
    hop.set_in_turn(&[
        None,
        Some((At::Dot, How::Drip)),
        None,
        Some((At::Mail, How::Stall)),
        None,
        Some((At::Body, How::Drip)),
    ]);
    let stage = Stage::new(&["10-slow"])
        .smarthost(hop.address())
        .setting("smtp-threads", 2)
        .setting("smarthost-connections", 12)
        .setting("shutdown-timeout", SHUTDOWN.as_secs())
        .setting("plugin-shutdown-timeout", 1)
        .setting("retry-interval", 1);
    stage.script("10-slow message timer:0.2:held true\n10-slow timer-held continue\n");
    let mut server = stage.start();

    let taken = Mutex::new(Vec::new());
    let begun = std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (address, taken) = (server.smtp(), &taken);
            scope.spawn(move || send_all(address, sender, taken));
        }
        eventually("mail that comes, goes and is held", PATIENCE, || {
            let status = server.status();
            let busy = status.count("accepted") >= 150
                && status.count("delivered") >= 20
                && status.count("outgoing_connections") > 6
                && status.count("held") > 0;
            busy.then_some(())
        });
        server.ask_to_end();
        Instant::now()
    });
    let status = server.process().wait(PATIENCE);
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{}", server.process());
    assert!(took < SHUTDOWN + MARGIN, "{took:?}");

    let taken: HashSet<String> = taken.into_inner().unwrap().into_iter().collect();
    let kept = list(&stage.plan);
    let kept = names(kept.iter().filter_map(|mail| mail["recipient"].as_str()));
    let delivered = hop.mails();
    let delivered = names(delivered.iter().map(|mail| mail.recipient.as_str()));
    let lost: Vec<_> = taken.difference(&kept).filter(|name| !delivered.contains(*name)).collect();
    assert_eq!(lost, [""; 0], "answered 250, and neither kept nor delivered");
    assert!(!kept.is_empty() && !delivered.is_empty(), "{} {}", kept.len(), delivered.len());

    // What was kept is delivered by the next one.
    hop.set(None);
    stage.script("");
    let server = stage.start();
    await_count(&server, "queued", 0);
    let delivered = hop.mails();
    let delivered = names(delivered.iter().map(|mail| mail.recipient.as_str()));
    let lost: Vec<_> = taken.difference(&delivered).collect();
    assert_eq!(lost, [""; 0], "answered 250, and never delivered");
}
