//! How many instructions does each thing take that happens for every command, message, timer or hook?
//!
//! Owns what is counted, and nothing that counts: `benches/instructions.sh` runs this below callgrind, each
//! case for few and for many rounds, and subtracts. So the same comes out on a machine that does something
//! else as well, and what stands before the rounds does not count. Times are the other benches' matter.
//!
//! `--list` names the cases; `--case NAME --rounds N` runs one, N times as often as the list says.
//! Otherwise (`cargo test`) each case runs once, in a process of its own, for there is one host of plugins
//! in a process.
//!
//! What ends in `.smtp-proto` or `.memmem` is what others take for the same octets; see `smtp_command.rs` and
//! `data_scan.rs` for what each side does more.
//!
//! Diagnostics: panics when a case does not do what it should.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;

use mio::{Events, Poll, Token};
use rohrpost::plugin_kit::pair::{Pair, text};
use rohrpost::queue::bench::Layout;
use rohrpost::queue::{Entry, Ids};
use rohrpost::smtp::bench::{Replies, command, text_octets};
use rohrpost_abi::Hook;
use rohrpost_reactor::{Rest, TimerKey, Wheel, mailbox};
use smtp_proto::Request;
use smtp_proto::response::parser::ResponseReceiver;

#[path = "support/mail.rs"]
mod mail;
#[path = "support/plugin.rs"]
mod plugin;

/// Something that is counted, and how often a round does it.
struct Case {
    name: &'static str,
    per_round: u64,
    run: fn(u64),
}

const CASES: &[Case] = &[
    Case { name: "command/ehlo", per_round: 10, run: |rounds| commands(EHLO, rounds) },
    Case { name: "command/mail", per_round: 10, run: |rounds| commands(MAIL, rounds) },
    Case {
        name: "command/mail.smtp-proto",
        per_round: 10,
        run: |rounds| peer_commands(MAIL, rounds),
    },
    Case { name: "command/rcpt", per_round: 10, run: |rounds| commands(RCPT, rounds) },
    Case {
        name: "command/rcpt.smtp-proto",
        per_round: 10,
        run: |rounds| peer_commands(RCPT, rounds),
    },
    Case { name: "command/data", per_round: 10, run: |rounds| commands(DATA, rounds) },
    Case { name: "reply/ok", per_round: 10, run: |rounds| replies(OK, rounds) },
    Case { name: "reply/ok.smtp-proto", per_round: 10, run: |rounds| peer_replies(OK, rounds) },
    Case { name: "reply/refused", per_round: 10, run: |rounds| replies(REFUSED, rounds) },
    Case {
        name: "reply/refused.smtp-proto",
        per_round: 10,
        run: |rounds| peer_replies(REFUSED, rounds),
    },
    Case { name: "reply/extensions", per_round: 10, run: |rounds| replies(EXTENSIONS, rounds) },
    Case {
        name: "reply/extensions.smtp-proto",
        per_round: 10,
        run: |rounds| peer_replies(EXTENSIONS, rounds),
    },
    Case { name: "text/scanned_kib", per_round: SCANNED_KIB, run: |rounds| scan(LINE, 0, rounds) },
    Case {
        name: "text/scanned_kib.memmem",
        per_round: SCANNED_KIB,
        run: |rounds| peer_scan(LINE, 0, rounds),
    },
    Case {
        name: "text/scanned_kib_of_dots",
        per_round: SCANNED_KIB,
        run: |rounds| scan(DOTTED, 1, rounds),
    },
    Case {
        name: "text/scanned_kib_of_dots.memmem",
        per_round: SCANNED_KIB,
        run: |rounds| peer_scan(DOTTED, 1, rounds),
    },
    Case { name: "mailbox/message_awake", per_round: 10, run: mail_awake },
    Case { name: "mailbox/message_asleep", per_round: 1, run: mail_asleep },
    Case { name: "timer/arm_and_cancel", per_round: 10, run: timer_arm_and_cancel },
    Case { name: "timer/rearm", per_round: 10, run: timer_rearm },
    Case { name: "timer/arm_and_fire", per_round: 10, run: timer_arm_and_fire },
    Case { name: "record/accept_4k", per_round: BATCH, run: record_accept },
    Case { name: "record/settle", per_round: BATCH, run: record_settle },
    Case { name: "hook/declined", per_round: 10, run: hook },
    Case { name: "hook/declined_by_three", per_round: 10, run: hook_of_three },
    Case { name: "message/4k", per_round: 1, run: |rounds| messages(4 << 10, 0, rounds) },
    Case { name: "message/4k_plugin", per_round: 1, run: |rounds| messages(4 << 10, 1, rounds) },
    Case { name: "message/4k_plugins", per_round: 1, run: |rounds| messages(4 << 10, 3, rounds) },
    Case { name: "message/64k", per_round: 1, run: |rounds| messages(64 << 10, 0, rounds) },
    Case { name: "message/64k_plugin", per_round: 1, run: |rounds| messages(64 << 10, 1, rounds) },
    Case { name: "message/64k_plugins", per_round: 1, run: |rounds| messages(64 << 10, 3, rounds) },
];

