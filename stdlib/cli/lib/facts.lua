-- What e2blua doctor looks at. Nothing is started, and nothing stays behind.
local Error = require "e2b.error"
local client = require "engine.client"
local config_of = require "e2b.config"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local paths = require "engine.paths"
local process = require "e2b_process"

local M = {}

---@class cli.Facts
---@field backend "local"|"remote"
---@field why string
---@field backend_error? string
---@field backend_remedy? string
---@field uid integer
---@field user string its name, or its number
---@field kernel string
---@field caps table<string, boolean>
---@field userns true|string
---@field max_userns integer
---@field rootless? {grade: "range"|"one", why: string, failed: string|nil}|string what an ordinary
--- user's engine would get, or why there would be none
---@field newuidmap? string path
---@field next_ids integer the first id that no user's range holds
---@field no_new_privs boolean no program that this process starts gains rights
---@field apparmor boolean it keeps user namespaces from programs without a profile
---@field chroot boolean
---@field fs_type string of the cache's file system
---@field folder true|string whether the cache's folder can hold sandboxes
---@field overlay boolean
---@field idmap true|string
---@field nf_tables true|string
---@field limits e2b_engine.Limits
---@field inotify_instances integer
---@field inotify_watches integer
---@field descriptors integer
---@field space integer bytes
---@field cache string
---@field mmdebstrap? string
---@field image? string
---@field engine? table
---@field engine_current boolean
---@field cas integer

local CAPS = { chown = 0, setgid = 6, setuid = 7, sys_chroot = 18, sys_admin = 21, mknod = 27 }

local function read(path)
    return fs.read_file(path) or ""
end

local function number(path)
    return math.tointeger(tonumber(read(path):match("%d+") or "0")) or 0
end

-- true, or why not.
local function tried(fn, ...)
    local yes, err = fn(...)
    return yes and true or err.message
end

---Names of capabilities that a mask of /proc/self/status has.
---@param hex string
---@return table<string, boolean>
function M.capabilities(hex)
    local mask, have = math.tointeger(tonumber(hex, 16)) or 0, {}
    for name, bit in pairs(CAPS) do
        have[name] = mask >> bit & 1 == 1
    end
    return have
end

---The first id behind every range of the texts of /etc/subuid and /etc/subgid.
---@param ... string
---@return integer
function M.next_ids(...)
    local free = 100000
    for _, text in ipairs { ... } do
        for first, count in text:gmatch("[^:\n]+:(%d+):(%d+)") do
            free = math.max(free, math.tointeger(first) + math.tointeger(count))
        end
    end
    return free
end

---Whether the text of /proc/self/mountinfo is that of a chroot, whose root is no
---mount.
---@param mountinfo string
---@return boolean
function M.is_chroot(mountinfo)
    for line in mountinfo:gmatch("[^\n]+") do
        if line:match("^%S+ %S+ %S+ %S+ (%S+)") == "/" then
            return false
        end
    end
    return true
end

-- Of the user, by /etc/passwd.
local function user_name(uid)
    for name, id in read("/etc/passwd"):gmatch("([^:\n]+):[^:\n]*:(%d+):[^\n]*") do
        if math.tointeger(id) == uid then
            return name
        end
    end
    return tostring(uid)
end

local function rootless(uid)
    if uid == 0 then
        return nil
    end
    local found, err = engine.probe_rootless()
    return found or err.message
end

local function in_path(program)
    for dir in (os.getenv("PATH") or ""):gmatch("[^:]+") do
        local stat = fs.stat(dir .. "/" .. program)
        if stat and stat.type == "file" and stat.mode & 73 ~= 0 then
            return dir .. "/" .. program
        end
    end
end

-- The nearest folder that exists: nothing is made.
local function existing(path)
    while path ~= "" and not fs.stat(path) do
        path = path:match("^(.*)/[^/]*$")
    end
    return path ~= "" and path or "/"
end

local function overlay()
    return read("/proc/filesystems"):find("\toverlay\n", 1, true) ~= nil or
        fs.stat("/sys/module/overlay") ~= nil
end

local function backend(f)
    local found, which, why = pcall(config_of.which)
    if not found then
        f.backend, f.why, f.backend_error = "local", "its settings are wrong", which.message
        return
    end
    f.backend, f.why = which, why
    if which == "remote" then
        local ok, err = pcall(config_of.resolve)
        if not ok then
            f.backend_error, f.backend_remedy = err.message, err.remedy
        end
    end
end

---@return cli.Facts
function M.gather()
    local p = paths.of()
    local dir = existing(p.cache)
    local uid = process.uid()
    local status = client.status(p)
    local without_root = rootless(uid)
    local f = {
        uid = uid,
        user = user_name(uid),
        rootless = without_root,
        newuidmap = in_path("newuidmap"),
        next_ids = M.next_ids(read("/etc/subuid"), read("/etc/subgid")),
        no_new_privs = read("/proc/self/status"):find("\nNoNewPrivs:\t1\n", 1, true) ~= nil,
        apparmor = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"):find("^1") ~= nil,
        chroot = M.is_chroot(read("/proc/self/mountinfo")),
        folder = tried(engine.hostfs_check, "E2BLUA_CACHE", dir),
        fs_type = engine.probe_fs_type(dir) or "unknown",
        kernel = read("/proc/sys/kernel/osrelease"):match("%S+") or "",
        caps = M.capabilities(read("/proc/self/status"):match("CapEff:%s*(%x+)") or "0"),
        userns = tried(engine.probe_userns),
        max_userns = number("/proc/sys/user/max_user_namespaces"),
        overlay = overlay(),
        idmap = uid ~= 0 and "it needs root" or tried(engine.probe_idmap, dir),
        nf_tables = tried(engine.probe_nf_tables),
        limits = Error.check(engine.limits()),
        inotify_instances = number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches = number("/proc/sys/fs/inotify/max_user_watches"),
        descriptors = math.tointeger(tonumber(
            read("/proc/self/limits"):match("Max open files%s+%d+%s+(%d+)"))) or math.maxinteger,
        space = engine.probe_space(dir) or 0,
        cache = p.cache,
        mmdebstrap = in_path("mmdebstrap"),
        -- Of root and of a range it is the same.
        image = engine.image_ready(p.cache,
            type(without_root) == "table" and without_root.grade or "range"),
        engine = status,
        engine_current = status ~= nil and status.build_id == paths.build_id(),
        cas = engine.extra_cas() or 0,
    }
    backend(f)
    return f
end

return M
