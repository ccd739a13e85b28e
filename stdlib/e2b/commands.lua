-- sandbox.commands: running commands, and the handles of those that run.
local task = require "e2b_task"
local wire = require "e2b_wire"
local Error = require "e2b.error"
local options = require "e2b.options"
local rpc = require "e2b.rpc"

local DEFAULT_TIMEOUT <const> = 60

-- ---- handles -----------------------------------------------------------------

---@class e2b.CommandResult
---@field stdout string bytes as they came
---@field stderr string
---@field exit_code integer -1 when a signal ended it
---@field error? string "exit status 3", "signal: killed"; of one for which a process was killed for
--- lack of memory it says so

---A command that runs in a sandbox. Its output is read as it comes and kept.
---@class e2b.CommandHandle
---@field pid integer
---@field stdout string what has come so far
---@field stderr string
---@field exit_code integer|nil after its end
---@field error string|nil after its end, when it failed
---@field pty string of a terminal: what has come so far, unless on_data was given
local Handle = {}

local function joined(self, name)
    local pieces = self._pieces[name]
    if #pieces > 1 then
        local cache = self._text[name]
        if cache.count ~= #pieces then
            cache.text, cache.count = table.concat(pieces), #pieces
        end
        return cache.text
    end
    return pieces[1] or ""
end

local meta = { __name = "e2b.CommandHandle" }

function meta.__index(self, name)
    if name == "stdout" or name == "stderr" or name == "pty" then
        return joined(self, name)
    end
    return Handle[name]
end

local function check_handle(op, self)
    if getmetatable(self) ~= meta then
        Error.raise("invalid_argument", ("%s was called without its object; use ':', as in " ..
            "handle:%s()"):format(op, op), { op = op })
    end
end

local function new_handle(commands, stream, pid, callbacks)
    return setmetatable({
        pid = pid,
        _commands = commands,
        _stream = stream,
        _callbacks = callbacks,
        -- A terminal may be used for hours: what somebody is told is not kept.
        _forgets = callbacks.pty ~= nil,
        _pieces = { stdout = {}, stderr = {}, pty = {} },
        _text = { stdout = {}, stderr = {}, pty = {} },
        _order = {},
        _changed = task.cond(),
        _waiting = 0,
    }, meta)
end

-- A callback in the foreground is part of the caller's own wait. One that fails
-- in the background ends the wait for the command; without a waiter it fails
-- the script, as any task's error nobody took.
local function deliver(self, name, bytes)
    local callback = self._callbacks[name]
    if not callback then
        return
    end
    if not self._reader then
        callback(bytes)
        return
    end
    local ok, err = pcall(callback, bytes)
    if ok then
        return
    elseif task.cancelled() then
        error(err, 0)
    end
    self._callbacks = {}
    if self._waiting > 0 then
        self._callback_failure = err
        self._changed:broadcast()
    else
        task.spawn(error, err, 0)
    end
end

