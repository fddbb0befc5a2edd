//! Reload (D-0E): what is loaded again, who is asked by whom, and what is left of those that are not.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use rohrpost_abi::{
    Command, ContextStep, Copies, Hook, OnError, PLUGINS_MAX, PluginIndex, PluginSet, Plugins,
};

use crate::support::{Folder, Stage, options, scenario};

/// A file with the same code and another content.
pub(crate) fn touch(path: &Path) {
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("it is there");
    file.write_all(b"another").expect("a test can write to its target directory");
}

impl Stage {
    /// What a look into the directory finds now.
    fn prepare(&self) -> Arc<PluginSet> {
        let options = options(self.folder.path());
        self.host.plugins().prepare(&options).expect("everything can be loaded").set
    }

    /// All that a reload does on the main thread and on the one worker.
    pub(crate) fn reload(&mut self) -> Vec<PluginIndex> {
        let set = self.prepare();
        let fresh = self.host.plugins().initialize(&set).expect("puppets do not refuse");
        self.worker.admit(&fresh);
        for plugin in self.worker.exporters(&fresh, Hook::ContextInitialize) {
            self.worker.call_context(plugin, ContextStep::Initialize);
        }
        self.worker.adopt(&set);
        self.host.plugins().adopt(set);
        fresh
    }

    /// Says goodbye to those that are in no set any more.
    pub(crate) fn bury(&mut self) -> Vec<PluginIndex> {
        let left = self.worker.left();
        for plugin in self.worker.exporters(&left, Hook::ContextCleanup) {
            self.worker.call_context(plugin, ContextStep::Cleanup);
        }
        self.worker.depart(&left);
        self.host.plugins().end(&left);
        left
    }
}

scenario! {
    fn d_0e_a_file_that_is_as_it_was_keeps_its_instance() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let before = stage.host.plugins().set();
        assert!(Arc::ptr_eq(&before, &stage.prepare()), "nothing has changed");
        // Written anew with what it had, as a package does that was installed again.
        let file = stage.folder.path().join("10-a.so");
        let content = fs::read(&file).expect("readable");
        fs::remove_file(&file).expect("it is ours");
        fs::write(&file, content).expect("it is ours");
        assert!(Arc::ptr_eq(&before, &stage.prepare()));
        touch(&file);
        let fresh = stage.reload();
        let after = stage.host.plugins().set();
        assert_eq!(fresh, [after.plugins()[0]]);
        assert_ne!(before.plugins()[0], after.plugins()[0]);
        assert_eq!(before.plugins()[1], after.plugins()[1]);
        assert_eq!(after.names().collect::<Vec<_>>(), ["10-a.so", "20-b.so"]);
    }
}

scenario! {
    fn d_0e_a_connection_keeps_the_set_that_it_began_with() {
        let mut stage = Stage::with_puppets(&["10-a.so"]);
        let old = stage.open();
        let before = stage.plugin(0);
        touch(&stage.folder.path().join("10-a.so"));
        fs::copy(stage.folder.path().join("10-a.so"), stage.folder.path().join("20-b.so")).expect("a copy");
        stage.reload();
        let new = stage.open();
        let asked = |stage: &Stage, connection| {
            let set = stage.worker.set_of(connection).expect("it is open");
            set.with(Hook::MailFrom).to_vec()
        };
        assert_eq!(asked(&stage, old), [before]);
        assert_eq!(asked(&stage, new), stage.host.plugins().set().plugins());
        assert!(stage.worker.is_outdated(old) && !stage.worker.is_outdated(new));
        assert_eq!(stage.bury(), [], "the old one is in use");
        stage.take_lines();
        stage.worker.close_connection(old);
        assert_eq!(stage.bury(), [before]);
        assert_eq!(stage.said(), ["cleanup"]);
        assert_eq!(stage.bury(), [], "once");
        assert_eq!(asked(&stage, new), stage.host.plugins().set().plugins());
        assert_eq!(stage.worker.present(), stage.host.plugins().set().plugins());
    }
}

scenario! {
    fn d_0e_d_17_what_an_ended_plugin_left_goes_without_a_callback_and_what_others_have_stays() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let connection = stage.open();
        for plugin in 0..2 {
            stage.run_in(plugin, connection, "timer:60 watch:0:1 set-context-data:1");
        }
        stage.commands();
        assert_eq!((stage.worker.live().timers, stage.worker.live().watches), (2, 2));
        let (ended, kept) = (stage.plugin(0), stage.plugin(1));
        fs::remove_file(stage.folder.path().join("10-a.so")).expect("it is ours");
        assert_eq!(stage.reload(), []);
        stage.worker.close_connection(connection);
        assert_eq!(stage.bury(), [ended]);
        assert_eq!((stage.worker.live().timers, stage.worker.live().watches), (1, 1));
        let stopped = stage.commands();
        assert!(
            matches!(stopped[..], [Command::TimerStop { .. }, Command::Unwatch { .. }]),
            "{stopped:?}"
        );
        assert_eq!(stage.worker.present(), [kept]);
    }
}

