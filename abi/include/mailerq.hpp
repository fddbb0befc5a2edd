/*
 * mailerq.hpp - a thin C++ layer over mailerq.h: C++17, header only.
 *
 * It adds what C++ has and C has not: what is acquired is released by its owner (timers, watches, the state
 * of a connection), and no exception leaves a hook or callback. One that would fails its step, by the
 * server's plugin-failure, and is written to the log; nothing else happens. A step that is held ends as
 * well: a Hold that is destroyed without a verdict, as by an exception, fails its step.
 *
 *     #include <mailerq.hpp>
 *
 *     struct Seen { int recipients = 0; };          // one per connection, destroyed when it closes
 *     MAILERQ_PLUGIN(Seen)
 *
 *     MAILERQ_IN_RCPTTO(step, recipient)            // a function body follows
 *     {
 *         if (++step.state<Seen>().recipients > 100)
 *             step.reject(550, "5.7.1", "That is enough");
 *     }
 *
 * Everything else of mailerq.h can be used beside it. Where the server has no extensions (MQX), answers do
 * nothing, and a failed step goes on.
 */
#ifndef ROHRPOST_MAILERQ_HPP
#define ROHRPOST_MAILERQ_HPP

#include "mailerq.h"

#if MQ_API_VERSION < 400
#  error "mailerq.hpp wants MQ_API_VERSION 400 or later, or none, which is 506"
#endif
#if __cplusplus < 201703L
#  error "mailerq.hpp wants C++17: -std=c++17"
#endif

#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#if defined(__GLIBCXX__)
#  include <cxxabi.h>
#endif

