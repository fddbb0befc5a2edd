#!/bin/bash
# Which of the things that happen for every command, message, timer or hook take more instructions than they
# did? Counted by callgrind, which has to be installed (Debian: valgrind), so it is the same on a machine that
# does something else as well. benches/counted.rs says what is counted; two runs of different length are
# subtracted, so that only the rounds count. What the allocator does depends on what was freed before, for
# one when plugins were loaded: a few hundred instructions of a message either way.
#
# Compares with benches/instructions.txt: names what moved by more than 2 %, and ends with 1 if something grew
# by more than 5 %. A compiler's version decides about counts as well: where it is another one than the file
# names, differences are shown and nothing fails. --bless writes the file anew; names of cases count those
# alone and compare them.
set -euo pipefail

cd "$(dirname "$0")/.."
known=benches/instructions.txt
bless= only=()
for argument in "$@"; do
    case $argument in
    --bless) bless=yes ;;
    -*) echo "instructions.sh: [--bless] [CASE...]" >&2; exit 64 ;;
    *) only+=("$argument") ;;
    esac
done
if [ -n "$bless" ] && [ ${#only[@]} -gt 0 ]; then
    echo "instructions.sh: --bless takes all cases" >&2
    exit 64
fi
command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 69; }

program=$(cargo bench --locked --profile counted --bench counted --no-run 2>&1 | tee >(cat >&2) |
    sed -n 's/.*Executable.*(\(.*\))$/\1/p')
test -x "$program"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -z "${ROHRPOST_PLUGIN:-}" ]; then
    export ROHRPOST_PLUGIN=$scratch/declines.so
    gcc -O2 -shared -fPIC -fvisibility=hidden -I abi/include -o "$ROHRPOST_PLUGIN" benches/declines.c
fi

count() { # CASE ROUNDS
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" --case "$1" --rounds "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

compiler="$(rustc --version), $(uname -m)"
{
    echo "# Instructions of each case of benches/counted.rs, by benches/instructions.sh --bless; profile \"counted\"."
    echo "# $compiler"
} >"$scratch/counted"
"$program" --list | while read -r case per_round; do
    if [ ${#only[@]} -gt 0 ] && [[ " ${only[*]} " != *" $case "* ]]; then continue; fi
    few=$(count "$case" 100) many=$(count "$case" 1100)
    awk -v name="$case" -v each="$(((many - few) / 1000))" -v per="$per_round" \
        'BEGIN { printf "%-30s %10.1f\n", name, each / per }'
done >>"$scratch/counted"
for case in "${only[@]}"; do
    grep -q "^$case " "$scratch/counted" || { echo "instructions.sh: there is no case $case" >&2; exit 64; }
done

if [ -n "$bless" ]; then
    cp "$scratch/counted" "$known"
    cat "$known"
    exit
fi
awk -v compiler="# $compiler" -v whole="${#only[@]}" '
    FNR == NR { if (/^#/) { if (FNR == 2) before = $0 } else known[$1] = $2; next }
    /^#/ { next }
    {
        note = ""
        if (!($1 in known)) { note = "  new" }
        else {
            # Less than two instructions is how the rounds were divided.
            moved = $2 - known[$1]
            change = known[$1] > 0 ? 100 * moved / known[$1] : 0
            note = sprintf("  %+7.2f %%", change)
            if (moved > 2 && change > 5) { note = note "  GREW"; grown++ }
            else if ((moved > 2 || moved < -2) && (change > 2 || change < -2)) note = note "  moved"
            delete known[$1]
        }
        printf "%-30s %10.1f%s\n", $1, $2, note
    }
    END {
        if (whole == 0) for (name in known) printf "%-30s %10s  gone\n", name, "-"
        if (before != compiler) print "counted with another compiler, so nothing is judged: " substr(before, 3)
        else if (grown) { print grown " grew by more than 5 %"; exit 1 }
    }' "$known" "$scratch/counted"
