-- examples/first.lua, and what the README prints of it.
local child = require "child"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"

t.before(rig.warm_up)

t.test("the README's first script runs, and its sandbox is gone at its end", function()
    local code, out = child.start({ process.exe(), "examples/first.lua" },
        { dir = fs.cwd() }):wait(30)
    t.eq(code, 0, out)
    local id = t.match(out, "^Linux %S+\nuser\n\nHello from Lua\n\n" ..
        "http://8000%-(%w+)%.e2b%.localhost:%d+\nHello from Lua\n\n$")
    t.eq(rig.api("GET", "/sandboxes/" .. id), 404)
end)

t.test("the README shows the script as it is", function()
    local readme = fs.read_file("README.md")
    t.ok(readme:find("```lua\n" .. fs.read_file("examples/first.lua") .. "```", 1, true),
        "the text of examples/first.lua is not in README.md")
end)
