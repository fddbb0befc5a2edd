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

#[test]
fn every_hook_that_is_exported_is_measured_or_named_and_settings_are_given() {
    let place = tempfile::tempdir().unwrap();
    let source = "#include <mailerq.h>\n#include <string.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT bool mqx_initialize(MQX_Plugin *self)\n\
        { const char *who = MQX_setting(self, \"who\");\n\
          return who != NULL && strcmp(who, \"a=b\") == 0; }\n\
        MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *a, MQ_Connection *b,\n\
                                               const char *login, size_t n, const char *password, size_t m)\n\
        { (void)a; MQ_setAuthenticated(b, login[n] == 0 && password[m - 1] != 0); return false; }\n\
        MQ_EXPORT bool mqx_smtp_out_secure(MQ_Context *a, MQ_Connection *b)\n\
        { (void)a; (void)b; return false; }\n\
        MQ_EXPORT void mqx_smtp_lost(MQ_Context *a, MQ_Connection *b) { (void)a; (void)b; }\n";
    let object = compile(place.path(), "10-login.c", source, &["-fvisibility=hidden"]);
    let object = object.to_str().unwrap();
    let bench =
        |setting: &str| kit(["bench", object, "--seconds", "1", "--json", "--setting", setting]);
    let said = bench("plugin-login-who=a=b");
    assert_eq!(said.code, Some(0), "{said:?}");
    let figures: Value = serde_json::from_str(&said.stdout).unwrap();
    for hook in ["mq_smtp_in_authenticate", "mqx_smtp_out_secure"] {
        let ns = figures.pointer(&format!("/hooks/{hook}/ns")).and_then(Value::as_f64);
        assert!(ns.is_some_and(|ns| ns > 0.0), "{hook}: {said:?}");
    }
    let others = serde_json::json!(["mqx_smtp_lost", "mqx_initialize"]);
    assert_eq!(figures["not_measured"], others, "{said:?}");
    assert_eq!(bench("plugin-login-who=b").code, Some(1), "it refuses");
    for wrong in ["plugin-other-who=a", "who=a", "plugin-login-=a", "plugin-login-who"] {
        let said = bench(wrong);
        assert_eq!(said.code, Some(64), "{wrong}: {said:?}");
    }
}
