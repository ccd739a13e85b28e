#!/bin/sh
# Installs the Debian packages that building, running (and testing) need: only
# those that are missing, saying which and why. Does nothing the second time.
# Usage: deps.sh run [test] [check] [bench] [v2]
set -eu

run='gcc:C-compiler libc6-dev:C-library make:build pkg-config:finds-libraries
binutils:ar,ld,strip
liblua5.4-dev:Lua lua-cjson-dev:JSON-for-scripts lua-lpeg-dev:grammars
lua-cjson:JSON-for-scripts lua-lpeg:grammars lua-argparse:command-line
libuv1-dev:event-loop node-llhttp:HTTP-parser
libjansson-dev:JSON libcurl4-openssl-dev:HTTP-client libssl-dev:hashing,TLS
zlib1g-dev:gzip libarchive-dev:template-uploads libsqlite3-dev:engine-state
libnftnl-dev:network-rules libmnl-dev:netlink libseccomp-dev:system-call-filter
libedit-dev:prompt-editing ca-certificates:TLS
e2fsprogs:disks-with-a-limit
mmdebstrap:makes-the-base-image uidmap:user-namespaces'
test='git:tests-of-clones libcmocka-dev:C-tests
chromium:looks-at-the-pages chromium-driver:clicks-in-the-pages
openssl:test-certificates curl:an-independent-HTTP-client
python3:an-independent-HTTP-client
python3-websockets:a-websocket-client
python3-venv:the-official-E2B-clients procps:leak-checks util-linux:leak-checks'

check='clang:second-compiler clang-tidy:lint clang-format:formatting
cppcheck:lint lua-check:lint libclang-rt-14-dev:fuzzers'
v2='user-mode-linux:a-kernel-with-cgroup-v2-alone'
bench='bubblewrap:a-peer runc:a-peer podman:a-peer python3-venv:the-official-E2B-clients'

sets=$*
want=
for s in $sets; do
    case $s in
    run) want="$want $run" ;;
    test) want="$want $test" ;;
    check) want="$want $check" ;;
    bench) want="$want $bench" ;;
    v2) want="$want $v2" ;;
    *) echo "deps.sh: unknown set '$s' (run, test, check, bench, v2)" >&2; exit 2 ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "This machine has no dpkg: install these Debian packages' equivalents:"
    for w in $want; do echo "  ${w%%:*}  (${w#*:})"; done
    exit 0
fi
missing= why=
# shellcheck disable=SC2046
have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' \
    $(for w in $want; do echo "${w%%:*}"; done) 2>/dev/null |
    sed -n 's/^installed //p') || true
for w in $want; do
    p=${w%%:*}
    echo "$have" | grep -qx "$p" && continue
    missing="$missing $p"
    why="$why\n  $p ($(echo "${w#*:}" | tr - ' '))"
done
[ -n "$missing" ] || exit 0

printf 'Installing missing packages:%b\n' "$why"
sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps: not root and no sudo; as root run: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends $missing >"$log" 2>&1
}
# An old package list is the usual reason for a first failure.
if ! install; then
    echo "Refreshing the package lists"
    $sudo apt-get update -q >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    install || { tail -n 30 "$log" >&2; exit 1; }
fi
