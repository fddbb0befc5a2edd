// A plugin that does wrong what its recipients name, in C++.
#include <mailerq.hpp>

#include <thread>

namespace {

struct Seat {
    mailerq::Timer timer;
    mailerq::Watch watch;
    int ends[2] = {-1, -1};
    ~Seat() { mailerq::info("a seat is gone"); }
};

using std::chrono_literals::operator""s;

} // namespace

MAILERQ_PLUGIN(Seat)

MAILERQ_WORKER(context)
{
    throw std::runtime_error("in the worker");
}

MAILERQ_IN_RCPTTO(step, recipient)
{
    const auto name = recipient.local_part();
    const auto context = step.context();
    auto &seat = step.state<Seat>();
    if (name == "throw")
        throw std::runtime_error("in the hook for " + std::string(recipient.text()));
    if (name == "throw-number")
        throw 42;
    if (name == "wrong-state")
        step.state<int>() = 1;
    if (name == "held-throw") {
        const auto hold = step.hold();
        throw std::runtime_error("while it is held");
    }
    if (name == "timer-throw")
        context.timer(1s, [hold = step.hold()] { throw std::runtime_error("in the timer"); }).detach();
    if (name == "dropped")
        (void)step.hold();
    if (name == "wait") {
        seat.timer = context.timer(5s, [hold = step.hold()]() mutable { hold.proceed(); });
        seat.timer.reset(1s);
    }
    if (name == "repeat")
        seat.timer = context.repeat(1s, 1s, [&seat, hold = step.hold(), left = 3]() mutable {
            mailerq::info(std::to_string(--left) + " left");
            if (left == 0) {
                hold.proceed();
                seat.timer = mailerq::Timer(); // its own, while it runs
            }
        });
    if (name == "thread")
        std::thread([hold = step.hold()]() mutable { hold.proceed(); }).detach();
    if (name == "thread-answer")
        std::thread([remote = mailerq::RemoteHold(step.hold())]() mutable {
            remote.finish([](mailerq::Hold &hold) {
                hold.reject(550, "5.7.1", "The worker says no");
                hold.proceed();
            });
        }).detach();
    if (name == "thread-drop")
        std::thread([hold = step.hold()]() mutable {
            try {
                const mailerq::Hold mine = std::move(hold);
                throw std::runtime_error("look-up failed");
            } catch (...) {
            }
        }).detach();
    if (name == "thread-astray")
        std::thread([hold = step.hold()]() mutable {
            hold.reject(550, "5.7.1", "on the wrong thread");
            hold.proceed();
        }).detach();
    if (name == "thread-undecided")
        std::thread([remote = mailerq::RemoteHold(step.hold())]() mutable {
            remote.finish([](mailerq::Hold &) {});
        }).detach();
    if (name == "flood") {
        // On this thread, so that none of them runs before the last.
        mailerq::RemoteHold remote(step.hold());
        while (context.post([] {})) {
        }
        remote.finish([](mailerq::Hold &hold) { hold.proceed(); });
    }
    if (name == "flood-drop") {
        auto hold = step.hold();
        while (context.post([] {})) {
        }
        context.post([hold = std::move(hold)] {});
    }
    if (name == "late")
        context.timer(4s, [hold = step.hold()]() mutable {
            if (!hold.reject(550, "5.7.1", "far too late") && !hold.discard() && !hold.proceed())
                mailerq::info("nobody hears it");
        }).detach();
    if (name == "after-late") {
        auto hold = step.hold();
        step.complete(); // it is the hold's now
        context.timer(3s, [hold = std::move(hold)]() mutable { hold.proceed(); }).detach();
    }
    if (name == "answered-after-late")
        context.timer(1s, [hold = step.hold()]() mutable {
            hold.reject(551, "5.1.6", "in time");
            hold.proceed();
        }).detach();
    if (name == "post-throw")
        context.post([hold = step.hold()] { throw std::runtime_error("in what was posted"); });
    if (name == "reject")
        step.reject(551, "5.1.6", "Not\nhere");
}

MAILERQ_IN_MESSAGE(step, message)
{
    message.set_mime("X-Client: " + std::string(step.helo()) + "\r\n" + std::string(message.mime().value()));
    if (message.recipient() == "message-throw@example.net")
        throw std::runtime_error("in the message hook");
}
