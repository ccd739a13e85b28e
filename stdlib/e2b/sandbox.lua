-- Sandbox: creating, finding and ending sandboxes. Class functions take an id,
-- methods of an object are the same functions: Sandbox.kill(id), sbx:kill().
local task = require "e2b_task"
local wire = require "e2b_wire"
local Error = require "e2b.error"
local api = require "e2b.api"
local config_of = require "e2b.config"
local network = require "e2b.network"
local options = require "e2b.options"
local rpc = require "e2b.rpc"
local timestamp = require "e2b.timestamp"
local transport = require "e2b.transport"

local DEFAULT_TEMPLATE <const> = "base"
local MIN_ENVD <const> = "0.1.0"
local V1_TIMEOUT <const> = 300

---A sandbox. A <close> variable kills it when its block ends.
---@class e2b.Sandbox
---@field sandbox_id string
---@field template_id string
---@field sandbox_domain string
---@field envd_version string
---@field traffic_access_token? string
---@field files e2b.Files
---@field commands e2b.Commands
---@field pty e2b.Pty
local Sandbox = {}
Sandbox.__index = Sandbox
Sandbox.__name = "e2b.Sandbox"

local ID = { { "sandbox_id", "text" } }

-- API URLs of servers that know only the first form of create and connect.
local first_form = {}

-- ---- making objects ----------------------------------------------------------

local function object_of(config, answer, op)
    if type(answer) ~= "table" or type(answer.sandboxID) ~= "string" or
        not answer.sandboxID:match("^[%w-]+$") then
        Error.raise("protocol", op .. ": the answer has no sandbox id", { op = op })
    end
    local domain = type(answer.domain) == "string" and answer.domain or config.domain
    local token = type(answer.envdAccessToken) == "string" and answer.envdAccessToken or nil
    local traffic = answer.trafficAccessToken
    local connection = setmetatable({
        config = config,
        sandbox_id = answer.sandboxID,
        envd_version = answer.envdVersion or "0.0.0",
        access_token = token,
    }, {
        __index = function(_, name) -- an engine that comes after another may be elsewhere
            return name == "url" and config_of.envd_url(config, answer.sandboxID, domain) or nil
        end,
    })
    return setmetatable({
        sandbox_id = answer.sandboxID,
        template_id = answer.templateID,
        sandbox_domain = domain,
        envd_version = connection.envd_version,
        traffic_access_token = type(traffic) == "string" and traffic or nil,
        files = require("e2b.files").new(connection),
        commands = require("e2b.commands").new(connection),
        pty = require("e2b.pty").new(connection),
        _connection = connection,
        _config = config,
    }, Sandbox)
end

-- Whether an error says that the server does not know the route. Its handlers'
-- own 404 are JSON and name what was not found.
local function no_route(err, own)
    if not Error.is(err) or err.status ~= 404 and err.status ~= 405 then
        return false
    end
    return err.status == 405 or not (err.answered and err.message:lower():find(own))
end

-- Tries the newest form of a route, then the first one.
local function call_newest(config, own, newest, first)
    if not first_form[config.api_url] then
        local ok, answer, headers, status = pcall(api.call, config, newest)
        if ok then
            return answer, headers, status
        elseif not no_route(answer, own) then
            Error.raise(answer)
        end
    end
    local answer, headers, status = api.call(config, first())
    first_form[config.api_url] = true
    return answer, headers, status
end

