//! memory-limit: too much mail at once is answered 452 4.3.1 and nobody waits for anybody (design §5).

use std::sync::Barrier;

use super::{
    await_count, await_status,
    bounds::resident_kib_max,
    hop::{At, Hop, How},
    queued, show,
};
use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, eventually};

const MIB: usize = 1 << 20;
/// The least that memory-limit allows.
const BUDGET: usize = 16 * MIB;
const MAIL_BYTES: usize = 4 * MIB;
const CLIENTS: usize = 12;

/// A hop that sends every connection away for now.
fn absent() -> Hop {
    Hop::start(Some((At::Banner, How::Say("421 4.3.2 not now"))))
}

fn narrow(hop: &Hop) -> ServerBuilder {
    Server::builder()
        .smarthost(hop.address())
        .setting("memory-limit", "16MiB")
        .setting("smtp-maxsize", "16MiB")
        .setting("smtp-connections-per-address", 0)
}

fn text(bytes: usize) -> Vec<u8> {
    [&[b'x'; 62][..], b"\r\n"].concat().repeat(bytes / 64)
}

/// Every mail that was taken arrives whole, and all memory is given back.
fn all_arrive(server: &Server, hop: &Hop, mails: usize) {
    hop.set(None);
    let what = format!("{mails} mails");
    eventually(&what, PATIENCE, || (hop.mails().len() >= mails).then_some(()));
    server.await_empty_queue(PATIENCE);
    await_count(server, "memory_used", 0);
    let taken = hop.mails();
    assert_eq!(taken.len(), mails);
    let whole = |bytes| (MAIL_BYTES..MAIL_BYTES + 4096).contains(&bytes);
    assert!(taken.iter().all(|mail| whole(mail.bytes)), "{taken:?}");
}

/// SIZE= is reserved when the text begins: what does not fit is refused before it is sent, and what is
/// only announced keeps nobody out.
#[test]
fn announced_mail_that_does_not_fit_is_refused_before_it_is_sent() {
    let hop = absent();
    let server = narrow(&hop).start();
    let mut clients: Vec<SmtpClient> =
        (0..CLIENTS).map(|_| SmtpClient::hello(server.smtp()).unwrap()).collect();
    let announced = format!("MAIL FROM:<a@example.org> SIZE={MAIL_BYTES}");
    for client in &mut clients {
        client.command(&announced).unwrap().require(250).unwrap();
        client.command("RCPT TO:<b@example.net>").unwrap().require(250).unwrap();
    }
    await_count(&server, "memory_used", 0);
    let codes: Vec<u16> =
        clients.iter_mut().map(|client| client.command("DATA").unwrap().code).collect();
    let taken = codes.iter().filter(|&&code| code == 354).count();
    assert!(codes.iter().all(|code| [354, 452].contains(code)), "{codes:?}");
    assert!((1..=BUDGET / MAIL_BYTES).contains(&taken), "{codes:?}");
    // While there is no room, MAIL says so at once.
    let mut late = SmtpClient::hello(server.smtp()).unwrap();
    let late_code = late.command(&announced).unwrap().code;
    assert!([250, 452].contains(&late_code), "the other worker may have room: {late_code}");
    drop(clients);
    await_count(&server, "memory_used", 0);
    late.command("RSET").unwrap().require(250).unwrap();
    late.command(&announced).unwrap().require(250).unwrap();
}

/// Without SIZE= a text that does not fit is read to its end and answered 452; the others are taken,
/// the process stays near its budget, and afterwards there is room again.
#[test]
fn too_many_large_mails_at_once_are_refused_after_the_dot() {
    let hop = absent();
    let mut server = narrow(&hop).start();
    let (address, all_sent) = (server.smtp(), Barrier::new(CLIENTS));
    let text = text(MAIL_BYTES);
    let before = resident_kib_max(server.process().pid());
    let send = || {
        let mut client = SmtpClient::hello(address).unwrap();
        let to = ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"];
        for line in to {
            client.command(line).unwrap().require(250).unwrap();
        }
        client.command("DATA").unwrap().require(354).unwrap();
        client.send(&text).unwrap();
        all_sent.wait();
        client.command(".").unwrap()
    };
    let replies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let taken = replies.iter().filter(|reply| reply.code == 250).count();
    for reply in &replies {
        let room = reply.code == 452 && reply.lines[0].starts_with("4.3.1 ");
        assert!(reply.code == 250 || room, "{reply:?}");
    }
    assert!((1..=BUDGET / MAIL_BYTES).contains(&taken), "{taken} taken");
    let used = server.status().count("memory_used");
    assert!(used <= BUDGET as u64, "{used} octets");
    let grown = resident_kib_max(server.process().pid()) - before;
    println!("{CLIENTS} x {MAIL_BYTES} octets at once: {grown} KiB more were resident");
    assert!(grown < 8 * BUDGET as u64 / 1024, "{grown} KiB more");

    let mut client = SmtpClient::hello(address).unwrap();
    let again = client.mail("a@example.org", "b@example.net", &text);
    again.unwrap().require(250).unwrap();
    drop(client);
    all_arrive(&server, &hop, taken + 1);
}

