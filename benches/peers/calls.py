"""System calls of a traced server, counted: those between two moments, by name.

Reads what `strace -f -ttt -y` writes. A call that another thread's interrupted stands on two lines, of
which the first counts. A write to or a read from an eventfd, by which threads wake each other, counts as
`eventfd`, whatever its own name; one to a file as `write to a file`.
"""

import collections
import re

LINE = re.compile(r"^\d+\s+(\d+\.\d+) (\w+)\((?:\d+<([^>]*)>)?")

#: Calls by which a turn of a loop waits and is woken, counted apart from those of a message.
TURN = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "futex", "eventfd")

#: Calls by which what a turn has taken gets to the disk.
FILE_WRITE = "write to a file"

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")

STRACE_OPTIONS = ["-f", "-ttt", "-y", "-qq", "-s", "0", "-e", "signal=none"]


def count(lines, begin, end):
    """How often each call began from `begin` to `end`, in seconds since 1970."""
    found = collections.Counter()
    for line in lines:
        call = LINE.match(line)
        if call and begin <= float(call.group(1)) <= end:
            found[kind(call.group(2), call.group(3) or "")] += 1
    return dict(found)


def kind(name, descriptor):
    if "[eventfd]" in descriptor:
        return "eventfd"
    return FILE_WRITE if "write" in name and descriptor.startswith("/") else name


def each(few, many, messages):
    """The calls of a message: those of a run less those of a shorter one, which `messages` fewer had.

    So what connections take to be opened and closed, of which both have as many, is not in it.
    """
    return {name: max(0.0, (number - few.get(name, 0)) / messages) for name, number in many.items()}


def syncs(counts):
    """How many of them put something on the disk."""
    return sum(number for name, number in counts.items() if name in SYNCS)


def of_messages(counts):
    """How many of them are not for waiting and waking, and not for the disk."""
    apart = (*TURN, *SYNCS, FILE_WRITE)
    return sum(number for name, number in counts.items() if name not in apart)
