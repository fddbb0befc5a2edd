"""The programs that bring mail to the servers, and the sink behind them."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import Group, read
from servers.smtp_sink import sink_command

FROM, TO = "a@source.example", "b@sink.example"

#: A generator that has not ended after this time has met a server that does not answer.
SECONDS_MAX = 300
#: Nor one that brings more and is slower than this, a second.
RATE_MIN = 500


class Failed(Exception):
    """A run that gives no figure, and why."""


class Generator:
    """Runs one generator after another on the processors of the clients, and knows what they took."""

    def __init__(self, tools, layout, folder):
        self.tools, self.layout, self.folder = tools, layout, Path(folder)
        self.cpu_seconds = 0.0

    def run(self, command, seconds_max=SECONDS_MAX):
        """Runs it to its end; returns its seconds and its output. Raises `Failed` with what it said."""
        said = self.folder / "generator.out"
        said.unlink(missing_ok=True)
        with Group("generator") as group:
            began = time.monotonic()
            process = group.start(command, self.layout.clients, said)
            try:
                code = process.wait(seconds_max)
            except subprocess.TimeoutExpired:
                raise Failed(f"the generator had not ended after {seconds_max} s") from None
            seconds = time.monotonic() - began
            self.cpu_seconds += group.cpu_seconds()
        if code != 0:
            last = read(said).strip().splitlines()[-1:] or ["nothing"]
            raise Failed(f"the generator ended with {code}: {last[0]}")
        return seconds, read(said)

    def bring(self, case, port, messages):
        """Brings that many messages; returns its seconds, and latencies by name if they are known."""
        if case.flight is None:
            seconds_max = max(SECONDS_MAX, messages // RATE_MIN)
            seconds, _ = self.run(source_command(self.tools, case, port, messages), seconds_max)
            return seconds, None
        _, said = self.run(load_command(self.tools, case, port, messages))
        return read_load(said, messages)


def source_command(tools, case, port, messages):
    """Postfix' smtp-source: HELO, one command at a time, one recipient."""
    reuse = ["-d"] if case.reuse else []
    return [str(tools.program("smtp-source")), *reuse, "-s", str(case.connections),
            "-m", str(messages), "-l", str(case.octets), "-f", FROM, "-t", TO, f"127.0.0.1:{port}"]


def load_command(tools, case, port, messages):
    return [str(tools.rohrpost), "load", f"127.0.0.1:{port}",
            "--connections", str(case.connections), "--messages", str(messages),
            "--octets", str(case.octets), "--per-connection", "0", "--flight", case.flight, "--json"]


def read_load(said, messages):
    """Its seconds and latencies, from the JSON that `rohrpost load` prints."""
    try:
        # What stands before the object was said on standard error.
        told, _ = json.JSONDecoder().raw_decode(said, max(said.find("{"), 0))
        if told["accepted"] != messages:
            raise Failed(f"{told['accepted']} of {messages} accepted; replies {told['replies']}")
        return told["seconds"], told["latency_us"]
    except (ValueError, KeyError) as error:
        raise Failed(f"`rohrpost load --json` told something else: {error!r}") from None


def load_is_there(tools):
    """Whether this `rohrpost` has a load generator."""
    asked = subprocess.run([tools.rohrpost, "load", "--help"], capture_output=True, check=False)
    return asked.returncode == 0


class Sink:
    """smtp-sink that ends when it has got so many messages: so the last one is known to have come."""

    def __init__(self, tools, layout, folder, port, messages):
        self.group = Group("sink")
        command = sink_command(tools, port, ["-m", "1000", "-M", str(messages)])
        self.process = self.group.start(command, layout.clients, Path(folder) / "sink.out")

    def await_all(self):
        try:
            self.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"not all had been passed on after {SECONDS_MAX} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.end()


class Crowd:
    """Connections that are open, greeted and silent, held by a process of their own (idle.py)."""

    def __init__(self, layout, case, port):
        self.group = Group("crowd")
        self.said = tempfile.NamedTemporaryFile("r", encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("idle.py")), str(port), str(case.idle)]
        self.process = self.group.start(command + (["tls"] if case.secure else []), layout.clients,
                                        self.said.name)

    def await_open(self):
        end = time.monotonic() + SECONDS_MAX
        while time.monotonic() < end:
            said = read(self.said.name)
            if "open" in said.splitlines():
                return
            if self.process.poll() is not None:
                raise Failed((said.strip().splitlines() or ["it ended"])[-1])
            time.sleep(0.1)
        raise Failed(f"not all connections were open after {SECONDS_MAX} s")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.end()
        self.said.close()
