-- Shows what an agent does while its messages pass by: one step for each tool
-- call.
local text = require "agent.text"

---@class agent.Watch
local Watch = {}
Watch.__index = Watch

local SHOWN = 72

-- A tool call in a few words.
local function summary(call, workdir)
    local input = call.input
    local path = input.file_path or input.path
    if type(path) == "string" and workdir and path:sub(1, #workdir + 1) == workdir .. "/" then
        path = path:sub(#workdir + 2)
    end
    local what = ""
    if call.name == "Write" and type(input.content) == "string" then
        what = ("%s (%s)"):format(tostring(path), text.size(#input.content))
    elseif type(input.command) == "string" then
        what = text.brief(input.command, SHOWN)
    elseif type(input.pattern) == "string" then
        what = input.pattern
    elseif type(path) == "string" then
        what = path
    end
    return call.name .. " " .. what
end

---@param progress agent.Progress
---@return agent.Watch
function Watch.new(progress)
    return setmetatable({ _progress = progress, _calls = {} }, Watch)
end

-- The agent is thinking, or its next tool call is under way.
function Watch:_begin()
    local call = self._calls[1]
    if call then
        self._step = self._progress:step(summary(call, self._workdir))
    else
        self._step = self._progress:step("the agent is thinking", true)
    end
end

local function retry_text(data)
    return ("the model does not answer (%s), trying again in %.1f s"):format(
        tostring(data.error_status or data.error), data.retry_delay_ms / 1000)
end

function Watch:_assistant(block)
    if block.type == "text" and block.text:find("%S") then
        self._progress:line("  " .. text.brief(block.text, SHOWN))
    elseif block.type == "tool_use" then
        self._calls[#self._calls + 1] = block
        if #self._calls == 1 then
            self._step:drop()
            self:_begin()
        end
    end
end

function Watch:_result(block)
    table.remove(self._calls, 1)
    if block.is_error then
        local said = type(block.content) == "string" and block.content or ""
        self._step:fail()
        self._progress:line("  " .. text.brief(said, SHOWN))
    else
        self._step:done()
    end
    self:_begin()
end

---Takes the next message.
---@param m table
function Watch:message(m)
    if m.subtype == "init" then
        self._workdir = m.data.cwd
        self:_begin()
    elseif m.subtype == "api_retry" then
        self._progress:line("  " .. retry_text(m.data))
    elseif m.type == "assistant" then
        self:_assistant(m.content[1])
    elseif m.type == "user" then
        self:_result(m.content[1])
    elseif m.type == "result" then
        self:finish()
    end
end

---The run has ended, or was given up.
function Watch:finish()
    if self._step then
        self._step:drop()
        self._step = nil
    end
end

return Watch
