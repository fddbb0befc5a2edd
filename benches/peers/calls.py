"""System calls of a traced server, counted: those between two moments, by name.

Reads what `strace -f -ttt -y` writes. A call that another thread's interrupted stands on two lines, of
which the first counts. A write to or a read from an eventfd, by which threads wake each other, counts as
`eventfd`, whatever its own name.
"""

import collections
import re

LINE = re.compile(r"^\d+\s+(\d+\.\d+) (\w+)\((?:\d+<([^>]*)>)?")

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")

STRACE_OPTIONS = ["-f", "-ttt", "-y", "-qq", "-s", "0", "-e", "signal=none"]


def count(lines, begin, end):
    """How often each call began from `begin` to `end`, in seconds since 1970."""
    found = collections.Counter()
    for line in lines:
        call = LINE.match(line)
        if call and begin <= float(call.group(1)) <= end:
            name, descriptor = call.group(2), call.group(3)
            found["eventfd" if descriptor and "[eventfd]" in descriptor else name] += 1
    return dict(found)


def syncs(counts):
    """How many of them put something on the disk."""
    return sum(number for name, number in counts.items() if name in SYNCS)


def of_messages(counts, turn_calls):
    """How many of them are not for waiting and waking."""
    return sum(number for name, number in counts.items() if name not in turn_calls)
