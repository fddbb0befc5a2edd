//! Many connections parked by a plugin at once, other mail meanwhile, and the memory afterwards. Only
//! with the feature `count-allocations`: the memory is what it counts.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::probe::{Stage, await_status, client, compiled, mail, say};
use crate::support::{PATIENCE, Sanitizer, Server, within};

/// As many as the descriptors of the test and of the server allow with the usual limit of 20,000.
const PARKED: usize = 10_000;
/// Enough to make every table that a server has in its steady state, and the one spare page that each
/// slab keeps.
const WARM: usize = 1_000;
/// The log keeps eight bytes for each mail of its newest segment, whatever becomes of it: so that this
/// stays small beside what is measured, mails come with pauses that are filled with other commands.
const NOOPS_PER_MAIL: usize = 200;

/// The descriptors of this process: its soft limit becomes its hard one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, limit).expect("a soft limit can be raised to the hard one");
}

fn line_of(stream: &mut BufReader<TcpStream>, start: &str) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the server answers");
    assert!(line.starts_with(start), "expected {start}, got {line:?}");
}

/// Opens `count` connections, each parked at its connect and again, all of them at once, at its MAIL.
fn park(server: &Server, count: usize) {
    let mut streams: Vec<BufReader<TcpStream>> = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = TcpStream::connect(server.smtp()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a stream can have a deadline");
        streams.push(BufReader::with_capacity(512, stream));
    }
    for stream in &mut streams {
        line_of(stream, "220 ");
        stream.get_mut().write_all(b"HELO parked.example\r\n").expect("the dialogue goes on");
        line_of(stream, "250 ");
    }
    for stream in &mut streams {
        stream
            .get_mut()
            .write_all(b"MAIL FROM:<someone.to.be.parked@example.org>\r\n")
            .expect("the dialogue goes on");
    }
    for stream in &mut streams {
        line_of(stream, "250 ");
    }
}

/// Waits until everything has ended, then says how much memory is in use.
fn live_bytes(server: &Server, clients: u64) -> u64 {
    await_status(server, "incoming_connections", clients);
    for number in ["held", "outgoing_connections", "queued", "memory_used"] {
        await_status(server, number, 0);
    }
    server.status().count("live_bytes")
}

#[test]
fn ten_thousand_parked_connections_disturb_nobody_and_leave_nothing() {
    raise_descriptor_limit();
    let stage = Stage::new(&[])
        .setting("smtp-connections", PARKED + 100)
        .setting("smtp-out-idle-timeout", 1)
        .setting("smtp-threads", 2);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/park.c");
    let text = std::fs::read_to_string(source).unwrap();
    stage.add("10-park", &compiled(&text, Sanitizer::Off));
    let mut stage = stage;
    let sink = stage.sink(&["--discard"]);
    stage.plan = stage.plan.environment("PARK_SECONDS", "1").smarthost(sink.address());
    let server = stage.start();
    let mut worker = client(&server);
    let mut traffic = |parking: &AtomicBool| {
        let mut mails = 0;
        while parking.load(Ordering::Relaxed) || mails == 0 {
            mail(&mut worker, "traffic@example.org");
            mails += 1;
            for _ in 0..NOOPS_PER_MAIL {
                say(&mut worker, "NOOP", 250);
            }
        }
        mails
    };

    let mut run = |count| {
        let parking = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let parked = scope.spawn(|| {
                park(&server, count);
                parking.store(false, Ordering::Relaxed);
            });
            let mails = traffic(&parking);
            parked.join().unwrap();
            mails
        })
    };
    run(WARM);
    let before = live_bytes(&server, 1);
    let mails = run(PARKED);
    assert!(mails > 10, "{mails} mails passed meanwhile");
    // Tables that grew are given back within a second.
    let mut after = 0;
    let freed = within(PATIENCE, || {
        after = live_bytes(&server, 1);
        (after <= before + before / 100).then_some(())
    });
    assert!(freed.is_some(), "{before} bytes before, {after} after");
}
