/* A plugin that does what the test says. A script is a list of words, separated by spaces, or by commas
 * when one script is part of another. mq_smtp_in_mailfrom runs its argument; every other hook and
 * callback runs what `on-<name>=<script>` gave it before. What it sees, it logs with MQ_INFO. */
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SCRIPT_BYTES = 512 };

struct at {
    MQ_Context *context;
    MQ_SmtpConnection *connection;
    MQ_Message *message;
    MQ_IOWatcher *watcher;
};

static MQ_Context *bare;      /* from mq_context_initialize */
static struct at kept;        /* from `keep` */
static MQ_Timer *timer;       /* the last one started */
static const char *mime_kept; /* from `keep-mime` */

static struct { const char *name; char script[SCRIPT_BYTES]; } scripts[] = {
    {"connect", ""}, {"secure", ""}, {"authenticate", ""}, {"rcptto", ""}, {"data", ""}, {"message", ""},
    {"close", ""},   {"out-data", ""}, {"timer", ""},      {"watch", ""},  {"cleanup", ""},  {"expired", ""},
};

static void say(const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    MQ_log(MQ_INFO, line);
}

static char *script_of(const char *name, size_t size) {
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (strlen(scripts[i].name) == size && !memcmp(scripts[i].name, name, size)) return scripts[i].script;
    return NULL;
}

static int run(const char *script, struct at at);

static void on_timer(void *data) {
    say("timer %d", (int)(intptr_t)data);
    run(script_of("timer", 5), kept);
}

static void on_watch(MQ_IOWatcher *watcher, int fd, int events, void *data) {
    struct at at = kept;
    at.watcher = watcher;
    say("watch fd=%d events=%d data=%d", fd, events, (int)(intptr_t)data);
    run(script_of("watch", 5), at);
}

static void *continue_elsewhere(void *context) {
    MQ_Continue(context);
    return NULL;
}

static void *misuse_elsewhere(void *context) {
    MQ_SetContextData(context, context);
    say("elsewhere: data=%d timer=%d", MQ_ContextData(context) != NULL,
        MQ_TimerStart(context, 1, on_timer, NULL) != NULL);
    return NULL;
}

static void elsewhere(void *(*work)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, argument) == 0) pthread_join(thread, NULL);
}

static const char *or_null(const char *text) { return text ? text : "NULL"; }

static void *pointer(const char *digits) { return (void *)(uintptr_t)strtoull(digits, NULL, 16); }

/* One word; true if it was known. `value` is what follows the first ':'. */
static bool control(const char *word, const char *value, struct at *at) {
    if (!strcmp(word, "continue")) MQ_Continue(at->context);
    else if (!strcmp(word, "complete")) MQ_Complete(at->context);
    else if (!strcmp(word, "retry")) MQ_Retry(at->context);
    else if (!strcmp(word, "continue-elsewhere")) elsewhere(continue_elsewhere, at->context);
    else if (!strcmp(word, "misuse-elsewhere")) elsewhere(misuse_elsewhere, at->context);
    else if (!strcmp(word, "keep")) kept = *at;
    else if (!strcmp(word, "with-kept")) *at = kept;
    else if (!strcmp(word, "with-bare")) at->context = bare;
    else if (!strcmp(word, "with-null")) {
        memset(at, 0, sizeof *at);
        timer = NULL;
    }
    else if (!strcmp(word, "with-mixed")) {
        struct at mixed = {(MQ_Context *)at->connection, (MQ_SmtpConnection *)at->context,
                           (MQ_Message *)at->context, (MQ_IOWatcher *)at->context};
        *at = mixed;
        timer = (MQ_Timer *)mixed.connection;
    }
    else if (!strcmp(word, "with-address")) {
        at->context = (MQ_Context *)at;
        at->connection = (MQ_SmtpConnection *)at;
        at->message = (MQ_Message *)at;
        at->watcher = (MQ_IOWatcher *)at;
    }
    else if (!strcmp(word, "with-context")) at->context = pointer(value);
    else if (!strcmp(word, "with-connection")) at->connection = pointer(value);
    else if (!strcmp(word, "tokens"))
        say("%llx %llx", (unsigned long long)(uintptr_t)at->context, (unsigned long long)(uintptr_t)at->connection);
    else return false;
    return true;
}

