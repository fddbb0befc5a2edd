//! What result objects tell of the connection (MailerQ's result objects: `mta`, `authentication`, `cipher`,
//! `certificate`, `messages`, `sent`, `dsn`), as the hop and the certificate have it.

use serde_json::{Value, json};

use super::{
    TEXT,
    far::{Auth, Conduct, Far},
    paper::{Authority, self_signed},
    post, towards,
};
use crate::support::{PATIENCE, Server, eventually};

const HOST: &str = "127.0.0.1";

/// The attempt of the next result.
fn attempt(server: &Server) -> Value {
    let taken = eventually("a result", PATIENCE, || {
        let taken = server.plan().report(&["queue", "take", "all"]);
        (!taken.is_empty()).then_some(taken)
    });
    let result: Value = serde_json::from_str(taken.lines().next().unwrap()).unwrap();
    result["results"][0].clone()
}

#[test]
fn a_result_tells_whom_the_mail_went_to_and_how() {
    let authority = Authority::new("trusted");
    let auth = Some(Auth { offers: "LOGIN", in_clear: false, verdict: "235 2.7.0 in" });
    for (tls, verified) in [(authority.certify(HOST), true), (self_signed(HOST), false)] {
        let keywords = &["DSN"];
        let far = Far::start(Conduct { tls: Some(tls), auth, keywords, ..Conduct::default() });
        let plan = towards(&far);
        let trusted = authority.write(plan.directory());
        let server = plan
            .setting("smtp-out-ca-file", trusted)
            .setting("smarthost-username", "user")
            .environment("ROHRPOST_SMARTHOST_PASSWORD", "hunter2")
            .setting("queue-results", "all")
            .start();
        post(&server, "b@example.net");
        let attempt = attempt(&server);
        assert_eq!(attempt["mta"], "far.example", "{attempt}");
        assert_eq!(attempt["authentication"], "LOGIN", "{attempt}");
        assert_eq!(attempt["messages"], 1, "{attempt}");
        assert_eq!(attempt["dsn"], true, "{attempt}");
        let cipher = &attempt["cipher"];
        assert_eq!((&cipher["version"], &cipher["bits"]), (&json!("TLSv1.3"), &json!(256)));
        assert_eq!(cipher["name"], "TLS_AES_256_GCM_SHA384", "{attempt}");
        assert_eq!(cipher["id"], 0x1302, "{attempt}");
        let certificate = &attempt["certificate"];
        assert_eq!(certificate["altnames"], json!([HOST]), "{attempt}");
        assert_eq!(certificate["verified"], verified, "{attempt}");
        assert_eq!(certificate["result"] == "ok", verified, "{attempt}");
        assert_eq!(certificate["self-signed"], !verified, "{attempt}");
        let count = |name: &str| attempt["sent"][name].as_u64().unwrap();
        let trace = count("data") - TEXT.len() as u64;
        assert!((50..500).contains(&trace), "our Received field: {attempt}");
        let commands = count("connection") - count("data");
        assert!((100..400).contains(&commands), "EHLO to DATA, and the dots: {attempt}");
    }
}

#[test]
fn a_result_of_a_connection_in_clear_has_no_cipher() {
    let far = Far::start(Conduct::default());
    let server = towards(&far).setting("queue-results", "all").start();
    post(&server, "b@example.net");
    let attempt = attempt(&server);
    for name in ["cipher", "certificate", "authentication"] {
        assert_eq!(attempt[name], Value::Null, "{attempt}");
    }
    assert_eq!((&attempt["mta"], &attempt["dsn"]), (&json!("far.example"), &json!(false)));
}
