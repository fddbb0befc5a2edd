#!/bin/bash
# Runs every fuzz target briefly over its seeds, with the stable compiler: coverage counters by LLVM,
# libFuzzer as an ordinary program. Seconds a target: $FUZZ_SECONDS, else 10. Does nothing without fuzz/.
#
# Exit: 0 no target failed; otherwise libFuzzer has said why, and the input is below fuzz/artifacts.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -e fuzz/Cargo.toml ] || { echo "fuzz: there is no fuzz/"; exit 0; }
seconds=${FUZZ_SECONDS:-10}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-fuzz/target}

# With --target, build scripts and procedural macros stay free of the counters.
flags=(--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions)
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=("-Cllvm-args=-sanitizer-coverage-$argument")
done
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --manifest-path fuzz/Cargo.toml \
    --target "$host" --target-dir "$build"

targets=$(awk -F'"' '/^\[\[bin\]\]/ { inside = 1 } inside && /^name/ { print $2; inside = 0 }' fuzz/Cargo.toml)
for target in $targets; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    seeds=()
    [ -d "fuzz/seeds/$target" ] && seeds=("fuzz/seeds/$target")
    echo "fuzz: $target, $seconds s"
    "$build/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="fuzz/artifacts/$target/" -print_final_stats=1 -verbosity=0 \
        "fuzz/corpus/$target" "${seeds[@]}"
    echo "fuzz result: ok. $target ran $seconds s without a finding"
done
