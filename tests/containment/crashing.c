/* A plugin that ends the server, in the way that a sender's local part names; "once-" before it: only as
 * long as the file $CRASHING_ONCE is not there, which it makes. */
#define _GNU_SOURCE
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

static volatile int zero;
static char *volatile nowhere;

__attribute__((noinline)) static void write_nowhere(void) { *nowhere = 1; }
__attribute__((noinline)) static int dive(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return depth < 0 ? 0 : dive(depth + 1) + room[0];
}
__attribute__((noinline)) static void sleep_deeply(void) {
    struct timespec pause = {1, 600000000};
    nanosleep(&pause, NULL);
}

static void *crash_aside(void *unused) {
    write_nowhere();
    return unused;
}

static void crash(const char *how) {
    if (!strncmp(how, "once-", 5)) {
        int fd = open(getenv("CRASHING_ONCE"), O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return;
        close(fd);
        how += 5;
    }
    if (!strncmp(how, "segv@", 5)) write_nowhere();
    if (!strncmp(how, "abort@", 6)) abort();
    if (!strncmp(how, "divide@", 7)) zero = 100 / zero;
    if (!strncmp(how, "overflow@", 9)) zero = dive(0);
    if (!strncmp(how, "exit@", 5)) exit(0);
    if (!strncmp(how, "quick@", 6)) quick_exit(0);
    if (!strncmp(how, "gone@", 5)) _exit(0);
    if (!strncmp(how, "sleep@", 6)) sleep_deeply();
    if (!strncmp(how, "leak@", 5)) while (open("/dev/null", O_RDONLY) >= 0) {}
    if (!strncmp(how, "aside@", 6)) {
        pthread_t thread;
        pthread_create(&thread, NULL, crash_aside, NULL);
        pthread_join(thread, NULL);
    }
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *from, size_t size) {
    (void)context, (void)connection, (void)size;
    crash(from);
    return false;
}
