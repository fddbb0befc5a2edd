//! Loading: what counts as a plugin, in which order, and what is said about one that is none.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

use rohrpost_abi::{Copies, Hook, LoadError, OnError, PluginDirectory, Plugins, describe};

use crate::support::{Folder, Stage, options, scenario};

/// As the documentation of the interface begins.
const MINIMAL: &str = "#include <mailerq.h>\n\
    MQ_EXPORT int mq_version() { return MQ_API_VERSION; }\n\
    MQ_EXPORT void mq_initialize() { }\n";

fn names(plugins: &Plugins) -> Vec<&'static str> {
    plugins.set().names().collect()
}

fn error_of(folder: &Folder) -> String {
    let error = Plugins::load(&options(folder.path())).expect_err("it is refused");
    error.to_string()
}

#[test]
fn the_minimal_plugin_of_the_documentation_loads_unchanged() {
    let folder = Folder::new();
    folder.plugin("minimal.so", MINIMAL);
    for copies in [Copies::Directory(folder.path().to_owned()), Copies::Memory] {
        let options = rohrpost_abi::LoadOptions { copies, ..options(folder.path()) };
        let (plugins, skipped) = Plugins::load(&options).expect("it loads");
        plugins.initialize(&plugins.set()).expect("it does not refuse");
        assert_eq!(names(&plugins), ["minimal.so"]);
        assert!(skipped.is_empty());
        assert_eq!(plugins.set().with(Hook::Initialize).len(), 1);
        assert!(plugins.set().with(Hook::Connect).is_empty(), "costs one length test");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).expect("readable").flatten().collect();
    assert_eq!(left.len(), 2, "the plugin and its source, no copies: {left:?}");
}

#[test]
fn an_export_that_looks_like_a_hook_and_is_none_is_told() {
    let folder = Folder::new();
    let misspelt = "MQ_EXPORT bool mq_smtp_in_rcpto(MQ_Context *c) { (void)c; return true; }\n";
    folder.plugin("odd.so", &format!("{MINIMAL}{misspelt}MQ_EXPORT void helper(void) {{ }}\n"));
    let (plugins, _) = Plugins::load(&options(folder.path())).expect("it loads");
    let odd = plugins.set().plugins()[0];
    assert_eq!(plugins.unknown_exports(odd), ["mq_smtp_in_rcpto"]);
}

#[test]
fn a_plugin_with_a_sanitizer_that_would_end_the_process_is_refused() {
    let folder = Folder::new();
    folder.plugin_linked("odd.so", MINIMAL, &["-fsanitize=address"]);
    let error = error_of(&folder);
    assert!(error.contains("odd.so") && error.contains("__asan_init"), "{error}");
    assert!(error.contains("LD_PRELOAD"), "{error}");
}

#[test]
fn d_01_only_listed_versions_and_those_of_the_settings_are_accepted() {
    let folder = Folder::new();
    folder.plugin(
        "odd.so",
        "int __attribute__((visibility(\"default\"))) mq_version() { return 4711; }",
    );
    let error = error_of(&folder);
    assert!(error.contains("odd.so") && error.contains("4711") && error.contains("201"), "{error}");

    let mut options = options(folder.path());
    options.extra_versions = vec![7, 4711];
    let (plugins, _) = Plugins::load(&options).expect("the settings accept it");
    assert_eq!(names(&plugins), ["odd.so"]);
    options.extra_versions = vec![7];
    let error = Plugins::load(&options).expect_err("not that one").to_string();
    assert!(error.contains("506, 7"), "{error}");
}

