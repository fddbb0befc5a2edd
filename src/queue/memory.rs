//! A storage in memory that fails on request: the twin of the disk, for tests.
//!
//! Owns the difference between written and durable, for bytes and for names, and what a crash
//! leaves of each. Must never be kinder than a disk may be. Public because integration tests and
//! fuzzing use it; no server does.
//!
//! Diagnostics: panics when a file is synced after a failed sync, which no engine may do.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::storage::{Appender, Reader, Storage};

/// What happens at a chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Error(ErrorKind),
    /// An append writes half of its bytes, the call after it fails.
    Partial(ErrorKind),
    /// An append writes one byte only, without an error.
    Short,
    /// The process is gone: this call and all later ones fail, until [`MemoryStorage::crash`].
    Crash,
    /// As [`Fault::Crash`], but an append still writes half of its bytes.
    CrashPartial,
}

/// What a crash leaves of bytes and names that were not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything: the process died, the system did not.
    Nothing,
    /// Nothing of them.
    Unsynced,
    /// Of each file a random prefix, of the names a random part.
    Prefix,
    /// Of each file a random prefix in which random sectors are zero, of the names a random part.
    Torn,
}

/// Bytes that a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// A directory in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryStorage(Arc<Mutex<State>>);

#[derive(Clone, Debug)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    capacity: u64,
    unreadable: Range<u64>,
    random: u64,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    durable: usize,
    /// What was cut off since the last sync: the disk may still have it.
    cut: Vec<u8>,
    sync_failed: bool,
}

impl MemoryStorage {
    /// An empty directory without limits; `seed` decides what a random [`Loss`] leaves.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            calls: 0,
            fault: None,
            crashed: false,
            capacity: u64::MAX,
            unreadable: 0..0,
            random: seed,
        })))
    }

    /// What is there now, apart from what happens here later.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere may still look at what is there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the call with this number (the first one is 1) go wrong.
    pub fn fail_call(&self, number: u64, fault: Fault) {
        self.state().fault = Some((number, fault));
    }

    /// Limits the bytes of all files together; beyond it appends fail with `StorageFull`.
    pub fn limit(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Lets reads of these offsets fail, in every file and until told otherwise.
    pub fn fail_reads(&self, offsets: Range<u64>) {
        self.state().unreadable = offsets;
    }

    /// The bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Whether a [`Fault::Crash`] was reached.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Ends a crash: takes away what `loss` says; the rest is durable. Faults are forgotten.
    pub fn crash(&self, loss: Loss) {
        let mut state = self.state();
        state.lose_names(loss);
        for at in 0..state.files.len() {
            state.lose_bytes(at, loss);
        }
        state.crashed = false;
        state.fault = None;
    }

    /// The bytes of a file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|&at| state.files[at].bytes.clone())
    }

    /// Changes bytes of a file in place, as a failing disk would; its length stays.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        if let Some(&at) = state.names.get(name) {
            assert_eq!(state.files[at].bytes.len(), bytes.len(), "damage changes no length");
            state.files[at].bytes = bytes;
        }
    }

    /// Puts a durable file in place, whatever was there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let at = state.files.len();
        state.files.push(Contents { durable: bytes.len(), bytes, ..Contents::default() });
        state.names.insert(name.to_owned(), at);
        state.durable_names.insert(name.to_owned(), at);
    }
}

