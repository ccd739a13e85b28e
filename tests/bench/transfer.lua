--- Large files up and down, beside a bare pump over the same two hops: file, TCP, unix socket,
--- file. The peak memory of host, engine and envd meanwhile.
local bench = require "bench"
local Template = require "e2b.template"
local fs = require "e2b_fs"
local place = require "place"
local process = require "e2b_process"

local PIECE <const> = 256 * 1024
local MEMORY_MB <const> = 4096

local function make_file(path, bytes)
    local f = assert(io.open(path, "w"))
    local piece = ("0123456789abcdef"):rep(PIECE // 16)
    for _ = 1, bytes // PIECE do
        f:write(piece)
    end
    f:close()
end

local function watched(pids)
    collectgarbage()
    local idle = {}
    for name, pid in pairs(pids) do
        if bench.forget_peak(pid) then
            idle[name] = select(2, bench.memory(pid))
        end
    end
    return function(worst)
        for name, size in pairs(idle) do
            local over = (bench.memory(pids[name]) - size) / 1024
            worst[name] = math.max(worst[name] or 0, over)
        end
    end
end

local function uploader(sandbox, source)
    return function()
        local f <close> = assert(io.open(source, "rb"))
        sandbox.files:write("/home/user/data", f)
    end
end

local function downloader(sandbox, target)
    return function()
        local f <close> = assert(io.open(target, "wb"))
        local stream <close> = sandbox.files:read("/home/user/data", { format = "stream" })
        stream:save(f)
    end
end

local function processor(pids)
    local sum = 0
    for _, pid in pairs(pids) do
        sum = sum + bench.processor(pid)
    end
    return sum
end

local function direction(name, ours, pump, pids, bytes)
    local worst, spent = {}, { ours = {}, pump = {} }
    local samples, failures = bench.in_turn(bench.scaled(5, 1), {
        { name = "e2blua", ours = true, sample = function()
            local measure, before = watched(pids), processor(pids)
            local ms = bench.timed(ours)
            measure(worst)
            table.insert(spent.ours, processor(pids) - before)
            return bytes / 1048576 / ms * 1000
        end },
        { name = "pump", sample = function()
            local row = pump()[1]
            table.insert(spent.pump, row[2] / 1e6)
            return bytes / 1048576 / row[1] * 1e6
        end },
    })
    local what = ("%d MiB %s"):format(bytes // 1048576, name)
    bench.compare { measure = what, unit = "MiB/s", peer = "bare pump", samples = samples.e2blua,
        peer_samples = samples.pump, failure = failures.pump, at_least = 0.7,
        goal = "at least 0.7 x the pump",
        note = ("processor time %.2f s, the pump's %.2f s"):format(bench.median(spent.ours),
            #spent.pump > 0 and bench.median(spent.pump) or 0) }
    for _, who in ipairs { "host", "engine", "envd" } do
        bench.figure { measure = ("%s: peak memory of %s over idle"):format(what, who),
            unit = "MiB", ours = worst[who], bound = worst[who] and 8, goal = "at most 8 MiB",
            note = not worst[who] and "its memory is closed to this user" or nil }
    end
end

return function()
    local bytes = bench.scaled(1024, 1) * 1048576
    local dir = place.folder()
    local source, target = dir .. "/source", dir .. "/target"
    make_file(source, bytes)
    -- By default the file would not fit into the sandbox's memory limit, and the disk be measured.
    Template.build(Template():from_base_image(), "bench-transfer", { memory_mb = MEMORY_MB })
    local sandbox <close> = place.sandbox "bench-transfer"
    sandbox.commands:run "true"
    local pids = { host = process.pid(), engine = bench.engine_pid(),
        envd = assert(bench.envd_pids()[1]) }
    direction("up", uploader(sandbox, source), function()
        return bench.probed("up", source, target)
    end, pids, bytes)
    direction("down", downloader(sandbox, target), function()
        return bench.probed("down", source, target)
    end, pids, bytes)
    fs.remove_tree(source)
    fs.remove_tree(target)
end