static bool events(const char *word, const char *value, struct at *at) {
    int fd = 0, bits = 0;
    if (!strcmp(word, "timer")) {
        timer = MQ_TimerStart(at->context, (float)atof(value), on_timer, (void *)7);
        say("timer=%s", timer ? "yes" : "NULL");
    }
    else if (!strcmp(word, "timers")) {
        int made = 0, wanted = atoi(value);
        while (made < wanted && MQ_TimerStart(at->context, 1, on_timer, NULL)) made++;
        say("timers=%d", made);
    }
    else if (!strcmp(word, "watches")) {
        int made = 0, wanted = atoi(value);
        while (made < wanted && MQ_IOWatch(at->context, 0, MQ_READ, on_watch, NULL)) made++;
        say("watches=%d", made);
    }
    else if (!strcmp(word, "timer-no-callback"))
        say("timer=%s", MQ_TimerStart(at->context, 1, NULL, NULL) ? "yes" : "NULL");
    else if (!strcmp(word, "stop")) MQ_TimerStop(timer);
    else if (!strcmp(word, "reset")) MQ_TimerReset(timer, (float)atof(value));
    else if (!strcmp(word, "watch") && sscanf(value, "%d:%d", &fd, &bits) == 2) {
        at->watcher = kept.watcher = MQ_IOWatch(at->context, fd, bits, on_watch, (void *)8);
        say("watch=%s", at->watcher ? "yes" : "NULL");
    }
    else if (!strcmp(word, "watch-no-callback"))
        say("watch=%s", MQ_IOWatch(at->context, 0, MQ_READ, NULL, NULL) ? "yes" : "NULL");
    else if (!strcmp(word, "unwatch")) MQ_IOUnwatch(at->watcher);
    else if (!strcmp(word, "ev")) say("ev=%s", MQ_ev(at->context) ? "yes" : "NULL");
    else if (!strcmp(word, "set-context-data")) MQ_SetContextData(at->context, (void *)(intptr_t)atoi(value));
    else if (!strcmp(word, "context-data")) say("context-data=%d", (int)(intptr_t)MQ_ContextData(at->context));
    else return false;
    return true;
}

static bool connections(const char *word, const char *value, struct at *at) {
    if (!strcmp(word, "send")) say("sent=%zu", MQ_SmtpSend(at->connection, value, strlen(value)));
    else if (!strcmp(word, "send-many")) {
        size_t size = (size_t)atoi(value);
        void *bytes = calloc(1, size ? size : 1);
        say("sent=%zu", MQ_SmtpSend(at->connection, bytes, size));
        free(bytes);
    }
    else if (!strcmp(word, "send-null")) say("sent=%zu", MQ_SmtpSend(at->connection, NULL, 4));
    else if (!strcmp(word, "send-huge")) say("sent=%zu", MQ_SmtpSend(at->connection, "x", (size_t)-1));
    else if (!strcmp(word, "set-data")) MQ_SetSmtpData(at->connection, (void *)(intptr_t)atoi(value));
    else if (!strcmp(word, "data")) say("data=%d", (int)(intptr_t)MQ_SmtpData(at->connection));
    else if (!strcmp(word, "set-authenticated")) MQ_SetSmtpAuthenticated(at->connection, atoi(value) != 0);
    else if (!strcmp(word, "authenticated")) say("authenticated=%d", MQ_SmtpAuthenticated(at->connection));
    else if (!strcmp(word, "secure")) say("secure=%d", MQ_SmtpSecure(at->connection));
    else if (!strcmp(word, "fd")) say("fd=%d", MQ_SmtpFileDescriptor(at->connection));
    else return false;
    return true;
}

