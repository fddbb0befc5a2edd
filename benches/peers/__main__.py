#!/usr/bin/env python3
"""Measures Rohrpost beside its peers, all in one session: see README.md beside this file.

Exit: 0 measured (what is missing is explained in the report), 64 wrong usage, 69 a tool cannot be had.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import chart
import machine
import report
from fetch import fetch
from generators import load_is_there
from plan import CASES, FULL, QUICK
from servers import ROOT, Job, Tools, everybody
from trial import Bench

RESULTS = "benches/peers/results"


def main():
    arguments = parse()
    folder = Path(arguments.results)
    if arguments.readme:
        return put_into_readme(folder)
    target = ROOT / "target/peers"
    try:
        tools = fetch(target, Path(arguments.rohrpost).resolve())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 69
    if not tools.program("smtp-source").exists():
        print(f"peers: no {tools.program('smtp-source')}; `make tools` fetches it", file=sys.stderr)
        return 69
    # An end from outside ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine.adopt_orphans()
    machine.raise_descriptors()
    servers = [server for server in everybody(tools) if server.name in arguments.only]
    cases = [case for case in CASES if case.name in arguments.cases]
    effort = chosen_effort(arguments)
    layout = machine.Layout(arguments.layout == "shared")
    session = describe(arguments, servers, layout, effort, target)
    folder.mkdir(parents=True, exist_ok=True)
    # A session of its own, so that two at a time do not share a folder.
    run = target / f"run.{os.getpid()}"
    run.mkdir()
    bench = Bench(tools, layout, effort, run)
    try:
        measure(bench, cases, servers, session, folder)
    except KeyboardInterrupt:
        print("interrupted; the report is of what there is", file=sys.stderr)
    finally:
        subprocess.run(["rm", "-rf", run], check=False)
    write(folder, session)
    print((folder / "README.md").read_text(encoding="utf-8"))
    print(f"peers: report, chart, settings and all runs are in {folder}")
    return 0


def parse():
    names = [server.name for server in everybody(None)]
    cases = [case.name for case in CASES]
    parser = argparse.ArgumentParser(
        prog="benches/peers", description="Measures Rohrpost beside other mail servers and the floor.")
    parser.add_argument("--quick", action="store_true",
                        help="one short run of each, to see that all of it works")
    parser.add_argument("--seconds", type=float, help="how long a run is to take, about")
    parser.add_argument("--rounds", type=int, help="runs of each case and server")
    parser.add_argument("--only", type=listed(names), default=names, metavar="SERVER,...",
                        help=f"of {', '.join(names)}")
    parser.add_argument("--cases", type=listed(cases), default=cases, metavar="CASE,...",
                        help=f"of {', '.join(cases)}")
    parser.add_argument("--layout", choices=("split", "shared"), default="split",
                        help="server and clients on processors of their own, or all on all")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--rohrpost", default=target / "release/rohrpost", help="the program to measure")
    parser.add_argument("--results", help=f"where to write; as a rule {RESULTS}, with --quick"
                        " target/peers/results")
    parser.add_argument("--readme", action="store_true",
                        help="measure nothing, and put the results into the README")
    arguments = parser.parse_args()
    if arguments.results is None:
        arguments.results = ROOT / ("target/peers/results" if arguments.quick else RESULTS)
    return arguments


def listed(known):
    def parse_list(text):
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word} is none of {', '.join(known)}")
        return words

    return parse_list


def chosen_effort(arguments):
    effort = QUICK if arguments.quick else FULL
    if arguments.seconds is not None:
        effort = replace(effort, seconds=arguments.seconds)
    if arguments.rounds is not None:
        effort = replace(effort, rounds=arguments.rounds,
                         idle_rounds=min(effort.idle_rounds, arguments.rounds))
    return effort


def describe(arguments, servers, layout, effort, target):
    return {
        "date": datetime.date.today().isoformat(),
        "layout": str(layout),
        "machine": machine.describe(target),
        "effort": asdict(effort),
        "titles": {server.name: server.title for server in servers},
        "versions": {server.name: server.version() for server in servers if not server.absent()},
        "absent": {server.name: why for server in servers if (why := server.absent())},
        "records": [],
    }


def measure(bench, cases, servers, session, folder):
    """All cases; in each, round after round, all servers in turn."""
    servers = [server for server in servers if server.name not in session["absent"]]
    if not load_is_there(bench.tools):
        session["absent"]["rohrpost load"] = "this rohrpost has no such command"
        cases = [case for case in cases if case.flight is None]
    for case in cases:
        rounds = bench.effort.rounds
        if case.idle or case.calls or case.backlog:
            rounds = min(rounds, bench.effort.idle_rounds)
        for number in range(1 if case.calls or case.backlog else rounds):
            for server in servers:
                if case.own and server.name != "rohrpost":
                    continue
                if too_slow(case, server, bench.effort):
                    record = skipped(case, server, "not in a quick look")
                else:
                    record = bench.run(case, server, number)
                session["records"].append(record)
                print(said(record), flush=True)
            write_json(folder, session)


def too_slow(case, server, effort):
    return case.idle > effort.idle_max or (case.idle and effort.quick and server.process_each)


def skipped(case, server, why):
    return {"case": case.name, "server": server.name, "round": 0, "skipped": why}


def said(record):
    """One line on a run, for whoever waits."""
    place = f"{record['case']:18} {record['server']:10} {record['round']}"
    if why := record.get("skipped") or record.get("failed"):
        return f"{place}  {'skipped' if 'skipped' in record else 'FAILED'}: {why}"
    if "per_second" in record:
        return (f"{place}  {record['per_cpu_second']:9,.0f} a CPU second  {record['per_second']:9,.0f}"
                f" a second  {record['messages']} messages, others {record['others']:.0%}")
    if "octets_each" in record:
        return (f"{place}  {record['octets_each']} octets each, greets after {record['greets_seconds']} s,"
                f" delivers after {record['delivers_seconds']} s")
    if "kib_each" in record:
        return f"{place}  {record['kib_each']} KiB each"
    return f"{place}  {record['calls_each']} calls and {record['syncs_each']} syncs a message"


def write_json(folder, session):
    text = json.dumps(session, indent=1)
    # A record a line: so a later session is a diff that can be read.
    head, _, _ = text.partition('"records"')
    rows = ",\n".join("  " + json.dumps(record) for record in session["records"])
    (folder / "results.json").write_text(f'{head}"records": [\n{rows}\n ]\n}}\n', encoding="utf-8")


def write(folder, session):
    write_json(folder, session)
    (folder / "README.md").write_text(report.markdown(session), encoding="utf-8")
    (folder / "chart.svg").write_text(chart.svg(session), encoding="utf-8")
    (folder / "settings.md").write_text(settings(session), encoding="utf-8")


def settings(session):
    """What each server is told, with places as they are for everybody."""
    target = Path("target/peers")
    tools = Tools(Path("target/tools"), Path("target/release/rohrpost"), target / "floor",
                  target / "cert.pem", target / "key.pem")
    there = [server for server in everybody(tools)
             if server.name in session["versions"]]
    job = Job(target / "run", 2525)
    cases = {case.name: case for case in CASES}
    jobs = [("keep all mail", cases["accept-4k"], job),
            ("pass all mail on", cases["relay-4k"], replace(job, relay_port=2600)),
            ("offer STARTTLS", cases["idle-1000-tls"], replace(job, secure=True, connections=1000))]
    return report.settings(there, jobs).replace(f"{ROOT}/", "")


def put_into_readme(folder):
    try:
        session = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        readme = ROOT / "README.md"
        relative = os.path.relpath(folder, ROOT)
        text = report.put_between(readme.read_text(encoding="utf-8"), report.excerpt(session, relative))
        readme.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