namespace mailerq {

using Seconds = std::chrono::duration<double>;

/* ---- The log: any thread ------------------------------------------------------------------------- */

inline void log(int priority, const std::string &text) noexcept { MQ_log(priority, text.c_str()); }
inline void info(const std::string &text) noexcept { log(MQ_INFO, text); }
inline void warning(const std::string &text) noexcept { log(MQ_WARN, text); }
inline void critical(const std::string &text) noexcept { log(MQ_CRIT, text); }

/* ---- The edge ------------------------------------------------------------------------------------ */

/* Runs `body`; false if it threw, which is said in the log. Nothing leaves it but the end of a thread. */
template <typename Body>
bool guarded(const char *what, Body &&body)
{
    const auto say = [what](const char *text) noexcept {
        try {
            critical(std::string("exception in ") + what + ": " + text);
        } catch (...) {
            MQ_log(MQ_CRIT, "exception, and no memory to say which");
        }
    };
    try {
        body();
        return true;
    }
#if defined(__GLIBCXX__)
    catch (abi::__forced_unwind &) {
        throw; // pthread_cancel and pthread_exit: not to be stopped
    }
#endif
    catch (const std::exception &error) {
        say(error.what());
    } catch (...) {
        say("of a type that is no std::exception");
    }
    return false;
}

/* A function that may be moved and not copied: what it captures may be a Hold. */
template <typename... Arguments>
class Callback {
    struct Base {
        virtual ~Base() = default;
        virtual void run(Arguments... arguments) = 0;
    };
    template <typename Function>
    struct Of final : Base {
        Function function;
        explicit Of(Function &&function) : function(std::move(function)) {}
        void run(Arguments... arguments) override { function(arguments...); }
    };
    std::unique_ptr<Base> base;

public:
    Callback() = default;
    template <typename Function, typename = std::enable_if_t<!std::is_same_v<std::decay_t<Function>, Callback>>>
    Callback(Function &&function)
        : base(new Of<std::decay_t<Function>>(std::decay_t<Function>(std::forward<Function>(function))))
    {
    }
    explicit operator bool() const noexcept { return base != nullptr; }
    void operator()(Arguments... arguments) { base->run(arguments...); }
};

/* ---- Messages and addresses ---------------------------------------------------------------------- */

/* An address of MAIL FROM or RCPT TO; valid in its hook, and as long as the step is held. */
class Address {
    MQ_Address *address;

public:
    explicit Address(MQ_Address *address) noexcept : address(address) {}
    /* Empty for the null sender. */
    std::string_view text() const noexcept
    {
        const char *email = MQ_email(address);
        return email ? std::string_view(email) : std::string_view();
    }
    bool null() const noexcept { return MQ_email(address) == nullptr; }
    std::string_view local_part() const noexcept { return text().substr(0, text().rfind('@')); }
    std::string_view domain() const noexcept
    {
        const auto at = text().rfind('@');
        return at == std::string_view::npos ? std::string_view() : text().substr(at + 1);
    }
    bool local() const noexcept { return MQ_local(address); }
    void set_local(bool local) const noexcept { MQ_setLocal(address, local); }
    MQ_Address *raw() const noexcept { return address; }
};

/* A message, for one recipient. What it returns is valid until the next setter or the end of the step. */
class Message {
    MQ_Message *message;

public:
    explicit Message(MQ_Message *message) noexcept : message(message) {}
    /* NULs included where the server says how long it is. */
    std::optional<std::string_view> mime() const noexcept
    {
        std::size_t size = 0;
        if (MQX_mime) {
            const char *text = MQX_mime(message, &size);
            return text ? std::optional(std::string_view(text, size)) : std::nullopt;
        }
        return view(MQ_mime(message));
    }
    std::optional<std::string_view> sender() const noexcept
    {
        return view(reinterpret_cast<const char *>(MQ_envelope(message)));
    }
    std::optional<std::string_view> recipient() const noexcept { return view(MQ_recipient(message)); }
    void set_mime(std::string_view text) const noexcept { MQ_setMime(message, text.data(), text.size()); }
    /* "" is the null sender. */
    void set_sender(std::string_view text) const noexcept
    {
        MQ_setEnvelope(message, text.data() ? text.data() : "", text.size());
    }
    void set_recipient(std::string_view text) const noexcept { MQ_setRecipient(message, text.data(), text.size()); }
    bool local() const noexcept { return MQ_local(message); }
    void set_local(bool local) const noexcept { MQ_setLocal(message, local); }
    /* Its name in the queue, and how many attempts there were with that of now. */
    std::optional<std::string_view> id() const noexcept
    {
        return MQX_messageId ? view(MQX_messageId(message, nullptr)) : std::nullopt;
    }
    int attempt() const noexcept { return MQX_attempt ? MQX_attempt(message) : 0; }
    bool discard() const noexcept { return MQX_discard && MQX_discard(message); }
    /* On its way out: fails for good, is tried again, or goes to another host. */
    bool bounce(int code = 0, const char *status = nullptr, const char *text = nullptr) const noexcept
    {
        return MQX_bounce && MQX_bounce(message, code, status, text);
    }
    bool retry_at(double unix_seconds) const noexcept { return MQX_retryAt && MQX_retryAt(message, unix_seconds); }
    bool route(const char *host, int port = 0) const noexcept { return MQX_route && MQX_route(message, host, port); }
    MQ_Message *raw() const noexcept { return message; }

private:
    static std::optional<std::string_view> view(const char *text) noexcept
    {
        return text ? std::optional(std::string_view(text)) : std::nullopt;
    }
};

/* ---- The worker and its loop --------------------------------------------------------------------- */

/* A timer. Destroying it stops it, also from within its own function. */
class Timer {
    struct Shared {
        MQ_Timer *token = nullptr; /* null: it has fired, or was stopped */
        bool repeats = false;
        Callback<> callback;
        std::shared_ptr<Shared> *server = nullptr; /* what the server has */
    };
    std::shared_ptr<Shared> shared;

