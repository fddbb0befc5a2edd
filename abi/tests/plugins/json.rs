//! Messages as objects of json-c and libfastjson: real ones, from Debian's packages, in one chain.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use rohrpost_abi::{
    ConnectionId, Described, Direction, Edit, JsonEdits, JsonProblem, JsonSource, Level,
    MessageEdits, MessageId, MessageInit, Step, Terminated, Text,
};

use crate::crash::assert_aborts;
use crate::support::{Folder, Stage, include, sanitized_child, scenario, transcript};

/// Puppets in the order of their names, each with its version: 500 and up are libfastjson's.
fn stage(versions: &[u32]) -> Stage {
    let folder = Folder::new();
    for (at, version) in versions.iter().enumerate() {
        compile(&folder, &format!("{at}0-{version}.so"), *version);
    }
    Stage::in_folder(folder)
}

fn compile(folder: &Folder, name: &str, version: u32) {
    compile_source(folder, name, version, "c", include_str!("json_puppet.c"));
}

fn compile_source(folder: &Folder, name: &str, version: u32, extension: &str, source: &str) {
    let deb = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/deb/libraries");
    let deb = fs::canonicalize(&deb)
        .unwrap_or_else(|_| panic!("no {}: run tests/tools/fetch.sh once", deb.display()));
    let places = fs::read_dir(deb.join("usr/lib")).expect("it was unpacked");
    let mut places = places.flatten().map(|entry| entry.path());
    let place: PathBuf =
        places.find(|place| place.join("libjson-c.so").exists()).expect("it was unpacked");
    let mut command = Command::new(if extension == "c" { "gcc" } else { "g++" });
    command.env_remove("LD_PRELOAD").args(["-shared", "-fPIC", "-fvisibility=hidden", "-g"]);
    if env::var_os("ROHRPOST_SANITIZE").is_some() {
        command.args(["-fsanitize=address", "-fno-omit-frame-pointer"]);
    }
    command.args(["-Wall", "-Werror"]).arg(format!("-DMQ_API_VERSION={version}"));
    command.arg("-I").arg(include()).arg("-isystem").arg(deb.join("usr/include"));
    command.arg("-o").arg(folder.path().join(name));
    command.arg(folder.file(&format!("{name}.{extension}"), source));
    command.arg(format!("-L{}", place.display()));
    command.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", place.display()));
    command.arg(if version >= 500 { "-lfastjson" } else { "-ljson-c" });
    let done = command.output().expect("a C compiler runs");
    assert!(done.status.success(), "{}", transcript(&done));
}

#[derive(Debug)]
struct Known(&'static str);

impl JsonSource for Known {
    fn object(&self, mail: u16) -> String {
        assert_eq!(mail, 7);
        self.0.to_owned()
    }

    fn mime(&self, _: u16) -> Option<Text> {
        Some(Text::copy_from(b"stored"))
    }
}

const KNOWN: &str =
    r#"{"customer":12,"deep":{"a":[1,2.5,null,true,{"b":"\u00e4\"\\"}]},"null":null}"#;

fn open(stage: &Stage, connection: ConnectionId, mime: &[u8]) -> MessageId {
    let json = Some(Described { by: Arc::new(Known(KNOWN)), mail: 7 });
    let init = MessageInit {
        envelope: Some(b"from@a"),
        recipient: Some(b"to@b"),
        mime: Some(Text::copy_from(mime)),
        json,
        ..MessageInit::default()
    };
    stage.worker.open_message(connection, init).expect("there is room")
}

/// Runs a script in a puppet's message hook.
fn show(stage: &mut Stage, plugin: usize, on: ConnectionId, message: MessageId, script: &str) {
    let script = CString::new(script).expect("a script has no NUL");
    let step = Step::Data(Terminated::from(script.as_c_str()));
    stage.worker.call(stage.plugin(plugin), on, step);
    stage.worker.call(stage.plugin(plugin), on, Step::Message(message));
}

fn json(edits: &MessageEdits) -> &JsonEdits {
    edits.json.as_deref().expect("a plugin asked for the object")
}

fn member<'a>(edits: &'a MessageEdits, name: &str) -> Option<&'a str> {
    let mut members = json(edits).members.iter();
    members.find(|(known, _)| &**known == name).map(|(_, value)| &**value)
}

