/*
 * redis_auth.c - looks logins up in Redis, with hiredis and its own adapter for libev, and never waits for it.
 *
 * At each AUTH it asks the Redis at REDIS_AUTH_ADDRESS, such as 127.0.0.1:6379, for the value of the key
 * `user:NAME`, which is the password of NAME. The right one is 235, another 535. Where there is no such key,
 * or no answer in REDIS_AUTH_SECONDS (2; keep it below plugin-timeout), nothing is said about the client: then
 * the users of smtp-auth decide, and where there are none the login fails.
 *
 * Each worker has one connection to Redis, over which many questions go at the same time. It is opened by a
 * login, and when it is lost by the first login a second later: while Redis is down, nobody waits for it. A
 * question that times out with nothing heard since it was asked takes the connection with it: the machine
 * of Redis may be gone without a word.
 *
 * This shows how to look something up, not how to keep passwords: what stands in Redis should be a hash, and
 * hashing takes too long for a hook. Do that on a thread, which comes back with MQX_post.
 *
 * The pattern to copy: a library that brings an adapter for libev is given MQ_ev, once per worker, and is then
 * used as in any other program. What hiredis holds for us (its privdata) lives until hiredis is done with it,
 * which may be long after the login is; hence a login is over in finish(), and freed in on_reply().
 */
#define _GNU_SOURCE /* struct timeval, for hiredis */
#include <mailerq.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <ev.h>
#include <hiredis/hiredis.h>
#include <hiredis/async.h>
#include <hiredis/adapters/libev.h>

enum { NAME = 255, LOGINS = 1000 };
static const float PAUSE_SECONDS = 1; /* after Redis was lost, before it is asked again */

/* A login that waits for its answer. Made by the hook; over in finish(), but hiredis holds it until on_reply. */
struct login {
    struct worker *worker;
    MQ_Connection *connection;
    MQ_Timer *timer;
    char *password; /* wiped and NULL when the login is over */
    size_t size;
    unsigned long number;
    struct login *next, **place; /* in the worker's list of those that are not over */
};

/* What one worker thread has. Only that thread touches it: nothing here needs a lock. */
struct worker {
    MQ_Context *context;
    redisAsyncContext *redis; /* NULL while there is none */
    MQ_Timer *pause;          /* runs while Redis is left alone */
    struct login *logins;
    unsigned long number, count; /* of all logins; of those that wait */
    unsigned long heard;         /* the number of the last login when Redis last said something */
};

/* Written once by mq_initialize, before any worker runs: workers may read it without a lock. */
static char host[INET6_ADDRSTRLEN];
static int port; /* 0: there is no Redis to ask */
static float patience;

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void)
{
    const char *text = getenv("REDIS_AUTH_ADDRESS"), *seconds = getenv("REDIS_AUTH_SECONDS");
    struct in_addr address; /* a name would have to be looked up, and that waits */
    unsigned number;
    char rest;
    patience = seconds != NULL ? strtof(seconds, NULL) : 2;
    if (text != NULL && sscanf(text, "%15[0-9.]:%5u%c", host, &number, &rest) == 2 && number > 0 && number <= 65535 &&
        inet_pton(AF_INET, host, &address) == 1)
        port = (int)number;
    else
        MQ_log(MQ_CRIT, "redis_auth: REDIS_AUTH_ADDRESS is not like 127.0.0.1:6379; nobody is asked");
}

/* A plain memset could be left out by the compiler, as nobody reads the bytes again. */
static void wipe(char *bytes, size_t size)
{
    for (volatile char *byte = bytes; size > 0; size--)
        *byte++ = 0;
}

/* Compares all of it, so that the time tells nothing. */
static bool same(const char *one, const char *other, size_t size)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < size; i++)
        difference |= (unsigned char)(one[i] ^ other[i]);
    return difference == 0;
}

enum answer { NO_ANSWER, YES, NO };

/* The one way out of a login: hands back exactly once. hiredis may hold the login longer. */
static void finish(struct login *login, enum answer answer)
{
    if (login->password == NULL)
        return; /* it is over */
    if (login->timer != NULL)
        MQ_stopTimer(login->timer);
    if ((*login->place = login->next) != NULL)
        login->next->place = login->place;
    login->worker->count--;
    wipe(login->password, login->size);
    free(login->password);
    login->password = NULL, login->timer = NULL;
    if (answer != NO_ANSWER)
        MQ_setAuthenticated(login->connection, answer == YES);
    MQ_continue(login->connection); /* last: from here on the step is not ours */
}

static void on_pause_over(void *data)
{
    struct worker *worker = data;
    worker->pause = NULL; /* it has fired, and with that it is released */
}

/* The connection is gone, or about to go: hiredis frees it, and answers what is still open with NULL. */
static void lose(struct worker *worker, const char *problem)
{
    char line[256];
    snprintf(line, sizeof line, "redis_auth: Redis is lost, %lu logins go without an answer: %s", worker->count, problem);
    MQ_log(MQ_WARN, line);
    worker->redis = NULL;
    if (worker->pause == NULL)
        worker->pause = MQ_startTimer(worker->context, PAUSE_SECONDS, on_pause_over, worker);
}