static bool messages(const char *word, const char *value, struct at *at) {
    if (!strcmp(word, "envelope")) say("envelope=%s", or_null(MQ_Envelope(at->message)));
    else if (!strcmp(word, "recipient")) say("recipient=%s", or_null(MQ_Recipient(at->message)));
    else if (!strcmp(word, "mime")) say("mime=%s", or_null(MQ_Mime(at->message)));
    else if (!strcmp(word, "keep-mime")) mime_kept = MQ_Mime(at->message);
    else if (!strcmp(word, "kept-mime")) say("kept-mime=%s", or_null(mime_kept));
    else if (!strcmp(word, "set-envelope")) MQ_SetEnvelope(at->message, value, strlen(value));
    else if (!strcmp(word, "set-recipient")) MQ_SetRecipient(at->message, value, strlen(value));
    else if (!strcmp(word, "set-mime")) MQ_SetMime(at->message, value, strlen(value));
    else if (!strcmp(word, "set-mime-nul")) MQ_SetMime(at->message, "a\0b", 3);
    else if (!strcmp(word, "set-mime-itself")) MQ_SetMime(at->message, MQ_Mime(at->message), 4);
    else if (!strcmp(word, "set-mime-huge")) MQ_SetMime(at->message, "x", (size_t)-1);
    else if (!strcmp(word, "forget-all")) {
        MQ_SetEnvelope(at->message, NULL, 5);
        MQ_SetRecipient(at->message, NULL, 0);
        MQ_SetMime(at->message, NULL, 5);
    }
    else if (!strcmp(word, "json")) say("json=%s", MQ_Json(at->message) ? "yes" : "NULL");
    else return false;
    return true;
}

static MQX_Hold *named;    /* from `name` */
static struct at named_at; /* and where */

static void on_expired(MQX_Hold *hold, void *data) {
    say("expired same=%d data=%d", hold == named, (int)(intptr_t)data);
    run(script_of("expired", 7), named_at);
}

static void *release_elsewhere(void *hold) {
    MQX_release(hold, MQX_CONTINUE);
    return NULL;
}

static bool refuse(bool (*how)(MQ_Connection *, int, const char *, const char *), const char *value, struct at *at) {
    char copy[256], *rest = copy;
    snprintf(copy, sizeof copy, "%s", value);
    char *code = strsep(&rest, ","), *status = strsep(&rest, ",");
    return how(at->connection, code ? atoi(code) : 0, status, rest);
}

static void fact(const char *name, const char *(*ask)(MQ_Connection *, size_t *), struct at *at) {
    size_t size = 99;
    const char *text = ask(at->connection, &size);
    say("%s=%s/%zu", name, or_null(text), size);
}

/* `bounce:CODE/STATUS/TEXT`, `retry-at:SECONDS`, `route:HOST/PORT`, `state`. */
static bool decisions(const char *word, const char *value, struct at *at) {
    char copy[256], *rest = copy;
    snprintf(copy, sizeof copy, "%s", value);
    if (!strcmp(word, "bounce")) {
        char *code = strsep(&rest, "/"), *status = strsep(&rest, "/");
        /* On the heap, without an octet to spare: so that whoever reads beyond its end is seen. */
        char *text = rest ? strdup(rest) : NULL;
        say("bounce=%d", MQX_bounce(at->message, atoi(code), status && *status ? status : NULL, text));
        free(text);
    }
    else if (!strcmp(word, "retry-at")) say("retry-at=%d", MQX_retryAt(at->message, atof(value)));
    else if (!strcmp(word, "route")) {
        char *host = strdup(strsep(&rest, "/"));
        say("route=%d", MQX_route(at->message, host, rest ? atoi(rest) : 0));
        free(host);
    }
    else if (!strcmp(word, "state")) say("state=%s", or_null(MQX_state(at->message)));
    else return false;
    return true;
}

