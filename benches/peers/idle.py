#!/usr/bin/env python3
"""Opens connections to a server, greets it on each, and then says nothing more.

    idle.py PORT COUNT [tls]

Says `open` when all have had their answer to EHLO (with `tls` the one after STARTTLS; no certificate is
verified) and holds them until it is ended. 1 and a sentence if one of them fails.
"""

import resource
import selectors
import socket
import ssl
import sys
import time

#: So many are being opened at a time.
OPENING_MAX = 50
SECONDS_MAX = 240


class Session:
    """One connection on its way to being idle: what it waits for is the last line of a reply."""

    def __init__(self, port, context):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        self.context = context
        self.received = b""
        self.tls = self.incoming = self.outgoing = None
        self.script = self.steps()
        next(self.script)

    def steps(self):
        """The dialogue: takes each reply, sends what comes next, ends when it is idle."""
        yield
        self.say(b"EHLO idle.example\r\n")
        yield
        if self.context:
            self.say(b"STARTTLS\r\n")
            yield
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = self.context.wrap_bio(self.incoming, self.outgoing)
            while not self.shake():
                yield
            self.say(b"EHLO idle.example\r\n")
            yield

    def shake(self):
        """One step of the handshake; whether it was the last."""
        try:
            self.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        self.socket.sendall(self.outgoing.read())
        return done

    def say(self, line):
        if self.tls:
            self.tls.write(line)
            line = self.outgoing.read()
        self.socket.sendall(line)

    def receive(self):
        """Takes what has come; whether the connection is idle now."""
        octets = self.socket.recv(65536)
        if not octets:
            raise ConnectionError("the server closed a connection")
        shaking = self.tls is not None and not self.tls.version()
        if self.tls:
            self.incoming.write(octets)
            octets = b"" if shaking else self.decrypted()
        if not shaking:
            self.received += octets
            if not self.reply_is_complete():
                return False
        try:
            next(self.script)
            return False
        except StopIteration:
            # The server's side is what is measured; this side needs no more than its socket.
            self.tls = self.incoming = self.outgoing = self.script = None
            return True

    def decrypted(self):
        octets = b""
        try:
            while more := self.tls.read(65536):
                octets += more
        except ssl.SSLWantReadError:
            pass
        return octets

    def reply_is_complete(self):
        lines = self.received.split(b"\r\n")
        if len(lines) < 2 or lines[-2][3:4] != b" ":
            return False
        if not lines[-2].startswith(b"2"):
            raise ConnectionError(f"the server said {lines[-2].decode(errors='replace')}")
        self.received = b""
        return True


def open_all(port, count, context):
    selector = selectors.DefaultSelector()
    held, opening, opened = [], 0, 0
    end = time.monotonic() + SECONDS_MAX
    while len(held) < count:
        while opening < OPENING_MAX and opened < count:
            session = Session(port, context)
            selector.register(session.socket, selectors.EVENT_READ, session)
            opening, opened = opening + 1, opened + 1
        for key, _ in selector.select(1.0):
            if key.data.receive():
                selector.unregister(key.fileobj)
                opening -= 1
                held.append(key.data)
        if time.monotonic() > end:
            raise ConnectionError(f"{len(held)} of {count} were open after {SECONDS_MAX} s")
    return held


def main():
    port, count, secure = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["tls"]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        held = open_all(port, count, context)
    except OSError as error:
        print(error)
        return 1
    print("open", flush=True)
    while held:
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
