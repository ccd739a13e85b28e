---@meta e2b_archive

--- File sets of COPY instructions, and archives (host/bind/archive.c). Everything lets other
--- tasks run meanwhile.
---@class e2b_archive
local M = {}

--- What is at a place of a folder and below it, in no order; links are not followed.
---@param context string  folder
---@param sub string  relative to it; "." is all of it
---@return string[]? paths  relative; none when nothing is there
---@return string|e2b.Error types  a letter for each: d folder, f file, l link, o other
function M.list(context, sub) end

---@param context string
---@param paths string[]  relative, in the order that counts
---@param prefix string
---@param follow? boolean  hash what links point to
---@return string? hex  64 digits over prefix, names, modes, contents
---@return e2b.Error? err
function M.hash(context, paths, prefix, follow) end

---@param context string
---@param paths string[]
---@param gzip? boolean
---@param follow? boolean  pack what links point to
---@return string? path  of a new temporary file, the caller's to remove
---@return integer|e2b.Error size  or the error
function M.pack(context, paths, gzip, follow) end

--- Unpacks a tar, plain or with gzip. Members that would be written outside the folder and
--- devices are an error of kind `protocol`.
---@param path string
---@param dir string  made when it is missing
---@return integer? count  of what was made
---@return e2b.Error? err
function M.unpack(path, dir) end

return M
