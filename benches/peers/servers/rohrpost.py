"""Rohrpost, as it would be run, with one worker a processor.

What it keeps goes to a smarthost that is not there: one attempt finds that out, and all mail waits. Its
settings are on its command line.
"""

import subprocess

from servers import Server, ready_port


class Rohrpost(Server):
    name = "rohrpost"
    title = "Rohrpost"

    def absent(self):
        if not self.tools.rohrpost.is_file():
            return f"no {self.tools.rohrpost}: run cargo build --release"
        return None

    def version(self):
        said = subprocess.run([self.tools.rohrpost, "--version"], capture_output=True, text=True,
                              check=True)
        return said.stdout.split()[-1]

    def command(self, job):
        words = {
            "smtp-ip": "127.0.0.1",
            "smtp-port": 0,
            "smtp-hostname": "mx.example",
            "queue-directory": job.folder / "queue",
            "application-log": "",
            "smarthost": "127.0.0.1",
            "smarthost-port": job.relay_port or 1,
            "smtp-connections-per-address": 0,
        }
        if job.workers:
            words["smtp-threads"] = job.workers
        if job.secure:
            words["smtp-certificate"] = self.tools.certificate
            words["smtp-key"] = self.tools.key
        settings = [f"--{key}={value}" for key, value in words.items()]
        return [str(self.tools.rohrpost), "run", *settings]

    def port(self, job, said):
        return ready_port(said)


SERVER = Rohrpost
