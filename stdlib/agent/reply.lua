-- Puts the reply of a model together from the events of its stream. Knows
-- nothing of HTTP.
local json = require "e2b_json"
local Error = require "e2b.error"

local MAX_BYTES = 64 * 1024 * 1024

---@class agent.Reply
---@field id string
---@field model string
---@field content table[] blocks, in order
---@field stop_reason string|nil
---@field usage table
---@field broken table<string, string> tool_use id -> why its input cannot be used
local Reply = {}
Reply.__index = Reply

local function bad(message, ...)
    return nil, Error.new("protocol", message:format(...))
end

local function known(v)
    if v == json.null then
        return nil
    end
    return v
end

---An empty reply, to be fed.
---@return table
function Reply.new()
    return setmetatable({ content = json.array {}, usage = {}, broken = {}, _open = {}, _size = 0 },
        Reply)
end

local function merge_usage(self, usage)
    for k, v in pairs(known(usage) or {}) do
        if math.type(v) then
            self.usage[k] = v
        end
    end
end

local function message_start(self, data)
    local m = data.message
    if type(m) ~= "table" then
        return bad("the model's stream begins without a message")
    end
    self.id, self.model, self.started = known(m.id), known(m.model), true
    merge_usage(self, m.usage)
    return true
end

local function block_start(self, data)
    local block, index = data.content_block, data.index
    if type(block) ~= "table" or math.type(index) ~= "integer" then
        return bad("a content block of the model's stream has no index or no content")
    end
    if index ~= #self.content then
        return bad("content block %d of the model's stream comes at place %d", index,
            #self.content)
    end
    self.content[index + 1] = block
    self._open[index] = { parts = {}, signature = {} }
    return true
end

local DELTAS = { text_delta = "text", thinking_delta = "thinking",
    input_json_delta = "partial_json" }

local function block_delta(self, data)
    local open, delta = self._open[data.index], data.delta
    if not open or type(delta) ~= "table" then
        return bad("the model's stream goes on with content block %s, which is not open",
            tostring(data.index))
    end
    local field = DELTAS[delta.type]
    local list = open.parts
    if delta.type == "signature_delta" then
        field, list = "signature", open.signature
    elseif not field then
        return true -- a kind of a later version
    end
    if type(delta[field]) ~= "string" then
        return bad("a %s of the model's stream has no text", tostring(delta.type))
    end
    self._size = self._size + #delta[field]
    if self._size > MAX_BYTES then
        return bad("the model's reply is longer than %d MiB", MAX_BYTES >> 20)
    end
    list[#list + 1] = delta[field]
    return true
end

-- The input of a tool call must be an object; one that is not is answered with
-- an error result instead of ending the run.
local function finish_input(self, block, source)
    local input, err
    if source == "" then
        input = type(block.input) == "table" and block.input or {}
    else
        input, err = json.decode(source)
    end
    if type(input) ~= "table" or json.is_array(input) then
        self.broken[block.id or ""] = err and err.message or "it is not an object"
        input = {}
    end
    block.input = input
end

local function block_stop(self, data)
    local open = self._open[data.index]
    if not open then
        return bad("the model's stream ends content block %s, which is not open",
            tostring(data.index))
    end
    self._open[data.index] = nil
    local block, all = self.content[data.index + 1], table.concat(open.parts)
    if block.type == "tool_use" then
        if type(block.id) ~= "string" or type(block.name) ~= "string" then
            return bad("a tool call of the model's stream has no id or no name")
        end
        finish_input(self, block, all)
    elseif block.type == "text" or block.type == "thinking" then
        block[block.type] = (known(block[block.type]) or "") .. all
        if #open.signature > 0 then
            block.signature = table.concat(open.signature)
        end
    end
    return true
end

local function message_delta(self, data)
    local delta = known(data.delta) or {}
    self.stop_reason = known(delta.stop_reason) or self.stop_reason
    merge_usage(self, data.usage)
    return true
end

local function message_stop(self)
    if next(self._open) then
        return bad("the model's stream ends inside a content block")
    end
    self.complete = true
    return true
end

local EVENTS = { message_start = message_start, content_block_start = block_start,
    content_block_delta = block_delta, content_block_stop = block_stop,
    message_delta = message_delta, message_stop = message_stop }

---Takes the next event. Unknown ones are skipped.
---@param name string
---@param data table decoded
---@return true|nil ok
---@return e2b.Error|nil err kind protocol
function Reply:feed(name, data)
    local f = EVENTS[name]
    if not f then
        return true
    end
    if not self.started and name ~= "message_start" then
        return bad("the model's stream begins with %s", name)
    end
    return f(self, data)
end

---A reply that came whole, without a stream.
---@param message table
---@return table|nil reply
---@return e2b.Error|nil err
function Reply.whole(message)
    if message.type ~= "message" or type(message.content) ~= "table" then
        return bad("the model's answer is not a message")
    end
    local self = Reply.new()
    message_start(self, { message = message })
    self.content = json.array(message.content)
    for _, block in ipairs(self.content) do
        if block.type == "tool_use" and
            (type(block.input) ~= "table" or json.is_array(block.input)) then
            self.broken[block.id or ""] = "it is not an object"
            block.input = {}
        end
    end
    self.stop_reason, self.complete = known(message.stop_reason), true
    return self
end

return Reply
