/* A plugin that does what the test says and writes down what it sees.
 *
 * Included by a file that defines PROBE_NAME. It reads `$PROBE_DIRECTORY/script` at every hook: lines
 * `NAME HOOK[@LOCAL] WORDS...`, of which the first counts that has this plugin's name, this hook, and,
 * if it says so, this local part of the hook's address. Words are separated by spaces and run in order;
 * what follows a ':' is the word's value, with %XX for a byte. What is seen goes to `journal`, a line
 * each, `NAME WHAT...`, in one write, so that the lines of all probes have one order.
 *
 * It is of generation G1 unless MQ_API_VERSION is defined, and then has what later ones have: `local` and
 * `set-local:N`. It judges logins only if PROBE_AUTHENTICATES is defined, and has hooks of the extensions
 * only if PROBE_GREETS is: exporting them changes the server.
 *
 * `await:TAG` waits for the file TAG in that directory and runs what stands in it with what this hook
 * was given; `hold:TAG` takes control as well. */
#define _GNU_SOURCE
#ifndef MQ_API_VERSION
#  define MQ_API_VERSION 201
#endif
#include <mailerq.h>

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 4096, PLACES = 64, POLL_MS = 5 };

struct at {
    MQ_Context *context;
    MQ_Connection *connection;
    MQ_Message *message;
    void *address; /* of a hook that has one, in later generations */
};

/* What a step is handed back with, and the names of G1 in later generations. */
#if MQ_API_VERSION < 400
typedef MQ_Context Handle;
static Handle *handle(struct at at) { return at.context; }
#else
typedef MQ_Connection Handle;
static Handle *handle(struct at at) { return at.connection; }
#  define MQ_Continue            MQ_continue
#  define MQ_Complete            MQ_complete
#  define MQ_Retry               MQ_retry
#  define MQ_ContextData         MQ_contextData
#  define MQ_SetContextData      MQ_setContextData
#  define MQ_IOWatch             MQ_ioWatch
#  define MQ_IOUnwatch           MQ_ioUnwatch
#  define MQ_TimerStart          MQ_startTimer
#  define MQ_TimerStop           MQ_stopTimer
#  define MQ_TimerReset          MQ_resetTimer
#  define MQ_SmtpFileDescriptor  MQ_fileDescriptor
#  define MQ_SmtpSend            MQ_send
#  define MQ_SmtpAuthenticated   MQ_authenticated
#  define MQ_SetSmtpAuthenticated MQ_setAuthenticated
#  define MQ_SmtpSecure          MQ_secure
#  define MQ_SmtpData            MQ_connectionData
#  define MQ_SetSmtpData         MQ_setConnectionData
#  define MQ_Envelope(message)   MQ_email(MQ_envelope(message))
#  define MQ_SetEnvelope         MQ_setEnvelope
#  define MQ_Recipient           MQ_recipient
#  define MQ_SetRecipient        MQ_setRecipient
#  define MQ_Mime                MQ_mime
#  define MQ_SetMime             MQ_setMime
#endif

static __thread MQ_Context *bare; /* from mq_context_initialize */
static __thread struct at kept;   /* from `keep` */
static __thread MQ_Timer *timer;  /* the last one started */
static __thread const char *mime_kept;
static __thread int retries;
static __thread Handle *parked[PLACES]; /* from `park`, last first back */
static __thread int parked_count;

/* The watches of one thread, by the number that the script gives them. */
struct watch {
    MQ_IOWatcher *watcher;
    int number, fd, other;
    struct at at;
};
static __thread struct watch watches[16];

static void path_of(char *path, const char *name) {
    snprintf(path, LINE_BYTES, "%s/%s", getenv("PROBE_DIRECTORY"), name);
}

static void say(const char *format, ...) {
    char path[LINE_BYTES], line[LINE_BYTES];
    va_list arguments;
    int size = snprintf(line, sizeof line, "%s ", PROBE_NAME);
    va_start(arguments, format);
    size += vsnprintf(line + size, sizeof line - (size_t)size - 1, format, arguments);
    va_end(arguments);
    if (size > (int)sizeof line - 2) size = (int)sizeof line - 2;
    line[size++] = '\n';
    path_of(path, "journal");
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)size) != size) abort();
    close(fd);
}

