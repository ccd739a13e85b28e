---@meta e2b_hash

--- SHA-256 (host/bind/hash.c).
---@class e2b_hash
local M = {}

---@param bytes string
---@return string hex  64 digits
function M.sha256(bytes) end

--- Of a file's contents; other tasks run meanwhile.
---@param path string
---@return string? hex
---@return e2b.Error? err
function M.file(path) end

return M
