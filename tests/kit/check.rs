//! `rohrpost plugin check`, on plugins with one mistake each.

use std::path::Path;

use serde_json::Value;

use super::{compile, kit};

const VERSION: &str =
    "#include <mailerq.h>\nMQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n";
const CLOSE: &str = "MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection)\n\
                     { (void)context; (void)connection; return false; }\n";
const HIDDEN: &[&str] = &["-fvisibility=hidden", "-DMQ_API_VERSION=201"];

/// The exit code, and what `--json` says.
fn look(file: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let file = file.to_str().unwrap();
    let said = kit(["check", "--json", file].iter().chain(arguments));
    let report = serde_json::from_str(&said.stdout);
    (said.code, report.unwrap_or_else(|error| panic!("{error}: {said:?}")))
}

/// `severity kind` of each finding.
fn findings(report: &Value) -> Vec<String> {
    let word = |finding: &Value, key| finding[key].as_str().unwrap().to_owned();
    let list = report["findings"].as_array().unwrap();
    list.iter()
        .map(|found| format!("{} {}", word(found, "severity"), word(found, "kind")))
        .collect()
}

#[test]
fn a_plugin_of_which_nothing_is_to_be_said() {
    let place = tempfile::tempdir().unwrap();
    let object = compile(place.path(), "10-good.c", &format!("{VERSION}{CLOSE}"), HIDDEN);
    let (code, report) = look(&object, &[]);
    assert_eq!((code, findings(&report)), (Some(0), vec![]), "{report}");
    assert_eq!(report["hooks"], serde_json::json!(["mq_version", "mq_smtp_in_close"]));
    let libraries = report["libraries"].as_array().unwrap();
    assert!(libraries.iter().all(|library| library["path"].is_string()), "{report}");
    let said = kit(["check", object.to_str().unwrap()]);
    assert!(said.stdout.ends_with("\nusable\n"), "{said:?}");
}

/// One mistake, and what is said of it. The text names what is wrong and what would be right.
#[test]
fn each_mistake_of_a_source_is_named() {
    let exported = "#define E __attribute__((visibility(\"default\")))\n";
    let cases: &[(&str, String, &str, &[&str])] = &[
        (
            "misspelt.c",
            format!("{VERSION}{exported}E bool mq_smtp_in_mailform(void) {{ return false; }}\n"),
            "fault unknown-hook",
            &["mq_smtp_in_mailform", "mq_smtp_in_mailfrom"],
        ),
        (
            "prefix.c",
            format!("{VERSION}{exported}E bool mg_smtp_in_data(void) {{ return false; }}\n"),
            "warning unknown-hook",
            &["mg_smtp_in_data", "did you mean mq_smtp_in_data?"],
        ),
        (
            "hidden.c",
            format!(
                "{exported}E int mq_version(void) {{ return 201; }}\n\
                 _Bool mq_smtp_in_data(void) {{ return 0; }}\n"
            ),
            "fault hidden-hook",
            &["mq_smtp_in_data", "MQ_EXPORT"],
        ),
        (
            "mangled.cpp",
            format!(
                "{VERSION}namespace x {{}}\n{exported}E bool mq_smtp_in_close(int) {{ return false; }}\n"
            ),
            "fault mangled-hook",
            &["mq_smtp_in_close", "C++ name", "MQ_EXPORT"],
        ),
        (
            "versionless.c",
            format!("#include <mailerq.h>\n{CLOSE}"),
            "fault version",
            &["mq_version"],
        ),
        ("idle.c", VERSION.to_owned(), "warning hooks", &["never be called"]),
        (
            "unresolved.c",
            format!(
                "{VERSION}{CLOSE}int sought(void);\n{exported}E int x(void) {{ return sought(); }}\n"
            ),
            "fault unresolved",
            &["sought", "-l"],
        ),
        (
            "function.c",
            format!(
                "{VERSION}{CLOSE}void MQ_Continu(void *);\n{exported}E void x(void) {{ MQ_Continu(0); }}\n"
            ),
            "fault unknown-function",
            &["MQ_Continu", "nearest is MQ_Continue"],
        ),
        (
            "extension.c",
            format!(
                "{VERSION}{CLOSE}void MQX_never(void) __attribute__((weak));\n\
                     {exported}E void x(void) {{ if (MQX_never) MQX_never(); }}\n"
            ),
            "note absent-extension",
            &["MQX_never", "NULL"],
        ),
        (
            "mixed.c",
            format!(
                "{VERSION}{CLOSE}void MQ_continue(void *);\n{exported}E void x(void)\n\
                     {{ MQ_continue(0); MQ_Retry(0); }}\n"
            ),
            "fault mixed-generations",
            &["MQ_Retry", "MQ_continue", "MQ_API_VERSION"],
        ),
    ];
    let place = tempfile::tempdir().unwrap();
    for (name, text, expected, words) in cases {
        let object = compile(place.path(), name, text, HIDDEN);
        let (code, report) = look(&object, &["--no-load"]);
        assert!(findings(&report).iter().any(|found| found == expected), "{name}: {report}");
        let fault = expected.starts_with("fault");
        assert_eq!(code, Some(i32::from(fault)), "{name}: {report}");
        let said = report["findings"].to_string();
        for word in *words {
            assert!(said.contains(word), "{name}: {word} is not in {said}");
        }
    }
}

