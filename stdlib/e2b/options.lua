-- Checking what a caller passed: option tables with known names and types,
-- the one-table form of a call, and a '.' where a ':' belongs.
local Error = require "e2b.error"

local M = {}

-- Kinds of values beside Lua's type names: what they must be, and the check.
local KINDS = {
    seconds = {
        "a number of seconds, 0 or more",
        function(v)
            return type(v) == "number" and v >= 0 and v == v
        end,
    },
    count = {
        "an integer of 1 or more",
        function(v)
            return math.type(v) == "integer" and v >= 1
        end,
    },
    integer = {
        "an integer",
        function(v)
            return math.type(v) == "integer"
        end,
    },
    text = {
        "a string without NUL bytes",
        function(v)
            return type(v) == "string" and not v:find("\0", 1, true)
        end,
    },
    callable = {
        "a function",
        function(v)
            local meta = getmetatable(v)
            return type(v) == "function" or type(meta) == "table" and meta.__call ~= nil
        end,
    },
    map = {
        "a table of strings with strings as names",
        function(v)
            if type(v) ~= "table" then
                return false
            end
            for name, value in pairs(v) do
                if type(name) ~= "string" or type(value) ~= "string" then
                    return false
                end
            end
            return true
        end,
    },
    any = {
        "a value",
        function(v)
            return v ~= nil
        end,
    },
}

-- Options of every call that reaches the control plane, and of every call that
-- reaches a sandbox.
M.REQUEST = { request_timeout = "seconds" }
M.API = {
    api_key = "text",
    api_url = "text",
    sandbox_url = "text",
    domain = "text",
    backend = { "local", "remote" },
    request_timeout = "seconds",
    retries = "integer",
    headers = "map",
    api_headers = "map",
    proxy = "text",
}

---A new specification: the first extended by the others.
---@param ... table name -> kind
---@return table
function M.spec(...)
    local all = {}
    for _, part in ipairs({ ... }) do
        for name, kind in pairs(part) do
            all[name] = kind
        end
    end
    return all
end

local function distance(a, b)
    local row = {}
    for j = 0, #b do
        row[j] = j
    end
    for i = 1, #a do
        local diagonal = row[0]
        row[0] = i
        for j = 1, #b do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            local best = math.min(diagonal + cost, row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], best
        end
    end
    return row[#b]
end

local function sorted_names(spec)
    local names = {}
    for name in pairs(spec) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

---The name in a table of names that a mistyped word probably meant.
---@param word string
---@param names table<string, any>
---@return string|nil
function M.nearest(word, names)
    local best, least = nil, math.min(3, #word - 1) + 1
    for _, name in ipairs(sorted_names(names)) do
        local d = #word < 60 and distance(word, name) or least
        if d < least then
            best, least = name, d
        end
    end
    return best
end

-- A value in an error text: short, and no table address.
local function shown(v)
    if type(v) == "string" then
        local text = #v > 40 and v:sub(1, 40) .. "..." or v
        return '"' .. text:gsub("%c", "?") .. '"'
    elseif type(v) == "number" or type(v) == "boolean" then
        return tostring(v)
    end
    return v == nil and "nothing" or "a " .. type(v)
end

local function wanted(kind)
    if type(kind) == "table" then
        local words = {}
        for i, word in ipairs(kind) do
            words[i] = '"' .. word .. '"'
        end
        return table.concat(words, " or ")
    end
    local words = {}
    for word in kind:gmatch("[^|]+") do
        words[#words + 1] = KINDS[word] and KINDS[word][1] or "a " .. word
    end
    return table.concat(words, ", or ")
end

local function fits(v, kind)
    if type(kind) == "table" then
        for _, word in ipairs(kind) do
            if v == word then
                return true
            end
        end
        return false
    end
    for word in kind:gmatch("[^|]+") do
        if KINDS[word] then
            if KINDS[word][2](v) then
                return true
            end
        elseif type(v) == word then
            return true
        end
    end
    return false
end

-- Values of these options are never shown.
local SECRET = { api_key = true, headers = true, api_headers = true, proxy = true }

---Raises invalid_argument unless the value is of that kind.
---@param op string the call, for the text
---@param name string of the argument or option
---@param v any
---@param kind string|string[] KINDS or Lua types joined by '|', or the list of legal words
function M.value(op, name, v, kind)
    if not fits(v, kind) then
        local got = SECRET[name] and "another value" or shown(v)
        Error.raise("invalid_argument",
            ("%s: %s must be %s, not %s"):format(op, name, wanted(kind), got), { op = op })
    end
end

---Checks an options table and returns a copy of it.
---@param op string the call, for the text
---@param opts table|nil
---@param spec table name -> kind
---@return table
function M.check(op, opts, spec)
    if opts == nil then
        return {}
    end
    if type(opts) ~= "table" then
        Error.raise("invalid_argument", ("%s: the options must be a table, not %s"):format(
            op, shown(opts)), { op = op })
    end
    local copy = {}
    for name, v in pairs(opts) do
        local kind = spec[name]
        if kind == nil then
            local near = type(name) == "string" and M.nearest(name, spec)
            Error.raise("invalid_argument",
                ("%s has no option %s%s"):format(op, shown(name),
                    near and ('; did you mean "%s"?'):format(near) or ""),
                { op = op, remedy = "its options: " .. table.concat(sorted_names(spec), ", ") })
        end
        M.value(op, name, v, kind)
        copy[name] = v
    end
    return copy
end

---Arguments of a call: positional ones and then an options table, or one table
---with all by name.
---@param op string
---@param params table[] {name, kind [, optional]} of each positional argument
---@param spec table name -> kind of the options
---@param ... any what the caller passed
---@return table checked options with the positional arguments among them
function M.arguments(op, params, spec, ...)
    local count, args = select("#", ...), { ... }
    while count > 0 and args[count] == nil do
        count = count - 1
    end
    local full = M.spec(spec)
    for _, param in ipairs(params) do
        full[param[1]] = param[2]
    end
    local opts
    if count == 1 and type(args[1]) == "table" and params[1] and
        not fits(args[1], params[1][2]) then
        opts = M.check(op, args[1], full)
    else
        if count > #params + 1 then
            Error.raise("invalid_argument",
                ("%s takes %d arguments and a table of options, not %d values"):format(
                    op, #params, count), { op = op })
        end
        opts = M.check(op, args[#params + 1], spec)
        for i, param in ipairs(params) do
            opts[param[1]] = args[i]
        end
    end
    for _, param in ipairs(params) do
        if opts[param[1]] ~= nil or not param[3] then
            M.value(op, param[1], opts[param[1]], param[2])
        end
    end
    return opts
end

---Raises unless self is an object of the class: a '.' was written for a ':'.
---@param op string for example "files.read"
---@param self any
---@param class table the metatable of the objects
function M.object(op, self, class)
    if getmetatable(self) ~= class then
        local colon = op:gsub("%.([%w_]+)$", ":%1")
        Error.raise("invalid_argument",
            ("%s was called without its object; use ':', as in sandbox.%s(...)"):format(op, colon),
            { op = op })
    end
end

---Raises when a class function was called with ':'.
---@param op string for example "Sandbox.create"
---@param first any its first argument
---@param class table
function M.dot(op, first, class)
    if first == class then
        Error.raise("invalid_argument", ("%s is a function of the class; use '.', as in %s(...)")
            :format(op, op), { op = op })
    end
end

return M
