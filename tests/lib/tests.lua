--- What the Lua tests are written with. A test file calls t.test for each of its tests; run.lua
--- runs them. Nothing here prints or exits.
local fs = require "e2b_fs"
local wire = require "e2b_wire"

local M = {
    _tests = {}, -- of the files loaded so far: {name=, fn=, timeout=, file=}
    _file = nil, -- being loaded
    _cleanups = {}, -- of the running test
    _before = {}, -- by file: functions that have still to run before its first test
}

local TIMEOUT = 60

--- Adds a test. It runs in a task of its own with a deadline.
---@param name string  what is promised, as a sentence without its subject
---@param opts {timeout: number}|function  seconds, default 60
---@param fn? function
function M.test(name, opts, fn)
    if fn == nil then
        opts, fn = {}, opts
    end
    assert(type(name) == "string" and type(fn) == "function", "t.test(name, [opts,] function)")
    M._tests[#M._tests + 1] = {
        name = name, fn = fn, timeout = opts.timeout or TIMEOUT, file = M._file,
    }
end

--- Runs fn once before the first test of this file that is run (none: never), without a deadline:
--- for what all of them need and what takes its time. What it opens is nobody's leftover.
function M.before(fn)
    local list = M._before[M._file] or {}
    M._before[M._file] = list
    list[#list + 1] = fn
end

-- ---- telling values ------------------------------------------------------------------------

local function sorted_keys(t)
    local keys = {}
    for k in pairs(t) do
        keys[#keys + 1] = k
    end
    table.sort(keys, function(a, b)
        return type(a) == type(b) and type(a) ~= "table" and type(a) ~= "boolean" and a < b
            or type(a) < type(b)
    end)
    return keys
end

--- A value as text, tables with their content.
---@param v any
---@return string
function M.show(v, depth)
    depth = depth or 0
    if type(v) == "string" then
        local text = #v > 400 and v:sub(1, 400) .. "..." or v
        return (string.format("%q", text):gsub("\\\n", "\\n"))
    elseif type(v) ~= "table" or depth > 4 then
        return tostring(v)
    end
    local parts = {}
    for _, k in ipairs(sorted_keys(v)) do
        local key = math.type(k) == "integer" and "" or tostring(k) .. " = "
        parts[#parts + 1] = key .. M.show(v[k], depth + 1)
    end
    return "{" .. table.concat(parts, ", ") .. "}"
end

local function same(a, b)
    if a == b then
        return math.type(a) == math.type(b)
    elseif type(a) ~= "table" or type(b) ~= "table" then
        return false
    end
    for k, v in pairs(a) do
        if not same(v, b[k]) then
            return false
        end
    end
    for k in pairs(b) do
        if a[k] == nil then
            return false
        end
    end
    return true
end

local function fail(level, ...)
    error(table.concat({...}), level + 1)
end

-- ---- assertions ----------------------------------------------------------------------------

--- Equal, tables by content; 1 and 1.0 differ.
function M.eq(got, want, what)
    if not same(got, want) then
        fail(2, what and what .. ": " or "", "got ", M.show(got), ", wanted ", M.show(want))
    end
end

--- True, or the message.
---@return any v
function M.ok(v, message)
    if not v then
        if type(message) == "table" then
            message = M.error_text(message)
        end
        fail(2, message or "a condition does not hold")
    end
    return v
end

--- The text holds the Lua pattern; returns its captures.
function M.match(text, pattern, what)
    if type(text) ~= "string" or not text:find(pattern) then
        fail(2, what and what .. ": " or "", M.show(text), " does not match ", M.show(pattern))
    end
    return text:match(pattern)
end

--- An error value as one line.
---@return string
function M.error_text(e)
    if type(e) == "table" and e.kind then
        local remedy = e.remedy and " (" .. tostring(e.remedy) .. ")" or ""
        return string.format("%s: %s%s", e.kind, tostring(e.message), remedy)
    end
    return type(e) == "table" and M.show(e) or tostring(e)
end

local function check_kind(e, kind)
    if kind == nil then
        return e
    elseif type(e) == "table" then
        if e.kind ~= kind then
            fail(3, "wanted an error of kind ", kind, ", got ", M.error_text(e))
        end
    elseif not tostring(e):find(kind, 1, true) then
        fail(3, "wanted an error ", M.show(kind), ", got ", M.show(tostring(e)))
    end
    return e
end

--- The call raises an e2b.Error of that kind, or (Lua's own checks) a string that holds `kind`.
---@param kind string|nil  nil: any error
---@return any e
function M.raises(kind, fn, ...)
    local r = table.pack(pcall(fn, ...))
    if r[1] then
        fail(2, "wanted an error", kind and " of kind " .. kind or "", ", got ",
            M.show({table.unpack(r, 2, r.n)}))
    end
    return check_kind(r[2], kind)
end

--- The call returns nil and an e2b.Error of that kind.
---@return any e
function M.fails(kind, fn, ...)
    local v, e = fn(...)
    if v ~= nil or e == nil then
        fail(2, "wanted nil and an error, got ", M.show(v), " and ", M.show(e))
    end
    return check_kind(e, kind)
end

-- ---- surroundings --------------------------------------------------------------------------

--- Runs fn after the test, also when it fails; last one first.
function M.cleanup(fn)
    table.insert(M._cleanups, fn)
end

--- A new folder, removed after the test.
---@return string path
function M.tmpdir()
    local path = (os.getenv("TMPDIR") or "/tmp") .. "/e2blua-test-" .. wire.random(8)
    assert(fs.mkdirs(path, tonumber("700", 8)))
    M.cleanup(function()
        assert(fs.remove_tree(path))
    end)
    return path
end

--- Ends the test as skipped. tests/SKIPS must list the id with its reason.
function M.skip(id)
    error(setmetatable({skip = id}, {__name = "skip"}), 0)
end

return M
