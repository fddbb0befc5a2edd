"""What the machine is, and what processes on it take: CPU time, memory, and the share of others.

A group is all processes that one start has led to, wherever they went. It is a control group
(cgroup v2) where one can be made, which counts those that have ended too and to the microsecond; else
the tree of processes below the first, with what those have counted that they waited for, in ticks of
the clock. Nothing here knows what is being measured.
"""

import ctypes
import functools
import os
import platform
import re
import resource
import signal
import subprocess
import time

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
DESCRIPTORS_WANTED = 65536
GROUP_ENDS_SECONDS_MAX = 20
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Has servers whose first process ended become children of this one, not of the machine's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_descriptors():
    """As many descriptors as may be had, for this process and what it starts; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(DESCRIPTORS_WANTED, hard) if hard != resource.RLIM_INFINITY else DESCRIPTORS_WANTED
    for limit in ((wanted, max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def read(path):
    """The text of a file, or an empty one where the process or the file has gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Layout:
    """Which processors the server and those who talk to it run on: the same for all."""

    def __init__(self, shared=False):
        processors = sorted(os.sched_getaffinity(0))
        self.shared = shared or len(processors) < 2
        self.server = processors if self.shared else processors[:1]
        self.clients = processors if self.shared else processors[1:]
        self.all = processors

    def __str__(self):
        if self.shared:
            return f"server, generator and sink together on processors {spell(self.server)}"
        return (f"the server on processor {spell(self.server)},"
                f" generator and sink on {spell(self.clients)}")


def spell(processors):
    return ", ".join(str(number) for number in processors)


