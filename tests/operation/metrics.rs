//! `metrics-listen`: what Prometheus gets, and that nobody can keep the page for himself.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use crate::support::{PATIENCE, Sanitizer, Server, ServerBuilder, SmtpClient, compile_plugin};

const COUNTING: &str = r#"
#include <mailerq.h>
static MQX_Metric *seen;
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT bool mqx_initialize(MQX_Plugin *self) {
    seen = MQX_counter(self, "seen", "Clients, \"all\" of them.");
    MQX_set(MQX_gauge(self, "limit", "What the settings say."), MQX_setting(self, "limit") ? 1 : 0);
    return MQX_setting(self, "refuse") == NULL;
}
MQ_EXPORT void mqx_reload(MQX_Plugin *self) { MQ_log(MQ_INFO, MQX_setting(self, "limit")); }
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection) {
    MQX_add(seen, 1);
    return false;
    (void)context, (void)connection;
}
"#;

/// A server with the plugin above and settings for it in a file.
fn stage(settings: &str) -> ServerBuilder {
    let plan = Server::builder().setting("metrics-listen", "127.0.0.1:0");
    let source = plan.directory().join("count_er.c");
    std::fs::write(&source, COUNTING).unwrap();
    let plugins = plan.directory().join("plugins");
    compile_plugin(&source, &plugins, "10-count_er", Sanitizer::Off);
    let file = plan.directory().join("config.txt");
    std::fs::write(&file, settings).unwrap();
    plan.setting("plugin-directory", plugins.display()).setting("config-file", file.display())
}

fn page_of(server: &mut Server) -> SocketAddr {
    let ready = server.process().stdout.tail();
    let words = ready.split([' ', '\n']).find_map(|word| word.strip_prefix("metrics="));
    words.expect("the ready line names the page").parse().unwrap()
}

/// The head and the body of an answer.
fn ask(page: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    (head.to_owned(), body.to_owned())
}

fn scrape(page: SocketAddr, accept: &str) -> (String, String) {
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: ";
    ask(page, &format!("{request}{accept}\r\n\r\n"))
}

/// Samples by name with labels; every one has its type before it.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} is not of {family}");
            let (name, value) = line.rsplit_once(' ').unwrap();
            let again = found.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(again, None, "{name} is there twice");
        }
    }
    found
}

#[test]
fn the_page_has_the_numbers_of_the_server_of_plugins_and_their_own() {
    let plan = stage("plugin-count-er-limit: 7\n");
    let mut server = plan.start();
    let page = page_of(&mut server);
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.mail("a@example.org", "b@example.net", b"Subject: x\r\n\r\nx\r\n").unwrap();
    let (head, text) = scrape(page, "*/*");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let found = samples(&text);
    for (name, value) in [
        ("rohrpost_mails_accepted_total", 1.0),
        ("rohrpost_incoming_connections", 1.0),
        ("rohrpost_queue_accepted_messages_total", 1.0),
        ("rohrpost_plugins_instances{plugin=\"10-count_er.so\"}", 1.0),
        ("rohrpost_plugins_misuses_total{plugin=\"10-count_er.so\"}", 0.0),
        ("rohrpost_plugin_count_er_seen_total", 1.0),
        ("rohrpost_plugin_count_er_limit", 1.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in {text}");
    }
    let (head, text) = scrape(page, "application/openmetrics-text; version=1.0.0");
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE rohrpost_mails_accepted counter"));
    assert!(text.contains(r#"Clients, \"all\" of them."#), "{text}");
}

#[test]
fn a_reload_tells_a_plugin_and_its_numbers_outlive_it() {
    let plan = stage("plugin-count-er-limit: 7\n");
    let mut server = plan.start();
    let page = page_of(&mut server);
    SmtpClient::hello(server.smtp()).unwrap();
    let file = plan.directory().join("config.txt");
    std::fs::write(&file, "plugin-Count_Er-limit: seventy\n").unwrap();
    let said = plan.order(&["reload"]);
    assert!(said.stdout.contains("changed: plugin-count-er-limit\n"), "{said:?}");
    server.process().await_complaint(PATIENCE, "[plugin] seventy");
    touch(&plan.directory().join("plugins/10-count_er.so"));
    let said = plan.order(&["reload"]);
    assert!(said.stdout.contains("plugins loaded: 10-count_er.so\n"), "{said:?}");
    SmtpClient::hello(server.smtp()).unwrap();
    let found = samples(&scrape(page, "*/*").1);
    assert_eq!(found.get("rohrpost_plugin_count_er_seen_total"), Some(&2.0));
    // One that does not want to is not used.
    touch(&plan.directory().join("plugins/10-count_er.so"));
    std::fs::write(&file, "plugin-count-er-refuse: yes\n").unwrap();
    let said = plan.order(&["reload"]);
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.stderr.contains("plugin 10-count_er.so refuses to start"), "{said:?}");
    SmtpClient::hello(server.smtp()).unwrap();
    let top = plan.order(&["plugin", "top", "--once"]);
    assert!(top.stdout.contains("10-count_er.so"), "{top:?}");
    let top = plan.order(&["plugin", "top", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&top.stdout).unwrap();
    assert_eq!(row["name"], "10-count_er.so");
}

#[test]
fn a_start_that_a_plugin_refuses_or_whose_settings_mean_nobody_is_none() {
    let (code, said) = stage("plugin-count-er-refuse: yes\n").start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-count_er.so refuses to start"), "{said}");
    let (code, said) = stage("plugin-counter-limit: 1\n").start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("plugin-counter-limit") && said.contains("there: count-er"), "{said}");
}

#[test]
fn what_is_no_request_for_the_page_harms_nobody() {
    let mut server = stage("").start();
    let page = page_of(&mut server);
    let (head, _) = ask(page, "GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (head, _) = ask(page, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    // A head without an end is cut off.
    let mut stream = TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let line = format!("X: {}\r\n", "x".repeat(1_000));
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
    let sent = (0..10_000).take_while(|_| stream.write_all(line.as_bytes()).is_ok()).count();
    assert!(sent < 10_000, "somebody reads all of it");
    assert!(scrape(page, "*/*").0.starts_with("HTTP/1.1 200 "));
}

/// Another content of the same code.
fn touch(file: &Path) {
    let mut content = std::fs::read(file).unwrap();
    content.push(0);
    let near = file.with_extension("new");
    std::fs::write(&near, content).unwrap();
    std::fs::rename(near, file).unwrap();
}
