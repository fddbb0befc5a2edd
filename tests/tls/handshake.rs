//! Handshakes that succeed: ways in, versions, names, what is known of them afterwards.

use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion, pki_types::CertificateDer};

use super::{NAME, Stage, TEXT, introduced, offers};
use crate::support::{PATIENCE, Server, Sink, SmtpClient};

/// How long a large mail may take on a loaded machine.
const BATCH: Duration = Duration::from_secs(300);

fn sent_certificate(client: &SmtpClient) -> CertificateDer<'static> {
    client.tls().unwrap().peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn rfc_3207_mail_comes_by_either_way_and_its_received_field_says_how() {
    let stage = Stage::new();
    let sink = Sink::start(&stage.plan.directory().join("dump"));
    let server = stage.plan.clone().smarthost(sink.address()).start();
    let clients = [stage.starttls(&server), stage.implicit(&server)];
    for (number, mut client) in clients.into_iter().enumerate() {
        assert!(!offers(&mut client).iter().any(|line| line == "STARTTLS"));
        client.command("STARTTLS").unwrap().require(503).unwrap();
        let to = format!("b{number}@example.net");
        client.mail("a@example.org", &to, TEXT).unwrap().require(250).unwrap();
        client.command("QUIT").unwrap().require(221).unwrap();
        client.await_close().unwrap();
    }
    let mut clear = SmtpClient::hello(server.smtp()).unwrap();
    assert!(offers(&mut clear).iter().any(|line| line == "STARTTLS"));
    clear.mail("a@example.org", "c@example.net", TEXT).unwrap().require(250).unwrap();
    sink.await_count(3, PATIENCE);
    let dumped = String::from_utf8(sink.terminate()).unwrap();
    // RFC 3848 and RFC 8314 4.3.
    assert_eq!(dumped.matches(" with ESMTPS id ").count(), 2, "{dumped}");
    assert_eq!(dumped.matches("\\r\\n\\ttls TLS_").count(), 2, "{dumped}");
    assert_eq!(dumped.matches(" with ESMTP id ").count(), 1, "{dumped}");
}

#[test]
fn tls_1_2_and_1_3_both_work_on_both_ways() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let versions = [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ];
    for (version, expected) in versions {
        let config = stage.authority.trusted_with(&[version]);
        let client = SmtpClient::hello(server.smtp()).unwrap();
        let starttls = introduced(client.starttls(&config, NAME).unwrap());
        let client = SmtpClient::connect(server.smtps()).unwrap();
        let mut implicit = client.handshake(&config, NAME).unwrap();
        implicit.reply().unwrap().require(220).unwrap();
        for client in [starttls, introduced(implicit)] {
            assert_eq!(client.tls().unwrap().protocol_version(), Some(expected));
        }
    }
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let stage = Stage::new();
    let folder = stage.plan.directory();
    let second = stage.authority.certify(folder, &["mail.example.net", "smtp.example.net"]);
    let third = stage.authority.certify(folder, &["*.example.com"]);
    let list = |files: [&std::path::PathBuf; 3]| files.map(|f| f.display().to_string()).join(",");
    let first = &stage.certificate;
    let plan = stage
        .plan
        .clone()
        .setting("smtp-certificate", list([&first.chain, &second.chain, &third.chain]))
        .setting("smtp-key", list([&first.key, &second.key, &third.key]));
    let server = plan.start();
    let rows = [
        (NAME, first),
        ("mail.example.net", &second),
        ("SMTP.example.net", &second),
        ("any.example.com", &third),
    ];
    for (name, expected) in rows {
        let client = SmtpClient::hello(server.smtp()).unwrap();
        let client = client.starttls(&stage.trusted, name).unwrap();
        assert_eq!(sent_certificate(&client), expected.der, "{name}");
        let client = SmtpClient::connect(server.smtps()).unwrap();
        let client = client.handshake(&stage.trusted, name).unwrap();
        assert_eq!(sent_certificate(&client), expected.der, "{name}");
    }
    // For an unknown name, and for none (an address is no name), it is the first one.
    for name in ["unknown.example", "127.0.0.1"] {
        let client = SmtpClient::connect(server.smtps()).unwrap();
        let error = client.handshake(&stage.trusted, name).unwrap_err().to_string();
        assert!(error.contains(NAME) || error.contains("NotValidForName"), "{error}");
    }
}

