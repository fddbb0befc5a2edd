//! System calls on the sockets of clients, counted: what a flight of SMTP costs, and no more than that.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use crate::support::{Load, PATIENCE, Server, Tool, Trace};

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
        // Of a commit that takes long the client is told in two parts.
        let slow = if flight == "bdat" { MESSAGES as usize / 2 } else { 0 };
        assert!(reads <= most && writes <= most + slow, "{flight}: {reads} reads, {writes} writes");
    }
}

/// Two mails and a command that is none of theirs in one flight, on a disk that takes seconds for each sync.
#[test]
fn replies_to_a_flight_go_with_the_last_one_and_do_not_wait_for_a_slow_disk() {
    let slow = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"];
    let slow =
        slow.into_iter().chain(["-e", "inject=fdatasync:delay_exit=5000000"]).map(Into::into);
    let command = [Tool::path("strace").into()].into_iter().chain(slow);
    let server = Server::builder().smarthost("127.0.0.1:1".parse().unwrap()).below(command).start();
    let mut stream = TcpStream::connect(server.smtp()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut reply = || loop {
        let line = replies.next().expect("the server answers").unwrap();
        if line.as_bytes()[3] == b' ' {
            return line;
        }
    };
    stream.write_all(b"EHLO client.example\r\n").unwrap();
    assert!(reply().starts_with("220") && reply().starts_with("250"));
    let mail = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nBDAT 4 LAST\r\nab\r\n";
    stream.write_all(format!("NOOP\r\n{mail}{mail}NOOP\r\n").as_bytes()).unwrap();
    let accepted = || server.status().number("/queue/accepted");
    for (committed, count) in [(0, 3), (1, 2)] {
        for _ in 0..count {
            let line = reply();
            assert!(line.starts_with("250"), "{line}");
        }
        assert_eq!(accepted(), committed, "they did not wait for the disk");
        assert!(reply().starts_with("250 2.0.0"));
    }
}
