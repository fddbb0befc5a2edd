//! Symbols: from addresses to functions, files and lines, out of what the compiler left in the files.
//!
//! Owns the reading of those. Slow, and takes memory: for threads that may wait, never for a worker or a
//! signal handler. Must never read a file that may change meanwhile: what is read is the private copy
//! that was loaded, or one that is made for it. Diagnostics: none; what has no name is told as
//! `OBJECT+0xOFFSET`.

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use addr2line::Loader;

use crate::copy::Reading;
use crate::image;

/// A larger file is not read: it would be in memory twice.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Functions that one address lies in, inlined ones first.
const INLINED_MAX: usize = 8;

/// What is known of an address, innermost first; empty for nothing. Each is a function with its place. The
/// readers are made for what compilers write, and no bug of theirs shall cost more than a name.
fn places(loader: &Loader, offset: u64) -> Vec<String> {
    catch_unwind(AssertUnwindSafe(|| places_of(loader, offset))).unwrap_or_default()
}

fn places_of(loader: &Loader, offset: u64) -> Vec<String> {
    let symbol = || {
        let symbol = loader.find_symbol(offset)?;
        Some(addr2line::demangle_auto(symbol.into(), None).into_owned())
    };
    let mut found = Vec::new();
    if let Ok(mut frames) = loader.find_frames(offset) {
        while let (true, Ok(Some(frame))) = (found.len() < INLINED_MAX, frames.next()) {
            let name = frame.function.and_then(|name| name.demangle().ok().map(Into::into));
            // With tables of lines alone, functions are in the table of symbols.
            let Some(name): Option<String> = name.or_else(symbol) else { continue };
            let location = frame.location.as_ref();
            let line = location.and_then(|location| location.line);
            match (location.and_then(|location| location.file), line) {
                (Some(file), Some(line)) => found.push(format!("{name} ({file}:{line})")),
                (Some(file), None) => found.push(format!("{name} ({file})")),
                (None, _) => found.push(name),
            }
        }
    }
    if found.is_empty() {
        found.extend(symbol());
    }
    found
}

/// One line a frame: the function, its place in the source, and the object.
fn told(name: &str, offset: u64, places: Vec<String>, into: &mut Vec<String>) {
    match places.is_empty() {
        true => into.push(format!("{name}+{offset:#x}")),
        false => into.extend(places.into_iter().map(|place| format!("{place} in {name}"))),
    }
}

/// What lies at these addresses of this process, innermost first; one line a function.
pub fn describe(addresses: &[usize]) -> Vec<String> {
    let mut lines = Vec::new();
    // Neighbours are mostly of one object, and a reader is costly.
    let mut open: Option<(*const image::Image, Option<Loader>)> = None;
    for address in addresses {
        let Some(image) = image::containing(*address) else {
            lines.push(format!("{address:#x}"));
            continue;
        };
        let same = open.as_ref().is_some_and(|(known, _)| std::ptr::eq(*known, image));
        if !same {
            open = Some((image, image.file().and_then(reader)));
        }
        let loader = open.as_ref().and_then(|(_, loader)| loader.as_ref());
        let offset = image.offset(*address) as u64;
        let places = loader.map(|loader| places(loader, offset)).unwrap_or_default();
        told(image.name(), offset, places, &mut lines);
    }
    lines
}

fn load(file: &Path) -> Option<Loader> {
    catch_unwind(|| Loader::new(file).ok()).ok().flatten()
}

/// A file that is in nobody's way while it is read.
fn reader(file: &Path) -> Option<Loader> {
    let size = fs::metadata(file).ok()?.len();
    (size <= FILE_BYTES_MAX).then(|| load(file)).flatten()
}

/// The symbols of a file on disk, for addresses that another process has written down.
pub struct Symbols {
    loader: Loader,
    // What the loader has mapped.
    _copy: Reading,
}

impl Symbols {
    /// Reads a shared object or program; `None` if it cannot be read, or is too large for that.
    pub fn of_file(file: &Path) -> Option<Symbols> {
        let size = fs::metadata(file).ok()?.len();
        let copy = (size <= FILE_BYTES_MAX).then(|| Reading::of(file).ok()).flatten()?;
        let loader = load(&copy.path())?;
        Some(Symbols { loader, _copy: copy })
    }

    /// What lies at an offset of the file, innermost first; one line a function.
    pub fn describe(&self, name: &str, offset: u64) -> Vec<String> {
        let mut lines = Vec::new();
        told(name, offset, places(&self.loader, offset), &mut lines);
        lines
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbols").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_is_named_with_its_line() {
        image::learn();
        let lines = describe(&[reader as *const () as usize]);
        assert!(lines[0].contains("reader"), "{lines:?}");
        assert!(lines[0].contains("symbols.rs:"), "{lines:?}");
        assert_eq!(describe(&[16]), ["0x10"]);
    }

    #[test]
    fn what_is_no_object_has_no_symbols() {
        assert!(Symbols::of_file(Path::new("/etc/passwd")).is_none());
        assert!(Symbols::of_file(Path::new("/nonexistent")).is_none());
        let own = std::env::current_exe().expect("a test knows its program");
        let symbols = Symbols::of_file(&own).expect("it is one");
        assert_eq!(symbols.describe("own", 1 << 50), ["own+0x4000000000000"]);
    }
}