impl State {
    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&at| self.files[at].bytes.len() as u64).sum()
    }

    /// Counts a call; says what else than success it is to be.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        self.calls += 1;
        if self.crashed {
            return Err(io::Error::other("crashed"));
        }
        match self.fault {
            Some((number, fault)) if number == self.calls => match fault {
                Fault::Error(kind) => Err(kind.into()),
                Fault::Crash => {
                    self.crashed = true;
                    Err(io::Error::other("crashed"))
                }
                Fault::Partial(_) | Fault::Short | Fault::CrashPartial => Ok(Some(fault)),
            },
            Some(_) | None => Ok(None),
        }
    }

    /// Counts a call that has no halves.
    fn whole_call(&mut self) -> io::Result<()> {
        match self.call()? {
            Some(Fault::CrashPartial) => {
                self.crashed = true;
                Err(io::Error::other("crashed"))
            }
            Some(Fault::Partial(kind)) => Err(kind.into()),
            Some(Fault::Short | Fault::Error(_) | Fault::Crash) | None => Ok(()),
        }
    }

    fn append(&mut self, at: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let fault = self.call()?;
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let room = self.capacity.saturating_sub(self.used_bytes());
        let mut taken = all.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if taken == 0 && !all.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        match fault {
            Some(Fault::Short) => taken = taken.min(1),
            Some(Fault::Partial(_) | Fault::CrashPartial) => taken /= 2,
            Some(Fault::Error(_) | Fault::Crash) | None => {}
        }
        self.files[at].cut.clear();
        self.files[at].bytes.extend_from_slice(&all[..taken]);
        match fault {
            Some(Fault::Partial(kind)) => self.fault = Some((self.calls + 1, Fault::Error(kind))),
            Some(Fault::CrashPartial) => {
                self.crashed = true;
                return Err(io::Error::other("crashed"));
            }
            Some(Fault::Short | Fault::Error(_) | Fault::Crash) | None => {}
        }
        Ok(taken)
    }

    fn sync(&mut self, at: usize) -> io::Result<()> {
        assert!(!self.files[at].sync_failed, "a file whose sync failed must not be synced again");
        let outcome = self.whole_call();
        let file = &mut self.files[at];
        match outcome {
            Ok(()) => {
                file.durable = file.bytes.len();
                file.cut.clear();
            }
            Err(_) => file.sync_failed = true,
        }
        outcome
    }

    fn truncate(&mut self, at: usize, length: u64) -> io::Result<()> {
        self.whole_call()?;
        let file = &mut self.files[at];
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        assert!(length <= file.bytes.len(), "a file is cut off, not extended");
        let mut cut = file.bytes.split_off(length);
        cut.append(&mut file.cut);
        file.cut = cut;
        file.durable = file.durable.min(length);
        // Nothing is left of what could not be synced.
        file.sync_failed &= file.durable < length;
        Ok(())
    }

    fn place(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn lose_names(&mut self, loss: Loss) {
        let names = match loss {
            Loss::Nothing => self.names.clone(),
            Loss::Unsynced => self.durable_names.clone(),
            Loss::Prefix | Loss::Torn => {
                // Each change of a name reached the disk or did not, in any order.
                let mut all = self.durable_names.clone();
                all.extend(self.names.clone());
                let changed = |name: &str| {
                    self.names.contains_key(name) != self.durable_names.contains_key(name)
                };
                let doubtful: Vec<String> =
                    all.keys().filter(|name| changed(name)).cloned().collect();
                for name in doubtful {
                    if self.random() & 1 == 0 {
                        all.remove(&name);
                    }
                }
                all
            }
        };
        self.durable_names.clone_from(&names);
        self.names = names;
    }

    fn lose_bytes(&mut self, at: usize, loss: Loss) {
        let mut cut = std::mem::take(&mut self.files[at].cut);
        if matches!(loss, Loss::Prefix | Loss::Torn) && !cut.is_empty() && self.random() & 1 == 0 {
            self.files[at].bytes.append(&mut cut);
        }
        let (durable, length) = (self.files[at].durable, self.files[at].bytes.len());
        let kept = match loss {
            Loss::Nothing => length,
            Loss::Unsynced => durable,
            Loss::Prefix | Loss::Torn => {
                durable + (self.random() % (length - durable + 1) as u64) as usize
            }
        };
        self.files[at].bytes.truncate(kept);
        if loss == Loss::Torn {
            let mut start = durable;
            while start < kept {
                let end = (start / SECTOR_BYTES + 1).saturating_mul(SECTOR_BYTES).min(kept);
                if self.random() & 3 == 0 {
                    self.files[at].bytes[start..end].fill(0);
                }
                start = end;
            }
        }
        self.files[at].durable = kept;
        self.files[at].sync_failed = false;
    }
}

impl Storage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.whole_call()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let mut state = self.state();
        state.whole_call()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let at = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), at);
        drop(state);
        Ok(Box::new(Handle { storage: self.clone(), at }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Reader>> {
        let mut state = self.state();
        state.whole_call()?;
        let at = state.place(name)?;
        drop(state);
        Ok(Box::new(Handle { storage: self.clone(), at }))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let at = state.place(name)?;
        state.sync(at)
    }

    fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        let at = state.place(name)?;
        state.names.remove(name);
        state.names.insert(to.to_owned(), at);
        Ok(())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let at = state.place(name)?;
        state.truncate(at, length)
    }

    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        if state.names.contains_key(name) {
            return Ok(());
        }
        if bytes > state.capacity.saturating_sub(state.used_bytes()) {
            return Err(ErrorKind::StorageFull.into());
        }
        let at = state.files.len();
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        state.files.push(Contents { bytes: vec![0; length], ..Contents::default() });
        state.names.insert(name.to_owned(), at);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        state.place(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        state.whole_call()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.whole_call()?;
        Ok(state.capacity.saturating_sub(state.used_bytes()))
    }

    fn salt(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.whole_call()?;
        Ok(state.random())
    }
}

/// An open file; like one of the system's it outlives its name.
struct Handle {
    storage: MemoryStorage,
    at: usize,
}

impl Appender for Handle {
    fn append(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.storage.state().append(self.at, slices)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.storage.state().sync(self.at)
    }
}

impl Reader for Handle {
    fn length(&self) -> io::Result<u64> {
        let mut state = self.storage.state();
        state.whole_call()?;
        Ok(state.files[self.at].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.storage.state();
        state.whole_call()?;
        let bytes = &state.files[self.at].bytes;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut taken = buffer.len().min(bytes.len() - start);
        let lost = &state.unreadable;
        if offset < lost.end && offset + taken as u64 > lost.start {
            // As from a disk: what comes before is read, then the next call fails.
            taken = usize::try_from(lost.start.saturating_sub(offset)).unwrap_or(usize::MAX);
            if taken == 0 {
                return Err(io::Error::other("unreadable"));
            }
        }
        buffer[..taken].copy_from_slice(&bytes[start..start + taken]);
        Ok(taken)
    }
}
