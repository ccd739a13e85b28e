-- Lives of sandboxes in the embedded engine, seen through the SDK.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

t.test("create: what is asked for is there, in info and inside", function()
    local sbx = rig.sandbox { timeout = 90, metadata = { owner = "test", ["a b&c=d"] = "ü" },
        envs = { GREETING = "hello 'you'\n2" } }
    t.match(sbx.sandbox_id, "^i[a-z0-9]+$")
    local info = sbx:get_info()
    t.eq(info.sandbox_id, sbx.sandbox_id)
    t.eq(info.metadata, { owner = "test", ["a b&c=d"] = "ü" })
    t.eq(info.state, "running")
    t.eq(info.name, "base")
    t.eq(info.lifecycle, { on_timeout = "kill", auto_resume = false })
    t.ok(math.abs(info.end_at - info.started_at - 90) <= 1, "it lives 90 s")
    t.ok(math.abs(info.started_at - os.time()) <= 3, "it began now")
    local r = sbx.commands:run('printf %s "$GREETING $E2B_SANDBOX $E2B_SANDBOX_ID"; pwd; id -un')
    t.eq(r.stdout, "hello 'you'\n2 true " .. sbx.sandbox_id .. "/home/user\nuser\n")
    t.eq(sbx:is_running(), true)
end)

t.test("create by name and positional; base is the default", function()
    local one <close> = Sandbox.create("base", { timeout = 30, allow_internet_access = false })
    local two <close> = Sandbox.create { template = "base", timeout = 30,
        allow_internet_access = false }
    t.eq(one.template_id, two.template_id)
end)

t.test("two sandboxes see neither each other nor the machine", function()
    local one, two = rig.sandbox(), rig.sandbox()
    one.files:write("/home/user/mine", "1")
    t.eq(two.files:exists("/home/user/mine"), false)
    one.commands:run("exec python3 -m http.server 4000", { background = true })
    one.commands:run("until ss -Htln | grep -q :4000; do sleep 0.05; done")
    local e = t.raises("command_exit", two.commands.run, two.commands,
        "exec 3<>/dev/tcp/127.0.0.1/4000")
    t.match(e.result.stderr, "refused")
    t.ok(tonumber(one.commands:run("ls -d /proc/[0-9]* | wc -l").stdout) < 10, "own processes only")
end)

