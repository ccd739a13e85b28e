-- SandboxManager: one sandbox that is made until it is ready, watched while it
-- lives, and closed to the network unless hosts are named.
local task = require "e2b_task"
local wire = require "e2b_wire"
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local network = require "e2b.network"
local options = require "e2b.options"

local RETRIES <const> = 3
local INTERVAL <const> = 5
local READY <const> = 30 -- seconds until a new sandbox must answer
local MAX_PAUSE <const> = 10
local MAX_RETRY_AFTER <const> = 60
-- Above this part of a limit there is a warning; a new one after it was below.
local NEAR <const> = 0.9

---Has the methods and parts of its sandbox too: manager.files, manager.commands,
---manager:get_url(port), ...
---@class e2b.SandboxManager
---@field sandbox e2b.Sandbox|nil what start() made; nil before it and after close()
local Manager = {}

-- Kinds of errors that a further attempt can mend.
local PASSING = {
    rate_limit = true,
    service_busy = true,
    network = true,
    sandbox_not_running = true,
    sandbox_unreachable = true,
    guest_unresponsive = true,
}

-- What a server says of a key whose first request has not ended, or not well.
local UNDECIDED = { idempotency_in_progress = true, idempotency_outcome_unknown = true }

-- Whether a create that failed may succeed when it is tried again.
local function passes(err)
    if not Error.is(err) then
        return false
    elseif err.kind == "timeout" then
        return err.deadline == "request" or err.deadline == "idle"
    elseif err.kind == "sandbox" then
        return err.status ~= nil and err.status >= 500 or UNDECIDED[err.code] or false
    end
    return PASSING[err.kind] or false
end

-- ---- options -----------------------------------------------------------------

local CREATE = options.spec(options.API, {
    timeout = "seconds",
    metadata = "map",
    envs = "map",
    secure = "boolean",
    allow_internet_access = "boolean",
    network = "table",
    lifecycle = "table",
})
local SPEC = options.spec(CREATE, {
    allow_out = "table",
    on_metrics = "callable",
    on_warning = "callable",
    on_retry = "callable",
    metrics_interval = "seconds",
    ready_timeout = "seconds",
})

-- No way out unless hosts are named or the caller speaks of the network itself.
local function way_out(op, o)
    for i, host in ipairs(o.allow_out or {}) do
        options.value(op, ("host %d of allow_out"):format(i), host, "text")
    end
    if o.network or o.allow_internet_access ~= nil then
        if o.allow_out then
            Error.raise("invalid_argument", op .. ": allow_out cannot be given together with "
                .. (o.network and "network" or "allow_internet_access"), { op = op,
                remedy = "name the hosts in network = {allow_out = {...}} or in allow_out alone" })
        end
        return o.allow_internet_access, o.network
    elseif o.allow_out and #o.allow_out > 0 then
        return nil, { allow_out = o.allow_out, deny_out = { network.ALL_TRAFFIC } }
    end
    return false, nil
end

local function create_options(op, o)
    local given = {}
    for name in pairs(CREATE) do
        given[name] = o[name]
    end
    given.retries = 0 -- the manager's own say how often
    given.allow_internet_access, given.network = way_out(op, o)
    return given
end

-- ---- start -------------------------------------------------------------------

local function await_answer(sandbox, limit)
    local deadline, pause = task.now() + limit, 0.05
    while not sandbox:is_running { request_timeout = limit } do
        if task.now() + pause > deadline then
            Error.raise("sandbox_unreachable", ("the new sandbox %s did not answer within %g s")
                :format(sandbox.sandbox_id, limit), { op = "SandboxManager.start" })
        end
        task.sleep(pause)
        pause = math.min(pause * 2, 1)
    end
end

local function attempt(state)
    local sandbox = Sandbox.create(state.template, state.create)
    sandbox._config.retries = RETRIES -- of its further calls
    local ok, err = pcall(await_answer, sandbox, state.ready_timeout)
    if not ok then
        pcall(task.shield, sandbox.kill, sandbox)
        error(err, 0)
    end
    return sandbox
end

-- The server may have carried out an attempt whose answer did not come: the same
-- key makes it give that sandbox instead of a second one.
local function set_key(state, err)
    local open = err and (err.kind == "timeout" or err.kind == "network" or
        err.code == "idempotency_in_progress")
    if not open then
        state.create.idempotency_key = wire.random(16)
    end
