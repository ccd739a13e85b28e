-- Which tool calls may run: rules of allowed_tools, the permission mode and the
-- callback can_use_tool, in the order of Claude Code.
local Error = require "e2b.error"

local M = {}

local READ_ONLY = { Read = true, Glob = true, Grep = true }
local EDITS = { Write = true, Edit = true }

-- "Bash", "Bash(*)", "Bash(npm run:*)", "Bash(ls -l)"
local function rule_matches(rule, name, input)
    local tool, content = rule:match("^([^(]+)%((.*)%)$")
    if not tool then
        return rule == name
    elseif tool ~= name then
        return false
    elseif content == "" or content == "*" then
        return true
    end
    local subject = input.command or input.file_path or input.path or input.pattern
    if type(subject) ~= "string" then
        return false
    end
    local prefix = content:match("^(.*):%*$")
    if not prefix then
        return subject == content
    end
    -- `npm run:*` must not let `npm run x; curl ...` through.
    return (subject == prefix or subject:sub(1, #prefix + 1) == prefix .. " ")
        and not subject:find("[;&|<>`\n]") and not subject:find("$(", 1, true)
end

local function listed(rules, name, input)
    for _, rule in ipairs(rules or {}) do
        if rule_matches(rule, name, input) then
            return true
        end
    end
    return false
end

local function ask(options, name, input, id)
    local answer = options.can_use_tool(name, input, { tool_use_id = id })
    if type(answer) ~= "table" or (answer.behavior ~= "allow" and answer.behavior ~= "deny") then
        Error.raise("invalid_argument", "can_use_tool must return {behavior = \"allow\"} or "
            .. "{behavior = \"deny\", message = ...}")
    end
    if answer.behavior == "allow" then
        return { input = answer.updated_input or input }
    end
    return { denied = answer.message or ("Permission to use " .. name .. " was denied."),
        interrupt = answer.interrupt == true }
end

---Decides on one tool call.
---@param options table resolved options
---@param name string
---@param input table
---@param id string tool_use id
---@return table decision {input=} or {denied=text, interrupt=boolean}
---Raises what can_use_tool raises.
function M.decide(options, name, input, id)
    local mode = options.permission_mode
    if listed(options.disallowed_tools, name, input) then
        return { denied = "Permission to use " .. name .. " has been denied." }
    end
    if mode == "bypassPermissions" or READ_ONLY[name]
        or (mode == "acceptEdits" and EDITS[name])
        or listed(options.allowed_tools, name, input) then
        return { input = input }
    end
    if options.can_use_tool and mode ~= "dontAsk" then
        return ask(options, name, input, id)
    end
    return { denied = ("Permission to use %s has been denied: it is not in allowed_tools.")
        :format(name) }
end

return M
