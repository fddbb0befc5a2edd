/*
 * http_policy.c - asks an HTTP service about each recipient, with libcurl, and never waits for it.
 *
 * At each RCPT TO of a local recipient, and at all of a client that has logged in, it sends a form with `sender` and `recipient` to
 * HTTP_POLICY_URL, such as http://127.0.0.1:8080/policy. Of others nobody is asked: this client may not send to
 * them, or may because of its address (smtp-relay-range). Plugins that call recipients local come before this
 * one. What comes back decides, by its status:
 *
 *     2xx   the recipient is accepted
 *     4xx   it is refused for good (550), with the first line of the body as the reason
 *     else  it is put off (450), in the same way
 *
 * Without an answer in HTTP_POLICY_SECONDS (2; keep it below plugin-timeout) it is accepted, and the log says so.
 * Connections to the service are kept open and used again, by each worker for itself.
 *
 * A host without MQX_reject and MQX_defer cannot refuse at this step; then the log says what would have been.
 *
 * The pattern to copy: libcurl's multi interface is joined to the worker by two functions: on_socket() watches what
 * it asks for, on_timer_wanted() starts the one timer that it wants. Both only note what is to be watched;
 * whatever calls libcurl then looks for transfers that are done, in take_done(). A transfer whose client goes is
 * taken out in the close hook.
 */
#define _GNU_SOURCE /* strcasecmp, for libcurl's header */
#include <mailerq.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ADDRESS = 320, REASON = 200, QUESTIONS = 256, CONNECTIONS = 16 };

/* A question about one recipient, from its hook to finish(). */
struct question {
    struct worker *worker;
    MQ_Connection *connection;
    CURL *easy;
    char error[CURL_ERROR_SIZE], reason[REASON];
    size_t reason_size;
};

/* An SMTP connection: the hook of a recipient is not told the sender. */
struct client { struct question *question; char sender[ADDRESS]; };

/* What one worker thread has. Only that thread touches it: nothing here needs a lock. */
struct worker {
    MQ_Context *context;
    CURLM *multi;
    MQ_Timer *timer;
    unsigned count;
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static const char *url;
static long patience_ms;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *seconds = getenv("HTTP_POLICY_SECONDS");
    patience_ms = (long)((seconds != NULL ? strtof(seconds, NULL) : 2) * 1000);
    url = getenv("HTTP_POLICY_URL");
    if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK || patience_ms <= 0)
        url = NULL;
    if (url == NULL)
        MQ_log(MQ_CRIT, "http_policy: HTTP_POLICY_URL is not set, or libcurl does not start; nobody is asked");
}

MQ_EXPORT void mq_cleanup(void) { curl_global_cleanup(); }

/* ---- libcurl on the worker's loop ---- */

static void take_done(struct worker *worker);

static void on_ready(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct worker *worker = data;
    int running, bits = (events & MQ_READ ? CURL_CSELECT_IN : 0) | (events & MQ_WRITE ? CURL_CSELECT_OUT : 0);
    (void)watcher;
    curl_multi_socket_action(worker->multi, fd, bits, &running);
    take_done(worker);
}

/* libcurl says what it waits for on a socket, and keeps the watcher for us beside it. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *kept)
{
    struct worker *worker = data;
    MQ_IOWatcher *watcher = kept;
    int events = (what & CURL_POLL_IN ? MQ_READ : 0) | (what & CURL_POLL_OUT ? MQ_WRITE : 0);
    (void)easy;
    if (what == CURL_POLL_REMOVE)
        events = 0;
    if (watcher != NULL && events != 0 && MQX_watchMask != NULL && MQX_watchMask(watcher, events))
        return 0;
    if (watcher != NULL)
        MQ_ioUnwatch(watcher); /* before the close */
    watcher = events != 0 ? MQ_ioWatch(worker->context, fd, events, on_ready, worker) : NULL;
    curl_multi_assign(worker->multi, fd, watcher);
    return 0;
}

