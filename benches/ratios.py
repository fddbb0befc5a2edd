#!/usr/bin/env python3
"""What `cargo bench` measured last, each contender beside ours: `make bench` ends with this.

Reads criterion's estimates below the target directory, and measures nothing. The median is shown, because a
machine that does something else as well spoils means; a ratio above 1 says that ours is faster."""

import json
import os
import pathlib
import sys

# What ours is called; a group without any of these has no contender.
OURS = ("ours", "taken", "log")


def measured(folder):
    """(group, parameter) -> {function: median in ns}."""
    groups = {}
    for file in sorted(folder.glob("**/new/benchmark.json")):
        bench = json.loads(file.read_text())
        estimates = json.loads((file.parent / "estimates.json").read_text())
        group = (bench["group_id"], bench["value_str"] or "")
        groups.setdefault(group, {})[bench["function_id"]] = estimates["median"]["point_estimate"]
    return groups


def shown(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns:.1f} ns"


def main():
    target = os.environ.get("CARGO_TARGET_DIR") or pathlib.Path(__file__).parent.parent / "target"
    folder = pathlib.Path(target) / "criterion"
    found = measured(folder)
    if not found:
        sys.exit(f"ratios.py: nothing was measured yet: {folder} has no estimates")
    for (group, parameter), functions in sorted(found.items()):
        ours = next((name for name in OURS if name in functions), None)
        if ours is None or len(functions) == 1:
            continue
        print(f"{group} {parameter}".rstrip())
        for name, ns in sorted(functions.items(), key=lambda pair: (pair[0] != ours, pair[0])):
            ratio = "" if name == ours else f"{ns / functions[ours]:6.2f} x"
            print(f"  {name:<26} {shown(ns):>12} {ratio}")


if __name__ == "__main__":
    main()
