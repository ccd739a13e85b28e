-- e2blua doctor on made facts.
local facts = require "cli.lib.facts"
local findings = require "cli.lib.findings"
local t = require "tests"

local GIB <const> = 1 << 30

-- A first request to an engine leaves a connection open.
t.before(facts.gather)

-- Facts of a machine that lacks nothing, with changes.
local function machine(changes)
    local f = {
        backend = "local",
        why = "no server is configured",
        uid = 0,
        kernel = "6.1.0-13-amd64",
        caps = { sys_admin = true, sys_chroot = true, setuid = true, setgid = true, chown = true,
            mknod = true },
        userns = true,
        max_userns = 1000,
        overlay = true,
        idmap = true,
        nf_tables = true,
        cgroup1 = {},
        cgroup2 = { cpu = true, memory = true, pids = true },
        inotify_instances = 128,
        inotify_watches = 65536,
        descriptors = 20000,
        space = 50 * GIB,
        cache = "/c",
        mmdebstrap = "/usr/bin/mmdebstrap",
        image = ("a"):rep(64),
        engine_current = false,
        cas = 0,
    }
    for name, value in pairs(changes or {}) do
        f[name] = value
        if value == "nothing" then
            f[name] = nil
        end
    end
    return f
end

t.test("a machine that lacks nothing is fine throughout", function()
    local list = findings.all(machine())
    t.eq(#list, #findings.ORDER)
    for _, finding in ipairs(list) do
        t.eq(finding.level, "ok", finding.what)
    end
end)

t.test("what is lacking is named, with what is lost and how to mend it", function()
    local cases = {
        { "root", { uid = 1000 }, "missing", "user 1000", "sudo" },
        { "capabilities", { caps = { sys_admin = true } }, "missing", "cap_sys_chroot",
            "privileged" },
        { "user_namespaces", { userns = "EPERM", max_userns = 0 }, "missing", "switched off",
            "sysctl %-w user.max_user_namespaces" },
        { "user_namespaces", { userns = "not allowed" }, "missing", "not allowed", "unprivileged" },
        { "overlay", { kernel = "5.10.0" }, "missing", "5.10.0", "5.19" },
        { "overlay", { overlay = false }, "missing", "no overlay", "modprobe overlay" },
        { "idmap", { idmap = "mount_setattr: Invalid argument" }, "missing", "/c .*Invalid",
            "ext4" },
        { "nf_tables", { nf_tables = "nf_tables: not there" }, "warn", "not there",
            "modprobe nf_tables" },
        { "cgroups", { cgroup2 = { cpu = true } }, "warn", "memory, pids", "cgroup2" },
        { "inotify", { inotify_instances = 8 }, "warn", "8 instances", "max_user_instances" },
        { "descriptors", { descriptors = 1024 }, "warn", "1024", "ulimit" },
        { "space", { space = GIB // 2 }, "warn", "0.5 GiB", "E2BLUA_CACHE" },
        { "space", { space = GIB // 10 }, "missing", "0.1 GiB", "E2BLUA_CACHE" },
        { "space", { space = 2 * GIB, image = "nothing" }, "warn", "2.0 GiB", "room" },
        { "mmdebstrap", { mmdebstrap = "nothing" }, "note", "no mmdebstrap", "apt%-get" },
        { "mmdebstrap", { mmdebstrap = "nothing", image = "nothing" }, "missing", "no mmdebstrap",
            "apt%-get" },
        { "image", { image = "nothing" }, "note", "no base image", "e2blua" },
        { "engine", { engine = { pid = 7, port = 1, sandboxes = 2, image = { state = "ready" } } },
            "warn", "another build", "engine stop" },
        { "engine", { engine_current = true, engine = { pid = 7, port = 1, sandboxes = 0,
            image = { state = "failed", message = "no space" } } }, "missing", "no space",
            "engine stop" },
    }
    for _, case in ipairs(cases) do
        local name, changes, level, what, mend = table.unpack(case)
        local finding = findings[name](machine(changes))
        t.eq(finding.level, level, name)
        t.match(finding.what, what, name)
        t.match(finding.mend, mend, name)
        t.ok(finding.lost, name .. " says what is lost")
    end
end)

t.test("what is there in another way is enough", function()
    local v1 = { cpu = true, memory = true, pids = true, freezer = true }
    t.match(findings.cgroups(machine { cgroup1 = v1, cgroup2 = {} }).what, "%(v1%)")
    t.match(findings.cgroups(machine { cgroup1 = v1 }).what, "v1 and v2")
    t.eq(findings.engine(machine { engine_current = true, engine = { pid = 7, port = 1,
        sandboxes = 0, image = { state = "ready" } } }).level, "ok")
    t.eq(findings.authorities(machine { cas = 2 }).level, "note")
end)

t.test("with a remote backend nothing of this machine is essential", function()
    local list = findings.all(machine { backend = "remote", uid = 1000, overlay = false })
    for _, finding in ipairs(list) do
        t.ok(finding.level ~= "missing", finding.what)
    end
    list = findings.all(machine { backend = "remote", why = "E2B_DOMAIN",
        backend_error = "no key" })
    t.eq(list[1].level, "missing")
    t.match(list[1].what, "E2B_DOMAIN.*no key")
end)

t.test("the facts are read as the kernel writes them", function()
    t.eq(facts.capabilities("000001ffffffffff").sys_admin, true)
    t.eq(facts.capabilities("00000000a80425fb").sys_admin, false)
    t.eq(facts.capabilities("00000000a80425fb").sys_chroot, true)
    t.eq(facts.capabilities("0").chown, false)
    local v1, v2 = facts.cgroups([[
24 18 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
25 18 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
26 18 0:24 / /mnt rw - ext4 /dev/vda rw
]], function(path)
        t.eq(path, "/sys/fs/cgroup/unified")
        return "memory pids\n"
    end)
    t.ok(v1.cpu and v1.cpuacct and not v1.memory)
    t.eq(v2, { memory = true, pids = true })
end)

t.test("the facts of this machine are complete", function()
    local found = facts.gather()
    for _, finding in ipairs(findings.all(found)) do
        t.ok(#finding.what > 0)
    end
    t.eq(found.uid, require("e2b_process").uid())
end)
