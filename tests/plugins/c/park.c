/* Parks every connection for PARK_SECONDS when it connects, and again at its MAIL. */
#define MQ_API_VERSION 201
#include <mailerq.h>

#include <stdlib.h>

static float seconds;

static void go_on(void *context) { MQ_Continue(context); }

static bool park(MQ_Context *context) { return MQ_TimerStart(context, seconds, go_on, context) != NULL; }

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT void mq_initialize(void) { seconds = strtof(getenv("PARK_SECONDS"), NULL); }

MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_SmtpConnection *connection) {
    MQ_SetSmtpData(connection, context);
    return park(context);
}

MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_SmtpConnection *connection, const char *mailfrom,
                                   size_t size) {
    (void)connection, (void)mailfrom;
    /* Those who are at work already have a name of one letter. */
    return size > 20 && park(context);
}
