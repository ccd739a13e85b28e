-- Grep: searches in files with ripgrep.
local Error = require "e2b.error"
local text = require "agent.text"
local tools = require "agent.tools"
local wire = require "e2b_wire"

local M = { name = "Grep" }

local MAX_OUTPUT = 30000
local DEFAULT_LINES = 250

M.description = "Searches in files with ripgrep's regular expressions. output_mode: "
    .. "files_with_matches (default), content or count."

local function number(name, description)
    return { name = name, type = "integer", description = description }
end

M.parameters = {
    { name = "pattern", type = "string", required = true,
        description = "The regular expression" },
    { name = "path", type = "string",
        description = "File or folder to search in (default: the working directory)" },
    { name = "glob", type = "string", description = "Only files such as *.js or *.{ts,tsx}" },
    { name = "type", type = "string", description = "Only files of this type: js, py, lua, ..." },
    { name = "output_mode", type = "string",
        enum = { "content", "files_with_matches", "count" }, description = "What to answer" },
    { name = "-i", type = "boolean", description = "Ignore case" },
    { name = "-n", type = "boolean", description = "Line numbers with content (default true)" },
    number("-A", "Lines after each match, with content"),
    number("-B", "Lines before each match, with content"),
    number("-C", "Lines before and after each match, with content"),
    number("head_limit", "At most so many lines of the answer, 0 for all (default "
        .. DEFAULT_LINES .. ")"),
    number("offset", "Leave so many lines of the answer out first"),
    { name = "multiline", type = "boolean", description = "Let . match line ends" },
}

local function command(context, input)
    local mode = input.output_mode or "files_with_matches"
    local words = { "rg", "--hidden", "--color=never", "--no-heading",
        "--with-filename", "--max-columns=500", "--sort=path", "--glob=!.git" }
    local function add(...)
        for _, word in ipairs { ... } do
            words[#words + 1] = text.quote(word)
        end
    end
    if mode == "files_with_matches" then
        add("--files-with-matches")
    elseif mode == "count" then
        add("--count")
    else
        add(input["-n"] == false and "--no-line-number" or "--line-number")
        for _, flag in ipairs { "-A", "-B", "-C" } do
            if input[flag] then
                add(flag, tostring(math.max(input[flag], 0)))
            end
        end
    end
    if input["-i"] then
        add("--ignore-case")
    end
    if input.multiline then
        add("--multiline", "--multiline-dotall")
    end
    if input.glob then
        add("--glob=" .. input.glob)
    end
    if input.type then
        add("--type=" .. input.type)
    end
    add("--regexp=" .. input.pattern, "--", context.path(input.path or "."))
    return table.concat(words, " ")
end

local function pick(output, input)
    local limit = input.head_limit or DEFAULT_LINES
    local skip, n, out = math.max(input.offset or 0, 0), 0, {}
    for line in output:gmatch("([^\n]*)\n") do
        n = n + 1
        if n > skip and (limit == 0 or n <= skip + limit) then
            out[#out + 1] = line
        end
    end
    if limit > 0 and n > skip + limit then
        out[#out + 1] = ("... [%d more lines; use offset and head_limit]"):format(
            n - skip - limit)
    end
    return out, n
end

---Searches files, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    local commands = context.sandbox.commands
    local ok, result = pcall(commands.run, commands, command(context, input),
        { user = context.user, timeout = 60, cwd = context.workdir })
    if not ok then
        if not Error.is(result, "command_exit") or not result.result then
            error(result, 0)
        end
        result = result.result
        if result.exit_code == 127 then
            return tools.failure("ripgrep (rg) is not installed in this sandbox. Use Bash with "
                .. "grep -rn instead.")
        elseif result.exit_code ~= 1 and result.stdout == "" then
            return tools.failure(text.shorten(wire.utf8(result.stderr), MAX_OUTPUT))
        end
    end
    local lines, total = pick(result.stdout, input)
    if total == 0 then
        return { content = "No matches found", data = { numLines = 0 } }
    end
    return { content = text.shorten(wire.utf8(table.concat(lines, "\n")), MAX_OUTPUT),
        data = { numLines = total } }
end

return M