const EHLO: &str = "EHLO client.example.com\r\n";
const MAIL: &str = "MAIL FROM:<bounces+12345@mail.example.com> SIZE=12345 BODY=8BITMIME\r\n";
const RCPT: &str = "RCPT TO:<someone.else@example.org>\r\n";
const DATA: &str = "DATA\r\n";
const OK: &str = "250 2.1.0 Ok\r\n";
const REFUSED: &str =
    "550 5.1.1 <someone.else@example.org>: Recipient address rejected: unknown user\r\n";
const EXTENSIONS: &str = "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-ETRN\r\n\
    250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n";
const LINE: &str = "The quick brown fox jumps over the lazy dog, and comes back for more.\r\n";
const DOTTED: &str = "..dots and more dots\r\n";

const FAILED: &str = "a poll, its waker and its mailbox work";
const SCANNED_KIB: u64 = 64;
/// Records of one write.
const BATCH: u64 = 16;
/// Timers beside the one that is looked at.
const TIMERS: u64 = 10_000;
/// Five minutes, as the time-outs of SMTP are.
const SPREAD_MS: u64 = 300_000;

fn main() -> ExitCode {
    match (option("--case"), option("--rounds").map(|rounds| rounds.parse::<u64>())) {
        (Some(name), Some(Ok(rounds))) => {
            let Some(case) = CASES.iter().find(|case| case.name == name) else {
                eprintln!("counted: no case is called {name:?}; --list names them");
                return ExitCode::FAILURE;
            };
            (case.run)(rounds);
            ExitCode::SUCCESS
        }
        (Some(_), _) => {
            eprintln!("counted: --case NAME --rounds N");
            ExitCode::FAILURE
        }
        (None, _) if std::env::args().any(|argument| argument == "--list") => {
            CASES.iter().for_each(|case| println!("{} {}", case.name, case.per_round));
            ExitCode::SUCCESS
        }
        (None, _) => each_once(),
    }
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn each_once() -> ExitCode {
    let program = std::env::current_exe().expect("the program knows its file");
    for case in CASES {
        let run = Command::new(&program).args(["--case", case.name, "--rounds", "1"]).status();
        if !run.expect("the program runs").success() {
            eprintln!("counted: {} failed", case.name);
            return ExitCode::FAILURE;
        }
    }
    println!("counted: {} cases run; benches/instructions.sh counts", CASES.len());
    ExitCode::SUCCESS
}

// ---- Dialogue -------------------------------------------------------------------------------------------

fn commands(line: &str, rounds: u64) {
    for _ in 0..rounds * 10 {
        let command = command(black_box(line.as_bytes()));
        assert!(matches!(black_box(command), Some(Ok(_))));
    }
}

fn peer_commands(line: &str, rounds: u64) {
    for _ in 0..rounds * 10 {
        let request = Request::parse(&mut black_box(line.as_bytes()).iter());
        black_box(request.expect("it reads this").into_owned());
    }
}

fn replies(reply: &str, rounds: u64) {
    let mut replies = Replies::new();
    for _ in 0..rounds * 10 {
        let reply = replies.read(black_box(reply.as_bytes()));
        assert!(matches!(black_box(reply), Ok(Some(_))));
    }
}

fn peer_replies(reply: &str, rounds: u64) {
    let mut receiver = ResponseReceiver::default();
    for _ in 0..rounds * 10 {
        let reply = receiver.parse(&mut black_box(reply.as_bytes()).iter());
        receiver.reset();
        assert!(black_box(reply).is_ok());
    }
}

/// A text of such lines in its wire form, and how many they are.
fn wire(line: &str) -> (Vec<u8>, usize) {
    let lines = SCANNED_KIB as usize * 1024 / line.len();
    ([&line.repeat(lines), ".\r\n"].concat().into_bytes(), lines)
}

fn scan(line: &str, stuffed: usize, rounds: u64) {
    let (wire, lines) = wire(line);
    for _ in 0..rounds {
        let octets = text_octets(black_box(&wire));
        assert_eq!(octets, Some(lines * (line.len() - stuffed)));
    }
}

fn peer_scan(line: &str, stuffed: usize, rounds: u64) {
    let (wire, lines) = wire(line);
    let finder = memchr::memmem::Finder::new(b"\n.");
    for _ in 0..rounds {
        // The first line has none before it, the end has.
        assert_eq!(finder.find_iter(black_box(&wire)).count(), 1 + stuffed * (lines - 1));
    }
}

// ---- Loop -----------------------------------------------------------------------------------------------

fn mail_awake(rounds: u64) {
    let poll = Poll::new().expect(FAILED);
    let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), 1_024).expect(FAILED);
    for mail in 0..rounds * 10 {
        sender.send(mail).expect(FAILED);
        assert_eq!(mailbox.take(), Some(mail));
    }
}

