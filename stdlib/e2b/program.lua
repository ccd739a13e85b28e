-- What a person has to type to run this program: for hints in messages.
local fs = require "e2b_fs"
local process = require "e2b_process"

local M = {}

---"e2blua" when that finds this program, else a path from the current folder.
---@return string
function M.name()
    local exe = process.exe()
    for dir in (os.getenv("PATH") or ""):gmatch("[^:]+") do
        if fs.realpath(dir .. "/e2blua") == exe then
            return "e2blua"
        end
    end
    local here = (fs.cwd() or "/") .. "/"
    return exe:sub(1, #here) == here and exe:sub(#here + 1) or exe
end

return M