scenario! {
    fn d_0c_d_0d_each_version_gets_an_object_of_its_own_library() {
        let mut stage = stage(&[201, 400, 401, 500, 506]);
        let connection = stage.open();
        for plugin in 0..5 {
            let message = open(&stage, connection, b"text");
            show(&mut stage, plugin, connection, message, "get customer\nget deep\nget null\nget envelope");
            let deep = r#"deep={"a":[1,2.5,null,true,{"b":"ä\"\\"}]}"#;
            let said = stage.said();
            assert_eq!(said[0], "customer=12");
            assert_eq!(said[1].replace(' ', ""), deep, "{plugin}");
            assert_eq!(said[2..], ["null=null", "envelope=\"from@a\""]);
            let edits = stage.worker.close_message(message);
            assert_eq!((json(&edits).problem, json(&edits).members.len()), (None, 3));
            assert_eq!((&edits.envelope, &edits.mime), (&Edit::Unchanged, &Edit::Unchanged));
        }
    }
}

scenario! {
    fn d_61_the_object_is_lent_and_goes_with_the_chain() {
        let mut stage = stage(&[201, 506]);
        let connection = stage.open();
        for plugin in 0..2 {
            let message = open(&stage, connection, b"text");
            show(&mut stage, plugin, connection, message, "keep\nkept\nput customer 13");
            stage.worker.close_message(message);
            let next = open(&stage, connection, b"text");
            show(&mut stage, plugin, connection, next, "of-kept customer\nrelease\nget customer");
            let expected = ["kept=the same", "customer=13", "release=it was the last", "customer=12"];
            assert_eq!(stage.said(), expected, "{plugin}");
            show(&mut stage, plugin, connection, next, "last");
            let [(Level::Warning, _, refused), (Level::Info, _, said)] = &stage.take_lines()[..] else {
                panic!("a stale message is misuse");
            };
            assert!(refused.contains("MQ_") && said == "last=NULL", "{refused}, {said}");
            stage.worker.close_message(next);
        }
    }
}

scenario! {
    fn d_62_setters_and_getters_agree_with_the_object_at_all_times() {
        let mut stage = stage(&[201, 506]);
        let connection = stage.open();
        for plugin in 0..2 {
            let message = open(&stage, connection, b"text");
            let script = "string envelope new@a\nenvelope\nset-envelope newer@a\nget envelope\n\
                          delete envelope\nenvelope\nset-recipient x@y\nget recipient\n\
                          set-mime made\nget mime\nkeep-mime\nstring mime other\nenvelope\nkept-mime\nmime\nset-recipient\nget recipient\n\
                          string recipient last@b\nput tags [\"a\"]\nput customer {\"x\":[1]}\ndelete null";
            show(&mut stage, plugin, connection, message, script);
            let expected = [
                "envelope=new@a", "envelope=\"newer@a\"", "envelope=NULL", "recipient=\"x@y\"",
                "mime=\"made\"", "envelope=NULL", "kept-mime=made", "mime=other", "recipient=(none)",
            ];
            assert_eq!(stage.said(), expected);
            let edits = stage.worker.close_message(message);
            let set = |text: &str| Edit::Set(Text::copy_from(text.as_bytes()));
            assert_eq!((&edits.envelope, &edits.recipient), (&Edit::Removed, &set("last@b")));
            assert_eq!(edits.mime, set("other"));
            let compact = |name| member(&edits, name).map(|text| text.replace(' ', ""));
            assert_eq!(compact("tags").as_deref(), Some("[\"a\"]"));
            assert_eq!((compact("customer").as_deref(), compact("null")), (Some("{\"x\":[1]}"), None));
        }
    }
}

scenario! {
    fn a_text_of_all_octets_survives_both_libraries_and_their_edits() {
        let octets: Vec<u8> = (0..=u8::MAX).cycle().take(1024).collect();
        let mut stage = stage(&[201, 506, 401]);
        let connection = stage.open();
        for plugin in 0..3 {
            let message = open(&stage, connection, &octets);
            show(&mut stage, plugin, connection, message, "octets");
            assert_eq!(stage.said(), ["octets=1024 of 1024"]);
            assert_eq!(stage.worker.close_message(message).mime, Edit::Unchanged);
            let message = open(&stage, connection, &octets);
            show(&mut stage, plugin, connection, message, "reverse");
            let reversed: Vec<u8> = octets.iter().rev().copied().collect();
            assert_eq!(stage.worker.close_message(message).mime, Edit::Set(Text::copy_from(&reversed)));
        }
        // From one library to the other and back.
        let message = open(&stage, connection, &octets);
        show(&mut stage, 0, connection, message, "reverse");
        show(&mut stage, 1, connection, message, "reverse\noctets");
        show(&mut stage, 2, connection, message, "octets");
        assert_eq!(stage.said(), ["octets=1024 of 1024", "octets=1024 of 1024"]);
        assert_eq!(stage.worker.close_message(message).mime, Edit::Set(Text::copy_from(&octets)));
    }
}

