#!/bin/sh
# room.sh FOLDER PACKAGE COMMAND...: runs a mail server of another house as if it were installed, and
# changes nothing outside FOLDER. To be started in mount and process namespaces of its own (unshare).
#
# In the room /mnt is the unpacked PACKAGE; /etc is a copy of this machine's with the files of
# FOLDER/etc put over it and the users that mail servers want; /run, /var/spool, /var/lib, /var/cache,
# /var/log and /var/mail are folders of FOLDER. Names are looked up in files alone, so that nothing
# asks the world. The server ends with this script, and everything that it started with it.
set -eu
folder=$1 package=$2
shift 2

mkdir -p "$folder/room"
cp -a /etc/. "$folder/room"
cp "$(dirname "$0")/keep" "$folder/room/keep"
rm -f "$folder/room/resolv.conf" "$folder/room/aliases"
cp -a "$folder/etc/." "$folder/room"
for name in run spool lib cache log mail; do mkdir -p "$folder/$name"; done
mount --bind "$package" /mnt
mount --bind "$folder/room" /etc
mount --bind "$folder/run" /run
if [ -d /mnt/usr/libexec ]; then mount --bind /mnt/usr/libexec /usr/libexec; fi
for name in spool lib cache log mail; do mount --bind "$folder/$name" "/var/$name"; done

# NAME:NUMBER of users with a group of their own, and of groups alone.
for entry in postfix:61001 Debian-exim:61003 opensmtpd:61004 opensmtpq:61005 keeper:61006; do
    name=${entry%:*} number=${entry#*:}
    sed -i "/^$name:/d" /etc/passwd /etc/group
    echo "$name:x:$number:$number::/var/mail:/bin/sh" >>/etc/passwd
    echo "$name:x:$number:" >>/etc/group
done
sed -i '/^postdrop:/d' /etc/group
echo 'postdrop:x:61002:' >>/etc/group
printf '%s: files\n' passwd group shadow hosts services protocols networks aliases >/etc/nsswitch.conf
echo '127.0.0.1 localhost' >/etc/hosts
# OpenSMTPD's own resolver reads "lookup file"; everybody else would ask a server that is not there.
printf 'nameserver 127.0.0.1\nlookup file\n' >/etc/resolv.conf
: >/etc/aliases
find /mnt -name 'lib*.so*' -printf '%h\n' | sort -u >/etc/ld.so.conf.d/room.conf
mkdir -p /var/cache/ldconfig
ldconfig
chown keeper:keeper /var/mail

if [ -f /etc/tls/key.pem ]; then chmod 600 /etc/tls/key.pem; fi
if [ -x /etc/prepare ]; then /etc/prepare; fi
"$@" &
wait $!
