//! The plugin itself: `mqx_initialize`, `mqx_reload`, its settings and its metrics.

use rohrpost_abi::{Direction, PluginSettings, Plugins, Reading, Step};
use std::sync::{Arc, Mutex};

use crate::support::{Folder, Line, Stage, install, options, scenario};

const COUNTING: &str = r#"
#include <mailerq.h>
#include <pthread.h>
#include <stdio.h>
static MQX_Plugin *kept;
static MQX_Metric *seen, *depth, *took;
static const char *zone;
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
static void say(const char *what, const char *text) {
    char line[200];
    snprintf(line, sizeof line, "%s %s", what, text ? text : "NULL");
    MQ_log(MQ_INFO, line);
}
MQ_EXPORT void mq_initialize(void) { say("initialize", ""); }
MQ_EXPORT void mq_cleanup(void) { say("cleanup", ""); }
MQ_EXPORT bool mqx_initialize(MQX_Plugin *self) {
    static const double buckets[] = {1, 2};
    kept = self;
    zone = MQX_setting(self, "zone");
    say("zone", zone);
    say("max", MQX_setting(self, "Max_Size"));
    seen = MQX_counter(self, "seen_total", "What came.");
    depth = MQX_gauge(self, "depth", NULL);
    took = MQX_histogram(self, "took_seconds", "How long.", buckets, 2);
    return MQX_setting(self, "refuse") == NULL;
}
MQ_EXPORT void mqx_reload(MQX_Plugin *self) {
    say("was", zone);
    say("is", MQX_setting(self, "zone"));
}
static void *elsewhere(void *none) {
    MQX_add(seen, 2);
    say("elsewhere", MQX_setting(kept, "zone"));
    return none;
}
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection) {
    pthread_t thread;
    pthread_create(&thread, NULL, elsewhere, NULL);
    pthread_join(thread, NULL);
    MQX_add(seen, 1);
    MQX_set(depth, 4);
    MQX_add(depth, -1);
    MQX_observe(took, 1.5);
    return false;
    (void)context, (void)connection;
}
MQ_EXPORT bool mq_smtp_in_secure(MQ_Context *context, MQ_Connection *connection) {
    static const double fall[] = {2, 1};
    MQX_add(seen, -1);
    MQX_set(seen, 1);
    MQX_observe(depth, 1);
    MQX_add(took, 1);
    MQX_add(NULL, 1);
    MQX_add((MQX_Metric *)kept, 1);
    MQX_add((MQX_Metric *)&fall, 1);
    if (MQX_counter(kept, "9", "") || MQX_counter(NULL, "x", "") || MQX_counter(kept, NULL, "")
        || MQX_gauge(kept, "seen_total", "") || MQX_histogram(kept, "fall", "", fall, 2)
        || MQX_gauge(kept, "seen", "") || MQX_histogram(kept, "took_seconds", "", NULL, 0)
        || MQX_counter((MQX_Plugin *)connection, "x", "")
        || MQX_setting((MQX_Plugin *)connection, "zone") || MQX_setting(kept, NULL))
        say("not", "refused");
    return false;
    (void)context;
}
"#;

fn settings(plugins: &Plugins, rows: &[(&str, &str, &str)]) -> PluginSettings {
    plugins.settings(rows.iter().copied()).expect("there is room")
}

scenario! {
    fn a_plugin_reads_its_settings_and_a_reload_changes_them_before_it_is_told() {
        let folder = Folder::new();
        folder.plugin("10-Count_Er.so", COUNTING);
        let (plugins, _) = Plugins::load(&options(folder.path())).expect("it loads");
        let (lines, woken) = (Arc::default(), Arc::default());
        let host = install(plugins, &lines, &woken);
        let set = host.plugins().set();
        let rows = [("count-er", "zone", "one"), ("count-er", "max-size", "7"), ("other", "zone", "x")];
        host.plugins().configure(set.plugins(), &settings(host.plugins(), &rows));
        host.plugins().initialize(&set).expect("it does not refuse");
        assert_eq!(texts(&lines), ["initialize ", "zone one", "max 7"]);
        let rows = [("count-er", "zone", "two")];
        host.plugins().configure(set.plugins(), &settings(host.plugins(), &rows));
        assert_eq!(texts(&lines), [""; 0], "it is told, and not by the change");
        host.plugins().on_reload(set.plugins());
        assert_eq!(texts(&lines), ["was one", "is two"], "what it read stays as it is");
    }
}

scenario! {
    fn a_plugin_that_refuses_is_named_and_cleaned_up() {
        let folder = Folder::new();
        folder.plugin("10-a.so", COUNTING);
        folder.plugin("20-b.so", COUNTING);
        let (plugins, _) = Plugins::load(&options(folder.path())).expect("it loads");
        let (lines, woken) = (Arc::default(), Arc::default());
        let host = install(plugins, &lines, &woken);
        let set = host.plugins().set();
        host.plugins().configure(set.plugins(), &settings(host.plugins(), &[("b", "refuse", "yes")]));
        let error = host.plugins().initialize(&set).expect_err("it refuses");
        assert!(error.to_string().contains("20-b.so"), "{error}");
        let said = lines_of(&lines);
        let cleaned: Vec<_> =
            said.iter().filter(|line| line.2 == "cleanup ").map(|line| &*line.1).collect();
        assert_eq!(cleaned, ["20-b.so", "10-a.so"], "D-09");
        host.plugins().cleanup();
        assert_eq!(texts(&lines), [""; 0], "once");
    }
}

scenario! {
    fn metrics_count_from_any_thread_and_refuse_what_means_nothing() {
        let folder = Folder::new();
        folder.plugin("10-a.so", COUNTING);
        let mut stage = Stage::in_folder(folder);
        let connection = stage.open_to(Direction::Incoming);
        stage.worker.call(stage.plugin(0), connection, Step::Connect);
        assert_eq!(stage.said(), ["elsewhere NULL"]);
        let read = stage.host.plugin_metrics();
        let buckets = vec![(1.0, 0), (2.0, 1), (f64::MAX, 0)];
        let expected = [
            ("a_depth", "", Reading::Gauge(3.0)),
            ("a_seen", "What came.", Reading::Counter(3.0)),
            ("a_took_seconds", "How long.", Reading::Histogram { sum: 1.5, buckets }),
        ];
        let found = read.iter().map(|one| (&*one.family, &*one.help, one.reading.clone()));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let misuses = stage.host.misuses(stage.plugin(0));
        stage.worker.call(stage.plugin(0), connection, Step::Secure);
        let lines = stage.complaints();
        assert!(lines.iter().all(|(_, plugin, _)| plugin == "10-a.so"), "{lines:?}");
        assert_eq!(stage.host.misuses(stage.plugin(0)) - misuses, 17);
        assert_eq!(stage.host.plugin_metrics(), read, "nothing was counted");
    }
}

fn lines_of(lines: &Mutex<Vec<Line>>) -> Vec<Line> {
    std::mem::take(&mut *lines.lock().expect("no panic"))
}

fn texts(lines: &Mutex<Vec<Line>>) -> Vec<String> {
    lines_of(lines).into_iter().map(|(_, _, text)| text).collect()
}
