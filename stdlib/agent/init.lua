-- e2b.agent: the Claude Agent SDK for Lua. Its tools work in a sandbox.
local Error = require "e2b.error"
local Loop = require "agent.loop"
local message = require "agent.message"

local M = {}

local function iterate(loop)
    return loop:next()
end

local function check_call(spec)
    if type(spec) ~= "table" then
        Error.raise("invalid_argument", "agent.query takes one table: "
            .. "agent.query{prompt = \"...\", options = {...}}", { op = "agent.query" })
    end
    for name in pairs(spec) do
        if name ~= "prompt" and name ~= "options" then
            Error.raise("invalid_argument", ("agent.query takes prompt and options, not '%s'")
                :format(tostring(name)), { op = "agent.query",
                remedy = "write agent.query{prompt = ..., options = {" .. tostring(name)
                .. " = ...}}" })
        end
    end
end

---Lets an agent work. For a generic `for`: each step gives one message; leaving
---the loop early ends the run.
---
---    for m in agent.query{prompt = "Make index.html", options = {sandbox = sbx}} do
---        if agent.is(m, "ResultMessage") then print(m.result) end
---    end
---@param spec table prompt (text), options: model, system_prompt, max_turns, tools, allowed_tools,
---disallowed_tools, permission_mode, can_use_tool, cwd, env, betas, thinking,
---include_partial_messages as in ClaudeAgentOptions; sandbox, user, max_tokens (default 32000),
---max_retries (4), request_timeout (seconds until a reply begins, 600) and idle_timeout (seconds
---without a byte, 300) are ours
---@return function iterator
---@return table loop
---@return nil
---@return table closing
---Raises invalid_argument, authentication; while it runs what the model's endpoint or the
---sandbox did, after a ResultMessage with is_error.
function M.query(spec)
    check_call(spec)
    local loop = Loop.new(spec.prompt, spec.options)
    return iterate, loop, nil, loop
end

M.is = message.is

local LAZY = { run_code_in_sandbox = true, run_code_with_service = true }

return setmetatable(M, { __index = function(_, name)
    if LAZY[name] then
        return require("agent.runner")[name]
    elseif name == "run_app" then
        return require("agent.app").run
    end
end })
