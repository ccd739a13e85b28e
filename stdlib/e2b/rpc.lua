-- Client of the daemon in a sandbox: Connect calls (unary and server
-- streaming, JSON) and plain HTTP, with one way to tell a dead sandbox from a
-- broken connection.
local json = require "e2b_json"
local task = require "e2b_task"
local wire = require "e2b_wire"
local Error = require "e2b.error"
local config_of = require "e2b.config"
local transport = require "e2b.transport"

local M = {}

local PROBE_TIMEOUT <const> = 5
local KEEPALIVE <const> = 50
-- With a keep-alive every 50 s, silence for so long means a dead connection.
local SILENCE <const> = 120
-- What a server gets on top of a deadline that it enforces itself.
local GRACE <const> = 2
local END_OF_STREAM <const> = 2

---@class e2b.Connection
---@field config e2b.Config
---@field url string base URL of the daemon
---@field sandbox_id string
---@field envd_version string
---@field access_token? string

-- ---- errors ------------------------------------------------------------------

local CODE_KINDS = {
    canceled = "timeout",
    invalid_argument = "invalid_argument",
    deadline_exceeded = "timeout",
    not_found = "not_found",
    resource_exhausted = "rate_limit",
    unavailable = "sandbox_unreachable",
    unauthenticated = "authentication",
}

-- Of plain HTTP answers on RPC URLs, from a proxy or the token check.
local STATUS_CODES = {
    [400] = "invalid_argument",
    [401] = "unauthenticated",
    [403] = "permission_denied",
    [404] = "not_found",
    [409] = "already_exists",
    [413] = "resource_exhausted",
    [429] = "resource_exhausted",
    [499] = "canceled",
    [500] = "internal",
    [501] = "unimplemented",
    [502] = "unavailable",
    [503] = "unavailable",
    [504] = "deadline_exceeded",
    [505] = "unimplemented",
}

-- Of /files and /health.
local STATUS_KINDS = {
    [400] = "invalid_argument",
    [401] = "authentication",
    [404] = "not_found",
    [429] = "rate_limit",
    [507] = "not_enough_space",
}

local GONE = "the sandbox %s is not running: it was killed or reached its end of life"
local CLOSED = "the sandbox %s is not reachable: %s"

local function not_running(conn, op, cause)
    return Error.new("sandbox_not_running", GONE:format(conn.sandbox_id), {
        op = op,
        deadline = "sandbox",
        cause = cause,
        remedy = "create a new one; timeout and set_timeout say how long a sandbox lives",
    })
end

local function unreachable(conn, op, why, cause)
    return Error.new("sandbox_unreachable", CLOSED:format(conn.sandbox_id, why),
        { op = op, deadline = "sandbox", cause = cause })
end

-- The answer of an engine that saw the sandbox end for want of memory, or nil.
local function out_of_memory(conn, op, object, cause)
    if object and object.error_code == "sandbox_out_of_memory" then
        local how = tostring(object.message):match("it (.*)$") or "ran out of memory"
        return Error.new("out_of_memory", ("%s: the sandbox %s is not running: it %s"):format(op,
            conn.sandbox_id, how), {
            op = op,
            code = object.error_code,
            cause = cause,
            remedy = "build its template with a larger memory_mb; files under /run and /dev/shm " ..
                "are in memory, too",
        })
    end
end

local function headers_for(conn, extra)
    local headers = {
        ["E2b-Sandbox-Id"] = conn.sandbox_id,
        ["E2b-Sandbox-Port"] = tostring(config_of.ENVD_PORT),
        ["X-Access-Token"] = conn.access_token,
    }
    for name, value in pairs(conn.config.agent_headers) do
        headers[name] = value
    end
    for name, value in pairs(extra or {}) do
        headers[name] = value
    end
    return headers
end

-- GET /health: status and what the answer says, or nil when there is none.
local function probe(conn, op)
    local status, _, body = transport.exchange(conn.config, {
        op = op,
        method = "GET",
        url = conn.url .. "/health",
        headers = headers_for(conn),
        timeout = PROBE_TIMEOUT,
        idle_timeout = PROBE_TIMEOUT,
    })
    if not status then
        return nil
    end
    return status, transport.message(body, {})
end

-- The error for a connection that failed: the sandbox may be gone.
local function after_failure(conn, op, err)
    if err.kind ~= "network" and err.kind ~= "protocol" and err.kind ~= "timeout" then
        return err
    end
    local status, text, object = probe(conn, op)
    if status == 502 then
        local starved = out_of_memory(conn, op, object, err)
        if starved then
            return starved
        elseif text:find("was not found", 1, true) then
            return not_running(conn, op, err)
        end
        return unreachable(conn, op, text, err)
    end
    -- A deadline of ours stays one, whatever the probe met.
    if not status and err.kind ~= "timeout" then
        return unreachable(conn, op, err.message, err)
    end
    return err
end

-- "unavailable" and 502 are told apart by their text, else by a probe.
local function after_unavailable(conn, op, text)
    if text:find("was not found", 1, true) then
        return not_running(conn, op)
    elseif text:find("port is not open", 1, true) then
        return unreachable(conn, op, text)
    end
    local status, said = probe(conn, op)
    if status == 502 and said:find("was not found", 1, true) then
        return not_running(conn, op)
    end
    return unreachable(conn, op, text)