static bool read_file(const char *name, char *text, size_t room) {
    char path[LINE_BYTES];
    path_of(path, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t size = read(fd, text, room - 1);
    close(fd);
    text[size < 0 ? 0 : size] = '\0';
    return true;
}

static const char *or_null(const char *text) { return text ? text : "NULL"; }

/* %XX to bytes, in place; the size, since there may be zeros. */
static size_t decode(char *value) {
    char *to = value;
    for (char *from = value; *from; to++) {
        if (*from == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
            char digits[3] = {from[1], from[2], '\0'};
            *to = (char)strtol(digits, NULL, 16);
            from += 3;
        }
        else *to = *from++;
    }
    *to = '\0';
    return (size_t)(to - value);
}

static int run(char *script, struct at at);
static int run_hook(const char *hook, const char *address, struct at at);

/* ---- Waiting for the test ------------------------------------------------------------------------ */

struct place {
    bool taken;
    struct at at;
    char tag[128];
};
static __thread struct place places[PLACES];

static void look(void *data) {
    struct place *place = data;
    char script[LINE_BYTES], path[LINE_BYTES], own_path[LINE_BYTES], own[192];
    /* Several workers may wait for one tag: the one that renames its file has it, and no other. */
    snprintf(own, sizeof own, ".%s.%ld", place->tag, (long)syscall(SYS_gettid));
    path_of(path, place->tag);
    path_of(own_path, own);
    if (rename(path, own_path) != 0) {
        MQ_TimerStart(bare, POLL_MS / 1000.0f, look, place);
        return;
    }
    if (!read_file(own, script, sizeof script)) abort();
    unlink(own_path);
    place->taken = false;
    say("ran %s", place->tag);
    run(script, place->at);
}

static void await(const char *tag, struct at at) {
    for (int i = 0; i < PLACES; i++) {
        struct place *place = &places[i];
        if (place->taken) continue;
        place->taken = true;
        place->at = at;
        snprintf(place->tag, sizeof place->tag, "%s", tag);
        MQ_TimerStart(bare, POLL_MS / 1000.0f, look, place);
        return;
    }
    abort();
}

/* ---- Words --------------------------------------------------------------------------------------- */

static void *continue_elsewhere(void *step) { MQ_Continue(step); return NULL; }
static void *complete_elsewhere(void *step) { MQ_Complete(step); return NULL; }
static void *retry_elsewhere(void *step) { MQ_Retry(step); return NULL; }

static void *late_elsewhere(void *step) {
    struct timespec pause = {0, 20000000};
    nanosleep(&pause, NULL);
    MQ_Continue(step);
    return NULL;
}

static void *misuse_elsewhere(void *data) {
    struct at *at = data;
    MQ_SetContextData(at->context, at);
    MQ_SetSmtpData(at->connection, at);
    say("elsewhere context-data=%d data=%d sent=%zu fd=%d timer=%d", MQ_ContextData(at->context) != NULL,
        MQ_SmtpData(at->connection) != NULL, MQ_SmtpSend(at->connection, "x", 1),
        MQ_SmtpFileDescriptor(at->connection), MQ_TimerStart(at->context, 0, free, NULL) != NULL);
    MQ_log(MQ_INFO, PROBE_NAME " logs from elsewhere");
    return NULL;
}

static void elsewhere(void *(*work)(void *), void *argument, bool join) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, argument) != 0) abort();
    if (join) pthread_join(thread, NULL);
    else pthread_detach(thread);
}

