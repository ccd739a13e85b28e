#!/bin/sh
# Gives a user, as root, the base image of a cache of root's: lend_base.sh
# PROGRAM FROM USER TO GRADE. The copy belongs to the user's range of ids, or,
# with the grade "one", to the user, which is what making it there would give;
# but it takes seconds. Nothing is done when it is there.
set -eu
program=$1 from=$2 user=$3 to=$4 grade=$5
ready() { # CACHE GRADE
    "$program" -e 'print((require("e2b_engine").image_ready(...)))' "$1" "$2"
}
name() { # what the image's layer is called for the grade
    "$program" -e 'print(require("e2b_engine").image_id(...))' "$1"
}
id=$(name range) new=$(name "$grade")
[ "$(ready "$from" range)" = "$id" ] || { echo "no base image in $from" >&2; exit 1; }
[ ! -e "$to/layers/$new/meta.json" ] || exit 0

as_user() {
    setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}
range() { sed -n "s/^$user:\([0-9]*\):65536\$/\1/p" "$1" | head -n 1; }
install -d -m 700 -o "$user" -g "$user" "$to" "$to/layers" "$to/tmp"
work=$to/lend
rm -rf "$work"
pack() {
    tar -C "$from/layers/$id/fs" --xattrs --xattrs-include='*' --numeric-owner -cf - .
}
if [ "$grade" = one ]; then
    install -d -m 755 -o "$user" -g "$user" "$work" "$work/fs"
    pack | (cd "$work/fs" && as_user tar --no-same-owner -xpf -)
    # As the recipe leaves it there.
    echo 'APT::Sandbox::User "root";' >>"$work/fs/etc/apt/apt.conf.d/90mirror"
else
    uids=$(range /etc/subuid) gids=$(range /etc/subgid)
    [ -n "$uids" ] && [ -n "$gids" ] || { echo "$user has no ids" >&2; exit 1; }
    install -d -m 755 -o "$uids" -g "$gids" "$work" "$work/fs"
    # The receiving tar is root of the user's ids: setuid bits and capabilities
    # of files become theirs.
    pack | (cd "$work/fs" && as_user unshare --map-users="$uids,0,65536" \
        --map-groups="$gids,0,65536" --setuid 0 --setgid 0 \
        tar --xattrs --xattrs-include='*' -xpf -)
fi
# A digest counts owners and capabilities: that of one id is another.
sed -e "s/$id/$new/" "$from/layers/$id/meta.json" |
    if [ "$grade" = one ]; then sed -e 's/"content":"[^"]*",//'; else cat; fi >"$work/meta.json"
chown "$user:" "$work" "$work/meta.json"
chmod 700 "$work"
mv "$work" "$to/layers/$new"
