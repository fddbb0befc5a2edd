//! Kill -9 under load: what was answered 250 is delivered, and what is delivered twice is explained.
//!
//! Rounds: `ROHRPOST_KILL_ROUNDS`, else 50. Choices: `ROHRPOST_SEED`, printed. A failure names the lost
//! mails, or the round with more duplicates than its bound.
//!
//! # The bound on duplicates
//! A mail is delivered again after a kill only if the sink had taken it and the record that says so was
//! not yet written. Just before the kill we read, in this order: the sink's count C of mails taken; the
//! server's status with `outgoing_connections` O and `settles_unwritten` S. After the kill the sink is
//! stopped and counted again: D. Take a mail that the sink took before the kill and whose record was
//! not written at the kill. Either the sink took it after C was read: there are at most D - C of those.
//! Or it had taken it before, and so before O and S were: at that moment its reply was still on its way
//! to us (at most one mail a connection: O) or had been read and its record was not yet written (S).
//! So a round may cause at most O + S + (D - C) duplicates. Each round has a sink of its own, which
//! tells by whom a copy was taken; within one round, no mail may come twice at all.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::support::{PATIENCE, Random, Server, ServerBuilder, Sink, SmtpClient, eventually};

const ROUNDS: u64 = 50;
const CONNECTIONS: u64 = 6;

/// A connection stops by itself after this many mails, so that no round is endless.
const MAILS_A_CONNECTION_MAX: u64 = 5_000;

/// The kill comes when this many mails at most were answered, and then this much later at most.
const ANSWERS_BEFORE_KILL_MAX: u64 = 400;
const MICROSECONDS_BEFORE_KILL_MAX: u64 = 4_000;

const DRAIN: Duration = Duration::from_secs(300);

/// What all recipients of this test begin with; one mail, one recipient, one name.
const NAME: &str = "crash-";

/// Sends mails over one connection until it breaks; returns the names of those answered 250.
fn load(address: SocketAddr, prefix: String, answered: Arc<AtomicU64>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut noted = Vec::new();
        let Ok(mut client) = SmtpClient::hello(address) else {
            return noted;
        };
        for number in 0..MAILS_A_CONNECTION_MAX {
            let name = format!("{prefix}-{number}");
            let recipient = format!("{name}@example.net");
            match client.mail("a@example.org", &recipient, b"Subject: crash\r\n\r\nText.\r\n") {
                Ok(reply) if reply.code == 250 => {
                    noted.push(name);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => (),
                Err(_) => break,
            }
        }
        noted
    })
}

/// The names in a sink's dump with how often each came: one mail a line, each name once a mail.
fn delivered(dump: &[u8]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in dump.split(|&byte| byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        let names: HashSet<&str> = text
            .match_indices(NAME)
            .filter_map(|(at, _)| text[at..].split_once('@').map(|(name, _)| name))
            .collect();
        for name in names {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// One round: what was answered, what its sink took, and how many duplicates its kill may cause.
struct Round {
    noted: Vec<String>,
    delivered: HashMap<String, usize>,
    duplicates_max: u64,
}

/// Loads a server on the queue of `plan`, and kills it.
fn round(plan: &ServerBuilder, number: u64, random: &mut Random) -> Round {
    let dump = plan.directory().join(format!("round{number}.jsonl"));
    // Every second sink is slow, so that kills meet a long queue as well as a short one.
    let delay = if number % 2 == 1 { "--delay-ms=5" } else { "--delay-ms=0" };
    let sink = Sink::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), &dump, &[delay]);
    let mut server = plan.clone().smarthost(sink.address()).start();

    let answered = Arc::new(AtomicU64::new(0));
    let loaders: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let prefix = format!("{NAME}{number}-{connection}");
            load(server.smtp(), prefix, Arc::clone(&answered))
        })
        .collect();
    let target = random.below(ANSWERS_BEFORE_KILL_MAX);
    eventually("answers before the kill", PATIENCE, || {
        (answered.load(Ordering::Relaxed) >= target).then_some(())
    });
    std::thread::sleep(Duration::from_micros(random.below(MICROSECONDS_BEFORE_KILL_MAX)));

    let taken_before = sink.count() as u64;
    let status = server.status();
    server.kill9();
    let noted = loaders
        .into_iter()
        .flat_map(|loader| loader.join().expect("a loader does not panic"))
        .collect();
    let delivered = delivered(&sink.terminate());
    let taken: u64 = delivered.values().map(|&count| count as u64).sum();
    let in_flight = status.count("outgoing_connections") + status.count("settles_unwritten");
    Round { noted, delivered, duplicates_max: in_flight + taken.saturating_sub(taken_before) }
}

