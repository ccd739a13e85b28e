-- Where the files of a project are: tasks, tapes, template files. The same rule
-- as for scripts: the path as given, then the folder of the current project,
-- then the copy that the program carries.
local Error = require "e2b.error"
local carried = require "e2b_carried"
local dotenv = require "e2b.dotenv"
local fs = require "e2b_fs"

local M = {}

local MAX_BYTES = 64 * 1024 * 1024

local function is_file(path)
    local st = fs.stat(path)
    return st ~= nil and st.type == "file"
end

---The text of a file.
---@param name string for example "tasks/calculator.lua"
---@param folder string "scripts" or "templates"
---@return string|nil text
---@return string where the path, for error texts; when nothing was found, the places looked at
function M.read(name, folder)
    local looked = { name }
    local project = name:sub(1, 1) ~= "/" and dotenv.project()
    if project then
        looked[2] = ("%s/%s/%s"):format(project, folder, name)
    end
    for _, path in ipairs(looked) do
        if is_file(path) then
            return Error.check(fs.read_file(path, MAX_BYTES)), path
        end
    end
    local path = folder .. "/" .. name
    local text = carried.read(path)
    if text then
        return text, path
    end
    looked[#looked + 1] = path .. " (installed copy)"
    return nil, table.concat(looked, ", ")
end

return M
