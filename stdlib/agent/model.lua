-- The Messages API over HTTP: one request at a time, streamed, tried again
-- where that helps. The key is known to this file only and is cut out of every
-- text that leaves it.
local Error = require "e2b.error"
local Reply = require "agent.reply"
local httpc = require "e2b_httpc"
local json = require "e2b_json"
local task = require "e2b_task"
local text = require "agent.text"
local wire = require "e2b_wire"

local M = {}

local MAX_BACKOFF = 8
-- The longest wait a server may ask for; beyond it the run fails at once.
local MAX_RETRY_AFTER = 60
local ERROR_BODY_MAX = 64 * 1024
local WHOLE_MAX = 64 * 1024 * 1024

-- error.type of the API -> kind, retryable, what to do.
local KEY_REMEDY = "check ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN (environment or .env)"
local TYPES = {
    invalid_request_error = { "invalid_argument" },
    authentication_error = { "authentication", false, KEY_REMEDY },
    permission_error = { "authentication", false, KEY_REMEDY },
    billing_error = { "authentication", false, "check the credit of the account of this key" },
    not_found_error = { "not_found", false,
        "check the model's name and ANTHROPIC_BASE_URL" },
    request_too_large = { "invalid_argument" },
    rate_limit_error = { "rate_limit", true },
    api_error = { "service_busy", true },
    timeout_error = { "service_busy", true },
    overloaded_error = { "service_busy", true },
}
local STATUS_TYPES = { [400] = "invalid_request_error", [401] = "authentication_error",
    [402] = "billing_error", [403] = "permission_error", [404] = "not_found_error",
    [408] = "timeout_error", [409] = "api_error", [413] = "request_too_large",
    [429] = "rate_limit_error", [504] = "timeout_error", [529] = "overloaded_error" }

---@class agent.Model
local Model = {}
Model.__index = Model

---@class agent.Request
local Request = {}
Request.__index = Request
Request.__close = function(self)
    self:close()
end

local function scrub(model, message)
    for _, secret in ipairs(model._secrets) do
        message = text.replace(message, secret, "[key]")
    end
    return message
end

local function known(v)
    if v == json.null then
        return nil
    end
    return v
end

-- The error of an answer that is no reply.
local function api_error(model, status, kind, message, headers)
    local known_type = TYPES[kind] and kind or STATUS_TYPES[status]
        or (status >= 500 and "api_error" or "invalid_request_error")
    local rule = TYPES[known_type]
    local retryable = rule[2] or false
    local told = headers and headers["x-should-retry"]
    if told == "true" or told == "false" then
        retryable = told == "true"
    end
    message = ("the model answered %d (%s): %s"):format(status, kind or known_type,
        scrub(model, message))
    return Error.new(rule[1], message, { op = "model.request", status = status,
        retryable = retryable, remedy = rule[3], code = kind or known_type })
end

local function error_of_body(model, status, headers, body)
    local answer = json.decode(body)
    local e = type(answer) == "table" and known(answer.error)
    if type(e) == "table" and type(e.message) == "string" then
        return api_error(model, status, type(e.type) == "string" and e.type or nil, e.message,
            headers)
    end
    local start = body == "" and "no text" or text.brief(wire.utf8(body), 120)
    return api_error(model, status, nil, start, headers)
end

-- Seconds the server asks to wait, or nil.
local function retry_after(headers)
    local ms = tonumber(headers["retry-after-ms"])
    local s = ms and ms / 1000 or tonumber(headers["retry-after"])
    return s and s > 0 and s or nil
end

