-- Patterns of paths: `*`, `?`, `[...]` within a name, `**` for any number of
-- folders. A leading dot is nothing special.
local M = {}

local DEEP <const> = {}
-- One character of UTF-8, or a stray byte.
local ANY_CHARACTER <const> = "[\0-\x7F\xC2-\xFD][\x80-\xBF]*"

local function literal(c)
    return (c:gsub("%W", "%%%0"))
end

-- "[...]" at position i: the Lua class and where to go on; nil: it does not end.
local function class_at(segment, i)
    local parts, at = { "[" }, i + 1
    if segment:find("^[!^]", at) then
        parts[2] = "^"
        at = at + 1
    end
    local first = at
    while at <= #segment do
        local c = segment:sub(at, at)
        if c == "]" and at > first then
            parts[#parts + 1] = "]"
            return table.concat(parts), at + 1
        end
        if c == "\\" and at < #segment then
            at = at + 1
            c = segment:sub(at, at)
        end
        local range = segment:match("^%-([^%]])", at + 1)
        if range then
            parts[#parts + 1] = literal(c) .. "-" .. literal(range)
            -- Lua takes the ends of a range literally only without escapes.
            if c:find("%W") or range:find("%W") then
                return nil
            end
            at = at + 2
        else
            parts[#parts + 1] = literal(c)
        end
        at = at + 1
    end
    return nil
end

-- The Lua pattern of a name; nil and why when it is malformed (only if strict).
local function name_pattern(segment, strict)
    local parts, i = {}, 1
    while i <= #segment do
        local c = segment:sub(i, i)
        i = i + 1
        if c == "*" then
            if parts[#parts] ~= ".*" then
                parts[#parts + 1] = ".*"
            end
        elseif c == "?" then
            parts[#parts + 1] = ANY_CHARACTER
        elseif c == "[" then
            local class, after = class_at(segment, i - 1)
            if class then
                parts[#parts + 1], i = class, after
            elseif strict then
                return nil, "a '[' that does not end"
            else
                parts[#parts + 1] = "%["
            end
        elseif c == "\\" and i <= #segment then
            parts[#parts + 1] = literal(segment:sub(i, i))
            i = i + 1
        elseif c == "\\" and strict then
            return nil, "a '\\' at the end"
        else
            parts[#parts + 1] = literal(c)
        end
    end
    return "^" .. table.concat(parts) .. "$"
end

---The names of a path; "." and empty ones are dropped.
---@param path string
---@return string[]
function M.split(path)
    local names = {}
    for name in path:gmatch("[^/]+") do
        if name ~= "." then
            names[#names + 1] = name
        end
    end
    return names
end

---Whether a name holds anything but itself.
---@param name string
---@return boolean
function M.is_pattern(name)
    return name:find("[*?%[\\]") ~= nil
end

---@class e2b.template.Glob
---@field [integer] any a name's Lua pattern, or DEEP

---@param pattern string
---@param strict? boolean malformed patterns are an error, not literal text
---@return e2b.template.Glob|nil glob, string|nil why it is malformed
function M.compile(pattern, strict)
    local glob = {}
    for i, name in ipairs(M.split(pattern)) do
        if name == "**" then
            glob[i] = DEEP
        else
            local text, why = name_pattern(name, strict)
            if not text then
                return nil, why
            end
            glob[i] = text
        end
    end
    return glob
end

local function match_from(glob, g, names, n, deep_min)
    while g <= #glob do
        if glob[g] == DEEP then
            local last = g == #glob
            for skip = last and deep_min or 0, #names - n + 1 do
                if last or match_from(glob, g + 1, names, n + skip, deep_min) then
                    return true
                end
            end
            return false
        end
        if n > #names or not names[n]:find(glob[g]) then
            return false
        end
        g, n = g + 1, n + 1
    end
    return n > #names
end

---Whether the glob matches the whole path.
---@param glob e2b.template.Glob
---@param names string[] by split
---@param below? boolean a final `**` wants at least one name (Docker's rule)
---@return boolean
function M.matches(glob, names, below)
    return match_from(glob, 1, names, 1, below and 1 or 0)
end

return M
