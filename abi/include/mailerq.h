/*
 * mailerq.h - the plugin interface of Rohrpost: MailerQ's, in all its generations, and extensions.
 *
 * Self-contained; C99 or later, C++11 or later. Link nothing: the host provides every MQ_* function
 * when it loads the plugin. Build with
 *
 *     gcc -shared -fPIC -fvisibility=hidden -I<folder of this file> -o 10-mine.so mine.c
 *
 * and put the file into the plugin-directory. Plugins load, and hooks are called, in the order of their
 * file names, byte by byte. A plugin is never unloaded. Examples are in examples/plugins.
 *
 * Generations. One macro says for which version of MailerQ's documentation a plugin is written, and is
 * what its mq_version returns. Define it before this file is included (or with -D), or leave it away:
 *
 *     MQ_API_VERSION 201   G1, "2.1 or higher": MQ_Continue(context), MQ_IOWatch, MQ_SmtpConnection
 *     MQ_API_VERSION 400   G2, 4.0:             MQ_continue(connection), MQ_ioWatch, MQ_Json of json-c
 *     MQ_API_VERSION 401   G2, 4.1 to 4.4:      as 400, but MQ_json
 *     MQ_API_VERSION 500   G3, 5.0 to 5.5:      as 401, but JSON of libfastjson
 *     MQ_API_VERSION 506   G3, 5.6 and later:   what is chosen if nothing is defined
 *
 * Plugins of all generations work side by side. In every one, MQ_log and the extensions at the end of
 * this file are there.
 *
 * Rules that hold for the whole file
 *
 *   Pointers.   Every MQ_Context, MQ_Connection, MQ_Message, MQ_IOWatcher and MQ_Timer pointer is an
 *               opaque number. Never read what it points to, and never free it. From G2 on a plugin
 *               has one context per worker, the same in every hook; in G1 it differs per connection,
 *               so never compare two there. The pointers given to one plugin work in that plugin only. An MQ_Address is the address itself, as a string.
 *   Misuse.     NULL, a pointer that has gone stale, one of another kind or of another plugin, or a
 *               call on the wrong thread: the call does nothing, returns NULL, 0, false or -1 as its
 *               type asks, and the host logs a warning that names the plugin.
 *   Threads.    Hooks and callbacks run on the worker thread that owns the context. Workers run at the
 *               same time: what a plugin shares between them, such as its globals, it must lock. Call
 *               MQ_* on the thread of the context, connection, message, watcher or timer that is
 *               given. Any thread may hand control back, and call MQ_log and MQX_post.
 *   Arguments.  What a plugin passes in is copied before the call returns, unless it is `data`, which
 *               the host stores and hands back, but never reads or frees.
 *   Blocking.   A hook or callback that blocks stops all mail of its worker; one that runs for longer
 *               than plugin-block-warning (50 ms) is named in the log, and after a second shown with
 *               the functions it is in. Compile with -g, and they have lines.
 *   Crashes.    A signal that ends the process, abort() and exit() from within plugin code, on any
 *               thread, are reported with the plugin and its hook. A plugin that installs handlers
 *               of its own for SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT hides them.
 *   Exceptions. A C++ exception or a Rust panic must not leave a hook or callback: it ends the process.
 */
#ifndef ROHRPOST_MAILERQ_H
#define ROHRPOST_MAILERQ_H

#if !defined(__cplusplus)
#  include <stdbool.h>
#endif
#include <stddef.h>

/* Put before every hook: visible in spite of -fvisibility=hidden, and with C names in C++. */
#if defined(__cplusplus)
#  define MQ_EXPORT extern "C" __attribute__((visibility("default")))
#else
#  define MQ_EXPORT __attribute__((visibility("default")))
#endif

/* The generation, and what mq_version returns. */
#if !defined(MQ_API_VERSION)
#  define MQ_API_VERSION 506
#endif
#if MQ_API_VERSION != 201 && MQ_API_VERSION != 400 && MQ_API_VERSION != 401 && MQ_API_VERSION != 500 \
    && MQ_API_VERSION != 506
#  error "MQ_API_VERSION must be 201, 400, 401, 500 or 506; see the list at the top of mailerq.h"
#endif

/* The extensions that this header declares; compare with MQX_version(). */
#define MQX_VERSION 1

/* Bits of `events` in watches. */
#define MQ_READ  1
#define MQ_WRITE 2

/* Priorities of MQ_log. */
#define MQ_CRIT 1
#define MQ_WARN 2
#define MQ_INFO 3

typedef struct MQ_Context    MQ_Context;    /* a worker thread, and within a hook of G1 its step */
typedef struct MQ_Connection MQ_Connection; /* valid from its first hook until its close hook is over */
typedef struct MQ_Message    MQ_Message;    /* valid until the step that showed it is over */
typedef struct MQ_Address    MQ_Address;    /* valid until the step that showed it is over */
typedef struct MQ_IOWatcher  MQ_IOWatcher;  /* valid until it is unwatched */
typedef struct MQ_Timer      MQ_Timer;      /* valid until it fires or is stopped */
typedef struct MQX_Plugin    MQX_Plugin;    /* this plugin; valid for good */
typedef struct MQX_Metric    MQX_Metric;    /* a number that this plugin counts; valid for good */

#if MQ_API_VERSION < 400
typedef MQ_Connection MQ_SmtpConnection;
#else
typedef MQ_Address    MQ_Envelope; /* what MailerQ's page on MQ_envelope says that it returns */
#endif

struct json_object;  /* json-c */
struct fjson_object; /* libfastjson */
struct ev_loop;      /* libev */

#if defined(__GNUC__)
#  pragma GCC visibility push(default)
#  define MQX_WEAK __attribute__((weak))
#else
#  define MQX_WEAK
#endif

