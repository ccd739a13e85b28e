-- The tools an agent has, by the names and inputs of Claude Code, carried out
-- in the sandbox through the SDK. One file each in tools/.
local Error = require "e2b.error"
local json = require "e2b_json"
local text = require "agent.text"

local M = {}

local NAMES = { "Bash", "Read", "Write", "Edit", "Glob", "Grep" }

-- These end the run: the sandbox is gone or the script wants to stop. The
-- model could do nothing about them.
local FATAL = { "cancelled", "interrupted", "cannot_wait", "sandbox_not_found",
    "sandbox_not_running", "sandbox_unreachable", "out_of_memory", "authentication",
    "network", "tls" }

---Names of all tools.
---@return string[]
function M.names()
    return table.move(NAMES, 1, #NAMES, 1, {})
end

local function tool(name)
    return require("agent.tools." .. name:lower())
end

---The tools a query offers.
---@param options table tools (names; nil all), disallowed_tools
---@return table<string, table> by_name
---@return string[] names in a fixed order
---Raises invalid_argument for a name that does not exist.
function M.offered(options)
    local wanted, hidden = {}, {}
    for _, name in ipairs(options.tools or NAMES) do
        wanted[name] = true
    end
    for name in pairs(wanted) do
        if not text.contains(NAMES, name) then
            Error.raise("invalid_argument", ("there is no tool '%s'%s"):format(tostring(name),
                text.nearest(tostring(name), M.names())), { op = "agent.query" })
        end
    end
    for _, rule in ipairs(options.disallowed_tools or {}) do
        hidden[rule:gsub("%(%*?%)$", "")] = true
    end
    local by_name, names = {}, {}
    for _, name in ipairs(NAMES) do
        if wanted[name] and not hidden[name] then
            by_name[name] = tool(name)
            names[#names + 1] = name
        end
    end
    return by_name, names
end

---The declarations that a request carries.
---@param by_name table<string, table>
---@param names string[]
---@return table[]
function M.declare(by_name, names)
    local out = json.array {}
    for _, name in ipairs(names) do
        local t = by_name[name]
        local properties, required = {}, json.array {}
        for _, p in ipairs(t.parameters) do
            properties[p.name] = { type = p.type, description = p.description,
                enum = p.enum and json.array(p.enum) }
            if p.required then
                required[#required + 1] = p.name
            end
        end
        out[#out + 1] = { name = name, description = t.description, input_schema = {
            type = "object", properties = properties, required = required,
            additionalProperties = false } }
    end
    return out
end

local function fits(p, value)
    if p.type == "integer" or p.type == "number" then
        return math.type(value) ~= nil and (p.type == "number" or math.tointeger(value) ~= nil)
    elseif type(value) ~= p.type then
        return false
    end
    return not p.enum or text.contains(p.enum, value)
end

local function wants(p)
    return p.enum and "one of " .. table.concat(p.enum, ", ") or "of type " .. p.type
end

-- The input as the tool takes it, or what is wrong with it.
local function check(t, input)
    local out, known, names = {}, {}, {}
    for _, p in ipairs(t.parameters) do
        local value = input[p.name]
        if value == json.null then
            value = nil
        end
        known[p.name] = true
        names[#names + 1] = p.name
        if value == nil and p.required then
            return nil, ("The required parameter `%s` is missing"):format(p.name)
        elseif value ~= nil and not fits(p, value) then
            return nil, ("The parameter `%s` must be %s"):format(p.name, wants(p))
        end
        out[p.name] = p.type == "integer" and math.tointeger(value) or value
    end
    for name in pairs(input) do
        if not known[name] then
            return nil, ("An unexpected parameter `%s` was provided%s"):format(tostring(name),
                text.nearest(tostring(name), names))
        end
    end
    return out
end

---A result that tells the agent what went wrong.
---@param message string
---@return table
function M.failure(message)
    return { content = message, is_error = true }
end

local function fatal(err)
    for _, kind in ipairs(FATAL) do
        if Error.is(err, kind) then
            return true
        end
    end
    return false
end

-- A path as the agent gives it, absolute.
local function resolve(workdir)
    return function(path)
        if path:sub(1, 1) == "/" then
            return path
        end
        path = path:gsub("^%./+", "")
        if path == "" or path == "." then
            return workdir
        end
        return (workdir == "/" and "" or workdir) .. "/" .. path
    end
end

---What the tools of one run share.
---@param options table sandbox, env, user
---@param workdir string|nil
---@return table
function M.context(options, workdir)
    return { sandbox = options.sandbox, user = options.user, env = options.env,
        workdir = workdir, path = workdir and resolve(workdir) }
end

---Carries one tool call out. What goes wrong inside becomes an error result.
---@param t table tool
---@param context table of M.context
---@param input table
---@return table result content (text or blocks), is_error, data
---Raises invalid_argument without a sandbox, and what ends the run: cancelled, interrupted,
---sandbox_not_found, sandbox_not_running, sandbox_unreachable, out_of_memory, authentication,
---network, tls.
function M.run(t, context, input)
    if not context.sandbox then
        Error.raise("invalid_argument", ("the agent called %s, which needs a sandbox")
            :format(t.name), { op = "agent.query",
            remedy = "give options.sandbox, or tools = {} for a talk without tools" })
    end
    local checked, wrong = check(t, input)
    if not checked then
        return M.failure(("InputValidationError: %s failed due to the following issue:\n%s")
            :format(t.name, wrong))
    end
    local ok, result = pcall(t.run, context, checked)
    if ok then
        return result
    elseif fatal(result) then
        error(result, 0)
    end
    return M.failure(Error.is(result) and result.message or tostring(result))
end

return M
