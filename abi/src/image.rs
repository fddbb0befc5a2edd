//! Images: where code lies in this process, and from which file it came.
//!
//! Owns a table of all shared objects that were there when it last looked, plugins above all. Read from
//! within signal handlers: entries are added and never changed or freed, and a look takes no lock and no
//! memory. Must never be asked to forget one: plugins are never unloaded (D-0E). A plugin that is being
//! loaded is in a place of its own until it is: what cannot be loaded uses nothing up. Diagnostics: none;
//! a library beyond [`LIBRARIES_MAX`] stays unknown, and what runs in it has no name.

use std::collections::HashSet;
use std::ffi::{CStr, OsStr, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

use crate::plugin::{PLUGINS_MAX, PluginIndex};

/// How many objects are known that are no plugins, the program itself among them.
const LIBRARIES_MAX: usize = PLUGINS_MAX;
/// How many are known at most: there is a place for each plugin that can be loaded.
const IMAGES_MAX: usize = PLUGINS_MAX + LIBRARIES_MAX;

static IMAGES: [AtomicPtr<Image>; IMAGES_MAX] =
    [const { AtomicPtr::new(ptr::null_mut()) }; IMAGES_MAX];
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The plugin that is being loaded; one at a time, as all of them are loaded by the main thread.
static PENDING: AtomicPtr<Pending> = AtomicPtr::new(ptr::null_mut());
/// Held by whoever adds; readers need nothing.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What only those who add need.
#[derive(Default)]
struct Known {
    /// The load biases of the known objects.
    biases: HashSet<usize>,
    libraries: usize,
    /// Whatever was announced: there are as many as files had names, however often they are loaded.
    announced: Vec<&'static Pending>,
}

/// A plugin that has a name and an index, and no place yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    name: Box<str>,
    plugin: PluginIndex,
}

/// One shared object, or the program itself.
#[derive(Debug)]
pub(crate) struct Image {
    /// The file's name, as its administrator knows it.
    name: Box<str>,
    plugin: Option<PluginIndex>,
    /// What opens the file that was loaded, whatever has its name by now.
    file: PathBuf,
    end: usize,
    start: usize,
    base: usize,
    /// Nothing opens the file any more.
    closed: AtomicBool,
}

impl Image {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn plugin(&self) -> Option<PluginIndex> {
        self.plugin
    }

    /// `None` where nothing keeps it open any more: the path may lead to something else by now.
    pub(crate) fn file(&self) -> Option<&Path> {
        (!self.closed.load(Ordering::Acquire)).then_some(&*self.file)
    }

    /// The place of an address within the file's own numbering.
    pub(crate) fn offset(&self, address: usize) -> usize {
        address.wrapping_sub(self.base)
    }

    /// What it was loaded from is about to be closed. Its name stays.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn contains(&self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// A plugin is about to be loaded: from now on its index has this name.
pub(crate) fn announce(name: &str, plugin: PluginIndex) {
    let announced = &mut known().announced;
    let again = announced.iter().find(|one| *one.name == *name && one.plugin == plugin);
    let pending: &'static Pending = again.copied().unwrap_or_else(|| {
        let pending: &'static Pending = Box::leak(Box::new(Pending { name: name.into(), plugin }));
        announced.push(pending);
        pending
    });
    PENDING.store(ptr::from_ref(pending).cast_mut(), Ordering::Release);
}

/// The plugin that was announced was loaded under `path`, and `file` opens it: where it lies, and what
/// else came with it, is known from now on. Where there is no place for it, `None`.
pub(crate) fn loaded(path: &Path, file: PathBuf) -> Option<&'static Image> {
    let image = pending().and_then(|pending| learn_with(Some((pending, path, file))));
    withdraw();
    image
}

/// What was announced was not loaded.
pub(crate) fn withdraw() {
    PENDING.store(ptr::null_mut(), Ordering::Release);
}

fn pending() -> Option<&'static Pending> {
    // SAFETY: null, or leaked by `announce` and never freed.
    unsafe { PENDING.load(Ordering::Acquire).as_ref() }
}

/// The same of all that was loaded for a plugin with this index.
pub(crate) fn close(plugin: PluginIndex) {
    all().filter(|image| image.plugin == Some(plugin)).for_each(Image::close);
}

/// Learns of every object that is there now.
pub(crate) fn learn() {
    let _ = learn_with(None);
}

/// The same, of which one was announced and is opened by the path that follows, and by the second later: that
/// one.
fn learn_with(mut announced: Option<(&Pending, &Path, PathBuf)>) -> Option<&'static Image> {
    let known = &mut *known();
    let mut image = None;
    let expected = announced.as_ref().map(|(_, path, _)| *path);
    for (path, extent) in unknown(&known.biases, expected) {
        known.biases.insert(extent.base);
        if let Some((pending, _, file)) =
            announced.take_if(|(_, expected, _)| same(expected, &path))
        {
            image = add(&pending.name, Some(pending.plugin), file, &extent);
            continue;
        }
        if known.libraries == LIBRARIES_MAX {
            continue;
        }
        known.libraries += 1;
        // The program itself has no name in the linker's list.
        let path = if path.as_os_str().is_empty() { "/proc/self/exe".into() } else { path };
        let told = path.read_link().unwrap_or_else(|_| path.clone());
        let name = told.file_name().map_or("unknown".into(), |name| name.to_string_lossy());
        add(&name, None, path, &extent);
    }
    image
}

