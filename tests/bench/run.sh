#!/bin/sh
# Measures e2blua beside its peers: run.sh PROGRAM. Installs the peers that this
# machine can have; one that cannot be had stands in the table with the reason.
# An engine and a home of its own, the shared cache; ends what it started.
set -eu
program=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
build=$(dirname "$program")
tmp=$(mktemp -d)
if [ "$(id -u)" = 0 ]; then
    home=/var/lib/e2blua
else
    home=${XDG_STATE_HOME:-$HOME/.local/state}/e2blua
fi
: "${E2BLUA_CACHE:=${E2BLUA_HOME:-$home}/cache}"
export E2BLUA_HOME="$tmp/home" E2BLUA_CACHE E2BLUA_BACKEND=local E2BLUA_PORT=0 \
    TMPDIR="$tmp" BENCH_TMP="$tmp" BENCH_PROBE="$build/bench/probe" \
    BENCH_TOOLS="$build/clients"
unset E2B_API_KEY E2B_ACCESS_TOKEN E2B_API_URL E2B_SANDBOX_URL E2B_DOMAIN E2B_DEBUG \
    LUA_INIT LUA_INIT_5_4 LUA_PATH LUA_PATH_5_4 LUA_CPATH LUA_CPATH_5_4
cleanup() {
    "$program" engine stop >/dev/null 2>&1 || :
    # podman leaves its storage mounted.
    for mount in "$tmp"/podman/*; do
        umount "$mount" 2>/dev/null || :
    done
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

sh "$here/../../host/deps.sh" bench ||
    echo "bench: not all peers could be installed; the table says which are missing" >&2
sh "$here/../clients/setup.sh" "$BENCH_TOOLS" ||
    echo "bench: the official clients could not be installed" >&2

"$program" "$here/run.lua" "$build/bench"
