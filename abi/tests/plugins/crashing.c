/* A plugin that ends the process, in the way that the address of MAIL FROM names. */
#define _GNU_SOURCE
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

static volatile int zero;
static char *volatile nowhere;
static void (*volatile nothing)(void);

__attribute__((noinline)) static void write_nowhere(void) { *nowhere = 1; }
__attribute__((noinline)) static void divide(void) { zero = 100 / zero; }
__attribute__((noinline)) static int dive(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return dive(depth + 1) + room[0];
}

#ifdef __x86_64__
/* Its unwind table says that its frame is where rbp points, which is nowhere. */
__attribute__((visibility("hidden"))) extern void mislead(void);
__asm__(".text\n.hidden mislead\n.globl mislead\n.type mislead,@function\nmislead:\n.cfi_startproc\n"
    "push %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6,-16\nmov %rsp,%rbp\n.cfi_def_cfa_register 6\n"
    "mov $4096,%rbp\nmovb $1,0\nud2\n.cfi_endproc\n.size mislead,.-mislead\n");
#endif

static void crash(const char *how) {
#ifdef __x86_64__
    if (!strcmp(how, "mislead")) mislead();
#endif
    if (!strcmp(how, "segv")) write_nowhere();
    if (!strcmp(how, "divide")) divide();
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "illegal")) __builtin_trap();
    if (!strcmp(how, "bus")) raise(SIGBUS);
    if (!strcmp(how, "overflow")) zero = dive(0);
    if (!strcmp(how, "exit")) exit(0);
    if (!strcmp(how, "null-call")) nothing();
    if (!strcmp(how, "in-libc")) zero = (int)strlen(nowhere);
    if (!strcmp(how, "fork")) {
        for (int way = 0; way < 2; way++) {
            pid_t child = fork();
            if (child == 0 && way == 0) exit(3);
            if (child == 0) write_nowhere();
            int status = 0;
            waitpid(child, &status, 0);
            if (way == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 3)) abort();
            if (way == 1 && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)) abort();
        }
    }
    if (!strcmp(how, "host-panic")) MQ_log(MQ_INFO, "panic");
}

static void *crash_aside(void *how) {
    pthread_setname_np(pthread_self(), "plugin's own");
    crash(how);
    return NULL;
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *from, size_t size) {
    static char how[64];
    (void)context, (void)connection, (void)size;
    snprintf(how, sizeof how, "%s", from);
    if (strncmp(how, "aside-", 6) == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, crash_aside, how + 6);
        pthread_join(thread, NULL);
    }
    else crash(how);
    return false;
}
