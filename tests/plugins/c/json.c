/* Changes the JSON of messages as their recipients say: words before the @, joined by '+'. MQ_API_VERSION
 * decides for which library it is compiled, PLUGIN_NAME is what it leaves. */
#include <mailerq.h>

#if MQ_API_VERSION >= 500
#  include <libfastjson/json.h>
#  define MESSAGE_JSON MQ_json
#else
#  include <json-c/json.h>
#  define MESSAGE_JSON MQ_Json
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct json_object *member(struct json_object *object, const char *name) {
    struct json_object *value = NULL;
    json_object_object_get_ex(object, name, &value);
    return value;
}

static void put(struct json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, json_tokener_parse(text));
}

static void stamp(struct json_object *object) {
    static const char field[] = "X-Json: " PLUGIN_NAME "\r\n";
    struct json_object *mime = member(object, "mime");
    size_t size = (size_t)json_object_get_string_len(mime);
    char *text = malloc(sizeof field - 1 + size);
    memcpy(text, field, sizeof field - 1);
    memcpy(text + sizeof field - 1, json_object_get_string(mime), size);
    json_object_object_add(object, "mime", json_object_new_string_len(text, (int)(sizeof field - 1 + size)));
    free(text);
}

static void change(MQ_Message *message, struct json_object *object, const char *word) {
    if (!strcmp(word, "later")) put(object, "nextattempt", "{\"time\":\"2099-01-01 00:00:00\"}");
    else if (!strcmp(word, "mine")) put(object, "queues", "{\"results\":\"mine\"}");
    else if (!strcmp(word, "keep")) put(object, "keepmime", "true");
    else if (!strcmp(word, "twice")) put(object, "maxattempts", "2"), put(object, "retries", "[1]");
    else if (!strcmp(word, "broken")) put(object, "tags", "5");
    else if (!strcmp(word, "nobody")) json_object_object_del(object, "recipient");
    else if (!strcmp(word, "stamp")) stamp(object);
    else if (!strcmp(word, "note")) MQX_setNote(message, "from", PLUGIN_NAME "\0x", sizeof PLUGIN_NAME + 1);
    else if (!strcmp(word, "full")) {
        static const char most[16000];
        MQX_setNote(message, "full", most, sizeof most);
    }
    else if (!strcmp(word, "redirect"))
        json_object_object_add(object, "recipient", json_object_new_string("other@example.net"));
    else if (!strcmp(word, "count")) {
        struct json_object *customer = member(object, "customer");
        int n = customer ? json_object_get_int(member(customer, "n")) : 0;
        char text[100];
        snprintf(text, sizeof text, "{\"n\":%d,\"last\":\"%s\",\"text\":\"\\u00fc\\\"\"}", n + 1, PLUGIN_NAME);
        put(object, "customer", text);
    }
}

MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    (void)context, (void)connection;
    struct json_object *object = MESSAGE_JSON(message);
    if (!object) return false;
    char words[200];
    snprintf(words, sizeof words, "%s", json_object_get_string(member(object, "recipient")));
    words[strcspn(words, "@")] = 0;
    for (char *word = strtok(words, "+"); word; word = strtok(NULL, "+")) change(message, object, word);
    return false;
}

/* Tells of what was left, and counts attempts. */
MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_Connection *connection, MQ_Message *message) {
    (void)context, (void)connection;
    size_t size = 0;
    const char *from = MQX_note(message, "from", &size);
    const char *before = MQX_note(message, "attempts", NULL);
    char line[200];
    snprintf(line, sizeof line, PLUGIN_NAME ": note %s of %zu, before %s", from ? from : "none", size,
             before ? before : "none");
    MQ_log(MQ_WARN, line);
    snprintf(line, sizeof line, "%d", (before ? atoi(before) : 0) + 1);
    MQX_setNote(message, "attempts", line, strlen(line));
    struct json_object *object = MESSAGE_JSON(message);
    if (object && member(object, "customer")) json_object_object_add(object, "attempt", json_object_new_int(atoi(line)));
    return false;
}