static int control(const char *word, char *value, struct at *at) {
    if (!strcmp(word, "continue")) MQ_Continue(handle(*at));
    else if (!strcmp(word, "complete")) MQ_Complete(handle(*at));
    else if (!strcmp(word, "retry")) MQ_Retry(handle(*at));
    else if (!strcmp(word, "retries")) {
        if (retries < atoi(value)) { retries++; MQ_Retry(handle(*at)); }
        else { retries = 0; MQ_Continue(handle(*at)); }
    }
#if MQ_API_VERSION < 400
    else if (!strcmp(word, "bare-continue")) MQ_Continue(bare);
#endif
    else if (!strcmp(word, "continue-elsewhere")) elsewhere(continue_elsewhere, handle(*at), true);
    else if (!strcmp(word, "complete-elsewhere")) elsewhere(complete_elsewhere, handle(*at), true);
    else if (!strcmp(word, "retry-elsewhere")) elsewhere(retry_elsewhere, handle(*at), true);
    else if (!strcmp(word, "continue-later-elsewhere")) elsewhere(late_elsewhere, handle(*at), false);
    else if (!strcmp(word, "misuse-elsewhere")) elsewhere(misuse_elsewhere, at, true);
    else if (!strcmp(word, "true")) return 1;
    else if (!strcmp(word, "hold")) { await(value, *at); return 1; }
    else if (!strcmp(word, "await")) await(value, *at);
    else if (!strcmp(word, "park")) { parked[parked_count++ % PLACES] = handle(*at); return 1; }
    else if (!strcmp(word, "unpark")) while (parked_count > 0) MQ_Continue(parked[--parked_count]);
    else if (!strcmp(word, "keep")) kept = *at;
    else if (!strcmp(word, "with-kept")) *at = kept;
    else if (!strcmp(word, "block")) {
        long ms = atol(value);
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    else if (!strcmp(word, "log")) { decode(value); MQ_log(MQ_WARN, value); }
    else if (!strcmp(word, "say")) say("%s", value);
    else if (!strcmp(word, "thread")) say("thread %ld", (long)syscall(SYS_gettid));
    else return -1;
    return 0;
}

static int connections(const char *word, char *value, struct at *at) {
    if (!strcmp(word, "send")) {
        size_t size = decode(value);
        say("sent %zu", MQ_SmtpSend(at->connection, value, size));
    }
    else if (!strcmp(word, "send-many")) {
        size_t size = (size_t)atoi(value);
        char *bytes = malloc(size + 1);
        memset(bytes, 'x', size);
        say("sent %zu", MQ_SmtpSend(at->connection, bytes, size));
        free(bytes);
    }
    else if (!strcmp(word, "set-data")) MQ_SetSmtpData(at->connection, (void *)(intptr_t)atoi(value));
    else if (!strcmp(word, "data")) say("kept %d", (int)(intptr_t)MQ_SmtpData(at->connection));
    else if (!strcmp(word, "authenticate")) MQ_SetSmtpAuthenticated(at->connection, atoi(value) != 0);
    else if (!strcmp(word, "authenticated")) say("authenticated %d", MQ_SmtpAuthenticated(at->connection));
    else if (!strcmp(word, "secure")) say("secure %d", MQ_SmtpSecure(at->connection));
    else if (!strcmp(word, "socket")) {
        int fd = MQ_SmtpFileDescriptor(at->connection);
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        say("socket open=%d peer=%d", fcntl(fd, F_GETFD) != -1,
            getpeername(fd, (struct sockaddr *)&address, &size) == 0);
    }
    else if (!strcmp(word, "set-context-data")) MQ_SetContextData(at->context, (void *)(intptr_t)atoi(value));
    else if (!strcmp(word, "context-data")) say("context-data %d", (int)(intptr_t)MQ_ContextData(at->context));
    else if (!strcmp(word, "same-context")) say("same-context %d", at->context == bare || at->context == kept.context);
    else return -1;
    return 0;
}

static int messages(const char *word, char *value, struct at *at) {
    if (!strcmp(word, "envelope")) say("envelope %s", or_null(MQ_Envelope(at->message)));
    else if (!strcmp(word, "recipient")) say("recipient %s", or_null(MQ_Recipient(at->message)));
#if MQ_API_VERSION >= 400
    else if (!strcmp(word, "local")) say("local %d", MQ_local(at->address ? at->address : (void *)at->message));
    else if (!strcmp(word, "set-local")) MQ_setLocal(at->address ? at->address : (void *)at->message, atoi(value) != 0);
    else if (!strcmp(word, "email")) say("email %s", or_null(MQ_email(at->address)));
#endif
    else if (!strcmp(word, "mime")) {
        const char *mime = MQ_Mime(at->message);
        say("mime %s", mime ? *mime ? "text" : "empty" : "NULL");
    }
    else if (!strcmp(word, "mime-is")) {
        const char *mime = MQ_Mime(at->message);
        decode(value);
        say("mime-is %d", mime != NULL && !strcmp(mime, value));
    }
    else if (!strcmp(word, "mime-at")) say("mime-at %p", (const void *)MQ_Mime(at->message));
    else if (!strcmp(word, "keep-mime")) mime_kept = MQ_Mime(at->message);
    else if (!strcmp(word, "kept-mime")) say("kept-mime %d", mime_kept != NULL && !strcmp(mime_kept, MQ_Mime(at->message)));
    else if (!strcmp(word, "set-envelope")) { size_t size = decode(value); MQ_SetEnvelope(at->message, value, size); }
    else if (!strcmp(word, "set-recipient")) { size_t size = decode(value); MQ_SetRecipient(at->message, value, size); }
    else if (!strcmp(word, "set-mime")) { size_t size = decode(value); MQ_SetMime(at->message, value, size); }
    else if (!strcmp(word, "forget-envelope")) MQ_SetEnvelope(at->message, NULL, 0);
    else if (!strcmp(word, "forget-recipient")) MQ_SetRecipient(at->message, NULL, 0);
    else if (!strcmp(word, "forget-mime")) MQ_SetMime(at->message, NULL, 0);
    else return -1;
    return 0;
}

/* ---- Timers and watches -------------------------------------------------------------------------- */

struct armed {
    struct at at;
    struct timespec started;
    float seconds;
    char label[64];
};

static void on_timer(void *data) {
    struct armed *armed = data;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double passed = (double)(now.tv_sec - armed->started.tv_sec) + (double)(now.tv_nsec - armed->started.tv_nsec) / 1e9;
    say("timer %s early=%d", armed->label, passed < (double)armed->seconds);
    char hook[80];
    snprintf(hook, sizeof hook, "timer-%s", armed->label);
    run_hook(hook, "", armed->at);
    free(armed);
}

static void start(char *value, struct at *at) {
    struct armed *armed = calloc(1, sizeof *armed);
    char *label = strchr(value, ':');
    *label++ = '\0';
    armed->at = *at;
    armed->seconds = strtof(value, NULL);
    snprintf(armed->label, sizeof armed->label, "%s", label);
    clock_gettime(CLOCK_MONOTONIC, &armed->started);
    timer = MQ_TimerStart(at->context, armed->seconds, on_timer, armed);
    if (!timer) { say("timer %s refused", label); free(armed); }
}

static void on_watch(MQ_IOWatcher *watcher, int fd, int events, void *data) {
    struct watch *watch = data;
    say("watch %d events=%d same=%d", watch->number, events, fd == watch->fd && watcher == watch->watcher);
    char hook[32];
    snprintf(hook, sizeof hook, "watch-%d", watch->number);
    run_hook(hook, "", watch->at);
}

/* `watch:N:EVENTS` after `pipe:N` or `pair:N` or `file:N` or `same:N:M`. */
static int descriptors(const char *word, char *value, struct at *at) {
    struct watch *watch = &watches[atoi(value) & 15];
    char *more = strchr(value, ':');
    int fds[2];
    if (!strcmp(word, "pipe")) {
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) abort();
        watch->fd = fds[0], watch->other = fds[1];
    }
    else if (!strcmp(word, "pair")) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)) abort();
        watch->fd = fds[0], watch->other = fds[1];
    }
    else if (!strcmp(word, "file")) watch->fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    else if (!strcmp(word, "same") && more) watch->fd = watches[atoi(more + 1) & 15].fd;
    else if (!strcmp(word, "watch") && more) {
        watch->number = atoi(value) & 15;
        watch->at = *at;
        watch->watcher = MQ_IOWatch(at->context, watch->fd, atoi(more + 1), on_watch, watch);
        if (!watch->watcher) say("watch %d refused", watch->number);
    }
    else if (!strcmp(word, "unwatch")) MQ_IOUnwatch(watch->watcher);
    else if (!strcmp(word, "write")) { if (write(watch->other, "ab", 2) != 2) abort(); }
    else if (!strcmp(word, "read")) { char byte; if (read(watch->fd, &byte, 1) != 1) say("dry %d", watch->number); }
    else if (!strcmp(word, "shut")) close(watch->other);
    else if (!strcmp(word, "close")) close(watch->fd);
    else if (!strcmp(word, "timer") && more) start(value, at);
    else if (!strcmp(word, "stop")) MQ_TimerStop(timer);
    else if (!strcmp(word, "reset")) MQ_TimerReset(timer, strtof(value, NULL));
    else return -1;
    return 0;
}

