//! What a shared object says of itself: its machine, what it exports, imports and needs.
//!
//! Must never: trust a file. It is read in bounds, and nothing of it is run.
//!
//! **Diagnostics**: [`ElfError`], which says what the file is instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolFlags};

/// A plugin or library beyond this is none that anybody would load.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why a file cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    /// It is not there, or not ours to read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is larger than [`FILE_BYTES_MAX`].
    #[error("{} is larger than 1 GiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no ELF file at all.
    #[error("not an ELF file; a plugin is a shared object: gcc -shared -fPIC -o mine.so mine.c")]
    NotElf,
    /// It is an ELF file of 32 bits.
    #[error("an ELF file of 32 bits; this host is one of 64")]
    Narrow,
    /// It is an object file, a program or a core dump.
    #[error("{0}, not a shared object; link it with -shared")]
    NotShared(&'static str),
    /// It contradicts itself.
    #[error("a damaged ELF file: {0}")]
    Damaged(object::read::Error),
}

/// How badly a symbol is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Without it nothing loads.
    Strong,
    /// Without it, it is NULL.
    Weak,
}

/// A processor, by the number that ELF gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine(u16);

impl Machine {
    /// The one that this program is made for.
    pub(super) const OURS: Machine = if cfg!(target_arch = "aarch64") {
        Machine(elf::EM_AARCH64.0)
    } else {
        Machine(elf::EM_X86_64.0)
    };
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            62 => f.write_str("x86-64"),
            183 => f.write_str("AArch64"),
            243 => f.write_str("RISC-V"),
            21 => f.write_str("PowerPC64"),
            22 => f.write_str("S/390"),
            number => write!(f, "machine {number}"),
        }
    }
}

/// What a shared object says of itself.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) machine: Machine,
    /// Libraries by their names, in the order in which they are searched (`DT_NEEDED`).
    pub(super) needed: Vec<String>,
    /// Folders of `DT_RUNPATH` or `DT_RPATH`, `$ORIGIN` as it stands.
    pub(super) search: Vec<String>,
    pub(super) exported: BTreeSet<String>,
    pub(super) imported: BTreeMap<String, Binding>,
    /// Of those, what others of the same name may stand in for: what C++ makes of templates and the like.
    pub(super) shared: BTreeSet<String>,
    /// What it defines and does not export, where it was not stripped.
    pub(super) hidden: BTreeSet<String>,
}