class Stat:
    """One line of /proc/PID/stat."""

    def __init__(self, text):
        fields = text[text.rindex(")") + 2:].split()
        self.parent = int(fields[1])
        self.seconds = (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
        self.children_seconds = (int(fields[13]) + int(fields[14])) / TICKS_A_SECOND


def stats():
    """All processes of the machine by number."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        text = read(f"/proc/{name}/stat")
        if text:
            found[int(name)] = Stat(text)
    return found


@functools.lru_cache(maxsize=None)
def control_folder():
    """Where control groups (cgroup v2) can be made and processes put into them, or None."""
    for line in read("/proc/mounts").splitlines():
        _, place, kind = line.split()[:3]
        if kind == "cgroup2":
            own = re.search(r"^0::(.*)$", read("/proc/self/cgroup"), re.MULTILINE)
            folder = place + (own.group(1).rstrip("/") if own else "")
            return folder if holds_processes(f"{folder}/rohrpost-peers-{os.getpid()}") else None
    return None


def holds_processes(folder):
    """Whether a control group can be made here; in some containers it can, but nothing enters it."""
    try:
        os.mkdir(folder)
    except OSError:
        return False
    try:
        subprocess.run(["true"], preexec_fn=lambda: enter(folder), check=True)
        return bool(read(f"{folder}/cpu.stat"))
    except (OSError, subprocess.SubprocessError):
        return False
    finally:
        os.rmdir(folder)


def enter(folder):
    """Puts the process that calls this into a control group."""
    with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


class Group:
    """A process and all that it starts. Use it as a context: its end is theirs."""

    def __init__(self, name):
        parent = control_folder()
        self.folder = f"{parent}/rohrpost-peers-{os.getpid()}-{name}" if parent else None
        self.first = None
        self.traced = False
        if self.folder:
            os.makedirs(self.folder, exist_ok=True)

    def start(self, command, processors, log, traced=False, **more):
        """Starts `command` on `processors`; what it says goes to the file `log`."""
        folder, self.traced = self.folder, traced

        def prepare():
            if folder:
                enter(folder)
            os.sched_setaffinity(0, processors)

        with open(log, "ab") as out:
            # What is started is to run as told, not as the caller's environment tells it.
            environment = {name: value for name, value in os.environ.items()
                           if not name.startswith("ROHRPOST_")}
            self.first = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=prepare,
                env=environment, start_new_session=True, **more)
        return self.first

    def members(self):
        """The numbers of its processes."""
        if self.folder:
            return [int(line) for line in read(f"{self.folder}/cgroup.procs").split()]
        if self.first is None:
            return []
        everybody = stats()
        found, new = [], [self.first.pid]
        while new:
            found += new
            new = [pid for pid, stat in everybody.items() if stat.parent in new]
        return [pid for pid in found if pid in everybody]

    def cpu_seconds(self):
        """CPU time of all its processes, those that have ended included."""
        if self.folder:
            used = re.search(r"usage_usec (\d+)", read(f"{self.folder}/cpu.stat"))
            return int(used.group(1)) / 1e6 if used else 0.0
        everybody = stats()
        alive = [everybody[pid] for pid in self.members() if pid in everybody]
        return sum(stat.seconds + stat.children_seconds for stat in alive)

    def resident_kib(self):
        """Memory that its processes have, a page that n of them share counted as one nth for each."""
        total = 0
        for pid in self.members():
            found = re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
            total += int(found.group(1)) if found else 0
        return total

    def running(self):
        return self.first is not None and self.first.poll() is None

    def await_rest(self, seconds_max=5.0):
        """Until it takes nearly no CPU time: work that is left from what came before belongs to it."""
        end = time.monotonic() + seconds_max
        before = self.cpu_seconds()
        while time.monotonic() < end:
            time.sleep(0.1)
            now = self.cpu_seconds()
            if now - before < 0.005:
                return
            before = now

    def end(self):
        """Ends all its processes, by their numbers."""
        until = time.monotonic() + GROUP_ENDS_SECONDS_MAX
        while members := [pid for pid in self.members() if not self.is_ended_child(pid)]:
            # A tracer writes its file when those that it traces have ended.
            spared = self.first.pid if self.traced and len(members) > 1 else None
            for pid in members:
                if pid != spared:
                    self.kill(pid)
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        if self.first is not None:
            self.first.wait(GROUP_ENDS_SECONDS_MAX)
        reap_orphans()
        if self.folder:
            try:
                os.rmdir(self.folder)
            except OSError:
                pass

    def is_ended_child(self, pid):
        return self.first is not None and pid == self.first.pid and self.first.poll() is not None

    @staticmethod
    def kill(pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def reap_orphans():
    """Waits for those that became our children because their parents ended, and have ended too."""
    for pid, stat in stats().items():
        if stat.parent == os.getpid() and read(f"/proc/{pid}/stat").split(") ")[1][:1] == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


class Busy:
    """How much CPU time the whole machine has used, and its kernel's own threads."""

    def __init__(self):
        fields = [int(word) for word in read("/proc/stat").split("\n")[0].split()[1:]]
        user, nice, system, _, _, irq, softirq, steal = fields[:8]
        self.used = (user + nice + system + irq + softirq) / TICKS_A_SECOND
        self.stolen = steal / TICKS_A_SECOND
        self.kernel = sum(stat.seconds for stat in stats().values() if stat.parent == 2)
        self.time = time.monotonic()

    def others(self, later, ours_seconds):
        """Which part of the machine others took between this and `later`, from 0 to 1.

        `ours_seconds` is what we took. Loopback work of the kernel is charged to whoever it
        interrupted, so it is in there; the kernel's own threads (writing back, for one) are nobody's.
        """
        machine_seconds = (later.time - self.time) * os.cpu_count()
        used = later.used - self.used - (later.kernel - self.kernel) - ours_seconds
        part = (used + later.stolen - self.stolen) / machine_seconds
        # The clock of /proc/stat is coarse.
        return min(max(part, 0.0), 1.0)


def await_quiet(seconds_max):
    """Until the machine does nothing else, or that time has passed; whether it is so."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        before = Busy()
        time.sleep(0.5)
        if before.others(Busy(), 0.0) < 0.05:
            return True
    return False


def describe(folder):
    """The machine in a few words, and what `folder` is on."""
    model = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))
    folder = os.path.realpath(folder)
    mounts = [line.split()[:3] for line in read("/proc/mounts").splitlines()]
    under = [mount for mount in mounts
             if folder == mount[1] or folder.startswith(mount[1].rstrip("/") + "/")]
    kind = max(under, key=lambda mount: len(mount[1]))[2] if under else "unknown"
    return {
        "processor": model.group(1) if model else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": kind,
        "cpu_time": "control group" if control_folder() else "tree of processes, in ticks",
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
    }
