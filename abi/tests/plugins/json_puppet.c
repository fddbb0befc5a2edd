/* A plugin that does with the JSON of a message what the test says, for either library: MQ_API_VERSION
 * decides. A script is lines of `word` or `word NAME VALUE`; mq_smtp_in_data runs none of it, but keeps it
 * for the next message. What it sees, it logs with MQ_INFO. */
#include <mailerq.h>

#if MQ_API_VERSION >= 500
#  include <libfastjson/json.h>
#  define MESSAGE_JSON MQ_json
#else
#  include <json-c/json.h>
#  if MQ_API_VERSION == 401
#    define MESSAGE_JSON MQ_json
#  else
#    define MESSAGE_JSON MQ_Json
#  endif
#endif
#if MQ_API_VERSION < 400
#  define MQ_envelope  MQ_Envelope
#  define MQ_recipient MQ_Recipient
#  define MQ_mime      MQ_Mime
#  define MQ_setEnvelope  MQ_SetEnvelope
#  define MQ_setRecipient MQ_SetRecipient
#  define MQ_setMime      MQ_SetMime
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char script[65536];
static struct json_object *kept; /* from `keep` */
static MQ_Message *last;
static const char *lent; /* from `keep-mime` */

static void say(const char *name, const char *value) {
    char line[4096];
    snprintf(line, sizeof line, "%s=%s", name, value ? value : "NULL");
    MQ_log(MQ_INFO, line);
}

static struct json_object *member(struct json_object *object, const char *name) {
    struct json_object *value = NULL;
    json_object_object_get_ex(object, name, &value);
    return value;
}

static const char *text_of(struct json_object *object, const char *name) {
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(object, name, &value)) return "(none)";
    return json_object_to_json_string_ext(value, 0);
}

/* Is it every octet, as many times as it is long? */
static void check_octets(const char *name, const char *bytes, size_t size) {
    char line[64];
    size_t good = 0;
    for (size_t i = 0; i < size; i++) good += (unsigned char)bytes[i] == (unsigned char)i;
    snprintf(line, sizeof line, "%zu of %zu", good, size);
    say(name, line);
}

static void reverse(struct json_object *object) {
    struct json_object *mime = member(object, "mime");
    int size = json_object_get_string_len(mime);
    char *bytes = malloc((size_t)size);
    for (int i = 0; i < size; i++) bytes[i] = json_object_get_string(mime)[size - 1 - i];
    json_object_object_add(object, "mime", json_object_new_string_len(bytes, size));
    free(bytes);
}

#if MQ_API_VERSION < 500
/* What runs inside the library: when the value is written as text, and when it goes. */
static int on_text(struct json_object *value, struct printbuf *buffer, int level, int flags) {
    (void)value, (void)level, (void)flags;
    say("on-text", MESSAGE_JSON(last) ? "yes" : NULL);
    return printbuf_memappend(buffer, "\"trap\"", 6);
}

static void on_delete(struct json_object *value, void *data) {
    (void)value;
    say("on-delete", MESSAGE_JSON(last) ? data : "gone");
}

static void trap(struct json_object *object, const char *name, MQ_Message *message) {
    struct json_object *value = json_object_new_object();
    last = message;
    json_object_set_serializer(value, on_text, "shown", on_delete);
    json_object_object_add(object, name, value);
}
#endif

/* An array in an array, and so on: as many levels as that. */
static struct json_object *nested(long levels) {
    struct json_object *inner = json_object_new_array();
    while (--levels > 0) {
        struct json_object *outer = json_object_new_array();
        json_object_array_add(outer, inner);
        inner = outer;
    }
    return inner;
}

/* A few objects, of which each holds the one before twice: 2^levels to whoever writes it as text. */
static struct json_object *doubled(long levels) {
    struct json_object *inner = json_object_new_string("x");
    while (levels-- > 0) {
        struct json_object *outer = json_object_new_object();
        json_object_object_add(outer, "a", json_object_get(inner));
        json_object_object_add(outer, "b", inner);
        inner = outer;
    }
    return inner;
}

static void run(MQ_Message *message, const char *word, const char *name, const char *value) {
    struct json_object *object = MESSAGE_JSON(message);
    if (!strcmp(word, "asked")) say("asked", object ? "yes" : NULL);
    else if (!strcmp(word, "last")) say("last", MESSAGE_JSON(last) ? "yes" : NULL);
    else if (!strcmp(word, "release"))
        say("release", json_object_put(kept) ? "it was the last" : "there are others"), kept = NULL;
    else if (!object) say(word, NULL);
    else if (!strcmp(word, "get")) say(name, text_of(object, name));
    else if (!strcmp(word, "put")) json_object_object_add(object, name, json_tokener_parse(value));
    else if (!strcmp(word, "string")) json_object_object_add(object, name, json_object_new_string(value));
    else if (!strcmp(word, "nest")) json_object_object_add(object, name, nested(atol(value)));
    else if (!strcmp(word, "double")) json_object_object_add(object, name, doubled(atol(value)));
    else if (!strcmp(word, "delete")) json_object_object_del(object, name);
    else if (!strcmp(word, "keep")) kept = json_object_get(object), last = message;
    else if (!strcmp(word, "kept")) say("kept", kept == object ? "the same" : "another");
    else if (!strcmp(word, "of-kept")) say(name, text_of(kept, name));
    else if (!strcmp(word, "octets"))
        check_octets("octets", json_object_get_string(member(object, "mime")),
                     (size_t)json_object_get_string_len(member(object, "mime")));
    else if (!strcmp(word, "reverse")) reverse(object);
#if MQ_API_VERSION < 500
    else if (!strcmp(word, "trap")) trap(object, name, message);
#endif
    else if (!strcmp(word, "envelope")) say("envelope", (const char *)MQ_envelope(message));
    else if (!strcmp(word, "recipient")) say("recipient", (const char *)MQ_recipient(message));
    else if (!strcmp(word, "mime")) say("mime", MQ_mime(message));
    else if (!strcmp(word, "keep-mime")) lent = MQ_mime(message);
    else if (!strcmp(word, "kept-mime")) say("kept-mime", lent);
    else if (!strcmp(word, "set-envelope")) MQ_setEnvelope(message, name, name ? strlen(name) : 0);
    else if (!strcmp(word, "set-recipient")) MQ_setRecipient(message, name, name ? strlen(name) : 0);
    else if (!strcmp(word, "set-mime")) MQ_setMime(message, name, name ? strlen(name) : 0);
    else say("unknown", word);
}

static bool run_script(MQ_Message *message) {
    char *at = script;
    while (*at) {
        char *next = at + strcspn(at, "\n");
        if (*next) *next++ = 0;
        char *name = strchr(at, ' ');
        if (name) *name++ = 0;
        char *value = name ? strchr(name, ' ') : NULL;
        if (value) *value++ = 0;
        run(message, at, name, value);
        at = next;
    }
    return false;
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_Connection *connection, const char *mime, size_t size) {
    (void)context, (void)connection, (void)size;
    snprintf(script, sizeof script, "%s", mime);
    return false;
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    (void)context, (void)connection;
    return run_script(message);
}

MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    (void)context, (void)connection;
    return run_script(message);
}
