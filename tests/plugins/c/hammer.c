/* Two plugins in one source. With HAMMER, the sender is held, and four threads hand every step back that
 * there ever was, without end. Without, the recipient and the mail are held, and handed back once each,
 * from a thread of their own: if that one gets lost, the client waits for ever. */
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS 4
#define CONTEXTS 256

static _Atomic(MQ_Context *) contexts[CONTEXTS];
static atomic_uint shown;
static atomic_bool ended;
static pthread_t threads[THREADS];

static void *hammer(void *data) {
    (void)data;
    while (!atomic_load(&ended))
        for (int n = 0; n < CONTEXTS; n++) {
            MQ_Context *context = atomic_load(&contexts[n]);
            if (context) MQ_Continue(context);
        }
    return NULL;
}

static void *once(void *context) {
    MQ_Continue(context);
    return NULL;
}

static bool hold(MQ_Context *context) {
    pthread_t thread;
    if (HAMMER) {
        atomic_store(&contexts[atomic_fetch_add(&shown, 1) % CONTEXTS], context);
        return true;
    }
    if (pthread_create(&thread, NULL, once, context) || pthread_detach(thread)) abort();
    return true;
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void) {
    for (int n = 0; HAMMER && n < THREADS; n++)
        if (pthread_create(&threads[n], NULL, hammer, NULL)) abort();
}

MQ_EXPORT void mq_cleanup(void) {
    atomic_store(&ended, true);
    for (int n = 0; HAMMER && n < THREADS; n++) pthread_join(threads[n], NULL);
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *from, size_t size) {
    (void)connection, (void)from, (void)size;
    return HAMMER && hold(context);
}

MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_SmtpConnection *connection, const char *to, size_t size) {
    (void)connection, (void)to, (void)size;
    return !HAMMER && hold(context);
}

MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_SmtpConnection *connection, const char *mime, size_t size) {
    (void)connection, (void)mime, (void)size;
    return !HAMMER && hold(context);
}
