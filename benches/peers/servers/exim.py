"""Exim, Debian's package exim4-daemon-light.

Mail that is kept is queued (`queue_only`), and no queue runner is started. It logs to syslog, and in its
room there is none.
"""

from servers import ROOT, Server, in_room, room_absent

CONFIGURATION = """\
exim_path = /mnt/usr/sbin/exim4
spool_directory = /var/spool/exim4
log_file_path = syslog
primary_hostname = mx.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_on_connect_ports =
disable_ipv6 = true
keep_environment =
never_users =
# No questions to name servers and to the client's machine: there are none here to ask.
host_lookup =
rfc1413_query_timeout = 0s
dns_again_means_nonexist = *
# Limits above what the load brings.
message_size_limit = 50M
smtp_accept_max = {connections}
smtp_connect_backlog = 4096
smtp_accept_max_per_connection = 10000000
smtp_accept_queue_per_connection = 0
{role}
{tls}
acl_smtp_rcpt = acl_rcpt

begin acl
acl_rcpt:
  accept hosts = 127.0.0.1

begin routers
sink:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = sink

begin transports
sink:
  driver = smtp
  port = {relay_port}
  allow_localhost
  hosts_try_fastopen =
  hosts_avoid_tls = *

begin retry
* * F,1d,15m
"""

SECURE = """\
tls_advertise_hosts = *
tls_certificate = /etc/tls/cert.pem
tls_privatekey = /etc/tls/key.pem"""


class Exim(Server):
    name = "exim"
    title = "Exim"
    process_each = True

    def absent(self):
        return room_absent(self.tools, "exim")

    def settings(self, job):
        files = {
            "etc/exim4/exim4.conf": CONFIGURATION.format(
                port=job.port,
                connections=job.connections + 100,
                role="" if job.relay_port else "queue_only",
                tls=SECURE if job.secure else "tls_advertise_hosts =",
                relay_port=job.relay_port or 1),
            "etc/prepare": ROOT / "tests/peers/exim/etc/prepare",
        }
        if job.secure:
            files["etc/tls/cert.pem"] = self.tools.certificate
            files["etc/tls/key.pem"] = self.tools.key
        return files

    def command(self, job):
        return in_room(self.tools, "exim", job, ["/mnt/usr/sbin/exim4", "-bdf"])


SERVER = Exim
