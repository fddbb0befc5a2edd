//! Delivery by MX: routes that a foreign name server gives, hosts that refuse, stall and vanish.
//!
//! Hosts are loopback addresses, 127.0.0.2 and so on, all on one port that the system picks.
//! **Diagnostics**: a state that does not come in time panics with what was awaited.

mod crowd;
mod deadlines;
mod fallback;
mod look_ups;
pub(crate) mod name_server;
mod outcomes;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, ServerBuilder, eventually};
use name_server::NameServer;

/// Listeners on 127.0.0.2, 127.0.0.3 and so on, all of one port.
fn listeners(count: u8) -> (u16, Vec<TcpListener>) {
    eventually("a port that is free on all addresses", PATIENCE, || {
        let mut listeners: Vec<TcpListener> = Vec::new();
        for place in 0..count {
            let port = listeners.first().map_or(0, |first| first.local_addr().unwrap().port());
            let address = SocketAddr::from((address(place), port));
            listeners.push(TcpListener::bind(address).ok()?);
        }
        Some((listeners[0].local_addr().unwrap().port(), listeners))
    })
}

/// The address of the host at `place`.
fn address(place: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + place)
}

/// A server that delivers by MX, asks `dns` alone and may send to this machine.
fn by_mx(dns: &NameServer, port: u16) -> ServerBuilder {
    Server::builder()
        .setting("smarthost", "")
        .setting("smtp-threads", 1)
        .setting("smtp-hostname", "us.example")
        .setting("dns-servers", dns.address())
        .setting("dns-private-targets", "127.0.0.0/8")
        .setting("smtp-out-port", port)
}

/// A zone where each domain has the hosts `mx0.test`, `mx1.test` and so on, with these preferences.
fn zone(domains: &[(&str, &[u16])]) -> Value {
    let mut zone = json!({});
    for (domain, preferences) in domains {
        let hosts = preferences.iter().enumerate();
        let records: Vec<Value> = hosts.map(|(at, p)| json!([p, format!("mx{at}.test")])).collect();
        zone[*domain] = json!({ "MX": records });
        for place in 0..preferences.len() as u8 {
            zone[format!("mx{place}.test")] = json!({ "A": [address(place).to_string()] });
        }
    }
    zone
}

/// What `show` says of a mail once it is in `state`.
fn await_state(server: &Server, id: &str, state: &str) -> Value {
    eventually(&format!("a mail that is {state}"), PATIENCE, || {
        let mail = crate::limits::show(server.plan(), id);
        (mail["state"] == state).then_some(mail)
    })
}