fn mail_asleep(rounds: u64) {
    let mut poll = Poll::new().expect(FAILED);
    let mut events = Events::with_capacity(4);
    let (sender, mut mailbox) = mailbox(poll.registry(), Token(0), 1_024).expect(FAILED);
    for mail in 0..rounds {
        assert_eq!(mailbox.lie_down(), Rest::Sound);
        sender.send(mail).expect(FAILED);
        poll.poll(&mut events, Some(Duration::ZERO)).expect(FAILED);
        mailbox.get_up();
        assert_eq!(mailbox.take(), Some(mail));
    }
}

/// A wheel among whose timers something happens, and what draws times.
struct Timers {
    wheel: Wheel<u64>,
    keys: Vec<TimerKey>,
    state: u64,
}

impl Timers {
    fn new() -> Timers {
        let mut timers = Timers { wheel: Wheel::new(0), keys: Vec::new(), state: 1 };
        for id in 0..TIMERS {
            let deadline_ms = timers.draw_ms();
            timers.keys.push(timers.wheel.arm(deadline_ms, id));
        }
        timers
    }

    /// A cheap sequence without pattern (an xorshift).
    fn draw_ms(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        1 + self.state % SPREAD_MS
    }
}

fn timer_arm_and_cancel(rounds: u64) {
    let mut timers = Timers::new();
    for id in 0..rounds * 10 {
        let deadline_ms = timers.draw_ms();
        let key = timers.wheel.arm(deadline_ms, id);
        assert_eq!(timers.wheel.cancel(key), Some(id));
    }
}

fn timer_rearm(rounds: u64) {
    let mut timers = Timers::new();
    for round in 0..rounds * 10 {
        let (key, deadline_ms) = (timers.keys[(round % TIMERS) as usize], timers.draw_ms());
        assert!(timers.wheel.rearm(key, deadline_ms));
    }
}

/// Each timer that fires is armed again, as long as it takes to have seen so many.
fn timer_arm_and_fire(rounds: u64) {
    let mut timers = Timers::new();
    let (mut left, mut now_ms) = (rounds * 10, 0);
    while left > 0 {
        now_ms = timers.wheel.next_deadline().expect("all are armed").max(now_ms);
        timers.wheel.advance(now_ms);
        while let Some((_, id)) = timers.wheel.take_due() {
            let deadline_ms = now_ms + timers.draw_ms();
            timers.wheel.arm(deadline_ms, black_box(id));
            left = left.saturating_sub(1);
        }
    }
    assert_eq!(timers.wheel.len() as u64, TIMERS);
}

// ---- Queue ----------------------------------------------------------------------------------------------

fn record_accept(rounds: u64) {
    let (mut ids, body) = (Ids::new(0, None), mail::body(4 << 10));
    let accept = |_| mail::accept(ids.next_id(1_700_000_000_000_000), &body);
    lay_out((0..BATCH).map(accept).collect(), rounds);
}

fn record_settle(rounds: u64) {
    let mut ids = Ids::new(0, None);
    let settle = |_| mail::settle(ids.next_id(1_700_000_000_000_000));
    lay_out((0..BATCH).map(settle).collect(), rounds);
}

fn lay_out(entries: Vec<Entry>, rounds: u64) {
    let mut layout = Layout::new();
    let octets = layout.lay_out(&entries);
    assert!(octets > 100 * entries.len());
    for _ in 0..rounds {
        assert_eq!(layout.lay_out(black_box(&entries)), octets);
    }
}

// ---- Plugins and messages -------------------------------------------------------------------------------

fn pair(copies: usize) -> Pair {
    let pair = match copies {
        0 => Pair::alone(),
        copies => Pair::with(&plugin::plugin(), copies),
    };
    pair.expect("the plugin can be measured")
}

fn hook(rounds: u64) {
    hooks(1, rounds);
}

fn hook_of_three(rounds: u64) {
    hooks(3, rounds);
}

fn hooks(copies: usize, rounds: u64) {
    let mut pair = pair(copies);
    for _ in 0..rounds * 10 {
        pair.ask(black_box(Hook::RcptTo)).expect("it declines");
    }
}

/// From one session through the other, with the steps between.
fn messages(octets: usize, copies: usize, rounds: u64) {
    let (text, mut pair) = (text(octets), pair(copies));
    for _ in 0..rounds {
        assert!(pair.pass(black_box(&text)).expect("it declines") > text.len());
    }
}
