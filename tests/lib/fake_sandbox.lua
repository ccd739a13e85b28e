--- A test double of a sandbox: the surface of the SDK that agents use, on a folder of this machine
--- and /bin/sh. No isolation whatever; commands block. Tests only.
local Error = require "e2b.error"
local fs = require "e2b_fs"

local M = {}

local function quote(s)
    return "'" .. s:gsub("'", "'\\''") .. "'"
end

local Files = {}
Files.__index = Files

local function missing(path)
    Error.raise("file_not_found", "no such file: " .. path, {op = "files"})
end

function Files.read(_, path)
    if not fs.stat(path) then
        missing(path)
    end
    return (Error.check(fs.read_file(path)))
end

function Files.write(_, path, data)
    Error.check(fs.mkdirs(path:match("^(.*)/")))
    Error.check(fs.write_file(path, data))
end

function Files.exists(_, path)
    return fs.stat(path) ~= nil
end

function Files.get_info(_, path)
    local st = fs.stat(path) or missing(path)
    return {type = st.type, size = st.size, path = path}
end

local Commands = {}
Commands.__index = Commands

local function script(self, cmd, opts)
    self._n = self._n + 1
    local base = self._dir .. "/" .. self._n
    Error.check(fs.write_file(base .. ".sh", cmd .. "\n"))
    local env = ""
    for k, v in pairs(opts.envs or {}) do
        env = env .. k .. "=" .. quote(v) .. " "
    end
    return base, ("cd %s && %stimeout %s bash %s >%s 2>%s </dev/null"):format(
        quote(opts.cwd or self._home), env, opts.timeout or 60, quote(base .. ".sh"),
        quote(base .. ".out"), quote(base .. ".err"))
end

function Commands:run(cmd, opts)
    opts = opts or {}
    if self.gone then
        Error.raise("sandbox_not_found", "the sandbox is gone", {op = "commands.run"})
    end
    local base, line = script(self, cmd, opts)
    if opts.background then
        os.execute("(" .. line .. ") & echo $! >" .. quote(base .. ".pid"))
        return {pid = tonumber(fs.read_file(base .. ".pid")), disconnect = function() end}
    end
    local _, how, code = os.execute(line)
    if how == "signal" then
        code = 128 + code
    end
    local result = {stdout = fs.read_file(base .. ".out") or "", exit_code = code,
        stderr = fs.read_file(base .. ".err") or ""}
    if code == 124 then
        Error.raise("timeout", "the command took too long", {deadline = "command"})
    elseif code ~= 0 then
        Error.raise("command_exit", "exit code " .. code, {result = result})
    end
    return result
end

--- home: the folder that is its home; scratch: where the double keeps its own files.
function M.new(home, scratch)
    return {sandbox_id = "double", files = setmetatable({}, Files),
        commands = setmetatable({_home = home, _dir = scratch, _n = 0}, Commands)}
end

return M