#ifdef PROBE_OUTWARD
#  include PROBE_OUTWARD
#else
static int outward(const char *word, char *value, struct at *at) { (void)word, (void)value, (void)at; return -1; }
#endif
/* ---- Extensions ---------------------------------------------------------------------------------- */

static __thread MQX_Hold *named;    /* the last one made */
static __thread struct at named_at; /* and where */

static void on_expired(MQX_Hold *hold, void *data) {
    (void)data;
    say("expired same=%d", hold == named);
    run_hook("expired", "", named_at);
}

static void *release_elsewhere(void *hold) {
    bool released = MQX_release(hold, MQX_CONTINUE);
    say("released-elsewhere %d", released);
    return NULL;
}

/* `CODE,STATUS,TEXT`, each of which may be left out, or be '-' for none. */
static bool refuse(bool (*how)(MQ_Connection *, int, const char *, const char *), char *value, struct at *at) {
    char *code = strsep(&value, ","), *status = strsep(&value, ",");
    if (value) decode(value);
    if (status && *status == '-') status = NULL;
    return how(at->connection, code ? atoi(code) : 0, status, value);
}

static void fact(const char *name, const char *(*ask)(MQ_Connection *, size_t *), struct at *at) {
    size_t size = 99;
    const char *text = ask(at->connection, &size);
    say("fact %s %s/%zu %d", name, or_null(text), size, text != NULL && strlen(text) == size);
}

