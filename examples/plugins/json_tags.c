/*
 * json_tags.c - marks each mail with the campaign that its header names.
 *
 * MQ_json gives a message as an object of libfastjson, which is linked as any library is. What is put into
 * it stays with this recipient's mail: `tags` is a property that the host knows, and `campaign` is one
 * that only whoever takes the results knows (`rohrpost queue take`).
 */
#include <mailerq.h>

#include <libfastjson/json.h>
#include <string.h>
#include <strings.h>

/* The longest name of a campaign that is looked at. */
enum { CAMPAIGN_MAX = 100 };

MQ_EXPORT int mq_version(void)
{
    return MQ_API_VERSION;
}

/* Copies the value of the first X-Campaign field, without the blanks before it; 0 where there is none. */
static size_t campaign_of(const char *mime, size_t size, char *campaign)
{
    static const char field[] = "X-Campaign:";
    const size_t length = sizeof field - 1;
    size_t at, from, to;

    for (at = 0; at + length <= size; at++) {
        if (at > 0 && mime[at - 1] != '\n')
            continue;
        if (mime[at] == '\r') /* an empty line ends the header */
            return 0;
        if (strncasecmp(mime + at, field, length) != 0)
            continue;
        for (from = at + length; from < size && (mime[from] == ' ' || mime[from] == '\t'); from++)
            ;
        for (to = from; to < size && mime[to] != '\r' && to - from < CAMPAIGN_MAX; to++)
            campaign[to - from] = mime[to];
        return to - from;
    }
    return 0;
}

MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message)
{
    struct fjson_object *json = MQ_json(message); /* lent: not to be released */
    struct fjson_object *mime, *tags;
    char campaign[CAMPAIGN_MAX];
    size_t size;

    (void)context;
    (void)connection;
    if (json == NULL || !fjson_object_object_get_ex(json, "mime", &mime))
        return false;
    /* A text may hold any octets: it has a length, and need not end at its first NUL. */
    size = campaign_of(fjson_object_get_string(mime), (size_t)fjson_object_get_string_len(mime), campaign);
    if (size == 0)
        return false;
    if (!fjson_object_object_get_ex(json, "tags", &tags) || !fjson_object_is_type(tags, fjson_type_array)) {
        tags = fjson_object_new_array();
        fjson_object_object_add(json, "tags", tags); /* from now on it belongs to the message */
    }
    fjson_object_array_add(tags, fjson_object_new_string_len(campaign, (int)size));
    fjson_object_object_add(json, "campaign", fjson_object_new_string_len(campaign, (int)size));
    return false;
}
