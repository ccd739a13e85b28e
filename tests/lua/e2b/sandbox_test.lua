local t = require "tests"
local json = require "e2b_json"
local task = require "e2b_task"
local fake_e2b = require "fake_e2b"
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"

-- ---- create --------------------------------------------------------------------------------

t.test("create sends the newest form and gives a sandbox", function()
    local fake = fake_e2b.start()
    local sbx = Sandbox.create("base", fake:options {
        timeout = 90.2,
        metadata = { a = "1" },
        envs = { X = "y" },
        allow_internet_access = false,
        lifecycle = { on_timeout = "pause", auto_resume = true },
        network = { allow_out = { "example.com" }, deny_out = {}, allow_public_traffic = true },
    })
    t.ok(fake.sandboxes[sbx.sandbox_id])
    t.eq(sbx.template_id, "tmplbase")
    t.eq(sbx.sandbox_domain, fake_e2b.DOMAIN)
    t.eq(sbx.envd_version, "0.6.13")
    t.eq(sbx.traffic_access_token, nil)
    local request = fake:last("POST", "/v2/sandboxes")
    t.eq(json.decode(request.body), json.decode [[{
        "templateID": "base", "timeout": 91, "metadata": {"a": "1"}, "envVars": {"X": "y"},
        "allow_internet_access": false, "autoPause": true, "autoResume": {"enabled": true},
        "network": {"allowOut": ["example.com"], "denyOut": [], "allowPublicTraffic": true}}]])
    t.match(request.body, '"denyOut":%[%]')
    t.eq(request.headers["x-api-key"], fake_e2b.API_KEY)
    t.match(request.headers["user-agent"], "^e2blua/")
    t.eq(request.headers["content-type"], "application/json")
    t.eq(request.headers.lang, "lua")
    t.eq(tostring(sbx), "sandbox " .. sbx.sandbox_id)
end)

t.test("create sends only what was given", function()
    local fake = fake_e2b.start()
    Sandbox.create(fake:options())
    t.eq(fake:last("POST", "/v2/sandboxes").body,
        '{"envVars":{},"metadata":{},"templateID":"base"}')
    Sandbox.create(fake:options { template = "base", idempotency_key = "a-1" })
    t.eq(fake:last("POST", "/v2/sandboxes").headers["idempotency-key"], "a-1")
end)

t.test("create falls back where the server knows only the first form", function()
    local fake = fake_e2b.start()
    fake.v1_only = true
    local sbx = fake:sandbox()
    t.eq(fake.sandboxes[sbx.sandbox_id].body, json.decode [[{"templateID": "base", "timeout": 300,
        "metadata": {}, "envVars": {}, "secure": true, "allow_internet_access": true}]])
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
    fake:sandbox()
    t.eq(fake:count("POST", "/v2/sandboxes"), 1, "it remembers")
    t.eq(Sandbox.connect(sbx.sandbox_id, fake:options()).sandbox_id, sbx.sandbox_id)
    t.eq(fake:last("POST", "/sandboxes/" .. sbx.sandbox_id .. "/connect").body, '{"timeout":300}')
end)

t.test("create falls back on 405, too", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function(req)
        req:reply(405, nil, "method not allowed")
    end
    t.ok(fake:sandbox().sandbox_id)
end)

t.test("an unknown template is an error of the sandbox, and no reason to fall back", function()
    local fake = fake_e2b.start()
    local e = t.raises("sandbox", Sandbox.create, "nope", fake:options())
    t.eq(e.message, "404: template 'nope' not found")
    t.eq(e.status, 404)
    t.eq(e.op, "Sandbox.create")
    t.match(e.remedy, "build the template")
    t.match(e.where, "%.lua:%d+$")
    t.eq(fake:count("POST", "/sandboxes"), 0)
end)

