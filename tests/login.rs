//! Logging in to the whole server (RFC 4954): users in the setting and in files, foreign clients, and
//! what is left of a password.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ::base64::Engine as _;

use crate::support::{PATIENCE, Server, ServerBuilder, Sink, SmtpClient, Tool, eventually, within};

/// `secret`, hashed by the costliest rounds that are taken: it keeps the server busy for a while.
pub(crate) const SLOW: &str = "$6$rounds=500000$Uo1jr3bXz2rg$gnJQi3U1e4uoGPyF5oQUwzZpjoxOc9ISXBce52NYhi3WT/ZQjL2y9xpOi2XOexQW5mqfGoC4IGW.QFkJF7iKm.";

pub(crate) fn base64(bytes: &[u8]) -> String {
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// AUTH PLAIN with an initial response (RFC 4616).
pub(crate) fn plain(login: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64(format!("\0{login}\0{password}").as_bytes()))
}

/// Where in the memory of a process `text` or its base64 can be found, by the names of the mappings.
pub(crate) fn traces(pid: i32, text: &str) -> Vec<String> {
    // In base64 the text may stand behind any number of octets: the part of it that is sure to be there
    // is sought for each of the three.
    let encoded = (0..3).map(|before| {
        let whole = base64(&[&vec![b'x'; before][..], text.as_bytes()].concat());
        whole[4..whole.len() - 4].to_owned()
    });
    let sought: Vec<String> = std::iter::once(text.to_owned()).chain(encoded).collect();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("our own child can be read");
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("our own child can be read");
    let mut found = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (range, mode) = (words[0], words[1]);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').expect("a mapping has two ends");
        let number = |text| u64::from_str_radix(text, 16).expect("an address is a number");
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; (to - from) as usize];
        let read = memory.seek(SeekFrom::Start(from)).and_then(|_| memory.read_exact(&mut bytes));
        if read.is_err() {
            // Some of the kernel's own cannot be read.
            continue;
        }
        for text in &sought {
            if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
                found.push(format!("{line}: {text}"));
            }
        }
    }
    found
}

fn say(client: &mut SmtpClient, command: &str, code: u16) -> String {
    let reply = client.command(command).and_then(|reply| reply.require(code));
    reply
        .unwrap_or_else(|error| panic!("{command}: {error}\n{}", client.transcript()))
        .lines
        .join("\n")
}

/// The value of smtp-auth for a file of these lines in that directory.
pub(crate) fn users_in(directory: &Path, lines: &str) -> String {
    let users = directory.join("users.txt");
    fs::write(&users, lines).unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    format!("file://{}", users.display())
}

/// A server whose users stand in a file, for clients that may log in without TLS.
fn with_users(lines: &str) -> ServerBuilder {
    let plan = Server::builder();
    let users = users_in(plan.directory(), lines);
    plan.setting("smtp-auth", users)
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
        .setting("smtp-auth-delay", 0)
}

/// What `openssl passwd` makes of a password.
fn openssl(scheme: &str, password: &str) -> String {
    let tool = Tool::new("openssl").arg("passwd").arg(scheme).arg(password);
    tool.run(PATIENCE).trim().to_owned()
}

#[test]
fn users_of_a_file_log_in_with_the_hashes_of_other_programs() {
    let users = format!(
        "# Ours.\nfive:{}\nsix:{}\nyes:$y$j9T$F5Jx5fExrKuPp53xLKQ..1$8EzFssBUZbIC233VWbAkLQ0aSByNDbw3nMbJlEIPSd.\n",
        openssl("-5", "Hello wörld!"),
        openssl("-6", "Hello wörld!"),
    );
    let plan = with_users(&users);
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    for user in ["five", "six", "yes"] {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        say(&mut client, &plain(user, "Hello world!"), 535);
        say(&mut client, "MAIL FROM:<a@example.org>", 250);
        say(&mut client, "RCPT TO:<b@example.net>", 530);
        say(&mut client, "RSET", 250);
        say(&mut client, &plain(user, "Hello wörld!"), 235);
        let content = b"Subject: x\r\n\r\nx\r\n";
        let recipient = format!("{user}@example.net");
        client.mail("a@example.org", &recipient, content).unwrap().require(250).unwrap();
    }
    sink.await_count(3, PATIENCE);
    assert_eq!(authenticated(&sink), 3);
    let status = server.status();
    assert_eq!((status.count("logged_in"), status.count("logins_failed")), (3, 3));
}