end

local function secrets_of(conn)
    return { conn.access_token or "", conn.config.api_key or "" }
end

---The error for a Connect code.
---@param conn e2b.Connection
---@param call e2b.rpc.Call
---@param code string
---@param text string
---@param status? integer
---@return e2b.Error
local function connect_error(conn, call, code, text, status)
    if code == "unavailable" then
        return after_unavailable(conn, call.op, text)
    end
    local kind = code == "not_found" and call.not_found or CODE_KINDS[code] or "sandbox"
    local fields = { op = call.op, status = status, code = code }
    if code == "deadline_exceeded" then
        fields.deadline = call.expired and "command" or "request"
        if call.expired then
            text = call.expired:format(call.timeout or 0)
            fields.remedy = "raise timeout, or set timeout = 0 for none"
        end
    elseif code == "canceled" then
        fields.deadline = "request"
    end
    return Error.new(kind, call.op .. ": " .. (text ~= "" and text or code), fields)
end

-- The error of an answer with another status than 200 on an RPC URL.
local function rpc_failure(conn, call, status, body)
    local text, object = transport.message(body, secrets_of(conn))
    local starved = out_of_memory(conn, call.op, object)
    if starved then
        return starved
    end
    local code = object and object.code
    if type(code) ~= "string" then
        code = STATUS_CODES[math.type(code) == "integer" and code or status] or "unknown"
    end
    return connect_error(conn, call, code, text ~= "" and text or ("status " .. status), status)
end

---The error of an answer of /files or /health that is no success.
---@param conn e2b.Connection
---@param op string
---@param status integer
---@param body string
---@param not_found? string kind of a 404
---@return e2b.Error
function M.http_failure(conn, op, status, body, not_found)
    local text, object = transport.message(body, secrets_of(conn))
    local starved = out_of_memory(conn, op, object)
    if starved then
        return starved
    elseif status == 502 then
        if text:find("was not found", 1, true) then
            return not_running(conn, op)
        end
        return unreachable(conn, op, text)
    end
    local kind = status == 404 and not_found or STATUS_KINDS[status] or "sandbox"
    if kind == "sandbox" or text == "" then
        text = status .. ": " .. text
    end
    return Error.new(kind, op .. ": " .. text, { op = op, status = status })
end

M.after_failure = after_failure
M.headers_for = headers_for

-- ---- calls -------------------------------------------------------------------

---@class e2b.rpc.Call
---@field op string the SDK's call, for errors
---@field method string "process.Process/List"
---@field message table
---@field user? string
---@field request_timeout? number seconds; default that of the configuration, 0: none
---@field timeout? number streams: seconds that the server allows, 0 or nil: none
---@field expired? string streams: what to say when timeout is over; %g: the seconds
---@field not_found? string kind for not_found

---Version numbers, compared.
---@param version string
---@param minimum string
---@return boolean
function M.at_least(version, minimum)
    local a, b, c = tostring(version):match("^v?(%d+)%.(%d+)%.?(%d*)")
    local x, y, z = minimum:match("^(%d+)%.(%d+)%.(%d+)$")
    if not a then
        return true
    end
    for _, pair in ipairs({ { a, x }, { b, y }, { c == "" and 0 or c, z } }) do
        local got, want = math.tointeger(tonumber(pair[1])), math.tointeger(tonumber(pair[2]))
        if got ~= want then
            return got > want
        end
    end
    return true
end

---The user a call acts as: an old daemon has no default.
---@param conn e2b.Connection
---@param op string
---@param user? string
---@return string|nil
function M.user_for(conn, op, user)
    if user == nil and not M.at_least(conn.envd_version, "0.4.0") then
        return "user"
    end
    if user and (user == "" or user:find("[:%c]")) then
        Error.raise("invalid_argument",
            ('%s: user must be the name of a user in the sandbox, not "%s"'):format(op,
                (user:gsub("%c", "?"))), { op = op })
    end
    return user
end

local function basic(user)
    return user and "Basic " .. wire.base64(user .. ":") or nil
end

local function limit_of(conn, call)
    local limit = call.request_timeout or conn.config.request_timeout
    return limit > 0 and limit or nil
end

local function call_headers(conn, call, content_type, timeout)
    return headers_for(conn, {
        ["Content-Type"] = content_type,
        ["Connect-Protocol-Version"] = "1",
        ["Connect-Timeout-Ms"] = timeout and ("%d"):format(math.ceil(timeout * 1000)) or nil,
        ["Authorization"] = basic(M.user_for(conn, call.op, call.user)),
    })
end

