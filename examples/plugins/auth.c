/*
 * auth.c - lets a service judge logins, and never waits for it.
 *
 * At each AUTH it asks the service at AUTH_ADDRESS, such as 127.0.0.1:10032. Each worker has one TCP
 * connection to it, over which many questions go at the same time: lines `NUMBER LOGIN PASSWORD`, the two
 * in base64, and lines `NUMBER yes` or `NUMBER no` back, in any order. auth-service.py is such a service.
 *
 * `yes` and `no` decide. Without an answer in AUTH_SECONDS (2; keep it below plugin-timeout) nothing is said
 * about the client: then the users of smtp-auth decide, and where there are none the login fails. Passwords
 * travel in clear: the service belongs on this machine, or behind a tunnel. Names of more than 255 octets and
 * passwords of more than 512 are not shown to it, as if it gave no answer.
 *
 * Nothing may ever come back, not even the end of the connection, when the service's machine is gone. So a
 * question that times out, with nothing heard since it was asked, takes the connection with it.
 *
 * The pattern to copy: what a connection to elsewhere needs belongs to the worker (MQ_contextData), what a
 * question needs is found again by its number, so that an answer that comes too late finds nothing; every
 * way out of a question leads through finish(), which hands back exactly once.
 */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include <mailerq.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOGIN = 255, PASSWORD = 512, QUESTIONS = 1000, OUTPUT = 256 * 1024, INPUT = 4096 };

/* A login that waits for its answer, from its hook to finish(). */
struct question {
    struct worker *worker;
    MQ_Connection *connection; /* what to answer for, and to hand back with */
    MQ_Timer *timer;
    unsigned long number;
    struct question *next, **place; /* in the worker's list */
};

/* What one worker thread has. Only that thread touches it: nothing here needs a lock. */
struct worker {
    MQ_Context *context; /* of the worker: for watchers that outlive any connection */
    MQ_IOWatcher *reader, *writer;
    int fd;
    struct question *questions;
    unsigned long number, count;
    unsigned long heard; /* the number of the last question when the service last said something */
    size_t sending, received;
    char output[OUTPUT], input[INPUT];
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static struct sockaddr_in service;
static float patience;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *text = getenv("AUTH_ADDRESS"), *seconds = getenv("AUTH_SECONDS");
    char host[INET_ADDRSTRLEN], rest;
    unsigned port;
    patience = seconds != NULL ? strtof(seconds, NULL) : 2;
    if (text != NULL && sscanf(text, "%15[0-9.]:%5u%c", host, &port, &rest) == 2 && port > 0 && port <= 65535 &&
        inet_pton(AF_INET, host, &service.sin_addr) == 1)
        service.sin_family = AF_INET, service.sin_port = htons((unsigned short)port);
    else /* AF_UNSPEC, which is 0, says that there is no service */
        MQ_log(MQ_CRIT, "auth: AUTH_ADDRESS is not like 127.0.0.1:10032; nobody is asked");
}

/* A plain memset could be left out by the compiler, as nobody reads the bytes again. */
static void wipe(void *bytes, size_t size)
{
    for (volatile char *byte = bytes; size > 0; size--)
        *byte++ = 0;
}

/* The one way out of a question: an answer, or NULL if there is none. */
static void finish(struct question *question, const char *answer)
{
    MQ_Connection *connection = question->connection;
    if (question->timer != NULL)
        MQ_stopTimer(question->timer);
    if ((*question->place = question->next) != NULL)
        question->next->place = question->place;
    question->worker->count--;
    if (answer != NULL)
        MQ_setAuthenticated(connection, strcmp(answer, "yes") == 0);
    free(question);
    MQ_continue(connection); /* last: from here on the step is not ours */
}

/* The connection to the service is of no use any more. Who waits is not kept waiting; the next login
 * opens another one. */
static void drop(struct worker *worker, const char *problem)
{
    char line[256];
    snprintf(line, sizeof line, "auth: %lu logins go without an answer: %s", worker->count, problem);
    MQ_log(MQ_WARN, line);
    if (worker->reader != NULL)
        MQ_ioUnwatch(worker->reader); /* before the close */
    if (worker->writer != NULL)
        MQ_ioUnwatch(worker->writer);
    close(worker->fd);
    wipe(worker->output, worker->sending);
    worker->reader = worker->writer = NULL, worker->fd = -1, worker->sending = worker->received = 0;
    while (worker->questions != NULL)
        finish(worker->questions, NULL);
}

static void on_timeout(void *data)
{
    struct question *question = data;
    question->timer = NULL; /* it has fired, and with that it is released */
    if (question->number > question->worker->heard) {
        drop(question->worker, "the service is silent"); /* finishes this question, too */
        return;
    }
    MQ_log(MQ_WARN, "auth: a login goes without an answer: timeout");
    finish(question, NULL);
}

/* Sends what the socket takes. Connected, or not: that shows here, too. */
static void on_writable(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct worker *worker = data;
    ssize_t sent = send(fd, worker->output, worker->sending, MSG_NOSIGNAL);
    (void)watcher, (void)events;
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return; /* readiness was a hint; it comes again */
    if (sent < 0) {
        drop(worker, strerror(errno));
        return;
    }
    memmove(worker->output, worker->output + sent, worker->sending - (size_t)sent);
    wipe(worker->output + worker->sending - (size_t)sent, (size_t)sent);
    if ((worker->sending -= (size_t)sent) == 0) {
        MQ_ioUnwatch(worker->writer); /* a socket with room would call for ever */
        worker->writer = NULL;
    }
}

