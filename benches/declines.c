/* A plugin that exports every hook of a message and is interested in none. */
#include <mailerq.h>

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

#define DECLINE(name, ...) \
    MQ_EXPORT bool name(MQ_Context *context, MQ_Connection *connection, ##__VA_ARGS__) { return false; }

#pragma GCC diagnostic ignored "-Wunused-parameter"
DECLINE(mq_smtp_in_connect)
DECLINE(mq_smtp_in_secure)
DECLINE(mq_smtp_in_mailfrom, MQ_Address *envelope)
DECLINE(mq_smtp_in_rcptto, MQ_Address *address)
DECLINE(mq_smtp_in_data, const char *mime, size_t size)
DECLINE(mq_smtp_in_message, MQ_Message *message)
DECLINE(mq_smtp_in_close)
DECLINE(mq_smtp_out_data, MQ_Message *message)
DECLINE(mq_smtp_out_sent, MQ_Message *message)