/// By their letters: paths that lead to one file are told apart by how they are written.
fn same(one: &Path, other: &Path) -> bool {
    one.as_os_str() == other.as_os_str()
}

fn known() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// With [`KNOWN`] held. Only more plugins than one table can hold would find no place.
fn add(
    name: &str,
    plugin: Option<PluginIndex>,
    file: PathBuf,
    extent: &Extent,
) -> Option<&'static Image> {
    let count = COUNT.load(Ordering::Relaxed);
    let place = IMAGES.get(count)?;
    let (closed, Extent { base, start, end }) = (AtomicBool::new(false), *extent);
    let image = Image { name: name.into(), plugin, file, base, start, end, closed };
    let image: &'static Image = Box::leak(Box::new(image));
    place.store(ptr::from_ref(image).cast_mut(), Ordering::Release);
    COUNT.store(count + 1, Ordering::Release);
    Some(image)
}

/// The newest first: a plugin's index is given again when its first file was refused.
fn all() -> impl Iterator<Item = &'static Image> {
    let count = COUNT.load(Ordering::Acquire);
    IMAGES[..count].iter().rev().filter_map(|place| {
        // SAFETY: null, or leaked by `add` and never freed.
        unsafe { place.load(Ordering::Acquire).as_ref() }
    })
}

/// The object that an address lies in. Async-signal-safe.
pub(crate) fn containing(address: usize) -> Option<&'static Image> {
    all().find(|image| image.contains(address))
}

/// A plugin's file name. Async-signal-safe, and there before the plugin runs.
pub(crate) fn plugin_name(plugin: PluginIndex) -> Option<&'static str> {
    let pending = pending().filter(|pending| pending.plugin == plugin);
    let loaded = || all().find(|image| image.plugin == Some(plugin)).map(Image::name);
    pending.map(|pending| &*pending.name).or_else(loaded)
}

/// Where an object lies: its load bias, and from its first to behind its last segment.
#[derive(Debug, Clone, Copy)]
struct Extent {
    base: usize,
    start: usize,
    end: usize,
}

/// What the dynamic linker is asked for.
struct Search<'a> {
    known: &'a HashSet<usize>,
    /// One to find even where something was before, which a plugin has closed.
    expected: Option<&'a Path>,
    found: Vec<(PathBuf, Extent)>,
}

/// Every object that the dynamic linker knows and we do not, by the path that it was opened with.
fn unknown(known: &HashSet<usize>, expected: Option<&Path>) -> Vec<(PathBuf, Extent)> {
    let mut search = Search { known, expected, found: Vec::new() };
    let data = ptr::from_mut(&mut search).cast();
    // SAFETY: the callback fits the prototype, and is called with `data` before this returns.
    unsafe { libc::dl_iterate_phdr(Some(note), data) };
    search.found
}

unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: it is what `unknown` lends for this call.
    let search = unsafe { &mut *data.cast::<Search<'_>>() };
    // SAFETY: the linker lends its entry for this call.
    let info = unsafe { &*info };
    let name = match info.dlpi_name.is_null() {
        true => c"",
        // SAFETY: a string of the linker's.
        false => unsafe { CStr::from_ptr(info.dlpi_name) },
    };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    let is_expected = search.expected.is_some_and(|expected| same(expected, path));
    if search.known.contains(&(info.dlpi_addr as usize)) && !is_expected {
        return 0;
    }
    let (headers, count) = (info.dlpi_phdr, usize::from(info.dlpi_phnum));
    if headers.is_null() {
        return 0;
    }
    // SAFETY: so many headers stand there, as the entry says.
    let headers = unsafe { std::slice::from_raw_parts(headers, count) };
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let base = info.dlpi_addr as usize;
    let (mut start, mut end) = (usize::MAX, 0);
    for header in loaded {
        let first = base.wrapping_add(header.p_vaddr as usize);
        start = start.min(first);
        end = end.max(first.wrapping_add(header.p_memsz as usize));
    }
    if start < end {
        search.found.push((path.to_owned(), Extent { base, start, end }));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_by_its_address_and_nothing_else_is() {
        learn();
        let own = containing(learn as *const () as usize).expect("this program is an object");
        assert_eq!((own.plugin(), own.file()), (None, Some(Path::new("/proc/self/exe"))));
        let libc = containing(libc::getpid as *const () as usize).expect("so is the C library");
        assert!(libc.name().starts_with("libc"), "{libc:?}");
        assert!(libc.offset(libc::getpid as *const () as usize) < 1 << 30);
        assert!(containing(0).is_none() && containing(usize::MAX).is_none());
        let known = COUNT.load(Ordering::Relaxed);
        learn();
        assert_eq!(COUNT.load(Ordering::Relaxed), known, "nothing is listed twice");
    }

    #[test]
    fn an_announced_plugin_has_a_name_before_it_has_a_place() {
        let index = PluginIndex::from_bits(77);
        announce("first.so", index);
        withdraw();
        assert_eq!(plugin_name(index), None, "it was not loaded");
        announce("second.so", index);
        assert_eq!(plugin_name(index), Some("second.so"));
        let count = || (known().announced.len(), COUNT.load(Ordering::Relaxed));
        let before = count();
        for _ in 0..IMAGES_MAX {
            announce("first.so", index);
            assert_eq!(plugin_name(index), Some("first.so"));
            withdraw();
        }
        assert_eq!(count(), before, "what is not loaded uses nothing up");
    }
}