    static void stop(const std::shared_ptr<Shared> &shared) noexcept
    {
        if (shared == nullptr || shared->token == nullptr)
            return;
        MQ_stopTimer(std::exchange(shared->token, nullptr));
        delete std::exchange(shared->server, nullptr);
    }
    static void fire(void *data)
    {
        auto *server = static_cast<std::shared_ptr<Shared> *>(data);
        const std::shared_ptr<Shared> shared = *server; /* its function may destroy the timer */
        if (!shared->repeats) {
            shared->token = nullptr;
            delete std::exchange(shared->server, nullptr);
        }
        Callback<> callback = std::move(shared->callback);
        if (!callback)
            return;
        if (!guarded("a timer", callback))
            stop(shared);
        else if (shared->repeats)
            shared->callback = std::move(callback);
        /* What the function captured may throw when it goes; it must not. */
    }

public:
    Timer() = default;
    Timer(MQ_Context *context, Seconds first, Seconds interval, Callback<> callback)
        : shared(std::make_shared<Shared>())
    {
        shared->repeats = interval > Seconds::zero();
        shared->callback = std::move(callback);
        auto server = std::make_unique<std::shared_ptr<Shared>>(shared);
        if (!shared->repeats)
            shared->token = MQ_startTimer(context, static_cast<float>(first.count()), fire, server.get());
        else if (MQX_repeat)
            shared->token = MQX_repeat(context, first.count(), interval.count(), fire, server.get());
        if (shared->token == nullptr)
            throw std::runtime_error("the server refused a timer");
        shared->server = server.release();
    }
    Timer(Timer &&) = default;
    Timer &operator=(Timer &&other) noexcept
    {
        std::swap(shared, other.shared);
        return *this;
    }
    ~Timer() { stop(shared); }
    /* Lets it go on without an owner. */
    void detach() noexcept { shared.reset(); }
    bool armed() const noexcept { return shared != nullptr && shared->token != nullptr; }
    void reset(Seconds time) const noexcept
    {
        if (armed())
            MQ_resetTimer(shared->token, static_cast<float>(time.count()));
    }
};

/* A watched descriptor, which stays its owner's: destroy the watch before it is closed. */
class Watch {
    struct Shared {
        MQ_IOWatcher *token = nullptr;
        Callback<int> callback;
        std::shared_ptr<Shared> *server = nullptr;
    };
    std::shared_ptr<Shared> shared;

    static void stop(const std::shared_ptr<Shared> &shared) noexcept
    {
        if (shared == nullptr || shared->token == nullptr)
            return;
        MQ_ioUnwatch(std::exchange(shared->token, nullptr));
        delete std::exchange(shared->server, nullptr);
    }
    static void ready(MQ_IOWatcher *, int, int events, void *data)
    {
        const std::shared_ptr<Shared> shared = *static_cast<std::shared_ptr<Shared> *>(data);
        Callback<int> callback = std::move(shared->callback);
        if (!callback)
            return;
        if (guarded("a watch", [&] { callback(events); }))
            shared->callback = std::move(callback);
        else
            stop(shared);
    }

public:
    Watch() = default;
    /* `callback` is given MQ_READ, MQ_WRITE, or both. */
    Watch(MQ_Context *context, int fd, int events, Callback<int> callback) : shared(std::make_shared<Shared>())
    {
        shared->callback = std::move(callback);
        auto server = std::make_unique<std::shared_ptr<Shared>>(shared);
        shared->token = MQ_ioWatch(context, fd, events, ready, server.get());
        if (shared->token == nullptr)
            throw std::runtime_error("the server refused a watch");
        shared->server = server.release();
    }
    Watch(Watch &&) = default;
    Watch &operator=(Watch &&other) noexcept
    {
        std::swap(shared, other.shared);
        return *this;
    }
    ~Watch() { stop(shared); }
    /* Waits for something else from now on; 0 is nothing. */
    bool mask(int events) const noexcept
    {
        return shared != nullptr && shared->token != nullptr && MQX_watchMask && MQX_watchMask(shared->token, events);
    }
};

/* What other threads have decided about the holds of one worker, which carries it out. One decision at
 * most for each hold. */
class Returns {
    std::mutex lock;
    std::deque<Callback<>> decisions;
    bool open = true; /* false: the worker's thread has ended, and the server has taken its steps back */

public:
    void put(Callback<> decision)
    {
        const std::lock_guard<std::mutex> locked(lock);
        if (open)
            decisions.push_back(std::move(decision));
    }
    /* On the worker, after each function that was posted: a decision whose own post was refused had one
     * before it. */
    void take() noexcept
    {
        for (;;) {
            Callback<> decision;
            {
                const std::lock_guard<std::mutex> locked(lock);
                if (decisions.empty())
                    return;
                decision = std::move(decisions.front());
                decisions.pop_front();
            }
            guarded("the hand-back of another thread", decision);
        }
    }
    void close() noexcept
    {
        std::deque<Callback<>> dropped;
        const std::lock_guard<std::mutex> locked(lock);
        open = false;
        dropped.swap(decisions);
    }
    static void on_posted(void *) { here()->take(); }

