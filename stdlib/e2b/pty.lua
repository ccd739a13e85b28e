-- sandbox.pty: shells on a pseudo terminal of the sandbox.
local wire = require "e2b_wire"
local Error = require "e2b.error"
local commands = require "e2b.commands"
local options = require "e2b.options"
local rpc = require "e2b.rpc"

local DEFAULT_TIMEOUT <const> = 60
local MAX_SIDE <const> = 65535

---@class e2b.PtySize
---@field cols integer 1 to 65535
---@field rows integer 1 to 65535

---@class e2b.Pty
local Pty = {}
Pty.__index = Pty

local M = {}

---@param connection e2b.Connection
---@return e2b.Pty
function M.new(connection)
    return setmetatable({ _connection = connection, _commands = commands.new(connection) }, Pty)
end

local SIZE = { cols = "integer", rows = "integer" }
local CREATE = options.spec(options.REQUEST, SIZE, {
    size = "table",
    on_data = "callable",
    user = "text",
    cwd = "text",
    envs = "map",
    timeout = "seconds",
})
local CONNECT = options.spec(options.REQUEST, { on_data = "callable", timeout = "seconds" })
local USER = options.spec(options.REQUEST)
local PID = { { "pid", "count" } }

-- The size as it goes over the wire, checked.
local function size_of(op, cols, rows)
    for name, n in pairs({ cols = cols or false, rows = rows or false }) do
        if math.type(n) ~= "integer" or n < 1 or n > MAX_SIDE then
            Error.raise("invalid_argument", ("%s: %s must be an integer from 1 to %d, not %s")
                :format(op, name, MAX_SIDE, n and tostring(n) or "nothing"), { op = op })
        end
    end
    return { cols = cols, rows = rows }
end

-- What a shell expects of a terminal; the caller's values win.
local function environment(envs)
    local all = { TERM = "xterm-256color", LANG = "C.UTF-8", LC_ALL = "C.UTF-8" }
    for name, value in pairs(envs or {}) do
        all[name] = value
    end
    return all
end

-- {cols, rows, ...} in one table, or the size and then the options.
local function create_options(op, size, opts)
    if opts == nil then
        local o = options.check(op, size, CREATE)
        if o.size then
            local s = options.check(op .. " size", o.size, SIZE)
            o.cols, o.rows = s.cols, s.rows
        end
        return o
    end
    local s = options.check(op .. " size", size, SIZE)
    local o = options.check(op, opts, CREATE)
    o.cols, o.rows = s.cols, s.rows
    return o
end

---Starts an interactive login shell on a new terminal. What it writes goes to
---on_data, or is kept for handle:wait{on_pty} and handle:output().
---@param size table {cols = 80, rows = 24} and then opts, or one table with all
---@param opts? table
--- on_data fun(bytes: string), which may wait and so hold the output up; user, cwd string; envs
--- table<string, string> (defaults TERM=xterm-256color, LANG and LC_ALL=C.UTF-8); timeout number
--- seconds, default 60, 0: none; request_timeout number seconds until it has started
---@return e2b.CommandHandle handle whose wait raises command_exit when the shell fails
--- Raises invalid_argument (no size), authentication (unknown user), sandbox_not_running.
function Pty:create(size, opts)
    local op = "pty.create"
    options.object(op, self, Pty)
    local o = create_options(op, size, opts)
    return commands.in_background(commands.start(self, {
        op = op,
        method = "process.Process/Start",
        message = {
            process = {
                cmd = "/bin/bash",
                args = { "-i", "-l" },
                envs = environment(o.envs),
                cwd = o.cwd,
            },
            pty = { size = size_of(op, o.cols, o.rows) },
        },
        user = o.user,
        request_timeout = o.request_timeout,
        timeout = o.timeout or DEFAULT_TIMEOUT,
        expired = "the terminal was used longer than %g s and was ended",
    }, { pty = o.on_data }))
end

---Follows a terminal that runs already; output from before is not repeated.
---@param pid integer
---@param opts? table on_data fun(bytes: string); timeout number seconds, default 60, 0: none;
--- request_timeout number
---@return e2b.CommandHandle handle; kind not_found when there is no such process
function Pty:connect(pid, opts, ...)
    local op = "pty.connect"
    options.object(op, self, Pty)
    local o = options.arguments(op, PID, CONNECT, pid, opts, ...)
    return commands.in_background(commands.start(self, {
        op = op,
        method = "process.Process/Connect",
        message = { process = { pid = o.pid } },
        request_timeout = o.request_timeout,
        timeout = o.timeout or DEFAULT_TIMEOUT,
        expired = "the terminal ran on after the %g s for following it",
    }, { pty = o.on_data }))
end

---Kills the shell of a terminal (SIGKILL).
---@param pid integer
---@param opts? {request_timeout?: number}
---@return boolean killed false: there is no such process
function Pty:kill(pid, opts, ...)
    options.object("pty.kill", self, Pty)
    return self._commands:kill(pid, opts, ...)
end

---Types into a terminal: "\r" ends a line, "\4" is Ctrl-D.
---@param pid integer
---@param data string bytes
---@param opts? {request_timeout?: number}
--- Raises not_found.
function Pty:send_stdin(pid, data, opts, ...)
    local op = "pty.send_stdin"
    options.object(op, self, Pty)
    local o = options.arguments(op, { PID[1], { "data", "string" } }, USER, pid, data, opts, ...)
    rpc.unary(self._connection, {
        op = op,
        method = "process.Process/SendInput",
        message = { process = { pid = o.pid }, input = { pty = wire.base64(o.data) } },
        request_timeout = o.request_timeout,
    })
end

---Gives a terminal another size; its programs hear of it.
---@param pid integer
---@param size e2b.PtySize
---@param opts? {request_timeout?: number}
--- Raises not_found.
function Pty:resize(pid, size, opts, ...)
    local op = "pty.resize"
    options.object(op, self, Pty)
    local o = options.arguments(op, { PID[1], { "size", "table" } }, USER, pid, size, opts, ...)
    local s = options.check(op .. " size", o.size, SIZE)
    rpc.unary(self._connection, {
        op = op,
        method = "process.Process/Update",
        message = { process = { pid = o.pid }, pty = { size = size_of(op, s.cols, s.rows) } },
        request_timeout = o.request_timeout,
    })
end

return M