/// Starts a last server, which nobody kills, and returns what its sink took.
fn drain(plan: &ServerBuilder) -> HashMap<String, usize> {
    let sink = Sink::start(&plan.directory().join("drain.jsonl"));
    let mut server = plan.clone().smarthost(sink.address()).start();
    server.await_empty_queue(DRAIN);
    assert!(server.terminate().success(), "{}", server.process());
    delivered(&sink.terminate())
}

/// Every noted name is in some sink's dump.
fn assert_nothing_lost(rounds: &[Round], drained: &HashMap<String, usize>) {
    let arrived: HashSet<&String> =
        rounds.iter().flat_map(|round| round.delivered.keys()).chain(drained.keys()).collect();
    let noted = rounds.iter().flat_map(|round| &round.noted);
    let lost: Vec<_> = noted.filter(|name| !arrived.contains(name)).take(20).collect();
    assert!(lost.is_empty(), "answered 250 and lost: {lost:?}");
}

/// See the bound above. Returns how many duplicates there were.
fn assert_duplicates_explained(rounds: &[Round], drained: &HashMap<String, usize>) -> u64 {
    let mut later: HashSet<&String> = drained.keys().collect();
    let mut total = 0;
    assert_once_each("drain", drained);
    for (number, round) in rounds.iter().enumerate().rev() {
        assert_once_each(&format!("round {number}"), &round.delivered);
        let again: Vec<_> = round.delivered.keys().filter(|name| later.contains(name)).collect();
        let bound = round.duplicates_max;
        assert!(again.len() as u64 <= bound, "round {number}: over {bound} duplicates: {again:?}");
        total += again.len() as u64;
        later.extend(round.delivered.keys());
    }
    total
}

fn assert_once_each(what: &str, delivered: &HashMap<String, usize>) {
    let twice: Vec<_> = delivered.iter().filter(|&(_, &count)| count > 1).collect();
    assert!(twice.is_empty(), "{what}: twice within one life of the server: {twice:?}");
}

#[test]
fn kill_9_under_load_loses_nothing() {
    let mut random = Random::from_environment("kill_9_under_load_loses_nothing");
    let rounds = std::env::var("ROHRPOST_KILL_ROUNDS")
        .map_or(ROUNDS, |text| text.parse().expect("ROHRPOST_KILL_ROUNDS is a number"));
    let plan = Server::builder().setting("retry-interval", 1);
    let rounds: Vec<Round> = (0..rounds).map(|number| round(&plan, number, &mut random)).collect();
    let drained = drain(&plan);

    assert_nothing_lost(&rounds, &drained);
    let duplicates = assert_duplicates_explained(&rounds, &drained);
    let noted: usize = rounds.iter().map(|round| round.noted.len()).sum();
    println!("{} kills, {noted} mails answered 250, {duplicates} duplicates", rounds.len());
}

#[test]
fn the_judgement_finds_losses_and_unexplained_duplicates() {
    let names = |text: &str| delivered(text.as_bytes());
    let dump = "{\"recipients\":[\"crash-1@x\"],\"text\":\"crash-1@x\"}\ncrash-2@x\ncrash-2@x\n";
    assert_eq!(names(dump), HashMap::from([("crash-1".into(), 1), ("crash-2".into(), 2)]));

    let round = |noted: &[&str], dump: &str, duplicates_max| Round {
        noted: noted.iter().map(|&name| name.to_owned()).collect(),
        delivered: names(dump),
        duplicates_max,
    };
    let fails = |check: &dyn Fn() -> u64| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err()
    };
    let kept = [round(&["crash-1", "crash-2"], "crash-1@x\n", 1)];
    let lost = |rest: &str| {
        assert_nothing_lost(&kept, &names(rest));
        0
    };
    lost("crash-2@x\n");
    assert!(fails(&|| lost("crash-3@x\n")));
    assert_eq!(assert_duplicates_explained(&kept, &names("crash-1@x\ncrash-2@x\n")), 1);
    let strict = [round(&[], "crash-1@x\n", 0)];
    assert!(fails(&|| assert_duplicates_explained(&strict, &names("crash-1@x\n"))));
    assert!(fails(&|| assert_duplicates_explained(&[], &names("crash-1@x\ncrash-1@x\n"))));
}