    /* Those of the thread that runs. */
    static const std::shared_ptr<Returns> &here()
    {
        struct Here {
            std::shared_ptr<Returns> returns = std::make_shared<Returns>();
            ~Here() { returns->close(); }
        };
        static thread_local Here here;
        return here.returns;
    }
};

/* A worker. Valid as long as that runs: functions may capture it. */
class Context {
    MQ_Context *context;

    struct Posted {
        Callback<> job;
        static void run(void *data)
        {
            std::unique_ptr<Posted> posted(static_cast<Posted *>(data));
            guarded("a posted function", posted->job);
            posted.reset();
            Returns::on_posted(nullptr);
        }
    };

public:
    explicit Context(MQ_Context *context) noexcept : context(context) {}
    [[nodiscard]] Timer timer(Seconds time, Callback<> callback) const
    {
        return Timer(context, time, Seconds::zero(), std::move(callback));
    }
    [[nodiscard]] Timer repeat(Seconds first, Seconds interval, Callback<> callback) const
    {
        return Timer(context, first, interval, std::move(callback));
    }
    [[nodiscard]] Watch watch(int fd, int events, Callback<int> callback) const
    {
        return Watch(context, fd, events, std::move(callback));
    }
    /* Any thread: has the worker run `job`. False if it takes no more; then `job` is gone, and a step whose
     * Hold it had has failed. */
    bool post(Callback<> job) const
    {
        auto posted = std::make_unique<Posted>();
        posted->job = std::move(job);
        if (!MQX_post || !MQX_post(context, Posted::run, posted.get()))
            return false;
        posted.release();
        return true;
    }
    MQ_Context *raw() const noexcept { return context; }
};

/* ---- Connections and steps ----------------------------------------------------------------------- */

enum class Verdict { proceed = MQX_CONTINUE, complete = MQX_COMPLETE, retry = MQX_RETRY };

/* A connection. What it returns is valid until the step is over. It has many steps, and an answer is for one
 * of them: hence only a Step, in its hook, and a Hold, while it lives, can say what comes of it. */
class Connection {
protected:
    MQ_Connection *connection;

public:
    explicit Connection(MQ_Connection *connection) noexcept : connection(connection) {}
    bool secure() const noexcept { return MQ_secure(connection); }
    bool authenticated() const noexcept { return MQ_authenticated(connection); }
    std::string_view peer() const noexcept { return MQX_peer ? view(MQX_peer(connection, nullptr)) : ""; }
    std::string_view helo() const noexcept { return MQX_helo ? view(MQX_helo(connection, nullptr)) : ""; }
    std::string_view login() const noexcept { return MQX_login ? view(MQX_login(connection, nullptr)) : ""; }