t.test("an unknown template is refused and nothing is left", function()
    local before = #Sandbox.list():next_items()
    local e = t.raises("sandbox", Sandbox.create, "no-such-template")
    t.match(e.message, "no%-such%-template")
    t.eq(e.status, 404)
    t.raises("sandbox", Sandbox.create, "base:nosuchtag")
    t.eq(#Sandbox.list():next_items(), before)
end)

t.test("wrong types and unknown options are told before anything happens", function()
    local e = t.raises("invalid_argument", Sandbox.create, { timout = 3 })
    t.match(t.error_text(e), "timeout")
    t.raises("invalid_argument", Sandbox.create, { timeout = "soon" })
    t.raises("invalid_argument", Sandbox.create, { timeout = -1 })
    t.raises("invalid_argument", Sandbox.create, { metadata = { 1, 2 } })
    t.raises("invalid_argument", Sandbox.create, { envs = "A=1" })
    e = t.raises("invalid_argument", Sandbox.create, Sandbox)
    t.match(e.message .. (e.remedy or ""), "%.")
    t.raises("sandbox", Sandbox.create, { timeout = 40 * 24 * 3600 })
end)

t.test("list: pages, filters, orders", function()
    local mark = tostring(task.now())
    local made = {}
    for i = 1, 5 do
        made[i] = rig.sandbox { metadata = { mark = mark, n = tostring(i % 2) } }.sandbox_id
    end
    local function ids(opts)
        local out, sizes = {}, {}
        local pages = Sandbox.list(opts)
        while pages.has_next do
            local items = pages:next_items()
            sizes[#sizes + 1] = #items
            for _, info in ipairs(items) do
                out[#out + 1] = info.sandbox_id
            end
        end
        return out, sizes
    end
    local newest, sizes = ids { query = { metadata = { mark = mark } }, limit = 2 }
    t.eq(sizes, { 2, 2, 1 })
    t.eq(newest, { made[5], made[4], made[3], made[2], made[1] })
    local oldest, asc_sizes = ids { query = { metadata = { mark = mark } }, limit = 2,
        order = "asc" }
    t.eq(oldest, made)
    t.eq(asc_sizes, { 2, 2, 1 })
    local even = ids { query = { metadata = { mark = mark, n = "0" } } }
    t.eq(even, { made[4], made[2] })
    t.eq(ids { query = { metadata = { mark = mark }, state = { "paused" } } }, {})
    t.eq(#ids { query = { metadata = { mark = mark }, template = "base",
        state = { "running" } } }, 5)
    t.eq(#ids { query = { metadata = { mark = mark }, started_after = os.time() + 60 } }, 0)
    t.eq(#ids { query = { metadata = { mark = mark }, started_after = os.time() - 60 } }, 5)
    t.raises("invalid_argument", Sandbox.list, { query = { state = { "sleeping" } } })
    t.raises("invalid_argument", Sandbox.list, { limits = 3 })
    local bad = Sandbox.list { next_token = "AAAA" }
    t.raises("sandbox", bad.next_items, bad)
end)

t.test("kill ends it once; everything then says so", function()
    local sbx = rig.sandbox()
    t.eq(sbx:is_running(), true)
    t.eq(Sandbox.kill(sbx.sandbox_id), true)
    t.eq(Sandbox.kill(sbx.sandbox_id), false)
    t.eq(sbx:is_running(), false)
    t.raises("sandbox_not_found", Sandbox.get_info, sbx.sandbox_id)
    t.raises("sandbox_not_found", Sandbox.connect, sbx.sandbox_id)
    t.raises("sandbox_not_found", Sandbox.set_timeout, sbx.sandbox_id, 10)
    t.raises("sandbox_not_running", sbx.commands.run, sbx.commands, "true")
    t.raises("sandbox_not_running", sbx.files.read, sbx.files, "/etc/hostname")
    t.raises("sandbox_not_running", sbx.files.write, sbx.files, "/home/user/x", "y")
    t.raises("sandbox_not_running", sbx.files.list, sbx.files, "/")
end)

t.test("two kills of one sandbox at once: both come back, it is gone", function()
    local sbx = rig.sandbox()
    local one = task.spawn_quiet(Sandbox.kill, sbx.sandbox_id)
    local two = task.spawn_quiet(Sandbox.kill, sbx.sandbox_id)
    one:join(10)
    two:join(10)
    t.raises("sandbox_not_found", Sandbox.get_info, sbx.sandbox_id)
end)

t.test("ids that are none", function()
    t.raises("invalid_argument", Sandbox.get_info, "../../etc")
    t.raises("invalid_argument", Sandbox.kill, "")
    t.raises("invalid_argument", Sandbox.kill)
    t.raises("sandbox_not_found", Sandbox.get_info, "inosuchsandbox")
end)

t.test("its time ends it", function()
    local sbx = rig.sandbox { timeout = 1 }
    child.await("it lives on", 3, function()
        return not sbx:is_running()
    end)
    t.raises("sandbox_not_found", Sandbox.get_info, sbx.sandbox_id)
end)

t.test("set_timeout shortens and lengthens; 0 ends it now", function()
    local sbx = rig.sandbox { timeout = 1 }
    sbx:set_timeout(60)
    task.sleep(1.2)
    t.eq(sbx:is_running(), true)
    sbx:set_timeout(1)
    child.await("it lives on", 3, function()
        return not sbx:is_running()
    end)
    local other = rig.sandbox()
    Sandbox.set_timeout(other.sandbox_id, 0)
    child.await("it lives on", 2, function()
        return not other:is_running()
    end)
    t.raises("invalid_argument", Sandbox.set_timeout, "iabc", -1)
    t.raises("invalid_argument", Sandbox.set_timeout, "iabc", "1h")
end)

t.test("is_running never fails because of the end it asks about", function()
    for _ = 1, 5 do
        local sbx = rig.sandbox()
        local askers = {}
        for i = 1, 8 do
            askers[i] = task.spawn_quiet(function()
                while sbx:is_running() do end -- luacheck: ignore 542
            end)
        end
        task.sleep(0.05)
        Sandbox.kill(sbx.sandbox_id)
        for _, asker in ipairs(askers) do
            asker:join(10)
        end
    end
end)

t.test("connect gives a second handle, and never shortens the life", function()
    local sbx = rig.sandbox { timeout = 120 }
    local before = sbx:get_info().end_at
    local again = Sandbox.connect(sbx.sandbox_id, { timeout = 10 })
    t.eq(again.sandbox_id, sbx.sandbox_id)
    t.ok(math.abs(sbx:get_info().end_at - before) <= 1, "connect shortened the life")
    again.files:write("/home/user/x", "from the second")
    t.eq(sbx.files:read("/home/user/x"), "from the second")
    sbx:connect { timeout = 600 }
    t.ok(sbx:get_info().end_at - before > 400, "connect lengthens the life")
end)

t.test("a <close> variable ends it, also when the block fails", function()
    local id
    pcall(function()
        local sbx <close> = Sandbox.create { timeout = 30, allow_internet_access = false }
        id = sbx.sandbox_id
        error("on purpose")
    end)
    t.raises("sandbox_not_found", Sandbox.get_info, id)
end)

t.test("twenty at once", function()
    local code, out = child.lua([[
        local e2b = require "e2b"
        local list = {}
        for i = 1, 20 do
            list[i] = i
        end
        e2b.parallel(list, 20, function(i)
            local sbx <close> = e2b.Sandbox.create { timeout = 60, allow_internet_access = false }
            io.write(sbx.sandbox_id, " ", sbx.commands:run("echo " .. i).stdout)
        end)]]):wait(50)
    t.eq(code, 0, out)
    local n = 0
    for id in out:gmatch("(%w+) %d+\n") do
        n = n + 1
        t.raises("sandbox_not_found", Sandbox.get_info, id)
    end
    t.eq(n, 20)
end)

t.test("list, kill and engine of the command line", function()
    local sbx = rig.sandbox()
    local exe = require("e2b_process").exe()
    local _, out = child.start({ exe, "list" }):wait()
    t.match(out, "SANDBOX.*\n" .. sbx.sandbox_id .. " +base +running +%d+%-%d+%-%d+ ")
    local code, said = child.start({ exe, "kill", sbx.sandbox_id, "inone" }):wait()
    t.eq({ code, said }, { 1, sbx.sandbox_id .. " is gone\ne2blua: there is no sandbox inone; " ..
        "e2blua list shows those there are\n" })
    code, out = child.start({ exe, "engine", "status" }):wait()
    t.eq(code, 0, out)
    t.match(out, "engine +pid %d+, port %d+")
    code, out = child.start({ exe, "engine", "logs" }):wait()
    t.eq(code, 0)
    t.match(out, "sandbox " .. sbx.sandbox_id .. " is gone")
    code, out = child.start({ exe, "engine", "stats" }):wait()
    t.eq(code, 2)
    t.match(out, "did you mean 'status'%?")
    t.eq(child.start({ exe, "list", "x" }):wait(), 2)
    t.eq(child.start({ exe, "kill" }):wait(), 2)
end)
