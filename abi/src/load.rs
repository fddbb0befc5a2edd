//! Loading: from a directory of files to a table of plugins.
//!
//! Owns what counts as a plugin, its order, and which versions are accepted. Must never load half of
//! them unless asked to: a missing policy plugin is an open door (D-04). Diagnostics: [`LoadError`],
//! always the administrator's: each names the file or directory, and what would be right.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use object::{Object, ObjectSymbol};
use thiserror::Error;

use crate::call;
use crate::copy::{Copier, Copies, Fingerprint, PrivateCopy};
use crate::generation::{Accepted, Generation, Imports, Mismatch};
use crate::hook::{Hook, Site};
use crate::hooks::{self, Hooks};
use crate::image::{self, Image};
use crate::json_library::JsonLibrary;
use crate::plugin::{Life, Loaded, PLUGINS_MAX, Plugin, PluginIndex};
use crate::set::PluginSet;
use crate::table::Plugins;

/// The directory with the plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginDirectory {
    /// Named by the administrator: it must exist (D-07).
    Set(PathBuf),
    /// Built in: if it does not exist, there are no plugins (D-07).
    Default(PathBuf),
}

impl PluginDirectory {
    fn path(&self) -> &Path {
        match self {
            PluginDirectory::Set(path) | PluginDirectory::Default(path) => path,
        }
    }
}

/// What becomes of a plugin that cannot be loaded (`plugin-errors`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Nothing starts (D-03, D-04).
    #[default]
    Refuse,
    /// It is left out, and reported as [`Skipped`].
    Skip,
}

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where the plugins are.
    pub directory: PluginDirectory,
    /// Where their private copies go.
    pub copies: Copies,
    /// Values of `mq_version` to accept besides those of the header (`plugin-api-versions`, D-01). What
    /// such a plugin calls says of which generation it is (D-02).
    pub extra_versions: Vec<i32>,
    /// What becomes of a plugin that cannot be loaded.
    pub on_error: OnError,
}

/// A plugin that was left out.
#[derive(Debug)]
pub struct Skipped {
    /// Its file.
    pub file: PathBuf,
    /// Why.
    pub error: LoadError,
}

/// Why plugins were not loaded. All are for the administrator to act on.
#[derive(Debug, Error)]
pub enum LoadError {
    /// D-07
    #[error(
        "the plugin directory {} does not exist; create it, or leave the setting away to run \
         without plugins", path.display()
    )]
    DirectoryMissing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory exists and cannot be listed.
    #[error("the plugin directory {} cannot be read: {source}", path.display())]
    DirectoryUnreadable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More plugins than a token can tell apart.
    #[error("the plugin directory {} holds {count} plugins; at most {PLUGINS_MAX} can be loaded", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// How many it holds.
        count: usize,
    },
    /// It was refused before, and is the same file still.
    #[error("{reason}")]
    Again {
        /// What was said then.
        reason: String,
    },
    /// A process loads so many plugins in its life (D-0E).
    #[error(
        "plugin {} cannot be loaded: this server has loaded {PLUGINS_MAX} plugins since its start, \
         reloads included, which is the limit; restart it", file.display()
    )]
    Spent {
        /// The plugin.
        file: PathBuf,
    },
    /// No place for private copies.
    #[error(
        "no directory for private copies of plugins can be made in {}: {source}; \
         it must exist and be writable", path.display()
    )]
    NoPlaceForCopies {
        /// The directory within which it was to be made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private copy could not be made.
    #[error("plugin {} cannot be copied before loading: {source}", file.display())]
    Copy {
        /// The plugin.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// D-04
    #[error(
        "plugin {} cannot be loaded: {reason}; a plugin is a shared object for this machine, and \
         every symbol that it uses must be in a library that it names or in mailerq.h", file.display()
    )]
    Open {
        /// The plugin.
        file: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// Its sanitizer would end the process, and not name it.
    #[error(
        "plugin {} was compiled with a sanitizer ({symbol}), whose library has to be in a process from \
         its beginning; compile it without, or start the server with LD_PRELOAD naming that library",
        file.display()
    )]
    Sanitizer {
        /// The plugin.
        file: PathBuf,
        /// What of the sanitizer it calls.
        symbol: &'static str,
    },
    /// D-03
    #[error(
        "plugin {} exports no mq_version; it must return MQ_API_VERSION (accepted here: {accepted})",
        file.display()
    )]
    VersionMissing {
        /// The plugin.
        file: PathBuf,
        /// What would be right.
        accepted: Accepted,
    },
    /// D-03
    #[error(
        "plugin {} is made for version {version} of the plugin interface; accepted here: {accepted}",
        file.display()
    )]
    VersionRefused {
        /// The plugin.
        file: PathBuf,
        /// What its `mq_version` returned.
        version: i32,
        /// What would be right.
        accepted: Accepted,
    },
    /// D-02
    #[error("plugin {} is of no generation that can be told: {mismatch}", file.display())]
    Generation {
        /// The plugin.
        file: PathBuf,
        /// Why.
        mismatch: Mismatch,
    },
}