impl Image {
    /// Reads a shared object, or the program that runs.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub(super) fn read(path: &Path) -> Result<Image, ElfError> {
        Image::parse(&bytes_of(path)?)
    }

    fn parse(bytes: &[u8]) -> Result<Image, ElfError> {
        match bytes.get(..5) {
            Some([0x7f, b'E', b'L', b'F', 2]) => {}
            Some([0x7f, b'E', b'L', b'F', 1]) => return Err(ElfError::Narrow),
            _ => return Err(ElfError::NotElf),
        }
        let file = ElfFile64::<Endianness>::parse(bytes).map_err(ElfError::Damaged)?;
        let header = file.elf_header();
        let endian = file.endian();
        match header.e_type(endian) {
            elf::ET_DYN => {}
            elf::ET_REL => return Err(ElfError::NotShared("an object file")),
            elf::ET_EXEC => return Err(ElfError::NotShared("a program")),
            _ => return Err(ElfError::NotShared("an ELF file of another kind")),
        }
        let (needed, search) = named(&file)?;
        let Linked { exported, imported, shared } = linked(&file);
        let hidden = own(&file, &exported);
        let machine = Machine(header.e_machine(endian).0);
        Ok(Image { machine, needed, search, exported, imported, shared, hidden })
    }

    /// Whether it can be started, as a program for any address can.
    pub(super) fn is_program(path: &Path) -> bool {
        let Ok(bytes) = bytes_of(path) else { return false };
        let Ok(file) = ElfFile64::<Endianness>::parse(&*bytes) else { return false };
        let mut headers = file.elf_program_headers().iter();
        headers.any(|header| header.p_type(file.endian()) == elf::PT_INTERP)
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, ElfError> {
    let unreadable = |source| ElfError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ElfError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

type Elf64<'a> = ElfFile64<'a, Endianness>;

/// The libraries that it needs, and where it wants them searched for.
fn named(file: &Elf64<'_>) -> Result<(Vec<String>, Vec<String>), ElfError> {
    let table = file.elf_dynamic_table().map_err(ElfError::Damaged)?;
    let text = |entry| {
        let bytes = table.string(entry).map_err(ElfError::Damaged)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    let (mut needed, mut search) = (Vec::new(), Vec::new());
    for entry in table.iter() {
        match entry.tag {
            elf::DT_NEEDED => needed.push(text(entry)?),
            elf::DT_RUNPATH | elf::DT_RPATH => {
                search.extend(text(entry)?.split(':').map(str::to_owned));
            }
            _ => {}
        }
    }
    search.retain(|folder| !folder.is_empty());
    Ok((needed, search))
}

/// The dynamic symbols.
#[derive(Default)]
struct Linked {
    exported: BTreeSet<String>,
    imported: BTreeMap<String, Binding>,
    shared: BTreeSet<String>,
}

fn linked(file: &Elf64<'_>) -> Linked {
    let mut linked = Linked::default();
    for symbol in file.dynamic_symbols() {
        let Ok(name) = symbol.name() else { continue };
        if name.is_empty() || symbol.is_local() {
            continue;
        }
        if symbol.is_undefined() {
            let binding = if symbol.is_weak() { Binding::Weak } else { Binding::Strong };
            linked.imported.insert(name.to_owned(), binding);
        } else {
            linked.exported.insert(name.to_owned());
            if is_shared(symbol.flags()) {
                linked.shared.insert(name.to_owned());
            }
        }
    }
    linked
}

/// Weak, or unique among all that a process has loaded.
fn is_shared<S, T>(flags: SymbolFlags<S, T>) -> bool {
    match flags {
        SymbolFlags::Elf { st_info, .. } => {
            matches!(st_info.st_bind(), elf::STB_WEAK | elf::STB_GNU_UNIQUE)
        }
        _ => false,
    }
}

fn own(file: &Elf64<'_>, exported: &BTreeSet<String>) -> BTreeSet<String> {
    let defined = file.symbols().filter(|symbol| !symbol.is_undefined());
    let names = defined.filter_map(|symbol| symbol.name().ok());
    names.filter(|name| !name.is_empty() && !exported.contains(*name)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every header of a real file, cut and changed in all places: an error or an image, never more.
    #[test]
    fn damaged_files_are_refused_without_harm() {
        let whole = bytes_of(Path::new("/proc/self/exe")).unwrap();
        assert!(Image::parse(&whole).unwrap().exported.contains("MQ_log"));
        for end in (0..4096).step_by(7) {
            let _ = Image::parse(&whole[..end]);
        }
        let mut small = whole[..whole.len().min(1 << 16)].to_vec();
        for at in 0..512 {
            let kept = std::mem::replace(&mut small[at], 0xff);
            let _ = Image::parse(&small);
            small[at] = kept;
        }
    }

    #[test]
    fn what_is_no_shared_object_is_told_apart() {
        assert!(matches!(Image::parse(b"#!/bin/sh\n"), Err(ElfError::NotElf)));
        assert!(matches!(Image::parse(b"\x7fELF\x01\x01"), Err(ElfError::Narrow)));
        assert!(matches!(Image::parse(b"\x7fELF\x02\x01"), Err(ElfError::Damaged(_))));
        let gone = Image::read(Path::new("/nowhere/at/all.so")).unwrap_err().to_string();
        assert!(gone.starts_with("/nowhere/at/all.so cannot be read: "), "{gone}");
        assert!(Image::is_program(Path::new("/proc/self/exe")));
    }
}
