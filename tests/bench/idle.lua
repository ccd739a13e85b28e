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

-- Free or page cache, in KiB: the files of others come and go in the page cache.
local function free()
    return bench.meminfo "MemFree" + bench.meminfo "Cached" - bench.meminfo "Shmem" +
        bench.meminfo "Buffers"
end

-- What has ended gives its memory back in the background: waits until no more comes.
local function settle()
    local last = free()
    for _ = 1, bench.scaled(12, 1) do
        task.sleep(0.4)
        local now = free()
        if math.abs(now - last) < 512 then
            return
        end
        last = now
    end
end

-- The file that tells what the group of a process is charged with.
local function group_file(pid)
    local groups = fs.read_file(("/proc/%s/cgroup"):format(pid), 1 << 16) or ""
    local v1 = groups:match "%d+:[^\n]*memory[^\n:]*:([^\n]+)"
    return v1 and "/sys/fs/cgroup/memory" .. v1 .. "/memory.usage_in_bytes" or
        "/sys/fs/cgroup" .. (groups:match "0::([^\n]+)" or "") .. "/memory.current"
end

-- What a sandbox's group is charged with, kernel memory included, in KiB; 0 without one.
local function charged(pid)
    local path = group_file(pid)
    local text = path ~= group_file "self" and fs.read_file(path, 64)
    return (tonumber(text or "") or 0) / 1024
end

local function measure()
    collectgarbage()
    settle()
    local pss, groups = 0, 0
    for _, pid in ipairs(bench.envd_pids()) do
        pss, groups = pss + bench.pss(pid), groups + charged(pid)
    end
    return { used = -free(), raw = -bench.meminfo "MemFree", groups = groups, envd = pss,
        engine = bench.pss(bench.engine_pid()) }
end

-- A new engine, so that what it takes for the first sandboxes counts.
local function fresh_engine()
    require("engine.client").stop(require("engine.paths").of())
    place.sandbox():close()
end

-- Adds what one of n costs in MiB, as seen while they come and while they go.
local function cost(n, lists)
    fresh_engine()
    local before, sandboxes = measure(), {}
    create(sandboxes, n)
    local there = measure()
    close(sandboxes)
    local after = measure()
    for name, list in pairs(lists) do
        list[#list + 1] = (there[name] - before[name]) / n / 1024
        if name == "used" or name == "raw" then
            list[#list + 1] = (there[name] - after[name]) / n / 1024
        end
    end
end

local function memory(n)
    local lists = { used = {}, raw = {}, groups = {}, engine = {}, envd = {} }
    for _ = 1, bench.scaled(3, 1) do
        cost(n, lists)
    end
    local of = {}
    for name, list in pairs(lists) do
        of[name] = bench.median(list)
    end
    bench.figure { measure = ("memory of an idle sandbox (of %d): MemFree"):format(n),
        unit = "MiB", ours = of.used, bound = 2, goal = "at most 2 MiB", samples = #lists.used,
        note = ("page cache counted as free; with it %.2f"):format(of.raw) }
    bench.figure { measure = ("memory of an idle sandbox (of %d): by its group"):format(n),
        unit = "MiB", ours = of.groups + of.engine, bound = 2, goal = "at most 2 MiB",
        samples = #lists.groups,
        note = ("kernel memory included: %.2f, of it envd's pages %.2f; the engine's share %.2f")
            :format(of.groups, of.envd, of.engine) }
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
