/*
 * greylist.c - tells strangers to come back later, or lets them wait in the dialogue.
 *
 * Programs that send to whoever they can rarely try again, and rarely wait; a mail server does both. A recipient
 * that is new from this network and this sender is answered 451 (MQX_defer), and is accepted when the client
 * comes back after GREYLIST_DELAY (60) seconds, within four hours. If GREYLIST_SECONDS is set, or the host has no
 * MQX_defer, the first such recipient of a mail waits for that long (20; keep it below plugin-timeout) instead.
 * If the text comes then, all recipients that were accepted are known for GREYLIST_HOURS (840, which is five
 * weeks), and do not wait. A client that does not come back has left nothing behind for long. Whoever is
 * authenticated never waits.
 *
 * Behind a proxy of smtp-proxy the client is whom the proxy names, if the host has MQX_peer. Plugins that change
 * senders or recipients come after this one, or what it learns is not what it asks about.
 *
 * The pattern to copy: what workers share is behind a lock that is held for a few comparisons and never
 * around a call of the host; the table has a fixed size, and what is not used makes room by itself.
 */
#define _GNU_SOURCE
#define MQ_API_VERSION 201 /* later ones show mq_smtp_in_rcptto what the client may not send to as well */
#include <mailerq.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

enum { ADDRESS = 320, BUCKETS = 1 << 14, PLACES = 8, WINDOW = 4 * 3600 };

/* An SMTP connection, from its first MAIL to its close hook. All its hooks and callbacks run on one
 * thread, and no other connection sees it: nothing here needs a lock. */
struct client {
    MQ_Context *context; /* of the hook that holds the step: the one to hand back with */
    MQ_Timer *timer;
    bool waited; /* this mail has waited */
    char sender[ADDRESS];
};

/* A triplet of network, sender and recipient, as a number that cannot be guessed. */
struct entry { uint64_t key; time_t until, since; }; /* `since` is 0 once it is known, else when it first came */

/* Shared by all workers: behind the lock. 3 MiB, and never more. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry table[BUCKETS][PLACES];

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static uint64_t seed[2];
static float patience; /* to wait in the dialogue; 0 to be told to come back */
static time_t memory, delay;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *seconds = getenv("GREYLIST_SECONDS"), *hours = getenv("GREYLIST_HOURS"), *later = getenv("GREYLIST_DELAY");
    patience = seconds != NULL ? strtof(seconds, NULL) : MQX_defer == NULL ? 20 : 0;
    delay = (time_t)(later != NULL ? strtod(later, NULL) : 60);
    memory = (time_t)((hours != NULL ? strtod(hours, NULL) : 840) * 3600);
    if (getrandom(seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        MQ_log(MQ_WARN, "greylist: no randomness; whoever knows this program can make entries collide");
}

/* FNV-1a with a secret start and end: short texts, and nobody sees the numbers. */
static uint64_t mix(uint64_t sum, const void *bytes, size_t size)
{
    const unsigned char *byte = bytes;
    for (; size > 0; size--)
        sum = (sum ^ *byte++) * UINT64_C(0x100000001b3);
    return (sum ^ 0xff) * UINT64_C(0x100000001b3); /* an end, so that parts cannot move */
}

/* The network of the client: /24 of IPv4, /64 of IPv6, for senders that share their mail among machines. */
static uint64_t mix_network(uint64_t sum, MQ_SmtpConnection *connection)
{
    struct sockaddr_in6 address; /* the larger one */
    socklen_t size = sizeof address;
    struct in_addr v4;
    const char *peer = MQX_peer != NULL ? MQX_peer(connection, NULL) : NULL;
    memset(&address, 0, sizeof address);
    if (peer != NULL && inet_pton(AF_INET, peer, &v4) == 1)
        return mix(sum, &v4, 3);
    if (peer != NULL && inet_pton(AF_INET6, peer, &address.sin6_addr) == 1)
        return mix(sum, &address.sin6_addr, 8);
    if (getpeername(MQ_SmtpFileDescriptor(connection), (struct sockaddr *)&address, &size) != 0)
        return sum;
    if (address.sin6_family == AF_INET)
        return mix(sum, &((struct sockaddr_in *)&address)->sin_addr, 3);
    if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr))
        return mix(sum, address.sin6_addr.s6_addr + 12, 3);
    return mix(sum, &address.sin6_addr, 8);
}