/// While the hop is down texts leave memory, so that more mail is taken than the budget holds; when
/// the hop is back they are read from the disk.
#[test]
fn texts_leave_memory_while_the_hop_is_down() {
    const MAILS: usize = 2 * BUDGET / MAIL_BYTES + 4;
    let hop = absent();
    let server = narrow(&hop).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for _ in 0..MAILS {
        let reply = client.mail("a@example.org", "b@example.net", &text(MAIL_BYTES));
        reply.unwrap().require(250).unwrap();
    }
    await_status(&server, "texts that left memory", |status| {
        status.count("memory_used") <= BUDGET as u64
    });
    assert_eq!(server.queue_count(), MAILS as u64);
    drop(client);
    all_arrive(&server, &hop, MAILS);
}

/// More mails on the disk than are read back at a time: the worker hands them out as they come, and
/// goes on with everything else meanwhile.
#[test]
fn a_start_with_much_mail_delivers_all_of_it() {
    const MAILS: usize = 300;
    let hop = absent();
    let plan = narrow(&hop).setting("smtp-threads", 1);
    let mut server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for _ in 0..MAILS {
        let reply = client.mail("a@example.org", "b@example.net", b"x\r\n");
        reply.unwrap().require(250).unwrap();
    }
    assert!(server.terminate().success(), "{}", server.process());
    hop.set(None);
    let server = plan.start();
    eventually("all mails", PATIENCE, || (hop.mails().len() == MAILS).then_some(()));
    await_count(&server, "queued", 0);
    await_count(&server, "memory_used", 0);
}

/// A text that is larger than the whole budget, because the limit was lowered, still goes out, and so
/// does what is behind it.
#[test]
fn a_text_larger_than_the_budget_goes_out() {
    const LARGE_BYTES: usize = 24 * MIB;
    let hop = absent();
    let plan = narrow(&hop).setting("smtp-threads", 1);
    let mut server =
        plan.clone().setting("memory-limit", "64MiB").setting("smtp-maxsize", "64MiB").start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for (recipient, bytes) in [("large@example.net", LARGE_BYTES), ("small@example.net", 64)] {
        let reply = client.mail("a@example.org", recipient, &text(bytes));
        reply.unwrap().require(250).unwrap();
    }
    assert!(server.terminate().success(), "{}", server.process());
    hop.set(None);
    let server = plan.start();
    hop.await_mail("large@example.net");
    hop.await_mail("small@example.net");
    await_count(&server, "queued", 0);
    await_count(&server, "memory_used", 0);
}

/// A text on disk that does not fit waits, but not those behind it whose texts are in memory: they
/// would hold the memory that it waits for.
#[test]
fn mail_in_memory_overtakes_what_does_not_fit() {
    let hop = absent();
    let plan = narrow(&hop).setting("smtp-threads", 1);
    let mut server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let reply = client.mail("a@example.org", "front@example.net", &text(12 * MIB));
    let front = super::id_of(&reply.unwrap().require(250).unwrap());
    assert!(server.terminate().success(), "{}", server.process());
    let server = plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let reply = client.mail("a@example.org", "behind@example.net", &text(7 * MIB));
    reply.unwrap().require(250).unwrap();
    assert_eq!(show(server.plan(), &front)["state"], "ready");
    hop.set(None);
    hop.await_mail("behind@example.net");
    hop.await_mail("front@example.net");
    await_count(&server, "queued", 0);
    await_count(&server, "memory_used", 0);
    queued(&server, "after@example.net");
    hop.await_mail("after@example.net");
}