    MQ_Connection *raw() const noexcept { return connection; }

protected:
    void set_authenticated(bool authenticated) const noexcept { MQ_setAuthenticated(connection, authenticated); }
    bool send(std::string_view bytes) const noexcept
    {
        return MQ_send(connection, bytes.data(), bytes.size()) == bytes.size();
    }
    /* The answer of the step: 5yz for good, 4yz for now; 0 and nullptr stand for what is usual. */
    bool reject(int code = 0, const char *status = nullptr, const char *text = nullptr) const noexcept
    {
        return MQX_reject && MQX_reject(connection, code, status, text);
    }
    bool defer(int code = 0, const char *status = nullptr, const char *text = nullptr) const noexcept
    {
        return MQX_defer && MQX_defer(connection, code, status, text);
    }
    bool discard() const noexcept { return MQX_discard && MQX_discard(connection); }
    bool disconnect() const noexcept { return MQX_disconnect && MQX_disconnect(connection); }
    bool fail() const noexcept { return MQX_fail && MQX_fail(connection); }

private:
    static std::string_view view(const char *text) noexcept { return text ? text : ""; }
};

/* A step that waits, and its connection: answer before the hand-back, on its worker. An answer that is given
 * elsewhere fails the step, and one after the server has taken it back does nothing. Destroyed without a verdict,
 * on any thread, it fails its step. To go on with it in another thread: RemoteHold. */
class Hold : public Connection {
    struct Lease {
        MQX_Hold *token = nullptr;
        std::atomic<bool> live{true};    /* false: handed back, or taken back by the server */
        std::atomic<bool> failed{false}; /* an answer was lost: the step must not go on without it */
        std::shared_ptr<Lease> *server = nullptr; /* the worker's alone */
        std::thread::id home = std::this_thread::get_id();
        std::shared_ptr<Returns> returns = Returns::here();
    };
    std::shared_ptr<Lease> lease;
    Context worker;

    friend class RemoteHold;

    /* The server takes the step back, and lets it fail. */
    static void expired(MQX_Hold *, void *data)
    {
        std::unique_ptr<std::shared_ptr<Lease>> server(static_cast<std::shared_ptr<Lease> *>(data));
        (*server)->live = false;
        (*server)->server = nullptr;
    }
    /* May the step be answered? */
    bool answerable() const noexcept
    {
        if (!live())
            return false;
        if (std::this_thread::get_id() == lease->home)
            return true;
        MQ_log(MQ_WARN, "a held step was answered on another thread than its own, and fails");
        lease->failed = true;
        return false;
    }
    /* On the worker. */
    static bool end(Lease &lease, MQ_Connection *connection, Verdict verdict, bool failed) noexcept
    {
        if (!lease.live)
            return false;
        if (lease.token == nullptr) {
            lease.live = false;
            switch (verdict) {
            case Verdict::proceed: MQ_continue(connection); break;
            case Verdict::complete: MQ_complete(connection); break;
            case Verdict::retry: MQ_retry(connection); break;
            }
            return true;
        }
        /* Where the failure is refused, the step must not go on as if nothing had been: it is taken back. */
        if ((failed || lease.failed) && !(MQX_fail && MQX_fail(connection)))
            return false;
        lease.live = false;
        const bool released = MQX_release(lease.token, static_cast<int>(verdict));
        if (released)
            delete std::exchange(lease.server, nullptr);
        return released;
    }
    /* Has the worker do it. If it cannot, the server takes the step back. */
    static bool give_back(const std::shared_ptr<Lease> &lease, MQ_Context *worker, Callback<> decision)
    {
        lease->returns->put(std::move(decision));
        /* Refused, it has 65,536 before it, the last of which takes the decision along. */
        if (MQX_post)
            MQX_post(worker, Returns::on_posted, nullptr);
        return true;
    }
    bool finish(Verdict verdict, bool failed) noexcept
    {
        const auto ended = std::move(lease);
        if (std::this_thread::get_id() == ended->home || ended->token == nullptr)
            return end(*ended, connection, verdict, failed);
        const auto on = connection;
        const auto where = worker.raw();
        return guarded("the hand-back of a hold", [&] {
            give_back(ended, where, [ended, on, verdict, failed] { end(*ended, on, verdict, failed); });
        });
    }

public:
    Hold(MQ_Connection *connection, Context context)
        : Connection(connection), lease(std::make_shared<Lease>()), worker(context)
    {
        if (!MQX_hold)
            return; /* handed back by the connection, as in MailerQ */
        auto server = std::make_unique<std::shared_ptr<Lease>>(lease);
        lease->token = MQX_hold(connection, 0, expired, server.get());
        if (lease->token == nullptr) {
            lease->live = false;
            throw std::runtime_error("the server refused to let a step be held");
        }
        lease->server = server.release();
    }
    Hold(Hold &&) = default;
    Hold &operator=(Hold &&other) noexcept
    {
        std::swap(lease, other.lease);
        std::swap(connection, other.connection);
        std::swap(worker, other.worker);
        return *this;
    }
    ~Hold()
    {
        if (!live())
            return;
        MQ_log(MQ_WARN, "a held step was dropped without a verdict, and fails");
        finish(Verdict::proceed, true);
    }
    bool live() const noexcept { return lease != nullptr && lease->live; }
    Context context() const noexcept { return worker; }

