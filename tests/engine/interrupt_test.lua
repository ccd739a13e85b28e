-- Ctrl-C in scripts that have real sandboxes open: nothing is left, and the
-- script dies of SIGINT.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

local mark = 0

-- What a script begins with; its sandboxes can be told from those of others.
local function head()
    mark = mark + 1
    return ([[
local e2b = require "e2b"
local function create()
    return e2b.Sandbox.create { timeout = 60, allow_internet_access = false,
        metadata = { interrupt = "%d" } }
end
]]):format(mark)
end

local function open_sandboxes()
    local query = { metadata = { interrupt = tostring(mark) } }
    return Sandbox.list({ query = query }):next_items()
end

-- Runs the script, interrupts it once it has said "ready".
local function interrupted(code, signal)
    local c = child.lua(head() .. code)
    c:expect "ready\n"
    t.ok(#open_sandboxes() > 0, "there is a sandbox to lose")
    task.sleep(0.1)
    local began = task.now()
    c:signal(signal or "INT")
    local status, out = c:wait(15)
    t.eq(status, ({ INT = 130, TERM = 143, HUP = 129 })[signal or "INT"], out)
    t.ok(task.now() - began < 5, "it took longer")
    t.eq(open_sandboxes(), {}, "sandboxes")
    return out
end

local READY = "\nprint('ready') io.stdout:flush()\n"

t.test("in a loop that never waits", function()
    interrupted("local sbx <close> = create()" .. READY .. "while true do end")
end)

t.test("in a pcall of a wait, again and again", function()
    interrupted("local sbx <close> = create()" .. READY .. [[
        while true do
            pcall(sbx.commands.run, sbx.commands, "sleep 60")
        end]])
end)

t.test("in an xpcall that goes on", function()
    interrupted("local sbx <close> = create()" .. READY .. [[
        xpcall(function() e2b.sleep(60) end, function(e) return e end)
        pcall(function() while true do end end)
        e2b.sleep(60)]])
end)

t.test("in side tasks that catch everything", function()
    interrupted([[
        local sbx <close> = create()
        local function stubborn()
            local mine <close> = create()
            while true do
                pcall(mine.commands.run, mine.commands, "sleep 60")
            end
        end
        e2b.spawn(function() e2b.sleep(0.3)]] .. READY .. [[end)
        e2b.parallel({ 1, 2, 3 }, 3, stubborn)]])
end)

t.test("in a coroutine.wrap generator that waits", function()
    interrupted([[
        local function lines()
            return coroutine.wrap(function()
                local sbx <close> = create()
                coroutine.yield "one"
                sbx.commands:run("sleep 60")
                coroutine.yield "two"
            end)
        end
        for line in lines() do]] .. READY .. [[end]])
end)

t.test("in a coroutine.wrap generator that computes", function()
    interrupted([[
        local sbx <close> = create()
        local next_number = coroutine.wrap(function()
            coroutine.yield(1)
            while true do end
        end)
        next_number()]] .. READY .. [[next_number()]])
end)

t.test("outside a suspended generator that owns a sandbox", function()
    interrupted([[
        local function boxes()
            return coroutine.wrap(function()
                local sbx <close> = create()
                coroutine.yield(sbx)
            end)
        end
        local g = boxes()
        g()]] .. READY .. [[e2b.sleep(60)]])
end)

t.test("with ten sandboxes open", function()
    interrupted([[
        local n = 0
        e2b.parallel({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10, function()
            local sbx <close> = create()
            n = n + 1
            if n == 10 then]] .. READY .. [[end
            sbx.commands:run("sleep 60")
        end)]])
end)

t.test("with ten sandboxes of one task", function()
    interrupted([[
        local function deeper(n)
            local sbx <close> = create()
            if n > 1 then
                return (deeper(n - 1))
            end]] .. READY .. [[
            e2b.sleep(60)
        end
        deeper(10)]])
end)

t.test("while sandboxes are being created", function()
    for delay = 0, 8 do
        local c = child.lua(head() .. [[
            print("ready") io.stdout:flush()
            for _ = 1, 1000 do
                local sbx <close> = create()
            end]])
        c:expect "ready\n"
        task.sleep(0.02 + delay * 0.007)
        c:signal "INT"
        local status, out = c:wait(15)
        t.eq(status, 130, out)
        t.eq(open_sandboxes(), {}, "sandboxes")
    end
end)

t.test("in background commands, in a callback, in a stream", function()
    interrupted([[
        local sbx <close> = create()
        local h = sbx.commands:run("cat /dev/zero", { background = true })
        sbx.commands:run("cat /dev/zero", { background = true, on_stdout = function()
            e2b.sleep(60)
        end })]] .. READY .. [[h:wait()]])
    interrupted([[
        local sbx <close> = create()
        sbx.commands:run("truncate -s 1G big")]] .. READY .. [[
        for piece in sbx.files:read("big", { format = "stream" }) do
            e2b.sleep(0.1)
        end]])
end)

t.test("TERM and HUP unwind, too", function()
    for _, signal in ipairs { "TERM", "HUP" } do
        interrupted("local sbx <close> = create()" .. READY .. "e2b.sleep(60)", signal)
    end
end)

t.test("what the script's own clean-up says is still said", function()
    local out = interrupted([[
        local sbx <close> = create()
        local _ <close> = setmetatable({}, { __close = function()
            print("clean-up: " .. sbx.commands:run("echo still here").stdout)
        end })]] .. READY .. [[e2b.sleep(60)]])
    t.match(out, "clean%-up: still here")
end)

t.test("an uncaught error, os.exit and the end of the script leave nothing", function()
    for code, want in pairs { ["error('on purpose')"] = 1, ["os.exit(7)"] = 7, [""] = 0 } do
        local status, out = child.lua(head() .. "local sbx <close> = create()\n" .. code):wait()
        t.eq(status, want, out)
        t.eq(open_sandboxes(), {}, code)
    end
end)