static uint64_t key_of(MQ_SmtpConnection *connection, const char *sender, const char *recipient)
{
    uint64_t sum = mix_network(seed[0], connection);
    sum = mix(sum, sender, strlen(sender));
    sum = mix(sum, recipient, strlen(recipient));
    return mix(sum, &seed[1], sizeof seed[1]) | 1; /* 0 is no entry */
}

/* Whether a key is known; what is used stays known. */
static bool is_known(uint64_t key, time_t now)
{
    struct entry *bucket = table[key >> 8 & (BUCKETS - 1)];
    bool known = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < PLACES && !known; i++)
        if (bucket[i].key == key && bucket[i].until > now && bucket[i].since == 0)
            known = true, bucket[i].until = now + memory;
    pthread_mutex_unlock(&lock);
    return known;
}

/* The place of a key, which need not be its own yet. A full bucket gives up what would be forgotten first. The
 * lock is held. */
static struct entry *place_of(uint64_t key)
{
    struct entry *bucket = table[key >> 8 & (BUCKETS - 1)], *place = bucket;
    for (int i = 0; i < PLACES; i++) {
        if (bucket[i].key == key)
            return &bucket[i];
        if (bucket[i].until < place->until)
            place = &bucket[i];
    }
    return place;
}

/* Makes a key known. */
static void learn(uint64_t key, time_t now)
{
    pthread_mutex_lock(&lock);
    *place_of(key) = (struct entry){key, now + memory, 0};
    pthread_mutex_unlock(&lock);
}

/* Whether a key that is not known has come back, and late enough. If it has not, it is remembered for that. */
static bool came_back(uint64_t key, time_t now)
{
    bool late_enough;
    pthread_mutex_lock(&lock);
    struct entry *place = place_of(key);
    if (place->key != key || place->until <= now || place->since == 0)
        *place = (struct entry){key, now + WINDOW, now};
    late_enough = now - place->since >= delay;
    pthread_mutex_unlock(&lock);
    return late_enough;
}

static void on_time(void *data)
{
    struct client *client = data;
    client->timer = NULL; /* it has fired, and with that it is released */
    MQ_Continue(client->context);
}

/* A mail begins. Kept here, for the hook of a recipient is not told the sender. */
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *mailfrom, size_t size)
{
    struct client *client = MQ_SmtpData(connection);
    (void)context, (void)size;
    if (client == NULL) {
        if ((client = calloc(1, sizeof *client)) == NULL)
            return false;
        MQ_SetSmtpData(connection, client);
    }
    client->waited = false;
    snprintf(client->sender, ADDRESS, "%s", mailfrom);
    return false;
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_SmtpConnection *connection, const char *rcptto, size_t size)
{
    struct client *client = MQ_SmtpData(connection);
    char line[2 * ADDRESS + 64];
    (void)size;
    if (client == NULL || client->timer != NULL || MQ_SmtpAuthenticated(connection))
        return false;
    if (client->waited || is_known(key_of(connection, client->sender, rcptto), time(NULL)))
        return false;
    if (patience <= 0 && MQX_defer != NULL) {
        if (!came_back(key_of(connection, client->sender, rcptto), time(NULL)))
            MQX_defer(connection, 451, "4.7.1", "You are new here; come back in some minutes");
        return false; /* with an answer or without, the step is not held */
    }
    client->waited = true, client->context = context;
    if ((client->timer = MQ_TimerStart(context, patience, on_time, client)) == NULL)
        return false; /* no room for a timer is no reason to lose mail */
    snprintf(line, sizeof line, "greylist: <%s> to <%.*s> waits", client->sender, ADDRESS, rcptto);
    MQ_log(MQ_INFO, line);
    return true;
}

/* The text came: the client has waited, and is one that does. Called for recipients that were accepted, not
 * for one whose wait was taken back. */
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_SmtpConnection *connection, MQ_Message *message)
{
    const char *sender = MQ_Envelope(message), *recipient = MQ_Recipient(message);
    (void)context;
    if (recipient != NULL && !MQ_SmtpAuthenticated(connection))
        learn(key_of(connection, sender != NULL ? sender : "", recipient), time(NULL));
    return false;
}

/* The server may take a held step back: the timer can still run here. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_SmtpConnection *connection)
{
    struct client *client = MQ_SmtpData(connection);
    (void)context;
    if (client != NULL && client->timer != NULL)
        MQ_TimerStop(client->timer);
    free(client);
    return false;
}
