--- A server in the test that answers as the E2B API and the daemon of its sandboxes do: statuses,
--- bodies, streams, and on demand every way to fail. Its files are a table, its commands are Lua
--- functions (fake.programs[command line]).
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local task = require "e2b_task"
local wire = require "e2b_wire"
local t = require "tests"

-- What a first request opens for good must not look like a leak of the first test.
require("e2b_httpc").active()

local M = {}

M.API_KEY = "e2b_0123456789abcdef"
M.DOMAIN = "fake.localhost"

---@class tests.Fake
---@field url string
---@field requests table[] {method, path, target, headers, body} as they came
---@field sandboxes table<string, table>
---@field files table<string, table> path -> {data=, metadata=} or {dir = true}
---@field programs table<string, fun(process: table)>
---@field override table<string, fun(req: any, entry: table): boolean?> "METHOD /path" -> instead
local Fake = {}
Fake.__index = Fake

local function reply_json(req, status, value, headers)
    headers = headers or {}
    headers["Content-Type"] = headers["Content-Type"] or "application/json"
    return req:reply(status, headers, value ~= nil and json.encode(value) or "")
end

local function reply_error(req, status, message, headers)
    return reply_json(req, status, { code = status, message = message }, headers)
end

M.reply_json, M.reply_error = reply_json, reply_error

-- ---- control plane -------------------------------------------------------------------------

local function detail(s)
    return {
        templateID = s.template,
        sandboxID = s.id,
        clientID = "client",
        alias = "base",
        startedAt = "2026-01-02T03:04:05.123456Z",
        endAt = "2026-01-02T04:04:05+01:00",
        cpuCount = 2,
        memoryMB = 512,
        diskSizeMB = 1024,
        state = "running",
        envdVersion = s.envd_version,
        metadata = s.metadata,
        domain = json.null,
        allowInternetAccess = json.null,
        lifecycle = { onTimeout = "kill", autoResume = false },
        network = { allowOut = json.array { "example.com" }, egressProxy = json.null },
    }
end

local function created(s)
    return {
        templateID = s.template,
        sandboxID = s.id,
        clientID = "client",
        envdVersion = s.envd_version,
        envdAccessToken = s.token,
        trafficAccessToken = json.null,
        domain = json.null,
    }
end

