-- JSON for scripts: integers, null, arrays and objects are kept apart.
local json = require "e2b_json"
local Error = require "e2b.error"

local M = {
    ---The null of JSON; equal to cjson.null.
    null = json.null,
}

---Marks a table as an array, so that it is one also when empty.
---@param t? table
---@return table t
function M.array(t)
    return json.array(t or {})
end

---Whether a table is marked as an array; decoded arrays are.
---@param v any
---@return boolean
function M.is_array(v)
    return json.is_array(v)
end

---@param v any
---@param opts? {pretty?: boolean}
---@return string text; kind invalid_argument for what JSON cannot hold
function M.encode(v, opts)
    return json.encode(v, opts)
end

---@param text string
---@return any value; kind protocol when it is not JSON
function M.decode(text)
    local value, err = json.decode(text)
    if value == nil then
        Error.raise(err)
    end
    return value
end

return M
