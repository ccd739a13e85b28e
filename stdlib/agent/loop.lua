-- The native agent loop: asks the model, carries its tool calls out in the
-- sandbox, hands the results back, until the model has finished. It advances
-- only when the script asks for the next message, so there is nothing that runs
-- on when the script stops asking.
local Error = require "e2b.error"
local json = require "e2b_json"
local message = require "agent.message"
local model = require "agent.model"
local options = require "agent.options"
local permission = require "agent.permission"
local price = require "agent.price"
local task = require "e2b_task"
local tools = require "agent.tools"

---@class agent.Loop
local Loop = {}
Loop.__index = Loop
Loop.__close = function(self)
    self:close()
end

-- Replies in a row that were cut at max_tokens before the run gives up.
local MAX_CUTS = 3
local USAGE = { "input_tokens", "output_tokens", "cache_creation_input_tokens",
    "cache_read_input_tokens" }

-- The working directory of the run, and where the agent learns of it: from this
-- text the offline model, too, knows it.
local function workdir(opts)
    if opts.cwd or not opts.sandbox then
        return opts.cwd
    end
    local result = opts.sandbox.commands:run("pwd", { user = opts.user })
    return (result.stdout:gsub("\n$", ""))
end

local function system(opts, dir)
    local prompt = opts.system_prompt
    if dir then
        prompt = ("%s\n\n<env>\nWorking directory: %s\nPlatform: linux\n</env>"):format(prompt,
            dir)
    end
    return prompt
end

---A run that has not begun.
---@param prompt string
---@param given table|nil options of agent.query
---@return agent.Loop
---Raises invalid_argument for a bad prompt or option, authentication without a key.
function Loop.new(prompt, given)
    if type(prompt) ~= "string" or not prompt:find("%S") then
        Error.raise("invalid_argument", "agent.query needs prompt, a text that is not empty",
            { op = "agent.query" })
    end
    local opts = options.resolve(given)
    local by_name, names = tools.offered(opts)
    local self = { _options = opts, _tools = by_name, _names = names, _state = "init",
        _model = model.open(opts.endpoint), _queue = {}, _at = 1, _turns = 0, _api = 0,
        _cuts = 0, _usage = {}, _by_model = {}, _cost = 0, _denials = json.array {},
        _run = { session_id = message.uuid() },
        _messages = json.array { { role = "user", content = prompt } } }
    for _, field in ipairs(USAGE) do
        self._usage[field] = 0
    end
    return setmetatable(self, Loop)
end

