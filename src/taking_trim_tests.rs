//! Named queues above their bound, with a queue whose disk comes and goes.

use super::*;
use crate::queue::{Accepting, Recalled, ShutdownError, Status, Transaction};

/// One named queue of entries 1 to 10; what is settled goes when the disk is back.
struct Stalled {
    listed: Mutex<Vec<TransactionId>>,
    settled: Mutex<Vec<TransactionId>>,
}

impl Stalled {
    fn come_back(&self) {
        let settled = self.settled.lock().unwrap();
        self.listed.lock().unwrap().retain(|id| !settled.contains(id));
    }
}

impl Queue for Stalled {
    fn hand_over(&self, _: usize, batch: Vec<Entry>) {
        for entry in batch {
            let Entry::Settle(attempt) = entry else { panic!("nothing is added") };
            self.settled.lock().unwrap().push(attempt.mail.transaction);
        }
    }

    fn shelves(&self) -> Vec<Shelf> {
        let entries = self.listed.lock().unwrap().len() as u64;
        vec![Shelf { name: "all".into(), entries, bytes: 10 * entries }]
    }

    fn shelved(
        &self,
        _: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)> {
        let listed = self.listed.lock().unwrap();
        let behind = listed.iter().filter(|id| after.is_none_or(|after| **id > after));
        behind.take(limit).map(|id| (*id, 10)).collect()
    }

    fn read(&self, id: TransactionId) -> Result<Transaction, ReadError> {
        Err(ReadError::Unknown(id))
    }

    fn recall(&self, id: TransactionId, _: &[u16], _: usize) -> Result<Recalled, ReadError> {
        Err(ReadError::Unknown(id))
    }

    fn accepting(&self) -> Accepting {
        Accepting::Yes
    }

    fn delivering(&self) -> bool {
        true
    }

    fn status(&self) -> Status {
        panic!("nobody asks")
    }

    fn shutdown(&self, _: Duration) -> Result<(), ShutdownError> {
        Ok(())
    }
}

fn stalled() -> (Arc<Stalled>, Arc<Taking>) {
    let listed = Mutex::new((1..=10).map(TransactionId::from_u64).collect());
    let queue = Arc::new(Stalled { listed, settled: Mutex::default() });
    let taking = Taking::new(queue.clone(), Log::none());
    (queue, taking)
}

fn settled(queue: &Stalled) -> Vec<u64> {
    queue.settled.lock().unwrap().iter().map(|id| id.as_u64()).collect()
}

#[test]
fn while_the_disk_is_away_entries_are_dropped_and_counted_once() {
    let (queue, taking) = stalled();
    (0..5).for_each(|_| taking.trim(8, u64::MAX));
    assert_eq!((settled(&queue), taking.dropped()), (vec![1, 2], 2));
    let free = taking.lend("all", None, 1);
    assert_eq!(free, [TransactionId::from_u64(3)], "what goes is not lent");
    queue.come_back();
    taking.trim(u64::MAX, 70);
    assert_eq!((settled(&queue), taking.dropped()), (vec![1, 2, 4], 3), "3 is lent");
    assert!(!taking.lent().contains(&TransactionId::from_u64(1)));
    queue.come_back();
    taking.trim(8, u64::MAX);
    assert_eq!(taking.dropped(), 3, "there are no more than may be");
}
