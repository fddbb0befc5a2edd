//! What waits for a text, between the answer and the turn that tells of it.
//!
//! **Diagnostics**: none beyond what the assertions say.

use super::*;
use crate::delivery::{DestinationLimits, Destinations, Place};
use crate::net::unwritten::UNWRITTEN_BYTES_MAX;
use crate::queue::Addresses;

fn id(number: u64) -> TransactionId {
    TransactionId::from_u64(number)
}

fn pending(mail: MailId, next: Next, kind: Option<Kind>, known: bool) -> Pending {
    let few = DestinationLimits {
        domain_connections_max: 1,
        smarthost_connections_max: 1,
        look_ups_max: 1,
    };
    let attempt = Attempt {
        mail,
        at_ms: 1,
        next,
        state: "rcptto".into(),
        result: "error".into(),
        code: 550,
        status: "".into(),
        description: "".into(),
        from: None,
        to: None,
        facts: None,
        extras: None,
    };
    let mail = MailView {
        id: mail,
        received_ms: 0,
        addresses: Addresses::new("a@example.org", "b@example.net"),
        body_bytes: 0,
        place: Place::Freed,
        destination: Destinations::new(few, None, 1).of_recipient("b@example.net"),
        attempts: 1,
        recent: Vec::new(),
        wishes: None,
    };
    Pending { attempt, mail, kind, mta: None, known, results: true, line: None, asked: false }
}

fn answer(settlements: &mut Settlements, number: u64) {
    settlements.on_answer(id(number), HashMap::new());
}

#[test]
fn what_was_read_waits_in_order_for_a_turn_that_may_write_it() {
    let mut settlements = Settlements::default();
    for number in [1, 2] {
        for index in 0..3 {
            settlements.push(pending(id(number).mail(index), Next::Removed, None, true));
        }
        assert!(settlements.ask().is_some());
    }
    assert!(!settlements.is_telling(), "nothing was read yet");
    answer(&mut settlements, 2);
    answer(&mut settlements, 1);
    assert!(settlements.waits(id(1).mail(2)), "those behind it must not pass");
    assert_eq!((settlements.len(), settlements.asked), (6, 0));
    assert!(settlements.may_tell());
    settlements.turn_bytes = TOLD_BYTES_A_TURN;
    assert!(!settlements.may_tell() && settlements.is_telling(), "the next turn goes on");
    settlements.end_turn();
    assert!(settlements.may_tell());
    let mut told = Vec::new();
    while let Some((pending, _)) = settlements.next_answered() {
        told.push(pending.attempt.mail);
    }
    let of = |number| (0..3).map(move |index| id(number).mail(index));
    assert_eq!(told, of(2).chain(of(1)).collect::<Vec<_>>());
    assert!(settlements.is_empty() && !settlements.is_telling());
    assert!(!settlements.waits(id(1).mail(2)));
}

#[test]
fn while_the_disk_takes_nothing_no_more_is_told_but_mail_is_taken() {
    let mut settlements = Settlements::default();
    settlements.push(pending(id(1).mail(0), Next::Removed, None, true));
    settlements.ask();
    answer(&mut settlements, 1);
    settlements.unwritten.hand_over(UNWRITTEN_BYTES_MAX);
    assert!(!settlements.has_room() && !settlements.may_tell() && !settlements.is_telling());
    assert_eq!(settlements.room(), 0);
    assert!(settlements.has_room_for_lines());
    assert!(settlements.on_settled(1), "there is room again");
    assert!(settlements.has_room() && settlements.is_telling());
}

/// What a stop may forget is mail that had no connection: it is tried again or ages out, and is told of
/// then (RFC 3461 4.1: not to those who do not want to hear).
#[test]
fn a_stop_forgets_neither_removals_by_hand_nor_what_a_far_end_said() {
    let mail = id(1).mail(0);
    let by_hand = pending(mail, Next::Removed, None, true);
    let refused = pending(mail, Next::Failed, Some(Kind::Failed), true);
    let arrived = pending(mail, Next::Delivered, None, true);
    for kept in [by_hand, refused, arrived] {
        assert!(!kept.may_go_untold(), "{kept:?}");
    }
    assert!(pending(mail, Next::Failed, Some(Kind::Failed), false).may_go_untold());
}

/// RFC 3464 2.3.9: Will-Retry-Until.
#[test]
fn a_mail_is_tried_until_its_own_time_is_over() {
    let asks = |deliver_until_ms| Wishes { deliver_until_ms, ..Wishes::default() };
    assert_eq!(until_ms(1_000, 50, None), 1_050);
    assert_eq!(until_ms(1_000, 50, Some(&asks(None))), 1_050);
    assert_eq!(until_ms(1_000, 50, Some(&asks(Some(9_000)))), 9_000);
}
