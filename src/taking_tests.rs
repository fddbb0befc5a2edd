//! What takers are told, over the control socket, by a queue that lets go of entries or not.

use std::os::unix::net::UnixListener;

use super::*;
use crate::control::ControlServer;
use crate::queue::{Accepting, Body, Mail, Origin, Recalled, ShutdownError, Status, Transaction};

/// Far beyond what a test needs; it only ends tests that hang.
const WAIT: Duration = Duration::from_secs(60);

/// One named queue with entries of this many octets, which lets go of them or not.
struct OneShelf {
    entries: Mutex<Vec<TransactionId>>,
    bytes: usize,
    lets_go: bool,
}

impl OneShelf {
    fn new(count: u64, bytes: usize, lets_go: bool) -> Arc<Self> {
        let entries = Mutex::new((1..=count).map(TransactionId::from_u64).collect());
        Arc::new(Self { entries, bytes, lets_go })
    }
}

impl Queue for OneShelf {
    fn hand_over(&self, _worker: usize, batch: Vec<Entry>) {
        let is_settled = |id: &TransactionId| {
            batch.iter().any(
                |entry| matches!(entry, Entry::Settle(settled) if settled.mail.transaction == *id),
            )
        };
        if self.lets_go {
            self.entries.lock().unwrap().retain(|id| !is_settled(id));
        }
    }

    fn read(&self, id: TransactionId) -> Result<Transaction, ReadError> {
        let text = format!("{{\"a\":\"{}\"}}\0", "x".repeat(self.bytes));
        Ok(Transaction {
            id,
            received_ms: 0,
            mails: vec![Mail {
                index: 0,
                envelope: Box::default(),
                recipient: Box::default(),
                body: 0,
                dsn: None,
                extras: None,
            }],
            bodies: vec![Body::try_from(text.into_bytes()).unwrap()],
            trace: Box::default(),
            origin: Origin::internal("mx.example"),
            eight_bit: false,
            smtputf8: false,
            wishes: None,
            shelf: Some("all".into()),
        })
    }

    fn recall(&self, id: TransactionId, _: &[u16], _: usize) -> Result<Recalled, ReadError> {
        Err(ReadError::Unknown(id))
    }

    fn shelves(&self) -> Vec<Shelf> {
        Vec::new()
    }

    fn shelved(
        &self,
        _name: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)> {
        let entries = self.entries.lock().unwrap();
        let later = entries.iter().filter(|id| after.is_none_or(|after| **id > after));
        later.take(limit).map(|id| (*id, 0)).collect()
    }

    fn accepting(&self) -> Accepting {
        Accepting::Yes
    }

    fn delivering(&self) -> bool {
        true
    }

    fn status(&self) -> Status {
        unreachable!("nobody asks")
    }

    fn shutdown(&self, _patience: Duration) -> Result<(), ShutdownError> {
        Ok(())
    }
}

/// A control socket at which takers are served from `queue`.
fn serve(queue: Arc<OneShelf>) -> (tempfile::TempDir, ControlServer, Arc<Taking>) {
    let folder = tempfile::tempdir().unwrap();
    let mut taking = Taking::new(queue, Log::none());
    Arc::get_mut(&mut taking).unwrap().patience = Duration::from_millis(20);
    let served = taking.clone();
    let handler = move |request| match request {
        Request::QueueTake { name, limit } => served.take(name, limit),
        other => Err(format!("{other:?}")),
    };
    let server = ControlServer::start(folder.path(), Box::new(handler)).unwrap();
    (folder, server, taking)
}

#[test]
fn an_answer_ends_when_it_is_large_and_the_next_one_has_the_rest() {
    let (folder, server, taking) = serve(OneShelf::new(5, 3 << 20, true));
    let mut out = Vec::new();
    let mut next = || take(folder.path(), "all", 1_000, &mut out, WAIT).unwrap();
    assert_eq!([next(), next(), next()], [3, 2, 0]);
    assert_eq!(out.iter().filter(|octet| **octet == b'\n').count(), 5);
    assert!(taking.lent().is_empty());
    server.stop();
}

#[test]
fn what_the_queue_keeps_is_not_confirmed() {
    let (folder, server, _taking) = serve(OneShelf::new(2, 1, false));
    let taken = take(folder.path(), "all", 1_000, &mut Vec::new(), WAIT);
    let Err(TakeError::Control(ControlError::Refused(why))) = taken else { panic!("{taken:?}") };
    assert!(why.contains("may come again"), "{why}");
    server.stop();
}

#[test]
fn of_an_answer_that_is_cut_off_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(control::SOCKET_NAME)).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let row = Line::Row(json!({ "id": "1", "result": "x".repeat(20_000) }));
        (0..3).for_each(|_| control::send(&mut stream, &row).unwrap());
        stream.write_all(b"{\"row\":{\"id\":").unwrap();
    });
    let mut out = Vec::new();
    let taken = take(folder.path(), "all", 1_000, &mut out, WAIT);
    assert!(matches!(taken, Err(TakeError::Control(ControlError::Cut(_)))), "{taken:?}");
    assert!(out.is_empty(), "{} octets", out.len());
    server.join().unwrap();
}
