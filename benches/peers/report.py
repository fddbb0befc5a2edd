"""From the records of a session to its tables, as text: nothing here measures, reads or writes.

A session is what `results.json` holds: `date`, `layout`, `machine`, `versions`, `titles`, `effort` and
`records`, one a run (trial.py).
"""

import re
from dataclasses import dataclass
from statistics import median

from calls import TURN
from plan import AIMS, CASES, FLIGHTS, IDLE, OTHERS_MAX, THROUGHPUT

NOTHING = "–"

README_BEGIN, README_END = "<!-- peers: begin -->", "<!-- peers: end -->"


@dataclass(frozen=True)
class Figure:
    """A median with its spread."""

    middle: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values):
        return cls(median(values), min(values), max(values), len(values))


class Session:
    """The records of a session, asked by case, server and measure."""

    def __init__(self, results):
        self.results = results
        self.records = results["records"]

    def good(self, case, server):
        return [record for record in self.records
                if record["case"] == case and record["server"] == server
                and "failed" not in record and "skipped" not in record]

    def figure(self, case, server, measure):
        """The `Figure` of `measure` (a key, or several divided by dots), or None."""
        values = [value for record in self.good(case, server)
                  if (value := reach(record, measure)) is not None]
        return Figure.of(values) if values else None

    def disturbed(self, case, server):
        return any(record.get("others", 0) > OTHERS_MAX for record in self.good(case, server))

    def servers(self):
        """Those that gave a figure, in the order in which they were asked."""
        there = {record["server"] for record in self.records
                 if "failed" not in record and "skipped" not in record}
        return [name for name in self.results["titles"] if name in there]


def reach(record, measure):
    for key in measure.split("."):
        if not isinstance(record, dict) or key not in record:
            return None
        record = record[key]
    return record


def number(value):
    """With three digits that say something, and a comma in thousands."""
    if value >= 1000:
        return f"{round(value, -1 if value < 10000 else -2):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(figure):
    if figure.runs == 1:
        return ""
    return f" ({number(figure.low)}..{number(figure.high)})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def throughput(session, cases):
    """Messages per second of the server's CPU time, and per second below it."""
    rows = []
    for case in cases:
        row = [case.title]
        for server in session.servers():
            per_cpu = session.figure(case.name, server, "per_cpu_second")
            if per_cpu is None:
                row.append(NOTHING)
                continue
            mark = " \\*" if session.disturbed(case.name, server) else ""
            rate = session.figure(case.name, server, "per_second")
            row.append(f"**{number(per_cpu.middle)}**{spread(per_cpu)}{mark}"
                       f"<br>{number(rate.middle)} /s")
        if set(row[1:]) != {NOTHING}:
            rows.append(row)
    return table(head(session), rows) if rows else ""


def head(session):
    return [""] + [session.results["titles"][server] for server in session.servers()]


def measures():
    """Rows of the second table: title, case, measure, and what its unit is divided by."""
    first = THROUGHPUT[0].name
    yield "syncs a message", "calls-4k", "syncs_each", 1
    yield "system calls a message", "calls-4k", "calls_each", 1
    yield "of these not for waiting, waking and the disk", "calls-4k", "calls_of_messages", 1
    yield "final reply, median, ms", FLIGHTS[0].name, "latency_us.p50", 1000
    yield "final reply, 99 % within, ms", FLIGHTS[0].name, "latency_us.p99", 1000
    yield "resident after the first row, MiB", first, "resident_kib", 1024
    for case in IDLE:
        yield f"each of {case.title}, resident, KiB", case.name, "kib_each", 1


def costs(session):
    """System calls, replies and memory."""
    rows = []
    for title, case, measure, divisor in measures():
        figures = [session.figure(case, server, measure) for server in session.servers()]
        if any(figures):
            rows.append([title] + [number(figure.middle / divisor) if figure else NOTHING
                                   for figure in figures])
    return table(head(session), rows) if rows else ""


def aims(session):
    """What is to be reached, beside what was."""
    rows = []
    for aim in AIMS:
        reached = reached_of(session, aim)
        better = "≤" if aim.small else "≥"
        least = f"{better} {plain(aim.least)}{aim.unit}"
        limit = f"{plain(aim.limit)}{aim.unit}" if aim.limit is not None else ""
        if reached is None:
            rows.append([aim.title, least, limit, "not measured", ""])
            continue
        good = reached <= aim.least if aim.small else reached >= aim.least
        rows.append([aim.title, least, limit, f"{number(reached)}{aim.unit}",
                     "reached" if good else "**missed**"])
    return table(["Rohrpost", "at least", "limit", "measured", ""], rows)


def plain(value):
    return f"{value:g}"


def reached_of(session, aim):
    own = session.figure(aim.case, "rohrpost", aim.measure)
    if own is None or aim.than is None:
        return own and own.middle
    other = session.figure(aim.than_case or aim.case, aim.than, aim.measure)
    return own.middle / other.middle if other else None


def calls_table(session):
    """Every system call of a message, by name."""
    counts = {server: session.figure("calls-4k", server, "calls_each")
              for server in session.servers()}
    servers = [server for server, figure in counts.items() if figure]
    each = {server: session.good("calls-4k", server)[-1]["calls"] for server in servers}
    names = sorted({name for calls in each.values() for name in calls},
                   key=lambda name: -max(calls.get(name, 0) for calls in each.values()))
    rows = [[f"`{name}`" + (" (turn)" if name in TURN else "")]
            + [number(each[server][name]) if name in each[server] else NOTHING
               for server in servers]
            for name in names if max(calls.get(name, 0) for calls in each.values()) >= 0.05]
    titles = [session.results["titles"][server] for server in servers]
    return table(["system calls a message"] + titles, rows) if rows else ""


