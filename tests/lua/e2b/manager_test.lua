local t = require "tests"
local fs = require "e2b_fs"
local json = require "e2b_json"
local task = require "e2b_task"
local fake_e2b = require "fake_e2b"
local SandboxManager = require "e2b.manager"
local Sandbox = require "e2b.sandbox"
local side_by_side = require "e2b.task"

local function failing(status, message, headers)
    return function(req)
        fake_e2b.reply_error(req, status, message, headers)
    end
end

-- The first n creates fail.
local function fail_first(fake, n, answer)
    local count = 0
    fake.override["POST /v2/sandboxes"] = function(req, entry)
        count = count + 1
        if count > n then
            return false
        end
        return answer(req, entry)
    end
end

local function await(condition, what)
    local deadline = task.now() + 10
    while not condition() do
        t.ok(task.now() < deadline, what .. " does not happen")
        task.sleep(0.01)
    end
end

-- ---- the sandbox ---------------------------------------------------------------------------

t.test("a manager makes one sandbox, has its methods and parts, and ends it", function()
    local fake = fake_e2b.start()
    fake.programs.hello = function(p)
        p:stdout("hi")
        p:exit(0)
    end
    local id
    do
        local m <close> = SandboxManager("base", fake:options { timeout = 30, envs = { A = "1" },
            metadata = { of = "test" } })
        t.eq(m.sandbox, nil)
        t.eq(tostring(m), "manager of no sandbox")
        t.eq(#fake.requests, 0)
        local sandbox = m:start()
        t.eq(m:start(), sandbox, "twice is the same")
        t.eq(m.sandbox, sandbox)
        id = sandbox.sandbox_id
        t.eq(m.sandbox_id, id)
        t.eq(tostring(m), "manager of sandbox " .. id)
        t.eq(m.commands:run("hello").stdout, "hi")
        t.ok(m.files:exists("/home/user"))
        t.eq(m:get_host(80), sandbox:get_host(80))
        t.eq(m:get_info().sandbox_id, id)
        t.ok(m:is_running())
        m:set_timeout(77)
        t.eq(fake.sandboxes[id].timeout, 77)
    end
    t.eq(fake.sandboxes[id], nil)
    local body = json.decode(fake:last("POST", "/v2/sandboxes").body)
    t.eq({ body.timeout, body.envVars, body.metadata }, { 30, { A = "1" }, { of = "test" } })
end)

t.test("its network is closed unless hosts are named", function()
    local fake = fake_e2b.start()
    local function network_of(more)
        local m <close> = SandboxManager("base", fake:options(more))
        m:start()
        local body = json.decode(fake:last("POST", "/v2/sandboxes").body)
        return { body.allow_internet_access, body.network }
    end
    t.eq(network_of {}, { false })
    t.eq(network_of { allow_out = {} }, { false })
    t.eq(network_of { allow_out = { "example.com" } }, { [2] = {
        allowOut = json.array { "example.com" }, denyOut = json.array { "0.0.0.0/0" } } })
    t.eq(network_of { allow_internet_access = true }, { true })
    t.eq(network_of { network = { deny_out = { "10.0.0.0/8" } } },
        { [2] = { denyOut = json.array { "10.0.0.0/8" } } })
    local e = t.raises("invalid_argument", SandboxManager, "base",
        { allow_out = { "a.com" }, allow_internet_access = true })
    t.match(e.message, "allow_out cannot be given together with allow_internet_access")
end)

t.test("close and kill end it, twice is fine, and it can start anew", function()
    local fake = fake_e2b.start()
    local m = SandboxManager(fake:options { template = "base" })
    m:close()
    t.eq(m:kill(), false)
    local first = m:start().sandbox_id
    t.eq(m:kill(), true)
    t.eq({ m.sandbox, fake.sandboxes[first] }, {})
    t.ok(m:start().sandbox_id ~= first)
    m:close()
    m:close()
    t.eq(next(fake.sandboxes), nil)
end)

t.test("an error in the block ends the sandbox and stays the error", function()
    local fake = fake_e2b.start()
    local e = t.raises(nil, function()
        local m <close> = SandboxManager("base", fake:options())
        m:start()
        error("mine", 0)
    end)
    t.eq(e, "mine")
    t.eq(next(fake.sandboxes), nil)
end)

t.test("wrong use says what is wrong", function()
    local e = t.raises("invalid_argument", SandboxManager, "base", { retrys = 1 })
    t.match(e.message, 'did you mean "retries"')
    e = t.raises("invalid_argument", SandboxManager, "base", { retries = -1 })
    t.match(e.message, "retries must be 0 or more, not %-1")
    t.raises("invalid_argument", SandboxManager, "base", { on_metrics = 1 })
    t.raises("invalid_argument", SandboxManager, "base", { allow_out = { 1 } })
    t.raises("invalid_argument", SandboxManager, 5)
    local m = SandboxManager("base")
    e = t.raises("invalid_argument", function() return m.files end)
    t.eq(e.remedy, "call manager:start() first")
    t.raises("invalid_argument", m.get_url, m, 80)
    e = t.raises("invalid_argument", m.start)
    t.match(e.message, "use ':'")
    e = t.raises("invalid_argument", m.get_url, 80)
    t.match(e.message, "use ':'")
    t.raises("invalid_argument", function() m.sandbox = 1 end)
    t.eq({ m.nothing, m.create, m._config }, {})
end)

-- ---- attempts ------------------------------------------------------------------------------

t.test("what can pass is tried again, with pauses", function()
    local cases = { { 503, "busy" }, { 429, "slow down" }, { 500, "no luck" }, { 502, "bad" } }
    side_by_side.parallel(cases, #cases, function(case)
        local fake, seen = fake_e2b.start(), {}
        fail_first(fake, 2, failing(case[1], case[2]))
        local m <close> = SandboxManager("base", fake:options { on_retry = function(e, n, pause)
            seen[#seen + 1] = { e.status, n, pause > 0 and pause < 2 }
        end })
        m:start()
        t.eq(seen, { { case[1], 1, true }, { case[1], 2, true } })
        t.eq(fake:count("POST", "/v2/sandboxes"), 3)
    end)
end)

t.test("a connection that breaks is tried again with the same key, an answer with a new one",
    function()
        local fake = fake_e2b.start()
        fail_first(fake, 1, function(req) req:reset() end)
        local keys = {}
        local function start()
            keys = {}
            local m <close> = SandboxManager("base", fake:options())
            m:start()
            for _, r in ipairs(fake.requests) do
                keys[#keys + 1] = r.path == "/v2/sandboxes" and r.headers["idempotency-key"] or nil
            end
        end
        start()
        t.eq(#keys, 2)
        t.eq(keys[1], keys[2])
        fake.requests = {}
        fail_first(fake, 1, failing(503, "busy"))
        start()
        t.eq(#keys, 2)
        t.ok(keys[1] ~= keys[2])
    end)

t.test("it waits as long as the server asks", function()
    local fake, pause = fake_e2b.start(), nil
    fail_first(fake, 1, failing(429, "slow down", { ["Retry-After"] = "2" }))
    local m <close> = SandboxManager("base", fake:options { on_retry = function(_, _, p)
        pause = p
    end })
    m:start()
    t.eq(pause, 2)
end)

t.test("what cannot pass is not tried again", function()
    for _, case in ipairs { { 401, "authentication" }, { 400, "sandbox" },
        { 403, "sandbox" } } do
        local fake = fake_e2b.start()
        fail_first(fake, 9, failing(case[1], "no"))
        local m = SandboxManager("base", fake:options())
        local e = t.raises(case[2], m.start, m)
        t.eq(e.status, case[1])
        t.ok(not e.message:find("tried"))
        t.eq(fake:count("POST", "/v2/sandboxes") <= 1, true)
    end
    local fake = fake_e2b.start()
    local m = SandboxManager("nowhere", fake:options())
    t.raises("sandbox", m.start, m)
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
end)

t.test("after the last attempt the error says how many there were", function()
    local fake = fake_e2b.start()
    fail_first(fake, 9, failing(503, "busy"))
    local m = SandboxManager("base", fake:options { retries = 1 })
    local e = t.raises("service_busy", m.start, m)
    t.match(e.message, "busy %(tried 2 times%)$")
    t.eq(fake:count("POST", "/v2/sandboxes"), 2)
    m = SandboxManager("base", fake:options { retries = 0 })
    e = t.raises("service_busy", m.start, m)
    t.ok(not e.message:find("tried"))
    t.eq(fake:count("POST", "/v2/sandboxes"), 3)
end)

t.test("a sandbox that does not answer is ended and made anew", function()
    local fake, deaf = fake_e2b.start(), true
    fake.override["GET /health"] = function(req)
        if deaf then
            return fake_e2b.reply_json(req, 502, { message = "nobody there" })
        end
        return false
    end
    local m <close> = SandboxManager("base", fake:options { ready_timeout = 0.1,
        on_retry = function(e)
            t.eq(e.kind, "sandbox_unreachable")
            deaf = false
        end })
    local id = m:start().sandbox_id
    t.eq(#fake.order, 2)
    t.eq(id, fake.order[2])
    t.eq(fake.sandboxes[fake.order[1]], nil)
end)

-- ---- metrics -------------------------------------------------------------------------------

t.test("get_metrics gives what the API has, by object and by id", function()
    local fake = fake_e2b.start()
    local sandbox <close> = fake:sandbox()
    fake.sandboxes[sandbox.sandbox_id].metrics = { fake_e2b.metric(1767225600, 10, 20) }
    local want = { { timestamp = 1767225600, cpu_count = 2, cpu_used_pct = 12.5,
        mem_used = 10 << 20, mem_total = 100 << 20, mem_cache = 0, disk_used = 20 << 20,
        disk_total = 100 << 20 } }
    t.eq(sandbox:get_metrics(), want)
    t.eq(Sandbox.get_metrics(sandbox.sandbox_id, fake:options { start = 5, end_ = 6.5 }), want)
    local path = "/sandboxes/" .. sandbox.sandbox_id .. "/metrics"
    t.eq(fake:last("GET", path).target, path .. "?start=5&end=7")
    local e = t.raises("invalid_argument", sandbox.get_metrics, sandbox, { start = 2, end_ = 1 })
    t.match(e.message, "start %(2%) is after end_ %(1%)")
    t.raises("invalid_argument", sandbox.get_metrics, sandbox, { start = "x" })
    t.raises("invalid_argument", Sandbox.get_metrics)
    t.raises("sandbox_not_found", Sandbox.get_metrics, "i0", fake:options())
    sandbox.envd_version = "0.1.4"
    t.raises("template", sandbox.get_metrics, sandbox)
end)

t.test("on_metrics gets each measurement once; what comes near is warned of once", function()
    local fake, seen, warned = fake_e2b.start(), {}, {}
    local m <close> = SandboxManager("base", fake:options {
        metrics_interval = 0.02,
        on_metrics = function(x) seen[#seen + 1] = x.timestamp end,
        on_warning = function(w) warned[#warned + 1] = w end,
    })
    m:start()
    local s = fake.sandboxes[m.sandbox_id]
    local function measured(n, ...)
        s.metrics = { fake_e2b.metric(...) }
        await(function() return #seen == n end, "measurement " .. n)
        task.sleep(0.05)
    end
    measured(1, 1001, 50, 50)
    t.eq(#warned, 0)
    measured(2, 1002, 90, 50)
    measured(3, 1003, 95, 99)
    t.eq(seen, { 1001, 1002, 1003 })
    t.eq({ #warned, warned[1].resource, warned[2].resource }, { 2, "memory", "disk" })
    t.eq(warned[1].message, ("sandbox %s: 90 %% of its memory is used (90 MiB of 100 MiB)")
        :format(m.sandbox_id))
    t.eq({ warned[2].used, warned[2].total }, { 99 << 20, 100 << 20 })
    measured(4, 1004, 50, 50)
    measured(5, 1005, 91, 50)
    t.eq(#warned, 3)
end)

t.test("watching ends with the sandbox, and can be left out", function()
    local fake = fake_e2b.start()
    local m <close> = SandboxManager("base", fake:options { metrics_interval = 0.02 })
    m:start()
    local path = "/sandboxes/" .. m.sandbox_id .. "/metrics"
    await(function() return fake:count("GET", path) > 0 end, "a look")
    fake:end_sandbox(m.sandbox_id)
    task.sleep(0.1)
    local n = fake:count("GET", path)
    task.sleep(0.1)
    t.eq(fake:count("GET", path), n)
    m:close()
    local quiet <close> = SandboxManager("base", fake:options { metrics_interval = 0 })
    quiet:start()
    task.sleep(0.05)
    t.eq(fake:count("GET", "/sandboxes/" .. quiet.sandbox_id .. "/metrics"), 0)
end)

t.test("an error in a callback ends the script, and the sandbox with it", function()
    local fake = fake_e2b.start()
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/script.lua", ([[
        local e2b = require "e2b"
        local m <close> = e2b.SandboxManager("base", { api_url = %q, sandbox_url = %q, api_key = %q,
            domain = "fake.localhost", metrics_interval = 0.02,
            on_metrics = function() error("no taste") end })
        m:start()
        e2b.sleep(30)]]):format(fake.url, fake.url, fake_e2b.API_KEY)))
    os.execute(("cd %s && (%s script.lua >out 2>&1; echo $? >code.tmp; mv code.tmp code) &")
        :format(dir, fs.realpath("/proc/self/exe")))
    await(function() return #fake.order == 1 end, "the sandbox")
    fake.sandboxes[fake.order[1]].metrics = { fake_e2b.metric(1, 1, 1) }
    await(function() return fs.stat(dir .. "/code") end, "the end")
    t.eq(fs.read_file(dir .. "/code"), "1\n")
    t.match(fs.read_file(dir .. "/out"), "script.lua:4: no taste")
    t.eq(next(fake.sandboxes), nil)
end)
