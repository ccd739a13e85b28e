-- The control plane as official clients meet it: forms of create, statuses,
-- bodies of errors, by curl.
local child = require "child"
local json = require "e2b_json"
local rig = require "engine_rig"
local t = require "tests"

t.before(rig.warm_up)

-- One request by curl; the body comes decoded when it is JSON.
local function curl(method, path, opts)
    opts = opts or {}
    local info = rig.info()
    local words = { "curl", "-s", "--max-time", "20", "-X", method, "-w", "\n%{http_code}",
        "-i" }
    if opts.key ~= false then
        table.move({ "-H", "X-API-Key: " .. (opts.key or info.api_key) }, 1, 2, #words + 1, words)
    end
    for _, header in ipairs(opts.headers or {}) do
        table.move({ "-H", header }, 1, 2, #words + 1, words)
    end
    if opts.body then
        local text = type(opts.body) == "string" and opts.body or json.encode(opts.body)
        table.move({ "-H", "Content-Type: application/json", "-d", text }, 1, 4, #words + 1, words)
    end
    words[#words + 1] = ("http://%s:%d%s"):format(opts.host or "127.0.0.1", info.port, path)
    local code, out = child.start(words):wait()
    t.eq(code, 0, out)
    local head, rest = t.match(out, "^(.-\r\n\r\n)(.*)$")
    local body, status = t.match(rest, "^(.*)\n(%d+)$")
    return math.tointeger(tonumber(status)), body ~= "" and (json.decode(body) or body) or nil, head
end

local function create(path, body)
    local status, doc = curl("POST", path, { body = body })
    t.eq(status, 201, json.encode(doc))
    t.cleanup(function()
        rig.api("DELETE", "/sandboxes/" .. doc.sandboxID)
    end)
    return doc
end

t.test("both forms of create", function()
    local v1 = create("/sandboxes", { templateID = "base" })
    local v2 = create("/v2/sandboxes", { templateID = "base" })
    for _, doc in ipairs { v1, v2 } do
        t.match(doc.sandboxID, "^i[a-z0-9]+$")
        t.match(doc.templateID, "^[a-z0-9]+$")
        t.match(doc.envdVersion, "^%d+%.%d+%.%d+$")
        t.eq(doc.alias, "base")
        t.eq(type(doc.clientID), "string")
        t.eq(doc.domain, rig.info().domain)
    end
    t.eq({ v1.envdAccessToken, type(v2.envdAccessToken) }, { nil, "string" })
    local secure = create("/sandboxes", { templateID = "base", secure = true, timeout = 60,
        metadata = { a = "b" }, envVars = { C = "d" }, autoPause = false,
        allow_internet_access = false })
    t.eq(type(secure.envdAccessToken), "string")
    local status, doc = curl("GET", "/sandboxes/" .. secure.sandboxID)
    t.eq(status, 200)
    t.eq({ doc.sandboxID, doc.state, doc.metadata, doc.envdAccessToken },
        { secure.sandboxID, "running", { a = "b" }, secure.envdAccessToken })
    t.match(doc.startedAt, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.?%d*Z$")
    t.eq({ math.type(doc.cpuCount), math.type(doc.memoryMB) }, { "integer", "integer" })
end)

t.test("a sandbox that is not secure needs no token", function()
    local doc = create("/sandboxes", { templateID = "base", timeout = 30 })
    local status, body = curl("GET", "/files?username=user&path=/etc/hostname", { key = false,
        headers = { "E2b-Sandbox-Id: " .. doc.sandboxID, "E2b-Sandbox-Port: 49983" } })
    t.eq({ status, body }, { 200, "e2b\n" })
end)

t.test("errors have code and message", function()
    local cases = {
        { 400, "POST", "/sandboxes", "{" },
        { 400, "POST", "/sandboxes", "[]" },
        { 400, "POST", "/sandboxes", "null" },
        { 400, "POST", "/sandboxes", {} },
        { 400, "POST", "/sandboxes", { templateID = 5 } },
        { 400, "POST", "/sandboxes", { templateID = "base", timeout = "1" } },
        { 400, "POST", "/sandboxes", { templateID = "base", timeout = 1.5 } },
        { 400, "POST", "/sandboxes", { templateID = "base", timeout = -1 } },
        { 400, "POST", "/sandboxes", { templateID = "base", metadata = { a = 1 } } },
        { 400, "POST", "/sandboxes", { templateID = "base", envVars = "x" } },
        { 404, "POST", "/sandboxes", { templateID = "nosuch" } },
        { 404, "POST", "/v2/sandboxes", { templateID = "nosuch" } },
        { 404, "GET", "/sandboxes/inone" },
        { 404, "DELETE", "/sandboxes/inone" },
        { 404, "POST", "/sandboxes/inone/timeout", { timeout = 5 } },
        { 404, "POST", "/sandboxes/inone/connect", { timeout = 5 } },
        { 404, "POST", "/v2/sandboxes/inone/connect", {} },
        { 400, "GET", "/v2/sandboxes?limit=x" },
        { 400, "GET", "/v2/sandboxes?limit=0" },
        { 400, "GET", "/v2/sandboxes?state=asleep" },
        { 400, "GET", "/v2/sandboxes?nextToken=%25" },
        { 400, "GET", "/v2/sandboxes?startedAfter=yesterday" },
        { 405, "PUT", "/sandboxes" },
        { 404, "GET", "/no/such/call" },
    }
    for _, case in ipairs(cases) do
        local status, doc, head = curl(case[2], case[3], { body = case[4] })
        local what = case[2] .. " " .. case[3] .. " " .. t.show(case[4])
        t.eq(status, case[1], what)
        t.eq(type(doc) == "table" and doc.code, case[1], what)
        t.ok(type(doc.message) == "string" and doc.message ~= "", what)
        t.match(head:lower(), "\r\ncontent%-type: application/json", what)
    end
end)

t.test("401 without a key and with a wrong one", function()
    for _, key in ipairs { false, "wrong", "e2b_" .. ("0"):rep(40) } do
        for _, call in ipairs { { "GET", "/v2/sandboxes" }, { "POST", "/sandboxes" },
            { "GET", "/sandboxes/inone" }, { "GET", "/templates" }, { "GET", "/no/such/call" } } do
            local status, doc = curl(call[1], call[2], { key = key,
                body = call[1] == "POST" and { templateID = "base" } or nil })
            t.eq({ status, doc.code }, { 401, 401 }, call[2])
        end
    end
    t.eq(curl("GET", "/health", { key = false }), 200)
end)

t.test("IPv6, api.<domain>, and HTTP/1.0", function()
    t.eq(curl("GET", "/v2/sandboxes", { host = "[::1]" }), 200)
    t.eq(curl("GET", "/v2/sandboxes", { host = "api.e2b.localhost" }), 200)
    t.eq(curl("GET", "/v2/sandboxes", { headers = { "Host: api.sandboxes.example" } }), 200)
    local _, out = child.start { "curl", "-s0", "-o", "/dev/null", "-w", "%{http_code}", "-H",
        "X-API-Key: " .. rig.info().api_key,
        ("http://127.0.0.1:%d/v2/sandboxes"):format(rig.info().port) }:wait()
    t.eq(out, "200")
end)

t.test("a browser's preflight is answered", function()
    local status, _, head = curl("OPTIONS", "/sandboxes", { key = false, headers = {
        "Origin: http://a.example", "Access-Control-Request-Method: POST" } })
    t.eq(status, 204)
    t.match(head:lower(), "access%-control%-allow%-origin: %*")
    t.match(head:lower(), "access%-control%-allow%-methods: [^\r]*post")
end)

t.test("timeout, connect and kill by their statuses", function()
    local id = create("/sandboxes", { templateID = "base", timeout = 60 }).sandboxID
    t.eq(curl("POST", "/sandboxes/" .. id .. "/timeout", { body = { timeout = 90 } }), 204)
    t.eq(curl("POST", "/sandboxes/" .. id .. "/timeout", { body = {} }), 400)
    local status, doc = curl("POST", "/sandboxes/" .. id .. "/connect", { body = { timeout = 5 } })
    t.eq({ status, doc.sandboxID }, { 200, id })
    t.eq(curl("DELETE", "/sandboxes/" .. id), 204)
    t.eq(curl("DELETE", "/sandboxes/" .. id), 404)
    t.eq(curl("GET", "/sandboxes/" .. id), 404)
end)

t.test("list: total, next token, newest first", function()
    local ids = {}
    for i = 1, 3 do
        ids[i] = create("/sandboxes", { templateID = "base", timeout = 60,
            metadata = { page = "yes & no" } }).sandboxID
    end
    local query = "/v2/sandboxes?metadata=page%3Dyes%252520%252526%252520no&limit=2"
    local status, list, head = curl("GET", query)
    t.eq(status, 200)
    t.eq({ #list, list[1].sandboxID, list[2].sandboxID }, { 2, ids[3], ids[2] })
    t.match(head:lower(), "x%-total%-running: 3")
    local token = t.match(head, "\r\n[Xx]%-[Nn]ext%-[Tt]oken: ([^\r]+)")
    status, list, head = curl("GET", query .. "&nextToken=" .. require("e2b_wire").escape(token))
    t.eq({ status, #list, list[1].sandboxID }, { 200, 1, ids[1] })
    t.ok(not head:lower():find("\nx%-next%-token:"), "there is no third page")
    status, list = curl("GET", "/v2/sandboxes?metadata=page%3Dnothing")
    t.eq({ status, json.encode(list) }, { 200, "[]" })
end)

t.test("what the engine cannot do is refused by name", function()
    for _, field in ipairs { "autoPause" } do
        local status, doc = curl("POST", "/sandboxes", { body = { templateID = "base",
            [field] = true } })
        t.eq(status, 400)
        t.match(doc.message, field)
    end
end)

t.test("a process by the raw Connect protocol", function()
    local doc = create("/v2/sandboxes", { templateID = "base", timeout = 60 })
    local status, list = curl("POST", "/process.Process/List", { key = false, body = "{}",
        headers = { "E2b-Sandbox-Id: " .. doc.sandboxID, "E2b-Sandbox-Port: 49983",
            "X-Access-Token: " .. doc.envdAccessToken } })
    t.eq(status, 200)
    t.eq(list.processes or {}, {})
    local bad
    status, bad = curl("POST", "/process.Process/List", { key = false, body = "{}",
        headers = { "E2b-Sandbox-Id: " .. doc.sandboxID, "E2b-Sandbox-Port: 49983" } })
    t.eq(status, 401)
    t.eq(type(bad.message), "string")
    local dead = "izzzzzzzzzzzzzzzzzzzz"
    status, bad = curl("POST", "/process.Process/List", { key = false, body = "{}",
        headers = { "E2b-Sandbox-Id: " .. dead, "E2b-Sandbox-Port: 49983" } })
    t.eq({ status, bad.sandboxId, bad.code, bad.message },
        { 502, dead, 502, "The sandbox was not found" })
end)