local function keep(self, name, bytes)
    if not self._forgets then
        local pieces = self._pieces[name]
        pieces[#pieces + 1] = bytes
        self._order[#self._order + 1] = name
        self._changed:broadcast()
    end
end

local function take_data(self, data)
    for _, name in ipairs({ "stdout", "stderr", "pty" }) do
        local text = data[name]
        if text and text ~= "" then
            local bytes = Error.check(wire.unbase64(text))
            keep(self, name, bytes)
            deliver(self, name, bytes)
        end
    end
end

-- A connection that broke is not the command's end.
local function next_message(self)
    local ok, message = pcall(self._stream.next, self._stream)
    if not ok then
        local lost = Error.is(message, "network") or Error.is(message, "sandbox_unreachable")
        if lost and not message.remedy then
            message.remedy = ("the command may go on: commands:connect(%d) reads what it" ..
                " writes from then on"):format(self.pid)
        end
        error(message, 0)
    end
    return message
end

-- Reads until the end of the command. The callback may wait meanwhile: that is
-- the back-pressure.
local function read_all(self)
    local stream <close> = self._stream
    local message = next_message(self)
    while message do
        local event = message.event or {}
        if event.data then
            take_data(self, event.data)
        elseif event["end"] then
            self.error = event["end"].error
            self.exit_code = math.tointeger(event["end"].exitCode or 0) or -1
            -- Only the end of the stream is left; losing it loses nothing.
            pcall(stream.next, stream)
            return
        end
        message = next_message(self)
    end
    Error.raise("protocol", "the command's stream ended without its exit status",
        { op = "commands.run" })
end

-- The task behind a handle. What ends the reading is kept for whoever waits.
local function follow(self)
    local _ <close> = setmetatable({}, {
        __close = function(_, err)
            self._failure = err
            self._over = true
            self._changed:broadcast()
        end,
    })
    read_all(self)
end

local function last_line(text)
    local line = text:gsub("%s+$", ""):match("[^\r\n]*$")
    line = wire.utf8(line:sub(-300)):gsub("%c", " ")
    return line
end

-- The result, or kind command_exit with it.
local function result_of(self, op)
    local result = {
        stdout = self.stdout,
        stderr = self.stderr,
        exit_code = self.exit_code,
        error = self.error,
    }
    if result.exit_code == 0 then
        return result
    end
    local what = result.exit_code < 0 and ("was ended by a signal (%s)"):format(
        result.error or "unknown") or "exited with code " .. result.exit_code
    local more = (result.error or ""):match("^exit status %d+ (%(.+%))$")
    if more then -- why, as far as the daemon knows
        what = what .. " " .. more
    end
    local line = last_line(result.stderr)
    Error.raise("command_exit", "the command " .. what .. (line ~= "" and ": " .. line or ""),
        { op = op, result = result })
end

local function raise_failure(self)
    if self._callback_failure then
        local err = self._callback_failure
        self._callback_failure = nil
        error(err, 0)
    elseif self.exit_code then
        return
    elseif self._disconnected then
        Error.raise("cancelled", ("the handle of command %d was disconnected"):format(self.pid),
            { op = "wait", remedy = "sandbox.commands:connect(pid) follows the command again" })
    elseif Error.is(self._failure) then
        Error.raise(self._failure)
    elseif self._failure ~= nil then
        error(self._failure, 0)
    end
end

-- Waits for more output, the end or a failure.
local function wait_for_news(self)
    self._waiting = self._waiting + 1
    local _ <close> = setmetatable({}, {
        __close = function()
            self._waiting = self._waiting - 1
        end,
    })
    self._changed:wait()
end

local WAIT = { on_stdout = "callable", on_stderr = "callable", on_pty = "callable" }

-- Callbacks given late hear what has come before, too.
local function replay(self, opts)
    for option, name in pairs({ on_stdout = "stdout", on_stderr = "stderr", on_pty = "pty" }) do
        local callback = opts[option]
        if callback then
            local said = joined(self, name)
            self._callbacks[name] = callback
            if said ~= "" then
                callback(said)
            end
        end
    end
end

---Waits for the end of the command.
---@param opts? {on_stdout?: fun(bytes: string), on_stderr?: fun(bytes: string), on_pty?:
--- fun(bytes: string)}
---@return e2b.CommandResult result; kind command_exit with `result` when the exit code is not 0
function Handle:wait(opts)
    check_handle("wait", self)
    replay(self, options.check("wait", opts, WAIT))
    while not self._over and not self._callback_failure do
        wait_for_news(self)
    end
    raise_failure(self)
    return result_of(self, "commands.run")
end

---Iterates over the output, from its beginning to the end of the command:
---`for stream, bytes in handle:output() do`, stream being "stdout", "stderr" or "pty".
---@return fun(): string, string
function Handle:output()
    check_handle("output", self)
    local seen, at = 0, { stdout = 0, stderr = 0, pty = 0 }
    return function()
        while seen == #self._order do
            if self._over or self._callback_failure then
                raise_failure(self)
                return nil
            end
            wait_for_news(self)
        end
        seen = seen + 1
        local name = self._order[seen]
        at[name] = at[name] + 1
        return name, self._pieces[name][at[name]]
    end
end

---Stops following the command, which runs on.
function Handle:disconnect()
    check_handle("disconnect", self)
    if not self._over then
        -- A reader that has not begun yet will not: its end is said here.
        self._disconnected, self._over = true, true
        self._reader:cancel()
        self._stream:close()
        self._changed:broadcast()
    end
end

---Kills the command (SIGKILL, only that process).
---@param opts? {request_timeout?: number}
---@return boolean killed false: it was not running any more
function Handle:kill(opts)
    check_handle("kill", self)
    return self._commands:kill(self.pid, opts)
end

---Writes to its standard input; it must have been started with stdin = true.
---@param data string
---@param opts? {request_timeout?: number}
function Handle:send_stdin(data, opts)
    check_handle("send_stdin", self)
    self._commands:send_stdin(self.pid, data, opts)
end

---Closes its standard input.
---@param opts? {request_timeout?: number}
function Handle:close_stdin(opts)
    check_handle("close_stdin", self)
    if not self._commands.close_stdin then
        Error.raise("unsupported", "close_stdin: the input of a terminal cannot be closed",
            { op = "close_stdin", remedy = 'send_stdin("\4") is Ctrl-D' })
    end
    self._commands:close_stdin(self.pid, opts)
end

-- ---- commands ----------------------------------------------------------------

---@class e2b.Commands
local Commands = {}
Commands.__index = Commands

local M = {}

---@param connection e2b.Connection
---@return e2b.Commands
function M.new(connection)
    return setmetatable({ _connection = connection }, Commands)
end

local RUN = options.spec(options.REQUEST, {
    background = "boolean",
    envs = "map",
    user = "text",
    cwd = "text",
    on_stdout = "callable",
    on_stderr = "callable",
    stdin = "boolean",
    timeout = "seconds",
})
local CONNECT = options.spec(options.REQUEST, {
    timeout = "seconds",
    on_stdout = "callable",
    on_stderr = "callable",
})
local USER = options.spec(options.REQUEST)
local PID = { { "pid", "count" } }

---Opens a stream and reads its first event, which must be the start.
---@param self table with methods kill and send_stdin, for the handle
---@param call e2b.rpc.Call
---@param callbacks {stdout?: function, stderr?: function, pty?: function}
---@return e2b.CommandHandle handle that nobody reads yet
local function start(self, call, callbacks)
    local stream = rpc.stream(self._connection, call)
    local guard <close> = rpc.guard(stream)
    local message = stream:next()
    local pid = message and message.event and message.event.start and message.event.start.pid
    if math.type(pid) ~= "integer" then
        Error.raise("protocol", call.op .. ": the stream does not begin with a start event",
            { op = call.op })
    end
    guard.keep = true
    return new_handle(self, stream, pid, callbacks)
end

---A task of its own reads the handle's stream from now on.
---@param handle e2b.CommandHandle
---@return e2b.CommandHandle
local function in_background(handle)
    handle._reader = task.spawn_quiet(follow, handle)
    return handle
end

---Output is told to the callbacks and not kept, for what may be endless.
---@param handle e2b.CommandHandle
function M.keep_nothing(handle)
    handle._forgets = true
end

M.start = start
M.in_background = in_background

---Runs a command with `bash -l -c`. In the foreground it waits for the end; with
---background = true it returns a handle as soon as the command has started. The
---output is bytes. A callback may wait, which holds the output up; its error
---ends the wait, not the command.
---@param cmd string
---@param opts? table
--- background boolean, default false; cwd string; envs table<string, string>; user string;
--- on_stdout, on_stderr fun(bytes: string); stdin boolean: keep standard input open for send_stdin;
--- timeout number seconds, default 60, 0: none (the command is killed, kind timeout, deadline
--- "command"); request_timeout number seconds until it has started
---@return e2b.CommandResult|e2b.CommandHandle
--- Raises command_exit (with `result`; foreground only), timeout, sandbox_not_running,
--- invalid_argument (a cwd that does not exist), authentication (unknown user).
function Commands:run(cmd, opts, ...)
    local op = "commands.run"
    options.object(op, self, Commands)
    local o = options.arguments(op, { { "cmd", "text" } }, RUN, cmd, opts, ...)
    local conn = self._connection
    local stdin = o.stdin or false
    if not rpc.at_least(conn.envd_version, "0.3.0") then
        if o.stdin == false then
            Error.raise("unsupported", op .. ": this sandbox's daemon is too old for stdin = false",
                { op = op, remedy = "build its template anew" })
        end
        stdin = nil
    end
    local timeout = o.timeout or DEFAULT_TIMEOUT
    local envs = o.envs or {}
    local handle = start(self, {
        op = op,
        method = "process.Process/Start",
        message = {
            process = { cmd = "/bin/bash", args = { "-l", "-c", o.cmd }, envs = envs, cwd = o.cwd },
            stdin = stdin,
        },
        user = o.user,
        request_timeout = o.request_timeout,
        timeout = timeout,
        expired = "the command took longer than %g s and was killed",
    }, { stdout = o.on_stdout, stderr = o.on_stderr })
    if o.background then
        return in_background(handle)
    end
    read_all(handle)
    return result_of(handle, op)
end

---Follows a command that runs already; output from before is not repeated.
---@param pid integer
---@param opts? table timeout number seconds, default 60, 0: none (only the following ends);
--- on_stdout, on_stderr fun(bytes: string); request_timeout number
---@return e2b.CommandHandle handle; kind not_found when there is no such command
function Commands:connect(pid, opts, ...)
    local op = "commands.connect"
    options.object(op, self, Commands)
    local o = options.arguments(op, PID, CONNECT, pid, opts, ...)
    return in_background(start(self, {
        op = op,
        method = "process.Process/Connect",
        message = { process = { pid = o.pid } },
        request_timeout = o.request_timeout,
        timeout = o.timeout or DEFAULT_TIMEOUT,
        expired = "the command ran on after the %g s for following it",
    }, { stdout = o.on_stdout, stderr = o.on_stderr }))
end

---@class e2b.ProcessInfo
---@field pid integer
---@field tag? string
---@field cmd string
---@field args string[]
---@field envs table<string, string>
---@field cwd? string

---The commands that run.
---@param opts? {request_timeout?: number}
---@return e2b.ProcessInfo[]
function Commands:list(opts, ...)
    local op = "commands.list"
    options.object(op, self, Commands)
    local o = options.arguments(op, {}, USER, opts, ...)
    local answer = rpc.unary(self._connection, {
        op = op,
        method = "process.Process/List",
        message = {},
        request_timeout = o.request_timeout,
    })
    local list = {}
    for i, process in ipairs(answer.processes or {}) do
        local config = process.config or {}
        list[i] = {
            pid = process.pid,
            tag = process.tag,
            cmd = config.cmd or "",
            args = config.args or {},
            envs = config.envs or {},
            cwd = config.cwd,
        }
    end
    return list
end

---Kills a command (SIGKILL, only that process).
---@param pid integer
---@param opts? {request_timeout?: number}
---@return boolean killed false: there is no such command
function Commands:kill(pid, opts, ...)
    local op = "commands.kill"
    options.object(op, self, Commands)
    local o = options.arguments(op, PID, USER, pid, opts, ...)
    local ok, err = pcall(rpc.unary, self._connection, {
        op = op,
        method = "process.Process/SendSignal",
        message = { process = { pid = o.pid }, signal = "SIGNAL_SIGKILL" },
        request_timeout = o.request_timeout,
    })
    if ok then
        return true
    elseif Error.is(err, "not_found") then
        return false
    end
    Error.raise(err)
    return false
end

---Writes to the standard input of a command started with stdin = true.
---@param pid integer
---@param data string
---@param opts? {request_timeout?: number}
--- Raises not_found, and sandbox when standard input is not open.
function Commands:send_stdin(pid, data, opts, ...)
    local op = "commands.send_stdin"
    options.object(op, self, Commands)
    local o = options.arguments(op, { PID[1], { "data", "string" } }, USER, pid, data, opts, ...)
    rpc.unary(self._connection, {
        op = op,
        method = "process.Process/SendInput",
        message = { process = { pid = o.pid }, input = { stdin = wire.base64(o.data) } },
        request_timeout = o.request_timeout,
    })
end

---Closes the standard input of a command.
---@param pid integer
---@param opts? {request_timeout?: number}
function Commands:close_stdin(pid, opts, ...)
    local op = "commands.close_stdin"
    options.object(op, self, Commands)
    local o = options.arguments(op, PID, USER, pid, opts, ...)
    if not rpc.at_least(self._connection.envd_version, "0.5.2") then
        Error.raise("unsupported", op .. ": this sandbox's daemon is too old for it",
            { op = op, remedy = "build its template anew" })
    end
    rpc.unary(self._connection, {
        op = op,
        method = "process.Process/CloseStdin",
        message = { process = { pid = o.pid } },
        request_timeout = o.request_timeout,
    })
end

return M
