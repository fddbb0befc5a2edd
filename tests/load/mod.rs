//! `rohrpost load` against our own servers and those of others: what it says it sent is what arrived, and
//! what went wrong is told.

mod faults;
mod foreign;
mod pace;
mod secure;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Load, Measured, PATIENCE, Process, Server, Sink, eventually, program, ready};

/// A directory, and a sink that writes into it.
fn sink(arguments: &[&str]) -> (tempfile::TempDir, Sink) {
    let folder = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let sink = Sink::start_on(any, &folder.path().join("dump"), arguments);
    (folder, sink)
}

fn mails(sink: &Sink) -> Vec<Value> {
    let dumped = sink.dumped();
    let lines = dumped.split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect()
}

#[test]
fn every_flight_brings_every_message_in_its_size() {
    for flight in ["lockstep", "pipelined", "bdat"] {
        for more in ["", "--threads 2 --per-connection 3 --connections 7", "--connections 1"] {
            let (_folder, sink) = sink(&[]);
            let line =
                format!("--messages 200 --octets 99=1,4K=1,70000=1 --flight {flight} {more}");
            Load::on(sink.address(), &line).run().assert_all(200);
            let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
            for mail in mails(&sink) {
                *sizes.entry(mail["size"].as_u64().unwrap()).or_default() += 1;
                assert!(mail["body"].as_str().unwrap().ends_with("\r\n"));
            }
            assert_eq!(sizes.values().sum::<u64>(), 200, "{line}");
            assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), [99, 4096, 70_000], "{line}");
        }
    }
}

#[test]
fn recipients_and_domains_are_spread_evenly() {
    for flight in ["lockstep", "pipelined", "bdat"] {
        let (_folder, sink) = sink(&[]);
        let line = format!("--messages 50 --recipients 3 --domains 5 --flight {flight}");
        let load = Load::on(sink.address(), &line);
        load.arg("--from=").arg("--to=a@b.example").run().assert_all(50);
        let mut domains: BTreeMap<String, u64> = BTreeMap::new();
        for mail in mails(&sink) {
            assert_eq!(mail["envelope"], "");
            let recipients = mail["recipients"].as_array().unwrap();
            for (index, recipient) in recipients.iter().enumerate() {
                let (local, domain) = recipient.as_str().unwrap().split_once('@').unwrap();
                assert_eq!(local, format!("a{}", index + 1));
                *domains.entry(domain.to_owned()).or_default() += 1;
            }
        }
        let expected = (1..=5).map(|number| (format!("{number}.b.example"), 30)).collect();
        assert_eq!(domains, expected, "{flight}");
    }
}

#[test]
fn what_the_server_counts_is_what_was_sent() {
    let server = Server::builder().start();
    let mut total = 0;
    for flight in ["lockstep", "pipelined", "bdat"] {
        let line = format!("--messages 300 --threads 2 --recipients 2 --flight {flight}");
        let measured = Load::on(server.smtp(), &line).run();
        measured.assert_all(300);
        assert!(measured.number("/latency_us/p50") <= measured.number("/latency_us/max"));
        assert!(measured.number("/seconds") > 0.0 && measured.number("/cpu_seconds") > 0.0);
        total += 600;
        assert_eq!(server.status().count("accepted"), total, "mails, one a recipient");
    }
    assert_eq!(server.queue_count(), total);
}

#[test]
fn a_sink_of_several_threads_takes_as_much() {
    let arguments = ["sink", "--discard", "--threads", "3", "--listen", "127.0.0.1:0"];
    let mut sink = Process::spawn("rohrpost sink", program().args(arguments));
    let (addresses, _) = sink.await_line(PATIENCE, |line| ready(line, "sink"));
    for flight in ["lockstep", "bdat"] {
        let line = format!("--messages 500 --per-connection 20 --flight {flight}");
        Load::on(addresses[0], &line).run().assert_all(500);
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", sink.pid())).unwrap();
    let named = tasks.filter(|task| {
        let name = task.as_ref().unwrap().path().join("comm");
        std::fs::read_to_string(name).unwrap_or_default() == "sink\n"
    });
    assert_eq!(named.count(), 3);
    assert!(sink.terminate(PATIENCE).success());
}

#[test]
fn a_table_says_the_same_to_people() {
    let (folder, sink) = sink(&["--refuse", "dot=451@30%"]);
    let mut load = Load::plain(sink.address(), "--messages 100").spawn();
    let code = load.wait(PATIENCE).code();
    let table = load.stdout.complete();
    let arrived = std::fs::read_to_string(folder.path().join("dump")).unwrap().lines().count();
    assert_eq!(code, Some(1));
    let refused = 100 - arrived;
    for part in [
        "100 messages in ".to_owned(),
        format!("accepted   {arrived}, "),
        format!("replies    250: {arrived}, 451: {refused}"),
        "latency    p50 ".to_owned(),
        "connections opened, 0 failed".to_owned(),
    ] {
        assert!(table.contains(&part), "{part}: {table}");
    }
}

#[test]
fn idle_connections_are_held_until_told_otherwise() {
    let mut server = Server::builder().start();
    let mut load = Load::on(server.smtp(), "--idle --connections 200 --threads 2").spawn();
    load.await_line(PATIENCE, |line| line.starts_with("ready connections=200 ").then_some(()));
    eventually("200 sessions", PATIENCE, || {
        (server.status().count("incoming_connections") == 200).then_some(())
    });
    assert!(load.try_wait().is_none(), "it holds them");
    load.ask_to_end();
    let measured = Measured::of(&mut load);
    assert_eq!((measured.code, measured.count("connections")), (Some(0), 200), "{measured:?}");
    assert!(server.terminate().success());
}

#[test]
fn the_first_ending_signal_ends_a_load_and_it_says_what_it_has() {
    let (_folder, sink) = sink(&[]);
    let mut load = Load::on(sink.address(), "--seconds 600 --connections 3").spawn();
    sink.await_count(100, PATIENCE);
    load.ask_to_end();
    let measured = Measured::of(&mut load);
    let messages = measured.count("messages");
    assert!(messages >= 100, "{measured:?}");
    measured.assert_all(messages);
    assert_eq!(sink.count() as u64, messages);
}

fn password_file(folder: &Path, password: &str) -> std::path::PathBuf {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    file
}
