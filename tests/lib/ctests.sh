#!/bin/sh
# Runs cmocka programs one after the other; the last line counts them.
passed=0 failed=0
for t in "$@"; do
    if timeout 120 "$t" >"$t.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $t"
        tail -n 40 "$t.log"
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
