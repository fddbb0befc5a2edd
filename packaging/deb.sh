#!/bin/bash
# Builds the Debian package from a program that is built already; prints its path at the end.
#
#   packaging/deb.sh [PROFILE]      PROFILE is release unless it is given; dev tries the packaging itself
set -euo pipefail
cd "$(dirname "$0")/.."

# One version, so that the same tree gives the same package.
cargo_deb=3.8.0
profile=${1:-release}
target=${CARGO_TARGET_DIR:-target}
tools=${CARGO_TOOLS:-$target/cargo-tools}
folder=$profile && [ "$profile" != dev ] || folder=debug
program=$target/$folder/rohrpost

[ -x "$program" ] || { echo "no $program; cargo build --profile $profile first" >&2; exit 1; }
if ! "$tools/bin/cargo-deb" --version 2>/dev/null | grep -qw "$cargo_deb"; then
	cargo install --root "$tools" cargo-deb --version "$cargo_deb" --locked
fi

# What the package takes from here besides the tree: see [package.metadata.deb] in Cargo.toml.
made=target/package
rm -rf "$made" && mkdir -p "$made"
"$program" man >"$made/rohrpost.1"
"$program" completions bash >"$made/rohrpost.bash"
"$program" completions zsh >"$made/_rohrpost"
"$program" completions fish >"$made/rohrpost.fish"

PATH=$tools/bin:$PATH cargo deb --no-build --locked --profile "$profile" --output "$target/debian/"
