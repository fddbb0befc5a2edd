// mime.cpp - makes the text of a mail while it is being sent, for each recipient and each attempt.
//
// A newsletter is handed in once, as a stub with many recipients; when a recipient's turn comes and the
// peer has answered DATA, this plugin makes that recipient's own text. The queue never stores it: an
// attempt that fails asks again. Only mail from news@(any domain) is made here, the rest goes as it came.
//
// It is C++17 on mailerq.hpp, which stops exceptions at the edge: a hook that throws fails its step, and
// the mail is tried again later.
#include <mailerq.hpp>

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

// Workers run at the same time, and all of them count here: what plugins share must be atomic or locked.
std::atomic<unsigned long> made{0};

// CRLF or LF, both are right: the host ends lines, stuffs dots and adds the final dot.
constexpr std::string_view TEMPLATE =
    "From: <{sender}>\n"
    "To: <{recipient}>\n"
    "Date: {date}\n"
    "Message-ID: <{number}.{time}.example@{domain}>\n"
    "Subject: News for {name}\n"
    "X-Rohrpost-Example: mime.cpp, text {number}\n"
    "MIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\n"
    "\n"
    "Dear {name},\n"
    "\n"
    "this text was made while it was being sent, for you alone.\n";

std::string_view before_at(std::string_view address)
{
    return address.substr(0, address.rfind('@'));
}

std::string_view after_at(std::string_view address)
{
    const auto at = address.rfind('@');
    return at == std::string_view::npos ? "localhost" : address.substr(at + 1);
}

// RFC 5322 3.3, in UTC. gmtime_r, because gmtime shares one buffer among all threads.
std::string date(std::time_t now)
{
    std::tm parts{};
    char text[64];
    if (gmtime_r(&now, &parts) == nullptr || std::strftime(text, sizeof text, "%a, %d %b %Y %T +0000", &parts) == 0)
        throw std::runtime_error("there is no date for this time");
    return text;
}

// Replaces every {name} of the template.
std::string text_for(std::string_view sender, std::string_view recipient, unsigned long number)
{
    const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    const auto value = [&](std::string_view name) -> std::string {
        if (name == "sender") return std::string(sender);
        if (name == "recipient") return std::string(recipient);
        if (name == "name") return std::string(before_at(recipient));
        if (name == "domain") return std::string(after_at(sender));
        if (name == "date") return date(now);
        if (name == "time") return std::to_string(now);
        if (name == "number") return std::to_string(number);
        throw std::invalid_argument("the template names an unknown {" + std::string(name) + "}");
    };
    std::string text;
    std::string_view rest = TEMPLATE;
    for (auto open = rest.find('{'); open != std::string_view::npos; open = rest.find('{')) {
        const auto close = rest.find('}', open);
        if (close == std::string_view::npos)
            throw std::invalid_argument("the template has an open { at its end");
        text.append(rest.substr(0, open)).append(value(rest.substr(open + 1, close - open - 1)));
        rest.remove_prefix(close + 1);
    }
    return text.append(rest);
}

} // namespace

MAILERQ_PLUGIN(mailerq::Nothing)

// The peer has answered DATA with 354. A text that takes longer (a database, a service) is fetched while
// step.hold() lets it wait: set it, and proceed, when it has come.
MAILERQ_OUT_DATA(step, message)
{
    const auto sender = message.sender(); // valid until the step is over, and not to be kept any longer
    const auto recipient = message.recipient();
    if (!sender || !recipient || before_at(*sender) != "news")
        return;
    const auto number = ++made;
    message.set_mime(text_for(*sender, *recipient, number)); // copied: the text may go
    mailerq::info("mime: made text " + std::to_string(number) + " for " + std::string(*recipient));
}