scenario! {
    fn d_0d_two_libraries_in_one_chain_see_one_message() {
        let mut stage = stage(&[201, 506, 400]);
        let connection = stage.open();
        let message = open(&stage, connection, b"text");
        show(&mut stage, 0, connection, message, "keep\nput customer 1\nstring recipient a@b");
        show(&mut stage, 1, connection, message, "get customer\nrecipient\nput customer 2\nput new [1]\ndelete null");
        // The object of the first library is brought up to date, in its place.
        show(&mut stage, 2, connection, message, "get customer\nget new\nget null\nget deep");
        show(&mut stage, 0, connection, message, "kept\nof-kept customer\nput customer 3\nrelease");
        show(&mut stage, 1, connection, message, "get customer\nstring envelope last@a");
        let said = stage.said();
        let said: Vec<String> = said.iter().map(|line| line.replace(' ', "")).collect();
        let expected = [
            "customer=1", "recipient=a@b", "customer=2", "new=[1]", "null=(none)",
            r#"deep={"a":[1,2.5,null,true,{"b":"ä\"\\"}]}"#,
            "kept=thesame", "customer=2", "release=thereareothers", "customer=3",
        ];
        assert_eq!(said, expected);
        let edits = stage.worker.close_message(message);
        assert_eq!(member(&edits, "customer"), Some("3"));
        assert_eq!(edits.envelope, Edit::Set(Text::copy_from(b"last@a")));
        assert_eq!(edits.recipient, Edit::Set(Text::copy_from(b"a@b")));
        assert_eq!(json(&edits).plugin, stage.plugin(1), "who asked last is named");
    }
}

scenario! {
    fn d_63_an_object_that_says_no_mail_is_told_with_its_property() {
        let long = "x".repeat(60_000);
        let rows = [
            ("put envelope 5".to_owned(), Some(JsonProblem::NoString("envelope"))),
            ("put recipient [\"a\"]\nrecipient".to_owned(), Some(JsonProblem::NoString("recipient"))),
            ("put mime {}".to_owned(), Some(JsonProblem::NoString("mime"))),
            ("delete recipient".to_owned(), None),
            ("put recipient null".to_owned(), None),
            (format!("string a {long}"), None),
        ];
        let mut stage = stage(&[201, 506]);
        let connection = stage.open();
        for (plugin, (script, problem)) in (0..2).flat_map(|plugin| rows.iter().map(move |row| (plugin, row))) {
            let message = open(&stage, connection, b"text");
            show(&mut stage, plugin, connection, message, script);
            let edits = stage.worker.close_message(message);
            assert_eq!(json(&edits).problem, *problem, "{script:.30}");
            let gone = script.contains("recipient");
            assert_eq!(edits.recipient == Edit::Removed, gone, "{script:.30}");
        }
        stage.take_lines();
    }
}

scenario! {
    fn d_63_what_is_nested_without_end_is_told_and_neither_written_nor_let_go_by_recursion() {
        let mut stage = stage(&[201, 506]);
        let connection = stage.open();
        let much = Some(JsonProblem::TooMuch);
        for (script, problem) in [
            ("nest a 126", None),
            ("nest a 127", None),
            ("nest a 128", much),
            ("nest a 300000", much),
            ("double a 5", None),
            ("double a 100", much),
        ] {
            for plugin in 0..2 {
                let message = open(&stage, connection, b"text");
                show(&mut stage, plugin, connection, message, script);
                let edits = stage.worker.close_message(message);
                assert_eq!(json(&edits).problem, problem, "{script}");
                assert_eq!(json(&edits).members.is_empty(), problem.is_some(), "{script}");
            }
        }
        // The other library is not given it either.
        for (first, second) in [(0, 1), (1, 0)] {
            let message = open(&stage, connection, b"text");
            show(&mut stage, first, connection, message, "nest a 300000");
            show(&mut stage, second, connection, message, "asked");
            let lines = stage.take_lines();
            assert_eq!(lines.last().map(|line| &*line.2), Some("asked=NULL"), "{lines:?}");
            stage.worker.close_message(message);
        }
    }
}

