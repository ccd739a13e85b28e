-- Glob: files by a pattern of their paths, newest first.
local text = require "agent.text"
local tools = require "agent.tools"

local M = { name = "Glob" }

local MAX_FILES = 100

M.description = "Finds files by a pattern such as **/*.js or src/{a,b}/*.lua. Answers with paths, "
    .. "the newest first, at most " .. MAX_FILES .. "."

M.parameters = {
    { name = "pattern", type = "string", required = true,
        description = "The pattern: *, **, ?, [abc], {a,b}" },
    { name = "path", type = "string",
        description = "The folder to look in (default: the working directory)" },
}

local function escape(c)
    return (c:gsub("[%.%+%*%?%^%$%(%)%[%]{}|\\]", "\\%0"))
end

local function class_of(pattern, i)
    local from, to, negated, set = pattern:find("^%[([!^]?)(%]?[^%]]*)%]", i)
    if not from then
        return "\\[", i + 1
    end
    set = set:gsub("\\", "\\\\")
    return "[" .. (negated ~= "" and "^/" or "") .. set .. "]", to + 1
end

-- The pattern as an extended regular expression of find; nil for one that does
-- not close what it opens.
local function regex(pattern)
    local out, i, depth = {}, 1, 0
    while i <= #pattern do
        local c = pattern:sub(i, i)
        local piece
        local after = i + 1
        if pattern:find("^%*%*/", i) then
            piece, after = "(.*/)?", i + 3
        elseif pattern:find("^%*%*", i) then
            piece, after = ".*", i + 2
        elseif c == "*" then
            piece = "[^/]*"
        elseif c == "?" then
            piece = "[^/]"
        elseif c == "[" then
            piece, after = class_of(pattern, i)
        elseif c == "{" then
            piece, depth = "(", depth + 1
        elseif c == "}" and depth > 0 then
            piece, depth = ")", depth - 1
        elseif c == "," and depth > 0 then
            piece = "|"
        elseif c == "\\" and i < #pattern then
            piece, after = escape(pattern:sub(i + 1, i + 1)), i + 2
        else
            piece = escape(c)
        end
        out[#out + 1], i = piece, after
    end
    return depth == 0 and table.concat(out) or nil
end
M._regex = regex

local SCRIPT = [[cd %s && find . -name .git -prune -o -type f -regextype posix-extended \
-regex %s -printf '%%T@\t%%P\0' 2>/dev/null | sort -zrn | head -z -n %d]]

---Finds files by name, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    local dir = context.path(input.path or ".")
    local pattern = input.pattern
    if pattern:sub(1, 1) == "/" then
        local base, rest = pattern:match("^(/[^*?%[{]*)/(.*)$")
        dir, pattern = base or "/", rest or pattern:sub(2)
    end
    local expression = regex(pattern)
    if not expression then
        return tools.failure(("The pattern %s opens a brace that it does not close.")
            :format(pattern))
    end
    if not context.sandbox.files:exists(dir, { user = context.user }) then
        return tools.failure(("Directory does not exist: %s"):format(dir))
    end
    local result = context.sandbox.commands:run(SCRIPT:format(text.quote(dir),
        text.quote("\\./" .. expression), MAX_FILES + 1), { user = context.user, timeout = 60 })
    local paths = {}
    for path in result.stdout:gmatch("[^\t]*\t([^\0]*)\0") do
        paths[#paths + 1] = (dir == "/" and "" or dir) .. "/" .. path
    end
    local more = #paths > MAX_FILES
    if more then
        paths[#paths] = nil
    end
    local names = table.move(paths, 1, #paths, 1, {})
    if more then
        paths[#paths + 1] = "(Results are truncated. Consider using a more specific path or "
            .. "pattern.)"
    end
    return { content = #paths == 0 and "No files found" or table.concat(paths, "\n"),
        data = { filenames = names, numFiles = #names, truncated = more } }
end

return M
