-- .template_id: which template was built where, a line `<backend> <id>` for
-- each backend. A line with an id alone is read as the current backend's.
local fs = require "e2b_fs"
local Error = require "e2b.error"

local M = {}

M.NAME = ".template_id"
local MAX <const> = 1 << 16

local function key_of(config)
    return config.backend == "local" and "local" or config.api_url
end

local function lines_of(path)
    local lines = {}
    if fs.stat(path) then
        for line in Error.check(fs.read_file(path, MAX)):gmatch("[^\r\n]+") do
            lines[#lines + 1] = line
        end
    end
    return lines
end

---The id for the backend, or nil.
---@param path string of the file, which may be missing
---@param config e2b.Config
---@return string|nil
function M.read(path, config)
    local alone
    for _, line in ipairs(lines_of(path)) do
        local backend, id = line:match("^%s*(%S+)%s+(%S+)%s*$")
        if backend == key_of(config) then
            return id
        end
        alone = alone or line:match("^%s*([%w_/:.-]+)%s*$")
    end
    return alone
end

---Puts the id of the backend in, keeps the others'.
---@param path string
---@param config e2b.Config
---@param id string
function M.write(path, config, id)
    local kept = {}
    for _, line in ipairs(lines_of(path)) do
        local backend = line:match("^%s*(%S+)%s+%S+%s*$")
        if backend and backend ~= key_of(config) then
            kept[#kept + 1] = line
        end
    end
    kept[#kept + 1] = key_of(config) .. " " .. id
    Error.check(fs.write_file(path, table.concat(kept, "\n") .. "\n"))
end

return M
