/*
 * policy.c - asks a policy service about each recipient, and never waits for it.
 *
 * At each RCPT TO that the server itself would take it asks the service at POLICY_ADDRESS, such as
 * 127.0.0.1:10031, on a TCP connection of its own, in the protocol of Postfix' SMTPD_POLICY_README: lines
 * `name=value` and an empty line there, `action=OK` and an empty line back. The SMTP connection remembers
 * the answers until it names another sender.
 *
 * Who may relay is decided before this one is called. The answer decides about the recipient: with OK or
 * DUNNO it is accepted; with DEFER or a 4xx code it is refused for now, with DISCARD dropped, and with REJECT,
 * a 5xx code or anything else refused, with the words behind it. If POLICY_QUARANTINE is set, or the host has
 * no MQX_reject, none of that is told to the client: the mail goes to that address instead (if not set: to its
 * recipient, and a line to the log). Without an answer in POLICY_SECONDS (2; keep it below plugin-timeout) it
 * passes, and its later recipients are not asked for: each mail waits once at most.
 *
 * The pattern to copy: the hook starts its work and returns true; callbacks do what can be done without
 * waiting; every way out leads through finish(), which hands back exactly once.
 */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#define MQ_API_VERSION 201 /* later ones show mq_smtp_in_rcptto what the client may not send to as well */
#include <mailerq.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESS = 320, ACTION = 128, REMEMBERED = 1000 };
struct answer { bool refused; char recipient[ADDRESS], action[ACTION]; };

/* An SMTP connection, from its first MAIL to its close hook. All its hooks and callbacks run on one
 * thread, and no other connection sees it: nothing here needs a lock. */
struct client {
    MQ_Context *context; /* of the hook that holds the step: the one to hand back with */
    MQ_SmtpConnection *connection;
    MQ_IOWatcher *watcher;
    MQ_Timer *timer;
    int fd;
    bool given_up;          /* a question of this mail got no answer */
    struct answer *answers; /* `count` about this sender, and behind them room for what is asked now */
    size_t count, request_size, sent, received;
    char sender[ADDRESS], request[2 * ADDRESS + 96], reply[256];
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static struct sockaddr_in service;
static float patience;
static const char *quarantine;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *text = getenv("POLICY_ADDRESS"), *seconds = getenv("POLICY_SECONDS");
    char host[INET_ADDRSTRLEN], rest;
    unsigned port;
    quarantine = getenv("POLICY_QUARANTINE");
    patience = seconds != NULL ? strtof(seconds, NULL) : 2;
    if (text != NULL && sscanf(text, "%15[0-9.]:%5u%c", host, &port, &rest) == 2 && port > 0 && port <= 65535 &&
        inet_pton(AF_INET, host, &service.sin_addr) == 1)
        service.sin_family = AF_INET, service.sin_port = htons((unsigned short)port);
    else /* AF_UNSPEC, which is 0, says that there is no service */
        MQ_log(MQ_CRIT, "policy: POLICY_ADDRESS is not like 127.0.0.1:10031; nobody is asked");
}

/* Gives back what a question took. No callback comes afterwards. */
static void release(struct client *client)
{
    if (client->watcher != NULL)
        MQ_IOUnwatch(client->watcher); /* before the close */
    if (client->timer != NULL)
        MQ_TimerStop(client->timer);
    if (client->fd >= 0)
        close(client->fd);
    client->watcher = NULL, client->timer = NULL, client->fd = -1;
}

/* Says to the client what the service decided, where that is to be said. The step is ours: its hook runs, or
 * we hold it. */
static void tell(MQ_SmtpConnection *connection, const struct answer *answer)
{
    const char *action = answer->action, *words = action + strcspn(action, " ");
    int code = atoi(action);
    if (!answer->refused || quarantine != NULL || MQX_reject == NULL)
        return; /* weak functions are NULL on a host that does not have them */
    words += strspn(words, " ");
    if (*words == '\0')
        words = NULL; /* the usual text */
    if (strncmp(action, "DEFER", 5) == 0 || (code >= 400 && code < 460))
        MQX_defer(connection, code, NULL, words);
    else if (strncmp(action, "DISCARD", 7) == 0)
        MQX_discard(connection);
    else
        MQX_reject(connection, code >= 500 && code < 560 ? code : 0, NULL, words);
}

/* The one way out of a question: `problem` says why there is no answer, or is NULL. */
static void finish(struct client *client, const char *problem)
{
    struct answer *answer = &client->answers[client->count];
    char *action = client->reply + strlen("action="), line[2 * ADDRESS + 320];
    release(client);
    client->given_up = problem != NULL;
    if (problem == NULL) {
        action[strcspn(action, "\n")] = '\0';
        answer->refused = strcmp(action, "OK") != 0 && strcmp(action, "DUNNO") != 0;
        snprintf(answer->action, ACTION, "%s", action);
        client->count++;
        tell(client->connection, answer);
    }
    snprintf(line, sizeof line, "policy: <%s> to <%s>: %s%s", client->sender, answer->recipient,
             problem != NULL ? "no answer, going on without: " : "", problem != NULL ? problem : action);
    MQ_log(problem != NULL ? MQ_WARN : MQ_INFO, line);
    MQ_Continue(client->context); /* last: from here on the step is not ours */
}

