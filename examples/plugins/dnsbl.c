/*
 * dnsbl.c - refuses clients that stand on lists in the DNS (RFC 5782), with c-ares, and never waits for it.
 *
 * When a client connects, each list of DNSBL_ZONES, such as `zen.example,bl.example` (4 at most), is asked about
 * its address; the banner does not wait for that. A recipient waits for what is still open. A client that stands
 * on one of them hears 550 at each RCPT TO, and why; one that has logged in does not. A recipient waits for
 * DNSBL_SECONDS (2) at most, however many name servers there are to be tried; then mail passes.
 *
 * An answer in 127.0.0.0/8 says that the address is listed, but one in 127.255.255.0/24 says that the list does
 * not want to be asked like this, and any other that whoever owns the domain now runs no list: neither may
 * cost mail. The name servers are the system's, or those of DNSBL_SERVERS, such as `127.0.0.1:5353`.
 *
 * A host without MQX_reject cannot refuse at this step; then the log says what would have been refused.
 *
 * The pattern to copy: a library with sockets and timeouts of its own is joined to the worker by two
 * functions: on_socket() watches what it asks for, rearm() starts one timer for its next timeout.
 * What a question needs may outlive its client: it counts the questions that are open, and goes with the last.
 *
 * (For plain look-ups MQX_resolve is enough: the server's own resolver, with its cache.)
 */
#define _GNU_SOURCE /* struct timeval */
#include <mailerq.h>

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { ZONES = 4, ZONE = 128, SOCKETS = 64, QUESTIONS = 4000, NAME = 80 + ZONE, ADDRESSES = 8, TRIES = 2 };

/* A client, from its connect hook to its close hook, and until its last question is answered. */
struct client {
    struct worker *worker;
    MQ_Connection *connection; /* NULL after the close hook */
    unsigned open;             /* questions without an answer */
    bool holds;                /* a recipient waits */
    MQ_Timer *timer;           /* for so long at most */
    bool late;                 /* one has waited for so long: no other does */
    int listed;                /* the number of a zone, or -1 */
    char address[INET6_ADDRSTRLEN];
};

/* One question. c-ares holds it until it calls back, which it does exactly once. */
struct question { struct client *client; int zone; };

/* What one worker thread has. Only that thread touches it: nothing here needs a lock. */
struct worker {
    MQ_Context *context;
    ares_channel channel;
    MQ_Timer *timer;
    unsigned open;
    struct { MQ_IOWatcher *watcher; ares_socket_t fd; int events; } sockets[SOCKETS];
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static char zones[ZONES][ZONE];
static int zone_count;
static float patience;
static const char *servers;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *text = getenv("DNSBL_ZONES"), *seconds = getenv("DNSBL_SECONDS");
    int status = ares_library_init(ARES_LIB_INIT_ALL);
    patience = seconds != NULL ? strtof(seconds, NULL) : 2;
    servers = getenv("DNSBL_SERVERS");
    for (; status == ARES_SUCCESS && text != NULL && zone_count < ZONES; zone_count++) {
        size_t size = strcspn(text, ",");
        if (size == 0 || size >= ZONE)
            break;
        memcpy(zones[zone_count], text, size);
        text += size, text += *text == ',';
    }
    if (zone_count == 0 || patience <= 0)
        MQ_log(MQ_CRIT, "dnsbl: DNSBL_ZONES is not like zen.example,bl.example; nobody is asked"), zone_count = 0;
}

/* ---- c-ares on the worker's loop ---- */

static void rearm(struct worker *worker);

static void on_ready(MQ_IOWatcher *watcher, int fd, int events, void *data)
{
    struct worker *worker = data;
    (void)watcher;
    ares_process_fd(worker->channel, events & MQ_READ ? fd : ARES_SOCKET_BAD, events & MQ_WRITE ? fd : ARES_SOCKET_BAD);
    rearm(worker);
}

/* c-ares says what it waits for on a socket; nothing means that it is about to close it. */
static void on_socket(void *data, ares_socket_t fd, int readable, int writable)
{
    struct worker *worker = data;
    int events = (readable ? MQ_READ : 0) | (writable ? MQ_WRITE : 0), i = 0, free_place = -1;
    for (; i < SOCKETS && !(worker->sockets[i].watcher != NULL && worker->sockets[i].fd == fd); i++)
        if (worker->sockets[i].watcher == NULL)
            free_place = i;
    if (i < SOCKETS) {
        if (events == worker->sockets[i].events)
            return;
        worker->sockets[i].events = events;
        if (events != 0 && MQX_watchMask != NULL && MQX_watchMask(worker->sockets[i].watcher, events))
            return;
        MQ_ioUnwatch(worker->sockets[i].watcher); /* before the close */
        worker->sockets[i].watcher = NULL;
        free_place = i;
    }
    if (events != 0 && free_place >= 0) {
        worker->sockets[free_place].watcher = MQ_ioWatch(worker->context, fd, events, on_ready, worker);
        worker->sockets[free_place].fd = fd, worker->sockets[free_place].events = events;
    } /* else no answer comes from there, and the question times out */
}