static void message_fact(const char *name, const char *(*ask)(MQ_Message *, size_t *), struct at *at) {
    size_t size = 99;
    const char *text = ask(at->message, &size);
    say("fact %s %.*s/%zu", name, text ? (int)strcspn(text, "\r\n") : 4, or_null(text), size);
}

static int extensions(const char *word, char *value, struct at *at) {
    if (!strcmp(word, "reject")) say("rejected %d", refuse(MQX_reject, value, at));
    else if (!strcmp(word, "defer")) say("deferred %d", refuse(MQX_defer, value, at));
    else if (!strcmp(word, "discard")) say("discarded %d", MQX_discard(at->connection));
    else if (!strcmp(word, "discard-message")) say("discarded %d", MQX_discard(at->message));
    else if (!strcmp(word, "disconnect")) say("disconnected %d", MQX_disconnect(at->connection));
    else if (!strcmp(word, "fail")) say("failed %d", MQX_fail(at->connection));
    else if (!strcmp(word, "name")) {
        named_at = *at;
        named = MQX_hold(at->connection, atof(value), on_expired, NULL);
        say("named %d", named != NULL);
        return 1;
    }
    else if (!strcmp(word, "release")) say("released %d", MQX_release(named, atoi(value)));
    else if (!strcmp(word, "release-elsewhere")) elsewhere(release_elsewhere, named, true);
    else if (!strcmp(word, "release-later-elsewhere")) elsewhere(release_elsewhere, named, false);
    else if (!strcmp(word, "facts")) {
        fact("peer", MQX_peer, at);
        say("fact port %d", MQX_peerPort(at->connection));
        fact("helo", MQX_helo, at);
        fact("login", MQX_login, at);
        fact("tls", MQX_tlsVersion, at);
        fact("cipher", MQX_cipher, at);
        fact("sni", MQX_sni, at);
    }
    else if (!strcmp(word, "message-facts")) {
        message_fact("id", MQX_messageId, at);
        say("fact attempt %d", MQX_attempt(at->message));
        message_fact("envelope", MQX_envelope, at);
        message_fact("recipient", MQX_recipient, at);
        message_fact("mime", MQX_mime, at);
    }
    else return -1;
    return 0;
}

static int run(char *script, struct at at) {
    char *rest = script, *word;
    int result = 0;
    while ((word = strsep(&rest, " \n")) != NULL) {
        if (!*word) continue;
        char *value = strchr(word, ':');
        if (value) *value++ = '\0';
        else value = word + strlen(word);
        int returned = control(word, value, &at);
        if (returned < 0) returned = extensions(word, value, &at);
        if (returned > 0) result = returned;
        if (returned < 0 && connections(word, value, &at) < 0 && messages(word, value, &at) < 0 &&
            descriptors(word, value, &at) < 0 && outward(word, value, &at) < 0)
            say("unknown %s", word);
    }
    return result;
}

static int run_hook(const char *hook, const char *address, struct at at) {
    char script[LINE_BYTES * 4], prefix[256], local[256], *rest = script, *line;
    snprintf(local, sizeof local, "%.*s", (int)strcspn(address, "@"), address);
    snprintf(prefix, sizeof prefix, "%s %s", PROBE_NAME, hook);
    if (!read_file("script", script, sizeof script)) return 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strncmp(line, prefix, strlen(prefix))) continue;
        char *words = line + strlen(prefix);
        if (*words == '@') {
            if (strncmp(words + 1, local, strlen(local)) || words[1 + strlen(local)] != ' ' || !*local) continue;
            words += 1 + strlen(local);
        }
        if (*words == ' ') return run(words, at);
    }
    return 0;
}

