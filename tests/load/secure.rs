//! TLS and logins.

use super::password_file;
use crate::login::users_in;
use crate::support::{Authority, Load, Server, ServerBuilder, Tool};

/// A server with a certificate that nobody trusts and one user, `anna`, whose password is `geheim`.
fn secure() -> ServerBuilder {
    let plan = Server::builder();
    let made = Authority::new().certify(plan.directory(), &["mx.example"]);
    let hash =
        Tool::new("openssl").words("passwd -6 -salt salz geheim").run(crate::support::PATIENCE);
    let users = users_in(plan.directory(), &format!("anna:{hash}"));
    plan.setting("smtp-certificate", made.chain.display())
        .setting("smtp-key", made.key.display())
        .setting("smtp-auth", users)
        .setting("smtp-relay-range", "")
        .setting("smtp-secure-port", 0)
}

#[test]
fn mail_goes_over_tls_after_a_login() {
    let plan = secure();
    let password = password_file(plan.directory(), "geheim");
    let server = plan.start();
    let mut total = 0;
    for (address, tls) in [(server.smtp(), "starttls"), (server.smtps(), "implicit")] {
        for flight in ["lockstep", "pipelined", "bdat"] {
            let line = format!(
                "--messages 60 --connections 4 --threads 2 --per-connection 10 --octets 100-40000 \
                 --tls {tls} --flight {flight} --login anna --password-file"
            );
            Load::on(address, &line).arg(&password).run().assert_all(60);
            total += 60;
        }
    }
    assert_eq!(server.status().count("accepted"), total);
    assert_eq!(server.status().count("logins_failed"), 0);
}

#[test]
fn a_wrong_password_and_a_missing_one_are_told_apart() {
    let plan = secure().setting("smtp-auth-delay", 0);
    let password = password_file(plan.directory(), "falsch");
    let server = plan.start();
    let line = "--messages 5 --connections 1 --tls starttls --login anna --password-file";
    let measured = Load::on(server.smtp(), line).arg(&password).run();
    assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
    assert!(measured.stderr.contains(" 535 "), "{measured:?}");
    let measured = Load::on(server.smtp(), "--messages 5 --connections 1 --tls starttls").run();
    assert_eq!((measured.code, measured.replies(530)), (Some(1), 5), "{measured:?}");
}

#[test]
fn a_server_without_tls_is_not_used_where_tls_is_asked_for() {
    let server = Server::builder().start();
    let measured = Load::on(server.smtp(), "--messages 5 --connections 1 --tls starttls").run();
    assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
    assert!(measured.stderr.contains("TLS is required"), "{measured:?}");
    let measured = Load::on(server.smtp(), "--messages 5 --connections 1 --tls implicit").run();
    assert_eq!((measured.code, measured.count("messages")), (Some(1), 0), "{measured:?}");
    assert!(measured.stderr.contains("the TLS handshake failed"), "{measured:?}");
}

#[test]
fn idle_connections_are_held_under_tls() {
    let server = secure().start();
    let line = "--idle --connections 50 --tls starttls";
    let mut load = Load::on(server.smtp(), line).spawn();
    let patience = crate::support::PATIENCE;
    load.await_line(patience, |line| line.starts_with("ready connections=50 ").then_some(()));
    assert_eq!(server.status().count("incoming_connections"), 50);
    load.ask_to_end();
    assert!(load.wait(patience).success());
}
