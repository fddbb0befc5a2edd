/* Answers questions in the local part of a recipient, as a refusal whose text is the answer. */
#define _GNU_SOURCE
#include <mailerq.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One question; freed with its answer. */
struct question {
    MQ_Context *context;
    MQ_Connection *connection;
    MQ_Timer *timer;
    MQX_Query *query;
    MQ_IOWatcher *watcher;
    int left, count, in_order, ends[2];
    char text[2048];
};

static void answer(struct question *question, const char *text) {
    MQ_Connection *connection = question->connection;
    MQX_reject(connection, 550, "5.7.1", text);
    free(question);
    MQ_continue(connection);
}

static void on_answer(MQX_Query *query, int status, const char *const *values, size_t count, void *data) {
    struct question *question = data;
    char *end = question->text + sprintf(question->text, "%d", status);
    if (query != question->query) abort();
    for (size_t i = 0; i < count; i++) end += snprintf(end, 200, "\n%s", values[i]);
    answer(question, question->text);
}

static void on_cancelled(MQX_Query *query, int status, const char *const *values, size_t count, void *data) {
    (void)query, (void)status, (void)values, (void)count, (void)data;
    abort();
}

static void on_cancel_timer(void *data) { answer(data, "cancelled"); }

struct post { struct question *question; int number; };

static void on_post(void *data) {
    struct post *post = data;
    struct question *question = post->question;
    question->in_order += post->number == question->count++;
    free(post);
    if (question->count == question->left) {
        snprintf(question->text, sizeof question->text, "%d in order", question->in_order);
        answer(question, question->text);
    }
}

static void *post_all(void *data) {
    struct question *question = data;
    MQ_Context *context = question->context;
    int left = question->left; /* the question is gone with its last post */
    for (int i = 0; i < left; i++) {
        struct post *post = malloc(sizeof *post);
        post->question = question, post->number = i;
        while (!MQX_post(context, on_post, post)) usleep(1000);
    }
    return NULL;
}

static void on_nothing(void *data) { (void)data; }

static void *post_forever(void *data) {
    while (MQX_post(data, on_nothing, NULL)) usleep(100);
    return NULL;
}

static void on_repeat(void *data) {
    struct question *question = data;
    if (++question->count < question->left) return;
    MQ_stopTimer(question->timer);
    snprintf(question->text, sizeof question->text, "%d times", question->count);
    answer(question, question->text);
}

static void on_masked(MQ_IOWatcher *watcher, int fd, int events, void *data);

static void on_rested(void *data) {
    struct question *question = data;
    strcat(question->text, " rest");
    MQX_watchMask(question->watcher, MQ_READ);
}

/* Reads, then writes, then rests for a while, then reads again. */
static void on_masked(MQ_IOWatcher *watcher, int fd, int events, void *data) {
    struct question *question = data;
    char byte;
    switch (question->count++) {
    case 0:
        if (events != MQ_READ || read(fd, &byte, 1) != 1) abort();
        strcat(question->text, "read");
        MQX_watchMask(watcher, MQ_WRITE);
        return;
    case 1:
        if (events != MQ_WRITE || write(question->ends[1], "y", 1) != 1) abort();
        strcat(question->text, " write");
        MQX_watchMask(watcher, MQ_WRITE | MQ_READ);
        MQX_watchMask(watcher, 0);
        MQ_startTimer(question->context, 0.02f, on_rested, question);
        return;
    default:
        if (events != MQ_READ || read(fd, &byte, 1) != 1 || byte != 'y') abort();
        strcat(question->text, " read");
        MQ_ioUnwatch(watcher);
        close(question->ends[0]), close(question->ends[1]);
        answer(question, question->text);
    }
}

static void start_thread(void *(*work)(void *), void *data) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, data)) abort();
    pthread_detach(thread);
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    struct question *question = calloc(1, sizeof *question);
    char name[256] = "";
    int number = 0;
    const char *text = MQ_email(address) + 1; /* behind the quote */
    question->context = context, question->connection = connection;
    if (sscanf(text, "resolve %d %255[^\"]", &number, name) == 2)
        question->query = MQX_resolve(context, name, number, on_answer, question);
    else if (sscanf(text, "cancel %d %255[^\"]", &number, name) == 2) {
        MQX_cancel(MQX_resolve(context, name, number, on_cancelled, question));
        MQ_startTimer(context, 1.5f, on_cancel_timer, question); /* beyond dns-timeout */
    } else if (sscanf(text, "post %d", &question->left) == 1) start_thread(post_all, question);
    else if (!strncmp(text, "forever", 7)) start_thread(post_forever, context);
    else if (sscanf(text, "repeat %d", &question->left) == 1)
        question->timer = MQX_repeat(context, 0, 0.002, on_repeat, question);
    else if (!strncmp(text, "mask", 4)) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, question->ends)) abort();
        if (write(question->ends[1], "x", 1) != 1) abort();
        question->watcher = MQ_ioWatch(context, question->ends[0], MQ_READ, on_masked, question);
    }
    return true;
}
