--- Engines for tests: that of $E2BLUA_HOME, which run.sh ends, and engines of homes of their
--- own; raw requests to them; what of them is left on the machine.
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local hash = require "e2b_hash"
local json = require "e2b_json"
local paths = require "engine.paths"
local process = require "e2b_process"
local t = require "tests"

local M = {}

--- For t.before: the engine runs and the base image is there.
function M.warm_up()
    local Sandbox = require "e2b.sandbox"
    local sandbox <close> = Sandbox.create { timeout = 30, allow_internet_access = false }
    sandbox.commands:run("true")
end

--- A sandbox that the end of the test ends.
function M.sandbox(opts)
    local Sandbox = require "e2b.sandbox"
    opts = opts or {}
    opts.timeout = opts.timeout or 60
    opts.allow_internet_access = false
    local sandbox = Sandbox.create(opts)
    t.cleanup(function()
        sandbox:close()
    end)
    return sandbox
end

--- A home of its own; its engine is ended after the test, and nothing may be left of it.
---@param name? string default "home", where run.sh finds it
---@return table home {path, paths, env: for child.start}
function M.home(name)
    local path = t.tmpdir() .. "/" .. (name or "home")
    local home = { path = path, paths = paths.of(path), env = { E2BLUA_HOME = path } }
    t.cleanup(function()
        if not fs.stat(path) then
            return
        end
        client.stop(home.paths)
        local left
        pcall(child.await, "", 5, function() -- the last of an engine is its exit
            left = M.left(home)
            return #left == 0
        end)
        t.eq(left, {}, "left behind")
        t.ok(not M.log(home):find "Sanitizer", M.log(home))
    end)
    return home
end

--- Options of SDK calls for the engine of a home; starts it when none runs.
function M.options(home)
    local connection = client.ensure { home = home.path }
    return { api_url = connection.api_url, sandbox_url = connection.sandbox_url,
        api_key = connection.api_key, domain = connection.domain }
end

---@return string
function M.log(home)
    return fs.read_file(home.paths.log, 1 << 30) or ""
end

--- Whether this build has the address sanitizer: it keeps 256 MB of what was freed, and a part more
--- of what was not, so that limits of memory say nothing.
---@return boolean
function M.sanitized()
    return (fs.read_file("/proc/self/maps", 1 << 24) or ""):find("libasan", 1, true) ~= nil
end

--- Skips a test where the machine cannot hold sandboxes to their memory and processors.
---@param sandbox table
function M.needs_limits(sandbox)
    for _, note in ipairs(sandbox:get_info().notes) do
        if note:find "^limits that this machine cannot give" then
            t.skip "limits"
        end
    end
end

--- Where the groups of engines begin, below a mount: "e2blua/", or in one given to this user.
---@return string
function M.groups()
    return (os.getenv "E2BLUA_TEST_GROUP" or "") .. "e2blua/"
end

--- The folder of a sandbox's cgroup, by v1's or v2's layout.
---@param id string
---@param controller string
---@param home? table default that of $E2BLUA_HOME
function M.group_of(id, controller, home)
    local name = M.groups() .. hash.sha256((home and home.paths or paths.of()).home):sub(1, 12) ..
        "/" .. id
    for _, root in ipairs { "/sys/fs/cgroup/" .. controller, "/sys/fs/cgroup" } do
        if fs.stat(root .. "/" .. name) then
            return root .. "/" .. name
        end
    end
    error("no cgroup of " .. id .. " with " .. controller)
end

--- The host's number of a sandbox's pid 1.
---@return integer
function M.pid_of(id, home)
    local members = fs.read_file(M.group_of(id, "freezer", home) .. "/cgroup.procs")
    for pid in members:gmatch("%d+") do
        if fs.read_file("/proc/" .. pid .. "/status"):find "\nNSpid:\t%d+\t1\n" then
            return math.tointeger(pid)
        end
    end
    error("no pid 1 in " .. id)
end

--- Runs a command with the rights of the engine over layers; it must succeed.
---@param ... string words
function M.as_owner(...)
    local words = { ... }
    if process.uid() ~= 0 then
        words = { process.exe(), "engine", "unshare", ... }
    end
    local code, out = child.start(words):wait(60)
    t.eq(code, 0, out)
end

--- A PATH on which there is all but these.
---@param ... string
---@return string
function M.path_without(...)
    local dir, hidden = t.tmpdir(), {}
    for _, name in ipairs { ... } do
        hidden[name] = true
    end
    for _, from in ipairs { "/bin", "/usr/bin", "/usr/local/bin" } do
        for _, name in ipairs(fs.list(from) or {}) do
            if not hidden[name] then
                os.execute(("ln -sfn %s/%s %s/%s"):format(from, name, dir, name))
            end
        end
    end
    return dir
end

local NOBODY <const> = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }

--- Words before a program that start it in a mount namespace of its own, by root or by a user who
--- is root there, after the commands.
---@param commands string
---@return string[]
function M.apart(commands)
    local words = { "unshare", "--mount" }
    if process.uid() ~= 0 then
        words[#words + 1] = "--map-root-user"
    end
    for _, word in ipairs { "sh", "-c", commands .. '\nexec "$@"', "apart" } do
        words[#words + 1] = word
    end
    return words
end

--- The same as root's nobody. The program may lie where only root comes: its folder is mounted on
--- /mnt, `program` is its path there.
---@param commands? string
---@return {program: string, [integer]: string}
function M.as_nobody(commands)
    local words = M.apart(("mount --bind %s /mnt\n"):format(child.quoted(process.exe()
        :match "^(.*)/")) .. (commands or ""))
    table.move(NOBODY, 1, #NOBODY, #words + 1, words)
    words.program = "/mnt/" .. process.exe():match "[^/]*$"
    return words
end

--- Skips a test that only root can run.
function M.needs_root()
    if process.uid() ~= 0 then
        t.skip "root"
    end
end

--- Skips a test where no program can gain rights (a root made by bwrap).
function M.needs_sudo()
    if fs.read_file("/proc/self/status"):find "\nNoNewPrivs:\t1\n" then
        t.skip "sudo"
    end
end

--- Waits until a process has ended. Who takes its status may let it lie for a while.
---@param pid integer
function M.gone(pid)
    child.await("process " .. pid .. " lives on", 5, function()
        local stat = fs.read_file("/proc/" .. pid .. "/stat")
        local threads = fs.list("/proc/" .. pid .. "/task") or {}
        return not stat or stat:find("%) [ZX] ") and #threads <= 1
    end)
end

--- Kills the engine of a home; returns its pid.
---@param home table
---@return integer
function M.kill_engine(home)
    local pid = M.info(home).pid
    os.execute("kill -9 " .. pid)
    M.gone(pid)
    return pid
end

local function add_names(out, dir)
    for _, name in ipairs(fs.list(dir) or {}) do
        out[#out + 1] = dir .. "/" .. name
    end
end

--- Engines of a home that run, "PID: WORDS" each.
---@return string[]
function M.engines(home)
    local out, text = {}, "serve\0" .. home.path .. "\0"
    for _, pid in ipairs(fs.list("/proc")) do
        local line = pid:find("^%d+$") and fs.read_file("/proc/" .. pid .. "/cmdline")
        if line and line:find(text, 1, true) and math.tointeger(pid) ~= process.pid() then
            out[#out + 1] = pid .. ": " .. line:gsub("\0", " ")
        end
    end
    return out
end

--- What is left of a home's engine: processes, mounts, groups, sockets, folders. Empty when all is
--- gone.
---@return string[]
function M.left(home)
    local out = M.engines(home)
    for line in fs.read_file("/proc/self/mountinfo", 1 << 20):gmatch("[^\n]+") do
        if line:find(home.path .. "/", 1, true) then
            out[#out + 1] = "mount " .. line
        end
    end
    local group = M.groups() .. hash.sha256(home.path):sub(1, 12)
    for _, name in ipairs(fs.list("/sys/fs/cgroup") or {}) do
        local unified = group:find(name .. "/", 1, true) == 1
        for _, dir in ipairs { name .. "/" .. group, unified and group or nil } do
            if fs.stat("/sys/fs/cgroup/" .. dir) then
                out[#out + 1] = "group " .. dir
            end
        end
    end
    add_names(out, home.paths.run)
    add_names(out, home.paths.boxes)
    return out
end

--- One request with e2b_httpc, nothing of the SDK in between.
---@param req table {method, url, headers, body, unix, timeout}
---@return integer status, table headers, string body
function M.request(req)
    req.timeout = req.timeout or 10
    req.headers = req.headers or {}
    req.headers.Connection = "close"
    local x <close> = assert(require("e2b_httpc").open(req))
    local status, headers = x:wait()
    t.ok(status, headers)
    local parts = {}
    while true do
        local piece, err = x:read()
        t.ok(not err, err)
        if not piece then
            return status, headers, table.concat(parts)
        end
        parts[#parts + 1] = piece
    end
end

--- Key, port and so on of a running engine; default that of $E2BLUA_HOME.
function M.info(home)
    return assert(client.info(home and home.paths or paths.of()))
end

--- A call of the control plane: JSON in, JSON out.
---@return integer status, any answer, table headers
function M.api(method, path, body, headers)
    local info = M.info()
    headers = headers or { ["X-API-Key"] = info.api_key }
    headers["Content-Type"] = body and "application/json" or nil
    local status, got, text = M.request {
        method = method, url = ("http://127.0.0.1:%d%s"):format(info.port, path), headers = headers,
        body = body and (type(body) == "string" and body or json.encode(body)) or nil,
    }
    return status, text ~= "" and (json.decode(text) or text) or nil, got
end

M.await = child.await

return M
