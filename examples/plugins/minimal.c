/*
 * minimal.c - the smallest plugin: it is loaded, and says so.
 *
 * Copy it and add the hooks that you need; abi/include/mailerq.h lists them all. A hook is found by
 * its name alone, so a plugin pays only for those it exports.
 */
#include <mailerq.h>

/* The one hook that every plugin must have: which generation of the interface it was written for. */
MQ_EXPORT int mq_version(void)
{
    return MQ_API_VERSION;
}

/* Once, on the main thread, before any worker runs. There is no context yet: only MQ_log may be called. */
MQ_EXPORT void mq_initialize(void)
{
    MQ_log(MQ_INFO, "minimal: loaded");
}
