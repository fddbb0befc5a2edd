"""A name server with a zone that a test writes, and with the faults that it asks for.

    dns.py ZONE LOG

ZONE is a JSON file, read again when it changes: names to records, such as

    {"example.org": {"MX": [[10, "mx.example.org"]], "A": ["127.0.0.2"], "ttl": 60,
                     "fault": "servfail"},
     "mx.example.org": {"fault": {"AAAA": "drop"}, "A": ["127.0.0.2"]},
     "www.example.org": {"CNAME": "example.org"},
     "_sip._tcp.example.org": {"SRV": [[10, 5, 5060, "sip.example.org"]], "TXT": ["text"]}}

Names that are not there do not exist. A fault is for the whole name or by type: `servfail`, `refused`,
`drop` (no answer), `truncate` (over UDP only a hint to come back over TCP). LOG gets one line a question:
`udp MX example.org`. Says `ready receiver=127.0.0.1:PORT pid=N` once both sockets are open.
"""

import json
import os
import socketserver
import sys
import threading

from dnslib import AAAA, CNAME, MX, NS, PTR, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSRecord

ZONE, LOG = sys.argv[1:3]
TTL = 60


class Zone:
    def __init__(self):
        self.lock = threading.Lock()
        self.stamp = None
        self.names = {}

    def read(self):
        with self.lock:
            stamp = os.stat(ZONE).st_mtime_ns
            if stamp != self.stamp:
                with open(ZONE, encoding="utf-8") as file:
                    self.names = json.load(file)
                self.stamp = stamp
            return self.names


zone = Zone()
log_lock = threading.Lock()


def note(way, kind, name):
    with log_lock, open(LOG, "a", encoding="utf-8") as log:
        log.write(f"{way} {kind} {name}\n")


def records(entry, kind):
    make = {"A": A, "AAAA": AAAA, "NS": NS, "PTR": PTR, "TXT": TXT}.get(kind)
    if kind == "MX":
        return [MX(label=name, preference=preference) for preference, name in entry.get(kind, [])]
    if kind == "SRV":
        return [SRV(*fields) for fields in entry.get(kind, [])]
    return [make(address) for address in entry.get(kind, [])] if make else []


def add_answers(reply, names, name, kind):
    """Fills the answer section; whether the name exists."""
    entry = names.get(name)
    if entry is None:
        return False
    ttl = entry.get("ttl", TTL)
    if "CNAME" in entry:
        reply.add_answer(RR(name, QTYPE.CNAME, ttl=ttl, rdata=CNAME(entry["CNAME"])))
        return add_answers(reply, names, entry["CNAME"], kind)
    for data in records(entry, kind):
        reply.add_answer(RR(name, getattr(QTYPE, kind), ttl=ttl, rdata=data))
    return True


def answer(data, way):
    """The octets to say, or None for none."""
    request = DNSRecord.parse(data)
    name = str(request.q.qname).rstrip(".").lower()
    kind = QTYPE[request.q.qtype]
    note(way, kind, name)
    names = zone.read()
    entry = names.get(name, {})
    fault = entry.get("fault")
    fault = fault.get(kind) if isinstance(fault, dict) else fault
    reply = request.reply()
    if fault == "drop":
        return None
    if fault in ("servfail", "refused"):
        reply.header.rcode = getattr(RCODE, fault.upper())
        return reply.pack()
    if fault == "truncate" and way == "udp":
        reply.header.tc = 1
        return reply.pack()
    exists = add_answers(reply, names, name, kind)
    if not exists:
        reply.header.rcode = RCODE.NXDOMAIN
    if not exists or not reply.rr:
        times = (1, 3600, 600, 86400, entry.get("ttl", TTL))
        authority = SOA("ns.invalid", "root.invalid", times)
        reply.add_auth(RR(name, QTYPE.SOA, ttl=entry.get("ttl", TTL), rdata=authority))
    return reply.pack()


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        said = answer(data, "udp")
        if said is not None:
            socket.sendto(said, self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while len(length := self.rfile.read(2)) == 2:
            said = answer(self.rfile.read(int.from_bytes(length, "big")), "tcp")
            if said is not None:
                self.wfile.write(len(said).to_bytes(2, "big") + said)


class UdpServer(socketserver.ThreadingUDPServer):
    daemon_threads = True


class TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


def both():
    """Servers of both kinds on one port that the system picks."""
    for _ in range(20):
        udp = UdpServer(("127.0.0.1", 0), Udp)
        try:
            return udp, TcpServer(udp.server_address, Tcp)
        except OSError:
            udp.server_close()
    raise SystemExit("no port is free for both UDP and TCP")


def main():
    udp, tcp = both()
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    print(f"ready receiver=127.0.0.1:{udp.server_address[1]} pid={os.getpid()}", flush=True)
    udp.serve_forever()


main()