static void on_timeout(void *data)
{
    struct client *client = data;
    client->timer = NULL; /* it has fired, and with that it is released */
    finish(client, "timeout");
}

/* Connected, or not; then the socket takes some of the request, or has some of the reply or its end. */
static void on_ready(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct client *client = data;
    bool sending = client->sent < client->request_size;
    ssize_t count = sending ? send(fd, client->request + client->sent, client->request_size - client->sent, MSG_NOSIGNAL)
                            : recv(fd, client->reply + client->received, sizeof client->reply - 1 - client->received, 0);
    (void)events;
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return; /* readiness was a hint; it comes again */
    if (count < 0)
        finish(client, strerror(errno)); /* a connect that failed shows here, too */
    else if (sending) {
        if ((client->sent += (size_t)count) < client->request_size)
            return;
        MQ_IOUnwatch(watcher); /* a watcher's events cannot be changed: take another */
        if ((client->watcher = MQ_IOWatch(client->context, fd, MQ_READ, on_ready, client)) == NULL)
            finish(client, "the event loop has no room");
    } else {
        client->received += (size_t)count;
        client->reply[client->received] = '\0';
        if (strstr(client->reply, "\n\n") != NULL)
            finish(client, strncmp(client->reply, "action=", 7) == 0 ? NULL : "not an action");
        else if (count == 0 || client->received == sizeof client->reply - 1)
            finish(client, count == 0 ? "the service hung up" : "the reply is too long");
    }
}

static const struct answer *find(const struct client *client, const char *recipient)
{
    for (size_t i = 0; i < client->count; i++)
        if (strcmp(client->answers[i].recipient, recipient) == 0)
            return &client->answers[i];
    return NULL;
}

/* A mail begins. Kept here, for the hook of a recipient is not told the sender. */
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *mailfrom, size_t size)
{
    struct client *client = MQ_SmtpData(connection);
    (void)context;
    if (client == NULL) {
        if (service.sin_family == AF_UNSPEC || (client = calloc(1, sizeof *client)) == NULL)
            return false;
        client->fd = -1;
        MQ_SetSmtpData(connection, client);
    }
    if (strcmp(client->sender, mailfrom) != 0 || client->count >= REMEMBERED)
        client->count = 0;
    client->given_up = size >= ADDRESS || strpbrk(mailfrom, "\r\n") != NULL; /* no line could carry it */
    snprintf(client->sender, ADDRESS, "%s", mailfrom);
    return false;
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_SmtpConnection *connection, const char *rcptto, size_t size)
{
    struct client *client = MQ_SmtpData(connection);
    const struct answer *known = client != NULL ? find(client, rcptto) : NULL;
    struct answer *answers;
    if (known != NULL)
        return tell(connection, known), false;
    if (client == NULL || client->given_up || size >= ADDRESS || strpbrk(rcptto, "\r\n") ||
        (answers = realloc(client->answers, (client->count + 1) * sizeof *answers)) == NULL)
        return false;
    client->answers = answers, client->context = context, client->connection = connection;
    memcpy(answers[client->count].recipient, rcptto, size + 1);
    client->sent = client->received = 0;
    client->request_size = (size_t)snprintf(client->request, sizeof client->request, /* bounds above: it fits */
        "request=smtpd_access_policy\nprotocol_state=RCPT\nsender=%s\nrecipient=%s\n\n", client->sender, rcptto);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || (connect(client->fd, (struct sockaddr *)&service, sizeof service) && errno != EINPROGRESS))
        return finish(client, strerror(errno)), true; /* handing back before the hook has returned is allowed */
    client->watcher = MQ_IOWatch(context, client->fd, MQ_WRITE, on_ready, client);
    client->timer = MQ_TimerStart(context, patience, on_timeout, client);
    if (client->watcher == NULL || client->timer == NULL)
        finish(client, "the event loop has no room");
    return true;
}

/* Once for each recipient, before anything is stored. A plugin before us may have changed the addresses. */
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message)
{
    const struct client *client = MQ_SmtpData(connection);
    const char *sender = MQ_Envelope(message), *recipient = MQ_Recipient(message);
    const struct answer *answer = client != NULL && recipient != NULL ? find(client, recipient) : NULL;
    (void)context;
    if (answer != NULL && answer->refused && quarantine != NULL && sender != NULL && strcmp(client->sender, sender) == 0)
        MQ_SetRecipient(message, quarantine, strlen(quarantine));
    return false;
}

/* The server may take a held step back: a question can still be open here. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection)
{
    struct client *client = MQ_SmtpData(connection);
    (void)context;
    if (client != NULL)
        release(client), free(client->answers), free(client);
    return false;
}