def absences(session):
    """Why a figure is not there, each reason once."""
    reasons = {}
    titles = {case.name: case.title for case in CASES}
    for record in session.records:
        why = record.get("skipped") or record.get("failed")
        if why:
            what = reasons.setdefault((record["server"], why), [])
            if titles[record["case"]] not in what:
                what.append(titles[record["case"]])
    lines = [f"- {session.results['titles'].get(name, f'`{name}`')}: {why}.\n"
             for name, why in session.results["absent"].items()]
    for (server, why), cases in reasons.items():
        lines.append(f"- {session.results['titles'][server]}: {why} ({'; '.join(cases)}).\n")
    return "".join(lines)


def disturbances(session):
    timed = [record for record in session.records if "others" in record]
    hit = [record for record in timed if record["others"] > OTHERS_MAX]
    if not hit:
        return (f"In none of {len(timed)} timed runs others took more than"
                f" {OTHERS_MAX:.0%} of the machine.\n")
    most = max(record["others"] for record in hit)
    return (f"\\* In {len(hit)} of {len(timed)} timed runs others took more than {OTHERS_MAX:.0%} of the"
            f" machine, up to {most:.0%}.\n")


def circumstances(session):
    """Date, machine, versions, layout: without them figures say nothing."""
    results = session.results
    machine, effort = results["machine"], results["effort"]
    versions = ", ".join(f"{results['titles'][server].split(',')[0]} {results['versions'][server]}"
                         for server in session.servers() if server != "floor")
    kind = "virtual" if machine["virtual"] else "physical"
    quick = ""
    if effort["quick"]:
        quick = (f"**A quick look, whose figures are worth little; {effort['backlog_max']:,} mails stand"
                 f" for a long queue.** ")
    return (
        f"{quick}{results['date']}, {kind} machine with {machine['processors']} processors"
        f" ({machine['processor']}), {machine['kernel']}, {machine['file_system']}: {versions}."
        f" Layout: {results['layout']}. CPU time by {machine['cpu_time']}. Medians of"
        f" {effort['rounds']} alternating runs of {effort['seconds']:g} s each (lowest..highest),"
        " every server started anew for each.\n")


LEGEND = (
    "Large figures: messages per second of CPU time that all processes of the server took. Below them:"
    " messages per second. 50 connections, if nothing else is said; all but smtp-sink have a message on"
    " the disk before they answer 250. `floor` is a receiver in C that does nothing else.\n")


def markdown(results):
    """The whole report."""
    session = Session(results)
    parts = [
        "# Rohrpost beside its peers\n",
        "Written by `make peers`; `results.json` holds every run, `settings.md` what each server was"
        " told.\n",
        circumstances(session),
        "![messages per second of server CPU time](chart.svg)\n",
        LEGEND,
        throughput(session, THROUGHPUT + FLIGHTS),
        disturbances(session),
        costs(session),
        "## What is to be reached\n",
        aims(session),
        "## System calls\n",
        "Counted by strace on a run of its own, which is slower: a turn has more to do then. What opening"
        " and closing connections takes is not in it.\n",
        calls_table(session),
        "## What is not in the tables\n",
        absences(session) or "Nothing.\n",
    ]
    return "\n".join(part for part in parts if part)


def excerpt(results, folder):
    """What the README shows; `folder` is where the chart is, from there."""
    session = Session(results)
    parts = [
        circumstances(session),
        f"![messages per second of server CPU time]({folder}/chart.svg)\n",
        LEGEND,
        throughput(session, THROUGHPUT + FLIGHTS),
        disturbances(session),
        costs(session),
        aims(session),
        f"All runs, system calls by name, and what each server was told: [`{folder}`]({folder}/).\n",
    ]
    return "\n".join(part for part in parts if part)


def put_between(text, part):
    """`text` with `part` between the markers. Raises `ValueError` where they are not there once."""
    if text.count(README_BEGIN) != 1 or text.count(README_END) != 1:
        raise ValueError(f"there must be one {README_BEGIN} and one {README_END}")
    return re.sub(f"{README_BEGIN}.*{README_END}",
                  lambda _: f"{README_BEGIN}\n\n{part}\n{README_END}", text, flags=re.DOTALL)


def settings(servers, jobs):
    """What each server was told: `jobs` are (what for, the first case of that, job)."""
    parts = ["# What each server was told\n", "Ports and folders are those of one run.\n"]
    for server in servers:
        parts.append(f"## {server.title}\n")
        shown = set()
        for purpose, case, job in jobs:
            if server.lacks(case):
                continue
            parts.append(f"To {purpose}:\n")
            parts.append("```sh\n" + " ".join(quoted(word) for word in server.command(job)) + "\n```\n")
            for name, content in server.settings(job).items():
                text = content if isinstance(content, str) else None
                if text is None or (name, text) in shown:
                    continue
                shown.add((name, text))
                parts.append(f"`{name}`:\n\n```\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def quoted(word):
    return f"'{word}'" if not word or re.search(r"[\s'\"$*]", word) else word
