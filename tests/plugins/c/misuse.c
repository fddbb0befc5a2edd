/* A plugin that does one kind of thing wrong, which the file that includes it names as MISUSE: at most
 * ten times, so that the host's limit on such lines leaves none out.
 *
 * The first connection is used to collect what goes stale, the second to misuse it. */
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static MQ_Context *bare, *context;
static MQ_SmtpConnection *connection;
static MQ_Message *message;
static MQ_IOWatcher *watcher;
static MQ_Timer *timer;
static const char *mime;
static int connections;

static bool is(const char *kind) { return !strcmp(MISUSE, kind); }

static void on_timer(void *data) { (void)data; }
static void on_watch(MQ_IOWatcher *watcher, int fd, int events, void *data) { (void)watcher, (void)fd, (void)events, (void)data; }

/* Ten calls with the same five pointers, whatever they are. */
static void use_things(void *a, void *b, void *c, void *d, void *e) {
    MQ_Continue(a);
    if (MQ_SmtpSend(b, "x", 1) || MQ_SmtpFileDescriptor(b) != -1 || MQ_SmtpData(b)) abort();
    if (MQ_Mime(c)) abort();
    MQ_SetMime(c, "wrong", 5);
    MQ_IOUnwatch(d);
    MQ_TimerStop(e);
}

static void use(void *a, void *b, void *c, void *d, void *e) {
    if (MQ_TimerStart(a, 1, on_timer, NULL) || MQ_ContextData(a)) abort();
    use_things(a, b, c, d, e);
}

static void *elsewhere(void *data) {
    (void)data;
    if (MQ_SmtpSend(connection, "x", 1) || MQ_ContextData(context) || MQ_Mime(message)) abort();
    if (MQ_TimerStart(context, 0, on_timer, NULL)) abort();
    MQ_SetMime(message, "wrong", 5);
    MQ_IOUnwatch(watcher);
    return NULL;
}

/* The tokens of the plugin before, through the environment, which all plugins share. */
static void publish(void) {
    char text[128];
    snprintf(text, sizeof text, "%p %p %p", (void *)context, (void *)connection, (void *)message);
    setenv("MISUSE_TOKENS", text, 1);
}

#define NUMBERS 65
#define MANY 70000
static MQ_IOWatcher *numbers[NUMBERS], *many[MANY];
static int made;

/* Most are gone by then. */
static void let_go(void *data) {
    (void)data;
    for (int fd = 0; fd < NUMBERS; fd++) MQ_IOUnwatch(numbers[fd]);
    MQ_log(MQ_WARN, "let go of every number");
}

/* The first half; the rest is there when the server stops. */
static void let_go_of_half(void *data) {
    (void)data;
    for (int n = 0; n < made / 2; n++) MQ_IOUnwatch(many[n]);
    MQ_log(MQ_WARN, "let go of half");
}

static MQ_Context *again_context;
static void on_again(MQ_IOWatcher *watcher, int fd, int events, void *data) {
    (void)watcher, (void)events;
    MQ_IOWatch(again_context, fd, MQ_READ, on_again, data);
}

/* Between two steps, when nobody is in control. */
static void complete(void *given) { MQ_Complete(given); }

static void misuse(void) {
    void *a = NULL, *b = NULL, *c = NULL;
    if (is("null")) use(NULL, NULL, NULL, NULL, NULL);
    if (is("kind")) use(connection, context, connection, context, watcher);
    /* The context of a connection that is gone is still one of its worker. */
    if (is("stale")) use_things(context, connection, message, watcher, timer);
    if (is("address")) {
        char *gone = malloc(64);
        volatile uintptr_t address = (uintptr_t)gone; /* what a careful compiler must not look through */
        free(gone);
        use((void *)address, (void *)address, (void *)address, (void *)address, &a);
    }
    if (is("foreign") && sscanf(getenv("MISUSE_TOKENS"), "%p %p %p", &a, &b, &c) == 3) use(a, b, c, b, a);
    if (is("doubled")) {
        MQ_IOUnwatch(watcher);
        MQ_IOUnwatch(watcher);
        MQ_TimerStop(timer);
        MQ_TimerStop(timer);
        MQ_Continue(context);
        MQ_Continue(context);
        MQ_Complete(context);
    }
    if (is("thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, elsewhere, NULL)) abort();
        pthread_join(thread, NULL);
    }
    if (is("argument")) {
        if (MQ_TimerStart(context, NAN, on_timer, NULL) || MQ_TimerStart(context, 1, NULL, NULL)) abort();
        if (MQ_IOWatch(context, -1, MQ_READ, on_watch, NULL) || MQ_IOWatch(context, 0, 0, on_watch, NULL)) abort();
        if (MQ_IOWatch(context, 0, MQ_READ, NULL, NULL) || MQ_SmtpSend(connection, NULL, 4)) abort();
        MQ_SetMime(message, "x", SIZE_MAX);
        MQ_log(99, NULL);
    }
    if (is("numbers")) {
        for (int fd = 0; fd < NUMBERS; fd++) numbers[fd] = MQ_IOWatch(context, fd, MQ_READ | MQ_WRITE, on_watch, NULL);
        MQ_TimerStart(context, 0.2f, let_go, NULL);
    }
    if (is("many")) {
        while (made < MANY && (many[made] = MQ_IOWatch(context, 0, MQ_READ, on_watch, NULL))) made++;
        MQ_TimerStart(context, 0.2f, let_go_of_half, NULL);
    }
    if (is("again")) {
        again_context = context;
        for (int n = 0; n < 100; n++) MQ_IOWatch(context, 999999, MQ_READ, on_again, NULL);
        MQ_log(MQ_WARN, "watches again and again");
    }
    if (is("unheld")) {
        MQ_Retry(bare);
        MQ_TimerStart(context, 0, complete, context);
    }
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT bool mq_context_initialize(MQ_Context *given) {
    bare = given;
    return false;
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *given, MQ_SmtpConnection *on, MQ_Message *shown) {
    if (connections < 2 && !(is("stale") && connections == 1)) {
        context = given, connection = on, message = shown;
        mime = MQ_Mime(shown);
        watcher = MQ_IOWatch(context, 0, MQ_WRITE, on_watch, NULL);
        timer = MQ_TimerStart(context, 3600, on_timer, NULL);
        if (!watcher || !timer || !mime) abort();
        if (is("null")) publish();
    }
    if (connections == 1) misuse();
    return connections == 1 && is("doubled");
}

static MQ_Context *closed_context;
static MQ_SmtpConnection *closed_connection;

static void after_close(void *data) {
    (void)data;
    MQ_SetSmtpAuthenticated(closed_connection, true);
    if (MQ_SmtpSend(closed_connection, "x", 1) || MQ_SmtpData(closed_connection)) abort();
    MQ_Complete(closed_context);
}

MQ_EXPORT bool mq_smtp_in_close(MQ_Context *given, MQ_SmtpConnection *on) {
    if (is("stale") && connections == 0) MQ_IOUnwatch(watcher), MQ_TimerStop(timer);
    if (is("closed") && connections == 1) {
        closed_context = given, closed_connection = on;
        if (MQ_SmtpSend(on, "x", 1)) abort();
        MQ_TimerStart(given, 0.05f, after_close, NULL);
    }
    connections++;
    return false;
}
