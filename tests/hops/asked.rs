//! Plugins between the banner, the handshake and the first mail: what was said by then, and under TLS.

use super::{
    far::{Conduct, Far, StartTls},
    paper::self_signed,
    post,
};
use crate::plugins::outward::{G1, G3, add};
use crate::plugins::probe::{Stage, await_status};
use crate::support::{PATIENCE, Server};

/// A server with probes of both generations that delivers to `far`.
fn asking(far: &Far, script: &str) -> (Stage, Server) {
    let stage = Stage::new(&[]).setting("retry-interval", 1);
    add(&stage, "10-a", G1);
    add(&stage, "20-b", G3);
    stage.script(script);
    let server = stage.clone().smarthost(far.address()).start();
    (stage, server)
}

fn lines(far: &Far) -> Vec<(bool, String)> {
    let verb = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    far.heard().into_iter().map(|heard| (heard.secure, verb(heard.line))).collect()
}

#[test]
fn out_secure_comes_between_the_handshake_and_the_second_ehlo() {
    let conduct = Conduct { tls: Some(self_signed("127.0.0.1")), ..Conduct::default() };
    assert_eq!(conduct.starttls, StartTls::Works);
    let far = Far::start(conduct);
    let script = "10-a out-connect secure\n10-a out-secure secure\n20-b out-secure facts hold:go\n";
    let (stage, server) = asking(&far, script);
    post(&server, "b@example.net");
    stage.await_line("20-b out-secure");
    await_status(&server, "held", 1);
    assert_eq!(lines(&far), [(false, "EHLO".to_owned()), (false, "STARTTLS".to_owned())]);
    assert_eq!(stage.lines("10-a secure "), ["10-a secure 0", "10-a secure 1"]);
    stage.await_line("fact tls TLSv1.3/7 1");
    stage.release("go", "continue");
    server.await_empty_queue(PATIENCE);
    assert_eq!(lines(&far)[2..4], [(true, "EHLO".to_owned()), (true, "MAIL".to_owned())]);
    let opens = ["out-connect", "out-secure", "out-message"];
    let expected = ["10-a out-connect", "20-b out-connect", "10-a out-secure", "20-b out-secure"];
    assert_eq!(stage.calls(&opens)[..4], expected);
}

#[test]
fn under_implicit_tls_out_connect_still_comes_first() {
    let conduct =
        Conduct { tls: Some(self_signed("127.0.0.1")), implicit: true, ..Conduct::default() };
    let far = Far::start(conduct);
    let stage = Stage::new(&[]).setting("smarthost-tls", "implicit");
    add(&stage, "10-a", G3);
    stage.script("10-a out-connect secure\n10-a out-secure secure\n");
    let server = stage.clone().smarthost(far.address()).start();
    post(&server, "b@example.net");
    server.await_empty_queue(PATIENCE);
    assert_eq!(stage.lines("10-a secure "), ["10-a secure 1"; 2]);
    let opens = ["out-connect", "out-secure", "out-message"];
    assert_eq!(stage.calls(&opens), ["10-a out-connect", "10-a out-secure", "10-a out-message"]);
    assert_eq!(lines(&far)[0], (true, "EHLO".to_owned()));
}

#[test]
fn a_plugin_that_wants_no_such_handshake_has_the_host_left() {
    let far = Far::start(Conduct { tls: Some(self_signed("127.0.0.1")), ..Conduct::default() });
    let (stage, server) = asking(&far, "20-b out-secure disconnect\n");
    post(&server, "b@example.net");
    stage.await_line("20-b disconnected 1");
    stage.await_line("20-b out-close");
    assert_eq!(lines(&far).len(), 2, "nothing was said after the handshake");
    stage.script("");
    server.await_empty_queue(PATIENCE);
    assert_eq!(server.status().count("retried"), 0);
}
