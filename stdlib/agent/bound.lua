-- The agent that a task gets: agent with the sandbox, its working directory and
-- the model of the run bound.
local Error = require "e2b.error"
local Watch = require "agent.watch"
local agent = require "agent"
local dotenv = require "e2b.dotenv"
local find = require "agent.find"
local offline = require "agent.offline"
local options = require "agent.options"
local record = require "agent.record"
local tape = require "agent.tape"

---@class agent.Bound
local Bound = {}
Bound.__index = Bound
Bound.__close = function(self)
    self:close()
end

---@param run table sandbox, workdir, code_file, progress, and of the runner's options tape, record
---@return agent.Bound
function Bound.new(run)
    return setmetatable({ _run = run, _loops = {} }, Bound)
end

-- "offline", "live" or nil: what decides is at hand.
local function wanted()
    local value = dotenv.lookup "E2BLUA_MODEL"
    if value and value ~= "offline" and value ~= "live" then
        Error.raise("invalid_argument", ("E2BLUA_MODEL is '%s'; it must be offline or live")
            :format(value))
    end
    return value
end

local function find_tape(run)
    local name = run.tape or run.code_file:gsub("%.%w+$", "") .. ".tape.jsonl"
    local source, where = find.read(name, "scripts")
    if source then
        return tape.parse(source, where)
    elseif run.tape then
        Error.raise("file_not_found", ("there is no tape %s; looked for %s"):format(name, where))
    end
    return nil, where
end

-- The environment that makes a query talk to the model of this run.
function Bound:_model()
    if self._env then
        return self._env
    end
    local run, mode = self._run, wanted()
    if mode == "live" or not mode and not run.tape and options.has_key() then
        self._env = {}
        return self._env
    end
    local found, looked = find_tape(run)
    if not found then
        Error.raise("authentication", mode and "E2BLUA_MODEL=offline, and there is no tape for "
            .. run.code_file or "there is no key for the model, and no tape for " .. run.code_file,
            { op = "agent.query", remedy = "set ANTHROPIC_API_KEY in the environment or .env, or "
            .. "give a tape (looked for " .. looked .. ")" })
    end
    run.progress:line(offline.NOTICE)
    self._offline = offline.open(found, function(notice)
        run.progress:line("  tape: " .. notice)
    end)
    self._env = self._offline:env()
    return self._env
end

-- options.sandbox, cwd and the model's environment, unless the task has its own.
function Bound:_options(given)
    local out = { sandbox = self._run.sandbox, cwd = self._run.workdir }
    for name, value in pairs(given or {}) do
        out[name] = value
    end
    local env = {}
    for name, value in pairs(type(out.env) == "table" and out.env or {}) do
        env[name] = value
    end
    for name, value in pairs(self:_model()) do
        env[name] = value
    end
    if out.env == nil or type(out.env) == "table" then
        out.env = env
    end
    return out
end

---As agent.query, with the sandbox bound; shows the tool calls.
---@param spec table
---@return function iterator
---@return table loop
---@return nil
---@return table closing
function Bound:query(spec)
    if type(spec) ~= "table" or spec.options ~= nil and type(spec.options) ~= "table" then
        return agent.query(spec)
    end
    local asked = {}
    for name, value in pairs(spec) do
        asked[name] = value
    end
    asked.options = self:_options(spec.options)
    local _, loop = agent.query(asked)
    self._loops[#self._loops + 1] = loop
    local watch = Watch.new(self._run.progress)
    local closing = setmetatable({}, { __close = function()
        watch:finish()
        loop:close()
    end })
    return function()
        local ok, m = pcall(loop.next, loop)
        if not ok then
            watch:finish()
            error(m, 0)
        elseif m then
            watch:message(m)
        end
        return m
    end, loop, nil, closing
end

---What a task has as task.agent.
---@return table
function Bound:face()
    return setmetatable({ query = function(spec)
        return self:query(spec)
    end }, { __index = agent })
end

---Stops the offline model and writes the tape that was asked for.
function Bound:close()
    if self._offline then
        self._offline:close()
        self._offline = nil
    end
    if self._run.record and #self._loops > 0 then
        local transcripts = {}
        for i, loop in ipairs(self._loops) do
            transcripts[i] = loop:transcript()
        end
        self._loops = {}
        record.save(self._run.record, self._run.code_file, transcripts)
    end
end

return Bound
