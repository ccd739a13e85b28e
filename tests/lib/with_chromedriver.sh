#!/bin/sh
# Runs a command with a chromedriver beside it: with_chromedriver.sh COMMAND...
# WEBDRIVER_URL says where it listens. It ends with the command.
set -u
log=$(mktemp)
chromedriver --port=0 >"$log" 2>&1 &
driver=$!
stop() {
    kill "$driver" 2>/dev/null
    wait "$driver" 2>/dev/null
    rm -f "$log"
}
trap stop EXIT
trap 'exit 130' INT TERM

n=0
port=
while [ -z "$port" ] && [ $n -lt 100 ] && kill -0 "$driver" 2>/dev/null; do
    port=$(sed -n 's/.*started successfully on port \([0-9]*\).*/\1/p' "$log")
    [ -n "$port" ] || sleep 0.1
    n=$((n + 1))
done
if [ -n "$port" ]; then
    WEBDRIVER_URL=http://127.0.0.1:$port
    export WEBDRIVER_URL
else
    echo "chromedriver did not start; the tests in a browser will fail:" >&2
    cat "$log" >&2
fi
"$@"
