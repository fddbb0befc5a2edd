"""What the measuring needs beside what tests/tools/fetch.sh fetches: the floor, and a certificate.

Everything lands below target/; nothing is installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

from servers import ROOT, Tools

HERE = Path(__file__).resolve().parent


def fetch(target, rohrpost):
    """All tools; what is made here is made in `target`."""
    folder = Path(os.environ.get("ROHRPOST_TOOLS", ROOT / "target/tools"))
    target.mkdir(parents=True, exist_ok=True)
    certificate, key = certify(target)
    return Tools(folder, rohrpost, build_floor(target), certificate, key)


def build_floor(target):
    """The floor, for the processor that is here: its checksum is an instruction of some."""
    program, source = target / "floor", HERE / "floor.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("gcc") or "cc"
        subprocess.run([compiler, "-O2", "-march=native", "-Wall", "-Wextra", "-pthread",
                        "-o", program, source], check=True)
    return program


def certify(target):
    """A certificate that nobody verifies, and its key: ECDSA, as most are now."""
    certificate, key = target / "cert.pem", target / "key.pem"
    if not certificate.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "3650", "-subj", "/CN=mx.example",
             "-addext", "subjectAltName=DNS:mx.example", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
    return certificate, key
