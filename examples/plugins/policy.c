/*
 * policy.c - asks a policy service who may send, and never waits for it.
 *
 * At each MAIL FROM it asks the service at POLICY_ADDRESS (127.0.0.1:10031) on a TCP connection of its
 * own, in the protocol of Postfix' SMTPD_POLICY_README: lines `name=value` and an empty line there,
 * `action=OK` and an empty line back. OK marks the SMTP connection as authenticated, so that it may send
 * to any recipient; every other action takes the mark away. Then the server's own rule decides at RCPT
 * (smtp-relay-range, local-domains). The question comes at MAIL, because no plugin is asked about a
 * recipient that this rule refuses. An answer counts until the connection names another sender; without
 * one in POLICY_SECONDS (2; keep it below plugin-timeout) nothing is marked, and the log says so.
 *
 * The pattern to copy: the hook starts its work and returns true; callbacks do what can be done without
 * waiting; every way out leads through finish(), which hands back exactly once.
 */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include <mailerq.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An SMTP connection, from its first question to its close hook. All its hooks and callbacks run on one
 * thread, and no other connection sees it: nothing here needs a lock. */
struct client {
    MQ_Context *context; /* of the hook that holds the step: the one to hand back with */
    MQ_SmtpConnection *connection;
    MQ_IOWatcher *watcher;
    MQ_Timer *timer;
    int fd;
    bool known, granted; /* is there an answer for `sender`, and was it yes? */
    char sender[320], request[512], answer[256];
    size_t request_size, sent, received;
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static struct sockaddr_in service;
static float patience;

MQ_EXPORT int mq_version(void)
{
    return MQ_API_VERSION;
}

MQ_EXPORT void mq_initialize(void)
{
    const char *text = getenv("POLICY_ADDRESS"), *seconds = getenv("POLICY_SECONDS");
    char host[INET_ADDRSTRLEN], rest;
    unsigned port;

    patience = seconds != NULL ? strtof(seconds, NULL) : 2;
    if (text == NULL || sscanf(text, "%15[0-9.]:%5u%c", host, &port, &rest) != 2 || port == 0 || port > 65535 ||
        inet_pton(AF_INET, host, &service.sin_addr) != 1) {
        MQ_log(MQ_CRIT, "policy: POLICY_ADDRESS is not like 127.0.0.1:10031; nobody is asked, nothing is marked");
        return;
    }
    service.sin_port = htons((unsigned short)port);
    service.sin_family = AF_INET; /* AF_UNSPEC, which is 0, says that there is no service */
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

/* The one way out of a question: `problem` says why there is no answer, or is NULL. */
static void finish(struct client *client, const char *problem)
{
    char line[640];

    release(client);
    if (problem != NULL)
        snprintf(line, sizeof line, "policy: no answer about <%s> (%s); going on without", client->sender, problem);
    else {
        const char *action = client->answer + strlen("action=");
        bool granted = strncmp(action, "OK", 2) == 0 && (action[2] == '\n' || action[2] == ' ');
        MQ_SetSmtpAuthenticated(client->connection, granted);
        client->granted = granted, client->known = true;
        snprintf(line, sizeof line, "policy: <%s> %s", client->sender, granted ? "may send" : "may not send");
    }
    MQ_log(problem != NULL ? MQ_WARN : MQ_INFO, line);
    MQ_Continue(client->context); /* last: from here on the step is not ours */
}

static void on_timeout(void *data)
{
    struct client *client = data;
    client->timer = NULL; /* it has fired, and with that it is released */
    finish(client, "timeout");
}

/* Part of the answer is here, or the end of the stream, or an error. */
static void on_readable(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct client *client = data;
    ssize_t count = recv(fd, client->answer + client->received, sizeof client->answer - 1 - client->received, 0);

    (void)watcher, (void)events;
    if (count < 0) {
        if (errno != EAGAIN && errno != EINTR) /* these two: readiness was a hint, it comes again */
            finish(client, strerror(errno));
        return;
    }
    client->received += (size_t)count;
    client->answer[client->received] = '\0';
    if (strstr(client->answer, "\n\n") != NULL)
        finish(client, strncmp(client->answer, "action=", 7) == 0 ? NULL : "not an action");
    else if (count == 0 || client->received == sizeof client->answer - 1)
        finish(client, count == 0 ? "the service hung up" : "the answer is too long");
}

/* Connected, or not; then as much of the request as the socket takes. */
static void on_writable(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct client *client = data;
    ssize_t count = send(fd, client->request + client->sent, client->request_size - client->sent, MSG_NOSIGNAL);

    (void)events;
    if (count < 0) { /* a connect that failed shows here, too */
        if (errno != EAGAIN && errno != EINTR)
            finish(client, strerror(errno));
        return;
    }
    if ((client->sent += (size_t)count) < client->request_size)
        return;
    MQ_IOUnwatch(watcher); /* a watcher's events cannot be changed: take another */
    if ((client->watcher = MQ_IOWatch(client->context, fd, MQ_READ, on_readable, client)) == NULL)
        finish(client, "it cannot be watched");
}

static void ask(struct client *client)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    char address[64] = "unknown";

    if (getpeername(MQ_SmtpFileDescriptor(client->connection), (struct sockaddr *)&peer, &size) == 0)
        getnameinfo((struct sockaddr *)&peer, size, address, sizeof address, NULL, 0, NI_NUMERICHOST);
    client->request_size = (size_t)snprintf(client->request, sizeof client->request, /* bounds above: it fits */
        "request=smtpd_access_policy\nprotocol_state=MAIL\nclient_address=%s\nsender=%s\n\n", address, client->sender);
    client->sent = client->received = 0;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || (connect(client->fd, (struct sockaddr *)&service, sizeof service) && errno != EINPROGRESS)) {
        finish(client, strerror(errno)); /* handing back before the hook has returned true is allowed */
        return;
    }
    client->watcher = MQ_IOWatch(client->context, client->fd, MQ_WRITE, on_writable, client);
    client->timer = MQ_TimerStart(client->context, patience, on_timeout, client);
    if (client->watcher == NULL || client->timer == NULL)
        finish(client, "the event loop has no room");
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *mailfrom, size_t size)
{
    struct client *client = MQ_SmtpData(connection);

    if (service.sin_family == AF_UNSPEC)
        return false;
    if (client == NULL) {
        if ((client = calloc(1, sizeof *client)) == NULL)
            return false;
        client->connection = connection, client->fd = -1;
        MQ_SetSmtpData(connection, client);
    }
    if (client->known && strcmp(client->sender, mailfrom) == 0)
        return false; /* the answer still counts */
    if (client->granted)
        MQ_SetSmtpAuthenticated(connection, false); /* it was for another sender */
    client->known = client->granted = false;
    if (size >= sizeof client->sender || strpbrk(mailfrom, "\r\n") != NULL)
        return false; /* no line of the protocol could carry it */
    memcpy(client->sender, mailfrom, size + 1);
    client->context = context;
    ask(client);
    return true;
}

/* The server may take a held step back when it stops: a question can still be open here. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection)
{
    struct client *client = MQ_SmtpData(connection);

    (void)context;
    if (client != NULL)
        release(client);
    free(client);
    return false;
}
