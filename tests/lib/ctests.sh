#!/bin/sh
# Runs cmocka programs one after the other and counts their tests; what they
# skip must stand in tests/SKIPS. The last line counts them.
passed=0 failed=0 skipped=0
skips=$(dirname "$0")/../SKIPS

one() { # program
    timeout 120 "$1" >"$1.log" 2>&1
    status=$?
    # cmocka says "Running N test(s)", then a line for each.
    total=$(sed -n 's/^\[=*\].* Running \([0-9]*\) test.*/\1/p' "$1.log" |
        awk '{n += $1} END {print n + 0}')
    good=$(grep -c '^\[ *OK \]' "$1.log")
    skip=0
    for name in $(sed -n 's/^\[ *SKIPPED \] \([^ :]*\)$/\1/p' "$1.log" | sort -u); do
        if grep -q "^$name[[:space:]]" "$skips"; then
            skip=$((skip + 1))
        else
            echo "$name skips, which tests/SKIPS does not list" >>"$1.log"
        fi
    done
    bad=$((total - good - skip))
    [ "$status" != 0 ] && [ "$bad" -le 0 ] && bad=1
    [ "$total" = 0 ] && [ "$bad" -le 0 ] && bad=1
    passed=$((passed + good)) skipped=$((skipped + skip)) failed=$((failed + bad))
    [ "$bad" = 0 ] && return
    echo "FAILED $1 (exit status $status)"
    tail -n 40 "$1.log"
}

for t in "$@"; do
    one "$t"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
