---@meta e2b_json

--- JSON with integers, null, arrays and objects kept apart (host/bind/json.c).
---@class e2b_json
---@field null lightuserdata  JSON's null; equal to cjson.null
local M = {}

--- Marks a table as an array, so that it is written as `[]` also when empty.
---@generic T: table
---@param t? T  default a new table
---@return T t  the same table; raises `invalid_argument` when it has a metatable of its own
function M.array(t) end

---@param v any
---@return boolean marked  by `array`, or made by `decode` from an array
function M.is_array(v) end

--- Keys are sorted; an unmarked table with keys 1..n is an array, an empty one an object. Bytes
--- that are not UTF-8 become U+FFFD. Raises `invalid_argument` naming the place of what JSON cannot
--- hold.
---@param v any
---@param opts? {pretty: boolean}  pretty: two spaces of indent, default false
---@return string text
function M.encode(v, opts) end

---@param text string
---@return any v  nil on failure; null is `M.null`, arrays are marked
---@return e2b.Error? err  kind `protocol`, with line and column
function M.decode(text) end

return M