static void on_timer(void *data)
{
    struct worker *worker = data;
    worker->timer = NULL; /* it has fired, and with that it is released */
    ares_process_fd(worker->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    rearm(worker);
}

/* One timer for whatever c-ares waits for next. To be called whenever it has worked. */
static void rearm(struct worker *worker)
{
    struct timeval buffer, *next = ares_timeout(worker->channel, NULL, &buffer);
    float seconds = next != NULL ? (float)next->tv_sec + (float)next->tv_usec / 1e6f : 0;
    if (next == NULL && worker->timer != NULL)
        MQ_stopTimer(worker->timer), worker->timer = NULL;
    else if (next != NULL && worker->timer != NULL)
        MQ_resetTimer(worker->timer, seconds);
    else if (next != NULL)
        worker->timer = MQ_startTimer(worker->context, seconds, on_timer, worker);
}

/* ---- The lists ---- */

/* The last answer, or the first that counts, lets a recipient go on that waits. */
static void release(struct client *client)
{
    if (client->holds && client->connection != NULL && (client->open == 0 || client->listed >= 0 || client->late)) {
        MQ_Connection *connection = client->connection;
        client->holds = false;
        if (client->timer != NULL)
            MQ_stopTimer(client->timer), client->timer = NULL;
        if (client->listed >= 0 && MQX_reject != NULL) {
            char text[2 * ZONE + INET6_ADDRSTRLEN];
            snprintf(text, sizeof text, "%s is listed at %s", client->address, zones[client->listed]);
            MQX_reject(connection, 550, "5.7.1", text);
        }
        MQ_continue(connection); /* last: from here on the step is not ours */
    }
    if (client->open == 0 && client->connection == NULL)
        free(client);
}

/* c-ares may still try the next name server: what it hears counts for later recipients. */
static void on_patience(void *data)
{
    struct client *client = data;
    char line[INET6_ADDRSTRLEN + 64];
    client->timer = NULL; /* it has fired, and with that it is released */
    client->late = true;
    snprintf(line, sizeof line, "dnsbl: no answer about %s in time, going on without", client->address);
    MQ_log(MQ_WARN, line);
    release(client);
}

/* RFC 5782 2.1, 2.3; see the top for what else may come. */
static bool says_listed(const unsigned char *reply, int size)
{
    struct ares_addrttl found[ADDRESSES];
    int count = ADDRESSES;
    bool is_listed = false;
    if (ares_parse_a_reply(reply, size, NULL, found, &count) != ARES_SUCCESS)
        return false;
    for (int i = 0; i < count; i++) {
        unsigned long address = ntohl(found[i].ipaddr.s_addr);
        is_listed |= address >> 24 == 127 && address >> 8 != 0x7fffff;
    }
    return is_listed;
}

static void on_answer(void *data, int status, int timeouts, unsigned char *reply, int size)
{
    struct question *question = data;
    struct client *client = question->client;
    char line[ZONE + INET6_ADDRSTRLEN + 128];
    (void)timeouts;
    if (status == ARES_SUCCESS && client->listed < 0 && says_listed(reply, size)) {
        client->listed = question->zone;
        snprintf(line, sizeof line, "dnsbl: %s is listed at %s", client->address, zones[question->zone]);
        MQ_log(MQ_INFO, line);
    } else if (status != ARES_SUCCESS && status != ARES_ENOTFOUND && status != ARES_ENODATA && status != ARES_EDESTRUCTION) {
        snprintf(line, sizeof line, "dnsbl: no answer about %s from %s: %s", client->address, zones[question->zone],
                 ares_strerror(status));
        MQ_log(MQ_WARN, line);
    }
    client->open--, client->worker->open--;
    free(question);
    release(client);
}

/* 192.0.2.1 becomes 1.2.0.192.ZONE, an address of IPv6 its 32 nibbles, the last first (RFC 5782 2.1, 2.4). */
static bool name_of(char *name, const char *address, const char *zone)
{
    unsigned char bytes[16];
    if (inet_pton(AF_INET, address, bytes) == 1)
        name += sprintf(name, "%u.%u.%u.%u.", bytes[3], bytes[2], bytes[1], bytes[0]);
    else if (inet_pton(AF_INET6, address, bytes) == 1)
        for (int i = 15; i >= 0; i--)
            name += sprintf(name, "%x.%x.", bytes[i] & 15u, bytes[i] >> 4);
    else
        return false;
    strcpy(name, zone); /* NAME has room for both */
    return true;
}

/* The client's own address, also behind a proxy where the host can tell it. */
static bool address_of(char *text, MQ_Connection *connection)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (MQX_peer != NULL) {
        const char *known = MQX_peer(connection, NULL);
        return known != NULL && snprintf(text, INET6_ADDRSTRLEN, "%s", known) < INET6_ADDRSTRLEN;
    }
    return getpeername(MQ_fileDescriptor(connection), (struct sockaddr *)&peer, &size) == 0 &&
           inet_ntop(peer.ss_family, peer.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&peer)->sin_addr
                                                                : (void *)&((struct sockaddr_in6 *)&peer)->sin6_addr,
                     text, INET6_ADDRSTRLEN) != NULL;
}

MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection)
{
    struct worker *worker = MQ_contextData(context);
    struct client *client;
    char name[NAME];
    if (worker == NULL || zone_count == 0 || worker->open + (unsigned)zone_count > QUESTIONS ||
        (client = calloc(1, sizeof *client)) == NULL)
        return false;
    if (!address_of(client->address, connection)) {
        free(client);
        return false;
    }
    client->worker = worker, client->connection = connection, client->listed = -1;
    MQ_setConnectionData(connection, client);
    client->open = 1; /* ours: c-ares may answer within its own call, and the client must not go with that */
    for (int zone = 0; zone < zone_count && name_of(name, client->address, zones[zone]); zone++) {
        struct question *question = malloc(sizeof *question);
        if (question == NULL)
            break;
        question->client = client, question->zone = zone;
        client->open++, worker->open++;
        ares_query(worker->channel, name, ns_c_in, ns_t_a, on_answer, question);
    }
    client->open--;
    rearm(worker);
    return false;
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address)
{
    struct client *client = MQ_connectionData(connection);
    (void)address;
    if (client == NULL || MQ_authenticated(connection) || ((client->open == 0 || client->late) && client->listed < 0))
        return false;
    client->holds = true;
    if (client->open > 0 && client->listed < 0 && client->timer == NULL &&
        (client->timer = MQ_startTimer(context, patience, on_patience, client)) == NULL)
        client->late = true;
    release(client); /* hands back now if all is known, which is allowed before the hook has returned */
    return true;
}

/* Its questions go on, and find nobody. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection)
{
    struct client *client = MQ_connectionData(connection);
    (void)context;
    if (client != NULL) {
        if (client->holds)
            MQ_continue(connection); /* the server has taken the step back, and waits for this */
        if (client->timer != NULL)
            MQ_stopTimer(client->timer);
        client->connection = NULL, client->holds = false, client->timer = NULL;
        release(client);
    }
    return false;
}

MQ_EXPORT void mq_context_initialize(MQ_Context *context)
{
    struct worker *worker = calloc(1, sizeof *worker);
    struct ares_options options;
    int status;
    if (worker == NULL)
        return;
    worker->context = context;
    memset(&options, 0, sizeof options);
    /* The second try waits twice as long as the first. */
    options.timeout = (int)(patience * 1000 / 3) + 1, options.tries = TRIES;
    options.sock_state_cb = on_socket, options.sock_state_cb_data = worker;
    status = ares_init_options(&worker->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (status == ARES_SUCCESS && servers != NULL && (status = ares_set_servers_ports_csv(worker->channel, servers)) != ARES_SUCCESS)
        ares_destroy(worker->channel);
    if (status != ARES_SUCCESS) {
        MQ_log(MQ_CRIT, "dnsbl: c-ares cannot be set up (is DNSBL_SERVERS like 127.0.0.1:5353?); nobody is asked");
        free(worker);
        return;
    }
    MQ_setContextData(context, worker);
}

MQ_EXPORT void mq_context_cleanup(MQ_Context *context)
{
    struct worker *worker = MQ_contextData(context);
    if (worker == NULL)
        return;
    ares_destroy(worker->channel); /* calls on_answer for all that are open, and on_socket for its sockets */
    if (worker->timer != NULL)
        MQ_stopTimer(worker->timer);
    free(worker);
}

MQ_EXPORT void mq_cleanup(void) { ares_library_cleanup(); }