static bool extensions(const char *word, const char *value, struct at *at) {
    if (decisions(word, value, at)) return true;
    if (!strcmp(word, "reject")) refuse(MQX_reject, value, at);
    else if (!strcmp(word, "defer")) refuse(MQX_defer, value, at);
    else if (!strcmp(word, "discard")) MQX_discard(at->connection);
    else if (!strcmp(word, "discard-message")) MQX_discard(at->message);
    else if (!strcmp(word, "disconnect")) MQX_disconnect(at->connection);
    else if (!strcmp(word, "fail")) MQX_fail(at->connection);
    else if (!strcmp(word, "name")) {
        named_at = *at;
        named = MQX_hold(at->connection, atof(value), on_expired, (void *)9);
    }
    else if (!strcmp(word, "release")) say("released=%d", MQX_release(named, atoi(value)));
    else if (!strcmp(word, "release-elsewhere")) elsewhere(release_elsewhere, named);
    else if (!strcmp(word, "facts")) {
        fact("peer", MQX_peer, at);
        fact("helo", MQX_helo, at);
        fact("login", MQX_login, at);
        fact("tls", MQX_tlsVersion, at);
        fact("cipher", MQX_cipher, at);
        fact("sni", MQX_sni, at);
        say("port=%d", MQX_peerPort(at->connection));
    }
    else return false;
    return true;
}

static int run(const char *script, struct at at) {
    char words[SCRIPT_BYTES], *rest = words, *word;
    int result = 0;
    snprintf(words, sizeof words, "%s", script);
    while ((word = strsep(&rest, " ")) != NULL) {
        char *assigned = strncmp(word, "on-", 3) ? NULL : strchr(word, '=');
        if (assigned) {
            char *script = script_of(word + 3, (size_t)(assigned - word) - 3);
            if (!script) { say("unknown: %s", word); continue; }
            snprintf(script, SCRIPT_BYTES, "%s", assigned + 1);
            for (; *script; script++) if (*script == ',') *script = ' ';
            continue;
        }
        char *value = strchr(word, ':');
        if (value) *value++ = '\0';
        else value = word + strlen(word);
        if (!strcmp(word, "true")) result = 1;
        else if (*word && !control(word, value, &at) && !events(word, value, &at) &&
                 !connections(word, value, &at) && !extensions(word, value, &at) && !messages(word, value, &at))
            say("unknown: %s", word);
    }
    return result;
}

static bool run_hook(const char *name, struct at at) {
    return run(script_of(name, strlen(name)), at);
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT void mq_initialize(void) { say("initialize"); }
MQ_EXPORT void mq_cleanup(void) { say("cleanup"); }

MQ_EXPORT bool mq_context_initialize(MQ_Context *context) {
    struct at at = {context, NULL, NULL, NULL};
    const char *script = getenv("PUPPET_CONTEXT");
    bare = context;
    return run(script ? script : "", at);
}

MQ_EXPORT bool mq_context_cleanup(MQ_Context *context) {
    struct at at = {context, NULL, NULL, NULL};
    return run_hook("cleanup", at);
}

MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_SmtpConnection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return run_hook("connect", at);
}

MQ_EXPORT bool mq_smtp_in_secure(MQ_Context *context, MQ_SmtpConnection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return run_hook("secure", at);
}

MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_SmtpConnection *connection, const char *login,
                                       size_t loginsize, const char *passwd, size_t passwdsize) {
    struct at at = {context, connection, NULL, NULL};
    say("login %s/%zu password %s/%zu", login, loginsize, passwd, passwdsize);
    return run_hook("authenticate", at);
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *mailfrom,
                                   size_t size) {
    struct at at = {context, connection, NULL, NULL};
    if (strlen(mailfrom) != size) say("size %zu", size);
    return run(mailfrom, at);
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_SmtpConnection *connection, const char *rcptto, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    say("rcptto %s/%zu", rcptto, size);
    return run_hook("rcptto", at);
}

MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_SmtpConnection *connection, const char *mime, size_t size) {
    struct at at = {context, connection, NULL, NULL};
    say("data %s/%zu", mime, size);
    return run_hook("data", at);
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message) {
    struct at at = {context, connection, message, NULL};
    return run_hook("message", at);
}

MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection) {
    struct at at = {context, connection, NULL, NULL};
    return run_hook("close", at);
}

MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message) {
    struct at at = {context, connection, message, NULL};
    return run_hook("out-data", at);
}
