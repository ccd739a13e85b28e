-- What e2blua doctor looks at. Nothing is started, and nothing stays behind.
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
---@field kernel string
---@field caps table<string, boolean>
---@field userns true|string
---@field max_userns integer
---@field overlay boolean
---@field idmap true|string
---@field nf_tables true|string
---@field cgroup1 table<string, boolean>
---@field cgroup2 table<string, boolean>
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

---Controllers by version, of the text of /proc/self/mountinfo.
---@param mountinfo string
---@param controllers fun(path: string): string the controllers of a v2 mount
---@return table<string, boolean> v1
---@return table<string, boolean> v2
function M.cgroups(mountinfo, controllers)
    local v1, v2 = {}, {}
    for line in mountinfo:gmatch("[^\n]+") do
        local where = line:match("^%S+ %S+ %S+ %S+ (%S+)")
        local kind, options = line:match(" %- (cgroup2?) %S+ (%S+)")
        if kind == "cgroup" then
            for word in options:gmatch("[^,]+") do
                v1[word] = true
            end
        elseif kind == "cgroup2" then
            for word in controllers(where):gmatch("%S+") do
                v2[word] = true
            end
        end
    end
    return v1, v2
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
    local v1, v2 = M.cgroups(read("/proc/self/mountinfo"), function(path)
        return read(path .. "/cgroup.controllers")
    end)
    local status = client.status(p)
    local f = {
        uid = uid,
        kernel = read("/proc/sys/kernel/osrelease"):match("%S+") or "",
        caps = M.capabilities(read("/proc/self/status"):match("CapEff:%s*(%x+)") or "0"),
        userns = tried(engine.probe_userns),
        max_userns = number("/proc/sys/user/max_user_namespaces"),
        overlay = overlay(),
        idmap = uid ~= 0 and "it needs root" or tried(engine.probe_idmap, dir),
        nf_tables = tried(engine.probe_nf_tables),
        cgroup1 = v1,
        cgroup2 = v2,
        inotify_instances = number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches = number("/proc/sys/fs/inotify/max_user_watches"),
        descriptors = math.tointeger(tonumber(
            read("/proc/self/limits"):match("Max open files%s+%d+%s+(%d+)"))) or math.maxinteger,
        space = engine.probe_space(dir) or 0,
        cache = p.cache,
        mmdebstrap = in_path("mmdebstrap"),
        image = engine.image_ready(p.cache),
        engine = status,
        engine_current = status ~= nil and status.build_id == paths.build_id(),
        cas = engine.extra_cas() or 0,
    }
    backend(f)
    return f
end

return M
