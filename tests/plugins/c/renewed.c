/* A plugin that says its build in the banner and holds wherever it may. The test changes the digits of
 * BUILD in the compiled file, which so becomes another plugin without a compiler. */
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const volatile char build[] = "BUILD-000000";

enum { WORKERS_MAX = 256 };
/* Watched until the host drops the watches, after the last cleanup of a context. */
static int watched[WORKERS_MAX];
static atomic_int workers;

struct worker {
    void *memory;
};

static void go_on(void *context) { MQ_Continue(context); }
static void never(void *data) { abort(); (void)data; }
static void never_ready(MQ_IOWatcher *watcher, int fd, int events, void *data) {
    abort();
    (void)watcher, (void)fd, (void)events, (void)data;
}

static bool hold(MQ_Context *context) { return MQ_TimerStart(context, 0.001f, go_on, context) != NULL; }

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_cleanup(void) {
    char line[64];
    for (int i = 0; i < workers; i++) close(watched[i]);
    snprintf(line, sizeof line, "over %s", (const char *)build);
    MQ_log(MQ_INFO, line);
}

MQ_EXPORT bool mq_context_initialize(MQ_Context *context) {
    const char *stuck = getenv("RENEWED_STUCK");
    if (stuck && strcmp((const char *)build, stuck) == 0) return true;
    struct worker *worker = malloc(sizeof *worker);
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    watched[atomic_fetch_add(&workers, 1)] = fd;
    worker->memory = malloc(4096);
    MQ_SetContextData(context, worker);
    /* Left to the host, which drops both after the cleanup hook. */
    MQ_TimerStart(context, 3600, never, NULL);
    MQ_IOWatch(context, fd, MQ_READ, never_ready, NULL);
    return hold(context);
}

MQ_EXPORT bool mq_context_cleanup(MQ_Context *context) {
    struct worker *worker = MQ_ContextData(context);
    if (!worker) return false;
    MQ_SetContextData(context, NULL);
    free(worker->memory);
    free(worker);
    return hold(context);
}

MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_SmtpConnection *connection) {
    char line[64];
    snprintf(line, sizeof line, "220-%s\r\n", (const char *)build);
    MQ_SmtpSend(connection, line, strlen(line));
    MQ_SetSmtpData(connection, strdup(line));
    return hold(context);
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *text, size_t size) {
    /* Its own data, of its own instance. */
    if (!strstr(MQ_SmtpData(connection), (const char *)build)) abort();
    MQ_Continue(context);
    return true;
    (void)text, (void)size;
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message) {
    return hold(context);
    (void)connection, (void)message;
}

MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection) {
    free(MQ_SmtpData(connection));
    return hold(context);
}

MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message) {
    return hold(context);
    (void)connection, (void)message;
}
