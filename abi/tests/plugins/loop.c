/* A plugin that uses the loop as MailerQ's own interface cannot, as the test says: mq_smtp_in_mailfrom gets
 * one word and what follows a ':'. */
#include <mailerq.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MQ_Context *kept;
static MQ_Timer *timer;
static MQ_IOWatcher *watcher;
static MQX_Query *query;
static int stop_at;
static int mask_in_watch;

static void say(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    MQ_log(MQ_INFO, line);
}

static void on_timer(void *data) {
    say("timer %d", (int)(intptr_t)data);
    if (stop_at && --stop_at == 0) MQ_stopTimer(timer);
}

static void on_watch(MQ_IOWatcher *w, int fd, int events, void *data) {
    (void)data;
    say("watch fd=%d events=%d same=%d", fd, events, w == watcher);
    if (!mask_in_watch) return;
    say("mask=%d", MQX_watchMask(w, 0));
    say("mask=%d", MQX_watchMask(w, mask_in_watch));
}

static void on_post(void *data) {
    say("post %d", (int)(intptr_t)data);
    if (MQ_contextData(kept)) MQ_startTimer(kept, 1, on_timer, NULL);
}

static void on_answer(MQX_Query *q, int status, const char *const *values, size_t count, void *data) {
    say("answer %d same=%d count=%zu data=%d", status, q == query, count, (int)(intptr_t)data);
    for (size_t i = 0; i < count; i++) say("%s", values[i]);
}

static void *post_from_a_thread(void *count) {
    for (intptr_t i = 1; i <= (intptr_t)count; i++)
        if (!MQX_post(kept, on_post, (void *)i)) say("refused %d", (int)i);
    return NULL;
}

static void in_a_thread(intptr_t count) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, post_from_a_thread, (void *)count)) abort();
    pthread_join(thread, NULL);
}

static void *post_until_refused(void *unused) {
    while (MQX_post(kept, on_post, NULL)) usleep(1000);
    say("over");
    return unused;
}

static void run(MQ_Context *context, const char *word, const char *value) {
    double first = 0, interval = 0;
    int number = atoi(value);
    if (!strcmp(word, "repeat")) {
        sscanf(value, "%lf/%lf", &first, &interval);
        timer = MQX_repeat(context, first, interval, on_timer, (void *)7);
        say("timer=%s", timer ? "yes" : "NULL");
    } else if (!strcmp(word, "stop")) MQ_stopTimer(timer);
    else if (!strcmp(word, "stop-at")) stop_at = number;
    else if (!strcmp(word, "reset")) MQ_resetTimer(timer, (float)atof(value));
    else if (!strcmp(word, "watch")) watcher = MQ_ioWatch(context, 0, number, on_watch, NULL);
    else if (!strcmp(word, "unwatch")) MQ_ioUnwatch(watcher);
    else if (!strcmp(word, "mask")) say("mask=%d", MQX_watchMask(watcher, number));
    else if (!strcmp(word, "mask-in-watch")) mask_in_watch = number;
    else if (!strcmp(word, "post")) say("post=%d", MQX_post(context, on_post, (void *)(intptr_t)number));
    else if (!strcmp(word, "post-nothing")) say("post=%d", MQX_post(context, NULL, NULL));
    else if (!strcmp(word, "post-elsewhere")) in_a_thread(number);
    else if (!strcmp(word, "post-until-refused")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, post_until_refused, NULL)) abort();
    } else if (!strcmp(word, "set-data")) MQ_setContextData(context, context);
    else if (!strcmp(word, "resolve")) {
        query = MQX_resolve(context, value, MQX_DNS_TXT, on_answer, (void *)5);
        say("query=%s", query ? "yes" : "NULL");
    } else if (!strcmp(word, "resolve-type")) {
        say("query=%s", MQX_resolve(context, "a.example", number, on_answer, NULL) ? "yes" : "NULL");
    } else if (!strcmp(word, "resolve-many")) {
        for (int i = 0; i < number; i++)
            if (!MQX_resolve(context, "a.example", MQX_DNS_A, on_answer, NULL)) say("refused %d", i);
    } else if (!strcmp(word, "resolve-null")) {
        MQX_resolve(context, NULL, MQX_DNS_A, on_answer, NULL);
        MQX_resolve(context, "a.example", MQX_DNS_A, NULL, NULL);
    } else if (!strcmp(word, "cancel")) MQX_cancel(query);
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_context_initialize(MQ_Context *context) { kept = context; }

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, MQ_Address *envelope) {
    char script[512], *word, *rest = script;
    (void)connection;
    snprintf(script, sizeof script, "%s", MQ_email(envelope));
    while ((word = strtok_r(rest, " ", &rest))) {
        char *value = strchr(word, ':');
        if (value) *value++ = 0;
        run(context, word, value ? value : "");
    }
    return false;
}
