//! `redis_auth.c`: hiredis by its own adapter for libev, in the loop that `MQ_ev` gives (D-9F).

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::{
    examples::{mail_to, with_plugins},
    login::plain,
    support::{
        PATIENCE, Process, Sanitizer, Server, ServerBuilder, SmtpClient, Tool, eventually,
        fresh_port,
    },
};

/// A Redis that keeps nothing on disk.
struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    fn start() -> Redis {
        Redis::start_at(fresh_port())
    }

    fn start_at(address: SocketAddr) -> Redis {
        let listener = Tool::new("redis-server")
            .words(&format!("--bind 127.0.0.1 --port {}", address.port()))
            .words("--appendonly no --daemonize no --save")
            .arg("")
            .listen();
        Redis { process: listener.process, address }
    }

    /// Runs one command of simple words, which must succeed.
    fn order(&self, words: &[&str]) {
        let mut stream = TcpStream::connect(self.address).expect("Redis listens");
        let count = words.len();
        let mut text = format!("*{count}\r\n");
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(text.as_bytes()).expect("Redis takes commands");
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).expect("Redis answers");
        assert!(reply.starts_with(['+', ':']), "{words:?}: {reply}\n{}", self.process);
    }

    fn add_user(&self, name: &str, password: &str) {
        self.order(&["SET", &format!("user:{name}"), password]);
    }
}

fn asking(address: SocketAddr, sanitizer: Sanitizer) -> ServerBuilder {
    with_plugins(&["redis_auth"], sanitizer)
        .environment("REDIS_AUTH_ADDRESS", address.to_string())
        .environment("REDIS_AUTH_SECONDS", "60")
        .setting("smtp-auth", "hardcoded://tim:geheim")
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
        .setting("smtp-auth-delay", 0)
}

/// One login over a connection of its own, and its answer.
fn log_in(server: &Server, name: &str, password: &str) -> u16 {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command(&plain(name, password)).unwrap().code
}

/// D-34, D-39: what Redis says is final; of whom it does not know, the server's own users decide.
#[test]
fn d_9f_redis_judges_logins_through_hiredis_and_libev() {
    let redis = Redis::start();
    redis.add_user("anna", "ge heim");
    redis.add_user("tim", "anders");
    redis.add_user("wrong type", "x");
    redis.order(&["DEL", "user:wrong type"]);
    redis.order(&["RPUSH", "user:wrong type", "x"]);
    let mut server = asking(redis.address, Sanitizer::Off).start();
    assert_eq!(log_in(&server, "anna", "ge heim"), 235);
    assert_eq!(log_in(&server, "anna", "geheim"), 535);
    assert_eq!(log_in(&server, "nobody", "geheim"), 535);
    assert_eq!(log_in(&server, "tim", "geheim"), 535, "Redis knows another password");
    assert_eq!(log_in(&server, "tim", "anders"), 235);
    redis.order(&["DEL", "user:tim"]);
    assert_eq!(log_in(&server, "tim", "geheim"), 235, "now the settings decide");
    // What a client sends is one word of one command.
    assert_eq!(log_in(&server, "x\r\nDEL user:anna\r\n", "x"), 535);
    assert_eq!(log_in(&server, "anna", "ge heim"), 235);
    assert_eq!(log_in(&server, "wrong type", "x"), 535);
    server.process().await_complaint(PATIENCE, "goes without an answer: WRONGTYPE");
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command(&plain("anna", "ge heim")).unwrap().require(235).unwrap();
    mail_to(&mut client, "a@example.org", &["b"]);
    assert!(server.terminate().success());
}

/// While Redis is down nobody waits for it; when it is back it is asked again.
#[test]
fn redis_may_go_and_come_back() {
    let mut redis = Redis::start();
    redis.add_user("anna", "geheim");
    let mut server = asking(redis.address, Sanitizer::Off).setting("smtp-threads", 1).start();
    assert_eq!(log_in(&server, "anna", "geheim"), 235);
    redis.process.kill9();
    server.process().await_complaint(PATIENCE, "Redis is lost");
    assert_eq!(log_in(&server, "tim", "geheim"), 235);
    assert_eq!(log_in(&server, "anna", "geheim"), 535);
    let redis = Redis::start_at(redis.address);
    redis.add_user("anna", "geheim");
    eventually("a Redis that is asked again", PATIENCE, || {
        (log_in(&server, "anna", "geheim") == 235).then_some(())
    });
    assert!(server.terminate().success());
    // One that was never there is the same.
    let mut server = asking(fresh_port(), Sanitizer::Off).start();
    assert_eq!(log_in(&server, "tim", "geheim"), 235);
    server.process().await_complaint(PATIENCE, "Redis is lost");
    assert!(server.terminate().success());
}

/// A machine that is gone says nothing: the first connection swallows what it gets. Whoever waits goes
/// another way in time, and the next one finds another connection.
#[test]
fn a_silent_redis_is_given_up_under_asan() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let _swallows = listener.accept();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"$6\r\ngeheim\r\n");
            }
        }
    });
    let mut server = asking(address, Sanitizer::Address)
        .environment("REDIS_AUTH_SECONDS", "0.3")
        .setting("smtp-threads", 1)
        .start();
    assert_eq!(log_in(&server, "anna", "geheim"), 535, "the settings do not know her");
    server.process().await_complaint(PATIENCE, "it is silent");
    eventually("another connection", PATIENCE, || {
        (log_in(&server, "anna", "geheim") == 235).then_some(())
    });
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-10, D-49: many logins at a time on several workers, some of which nobody waits for any more, each get
/// their own answer. AddressSanitizer watches.
#[test]
fn d_10_d_49_redis_keeps_logins_apart_under_load_and_asan() {
    const CLIENTS: usize = 24;
    const ROUNDS: usize = 8;
    let redis = Redis::start();
    for number in 0..CLIENTS {
        redis.add_user(&format!("user-{number}"), &format!("password-{number}"));
    }
    let plan = asking(redis.address, Sanitizer::Address).setting("smtp-threads", 3);
    let mut server = plan.start();
    let address = server.smtp();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    let mut client = SmtpClient::hello(address).unwrap();
                    let good = (number + round) % 3 != 0;
                    // The wrong one is somebody else's.
                    let whose = if good { number } else { (number + 1) % CLIENTS };
                    let login = plain(&format!("user-{number}"), &format!("password-{whose}"));
                    let code = if good { 235 } else { 535 };
                    client.command(&login).unwrap().require(code).unwrap();
                    let mut hasty = SmtpClient::hello(address).unwrap();
                    hasty.send(format!("{login}\r\n").as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    eventually("the end of all connections", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}
