//! Certificates that change while the server runs, and files that are no certificates.

use std::path::Path;

use super::{NAME, Stage, TEXT};
use crate::support::{Authority, Server, ServerBuilder, SmtpClient};

fn reload(plan: &ServerBuilder) -> (Option<i32>, String) {
    let said = plan.order(&["reload"]);
    (said.code, format!("{}{}", said.stdout, said.stderr))
}

#[test]
fn a_reload_brings_a_new_certificate_and_cuts_nobody_off() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let mut before = stage.starttls(&server);
    let new = Authority::new();
    new.certify(stage.plan.directory(), &[NAME]);
    let (code, said) = reload(&stage.plan);
    assert_eq!(code, Some(0), "{said}");
    for implicit in [false, true] {
        let connect = || match implicit {
            true => SmtpClient::connect(server.smtps()).unwrap(),
            false => {
                let mut client = SmtpClient::hello(server.smtp()).unwrap();
                client.command("STARTTLS").unwrap().require(220).unwrap();
                client
            }
        };
        connect().handshake(&stage.trusted, NAME).expect_err("the old one is gone");
        connect().handshake(&new.trusted(), NAME).expect("the new one is there");
    }
    before.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
}

#[test]
fn a_reload_with_a_broken_file_keeps_what_was_there_and_says_why() {
    let stage = Stage::new();
    let server = stage.plan.start();
    std::fs::write(&stage.certificate.chain, "not a certificate").unwrap();
    let (code, said) = reload(&stage.plan);
    assert_ne!(code, Some(0));
    assert!(said.contains("holds no certificate"), "{said}");
    let mut client = stage.starttls(&server);
    client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
}

#[test]
fn a_certificate_may_come_and_go_while_the_server_runs() {
    let plan = Server::builder();
    let file = plan.directory().join("config.txt");
    std::fs::write(&file, "").unwrap();
    let plan = plan.setting("config-file", file.display());
    let server = plan.start();
    let authority = Authority::new();
    let made = authority.certify(plan.directory(), &[NAME]);
    let starttls =
        || SmtpClient::hello(server.smtp()).unwrap().starttls(&authority.trusted(), NAME);
    starttls().expect_err("there is no certificate yet");
    let lines =
        format!("smtp-certificate: {}\nsmtp-key: {}\n", made.chain.display(), made.key.display());
    std::fs::write(&file, lines).unwrap();
    assert_eq!(reload(&plan).0, Some(0));
    starttls().expect("there is one now");
    // A session that was greeted with STARTTLS hears that it is gone.
    let mut greeted = SmtpClient::hello(server.smtp()).unwrap();
    std::fs::write(&file, "").unwrap();
    assert_eq!(reload(&plan).0, Some(0));
    greeted.command("STARTTLS").unwrap().require(454).unwrap();
    greeted.command("NOOP").unwrap().require(250).unwrap();
    starttls().expect_err("there is none any more");
}

#[test]
fn a_start_with_an_unusable_file_says_what_would_be_right() {
    let stage = Stage::new();
    let folder = stage.plan.directory();
    let other = stage.authority.certify(folder, &["other.example"]);
    let (chain, key) = (&stage.certificate.chain, &stage.certificate.key);
    let encrypted = folder.join("encrypted.key");
    std::fs::write(
        &encrypted,
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let empty = folder.join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let absent = folder.join("absent.pem");
    let rows: [(&Path, &Path, &str); 6] = [
        (chain, &other.key, "does not belong to the first certificate"),
        (&empty, key, "holds no certificate"),
        (chain, &empty, "holds no private key"),
        (chain, &encrypted, "is encrypted"),
        (&absent, key, "cannot be read"),
        (key, key, "holds no certificate"),
    ];
    for (chain, key, expected) in rows {
        let plan = stage.plan.clone().setting("smtp-certificate", chain.display());
        let (code, said) = plan.setting("smtp-key", key.display()).start_in_vain();
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
