/*
 * {name}.c - a plugin to begin with.
 *
 * It shows the three things that most plugins do: look at what a client says, let a step wait without
 * holding up anything else, and change a message before it is stored. Replace all of it. mailerq.h beside
 * this file says what every hook and function does; tests/{name}.txt is the dialogue that `make test` plays.
 */
#include "mailerq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A recipient that begins so waits for this long, as it would for the answer of a service. */
#define PATIENT "patient-"
#define WAIT_SECONDS 2.0f

/* What belongs to a step that waits; found by its connection, so that the close hook can free it. */
struct wait {
    MQ_Connection *connection;
    MQ_Timer *timer;
};

/* The only hook that every plugin has. */
MQ_EXPORT int mq_version(void)
{
    return MQ_API_VERSION;
}

/* The time is over. The timer is gone already when this runs. */
static void on_time(void *data)
{
    struct wait *wait = data;
    MQ_Connection *connection = wait->connection;

    MQ_setConnectionData(connection, NULL);
    free(wait);
    MQ_log(MQ_INFO, "{name}: the wait is over");
    MQ_continue(connection); /* hand back, exactly once for each true */
}

/* RCPT TO. Returning true takes control: the step waits, and the worker serves others meanwhile. */
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address)
{
    const char *email = MQ_email(address); /* valid until the step is over */
    struct wait *wait;

    if (email == NULL || strncmp(email, PATIENT, strlen(PATIENT)) != 0)
        return false; /* not interested: the next plugin is asked, then the server goes on */
    wait = malloc(sizeof *wait);
    if (wait == NULL)
        return false;
    wait->connection = connection;
    wait->timer = MQ_startTimer(context, WAIT_SECONDS, on_time, wait);
    if (wait->timer == NULL) {
        free(wait);
        return false;
    }
    MQ_setConnectionData(connection, wait);
    return true;
}

/* Once for each recipient, before anything is stored: puts a field on top. */
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message)
{
    static const char field[] = "X-{Name}: seen\r\n";
    const char *mime;
    size_t size;
    char *text;

    (void)context;
    (void)connection;
    if (MQX_mime == NULL)
        return false; /* MailerQ has only MQ_mime, whose text ends at the first NUL */
    mime = MQX_mime(message, &size);
    if (mime == NULL)
        return false;
    text = malloc(sizeof field + size);
    if (text == NULL)
        return false;
    memcpy(text, field, sizeof field - 1);
    memcpy(text + sizeof field - 1, mime, size);
    MQ_setMime(message, text, sizeof field - 1 + size); /* copied before it returns */
    free(text);
    return false;
}

/* The connection is gone: last sight of it. If the server took a step back meanwhile, one may wait still. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection)
{
    struct wait *wait = MQ_connectionData(connection);

    (void)context;
    if (wait != NULL) {
        MQ_stopTimer(wait->timer);
        free(wait);
    }
    return false;
}