local function create(self, req, body)
    if body.templateID ~= "base" then
        return reply_error(req, 404, ("template '%s' not found"):format(body.templateID))
    end
    local s = {
        id = "i" .. wire.random(10),
        token = wire.random(32),
        template = "tmplbase",
        timeout = body.timeout,
        metadata = body.metadata,
        body = body,
        envd_version = self.envd_version,
        streams = {},
        processes = {},
    }
    self.sandboxes[s.id] = s
    self.order[#self.order + 1] = s.id
    return reply_json(req, 201, created(s))
end

local function list(self, req)
    local limit, from = tonumber(req:query("limit")) or 100, tonumber(req:query("nextToken")) or 0
    local all, page, headers = json.array(), json.array(), {}
    for _, id in ipairs(self.order) do
        if self.sandboxes[id] then
            all[#all + 1] = detail(self.sandboxes[id])
        end
    end
    table.move(all, from + 1, math.min(#all, from + limit), 1, page)
    if from + limit < #all then
        headers["X-Next-Token"] = tostring(from + limit)
    end
    return reply_json(req, 200, page, headers)
end

--- What the platform does when a sandbox ends: its connections are reset.
function Fake:end_sandbox(id)
    local s = self.sandboxes[id]
    if s then
        self.sandboxes[id] = nil
        for req in pairs(s.streams) do
            req:reset()
        end
        s.streams = {}
        for _, process in pairs(s.processes) do
            process.changed:broadcast()
        end
    end
    return s ~= nil
end

local function one_sandbox(self, req, id, action, body)
    local s = self.sandboxes[id]
    local method = req.method
    if not s then
        return reply_error(req, 404,
            ('Sandbox "%s" doesn\'t exist or you don\'t have access to it'):format(id))
    elseif action == "" and method == "GET" then
        return reply_json(req, 200, detail(s))
    elseif action == "" and method == "DELETE" then
        self:end_sandbox(id)
        return req:reply(204)
    elseif action == "/timeout" and method == "POST" then
        s.timeout = body.timeout
        return req:reply(204)
    elseif action == "/metrics" and method == "GET" then
        return reply_json(req, 200, json.array(s.metrics or {}))
    elseif action == "/connect" and method == "POST" then
        s.timeout = body.timeout
        return reply_json(req, 200, created(s))
    end
    return req:reply(404, { ["Content-Type"] = "text/plain" }, "404 page not found")
end

local function control(self, req, entry)
    if req.headers["x-api-key"] ~= M.API_KEY then
        return reply_error(req, 401, "Invalid API key, please visit the docs")
    end
    local body = entry.body ~= "" and json.decode(entry.body) or {}
    local key = req.method .. " " .. req.path
    if key == "POST /sandboxes" or key == "POST /v2/sandboxes" and not self.v1_only then
        return create(self, req, body)
    elseif key == "GET /v2/sandboxes" then
        return list(self, req)
    end
    local id, action = req.path:match("^/v2/sandboxes/([^/]+)(/connect)$")
    if self.v1_only then
        id = nil
    end
    if not id then
        id, action = req.path:match("^/sandboxes/([^/]+)(/?[^/]*)$")
    end
    if id then
        return one_sandbox(self, req, id, action, body)
    end
    return req:reply(404, { ["Content-Type"] = "text/plain" }, "404 page not found")
end

-- ---- files ---------------------------------------------------------------------------------

local function full(path)
    path = path:sub(1, 1) == "/" and path or "/home/user/" .. path
    return (path:gsub("/%.%f[/\0]", ""))
end

local function info(self, path)
    local f = self.files[path]
    if not f then
        return nil
    end
    return {
        name = path:match("[^/]*$"),
        type = f.type or (f.dir and "FILE_TYPE_DIRECTORY" or "FILE_TYPE_FILE"),
        path = path,
        size = tostring(f.data and #f.data or 0),
        mode = f.dir and 493 or 420,
        permissions = f.dir and "drwxr-xr-x" or "-rw-r--r--",
        owner = "user",
        group = "user",
        modifiedTime = "2026-01-02T03:04:05.5Z",
        isSymlink = f.link or nil,
        symlinkTarget = f.link,
        metadata = f.metadata,
    }
end

local filesystem = {}

function filesystem.Stat(self, m)
    local path = full(m.path)
    local entry = info(self, path)
    if not entry then
        return nil, "not_found", "file not found: lstat " .. path .. ": no such file or directory"
    end
    return { entry = entry }
end

function filesystem.ListDir(self, m)
    local path = full(m.path)
    local f, found = self.files[path], json.array()
    if not f then
        return nil, "not_found", "path not found: " .. path
    elseif not f.dir then
        return nil, "invalid_argument", "path is not a directory: " .. path
    end
    for name in pairs(self.files) do
        local rest = name:sub(1, #path + 1) == path .. "/" and name:sub(#path + 2)
        if rest and select(2, rest:gsub("/", "")) < m.depth then
            found[#found + 1] = info(self, name)
        end
    end
    table.sort(found, function(a, b)
        return a.path < b.path
    end)
    return { entries = found }
end

function filesystem.MakeDir(self, m)
    local path = full(m.path)
    local f = self.files[path]
    if f and f.dir then
        return nil, "already_exists", "directory already exists: " .. path
    elseif f then
        return nil, "invalid_argument", "path already exists but it is not a directory: " .. path
    end
    self.files[path] = { dir = true }
    return { entry = info(self, path) }
end

function filesystem.Move(self, m)
    local from, to = full(m.source), full(m.destination)
    if not self.files[from] then
        return nil, "not_found", "source file not found: " .. from
    end
    self.files[to], self.files[from] = self.files[from], nil
    return { entry = info(self, to) }
end

function filesystem.Remove(self, m)
    self.files[full(m.path)] = nil
    return {}
end

local function form_files(content_type, body)
    local boundary = content_type:match('boundary="?([^";]+)')
    local files, at = {}, 1
    while true do
        local _, head_start = body:find("--" .. boundary .. "\r\n", at, true)
        if not head_start then
            return files
        end
        local head_end, data_start = body:find("\r\n\r\n", head_start, true)
        local data_end = body:find("\r\n--" .. boundary, data_start, true)
        local name = body:sub(head_start, head_end):match('filename="([^"]*)"')
        files[#files + 1] = { path = name, data = body:sub(data_start + 1, data_end - 1) }
        at = data_end + 2
    end
end

local function metadata_of(headers)
    local metadata
    for name, value in pairs(headers) do
        local key = name:match("^x%-metadata%-(.+)$")
        if key then
            metadata = metadata or {}
            metadata[key] = value
        end
    end
    return metadata
end

local function post_files(self, req, entry)
    local content_type, path = req.headers["content-type"] or "", req:query("path")
    local files
    if content_type == "application/octet-stream" then
        files = { { path = path, data = entry.body } }
    elseif content_type:match("^multipart/form%-data") then
        files = form_files(content_type, entry.body)
        files[1].path = path or files[1].path
    else
        return reply_error(req, 400, "unsupported content type: " .. content_type)
    end
    local infos = json.array()
    for i, file in ipairs(files) do
        local name = full(file.path)
        if self.files[name] and self.files[name].dir then
            return reply_error(req, 400, "path is a directory: " .. name)
        elseif file.data == "too large" then
            return reply_error(req, 507, "not enough disk space available")
        end
        self.files[name] = { data = file.data, metadata = metadata_of(req.headers) }
        infos[i] = {
            path = name,
            name = name:match("[^/]*$"),
            type = "file",
            metadata = self.files[name].metadata,
        }
    end
    return reply_json(req, 200, infos)
end

local function get_files(self, req)
    local path = full(req:query("path") or "")
    local f = self.files[path]
    if not f then
        return reply_error(req, 404, ("path '%s' does not exist"):format(path))
    elseif f.dir then
        return reply_error(req, 400, ("path '%s' is a directory"):format(path))
    end
    return req:reply(200, { ["Content-Type"] = "application/octet-stream" }, f.data)
end

-- ---- processes -----------------------------------------------------------------------------

local Process = {}
Process.__index = Process

function Process:emit(event)
    self.events[#self.events + 1] = event
    self.changed:broadcast()
end

function Process:stdout(bytes)
    self:emit({ data = { stdout = wire.base64(bytes) } })
end

function Process:stderr(bytes)
    self:emit({ data = { stderr = wire.base64(bytes) } })
end

function Process:terminal(bytes)
    self:emit({ data = { pty = wire.base64(bytes) } })
end

function Process:exit(code)
    self.over = true
    local status = code == 0 and "exit status 0" or "exit status " .. code
    local exited = { exited = true, status = status }
    if code == -1 then
        exited = { exited = false, status = "signal: killed", exitCode = -1,
            error = "signal: killed" }
    elseif code ~= 0 then
        exited.exitCode, exited.error = code, status
    end
    self:emit({ ["end"] = exited })
end

--- Waits for input: bytes, or nil after it was closed.
function Process:read()
    while #self.input == 0 and not self.input_closed do
        self.changed:wait()
    end
    return table.remove(self.input, 1)
end

local function end_stream(req, code, message)
    local trailer = code and { error = { code = code, message = message } } or {}
    req:write(wire.connect(2, json.encode(trailer)))
    req:finish()
end

-- Sends the process's events from `seen` on until its end, the deadline or the end of the
-- connection.
local function follow(s, req, process, seen)
    local ms = tonumber(req.headers["connect-timeout-ms"])
    local ends = ms and task.now() + ms / 1000
    s.streams[req] = true
    req:begin(200, { ["Content-Type"] = "application/connect+json" })
    req:write(wire.connect(0, json.encode { event = { start = { pid = process.pid } } }))
    while true do
        while seen < #process.events do
            seen = seen + 1
            local event = process.events[seen]
            if not req:write(wire.connect(0, json.encode { event = event })) then
                return
            elseif event["end"] then
                s.streams[req] = nil
                return end_stream(req)
            end
        end
        local left = ends and ends - task.now()
        if left and left <= 0 then
            s.streams[req] = nil
            return end_stream(req, "deadline_exceeded", "context deadline exceeded")
        end
        process.changed:wait(left)
        if not s.streams[req] then
            return
        end
    end
end

local function start(self, s, req, m)
    local config = m.process
    local program = self.programs[m.pty and "terminal" or config.args[3]]
    if config.cwd == "/nope" then
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        return end_stream(req, "invalid_argument", "cwd '/nope' does not exist")
    end
    s.last_pid = (s.last_pid or 1000) + 1
    local process = setmetatable({
        pid = s.last_pid,
        config = config,
        message = m,
        events = {},
        input = {},
        stdin = m.stdin ~= false,
        changed = task.cond(),
    }, Process)
    s.processes[process.pid] = process
    self.last_process = process
    local body = task.spawn_quiet(function()
        if program then
            program(process)
        else
            process:stderr("bash: line 1: " .. tostring(config.args[3]) .. ": command not found\n")
            process:exit(127)
        end
    end)
    self.tasks[#self.tasks + 1] = body
    return follow(s, req, process, 0)
end

local process_calls = {}

function process_calls.List(s)
    local all = json.array()
    for pid, p in pairs(s.processes) do
        if not p.over then
            all[#all + 1] = { config = p.config, pid = pid }
        end
    end
    return { processes = all }
end

local function selected(s, m)
    local p = s.processes[m.process.pid]
    if not p or p.over then
        return nil, "not_found", ("process with pid %d not found"):format(m.process.pid)
    end
    return p
end

function process_calls.SendSignal(s, m)
    local p, code, message = selected(s, m)
    if not p then
        return nil, code, message
    end
    p:exit(-1)
    return {}
end

function process_calls.SendInput(s, m)
    local p, code, message = selected(s, m)
    if not p then
        return nil, code, message
    elseif not p.stdin or p.input_closed then
        return nil, "internal", "error writing to stdin: stdin not enabled or closed"
    end
    local terminal = p.message.pty ~= nil
    if terminal ~= (m.input.pty ~= nil) then
        return nil, "internal", "error writing input: the process has a tty: " .. tostring(terminal)
    end
    p.input[#p.input + 1] = wire.unbase64(m.input.stdin or m.input.pty)
    p.changed:broadcast()
    return {}
end

function process_calls.Update(s, m)
    local p, code, message = selected(s, m)
    if not p then
        return nil, code, message
    end
    p.size = m.pty.size
    p.changed:broadcast()
    return {}
end

function process_calls.CloseStdin(s, m)
    local p, code, message = selected(s, m)
    if not p then
        return nil, code, message
    end
    p.input_closed = true
    p.changed:broadcast()
    return {}
end

-- ---- the daemon ----------------------------------------------------------------------------

local STATUS = {
    not_found = 404,
    invalid_argument = 400,
    already_exists = 409,
    internal = 500,
    unauthenticated = 401,
}

local function reply_code(req, code, message)
    return reply_json(req, STATUS[code], { code = code, message = message })
end

local function rpc(self, s, req, entry)
    local service, method = req.path:match("^/(%w+%.%w+)/(%w+)$")
    local user = (req.headers.authorization or ""):match("^Basic (.*)$")
    if user and wire.unbase64(user) ~= "user:" and wire.unbase64(user) ~= "root:" then
        return reply_code(req, "unauthenticated", "invalid username: 'x'")
    end
    if service == "process.Process" and (method == "Start" or method == "Connect") then
        local _, payload = wire.connect_reader():feed(entry.body):next()
        local m = json.decode(payload)
        if method == "Start" then
            return start(self, s, req, m)
        end
        local p, code, message = selected(s, m)
        if p then
            return follow(s, req, p, #p.events)
        end
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        return end_stream(req, code, message)
    end
    local m = json.decode(entry.body)
    local answer, code, message
    if service == "process.Process" and process_calls[method] then
        answer, code, message = process_calls[method](s, m)
    elseif service == "filesystem.Filesystem" and filesystem[method] then
        answer, code, message = filesystem[method](self, m)
    else
        return req:reply(404, nil, "404 page not found")
    end
    if not answer then
        return reply_code(req, code, message)
    end
    return reply_json(req, 200, answer)
end

local function daemon(self, req, entry)
    local id = req.headers["e2b-sandbox-id"]
    local s = self.sandboxes[id]
    if not s then
        return reply_json(req, 502,
            { sandboxId = id, message = "The sandbox was not found", code = 502 })
    elseif req.path == "/health" then
        return req:reply(204)
    elseif req.headers["x-access-token"] ~= s.token then
        return reply_error(req, 401, "unauthorized access, please provide a valid access token" ..
            " or method signing if supported")
    elseif req.path == "/files" then
        if req.method == "GET" then
            return get_files(self, req)
        end
        return post_files(self, req, entry)
    end
    return rpc(self, s, req, entry)
end

-- ---- the server ----------------------------------------------------------------------------

local function handle(self, req)
    local entry = {
        method = req.method,
        path = req.path,
        target = req.target,
        headers = req.headers,
    }
    self.requests[#self.requests + 1] = entry
    local override = self.override[req.method .. " " .. req.path]
    if override and override(req, entry) ~= false then
        return
    end
    entry.body = req:body(256 << 20)
    if not entry.body then
        return
    elseif req.headers["e2b-sandbox-id"] then
        daemon(self, req, entry)
    else
        control(self, req, entry)
    end
end

--- A measurement as the API gives it.
---@param at integer seconds since 1970
---@param mem integer percent of the memory that is used
---@param disk integer percent
function M.metric(at, mem, disk)
    return {
        timestamp = os.date("!%Y-%m-%dT%H:%M:%SZ", at),
        timestampUnix = at,
        cpuCount = 2,
        cpuUsedPct = 12.5,
        memUsed = mem << 20,
        memTotal = 100 << 20,
        memCache = 0,
        diskUsed = disk << 20,
        diskTotal = 100 << 20,
    }
end

--- The last request of that method and path.
function Fake:last(method, path)
    for i = #self.requests, 1, -1 do
        local r = self.requests[i]
        if r.method == method and r.path == path then
            return r
        end
    end
end

--- How many requests of that method and path have come.
function Fake:count(method, path)
    local n = 0
    for _, r in ipairs(self.requests) do
        if r.method == method and r.path == path then
            n = n + 1
        end
    end
    return n
end

--- The options of an SDK call that reach this server.
function Fake:options(more)
    local o = {
        api_url = self.url,
        sandbox_url = self.url,
        api_key = M.API_KEY,
        domain = M.DOMAIN,
    }
    for name, value in pairs(more or {}) do
        o[name] = value
    end
    return o
end

--- A sandbox of this server.
---@return e2b.Sandbox
function Fake:sandbox(more)
    return require("e2b.sandbox").create("base", self:options(more))
end

--- Starts a server that ends with the test.
---@return tests.Fake
function M.start()
    local self = setmetatable({
        requests = {},
        sandboxes = {},
        order = {},
        override = {},
        files = { ["/home/user"] = { dir = true } },
        programs = {},
        tasks = {},
        envd_version = "0.6.13",
    }, Fake)
    self.server = assert(httpd.listen {
        host = "127.0.0.1",
        port = 0,
        handler = function(req)
            handle(self, req)
        end,
    })
    self.url = "http://127.0.0.1:" .. self.server.port
    t.cleanup(function()
        for id in pairs(self.sandboxes) do
            self:end_sandbox(id)
        end
        for _, running in ipairs(self.tasks) do
            running:cancel()
        end
        self.server:close()
    end)
    return self
end

return M
