-- What happens at a sandbox's limits. Uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local Error = require "e2b.error"
local fs = require "e2b_fs"
local http = require "e2b.http"
local paths = require "engine.paths"
local rig = require "engine_rig"
local t = require "tests"
local world = require "template_world"

t.before(rig.warm_up)

-- Takes so many MiB.
local TAKE <const> = [[python3 -c 'x = b"x" * (%d << 20)']]
local SLOW <const> = { timeout = 180 }
local LACK <const> = "(a process was killed for lack of memory: the sandbox has 1024 MiB)"

local function limited()
    local sbx = rig.sandbox { timeout = 180 }
    rig.needs_limits(sbx)
    return sbx
end

local function fails(sbx, cmd, opts)
    return t.raises("command_exit", sbx.commands.run, sbx.commands, cmd, opts)
end

-- Taking memory is slow on some virtual machines.
t.test("a command that takes too much memory says so, and the sandbox lives", SLOW, function()
    local sbx = limited()
    local other = sbx.commands:run("sleep 170", { background = true, timeout = 0 })
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

t.test("an engine that took a sandbox over knows it, too", SLOW, function()
    limited()
    local home = rig.home()
    local o = rig.options(home)
    o.timeout, o.allow_internet_access = 180, false
    local id = Sandbox.create(o).sandbox_id
    os.execute("kill -9 " .. rig.info(home).pid)
    local sbx = Sandbox.connect(id, rig.options(home))
    local e = starve(sbx)
    t.eq(e.kind, "out_of_memory", tostring(e))
    t.match(e.message, "it ran out of memory %(it had 1024 MiB%)$")
end)

t.test("a sandbox that was killed from outside has not run out of memory", SLOW, function()
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
    local function seconds(what)
        local m, s = t.match(out, what .. "%s+(%d+)m([%d.]+)s")
        return m * 60 + s
    end
    t.ok(seconds "user" + seconds "sys" < 1.25 * seconds "real", out)
end)

t.test("processes are counted", function()
    local sbx = limited()
    local group = rig.group_of(sbx.sandbox_id, "pids")
    t.eq(fs.read_file(group .. "/pids.max"), "8192\n")
end)

-- ---- disk -----------------------------------------------------------------------------

local DISK <const> = 64

local function small_disk()
    local name = world.unique("disk")
    world.build(world.template(), name, { min_free_disk_mb = DISK })
    local sbx = Sandbox.create(name, { timeout = 60, allow_internet_access = false })
    t.cleanup(function()
        sbx:close()
    end)
    for _, note in ipairs(sbx:get_info().notes) do
        if note:find "^no limit of %d+ MiB for the disk" then
            t.skip "disks"
        end
    end
    return sbx, name
end

t.test("a full disk is full for its own sandbox alone, as files and commands say", function()
    local sbx, name = small_disk()
    local other <close> = Sandbox.create(name, { timeout = 60, allow_internet_access = false })
    local e = fails(sbx, "head -c 200M /dev/zero >big")
    t.match(e.message, "No space left on device")
    e = t.raises("not_enough_space", sbx.files.write, sbx.files, "/home/user/more",
        ("x"):rep(2 << 20))
    t.match(e.message, "not enough disk space")
    t.ok(sbx.files:get_info("/home/user/big").size > DISK - 2 << 20)
    -- Reading, running and removing go on, also as root.
    e = fails(sbx, "head -c 5M /dev/zero >/srv/big", { user = "root" })
    t.match(e.message, "No space left on device")
    t.eq(other.commands:run("head -c 40M /dev/zero | tee x | wc -c; ls -s x | grep -c ^4").stdout,
        "41943040\n1\n")
    sbx.files:remove("/home/user/big")
    t.eq(sbx.commands:run("head -c 40M /dev/zero >more; stat -c %s more").stdout, "41943040\n")
end)

t.test("the metrics and listings of a limited disk are of that disk", function()
    local sbx = small_disk()
    local m = sbx:get_metrics()[1]
    t.eq(m.disk_total, DISK << 20)
    t.ok(m.disk_used < 4 << 20, m.disk_used)
    sbx.commands:run("head -c 40M /dev/zero >x; sync")
    rig.await("it is not measured", 10, function()
        local all = sbx:get_metrics()
        m = all[#all]
        return m.disk_used > 39 << 20 and m.disk_used < 45 << 20
    end)
    local _, doc = rig.api("GET", "/sandboxes/" .. sbx.sandbox_id)
    t.eq(doc.diskSizeMB, DISK)
    local list = select(2, rig.api("GET", "/templates"))
    local found
    for _, one in ipairs(list) do
        found = found or one.templateID == doc.templateID and one.diskSizeMB
    end
    t.eq(found, DISK)
    -- The image on the host holds what is there, and gives back what was removed.
    local image = paths.of().boxes .. "/" .. sbx.sandbox_id .. "/disk.img"
    if fs.stat(image) then
        local function kib()
            local p = assert(io.popen("du -k " .. image))
            local n = p:read "n"
            p:close()
            return n
        end
        rig.await("it is not written", 10, function()
            return kib() > 39 << 10
        end)
        sbx.commands:run("rm x; sync")
        rig.await("it is not given back", 10, function()
            return kib() < 10 << 10
        end)
    end
end)

t.test("how much disk a template may ask for", function()
    for _, bad in ipairs { 15, -1, 1 << 25 } do
        local status, answer = rig.api("POST", "/v3/templates", { name = world.unique("bad"),
            minFreeDiskMb = bad })
        t.eq(status, 400)
        t.ok(answer.message:find("be 0 or 16 to 16777216, not " .. bad, 1, true), answer.message)
    end
    local name = world.unique("zero")
    world.build(world.template(), name, { min_free_disk_mb = 0 })
    local sbx <close> = Sandbox.create(name, { timeout = 60, allow_internet_access = false })
    local _, doc = rig.api("GET", "/sandboxes/" .. sbx.sandbox_id)
    t.eq(doc.diskSizeMB, 0)
end)

t.test("E2BLUA_DISK_MB is the limit of templates that ask for none", function()
    local engine = world.engine { E2BLUA_DISK_MB = "32" }
    local sbx <close> = Sandbox.create("base", world.at(engine, { timeout = 60,
        allow_internet_access = false }))
    local notes = table.concat(sbx:get_info().notes)
    local m = sbx:get_metrics()[1]
    t.ok(m.disk_total == 32 << 20 or notes:find "no limit of 32 MiB", notes)
end)

t.test("the machine's limits are told by a trial", function()
    rig.needs_limits(limited())
    local engine = require "e2b_engine"
    local o = assert(engine.limits())
    t.eq({ o.cpu, o.memory, o.pids, o.why, o.remedy }, { true, true, true })
    t.ok(o.version == 1 or o.version == 2)
    t.ok(fs.stat(o.where), o.where)
    local kind, err = engine.disk_kind(64 << 20)
    t.ok(kind == "image" or kind == "memory" or err.kind == "unsupported", err)
    t.ok(not fs.stat(o.where .. "/e2blua/trial"), "the trial is over")
end)
