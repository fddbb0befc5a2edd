#!/bin/bash
# The second half of try.sh, within the empty Debian.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive

say() { echo "try: $*"; }
fail() { echo "try: FAILED: $*" >&2; exit 1; }

# Sends one mail to port 25 with nothing but Python's own library.
send() {
	python3 - "$1" <<-'PYTHON'
	import socket, sys
	server = socket.create_connection(("127.0.0.1", 25), 20)
	lines = server.makefile("rb")
	def expect(code):
	    while True:
	        line = lines.readline()
	        if line[3:4] != b"-":
	            break
	    assert line.startswith(code), line
	expect(b"220")
	def command(line, code):
	    server.sendall(line.encode() + b"\r\n")
	    expect(code)
	command("EHLO client.example.org", b"250")
	command("MAIL FROM:<a@example.org>", b"250")
	command(f"RCPT TO:<{sys.argv[1]}>", b"250")
	command("DATA", b"354")
	command("Subject: try\r\n\r\nText.\r\n.", b"250")
	command("QUIT", b"221")
	PYTHON
}

# Waits until a command succeeds.
await() {
	for _ in $(seq 200); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	fail "never: $*"
}

use() {
	await rohrpost status
	send "$1@example.net"
	await grep -q "$1@example.net" /tmp/dump
	cp /etc/rohrpost/config.txt /tmp/config.before
	echo 'smtp-maxsize: 5MB' >>/etc/rohrpost/config.txt
	rohrpost reload | tee /tmp/said
	grep -q 'changed: smtp-maxsize' /tmp/said || fail 'the reload changed nothing'
	cat /tmp/config.before >/etc/rohrpost/config.txt
	rohrpost reload >/dev/null
	rohrpost drain
	rohrpost status --table | head -4
	kill -TERM "$server"
	wait "$server" || fail "the server ended with $?"
}

if dpkg -s rohrpost >/dev/null 2>&1; then
	dpkg --purge rohrpost >/dev/null
	rm -rf /var/spool/rohrpost
fi
rm -f /tmp/dump /tmp/log
dpkg -i /tmp/rohrpost.deb
[ "$(stat -c '%U %a' /var/spool/rohrpost)" = 'rohrpost 700' ] || fail 'the queue directory is not private'
[ "$(stat -c '%G %a' /etc/rohrpost/config.txt)" = 'rohrpost 640' ] || fail 'everybody can read the settings'
man -w rohrpost >/dev/null || fail 'there is no manual page'
logrotate -d /etc/logrotate.d/rohrpost >/tmp/rotated 2>&1 || fail "logrotate: $(cat /tmp/rotated)"
rohrpost --version
rohrpost check --start

rohrpost sink --listen 127.0.0.1:2600 --dump=/tmp/dump --discard &
sink=$!
printf 'smarthost: 127.0.0.1\nsmarthost-port: 2600\n' >>/etc/rohrpost/config.txt

say 'as systemd starts it: the user from the start, and the one right to open port 25'
setpriv --reuid=rohrpost --regid=rohrpost --init-groups --inh-caps=-all,+net_bind_service \
	--ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service --no-new-privs \
	rohrpost run &
server=$!
use first

say 'from root: user set, and a log file where only root can make one'
echo 'application-log: /var/log/mail-runtime.log' >>/etc/rohrpost/config.txt
rohrpost run --user=rohrpost &
server=$!
use second
[ "$(stat -c %U /var/log/mail-runtime.log)" = rohrpost ] || fail 'the log is not the user'"'"'s'
grep -q 'stopped after' /var/log/mail-runtime.log || fail 'the log has no end'

kill -TERM "$sink"
wait "$sink" || true
dpkg --purge rohrpost
[ -d /var/spool/rohrpost ] || fail 'purging the package threw the queue away'
say 'all is well'