/// An unknown name takes as much work as a known one, and is told the same.
#[test]
fn a_name_that_nobody_has_is_hashed_too() {
    let server = with_users(&format!("tim:{}\n", openssl("-6", "geheim"))).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let known = say(&mut client, &plain("tim", "wrong"), 535);
    assert_eq!(server.status().count("passwords_hashed"), 1);
    assert_eq!(say(&mut client, &plain("nobody", "geheim"), 535), known);
    assert_eq!(say(&mut client, &plain("nobody", "wrong"), 535), known);
    assert_eq!(server.status().count("passwords_hashed"), 3);
    say(&mut client, &plain("tim", "geheim"), 235);
}

#[test]
fn more_passwords_of_one_network_than_can_wait_are_put_off() {
    let mut server = with_users(&format!("tim:{SLOW}\n")).start();
    // One is computed, 7 wait, and each takes the time in which many are sent.
    let (answers, answered) = std::sync::mpsc::channel();
    for _ in 0..20 {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.send(format!("{}\r\n", plain("tim", "secret")).as_bytes()).unwrap();
        let answers = answers.clone();
        std::thread::spawn(move || {
            // Most of them have no answer when the server is killed.
            if let Ok(reply) = client.reply() {
                drop(answers.send((client, reply)));
            }
        });
    }
    let (mut client, reply) =
        within(PATIENCE, || answered.try_iter().find(|(_, reply)| reply.code == 454))
            .expect("one of 20 is put off");
    assert!(reply.lines[0].starts_with("4.7.0 "), "{reply:?}");
    // It may go on, and others do meanwhile: nothing waits but the logins themselves.
    say(&mut client, "NOOP", 250);
    SmtpClient::hello(server.smtp()).unwrap();
    server.kill9();
}

#[test]
fn a_client_that_leaves_while_its_password_is_checked_leaves_nothing_behind() {
    let plan = with_users(&format!("slow:{SLOW}\ntim:{}\n", openssl("-5", "geheim")));
    let mut server = plan.setting("shutdown-timeout", 1).start();
    let mut leaving = SmtpClient::hello(server.smtp()).unwrap();
    leaving.send(format!("{}\r\n", plain("slow", "secret")).as_bytes()).unwrap();
    eventually("the check", PATIENCE, || {
        (server.status().count("passwords_hashed") == 1).then_some(())
    });
    drop(leaving);
    eventually("the end of the connection", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
    // Whoever comes next gets its own answer.
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut client, &plain("tim", "wrong"), 535);
    say(&mut client, &plain("tim", "geheim"), 235);
    // A stop waits for no password.
    let mut staying = SmtpClient::hello(server.smtp()).unwrap();
    for _ in 0..5 {
        let mut other = SmtpClient::hello(server.smtp()).unwrap();
        other.send(format!("{}\r\n", plain("slow", "secret")).as_bytes()).unwrap();
    }
    staying.send(format!("{}\r\n", plain("slow", "secret")).as_bytes()).unwrap();
    assert!(server.terminate().success());
    staying.reply().unwrap().require(421).unwrap();
}

