"""A foreign next hop: accepts every mail and writes down exactly what arrived.

Usage: receiver.py HOST:PORT FILE [FOLDER [CERTIFICATE KEY [USER PASSWORD]]]. Prints `ready receiver=HOST:PORT pid=N`; then, before each 250,
appends one line to FILE:

    {"recipient": ..., "bytes": ..., "sha256": ..., "received": ...}

`bytes` and `sha256` speak of the content without its first Received field, which is the one that the
relay under test prefixed; `received` is that field (empty when there was none). One line a recipient.
With FOLDER, unless it is empty, the whole content is kept as well, as FOLDER/<local part>/new/<number>.
With a certificate it offers STARTTLS; with a user and password besides it takes mail only under TLS and
from that user.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

SIZE_BYTES_MAX = 64 << 20
LINE_BYTES_MAX = 1 << 20
RECEIVED = re.compile(rb"received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.IGNORECASE)


class PatientSMTP(SMTP):
    """Lines as long as mail really has them; the sender under test must not break them."""

    line_length_limit = LINE_BYTES_MAX


class Notebook:
    def __init__(self, path, folder):
        self.file = open(path, "a", encoding="utf-8")
        self.folder = folder
        self.kept = 0

    def keep(self, recipient, content):
        box = re.sub(r"[^A-Za-z0-9_-]", "_", recipient.rsplit("@", 1)[0]) or "_"
        os.makedirs(os.path.join(self.folder, box, "new"), exist_ok=True)
        self.kept += 1
        new = os.path.join(self.folder, box, f"new.{self.kept}")
        with open(new, "wb") as file:
            file.write(content)
        os.rename(new, os.path.join(self.folder, box, "new", str(self.kept)))

    async def handle_DATA(self, server, session, envelope):
        content = envelope.original_content or b""
        field = RECEIVED.match(content)
        received = field.group() if field else b""
        rest = content[len(received) :]
        for recipient in envelope.rcpt_tos:
            entry = {
                "recipient": recipient,
                "bytes": len(rest),
                "sha256": hashlib.sha256(rest).hexdigest(),
                "received": received.decode("latin-1"),
            }
            self.file.write(json.dumps(entry) + "\n")
            if self.folder:
                self.keep(recipient, content)
        self.file.flush()
        return "250 2.0.0 OK"


def protection(certificate, key, user=None, password=None):
    """What makes aiosmtpd offer TLS, or insist on TLS and on a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if user is None:
        return {"tls_context": context}
    expected = (user.encode(), password.encode())

    def authenticator(server, session, envelope, mechanism, data):
        return AuthResult(success=(data.login, data.password) == expected)

    return {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": authenticator,
        "auth_required": True,
    }


async def main(address, path, folder=None, *secrets):
    host, port = address.rsplit(":", 1)
    notebook = Notebook(path, folder)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: PatientSMTP(
            notebook,
            hostname="receiver.example",
            data_size_limit=SIZE_BYTES_MAX,
            enable_SMTPUTF8=True,
            **(protection(*secrets) if secrets else {}),
        ),
        host,
        int(port),
        backlog=1024,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"ready receiver={host}:{port} pid={os.getpid()}", flush=True)
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
