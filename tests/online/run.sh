#!/bin/sh
# What needs the registries and our own program only: run.sh PROGRAM. Part of
# `make test-online`.
set -eu
program=$(realpath "$1")
root=$(realpath "$(dirname "$0")/../..")
tmp=$(mktemp -d)
if [ "$(id -u)" = 0 ]; then
    home=/var/lib/e2blua
else
    home=${XDG_STATE_HOME:-$HOME/.local/state}/e2blua
fi
: "${E2BLUA_CACHE:=${E2BLUA_HOME:-$home}/cache}"
export E2BLUA_HOME="$tmp/home" E2BLUA_CACHE E2BLUA_BACKEND=local E2BLUA_PORT=0
cleanup() {
    "$program" engine stop >/dev/null 2>&1 || :
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$root"
"$program" tests/lib/run.lua tests/online