/// Nothing of what a client sent to log in is left in the memory of the server, in either form.
#[test]
fn nothing_is_left_of_a_password() {
    let password = "ein-langes-geheimnis-42";
    let hashes = [openssl("-5", password), openssl("-6", password)];
    let users = format!(
        "five:{}\nsix:{}\nyes:$y$j75$LdJMENpBABJJ3hIHjB1Bi.$97tCzJHdF36E.T/BBgCvgHheEiOb9gFa7qEvINAXXP5\n",
        hashes[0], hashes[1]
    );
    let mut server = with_users(&users).start();
    let pid = server.process().pid();
    let mut clients = Vec::new();
    for user in ["five", "six", "yes", "nobody"] {
        let code = if hashes.len() > 1 && ["five", "six"].contains(&user) { 235 } else { 535 };
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        // In pieces, so that it is kept and put together.
        let line = format!("{}\r\n", plain(user, password));
        let (first, second) = line.as_bytes().split_at(line.len() / 2);
        client.send(first).unwrap();
        client.send(second).unwrap();
        client.reply().unwrap().require(code).unwrap();
        if code == 535 {
            say(&mut client, &format!("AUTH LOGIN {}", base64(user.as_bytes())), 334);
            say(&mut client, &base64(password.as_bytes()), 535);
        }
        clients.push(client);
    }
    // One that never finishes its line keeps what it sent, and its connection's end takes that away.
    let mut half = SmtpClient::hello(server.smtp()).unwrap();
    half.send(plain("half", password).as_bytes()).unwrap();
    eventually("the half line", PATIENCE, || (!traces(pid, password).is_empty()).then_some(()));
    drop(half);
    let left = within(PATIENCE, || traces(pid, password).is_empty().then_some(()));
    assert!(left.is_some(), "{:#?}", traces(pid, password));
    // They are all still connected.
    for mut client in clients {
        say(&mut client, "NOOP", 250);
    }
}

#[test]
fn a_failed_login_is_answered_after_a_while_and_counted() {
    let plan = Server::builder().setting("smtp-auth", "hardcoded://tim:geheim");
    let plan = plan.setting("smtp-auth-plaintext", "all").setting("smtp-auth-delay", "300ms");
    let mut server = plan.setting("smtp-errors", 1).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let begun = std::time::Instant::now();
    say(&mut client, &plain("tim", "wrong"), 535);
    // The loop counts whole milliseconds.
    assert!(begun.elapsed().as_millis() >= 299, "never earlier");
    say(&mut client, &plain("tim", "wrong"), 421);
    client.await_close().unwrap();
    let log = "failed to log in as \"tim\"";
    server.process().await_complaint(PATIENCE, log);
}

/// Whoever blocks addresses by what the log says must be told of every try.
#[test]
fn each_failed_login_is_logged() {
    let plan = Server::builder().setting("smtp-auth", "hardcoded://tim:geheim");
    let plan = plan.setting("smtp-auth-plaintext", "all").setting("smtp-auth-delay", 0);
    let mut server = plan.setting("smtp-errors", 0).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let names: Vec<String> = (0..30).map(|number| format!("user-{number}.")).collect();
    for name in &names {
        say(&mut client, &plain(name, "wrong"), 535);
    }
    for name in &names {
        let log = format!("failed to log in as \"{name}\"");
        server.process().await_complaint(PATIENCE, &log);
    }
}

#[test]
fn users_that_cannot_be_used_keep_the_server_from_starting() {
    let hash = "$5$Uo1jr3bXz2rg$rF0Hn6P8K.7vbmD.1OTqkIKow8ylsOn9ByxUQlxXpzD";
    for (lines, expected) in [
        (
            format!("tim:{hash}\ntom:geheim\n"),
            "users.txt:2: user `tom`: what follows is not a hash",
        ),
        (format!("tim:{hash}\ntim:{hash}\n"), "users.txt:2: user `tim` is named twice"),
        ("tim:$2y$05$geheim\n".into(), "users.txt:1: user `tim`: the scheme $2y$ (bcrypt) is not"),
        ("geheim\n".into(), "users.txt:1: the line is not `user:hash`"),
    ] {
        let (code, said) = with_users(&lines).start_in_vain();
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("geheim") && !said.contains(hash), "{said}");
    }
    let foreign = Server::builder().setting("smtp-auth", "ldap://localhost:389/geheim");
    let (code, said) = foreign.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("ldap, which is not supported: use hardcoded:// or file://"), "{said}");
    assert!(!said.contains("geheim"), "{said}");
}

/// How many mails of a sink came from clients that had logged in (RFC 3848).
fn authenticated(sink: &Sink) -> usize {
    String::from_utf8_lossy(&sink.dumped()).matches("with ESMTPA id").count()
}

/// A server with one user, and a sink behind it.
fn for_foreign_clients() -> (Server, Sink) {
    let plan = with_users(&format!("tim@example.org:{}\n", openssl("-6", "ge heim+:")));
    let sink = Sink::start(&plan.directory().join("dump"));
    (plan.smarthost(sink.address()).start(), sink)
}

