#!/bin/sh
# uml.sh DIR PROGRAMS...: runs C tests as root of a user-mode Linux, whose kernel
# has all controllers in cgroup v2, whatever this machine has. It sees this
# machine's files, read-only; DIR is for the script that is its init.
set -eu
dir=$(realpath "$1")
shift
init=$dir/uml-init.sh
{
    cat <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "uml: kernel $(uname -r), controllers $(cat /sys/fs/cgroup/cgroup.controllers)"
END
    for p; do echo "$(realpath "$p")"; done
} >"$init"
chmod +x "$init"
# When its init ends, it ends by a panic.
timeout 300 linux.uml mem=1024M root=/dev/root rootfstype=hostfs rootflags=/ ro \
    con=null con0=fd:0,fd:1 init="$init" </dev/null >"$dir/uml.log" 2>&1 || true
sed -n 's/^uml: //p' "$dir/uml.log"
grep 'limits by cgroup' "$dir/uml.log" || true
want=$(sed -n 's/^\[=*\].* Running \([0-9]*\) test.*/\1/p' "$dir/uml.log" |
    awk '{n += $1} END {print n + 0}')
passed=$(grep -c '^\[ *OK \]' "$dir/uml.log") || true
if [ "$want" = 0 ] || [ "$passed" != "$want" ]; then
    grep -v '^ \[<' "$dir/uml.log" | tail -n 60
    echo "$passed passed, $((want - passed)) failed or skipped"
    exit 1
fi
echo "$passed passed, 0 failed, 0 skipped"
