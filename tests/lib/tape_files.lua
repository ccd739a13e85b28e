--- The files that a tape's tool calls would leave behind: Write and Edit carried out in memory. For
--- tests of such a file without a sandbox.
local fs = require "e2b_fs"
local json = require "e2b_json"

local M = {}

local function edit(text, input)
    local from, to = text:find(input.old_string, 1, true)
    assert(from, "a tape edits text that is not there: " .. input.old_string)
    assert(not text:find(input.old_string, to + 1, true),
        "a tape edits text that is there twice: " .. input.old_string)
    return text:sub(1, from - 1) .. input.new_string .. text:sub(to + 1)
end

---@param path string  of the tape
---@return table<string, string> files  by their path in the working directory
function M.files(path)
    local files = {}
    for line in assert(fs.read_file(path)):gmatch("[^\n]+") do
        local reply = assert(json.decode(line)).reply
        for _, block in ipairs(reply and reply.content or {}) do
            local input = block.input
            local name = input and input.file_path and input.file_path:gsub("^{{workdir}}/", "")
            if block.name == "Write" then
                files[name] = input.content
            elseif block.name == "Edit" then
                files[name] = edit(assert(files[name], name .. " is edited before it is there"),
                    input)
            end
        end
    end
    return files
end

return M