/* ---- Hooks: what a plugin may export. Only mq_version is required. ----------------------------------
 *
 * A hook that returns false is not interested: the next plugin is asked, then the host goes on. A hook
 * that returns true has taken control: the step waits, without holding up anything else, until the
 * plugin hands it back: with MQ_continue, MQ_complete or MQ_retry and the connection, in G1 with
 * MQ_Continue, MQ_Complete or MQ_Retry and the context that this hook was given. It may do so before it
 * returns. Neither value accepts or refuses mail. Every string is NUL-terminated, its
 * size does not count that byte, and it is valid until the step is over, also while it is held.
 *
 * While a step is held the host reads nothing from that client, and no other hook of this connection
 * is called. If the client goes meanwhile, the rest of the step is dropped after the hand-back, and
 * mq_smtp_in_close comes next. After plugin-timeout (300 s), and when the host stops, it takes the step
 * back: it answers an incoming command with 451, or 421 when it stops, and tries an outgoing mail
 * again later. From then until its late hand-back arrives, which releases nothing, the plugin is not
 * called for that connection, except for mq_smtp_in_close.
 */

/* Once, right after loading, on the main thread. Return MQ_API_VERSION: a plugin that does not export
 * this, or returns another value, stops the start of the host (or is left out, by plugin-errors). */
MQ_EXPORT int mq_version(void);

/* Once, on the main thread, when all plugins are loaded and before any worker runs. It may block. It
 * cannot report failure. Only MQ_log may be called. */
MQ_EXPORT void mq_initialize(void);

/* Once, on the main thread, when all workers have ended; in reverse order of loading. Only MQ_log may be called. */
MQ_EXPORT void mq_cleanup(void);

/* Once per worker, on its thread. No mail moves before all plugins have done this on all workers. From G2
 * on it returns nothing and may block. In G1 it must not block; it may take control, and the loop runs
 * until it hands back; after plugin-start-timeout (30 s) the start fails. The context given here stays
 * valid as long as the worker, but names no connection: in G1 it cannot hand back a connection's step. */
#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_context_initialize(MQ_Context *context);
#else
MQ_EXPORT void mq_context_initialize(MQ_Context *context);
#endif

/* Once per worker, on its thread, after its last connection; in reverse order of loading. From G2 on it may
 * block; in G1 control may be taken for plugin-shutdown-timeout (30 s). Timers and watchers that still
 * exist afterwards are dropped without a callback. Not called for a worker that ended by a bug of the
 * host. */
#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_context_cleanup(MQ_Context *context);
#else
MQ_EXPORT void mq_context_cleanup(MQ_Context *context);
#endif

/* A client has connected; the first sight of this connection. The banner waits for it. */
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection);

/* The TLS handshake is done, be it after STARTTLS or on a secure port; MQ_secure is true. */
MQ_EXPORT bool mq_smtp_in_secure(MQ_Context *context, MQ_Connection *connection);

/* The client sent credentials, with AUTH PLAIN or LOGIN. Answer with MQ_setAuthenticated: the last
 * value set in this step decides, true for 235 and false for 535, whatever was set before it; if no
 * plugin sets one, the users of smtp-auth are asked, and without them the login fails. Exporting this
 * hook makes the host offer AUTH under TLS, in clear to the networks of smtp-auth-plaintext alone, and
 * demand it of clients outside an smtp-relay-range that was set. Neither string is empty, both end in a
 * NUL, and the password may contain one; they are wiped when the step is over, so copy what you need
 * longer, and wipe that. */
MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection,
                                       const char *login, size_t loginsize,
                                       const char *passwd, size_t passwdsize);

/* MAIL FROM: the address without brackets and parameters. The null sender is "" with size 0 in G1; from
 * G2 on it is an address whose MQ_email is NULL. */
#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection,
                                   const char *mailfrom, size_t size);
#else
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, MQ_Address *envelope);
#endif

/* RCPT TO: the address without brackets and parameters. Not called for a recipient that the host
 * refuses by itself. About one that this client may not send to, plugins of G2 and later are asked first, and
 * it is one that the host refuses unless one of them calls MQ_setLocal(address, true), or
 * MQ_setAuthenticated: until then, whatever they answer, the client hears the host's 550 or 530. If one of
 * them does, plugins of G1 are asked as well. A plugin that cannot tell now whether the address is local
 * says so with MQX_fail: as a step that is held too long, that is up to plugin-failure. */
#if MQ_API_VERSION < 400
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection,
                                 const char *rcptto, size_t size);
#else
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address);
#endif

/* A whole message was received, and not yet answered. `mime` is what the client sent, without the
 * SMTP escaping of dots, and without the Received field that the host adds; it may contain NUL bytes. */
MQ_EXPORT bool mq_smtp_in_data(MQ_Context *context, MQ_Connection *connection,
                               const char *mime, size_t size);

/* Once per recipient of a received message, in the order of RCPT TO, before anything is stored or
 * answered. Sender, recipient and MIME may be changed, for this recipient alone. A message without a
 * recipient is answered with 451; one without MIME is stored, and needs a plugin that makes it when it
 * is sent. */
MQ_EXPORT bool mq_smtp_in_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message);

/* The connection is gone; last sight of it, once per connection that mq_smtp_in_connect could have
 * seen. It stays valid until control is handed back, but nothing can be sent any more. Free what
 * MQ_connectionData holds, and first stop watchers and timers whose `data` points to it: there may be some,
 * if the host took a step back. */
MQ_EXPORT bool mq_smtp_in_close(MQ_Context *context, MQ_Connection *connection);

/* Outgoing: the peer answered DATA with 354 and the message is about to be sent. What MQ_setMime sets is
 * sent in place of the stored MIME, as it is but for its line ends: no Received field is added. It is
 * not stored; another attempt calls this hook again. It is too late to change envelope or recipient. */