#[test]
fn whatever_is_exported_besides_is_noted() {
    let place = tempfile::tempdir().unwrap();
    let text = format!("{VERSION}{CLOSE}int helper_of_mine(void) {{ return 1; }}\n");
    let object = compile(place.path(), "open.c", &text, &["-DMQ_API_VERSION=201"]);
    let (code, report) = look(&object, &[]);
    assert_eq!((code, findings(&report)), (Some(0), vec!["note visibility".to_owned()]));
    assert!(report["findings"][0]["text"].as_str().unwrap().contains("helper_of_mine"));
}

#[test]
fn a_library_that_is_nowhere_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().to_str().unwrap();
    compile(
        place.path(),
        "libnear.c",
        "int near(void) { return 1; }\n",
        &["-Wl,-soname,libnear.so"],
    );
    let near = format!("{VERSION}{CLOSE}int near(void); int y(void) {{ return near(); }}\n");
    let link = [format!("-L{folder}"), "-lnear".to_owned()];
    let mut arguments: Vec<&str> =
        HIDDEN.iter().copied().chain(link.iter().map(String::as_str)).collect();
    arguments.push("-Wl,--no-as-needed");
    let lost = compile(place.path(), "lost.c", &near, &arguments);
    let (code, report) = look(&lost, &["--no-load"]);
    assert_eq!((code, findings(&report)), (Some(1), vec!["fault library".to_owned()]), "{report}");
    // A private copy of the plugin is loaded, so what stands beside the plugin does not help.
    let beside = arguments.iter().copied().chain(["-Wl,-rpath,$ORIGIN"]).collect::<Vec<_>>();
    let found = compile(place.path(), "beside.c", &near, &beside);
    let (code, report) = look(&found, &["--no-load"]);
    assert_eq!((code, findings(&report)), (Some(1), vec!["fault library".to_owned()]), "{report}");
    assert!(report.to_string().contains("$ORIGIN means nothing"), "{report}");
    let path = format!("-Wl,-rpath,{folder}");
    arguments.push(&path);
    let found = compile(place.path(), "found.c", &near, &arguments);
    let (code, report) = look(&found, &[]);
    assert_eq!((code, findings(&report)), (Some(0), vec![]), "{report}");
}

/// What a constructor does, it does to a process of its own.
#[test]
fn d_04_a_plugin_that_does_not_survive_loading_is_reported() {
    let place = tempfile::tempdir().unwrap();
    let constructor = |body: &str| {
        format!(
            "#include <stdlib.h>\n#include <stdio.h>\n{VERSION}{CLOSE}\n\
             __attribute__((constructor)) static void begin(void) {{ {body} }}\n"
        )
    };
    for (name, body, said) in [
        ("abort.c", "abort();", "ended the process by signal 6"),
        ("exit.c", "fputs(\"no licence\\n\", stderr); exit(3);", "no licence"),
    ] {
        let object = compile(place.path(), name, &constructor(body), HIDDEN);
        let (code, report) = look(&object, &[]);
        assert_eq!(
            (code, findings(&report)),
            (Some(1), vec!["fault loading".to_owned()]),
            "{name}"
        );
        assert!(report["findings"][0]["text"].as_str().unwrap().contains(said), "{report}");
    }
    let strange = "#include <mailerq.h>\nMQ_EXPORT int mq_version(void) { return 7777; }\n";
    let object = compile(place.path(), "strange.c", &format!("{strange}{CLOSE}"), HIDDEN);
    let (code, report) = look(&object, &[]);
    assert_eq!((code, report["version"].as_i64()), (Some(1), Some(7777)), "{report}");
}

/// The other ends of the pipes are theirs, too.
#[test]
fn processes_that_a_constructor_leaves_running_are_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    for (name, leave) in [("group.c", ""), ("daemon.c", "setsid();")] {
        let source = format!(
            "#include <unistd.h>\n{VERSION}{CLOSE}\n\
             __attribute__((constructor)) static void begin(void)\n\
             {{ if (fork() == 0) {{ {leave} sleep(90); _exit(0); }} }}\n"
        );
        let object = compile(place.path(), name, &source, HIDDEN);
        let (code, report) = look(&object, &[]);
        assert_eq!((code, findings(&report)), (Some(0), vec![]), "{name}: {report}");
    }
}

#[test]
fn what_is_no_plugin_at_all_is_said_to_be_none() {
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("script.so");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let (code, report) = look(&script, &[]);
    assert_eq!((code, findings(&report)), (Some(1), vec!["fault file".to_owned()]));
    // The program itself is of the right machine, and is none.
    let (code, report) = look(Path::new(env!("CARGO_BIN_EXE_rohrpost")), &["--no-load"]);
    assert_eq!(code, Some(1));
    assert!(findings(&report).contains(&"fault file".to_owned()), "{report}");
    // e_machine stands in octets 18 and 19.
    let object = compile(place.path(), "foreign.c", &format!("{VERSION}{CLOSE}"), HIDDEN);
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[18] = 22;
    std::fs::write(&object, bytes).unwrap();
    let (code, report) = look(&object, &[]);
    assert_eq!((code, findings(&report)), (Some(1), vec!["fault machine".to_owned()]));
    assert!(report.to_string().contains("S/390"), "{report}");
    let said = kit(["check", "/nowhere/at/all.so"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(64), ""), "{said:?}");
    assert!(said.stderr.contains("/nowhere/at/all.so cannot be read"), "{said:?}");
}
