"""What the measuring makes of its records, its traces and its markers, on ones that were written down.

    python3 -m unittest discover benches/peers
"""

import json
import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent))

import calls  # noqa: E402
import chart  # noqa: E402
import report  # noqa: E402
from generators import Failed, read_load  # noqa: E402
from machine import Stat  # noqa: E402
from plan import AIMS, CASES  # noqa: E402
from servers import Job, Tools, everybody, ready_port  # noqa: E402


def timed(case, server, number, per_cpu, rate, others=0.01, **more):
    return {"case": case, "server": server, "round": number, "messages": 1000,
            "seconds": 1000 / rate, "seconds_each": 1 / rate, "cpu_seconds": 1000 / per_cpu,
            "per_second": rate, "per_cpu_second": per_cpu, "resident_kib": 2048, "others": others,
            **more}


def recorded():
    """A session of three servers, as results.json holds it."""
    records = []
    for number, per_cpu in enumerate((20000, 24000, 22000)):
        records.append(timed("accept-4k", "rohrpost", number, per_cpu, 9000))
        records.append(timed("accept-4k", "smtp-sink", number, 11000, 15000))
    records += [
        timed("accept-4k", "postfix", 0, 600, 1040, others=0.31),
        timed("load-4k", "rohrpost", 0, 21000, 9000, latency_us={"p50": 1500, "p99": 4250}),
        {"case": "idle-10000", "server": "rohrpost", "round": 0, "kib_each": 1.5},
        {"case": "idle-10000", "server": "postfix", "round": 0, "skipped": "has a process each"},
        {"case": "relay-4k", "server": "postfix", "round": 0, "failed": "the sink ended"},
        {"case": "calls-4k", "server": "rohrpost", "round": 0, "messages": 300, "calls_each": 9.5,
         "calls": {"read": 4.0, "writev": 4.0, "epoll_wait": 1.0, "futex": 0.5},
         "calls_of_messages": 8.0, "syncs_each": 0.1},
    ]
    return {
        "date": "2026-11-23",
        "layout": "the server on processor 0, generator and sink on 1",
        "machine": {"processor": "Model 1", "processors": 2, "memory_gib": 8, "kernel": "Linux 6.1",
                    "file_system": "ext4", "cpu_time": "control group", "virtual": True},
        "effort": {"seconds": 4.0, "rounds": 3, "quick": False},
        "titles": {"rohrpost": "Rohrpost", "smtp-sink": "smtp-sink, stores nothing",
                   "postfix": "Postfix", "kumomta": "KumoMTA"},
        "versions": {"rohrpost": "0.1.0", "smtp-sink": "Postfix 3.7", "postfix": "3.7"},
        "absent": {"kumomta": "kumod is not on the PATH"},
        "records": records,
    }


class Report(unittest.TestCase):
    def setUp(self):
        self.text = report.markdown(json.loads(json.dumps(recorded())))

    def row(self, title):
        return next(line for line in self.text.splitlines() if line.startswith(f"| {title} |"))

    def test_shows_the_median_with_its_spread(self):
        row = self.row("accept 4 KiB, reusing connections")
        self.assertIn("**22,000** (20,000..24,000)<br>9,000 /s", row)

    def test_marks_runs_in_which_others_used_the_machine(self):
        self.assertIn("**600** \\*<br>1,040 /s", self.row("accept 4 KiB, reusing connections"))
        self.assertIn("\\* In 1 of 8 timed runs others took more than 8% of the machine, up to 31%",
                      self.text)

    def test_compares_what_was_reached_with_the_aims(self):
        first = self.row(AIMS[0].title)
        self.assertTrue(first.endswith("| ≥ 1.35 × | 1.7 × | 2.00 × | reached |"), first)
        self.assertIn("| ≤ 2 KiB |  | 1.50 KiB | reached |", self.text)
        self.assertIn("| not measured |  |", self.row(AIMS[1].title))

    def test_calls_an_aim_missed_that_is_missed(self):
        results = recorded()
        for record in results["records"]:
            if record["server"] == "smtp-sink":
                record["per_cpu_second"] = 22000
        self.assertIn("| 1.00 × | **missed** |", report.markdown(results))

    def test_says_why_a_figure_is_missing(self):
        self.assertIn("- KumoMTA: kumod is not on the PATH.\n", self.text)
        self.assertIn("- Postfix: has a process each (10,000 idle connections).", self.text)
        self.assertIn("- Postfix: the sink ended (accept 4 KiB and pass it on to a sink).", self.text)

    def test_shows_replies_and_calls(self):
        self.assertIn("| 1.50 |", self.row("final reply, median, ms"))
        self.assertIn("| 4.25 |", self.row("final reply, 99 % within, ms"))
        self.assertIn("| `epoll_wait` (turn) | 1.00 |", self.text)

    def test_tells_date_versions_and_layout(self):
        for fact in ("2026-11-23", "Postfix 3.7", "the server on processor 0", "3 alternating runs"):
            self.assertIn(fact, self.text)

    def test_draws_a_chart_that_is_xml_with_a_bar_a_server(self):
        root = ElementTree.fromstring(chart.svg(recorded()))
        bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect")
                if bar.get("class").startswith("bar")]
        self.assertEqual(len(bars), 3)
        self.assertLess(float(bars[2].get("width")), float(bars[0].get("width")))

    def test_a_session_without_a_figure_still_has_a_report(self):
        results = recorded()
        results["records"] = [{"case": "accept-4k", "server": "postfix", "round": 0, "failed": "no"}]
        self.assertIn("- Postfix: no", report.markdown(results))
        ElementTree.fromstring(chart.svg(results))

    def test_replaces_what_is_between_the_markers_and_nothing_else(self):
        before = f"a\n{report.README_BEGIN}\nold\n{report.README_END}\nb\n"
        after = report.put_between(before, "new \\1")
        self.assertEqual(after, f"a\n{report.README_BEGIN}\n\nnew \\1\n{report.README_END}\nb\n")
        self.assertEqual(report.put_between(after, "new \\1"), after)
        with self.assertRaises(ValueError):
            report.put_between("no markers", "new")

    def test_numbers_have_three_digits_that_say_something(self):
        self.assertEqual([report.number(value) for value in (12345, 1234.5, 123.4, 12.34, 1.234)],
                         ["12,300", "1,230", "123", "12.3", "1.23"])