#[test]
fn python_logs_in() {
    let (server, sink) = for_foreign_clients();
    for mechanism in ["plain", "login"] {
        let tool = Tool::python("login.py").arg(server.smtp().to_string()).arg(mechanism);
        tool.arg("tim@example.org").arg("ge heim+:").run(PATIENCE);
    }
    sink.await_count(2, PATIENCE);
    assert_eq!(authenticated(&sink), 2);
}

#[test]
fn curl_logs_in() {
    let (server, sink) = for_foreign_clients();
    let mail = server.plan().directory().join("mail.txt");
    fs::write(&mail, "Subject: from curl\r\n\r\nA line.\r\n").unwrap();
    for mechanism in ["PLAIN", "LOGIN"] {
        let curl = Tool::new("curl").words("--silent --show-error --max-time 60");
        let curl = curl.arg("--login-options").arg(format!("AUTH={mechanism}"));
        let curl = curl.arg("--user").arg("tim@example.org:ge heim+:");
        let curl = curl.words("--mail-from a@example.org --mail-rcpt curl@example.net --url");
        let curl = curl.arg(format!("smtp://{}/client.example", server.smtp())).words("-T -");
        curl.input(Path::new(&mail)).run(PATIENCE);
    }
    sink.await_count(2, PATIENCE);
    assert_eq!(authenticated(&sink), 2);
}

#[test]
fn swaks_logs_in() {
    let (server, sink) = for_foreign_clients();
    for mechanism in ["PLAIN", "LOGIN"] {
        let swaks = Tool::new("swaks").words("--helo client.example --from a@example.org");
        let swaks = swaks.words("--to swaks@example.net --timeout 60 -a").arg(mechanism);
        let swaks = swaks.arg("-au").arg("tim@example.org").arg("-ap").arg("ge heim+:");
        swaks.arg("--server").arg(server.smtp().to_string()).run(PATIENCE);
    }
    sink.await_count(2, PATIENCE);
    assert_eq!(authenticated(&sink), 2);
}

/// The same with TLS.
fn with_tls(plan: ServerBuilder) -> ServerBuilder {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example".into()]).unwrap();
    let (certificate, key) = (plan.directory().join("cert.pem"), plan.directory().join("key.pem"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    plan.setting("smtp-certificate", certificate.display()).setting("smtp-key", key.display())
}

/// D-37: where there is TLS a login needs no leave.
#[test]
fn logins_go_under_tls() {
    let plan = with_tls(with_users(&format!("tim:{}\n", openssl("-6", "geheim"))));
    let plan = plan.setting("smtp-auth-plaintext", "");
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    for mechanism in ["plain", "login"] {
        let tool = Tool::python("login.py").arg(server.smtp().to_string()).arg(mechanism);
        tool.words("tim geheim starttls").run(PATIENCE);
    }
    sink.await_count(2, PATIENCE);
    let dumped = sink.dumped();
    assert_eq!(String::from_utf8_lossy(&dumped).matches("with ESMTPSA id").count(), 2, "RFC 3848");
}

/// RFC 3207 4.2: what was said in clear is forgotten.
#[test]
fn a_login_in_clear_ends_with_starttls() {
    let server = with_tls(with_users(&format!("tim:{}\n", openssl("-6", "geheim")))).start();
    let tool = Tool::python("login.py").arg(server.smtp().to_string());
    tool.words("plain tim geheim forget").run(PATIENCE);
    let status = server.status();
    assert_eq!((status.count("logged_in"), status.count("logins_failed")), (2, 0));
}

#[test]
fn other_users_may_log_in_after_a_reload() {
    let plan = with_users(&format!("tim:{}\n", openssl("-5", "geheim")));
    let server = plan.start();
    let mut tim = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut tim, &plain("tim", "geheim"), 235);
    let users = plan.directory().join("users.txt");
    fs::write(&users, format!("tom:{}\n", openssl("-5", "neu"))).unwrap();
    plan.report(&["reload"]);
    let mut tom = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut tom, &plain("tim", "geheim"), 535);
    say(&mut tom, &plain("tom", "neu"), 235);
    // Whoever is there stays.
    say(&mut tim, "MAIL FROM:<a@example.org>", 250);
    say(&mut tim, "RCPT TO:<b@example.net>", 250);
}