-- The configuration for a call on this object or id, with the call's options
-- over those the object was made with.
local function target(op, self, params, spec, ...)
    options.dot(op, self, Sandbox)
    if getmetatable(self) == Sandbox then
        local own = options.spec(spec, options.REQUEST)
        local o = options.arguments(op, params, own, ...)
        local config = self._config
        if o.request_timeout then
            config = setmetatable({ request_timeout = o.request_timeout }, { __index = config })
        end
        return config, self.sandbox_id, o
    end
    if self == nil then
        local name = op:match("[^.]+$")
        Error.raise("invalid_argument", ("%s needs a sandbox id; for an object use ':', as in " ..
            "sandbox:%s(...)"):format(op, name), { op = op })
    end
    local all = table.move(params, 1, #params, 2, { ID[1] })
    local o = options.arguments(op, all, options.spec(spec, options.API), self, ...)
    if not o.sandbox_id:match("^[%w-]+$") then
        Error.raise("invalid_argument",
            ("%s: %q is no sandbox id; one has letters and digits only"):format(op, o.sandbox_id),
            { op = op })
    end
    return config_of.resolve(o), o.sandbox_id, o
end

local function not_found(req, id)
    req.not_found = "sandbox_not_found"
    req.not_found_text = ("Sandbox %s not found"):format(id)
    return req
end

-- ---- create and connect ------------------------------------------------------

local CREATE = options.spec(options.API, {
    timeout = "seconds",
    metadata = "map",
    envs = "map",
    secure = "boolean",
    allow_internet_access = "boolean",
    network = "table",
    lifecycle = "table",
    idempotency_key = "text",
})

local function whole_seconds(op, n)
    if n == nil then
        return nil
    end
    local whole = math.tointeger(math.ceil(n))
    if not whole then
        Error.raise("invalid_argument", ("%s: a timeout of %g seconds is too long"):format(op, n),
            { op = op })
    end
    return whole
end

local function create_body(op, o)
    local body = {
        templateID = o.template or DEFAULT_TEMPLATE,
        timeout = whole_seconds(op, o.timeout),
        metadata = o.metadata or {},
        envVars = o.envs or {},
        allow_internet_access = o.allow_internet_access,
        network = o.network and network.to_wire(op, o.network) or nil,
    }
    for name, value in pairs(network.lifecycle_to_wire(op, o.lifecycle)) do
        body[name] = value
    end
    return body
end

local function first_create(request)
    local body = {}
    for name, value in pairs(request.body) do
        body[name] = value
    end
    body.timeout = body.timeout or V1_TIMEOUT
    body.secure = true
    if body.allow_internet_access == nil then
        body.allow_internet_access = true
    end
    return {
        op = request.op,
        method = "POST",
        path = "/sandboxes",
        body = body,
        remedy = request.remedy,
        ok = request.ok,
    }
end

local function create(config, request)
    local answer = call_newest(config, "templat", request, function()
        return first_create(request)
    end)
    local sandbox = object_of(config, answer, request.op)
    if not rpc.at_least(sandbox.envd_version, MIN_ENVD) then
        sandbox:kill()
        Error.raise("template", "You need to update the template to use the new SDK.",
            { op = request.op, remedy = "build the template anew" })
    end
    return sandbox
end

---Creates a sandbox.
---@param template? string name, name:tag or id; default "base"
---@param opts? table
--- timeout number seconds it lives, default the server's (300); metadata, envs
--- table<string, string>; allow_internet_access boolean, default true; network table {allow_out,
--- deny_out, rules, ...}; lifecycle table {on_timeout = "kill"|"pause", auto_resume}; secure:
--- without effect, every sandbox is; idempotency_key string; api_key, api_url, sandbox_url, domain
--- string; backend "local"|"remote"; request_timeout number seconds, default 60, 0: none; retries
--- integer, default 3; proxy string; headers, api_headers table<string, string>
---@return e2b.Sandbox
--- Raises authentication, rate_limit, template, invalid_argument, sandbox (unknown template).
function Sandbox.create(template, opts, ...)
    local op = "Sandbox.create"
    options.dot(op, template, Sandbox)
    local o = options.arguments(op, { { "template", "text", true } }, CREATE, template, opts, ...)
    if o.idempotency_key and (#o.idempotency_key > 255 or
            not o.idempotency_key:match("^[a-z0-9-]+$")) then
        Error.raise("invalid_argument",
            op .. ": idempotency_key must be 1 to 255 of a-z, 0-9 and '-'", { op = op })
    end
    local request = {
        op = op,
        method = "POST",
        path = "/v2/sandboxes",
        body = create_body(op, o),
        headers = o.idempotency_key and { ["Idempotency-Key"] = o.idempotency_key } or nil,
        remedy = "build the template first, or leave it out for \"base\"",
        ok = { [201] = true },
    }
    -- A cancellation waits for the answer, and nothing stands between it and the
    -- caller's variable: the sandbox must reach its owner, or nobody could end it.
    return task.shield(create, config_of.resolve(o), request)
end

---Connects to a sandbox by its id, or extends the life of this one; a paused one
---is resumed.
---@param self string|e2b.Sandbox
---@param opts? table timeout number seconds from now on (never shortens), default the server's
--- (300); of the class function also the API options of create
---@return e2b.Sandbox
--- Raises sandbox_not_found.
function Sandbox.connect(self, opts, ...)
    local op = "Sandbox.connect"
    local config, id, o = target(op, self, {}, { timeout = "seconds" }, opts, ...)
    local timeout = whole_seconds(op, o.timeout)
    local function request(prefix, seconds)
        return not_found({
            op = op,
            method = "POST",
            path = prefix .. transport.path("/sandboxes/%s/connect", id),
            body = { timeout = seconds },
            ok = { [200] = true, [201] = true },
        }, id)
    end
    local answer = call_newest(config, "sandbox", request("/v2", timeout), function()
        return request("", timeout or V1_TIMEOUT)
    end)
    if getmetatable(self) == Sandbox then
        return self
    end
    return object_of(config, answer, op)
end

-- ---- what there is -----------------------------------------------------------

---@class e2b.SandboxInfo
---@field sandbox_id string
---@field template_id string
---@field name? string of the template
---@field metadata table<string, string>
---@field started_at integer seconds since 1970
---@field end_at integer seconds since 1970
---@field state "running"|"paused"
---@field cpu_count integer
---@field memory_mb integer
---@field envd_version string
---@field volume_mounts table[]
---@field sandbox_domain? string
---@field allow_internet_access? boolean
---@field network? table
---@field lifecycle? {on_timeout: string, auto_resume: boolean}
---@field notes string[] what the embedded engine has to say: limits that cannot be had, connections
--- refused by policy; empty elsewhere

local function plain(value)
    if type(value) == "userdata" then
        return nil
    end
    return value
end

local function info_of(s)
    local lifecycle = plain(s.lifecycle)
    return {
        sandbox_id = s.sandboxID,
        template_id = s.templateID,
        name = s.alias ~= "" and plain(s.alias) or nil,
        metadata = plain(s.metadata) or {},
        started_at = timestamp.parse(s.startedAt),
        end_at = timestamp.parse(s.endAt),
        state = s.state,
        cpu_count = s.cpuCount,
        memory_mb = s.memoryMB,
        envd_version = s.envdVersion,
        volume_mounts = plain(s.volumeMounts) or {},
        sandbox_domain = plain(s.domain),
        allow_internet_access = plain(s.allowInternetAccess),
        network = plain(s.network) and network.from_wire(s.network) or nil,
        lifecycle = lifecycle and {
            on_timeout = lifecycle.onTimeout,
            auto_resume = lifecycle.autoResume,
        } or nil,
        notes = plain(s.notes) or {},
    }
end

---What is known of a sandbox.
---@param self string|e2b.Sandbox
---@param opts? table request_timeout; of the class function also the API options of create
---@return e2b.SandboxInfo info; kind sandbox_not_found
function Sandbox.get_info(self, opts, ...)
    local op = "Sandbox.get_info"
    local config, id = target(op, self, {}, {}, opts, ...)
    return info_of(api.call(config, not_found({
        op = op,
        method = "GET",
        path = transport.path("/sandboxes/%s", id),
        ok = { [200] = true },
    }, id)))
end

---@class e2b.SandboxMetrics
---@field timestamp integer seconds since 1970
---@field cpu_count integer
---@field cpu_used_pct number percent of all its processors
---@field mem_used integer bytes
---@field mem_total integer bytes
---@field mem_cache integer bytes
---@field disk_used integer bytes
---@field disk_total integer bytes

local METRICS = { start = "seconds", end_ = "seconds" }
local MIN_METRICS <const> = "0.1.5"

local function metrics_of(m)
    return {
        timestamp = m.timestampUnix or timestamp.parse(m.timestamp),
        cpu_count = m.cpuCount,
        cpu_used_pct = m.cpuUsedPct,
        mem_used = m.memUsed,
        mem_total = m.memTotal,
        mem_cache = plain(m.memCache) or 0,
        disk_used = m.diskUsed,
        disk_total = m.diskTotal,
    }
end

---What a sandbox uses, measured about every 5 seconds; oldest first.
---@param self string|e2b.Sandbox
---@param opts? table start, end_ number seconds since 1970, default its start and now;
--- request_timeout; of the class function also the API options of create
---@return e2b.SandboxMetrics[] metrics may be empty in the first seconds
--- Raises sandbox_not_found, invalid_argument, template (its daemon is too old).
function Sandbox.get_metrics(self, opts, ...)
    local op = "Sandbox.get_metrics"
    local config, id, o = target(op, self, {}, METRICS, opts, ...)
    if o.start and o.end_ and o.start > o.end_ then
        Error.raise("invalid_argument",
            ("%s: start (%d) is after end_ (%d)"):format(op, o.start // 1, o.end_ // 1),
            { op = op })
    elseif getmetatable(self) == Sandbox and not rpc.at_least(self.envd_version, MIN_METRICS) then
        Error.raise("template", op .. ": this sandbox's daemon is too old for metrics",
            { op = op, remedy = "build its template anew" })
    end
    local list = api.call(config, not_found({
        op = op,
        method = "GET",
        path = transport.path("/sandboxes/%s/metrics", id),
        query = {
            { "start", o.start and ("%d"):format(o.start // 1) },
            { "end", o.end_ and ("%d"):format(math.ceil(o.end_)) },
        },
        ok = { [200] = true },
    }, id))
    local metrics = {}
    for i, m in ipairs(list or {}) do
        metrics[i] = metrics_of(m)
    end
    return metrics
end

-- The filter's own encoding, inside that of the query string.
local function metadata_filter(metadata)
    local names, parts = {}, {}
    for name in pairs(metadata) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        parts[i] = wire.escape(wire.escape(name)) .. "=" .. wire.escape(wire.escape(metadata[name]))
    end
    return #parts > 0 and table.concat(parts, "&") or nil
end

local QUERY = {
    metadata = "map",
    state = "table",
    started_after = "number",
    template = "text",
}
local LIST = options.spec(options.API, {
    query = "table",
    limit = "count",
    next_token = "text",
    order = { "asc", "desc" },
})

local function states_of(op, states)
    for i, state in ipairs(states) do
        options.value(op, ("state %d of the query"):format(i), state, { "running", "paused" })
    end
    return #states > 0 and table.concat(states, ",") or nil
end

---Lists sandboxes, page by page: `local pages = Sandbox.list(); while pages.has_next do for _, info
---in ipairs(pages:next_items()) do ... end end`.
---@param opts? table query {metadata, state = {"running", "paused"}, started_after = seconds since
--- 1970, template}; limit integer of a page; next_token string; order "asc"|"desc"; and the API
--- options of create
---@return e2b.Paginator pages of e2b.SandboxInfo; nothing is asked for before next_items
function Sandbox.list(opts, ...)
    local op = "Sandbox.list"
    options.dot(op, opts, Sandbox)
    local o = options.arguments(op, {}, LIST, opts, ...)
    local q = options.check(op .. " query", o.query, QUERY)
    local states = q.state and states_of(op, q.state)
    local after = q.started_after and timestamp.format(math.floor(q.started_after))
    local config = config_of.resolve(o)
    return api.paginator(function(next_token, page_opts)
        local p = options.check("next_items", page_opts, options.REQUEST)
        local cfg = config
        if p.request_timeout then
            cfg = setmetatable({ request_timeout = p.request_timeout }, { __index = config })
        end
        local list, headers = api.call(cfg, {
            op = op,
            method = "GET",
            path = "/v2/sandboxes",
            query = {
                { "metadata", q.metadata and metadata_filter(q.metadata) },
                { "state", states },
                { "startedAfter", after },
                { "template", q.template },
                { "order", o.order },
                { "limit", o.limit },
                { "nextToken", next_token },
            },
            ok = { [200] = true },
        })
        local infos = {}
        for i, s in ipairs(list) do
            infos[i] = info_of(s)
        end
        return infos, headers
    end, o.next_token)
end

-- ---- life --------------------------------------------------------------------

---Ends a sandbox.
---@param self string|e2b.Sandbox
---@param opts? table request_timeout; of the class function also the API options of create
---@return boolean killed false: there was none
function Sandbox.kill(self, opts, ...)
    local op = "Sandbox.kill"
    local config, id = target(op, self, {}, {}, opts, ...)
    local _, _, status = api.call(config, {
        op = op,
        method = "DELETE",
        path = transport.path("/sandboxes/%s", id),
        ok = { [204] = true, [200] = true, [404] = true },
    })
    if getmetatable(self) == Sandbox then
        self._killed = true
    end
    return status ~= 404
end

---Ends the sandbox, if that has not been done; twice is fine.
function Sandbox:close()
    options.object("Sandbox.close", self, Sandbox)
    if not self._killed then
        self:kill()
    end
end

-- Shielded: after a cancellation that a pcall caught and passed on, each further
-- wait would raise it again, and the sandbox would live on. The error that ends
-- a block is worth more than one of its clean-up.
function Sandbox.__close(self, err)
    if err == nil then
        task.shield(self.close, self)
    else
        pcall(task.shield, self.close, self)
    end
end

function Sandbox.__tostring(self)
    return "sandbox " .. self.sandbox_id
end

---Sets how long from now on a sandbox lives.
---@param self string|e2b.Sandbox
---@param timeout number seconds; 0 ends it now
---@param opts? table request_timeout; of the class function also the API options of create
--- Raises sandbox_not_found.
function Sandbox.set_timeout(self, timeout, opts, ...)
    local op = "Sandbox.set_timeout"
    local config, id, o = target(op, self, { { "timeout", "seconds" } }, {}, timeout, opts, ...)
    api.call(config, not_found({
        op = op,
        method = "POST",
        path = transport.path("/sandboxes/%s/timeout", id),
        body = { timeout = whole_seconds(op, o.timeout) },
        ok = { [204] = true, [200] = true },
    }, id))
end

---Replaces the outgoing network's rules, for new connections: what is left out is lifted.
---@param self string|e2b.Sandbox
---@param rules table allow_out, deny_out string[] (addresses, networks; allow_out also domains);
--- rules, egress_proxy, dns_servers table; allow_internet_access boolean
---@param opts? table request_timeout; of the class function also the API options of create
--- Raises sandbox_not_found, invalid_argument.
function Sandbox.update_network(self, rules, opts, ...)
    local op = "Sandbox.update_network"
    local config, id, o = target(op, self, { { "network", "table" } }, {}, rules, opts, ...)
    api.call(config, not_found({
        op = op,
        method = "PUT",
        path = transport.path("/sandboxes/%s/network", id),
        body = network.update_to_wire(op, o.network),
        ok = { [204] = true, [200] = true },
    }, id))
end

---Whether the sandbox runs.
---@param opts? {request_timeout?: number}
---@return boolean
function Sandbox:is_running(opts, ...)
    local op = "Sandbox.is_running"
    options.object(op, self, Sandbox)
    local o = options.arguments(op, {}, options.REQUEST, opts, ...)
    local conn = self._connection
    local limit = o.request_timeout or conn.config.request_timeout
    local status, err, body = transport.exchange(conn.config, {
        op = op,
        method = "GET",
        url = conn.url .. "/health",
        headers = rpc.headers_for(conn),
        timeout = limit,
        idle_timeout = limit,
    })
    if not status then
        -- Its end in this moment breaks the connection.
        err = rpc.after_failure(conn, op, err)
        if err.kind == "sandbox_not_running" or err.kind == "out_of_memory" then
            return false
        end
        Error.raise(err)
    elseif status == 502 then
        return false
    elseif status >= 200 and status < 300 then
        return true
    end
    Error.raise(rpc.http_failure(conn, op, status, body))
    return false
end

---Uploads a file of this machine into the working directory and runs it there.
---@param language "python"|"javascript"|"bash"|"lua"
---@param file string path on this machine
---@param opts? table args string[] for the script; background, cwd, envs, user, stdin, on_stdout,
--- on_stderr, timeout (default 60 s, 0: none), request_timeout as of commands:run
---@return e2b.CommandResult|e2b.CommandHandle
--- Raises as commands:run: command_exit (with `result`), timeout; file_not_found when there is no
--- such file here; unsupported when the sandbox has no program for the language.
function Sandbox:run_code(language, file, opts, ...)
    options.object("Sandbox.run_code", self, Sandbox)
    return require("e2b.run_code").run(self, language, file, opts, ...)
end

-- ---- addresses ---------------------------------------------------------------

local function check_port(op, port)
    if math.type(port) ~= "integer" or port < 1 or port > 65535 then
        Error.raise("invalid_argument",
            ("%s: a port is an integer from 1 to 65535, not %s"):format(op, tostring(port)),
            { op = op })
    end
end

---Host name (with the engine's port, at home) of a port of the sandbox.
---@param port integer
---@return string
function Sandbox:get_host(port)
    options.object("Sandbox.get_host", self, Sandbox)
    check_port("Sandbox.get_host", port)
    return ("%d-%s.%s"):format(port, self.sandbox_id, self.sandbox_domain)
end

---URL of a port of the sandbox, without a path: http at home, https in the
---cloud.
---@param port integer
---@return string
function Sandbox:get_url(port)
    options.object("Sandbox.get_url", self, Sandbox)
    check_port("Sandbox.get_url", port)
    return self._config.scheme .. "://" .. self:get_host(port)
end

-- The signature that stands for the access token in a URL.
local function signature(path, operation, user, token, expires)
    local text = ("%s:%s:%s:%s"):format(path, operation, user, token)
    if expires then
        text = text .. ":" .. expires
    end
    local hex = require("e2b_hash").sha256(text)
    local bytes = hex:gsub("%x%x", function(digits)
        return string.char(tonumber(digits, 16))
    end)
    return "v1_" .. wire.base64(bytes):gsub("=+$", "")
end

local URL = { user = "text", use_signature_expiration = "seconds" }

local function file_url(op, self, operation, path, o)
    local conn = self._connection
    local user = rpc.user_for(conn, op, o.user)
    local lifetime = o.use_signature_expiration
    if lifetime and not conn.access_token then
        Error.raise("invalid_argument",
            op .. ": use_signature_expiration needs a secured sandbox; this one has no token",
            { op = op })
    end
    local expires = lifetime and tostring(os.time() + math.ceil(lifetime)) or nil
    -- At home the host name says which sandbox; a common URL could not.
    local base = conn.config.backend == "remote" and conn.config.sandbox_url or
        self:get_url(config_of.ENVD_PORT)
    return base .. "/files" .. transport.query({
        { "path", path ~= "" and path or nil },
        { "username", user },
        { "signature", conn.access_token and
            signature(path, operation, user or "", conn.access_token, expires) },
        { "signature_expiration", expires },
    })
end

---URL from which anybody can download a file, by GET.
---@param path string
---@param opts? table user string; use_signature_expiration number seconds it is good for
---@return string
function Sandbox:download_url(path, opts, ...)
    local op = "Sandbox.download_url"
    options.object(op, self, Sandbox)
    local o = options.arguments(op, { { "path", "text" } }, URL, path, opts, ...)
    return file_url(op, self, "read", o.path, o)
end

---URL to which anybody can upload, by POST of a form or of raw bytes.
---@param path? string without one the form's file names say where to
---@param opts? table as of download_url
---@return string
function Sandbox:upload_url(path, opts, ...)
    local op = "Sandbox.upload_url"
    options.object(op, self, Sandbox)
    local o = options.arguments(op, { { "path", "text", true } }, URL, path, opts, ...)
    return file_url(op, self, "write", o.path or "", o)
end

return Sandbox
