//! What a service manager is told over `NOTIFY_SOCKET` (sd_notify(3)).

use std::os::unix::net::UnixDatagram;

use crate::support::{PATIENCE, Server, ServerBuilder};

/// The manager's end.
struct Ear(UnixDatagram);

impl Ear {
    fn new(plan: ServerBuilder) -> (Ear, ServerBuilder) {
        let path = plan.directory().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Ear(socket), plan.environment("NOTIFY_SOCKET", path))
    }

    /// The next message that has a line which begins so, as one text.
    fn await_line(&self, begin: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let count = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("{begin}: {error}"));
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text.lines().any(|line| line.starts_with(begin)) {
                return text;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_of_readiness_reloads_drains_and_the_end() {
    let (manager, plan) = Ear::new(Server::builder());
    let mut server = plan.start();
    let ready = manager.await_line("READY=1");
    assert!(ready.contains(&format!("STATUS=takes mail on {}\n", server.smtp())), "{ready}");
    assert_eq!(plan.order(&["reload"]).code, Some(0));
    let reloading = manager.await_line("RELOADING=1");
    let at = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    assert!(at.parse::<u64>().unwrap() > 0);
    manager.await_line("READY=1");
    assert_eq!(plan.order(&["drain"]).code, Some(0));
    manager.await_line("STATUS=draining");
    assert!(server.terminate().success());
    manager.await_line("STOPPING=1");
}

#[test]
fn a_supervised_server_tells_the_service_manager_itself() {
    // The manager means the process that it started; the server is another, and is not put off by it.
    let (manager, plan) = Ear::new(Server::builder().supervised());
    let own = std::process::id().to_string();
    let plan = plan.environment("WATCHDOG_USEC", "2000000").environment("WATCHDOG_PID", own);
    let mut server = plan.start();
    manager.await_line("READY=1");
    manager.await_line("WATCHDOG=1");
    assert!(server.terminate().success());
    manager.await_line("STOPPING=1");
}

#[test]
fn a_watchdog_gets_its_sign_while_the_workers_turn() {
    let (manager, plan) = Ear::new(Server::builder());
    let _server = plan.environment("WATCHDOG_USEC", "2000000").start();
    for _ in 0..2 {
        manager.await_line("WATCHDOG=1");
    }
}

#[test]
fn nobody_to_tell_is_no_reason_not_to_start() {
    let plan = Server::builder();
    let nowhere = plan.directory().join("nobody");
    let mut server = plan.environment("NOTIFY_SOCKET", nowhere).start();
    assert!(server.terminate().success());
}
