//! Programs that others wrote, over TLS: OpenSSL's client, sslscan, Python, curl, Postfix'
//! posttls-finger.

use std::{net::SocketAddr, path::PathBuf};

use super::{NAME, Stage};
use crate::support::{PATIENCE, Server, Sink, Tool};

/// A stage whose certificate is for the address too, as not every program can be told another name; with
/// the authority's own certificate in a file.
fn stage() -> (Stage, PathBuf) {
    let stage = Stage::new();
    let folder = stage.plan.directory().to_owned();
    let made = stage.authority.certify(&folder, &[NAME, "127.0.0.1"]);
    let authority = folder.join("authority.pem");
    stage.authority.write(&authority);
    let stage = stage
        .setting("smtp-certificate", made.chain.display())
        .setting("smtp-key", made.key.display());
    (stage, authority)
}

/// One run of `openssl s_client`, which says QUIT as soon as it is connected, and what it said.
fn s_client(stage: &Stage, address: SocketAddr, arguments: &str) -> String {
    let quit = stage.plan.directory().join("quit");
    std::fs::write(&quit, "QUIT\r\n").unwrap();
    let authority = stage.plan.directory().join("authority.pem");
    let client = Tool::new("openssl").words("s_client -ign_eof -servername").arg(NAME);
    let client = client.arg("-connect").arg(address.to_string()).arg("-CAfile").arg(authority);
    let mut client = client.words(arguments).input(&quit).spawn();
    client.wait(PATIENCE);
    format!("{}{}", client.stdout.complete(), client.stderr.complete())
}

#[test]
fn openssl_speaks_tls_1_2_and_1_3_and_nothing_older() {
    let (stage, _) = stage();
    let server = stage.plan.start();
    let ways = [("-starttls smtp", server.smtp()), ("", server.smtps())];
    for (way, address) in ways {
        for version in ["2", "3"] {
            let arguments = format!("{way} -tls1_{version} -verify_return_error");
            let said = s_client(&stage, address, &arguments);
            assert!(said.contains(&format!("New, TLSv1.{version}, Cipher is")), "{said}");
            assert!(said.contains("Verification: OK") && said.contains("221 2.0.0"), "{said}");
        }
        for old in ["-tls1", "-tls1_1"] {
            let arguments = format!("{way} {old} -cipher ALL:@SECLEVEL=0");
            let said = s_client(&stage, address, &arguments);
            assert!(said.contains("Cipher is (NONE)"), "{old}: {said}");
        }
    }
}

/// A session is not taken up where another policy holds.
#[test]
fn openssl_resumes_a_session_on_its_own_port_only() {
    let (stage, _) = stage();
    let server = stage.plan.start();
    for version in ["-tls1_2", "-tls1_3"] {
        let file = stage.plan.directory().join(format!("session{version}"));
        let (out, back) =
            (format!("-sess_out {}", file.display()), format!("-sess_in {}", file.display()));
        let clear =
            |how: &str| s_client(&stage, server.smtp(), &format!("-starttls smtp {version} {how}"));
        assert!(clear(&out).contains("\nNew, TLS"));
        assert!(clear(&back).contains("\nReused, TLS"), "{version}");
        let elsewhere = s_client(&stage, server.smtps(), &format!("{version} {back}"));
        assert!(elsewhere.contains("\nNew, TLS"), "{version}: {elsewhere}");
    }
}

#[test]
fn sslscan_finds_nothing_old_or_weak() {
    let (stage, _) = stage();
    let server = stage.plan.start();
    for (way, address) in [("--starttls-smtp", server.smtp()), ("", server.smtps())] {
        let scan = Tool::new("sslscan").words("--no-colour --no-check-certificate").words(way);
        let said = scan.arg(format!("--sni-name={NAME}")).arg(address.to_string()).run(PATIENCE);
        for old in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
            assert!(
                said.lines().any(|line| line.starts_with(old) && line.ends_with("disabled")),
                "{old}: {said}"
            );
        }
        for new in ["TLSv1.2", "TLSv1.3"] {
            assert!(
                said.lines().any(|line| line.starts_with(new) && line.ends_with("enabled")),
                "{new}: {said}"
            );
        }
        let suites: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("Preferred ") || line.starts_with("Accepted "))
            .collect();
        assert!(suites.len() >= 5, "{said}");
        for suite in suites {
            let strong = suite.contains("GCM") || suite.contains("POLY1305");
            let secret = suite.contains("TLSv1.3") || suite.contains(" ECDHE-");
            assert!(strong && secret, "{suite}");
        }
        assert!(said.contains("Session renegotiation not supported"), "{said}");
        let heartbleed = said.lines().filter(|line| line.contains("vulnerable to heartbleed"));
        assert!(heartbleed.clone().count() > 0 && heartbleed.clone().all(|l| l.contains(" not ")));
    }
}

#[test]
fn python_and_curl_are_served_both_ways() {
    let (stage, authority) = stage();
    let sink = Sink::start(&stage.plan.directory().join("dump"));
    let server = stage.plan.clone().smarthost(sink.address()).start();
    for (way, address) in [("starttls", server.smtp()), ("implicit", server.smtps())] {
        let submit = Tool::python("submit_tls.py").arg(way).arg(address.to_string());
        submit.arg(&authority).run(PATIENCE);
    }
    let mail = stage.plan.directory().join("mail.txt");
    std::fs::write(&mail, "Subject: from curl\r\n\r\nA line.\r\n.\r\nAfter a dot.\r\n").unwrap();
    let urls =
        [("curl-starttls", "smtp", server.smtp()), ("curl-implicit", "smtps", server.smtps())];
    for (name, scheme, address) in urls {
        let curl = Tool::new("curl").words("--silent --show-error --ssl-reqd --max-time 60");
        let curl = curl.arg("--cacert").arg(&authority).words("--mail-from a@example.org");
        let curl = curl.arg("--mail-rcpt").arg(format!("{name}@example.net")).arg("--url");
        curl.arg(format!("{scheme}://{address}/client.example"))
            .words("-T -")
            .input(&mail)
            .run(PATIENCE);
    }
    sink.await_count(4, PATIENCE);
    for name in ["python-starttls", "python-implicit", "curl-starttls", "curl-implicit"] {
        assert_eq!(sink.count_with(&format!("{name}@example.net")), 1, "{name}");
    }
}

#[test]
fn postfix_finds_our_certificate_good() {
    let (stage, authority) = stage();
    let server: Server = stage.plan.start();
    let finger = Tool::new("posttls-finger").words("-c -l secure -F").arg(authority);
    let finger = finger.arg(format!("[127.0.0.1]:{}", server.smtp().port())).arg(NAME);
    let mut finger = finger.spawn();
    finger.wait(PATIENCE);
    let said = format!("{}{}", finger.stdout.complete(), finger.stderr.complete());
    assert!(said.contains("Verified TLS connection established"), "{said}");
}
