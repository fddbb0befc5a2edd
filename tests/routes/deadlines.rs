//! The table of deadlines of outgoing connections: a host that stalls, drips or vanishes at each phase. Its
//! connection is free in time and the next host has the mail in the same attempt, unless it may have arrived
//! already; and where there is no next host, the mail leaves at its age all the same (design, section 5).
//!
//! A row is a domain of its own, and all rows run at a time against one server.

use serde_json::{Value, json};

use super::{NameServer, address, by_mx, listeners};
use crate::limits::hop::{At, Hop, How};
use crate::limits::{await_count, id_of};
use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, eventually};

/// Each phase of the dialogue up to the final reply; connect, look-ups, RSET and QUIT have tests of their
/// own here and in `limits/`.
const PHASES: &[At] = &[
    At::Banner,
    At::Ehlo,
    At::StartTls,
    At::Handshake,
    At::Mail,
    At::Rcpt,
    At::Data,
    At::Body,
    At::Chunk,
    At::Dot,
];

const WAYS: &[How] = &[How::Stall, How::Drip, How::Close];

/// What is sent where the host does not read: larger than what the sockets between the two can hold.
const LARGE_BYTES: usize = 12 << 20;

/// The rows with the name of the domain of each.
fn rows() -> Vec<(String, At, How)> {
    let name = |at: At, how: How| format!("{at:?}-{how:?}.test").to_lowercase();
    let rows = PHASES.iter().flat_map(|&at| WAYS.iter().map(move |&how| (name(at, how), at, how)));
    // Who closes has nothing to read or to write by the octet.
    rows.filter(|&(_, at, how)| !(how == How::Close && at == At::Body)).collect()
}

/// A host a row, and last of all one that is well.
fn hosts(rows: &[(String, At, How)]) -> (u16, Vec<Hop>) {
    let (port, listeners) = listeners(rows.len() as u8 + 1);
    let faults = rows.iter().map(|&(_, at, how)| Some((at, how))).chain([None]);
    (port, listeners.into_iter().zip(faults).map(|(host, fault)| Hop::on(host, fault)).collect())
}

/// Each domain has the host of its row first, and if `second` the one that is well behind it.
fn zone(rows: &[(String, At, How)], second: bool) -> Value {
    let well = json!({ "A": [address(rows.len() as u8).to_string()] });
    let mut zone = json!({ "well.test": well });
    for (place, (domain, _, _)) in rows.iter().enumerate() {
        let host = format!("host{place}.test");
        let mut records = vec![json!([10, host])];
        if second {
            records.push(json!([20, "well.test"]));
        }
        zone[domain] = json!({ "MX": records });
        zone[host] = json!({ "A": [address(place as u8).to_string()] });
    }
    zone
}

/// A server that waits a second for each thing.
fn impatient(dns: &NameServer, port: u16) -> ServerBuilder {
    let names =
        ["connect", "smtp-out", "smtp-out-data", "smtp-out-dot", "smtp-out-tls", "smtp-out-idle"];
    let plan = by_mx(dns, port).setting("retry-interval", 1);
    names.iter().fold(plan, |plan, name| plan.setting(&format!("{name}-timeout"), 1))
}

/// One mail a row, from nobody, whom no notice reaches; their ids.
fn post(server: &Server, rows: &[(String, At, How)]) -> Vec<String> {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let line = [&[b'x'; 62][..], b"\r\n"].concat();
    let mut send = |(domain, at, _): &(String, At, How)| {
        let lines = if *at == At::Body { LARGE_BYTES / line.len() } else { 8 };
        let reply = client.mail("", &format!("b@{domain}"), &line.repeat(lines)).unwrap();
        id_of(&reply.require(250).unwrap())
    };
    rows.iter().map(&mut send).collect()
}

/// RFC 5321 4.5.3.2.6: with the whole text out, the mail may have arrived.
fn may_have_arrived(at: At) -> bool {
    matches!(at, At::Chunk | At::Dot)
}

#[test]
fn the_next_host_gets_what_a_slow_one_keeps_at_any_phase_before_the_end() {
    let rows = rows();
    let (port, hosts) = hosts(&rows);
    let dns = NameServer::start(&zone(&rows, true));
    let server = impatient(&dns, port).setting("retry-interval", 600).start();
    post(&server, &rows);
    let (well, slow) = hosts.split_last().unwrap();
    for (place, (domain, at, _)) in rows.iter().enumerate() {
        if may_have_arrived(*at) {
            continue;
        }
        let has = |hop: &Hop| hop.mails().iter().any(|mail| mail.recipient.contains(domain));
        // After a handshake that failed the same host may have it in clear.
        let in_clear = matches!(at, At::StartTls | At::Handshake);
        eventually(&format!("the mail for {domain}"), PATIENCE, || {
            (has(well) || in_clear && has(&slow[place])).then_some(())
        });
        assert!(slow[place].opened() >= 1, "{domain}");
    }
    let waiting = rows.iter().filter(|(_, at, _)| may_have_arrived(*at)).count();
    await_count(&server, "delivered", (rows.len() - waiting) as u64);
    await_count(&server, "retried", waiting as u64);
    await_count(&server, "outgoing_connections", 0);
    assert_eq!(server.status().count("bounced"), 0);
    let taken: usize = hosts.iter().map(|hop| hop.mails().len()).sum();
    assert_eq!(taken, rows.len() - waiting, "none twice");
}

#[test]
fn a_mail_that_only_slow_hosts_could_take_ages_out_at_any_phase() {
    let rows: Vec<_> = rows().into_iter().filter(|(_, at, _)| *at != At::StartTls).collect();
    let (port, hosts) = hosts(&rows);
    let dns = NameServer::start(&zone(&rows, false));
    // What does not get TLS would be sent in clear.
    let server = impatient(&dns, port)
        .setting("max-delivertime", 4)
        .setting("smtp-out-security", "off")
        .start();
    let rows: Vec<_> = rows.into_iter().filter(|(_, at, _)| *at != At::Handshake).collect();
    post(&server, &rows);
    server.await_empty_queue(PATIENCE);
    await_count(&server, "outgoing_connections", 0);
    await_count(&server, "memory_used", 0);
    let taken: Vec<String> = hosts.iter().flat_map(Hop::mails).map(|mail| mail.recipient).collect();
    assert_eq!((taken, server.status().count("delivered")), (Vec::new(), 0));
}
