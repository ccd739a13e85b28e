--- A server for tests that speaks the Messages API: each request gets the next of a list of
--- answers, a function(req, request) or a reply table {content=, stop_reason=, usage=}. Connections
--- end with the answer, so that none stays in the client's pool.
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local t = require "tests"

local M = {}

-- The first request opens descriptors that stay with the client: before any test.
do
    local x <close> = require("e2b_httpc").open {url = "http://127.0.0.1:1/"}
    x:wait()
end

function M.event(name, data)
    data.type = name
    return ("event: %s\ndata: %s\n\n"):format(name, json.encode(data))
end

--- The events of a reply, as a list of strings.
function M.events(reply)
    local out = {M.event("message_start", {message = {id = "msg_1", type = "message",
        role = "assistant", model = reply.model or "claude-sonnet-4-5", content = json.array {},
        stop_reason = json.null, usage = {input_tokens = reply.input or 10, output_tokens = 1}}})}
    for i, block in ipairs(reply.content) do
        local tool = block.type == "tool_use"
        out[#out + 1] = M.event("content_block_start", {index = i - 1, content_block = tool
            and {type = "tool_use", id = block.id, name = block.name, input = {}}
            or {type = "text", text = ""}})
        local source = tool and (block.raw or json.encode(block.input)) or block.text
        for at = 1, #source, 7 do
            local piece = source:sub(at, at + 6)
            out[#out + 1] = M.event("content_block_delta", {index = i - 1, delta = tool
                and {type = "input_json_delta", partial_json = piece}
                or {type = "text_delta", text = piece}})
        end
        out[#out + 1] = M.event("content_block_stop", {index = i - 1})
    end
    out[#out + 1] = M.event("ping", {})
    out[#out + 1] = M.event("message_delta", {delta = {stop_reason = reply.stop_reason
        or "end_turn"}, usage = {output_tokens = reply.output or 5}})
    out[#out + 1] = M.event("message_stop", {})
    return out
end

function M.stream(req, events)
    req:begin(200, {["Content-Type"] = "text/event-stream", ["Connection"] = "close"})
    for _, e in ipairs(events) do
        req:write(e)
    end
    req:finish()
end

--- An answer with an error of the API.
function M.failing(status, kind, message, headers)
    return function(req)
        headers = headers or {}
        headers["Content-Type"] = "application/json"
        headers["Connection"] = "close"
        req:reply(status, headers, json.encode {type = "error",
            error = {type = kind, message = message}})
    end
end

function M.say(text)
    return {content = {{type = "text", text = text}}}
end

function M.call(name, input, id)
    return {content = {{type = "tool_use", id = id or "toolu_1", name = name, input = input}},
        stop_reason = "tool_use"}
end

--- Starts it for the running test. `requests` collects the decoded bodies; env is for
--- options.env.
function M.start(answers)
    local self = {requests = {}, headers = {}}
    local srv = assert(httpd.listen {host = "127.0.0.1", port = 0, handler = function(req)
        local request = json.decode(req:body(64 << 20))
        self.requests[#self.requests + 1] = request
        self.headers[#self.headers + 1] = req.headers
        local answer = answers[#self.requests]
        if not answer then
            return req:reply(404, {["Connection"] = "close"}, "no answer left")
        elseif type(answer) == "function" then
            return answer(req, request)
        end
        M.stream(req, M.events(answer))
    end})
    t.cleanup(function()
        srv:close()
    end)
    self.base_url = "http://127.0.0.1:" .. srv.port
    self.env = {ANTHROPIC_BASE_URL = self.base_url, ANTHROPIC_API_KEY = "sk-test-secret-1"}
    return self
end

return M