/// What a look into the directory came to.
#[derive(Debug)]
pub struct Prepared {
    /// The plugins to ask. None of the new ones is initialized.
    pub set: Arc<PluginSet>,
    /// Those that were left out, or whose earlier instance stays.
    pub skipped: Vec<Skipped>,
}

impl Plugins {
    /// Loads every plugin of a directory and asks it for its version. No hook but `mq_version` runs.
    ///
    /// On the main thread, before any port is open. Plugins are never unloaded, not even those that are
    /// refused: their constructors have run.
    pub fn load(options: &LoadOptions) -> Result<(Plugins, Vec<Skipped>), LoadError> {
        let plugins = Plugins::default();
        let Prepared { set, skipped } = plugins.prepare(options)?;
        plugins.adopt(set);
        Ok((plugins, skipped))
    }

    /// Looks into the directory again: a file that was changed, or is new, is loaded as an instance of
    /// its own, the others keep theirs (D-0E). Changes nothing of what is asked now.
    ///
    /// On the main thread. Where a plugin may be skipped, one that cannot be loaded keeps the instance that
    /// is asked now.
    pub fn prepare(&self, options: &LoadOptions) -> Result<Prepared, LoadError> {
        let files = list(&options.directory)?;
        let (mut plugins, mut skipped) = (Vec::with_capacity(files.len()), Vec::new());
        let now = self.set();
        let accepted = Accepted::new(&options.extra_versions);
        let copier = files.first().map(|_| copier(&options.copies)).transpose()?;
        for (name, copier) in files.iter().zip(copier.iter().cycle()) {
            let file = options.directory.path().join(name);
            match self.instance(&file, name, &now, copier, &accepted) {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => match options.on_error {
                    OnError::Refuse => return Err(error),
                    OnError::Skip => {
                        plugins.extend(self.in_set(&now, name));
                        skipped.push(Skipped { file, error });
                    }
                },
            }
        }
        let same = plugins.iter().map(|plugin| plugin.index).eq(now.plugins().iter().copied());
        let set = if same { now } else { Arc::new(PluginSet::new(&plugins)) };
        Ok(Prepared { set, skipped })
    }

    /// The instance that is asked now under this name.
    fn in_set(&self, set: &PluginSet, name: &OsStr) -> Option<&'static Plugin> {
        let plugins = set.plugins().iter().map(|index| self.plugin(*index));
        plugins.into_iter().find(|plugin| *plugin.name == *name.to_string_lossy())
    }

    /// An instance of what the file holds now: one that is in use, one that was loaded for a reload that
    /// came to nothing, or a new one.
    fn instance(
        &self,
        file: &Path,
        name: &OsStr,
        now: &PluginSet,
        copier: &Copier,
        accepted: &Accepted,
    ) -> Result<&'static Plugin, LoadError> {
        let copy = copier
            .copy(file, name)
            .map_err(|source| LoadError::Copy { file: file.to_owned(), source })?;
        let fits = |plugin: &&Plugin| plugin.fingerprint == copy.fingerprint;
        if let Some(plugin) = self.in_set(now, name).filter(fits) {
            return Ok(plugin);
        }
        let unused = self.all().filter(|plugin| plugin.life() == Life::Loaded);
        let mut unused: Vec<_> =
            unused.filter(|plugin| *plugin.name == *name.to_string_lossy()).collect();
        unused.retain(|plugin| !now.contains(plugin.index));
        if let Some(plugin) = unused.iter().copied().find(fits) {
            return Ok(plugin);
        }
        self.find_refused(name, copy.fingerprint)?;
        let index = self.next().ok_or_else(|| LoadError::Spent { file: file.to_owned() })?;
        let fingerprint = copy.fingerprint;
        let loaded = load_one(file, name, index, copy, accepted);
        if let Err(error) = &loaded
            && error.leaves_it_loaded()
        {
            self.refuse(Refused { name: name.to_owned(), fingerprint, reason: error.to_string() });
        }
        let plugin = self.append(loaded?);
        // Nobody is going to use what it replaces.
        unused.iter().for_each(|plugin| plugin.end());
        Ok(plugin)
    }
}

