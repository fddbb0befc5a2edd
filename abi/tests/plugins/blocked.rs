//! D-9E: where a worker is that a plugin blocks, and that the plugin does not notice the look.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rohrpost_abi::{Current, Host, Stack, Unseen, describe};

use crate::support::{Folder, Stage, WORKER};

/// Blocks in the way that MAIL FROM names, and returns true if anything disturbed it.
const BLOCKING: &str = r#"
#define _GNU_SOURCE
#define MQ_API_VERSION 201
#include <mailerq.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

static double now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

__attribute__((noinline)) static bool sleep_deeply(void) {
    struct timespec pause = {1, 500000000};
    double begun = now();
    return nanosleep(&pause, NULL) != 0 || now() - begun < 1.5;
}
__attribute__((noinline)) static bool poll_nothing(void) {
    double begun = now();
    return poll(NULL, 0, 1500) != 0 || now() - begun < 1.5;
}
__attribute__((noinline)) static bool wait_for_events(void) {
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC);
    double begun = now();
    bool disturbed = epoll_wait(set, &event, 1, 1500) != 0 || now() - begun < 1.5;
    close(set);
    return disturbed;
}
static void *write_late(void *fd) {
    struct timespec pause = {1, 500000000};
    nanosleep(&pause, NULL);
    return write(*(int *)fd, "x", 1) == 1 ? NULL : fd;
}
__attribute__((noinline)) static bool read_slowly(void) {
    int ends[2];
    char byte;
    pthread_t writer;
    if (pipe(ends) != 0) return true;
    pthread_create(&writer, NULL, write_late, &ends[1]);
    bool disturbed = read(ends[0], &byte, 1) != 1;
    pthread_join(writer, NULL);
    close(ends[0]);
    close(ends[1]);
    return disturbed;
}
__attribute__((noinline)) static bool compute(void) {
    double begun = now();
    while (now() - begun < 1.5) {}
    return false;
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *c, MQ_SmtpConnection *s, const char *how, size_t size) {
    (void)c, (void)s, (void)size;
    if (!strcmp(how, "nanosleep")) return sleep_deeply();
    if (!strcmp(how, "poll")) return poll_nothing();
    if (!strcmp(how, "epoll")) return wait_for_events();
    if (!strcmp(how, "read")) return read_slowly();
    return compute();
}
"#;

/// Looks again and again until the call is over; the first stack that was seen.
fn watch(host: &'static Host, done: &AtomicBool) -> Option<Stack> {
    let mut found = None;
    let mut looks = 0;
    while !done.load(Ordering::Acquire) {
        let Some(call) = host.current(WORKER) else { continue };
        match host.stack_of(WORKER, call) {
            Ok(stack) => found = found.or(Some(stack)),
            Err(Unseen::Returned | Unseen::Restless) => {}
            Err(Unseen::Hidden) => return None,
        }
        looks += 1;
        // Often, to disturb as much as a look may.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(looks > 1, "it was looked at more than once");
    found
}

crate::support::scenario! {
    fn d_9e_a_blocked_plugin_is_shown_with_its_functions_and_never_notices() {
        let folder = Folder::new();
        folder.plugin("10-blocking.so", BLOCKING);
        let mut stage = Stage::in_folder(folder);
        let rows = [
            ("nanosleep", "sleep_deeply", false),
            ("poll", "poll_nothing", false),
            ("epoll", "wait_for_events", false),
            ("read", "read_slowly", false),
            ("compute", "compute", true),
        ];
        for (way, function, computes) in rows {
            let host = stage.host;
            let done = &AtomicBool::new(false);
            let stack = std::thread::scope(|scope| {
                let watching = scope.spawn(|| watch(host, done));
                let connection = stage.open();
                let returned = stage.run(connection, way);
                done.store(true, Ordering::Release);
                assert!(!returned.took_control, "{way} was disturbed");
                watching.join().expect("no panic")
            });
            let stack = stack.unwrap_or_else(|| panic!("{way}: nothing was seen"));
            let lines = describe(&stack.addresses);
            assert_eq!(stack.computes, computes, "{way}: {lines:?}");
            let is_named = |name: &str| lines.iter().any(|line| line.starts_with(&format!("{name} (")));
            assert!(is_named(function) && is_named("mq_smtp_in_mailfrom"), "{way}: {lines:?}");
            let last = lines.last().map(String::as_str).unwrap_or_default();
            assert!(last.contains("10-blocking.so.c:"), "{way}: {lines:?}");
        }
    }
}

crate::support::scenario! {
    fn a_call_that_is_over_has_no_stack() {
        let stage = Stage::new();
        let site = rohrpost_abi::Site::Timer;
        let call = Current { sequence: 1, plugin: stage.plugin(0), site };
        assert_eq!(stage.host.stack_of(WORKER, call), Err(Unseen::Returned));
    }
}

/// Assembler with a frame that its unwind table places by rbp, which it uses for something else, as code
/// of cryptographers and code made at run time does. It runs well.
#[cfg(target_arch = "x86_64")]
const MISLEADING: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
__attribute__((visibility("hidden"))) extern void busy(void);
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *c, MQ_SmtpConnection *s, const char *from, size_t size) {
    (void)c, (void)s, (void)from, (void)size;
    busy();
    return false;
}
__asm__(".text\n.hidden busy\n.globl busy\n.type busy,@function\nbusy:\n.cfi_startproc\n"
    "push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6,-16\nmov %rsp,%rbp\n.cfi_def_cfa_register 6\n"
    "push %rbp\nmov $3000000000,%rbp\n1: dec %rbp\njnz 1b\n"
    "pop %rbp\npop %rbp\nret\n.cfi_endproc\n.size busy,.-busy\n");
"#;

#[cfg(target_arch = "x86_64")]
crate::support::scenario! {
    fn d_9e_a_plugin_with_wrong_unwind_tables_is_shown_and_lives() {
        let folder = Folder::new();
        folder.plugin("10-misleading.so", MISLEADING);
        let mut stage = Stage::in_folder(folder);
        let host = stage.host;
        let done = &AtomicBool::new(false);
        let stack = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch(host, done));
            let connection = stage.open();
            stage.run(connection, "");
            done.store(true, Ordering::Release);
            watching.join().expect("no panic")
        });
        let stack = stack.expect("something was seen");
        let lines = describe(&stack.addresses);
        assert!(stack.computes && lines[0].starts_with("busy"), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("mq_smtp_in_mailfrom (")), "{lines:?}");
    }
}
