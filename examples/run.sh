#!/bin/bash
# A server to try out: on 127.0.0.1:2525 (PORT=2526 make run: another port), with example plugins,
# delivering to a sink that prints what it gets. All it writes is below ./run. Ctrl-C stops everything
# it started, and nothing else.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=$(realpath "${1:-target/release/rohrpost}")
port=${PORT:-2525}
address=127.0.0.1:$port
folder=$PWD/run
mkdir -p "$folder"/plugins
mkdir -p -m 0700 "$folder"/queue

complain() {
    printf '%s\n' "$@" >&2
    exit 75
}

# Whoever answers on the port now would otherwise get the mail that is meant for us.
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    complain "Something listens on $address already. Take another port: PORT=$((port + 1)) make run"
fi
if "$program" status --queue-directory="$folder/queue" >/dev/null 2>&1; then
    complain "A server is running on ./run/queue already: stop it first (it may be another make run)."
fi

# What lies in ./run/plugins is loaded, in the order of names: put your own there, or take these away.
examples=(minimal stamp mime)
[ -z "${POLICY_ADDRESS:-}" ] || examples+=(policy)
make --silent -C examples/plugins OUTPUT="$folder/examples"
rm -f run/plugins/{minimal,stamp,mime,policy}.so
for name in "${examples[@]}"; do cp "run/examples/$name.so" run/plugins/; done

# The status line has no line end: whatever else is printed in a terminal wipes it first, and the next
# second brings it back. A filter must outlive Ctrl-C, or the last words are lost.
wipe=''
[ ! -t 1 ] || wipe=$'\r\e[K'
shown() { trap '' INT TERM HUP; exec sed -u "s/^/$wipe/"; }

# Sessions of their own: Ctrl-C reaches this script alone, which then stops them in order.
server='' sink=''
stop() {
    local exit=$?
    # The server first: it may still deliver while it drains. A second Ctrl-C ends it at once.
    trap '[ -z "$server" ] || kill -TERM "$server" 2>/dev/null || true' INT TERM HUP
    trap - EXIT
    for pid in $server $sink; do
        kill -TERM "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do wait "$pid" 2>/dev/null || true; done
    done
    [ "$exit" -ne 0 ] || echo "Stopped. What was not delivered is kept in ./run/queue."
    exit "$exit"
}
trap stop EXIT
trap 'exit 0' INT TERM HUP

# Waits until "$@" succeeds; fails when process $1 has ended, or after 30 seconds.
await() {
    local pid=$1
    for _ in {1..300}; do
        ! "${@:2}" >/dev/null 2>&1 || return 0
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

: >run/sink.txt
setsid "$program" sink --listen=127.0.0.1:0 --print > >(trap '' INT TERM HUP; exec tee run/sink.txt | shown) &
sink=$!
await "$sink" grep -q '^ready ' run/sink.txt || complain "The sink did not start; see above."
hop=$(sed -n 's/^ready sink=\([^ ]*\).*/\1/p' run/sink.txt)

setsid "$program" run --smtp-ip=127.0.0.1 --smtp-port="$port" \
    --smarthost="${hop%:*}" --smarthost-port="${hop##*:}" --retry-interval=5 --shutdown-timeout=10 \
    --queue-directory="$folder/queue" --plugin-directory="$folder/plugins" 2> >(shown) &
server=$!
await "$server" "$program" status --queue-directory="$folder/queue" ||
    complain "The server did not start; see above."

cat <<END

Rohrpost listens on $address and delivers to a sink that prints here.
Type in another terminal:

  printf 'Subject: hello\n\nIt works.\n' | curl -sS --crlf smtp://$address --mail-from me@example.org --mail-rcpt you@example.net -T -

END
if command -v swaks >/dev/null; then
    echo "  swaks --server $address --from me@example.org --to you@example.net"
    echo
fi
cat <<END
stamp.c puts an X-Rohrpost-Example field on top of it. Mail from
news@example.org gets its text from mime.cpp. Their sources are in
./examples/plugins; what is in ./run/plugins is loaded. Ctrl-C stops all.

END
wait "$server" || true
server=''
complain "The server has ended by itself; see above."
