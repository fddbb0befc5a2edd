"""Sends generated mails with exactly known bytes, and writes down what must arrive.

Usage: generate.py HOST:PORT COUNT SEED FILE [LARGE]. Each mail has a recipient of its own. One line of
FILE a mail that was answered 250:

    {"recipient": ..., "bytes": ..., "sha256": ..., "kind": ..., "way": ...}

Kinds: plain, dots, long lines, 8-bit, NUL octets, headers alone, empty; LARGE of the mails (default 3)
have 10 MiB. Ways: DATA over a socket in random pieces, BDAT in random chunks, Python's smtplib. The
seed is printed; the same seed makes the same mails. Exits 1 at the first refusal.
"""

import hashlib
import json
import random
import smtplib
import socket
import sys

LARGE_BYTES = 10 << 20
MAILS_A_CONNECTION = 50
DEADLINE_SECONDS = 60


def lines(rng, count, alphabet, longest):
    """`count` lines, each ended by CRLF, without a CR or LF of their own."""
    made = []
    for _ in range(count):
        length = rng.randrange(longest + 1)
        made.append(bytes(rng.choices(alphabet, k=length)) + b"\r\n")
    return b"".join(made)


PRINTABLE = bytes(range(32, 127))
EIGHT_BIT = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")
WITH_NUL = b"\0\0" + EIGHT_BIT


def plain(rng):
    return lines(rng, rng.randrange(60), PRINTABLE, 76)


def dots(rng):
    starts = [b".", b"..", b"...", b". ", b".x", b"", b"x.", b" ."]
    return b"".join(rng.choice(starts) + b"\r\n" for _ in range(rng.randrange(1, 80)))


def long_lines(rng):
    return lines(rng, rng.randrange(1, 5), PRINTABLE + b"....", rng.choice([998, 1000, 2048, 20000]))


def eight_bit(rng):
    return lines(rng, rng.randrange(1, 40), EIGHT_BIT, 200)


def nul(rng):
    return lines(rng, rng.randrange(1, 20), WITH_NUL, 100)


def large(rng):
    """Random octets in lines; about one in 200 begins with a dot by itself."""
    octets = rng.randbytes(LARGE_BYTES).translate(None, b"\r\n")
    width = rng.randrange(60, 900)
    cut = [octets[at : at + width] for at in range(0, len(octets), width)]
    return b"\r\n".join(cut) + b"\r\n"


def header(rng, number):
    fields = [f"Subject: mail {number}", "From: a@example.org", f"X-Random: {rng.random()}"]
    return "".join(field + "\r\n" for field in fields).encode()


def content(rng, number, kind):
    if kind == "empty":
        return b""
    if kind == "header":
        return header(rng, number)
    if kind == "dots" and rng.random() < 0.3:
        # The very first octet is a dot. (A blank would continue the field that the relay prefixes.)
        return b"..\r\n" + dots(rng)
    return header(rng, number) + b"\r\n" + KINDS[kind](rng)


KINDS = {"plain": plain, "dots": dots, "long": long_lines, "8bit": eight_bit, "nul": nul, "large": large}


class Raw:
    """A client that sends exactly what it is given, in pieces of any size."""

    def __init__(self, address, rng):
        self.rng = rng
        self.socket = socket.create_connection(address, DEADLINE_SECONDS)
        self.file = self.socket.makefile("rb")
        self.expect(b"220")
        self.command(b"EHLO generator.example", b"250")

    def expect(self, code):
        while True:
            line = self.file.readline()
            if not line.startswith(code):
                sys.exit(f"generate.py: expected {code}, got {line}")
            if line[3:4] != b"-":
                return

    def command(self, line, code):
        self.socket.sendall(line + b"\r\n")
        self.expect(code)

    def pieces(self, octets, largest):
        at = 0
        while at < len(octets):
            size = self.rng.randrange(1, largest)
            yield octets[at : at + size]
            at += size

    def envelope(self, recipient):
        self.command(b"MAIL FROM:<a@example.org> BODY=8BITMIME", b"250")
        self.command(b"RCPT TO:<" + recipient.encode() + b">", b"250")

    def data(self, recipient, octets):
        self.envelope(recipient)
        self.command(b"DATA", b"354")
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
        largest = 1 << 20 if len(octets) > 1 << 20 else self.rng.choice([2, 40, 5000, 1 << 20])
        for piece in self.pieces(stuffed, largest):
            self.socket.sendall(piece)
        self.expect(b"250")

    def bdat(self, recipient, octets):
        self.envelope(recipient)
        largest = 1 << 20 if len(octets) > 1 << 20 else self.rng.choice([100, 5000, 1 << 20])
        for piece in self.pieces(octets, largest):
            self.socket.sendall(b"BDAT %d\r\n" % len(piece) + piece)
            self.expect(b"250")
        self.command(b"BDAT 0 LAST", b"250")

    def close(self):
        self.command(b"QUIT", b"221")
        self.socket.close()


class Library:
    """Python's own client, as many a script uses it."""

    def __init__(self, address, rng):
        self.client = smtplib.SMTP(*address, timeout=DEADLINE_SECONDS, local_hostname="generator.example")

    def data(self, recipient, octets):
        options = ["BODY=8BITMIME"]
        refused = self.client.sendmail("a@example.org", [recipient], octets, mail_options=options)
        if refused:
            sys.exit(f"generate.py: refused {refused}")

    def close(self):
        self.client.quit()


def ways(kind, announces_chunking):
    allowed = ["data", "bdat", "smtplib"] if announces_chunking else ["data", "smtplib"]
    # smtplib would add a line end to a mail that has no octet.
    return [way for way in allowed if not (kind == "empty" and way == "smtplib")]


def chunking(address):
    with smtplib.SMTP(*address, timeout=DEADLINE_SECONDS) as client:
        client.ehlo("generator.example")
        return client.has_extn("chunking")


def main(address, count, seed, path, large_count=3):
    host, port = address.rsplit(":", 1)
    address = (host, int(port))
    rng = random.Random(seed)
    print(f"generate.py: seed {seed}, {count} mails, {large_count} of them large", flush=True)
    kinds = [*(kind for kind in KINDS if kind != "large"), "header", "empty"]
    large_ones = set(rng.sample(range(count), min(large_count, count)))
    announced = chunking(address)
    clients = {}
    with open(path, "w", encoding="utf-8") as expected:
        for number in range(count):
            kind = "large" if number in large_ones else rng.choice(kinds)
            way = rng.choice(ways(kind, announced))
            octets = content(rng, number, kind)
            recipient = f"m{number}@example.net"
            client_kind = Library if way == "smtplib" else Raw
            if number % MAILS_A_CONNECTION == 0:
                for client in clients.values():
                    client.close()
                clients = {}
            if client_kind not in clients:
                clients[client_kind] = client_kind(address, rng)
            client = clients[client_kind]
            getattr(client, "bdat" if way == "bdat" else "data")(recipient, octets)
            entry = {
                "recipient": recipient,
                "bytes": len(octets),
                "sha256": hashlib.sha256(octets).hexdigest(),
                "kind": kind,
                "way": way,
            }
            expected.write(json.dumps(entry) + "\n")
    for client in clients.values():
        client.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:6]))
