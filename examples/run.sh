#!/bin/bash
# A server to try out: on 127.0.0.1:2525, with every example plugin, delivering to a sink that prints
# what it gets. Everything it writes is below ./run. Ctrl-C stops both, and nothing else.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=${1:-target/release/rohrpost}
address=127.0.0.1:2525
mkdir -p run/queue run/plugins
rm -f run/plugins/*.so

for source in examples/plugins/*.c; do
    [ -e "$source" ] || continue
    plugin=run/plugins/$(basename "${source%.c}").so
    gcc -shared -fPIC -fvisibility=hidden -O2 -Wall -Iabi/include -o "$plugin" "$source"
    echo "compiled $plugin from $source"
done

# The process, and a descriptor on which what it prints can be read.
sink='' server=''
stop() {
    trap '' INT TERM
    trap - EXIT
    # The server first: it may still deliver while it drains.
    for pid in $server $sink; do
        kill -TERM "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    done
    echo "stopped; what was not delivered is kept in run/queue"
}
trap stop EXIT
trap 'exit 0' INT TERM

# Waits on descriptor $1 for the ready line, and prints the address in it.
ready() {
    local line
    while read -r -t 30 line <&"$1"; do
        case $line in
            ready\ *) line=${line#*=} && echo "${line%% *}" && return ;;
            *) echo "$line" >&2 ;;
        esac
    done
    echo "run.sh: it did not get ready" >&2
    return 1
}

# A session of their own: Ctrl-C reaches this script alone, which then stops them in order.
exec 3< <(exec setsid "$program" sink --listen=127.0.0.1:0 --print)
sink=$!
hop=$(ready 3)
cat <&3 &

exec 4< <(exec setsid "$program" run --smtp-ip=127.0.0.1 --smtp-port=${address##*:} \
    --smarthost="${hop%:*}" --smarthost-port="${hop##*:}" --retry-interval=5 \
    --queue-directory=run/queue --plugin-directory=run/plugins)
server=$!
ready 4 >/dev/null
cat <&4 &

cat <<END

Rohrpost listens on $address and delivers to a sink that prints here. In another terminal:

  printf 'Subject: hello\n\nIt works.\n' | curl --crlf --url smtp://$address --mail-from me@example.org --mail-rcpt you@example.net -T -

END
if command -v swaks >/dev/null; then
    echo "  swaks --server $address --from me@example.org --to you@example.net"
    echo
fi
echo "Ctrl-C stops it."
while kill -0 "$server" 2>/dev/null; do sleep 0.5; done
echo "run.sh: the server has ended by itself" >&2
exit 1
