#!/bin/sh
# Gives a user, as root, the base image of a cache of root's: lend_base.sh
# PROGRAM FROM USER TO. The copy belongs to the user's range of ids, which is
# what making it there would give, in seconds; nothing is done when it is there.
set -eu
program=$1 from=$2 user=$3 to=$4
id=$("$program" -e 'print((require("e2b_engine").image_ready(...)))' "$from")
[ "$id" != nil ] || { echo "no base image in $from" >&2; exit 1; }
[ ! -e "$to/layers/$id/meta.json" ] || exit 0
range() { sed -n "s/^$user:\([0-9]*\):65536\$/\1/p" "$1" | head -n 1; }
uids=$(range /etc/subuid) gids=$(range /etc/subgid)
[ -n "$uids" ] && [ -n "$gids" ] || { echo "$user has no ids" >&2; exit 1; }

install -d -m 700 -o "$user" -g "$user" "$to" "$to/layers" "$to/tmp"
work=$to/lend
rm -rf "$work"
install -d -m 755 -o "$uids" -g "$gids" "$work" "$work/fs"
# The receiving tar is root of the user's ids: setuid bits and capabilities
# of files become theirs.
tar -C "$from/layers/$id/fs" --xattrs --xattrs-include='*' --numeric-owner \
    --sparse -cf - . |
    (cd "$work/fs" && setpriv --reuid "$user" --regid "$user" --init-groups \
        unshare --map-users="$uids,0,65536" --map-groups="$gids,0,65536" \
        --setuid 0 --setgid 0 tar --xattrs --xattrs-include='*' -xpf -)
cp "$from/layers/$id/meta.json" "$work/meta.json"
chown "$user:$user" "$work" "$work/meta.json"
chmod 700 "$work"
mv "$work" "$to/layers/$id"