    /* Answers, as those of a Step: false if they are not taken. */
    bool reject(int code = 0, const char *status = nullptr, const char *text = nullptr) const noexcept
    {
        return answerable() && Connection::reject(code, status, text);
    }
    bool defer(int code = 0, const char *status = nullptr, const char *text = nullptr) const noexcept
    {
        return answerable() && Connection::defer(code, status, text);
    }
    bool discard() const noexcept { return answerable() && Connection::discard(); }
    bool disconnect() const noexcept { return answerable() && Connection::disconnect(); }
    bool fail() const noexcept { return answerable() && Connection::fail(); }
    bool send(std::string_view bytes) const noexcept { return answerable() && Connection::send(bytes); }
    void set_authenticated(bool authenticated) const noexcept
    {
        if (answerable())
            Connection::set_authenticated(authenticated);
    }

    /* Hands the step back; false if the server has taken it back before. On another thread: true when it is
     * on its way. */
    bool release(Verdict verdict) noexcept { return live() && finish(verdict, false); }
    bool proceed() noexcept { return release(Verdict::proceed); }
};

/* A step that waits for another thread. Dropped there without a verdict it fails, as a Hold does.
 *
 *     std::thread([remote = mailerq::RemoteHold(step.hold())]() mutable {
 *         const bool known = look_up();
 *         remote.finish([known](mailerq::Hold &hold) {   // on the worker
 *             if (!known)
 *                 hold.reject();
 *             hold.proceed();
 *         });
 *     }).detach();
 */
class RemoteHold {
    Hold hold;

public:
    explicit RemoteHold(Hold &&hold) noexcept : hold(std::move(hold)) {}
    bool release(Verdict verdict) noexcept { return hold.release(verdict); }
    /* Has the worker run `decide`, which may answer the step and hand it back; if it does not, the step has
     * failed. False if the server has taken it back before. */
    bool finish(Callback<Hold &> decide)
    {
        if (!hold.live())
            return false;
        const auto lease = hold.lease;
        const auto where = hold.worker.raw();
        return Hold::give_back(lease, where, [hold = std::move(hold), decide = std::move(decide)]() mutable {
            decide(hold);
        });
    }
};

/* One event on one connection: valid while its hook runs. */
class Step : public Connection {
    Context worker;
    bool took_control = false;

