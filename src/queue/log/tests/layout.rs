//! What the metadata of records look like on disk: every field reads back, and a log that was written
//! before some of them existed still does.

use super::*;
use crate::queue::log::accepted::take_accept;
use crate::queue::mail::NO_BODY;
use crate::queue::wishes::{Password, QueueWish, Ret, Smarthost};

fn metadata(transaction: &Transaction) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put_accept(&mut out, transaction, &[]).unwrap();
    out
}

/// Decodes what was encoded, without bodies.
fn read_back(transaction: &Transaction) -> Transaction {
    let bytes = transaction.bodies.iter().map(|body| body.as_bytes_with_nul().len() as u32).sum();
    take_accept(&metadata(transaction), bytes).unwrap().transaction
}

#[test]
fn every_field_of_a_transaction_reads_back() {
    for number in 1..=12 {
        let mut known = transaction(number, 3, 40);
        if number == 8 {
            known.wishes = Some(Box::new(Wishes {
                smarthost: Some(Box::new(Smarthost {
                    host: "relay.example".into(),
                    port: 587,
                    username: Some("user".into()),
                    password: Some(Password::new("secret".into())),
                })),
                properties: Some(r#"{"a":[1,"\u0000"]}"#.into()),
                dsn_ret: Some(Ret::Headers),
                dsn_envid: Some("envelope id".into()),
                ..wishes(8)
            }));
        }
        let read = read_back(&known);
        known.bodies.clear();
        assert_eq!(read, known);
    }
}

#[test]
fn an_entry_of_a_named_queue_reads_back() {
    let origin = Origin::internal("mail.example");
    let known = Transaction { shelf: Some("results".into()), origin, ..transaction(1, 1, 40) };
    let read = read_back(&known);
    assert_eq!((read.shelf.as_deref(), read.is_internal()), (Some("results"), true));
    assert!(!read_back(&transaction(1, 1, 40)).is_internal());
}

#[test]
fn facts_of_an_attempt_read_back_unless_they_are_too_long() {
    let rows = [(0, true), (Attempt::FACTS_BYTES_MAX, true), (Attempt::FACTS_BYTES_MAX + 1, false)];
    for (bytes, kept) in rows {
        let facts: Option<Box<str>> = Some("x".repeat(bytes).into());
        let known = Attempt { facts: facts.clone(), ..attempt(id(1).mail(0), LATER) };
        let mut out = Vec::new();
        codec::put_settle(&mut out, &known, 3);
        let read = codec::take_settle(&out).unwrap();
        assert_eq!((read.number, read.attempt.facts), (3, facts.filter(|_| kept)), "{bytes}");
    }
}

#[test]
fn what_breaks_its_bounds_has_no_record() {
    let good = transaction(4, 1, 40);
    let long = Wishes { dsn_envid: Some("x".repeat(Wishes::BYTES_MAX).into()), ..wishes(4) };
    let orcpt = Some("x".repeat(MailDsn::ORCPT_BYTES_MAX + 1).into());
    let dsn = Some(Box::new(MailDsn { orcpt, ..MailDsn::default() }));
    let mail = Mail { dsn, ..good.mails[0].clone() };
    let rows = [
        ("long wishes", Transaction { wishes: Some(Box::new(long)), ..good.clone() }),
        ("no name", Transaction { shelf: Some("".into()), ..good.clone() }),
        ("a blank", Transaction { shelf: Some("a b".into()), ..good.clone() }),
        ("a long name", {
            let shelf = Some("x".repeat(QueueWish::NAME_BYTES_MAX + 1).into());
            Transaction { shelf, ..good.clone() }
        }),
        ("a long orcpt", Transaction { mails: vec![mail], ..good.clone() }),
    ];
    for (name, transaction) in rows {
        let mut out = vec![7];
        assert!(codec::put_accept(&mut out, &transaction, &[]).is_err(), "{name}");
        assert_eq!(out, [7], "{name}: nothing is left behind");
    }
}

/// A record as the first version wrote it, byte by byte: mail that waits while the program is replaced
/// is not lost.
#[test]
fn a_record_of_the_first_version_reads_back() {
    let mut old = Vec::new();
    let mut put = |bytes: &[u8]| old.extend_from_slice(bytes);
    let text = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
    put(&9_u64.to_le_bytes());
    put(&1_000_009_u64.to_le_bytes());
    put(&[1 | 8 | 16]);
    put(&[4, 192, 0, 2, 1, 1, 4]);
    put(&[4, 192, 0, 2, 2, 25, 0]);
    put(&text(b"client.example"));
    put(&text(b"user"));
    put(&text(b"Received: by test\r\n"));
    put(&[1, 0, 5, 0, 0, 0]);
    put(&[2, 0, 0, 0]);
    for index in [0_u16, 3] {
        put(&index.to_le_bytes());
        put(&if index == 0 { 0_u16 } else { NO_BODY }.to_le_bytes());
        put(&text(b"a@example.com"));
        put(&text(b"b@example.net"));
        put(&2_u32.to_le_bytes());
        put(&[1]);
        put(&2_000_000_u64.to_le_bytes());
        put(&[2]);
        put(&3_000_000_u64.to_le_bytes());
        put(&450_u16.to_le_bytes());
        for field in [&b"rcptto"[..], b"error", b"4.7.1", b"later"] {
            put(&text(field));
        }
        put(&[0, 0]);
    }
    let accept = take_accept(&old, 5).unwrap();
    assert_eq!(accept.transaction.id, id(9));
    assert_eq!(accept.transaction.mails[1].body, NO_BODY);
    assert_eq!(accept.transaction.origin.user.as_deref(), Some("user"));
    assert_eq!((accept.transaction.wishes, accept.transaction.shelf), (None, None));
    let last = &accept.histories[1].kept[0].1;
    assert_eq!((last.next, &*last.description, last.facts.as_deref()), (LATER, "later", None));
}