function Loop:_push(m)
    self._queue[#self._queue + 1] = m
end

---Gives the run up: the request under way is dropped. Twice is fine.
function Loop:close()
    self._state = "end"
    if self._request then
        self._request:close()
        self._request = nil
    end
end

-- ---- beginning and end -------------------------------------------------------

function Loop:_begin()
    local opts, run = self._options, self._run
    self._started = task.now()
    run.model, run.permission_mode = opts.model, opts.permission_mode
    run.key_source = opts.key_source
    run.workdir = workdir(opts)
    run.tools = json.array(table.move(self._names, 1, #self._names, 1, {}))
    self._context = tools.context(opts, run.workdir)
    self:_push(message.init(run))
    self._state = "ask"
end

local function milliseconds(seconds)
    return math.floor(seconds * 1000 + 0.5)
end

function Loop:_finish(subtype, fields)
    local m = { type = "result", subtype = subtype, is_error = subtype ~= "success",
        num_turns = self._turns, session_id = self._run.session_id, uuid = message.uuid(),
        duration_ms = milliseconds(task.now() - self._started),
        duration_api_ms = milliseconds(self._api), usage = self._usage,
        total_cost_usd = self._cost, model_usage = self._by_model,
        permission_denials = self._denials, stop_reason = self._stop_reason }
    for k, v in pairs(fields) do
        m[k] = v
    end
    self:_push(m)
    self:close()
end

-- The result is delivered first, then the error is raised.
function Loop:_fail(err)
    local text = Error.is(err) and err.message or tostring(err)
    self._error = err
    self:_finish("error_during_execution", { errors = { text },
        api_error_status = Error.is(err) and err.op == "model.request" and err.status or nil,
        terminal_reason = "model_error" })
end

-- ---- asking the model --------------------------------------------------------

local CACHED = { type = "ephemeral" }

-- The prompt cache covers everything up to the newest message. The marks are
-- put on copies: the conversation itself stays as it is.
local function with_cache_mark(messages)
    local out = json.array(table.move(messages, 1, #messages, 1, {}))
    local last = out[#out]
    local content = last.content
    if type(content) == "string" then
        content = { { type = "text", text = content } }
    end
    content = json.array(table.move(content, 1, #content, 1, {}))
    local block = {}
    for k, v in pairs(content[#content]) do
        block[k] = v
    end
    block.cache_control = CACHED
    content[#content] = block
    out[#out] = { role = last.role, content = content }
    return out
end

function Loop:_ask()
    local opts = self._options
    if opts.max_turns and self._turns >= opts.max_turns then
        return self:_finish("error_max_turns", { terminal_reason = "max_turns",
            errors = { ("Reached maximum number of turns (%d)"):format(opts.max_turns) } })
    end
    local body = { model = opts.model, max_tokens = opts.max_tokens, thinking = opts.thinking,
        messages = with_cache_mark(self._messages),
        system = json.array { { type = "text", text = system(opts, self._run.workdir),
            cache_control = CACHED } } }
    if #self._names > 0 then
        body.tools = tools.declare(self._tools, self._names)
    end
    self._request = self._model:request(body)
    self._state = "read"
end

function Loop:_read()
    local before = task.now()
    local ok, what, value = pcall(self._request.step, self._request)
    self._api = self._api + task.now() - before
    if not ok then
        if Error.is(what, "cancelled") or Error.is(what, "interrupted") or not Error.is(what) then
            error(what, 0)
        end
        self:_fail(what)
    elseif what == "retry" then
        self:_push(message.retry(self._run, value))
    elseif what == "event" then
        if self._options.include_partial_messages then
            self:_push(message.stream_event(self._run, value))
        end
    else
        self._request = nil
        self:_take(value)
    end
end

-- ---- a reply -----------------------------------------------------------------

function Loop:_count(reply)
    local name = reply.model or self._options.model
    local one = self._by_model[name]
    if not one then
        one = {}
        self._by_model[name] = one
    end
    for _, field in ipairs(USAGE) do
        local n = reply.usage[field] or 0
        self._usage[field] = self._usage[field] + n
        one[field] = (one[field] or 0) + n
    end
    local cost = price.cost(name, reply.usage)
    self._cost = cost and self._cost and self._cost + cost
    self._turns = self._turns + 1
    self._stop_reason = reply.stop_reason
end

-- What goes back to the model must have no blank text, and a tool call that was
-- cut off must not be there.
local function kept_blocks(reply)
    local out = json.array {}
    for i, block in ipairs(reply.content) do
        local cut = reply.stop_reason == "max_tokens" and i == #reply.content
            and block.type == "tool_use"
        local blank = block.type == "text" and not block.text:find("%S")
        if not cut and not blank then
            out[#out + 1] = block
        end
    end
    return out
end

function Loop:_take(reply)
    self:_count(reply)
    local content = kept_blocks(reply)
    for _, block in ipairs(content) do
        self:_push(message.assistant(self._run, reply, block))
        if block.type == "text" then
            self._text = block.text
        end
    end
    if #content > 0 then
        self._messages[#self._messages + 1] = { role = "assistant", content = content }
    end
    self._calls, self._broken, self._results = {}, reply.broken, json.array {}
    for _, block in ipairs(content) do
        if block.type == "tool_use" then
            self._calls[#self._calls + 1] = block
        end
    end
    self:_decide(reply, content)
end

function Loop:_decide(reply, content)
    local reason = reply.stop_reason
    self._cuts = reason == "max_tokens" and self._cuts + 1 or 0
    if #self._calls > 0 then
        self._state = "tools"
    elseif reason == "pause_turn" and #content > 0 then
        self._state = "ask"
    elseif reason == "max_tokens" then
        self:_go_on(content)
    elseif reason == "refusal" or reason == "model_context_window_exceeded" then
        self:_finish("error_during_execution", { terminal_reason = reason, result = self._text,
            errors = { "the model stopped: " .. reason } })
    else
        self:_finish("success", { result = self._text or "", terminal_reason = "completed" })
    end
end

-- A reply was cut at max_tokens: the model may go on, in smaller steps.
function Loop:_go_on(content)
    local max = self._options.max_tokens
    if self._cuts > MAX_CUTS then
        return self:_finish("error_during_execution", { terminal_reason = "max_tokens",
            result = self._text, errors = {
            ("the model's replies were cut at max_tokens = %d, %d times in a row")
            :format(max, self._cuts) } })
    end
    local last = content[#content]
    if last and last.type == "text" then
        last.text = last.text:gsub("%s+$", "")
    end
    local say = ("Your reply was cut at the limit of %d tokens; a tool call that was cut has not "
        .. "been carried out. Go on in smaller steps."):format(max)
    if #content > 0 then
        self._messages[#self._messages + 1] = { role = "user", content = say }
    end
    self._state = "ask"
end

-- ---- tools -------------------------------------------------------------------

function Loop:_call(call)
    local t = self._tools[call.name]
    if not t then
        return tools.failure("No such tool available: " .. call.name)
    elseif self._broken[call.id] then
        return tools.failure(("The input of this call to %s could not be read: %s")
            :format(call.name, self._broken[call.id]))
    end
    local decision = permission.decide(self._options, call.name, call.input, call.id)
    if decision.denied then
        self._denials[#self._denials + 1] = { tool_name = call.name, tool_use_id = call.id,
            tool_input = call.input }
        self._interrupted = self._interrupted or decision.interrupt
        return tools.failure(decision.denied)
    end
    return tools.run(t, self._context, decision.input)
end

-- One tool call at a time; the results go back together.
function Loop:_run_tool()
    local call = self._calls[#self._results + 1]
    local ok, result = pcall(self._call, self, call)
    if not ok then
        if not Error.is(result) or Error.is(result, "cancelled")
            or Error.is(result, "interrupted") then
            error(result, 0)
        end
        self._error = result
        return self:_finish("error_during_execution", { errors = { result.message },
            terminal_reason = "aborted_tools" })
    end
    local block = { type = "tool_result", tool_use_id = call.id, is_error =
        result.is_error or false, content = type(result.content) == "table"
        and json.array(result.content) or result.content }
    self._results[#self._results + 1] = block
    self:_push(message.tool_result(self._run, block, result.data))
    if #self._results == #self._calls then
        self._messages[#self._messages + 1] = { role = "user", content = self._results }
        self._state = "ask"
        if self._interrupted then
            self:_finish("error_during_execution", { terminal_reason = "aborted_tools",
                errors = { "can_use_tool ended the run" } })
        end
    end
end

---The conversation so far, for a tape.
---@return table messages and workdir
function Loop:transcript()
    return { messages = self._messages, workdir = self._run.workdir }
end

-- ---- the iterator ------------------------------------------------------------

local STEPS = { init = Loop._begin, ask = Loop._ask, read = Loop._read,
    tools = Loop._run_tool }

---Waits for the next message.
---@return table|nil message nil at the end
---Raises, after the result message, what made the run fail: authentication, rate_limit,
---service_busy, network, timeout, protocol, sandbox_not_found, ...
function Loop:next()
    while self._at > #self._queue do
        self._queue, self._at = {}, 1
        if self._state == "end" then
            local err = self._error
            self._error = nil
            if err then
                error(err, 0)
            end
            return nil
        end
        STEPS[self._state](self)
    end
    local m = self._queue[self._at]
    self._at = self._at + 1
    return m
end

return Loop
