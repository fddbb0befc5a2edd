"""Postfix, Debian's package.

Mail that is kept is held (HOLD): it is written and synced once, and neither scheduled nor tried, which is
the least that Postfix can do with it. It logs to syslog, and in its room there is none.
"""

from servers import ROOT, Server, in_room, room_absent

MAIN = """\
compatibility_level = 3.6
queue_directory = /var/spool/postfix
data_directory = /var/lib/postfix
command_directory = /mnt/usr/sbin
daemon_directory = /mnt/usr/lib/postfix/sbin
shlib_directory = /mnt/usr/lib/postfix
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
myhostname = mx.example
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
# No pause for clients that bring mail faster than it is delivered.
in_flow_delay = 0
# As many processes of a kind as there are connections; as shipped 100.
default_process_limit = {processes}
"""

KEEP = "smtpd_recipient_restrictions = check_client_access static:HOLD\n"

RELAY = "relayhost = [127.0.0.1]:{port}\n"

SECURE = """\
smtpd_tls_security_level = may
smtpd_tls_chain_files = /etc/tls/key.pem, /etc/tls/cert.pem
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog   unix-dgram n  - n -     1 postlogd
pickup    unix  n - n 60    1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
"""

#: Postfix serves each connection with a process; as shipped at most 100 of each kind.
PROCESSES = 100


class Postfix(Server):
    name = "postfix"
    title = "Postfix"
    process_each = True

    def absent(self):
        return room_absent(self.tools, "postfix")

    def settings(self, job):
        processes = PROCESSES if job.connections <= PROCESSES else job.connections + PROCESSES
        main = MAIN.format(processes=processes)
        main += RELAY.format(port=job.relay_port) if job.relay_port else KEEP
        files = {
            "etc/postfix/main.cf": main + (SECURE if job.secure else ""),
            "etc/postfix/master.cf": MASTER.format(port=job.port),
            "etc/prepare": ROOT / "tests/peers/postfix/etc/prepare",
        }
        if job.secure:
            files["etc/tls/cert.pem"] = self.tools.certificate
            files["etc/tls/key.pem"] = self.tools.key
        return files

    def command(self, job):
        master = ["/mnt/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix"]
        return in_room(self.tools, "postfix", job, master)


SERVER = Postfix
