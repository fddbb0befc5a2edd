/* What a probe has for outgoing connections beside mq_smtp_out_data: the other steps, and the words that
 * decide what becomes of a message. Included by probe.c where PROBE_OUTWARD names it, because exporting
 * these hooks changes how mail goes out.
 *
 * `bounce`, `bounce-as:CODE:STATUS:TEXT`, `retry-in:SECONDS`, `route:HOST:PORT`, `state` and `host` say
 * what the host answered. */
static int seen(const char *hook, const char *argument, struct at at);

static int outward(const char *word, char *value, struct at *at) {
    if (!strcmp(word, "bounce")) say("bounce %d", MQX_bounce(at->message, 0, NULL, NULL));
    else if (!strcmp(word, "bounce-as")) {
        char *status = strchr(value, ':'), *text;
        *status++ = '\0';
        text = strchr(status, ':');
        *text++ = '\0';
        decode(text);
        say("bounce-as %d", MQX_bounce(at->message, atoi(value), *status ? status : NULL, *text ? text : NULL));
    }
    else if (!strcmp(word, "retry-in")) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        say("retry-in %d", MQX_retryAt(at->message, (double)now.tv_sec + strtod(value, NULL)));
    }
    else if (!strcmp(word, "route")) {
        char *port = strrchr(value, ':');
        *port++ = '\0';
        say("route %d", MQX_route(at->message, value, atoi(port)));
    }
    else if (!strcmp(word, "host")) {
        size_t size = 99;
        const char *host = MQX_host(at->connection, &size);
        say("host %s/%zu", or_null(host), size);
    }
    else if (!strcmp(word, "state")) say("state %s", or_null(MQX_state(at->message)));
    else return -1;
    return 0;
}

MQ_EXPORT bool mqx_smtp_out_connect(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {.context = context, .connection = connection};
    return seen("out-connect", "", at);
}

MQ_EXPORT bool mqx_smtp_out_secure(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {.context = context, .connection = connection};
    return seen("out-secure", "", at);
}

MQ_EXPORT bool mqx_smtp_out_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    struct at at = {.context = context, .connection = connection, .message = message};
    return seen("out-message", or_null(MQ_Recipient(message)), at);
}

/* In G1 a function of that name means nothing. */
MQ_EXPORT bool mq_smtp_out_sent(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    struct at at = {.context = context, .connection = connection, .message = message};
    return seen("out-sent", or_null(MQ_Recipient(message)), at);
}

MQ_EXPORT bool mqx_smtp_out_result(MQ_Context *context, MQ_Connection *connection, MQ_Message *message, int code,
                                   const char *text, size_t size) {
    struct at at = {.context = context, .connection = connection, .message = message};
    say("result %d %s/%zu,%d", code, text, size, text[size]);
    return seen("out-result", or_null(MQ_Recipient(message)), at);
}

MQ_EXPORT bool mqx_smtp_out_close(MQ_Context *context, MQ_Connection *connection) {
    struct at at = {.context = context, .connection = connection};
    return seen("out-close", "", at);
}
