// {name}.cpp - a plugin to begin with, on mailerq.hpp.
//
// It shows the three things that most plugins do: look at what a client says, let a step wait without holding
// up anything else, and change a message before it is stored. Replace all of it. mailerq.hpp and mailerq.h
// beside this file say what there is; tests/{name}.txt is the dialogue that `make test` plays.
#include "mailerq.hpp"

#include <string>

namespace {

// A recipient that begins so waits for this long, as it would for the answer of a service.
constexpr std::string_view PATIENT = "patient-";
constexpr mailerq::Seconds WAIT(2);

// One per connection, made when a hook first asks for it, destroyed when the connection is gone: and with it
// the timer, which never fires then, and the step that waits for it.
struct State {
    mailerq::Timer timer;
};

} // namespace

MAILERQ_PLUGIN(State)

// RCPT TO. A hold lets the step wait, and the worker serves others meanwhile. One that is lost, as by an
// exception, fails its step and nothing else.
MAILERQ_IN_RCPTTO(step, recipient)
{
    if (recipient.text().substr(0, PATIENT.size()) != PATIENT)
        return; // not interested: the next plugin is asked, then the server goes on
    step.state<State>().timer = step.context().timer(WAIT, [hold = step.hold()]() mutable {
        mailerq::info("{name}: the wait is over");
        hold.proceed();
    });
}

// Once for each recipient, before anything is stored: puts a field on top.
MAILERQ_IN_MESSAGE(step, message)
{
    if (const auto mime = message.mime())
        message.set_mime("X-{Name}: seen\r\n" + std::string(*mime));
}
