"""What is measured, and what is to be reached. Data alone."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Case:
    """One thing that is asked of every server."""

    name: str
    title: str
    octets: int = 4096
    connections: int = 50
    #: Whether a connection brings one message after the other, or one alone.
    reuse: bool = True
    #: Whether all goes on to a sink.
    relay: bool = False
    #: How `rohrpost load` sends: lockstep, pipelined or bdat; None: Postfix' smtp-source sends.
    flight: Optional[str] = None
    #: So many connections are opened, greeted and left alone.
    idle: int = 0
    secure: bool = False
    #: Whether system calls are counted, on a run that is not timed.
    calls: bool = False
    #: Worker threads on all processors; None: one on the server's.
    workers: Optional[int] = None
    #: So many mails wait in the queue.
    backlog: int = 0

    @property
    def own(self):
        """Whether it is asked of Rohrpost alone."""
        return bool(self.workers or self.backlog)


#: Timed: messages a second, and a second of the server's CPU time.
THROUGHPUT = (
    Case("accept-4k", "accept 4 KiB, reusing connections"),
    Case("accept-4k-single", "accept 4 KiB, one message a connection", reuse=False),
    Case("accept-100k", "accept 100 KiB, reusing connections", octets=100 << 10),
    Case("accept-4k-alone", "accept 4 KiB, one connection in all", connections=1),
    Case("relay-4k", "accept 4 KiB and pass it on to a sink", relay=True),
)

#: Timed as well, by a generator that can do more and knows how long each reply took.
FLIGHTS = (
    Case("load-4k", "accept 4 KiB, `rohrpost load`, a command at a time", flight="lockstep"),
    Case("load-4k-pipelined", "accept 4 KiB, commands pipelined", flight="pipelined"),
    Case("load-4k-bdat", "accept 4 KiB, BDAT in one flight", flight="bdat"),
)

CALLS = (
    Case("calls-4k", "system calls, accept 4 KiB, reusing connections", calls=True),
    Case("calls-4k-two", "system calls, two workers", calls=True, workers=2),
)

BACKLOG = (Case("backlog", "a queue of 1,000,000 mails", backlog=1_000_000),)

IDLE = tuple(
    Case(f"idle-{count}{'-tls' if secure else ''}",
         f"{count:,} idle connections{', after STARTTLS' if secure else ''}",
         connections=count, idle=count, secure=secure)
    for secure in (False, True)
    for count in (1000, 10000)
)

CASES = THROUGHPUT + FLIGHTS + CALLS + IDLE + BACKLOG

#: Others that took more of the machine than this make a run one to be told of.
OTHERS_MAX = 0.08


@dataclass(frozen=True)
class Aim:
    """What Rohrpost is to reach: a figure of its own, divided by one of another where there is one."""

    title: str
    case: str
    measure: str
    least: float
    #: What cannot be passed on this kind of machine, as far as we know.
    limit: Optional[float]
    than: Optional[str] = None
    than_case: Optional[str] = None
    #: Whether a smaller figure is the better one.
    small: bool = False
    unit: str = ""


AIMS = (
    Aim("accept 4 KiB, reusing connections, per server-CPU-second, beside smtp-sink",
        "accept-4k", "per_cpu_second", 1.35, 1.7, "smtp-sink", unit=" ×"),
    Aim("accept 4 KiB, one message a connection, beside smtp-sink",
        "accept-4k-single", "per_cpu_second", 1.8, 2.4, "smtp-sink", unit=" ×"),
    Aim("accept 100 KiB, reusing connections, beside smtp-sink",
        "accept-100k", "per_cpu_second", 4.0, 5.5, "smtp-sink", unit=" ×"),
    Aim("pipelined, beside a command at a time (the first row)",
        "load-4k-pipelined", "per_cpu_second", 1.3, 1.44, "rohrpost", "accept-4k", unit=" ×"),
    Aim("BDAT in one flight, beside a command at a time (the first row)",
        "load-4k-bdat", "per_cpu_second", 1.6, 1.85, "rohrpost", "accept-4k", unit=" ×"),
    Aim("relay 4 KiB, beside what smtp-sink accepts",
        "relay-4k", "per_cpu_second", 0.5, 1.0, "smtp-sink", "accept-4k", unit=" ×"),
    Aim("one injecting connection: time of a message beside the floor",
        "accept-4k-alone", "seconds_each", 1.3, 1.0, "floor", small=True, unit=" ×"),
    Aim("system calls of an accepted 4 KiB message, without those of a turn",
        "calls-4k", "calls_of_messages", 8.0, None, small=True),
    Aim("an idle connection of 10,000, resident",
        "idle-10000", "kib_each", 2.0, None, small=True, unit=" KiB"),
    Aim("an idle connection of 10,000 after TLS, resident",
        "idle-10000-tls", "kib_each", 20.0, None, small=True, unit=" KiB"),
    Aim("CPU time of a message with 10⁶ mails queued, beside none",
        "backlog", "cpu_beside_none", 1.02, 1.0, small=True, unit=" ×"),
    Aim("a queued mail, resident, of 10⁶",
        "backlog", "octets_each", 300.0, None, small=True, unit=" octets"),
    Aim("killed with 10⁶ mails queued: until it greets again",
        "backlog", "greets_seconds", 1.0, None, small=True, unit=" s"),
    Aim("killed with 10⁶ mails queued: until it delivers again",
        "backlog", "delivers_seconds", 3.0, None, small=True, unit=" s"),
    Aim("two workers: system calls of a message, without those of a turn, beside one",
        "calls-4k-two", "calls_of_messages", 1.02, 1.0, "rohrpost", "calls-4k", small=True, unit=" ×"),
)


@dataclass(frozen=True)
class Effort:
    """How long it is measured."""

    seconds: float
    rounds: int
    idle_rounds: int
    idle_max: int
    traced_messages: int
    backlog_max: int
    #: How long a run waits for others to leave the machine alone.
    patience_seconds: float
    quick: bool = False


FULL = Effort(seconds=4.0, rounds=5, idle_rounds=3, idle_max=10000, traced_messages=10000,
              backlog_max=1_000_000, patience_seconds=60.0)
QUICK = Effort(seconds=0.5, rounds=1, idle_rounds=1, idle_max=1000, traced_messages=600,
               backlog_max=20_000, patience_seconds=0.0, quick=True)
