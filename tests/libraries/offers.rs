//! What the loop offers besides (`MQX_resolve`, `MQX_post`, `MQX_repeat`, `MQX_watchMask`), in the real
//! server: answers of a plugin are read off the replies to RCPT TO.

use serde_json::json;

use crate::{
    routes::name_server::NameServer,
    support::{
        PATIENCE, Sanitizer, Server, ServerBuilder, SmtpClient, compile_plugin, eventually,
        fresh_port,
    },
};

fn with_plugin() -> ServerBuilder {
    let plan = Server::builder();
    let plugins = plan.directory().join("plugins");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libraries/offers.c");
    compile_plugin(&source, &plugins, "10-offers", Sanitizer::Off);
    // Each answer counts as an error of the client.
    plan.setting("plugin-directory", plugins.display()).setting("smtp-errors", 1_000)
}

/// What the plugin answers to `question`, its lines joined.
fn asked(client: &mut SmtpClient, question: &str) -> String {
    let reply = client.command(&format!("RCPT TO:<\"{question}\"@x>")).unwrap();
    let reply = reply.require(550).unwrap();
    let lines: Vec<_> = reply.lines.iter().map(|line| line.trim_start_matches("5.7.1 ")).collect();
    lines.join("|")
}

fn sender(server: &Server) -> SmtpClient {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client
}

/// MQX_resolve goes by the server's own settings and cache.
#[test]
fn plugins_ask_name_servers_through_the_server() {
    let zone = json!({
        "example.org": {
            "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"], "MX": [[10, "mx.example.org"], [0, "."]],
            "TXT": ["v=spf1 -all"], "NS": ["ns.example.org"],
        },
        "_sip._tcp.example.org": { "SRV": [[10, 5, 5060, "sip.example.org"]] },
        "1.2.0.192.in-addr.arpa": { "PTR": ["host.example.org"] },
        "www.example.org": { "CNAME": "example.org" },
        "mute.example": { "fault": "drop" },
        "broken.example": { "fault": "servfail" },
    });
    let dns = NameServer::start(&zone);
    let plan = with_plugin()
        .setting("dns-servers", dns.address())
        .setting("dns-timeout", "1s")
        .setting("dns-interval", "300ms")
        .setting("smtp-threads", 1);
    let mut server = plan.start();
    let mut client = sender(&server);
    for (question, expected) in [
        ("resolve 1 example.org", "0|192.0.2.1"),
        ("resolve 1 example.org.", "0|192.0.2.1"),
        ("resolve 28 example.org", "0|2001:db8::1"),
        ("resolve 16 example.org", "0|v=spf1 -all"),
        ("resolve 2 example.org", "0|ns.example.org"),
        ("resolve 33 _sip._tcp.example.org", "0|10 5 5060 sip.example.org"),
        ("resolve 12 192.0.2.1", "0|host.example.org"),
        ("resolve 5 www.example.org", "0|example.org"),
        ("resolve 1 www.example.org", "0|192.0.2.1"),
        ("resolve 15 _sip._tcp.example.org", "1"),
        ("resolve 1 nowhere.example", "2"),
        ("resolve 1 mute.example", "3"),
        ("resolve 1 broken.example", "4"),
        ("resolve 1 a..b", "5"),
    ] {
        assert_eq!(asked(&mut client, question), expected, "{question}");
    }
    let mx = asked(&mut client, "resolve 15 example.org");
    assert!(mx == "0|10 mx.example.org|0 ." || mx == "0|0 .|10 mx.example.org", "{mx}");
    assert_eq!(dns.asked("udp A example.org"), 1, "the cache of the server answers");
    // A query that is cancelled is not answered, and asking on the way of mail goes on as well.
    assert_eq!(asked(&mut client, "cancel 1 mute.example"), "cancelled");
    assert_eq!(asked(&mut client, "resolve 1 example.org"), "0|192.0.2.1");
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// Many queries at a time on several workers each get their own answer; name servers that are gone are an
/// answer too.
#[test]
fn plugins_ask_much_at_a_time_and_without_name_servers() {
    let names: serde_json::Map<_, _> = (0..200)
        .map(|number| (format!("n{number}.example"), json!({ "A": [format!("192.0.2.{number}")] })))
        .collect();
    let dns = NameServer::start(&names.into());
    let plan = with_plugin().setting("dns-servers", dns.address()).setting("smtp-threads", 3);
    let mut server = plan.start();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = sender(server);
                for number in (thread..200).step_by(8) {
                    let expected = format!("0|192.0.2.{number}");
                    let question = format!("resolve 1 n{number}.example");
                    assert_eq!(asked(&mut client, &question), expected);
                }
            });
        }
    });
    assert!(server.terminate().success());

    let plan = with_plugin()
        .setting("dns-servers", fresh_port())
        .setting("dns-timeout", "1s")
        .setting("dns-interval", "200ms");
    let mut server = plan.start();
    let answer = asked(&mut sender(&server), "resolve 1 example.org");
    assert!(answer == "3" || answer == "4", "{answer}");
    assert!(server.terminate().success());
}

/// MQX_post: threads of a plugin have their workers run what they found; in order, and each once.
#[test]
fn threads_post_to_their_workers_in_order() {
    let mut server = with_plugin().setting("smtp-threads", 2).start();
    let mut clients: Vec<_> = (0..4).map(|_| sender(&server)).collect();
    for round in 0..5 {
        for client in &mut clients {
            assert_eq!(asked(client, "post 1000"), "1000 in order", "round {round}");
        }
    }
    drop(clients);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// MQX_repeat and MQX_watchMask: a timer that fires until it is stopped; a watch that reads, rests, writes.
#[test]
fn timers_repeat_and_watches_change_what_they_wait_for() {
    let mut server = with_plugin().setting("smtp-threads", 1).start();
    let mut client = sender(&server);
    assert_eq!(asked(&mut client, "repeat 5"), "5 times");
    assert_eq!(asked(&mut client, "mask"), "read write rest read");
    assert_eq!(asked(&mut client, "repeat 1"), "1 times");
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-17: what waits at the stop is dropped without a callback, a posting thread included.
#[test]
fn d_17_what_waits_at_the_stop_is_dropped() {
    let dns = NameServer::start(&json!({ "mute.example": { "fault": "drop" } }));
    let plan = with_plugin()
        .setting("dns-servers", dns.address())
        .setting("plugin-shutdown-timeout", 1)
        .setting("smtp-threads", 2);
    let mut server = plan.start();
    for question in ["resolve 1 mute.example", "forever"] {
        let mut client = sender(&server);
        client.send(format!("RCPT TO:<\"{question}\"@x>\r\n").as_bytes()).unwrap();
        eventually("a hold", PATIENCE, || (server.status().count("held") > 0).then_some(()));
        drop(client);
    }
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}
