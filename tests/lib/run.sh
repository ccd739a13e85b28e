#!/bin/sh
# All tests: run.sh PROGRAM FILTER [C TESTS...]. C first, then Lua, then those
# that need the engine; one closing line that counts all. E2BLUA_TEST_FILES: only
# these Lua files. E2BLUA_TEST_USER=1: when root, an ordinary user repeats a part.
program=$1 filter=$2
shift 2
here=$(dirname "$0")
tmp=$(mktemp -d)
out=$tmp/out

# Ends the engines that tests have started below $tmp, with what killed ones
# have left.
end_engines() {
    for log in "$tmp"/home/engine.log "$tmp"/*/home/engine.log; do
        dir=$(dirname "$log")
        [ -f "$log" ] || continue
        E2BLUA_HOME=$dir "$program" engine stop >/dev/null
    done
}
# What is still there of the engines and their sandboxes; nothing is printed
# when all is well.
leftovers() {
    # The brackets keep the search from finding itself.
    grep -laE "serv[e].$tmp/" /proc/[0-9]*/cmdline 2>/dev/null
    grep -F "$tmp/" /proc/self/mountinfo
    grep -s -A 20 Sanitizer "$tmp"/home/engine.log
    for dir in "$tmp"/home "$tmp"/*/home; do
        hash=$(printf %s "$dir" | sha256sum | cut -c1-12)
        group=${E2BLUA_TEST_GROUP:-}e2blua/$hash
        ls -d /sys/fs/cgroup/*/"$group" /sys/fs/cgroup/"$group" 2>/dev/null
        [ -z "$(ls "$dir/run" "$dir/boxes" 2>/dev/null | grep -v :)" ] ||
            ls -R "$dir/run" "$dir/boxes"
    done
}
# What a run that was cut short has left may be sandboxes' ids'.
trap 'end_engines; rm -rf "$tmp" 2>/dev/null || "$program" engine unshare rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# A test meets an engine of its own (the cache of images and layers is shared)
# and never somebody's account.
if [ "$(id -u)" = 0 ]; then
    home=/var/lib/e2blua
else
    home=${XDG_STATE_HOME:-$HOME/.local/state}/e2blua
fi
: "${E2BLUA_CACHE:=${E2BLUA_HOME:-$home}/cache}"
E2BLUA_HOME=$tmp/home E2BLUA_BACKEND=local E2BLUA_PORT=0 TMPDIR=$tmp
E2BLUA_MODEL=offline E2BLUA_CACHE_MAX=none
export E2BLUA_CACHE E2BLUA_HOME E2BLUA_BACKEND E2BLUA_PORT TMPDIR E2BLUA_MODEL \
    E2BLUA_CACHE_MAX
unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL E2B_API_KEY \
    E2B_ACCESS_TOKEN E2B_API_URL E2B_SANDBOX_URL E2B_DOMAIN E2B_DEBUG LUA_INIT \
    LUA_INIT_5_4 LUA_PATH LUA_PATH_5_4 LUA_CPATH LUA_CPATH_5_4 E2BLUA_IDLE

passed=0 failed=0 skipped=0

section() { # command...
    "$@" 2>&1 | tee "$out" | sed -u '$d'
    # shellcheck disable=SC2046
    set -- $(tail -n 1 "$out" |
        sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
    if [ $# != 3 ]; then
        tail -n 1 "$out"
        echo "FAILED: the run broke off"
        set -- 0 1 0
    fi
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

[ $# = 0 ] || section sh "$here/ctests.sh" "$@"
lua_tests() { # files or folders...
    section sh "$here/with_chromedriver.sh" "$program" "$here/run.lua" \
        --filter "$filter" "$@"
}
if [ -n "${E2BLUA_TEST_FILES:-}" ]; then
    # shellcheck disable=SC2086
    lua_tests $E2BLUA_TEST_FILES
else
    lua_tests tests/lua
    lua_tests tests/engine
fi
end_engines
left=$(leftovers)
# An engine's home is free a moment before its process has ended.
[ -z "$left" ] || { sleep 3; left=$(leftovers); }
# The last of an engine is its exit.
[ -z "$left" ] || { sleep 2; left=$(leftovers); }
if [ -n "$left" ]; then
    printf 'FAILED: left behind by the engine tests\n%s\n' "$left"
    failed=$((failed + 1))
fi
[ "${E2BLUA_TEST_USER:-}" != 1 ] || [ "$(id -u)" != 0 ] ||
    section sh "$here/user.sh" "$program" "$filter" "$E2BLUA_CACHE"
if [ "$passed$failed$skipped" = 000 ] && [ -z "${E2BLUA_TEST_FILES:-}" ]; then
    echo "no test has '$filter' in its path or name"
    failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
