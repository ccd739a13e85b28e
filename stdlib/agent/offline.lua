-- The offline model: a server on 127.0.0.1 that speaks the Messages API and
-- answers from a tape. No model is called. It keeps no state between requests.
local Error = require "e2b.error"
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local wire = require "e2b_wire"

local M = {}

---What has to be said when the offline model is used.
M.NOTICE = "offline: replaying a scripted conversation, no model is called"

---The name that its replies carry. It has no price.
M.MODEL = "offline"

local BODY_MAX = 64 * 1024 * 1024
-- Pieces of the stream, so that clients see one as from a live model.
local PIECE = 2048

---@class agent.Offline
---@field base_url string
local Offline = {}
Offline.__index = Offline
Offline.__close = function(self)
    self:close()
end

-- Connections end with the answer: nothing of them stays in the client's pool
-- when the offline model is closed.
local function head(content_type)
    return { ["Content-Type"] = content_type, ["Connection"] = "close" }
end

local function refuse(req, status, kind, message)
    req:reply(status, head "application/json", json.encode {
        type = "error", error = { type = kind, message = message } })
end

-- ---- what a hand-written client gets wrong -----------------------------------

local function pending(message)
    local ids = {}
    for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
        if block.type == "tool_use" then
            ids[#ids + 1] = block.id
        end
    end
    return ids
end

local function check_results(message, ids, at)
    local have = {}
    for _, block in ipairs(type(message.content) == "table" and message.content or {}) do
        if block.type == "tool_result" then
            have[block.tool_use_id or ""] = true
        end
    end
    for _, id in ipairs(ids) do
        if not have[id] then
            return ("messages.%d: no tool_result for tool_use %s"):format(at - 1, tostring(id))
        end
        have[id] = nil
    end
    local extra = next(have)
    return extra and ("messages.%d: tool_result %s has no tool_use in the message before")
        :format(at - 1, extra)
end

local function check_message(message, at)
    if type(message) ~= "table" or not (message.role == "user" or message.role == "assistant"
        or message.role == "system") then
        return ("messages.%d: role must be user or assistant"):format(at - 1)
    end
    local content = message.content
    if message.role ~= "system" and (type(content) == "string" and not content:find("%S")
        or type(content) == "table" and #content == 0
        or type(content) ~= "string" and type(content) ~= "table") then
        return ("messages.%d: content must not be empty"):format(at - 1)
    end
    for i, block in ipairs(type(content) == "table" and content or {}) do
        if type(block) ~= "table" or type(block.type) ~= "string" then
            return ("messages.%d.content.%d: not a content block"):format(at - 1, i - 1)
        elseif block.type == "text" and not tostring(block.text or ""):find("%S") then
            return ("messages.%d.content.%d: text must not be blank"):format(at - 1, i - 1)
        elseif block.type == "tool_use" and (type(block.input) ~= "table"
            or json.is_array(block.input)) then
            return ("messages.%d.content.%d: input must be an object"):format(at - 1, i - 1)
        end
    end
end

-- What is wrong with the request, or nil.
local function check(request)
    if type(request) ~= "table" then
        return "the body is not a JSON object"
    elseif type(request.model) ~= "string" then
        return "model: field required"
    elseif math.type(request.max_tokens) ~= "integer" then
        return "max_tokens: field required"
    elseif type(request.messages) ~= "table" or #request.messages == 0 then
        return "messages: at least one message is required"
    end
    local ids, previous = {}, nil
    for at, message in ipairs(request.messages) do
        local wrong = check_message(message, at)
        if not wrong and message.role ~= "system" then
            wrong = message.role == (previous or "assistant")
                and ("messages.%d: roles must alternate, beginning with user"):format(at - 1)
                or message.role == "user" and check_results(message, ids, at) or nil
            ids, previous = pending(message), message.role
        end
        if wrong then
            return wrong
        end
    end
    if previous ~= "user" then
        return "messages: the last one must be of the user"
    end
end

-- ---- the reply on the wire ---------------------------------------------------

local function usage_of(reply)
    local usage = { input_tokens = 0, output_tokens = 0, cache_creation_input_tokens = 0,
        cache_read_input_tokens = 0 }
    for k, v in pairs(reply.usage) do
        usage[k] = v
    end
    return usage
end

-- Clients key on ids, so every reply has fresh ones.
local function message_of(reply)
    for _, block in ipairs(reply.content) do
        if block.type == "tool_use" then
            block.id = "toolu_" .. wire.random(12)
        end
    end
    return { id = "msg_" .. wire.random(12), type = "message", role = "assistant",
        model = M.MODEL, content = reply.content, stop_reason = reply.stop_reason,
        stop_sequence = json.null, usage = usage_of(reply) }
end

local function pieces(s)
    local at = 1
    return function()
        if at > #s then
            return nil
        end
        local to = math.min(at + PIECE - 1, #s)
        while to < #s and to > at and s:byte(to + 1) & 0xC0 == 0x80 do
            to = to - 1
        end
        local piece = s:sub(at, to)
        at = to + 1
        return piece
    end
end

local function block_parts(block)
    if block.type == "tool_use" then
        return { type = "tool_use", id = block.id, name = block.name, input = {} },
            json.encode(block.input), "input_json_delta", "partial_json"
    elseif block.type == "thinking" then
        return { type = "thinking", thinking = "", signature = "" }, block.thinking,
            "thinking_delta", "thinking"
    end
    return { type = "text", text = "" }, block.text, "text_delta", "text"
end

local function stream_block(send, index, block)
    local empty, source, kind, field = block_parts(block)
    send("content_block_start", { index = index, content_block = empty })
    for piece in pieces(source) do
        send("content_block_delta", { index = index, delta = { type = kind, [field] = piece } })
    end
    if block.type == "thinking" then
        send("content_block_delta", { index = index, delta = { type = "signature_delta",
            signature = block.signature or "" } })
    end
    send("content_block_stop", { index = index })
end

local function stream(req, message, headers)
    req:begin(200, headers)
    local function send(name, data)
        data.type = name
        Error.check(req:write(("event: %s\ndata: %s\n\n"):format(name, json.encode(data))))
    end
    local begun = {}
    for k, v in pairs(message) do
        begun[k] = v
    end
    begun.content, begun.stop_reason = json.array {}, json.null
    send("message_start", { message = begun })
    for i, block in ipairs(message.content) do
        stream_block(send, i - 1, block)
    end
    send("message_delta", { delta = { stop_reason = message.stop_reason,
        stop_sequence = json.null }, usage = { output_tokens = message.usage.output_tokens } })
    send("message_stop", {})
    req:finish()
end

-- ---- routes ------------------------------------------------------------------

local function answer(self, req)
    local body, err = req:body(BODY_MAX)
    if not body then
        return refuse(req, 400, "invalid_request_error", err.message)
    end
    local request = json.decode(body)
    local wrong = check(request)
    if wrong then
        return refuse(req, 400, "invalid_request_error", wrong)
    end
    local reply, notices = self._tape:match(request)
    if not reply then
        return refuse(req, 400, "invalid_request_error",
            ("the tape %s does not match: %s"):format(self._tape.name, notices))
    end
    local streams = request.stream == true
    local headers = head(streams and "text/event-stream" or "application/json")
    if #notices > 0 then
        headers["e2blua-tape-notice"] = table.concat(notices, "; ")
        for _, notice in ipairs(notices) do
            self._on_notice(notice)
        end
    end
    local message = message_of(reply)
    if streams then
        return stream(req, message, headers)
    end
    req:reply(200, headers, json.encode(message))
end

local function handle(self, req)
    local path = req.path:gsub("^.*(/v1/)", "%1")
    if req.method == "HEAD" then
        return req:reply(200)
    elseif req.method == "POST" and path == "/v1/messages" then
        return answer(self, req)
    elseif req.method == "GET" and path == "/v1/models" then
        return req:reply(200, head "application/json", json.encode {
            data = json.array { { type = "model", id = M.MODEL } } })
    end
    refuse(req, 404, "not_found_error", "no such path: " .. req.path)
end

---Starts the offline model on a port of 127.0.0.1.
---@param tape agent.Tape
---@param on_notice? fun(text: string) called when a tool call fails or succeeds other than in the
---tape
---@return agent.Offline with base_url; close() stops it
function M.open(tape, on_notice)
    local self = setmetatable({ _tape = tape, _on_notice = on_notice or function() end }, Offline)
    self._server = Error.check(httpd.listen { host = "127.0.0.1", port = 0,
        handler = function(req)
            return handle(self, req)
        end })
    self.base_url = ("http://127.0.0.1:%d"):format(self._server.port)
    return self
end

---What makes agent.query talk to it: for options.env.
---@return table
function Offline:env()
    return { ANTHROPIC_BASE_URL = self.base_url, ANTHROPIC_API_KEY = "offline",
        ANTHROPIC_AUTH_TOKEN = "", ANTHROPIC_MODEL = M.MODEL }
end

---Stops it. Twice is fine.
function Offline:close()
    if self._server then
        self._server:close()
        self._server = nil
    end
end

return M
