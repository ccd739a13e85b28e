--- Reads the LuaLS annotations of our own sources, which are written in one way: a block of `---`
--- lines right above `function Table.name(...)` or `function Table:name(...)`. For the test that
--- holds them against the code, and for `make docs`.
local M = {}

---@class tests.Annotated
---@field name? string "files.read"-like: Table.name or Table:name; nil: the block stands alone
---@field table? string
---@field key? string
---@field colon? boolean
---@field params string[] of the function
---@field doc string[] lines of the block without their dashes
---@field line integer of the name, or of the block's end
---@field public boolean

local function split(text)
    local words = {}
    for word in text:gmatch("[%w_.]+") do
        words[#words + 1] = word
    end
    return words
end

-- The parameters of a function whose head may go over several lines.
local function head(lines, i)
    local text = lines[i]
    while not text:find("%)") and lines[i + 1] do
        i = i + 1
        text = text .. " " .. lines[i]
    end
    return text
end

local function entry(lines, i, doc)
    local text = head(lines, i)
    local owner, dot, key, params = text:match("^function ([%w_]+)([.:])([%w_]+)%s*%(([^)]*)%)")
    if not owner then
        local name
        name, params = text:match("^local function ([%w_]+)%s*%(([^)]*)%)")
        if not name then
            return { params = {}, doc = doc, line = i, public = false,
                other = lines[i]:find("^%s*[%w_]") ~= nil }
        end
        return { params = split(params), doc = doc, line = i, public = false, other = true,
            callable = true }
    end
    return {
        name = owner .. dot .. key,
        table = owner,
        key = key,
        colon = dot == ":",
        params = split(params),
        doc = doc,
        line = i,
        callable = true,
        public = key:sub(1, 1) ~= "_",
    }
end

---All annotated blocks and all functions of tables, in the order of the text.
---@param source string
---@return tests.Annotated[]
function M.read(source)
    local lines, list, doc = {}, {}, {}
    for line in (source .. "\n"):gmatch("(.-)\n") do
        lines[#lines + 1] = line
    end
    for i, line in ipairs(lines) do
        local text = line:match("^%s*%-%-%-(.*)$")
        if text and not line:match("^%s*%-%-%-%-") then
            doc[#doc + 1] = text
        else
            if #doc > 0 or line:find("^function [%w_]+[.:]") then
                list[#list + 1] = entry(lines, i, doc)
            end
            doc = {}
        end
    end
    return list
end

---Values of a tag: {{"name", "type and text"}...}.
---@param e tests.Annotated
---@param tag "param"|"return"|"field"|"class"
---@return string[]
function M.tags(e, tag)
    local found = {}
    for _, line in ipairs(e.doc) do
        found[#found + 1] = line:match("^%s*@" .. tag .. "%s+(.*)$")
    end
    return found
end

---Names that ---@param lines give, without a "?".
---@param e tests.Annotated
---@return string[]
function M.param_names(e)
    local names = {}
    for i, text in ipairs(M.tags(e, "param")) do
        names[i] = text:match("^([%w_.]+)") or text
    end
    return names
end

local function has(list, word)
    for _, w in ipairs(list) do
        if w == word then
            return true
        end
    end
    return false
end

---What is wrong with the annotations of a source, a line each.
---@param source string
---@return string[]
function M.faults(source)
    local faults = {}
    local function fault(e, text, ...)
        faults[#faults + 1] = ("%d: %s: "):format(e.line, e.name or "(block)") .. text:format(...)
    end
    for _, e in ipairs(M.read(source)) do
        local named = M.param_names(e)
        if e.public and #e.doc == 0 then
            fault(e, "has no annotation")
        end
        for _, name in ipairs(e.callable and named or {}) do
            if not has(e.params, name) then
                fault(e, "@param %s is no parameter", name)
            end
        end
        for _, name in ipairs(e.public and #e.doc > 0 and e.params or {}) do
            if not has(named, name) and name ~= "..." and name ~= "self" and
                name:sub(1, 1) ~= "_" then
                fault(e, "the parameter %s has no @param", name)
            end
        end
        local types = #M.tags(e, "class") > 0 or #M.tags(e, "alias") > 0
        if not e.callable and not e.other and not types and (#named > 0 or
                #M.tags(e, "return") > 0) then
            fault(e, "annotates nothing")
        end
    end
    return faults
end

return M