MQ_EXPORT bool mq_smtp_out_data(MQ_Context *context, MQ_Connection *connection, MQ_Message *message);

/* Outgoing, from G2 on: all of the message was written, and the peer has not answered yet. Whatever is
 * set here comes too late. While control is held the peer's answer is kept, and counts even if the
 * connection is lost meanwhile; its time runs on. If control is taken back, the delivery goes on. */
#if MQ_API_VERSION >= 400
MQ_EXPORT bool mq_smtp_out_sent(MQ_Context *context, MQ_Connection *connection, MQ_Message *message);
#endif

/* -- Hooks of the extensions: MailerQ calls none of them -- */

/* EHLO or HELO; `name` is what the client calls itself, printable ASCII of at most 255 octets, and nothing
 * else was checked. If it is refused the client is who it was before. Since MQX 1. */
MQ_EXPORT bool mqx_smtp_in_helo(MQ_Context *context, MQ_Connection *connection,
                                const char *name, size_t size);

/* The client starts over: with RSET, or with EHLO or HELO within a transaction, after mqx_smtp_in_helo.
 * Since MQX 1. */
MQ_EXPORT bool mqx_smtp_in_reset(MQ_Context *context, MQ_Connection *connection);

/* The client has gone while a plugin, this one or another, holds its step: nobody waits for the answer
 * any more. mq_smtp_in_close follows, after the step was handed back, which may be done in here. It is
 * called for every plugin that has it, once a connection, and cannot take control. A client that only
 * ends its side of the connection has not gone: it may still read. Since MQX 1. */
MQ_EXPORT void mqx_smtp_lost(MQ_Context *context, MQ_Connection *connection);

/* An outgoing connection is there, and the peer's greeting was read; nothing was said yet. Under TLS that
 * came with the first octet MQ_secure is true already. After MQX_disconnect, here or in
 * mqx_smtp_out_secure, the next host of the message is tried, as if this one could not be reached. Since
 * MQX 1. */
MQ_EXPORT bool mqx_smtp_out_connect(MQ_Context *context, MQ_Connection *connection);

/* The TLS handshake of an outgoing connection is done, and nothing was said since. Always after
 * mqx_smtp_out_connect. Since MQX 1. */
MQ_EXPORT bool mqx_smtp_out_secure(MQ_Context *context, MQ_Connection *connection);

/* A message is about to be sent; MAIL FROM was not. Sender and recipient may still be changed, on the wire
 * alone: another recipient goes over this connection all the same. MIME that is set here is sent unless
 * mq_smtp_out_data changes it. The message stays the same in all steps of one attempt over one connection;
 * another peer that takes over begins anew. Since MQX 1. */
MQ_EXPORT bool mqx_smtp_out_message(MQ_Context *context, MQ_Connection *connection, MQ_Message *message);

/* What became of a message at this peer, before that is settled: its reply `code`, 0 if there was none,
 * and its words or the host's, in one line. A code from 200 to 299 is a delivery, and nothing changes that;
 * it does not wait while control is held. Once per message and connection, but not if the message is led
 * elsewhere, or if the connection turns out to be dead before anything was said of the message: then it goes
 * over another. Since MQX 1. */
MQ_EXPORT bool mqx_smtp_out_result(MQ_Context *context, MQ_Connection *connection, MQ_Message *message,
                                   int code, const char *text, size_t size);

/* An outgoing connection is gone; last sight of it, once for each that a hook could have seen. Free what
 * MQ_connectionData holds. Since MQX 1. */
MQ_EXPORT bool mqx_smtp_out_close(MQ_Context *context, MQ_Connection *connection);

/* Once, on the main thread, after mq_initialize: the plugin as such, for its settings and metrics. Return
 * false if it cannot work: then the start fails, and names the plugin. Since MQX 1. */
MQ_EXPORT bool mqx_initialize(MQX_Plugin *self);

/* The settings of the host were read again. On the main thread, while workers run. Since MQX 1. */
MQ_EXPORT void mqx_reload(MQX_Plugin *self);

/* ---- Functions: what the host offers ------------------------------------------------------------- */

