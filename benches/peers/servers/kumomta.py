"""KumoMTA, where its `kumod` is on the PATH; nothing fetches it.

Its spool syncs (`flush = true`, which it does not as shipped), since what is measured is mail that is on the
disk before the 250. Mail that is kept is not due for an hour. No log is configured.
"""

import datetime
import os
import shutil
import subprocess

from servers import Server

POLICY = """\
local kumo = require 'kumo'

kumo.on('init', function()
  for _, name in ipairs {{ 'data', 'meta' }} do
    kumo.define_spool {{ name = name, path = '{spool}/' .. name, kind = 'LocalDisk', flush = true }}
  end
  kumo.start_esmtp_listener {{
    listen = '127.0.0.1:{port}',
    hostname = 'mx.example',
    relay_hosts = {{ '127.0.0.1' }},
    max_connections = {connections},
    max_messages_per_connection = 10000000,
{tls}  }}
end)

kumo.on('smtp_server_message_received', function(msg)
{received}
end)

kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
  return kumo.make_queue_config {{
    protocol = {{ smtp = {{ mx_list = {{ {{ name = 'sink.example', addr = '127.0.0.1' }} }} }} }},
  }}
end)

kumo.on('get_egress_path_config', function(domain, source, site)
  return kumo.make_egress_path {{
    smtp_port = {relay_port},
    enable_tls = 'Disabled',
    prohibited_hosts = {{}},
  }}
end)
"""

KEEP = "  msg:set_scheduling {{ first_attempt = '{due}' }}"

#: Whom kumod becomes when root starts it.
USER = "nobody"


class KumoMta(Server):
    name = "kumomta"
    title = "KumoMTA, spool synced"

    def absent(self):
        return None if shutil.which("kumod") else "kumod is not on the PATH"

    def version(self):
        said = subprocess.run(["kumod", "--version"], capture_output=True, text=True, check=False)
        return (said.stdout.split() or ["unknown"])[-1]

    def settings(self, job):
        due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        tls = ""
        if job.secure:
            tls = (f"    tls_certificate = '{self.tools.certificate}',\n"
                   f"    tls_private_key = '{self.tools.key}',\n")
        return {
            "init.lua": POLICY.format(
                spool=job.folder / "spool",
                port=job.port,
                connections=job.connections + 100,
                tls=tls,
                received="" if job.relay_port else KEEP.format(due=due.isoformat("T", "seconds")),
                relay_port=job.relay_port or 1),
        }

    def furnish(self, job):
        super().furnish(job)
        if os.geteuid() == 0:
            for path in (job.folder, *job.folder.rglob("*")):
                shutil.chown(path, USER)

    def command(self, job):
        user = ["--user", USER] if os.geteuid() == 0 else []
        return [shutil.which("kumod") or "kumod", "--policy", str(job.folder / "init.lua"), *user]


SERVER = KumoMta
