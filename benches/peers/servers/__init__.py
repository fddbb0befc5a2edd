"""The servers that are measured, one file each, with the settings that each is given.

All are told the same: listen on a port of 127.0.0.1, take mail from it for whomever, keep it on the
disk before the 250 and deliver none of it, or hand all of it to one sink; write no log of mails where
that can be switched off. Beyond that they are as shipped, but for limits that would refuse the load.
What a server was given is written into the results, octet by octet.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

PROCESSES_MAX = 1000

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Tools:
    """Where the programs are."""

    folder: Path
    rohrpost: Path
    floor: Path
    certificate: Path
    key: Path

    def program(self, name):
        return self.folder / "bin" / name

    def package(self, name):
        """A Debian package that was unpacked, not installed."""
        return self.folder / "deb" / name

    def version(self, name):
        """What tests/tools/fetch.sh says that it fetched."""
        stamps = sorted(self.folder.glob(f"stamp/{name}_*_"))
        return stamps[0].name[len(name) + 1:-1] if stamps else "unknown"


@dataclass(frozen=True)
class Job:
    """What a server is started for."""

    folder: Path
    #: A port that is free; a server that lets the system choose need not take it.
    port: int
    #: The port of the sink that all mail goes to; None: all mail is kept.
    relay_port: Optional[int] = None
    #: Whether STARTTLS is offered.
    secure: bool = False
    #: Connections that will be open at a time.
    connections: int = 50
    #: Threads that serve them; None: as many as there are processors.
    workers: Optional[int] = None


class Server:
    """One that is measured. Each file below has one."""

    #: As it is called on the command line and in the results, and in a table.
    name = ""
    title = ""
    #: Whether it has a message on the disk before it answers 250.
    durable = True
    #: Whether each connection is a process, of which a machine can have a thousand, not ten.
    process_each = False

    def __init__(self, tools):
        self.tools = tools

    def absent(self):
        """Why it cannot be run here, or None."""
        return None

    def version(self):
        return self.tools.version(self.name)

    def lacks(self, case):
        """Why it cannot do what `case` asks for, or None."""
        if self.process_each and case.idle > PROCESSES_MAX:
            return f"has a process a connection, and {case.idle:,} are too many"
        return None

    def settings(self, job):
        """Its files below `job.folder`: the text of each, or a file to copy."""
        return {}

    def command(self, job):
        """The words of its command line."""
        raise NotImplementedError

    def port(self, job, said):
        """Where it listens, as far as its output `said` tells it yet; None if it does not."""
        return job.port

    def furnish(self, job):
        """Writes its settings."""
        for name, content in self.settings(job).items():
            path = job.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.write_bytes(content.read_bytes())
                path.chmod(content.stat().st_mode & 0o777)
            else:
                path.write_text(content, encoding="utf-8")


def in_room(tools, package, job, command):
    """The command line that runs `command` as if `package` were installed; see tests/peers/room.sh."""
    room = ROOT / "tests/peers/room.sh"
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*namespaces, "sh", str(room), str(job.folder), str(tools.package(package)), *command]


def room_absent(tools, package):
    """Why a room cannot be had, or None."""
    if not tools.package(package).is_dir():
        return f"no {tools.package(package)}: run tests/tools/fetch.sh"
    if os.geteuid() != 0:
        return "needs root, to run as if it were installed without being so"
    return None


def ready_port(said):
    """The port in a line `ready smtp=HOST:PORT ...`."""
    for line in said.splitlines():
        if line.startswith("ready smtp="):
            return int(line.split()[1].rsplit(":", 1)[1])
    return None


def free_port():
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def everybody(tools):
    """All servers, in the order of the tables."""
    from servers import exim, floor, haraka, kumomta, postfix, rohrpost, smtp_sink

    modules = (rohrpost, floor, smtp_sink, postfix, exim, haraka, kumomta)
    return [module.SERVER(tools) for module in modules]
