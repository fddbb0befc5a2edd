/* A plugin that is built on libev and does what the test says: mq_smtp_in_mailfrom gets one word. */
#if !defined(MQ_API_VERSION)
#  define MQ_API_VERSION 201
#endif
#include <mailerq.h>

#include <ev.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MQ_Context *held;
static struct ev_loop *loop;
static ev_timer timer;
static ev_io io;
static ev_prepare prepare;
static ev_check check;
static ev_idle idle;
static ev_async async;
static int ends[2];
static int left;

static void say(const char *format, ...) {
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    MQ_log(MQ_INFO, line);
}

static void on_host_timer(void *data) { (void)data; say("host timer"); }

static void on_timer(struct ev_loop *l, ev_timer *w, int events) {
    (void)l; (void)events;
    say("timer active=%d", ev_is_active(w));
    MQ_TimerStart(held, 1, on_host_timer, NULL);
    MQ_Continue(held);
}

static void on_io(struct ev_loop *l, ev_io *w, int events) {
    char byte;
    if (events & EV_READ && read(w->fd, &byte, 1) == 1) say("io %c", byte);
    ev_io_stop(l, w);
}

static void on_prepare(struct ev_loop *l, ev_prepare *w, int events) {
    (void)events;
    say("prepare");
    ev_prepare_stop(l, w);
}

static void on_check(struct ev_loop *l, ev_check *w, int events) {
    (void)events;
    say("check");
    ev_check_stop(l, w);
}

static void on_idle(struct ev_loop *l, ev_idle *w, int events) {
    (void)events;
    say("idle");
    if (--left == 0) ev_idle_stop(l, w);
}

static void on_async(struct ev_loop *l, ev_async *w, int events) {
    (void)events;
    say("async");
    ev_async_stop(l, w);
}

static void on_break(struct ev_loop *l, ev_timer *w, int events) {
    (void)w; (void)events;
    ev_break(l, EVBREAK_ALL);
    say("broke");
}

static void on_nested(struct ev_loop *l, ev_timer *w, int events) {
    (void)w; (void)events;
    say("depth %u", ev_depth(l));
    ev_run(l, 0);
    say("back at %u", ev_depth(l));
}

static void on_destroy(struct ev_loop *l, ev_timer *w, int events) {
    (void)w; (void)events;
    ev_loop_destroy(l);
}

static void on_foreign(struct ev_loop *l, ev_timer *w, int events) {
    (void)l; (void)w; (void)events;
    MQ_Continue(NULL);
    MQ_SetContextData(held, &left);
    say("data=%s", MQ_ContextData(held) == &left ? "mine" : "not mine");
}

static void on_left(void) { say("left"); }

#define LEAVE(KIND, ...) do { \
    static ev_##KIND watcher; \
    ev_init(&watcher, on_left); \
    ev_##KIND##_set(&watcher, ##__VA_ARGS__); \
    ev_##KIND##_start(loop, &watcher); \
} while (0)

/* Starts what is due over and over, and stops none of it. */
static void leave(void) {
    static ev_timer fed;
    if (pipe(ends) || write(ends[1], "x", 1) != 1) abort();
    LEAVE(io, ends[0], EV_READ);
    LEAVE(timer, 0., .000001);
    LEAVE(idle);
    LEAVE(prepare);
    LEAVE(check);
    ev_init(&fed, on_left);
    ev_feed_event(loop, &fed, EV_CUSTOM);
}

#define MANY 20000
static struct many { ev_timer watcher; int number, again; } *many[MANY];
static unsigned calls, order;

/* The first of each five takes the last back, and frees it; the third comes again. */
static void on_many(struct ev_loop *l, ev_timer *w, int events) {
    struct many *one = (struct many *)w;
    calls++;
    order = order * 31 + (unsigned)one->number;
    if (one->number % 5 == 4) {
        struct many **other = &many[one->number - 4];
        if (!ev_clear_pending(l, &(*other)->watcher)) abort();
        free(*other);
        *other = NULL;
    }
    if (one->number % 5 == 2 && one->again--) ev_feed_event(l, w, events);
}

static void start_many(void) {
    calls = order = 0;
    for (int i = 0; i < MANY; i++) {
        free(many[i]);
        many[i] = malloc(sizeof *many[i]);
        many[i]->number = i;
        many[i]->again = 1;
        ev_init(&many[i]->watcher, on_many);
        ev_set_priority(&many[i]->watcher, i % 5 - 2);
        ev_feed_event(loop, &many[i]->watcher, EV_CUSTOM);
    }
}

/* The first to be called forgets to stop the other, which is due as well, before it sets it up anew. */
static ev_timer forgotten[2];
static void on_forgotten(struct ev_loop *l, ev_timer *w, int events) {
    (void)l;
    ev_timer *other = &forgotten[w == forgotten];
    calls += events == EV_CUSTOM;
    if (ev_is_pending(other)) ev_init(other, on_forgotten);
}

static void start_forgotten(void) {
    calls = 0;
    for (int i = 0; i < 2; i++) {
        ev_init(&forgotten[i], on_forgotten);
        ev_feed_event(loop, &forgotten[i], EV_CUSTOM);
    }
}

static void *send_from_a_thread(void *unused) {
    ev_async_send(loop, &async);
    return unused;
}

static void start_timer(void (*callback)(struct ev_loop *, ev_timer *, int)) {
    ev_timer_init(&timer, callback, 0., 0.);
    ev_timer_start(loop, &timer);
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *word, size_t size) {
    (void)connection; (void)size;
    held = context;
    if (!strcmp(word, "ev")) {
        struct ev_loop *before = loop;
        loop = MQ_ev(context);
        say("ev=%s", !loop ? "NULL" : before && before != loop ? "another" : "yes");
    } else if (!strcmp(word, "timer")) {
        start_timer(on_timer);
        return true;
    } else if (!strcmp(word, "io")) {
        if (pipe(ends) || write(ends[1], "x", 1) != 1) abort();
        ev_io_init(&io, on_io, ends[0], EV_READ);
        ev_io_start(loop, &io);
    } else if (!strcmp(word, "phases")) {
        left = 2;
        ev_prepare_init(&prepare, on_prepare);
        ev_prepare_start(loop, &prepare);
        ev_check_init(&check, on_check);
        ev_check_start(loop, &check);
        ev_idle_init(&idle, on_idle);
        ev_idle_start(loop, &idle);
    } else if (!strcmp(word, "async")) {
        pthread_t thread;
        ev_async_init(&async, on_async);
        ev_async_start(loop, &async);
        if (pthread_create(&thread, NULL, send_from_a_thread, NULL)) abort();
        pthread_join(thread, NULL);
    } else if (!strcmp(word, "break")) start_timer(on_break);
    else if (!strcmp(word, "nested")) start_timer(on_nested);
    else if (!strcmp(word, "destroy-within")) start_timer(on_destroy);
    else if (!strcmp(word, "foreign")) start_timer(on_foreign);
    else if (!strcmp(word, "leave")) leave();
    else if (!strcmp(word, "many")) start_many();
    else if (!strcmp(word, "forgotten")) start_forgotten();
    else if (!strcmp(word, "called")) say("calls=%u order=%x", calls, order);
    else if (!strcmp(word, "run")) {
        ev_run(loop, 0);
        say("back");
    } else if (!strcmp(word, "destroy")) ev_loop_destroy(loop);
    return false;
}