/* ---- Hooks --------------------------------------------------------------------------------------- */

static int seen(const char *hook, const char *argument, struct at at) {
    say("%s fd=%d %s", hook, at.connection ? MQ_SmtpFileDescriptor(at.connection) : -1, argument);
    return run_hook(hook, argument, at);
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void) {
    struct at none = {NULL, NULL, NULL, NULL};
    say("initialize main=%d", syscall(SYS_gettid) == getpid());
    run_hook("initialize", "", none);
}

MQ_EXPORT void mq_cleanup(void) {
    struct at none = {NULL, NULL, NULL, NULL};
    say("cleanup main=%d", syscall(SYS_gettid) == getpid());
    run_hook("cleanup", "", none);
}

static bool context_initialize(MQ_Context *context) {
    struct at at = {context, NULL, NULL, NULL};
    bare = context;
    say("context thread=%ld main=%d", (long)syscall(SYS_gettid), syscall(SYS_gettid) == getpid());
    return run_hook("context", "", at);
}

static bool context_cleanup(MQ_Context *context) {
    struct at at = {context, NULL, NULL, NULL};
    say("context-cleanup thread=%ld", (long)syscall(SYS_gettid));
    return run_hook("context-cleanup", "", at);
}

#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_context_initialize(MQ_Context *context) { return context_initialize(context); }
MQ_EXPORT bool mq_context_cleanup(MQ_Context *context) { return context_cleanup(context); }
#else
MQ_EXPORT void mq_context_initialize(MQ_Context *context) { context_initialize(context); }
MQ_EXPORT void mq_context_cleanup(MQ_Context *context) { context_cleanup(context); }
#endif

MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return seen("connect", "", at);
}

#ifdef PROBE_AUTHENTICATES
MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection, const char *login,
                                       size_t loginsize, const char *passwd, size_t passwdsize) {
    struct at at = {context, connection, NULL, NULL};
    char text[600];
    snprintf(text, sizeof text, "%s/%zu:%s/%zu,%d%d", login, loginsize, passwd, passwdsize, login[loginsize],
             passwd[passwdsize]);
    return seen("authenticate", text, at);
}
#endif

MQ_EXPORT bool mq_smtp_in_secure(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return seen("secured", "", at);
}

#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, const char *mailfrom, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    char text[600];
    snprintf(text, sizeof text, "%s/%zu", mailfrom, size);
    return seen("mailfrom", text, at);
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, const char *rcptto, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    char text[600];
    snprintf(text, sizeof text, "%s/%zu", rcptto, size);
    return seen("rcptto", text, at);
}
#else
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, MQ_Address *envelope) {
    struct at at = {context, connection, NULL, envelope};
    return seen("mailfrom", or_null(MQ_email(envelope)), at);
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    struct at at = {context, connection, NULL, address};
    return seen("rcptto", or_null(MQ_email(address)), at);
}
#endif

MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_Connection *connection, const char *mime, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    char text[256];
    size_t shown = 0;
    for (size_t i = 0; i < size && shown + 4 < sizeof text; i++) {
        char c = mime[i];
        shown += (size_t)(c > ' ' && c != '%' ? snprintf(text + shown, 2, "%c", c) : snprintf(text + shown, 4, "%%%02X", (unsigned char)c));
    }
    text[shown] = '\0';
    say("mime-end %d", mime[size]);
    return seen("data", text, at);
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    struct at at = {context, connection, message, NULL};
    return seen("message", or_null(MQ_Recipient(message)), at);
}

#ifdef PROBE_GREETS
MQ_EXPORT bool mqx_smtp_in_helo(MQ_Context *context, MQ_Connection *connection, const char *name, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    char text[600];
    snprintf(text, sizeof text, "%s/%zu", name, size);
    return seen("helo", text, at);
}

MQ_EXPORT bool mqx_smtp_in_reset(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return seen("reset", "", at);
}

MQ_EXPORT void mqx_smtp_lost(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {context, connection, NULL, NULL};
    seen("lost", "", at);
}
#endif

MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return seen("close", "", at);
}

MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    struct at at = {context, connection, message, NULL};
    return seen("out-data", or_null(MQ_Recipient(message)), at);
}
