-- The messages that an agent hands to the script: plain tables with `type` and
-- `subtype` of the wire and the attribute names of the Claude Agent SDK for
-- Python.
local Error = require "e2b.error"
local json = require "e2b_json"
local text = require "agent.text"
local wire = require "e2b_wire"

local M = {}

-- Class name of the Python SDK -> what makes a table one of it.
local CLASSES = {
    SystemMessage = { type = "system" },
    AssistantMessage = { type = "assistant" },
    UserMessage = { type = "user" },
    ResultMessage = { type = "result" },
    StreamEvent = { type = "stream_event" },
    TextBlock = { type = "text" },
    ThinkingBlock = { type = "thinking" },
    ToolUseBlock = { type = "tool_use" },
    ToolResultBlock = { type = "tool_result" },
}

---A fresh id in the form of a UUID.
---@return string
function M.uuid()
    local h = wire.random(16)
    return ("%s-%s-4%s-a%s-%s"):format(h:sub(1, 8), h:sub(9, 12), h:sub(14, 16),
        h:sub(18, 20), h:sub(21, 32))
end

---Whether a message or content block is of a class of the Claude Agent SDK.
---@param message table
---@param class string for example "AssistantMessage" or "ToolUseBlock"
---@return boolean
function M.is(message, class)
    local c = CLASSES[class]
    if not c then
        local names = {}
        for name in pairs(CLASSES) do
            names[#names + 1] = name
        end
        Error.raise("invalid_argument", "there is no message class "
            .. tostring(class) .. text.nearest(tostring(class), names))
    end
    return type(message) == "table" and message.type == c.type
end

---The first message of a run.
---@param run table with session_id, model, workdir and the names of the tools
---@return table
function M.init(run)
    local data = { type = "system", subtype = "init", cwd = run.workdir,
        session_id = run.session_id, tools = run.tools, model = run.model,
        permissionMode = run.permission_mode, apiKeySource = run.key_source,
        uuid = M.uuid() }
    return { type = "system", subtype = "init", data = data, session_id = run.session_id }
end

---A notice that a request to the model is tried again.
---@param run table
---@param retry table attempt, max_retries, delay (seconds), status, kind
---@return table
function M.retry(run, retry)
    local data = { type = "system", subtype = "api_retry", attempt = retry.attempt,
        max_retries = retry.max_retries, error_status = retry.status, error = retry.kind,
        retry_delay_ms = math.floor(retry.delay * 1000 + 0.5), session_id = run.session_id }
    return { type = "system", subtype = "api_retry", data = data, session_id = run.session_id }
end

---One content block of a reply; a reply with three blocks gives three messages
---with the same message_id.
---@param run table
---@param reply table
---@param block table
---@return table
function M.assistant(run, reply, block)
    return { type = "assistant", content = json.array { block }, model = reply.model,
        message_id = reply.id, usage = reply.usage, session_id = run.session_id,
        uuid = M.uuid() }
end

---One tool result.
---@param run table
---@param result table block of type tool_result
---@param data table|nil what the tool did, for scripts
---@return table
function M.tool_result(run, result, data)
    return { type = "user", content = json.array { result }, tool_use_result = data,
        session_id = run.session_id, uuid = M.uuid() }
end

---An event of the stream, as it came.
---@param run table
---@param event table
---@return table
function M.stream_event(run, event)
    return { type = "stream_event", event = event, session_id = run.session_id,
        uuid = M.uuid() }
end

return M
