#!/bin/sh
# As root: the tests that tests/USER names once more as an ordinary user, who is
# made for it with ids of its own: user.sh PROGRAM FILTER CACHE. The cache is
# that of root's tests, whose base image is copied.
set -eu
program=$1 filter=$2 cache=$3
here=$(dirname "$0")
user=e2blua-test

if grep -q '^NoNewPrivs:[[:space:]]*1' /proc/self/status; then
    echo "skipped $here/user.sh: what an ordinary user does (no program can gain rights)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
if ! id "$user" >/dev/null 2>&1; then
    echo "making the user $user, with 65536 further ids" >&2
    useradd --create-home --shell /bin/sh "$user"
fi
for kind in uid gid; do
    if ! grep -qs "^$user:" "/etc/sub$kind"; then
        next=$(awk -F: '$2 + $3 > n { n = $2 + $3 } END { print n < 100000 ? 100000 : n }' \
            /etc/subuid /etc/subgid 2>/dev/null || echo 100000)
        usermod "--add-sub${kind}s" "$next-$((next + 65535))" "$user"
    fi
done
home=$(getent passwd "$user" | cut -d: -f6)
as_user() { # command...
    setpriv --reuid "$user" --regid "$user" --init-groups env -i \
        PATH="/usr/local/bin:/usr/bin:/bin" HOME="$home" USER="$user" LANG=C.UTF-8 "$@"
}

copy=$(TMPDIR=/tmp mktemp -d) # not in a folder of root's, which the user could not pass
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM
root_engine() { # words...
    E2BLUA_HOME=$copy/home E2BLUA_CACHE=$cache E2BLUA_BACKEND=local E2BLUA_PORT=0 "$program" "$@"
}
root_engine -e 'require("engine.client").ensure()' # makes the base image
root_engine engine stop >/dev/null
rm -rf "$copy/home"

state=$home/.local/state
as_user mkdir -p "$state/e2blua"
as_user chmod 700 "$state/e2blua"
# Of two runs at once the second finds what the first has copied.
for grade in range one; do
    flock -w 300 "$home" \
        sh "$here/lend_base.sh" "$program" "$cache" "$user" "$state/e2blua/cache" $grade
done

# A clone in a closed folder, as /root, is not to be read by others.
tar -C "$here/../.." --exclude=./build --exclude=./.git -cf - . | tar -C "$copy" -xf -
mkdir "$copy/build"
build=$(dirname "$program")
cp -r "$program" "$build/modules" "$copy/build"
mkdir -p "$copy/build/tests/host" "$copy/build/bench"
cp "$build/bench/probe" "$copy/build/bench"
[ ! -d "$build/tests/host/sandbox" ] || cp -r "$build/tests/host/sandbox" "$copy/build/tests/host"
chown -R "$user:" "$copy"
cd "$copy"
chosen() {
    if [ "${ALL:-}" ]; then
        find tests/lua tests/engine -name '*_test.lua' | sort
    else
        grep -v '^#' tests/USER
    fi
}
files=$(chosen | grep -v /rootless_test | tr '\n' ' ')

# A group of cgroups is the user's, as a systemd that delegates gives one; without,
# rootless_test sees what is then.
group=e2blua-user-$$
mounts=$(awk '$3 == "cgroup2" && $2 == "/sys/fs/cgroup" ||
    $3 == "cgroup" && $4 ~ /(^|,)(cpu|cpuacct|memory|pids|freezer)(,|$)/ { print $2 }' /proc/mounts)
for m in $mounts; do
    [ ! -f "$m/cgroup.subtree_control" ] ||
        echo "+cpu +memory +pids" >"$m/cgroup.subtree_control" 2>/dev/null || :
    mkdir -p "$m/$group" && chown -R "$user:" "$m/$group" && echo $$ >"$m/$group/cgroup.procs"
done
leave() {
    for m in $mounts; do
        echo $$ >"$m/cgroup.procs"
        rmdir "$m/$group"
    done
}
trap 'leave 2>/dev/null || :; rm -rf "$copy"' EXIT
passed=0 failed=0 skipped=0
run() { # group, Lua files, C tests...
    in_group=$1 lua=$2
    shift 2
    as_user E2BLUA_TEST_GROUP="$in_group" E2BLUA_TEST_FILES="$lua" \
        sh tests/lib/run.sh build/e2blua "$filter" "$@" 2>&1 |
        tee "$copy/out" | sed -u '$d'
    last=$(tail -n 1 "$copy/out" |
        sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    # shellcheck disable=SC2086
    set -- ${last:-0 1 0}
    [ -n "$last" ] || { tail -n 1 "$copy/out"; echo "FAILED: the run broke off"; }
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}
run $group/ "$files"
leave
ctests=$(ls build/tests/host/sandbox/*_test 2>/dev/null | grep -F -- "$filter" || :)
# shellcheck disable=SC2086
run '' tests/engine/rootless_test.lua $ctests
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