end

local function until_ready(state)
    local failure
    for n = 0, state.retries do
        set_key(state, failure)
        local ok, result = pcall(attempt, state)
        if ok then
            return result
        elseif not passes(result) then
            error(result, 0)
        end
        failure = result
        if n < state.retries then
            local pause = math.min(MAX_PAUSE, 0.5 * 2 ^ n) * (0.5 + math.random() / 2)
            pause = math.max(pause, math.min(result.retry_after or 0, MAX_RETRY_AFTER))
            if state.on_retry then
                state.on_retry(result, n + 1, pause)
            end
            task.sleep(pause)
        end
    end
    if state.retries > 0 then
        failure.message = ("%s (tried %d times)"):format(failure.message, state.retries + 1)
    end
    error(failure, 0)
end

-- ---- watching ----------------------------------------------------------------

local function mib(n)
    return ("%d MiB"):format(n // (1 << 20))
end

-- The warnings of a measurement: those that were not due at the one before.
local function warnings(state, sandbox, m)
    local list = {}
    for what, pair in pairs { memory = { m.mem_used, m.mem_total },
        disk = { m.disk_used, m.disk_total } } do
        local used, total = pair[1] or 0, pair[2] or 0
        local near = total > 0 and used >= NEAR * total
        if near and not state.warned[what] then
            list[#list + 1] = {
                resource = what,
                used = used,
                total = total,
                message = ("sandbox %s: %d %% of its %s is used (%s of %s)"):format(
                    sandbox.sandbox_id, 100 * used // total, what, mib(used), mib(total)),
            }
        end
        state.warned[what] = near
    end
    return list
end

local function look(state, sandbox)
    local ok, all = pcall(sandbox.get_metrics, sandbox, { start = state.seen })
    if not ok then
        -- A sandbox that is gone, or a server that does not answer: whoever uses
        -- the sandbox meets it. A cancellation is not for us.
        if Error.is(all, "cancelled") or Error.is(all, "interrupted") then
            error(all, 0)
        end
        return not Error.is(all, "sandbox_not_found")
    end
    for _, m in ipairs(all) do
        if m.timestamp ~= state.last then
            state.last = m.timestamp
            state.seen = m.timestamp + 1
            if state.on_metrics then
                state.on_metrics(m)
            end
            for _, warning in ipairs(warnings(state, sandbox, m)) do
                state.on_warning(warning)
            end
        end
    end
    return true
end

-- The sandbox is its own to hold: close() has given up the state's before this ends.
local function watch(state, sandbox)
    repeat
        task.sleep(state.metrics_interval)
    until not look(state, sandbox)
end

local function to_stderr(warning)
    io.stderr:write("e2blua: warning: ", warning.message, "\n")
end

-- ---- the object --------------------------------------------------------------

local STATE = setmetatable({}, { __mode = "k" })

local function state_of(op, self)
    local state = STATE[self]
    if not state then
        Error.raise("invalid_argument", ("SandboxManager.%s was called without its object; use "
            .. "':', as in manager:%s()"):format(op, op), { op = "SandboxManager." .. op })
    end
    return state
end

---Makes the sandbox, unless there is one already. Tries again, with growing pauses and jitter,
---what can pass: a busy server, a rate limit, the network, a sandbox that died while it started.
---@return e2b.Sandbox
--- Raises as Sandbox.create.
function Manager.start(self)
    local state = state_of("start", self)
    if state.sandbox then
        return state.sandbox
    elseif state.starting then
        Error.raise("invalid_argument", "SandboxManager.start: another task is starting it",
            { op = "SandboxManager.start" })
    end
    state.starting = true
    local ok, sandbox = pcall(until_ready, state)
    state.starting = false
    if not ok then
        error(sandbox, 0)
    end
    state.sandbox, state.warned, state.seen, state.last = sandbox, {}, nil, nil
    if state.metrics_interval > 0 then
        state.watcher = task.spawn(watch, state, sandbox)
    end
    return sandbox
end

local function close(state)
    local sandbox, watcher = state.sandbox, state.watcher
    state.sandbox, state.watcher = nil, nil
    local failure
    if watcher then
        watcher:cancel()
        local ok, err = pcall(watcher.join, watcher, 10)
        failure = not ok and not Error.is(err, "cancelled") and err or nil
    end
    if sandbox then
        sandbox:close()
    end
    if failure then
        error(failure, 0)
    end
end

---Ends the sandbox, if there is one; twice is fine. An error of a callback is raised here.
function Manager.close(self)
    task.shield(close, state_of("close", self))
end

---Ends the sandbox, as close() does.
---@return boolean killed false: there was none
function Manager.kill(self)
    local had = state_of("kill", self).sandbox ~= nil
    Manager.close(self)
    return had
end

---Lets the sandbox live on without the manager, which can start another one.
---@return e2b.Sandbox|nil
function Manager.release(self)
    local state = state_of("release", self)
    local sandbox = state.sandbox
    state.sandbox = nil
    task.shield(close, state)
    return sandbox
end

local function on_close(self, err)
    if err == nil then
        task.shield(close, STATE[self])
    else
        pcall(task.shield, close, STATE[self])
    end
end

-- Functions of the class that make or find other sandboxes.
local OTHERS = { create = true, list = true }
local PARTS = { files = true, commands = true, pty = true, git = true, sandbox_id = true,
    template_id = true, sandbox_domain = true, envd_version = true, traffic_access_token = true }

local function sandbox_of(self, name)
    local sandbox = STATE[self].sandbox
    if not sandbox then
        Error.raise("invalid_argument", ("manager.%s: the manager has no sandbox"):format(name),
            { op = "SandboxManager", remedy = "call manager:start() first" })
    end
    return sandbox
end

local function index(self, name)
    if Manager[name] then
        return Manager[name]
    elseif name == "sandbox" then
        return STATE[self].sandbox
    elseif PARTS[name] then
        return sandbox_of(self, name)[name]
    elseif type(name) == "string" and not name:find("^_") and not OTHERS[name] and
        type(Sandbox[name]) == "function" then
        return function(object, ...)
            if object ~= self then
                Error.raise("invalid_argument", ("use ':', as in manager:%s(...)"):format(name),
                    { op = "SandboxManager." .. name })
            end
            return Sandbox[name](sandbox_of(self, name), ...)
        end
    end
    return nil
end

local OBJECT = {
    __name = "e2b.SandboxManager",
    __index = index,
    __close = on_close,
    __newindex = function(_, name)
        Error.raise("invalid_argument", ("SandboxManager: %s cannot be set"):format(tostring(name)))
    end,
    __tostring = function(self)
        local sandbox = STATE[self].sandbox
        return "manager of " .. (sandbox and tostring(sandbox) or "no sandbox")
    end,
}

---A manager of one sandbox. It does nothing before start().
---
---    local manager <close> = SandboxManager("base", { timeout = 600 })
---    manager:start()
---    print(manager.commands:run("ls").stdout)
---@param template? string default "base"
---@param opts? table
--- timeout, metadata, envs, lifecycle, secure and the API options as of Sandbox.create; retries
--- integer, further attempts, default 3; allow_out string[] hosts the sandbox may reach, default
--- none: unlike Sandbox.create the network is closed unless allow_out, network or
--- allow_internet_access says otherwise; on_metrics fun(m: e2b.SandboxMetrics); on_warning
--- fun(w: {resource, used, total, message}) when 90 % of the memory or disk is used, default a line
--- on standard error; on_retry fun(err, attempt, pause); metrics_interval number seconds between
--- looks, default 5, 0: none; ready_timeout number seconds until it must answer, default 30
---@return e2b.SandboxManager
local function new(template, opts, ...)
    local op = "SandboxManager"
    local o = options.arguments(op, { { "template", "text", true } }, SPEC, template, opts, ...)
    if o.retries and o.retries < 0 then
        Error.raise("invalid_argument", ("%s: retries must be 0 or more, not %d"):format(op,
            o.retries), { op = op })
    end
    local self = setmetatable({}, OBJECT)
    STATE[self] = {
        template = o.template,
        create = create_options(op, o),
        retries = o.retries or RETRIES,
        ready_timeout = o.ready_timeout or READY,
        metrics_interval = o.metrics_interval or INTERVAL,
        on_metrics = o.on_metrics,
        on_warning = o.on_warning or to_stderr,
        on_retry = o.on_retry,
        warned = {},
    }
    return self
end

return new
