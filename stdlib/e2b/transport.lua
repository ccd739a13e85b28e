-- One HTTP request to a backend: what api.lua (control plane) and rpc.lua (the
-- daemon in a sandbox) share. Nothing here raises for what the network did.
local wire = require "e2b_wire"
local json = require "e2b_json"
local task = require "e2b_task"
local Error = require "e2b.error"

local M = {}

-- An answer that is read whole (an error, an info, a listing) is never larger.
local MAX_BODY <const> = 64 << 20
-- What may be asked of this machine's engine again, when it died before it answered.
local REPEATED <const> = { GET = true, DELETE = true }
local MAX_SHOWN <const> = 300

---Percent-encodes the values and puts them into the %s places of a path.
---@param format string
---@param ... string
---@return string
function M.path(format, ...)
    local args = { ... }
    for i, arg in ipairs(args) do
        args[i] = wire.escape(tostring(arg))
    end
    return format:format(table.unpack(args))
end

---The query string for a list of {name, value}; nil values are left out.
---@param pairs_list table[]|nil
---@return string "" or "?..."
function M.query(pairs_list)
    local parts = {}
    for _, pair in ipairs(pairs_list or {}) do
        if pair[2] ~= nil then
            parts[#parts + 1] = wire.escape(pair[1]) .. "=" .. wire.escape(tostring(pair[2]))
        end
    end
    return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

-- Peers on this machine are never behind the machine's proxy.
local function proxy_for(config, url)
    if config.proxy then
        return config.proxy
    end
    return require("e2b.config").is_loopback(url) and "" or nil
end

---@class e2b.transport.Request
---@field op string
---@field method string
---@field url string
---@field headers table<string, string>
---@field body? string
---@field upload? boolean the body follows by M.upload
---@field length? integer of the upload, when known
---@field timeout? number seconds until the head of the answer; of an upload: without progress
---@field idle_timeout? number seconds without a byte of the answer; nil or 0: none
---@field limit? number the timeout that errors name, when timeout is a rest of it
---@field gzip? boolean offer gzip, decode it
---@field large? boolean the answer is a file: read in larger pieces

local function seconds(n)
    return n and n > 0 and n or nil
end

-- Says what was being done and which deadline it was; the cause keeps the rest.
local function explained(req, err)
    if not Error.is(err) then
        return Error.new("internal", tostring(err), { op = req.op })
    end
    if err.kind == "timeout" then
        local idle = err.deadline == "idle"
        local limit = req.limit or idle and req.idle_timeout or req.timeout
        local text = idle and "%s: the answer stopped for %g s"
            or "%s: no answer within %g s"
        return Error.new("timeout", text:format(req.op, limit or 0), {
            op = req.op,
            deadline = err.deadline or "request",
            cause = err,
            retryable = err.retryable,
            remedy = not idle and "raise request_timeout if the server is only slow" or nil,
        })
    end
    return Error.new(err.kind, req.op .. ": " .. err.message,
        { op = req.op, cause = err, errno = err.errno, retryable = err.retryable })
end

M.explained = explained

---Starts a request.
---@param config e2b.Config
---@param req e2b.transport.Request
---@return any x of e2b_httpc, nil and an error when it cannot start
function M.open(config, req)
    local x, err = require("e2b_httpc").open({
        method = req.method,
        url = req.url,
        headers = req.headers,
        body = req.body,
        upload = req.upload,
        length = req.length,
        -- An upload takes as long as it takes; M.upload watches it.
        timeout = not req.upload and seconds(req.timeout) or nil,
        connect_timeout = math.min(30, seconds(req.timeout) or 30),
        idle_timeout = seconds(req.idle_timeout),
        accept_encoding = req.gzip and "gzip" or nil,
        large = req.large,
        unix = config.unix,
        proxy = proxy_for(config, req.url),
    })
    if not x then
        return nil, explained(req, err)
    end
    return x
end

-- Closes a request that makes no progress for the limit, while somebody waits
-- for it (state.since).
local function watch(x, state, limit)
    while true do
        local left = state.since and state.since + limit - task.now() or limit
        if left <= 0 then
            state.late = true
            x:close()
            return
        end
        task.sleep(left)
    end
end

local function send_pieces(x, state, source)
    for piece in source do
        state.since = task.now()
        local ok = x:write(piece)
        state.since = nil
        if not ok then
            return -- answered before its end, or broken: the answer tells
        end
    end
    x:finish()
end

-- A shorter file than promised is told by finish.
local function send_file(x, state, file, left)
    while left > 0 do
        state.since = task.now()
        local bytes = x:send(file, left)
        state.since = nil
        if not bytes then
            return
        end
        left = bytes > 0 and left - bytes or 0
    end
    x:finish()
end

---Sends the pieces of an upload and waits for the head of the answer.
---@param x any
---@param req e2b.transport.Request
---@param source (fun(): string|nil)|file* of a file the next req.length bytes
---@return integer|nil status, any headers_or_err
function M.upload(x, req, source)
    local limit, state = seconds(req.timeout), {}
    local watcher = limit and task.spawn_quiet(watch, x, state, limit)
    local _ <close> = setmetatable({}, {
        __close = function()
            if watcher then
                watcher:cancel()
            end
        end,
    })
    if io.type(source) == "file" then
        send_file(x, state, source, req.length)
    else
        send_pieces(x, state, source)
    end
    local status, headers
    if not state.late then
        state.since = task.now()
        status, headers = x:wait()
    end
    if state.late then
        return nil, explained(req, Error.new("timeout", "", { deadline = "request" }))
    elseif not status then
        return nil, explained(req, headers)
    end
    return status, headers
end

---Reads the rest of an answer.
---@param x any
---@param req e2b.transport.Request
---@param deadline? number by e2b_task.now
---@return string|nil body, any err
function M.body(x, req, deadline)
    local pieces, size = {}, 0
    while true do
        local piece, err = x:read()
        if not piece then
            if err then
                return nil, explained(req, err)
            end
            return table.concat(pieces)
        end
        size = size + #piece
        pieces[#pieces + 1] = piece
        if size > MAX_BODY then
            return nil, Error.new("protocol",
                ("%s: the answer is larger than %d MiB"):format(req.op, MAX_BODY >> 20),
                { op = req.op })
        end
        if deadline and task.now() > deadline then
            return nil, explained(req, Error.new("timeout", "", { deadline = "request" }))
        end
    end
end

-- The request goes where the engine is now, which was at `old`.
local function follow(config, req, old)
    if req.url:sub(1, #old) == old then
        req.url = config.api_url .. req.url:sub(#old + 1)
    end
end

-- After a request that reached nobody, or may be repeated: whether it may be sent
-- once more, since the engine of this machine has been found or started again. The
-- request's URL follows it. Else the error to raise.
local function revived(config, req, err)
    if config.backend ~= "local" or err.kind ~= "network" or
        not err.retryable and not REPEATED[req.method] then
        return false, err
    end
    local old = config.api_url
    local found, why = require("e2b.config").revive(config)
    follow(config, req, old)
    return found, why or err
end

-- send(config, req), whose results are nil and an error when it fails, and again
-- where that may help.
local function persist(send, config, req)
    local first, second, third = send(config, req)
    if first then
        return first, second, third
    end
    local again, err = revived(config, req, second)
    if not again then
        return nil, err
    end
    return send(config, req)
end

local function exchange(config, req)
    local limit = seconds(req.timeout)
    local deadline = limit and task.now() + limit
    local x <close>, err = M.open(config, req)
    if not x then
        return nil, err
    end
    local status, headers = x:wait()
    if not status then
        return nil, explained(req, headers)
    end
    local body, broken = M.body(x, req, deadline)
    if not body then
        return nil, broken
    end
    return status, headers, body
end

---A whole exchange.
---@param config e2b.Config
---@param req e2b.transport.Request
---@return integer|nil status, any headers_or_err, string|nil body
function M.exchange(config, req)
    return persist(exchange, config, req)
end

---A <close> value that closes an object unless its `keep` has been set: for what
---is handed on only when all went well.
---@param object any with a method close
---@return table
function M.guard(object)
    return setmetatable({}, {
        __close = function(self)
            if not self.keep then
                object:close()
            end
        end,
    })
end

local function begin(config, req)
    local x, err = M.open(config, req)
    if not x then
        return nil, err
    end
    local guard <close> = M.guard(x)
    local status, headers = x:wait()
    if not status then
        return nil, explained(req, headers)
    end
    guard.keep = true
    return x, status, headers
end

---Starts a request that is no upload and waits for the head of its answer. The
---caller closes x.
---@param config e2b.Config
---@param req e2b.transport.Request
---@return any x of e2b_httpc, nil and an error when there is no answer
---@return integer|e2b.Error status
---@return table<string, string>|nil headers
function M.begin(config, req)
    return persist(begin, config, req)
end

---Before an upload, whose data can be read only once: makes sure that the engine
---of this machine is there.
---@param config e2b.Config
---@param req e2b.transport.Request
function M.wake(config, req)
    if config.backend == "local" then
        local old = config.api_url
        M.exchange(config, { op = req.op, method = "GET", url = old .. "/health", headers = {},
            timeout = req.timeout })
        follow(config, req, old)
    end
end

-- The key must not get into an error, whatever a server echoes.
local function scrubbed(text, secrets)
    for _, secret in ipairs(secrets) do
        if #secret >= 4 then
            text = text:gsub(secret:gsub("%p", "%%%0"), "***")
        end
    end
    return text
end

---What an error answer says: its JSON `message`, or its text, short and clean.
---@param body string
---@param secrets string[] never shown
---@return string message, table|nil object the JSON object, when it is one
function M.message(body, secrets)
    local object = body:match("^%s*{") and json.decode(body) or nil
    if type(object) ~= "table" then
        object = nil
    end
    local text = object and type(object.message) == "string" and object.message or body
    text = wire.utf8(scrubbed(text, secrets)):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
    if #text > MAX_SHOWN then
        text = text:sub(1, utf8.offset(text, 0, MAX_SHOWN) - 1) .. "..."
    end
    return text, object
end

return M
