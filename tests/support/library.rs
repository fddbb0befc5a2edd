//! Libraries that plugins of the tests are built with, as `tests/tools/fetch.sh` unpacked them.
//!
//! It owns the compiler's options for them; nothing is installed, so a path to them is in each object
//! that is linked. **Diagnostics**: a library that was not fetched panics with the command that fetches it.

use std::path::PathBuf;

use super::tool::Tool;

/// A library with its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "an offer to every test module, not all taken yet")]
pub(crate) enum Library {
    /// libev.
    Ev,
    /// hiredis, whose adapter for libev is a header that wants [`Library::Ev`] too.
    Hiredis,
    /// c-ares.
    Cares,
    /// libcurl.
    Curl,
    /// json-c.
    JsonC,
    /// libfastjson.
    Fastjson,
}

impl Library {
    /// What links it: `-lNAME`. To be said behind the source, with [`Library::headers`] and
    /// [`Library::places`].
    pub(crate) fn link(self) -> &'static str {
        match self {
            Library::Ev => "-lev",
            Library::Hiredis => "-lhiredis",
            Library::Cares => "-lcares",
            Library::Curl => "-lcurl",
            Library::JsonC => "-ljson-c",
            Library::Fastjson => "-lfastjson",
        }
    }

    /// Where the headers of all of them are: options that also keep the compiler from judging them.
    pub(crate) fn headers() -> Vec<String> {
        let include = Library::folder().join("usr/include");
        let mut folders = vec![include.clone()];
        // Debian's curl keeps its own below the name of the machine.
        folders.extend(subfolders(&include).filter(|folder| folder.join("curl").is_dir()));
        folders.iter().map(|folder| format!("-isystem{}", folder.display())).collect()
    }

    /// Where all of them are, for the linker and for the object that it makes.
    pub(crate) fn places() -> Vec<String> {
        let folder = subfolders(&Library::folder().join("usr/lib"))
            .find(|folder| folder.join("libev.so").exists())
            .expect("libev was unpacked below usr/lib/MACHINE");
        let folder = folder.display();
        // An old tag on purpose: it holds for what the library needs as well.
        vec![format!("-L{folder}"), format!("-Wl,--disable-new-dtags,-rpath,{folder}")]
    }

    fn folder() -> PathBuf {
        let folder = Tool::folder("deb").join("libraries");
        assert!(folder.is_dir(), "no {}: run tests/tools/fetch.sh once", folder.display());
        folder
    }
}

fn subfolders(folder: &std::path::Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).expect("an unpacked package can be read");
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
}

#[test]
fn what_was_fetched_can_be_linked_and_loaded() {
    use super::{
        plugin::{Sanitizer, compile_plugin_with},
        process::Process,
        wait::PATIENCE,
    };
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("all.c");
    std::fs::write(
        &source,
        "#include <stdlib.h>\n#include <sys/time.h>\n#include <ev.h>\n\
         #include <hiredis/hiredis.h>\n#include <hiredis/async.h>\n#include <hiredis/adapters/libev.h>\n\
         #include <ares.h>\n#include <curl/curl.h>\n#include <json-c/json.h>\n\
         __attribute__((visibility(\"default\"))) int known(void) {\n\
         if (!ev_version_major()) redisLibevAttach(NULL, NULL);\n\
         return ares_version(NULL) && curl_version() && json_c_version(); }\n",
    )
    .unwrap();
    let all = [Library::Ev, Library::Hiredis, Library::Cares, Library::Curl, Library::JsonC];
    let object = compile_plugin_with(&source, directory.path(), "all", Sanitizer::Off, &all);
    // Fastjson's headers define some of json-c's names.
    let fast = directory.path().join("fast.c");
    std::fs::write(
        &fast,
        "#include <libfastjson/json.h>\nvoid *fast(void) { return fjson_object_new_object(); }\n",
    )
    .unwrap();
    compile_plugin_with(&fast, directory.path(), "fast", Sanitizer::Off, &[Library::Fastjson]);
    let mut python = Process::spawn(
        "python3",
        std::process::Command::new(Tool::path("python3"))
            .args(["-c", "import ctypes, sys; sys.exit(not ctypes.CDLL(sys.argv[1]).known())"])
            .arg(object),
    );
    assert!(python.wait(PATIENCE).success(), "{python}");
}
