"""Haraka, with its own queue.

Mail that is kept is written and synced, and its delivery waits for a name server that never answers. One
process, since it is given one processor; its log says warnings and worse.
"""

from servers import ROOT, Server

# Who may relay, and where to; the names of clients are not looked up.
ROUTE = """\
'use strict'
exports.hook_connect_init = (next, connection) => {{ connection.relaying = true; next() }}
exports.hook_lookup_rdns = (next) => next(OK, 'localhost')
exports.hook_get_mx = (next, hmail, domain) => {{ {mx} }}
"""

RELAY = "next(OK, {{ priority: 0, exchange: '127.0.0.1', port: {port} }})"


class Haraka(Server):
    name = "haraka"
    title = "Haraka"

    def absent(self):
        missing = not self.program().exists()
        return "not fetched: run tests/tools/fetch.sh" if missing else None

    def program(self):
        return self.tools.folder / "node/node_modules/Haraka/bin/haraka"

    def version(self):
        return f"{self.tools.version('haraka')}, Node {self.tools.version('node')}"

    def lacks(self, case):
        if case.flight == "bdat":
            return "knows no BDAT"
        return super().lacks(case)

    def settings(self, job):
        mx = RELAY.format(port=job.relay_port) if job.relay_port else ""
        files = {
            "haraka/config/me": "mx.example\n",
            "haraka/config/smtp.ini": f"listen=127.0.0.1:{job.port}\nnodes=0\n",
            "haraka/config/log.ini": "[main]\nlevel=warn\ntimestamps=false\nformat=default\n",
            # Haraka takes this one from the folder of its settings alone: the one that it ships.
            "haraka/config/connection.ini": self.program().parents[1] / "config/connection.ini",
            "haraka/config/outbound.ini": "concurrency_max=100\nenable_tls=false\nlocal_mx_ok=true\n",
            "haraka/config/plugins": "tls\nroute\n" if job.secure else "route\n",
            "haraka/plugins/route.js": ROUTE.format(mx=mx),
        }
        if job.secure:
            files["haraka/config/tls_cert.pem"] = self.tools.certificate
            files["haraka/config/tls_key.pem"] = self.tools.key
            files["haraka/config/dhparams.pem"] = ROOT / "tests/peers/haraka/config/dhparams.pem"
        return files

    def command(self, job):
        node = str(self.tools.program("node"))
        return [node, str(self.program()), "-c", str(job.folder / "haraka")]


SERVER = Haraka
