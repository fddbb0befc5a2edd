"""One run: a server started anew with an empty queue, one case asked of it, and its end.

A run gives a record, a dictionary that the report is made of. One that fails gives a record that says
why, so that what is not in a table is explained below it.
"""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import backlog
import calls
import machine
from generators import Crowd, Failed, Generator, Sink
from plan import CASES
from running import Running
from servers import free_port

#: Messages that come before those that count: processes start, caches fill, code is compiled.
WARM_UP_MESSAGES = 500
#: Nor does one run bring more than this, on machines faster than ours.
OCTETS_MAX = 2 << 30
MESSAGES_MIN = 200

TRACED_MESSAGES_MIN, TRACED_MESSAGES_USUAL = 200, 2000

#: Memory is looked at when a crowd has been silent for this long.
SILENCE_SECONDS = 1.0

FIRST = CASES[0]


class Bench:
    """What all runs of one session share."""

    def __init__(self, tools, layout, effort, folder):
        self.tools, self.layout, self.effort = tools, layout, effort
        self.folder = Path(folder)
        #: Messages a run, by case and server: the same in each round.
        self.messages = {}
        self.patience_seconds = effort.patience_seconds

    def run(self, case, server, number):
        """The record of one run."""
        record = {"case": case.name, "server": server.name, "round": number}
        why = server.lacks(case)
        if why:
            return {**record, "skipped": why}
        self.await_quiet()
        try:
            return {**record, **self.kind(case)(case, server)}
        except Failed as error:
            return {**record, "failed": str(error)}
        finally:
            shutil.rmtree(self.folder / server.name, ignore_errors=True)

    def await_quiet(self):
        """Waits for others to be done; for less and less time, as long as they are not."""
        if machine.await_quiet(self.patience_seconds):
            self.patience_seconds = self.effort.patience_seconds
        else:
            self.patience_seconds /= 2

    def kind(self, case):
        """How a case is measured."""
        if case.backlog:
            return lambda case, server: backlog.measure(self, case, server)
        if case.idle:
            return self.hold
        if case.calls:
            return self.trace
        return self.relay if case.relay else self.carry

    def generator(self):
        return Generator(self.tools, self.layout, self.folder)

    def carry(self, case, server):
        """Brings mail for a while."""
        with Running(self, server, case) as running:
            messages = self.warm_up(case, server, running)
            return self.measure(case, running, messages)

    def warm_up(self, case, server, running):
        """Brings what does not count; returns how many messages take the time that is wanted."""
        count = max(case.connections, WARM_UP_MESSAGES * FIRST.octets // case.octets)
        seconds, _ = self.generator().bring(case, running.port, count)
        if seconds < 0.2:
            count *= 5
            seconds, _ = self.generator().bring(case, running.port, count)
        key = (case.name, server.name)
        if key not in self.messages:
            wanted = int(count / seconds * self.effort.seconds)
            self.messages[key] = max(MESSAGES_MIN, min(wanted, OCTETS_MAX // case.octets))
        running.group.await_rest()
        return self.messages[key]

    def measure(self, case, running, messages, sink=None):
        """Brings `messages`, all of which count, and waits until the sink, if there is one, has them."""
        generator = self.generator()
        before, used = machine.Busy(), running.group.cpu_seconds()
        sink_used = sink.group.cpu_seconds() if sink else 0.0
        began = time.monotonic()
        seconds, latencies = generator.bring(case, running.port, messages)
        if sink:
            sink.await_all()
            seconds = time.monotonic() - began
        after = machine.Busy()
        so_far = running.group.cpu_seconds() - used
        sink_seconds = sink.group.cpu_seconds() - sink_used if sink else 0.0
        # What the server does later for these messages is a part of their cost.
        running.group.await_rest()
        cpu_seconds = max(running.group.cpu_seconds() - used, 1e-6)
        others = before.others(after, so_far + generator.cpu_seconds + sink_seconds)
        record = {
            "messages": messages,
            "seconds": round(seconds, 4),
            "cpu_seconds": round(cpu_seconds, 4),
            "per_second": round(messages / seconds, 1),
            "per_cpu_second": round(messages / cpu_seconds, 1),
            "seconds_each": seconds / messages,
            "resident_kib": running.group.resident_kib(),
            "others": round(others, 3),
        }
        if latencies:
            record["latency_us"] = latencies
        return record

    def relay(self, case, server):
        """Brings mail that goes on to a sink, and counts the time until the last is there."""
        messages = self.relay_messages(server)
        port = free_port()
        whole = messages + WARM_UP_MESSAGES
        with Sink(self.tools, self.layout, self.folder, port, whole) as sink, \
                Running(self, server, case, port) as running:
            self.generator().bring(case, running.port, WARM_UP_MESSAGES)
            running.group.await_rest()
            return self.measure(case, running, messages, sink)

    def relay_messages(self, server):
        """Half of what it accepts in the time that is wanted, since they take about twice as long."""
        if (FIRST.name, server.name) not in self.messages:
            with Running(self, server, FIRST) as running:
                self.warm_up(FIRST, server, running)
        return max(MESSAGES_MIN, self.messages[FIRST.name, server.name] // 2)

    def trace(self, case, server):
        """Counts system calls while mail is brought."""
        # What is traced is several times slower.
        usual = self.messages.get((FIRST.name, server.name), TRACED_MESSAGES_USUAL * 4)
        many = max(TRACED_MESSAGES_MIN, min(self.effort.traced_messages, usual // 4))
        few = many // 4
        with Running(self, server, case) as running:
            self.generator().bring(case, running.port, case.connections)
            times = []
            for messages in (few, many):
                time.sleep(0.2)
                begin = time.time()
                self.generator().bring(case, running.port, messages)
                times.append((begin, time.time()))
            running.group.end()
            counts = []
            for begin, end in times:
                with open(running.trace, encoding="utf-8", errors="replace") as lines:
                    counts.append(calls.count(lines, begin, end))
        if not counts[1]:
            raise Failed("strace wrote down no call; may it trace here?")
        each = calls.each(*counts, many - few)
        return {
            "messages": many,
            "calls": {name: round(number, 3) for name, number in sorted(each.items())},
            "calls_each": round(sum(each.values()), 2),
            "calls_of_messages": round(calls.of_messages(each), 2),
            "syncs_each": round(calls.syncs(each), 3),
        }

    def hold(self, case, server):
        """Has connections open that say nothing."""
        with Running(self, server, case) as running:
            # The first few make what all share.
            with Crowd(self.layout, replace(case, idle=10), running.port) as few:
                few.await_open()
            running.group.await_rest()
            before = running.group.resident_kib()
            with Crowd(self.layout, case, running.port) as crowd:
                crowd.await_open()
                time.sleep(SILENCE_SECONDS)
                after = running.group.resident_kib()
        return {
            "connections": case.idle,
            "before_kib": before,
            "after_kib": after,
            "kib_each": round((after - before) / case.idle, 2),
        }