class Parsing(unittest.TestCase):
    TRACE = [
        "11 100.000001 read(5<socket:[77]>, \"\"..., 8192) = 40\n",
        "11 101.000001 read(5<socket:[77]>, \"\"..., 8192) = 40\n",
        "12 101.000002 fdatasync(6</queue/1.log> <unfinished ...>\n",
        "11 101.000003 write(7<anon_inode:[eventfd]>, \"\"..., 8) = 8\n",
        "12 101.000004 <... fdatasync resumed>) = 0\n",
        "11 101.000005 epoll_wait(4<anon_inode:[eventpoll]>, [], 1024, 0) = 0\n",
        "11 101.000006 +++ exited with 0 +++\n",
        "11 102.000001 read(5<socket:[77]>, \"\"..., 8192) = 40\n",
    ]

    def test_calls_are_counted_once_and_within_the_time(self):
        counts = calls.count(self.TRACE, 101.0, 101.9)
        self.assertEqual(counts, {"read": 1, "fdatasync": 1, "eventfd": 1, "epoll_wait": 1})
        self.assertEqual(calls.syncs(counts), 1)
        self.assertEqual(calls.of_messages(counts), 1)

    def test_calls_that_open_connections_are_not_those_of_messages(self):
        each = calls.each({"accept4": 50, "read": 450}, {"accept4": 50, "read": 1250, "futex": 20}, 200)
        self.assertEqual(each, {"accept4": 0.0, "read": 4.0, "futex": 0.1})

    def test_writes_to_a_file_are_told_from_writes_to_a_socket(self):
        lines = ["1 5.0 pwrite64(6</queue/1.log>, \"\"..., 9, 0) = 9\n",
                 "1 5.0 write(7<socket:[9]>, \"\"..., 9) = 9\n"]
        self.assertEqual(calls.count(lines, 0, 9), {calls.FILE_WRITE: 1, "write": 1})

    def test_what_the_load_generator_tells_is_read(self):
        told = {"messages": 10, "accepted": 10, "seconds": 0.5, "rate": 20.0, "replies": {"250": 10},
                "latency_us": {"p50": 100, "p99": 900}}
        self.assertEqual(read_load("note\n" + json.dumps(told), 10), (0.5, told["latency_us"]))
        self.assertEqual(read_load(json.dumps(told, indent=1), 10), (0.5, told["latency_us"]))
        with self.assertRaisesRegex(Failed, "9 of 10"):
            read_load(json.dumps({**told, "accepted": 9}), 10)
        with self.assertRaisesRegex(Failed, "something else"):
            read_load("no JSON", 10)

    def test_a_process_whose_name_has_blanks_and_brackets_is_read(self):
        stat = Stat("7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 100 50 20 30 20 0 1 0 5 6 7\n")
        self.assertEqual(stat.parent, 3)
        self.assertAlmostEqual(stat.seconds / stat.children_seconds, 3.0)

    def test_a_port_is_read_from_the_line_that_says_ready(self):
        self.assertEqual(ready_port("log\nready smtp=127.0.0.1:2525 pid=7\n"), 2525)
        self.assertIsNone(ready_port("log\n"))


class Servers(unittest.TestCase):
    TOOLS = Tools(Path("/tools"), Path("/rohrpost"), Path("/floor"), Path("/cert.pem"), Path("/key.pem"))

    def test_each_can_say_what_it_is_told(self):
        cases = {case.name: case for case in CASES}
        jobs = [("keep all mail", cases["accept-4k"], Job(Path("/run"), 2525)),
                ("pass all mail on", cases["relay-4k"], Job(Path("/run"), 2525, 2600, True))]
        text = report.settings(everybody(self.TOOLS), jobs)
        for server in everybody(self.TOOLS):
            self.assertIn(f"## {server.title}\n", text)
        self.assertNotIn("{{", text)
        self.assertIn("relayhost = [127.0.0.1]:2600", text)

    def test_each_case_is_done_by_rohrpost_and_refused_with_a_reason_by_the_others(self):
        for server in everybody(self.TOOLS):
            for case in CASES:
                why = server.lacks(case)
                self.assertTrue(why is None or isinstance(why, str))
                self.assertFalse(server.name == "rohrpost" and why)

    def test_names_of_cases_servers_and_aims_agree(self):
        names = {case.name for case in CASES}
        servers = {server.name for server in everybody(self.TOOLS)}
        self.assertEqual(len(names), len(CASES))
        for aim in AIMS:
            self.assertIn(aim.case, names)
            self.assertIn(aim.than_case or aim.case, names)
            self.assertTrue(aim.than is None or aim.than in servers)


if __name__ == "__main__":
    unittest.main()
