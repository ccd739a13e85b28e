---@meta e2b_carried
-- The files that the program carries. host/bind/carried.c.
local M = {}

---@param path string in the project: "scripts/tasks/calculator.lua"
---@return string|nil text
function M.read(path) end

return M
