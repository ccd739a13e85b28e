--- A client of many streams, or of one large output; client.py and client.mjs do the same with
--- E2B's SDKs. Prints one JSON object:
---     client.lua streams SANDBOXES COMMANDS PROBE TICK_MS | client.lua output BYTES
package.path = arg[0]:match "^(.*)/[^/]*$" .. "/?.lua;" .. package.path

local bench = require "bench"
local e2b = require "e2b"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"

local STARTING <const> = 32 -- at once

local function sandbox_for_streams(probe)
    local sandbox = e2b.Sandbox.create { timeout = 300, allow_internet_access = false }
    sandbox.files:write("/home/user/probe", probe)
    sandbox.commands:run "chmod +x probe"
    return sandbox
end

local function follow(sandbox, seen, i, tick_ms)
    return sandbox.commands:run("exec ./probe tick " .. tick_ms, { background = true, timeout = 0,
        on_stdout = function()
            seen[i] = (seen[i] or 0) + 1
        end })
end

local function await_lines(seen, n, least)
    e2b.timeout(120, function()
        local ready
        repeat
            e2b.sleep(0.1)
            ready = true
            for i = 1, n do
                ready = ready and (seen[i] or 0) >= least
            end
        until ready
    end)
end

local function streams(sandboxes, commands, probe, tick_ms)
    local bytes = assert(fs.read_file(probe))
    local boxes, seen, numbers = {}, {}, {}
    for i = 1, commands do
        numbers[i] = i
    end
    for i = 1, sandboxes do
        boxes[i] = sandbox_for_streams(bytes)
    end
    collectgarbage()
    local _, idle = bench.memory(process.pid())
    local began = e2b.now()
    e2b.parallel(numbers, STARTING, function(_, i)
        return follow(boxes[i % sandboxes + 1], seen, i, tick_ms)
    end)
    local started = e2b.now() - began
    await_lines(seen, commands, 2)
    local peak, now = bench.memory(process.pid())
    e2b.parallel(boxes, 8, function(box)
        box:kill()
    end)
    return { peak_kb = peak, rss_kb = now, idle_kb = idle, lua_kb = collectgarbage "count",
        start_s = started }
end

local function output(bytes)
    local sandbox <close> = e2b.Sandbox.create { allow_internet_access = false }
    sandbox.commands:run "true"
    local got = 0
    local began = e2b.now()
    sandbox.commands:run("head -c " .. bytes .. " /dev/zero | tr '\\0' x", {
        on_stdout = function(piece)
            got = got + #piece
        end })
    local seconds = e2b.now() - began
    assert(got == bytes, "not all of the output came")
    return { seconds = seconds }
end

if arg[1] == "streams" then
    print(json.encode(streams(tonumber(arg[2]), tonumber(arg[3]), arg[4],
        tonumber(arg[5]))))
else
    print(json.encode(output(tonumber(arg[2]))))
end
os.exit(true)