scenario! {
    fn d_63_d_67_of_an_outgoing_message_only_what_is_published_changes() {
        let mut stage = stage(&[201, 506]);
        let connection = stage.open_to(Direction::Outgoing);
        for plugin in 0..2 {
            let json = Some(Described { by: Arc::new(Known(KNOWN)), mail: 7 });
            let init = MessageInit {
                envelope: Some(b"from@a"),
                recipient: Some(b"to@b"),
                json,
                ..MessageInit::default()
            };
            let message = stage.worker.open_message(connection, init).expect("there is room");
            let script = "mime\nget mime\nset-mime made\nget mime\nmime\nstring recipient x@y\nrecipient\n\
                          put recipient 5\ndelete mime\nput customer 13";
            let text = CString::new(script).expect("no NUL");
            let step = Step::Data(Terminated::from(text.as_c_str()));
            stage.worker.call(stage.plugin(plugin), connection, step);
            stage.worker.call(stage.plugin(plugin), connection, Step::OutData(message));
            let expected =
                ["mime=NULL", "mime=\"stored\"", "mime=\"stored\"", "mime=made", "recipient=to@b"];
            assert_eq!(stage.said(), expected);
            let edits = stage.worker.close_message(message);
            assert_eq!(edits.mime, Edit::Set(Text::copy_from(b"made")));
            assert_eq!((&edits.recipient, self::json(&edits).problem), (&Edit::Unchanged, None));
            assert_eq!(member(&edits, "customer"), Some("13"));
        }
    }
}

scenario! {
    fn d_0c_a_plugin_without_its_library_is_told_the_cure_once() {
        let folder = Folder::new();
        for (name, symbol, version) in [("10-old.so", "MQ_Json", 201), ("20-new.so", "MQ_json", 506)] {
            let source = format!(
                "#define MQ_API_VERSION {version}\n#include <mailerq.h>\n#include <stdio.h>\n\
                 MQ_EXPORT int mq_version(void) {{ return MQ_API_VERSION; }}\n\
                 MQ_EXPORT bool mq_smtp_in_message(MQ_Context *c, MQ_Connection *s, MQ_Message *m)\n\
                 {{ (void)c, (void)s; return {symbol}(m) != NULL; }}\n"
            );
            folder.plugin(name, &source);
        }
        let mut stage = Stage::in_folder(folder);
        assert!(!stage.host.plugins().set().ask_json(), "nobody can ask");
        let connection = stage.open();
        let message = open(&stage, connection, b"text");
        for (plugin, name, cure) in [(0, "10-old.so", "-ljson-c"), (1, "20-new.so", "-lfastjson")] {
            for _ in 0..3 {
                let returned = stage.worker.call(stage.plugin(plugin), connection, Step::Message(message));
                assert!(!returned.took_control, "NULL is returned");
            }
            stage.assert_complaint(Level::Critical, name, cure);
        }
        assert_eq!(stage.worker.close_message(message), MessageEdits::default());
    }
}

scenario! {
    /// A cell that was borrowed then would be a panic, and the end of the process.
    fn what_plugins_hang_onto_objects_runs_with_no_cell_borrowed() {
        let mut stage = stage(&[400, 506]);
        let connection = stage.open();
        let message = open(&stage, connection, b"text");
        show(&mut stage, 0, connection, message, "trap recipient\nset-recipient a@b\ntrap custom\nget recipient");
        let texts = |stage: &mut Stage| -> Vec<String> {
            stage.take_lines().into_iter().map(|(_, _, text)| text).collect()
        };
        let said = texts(&mut stage);
        assert!(said[0].contains("the library of an object of this message is at work"), "{said:?}");
        assert_eq!(said[1..], ["on-delete=gone", "recipient=\"a@b\""], "by the setter");
        // For the other library: what then calls is not the plugin whose hook this is.
        show(&mut stage, 1, connection, message, "get custom");
        let said = texts(&mut stage);
        assert!(said.iter().any(|line| line == "on-text=NULL"), "{said:?}");
        assert!(said.iter().any(|line| line == "custom=\"trap\""), "{said:?}");
        // It is brought up to date, and so the old value goes.
        show(&mut stage, 0, connection, message, "trap another");
        let said = texts(&mut stage);
        assert!(said.iter().any(|line| line == "on-delete=gone"), "{said:?}");
        let edits = stage.worker.close_message(message);
        assert_eq!(member(&edits, "another"), Some("\"trap\""));
        let said = texts(&mut stage);
        assert!(said.iter().any(|line| line == "on-text=NULL"), "the message is gone: {said:?}");
        assert!(said.iter().any(|line| line == "on-delete=gone"), "{said:?}");
    }
}