#[test]
fn d_02_a_plugin_is_of_the_generation_that_it_names_and_calls() {
    const FOREIGN: &str = "#define MQ_API_VERSION 201\n#include <mailerq.h>\n\
        MQ_EXPORT int mq_version() { return 506; }\n\
        MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *c, MQ_SmtpConnection *s)\n\
        { (void)s; MQ_Continue(c); return true; }\n";
    let folder = Folder::new();
    folder.plugin("foreign.so", FOREIGN);
    let error = error_of(&folder);
    for part in ["foreign.so", "names generation G3", "MQ_Continue", "201 for G1"] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let folder = Folder::new();
    for (name, version) in
        [("a.so", 201), ("b.so", 400), ("c.so", 401), ("d.so", 500), ("e.so", 506)]
    {
        folder.plugin(name, &format!("#define MQ_API_VERSION {version}\n{MINIMAL}"));
    }
    folder.plugin("f.so", &FOREIGN.replace("506", "4711"));
    let mut options = options(folder.path());
    options.extra_versions = vec![4711];
    let (plugins, _) = Plugins::load(&options).expect("all of them load");
    let generations: Vec<_> = plugins
        .set()
        .plugins()
        .iter()
        .map(|p| plugins.generation(*p).expect("it is loaded"))
        .collect();
    use rohrpost_abi::Generation::{G1, G2, G3};
    assert_eq!(generations, [G1, G2, G2, G3, G3, G1]);
}

#[test]
fn d_03_a_missing_version_is_named_with_what_would_be_right() {
    let folder = Folder::new();
    folder.plugin("mute.so", "int x;");
    let error = error_of(&folder);
    assert!(error.contains("mute.so exports no mq_version") && error.contains("201"), "{error}");
}

#[test]
fn d_04_what_cannot_be_loaded_is_refused_with_the_reason() {
    let folder = Folder::new();
    folder
        .file("text.so", "no ELF at all, but long enough to be read as a header, or so one hopes");
    let error = error_of(&folder);
    assert!(error.contains("text.so cannot be loaded") && error.contains("ELF"), "{error}");

    let folder = Folder::new();
    // Bound at load, not at the first call.
    folder.plugin(
        "needy.so",
        "void MQ_missing(void*); int __attribute__((visibility(\"default\"))) mq_version() \
         { return 201; } void f(void) { MQ_missing(0); }",
    );
    let error = error_of(&folder);
    assert!(error.contains("needy.so") && error.contains("MQ_missing"), "{error}");
    assert!(!error.contains("rohrpost-plugins-"), "the copy's path says nothing: {error}");

    let folder = Folder::new();
    symlink("nowhere", folder.path().join("dangling.so")).expect("a link");
    let error = error_of(&folder);
    assert!(error.contains("dangling.so cannot be copied"), "{error}");
}

#[test]
fn d_04_with_skip_the_rest_loads_and_the_reasons_are_kept() {
    let folder = Folder::new();
    folder.plugin("20-good.so", MINIMAL);
    folder.file("10-bad.so", "bad");
    folder.plugin("30-mute.so", "int x;");
    let mut options = options(folder.path());
    options.on_error = OnError::Skip;
    let (plugins, skipped) = Plugins::load(&options).expect("the good one loads");
    assert_eq!(names(&plugins), ["20-good.so"]);
    assert!(skipped[0].file.ends_with("10-bad.so"));
    assert!(matches!(skipped[0].error, LoadError::Open { .. }), "{:?}", skipped[0]);
    assert!(matches!(skipped[1].error, LoadError::VersionMissing { .. }), "{:?}", skipped[1]);
}

#[test]
fn d_06_regular_so_files_and_links_in_the_order_of_their_bytes() {
    let folder = Folder::new();
    let file = folder.plugin("9-b.so", MINIMAL);
    symlink(&file, folder.path().join("10-a.so")).expect("a link");
    fs::copy(&file, folder.path().join("Z.so")).expect("a copy");
    fs::copy(&file, folder.path().join(".hidden.so")).expect("a copy");
    fs::copy(&file, folder.path().join("old.so.bak")).expect("a copy");
    fs::create_dir(folder.path().join("folder.so")).expect("a folder");
    let (plugins, _) = Plugins::load(&options(folder.path())).expect("they load");
    assert_eq!(names(&plugins), ["10-a.so", "9-b.so", "Z.so"]);
}