    struct Box {
        const void *kind = nullptr;
        virtual ~Box() = default;
    };
    template <typename State>
    struct Of final : Box {
        static inline const char kind_of_state = 0;
        State state{};
        Of() { kind = &kind_of_state; }
    };

public:
    Step(MQ_Context *context, MQ_Connection *connection) noexcept : Connection(connection), worker(context) {}
    using Connection::defer;
    using Connection::discard;
    using Connection::disconnect;
    using Connection::fail;
    using Connection::reject;
    using Connection::send;
    using Connection::set_authenticated;
    Context context() const noexcept { return worker; }
    bool controlled() const noexcept { return took_control; }
    /* Lets the step wait, without holding up anything else, until the hold is released. */
    [[nodiscard]] Hold hold()
    {
        if (took_control)
            throw std::logic_error("this step is held or handed back already");
        Hold hold(connection, worker);
        took_control = true;
        return hold;
    }
    /* Passes over the other plugins in this step. One that is held is its hold's to hand back: then this does
     * nothing but warn. */
    void complete() noexcept
    {
        if (took_control) {
            MQ_log(MQ_WARN, "a step that is held was not completed: that is its hold's to say");
            return;
        }
        took_control = true;
        MQ_complete(connection);
    }
    /* The state of the connection, made when it is first asked for, destroyed when the connection closes. */
    template <typename State>
    State &state() const
    {
        auto *box = static_cast<Box *>(MQ_connectionData(connection));
        if (box == nullptr) {
            box = new Of<State>();
            MQ_setConnectionData(connection, box);
        }
        if (box->kind != &Of<State>::kind_of_state)
            throw std::logic_error("the state of a connection is of another type");
        return static_cast<Of<State> *>(box)->state;
    }
    static void forget(MQ_Connection *connection)
    {
        std::unique_ptr<Box> box(static_cast<Box *>(MQ_connectionData(connection)));
        MQ_setConnectionData(connection, nullptr);
    }
};

/* What every hook below does: calls `body`, and fails the step if that throws. */
template <typename Body>
bool run(const char *name, MQ_Context *context, MQ_Connection *connection, Body &&body)
{
    Step step(context, connection);
    if (!guarded(name, [&] { body(step); }))
        step.fail();
    return step.controlled();
}

/* For plugins without a state. */
struct Nothing {};

} // namespace mailerq

/* ---- Hooks: each is followed by the body of a function that returns nothing --------------------------- */

/* Once in a plugin: its version, and the end of the state of a connection, which is of this type. */
#define MAILERQ_PLUGIN(State)                                                                             \
    static_assert(std::is_default_constructible_v<State>, "the state of a connection is made by itself"); \
    MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }                                             \
    MQ_EXPORT bool mq_smtp_in_close(MQ_Context *, MQ_Connection *connection)                              \
    {                                                                                                     \
        mailerq::guarded("the end of a connection", [&] { mailerq::Step::forget(connection); });          \
        return false;                                                                                     \
    }                                                                                                     \
    MQ_EXPORT bool mqx_smtp_out_close(MQ_Context *, MQ_Connection *connection)                            \
    {                                                                                                     \
        mailerq::guarded("the end of a connection", [&] { mailerq::Step::forget(connection); });          \
        return false;                                                                                     \
    }

