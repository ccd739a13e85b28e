-- Metrics, logs and run_code of real sandboxes. Uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local SandboxManager = require "e2b.manager"
local api = require "e2b.api"
local client = require "engine.client"
local config_of = require "e2b.config"
local fs = require "e2b_fs"
local http = require "e2b.http"
local json = require "e2b_json"
local paths = require "engine.paths"
local side_by_side = require "e2b.task"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

local function new(more)
    local o = { timeout = 60, allow_internet_access = false }
    for name, value in pairs(more or {}) do
        o[name] = value
    end
    return Sandbox.create(o)
end

t.before(rig.warm_up)

-- Holds so many MiB.
local FILL <const> = [[python3 -c 'import time; x = b"x" * (%d << 20); time.sleep(60)']]

local function get(path, query)
    return (api.call(config_of.resolve {}, { op = "test", method = "GET", path = path,
        query = query, ok = { [200] = true } }))
end

local function refused(text, ...)
    local e = t.raises("sandbox", get, ...)
    t.eq(e.status, 400)
    t.match(e.message, text)
end

t.test("a new sandbox has metrics at once: its own limits, nothing is 0", function()
    local sandbox <close> = new()
    local m = sandbox:get_metrics()[1]
    local info = sandbox:get_info()
    t.ok(m, "none yet")
    t.eq(m.cpu_count, info.cpu_count)
    t.ok(m.cpu_used_pct > 0 and m.cpu_used_pct <= 100, "cpu " .. m.cpu_used_pct)
    t.ok(m.mem_used > 0 and m.mem_used < m.mem_total, "memory " .. m.mem_used)
    t.ok(m.disk_used > 0 and m.disk_used < m.disk_total, "disk")
    t.ok(math.abs(os.time() - m.timestamp) <= 2)
    local raw = get("/sandboxes/" .. sandbox.sandbox_id .. "/metrics")[1]
    t.match(raw.timestamp, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d+Z$")
    t.eq(raw.timestampUnix, m.timestamp)
    t.eq(Sandbox.get_metrics(sandbox.sandbox_id)[1], m)
end)

t.test("its memory is that of its limit", function()
    local sandbox <close> = new()
    rig.needs_limits(sandbox)
    local m = sandbox:get_metrics()[1]
    t.eq(m.mem_total, sandbox:get_info().memory_mb << 20)
    t.ok(m.mem_used < m.mem_total // 4, "memory " .. m.mem_used)
end)

t.test("they follow what the sandbox does, and are asked for by time", function()
    local sandbox <close> = new()
    sandbox.commands:run(FILL:format(300) .. " & while :; do :; done",
        { background = true, timeout = 0 }):disconnect()
    local began = os.time()
    local deadline = task.now() + 20
    local m
    repeat
        t.ok(task.now() < deadline, "no such measurement")
        task.sleep(0.2)
        local all = sandbox:get_metrics { start = began }
        m = all[#all]
    until m and m.mem_used > 280 << 20 and m.cpu_used_pct > 2 -- the machine may be busy
    t.eq(#sandbox:get_metrics { end_ = began - 3600 }, 0)
    -- There may be several of the same second.
    local same = false
    for _, one in ipairs(sandbox:get_metrics { start = m.timestamp, end_ = m.timestamp }) do
        t.eq(one.timestamp, m.timestamp)
        same = same or one.mem_used == m.mem_used and one.cpu_used_pct == m.cpu_used_pct
    end
    t.ok(same, "it is not there any more")
    refused("Invalid time range for metrics", "/sandboxes/" .. sandbox.sandbox_id .. "/metrics",
        { { "start", 2 }, { "end", 1 } })
    refused("start must be a whole number", "/sandboxes/" .. sandbox.sandbox_id .. "/metrics",
        { { "start", "now" } })
end)

t.test("the last values of several at once", function()
    local a <close> = new()
    local b <close> = new()
    local all = get("/sandboxes/metrics",
        { { "sandbox_ids", a.sandbox_id .. "," .. b.sandbox_id .. ",inobody" } }).sandboxes
    t.ok(all[a.sandbox_id].memUsed > 0 and all[b.sandbox_id].memUsed > 0)
    t.eq(all.inobody, nil)
    refused("sandbox_ids is required", "/sandboxes/metrics")
    refused("Too many sandbox IDs, at most 100", "/sandboxes/metrics",
        { { "sandbox_ids", ("i1,"):rep(101) } })
end)

t.test("a dead sandbox has none", function()
    local sandbox = new()
    sandbox:kill()
    local e = t.raises("sandbox_not_found", sandbox.get_metrics, sandbox)
    t.match(e.message, "Sandbox " .. sandbox.sandbox_id .. " not found")
    t.raises("sandbox_not_found", Sandbox.get_metrics, sandbox.sandbox_id)
    t.raises("sandbox_not_found", Sandbox.get_metrics, "inobody")
    -- Killed from inside, it says so in its log.
    sandbox = new()
    pcall(sandbox.commands.run, sandbox.commands, "kill -9 -1; kill 1", { user = "root" })
    sandbox:close()
    t.raises("sandbox_not_found", sandbox.get_metrics, sandbox)
end)

t.test("logs tell a sandbox's life in both forms, also after it", function()
    local sandbox = new()
    local path = "/sandboxes/" .. sandbox.sandbox_id .. "/logs"
    local log = get(path)
    t.eq(log.logEntries[1].message, "the sandbox starts")
    t.eq(log.logEntries[1].fields.template, "base")
    t.match(log.logs[1].line, '"level":"info"')
    t.eq(#get(path, { { "limit", 1 } }).logs, 1)
    t.eq(#get(path, { { "start", (os.time() + 100) * 1000 } }).logs, 0)
    sandbox:kill()
    local last = get("/v2" .. path).logs[1]
    t.eq({ last.message, last.level }, { "the sandbox has ended", "info" })
    local first = get("/v2" .. path, { { "direction", "forward" }, { "limit", 1 } }).logs
    t.eq({ #first, first[1].message }, { 1, "the sandbox starts" })
    t.eq(#get("/v2" .. path, { { "level", "error" } }).logs, 0)
    t.eq(#get("/v2" .. path, { { "search", "has ended" } }).logs, 1)
    t.eq(#get("/v2" .. path, { { "cursor", 1 } }).logs, 0)
    refused("direction must be", "/v2" .. path, { { "direction", "up" } })
    refused("level must be", "/v2" .. path, { { "level", "loud" } })
    refused("limit must be", "/v2" .. path, { { "limit", 1001 } })
    refused("at most 256", "/v2" .. path, { { "search", ("x"):rep(257) } })
    t.eq(t.raises("sandbox", get, "/sandboxes/inobody/logs").status, 404)
end)

t.test("a manager warns before the memory is full", function()
    local warned
    local m <close> = SandboxManager { template = "base", timeout = 60, metrics_interval = 0.3,
        on_warning = function(w) warned = warned or w end }
    m:start()
    rig.needs_limits(m.sandbox)
    m.commands:run(FILL:format(950), { background = true, timeout = 0 })
        :disconnect()
    local deadline = task.now() + 20
    while not warned do
        t.ok(task.now() < deadline, "no warning")
        task.sleep(0.1)
    end
    t.eq(warned.resource, "memory")
    t.match(warned.message, "9%d %% of its memory is used %(%d+ MiB of 1024 MiB%)")
end)

t.test("a full disk is told as such by files and by commands", function()
    local sandbox <close> = new()
    local e = t.raises("not_enough_space", sandbox.files.write, sandbox.files, "/dev/shm/big",
        ("x"):rep(70 << 20))
    t.match(e.message, "not enough disk space")
    t.eq(sandbox.files:exists("/dev/shm/big"), false)
    e = t.raises("command_exit", sandbox.commands.run, sandbox.commands,
        "head -c 70M /dev/zero >/dev/shm/big")
    t.match(e.message, "No space left on device")
    e = t.raises("not_enough_space", sandbox.files.write, sandbox.files, "/dev/shm/more", "x")
    t.match(e.message, "not enough disk space")
    sandbox.files:remove("/dev/shm/big")
    sandbox.files:write("/dev/shm/more", "x")
    t.eq(sandbox.files:read("/dev/shm/more"), "x")
end)

t.test("the same idempotency key gives the same sandbox, also to two at once", function()
    local wire = require "e2b_wire"
    local function named(key, more)
        local o = { timeout = 60, allow_internet_access = false, idempotency_key = key }
        for name, value in pairs(more or {}) do
            o[name] = value
        end
        return Sandbox.create(o)
    end
    local key = "k-" .. wire.random(8)
    local one <close> = named(key)
    t.eq(named(key).sandbox_id, one.sandbox_id)
    local e = t.raises("sandbox", named, key, { timeout = 61 })
    t.eq({ e.status, e.code }, { 422, "idempotency_request_mismatch" })
    one:kill()
    local two <close> = named(key)
    t.ok(two.sandbox_id ~= one.sandbox_id, "that one has ended")
    local info = client.info(paths.of())
    local function bare(name)
        return http.request { method = "POST", url = ("http://127.0.0.1:%d/v2/sandboxes"):format(
            info.port), body = '{"templateID": "base", "timeout": 60}', headers = {
            ["X-API-Key"] = info.api_key, ["Content-Type"] = "application/json",
            ["Idempotency-Key"] = name, Connection = "close" } }
    end
    local a, b = side_by_side.gather(function() return bare(key .. "x") end,
        function() return bare(key .. "x") end)
    local id = json.decode(a.body).sandboxID
    t.eq(json.decode(b.body).sandboxID, id)
    Sandbox.kill(id)
    t.eq(bare("Not So").status, 400)
end)

-- ---- run_code ------------------------------------------------------------------

local function file(name, text)
    local path = t.tmpdir() .. "/" .. name
    assert(fs.write_file(path, text))
    return path
end

t.test("run_code runs a local file in the working directory", function()
    local sandbox <close> = new()
    local seen = {}
    local r = sandbox:run_code("python", file("it's.py",
        "import os, sys\nprint(sys.argv[0], sys.argv[1:], os.getcwd(), os.environ['A'])"),
        { args = { "a b", "c'd" }, envs = { A = "1" }, on_stdout = function(s)
            seen[#seen + 1] = s
        end })
    t.eq(r.stdout, [[/home/user/it's.py ['a b', "c'd"] /home/user 1]] .. "\n")
    t.eq(table.concat(seen), r.stdout)
    t.eq(sandbox:run_code("javascript", file("a.js", "console.log(process.cwd(), 6 * 7)"),
        { cwd = "/tmp" }).stdout, "/tmp 42\n")
    t.ok(sandbox.files:exists("/tmp/a.js"))
    t.eq(sandbox:run_code { language = "bash", file = file("a.sh", "id -un"), user = "root" }
        .stdout, "root\n")
    local handle = sandbox:run_code("bash", file("b.sh", "sleep 0.1; echo later"),
        { background = true })
    t.eq(handle:wait().stdout, "later\n")
end)

t.test("run_code raises as commands:run does", function()
    local sandbox <close> = new()
    local e = t.raises("command_exit", sandbox.run_code, sandbox, "python",
        file("a.py", "1/0"))
    t.eq(e.result.exit_code, 1)
    t.match(e.result.stderr, "Traceback")
    t.match(e.message, "ZeroDivisionError: division by zero")
    e = t.raises("command_exit", sandbox.run_code, sandbox, "bash", file("a.sh", "exit 127"))
    t.eq(e.result.exit_code, 127)
    e = t.raises("timeout", sandbox.run_code, sandbox, "bash", file("a.sh", "sleep 9"),
        { timeout = 0.2 })
    t.eq(e.deadline, "command")
    t.raises("invalid_argument", sandbox.run_code, sandbox, "bash", file("a.sh", "true"),
        { cwd = "/nowhere" })
end)

t.test("run_code says what the sandbox lacks and how to get it", function()
    local sandbox <close> = new()
    for _, background in ipairs { false, true } do
        local e = t.raises("unsupported", sandbox.run_code, sandbox, "lua",
            file("a.lua", "print(1)"), { background = background })
        t.match(e.message, "this sandbox has no lua %(looked for lua, lua5.4, lua5.3, luajit%)")
        t.match(e.remedy, 'apt_install%("lua5.4"%)')
    end
    sandbox.files:write("/usr/local/bin/lua5.4",
        "#!/bin/sh\nsed -n 's/^print(\\(.*\\))/\\1/p' $1; echo\n")
    sandbox.commands:run("chmod +x /usr/local/bin/lua5.4", { user = "root" })
    t.eq(sandbox:run_code("lua", file("a.lua", "print(1)")).stdout, "1\n")
end)