/* Takes one line: the number of a question and its answer. One that nobody waits for any more is let go. */
static void take_line(struct worker *worker, char *line)
{
    char *answer;
    unsigned long number = strtoul(line, &answer, 10);
    struct question *question = worker->questions;
    while (question != NULL && question->number != number)
        question = question->next;
    if (question != NULL && *answer++ == ' ')
        finish(question, strcmp(answer, "yes") == 0 || strcmp(answer, "no") == 0 ? answer : NULL);
}

static void on_readable(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct worker *worker = data;
    ssize_t count = recv(fd, worker->input + worker->received, INPUT - worker->received, 0);
    size_t begin = 0;
    (void)watcher, (void)events;
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0) {
        drop(worker, count == 0 ? "the service hung up" : strerror(errno));
        return;
    }
    worker->received += (size_t)count, worker->heard = worker->number;
    for (size_t i = worker->received - (size_t)count; i < worker->received; i++)
        if (worker->input[i] == '\n') {
            worker->input[i] = '\0';
            take_line(worker, worker->input + begin);
            begin = i + 1;
        }
    memmove(worker->input, worker->input + begin, worker->received - begin);
    if ((worker->received -= begin) == INPUT)
        drop(worker, "an answer is too long");
}

/* Opens the connection if there is none, and has the worker look for room to send. */
static bool open_service(struct worker *worker)
{
    if (worker->fd < 0) {
        worker->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (worker->fd < 0)
            return false;
        if ((connect(worker->fd, (struct sockaddr *)&service, sizeof service) && errno != EINPROGRESS) ||
            (worker->reader = MQ_ioWatch(worker->context, worker->fd, MQ_READ, on_readable, worker)) == NULL) {
            drop(worker, strerror(errno));
            return false;
        }
    }
    if (worker->writer == NULL)
        worker->writer = MQ_ioWatch(worker->context, worker->fd, MQ_WRITE, on_writable, worker);
    return worker->writer != NULL;
}

static char *base64(char *to, const char *from, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (; size > 0; size -= size < 3 ? size : 3, from += 3) {
        uint32_t bits = (uint32_t)(unsigned char)from[0] << 16;
        bits |= size > 1 ? (uint32_t)(unsigned char)from[1] << 8 : 0;
        bits |= size > 2 ? (uint32_t)(unsigned char)from[2] : 0;
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = size > 1 ? digits[bits >> 6 & 63] : '=';
        *to++ = size > 2 ? digits[bits & 63] : '=';
    }
    return to;
}

MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection, const char *login,
                                       size_t loginsize, const char *passwd, size_t passwdsize)
{
    struct worker *worker = MQ_contextData(context);
    size_t size = 32 + (loginsize + 2) / 3 * 4 + (passwdsize + 2) / 3 * 4; /* of the line, at most */
    struct question *question;
    char *end;
    if (worker == NULL || service.sin_family == AF_UNSPEC)
        return false;
    if (loginsize > LOGIN || passwdsize > PASSWORD) {
        MQ_log(MQ_WARN, "auth: a login goes without an answer: too long to be asked about");
        return false;
    }
    if (worker->count >= QUESTIONS || OUTPUT - worker->sending < size || !open_service(worker) ||
        (question = calloc(1, sizeof *question)) == NULL)
        return false;
    if ((question->timer = MQ_startTimer(context, patience, on_timeout, question)) == NULL) {
        free(question);
        return false;
    }
    question->worker = worker, question->connection = connection;
    question->number = ++worker->number, worker->count++;
    if ((question->next = worker->questions) != NULL)
        question->next->place = &question->next;
    question->place = &worker->questions, worker->questions = question;
    /* Both strings are gone when the step is over: what is to be sent is copied now, and wiped when it
     * is sent. */
    end = worker->output + worker->sending;
    end += sprintf(end, "%lu ", question->number);
    end = base64(end, login, loginsize);
    *end++ = ' ';
    end = base64(end, passwd, passwdsize);
    *end++ = '\n';
    worker->sending = (size_t)(end - worker->output);
    return true;
}

/* The server may take a held step back: a question can still be open here, and its answer must find
 * nothing. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection)
{
    struct worker *worker = MQ_contextData(context);
    struct question *question = worker != NULL ? worker->questions : NULL, *next;
    for (; question != NULL; question = next) {
        next = question->next;
        if (question->connection == connection)
            finish(question, NULL);
    }
    return false;
}

MQ_EXPORT void mq_context_initialize(MQ_Context *context)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker != NULL)
        worker->context = context, worker->fd = -1;
    MQ_setContextData(context, worker);
}

MQ_EXPORT void mq_context_cleanup(MQ_Context *context)
{
    struct worker *worker = MQ_contextData(context);
    if (worker != NULL && worker->fd >= 0) {
        MQ_ioUnwatch(worker->reader);
        if (worker->writer != NULL)
            MQ_ioUnwatch(worker->writer);
        close(worker->fd);
        wipe(worker->output, worker->sending);
    }
    free(worker);
}
