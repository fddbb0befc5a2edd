#!/bin/sh
# How many instructions does a message take, and how many more with one plugin and with three that return
# false on every hook? Counted by callgrind, which has to be installed (Debian: valgrind): so it is the same on
# a machine that does something else as well. Two runs of different length are subtracted, so that only
# messages count. What the allocator does depends on what was freed before, for one when plugins were loaded:
# a few hundred instructions either way.
set -eu

cd "$(dirname "$0")/.."
command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 69; }
program=$(cargo bench --bench plugin --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
test -x "$program"
if [ -z "${ROHRPOST_PLUGIN:-}" ]; then
    ROHRPOST_PLUGIN=$(mktemp --suffix=.so)
    trap 'rm -f "$ROHRPOST_PLUGIN"' EXIT
    gcc -O2 -shared -fPIC -fvisibility=hidden -I abi/include -o "$ROHRPOST_PLUGIN" benches/declines.c
fi
export ROHRPOST_PLUGIN

count() { # COPIES OCTETS MESSAGES
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" \
        --copies "$1" --octets "$2" --messages "$3" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
each() { # COPIES OCTETS
    few=$(count "$1" "$2" 100)
    many=$(count "$1" "$2" 1100)
    echo $(((many - few) / 1000))
}

echo "octets  without  one plugin           three plugins"
for octets in 4096 65536; do
    awk -v octets="$octets" -v without="$(each 0 "$octets")" -v one="$(each 1 "$octets")" \
        -v three="$(each 3 "$octets")" 'BEGIN {
        printf "%6d  %7d  %7d (%+6.2f %%)   %7d (%+6.2f %%)\n", octets, without,
            one, 100 * (one - without) / without, three, 100 * (three - without) / without
    }'
done