---A model at an endpoint.
---@param config table base_url, api_key or auth_token, betas?, timeout (seconds until the
---answer begins), idle_timeout (seconds without a byte), max_retries
---@return agent.Model
function M.open(config)
    local self = setmetatable({ _config = config, _secrets = {} }, Model)
    for _, secret in ipairs { config.api_key or "", config.auth_token or "" } do
        if secret ~= "" then
            self._secrets[#self._secrets + 1] = secret
        end
    end
    return self
end

function Model:_headers()
    local c = self._config
    local headers = { ["Content-Type"] = "application/json", ["Accept"] = "text/event-stream",
        ["anthropic-version"] = "2023-06-01" }
    if c.api_key then
        headers["x-api-key"] = c.api_key
    end
    if c.auth_token then
        headers["Authorization"] = "Bearer " .. c.auth_token
    end
    if c.betas and #c.betas > 0 then
        headers["anthropic-beta"] = table.concat(c.betas, ",")
    end
    return headers
end

---Begins a request; step() carries it on.
---@param body table request of the Messages API without `stream`
---@return agent.Request
function Model:request(body)
    body.stream = true
    return setmetatable({ _model = self, _body = json.encode(body), _attempt = 0,
        _events = {}, _at = 1 }, Request)
end

---Gives the connection up. Twice is fine.
function Request:close()
    if self._x then
        self._x:close()
        self._x = nil
    end
end

-- A failure: tried again after a pause, or final.
function Request:_failed(err, headers)
    local config = self._model._config
    self:close()
    self._events, self._at, self._reply = {}, 1, nil
    err.message = scrub(self._model, err.message)
    err.op = err.op or "model.request"
    local asked = headers and retry_after(headers)
    if not err.retryable or self._attempt >= config.max_retries then
        if err.retryable and config.max_retries > 0 then
            err.message = ("%s (tried %d times)"):format(err.message, self._attempt + 1)
        end
        Error.raise(err)
    elseif asked and asked > MAX_RETRY_AFTER then
        err.message = ("%s; it asks to wait %d s"):format(err.message, math.ceil(asked))
        Error.raise(err)
    end
    local delay = asked
        or math.min(0.5 * 2 ^ self._attempt, MAX_BACKOFF) * (1 - 0.25 * math.random())
    self._attempt = self._attempt + 1
    self._pause = delay
    return "retry", { attempt = self._attempt, max_retries = config.max_retries,
        delay = delay, status = err.status, kind = err.code or err.kind, error = err }
end

-- What the network did: all of it may be tried again.
function Request:_broken(err)
    if err.kind == "cancelled" or err.kind == "interrupted" or err.kind == "invalid_argument"
        or err.kind == "tls" then
        Error.raise(err)
    end
    err.retryable = true
    err.message = "the connection to the model failed: " .. err.message
    return self:_failed(err)
end

function Request:_body_text(max)
    local parts, size = {}, 0
    while size < max do
        local chunk, err = self._x:read()
        if not chunk then
            return table.concat(parts), err
        end
        parts[#parts + 1] = chunk
        size = size + #chunk
    end
    return table.concat(parts):sub(1, max)
end

function Request:_whole()
    local body, err = self:_body_text(WHOLE_MAX)
    if err then
        return self:_broken(err)
    end
    local answer = json.decode(body)
    if type(answer) ~= "table" then
        return self:_failed(Error.new("protocol", "the model's answer is not JSON: "
            .. text.brief(wire.utf8(body), 120)))
    end
    if known(answer.type) == "error" then
        return self:_failed(error_of_body(self._model, 200, self._head, body), self._head)
    end
    local reply, bad = Reply.whole(answer)
    self:close()
    if not reply then
        return self:_failed(bad)
    end
    return "done", reply
end

function Request:_connect()
    local c = self._model._config
    local x, err = httpc.open { method = "POST", url = c.base_url .. "/v1/messages",
        headers = self._model:_headers(), body = self._body, timeout = c.timeout,
        idle_timeout = c.idle_timeout }
    if not x then
        return self:_broken(err)
    end
    self._x = x
    local status, headers = x:wait()
    if not status then
        return self:_broken(headers)
    end
    self._head = headers
    if status ~= 200 then
        local body = self:_body_text(ERROR_BODY_MAX)
        return self:_failed(error_of_body(self._model, status, headers, body), headers)
    end
    local kind = headers["content-type"] or ""
    if kind:find("application/json", 1, true) then
        return self:_whole()
    end
    if not kind:find("text/event-stream", 1, true) then
        local start = text.brief(wire.utf8(self:_body_text(512)), 120)
        return self:_failed(Error.new("protocol", ("the model's answer is of type '%s', "
            .. "not an event stream: %s"):format(kind, start)))
    end
    self._reader, self._reply = wire.sse_reader(), Reply.new()
end

-- One event of the stream. The API's own `error` event comes with status 200.
function Request:_event(event)
    local data, err = json.decode(event.data)
    if type(data) ~= "table" then
        return self:_failed(Error.new("protocol", ("the model's stream has an event that is "
            .. "not a JSON object: %s"):format(text.brief(wire.utf8(event.data), 80)),
            { cause = err }))
    end
    local name = event.event
    if (not name or name == "" or name == "message") and type(data.type) == "string" then
        name = data.type
    end
    if name == "error" then
        local e = type(data.error) == "table" and data.error or {}
        return self:_failed(api_error(self._model, 200, known(e.type),
            tostring(known(e.message) or "no text")))
    end
    local ok, bad = self._reply:feed(name, data)
    if not ok then
        return self:_failed(bad)
    end
    if self._reply.complete then
        self:close()
        return "done", self._reply
    end
    return "event", data
end

function Request:_read()
    local chunk, err = self._x:read()
    if err then
        return self:_broken(err)
    elseif not chunk then
        return self:_failed(Error.new("protocol",
            "the model's stream ended in the middle of the reply", { retryable = true }))
    end
    self._at = 1
    self._events, err = self._reader:feed(chunk)
    if not self._events then
        self._events = {}
        return self:_failed(Error.new("protocol", "the model's stream is not one of events: "
            .. err.message))
    end
end

---Waits for what comes next.
---@return "event"|"retry"|"done" what
---@return table value the decoded event; attempt, max_retries, delay, status, kind and error
---of the failure that the next step tries again; or the finished agent.Reply
---Raises the failure that is not tried again: authentication, rate_limit, service_busy,
---network, timeout, protocol, invalid_argument, not_found.
function Request:step()
    while true do
        local what, value
        if self._pause then
            local pause = self._pause
            self._pause = nil
            task.sleep(pause)
        end
        if self._at <= #self._events then
            self._at = self._at + 1
            what, value = self:_event(self._events[self._at - 1])
        elseif not self._x then
            what, value = self:_connect()
        else
            what, value = self:_read()
        end
        if what then
            return what, value
        end
    end
end

return M
