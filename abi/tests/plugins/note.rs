//! Notes on connections and messages: seen by all plugins, bounded, and handed to the worker.

use rohrpost_abi::{Level, MessageInit, Notes, Step};

use crate::support::{Folder, Stage, scenario};

/// Says the note `a` of what it is shown, then sets or takes away what its name says.
fn source(set: &str) -> String {
    format!(
        r#"
#include <mailerq.h>
#include <stdio.h>
#include <string.h>
static void see(void *noted) {{
    char line[200];
    size_t size = 99;
    const char *value = MQX_note(noted, "a", &size);
    snprintf(line, sizeof line, "a=%s size=%zu", value ? value : "NULL", size);
    MQ_log(MQ_INFO, line);
    {set}
}}
MQ_EXPORT int mq_version(void) {{ return MQ_API_VERSION; }}
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *c, MQ_Connection *s) {{ (void)c; see(s); return false; }}
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *c, MQ_Connection *s, MQ_Message *m)
{{ (void)c, (void)s; see(m); return false; }}
"#
    )
}

fn stage(sets: &[&str]) -> Stage {
    let folder = Folder::new();
    for (at, set) in sets.iter().enumerate() {
        folder.plugin(&format!("{at}0.so"), &source(set));
    }
    Stage::in_folder(folder)
}

scenario! {
    fn notes_are_seen_by_all_plugins_and_kept_apart_by_what_they_are_on() {
        let mut stage = stage(&[
            r#"if (!value) MQX_setNote(noted, "a", "x\0y", 3);"#,
            r#"MQX_setNote(noted, "b", "", 0); if (size == 3) MQX_setNote(noted, "a", NULL, 0);"#,
        ]);
        let connection = stage.open();
        let mut notes = Notes::default();
        assert!(notes.set("a", Some(b"old")));
        let init = MessageInit { notes, ..MessageInit::default() };
        let message = stage.worker.open_message(connection, init).expect("there is room");
        for step in [Step::Connect, Step::Message(message), Step::Connect] {
            for plugin in 0..2 {
                stage.worker.call(stage.plugin(plugin), connection, step);
            }
        }
        let expected = [
            "a=NULL size=0", "a=x size=3", "a=old size=3", "a=old size=3", "a=NULL size=0", "a=x size=3",
        ];
        assert_eq!(stage.said(), expected);
        let edits = stage.worker.close_message(message);
        let left: Vec<(String, Vec<u8>)> = edits.notes.expect("they were changed").iter()
            .map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        assert_eq!(left, [("b".to_owned(), Vec::new())]);
        let message = stage.worker.open_message(connection, MessageInit::default()).expect("room");
        assert_eq!(stage.worker.close_message(message).notes, None, "nobody noted anything");
    }
}

scenario! {
    fn what_is_no_note_changes_nothing_and_is_told() {
        let mut stage = stage(&[
            r#"MQX_setNote(noted, NULL, "x", 1);"#,
            r#"MQX_setNote(noted, "", "x", 1);"#,
            r#"MQX_setNote(noted, "\xff", "x", 1);"#,
            r#"MQX_setNote(noted, "big", line, 1u << 20);"#,
            r#"MQX_setNote(noted, "big", line, (size_t)-1);"#,
            r#"MQX_setNote(NULL, "a", "x", 1);"#,
            r#"for (int i = 0; i < 65; i++) { snprintf(line, 9, "n%d", i); MQX_setNote(noted, line, "", 0); }"#,
        ]);
        let connection = stage.open();
        let words = [
            "name is NULL", "a name of 1 to 128 octets", "no UTF-8", "beyond what all notes may have",
            "beyond what all notes may have", "MQ_Connection or MQ_Message", "at most 64 notes",
        ];
        for (plugin, words) in words.into_iter().enumerate() {
            stage.worker.call(stage.plugin(plugin), connection, Step::Connect);
            stage.assert_complaint(Level::Warning, &format!("{plugin}0.so"), words);
        }
    }
}
