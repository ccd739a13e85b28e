-- The engine as a client of envd, over a sandbox's unix socket. Source of the
-- protocol: envd reference, sections 4.4, 6 and 8.
local Error = require "e2b.error"
local httpc = require "e2b_httpc"
local json = require "e2b_json"
local task = require "e2b_task"
local wire = require "e2b_wire"

local M = {}

---@class engine.EnvdTarget
---@field socket string
---@field token? string

local function headers_of(target, user, extra)
    local headers = extra or {}
    headers["X-Access-Token"] = target.token
    if user then
        headers.Authorization = "Basic " .. wire.base64(user .. ":")
    end
    return headers
end

local function read_all(x)
    local parts = {}
    while true do
        local chunk, err = x:read()
        if err then
            error(err, 0)
        end
        if not chunk then
            return table.concat(parts)
        end
        parts[#parts + 1] = chunk
    end
end

local function refuse(status, body)
    local doc = json.decode(body)
    Error.raise("internal", ("envd answered %d: %s"):format(status,
        type(doc) == "table" and doc.message or body))
end

---One JSON call.
---@param target engine.EnvdTarget
---@param path string
---@param body table
---@param opts? {user: string|nil, timeout: number|nil}
---@return table answer
function M.post(target, path, body, opts)
    opts = opts or {}
    local x <close> = Error.check(httpc.open {
        method = "POST",
        url = "http://envd" .. path,
        unix = target.socket,
        headers = headers_of(target, opts.user, { ["Content-Type"] = "application/json" }),
        body = json.encode(body),
        timeout = opts.timeout or 10,
    })
    local status = Error.check(x:wait())
    local text = read_all(x)
    if status >= 300 then
        refuse(status, text)
    end
    return text ~= "" and json.decode(text) or {}
end

---One GET for JSON.
---@param target engine.EnvdTarget
---@param path string
---@param opts? {timeout: number|nil}
---@return table answer
function M.get(target, path, opts)
    local limit = opts and opts.timeout or 10
    local x <close> = Error.check(httpc.open {
        url = "http://envd" .. path,
        unix = target.socket,
        headers = headers_of(target),
        timeout = limit,
        idle_timeout = limit,
    })
    local status = Error.check(x:wait())
    local text = read_all(x)
    if status >= 300 then
        refuse(status, text)
    end
    return Error.check(json.decode(text))
end

---Sets what all processes of the sandbox get.
---@param target engine.EnvdTarget
---@param init {env: table<string,string>, user: string, workdir: string|nil}
function M.init(target, init)
    M.post(target, "/init", {
        accessToken = target.token,
        envVars = next(init.env) and init.env or nil,
        defaultUser = init.user,
        defaultWorkdir = init.workdir,
        timestamp = os.date("!%Y-%m-%dT%H:%M:%SZ"),
    })
end

---The time after which envd ends by itself when no engine has spoken.
---@param target engine.EnvdTarget
---@param seconds number from now
function M.deadline(target, seconds)
    M.post(target, "/_engine/deadline", { deadline_ms_from_now = math.floor(seconds * 1000) })
end

---@class engine.Process
---@field pid integer
---@field wait fun(): {exit_code: integer, error: string|nil}
---@field kill fun()

local function open_stream(target, spec)
    local request = json.encode {
        process = {
            cmd = "/bin/bash",
            args = json.array { "-l", "-c", spec.command },
            envs = spec.envs and next(spec.envs) and spec.envs or nil,
            cwd = spec.cwd,
        },
        stdin = false,
    }
    local headers = headers_of(target, spec.user, {
        ["Content-Type"] = "application/connect+json",
        ["Keepalive-Ping-Interval"] = "30",
    })
    if spec.timeout then
        headers["Connect-Timeout-Ms"] = ("%d"):format(math.ceil(spec.timeout * 1000))
    end
    return Error.check(httpc.open {
        method = "POST",
        url = "http://envd/process.Process/Start",
        unix = target.socket,
        headers = headers,
        body = wire.connect(0, request),
        timeout = 30,
        idle_timeout = 90,
    })
end

-- Iterates over the messages of a stream; raises what its end says.
local function messages(x)
    local reader = wire.connect_reader()
    return function()
        while true do
            local flags, payload = reader:next()
            if flags == nil and payload then
                error(payload, 0)
            end
            if flags then
                local doc = Error.check(json.decode(payload))
                if flags & 2 == 0 then
                    return doc
                end
                if doc.error then
                    local kind = doc.error.code == "deadline_exceeded" and "timeout" or "internal"
                    Error.raise(kind, doc.error.message or doc.error.code,
                        { code = doc.error.code,
                            deadline = kind == "timeout" and "command" or nil })
                end
                return nil
            end
            local chunk, err = x:read()
            if err then
                error(err, 0)
            end
            if not chunk then
                Error.raise("protocol", "envd ended a stream without an end message")
            end
            reader:feed(chunk)
        end
    end
end

local function take_data(data, on_output)
    for _, name in ipairs { "stdout", "stderr" } do
        if data[name] then
            on_output(name, wire.unbase64(data[name]))
        end
    end
end

---Runs a command in a login shell and waits for its end.
---@param target engine.EnvdTarget
---@param spec {command: string, user: string|nil, cwd: string|nil, envs: table|nil,
--- timeout: number|nil}
---@param on_output fun(stream: "stdout"|"stderr", bytes: string)
---@param on_start? fun(pid: integer)
---@return {exit_code: integer, error: string|nil}
function M.run(target, spec, on_output, on_start)
    local x <close> = open_stream(target, spec)
    local status = Error.check(x:wait())
    if status ~= 200 then
        refuse(status, read_all(x))
    end
    for message in messages(x) do
        local event = message.event or {}
        if event.start and on_start then
            on_start(event.start.pid)
        elseif event.data then
            take_data(event.data, on_output)
        elseif event["end"] then
            return { exit_code = event["end"].exitCode or 0, error = event["end"].error }
        end
    end
    Error.raise("protocol", "envd ended a command's stream without its result")
end

---Starts a command and reads its output in a task of its own.
---@param target engine.EnvdTarget
---@param spec table as for run
---@param on_output fun(stream: string, bytes: string)
---@param on_end fun(result: {exit_code: integer|nil, error: string|nil})
---@return table task
function M.start(target, spec, on_output, on_end)
    local started, failure = task.cond(), nil
    local pid
    local job = task.spawn_quiet(function()
        local ok, result = pcall(M.run, target, spec, on_output, function(n)
            pid = n
            started:broadcast()
        end)
        if not pid then
            failure = ok and "no start" or result
            started:broadcast()
        end
        on_end(ok and result or { error = tostring(result) })
    end)
    if not pid and not failure and not started:wait(30) then
        job:cancel()
        Error.raise("timeout", "envd did not start the command within 30 s",
            { deadline = "request" })
    end
    if failure then
        error(failure, 0)
    end
    return job
end

---Sends a local file into the sandbox as root.
---@param target engine.EnvdTarget
---@param path string in the sandbox
---@param file string on this machine
function M.put(target, path, file)
    local f <close> = Error.check(io.open(file, "rb"))
    local size = f:seek("end")
    f:seek("set")
    local x <close> = Error.check(httpc.open {
        method = "POST",
        url = "http://envd/files?username=root&path=" .. wire.escape(path),
        unix = target.socket,
        headers = headers_of(target, nil, { ["Content-Type"] = "application/octet-stream" }),
        upload = true,
        length = size,
        timeout = 600,
    })
    while true do
        local chunk = f:read(64 * 1024)
        if not chunk then
            break
        end
        Error.check(x:write(chunk))
    end
    Error.check(x:finish())
    local status = Error.check(x:wait())
    local text = read_all(x)
    if status >= 300 then
        refuse(status, text)
    end
end

return M
