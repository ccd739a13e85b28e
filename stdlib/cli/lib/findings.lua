-- What e2blua doctor has to say: each finding is a function of facts
-- (cli.lib.facts), so that tests can make the facts up.
local M = {}

local GIB <const> = 1 << 30

---@class cli.Finding
---@field level "ok"|"note"|"warn"|"missing" missing: sandboxes cannot be made without it
---@field what string
---@field lost? string what does not work because of it
---@field mend? string the command, or what to do

local function ok(what, ...)
    return { level = "ok", what = what:format(...) }
end

local function worse(level, what, lost, mend)
    return { level = level, what = what, lost = lost, mend = mend }
end

local NO_SANDBOX <const> = "sandboxes cannot be made on this machine"

---@param f cli.Facts
---@return cli.Finding
function M.backend(f)
    local name = f.backend == "local" and "this machine's engine" or "a remote E2B"
    if f.backend_error then
        return worse("missing", ("backend: %s (%s), but %s"):format(name, f.why, f.backend_error),
            "no call will work", f.backend_remedy or "set E2BLUA_BACKEND=local to use this machine")
    end
    return ok("backend: %s (%s)", name, f.why)
end

---Who the engine is. One that cannot be an ordinary user's is M.user_namespaces'
---to say.
---@param f cli.Facts
---@return cli.Finding|nil
function M.root(f)
    if f.uid == 0 then
        return ok("root")
    elseif type(f.rootless) ~= "table" then
        return nil
    elseif f.rootless.grade == "range" then
        return ok("user %s, with a range of further ids", f.user)
    end
    local mend = "as root: apt-get install uidmap"
    if f.newuidmap then
        mend = ("as root: usermod --add-subuids %d-%d --add-subgids %d-%d %s"):format(f.next_ids,
            f.next_ids + 65535, f.next_ids, f.next_ids + 65535, f.user)
        if f.no_new_privs then
            mend = "start e2blua where programs may gain rights: this process has no_new_privs" ..
                " (systemd: NoNewPrivileges=no)"
        elseif f.rootless.why:find("refused", 1, true) then
            mend = "as root: chmod u+s " .. f.newuidmap .. " and newgidmap beside it"
        end
    end
    return worse("warn", ("user %s has one id for sandboxes: %s"):format(f.user, f.rootless.why),
        "in sandboxes every command runs as root, those of `user`, too, and every file is " ..
        "root's: sudo, other users and programs with a user of their own do not work", mend)
end

