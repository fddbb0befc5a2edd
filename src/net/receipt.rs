//! The receipt that a client gets for a message: `250` with one id per recipient.
//!
//! **Diagnostics**: none.

use crate::queue::TransactionId;
use crate::smtp::{EnhancedStatus, Reply, answer};

/// Recipients whose ids are all spelt out in the reply; above, the first and the last are.
const IDS_LISTED_MAX: usize = 300;
/// Ids in one line of the reply (RFC 5321 4.5.3.1.5: 512 octets).
const IDS_PER_LINE: usize = 20;

/// The reply to a message that is durable: `250` with one id per recipient.
pub fn receipt(id: TransactionId, recipients: usize) -> Reply {
    let index = |place: usize| u16::try_from(place).expect("recipients_max is below 65536");
    let text = if recipients == 1 {
        // Nearly all.
        let mut text = String::with_capacity(32);
        ["Queued as ", id.shown().as_str(), "-0"].iter().for_each(|part| text.push_str(part));
        text
    } else if recipients > IDS_LISTED_MAX {
        format!("Queued as {} to {}", id.mail(0), id.mail(index(recipients - 1)))
    } else {
        let ids: Vec<String> =
            (0..recipients).map(|place| id.mail(index(place)).to_string()).collect();
        let lines: Vec<String> =
            ids.chunks(IDS_PER_LINE).map(|ids| format!("Queued as {}", ids.join(" "))).collect();
        lines.join("\n")
    };
    let status = EnhancedStatus::new(2, 0, 0);
    Reply::new(250, status, text).unwrap_or_else(|| answer::MESSAGE_OK.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(recipients: usize) -> Vec<String> {
        let mut wire = Vec::new();
        receipt(TransactionId::from_u64(1), recipients).write_to(&mut wire);
        String::from_utf8(wire).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_recipient_has_an_id() {
        assert_eq!(lines(1), ["250 2.0.0 Queued as 0000000000001-0"]);
        assert_eq!(lines(2), ["250 2.0.0 Queued as 0000000000001-0 0000000000001-1"]);
        let listed = lines(IDS_LISTED_MAX).concat();
        for index in 0..IDS_LISTED_MAX {
            assert!(listed.contains(&format!("0000000000001-{index}")), "{index}");
        }
    }

    #[test]
    fn rfc_5321_4_5_3_1_5_no_line_is_longer_than_512_octets() {
        for recipients in [1, 20, 21, 300, 301, 50_000] {
            assert!(lines(recipients).iter().all(|line| line.len() <= 510), "{recipients}");
        }
    }

    #[test]
    fn very_many_recipients_get_the_first_and_the_last_id() {
        assert_eq!(lines(1000), ["250 2.0.0 Queued as 0000000000001-0 to 0000000000001-999"]);
    }
}
