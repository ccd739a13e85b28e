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
        user = "root",
        newuidmap = "/usr/bin/newuidmap",
        next_ids = 165536,
        apparmor = false,
        no_new_privs = false,
        chroot = false,
        fs_type = "ext4",
        folder = true,
        kernel = "6.1.0-13-amd64",
        caps = { sys_admin = true, sys_chroot = true, setuid = true, setgid = true, chown = true,
            mknod = true },
        userns = true,
        max_userns = 1000,
        overlay = true,
        idmap = true,
        nf_tables = true,
        limits = { cpu = true, memory = true, swap = true, pids = true, freeze = true, version = 2,
            where = "/sys/fs/cgroup" },
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

-- The same of an ordinary user; found: changes of what its engine would get.
local function user(changes, found)
    local f = machine(changes)
    f.uid, f.user = 1000, "ada"
    f.caps = {}
    if type(found) ~= "string" then
        local rootless = { grade = "range", why = "" }
        for name, value in pairs(found or {}) do
            rootless[name] = value
        end
        found = rootless
    end
    f.rootless = found
    return f
end

-- The finding is there with this level and these texts, and says what is lost.
local function check(name, f, level, what, mend)
    local finding = findings[name](f)
    t.eq(finding.level, level, name)
    t.match(finding.what, what, name)
    t.match(finding.mend, mend, name)
    t.ok(finding.lost, name .. " says what is lost")
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
        { "user_namespaces", { userns = "EPERM", chroot = true }, "missing", "a chroot",
            "pivot_root" },
        { "file_system", { folder = "/c is on NFS" }, "missing", "/c is on NFS", "E2BLUA_HOME" },
        { "cgroups", { limits = { cpu = true, freeze = true, version = 2, where = "/g",
            why = "it is not delegated", remedy = "delegate it" } }, "warn",
            "memory, pids: it is not delegated", "delegate it" },
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
        check(name, machine(changes), level, what, mend)
    end
end)

t.test("an ordinary user needs other things, and loses others", function()
    for _, finding in ipairs(findings.all(user())) do
        t.eq(finding.level, "ok", finding.what)
    end
    t.match(findings.root(user()).what, "^user ada, with a range")
    local one = { grade = "one", why = "newuidmap or newgidmap is missing" }
    check("root", user({ newuidmap = "nothing" }, one), "warn", "user ada has one id.*missing",
        "apt%-get install uidmap")
    one.why = "/etc/subuid has no range of 65536 ids for ada"
    check("root", user({}, one), "warn", "no range", "usermod %-%-add%-subuids 165536%-231071 " ..
        "%-%-add%-subgids 165536%-231071 ada")
    one.why = "newuidmap or newgidmap refused it"
    check("root", user({}, one), "warn", "refused", "chmod u%+s /usr/bin/newuidmap")
    check("root", user({ no_new_privs = true }, one), "warn", "refused", "NoNewPrivileges=no")
    check("user_namespaces", user({}, "unshare: Operation not permitted"), "missing",
        "Operation not permitted", "unprivileged_userns_clone=1")
    check("user_namespaces", user({ apparmor = true }, "unshare: Permission denied"), "missing",
        "AppArmor", "apparmor_restrict_unprivileged_userns=0")
    check("user_namespaces", user({ apparmor = true }, { failed = "tmpfs cannot be mounted" }),
        "missing", "AppArmor", "apparmor_restrict_unprivileged_userns=0")
    check("user_namespaces", user({ max_userns = 0 }, "unshare: No space left on device"),
        "missing", "switched off", "user.max_user_namespaces")
    check("user_namespaces", user({}, { failed = "proc cannot be mounted: EPERM" }), "missing",
        "proc cannot be mounted", "systempaths=unconfined")
    check("overlay", user { kernel = "5.10.0" }, "missing", "in user namespaces", "5.11")
    t.eq(findings.overlay(user { kernel = "5.11.0" }).level, "ok")
    t.eq(findings.user_namespaces(machine { apparmor = true }).level, "ok", "root is not kept")
    t.eq(findings.root(user({}, "none at all")), nil, "user_namespaces says it")
end)

t.test("what is there in another way is enough", function()
    local v1 = { cpu = true, memory = true, pids = true, freeze = true, version = 1, where = "/g" }
    t.match(findings.cgroups(machine { limits = v1 }).what, "%(v1, /g%)")
    t.eq(findings.engine(machine { engine_current = true, engine = { pid = 7, port = 1,
        sandboxes = 0, image = { state = "ready" } } }).level, "ok")
    t.eq(findings.authorities(machine { cas = 2 }).level, "note")
end)

t.test("with a remote backend nothing of this machine is essential", function()
    local list = findings.all(user({ backend = "remote", overlay = false }, "none"))
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
    t.eq(facts.is_chroot "24 18 0:22 / /proc rw - proc proc rw\n26 18 0:24 / / rw - ext4 a rw\n",
        false)
    t.eq(facts.is_chroot "24 18 0:22 / /proc rw - proc proc rw\n", true)
    t.eq(facts.next_ids("", ""), 100000)
    t.eq(facts.next_ids("a:100000:65536\nb:231072:65536\n", "a:100000:65536\n"), 296608)
end)

t.test("the facts of this machine are complete", function()
    local found = facts.gather()
    for _, finding in ipairs(findings.all(found)) do
        t.ok(#finding.what > 0)
    end
    t.eq(found.uid, require("e2b_process").uid())
end)
