--- What idle sandboxes cost: memory of 100, and whether 500 live side by side.
local bench = require "bench"
local fs = require "e2b_fs"
local place = require "place"
local task = require "e2b.task"

local SIDE_BY_SIDE <const> = 16

local function create(sandboxes, n)
    local numbers = {}
    for i = 1, n - #sandboxes do
        numbers[i] = i
    end
    task.parallel(numbers, SIDE_BY_SIDE, function()
        local sandbox = place.sandbox()
        sandboxes[#sandboxes + 1] = sandbox
    end)
end

local function close(sandboxes)
    task.parallel(sandboxes, SIDE_BY_SIDE, function(sandbox)
        sandbox:close()
    end)
end

-- What is neither free nor given back on demand, in KiB: others' page cache comes and goes.
local function in_use()
    return bench.meminfo "MemTotal" - bench.meminfo "MemFree" -
        (bench.meminfo "Cached" - bench.meminfo "Shmem") - bench.meminfo "Buffers" -
        bench.meminfo "SReclaimable"
end

local function now()
    collectgarbage()
    task.sleep(1.5) -- what ends in the background, has ended
    local pss = 0
    for _, pid in ipairs(bench.envd_pids()) do
        pss = pss + bench.pss(pid)
    end
    return { used = -bench.meminfo "MemFree", kept = in_use(), engine = bench.pss(
        bench.engine_pid()), envd = pss }
end

-- A new engine, so that what it takes for the first sandboxes counts.
local function fresh_engine()
    require("engine.client").stop(require("engine.paths").of())
    place.sandbox():close()
end

local function cost(n)
    fresh_engine()
    local before, sandboxes = now(), {}
    create(sandboxes, n)
    local after = now()
    close(sandboxes)
    local each = {}
    for name, value in pairs(after) do
        each[name] = (value - before[name]) / n / 1024
    end
    return each
end

local function memory(n)
    local lists = { used = {}, kept = {}, engine = {}, envd = {} }
    for _ = 1, bench.scaled(3, 1) do
        for name, value in pairs(cost(n)) do
            table.insert(lists[name], value)
        end
    end
    local of = {}
    for name, list in pairs(lists) do
        of[name] = bench.median(list)
    end
    bench.figure { measure = ("memory of an idle sandbox (MemFree over %d)"):format(n),
        unit = "MiB", ours = of.used, bound = 2, goal = "at most 2 MiB", samples = #lists.used,
        note = ("page cache, reclaimable slab left out: %.2f; of that envd %.2f, engine %.2f, " ..
            "the rest is the kernel's"):format(of.kept, of.envd, of.engine) }
end

local function crowd(n)
    local sandboxes, alive, errors = {}, 0, {}
    local engine = bench.engine_pid()
    local ms = bench.timed(create, sandboxes, n)
    task.sleep(1)
    task.parallel(sandboxes, SIDE_BY_SIDE, function(sandbox)
        local ok, result = pcall(sandbox.commands.run, sandbox.commands, "echo alive")
        if ok and result.stdout == "alive\n" then
            alive = alive + 1
        else
            errors[#errors + 1] = tostring(result)
        end
    end)
    local descriptors = #assert(fs.list(("/proc/%d/fd"):format(engine)))
    local rss = select(2, bench.memory(engine)) / 1024
    close(sandboxes)
    bench.row { measure = ("idle sandboxes alive of %d"):format(n), unit = "", ours = alive,
        goal = "all", met = alive == n, note = errors[1] or
        ("created in %.1f s; the engine has %d descriptors and %.1f MiB"):format(ms / 1000,
            descriptors, rss) }
end

return function()
    memory(bench.scaled(100, 3))
    crowd(bench.scaled(500, 5))
end