t.test("create refuses wrong options before any request", function()
    local fake = fake_e2b.start()
    local cases = {
        { { tiemout = 3 }, 'no option "tiemout"; did you mean "timeout"' },
        { { timeout = "3" }, "timeout must be a number of seconds" },
        { { metadata = { a = 1 } }, "metadata must be a table of strings" },
        { { lifecycle = { on_timeout = "stop" } }, 'on_timeout must be "kill" or "pause"' },
        { { lifecycle = { on_timeout = "kill", auto_resume = true } }, "auto_resume can only" },
        { { lifecycle = { on_timeout = { action = "kill", keep_memory = true } } },
            "keep_memory is only allowed" },
        { { network = { allowOut = {} } }, 'no option "allowOut"; did you mean "allow_out"' },
        { { idempotency_key = "UPPER" }, "idempotency_key must be" },
        { { timeout = 1e300 }, "too long" },
    }
    for _, case in ipairs(cases) do
        local e = t.raises("invalid_argument", Sandbox.create, "base", fake:options(case[1]))
        t.match(e.message, case[2])
    end
    t.match(t.raises("invalid_argument", Sandbox.create, 5).message, "template must be a string")
    t.match(t.raises("invalid_argument", Sandbox.create, Sandbox).message, "use '%.'")
    t.eq(#fake.requests, 0)
end)

t.test("an old daemon's sandbox is killed", function()
    local fake = fake_e2b.start()
    fake.envd_version = "0.0.9"
    t.raises("template", Sandbox.create, "base", fake:options())
    t.eq(next(fake.sandboxes), nil)
end)

t.test("an answer that is none is a protocol error", function()
    local fake = fake_e2b.start()
    for _, body in ipairs { "", "<html>", "[]", '{"sandboxID": "../x"}' } do
        fake.override["POST /v2/sandboxes"] = function(req)
            req:reply(201, nil, body)
        end
        t.raises("protocol", Sandbox.create, "base", fake:options())
    end
end)

t.test("a cancelled create does not lose the sandbox", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function()
        task.sleep(0.1)
        return false
    end
    local running = task.spawn_quiet(function()
        local sbx <close> = fake:sandbox()
        task.sleep(20)
        return sbx
    end)
    task.sleep(0.05)
    running:cancel()
    t.raises("cancelled", running.join, running)
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
    t.eq(next(fake.sandboxes), nil)
end)

-- ---- connect, info, list -------------------------------------------------------------------

t.test("connect by id, and extending from the object", function()
    local fake = fake_e2b.start()
    local id = fake:sandbox().sandbox_id
    local sbx = Sandbox.connect(id, fake:options())
    t.eq(sbx.sandbox_id, id)
    t.eq(fake:last("POST", "/v2/sandboxes/" .. id .. "/connect").body, "{}")
    t.eq(sbx.commands:list(), {})
    t.ok(rawequal(sbx:connect { timeout = 30 }, sbx))
    t.eq(fake.sandboxes[id].timeout, 30)
    local e = t.raises("sandbox_not_found", Sandbox.connect, "iunknown", fake:options())
    t.eq(e.message, "Sandbox iunknown not found")
    t.eq(fake:count("POST", "/sandboxes/iunknown/connect"), 0)
    e = t.raises("invalid_argument", Sandbox.connect, "../x", fake:options())
    t.match(e.message, "no sandbox id")
    t.match(t.raises("invalid_argument", Sandbox.connect).message, "needs a sandbox id")
end)

t.test("get_info tells what is known", function()
    local fake = fake_e2b.start()
    local sbx = Sandbox.create("base", fake:options { metadata = { k = "v" } })
    local want = {
        sandbox_id = sbx.sandbox_id,
        template_id = "tmplbase",
        name = "base",
        metadata = { k = "v" },
        started_at = 1767323045,
        end_at = 1767323045,
        state = "running",
        cpu_count = 2,
        memory_mb = 512,
        envd_version = "0.6.13",
        volume_mounts = {},
        lifecycle = { on_timeout = "kill", auto_resume = false },
        network = { allow_out = { "example.com" } },
        notes = {},
    }
    t.eq(sbx:get_info(), want)
    t.eq(Sandbox.get_info(sbx.sandbox_id, fake:options()), want)
    t.eq(Sandbox.get_info(fake:options { sandbox_id = sbx.sandbox_id }), want)
    t.raises("sandbox_not_found", Sandbox.get_info, "inone", fake:options())
    t.match(t.raises("invalid_argument", sbx.get_info, sbx, { api_key = "x" }).message, "no option")
end)

t.test("list goes page by page", function()
    local fake = fake_e2b.start()
    for _ = 1, 5 do
        fake:sandbox()
    end
    local pages = Sandbox.list(fake:options { limit = 2 })
    t.eq(fake:count("GET", "/v2/sandboxes"), 0)
    local sizes, ids = {}, {}
    while pages.has_next do
        local items = pages:next_items()
        sizes[#sizes + 1] = #items
        for _, item in ipairs(items) do
            ids[item.sandbox_id] = true
        end
    end
    t.eq(sizes, { 2, 2, 1 })
    for id in pairs(fake.sandboxes) do
        t.ok(ids[id])
    end
    t.eq(pages.next_token, nil)
    t.match(t.raises("invalid_argument", pages.next_items, pages).message, "No more items")
    t.match(t.raises("invalid_argument", pages.next_items).message, "use ':'")
    t.eq(#Sandbox.list(fake:options { next_token = "4" }):next_items { request_timeout = 5 }, 1)
end)

t.test("list encodes its filters as the API decodes them", function()
    local fake = fake_e2b.start()
    Sandbox.list(fake:options {
        query = {
            metadata = { user = "a&b", ["k k"] = "v" },
            state = { "running", "paused" },
            started_after = 1767323045.5,
            template = "base",
        },
        order = "asc",
    }):next_items()
    t.eq(fake:last("GET", "/v2/sandboxes").target, "/v2/sandboxes" ..
        "?metadata=k%252520k%3Dv%26user%3Da%252526b&state=running%2Cpaused" ..
        "&startedAfter=2026-01-02T03%3A04%3A05Z&template=base&order=asc")
    t.raises("invalid_argument", Sandbox.list, fake:options { order = "up" })
    t.raises("invalid_argument", Sandbox.list, fake:options { query = { state = { "dead" } } })
    t.match(t.raises("invalid_argument", Sandbox.list,
        fake:options { query = { meta = {} } }).message, "no option")
    t.raises("invalid_argument", Sandbox.list, Sandbox)
end)

-- ---- life ----------------------------------------------------------------------------------

t.test("kill, by id and of the object", function()
    local fake = fake_e2b.start()
    local one, two = fake:sandbox(), fake:sandbox()
    t.eq(Sandbox.kill(one.sandbox_id, fake:options()), true)
    t.eq(Sandbox.kill(one.sandbox_id, fake:options()), false)
    t.eq(two:kill(), true)
    t.eq(two:kill(), false)
    t.raises("invalid_argument", Sandbox.kill)
    t.raises("invalid_argument", Sandbox.kill, Sandbox)
end)

t.test("a block's end kills, also after an error, which stays", function()
    local fake = fake_e2b.start()
    local e = t.raises("network", function()
        local sbx <close> = fake:sandbox()
        t.ok(fake.sandboxes[sbx.sandbox_id])
        Error.raise("network", "mine")
    end)
    t.eq(e.message, "mine")
    t.eq(next(fake.sandboxes), nil)
    do
        local sbx <close> = fake:sandbox()
        sbx:kill()
    end
    t.eq(#fake.requests, 4, "nothing is killed twice")
end)

t.test("close is kill, and twice is fine", function()
    local fake = fake_e2b.start()
    local sbx = fake:sandbox()
    sbx:close()
    sbx:close()
    t.eq(next(fake.sandboxes), nil)
    t.eq(fake:count("DELETE", "/sandboxes/" .. sbx.sandbox_id), 1)
    t.raises("invalid_argument", sbx.close)
end)

t.test("set_timeout", function()
    local fake = fake_e2b.start()
    local sbx = fake:sandbox()
    sbx:set_timeout(120)
    t.eq(fake.sandboxes[sbx.sandbox_id].timeout, 120)
    Sandbox.set_timeout(sbx.sandbox_id, 0, fake:options())
    t.eq(fake.sandboxes[sbx.sandbox_id].timeout, 0)
    sbx:set_timeout { timeout = 7 }
    t.eq(fake.sandboxes[sbx.sandbox_id].timeout, 7)
    t.raises("invalid_argument", sbx.set_timeout, sbx)
    t.raises("invalid_argument", sbx.set_timeout, sbx, -1)
    sbx:kill()
    t.raises("sandbox_not_found", sbx.set_timeout, sbx, 5)
end)

t.test("is_running asks the daemon", function()
    local fake = fake_e2b.start()
    local sbx = fake:sandbox()
    t.eq(sbx:is_running(), true)
    t.eq(sbx:is_running { request_timeout = 5 }, true)
    sbx:kill()
    t.eq(sbx:is_running(), false)
    fake.override["GET /health"] = function(req)
        req:reply(500, nil, "broken")
    end
    t.match(t.raises("sandbox", sbx.is_running, sbx).message, "500: broken")
    t.raises("invalid_argument", sbx.is_running)
end)

-- ---- addresses -----------------------------------------------------------------------------

t.test("get_host and get_url", function()
    local fake = fake_e2b.start()
    local sbx = fake:sandbox()
    local host = "8000-" .. sbx.sandbox_id .. "." .. fake_e2b.DOMAIN
    t.eq(sbx:get_host(8000), host)
    t.eq(sbx:get_url(8000), "http://" .. host)
    for _, port in ipairs { 0, 65536, 1.5, "80" } do
        t.match(t.raises("invalid_argument", sbx.get_url, sbx, port).message, "1 to 65535")
    end
    t.raises("invalid_argument", sbx.get_host, 8000)
end)

t.test("signed URLs", function()
    if not pcall(require, "e2b_hash") then
        return
    end
    local fake = fake_e2b.start()
    local sbx = fake:sandbox()
    sbx._connection.access_token = "tok"
    t.eq(sbx:download_url("/home/user/f.txt"), fake.url .. "/files?path=%2Fhome%2Fuser%2Ff.txt" ..
        "&signature=v1_sImrT6IwEDVeXjOUNJQOOnF5cIT4tQ%2Bm6g3uHKYtpu8")
    t.match(sbx:upload_url(nil, { user = "root", use_signature_expiration = 10 }),
        "/files%?username=root&signature=v1_[%w%%]+&signature_expiration=%d+$")
    sbx._connection.access_token = nil
    t.eq(sbx:download_url("a b"), fake.url .. "/files?path=a%20b")
    t.raises("invalid_argument", sbx.download_url, sbx, "a", { use_signature_expiration = 10 })
    t.raises("invalid_argument", sbx.download_url, sbx)
    t.raises("invalid_argument", sbx.upload_url, "a")
end)