static void on_timer(void *data)
{
    struct worker *worker = data;
    int running;
    worker->timer = NULL; /* it has fired, and with that it is released */
    curl_multi_socket_action(worker->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_done(worker);
}

/* libcurl wants to be called in `wait_ms`, 0 included, or not at all any more (-1). */
static int on_timer_wanted(CURLM *multi, long wait_ms, void *data)
{
    struct worker *worker = data;
    (void)multi;
    if (worker->timer != NULL)
        MQ_stopTimer(worker->timer);
    worker->timer = wait_ms >= 0 ? MQ_startTimer(worker->context, (float)wait_ms / 1000, on_timer, worker) : NULL;
    return 0;
}

/* ---- Questions ---- */

/* Keeps the first line of the body; the rest is read and forgotten. */
static size_t on_body(char *bytes, size_t one, size_t size, void *data)
{
    struct question *question = data;
    for (size_t i = 0; i < size && question->reason_size < REASON - 1; i++) {
        if (bytes[i] == '\n' || bytes[i] == '\r')
            question->reason_size = REASON; /* no more of it */
        else
            question->reason[question->reason_size++] = bytes[i];
    }
    return one * size;
}

static void forget(struct question *question)
{
    struct client *client = MQ_connectionData(question->connection);
    curl_multi_remove_handle(question->worker->multi, question->easy);
    curl_easy_cleanup(question->easy);
    question->worker->count--;
    client->question = NULL;
    free(question);
}

/* The one way out of a question that was asked: hands back exactly once. */
static void finish(struct question *question, CURLcode result)
{
    MQ_Connection *connection = question->connection;
    const char *reason = question->reason[0] != '\0' ? question->reason : NULL;
    char line[CURL_ERROR_SIZE + REASON + 64];
    long status = 0;
    curl_easy_getinfo(question->easy, CURLINFO_RESPONSE_CODE, &status);
    if (result != CURLE_OK) {
        const char *problem = question->error[0] != '\0' ? question->error : curl_easy_strerror(result);
        snprintf(line, sizeof line, "http_policy: no answer, going on without: %s", problem);
        MQ_log(MQ_WARN, line);
    } else if (status / 100 != 2) {
        bool is_final = status / 100 == 4, is_said;
        is_said = is_final ? MQX_reject != NULL && MQX_reject(connection, 550, "5.7.1", reason)
                           : MQX_defer != NULL && MQX_defer(connection, 450, "4.7.1", reason);
        snprintf(line, sizeof line, "http_policy: status %ld: %s %s", status, reason != NULL ? reason : "",
                 is_said ? "" : "(cannot be refused here)");
        MQ_log(MQ_INFO, line);
    }
    forget(question);
    MQ_continue(connection); /* last: from here on the step is not ours */
}

/* To be called whenever libcurl has worked. */
static void take_done(struct worker *worker)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(worker->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE) {
            struct question *question = NULL;
            CURLcode result = message->data.result; /* `message` is gone with the handle */
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &question);
            finish(question, result);
        }
}

/* The form, with both values escaped; libcurl copies it. */
static bool set_form(CURL *easy, const char *sender, const char *recipient)
{
    char *one = curl_easy_escape(easy, sender, 0), *other = curl_easy_escape(easy, recipient, 0);
    char form[2 * 3 * ADDRESS + 32];
    bool is_set = one != NULL && other != NULL &&
                  snprintf(form, sizeof form, "sender=%s&recipient=%s", one, other) < (int)sizeof form &&
                  curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, form) == CURLE_OK;
    curl_free(one), curl_free(other);
    return is_set;
}

static struct question *ask(struct worker *worker, MQ_Connection *connection, const char *sender, const char *recipient)
{
    struct question *question = calloc(1, sizeof *question);
    CURL *easy = question != NULL ? curl_easy_init() : NULL;
    if (easy != NULL) {
        question->worker = worker, question->connection = connection, question->easy = easy;
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_PRIVATE, question);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, question->error);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, question);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, patience_ms);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* a signal would hit all threads */
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
        /* The answer may come from within this: libcurl calls on_timer_wanted at least. */
        if (set_form(easy, sender, recipient) && curl_multi_add_handle(worker->multi, easy) == CURLM_OK) {
            worker->count++;
            return question;
        }
        curl_easy_cleanup(easy);
    }
    free(question);
    return NULL;
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, MQ_Address *envelope)
{
    struct client *client = MQ_connectionData(connection);
    const char *sender = MQ_email(envelope); /* NULL for the null sender */
    (void)context;
    if (client == NULL) {
        if (url == NULL || (client = calloc(1, sizeof *client)) == NULL)
            return false;
        MQ_setConnectionData(connection, client);
    }
    snprintf(client->sender, ADDRESS, "%s", sender != NULL ? sender : "");
    return false;
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address)
{
    struct worker *worker = MQ_contextData(context);
    struct client *client = MQ_connectionData(connection);
    const char *recipient = MQ_email(address);
    if (!MQ_local(address) && !MQ_authenticated(connection))
        return false; /* plugins of this generation are shown what the client may not send to as well */
    if (worker == NULL || client == NULL || recipient == NULL || strlen(recipient) >= ADDRESS || worker->count >= QUESTIONS)
        return false;
    client->question = ask(worker, connection, client->sender, recipient);
    return client->question != NULL;
}

/* The server may take a held step back: a question can still be open here. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection)
{
    struct client *client = MQ_connectionData(connection);
    (void)context;
    if (client != NULL && client->question != NULL) {
        forget(client->question);
        MQ_continue(connection); /* the server waits for this */
    }
    free(client);
    return false;
}

MQ_EXPORT void mq_context_initialize(MQ_Context *context)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker != NULL && (worker->multi = curl_multi_init()) == NULL)
        free(worker), worker = NULL;
    if (worker != NULL) {
        worker->context = context;
        curl_multi_setopt(worker->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(worker->multi, CURLMOPT_SOCKETDATA, worker);
        curl_multi_setopt(worker->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
        curl_multi_setopt(worker->multi, CURLMOPT_TIMERDATA, worker);
        /* Kept open while idle. How many may be open is no limit: what waits for one in libcurl would not
         * time out. */
        curl_multi_setopt(worker->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS);
    }
    MQ_setContextData(context, worker);
}

/* All connections have had their close hook: no question is open. */
MQ_EXPORT void mq_context_cleanup(MQ_Context *context)
{
    struct worker *worker = MQ_contextData(context);
    if (worker == NULL)
        return;
    curl_multi_cleanup(worker->multi); /* closes what was kept open, and tells on_socket */
    if (worker->timer != NULL)
        MQ_stopTimer(worker->timer);
    free(worker);
}
