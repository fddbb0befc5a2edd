//! `rohrpost plugin bench`: what a plugin costs, and what is said of one that cannot be measured.

use serde_json::Value;

use super::{Said, compile, kit};

const VERSION: &str = "#include <mailerq.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
    MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
    MQ_EXPORT bool mq_smtp_in_data(MQ_Context *c, MQ_Connection *s, const char *m, size_t n)\n\
    { (void)c; (void)s; (void)m; (void)n; return false; }\n";

/// Measures a plugin whose hook for recipients does this, for a second.
fn measured(rcptto: &str) -> Said {
    let place = tempfile::tempdir().unwrap();
    let hook = format!(
        "MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *c, MQ_Connection *s, MQ_Address *a)\n\
         {{ (void)c; (void)s; (void)a; {rcptto} }}\n"
    );
    let object = compile(place.path(), "10-cost.c", &format!("{VERSION}{hook}"), &[]);
    kit(["bench", object.to_str().unwrap(), "--seconds", "1", "--json"])
}

#[test]
fn each_hook_and_a_mail_with_and_without_the_plugin_are_measured() {
    let said = measured("MQ_continue(s); return true;");
    assert_eq!(said.code, Some(0), "{said:?}");
    let figures: Value = serde_json::from_str(&said.stdout).unwrap();
    for place in
        ["/hooks/mq_smtp_in_data", "/hooks/mq_smtp_in_rcptto", "/mail/without", "/mail/with"]
    {
        let ns = figures.pointer(&format!("{place}/ns")).and_then(Value::as_f64);
        assert!(ns.is_some_and(|ns| ns > 0.0), "{place}: {said:?}");
    }
}

#[test]
fn a_hook_that_keeps_its_step_is_told_and_the_others_are_measured() {
    let said = measured("return true;");
    assert_eq!(said.code, Some(0), "{said:?}");
    let figures: Value = serde_json::from_str(&said.stdout).unwrap();
    let why = |place: &str| figures.pointer(&format!("{place}/why")).and_then(Value::as_str);
    for place in ["/hooks/mq_smtp_in_rcptto", "/mail/with"] {
        assert!(why(place).is_some_and(|why| why.contains("keeps its step")), "{place}: {said:?}");
    }
    assert!(figures.pointer("/hooks/mq_smtp_in_data/ns").is_some(), "{said:?}");
}

#[test]
fn a_plugin_that_ends_the_process_or_does_not_return_is_named() {
    let said = measured("exit(0);");
    assert_eq!(said.code, None, "by a signal: {said:?}");
    let named = |text: &str| text.contains("10-cost.so") && text.contains("mq_smtp_in_rcptto");
    assert!(named(&said.stderr) && said.stderr.contains("exit()"), "{said:?}");
    let said = measured("for (;;) { }");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(named(&said.stdout) && said.stdout.contains("has not returned"), "{said:?}");
}

#[test]
fn a_hook_that_is_slow_is_measured_all_the_same() {
    let said = measured("usleep(30000); return false;");
    assert_eq!(said.code, Some(0), "{said:?}");
    let figures: Value = serde_json::from_str(&said.stdout).unwrap();
    for place in ["/hooks/mq_smtp_in_rcptto", "/mail/with"] {
        let ns = figures.pointer(&format!("{place}/ns")).and_then(Value::as_f64);
        assert!(ns.is_some_and(|ns| ns >= 3e7), "{place}: {said:?}");
    }
}