#define MAILERQ_STEP(hook, step)                                                        \
    static void mailerq_##hook(mailerq::Step &);                                        \
    MQ_EXPORT bool hook(MQ_Context *context, MQ_Connection *connection)                 \
    {                                                                                   \
        return mailerq::run(#hook, context, connection, mailerq_##hook);                \
    }                                                                                   \
    static void mailerq_##hook([[maybe_unused]] mailerq::Step &step)

#define MAILERQ_TEXT(hook, step, text)                                                                        \
    static void mailerq_##hook(mailerq::Step &, std::string_view);                                            \
    MQ_EXPORT bool hook(MQ_Context *context, MQ_Connection *connection, const char *bytes, std::size_t size)  \
    {                                                                                                         \
        return mailerq::run(#hook, context, connection,                                                       \
                            [&](mailerq::Step &s) { mailerq_##hook(s, std::string_view(bytes, size)); });     \
    }                                                                                                         \
    static void mailerq_##hook([[maybe_unused]] mailerq::Step &step, [[maybe_unused]] std::string_view text)

#define MAILERQ_ADDRESS(hook, step, address)                                                                  \
    static void mailerq_##hook(mailerq::Step &, mailerq::Address);                                            \
    MQ_EXPORT bool hook(MQ_Context *context, MQ_Connection *connection, MQ_Address *pointer)                  \
    {                                                                                                         \
        return mailerq::run(#hook, context, connection,                                                       \
                            [&](mailerq::Step &s) { mailerq_##hook(s, mailerq::Address(pointer)); });         \
    }                                                                                                         \
    static void mailerq_##hook([[maybe_unused]] mailerq::Step &step, [[maybe_unused]] mailerq::Address address)

#define MAILERQ_MESSAGE(hook, step, message)                                                                  \
    static void mailerq_##hook(mailerq::Step &, mailerq::Message);                                            \
    MQ_EXPORT bool hook(MQ_Context *context, MQ_Connection *connection, MQ_Message *pointer)                  \
    {                                                                                                         \
        return mailerq::run(#hook, context, connection,                                                       \
                            [&](mailerq::Step &s) { mailerq_##hook(s, mailerq::Message(pointer)); });         \
    }                                                                                                         \
    static void mailerq_##hook([[maybe_unused]] mailerq::Step &step, [[maybe_unused]] mailerq::Message message)

#define MAILERQ_IN_CONNECT(step)           MAILERQ_STEP(mq_smtp_in_connect, step)
#define MAILERQ_IN_SECURE(step)            MAILERQ_STEP(mq_smtp_in_secure, step)
#define MAILERQ_IN_HELO(step, name)        MAILERQ_TEXT(mqx_smtp_in_helo, step, name)
#define MAILERQ_IN_MAILFROM(step, sender)  MAILERQ_ADDRESS(mq_smtp_in_mailfrom, step, sender)
#define MAILERQ_IN_RCPTTO(step, recipient) MAILERQ_ADDRESS(mq_smtp_in_rcptto, step, recipient)
#define MAILERQ_IN_DATA(step, mime)        MAILERQ_TEXT(mq_smtp_in_data, step, mime)
#define MAILERQ_IN_MESSAGE(step, message)  MAILERQ_MESSAGE(mq_smtp_in_message, step, message)
#define MAILERQ_IN_RESET(step)             MAILERQ_STEP(mqx_smtp_in_reset, step)
#define MAILERQ_OUT_CONNECT(step)          MAILERQ_STEP(mqx_smtp_out_connect, step)
#define MAILERQ_OUT_SECURE(step)           MAILERQ_STEP(mqx_smtp_out_secure, step)
#define MAILERQ_OUT_MESSAGE(step, message) MAILERQ_MESSAGE(mqx_smtp_out_message, step, message)
#define MAILERQ_OUT_DATA(step, message)    MAILERQ_MESSAGE(mq_smtp_out_data, step, message)
#define MAILERQ_OUT_SENT(step, message)    MAILERQ_MESSAGE(mq_smtp_out_sent, step, message)

/* AUTH, with the two texts; answer with step.set_authenticated. */
#define MAILERQ_IN_AUTHENTICATE(step, login, password)                                                        \
    static void mailerq_authenticate(mailerq::Step &, std::string_view, std::string_view);                    \
    MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection, const char *l,     \
                                           std::size_t ls, const char *p, std::size_t ps)                     \
    {                                                                                                         \
        return mailerq::run("mq_smtp_in_authenticate", context, connection, [&](mailerq::Step &s) {           \
            mailerq_authenticate(s, std::string_view(l, ls), std::string_view(p, ps));                        \
        });                                                                                                   \
    }                                                                                                         \
    static void mailerq_authenticate([[maybe_unused]] mailerq::Step &step,                                    \
                                     [[maybe_unused]] std::string_view login,                                 \
                                     [[maybe_unused]] std::string_view password)

/* Once per worker, on its thread. An exception is said in the log; the worker goes on without. */
#define MAILERQ_WORKER(context)                                                                              \
    static void mailerq_worker(mailerq::Context);                                                            \
    MQ_EXPORT void mq_context_initialize(MQ_Context *pointer)                                                \
    {                                                                                                        \
        mailerq::guarded("mq_context_initialize", [&] { mailerq_worker(mailerq::Context(pointer)); });       \
    }                                                                                                        \
    static void mailerq_worker([[maybe_unused]] mailerq::Context context)

#endif /* ROHRPOST_MAILERQ_HPP */
