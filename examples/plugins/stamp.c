/*
 * stamp.c - puts a header field on top of every message that comes in.
 *
 * mq_smtp_in_message runs once per recipient, before anything is stored. What MQ_setMime sets here is
 * what the queue keeps, and so what every later attempt sends. (For a text that is made anew at each
 * attempt and never stored, see mime.cpp.)
 */
#include <mailerq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

MQ_EXPORT int mq_version(void)
{
    return MQ_API_VERSION;
}

/*
 * MQ_mime gives a C string, and a message may contain NUL bytes: its size is known only here, when the
 * whole message came in. All its recipients' hooks are called before this connection brings another
 * message, so the connection's pointer can carry the finding. It points to nothing that must be freed,
 * or there would have to be an mq_smtp_in_close.
 */
static char whole;

MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_Connection *connection, const char *mime, size_t size)
{
    (void)context;
    MQ_setConnectionData(connection, strlen(mime) == size ? &whole : NULL);
    return false; /* not interested: the next plugin, then the host, goes on */
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message)
{
    const char *recipient = MQ_recipient(message);
    const char *mime = MQ_mime(message);
    size_t size, length;
    char *stamped;
    int field;

    (void)context;
    /* An example should not cut a message short: one with NUL bytes is left as it is. */
    if (mime == NULL || recipient == NULL || MQ_connectionData(connection) == NULL)
        return false;
    size = strlen(mime);
    length = size + strlen(recipient) + 64;
    stamped = malloc(length);
    if (stamped == NULL) {
        MQ_log(MQ_WARN, "stamp: no memory; the message goes on without its field");
        return false;
    }
    field = snprintf(stamped, length, "X-Rohrpost-Example: stamp.c saw this mail for %s\r\n", recipient);
    memcpy(stamped + field, mime, size);
    MQ_setMime(message, stamped, (size_t)field + size); /* copied before it returns, */
    free(stamped);                                      /* so it is still ours to free */
    return false;
}
