-- e2blua doctor where something was really taken away. What cannot be had here (AppArmor, NFS,
-- kernels without nf_tables, inotify's limits) is tried on made facts: tests/lua/cli/findings_test.
local child = require "child"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"

-- As the ordinary user: this one, or, as root, nobody, who is given ids.
local function as_user(commands)
    if process.uid() ~= 0 then
        return {}
    end
    return rig.as_nobody((commands or "") .. [[

        ids=$(mktemp)
        echo nobody:100000:65536 > $ids; chmod 644 $ids
        for f in subuid subgid; do mount --bind $ids /etc/$f; done
        rm $ids]])
end

-- Findings of the doctor started behind the words, and its exit code.
local function doctor(words, env)
    local line = {}
    for _, word in ipairs(words) do
        line[#line + 1] = word
    end
    for _, word in ipairs { words.program or process.exe(), "doctor", "--json" } do
        line[#line + 1] = word
    end
    env = env or {}
    env.E2BLUA_HOME = env.E2BLUA_HOME or t.tmpdir() .. "/home"
    local code, out = child.start(line, { env = env }):wait(60)
    local list = json.decode(out)
    t.ok(list, out)
    return list, code
end

local function find(list, pattern)
    for _, finding in ipairs(list) do
        if finding.what:find(pattern) then
            return finding
        end
    end
    error("no finding '" .. pattern .. "' in " .. json.encode(list), 2)
end

-- The finding is there, complete, and the exit code fits.
local function says(list, code, level, what, mend)
    local finding = find(list, what)
    t.eq(finding.level, level, what)
    t.match(finding.mend, mend)
    t.ok(#finding.lost > 10, "it says what is lost")
    if level == "missing" then
        t.eq(code, 1)
    end
end

t.test("this machine lacks nothing essential", function()
    local list, code = doctor({}, { E2BLUA_HOME = os.getenv "E2BLUA_HOME" })
    t.eq(code, 0, json.encode(list))
    t.eq(find(list, "user namespaces").level, "ok")
end)

t.test("mmdebstrap, taken off the PATH", function()
    local list, code = doctor({}, { PATH = rig.path_without("mmdebstrap"),
        E2BLUA_CACHE = t.tmpdir() .. "/cache" })
    says(list, code, "missing", "no mmdebstrap", "apt%-get install mmdebstrap")
end)

t.test("user namespaces, none allowed", function()
    local list, code = doctor { "unshare", "--map-root-user", "sh", "-c",
        'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "none" }
    says(list, code, "missing", "switched off", "max_user_namespaces=15000")
end)

t.test("open files, few", function()
    local list = doctor { "prlimit", "--nofile=256:256" }
    says(list, 0, "warn", "open 256 files", "ulimit")
end)

t.test("room, a disk of 64 MiB", function()
    local list, code = doctor(rig.apart("mount -t tmpfs -o size=64m none /mnt"),
        { E2BLUA_CACHE = "/mnt/cache" })
    says(list, code, "missing", "0%.1 GiB are free", "make room")
end)

t.test("the file system, an overlay", function()
    local dir = t.tmpdir()
    local list, code = doctor(rig.apart(("cd %s && mkdir l u w r && mount -t overlay none r " ..
        "-o lowerdir=l,upperdir=u,workdir=w,userxattr"):format(dir)),
        { E2BLUA_CACHE = dir .. "/r/cache" })
    says(list, code, "missing", "is on .*overlay", "E2BLUA_CACHE")
end)

t.test("cgroups, unmounted", function()
    rig.needs_root() -- a user's namespace may not unmount them
    if not fs.stat "/sys/fs/cgroup" then
        t.skip "limits"
    end
    local list = doctor(rig.apart "umount -R /sys/fs/cgroup")
    says(list, 0, "warn", "no cgroup controllers for cpu, memory, pids", "mount")
end)

t.test("newuidmap, taken off the PATH", function()
    local path = rig.path_without("newuidmap", "newgidmap")
    local words = as_user(("mount --bind %s /media"):format(path))
    table.move({ "env", "PATH=" .. (words.program and "/media" or path) }, 1, 2, #words + 1, words)
    local list = doctor(words)
    says(list, 0, "warn", "one id.*is missing", "apt%-get install uidmap")
end)

t.test("a range of ids, not given to the user", function()
    rig.needs_root()
    rig.needs_sudo()
    local list = doctor(rig.as_nobody())
    says(list, 0, "warn", "one id.*/etc/subuid has no range of 65536 ids for nobody",
        "usermod %-%-add%-subuids %d+%-%d+ %-%-add%-subgids %d+%-%d+ nobody")
end)

t.test("newuidmap's setuid bit", function()
    rig.needs_root()
    rig.needs_sudo()
    local list = doctor(as_user [[
        d=$(mktemp -d)
        cp /usr/bin/newuidmap /usr/bin/newgidmap $d
        chmod 755 $d $d/newuidmap $d/newgidmap
        for f in newuidmap newgidmap; do mount --bind $d/$f /usr/bin/$f; done
        rm -rf $d]])
    says(list, 0, "warn", "one id.*refused", "chmod u%+s")
end)

t.test("newgidmap's setuid bit alone", function()
    rig.needs_root()
    rig.needs_sudo()
    local list, code = doctor(as_user [[
        f=$(mktemp)
        cp /usr/bin/newgidmap $f
        chmod 755 $f
        mount --bind $f /usr/bin/newgidmap
        rm $f]])
    says(list, code, "missing", "newuidmap works, but newgidmap does not", "chmod u%+s")
end)

t.test("the gain of rights, by no_new_privs", function()
    local words = as_user()
    table.move({ "setpriv", "--no-new-privs" }, 1, 2, #words + 1, words)
    local list = doctor(words)
    says(list, 0, "warn", "one id.*refused", "no_new_privs")
end)

t.test("a whole /proc, as in a container", function()
    rig.needs_root()
    local list, code = doctor(rig.as_nobody "mount -t tmpfs none /proc/tty")
    says(list, code, "missing", "proc cannot be mounted", "systempaths=unconfined")
end)

t.test("its root, a chroot", function()
    rig.needs_root()
    local dir = t.tmpdir()
    local list, code = doctor(rig.apart(([[
        cd %s
        for d in /*; do
            if [ -L $d ]; then cp -P $d .; elif [ -d $d ]; then mkdir .$d; mount --rbind $d .$d; fi
        done
        set -- chroot $PWD "$@"]]):format(dir)))
    says(list, code, "missing", "this is a chroot", "pivot_root")
end)
