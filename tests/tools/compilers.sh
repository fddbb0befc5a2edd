#!/bin/bash
# Installs what a build needs and a fresh Debian may lack: gcc, g++, make. Compilers only; nothing
# that starts a daemon. Does nothing when they are there.
set -euo pipefail

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "compilers.sh: please install: ${missing[*]}" >&2
    exit 69
fi
apt-cache show make >/dev/null 2>&1 || apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
