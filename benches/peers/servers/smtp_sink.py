"""Postfix' smtp-sink: one process that takes mail, looks at each octet and stores nothing.

It is no mail server. It is what everybody has at hand, so ratios to it can be compared between machines.
"""

from servers import Server


class SmtpSink(Server):
    name = "smtp-sink"
    title = "smtp-sink, stores nothing"
    durable = False

    def absent(self):
        missing = not self.tools.program("smtp-sink").exists()
        return "not fetched: run tests/tools/fetch.sh" if missing else None

    def version(self):
        return f"Postfix {self.tools.version('postfix')}"

    def lacks(self, case):
        if case.relay:
            return "delivers nothing"
        if case.secure:
            return "has no TLS"
        if case.flight == "bdat":
            return "knows no BDAT"
        return super().lacks(case)

    def command(self, job):
        return sink_command(self.tools, job.port, ["-m", str(job.connections + 100)])


def sink_command(tools, port, options):
    """smtp-sink on `port`. The wrapper in target/tools gives up root."""
    return [str(tools.program("smtp-sink")), *options, f"127.0.0.1:{port}", "4096"]


SERVER = SmtpSink
