//! An empty log with its thread, whose completions come out of a channel.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, unbounded};
use rohrpost::queue::{Completion, DiskStorage, LogQueue, Options};

pub(crate) fn open(directory: &Path) -> (LogQueue, Receiver<Completion>) {
    let storage = Arc::new(DiskStorage::new(directory));
    let (sender, completions) = unbounded();
    let sender = Mutex::new(sender);
    let notify = move |_, completion| {
        let _ = sender.lock().expect("nothing panics under this lock").send(completion);
    };
    let (queue, _) = LogQueue::open(storage, Options::default(), Box::new(notify))
        .expect("an empty directory opens");
    (queue, completions)
}