/// A session that was begun under one policy is not taken up under another.
#[test]
fn a_session_is_taken_up_where_it_was_begun_and_nowhere_else() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stage = Stage::new();
        let server = stage.plan.start();
        let config = stage.authority.trusted_with(&[version]);
        let kind = |secure: bool| {
            let client = match secure {
                true => SmtpClient::connect(server.smtps()).unwrap().handshake(&config, NAME),
                false => SmtpClient::hello(server.smtp()).unwrap().starttls(&config, NAME),
            };
            let mut client = client.unwrap();
            if secure {
                client.reply().unwrap().require(220).unwrap();
            }
            // The ticket comes with what the server says.
            client.command("NOOP").unwrap().require(250).unwrap();
            client.tls().unwrap().handshake_kind().unwrap()
        };
        assert_eq!(kind(false), HandshakeKind::Full, "{version:?}");
        assert_eq!(kind(false), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(kind(true), HandshakeKind::Full, "{version:?}");
        assert_eq!(kind(true), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(kind(false), HandshakeKind::Full, "{version:?}");
    }
}

#[test]
fn a_large_mail_arrives_as_it_was_sent() {
    let stage = Stage::new();
    let sink = Sink::start(&stage.plan.directory().join("dump"));
    let server = stage.plan.clone().smarthost(sink.address()).start();
    let lines: String = (0..120_000)
        .map(|line| format!("line {line} of a text that takes many records\r\n"))
        .collect();
    let mail = format!("Subject: large\r\n\r\n{lines}");
    for mut client in [stage.starttls(&server), stage.implicit(&server)] {
        let reply = client.mail("a@example.org", "b@example.net", mail.as_bytes());
        reply.unwrap().require(250).unwrap();
    }
    sink.await_count(2, BATCH);
    for line in sink.terminate().split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mail: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert!(mail["body"].as_str().unwrap().ends_with(&lines), "the text was changed");
    }
}

/// Replies that the client reads late, each in a record of its own, arrive whole and in order.
#[test]
fn a_client_that_pipelines_much_and_reads_late_gets_every_reply() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let mut client = stage.starttls(&server);
    // More than the sockets of both ends hold, so that the server has to wait in between.
    let rounds = 100_000;
    for _ in 0..rounds / 100 {
        client.send(&b"NOOP\r\nRSET\r\n".repeat(100)).unwrap();
    }
    for _ in 0..rounds {
        assert_eq!(client.line().unwrap(), "250 2.0.0 Ok");
        assert_eq!(client.line().unwrap(), "250 2.0.0 Reset");
    }
}

#[test]
fn rfc_3207_4_where_tls_is_demanded_mail_in_clear_is_refused() {
    let stage = Stage::new().setting("smtp-tls-required", "yes");
    let server = stage.plan.start();
    let mut clear = SmtpClient::hello(server.smtp()).unwrap();
    clear.command("MAIL FROM:<a@example.org>").unwrap().require(530).unwrap();
    for mut client in [stage.starttls(&server), stage.implicit(&server)] {
        let reply = client.mail("a@example.org", "b@example.net", TEXT);
        reply.unwrap().require(250).unwrap();
    }
}

#[test]
fn without_a_certificate_there_is_no_starttls_and_no_secure_port() {
    let server = Server::builder().start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    assert!(!offers(&mut client).iter().any(|line| line == "STARTTLS"));
    client.command("STARTTLS").unwrap().require(502).unwrap();
    let (code, said) = Server::builder().setting("smtp-secure-port", 0).start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("smtp-secure-port needs a certificate"), "{said}");
}

/// An idle connection under TLS costs little: buffers go when they are not needed.
#[test]
fn idle_connections_under_tls_stay_small() {
    const COUNT: usize = 1_000;
    let stage = Stage::new().setting("smtp-connections-per-address", 0);
    let mut server = stage.plan.start();
    let pid = server.process().pid();
    drop(stage.starttls(&server));
    let before = crate::limits::resident_kib(pid);
    let mut clients: Vec<SmtpClient> = (0..COUNT).map(|_| stage.starttls(&server)).collect();
    let grown = crate::limits::resident_kib(pid).saturating_sub(before);
    println!("{:.2} KiB resident for each idle connection under TLS", grown as f64 / COUNT as f64);
    assert!(grown < 20 * COUNT as u64, "{grown} KiB for {COUNT}");
    for client in &mut clients {
        client.command("NOOP").unwrap().require(250).unwrap();
    }
}