/// A file that was loaded and is not used: loading it again for each reload would have no end.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) name: OsString,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) reason: String,
}

impl LoadError {
    /// Whether the file is part of this process now, for good.
    fn leaves_it_loaded(&self) -> bool {
        match self {
            LoadError::VersionMissing { .. }
            | LoadError::VersionRefused { .. }
            | LoadError::Generation { .. } => true,
            LoadError::DirectoryMissing { .. }
            | LoadError::DirectoryUnreadable { .. }
            | LoadError::TooMany { .. }
            | LoadError::Again { .. }
            | LoadError::Spent { .. }
            | LoadError::NoPlaceForCopies { .. }
            | LoadError::Copy { .. }
            | LoadError::Sanitizer { .. }
            | LoadError::Open { .. } => false,
        }
    }
}

fn copier(copies: &Copies) -> Result<Copier, LoadError> {
    Copier::new(copies).map_err(|source| LoadError::NoPlaceForCopies {
        path: match copies {
            Copies::Directory(parent) => parent.clone(),
            Copies::Memory => PathBuf::from("memory"),
        },
        source,
    })
}

/// The file names of a directory's plugins in their order (D-06).
fn list(directory: &PluginDirectory) -> Result<Vec<OsString>, LoadError> {
    let path = directory.path();
    let unreadable = |source| LoadError::DirectoryUnreadable { path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match directory {
                PluginDirectory::Default(_) => Ok(Vec::new()),
                PluginDirectory::Set(_) => {
                    Err(LoadError::DirectoryMissing { path: path.to_owned() })
                }
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        if is_plugin(&entry.file_name(), &entry.path()) {
            names.push(entry.file_name());
        }
    }
    // D-06: by bytes, whatever the locale; so `10-` comes before `9-`.
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    if names.len() > PLUGINS_MAX {
        return Err(LoadError::TooMany { path: path.to_owned(), count: names.len() });
    }
    Ok(names)
}

/// A regular file, or a link to one. A link to nothing counts: that it cannot be loaded must be said.
fn is_plugin(name: &OsStr, path: &Path) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".so")
        && !name.starts_with(b".")
        && fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

