-- Where in the script a template's method was called: what a failing step names.
-- Lua 5.4.4 gives every call of a chain `a:b():c()` the line of its beginning,
-- and none at all to a call behind `return`: the source tells the rest, and is
-- looked at only when an error has to name a line.
local fs = require "e2b_fs"

local M = {}

local MAX_SOURCE <const> = 1 << 20

-- Chunk names of the standard library begin like this file's own.
local ours = debug.getinfo(1, "S").source:match("^(.*)e2b/template/position%.lua$")

---@class e2b.template.Call
---@field name string of the method
---@field file? string path of the script, when it is a file
---@field shown? string its name in errors
---@field line? integer where the chain begins; nil: called behind `return`

---The call that the script is in the middle of.
---@param name string of the method
---@return e2b.template.Call
function M.here(name)
    local level, tail = 2, false
    while true do
        local info = debug.getinfo(level, "Slt")
        if not info then
            return { name = name }
        end
        if info.source:sub(1, #ours) ~= ours then
            if tail or info.currentline < 1 then
                return { name = name }
            end
            return {
                name = name,
                file = info.source:match("^@(.*)$"),
                shown = info.short_src,
                line = info.currentline,
            }
        end
        tail = info.istailcall
        level = level + 1
    end
end

---Folder of the script that is calling, when it is a file.
---@return string|nil
function M.folder()
    local call = M.here("")
    return call.file and (call.file:match("^(.*)/[^/]*$") or ".")
end

-- ---- a little of Lua's grammar -----------------------------------------------

-- Where the long bracket at `at` ends, or nil when there is none.
local function long_end(text, at)
    local level = text:match("^%[(=*)%[", at)
    if not level then
        return nil
    end
    local _, stop = text:find("]" .. level .. "]", at, true)
    return (stop or #text) + 1
end

local function string_end(text, at)
    local quote = text:sub(at, at)
    at = at + 1
    while at <= #text do
        local c = text:sub(at, at)
        if c == quote or c == "\n" then
            return at + 1
        end
        at = at + (c == "\\" and 2 or 1)
    end
    return at
end

-- The next token from `at` on: kind, text, where it begins, where to go on.
local function token(text, at)
    at = text:find("%S", at)
    if not at then
        return nil
    end
    local c = text:sub(at, at)
    if text:find("^%-%-", at) then
        local stop = long_end(text, at + 2) or text:find("\n", at, true) or #text + 1
        return "comment", "", at, stop
    elseif c == "'" or c == '"' then
        return "string", "", at, string_end(text, at)
    elseif long_end(text, at) then
        return "string", "", at, long_end(text, at)
    end
    local word = text:match("^[%a_][%w_]*", at)
    if word then
        return "word", word, at, at + #word
    end
    return "other", c, at, at + 1
end

local CONTINUES = {
    [":"] = true, ["."] = true, [")"] = true, ["}"] = true, ["]"] = true, [","] = true,
    ["("] = true, ["{"] = true,
}
local DEEPER = { ["("] = 1, ["{"] = 1, ["["] = 1, [")"] = -1, ["}"] = -1, ["]"] = -1 }

local function start_of_line(text, line)
    local at = 1
    for _ = 2, line do
        at = (text:find("\n", at, true) or #text) + 1
    end
    return at
end

-- The method calls `:name` of what begins on that line, in order: {name, line}.
local function chain_at(text, line)
    local calls, depth, last_line = {}, 0, line
    local from = start_of_line(text, line)
    local at, counted = from, from
    local after_colon = false
    while true do
        local kind, word, begins, stop = token(text, at)
        if not kind then
            return calls
        end
        local _, breaks = text:sub(counted, begins - 1):gsub("\n", "")
        line, counted, at = line + breaks, begins, stop
        if kind ~= "comment" then
            local fresh = line > last_line
            last_line = line
            if fresh and depth <= 0 and kind ~= "string" and not CONTINUES[word] then
                return calls
            end
            if after_colon and kind == "word" then
                calls[#calls + 1] = { word, line }
            end
            after_colon = word == ":"
            depth = depth + (DEEPER[word] or 0)
        end
    end
end

-- Lines after `line` that begin with `return`.
local function return_lines(text, line)
    local lines, n = {}, 0
    for row in (text .. "\n"):gmatch("(.-)\n") do
        n = n + 1
        if n > line and row:find("^%s*return%f[^%w_]") then
            lines[#lines + 1] = n
        end
    end
    return lines
end

-- ---- finding -----------------------------------------------------------------

local ALIASES = { run_commands = "run_cmd", copy_files = "copy" }

local function canonical(name)
    return ALIASES[name] or name
end

-- Takes the next element of that name, or nil; round: begins again at the end,
-- as a loop does.
local function take(chain, name, round)
    for i = chain.next, #chain + (round and chain.next - 1 or 0) do
        local at = (i - 1) % #chain + 1
        if canonical(chain[at][1]) == canonical(name) then
            chain.next = at + 1
            return chain[at][2]
        end
    end
    return nil
end

local function chain_of(chains, text, line)
    if not chains[line] then
        chains[line] = chain_at(text, line)
        chains[line].next = 1
    end
    return chains[line]
end

-- A call behind `return`: the rest of the chain before it, or a later line with
-- such a return that was not taken yet.
local function behind_return(chains, text, from, name)
    local found = take(chain_of(chains, text, from), name)
    local lines = return_lines(text, from)
    for _, round in ipairs({ false, true }) do
        for _, line in ipairs(lines) do
            found = found or take(chain_of(chains, text, line), name, round)
        end
    end
    return found
end

---"file:line" of a call, as well as it can be known.
---@param calls e2b.template.Call[] all of a template, in order
---@param index integer
---@return string|nil
function M.resolve(calls, index)
    local sources, chains, last = {}, {}, nil
    local where
    for i = 1, index do
        local call = calls[i]
        local origin = call.line and call or last
        where = nil
        if origin then
            local file = origin.file or ""
            if sources[file] == nil then
                sources[file] = file ~= "" and fs.read_file(file, MAX_SOURCE) or false
                chains[file] = {}
            end
            local text, line = sources[file], nil
            if text and call.line then
                line = take(chain_of(chains[file], text, call.line), call.name, true)
            elseif text then
                line = behind_return(chains[file], text, origin.line, call.name)
            end
            where = origin.shown .. ":" .. (line or origin.line)
            last = origin
        end
    end
    return where
end

return M
