"""Runs every fetched tool once, one against another, on ports that the system picks.

Usage: check.py TOOLS. Prints one line a tool; exits 1 and says why when one does not run.
"""

import os
import subprocess
import sys
import tempfile
import time

DEADLINE_SECONDS = 20


def listening_port(pid, deadline):
    """The TCP port that process `pid` listens on, which no option of smtp-sink would tell."""
    while time.monotonic() < deadline:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            for line in open("/proc/net/tcp"):
                fields = line.split()
                if fields[3] == "0A" and target == f"socket:[{fields[9]}]":
                    return int(fields[1].split(":")[1], 16)
        time.sleep(0.01)
    sys.exit(f"check.py: process {pid} opened no listener")


def run(*command, **options):
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, **options
    )
    if result.returncode != 0:
        sys.exit(f"check.py: {command} exited {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def started(*command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def stop(process):
    process.terminate()
    process.wait(DEADLINE_SECONDS)


def main(tools):
    tool = lambda name: os.path.join(tools, "bin", name)
    here = os.path.dirname(os.path.abspath(__file__))

    sink = started(tool("smtp-sink"), "127.0.0.1:0", "16")
    port = listening_port(sink.pid, time.monotonic() + DEADLINE_SECONDS)
    run(tool("smtp-source"), "-s", "2", "-m", "10", "-l", "4096", f"127.0.0.1:{port}")
    stop(sink)
    print("ok smtp-source, smtp-sink")

    with tempfile.TemporaryDirectory() as folder:
        received = os.path.join(folder, "received.jsonl")
        receiver = started(
            tool("python3"), os.path.join(here, "../python/receiver.py"), "127.0.0.1:0", received
        )
        address = receiver.stdout.readline().split()[1].split("=")[1]
        envelope = ["--from", "a@example.org", "--to", "b@example.net"]
        run(tool("swaks"), "--server", address, *envelope, "--helo", "check.example")
        print("ok swaks")
        mail = "Subject: check\n\nA line.\n.\nAfter a dot.\n"
        run(
            tool("curl"), "--silent", "--show-error", "--crlf", "--url", f"smtp://{address}/check.example",
            "--mail-from", "a@example.org", "--mail-rcpt", "b@example.net", "-T", "-", input=mail,
        )  # fmt: skip
        print("ok curl")
        stop(receiver)
        if len(open(received).readlines()) != 2:
            sys.exit("check.py: the receiver did not write what it received")
        print("ok aiosmtpd")

        trace = os.path.join(folder, "trace")
        run(tool("strace"), "-f", "-o", trace, "-e", "trace=execve", "/bin/true")
        if "execve" not in open(trace).read():
            sys.exit("check.py: strace saw nothing; is tracing forbidden here?")
        print("ok strace")

    for name, *arguments in (
        ("openssl", "version"),
        ("msmtp", "--version"),
        ("s-nail", "-:/", "-V"),
        ("sslscan", "--version"),
        ("redis-server", "--version"),
        ("posttls-finger", "-l", "may", "[127.0.0.1]:1"),
        ("node", "-e", "require('nodemailer'); require.resolve('Haraka')"),
        ("python3", "-c", "import aiosmtplib"),
    ):
        run(tool(name), *arguments)
        print("ok", name)


if __name__ == "__main__":
    main(sys.argv[1])