/// Hangs onto a member what throws when that is written as text, or goes; which, the first letter says.
const THROWING: &str = r#"
#include <mailerq.h>
#include <json-c/json.h>
static char how;
static void on_delete(json_object *, void *) { throw 1; }
static int on_text(json_object *, printbuf *, int, int) { throw 1; }
MQ_EXPORT int mq_version() { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_data(MQ_Context *, MQ_Connection *, const char *mime, size_t) {
    how = *mime;
    return false;
}
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *, MQ_Connection *, MQ_Message *message) {
    json_object *object = MQ_json(message), *value = json_object_new_string("trap");
    if (how == 't') json_object_set_serializer(value, on_text, nullptr, nullptr);
    else json_object_set_userdata(value, nullptr, on_delete);
    json_object_object_add(object, how == 'd' ? "recipient" : "custom", value);
    if (how == 'd') MQ_setRecipient(message, "a@b", 3);
    return false;
}
"#;

/// Has the plugin that throws run, then the one with the other library, then the first again.
fn throw(how: &str) {
    let folder = Folder::new();
    compile_source(&folder, "00-throwing.so", 401, "cpp", THROWING);
    compile(&folder, "10-506.so", 506);
    let mut stage = Stage::in_folder(folder);
    let connection = stage.open();
    let message = open(&stage, connection, b"text");
    show(&mut stage, 0, connection, message, how);
    show(&mut stage, 1, connection, message, "asked");
    show(&mut stage, 0, connection, message, how);
}

const THROWN: &str = "an exception left what a plugin hung onto a JSON object";

#[test]
fn d_0a_an_exception_from_what_goes_by_a_setter_is_no_bug_of_the_host() {
    let path = concat!(
        module_path!(),
        "::d_0a_an_exception_from_what_goes_by_a_setter_is_no_bug_of_the_host"
    );
    assert_aborts(path, &["plugin 00-throwing.so", THROWN, "mq_smtp_in_message"], || throw("d"));
}

#[test]
fn d_0a_an_exception_from_what_writes_a_text_is_no_bug_of_the_host() {
    let path = concat!(
        module_path!(),
        "::d_0a_an_exception_from_what_writes_a_text_is_no_bug_of_the_host"
    );
    assert_aborts(path, &["plugin 10-506.so", THROWN, "mq_smtp_in_message"], || throw("t"));
}

#[test]
fn d_0a_an_exception_from_what_goes_for_a_newer_value_is_no_bug_of_the_host() {
    let path = concat!(
        module_path!(),
        "::d_0a_an_exception_from_what_goes_for_a_newer_value_is_no_bug_of_the_host"
    );
    assert_aborts(path, &["plugin 00-throwing.so", THROWN, "mq_smtp_in_message"], || throw("n"));
}

#[test]
fn objects_of_both_libraries_are_used_as_they_live_under_the_address_sanitizer() {
    let chains = [
        "d_0d_two_libraries_in_one_chain_see_one_message",
        "d_61_the_object_is_lent_and_goes_with_the_chain",
        "d_62_setters_and_getters_agree_with_the_object_at_all_times",
        "a_text_of_all_octets_survives_both_libraries_and_their_edits",
        "what_plugins_hang_onto_objects_runs_with_no_cell_borrowed",
        "d_63_what_is_nested_without_end_is_told_and_neither_written_nor_let_go_by_recursion",
    ];
    for chain in chains {
        let output = sanitized_child(&format!("{}::{chain}", module_path!()));
        assert!(output.status.success(), "{chain}: {}", transcript(&output));
    }
}