static void on_connect(const redisAsyncContext *redis, int status)
{
    if (status != REDIS_OK)
        lose(redis->data, redis->errstr);
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    struct worker *worker = redis->data;
    if (worker->redis == redis) /* else it is we who let go of it */
        lose(worker, status == REDIS_OK ? "closed" : redis->errstr);
}

/* For each question exactly once: with a reply, or with NULL when there will be none. */
static void on_reply(redisAsyncContext *redis, void *data, void *privdata)
{
    const redisReply *reply = data;
    struct login *login = privdata;
    (void)redis;
    if (reply != NULL)
        login->worker->heard = login->worker->number;
    if (reply != NULL && reply->type == REDIS_REPLY_STRING && login->password != NULL) {
        bool is_right = reply->len == login->size && same(reply->str, login->password, login->size);
        wipe(reply->str, reply->len);
        finish(login, is_right ? YES : NO);
    } else if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
        char line[256];
        snprintf(line, sizeof line, "redis_auth: a login goes without an answer: %s", reply->str);
        MQ_log(MQ_WARN, line);
    }
    finish(login, NO_ANSWER); /* unless it is over */
    free(login);
}

static void on_timeout(void *data)
{
    struct login *login = data;
    struct worker *worker = login->worker;
    bool is_silent = login->number > worker->heard;
    redisAsyncContext *redis = worker->redis;
    login->timer = NULL; /* it has fired, and with that it is released */
    if (is_silent && redis != NULL) {
        lose(worker, "it is silent");
        redisAsyncFree(redis); /* calls on_reply for all that are open, this one among them */
        return;
    }
    MQ_log(MQ_WARN, "redis_auth: a login goes without an answer: timeout");
    finish(login, NO_ANSWER);
}

/* Whether there is a connection now, which may still be on its way. */
static bool open_redis(struct worker *worker)
{
    redisAsyncContext *redis;
    struct ev_loop *loop;
    if (worker->redis != NULL)
        return true;
    if (worker->pause != NULL || (loop = MQ_ev(worker->context)) == NULL || (redis = redisAsyncConnect(host, port)) == NULL)
        return false;
    redis->data = worker;
    if (redis->err != REDIS_OK || redisLibevAttach(loop, redis) != REDIS_OK) {
        lose(worker, redis->err != REDIS_OK ? redis->errstr : "it cannot be watched");
        redisAsyncFree(redis);
        return false;
    }
    worker->redis = redis;
    redisAsyncSetConnectCallback(redis, on_connect);
    redisAsyncSetDisconnectCallback(redis, on_disconnect);
    return true;
}

static struct login *new_login(struct worker *worker, MQ_Connection *connection, const char *passwd, size_t size)
{
    struct login *login = calloc(1, sizeof *login);
    if (login == NULL)
        return NULL;
    /* The string is gone when the step is over, and its end may be that of the login. */
    login->password = malloc(size);
    login->timer = MQ_startTimer(worker->context, patience, on_timeout, login);
    if (login->password == NULL || login->timer == NULL) {
        if (login->timer != NULL)
            MQ_stopTimer(login->timer);
        free(login->password), free(login);
        return NULL;
    }
    memcpy(login->password, passwd, size);
    login->worker = worker, login->connection = connection, login->size = size;
    login->number = ++worker->number, worker->count++;
    if ((login->next = worker->logins) != NULL)
        login->next->place = &login->next;
    login->place = &worker->logins, worker->logins = login;
    return login;
}

MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection, const char *name, size_t size,
                                       const char *passwd, size_t passwdsize)
{
    struct worker *worker = MQ_contextData(context);
    const char *words[] = { "GET", NULL };
    size_t sizes[] = { 3, 0 };
    struct login *login;
    char key[8 + NAME];
    if (worker == NULL || port == 0 || size > NAME || worker->count >= LOGINS || !open_redis(worker) ||
        (login = new_login(worker, connection, passwd, passwdsize)) == NULL)
        return false;
    /* By their sizes: nothing that a client sends can become another command. */
    words[1] = key, sizes[1] = (size_t)sprintf(key, "user:") + size;
    memcpy(key + 5, name, size);
    if (redisAsyncCommandArgv(worker->redis, on_reply, login, 2, words, sizes) != REDIS_OK) {
        finish(login, NO_ANSWER); /* handing back before the hook has returned is allowed */
        free(login);
    }
    return true;
}

/* The server may take a held step back: a login can still be open here, and its answer must find nothing. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection)
{
    struct worker *worker = MQ_contextData(context);
    struct login *login = worker != NULL ? worker->logins : NULL, *next;
    for (; login != NULL; login = next) {
        next = login->next;
        if (login->connection == connection)
            finish(login, NO_ANSWER);
    }
    return false;
}

MQ_EXPORT void mq_context_initialize(MQ_Context *context)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker != NULL)
        worker->context = context;
    MQ_setContextData(context, worker);
}

MQ_EXPORT void mq_context_cleanup(MQ_Context *context)
{
    struct worker *worker = MQ_contextData(context);
    redisAsyncContext *redis = worker != NULL ? worker->redis : NULL;
    if (redis != NULL) {
        worker->redis = NULL; /* nobody is to be told */
        redisAsyncFree(redis); /* calls on_reply for all that are open */
    }
    if (worker != NULL && worker->pause != NULL)
        MQ_stopTimer(worker->pause);
    free(worker);
}