fn load_one(
    file: &Path,
    name: &OsStr,
    index: PluginIndex,
    mut copy: PrivateCopy,
    accepted: &Accepted,
) -> Result<Plugin, LoadError> {
    let shown: Box<str> = name.to_string_lossy().into();
    let contents = Contents::of(copy.path());
    if let Some(symbol) = contents.sanitizer {
        return Err(LoadError::Sanitizer { file: file.to_owned(), symbol });
    }
    let (opened, kept) = copy.keep();
    image::announce(&shown, index);
    let library = call::loading_code(index, &shown, Site::Load, || {
        // SAFETY: the library's constructors run here. Loading it is the administrator's decision, and
        // running foreign code is its whole purpose.
        unsafe { Library::open(Some(copy.path()), RTLD_NOW | RTLD_LOCAL) }
    });
    let image = match &library {
        Ok(_) => image::loaded(copy.path(), opened),
        Err(_) => {
            image::withdraw();
            None
        }
    };
    let library = ManuallyDrop::new(library.map_err(|error| LoadError::Open {
        file: file.to_owned(),
        reason: linker_reason(&error, copy.path()),
    })?);
    // It stays, and what it was loaded from does not.
    let refused = |_: &LoadError| image.into_iter().for_each(Image::close);
    let generation = ask_generation(&library, index, &shown, file, &contents, accepted);
    let generation = generation.inspect_err(refused)?;
    // SAFETY: the plugin was compiled for this generation by its own word, which what it calls does not
    // belie; a library in `ManuallyDrop` stays.
    let hooks = unsafe { Hooks::resolve(&library, generation) };
    // As long as the plugin: for good.
    let json = JsonLibrary::of_plugin(&library, generation).map(|json| &*Box::leak(Box::new(json)));
    let (name, fingerprint) = (shown, copy.fingerprint);
    let unknown = contents.unknown;
    let loaded =
        Loaded { name, generation, hooks, unknown, json, library, fingerprint, copy: kept };
    Ok(Plugin::new(index, loaded))
}

/// Of which generation a library is, by its own word and by what it calls.
fn ask_generation(
    library: &Library,
    index: PluginIndex,
    shown: &str,
    file: &Path,
    contents: &Contents,
    accepted: &Accepted,
) -> Result<Generation, LoadError> {
    let file = || file.to_owned();
    let version = hooks::ask_version(library, index, shown)
        .ok_or_else(|| LoadError::VersionMissing { file: file(), accepted: accepted.clone() })?;
    if !accepted.contains(version) {
        let accepted = accepted.clone();
        return Err(LoadError::VersionRefused { file: file(), version, accepted });
    }
    contents
        .imports
        .place(version)
        .map_err(|mismatch| LoadError::Generation { file: file(), mismatch })
}

/// What a file calls and exports. Nothing for one that cannot be read as ELF: the dynamic linker says so.
#[derive(Default)]
struct Contents {
    imports: Imports,
    /// A function of a sanitizer that is not in this process.
    sanitizer: Option<&'static str>,
    /// Exports under names kept for hooks that are none, at most [`UNKNOWN_MAX`].
    unknown: Vec<String>,
}

/// Where sanitizers begin, which nothing else calls. Those that need not be there from the beginning are left
/// out.
const SANITIZERS: [&CStr; 4] = [c"__asan_init", c"__hwasan_init", c"__msan_init", c"__tsan_init"];
/// So many names that are no hooks are told of one plugin.
const UNKNOWN_MAX: usize = 8;

impl Contents {
    fn of(file: &Path) -> Contents {
        let Ok(bytes) = fs::read(file) else { return Contents::default() };
        let Ok(elf) = object::File::parse(&*bytes) else { return Contents::default() };
        let names = |undefined: bool| {
            let symbols =
                elf.dynamic_symbols().filter(move |symbol| symbol.is_undefined() == undefined);
            symbols.filter_map(|symbol| symbol.name().ok())
        };
        let called = |symbol: &&CStr| names(true).any(|name| name.as_bytes() == symbol.to_bytes());
        let sanitizer = SANITIZERS.into_iter().find(|symbol| called(symbol) && !is_here(symbol));
        let is_kept = |name: &&str| name.starts_with("mq_") || name.starts_with("mqx_");
        let is_hook = |name: &str| Hook::ALL.iter().any(|hook| hook.name() == name);
        let unknown = names(false).filter(is_kept).filter(|name| !is_hook(name));
        Contents {
            unknown: unknown.take(UNKNOWN_MAX).map(str::to_owned).collect(),
            imports: Imports::of(names(true), names(false)),
            sanitizer: sanitizer.and_then(|symbol| symbol.to_str().ok()),
        }
    }
}

/// Whether anything in this process has that symbol.
fn is_here(symbol: &CStr) -> bool {
    // SAFETY: looks a name up in what is loaded, and nothing is done with what it finds.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }.is_null()
}

/// The linker's words, without the path of the copy, which says nothing to anybody.
fn linker_reason(error: &libloading::Error, copy: &Path) -> String {
    let words = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    words.replace(&format!("{}: ", copy.display()), "")
}