#[test]
fn d_07_a_missing_directory_is_fatal_only_if_it_was_asked_for() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    let mut options = options(&missing);
    let error = Plugins::load(&options).expect_err("it was asked for").to_string();
    assert!(error.contains("missing does not exist"), "{error}");
    options.directory = PluginDirectory::Default(missing);
    let (plugins, _) = Plugins::load(&options).expect("nobody asked");
    assert!(plugins.set().is_empty());

    let file = folder.file("file", "");
    options.directory = PluginDirectory::Default(file);
    let error = Plugins::load(&options).expect_err("it is no directory").to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn a_place_for_copies_that_does_not_exist_is_named() {
    let folder = Folder::new();
    folder.plugin("minimal.so", MINIMAL);
    let mut options = options(folder.path());
    options.copies = Copies::Directory(folder.path().join("missing"));
    let error = Plugins::load(&options).expect_err("no place").to_string();
    assert!(error.contains("missing") && error.contains("writable"), "{error}");
}

#[test]
fn d_0e_every_load_is_an_instance_of_its_own() {
    const COUNTING: &str = "static int calls; __attribute__((visibility(\"default\"))) int mq_version() \
        { return 506 + calls++; }";
    let folder = Folder::new();
    let file = folder.plugin("a.so", COUNTING);
    fs::copy(&file, folder.path().join("b.so")).expect("a copy");
    for copies in [Copies::Directory(folder.path().to_owned()), Copies::Memory] {
        let options = rohrpost_abi::LoadOptions { copies, ..options(folder.path()) };
        for _ in 0..3 {
            // A shared instance would answer 507 the second time.
            Plugins::load(&options).expect("every first call is that of a new instance");
        }
    }
}

scenario! {
    fn d_08_d_09_initialize_in_order_and_cleanup_in_reverse() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so", "30-c.so"]);
        let set = stage.host.plugins().set();
        assert_eq!(set.with(Hook::ContextCleanup), [stage.plugin(2), stage.plugin(1), stage.plugin(0)]);
        let plugins = |stage: &mut Stage| {
            stage.take_lines().into_iter().map(|(_, plugin, _)| plugin).collect::<Vec<_>>()
        };
        assert_eq!(stage.initialized, ["10-a.so", "20-b.so", "30-c.so"]);
        stage.host.plugins().cleanup();
        assert_eq!(plugins(&mut stage), ["30-c.so", "20-b.so", "10-a.so"]);
    }
}

/// No plugin, for it has no version; says where its function is.
const REFUSED: &str = r#"
#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("default"))) void FUNCTION(void) { puts("here"); }
__attribute__((constructor)) static void begin(void) {
    char address[32];
    snprintf(address, sizeof address, "%p", (void *)FUNCTION);
    setenv("ADDRESS", address, 1);
}
"#;

scenario! {
    fn no_other_file_is_read_for_the_functions_of_a_plugin_that_was_refused() {
        let (folder, decoys) = (Folder::new(), Folder::new());
        let decoy = decoys.plugin("decoy.so", &REFUSED.replace("FUNCTION", "another_one"));
        for (name, to_memory) in [("10-file.so", false), ("20-memory.so", true)] {
            let file = folder.plugin(name, &REFUSED.replace("FUNCTION", "the_refused"));
            let mut options = options(folder.path());
            options.on_error = OnError::Skip;
            if to_memory {
                options.copies = Copies::Memory;
            }
            let (_, skipped) = Plugins::load(&options).expect("it is skipped");
            assert_eq!(skipped.len(), 1, "{skipped:?}");
            let address = env::var("ADDRESS").expect("its constructor has run");
            let address = usize::from_str_radix(address.trim_start_matches("0x"), 16).expect("%p");
            // One of these has the number of the descriptor that the plugin was loaded from.
            let _open: Vec<File> =
                (0..16).map(|_| File::open(&decoy).expect("it was compiled")).collect();
            let [line] = &describe(&[address])[..] else { panic!("no line") };
            assert!(line.starts_with(&format!("{name}+0x")), "{line}");
            fs::remove_file(file).expect("it was compiled");
        }
    }
}