scenario! {
    fn d_0e_a_file_that_cannot_be_loaded_changes_nothing() {
        let stage = Stage::with_puppets(&["10-a.so"]);
        let before = stage.host.plugins().set();
        touch(&stage.folder.path().join("10-a.so"));
        stage.folder.file("20-b.so", "no ELF");
        let mut options = options(stage.folder.path());
        let error = stage.host.plugins().prepare(&options).expect_err("it is refused");
        assert!(error.to_string().contains("20-b.so cannot be loaded"), "{error}");
        assert!(Arc::ptr_eq(&before, &stage.host.plugins().set()));
        // The first one was loaded by then, and is not again.
        let loaded = stage.host.plugins().loaded();
        stage.host.plugins().prepare(&options).expect_err("it is refused");
        assert_eq!((loaded, stage.host.plugins().loaded()), (2, 2));
        options.on_error = OnError::Skip;
        let prepared = stage.host.plugins().prepare(&options).expect("the rest will do");
        assert_eq!(prepared.set.names().collect::<Vec<_>>(), ["10-a.so"]);
        assert_eq!(prepared.skipped.len(), 1);
        assert_eq!(stage.host.plugins().loaded(), 2);
    }
}

scenario! {
    fn d_0e_one_that_may_be_skipped_keeps_the_instance_that_works() {
        let stage = Stage::with_puppets(&["10-a.so"]);
        let before = stage.host.plugins().set();
        stage.folder.file("10-a.so", "no ELF any more");
        let mut options = options(stage.folder.path());
        options.on_error = OnError::Skip;
        let prepared = stage.host.plugins().prepare(&options).expect("the old one will do");
        assert!(Arc::ptr_eq(&before, &prepared.set));
        assert!(prepared.skipped[0].error.to_string().contains("10-a.so"));
    }
}

scenario! {
    fn d_03_a_file_that_is_refused_is_loaded_once_however_often_it_is_asked_for() {
        let stage = Stage::with_puppets(&["10-a.so"]);
        let count = stage.folder.path().join("count");
        let source = "#include <stdio.h>\n\
            __attribute__((constructor)) static void begin(void)\n\
            { FILE *file = fopen(\"COUNT\", \"a\"); fputc('x', file); fclose(file); }\n\
            int __attribute__((visibility(\"default\"))) mq_version(void) { return 4711; }";
        let source = source.replace("COUNT", &count.display().to_string());
        stage.folder.plugin("20-odd.so", &source);
        let prepare = || {
            let error = stage.host.plugins().prepare(&options(stage.folder.path()));
            error.expect_err("nobody accepts that").to_string()
        };
        let first = prepare();
        assert!(first.contains("4711") && first.contains("20-odd.so"), "{first}");
        assert_eq!(prepare(), first);
        assert_eq!(fs::read(count).expect("its constructor ran"), b"x");
    }
}

/// Reloads that come to nothing count as well: what is loaded stays loaded.
#[test]
fn d_0e_the_4097th_instance_is_refused_and_says_what_to_do() {
    let folder = Folder::new();
    let file = folder.plugin(
        "tiny.so",
        "int __attribute__((visibility(\"default\"))) mq_version(void) { return 201; }",
    );
    let options = rohrpost_abi::LoadOptions { copies: Copies::Memory, ..options(folder.path()) };
    let descriptors = || fs::read_dir("/proc/self/fd").expect("a process has some").count();
    let (plugins, _) = Plugins::load(&options).expect("it loads");
    let before = descriptors();
    for _ in 1..PLUGINS_MAX {
        touch(&file);
        plugins.prepare(&options).expect("there is room");
    }
    // One for the plugin that would be used. Other tests of this process have theirs.
    assert!(descriptors() < before + 100, "{} and {before}", descriptors());
    let unchanged = plugins.prepare(&options).expect("nothing is loaded for it");
    assert_eq!((plugins.loaded(), unchanged.set.len()), (PLUGINS_MAX, 1));
    touch(&file);
    let error = plugins.prepare(&options).expect_err("that was the last").to_string();
    assert!(error.contains("tiny.so") && error.contains("4096"), "{error}");
    assert!(error.contains("restart"), "{error}");
    assert_eq!(plugins.set().len(), 1, "what runs goes on");
}
