//! What is known of the connection of an attempt, as the part of a result that repeats it.
//!
//! Diagnostics: none; what is more than an attempt may keep is left out.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::delivery::{Certificate, Facts, Name};
use crate::queue::Attempt;

/// The text of one JSON object with the members that an attempt's object has of them; none where that is
/// more than [`Attempt::FACTS_BYTES_MAX`] bytes even without the certificate's details.
pub fn facts(facts: &Facts) -> Option<Box<str>> {
    let whole = object(facts, facts.certificate.as_deref()).to_string();
    let text = match whole.len() <= Attempt::FACTS_BYTES_MAX {
        true => whole,
        false => object(facts, None).to_string(),
    };
    (text.len() <= Attempt::FACTS_BYTES_MAX).then(|| text.into())
}

fn object(facts: &Facts, certificate: Option<&Certificate>) -> Value {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            object.insert(name.to_owned(), value);
        }
    };
    add("mta", facts.mta.as_deref().into());
    add("authentication", facts.authentication.into());
    let cipher = facts.cipher.map(|cipher| {
        json!({
            "name": cipher.name,
            "bits": cipher.bits,
            "algbits": cipher.bits,
            "version": cipher.version,
            "id": cipher.id,
        })
    });
    add("cipher", cipher.into());
    add("certificate", certificate.map(certificate_object).into());
    add("messages", facts.messages.into());
    let sent = json!({ "connection": facts.sent_connection_bytes, "data": facts.sent_data_bytes });
    add("sent", sent);
    add("dsn", facts.dsn.into());
    let decided = facts.plugin.as_ref();
    add("plugin", decided.map(|(name, what)| json!({ "name": name, "decision": what })).into());
    object.into()
}

fn certificate_object(certificate: &Certificate) -> Value {
    json!({
        "notbefore": time(certificate.not_before_s),
        "notafter": time(certificate.not_after_s),
        "version": certificate.version,
        "verified": certificate.verified,
        "result": certificate.result,
        "keyusage": certificate.key_usage,
        "self-signed": certificate.self_signed,
        "subject": name(&certificate.subject),
        "issuer": name(&certificate.issuer),
        "altnames": certificate.alt_names,
    })
}

fn name(name: &Name) -> Value {
    let parts = [
        ("common", &name.common),
        ("country", &name.country),
        ("locality", &name.locality),
        ("state", &name.state),
        ("organization", &name.organization),
    ];
    let known = parts.into_iter().filter_map(|(key, part)| Some((key, part.as_deref()?)));
    known.map(|(key, part)| (key.to_owned(), Value::from(part))).collect::<Map<_, _>>().into()
}

fn time(unix_s: i64) -> String {
    let time = Timestamp::from_second(unix_s).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_decided_is_said_and_only_where_somebody_did() {
        let plugin = Some(("10-a.so".into(), "bounce"));
        for (plugin, expected) in
            [(plugin, json!({ "name": "10-a.so", "decision": "bounce" })), (None, Value::Null)]
        {
            let told = facts(&Facts { plugin, ..Facts::default() }).unwrap();
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["plugin"], expected);
        }
    }

    #[test]
    fn a_certificate_that_is_too_long_is_left_out() {
        let alt_names = vec!["x".repeat(300).into(); 300];
        let certificate = Some(Arc::new(Certificate { alt_names, ..Certificate::default() }));
        let known = Facts { mta: Some("mx.example".into()), certificate, ..Facts::default() };
        let value: Value = serde_json::from_str(&facts(&known).unwrap()).unwrap();
        assert_eq!((&value["mta"], value.get("certificate")), (&json!("mx.example"), None));
        let mta = Some("x".repeat(Attempt::FACTS_BYTES_MAX).into());
        assert_eq!(facts(&Facts { mta, ..Facts::default() }), None);
    }
}
