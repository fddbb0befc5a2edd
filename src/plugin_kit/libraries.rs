//! Where the libraries are that a shared object needs, as the dynamic linker would find them.
//!
//! Owns the order of the search: `DT_RUNPATH`, `LD_LIBRARY_PATH`, the linker's cache, the folders that
//! it knows by itself. Must never: load one.
//!
//! **Diagnostics**: a library that is nowhere is reported as such; the search ends at a bound.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::elf::{Image, Machine};

/// Where the linker looks in the end.
const FOLDERS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];
/// Libraries that are followed at most; no plugin needs as many.
const LIBRARIES_MAX: usize = 1_024;
const ORIGIN: &str = "ORIGIN";
const CACHE: &str = "/etc/ld.so.cache";

/// One library that something needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// By this name.
    pub(super) name: String,
    /// Here, if it is anywhere.
    pub(super) path: Option<PathBuf>,
    /// Needed by this one, which may be a library itself.
    pub(super) needed_by: String,
}

/// All libraries that a shared object needs, those of libraries included, and what they export.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    pub(super) all: Vec<Library>,
    pub(super) exported: BTreeSet<String>,
}

/// Where libraries are looked for.
#[derive(Debug)]
pub(super) struct Search {
    environment: Vec<PathBuf>,
    cache: BTreeMap<String, Vec<PathBuf>>,
}

impl Search {
    /// As this process would search.
    pub(super) fn of_process() -> Search {
        let environment = std::env::var_os("LD_LIBRARY_PATH");
        let environment = environment.iter().flat_map(std::env::split_paths).collect();
        // Without a cache the folders are all there is.
        let cache = std::fs::read(CACHE).unwrap_or_default();
        Search { environment, cache: parse_cache(&cache) }
    }

    /// Follows all that `image` needs, which stands at `path`. `$ORIGIN` of a plugin is nowhere, for
    /// the server loads a private copy of it; that of a library is its folder.
    pub(super) fn follow(&self, path: &Path, image: &Image) -> Libraries {
        let mut found = Libraries::default();
        let mut seen = BTreeSet::new();
        let mut image = image.clone();
        image.search.retain(|folder| !folder.contains(ORIGIN));
        let mut waiting = VecDeque::from([(path.to_owned(), image)]);
        while let Some((path, image)) = waiting.pop_front() {
            let needed_by =
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
            for name in &image.needed {
                if seen.len() >= LIBRARIES_MAX || !seen.insert(name.clone()) {
                    continue;
                }
                let library = self.find(name, &path, &image);
                if let Some((place, image)) = &library {
                    found.exported.extend(image.exported.iter().cloned());
                    waiting.push_back((place.clone(), image.clone()));
                }
                let path = library.map(|(place, _)| place);
                found.all.push(Library { name: name.clone(), path, needed_by: needed_by.clone() });
            }
        }
        found
    }

    /// The first that is a library for this machine; others are passed over, as the linker does.
    fn find(&self, name: &str, needed_by: &Path, image: &Image) -> Option<(PathBuf, Image)> {
        let usable = |path: PathBuf| match Image::read(&path) {
            Ok(image) if image.machine == Machine::OURS => Some((path, image)),
            Ok(_) | Err(_) => None,
        };
        if name.contains('/') {
            return usable(PathBuf::from(name));
        }
        let origin = needed_by.parent().unwrap_or_else(|| Path::new("."));
        let origin = origin.to_string_lossy();
        let own = image.search.iter().map(|folder| {
            PathBuf::from(folder.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin))
        });
        let before = own.chain(self.environment.iter().cloned()).map(|folder| folder.join(name));
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let after = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        before.chain(cached).chain(after).find_map(usable)
    }
}

/// The cache that ldconfig writes: 48 octets, then 24 for each library, of which octets 4 to 8 and 8 to
/// 12 say where its name and its path begin, counted from the start of the header. A cache of another
/// format is none.
fn parse_cache(bytes: &[u8]) -> BTreeMap<String, Vec<PathBuf>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER_BYTES: usize = 48;
    const ENTRY_BYTES: usize = 24;
    let mut found = BTreeMap::<String, Vec<PathBuf>>::new();
    // A cache for old linkers as well has this one behind theirs.
    let Some(start) = memchr::memmem::find(bytes, MAGIC) else { return found };
    let bytes = &bytes[start..];
    let number = |at: usize| {
        let octets = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_ne_bytes(octets)).ok()
    };
    let text = |at: usize| {
        let rest = bytes.get(at..)?;
        let end = memchr::memchr(0, rest)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let count = number(MAGIC.len()).unwrap_or(0);
    let places = (0..count).map(|index| HEADER_BYTES + index * ENTRY_BYTES);
    for place in places.take_while(|place| place + ENTRY_BYTES <= bytes.len()) {
        let name = number(place + 4).and_then(text);
        let path = number(place + 8).and_then(text);
        if let (Some(name), Some(path)) = (name, path) {
            found.entry(name.to_owned()).or_default().push(path.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_of_this_program_are_found_with_what_they_export() {
        let path = Path::new("/proc/self/exe");
        let image = Image::read(path).unwrap();
        let libraries = Search::of_process().follow(path, &image);
        let libc = libraries.all.iter().find(|library| library.name.starts_with("libc.so"));
        assert!(libc.is_some_and(|library| library.path.is_some()), "{:?}", libraries.all);
        assert!(libraries.exported.contains("malloc"));
    }

    #[test]
    fn a_cache_is_read_by_its_layout_and_a_damaged_one_is_none() {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(1u32.to_ne_bytes());
        cache.resize(48, 0);
        cache.extend(3u32.to_ne_bytes());
        cache.extend(72u32.to_ne_bytes());
        cache.extend(80u32.to_ne_bytes());
        cache.resize(72, 0);
        cache.extend(b"libx.so\0/l/libx.so\0");
        let found = parse_cache(&cache);
        assert_eq!(found.get("libx.so"), Some(&vec![PathBuf::from("/l/libx.so")]));
        for end in 0..cache.len() {
            let _ = parse_cache(&cache[..end]);
        }
        assert!(parse_cache(b"something else").is_empty());
    }
}
