//! What does the plugin interface cost on the way of mail?
//!
//! Beside a bare call through a pointer: an event that nobody exports, a hook that is not interested, one
//! that hands back before it returns, and a timer that is started and stopped within a hook. The last three
//! include the plugin's own instructions.

use std::env;
use std::ffi::{CString, c_void};
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{self, Command};

use criterion::{Criterion, criterion_group, criterion_main};
use rohrpost_abi::{
    ConnectionId, ConnectionInit, Copies, Direction, Hook, HostInit, LoadOptions, OnError,
    PluginDirectory, Plugins, Returned, Step, Terminated, Verdict, Walked, Worker,
};

/// How often the plugin is loaded.
const COPIES: usize = 3;

const PLUGIN: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
static void on_timer(void *data) { (void)data; }
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_SmtpConnection *connection) {
    (void)context; (void)connection;
    return false;
}
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *text, size_t size) {
    (void)connection; (void)text; (void)size;
    MQ_Continue(context);
    return true;
}
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_SmtpConnection *connection, const char *text, size_t size) {
    (void)connection; (void)text; (void)size;
    MQ_TimerStop(MQ_TimerStart(context, 1, on_timer, 0));
    return false;
}
"#;

/// Compiles and loads the plugin. The directory is gone when this returns: loading makes its own copies.
fn load() -> Plugins {
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", process::id()));
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let source = directory.join("bench.c");
    fs::write(&source, PLUGIN).expect("the target directory is writable");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    gcc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include")).arg("-o");
    let status = gcc.arg(directory.join("bench.so")).arg(&source).status().expect("gcc runs");
    assert!(status.success());
    for copy in 1..COPIES {
        let to = directory.join(format!("bench{copy}.so"));
        fs::copy(directory.join("bench.so"), to).expect("the target directory is writable");
    }
    let options = LoadOptions {
        directory: PluginDirectory::Set(directory.clone()),
        copies: Copies::Directory(directory.clone()),
        extra_versions: Vec::new(),
        on_error: OnError::Refuse,
    };
    let (plugins, _) = Plugins::load(&options).expect("it loads");
    fs::remove_dir_all(directory).expect("it is ours");
    plugins
}

/// What the rest is compared with: as a hook, but through a bare pointer.
extern "C" fn declines(context: *mut c_void, connection: *mut c_void) -> u8 {
    u8::from(context == connection)
}

fn hook(criterion: &mut Criterion) {
    let init = HostInit {
        plugins: load(),
        log: Box::new(|level, _, plugin, text| panic!("[{level}] {plugin}: {text}")),
        post: Box::new(|_| {}),
    };
    let host = rohrpost_abi::install(init).expect("the first of this process");
    assert_eq!(host.plugins().set().len(), COPIES);
    let mut worker = Worker::enter(0).expect("the first of this process");
    let init = ConnectionInit {
        fd: 0,
        direction: Direction::Incoming,
        secure: false,
        authenticated: false,
    };
    let connection = worker.open_connection(init).expect("there is room");
    let address = CString::new("someone@example.org").expect("no NUL");
    let address = Terminated::from(address.as_c_str());
    let handed_back =
        Some(Returned { took_control: true, verdict: Some(Verdict::Continue), answered: false });

    let mut group = criterion.benchmark_group("hook");
    group.bench_function("bare indirect call", |bencher| {
        let pointer: extern "C" fn(*mut c_void, *mut c_void) -> u8 = black_box(declines);
        let context = black_box(std::ptr::without_provenance_mut(1));
        let connection = black_box(std::ptr::without_provenance_mut(2));
        bencher.iter(|| assert_eq!(black_box(pointer)(context, connection), 0));
    });
    group.bench_function("event that nobody exports", |bencher| {
        bencher.iter(|| {
            if worker.asked(black_box(connection), Hook::Secure) > 0 {
                worker.ask(connection, 0, &Step::Secure);
            }
        });
    });
    group.bench_function("hook returning false", |bencher| {
        bencher.iter(|| assert_eq!(ask(&mut worker, connection, Step::Connect), None));
    });
    group.bench_function("three hooks returning false", |bencher| {
        bencher.iter(|| {
            let walked = worker.ask(black_box(connection), 0, &Step::Connect);
            assert_eq!(walked, Some(Walked { declined: 3, returned: None }));
        });
    });
    group.bench_function("hand-back inside the hook", |bencher| {
        bencher.iter(|| {
            assert_eq!(ask(&mut worker, connection, Step::MailFrom(address)), handed_back);
        });
    });
    group.bench_function("timer started and stopped inside the hook", |bencher| {
        let mut commands = Vec::new();
        bencher.iter(|| {
            assert_eq!(ask(&mut worker, connection, Step::RcptTo(address)), None);
            worker.take_commands(&mut commands);
            assert_eq!(commands.len(), 2);
            commands.clear();
        });
    });
    group.finish();
}

/// As a worker asks, the last plugin alone.
fn ask(worker: &mut Worker, connection: ConnectionId, step: Step<'_>) -> Option<Returned> {
    let walked = worker.ask(black_box(connection), COPIES - 1, &step);
    walked.expect("the connection is open").returned
}

criterion_group!(benches, hook);
criterion_main!(benches);
