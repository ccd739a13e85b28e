local child = require "child"
local t = require "tests"
local task = require "e2b_task"
local Error = require "e2b.error"
local e2b = require "e2b.task"

-- A function that waits, and counts how often its clean-up ran.
local function sleeper(counter)
    return function()
        local _ <close> = setmetatable({}, {
            __close = function()
                e2b.sleep(0.01)
                counter.closed = (counter.closed or 0) + 1
            end,
        })
        e2b.sleep(20)
    end
end

local function fails(after)
    return function()
        e2b.sleep(after)
        Error.raise("network", "broken")
    end
end

t.test("spawn runs beside, join gives the results", function()
    local running = e2b.spawn(function(a, b)
        e2b.sleep(0.01)
        return a + b, "x"
    end, 1, 2)
    t.eq({ running:join() }, { 3, "x" })
    t.raises("invalid_argument", e2b.spawn, "text")
    local failing = e2b.spawn(fails(0.001))
    t.raises("network", failing.join, failing)
end)

t.test("gather gives the results in order", function()
    t.eq({ e2b.gather(function()
        e2b.sleep(0.02)
        return 1, "dropped"
    end, function()
        return nil
    end, e2b.spawn(function()
        return 3
    end)) }, { 1, nil, 3 })
    t.eq(e2b.gather { function()
        return "a"
    end }, { "a" })
    t.eq(e2b.gather {}, {})
    t.raises("invalid_argument", e2b.gather, print, 5)
end)

t.test("gather's first error cancels the rest and comes when they have ended", function()
    local counter, began = {}, task.now()
    local e = t.raises("network", e2b.gather, sleeper(counter), fails(0.01), sleeper(counter))
    t.eq(e.message, "broken")
    t.eq(counter.closed, 2)
    t.ok(task.now() - began < 2, "it did not wait")
end)

t.test("gather cancels the tasks it was given", function()
    local counter = {}
    local running = e2b.spawn(sleeper(counter))
    t.raises("network", e2b.gather, running, fails(0.01))
    t.eq(counter.closed, 1)
end)

t.test("a cancelled gather leaves nothing running", function()
    local counter = {}
    local outer = e2b.spawn(function()
        e2b.gather(sleeper(counter), sleeper(counter))
    end)
    e2b.sleep(0.01)
    outer:cancel()
    t.raises("cancelled", outer.join, outer)
    t.eq(counter.closed, 2)
end)

t.test("parallel keeps to its number", function()
    local running, most = 0, 0
    local items = { 5, 4, 3, 2, 1, 0 }
    local results = e2b.parallel(items, 2, function(item, i)
        running = running + 1
        most = math.max(most, running)
        e2b.sleep(item / 1000)
        running = running - 1
        return item * 10 + i
    end)
    t.eq(results, { 51, 42, 33, 24, 15, 6 })
    t.eq(most, 2)
    t.eq(e2b.parallel({}, 3, print), {})
end)

t.test("parallel's first error ends it", function()
    local started = 0
    t.raises("network", e2b.parallel, { 1, 2, 3, 4 }, 1, function(i)
        started = started + 1
        if i == 2 then
            Error.raise("network", "broken")
        end
    end)
    t.eq(started, 2)
    t.raises("invalid_argument", e2b.parallel, {}, 0, print)
    t.raises("invalid_argument", e2b.parallel, 5, 1, print)
    t.raises("invalid_argument", e2b.parallel, {}, 1, nil)
end)

t.test("race gives the first and joins the losers", function()
    local counter = {}
    t.eq({ e2b.race(sleeper(counter), function()
        e2b.sleep(0.01)
        return "fast", 2
    end) }, { "fast", 2 })
    t.eq(counter.closed, 1)
    t.raises("network", e2b.race, sleeper(counter), fails(0))
    t.eq(counter.closed, 2)
    t.raises("invalid_argument", e2b.race)
end)

t.test("timeout passes results and errors on", function()
    t.eq({ e2b.timeout(5, function(a)
        return a, 2
    end, 1) }, { 1, 2 })
    t.raises("network", e2b.timeout, 5, fails(0))
end)

t.test("timeout ends what takes too long, with its clean-up", function()
    local counter, began = {}, task.now()
    local e = t.raises("timeout", e2b.timeout, 0.02, sleeper(counter))
    t.eq(e.deadline, "task")
    t.match(e.message, "0%.02 seconds")
    t.eq(counter.closed, 1)
    t.ok(task.now() - began < 2, "it did not wait")
    t.raises("invalid_argument", e2b.timeout, "1", print)
    t.raises("invalid_argument", e2b.timeout, 1)
end)

t.test("timeout cannot be swallowed by a pcall", function()
    t.raises("timeout", e2b.timeout, 0.01, function()
        pcall(e2b.sleep, 20)
        return "went on"
    end)
end)

t.test("sleep wants seconds", function()
    local before = e2b.now()
    e2b.sleep(0.01)
    t.ok(e2b.now() - before >= 0.009)
    t.raises("invalid_argument", e2b.sleep)
    t.raises("invalid_argument", e2b.sleep, -1)
end)

t.test("a task that catches its cancellation and goes on ends all the same", function()
    local caught = 0
    t.raises("timeout", e2b.timeout, 0.1, function()
        while true do
            caught = caught + (pcall(e2b.sleep, 60) and 0 or 1)
        end
    end)
    t.ok(caught > 0, "its pcall never caught anything")
    t.raises("timeout", e2b.timeout, 0.1, function()
        pcall(e2b.sleep, 60)
        while true do end -- luacheck: ignore 542
    end)
    t.raises("timeout", e2b.timeout, 0.1, function()
        pcall(e2b.sleep, 60)
        coroutine.wrap(function()
            while true do end -- luacheck: ignore 542
        end)()
    end)
end)

t.test("a script that nothing can wake any more ends and says so", function()
    for _, before in ipairs { "", "require 'e2b_hash'.file('/etc/passwd')",
        "pcall(require 'e2b.task'.timeout, 0.01, require 'e2b_hash'.file, '/etc/passwd')" } do
        local code, out = child.lua(before .. "\nrequire 'e2b_task'.cond():wait()"):wait(5)
        t.eq(code, 1)
        t.match(out, ":2: the script waits, and nothing is left that could end it")
    end
end)

t.test("a script may end while a worker is busy for it", function()
    local dir = t.tmpdir()
    local f = assert(io.open(dir .. "/large", "w"))
    f:seek("set", 200 << 20)
    assert(f:write "x" and f:close())
    local code, out = child.lua(([[
        local task = require "e2b.task"
        task.spawn(require "e2b_hash".file, %q)
        task.sleep(0.02)]]):format(dir .. "/large")):wait(10)
    t.eq({ code, out }, { 0, "" })
end)
