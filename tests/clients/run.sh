#!/bin/sh
# The official clients against our engine: run.sh PROGRAM. Their outcome must
# equal our own SDK's. Needs the registries; part of `make test-online`.
set -eu
program=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
tools=$(dirname "$program")/clients
tmp=$(mktemp -d)
if [ "$(id -u)" = 0 ]; then
    home=/var/lib/e2blua
else
    home=${XDG_STATE_HOME:-$HOME/.local/state}/e2blua
fi
: "${E2BLUA_CACHE:=${E2BLUA_HOME:-$home}/cache}"
export E2BLUA_HOME="$tmp/home" E2BLUA_CACHE E2BLUA_BACKEND=local
cleanup() {
    "$program" engine stop >/dev/null 2>&1 || :
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

sh "$here/setup.sh" "$tools"
cp "$here/scenario.mjs" "$tools/js/"

canonical() {
    python3 -c 'import json, sys; print(json.dumps(json.loads(sys.stdin.read().splitlines()[-1]), sort_keys=True))'
}
cd "$here"
"$program" scenario.lua >"$tmp/lua.out"
canonical <"$tmp/lua.out" >"$tmp/lua"
eval "$(python3 - "$E2BLUA_HOME/engine.json" <<'END'
import json, sys
info = json.load(open(sys.argv[1]))
url = f"http://127.0.0.1:{info['port']}"
print(f"export E2B_API_URL={url} E2B_SANDBOX_URL={url} E2B_API_KEY={info['api_key']}")
END
)"
passed=0 failed=0
check() { # name command...
    name=$1
    shift
    if timeout 180 "$@" >"$tmp/$name.out" 2>"$tmp/$name.err" &&
        canonical <"$tmp/$name.out" >"$tmp/$name" && cmp -s "$tmp/lua" "$tmp/$name"; then
        passed=$((passed + 1))
        echo "ok $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name: its outcome is not that of our own SDK"
        diff "$tmp/lua" "$tmp/$name" || :
        tail -n 20 "$tmp/$name.err"
    fi
}
check python "$tools/bin/python" scenario.py
check javascript "$tools/bin/node" "$tools/js/scenario.mjs"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
