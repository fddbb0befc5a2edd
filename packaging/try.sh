#!/bin/bash
# Installs the package into an empty Debian and uses it as an operator would: mail in, mail out,
# reload, drain, stop; once as systemd starts it, once from root. Needs root and debootstrap, opens
# no port outside a network of its own, and leaves the folder for the next time.
#
#   packaging/try.sh PACKAGE.deb [FOLDER]
set -euo pipefail

package=$(realpath "$1")
folder=${2:-/var/tmp/rohrpost-try}
here=$(dirname "$(realpath "$0")")

[ "$(id -u)" = 0 ] || { echo 'only root can change its root' >&2; exit 1; }
if [ ! -x "$folder/usr/bin/setpriv" ]; then
	debootstrap --variant=minbase --include=adduser,python3-minimal,logrotate,man-db bookworm "$folder"
fi
cp "$package" "$folder/tmp/rohrpost.deb"
cp "$here/try-inside.sh" "$folder/tmp/try-inside.sh"
exec unshare --mount --pid --net --fork bash -euc '
	ip link set lo up
	mount --make-rprivate /
	mount -t proc proc "$1/proc"
	mount --bind /dev "$1/dev"
	exec chroot "$1" /bin/bash /tmp/try-inside.sh
' try "$folder"