---A unary call.
---@param conn e2b.Connection
---@param call e2b.rpc.Call
---@return table answer
function M.unary(conn, call)
    local limit = limit_of(conn, call)
    local status, headers, body = transport.exchange(conn.config, {
        op = call.op,
        method = "POST",
        url = conn.url .. "/" .. call.method,
        headers = call_headers(conn, call, "application/json", limit),
        body = json.encode(call.message),
        timeout = limit,
        idle_timeout = limit,
    })
    if not status then
        Error.raise(after_failure(conn, call.op, headers))
    end
    if status ~= 200 then
        Error.raise(rpc_failure(conn, call, status, body))
    end
    local answer, err = json.decode(body == "" and "{}" or body)
    if type(answer) ~= "table" then
        Error.raise("protocol", ("%s: the sandbox's answer is not a JSON object"):format(call.op),
            { op = call.op, status = status, cause = err })
    end
    return answer
end

M.guard = transport.guard

-- ---- streams -----------------------------------------------------------------

---@class e2b.rpc.Stream
local Stream = {}
Stream.__index = Stream

function Stream.__close(self)
    self:close()
end

---Ends it. Twice is fine.
function Stream:close()
    self._x:close()
    self._over = true
end

local function fail(self, err)
    self:close()
    Error.raise(err)
end

-- A connection that broke, or a deadline that passed here first.
local function broken(self, err)
    local call = self._call
    if self._ends and task.now() >= self._ends then
        return connect_error(self._conn, call, "deadline_exceeded", "the time is over")
    end
    return after_failure(self._conn, call.op, err)
end

local function finished(self, payload)
    local answer = json.decode(payload)
    self:close()
    if type(answer) ~= "table" then
        Error.raise("protocol", self._call.op .. ": the end of the stream is not JSON",
            { op = self._call.op })
    end
    local err = answer.error
    if type(err) == "table" then
        local text = transport.message(type(err.message) == "string" and err.message or "",
            secrets_of(self._conn))
        Error.raise(connect_error(self._conn, self._call, tostring(err.code or "unknown"), text))
    end
    return nil
end

-- A message with output in the very form that most come in needs no parser, which would take three
-- quarters of the time: one string without escapes. nil: read it as JSON.
local function output_of(payload)
    local name, first = payload:match('^{"event":{"data":{"(%l+)":"()')
    local last = #payload - #'"}}}'
    if name and payload:find('"', first, true) == last + 1 and payload:sub(last + 1) == '"}}}' and
        not payload:find("\\", first, true) then
        return { event = { data = { [name] = payload:sub(first, last) } } }
    end
end

---The next message, or nil after the orderly end.
---@return table|nil
function Stream:next()
    while not self._over do
        local flags, payload = self._reader:next()
        if flags == END_OF_STREAM then
            return finished(self, payload)
        elseif flags == 0 then
            local message = output_of(payload) or json.decode(payload)
            if type(message) ~= "table" then
                fail(self, Error.new("protocol", self._call.op .. ": a message is not JSON",
                    { op = self._call.op }))
            end
            return message
        elseif flags or payload then
            fail(self, Error.new("protocol", ("%s: not the Connect protocol: %s"):format(
                self._call.op, payload and payload.message or "compressed message"),
                { op = self._call.op, cause = not flags and payload or nil }))
        end
        if self._ends and task.now() > self._ends + GRACE then
            fail(self, broken(self, nil))
        end
        local piece, err = self._x:read()
        if piece then
            self._reader:feed(piece)
        else
            err = err and transport.explained(self._request, err) or Error.new("network",
                self._call.op .. ": the stream ended in the middle", { op = self._call.op })
            self:close()
            Error.raise(broken(self, err))
        end
    end
    return nil
end

-- Any other answer than a stream is raised.
local function check_head(conn, call, x, request, status, headers)
    local kind = headers["content-type"] or ""
    if status == 200 and kind:match("^application/connect%+json") then
        return
    end
    local body, err = transport.body(x, request)
    if not body then
        Error.raise(after_failure(conn, call.op, err))
    elseif status ~= 200 then
        Error.raise(rpc_failure(conn, call, status, body))
    end
    Error.raise("protocol", ("%s: the answer is %s, not a Connect stream"):format(call.op,
        kind ~= "" and kind or "of no type"), { op = call.op, status = status })
end

---A call that answers with a stream of messages. Close the stream.
---@param conn e2b.Connection
---@param call e2b.rpc.Call
---@return e2b.rpc.Stream
function M.stream(conn, call)
    local timeout = call.timeout and call.timeout > 0 and call.timeout or nil
    local headers = call_headers(conn, call, "application/connect+json", timeout)
    headers["Keepalive-Ping-Interval"] = tostring(KEEPALIVE)
    local request = {
        op = call.op,
        method = "POST",
        url = conn.url .. "/" .. call.method,
        headers = headers,
        body = wire.connect(0, json.encode(call.message)),
        timeout = limit_of(conn, call),
        idle_timeout = timeout and math.min(SILENCE, timeout + GRACE) or SILENCE,
    }
    local x, status, answer = transport.begin(conn.config, request)
    if not x then
        Error.raise(after_failure(conn, call.op, status))
    end
    local guard <close> = M.guard(x)
    check_head(conn, call, x, request, status, answer)
    guard.keep = true
    return setmetatable({
        _x = x,
        _conn = conn,
        _call = call,
        _request = request,
        _reader = wire.connect_reader(),
        _ends = timeout and task.now() + timeout or nil,
    }, Stream)
end

return M
