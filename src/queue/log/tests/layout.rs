//! What the metadata of records look like on disk: every field reads back, and a log that was written
//! before some of them existed still does.

use super::*;
use crate::queue::dice::Dice;
use crate::queue::log::accepted::{take_accept, take_waiting};
use crate::queue::log::history::History;
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

/// What a start finds and what is read later must not differ, nor what either takes for damage.
#[test]
fn what_is_kept_of_a_transaction_is_what_it_says() {
    let mut dice = Dice::from_environment();
    for number in 1..=12 {
        let mut known = transaction(number, number as u16 % 3 + 1, 40);
        if number == 5 {
            known.shelf = Some("results".into());
        }
        let history = |mail: &Mail| History {
            attempts: 7,
            kept: vec![(7, attempt(known.id.mail(mail.index), LATER))],
        };
        let histories: Vec<_> = match number % 2 {
            0 => known.mails.iter().map(history).collect(),
            _ => Vec::new(),
        };
        let mut metadata = Vec::new();
        codec::put_accept(&mut metadata, &known, &histories).unwrap();
        let bytes = known.bodies.iter().map(|body| body.as_bytes_with_nul().len() as u32).sum();
        for round in 0..2_000 {
            let mut damaged = metadata.clone();
            match round {
                0 => {}
                1..1_000 => {
                    damaged[dice.below(metadata.len() as u64) as usize] ^= 1 << dice.below(8)
                }
                _ => damaged.truncate(dice.below(metadata.len() as u64) as usize),
            }
            let (whole, kept) = (take_accept(&damaged, bytes), take_waiting(&damaged, bytes));
            let (Some(whole), Some(kept)) = (&whole, &kept) else {
                assert!(round > 0 && whole.is_none() && kept.is_none(), "{number} {round}");
                continue;
            };
            let (transaction, waiting) = (&whole.transaction, &kept.waiting);
            assert_eq!(
                (transaction.id, transaction.received_ms),
                (waiting.id, waiting.received_ms)
            );
            assert_eq!((&transaction.wishes, &transaction.shelf), (&waiting.wishes, &kept.shelf));
            let lengths = whole.body_bytes.iter().map(|&bytes| u64::from(bytes.max(1)) - 1);
            assert_eq!(lengths.sum::<u64>(), waiting.body_bytes);
            assert_eq!(transaction.mails.len(), waiting.mails.len());
            let mails = transaction.mails.iter().zip(&whole.histories).zip(&waiting.mails);
            for ((mail, history), kept) in mails {
                let addresses = (kept.addresses.envelope(), kept.addresses.recipient());
                assert_eq!((&*mail.envelope, &*mail.recipient), addresses);
                assert_eq!((mail.index, &mail.extras), (kept.index, &kept.extras));
                let last = history.kept.last().map(|(_, last)| last);
                assert_eq!((history.attempts, last), (kept.attempts, kept.last.as_deref()));
            }
        }
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