---@param f cli.Facts
---@return cli.Finding|nil
function M.capabilities(f)
    local lacking = {}
    for _, name in ipairs { "sys_admin", "sys_chroot", "setuid", "setgid", "chown", "mknod" } do
        if not f.caps[name] then
            lacking[#lacking + 1] = "cap_" .. name
        end
    end
    if f.uid ~= 0 then
        return nil -- M.root has said it
    elseif #lacking == 0 then
        return ok("capabilities")
    end
    return worse("missing", "lacking capabilities: " ..
        table.concat(lacking, ", "), NO_SANDBOX,
        "this is a container; start it with more rights (docker run --privileged)")
end

-- Where a user namespace cannot be had, and why: the first that applies.
local function no_namespace(f, why)
    if f.chroot then
        return worse("missing", "this is a chroot: no user namespaces", NO_SANDBOX,
            "start e2blua outside of it, or enter the folder by pivot_root (bwrap --bind DIR /)")
    elseif f.max_userns == 0 then
        return worse("missing", "user namespaces are switched off", NO_SANDBOX,
            "as root: sysctl -w user.max_user_namespaces=15000")
    elseif f.apparmor and f.uid ~= 0 then
        return worse("missing", "AppArmor keeps user namespaces from ordinary users' programs",
            NO_SANDBOX, "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
    end
    return worse("missing", why, NO_SANDBOX, "as root: sysctl -w" ..
        " kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000; in a container: " ..
        "start it with --security-opt seccomp=unconfined, or with --privileged")
end

---@param f cli.Facts
---@return cli.Finding
function M.user_namespaces(f)
    local r = f.rootless
    if f.userns ~= true then
        return no_namespace(f, tostring(f.userns))
    elseif type(r) == "string" and r:find("newgidmap", 1, true) then
        return worse("missing", r, NO_SANDBOX, "as root: chmod u+s $(command -v newgidmap)")
    elseif type(r) == "string" then
        return no_namespace(f, r)
    elseif r and r.failed then
        if f.apparmor then
            return no_namespace(f)
        end
        return worse("missing", "in a user namespace " .. r.failed, NO_SANDBOX,
            "this is a container; start it with --security-opt systempaths=unconfined" ..
            " --security-opt apparmor=unconfined, or with --privileged")
    end
    return ok("user namespaces")
end

-- "6.1.0" -> 6.1 as comparable number
local function version(text)
    local major, minor = text:match("^(%d+)%.(%d+)")
    return major and tonumber(major) * 1000 + tonumber(minor) or 0
end

---@param f cli.Facts
---@return cli.Finding
function M.overlay(f)
    local need, what = "5.19", "of idmapped layers"
    if f.uid ~= 0 then
        need, what = "5.11", "in user namespaces"
    end
    if version(f.kernel) < version(need) then
        return worse("missing", ("kernel %s has no overlay %s"):format(f.kernel, what),
            NO_SANDBOX, ("boot a kernel of %s or later"):format(need))
    elseif not f.overlay then
        return worse("missing", "the kernel has no overlay file system", NO_SANDBOX,
            "as root: modprobe overlay")
    end
    return ok("overlay (kernel %s)", f.kernel)
end

---@param f cli.Facts
---@return cli.Finding
function M.file_system(f)
    if f.folder == true then
        return ok("file system %s", f.fs_type)
    end
    return worse("missing", f.folder, NO_SANDBOX,
        "set E2BLUA_HOME and E2BLUA_CACHE to folders on ext4, xfs, btrfs or tmpfs")
end

---@param f cli.Facts
---@return cli.Finding|nil
function M.idmap(f)
    if f.idmap == true then
        return ok("idmapped mounts on %s", f.cache)
    elseif f.uid ~= 0 then
        return nil
    end
    return worse("missing", ("the file system of %s cannot be mounted idmapped (%s)"):format(
        f.cache, tostring(f.idmap)), NO_SANDBOX,
        "put E2BLUA_HOME and E2BLUA_CACHE on ext4, xfs, btrfs or tmpfs")
end

---@param f cli.Facts
---@return cli.Finding
function M.nf_tables(f)
    if f.nf_tables == true then
        return ok("nf_tables")
    end
    return worse("warn", tostring(f.nf_tables),
        "sandboxes have no outgoing network", "as root: modprobe nf_tables nft_redir")
end

---@param f cli.Facts
---@return cli.Finding
function M.cgroups(f)
    local limits = { cpu = "cpu", memory = "memory", pids = "number of processes",
        freeze = "pausing" }
    local lacking, lost = {}, {}
    for _, name in ipairs { "cpu", "memory", "pids", "freeze" } do
        if not f.limits[name] then
            lacking[#lacking + 1] = name
            lost[#lost + 1] = limits[name]
        end
    end
    if #lacking == 0 then
        return ok("cgroup controllers (v%d, %s)", f.limits.version, f.limits.where)
    end
    local what = "no cgroup controllers for " .. table.concat(lacking, ", ")
    if f.limits.why then
        what = what .. ": " .. f.limits.why
    end
    local without = "sandboxes run without limits of: " .. table.concat(lost, ", ")
    if not f.limits.memory or not f.limits.pids then
        without = without .. "; each process alone is held to the sandbox's memory, each of its" ..
            " users to its number of processes"
    end
    return worse("warn", what, without, f.limits.remedy or
        "mount -t cgroup2 none /sys/fs/cgroup, or boot with cgroup_enable=memory")
end

---@param f cli.Facts
---@return cli.Finding
function M.inotify(f)
    if f.inotify_instances >= 128 and f.inotify_watches >= 8192 then
        return ok("inotify: %d instances, %d watches", f.inotify_instances, f.inotify_watches)
    end
    return worse("warn", ("inotify allows %d instances and %d watches"):format(f.inotify_instances,
        f.inotify_watches), "watching folders fails in some sandboxes",
        "as root: sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=65536")
end

---@param f cli.Facts
---@return cli.Finding
function M.descriptors(f)
    if f.descriptors >= 4096 then
        return ok("open files: %d", f.descriptors)
    end
    return worse("warn", ("a process may open %d files only"):format(f.descriptors),
        ("about %d sandboxes can live at the same time"):format(f.descriptors // 12),
        "ulimit -n 65536")
end

---@param f cli.Facts
---@return cli.Finding
function M.space(f)
    local need = f.image and GIB or 4 * GIB
    local have = ("%.1f GiB are free on the file system of %s"):format(f.space / GIB, f.cache)
    if f.space >= need then
        return ok("%s", have)
    end
    local essential = f.space < need // 4
    return worse(essential and "missing" or "warn", have,
        f.image and "sandboxes may fill the disk" or "the base image may not fit",
        "make room, or put E2BLUA_CACHE elsewhere")
end

---@param f cli.Facts
---@return cli.Finding
function M.mmdebstrap(f)
    if f.mmdebstrap then
        return ok("mmdebstrap")
    end
    return worse(f.image and "note" or "missing", "there is no mmdebstrap",
        f.image and "the base image cannot be made anew" or "the base image cannot be made",
        "as root: apt-get install mmdebstrap")
end

---@param f cli.Facts
---@return cli.Finding
function M.image(f)
    if f.image then
        return ok("base image %s", f.image:sub(1, 12))
    end
    return worse("note", "there is no base image yet", "the first sandbox takes a minute longer",
        "e2blua kill $(e2blua create)")
end

---@param f cli.Facts
---@return cli.Finding
function M.engine(f)
    local e = f.engine
    if not e then
        return ok("no engine runs; it starts when it is needed")
    elseif not f.engine_current then
        return worse("warn", ("the running engine (pid %d) is of another build"):format(e.pid),
            e.sandboxes > 0 and "calls are refused while its sandboxes live" or nil,
            "e2blua engine stop")
    elseif e.image.state == "failed" then
        return worse("missing", "the engine could not make the base image: " ..
            tostring(e.image.message), NO_SANDBOX, "mend the cause; then: e2blua engine stop")
    end
    return ok("engine: pid %d, port %d, %d sandboxes", e.pid, e.port, e.sandboxes)
end

---@param f cli.Facts
---@return cli.Finding
function M.authorities(f)
    if f.cas == 0 then
        return ok("no certificate authorities beyond the distribution's")
    end
    return worse("note", ("%d certificate authorities beyond the distribution's; sandboxes " ..
        "trust them, too"):format(f.cas))
end

---The findings in the order of M.all.
M.ORDER = {
    "backend", "root", "capabilities", "user_namespaces", "overlay", "file_system", "idmap",
    "nf_tables", "cgroups", "inotify", "descriptors", "space", "mmdebstrap", "image",
    "engine", "authorities",
}

---All findings about these facts. With a remote backend what this machine lacks
---is worth a note only.
---@param f cli.Facts
---@return cli.Finding[]
function M.all(f)
    local list = {}
    for _, name in ipairs(M.ORDER) do
        local finding = M[name](f)
        if finding and f.backend == "remote" and name ~= "backend" and
            finding.level == "missing" then
            finding.level = "note"
        end
        list[#list + 1] = finding
    end
    return list
end

return M
