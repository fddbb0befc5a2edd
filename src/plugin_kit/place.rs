//! A temporary folder that goes when its owner does.
//!
//! **Diagnostics**: what the system says of making it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// A new folder, this user's alone.
    pub(super) fn make() -> std::io::Result<Place> {
        use std::os::unix::fs::DirBuilderExt;
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("rohrpost-plugin-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One that is there already is not ours, whatever is in it.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Place(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left of it is harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
