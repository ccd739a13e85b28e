-- One sandbox for many tasks: it is made once, and each task finds what the one before has left.
local e2b = require "e2b"

local manager <close> = e2b.SandboxManager("base", { timeout = 300 })
manager:start() -- closed to the network; tried again when the backend is busy

local tasks = {
    "printf '%s\\n' pear apple fig > fruit.txt",
    "sort fruit.txt > sorted.txt",
    "wc -l < sorted.txt",
    "paste -sd, sorted.txt",
}
for i, cmd in ipairs(tasks) do
    io.write("task ", i, ": ", manager.commands:run(cmd).stdout:gsub("\n$", ""), "\n")
end
