--- Programs on a pseudo terminal, driven by tests/lib/pty_driver.py.
local child = require "child"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local t = require "tests"

local M = {}

--- Runs e2blua with these words on a terminal of 80x24 and does the steps.
---@param words string[]
---@param steps any[][] {"wait", text}, {"send", text}, {"size", rows, cols}, {"signal", name}
---@param env? table<string, string>
---@return table {shown, code, raw, restored}
function M.run(words, steps, env)
    local list = json.array()
    for i, step in ipairs(steps) do
        list[i] = json.array(step)
    end
    local argv = { "python3", fs.cwd() .. "/tests/lib/pty_driver.py", json.encode(list),
        process.exe() }
    table.move(words, 1, #words, 5, argv)
    local code, out = child.start(argv, { env = env }):wait(50)
    t.eq(code, 0, out)
    local result = t.ok(json.decode(out))
    t.ok(result.missed == json.null, ("no %q in %q"):format(tostring(result.missed), result.shown))
    return result
end

return M
