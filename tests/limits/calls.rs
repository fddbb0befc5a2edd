//! System calls on the sockets of clients, counted: what a flight of SMTP costs, and no more than that.

use crate::support::{Load, Server, Tool, Trace};

const MESSAGES: u64 = 200;
/// The greeting, EHLO and QUIT, and reads that a client was too slow for.
const BESIDE: usize = 40;

/// Reads and writes of sockets while `flight` brings the messages over one connection.
fn calls(flight: &str) -> (usize, usize) {
    let plan = Server::builder().smarthost("127.0.0.1:1".parse().unwrap());
    let output = plan.directory().join("trace");
    let names = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg";
    let strace = ["-f", "-y", "-s", "16", "-e", names, "-o"].map(Into::into);
    let command = [Tool::path("strace").into()].into_iter().chain(strace);
    let mut server = plan.below(command.chain([output.clone().into()])).start();
    let load = format!("--connections 1 --messages {MESSAGES} --octets 4K --flight {flight}");
    Load::on(server.smtp(), &load).run().assert_all(MESSAGES);
    assert!(server.terminate().success(), "{}", server.process());
    let trace = Trace::parse(&std::fs::read_to_string(&output).unwrap());
    let of_sockets = trace.0.iter().filter(|call| {
        let descriptor = call.descriptor();
        ["<TCP", "<socket:"].iter().any(|kind| descriptor.contains(kind))
    });
    let (writes, reads): (Vec<_>, Vec<_>) = of_sockets.partition(|call| call.writes());
    (reads.len(), writes.len())
}

#[test]
fn a_flight_is_one_read_and_one_write() {
    for (flight, flights) in [("lockstep", 4), ("pipelined", 2), ("bdat", 1)] {
        let (reads, writes) = calls(flight);
        let most = flights * MESSAGES as usize + BESIDE;
        assert!(reads <= most && writes <= most, "{flight}: {reads} reads, {writes} writes");
    }
}
