"""A server that has been started, from its settings to its end.

Its folder is below that of the session; whoever started it removes that. **Failures**: one that ends or
does not greet is `Failed`, with the last line that it said.
"""

import os
import shutil
import socket
import time

import calls
import machine
from generators import Failed
from servers import Job, free_port

START_SECONDS_MAX = 60


class Running:
    """A server that has been started and greets; with an empty queue, if it is not to `keep` its own."""

    def __init__(self, bench, server, case, relay_port=None, keep=False):
        self.folder = bench.folder / server.name
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        # Servers that become another user have to get there.
        self.folder.chmod(0o755)
        self.job = Job(self.folder, free_port(), relay_port, case.secure, case.connections, case.workers)
        server.furnish(self.job)
        self.said = self.folder / "said"
        self.said.unlink(missing_ok=True)
        processors = bench.layout.all if case.workers else bench.layout.server
        self.group = machine.Group(server.name)
        command = server.command(self.job)
        self.trace = self.folder / "trace" if case.calls else None
        if self.trace:
            strace = str(bench.tools.program("strace"))
            command = [strace, *calls.STRACE_OPTIONS, "-o", str(self.trace), *command]
        os.sync()
        self.started = time.monotonic()
        self.group.start(command, processors, self.said, traced=case.calls)
        try:
            self.port = self.await_port(server)
            self.await_greeting()
        except BaseException:
            self.group.end()
            raise

    def await_port(self, server):
        while (port := server.port(self.job, machine.read(self.said))) is None:
            self.check_alive()
            time.sleep(0.02)
        return port

    def await_greeting(self):
        while True:
            self.check_alive()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                    if client.recv(512).startswith(b"220"):
                        client.sendall(b"QUIT\r\n")
                        client.recv(512)
                        return
            except OSError:
                time.sleep(0.005)

    def check_alive(self):
        late = time.monotonic() - self.started > START_SECONDS_MAX
        if late or not self.group.running():
            said = machine.read(self.said).strip().splitlines()[-1:] or ["nothing"]
            how = "does not greet" if late else "ended at once"
            raise Failed(f"{how}; the last that it said: {said[0]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.end()
