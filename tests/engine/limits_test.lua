-- What happens at a sandbox's limits. Uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local Error = require "e2b.error"
local fs = require "e2b_fs"
local http = require "e2b.http"
local paths = require "engine.paths"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

t.before(rig.warm_up)

-- Takes so many MiB.
local TAKE <const> = [[python3 -c 'x = b"x" * (%d << 20)']]
local LACK <const> = "(a process was killed for lack of memory: the sandbox has 1024 MiB)"

local function limited()
    local sbx = rig.sandbox()
    rig.needs_limits(sbx)
    return sbx
end

local function fails(sbx, cmd, opts)
    return t.raises("command_exit", sbx.commands.run, sbx.commands, cmd, opts)
end

t.test("a command that takes too much memory says so, and the sandbox lives", function()
    local sbx = limited()
    local other = sbx.commands:run("sleep 60", { background = true })
    local e = fails(sbx, "exec " .. TAKE:format(2000))
    t.eq(e.result.error, "signal: killed " .. LACK)
    t.eq(e.message, "the command was ended by a signal (signal: killed " .. LACK .. ")")
    e = fails(sbx, TAKE:format(2000) .. "; exit $?")
    t.eq({ e.result.exit_code, e.result.error }, { 137, "exit status 137 " .. LACK })
    t.match(e.message, "exited with code 137 %(a process was killed for lack of memory")
    -- It is told once, and not of what ends for other reasons.
    t.eq(fails(sbx, "exit 3").result.error, "exit status 3")
    t.eq(fails(sbx, "kill -9 $$").result.error, "signal: killed")
    t.ok(other:kill())
    t.eq(t.raises("command_exit", other.wait, other).result.error, "signal: killed")
    t.eq(sbx.commands:run("echo on").stdout, "on\n")
end)

-- Files of a tmpfs are nobody's: all processes go, pid 1 last. Returns the error of the call that
-- met its end.
local function starve(sbx)
    for _ = 1, 30 do
        local e = select(2, pcall(sbx.commands.run, sbx.commands,
            "head -c 2G /dev/zero >/run/full", { user = "root", timeout = 60 }))
        if e.kind ~= "command_exit" then
            return e
        end
    end
    error "it does not end"
end

t.test("a sandbox whose memory is full ends, and says so instead of a timeout", function()
    local sbx = limited()
    local id = sbx.sandbox_id
    local waiting = sbx.commands:run("sleep 60", { background = true })
    local e = starve(sbx)
    local function check(err)
        t.eq(err.kind, "out_of_memory", tostring(err))
        t.ok(Error.is(err, "sandbox") and not Error.is(err, "timeout"))
        t.match(err.message, "the sandbox " .. id .. " is not running: " ..
            "it ran out of memory %(it had 1024 MiB%)$")
        t.match(err.remedy, "memory_mb")
    end
    check(e)
    e = select(2, pcall(waiting.wait, waiting))
    if e.kind ~= "command_exit" then -- or it was killed before the sandbox was
        check(e)
    end
    for _, call in ipairs {
        function() sbx.commands:list() end,
        function() sbx.files:read("/etc/hostname") end,
        function() sbx.files:write("/home/user/x", "y") end,
        function() sbx.files:list("/") end,
    } do
        check(t.raises("out_of_memory", call))
    end
    t.eq(sbx:is_running(), false)
    e = t.raises("sandbox_not_found", sbx.get_info, sbx)
    t.match(e.message, "it ran out of memory %(it had 1024 MiB%)")
    t.eq(e.code, "sandbox_out_of_memory")
    sbx:kill() -- waits for what is still being cleaned up
    t.eq(sbx:kill(), false)
    t.match(rig.log { paths = paths.of() },
        "sandbox " .. id .. " ended by itself %(.*, it ran out of memory")
end)

-- As official clients see it: 502 is "not running" for them, or a timeout.
t.test("other clients are told by a status that is no timeout", function()
    local sbx = limited()
    starve(sbx)
    local function ask(path, port)
        local r = http.request { method = "POST", url = ("http://127.0.0.1:%d%s"):format(
            rig.info().port, path), body = "{}", headers = {
            ["E2b-Sandbox-Id"] = sbx.sandbox_id, ["E2b-Sandbox-Port"] = tostring(port),
            ["Content-Type"] = "application/json", Connection = "close" } }
        t.match(r.body, "ran out of memory %(it had 1024 MiB%)")
        return r.status
    end
    t.eq({ ask("/process.Process/List", 49983), ask("/health", 49983), ask("/", 8000) },
        { 500, 502, 502 })
end)

t.test("a sandbox that was killed from outside has not run out of memory", function()
    local sbx = limited()
    fails(sbx, TAKE:format(2000))
    local before = #sbx:get_metrics()
    rig.await("it is not measured", 10, function()
        return #sbx:get_metrics() > before
    end)
    local pid = rig.pid_of(sbx.sandbox_id)
    os.execute("kill -9 " .. pid)
    rig.await("it does not end", 10, function()
        return not sbx:is_running()
    end)
    local e = t.raises("sandbox_not_running", sbx.commands.list, sbx.commands)
    t.ok(not e.message:find "memory")
end)

t.test("processors are counted in whole ones", function()
    rig.needs_limits(limited())
    local name = world.unique("one")
    world.build(world.template(), name, { cpu_count = 1 })
    local sbx <close> = Sandbox.create(name, { timeout = 60, allow_internet_access = false })
    local out = sbx.commands:run(
        "for i in 1 2 3; do timeout 2 sh -c 'while :; do :; done' & done; time wait").stderr
    local used = 0
    for minutes, seconds in out:gmatch("[us][sy][es][rs]?%s+(%d+)m([%d.]+)s") do
        used = used + minutes * 60 + seconds
    end
    t.ok(used < 2.5, out)
end)

t.test("processes are counted", function()
    local sbx = limited()
    local group = rig.group_of(sbx.sandbox_id, "pids")
    t.eq(fs.read_file(group .. "/pids.max"), "8192\n")
end)

t.test("the machine's limits are told by a trial", function()
    rig.needs_limits(limited())
    local o = assert(require("e2b_engine").limits())
    t.eq({ o.cpu, o.memory, o.pids, o.why, o.remedy }, { true, true, true })
    t.ok(o.version == 1 or o.version == 2)
    t.ok(fs.stat(o.where), o.where)
    task.sleep(0)
    t.ok(not fs.stat(o.where .. "/e2blua/trial"), "the trial is over")
end)
