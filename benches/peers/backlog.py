"""What a long queue costs: of Rohrpost alone, since it is what its queue was made for.

The next hop is not there while the queue fills; then the server is killed, started again on the same
queue, and the next hop is there.
"""

import time
from dataclasses import replace

from generators import Sink
from plan import THROUGHPUT
from running import Running
from servers import free_port

FIRST = THROUGHPUT[0]

#: What fills the queue is small: it is the number that matters.
FILLING = replace(FIRST, octets=512)

REST_SECONDS_MAX = 60


def measure(bench, case, server):
    """Fills a queue, and compares a message then with one before."""
    mails = min(case.backlog, bench.effort.backlog_max)
    port = free_port()
    with Running(bench, server, FIRST, port) as running:
        count = bench.warm_up(FIRST, server, running)
        none = bench.measure(FIRST, running, count)
        before = running.group.resident_kib()
        bench.generator().bring(FILLING, running.port, mails)
        running.group.await_rest(REST_SECONDS_MAX)
        after = running.group.resident_kib()
        full = bench.measure(FIRST, running, count)
    began = time.monotonic()
    with Sink(bench.tools, bench.layout, bench.folder, port, 1) as sink, \
            Running(bench, server, FIRST, port, keep=True):
        greets = time.monotonic() - began
        # Nothing new has come, so the first that arrives was queued before.
        sink.await_all()
        delivers = time.monotonic() - began
    return {
        "mails": mails,
        "octets_each": round((after - before) * 1024 / mails, 1),
        "cpu_beside_none": round(none["per_cpu_second"] / full["per_cpu_second"], 4),
        "greets_seconds": round(greets, 3),
        "delivers_seconds": round(delivers, 3),
        "others": max(none["others"], full["others"]),
    }
