-- Where the embedded engine keeps its things. DESIGN: identity and caches.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local process = require "e2b_process"

local M = {}

local function absolute(path)
    if path:sub(1, 1) == "/" then
        return path
    end
    return Error.check(fs.cwd()) .. "/" .. path
end

local function default_home(env)
    if process.uid() == 0 then
        return "/var/lib/e2blua"
    end
    local state = env.XDG_STATE_HOME
    if not state or state:sub(1, 1) ~= "/" then
        if not env.HOME or env.HOME == "" then
            Error.raise("invalid_argument", "neither E2BLUA_HOME nor HOME is set",
                { remedy = "set E2BLUA_HOME to a folder of yours" })
        end
        state = env.HOME .. "/.local/state"
    end
    return state .. "/e2blua"
end

---@class engine.Paths
---@field home string E2BLUA_HOME
---@field cache string E2BLUA_CACHE: images and layers, may be shared by homes
---@field info string engine.json (0600): port and key of the running engine
---@field socket string unix socket of the control plane (0600)
---@field lock string held by the engine as long as it runs
---@field start_lock string held by the client that starts one
---@field log string
---@field db string
---@field run string folder of the sandboxes' sockets
---@field boxes string folder of the sandboxes' writable layers
---@field disks string folder of empty images for the limits of disks
---@field uploads string folder of COPY archives, by hash

---The engine's files; nothing is made.
---@param home? string default E2BLUA_HOME, else by user
---@param cache? string default E2BLUA_CACHE, else inside the home
---@return engine.Paths
function M.of(home, cache)
    local env = fs.environ()
    home = home or env.E2BLUA_HOME
    home = home and home ~= "" and absolute(home) or default_home(env)
    cache = cache or env.E2BLUA_CACHE
    cache = cache and cache ~= "" and absolute(cache) or home .. "/cache"
    return {
        home = home,
        cache = cache,
        info = home .. "/engine.json",
        socket = home .. "/engine.sock",
        lock = home .. "/engine.lock",
        start_lock = home .. "/start.lock",
        log = home .. "/engine.log",
        db = home .. "/state.db",
        run = home .. "/run",
        boxes = home .. "/boxes",
        disks = home .. "/disks",
        uploads = home .. "/uploads",
    }
end

---What tells one build of the program from another.
---@return string
function M.build_id()
    local exe = process.exe()
    local dir = exe:match("^(.*)/[^/]*$")
    local module = process.file_id(dir .. "/modules/e2b_engine.so")
    if module == "" then
        module = process.file_id(dir .. "/../lib/e2blua/e2b_engine.so")
    end
    return process.file_id(exe) .. "+" .. module
end

return M