#if defined(__cplusplus)
extern "C" {
#endif

/* Hand control back. In G1, `context` is the one that the hook was given that returned (or will return)
 * true; the context saved in mq_context_initialize names no connection and is refused. From G2 on it is
 * the connection. The host goes on after the running hook or callback has returned. The first call
 * counts; a second one, and one by a plugin that is not in control, is ignored with a warning. Any thread.
 *
 *   MQ_continue   ask the next plugin, then let the host go on.
 *   MQ_complete   skip the other plugins in this step.
 *   MQ_retry      start this step again at the first plugin; what was changed stays changed. */
#if MQ_API_VERSION < 400
void MQ_Continue(MQ_Context *context);
void MQ_Complete(MQ_Context *context);
void MQ_Retry(MQ_Context *context);
#else
void MQ_continue(MQ_Connection *connection);
void MQ_complete(MQ_Connection *connection);
void MQ_retry(MQ_Connection *connection);
#endif

/* The functions of the host, by their names from G2 on. Those of G1 follow, and do the same. */
#if MQ_API_VERSION >= 400

/* One pointer per plugin and worker thread, NULL at first. The plugin owns what it points to; replacing
 * it frees nothing. Works with every context of this worker, also that of a closed connection: so do
 * MQ_ioWatch and MQ_startTimer, which belong to the worker, not to a connection. */
void *MQ_contextData(MQ_Context *context);
void MQ_setContextData(MQ_Context *context, void *value);

/* Call `callback` each time `fd` is ready for one of `events` (level-triggered, several bits may come
 * at once), until MQ_ioUnwatch; never from within this call. Readiness is a hint: make the descriptor
 * non-blocking. An error or hang-up is reported as the bits asked for, a regular file is always ready.
 * The descriptor stays the plugin's: unwatch it before closing it. Several watchers may have the same
 * one; to change the events, unwatch and watch again, which is cheap. NULL for a negative descriptor,
 * without a known bit in `events`, without callback, or when 65,536 watchers exist on this worker. One
 * that turns out to be closed, or cannot be watched (as the host's own), is called back once, with all the
 * bits asked for, and is gone after that, with a warning. */
MQ_IOWatcher *MQ_ioWatch(MQ_Context *context, int fd, int events,
                         void (*callback)(MQ_IOWatcher *watcher, int fd, int events, void *data), void *data);

/* Stop and release a watcher, also from within its own callback. No callback comes afterwards. */
void MQ_ioUnwatch(MQ_IOWatcher *watcher);

/* Call `callback` once, after `timeout` seconds (never early; milliseconds count). 0 and less: in the
 * next turn of the loop; more than a year: a year; NaN: refused with NULL. The timer is released right
 * before the callback runs. NULL without callback or when 1,048,576 timers exist on this worker. */
MQ_Timer *MQ_startTimer(MQ_Context *context, float timeout, void (*callback)(void *data), void *data);

/* Stop and release a timer that has not fired. One that has fired is ignored. */
void MQ_stopTimer(MQ_Timer *timer);

/* Give a timer that has not fired a new timeout, counted from now. NaN changes nothing. */
void MQ_resetTimer(MQ_Timer *timer, float timeout);

/* The socket, for getsockname and getpeername only: do not read, write, watch or close it. -1 on misuse.
 * Behind a proxy of smtp-proxy the peer is the proxy, for every client: grant nothing by its address. */
int MQ_fileDescriptor(MQ_Connection *connection);

/* Append raw bytes to the output of a connection: they go out before the host's own reply to the step,
 * and the host does not look at them, so that they can wreck the dialogue. All or nothing: returns
 * `size`, or 0 when the connection is closed or its output buffer (16 MiB) has no room for them. */
size_t MQ_send(MQ_Connection *connection, const void *buffer, size_t size);

/* The last value set, by whichever plugin; false at first. A client that is authenticated may send to
 * any recipient; for others, smtp-relay-range and local-domains decide at each RCPT TO. It stays set
 * over all messages of the connection, unless the host takes a step back that was held too long: then it
 * is false again. Setting it takes effect at once, on incoming connections only; a plugin from which a
 * step was taken back is not heard until it has handed back. */
bool MQ_authenticated(MQ_Connection *connection);
void MQ_setAuthenticated(MQ_Connection *connection, bool authenticated);

/* Is everything on this connection encrypted? Keeps its last value after the close. */
bool MQ_secure(MQ_Connection *connection);

/* One pointer per plugin and connection, NULL at first. The plugin owns what it points to; replacing
 * it frees nothing. Outgoing connections have no close hook but mqx_smtp_out_close; without it the pointer is dropped with them. */
void *MQ_connectionData(MQ_Connection *connection);
void MQ_setConnectionData(MQ_Connection *connection, void *data);

/* The sender, the recipient, and the MIME data of a message, NUL-terminated; NULL if there is none. From
 * G2 on, what MQ_envelope and MQ_recipient return is an address as well, for MQ_email and MQ_local.
 * The string belongs to the host and is valid until the next setter on this message or the end of the
 * step. MQ_mime of an outgoing message is NULL until a plugin has set it, and shows no more than what
 * comes before the first NUL byte.
 *
 * A setter copies `size` bytes, of an address at most 64 KiB, of MIME at most 1 GiB; more is misuse. NULL,
 * or size 0, takes an incoming message's value away and lets an outgoing message have its own again; a
 * sender of size 0 that is not NULL is the null sender. The last plugin to set a value wins, and each
 * sees what was set before. Lines of MIME may end in CRLF, CR or LF; dots need no escaping. */
MQ_Envelope *MQ_envelope(MQ_Message *message);
void MQ_setEnvelope(MQ_Message *message, const char *envelope, size_t size);
const char *MQ_recipient(MQ_Message *message);
void MQ_setRecipient(MQ_Message *message, const char *recipient, size_t size);
const char *MQ_mime(MQ_Message *message);
void MQ_setMime(MQ_Message *message, const char *mime, size_t size);

/* The address itself; NULL for the null sender. Valid until the step that showed it is over, or the next
 * setter on its message. */
const char *MQ_email(const void *address);

/* Is the recipient a local one? By what a plugin has said with MQ_setLocal, else by the local-domains and
 * local-addresses of the settings. `recipient` is an address or a message. In mq_smtp_in_rcptto, a local
 * recipient is accepted from everybody; afterwards its mail is routed as any. For an outgoing message a set
 * value means nothing. */
bool MQ_local(const void *recipient);
void MQ_setLocal(void *recipient, bool local);

#else

void *MQ_ContextData(MQ_Context *context);
void MQ_SetContextData(MQ_Context *context, void *value);
MQ_IOWatcher *MQ_IOWatch(MQ_Context *context, int fd, int events,
                         void (*callback)(MQ_IOWatcher *watcher, int fd, int events, void *data), void *data);
void MQ_IOUnwatch(MQ_IOWatcher *watcher);
MQ_Timer *MQ_TimerStart(MQ_Context *context, float timeout, void (*callback)(void *data), void *data);
void MQ_TimerStop(MQ_Timer *timer);
void MQ_TimerReset(MQ_Timer *timer, float timeout);
int MQ_SmtpFileDescriptor(MQ_Connection *connection);
size_t MQ_SmtpSend(MQ_Connection *connection, const void *buffer, size_t size);
bool MQ_SmtpAuthenticated(MQ_Connection *connection);
void MQ_SetSmtpAuthenticated(MQ_Connection *connection, bool authenticated);
bool MQ_SmtpSecure(MQ_Connection *connection);
void *MQ_SmtpData(MQ_Connection *connection);
void MQ_SetSmtpData(MQ_Connection *connection, void *data);
const char *MQ_Envelope(MQ_Message *message);
void MQ_SetEnvelope(MQ_Message *message, const char *envelope, size_t size);
const char *MQ_Recipient(MQ_Message *message);
void MQ_SetRecipient(MQ_Message *message, const char *recipient, size_t size);
const char *MQ_Mime(MQ_Message *message);
void MQ_SetMime(MQ_Message *message, const char *mime, size_t size);

#endif

/* The libev loop of this worker, for libraries that can only be driven by one. The first call on a worker
 * makes it, with the copy of libev 4 that this plugin is linked with (or that a library is which it uses);
 * from then on the worker sleeps in there, so that watchers of every kind run, on this thread. Their
 * callbacks are callbacks of this plugin: all that is said here of those holds for them, and they may
 * hand back any step that it holds. Plugins with the same copy of libev share the loop. NULL, and a critical
 * line in the log, where the plugin has no libev, or another copy than a plugin that was first.
 *
 * Stop every watcher in mq_context_cleanup, and leave no ev_once behind: after a reload that has put another
 * plugin in the place of this one, the loop goes on without it. A watcher whose callback lies in a plugin
 * that is gone is not called any more, and the log says so as critical; one whose callback lies in a library
 * cannot be told from another plugin's, and is called. Free no watcher that is started.
 *
 * The loop is the host's: do not run, break, or destroy it, nor replace its callbacks for pending
 * watchers. ev_signal and ev_child do not work in it (libev lets one loop alone have them, and aborts the
 * process). What a thread sends by ev_async_send arrives until the worker has cleaned up its contexts. */
struct ev_loop *MQ_ev(MQ_Context *context);

/* The message as an object of json-c (before 5.0) or libfastjson, of the very copy of that library that
 * the plugin is linked with: link it with -ljson-c or -lfastjson, else NULL is returned, and the log says so.
 *
 * The object is lent until the chain of this step is over, also while it is held: do not release it. Take
 * and give back references of your own to it or to what is in it as you like. All plugins of a chain that
 * use the same copy of a library see the same object; one that uses another sees an object of its own
 * with what the one before says at that time, so ask again in each hook.
 *
 * Properties are MailerQ's: envelope, recipient, mime; maxattempts, retries, maxdelivertime, nextattempt,
 * queues, keepmime, tags, smarthost, dsn; and message-id, hostname, received and connection, which only
 * tell. Any other property stays with the mail, and comes back in its results. A property of an incoming
 * message that is set counts for this recipient alone: as MQ_set... does, and as an x-mq- field does. The
 * object is read when the chain is over, and whenever a function is called on its message; a change of
 * envelope, recipient or mime counts as a setter there. A message whose object has no recipient, or a known
 * property of a wrong type, is answered with 451, and the log names plugin and property.
 *
 * Of an outgoing message it is what is in the queue. Changing it has no effect on what goes over the wire:
 * what it asks for, and properties of no meaning, count from the end of this attempt on, for results and
 * later attempts; changes of envelope, recipient, mime and dsn.notify or dsn.orcpt are not kept.
 *
 * mime holds any octets, also NULs and such as are no UTF-8: use the functions that give or take a length.
 * What a plugin hangs onto objects itself (a serializer, a function for their end) must not call anything on
 * their message. In other properties what is no UTF-8 is replaced. A smarthost shows no password; a password stays as
 * long as host, port and username do. All but mime together may have 62 KiB. */
#if MQ_API_VERSION >= 500
struct fjson_object *MQ_json(MQ_Message *message);
#elif MQ_API_VERSION == 401
struct json_object *MQ_json(MQ_Message *message);
#else
struct json_object *MQ_Json(MQ_Message *message);
#endif

/* Write to the host's application log, one line for each line of `message` (64 KiB at most). NULL is
 * ignored; an unknown priority counts as MQ_INFO and is marked. Any thread. */
void MQ_log(int priority, const char *message);

/* ---- Extensions: what MailerQ has not --------------------------------------------------------------
 *
 * All functions are weak: a plugin that uses them loads where they are missing, and finds NULL there.
 *
 *     if (MQX_version && MQX_version() >= 1) ...
 */

/* The version of the extensions that this host has, 1 or more. Any thread. Since MQX 1. */
MQX_WEAK int MQX_version(void);

/* -- Incoming connections --
 *
 * Answers. A hook of an incoming connection may say what its step is to come to, while it runs and while
 * it holds the step, on the thread of the connection. The last answer before the step ends counts; the
 * step ends when the hook returns false, or hands back. Then nobody else is asked. MQ_retry takes the
 * answer back. Without an answer all is as if these functions did not exist. What they mean:
 *
 *   hook of           MQX_reject, MQX_defer           MQX_discard           MQX_disconnect alone
 *   connect           in place of the banner; the     -                     421 in place of the banner
 *                     connection is closed (1)
 *   secure            as the next reply; closed       -                     421 as the next reply
 *   helo              EHLO is refused, and the state  -                     421
 *                     stays what it was
 *   authenticate      the login fails (2)             -                     421
 *   mailfrom          the sender is refused           the whole mail (3)    421
 *   rcptto            this recipient is refused       this recipient (3)    421
 *   data              the message is refused          the whole mail (3)    421
 *   message           the message is refused, for     this recipient (3)    421
 *                     all its recipients
 *   reset             -                               -                     421
 *   close, lost       -                               -                     -
 *   out_connect,      -                               -                     another host is tried
 *   out_secure
 *
 *   -    is misuse: there is nothing to answer, or RFC 5321 demands an answer.
 *   (1)  On a port that begins with TLS the client hears nothing, since nothing can be said yet.
 *   (2)  Whatever MQ_setAuthenticated said. MQX_reject counts as a failed login, MQX_defer as none.
 *   (3)  The client hears what it would hear of mail that is accepted. No further hook is called for what
 *        is dropped; the host logs that it was, and counts it (`discarded` in `rohrpost status`). Of a mail
 *        that is dropped at its sender, a recipient that only plugins would call local is refused: they
 *        are not asked.
 *
 * A message has one reply, however many recipients: hence one MQX_reject in the message hook of one of
 * them is the answer for all, and none is stored. All of these return whether the answer was noted. */

/* Refuse for good, with a code from 500 to 559, or for now, with one from 400 to 459; 0 is the usual one of
 * the step. `status` is an enhanced status of the same class, such as "5.7.1" (RFC 3463); NULL is the usual
 * one. `text` is NULL for a usual text, or lines separated by \n, of which each becomes a line of the
 * reply: at most 32 of 500 octets, the rest is cut off. Anything but printable ASCII becomes '?'; in a mail
 * with SMTPUTF8, UTF-8 stays. Another code or status is misuse and changes nothing. 421 also closes the
 * connection. Since MQX 1. */
MQX_WEAK bool MQX_reject(MQ_Connection *connection, int code, const char *status, const char *text);
MQX_WEAK bool MQX_defer(MQ_Connection *connection, int code, const char *status, const char *text);

/* Answer as if all were well, and drop it. Takes the connection, or in the message hook the message. Since
 * MQX 1. */
MQX_WEAK bool MQX_discard(void *connection_or_message);

/* Close the connection after the reply to this step: that of the other answer, or 421 if there is none. What
 * is answered as accepted gets a 421 behind it. Since MQX 1. */
MQX_WEAK bool MQX_disconnect(MQ_Connection *connection);

/* This plugin failed in this step, and cannot say what is right: the setting plugin-failure decides, as it
 * does when a step is held for too long. What it granted to the client in this step, said of the recipient
 * (MQ_setLocal), or decided of an outgoing message counts no longer. For layers that catch exceptions; in
 * every hook of a connection, outgoing ones too. Where nothing can be refused (close, reset) it means
 * nothing else. Since MQX 1. */
MQX_WEAK bool MQX_fail(MQ_Connection *connection);

/* Hold the step under a name of its own: call it in the hook, and return true. MQX_release hands back with
 * that name, from any thread, and MQ_continue and its like still do, too. After `timeout` seconds, 0 for no
 * limit of its own, and at the latest after plugin-timeout, `expired` is called (unless it is NULL) on the
 * thread of the connection: it may answer the step and release it; if it does not, the step has failed,
 * as after MQX_fail. It is also called when the host stops and has taken the step back already. It is not
 * called for a hold that was released. A late release is harmless: it returns false, releases nothing, and
 * the plugin is not passed over as it is when it owes an MQ_continue. NULL outside of a hook of this
 * connection, or if the timeout is negative or NaN. Since MQX 1.
 *
 * With NULL for `expired` a plugin does not hear that a step was taken back, and what it then says names a
 * connection, and no step. So release every hold, the late ones too, right after the answer: until the hold
 * that was taken back is released, an answer or an MQ_setAuthenticated outside of a hook of this connection
 * counts if the release of the hold of now comes next, is dropped if that of the old one does, and is
 * misuse if the plugin holds nothing by name. With `expired`, the plugin knows: what it says afterwards is
 * about the step that it holds now. */
typedef struct MQX_Hold MQX_Hold; /* valid until the step is handed back or taken back */
#define MQX_CONTINUE 0
#define MQX_COMPLETE 1
#define MQX_RETRY    2
MQX_WEAK MQX_Hold *MQX_hold(MQ_Connection *connection, double timeout,
                            void (*expired)(MQX_Hold *hold, void *data), void *data);

/* Hand back what a hold names: MQX_CONTINUE, MQX_COMPLETE or MQX_RETRY. False if it is over; called on
 * another thread than the connection's it returns true when it is on its way there, and may still come too
 * late. Since MQX 1. */
MQX_WEAK bool MQX_release(MQX_Hold *hold, int verdict);

/* What the host knows of a connection, NUL-terminated; its size goes to `*size`, if that is not NULL. NULL,
 * and size 0, if it is not known. The host never changes it while a step is shown or held; it stays valid
 * until the step is over, and until another value takes its place (the next EHLO, login or handshake).
 * Since MQX 1.
 *
 *   MQX_peer         the address of the other end; behind a proxy of smtp-proxy, of the client itself. NULL
 *                    if the proxy does not say. MQX_peerPort: its port, or 0.
 *   MQX_helo         what the client calls itself; in the helo hook, what it wants to.
 *   MQX_login        what the client is logged in as; not before the login was successful.
 *   MQX_tlsVersion   "TLSv1.2" or "TLSv1.3"; NULL in clear.
 *   MQX_cipher       the registered name of the cipher suite; NULL in clear.
 *   MQX_sni          the name that the client asked for in its handshake.
 *
 *   MQX_host         of an outgoing connection: the host that it was made to, as MX records or settings
 *                    name it.
 *
 * Of an outgoing connection the peer, the host and what concerns TLS are known; MQX_helo is the name that the
 * peer's greeting began with. */
MQX_WEAK const char *MQX_peer(MQ_Connection *connection, size_t *size);
MQX_WEAK int MQX_peerPort(MQ_Connection *connection);
MQX_WEAK const char *MQX_helo(MQ_Connection *connection, size_t *size);
MQX_WEAK const char *MQX_login(MQ_Connection *connection, size_t *size);
MQX_WEAK const char *MQX_tlsVersion(MQ_Connection *connection, size_t *size);
MQX_WEAK const char *MQX_cipher(MQ_Connection *connection, size_t *size);
MQX_WEAK const char *MQX_sni(MQ_Connection *connection, size_t *size);
MQX_WEAK const char *MQX_host(MQ_Connection *connection, size_t *size);

/* The name of a mail in the queue, as the client hears it after its 250 and `rohrpost queue` shows it; how
 * many attempts there were with the one of now, 0 for an incoming mail, -1 on misuse; and sender, recipient
 * and MIME data with their sizes, as MQ_envelope, MQ_recipient and MQ_mime return them, NUL bytes within
 * included. Since MQX 1. */
MQX_WEAK const char *MQX_messageId(MQ_Message *message, size_t *size);
MQX_WEAK int MQX_attempt(MQ_Message *message);
MQX_WEAK const char *MQX_envelope(MQ_Message *message, size_t *size);
MQX_WEAK const char *MQX_recipient(MQ_Message *message, size_t *size);
MQX_WEAK const char *MQX_mime(MQ_Message *message, size_t *size);

/* -- Outgoing connections --
 *
 * The steps of a connection, and what can be done about the message that they show:
 *
 *   step                   when                             envelope  MIME  decide
 *   mqx_smtp_out_connect   the peer greeted                  -         -     -
 *   mqx_smtp_out_secure    TLS is there                      -         -     -
 *   mqx_smtp_out_message   before MAIL FROM                  yes       yes   yes
 *   mq_smtp_out_data       the peer waits for the MIME       too late  yes   yes; closes the connection
 *   mq_smtp_out_sent       the MIME is out                   too late  late  no: it may have arrived
 *   mqx_smtp_out_result    it is known how it ended          too late  late  yes, unless the peer took it;
 *                                                                            MQX_retryAt alone if no answer
 *                                                                            to the MIME came: it may have
 *   mqx_smtp_out_close     the connection is gone            -         -     -
 *
 * To decide is to call one of the three functions below, in one of these steps or while it is held.
 * The last call counts; true: it will be done when the step is over, unless the plugin fails in it or the
 * peer ends it first, and except in mqx_smtp_out_result no other plugin is asked in that step. Elsewhere they do nothing and return false, with a warning.
 * All of them are of this attempt alone: plugins are asked again in the next one. */

/* The message fails for good, and its sender is told if it wants to be. `code` is 500 to 559 or 0 for 550,
 * `status` is like "5.7.1" or NULL for that, `text` is the reason in UTF-8 or NULL (1,024 bytes at most).
 * 0, NULL and NULL in mqx_smtp_out_result leave the peer's words as they are. Since MQX 1. */
MQX_WEAK bool MQX_bounce(MQ_Message *message, int code, const char *status, const char *text);

/* The message is tried again at this unix time, also if the host is started anew meanwhile: at the earliest
 * in one second, at the latest right before its time (max-delivertime) is over. From mqx_smtp_out_message
 * that is no attempt; else it counts as one, and max-attempts holds. NaN is misuse. Since MQX 1. */
MQX_WEAK bool MQX_retryAt(MQ_Message *message, double unix_seconds);

/* The message goes to another host, at once and within this attempt: `host` is a name, which is not looked
 * up for MX records, or an address; `port` 0 is the port of mail (smtp-out-port). The rules for hosts that
 * messages name hold: not to this host itself, and to private addresses only where dns-private-targets or
 * the smarthost allow that. It may be led on ten times in one attempt. Since MQX 1. */
MQX_WEAK bool MQX_route(MQ_Message *message, const char *host, int port);

/* In mqx_smtp_out_result: how far the message came, in the words of results ("mailfrom", "rcptto", "data",
 * "message"); NULL before. Valid until the step is over. Since MQX 1. */
MQX_WEAK const char *MQX_state(MQ_Message *message);

/* -- The loop -- */

/* Call `callback` after `first` seconds, and from then on every `interval` seconds, until MQ_stopTimer,
 * also from within the callback. Counted from when it was due, not from when it ran, so nothing drifts;
 * what falls due while the worker is busy is left out, not made up for. `first` as in MQ_startTimer;
 * `interval` is at least a millisecond, and NULL is returned for one that is not above 0. MQ_resetTimer
 * gives it another next time; the interval stays. Since MQX 1. */
MQX_WEAK MQ_Timer *MQX_repeat(MQ_Context *context, double first, double interval,
                              void (*callback)(void *data), void *data);

/* Watch for other events from now on, with the same watcher, callback and data. 0 lets the watcher rest: it
 * keeps its place among the 65,536, and is not called until it is given events again. Cheap: however
 * often it is called within a callback, it costs one system call at most. False on misuse, and for a
 * watcher whose descriptor was closed: from its last callback on. Since MQX 1. */
MQX_WEAK bool MQX_watchMask(MQ_IOWatcher *watcher, int events);

/* Have the worker of `context` run `callback`. Any thread, and on the worker's own: then it runs later, never
 * from within this call. What is posted to one worker runs in order, each once, as a callback of this
 * plugin; what it needs from the posting thread must be there before the call. False, and it will not
 * run: on misuse, when 65,536 of this plugin wait for that worker, or when its context there was cleaned up.
 * What still waits then is dropped, and counted in the log. Since MQX 1. */
MQX_WEAK bool MQX_post(MQ_Context *context, void (*callback)(void *data), void *data);

/* What MQX_resolve asks for: the numbers of the DNS. With each, a value looks like */
#define MQX_DNS_A     1  /* 192.0.2.1 */
#define MQX_DNS_NS    2  /* ns.example.org */
#define MQX_DNS_CNAME 5  /* other.example.org */
#define MQX_DNS_PTR   12 /* host.example.org */
#define MQX_DNS_MX    15 /* 10 mx.example.org            preference and host; "." is no host */
#define MQX_DNS_TXT   16 /* v=spf1 -all                  its pieces joined; a NUL in it is shown as '?' */
#define MQX_DNS_AAAA  28 /* 2001:db8::1 */
#define MQX_DNS_SRV   33 /* 10 5 5060 sip.example.org    priority, weight, port and host */

/* How a query ended. */
#define MQX_DNS_FOUND      0 /* there are values */
#define MQX_DNS_NO_RECORDS 1 /* the name exists, and has none of this type */
#define MQX_DNS_NO_NAME    2 /* the name does not exist */
#define MQX_DNS_TIMEOUT    3 /* no answer within dns-timeout */
#define MQX_DNS_FAILED     4 /* the name servers refused or failed, or the host has too much to ask */
#define MQX_DNS_BAD_NAME   5 /* that is no domain name */

typedef struct MQX_Query MQX_Query; /* valid until its callback runs or it is cancelled */

/* Ask the name servers, in the way in which the host looks up where mail goes: by the dns-* settings, within
 * dns-timeout, with its cache. `name` is a whole domain name in ASCII, with or without the dot at its end; for
 * MQX_DNS_PTR it may be an address as well, such as 192.0.2.1. `callback` runs exactly once, on this
 * worker, never from within this call, unless the query is cancelled or the worker ends; `values` and its
 * strings are valid while it runs, hold names in ASCII without the last dot, and there are `count` of them,
 * none unless `status` is MQX_DNS_FOUND. A server answers what it likes: believe nothing. NULL on misuse, or
 * when 1,024 queries of this plugin are open on this worker, or 4,096 of all (those cancelled count until they
 * are answered). Since MQX 1. */
MQX_WEAK MQX_Query *MQX_resolve(MQ_Context *context, const char *name, int type,
                                void (*callback)(MQX_Query *query, int status, const char *const *values,
                                                 size_t count, void *data),
                                void *data);

/* The callback of a query will not run. Not to be called in it, nor afterwards. Since MQX 1. */
MQX_WEAK void MQX_cancel(MQX_Query *query);

/* -- Connections and messages -- */

/* Notes: `size` octets under a name, seen by all plugins. One on a connection lives as long as it does.
 * One on an incoming message stays with that recipient's mail: plugins find it when it is sent, at each
 * attempt, also after a restart. One on an outgoing message stays from the end of this attempt on. They are
 * told to nobody else. `connection_or_message` is an MQ_Connection or MQ_Message.
 *
 * A name has 1 to 128 octets of UTF-8 without control characters; there are at most 64 notes on one thing,
 * with 16 KiB of names and values. A value of NULL takes the note away. False, and nothing changes, for what
 * exceeds that. Notes and JSON of all recipients of one message have 20 MiB at most: an incoming message
 * beyond that is answered 451, and on the way out what exceeds it is not kept, with a warning. Since MQX 1. */
MQX_WEAK bool MQX_setNote(void *connection_or_message, const char *name, const char *value, size_t size);

/* The octets of a note, and behind them a NUL; NULL if there is none. `size` may be NULL. Valid until the
 * next MQX_setNote on the same thing, or the end of the step. Since MQX 1. */
MQX_WEAK const char *MQX_note(void *connection_or_message, const char *name, size_t *size);

/* -- The plugin itself --
 *
 * Any thread may call these, with what mqx_initialize was given. A plugin's NAME is that of its file without
 * `.so`, and without digits and a dash at the beginning: `dnsbl` for `10-dnsbl.so`. */

/* The value of the administrator's setting `plugin-NAME-KEY`, NULL if it is not set. In names of settings
 * case does not matter, and `-` and `_` are the same. The text stays as it is for good; a reload gives
 * another one, and then calls mqx_reload. Since MQX 1. */
MQX_WEAK const char *MQX_setting(MQX_Plugin *self, const char *key);

/* Metrics, which the host shows to Prometheus as `rohrpost_plugin_NAME_METRIC`; a counter's name gets
 * `_total` at its end. A name has 1 to 64 letters, digits and `_`. What is declared again, by this
 * instance of the plugin or by one that a reload put in its place, is the same metric and goes on with its
 * numbers. As another kind, or with other buckets, only the latter can declare it again: that one begins at
 * 0, and is shown in place of the first. A plugin has at most 256, and at most 512 with those that were
 * replaced since the server's start; NULL if the name, the kind or the buckets will not do, or there are too
 * many.
 *
 * A histogram counts how many values come up to each of `count` buckets (at most 64), whose bounds rise;
 * NULL for the usual ones, from 5 ms to 10 s in seconds. Since MQX 1. */
MQX_WEAK MQX_Metric *MQX_counter(MQX_Plugin *self, const char *name, const char *help);
MQX_WEAK MQX_Metric *MQX_gauge(MQX_Plugin *self, const char *name, const char *help);
MQX_WEAK MQX_Metric *MQX_histogram(MQX_Plugin *self, const char *name, const char *help,
                                   const double *buckets, size_t count);

/* Count: add to a counter (nothing negative) or a gauge, set a gauge, put a value into a histogram. Atomic,
 * and without a lock. Since MQX 1. */
MQX_WEAK void MQX_add(MQX_Metric *metric, double amount);
MQX_WEAK void MQX_set(MQX_Metric *metric, double value);
MQX_WEAK void MQX_observe(MQX_Metric *metric, double value);

#if defined(__cplusplus)
} /* extern "C" */
#endif

#if defined(__GNUC__)
#  pragma GCC visibility pop
#endif

#endif /* ROHRPOST_MAILERQ_H */
