//! `<queue-directory>/lock`: one server per queue, for the life of the process.
//!
//! Must never: remove the file; the lock is the kernel's, and goes with the process.
//!
//! **Diagnostics**: [`LockError`] tells an administrator which directory, and who has it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cli;

/// Why the queue directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the queue {} is in use by process {holder}; stop it, or set queue-directory", path.display()
    )]
    Taken {
        /// The queue directory.
        path: PathBuf,
        /// The process, as it wrote itself down.
        holder: String,
    },
    /// The directory cannot be made or written.
    #[error(
        "the queue directory {} cannot be used: {source}; set queue-directory to one that this user may write",
        path.display()
    )]
    Unusable {
        /// The queue directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LockError {
    /// The exit code: 75 while another server runs, 78 where settings are to be mended.
    pub fn exit(&self) -> u8 {
        match self {
            LockError::Taken { .. } => cli::EXIT_TRY_AGAIN,
            LockError::Unusable { .. } => cli::EXIT_SETTINGS,
        }
    }
}

/// The lock, held while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory (0700, if its parent exists) and takes the lock in it.
    ///
    /// # Errors
    /// Another server has it, or it cannot be used.
    pub fn take(directory: &Path) -> Result<Lock, LockError> {
        let unusable = |source| LockError::Unusable { path: directory.to_owned(), source };
        if !directory.exists() {
            DirBuilder::new().mode(0o700).create(directory).map_err(unusable)?;
        }
        let mut file = open(directory).map_err(unusable)?;
        match lock(&file) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The number is a courtesy; without it the message still says what is wrong.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                return Err(LockError::Taken { path: directory.to_owned(), holder });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        write_down(&mut file).map_err(unusable)?;
        Ok(Lock { _file: file })
    }

    /// Whether a server has the lock now.
    pub fn is_taken(directory: &Path) -> bool {
        File::open(directory.join(LOCK_NAME))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }
}

/// The file's name in the queue directory.
pub(crate) const LOCK_NAME: &str = "lock";
/// How often the lock is tried: whoever asks whether it is taken holds it for a moment.
const TRIES: u32 = 20;
/// The time between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(10);

fn lock(file: &File) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(TRY_PAUSE),
            outcome => return outcome,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn open(directory: &Path) -> io::Result<File> {
    fs::metadata(directory)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join(LOCK_NAME))
}

fn write_down(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_has_the_queue() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("queue");
        let lock = Lock::take(&directory).unwrap();
        assert!(Lock::is_taken(&directory));
        let error = Lock::take(&directory).unwrap_err();
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert_eq!(error.exit(), cli::EXIT_TRY_AGAIN);
        drop(lock);
        assert!(!Lock::is_taken(&directory));
    }

    #[test]
    fn a_directory_without_parent_is_an_error_that_names_it() {
        let place = tempfile::tempdir().unwrap();
        let error = Lock::take(&place.path().join("a/b")).unwrap_err();
        assert!(error.to_string().contains("a/b"), "{error}");
        assert_eq!(error.exit(), cli::EXIT_SETTINGS);
    }
}
