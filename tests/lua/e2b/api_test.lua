local t = require "tests"
local task = require "e2b_task"
local fake_e2b = require "fake_e2b"
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"

-- A server whose create answers one after the other; then as usual.
local function answering(...)
    local fake, answers = fake_e2b.start(), { ... }
    fake.override["POST /v2/sandboxes"] = function(req)
        local answer = table.remove(answers, 1)
        if not answer then
            return false
        end
        req:reply(answer[1], answer[2], answer[3] or "")
    end
    return fake
end

local function create(fake, more)
    return Sandbox.create("base", fake:options(more))
end

local function body(code, message)
    return ('{"code":%d,"message":"%s"}'):format(code, message)
end

t.test("statuses are kinds, with the server's message", function()
    local cases = {
        { 401, "authentication", "401: Unauthorized, please check your credentials. - why" },
        { 403, "sandbox", "403: why" },
        { 409, "sandbox", "409: why" },
        { 429, "rate_limit", "429: Rate limit exceeded, please try again later. - why" },
        { 500, "sandbox", "500: why" },
        { 503, "service_busy", "503: Service temporarily unavailable, please retry. - why" },
    }
    for _, case in ipairs(cases) do
        local fake = answering({ case[1], { ["Should-Retry"] = "false" }, body(case[1], "why") })
        local e = t.raises(case[2], create, fake)
        t.eq(e.message, case[3])
        t.eq(e.status, case[1])
    end
end)

t.test("a wrong key is said to be one, and never shown", function()
    local fake = fake_e2b.start()
    local e = t.raises("authentication", Sandbox.create, "base",
        fake:options { api_key = "e2b_wrongkey" })
    t.match(e.remedy, "E2B_API_KEY")
    local echo = answering({ 400, nil, "your key e2b_0123456789abcdef is bad" })
    e = t.raises("sandbox", create, echo)
    t.eq(e.message, "400: your key *** is bad")
    for _, v in pairs(e) do
        t.ok(not tostring(v):find(fake_e2b.API_KEY, 1, true))
    end
end)

t.test("an error's error_code is kept", function()
    local e = t.raises("sandbox", create, answering({ 409, nil,
        '{"code":409,"message":"m","error_code":"idempotency_in_progress"}' }))
    t.eq(e.code, "idempotency_in_progress")
    t.raises("guest_unresponsive", create, answering({ 409, nil,
        '{"code":409,"message":"m","error_code":"sandbox_snapshot_guest_agent_unresponsive"}' }))
end)

t.test("long and binary error pages are cut and cleaned", function()
    local e = t.raises("sandbox", create,
        answering({ 500, nil, "<html>\n\n\255" .. ("x"):rep(5000) }))
    t.match(e.message, "^500: <html> ")
    t.ok(#e.message < 400)
    t.ok(utf8.len(e.message))
    e = t.raises("sandbox", create, answering({ 500, nil, "" }))
    t.eq(e.message, "500: (an answer without text)")
end)

t.test("repeats after 429 with Retry-After", function()
    local fake = answering({ 429, { ["Retry-After"] = "0" }, body(429, "slow down") },
        { 429, { ["Retry-After"] = "0" }, body(429, "slow down") })
    t.ok(create(fake).sandbox_id)
    t.eq(fake:count("POST", "/v2/sandboxes"), 3)
end)

t.test("repeats after 502, 503 and 504 with growing waits", function()
    local fake = answering({ 502, nil, "" }, { 503, nil, "" }, { 504, nil, "" })
    local began = task.now()
    t.ok(create(fake).sandbox_id)
    t.ok(task.now() - began >= 0.05 + 0.1 + 0.2)
    t.eq(fake:count("POST", "/v2/sandboxes"), 4)
end)

t.test("gives up after the retries", function()
    local busy = { 503, { ["Retry-After"] = "0" }, body(503, "busy") }
    local fake = answering(busy, busy, busy, busy, busy)
    local e = t.raises("service_busy", create, fake)
    t.eq(e.retryable, true)
    t.eq(fake:count("POST", "/v2/sandboxes"), 4)
    fake = answering(busy)
    t.raises("service_busy", create, fake, { retries = 0 })
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
end)

t.test("Should-Retry decides", function()
    local fake = answering({ 429, { ["Should-Retry"] = "false" }, body(429, "limit") })
    t.eq(t.raises("rate_limit", create, fake).retryable, nil)
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
    fake = answering({ 409, { ["Should-Retry"] = "true" }, body(409, "moving") })
    t.ok(create(fake).sandbox_id)
end)

t.test("does not wait beyond the request timeout", function()
    local fake = answering({ 429, { ["Retry-After"] = "30" }, body(429, "slow down") })
    local began = task.now()
    t.raises("rate_limit", create, fake, { request_timeout = 5 })
    t.ok(task.now() - began < 2)
end)

t.test("a silent server is a timeout of the request", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function()
        task.sleep(2)
    end
    local e = t.raises("timeout", create, fake, { request_timeout = 0.1 })
    t.eq(e.deadline, "request")
    t.match(e.message, "^Sandbox%.create: no answer within 0%.1")
    t.match(e.remedy, "request_timeout")
end)

t.test("an answer that stops is a timeout", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function(req)
        req:begin(201, nil, 100)
        req:write("{")
        task.sleep(2)
    end
    local e = t.raises("timeout", create, fake, { request_timeout = 0.1 })
    t.eq(e.deadline, "idle")
end)

t.test("a dripping answer cannot outlast the deadline", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function(req)
        req:begin(201, nil, 100)
        for _ = 1, 60 do
            if not req:write(" ") then
                return
            end
            task.sleep(0.05)
        end
    end
    local began = task.now()
    local e = t.raises("timeout", create, fake, { request_timeout = 0.3 })
    t.eq(e.deadline, "request")
    t.ok(task.now() - began < 2)
end)

t.test("a connection that breaks is an error of the network, without repetition", function()
    local fake = fake_e2b.start()
    fake.override["POST /v2/sandboxes"] = function(req)
        req:reset()
    end
    local e = t.raises("network", create, fake)
    t.match(e.message, "^Sandbox%.create: ")
    t.eq(fake:count("POST", "/v2/sandboxes"), 1)
end)

t.test("a server that is not there is named", function()
    local e = t.raises("network", Sandbox.create, "base",
        { api_url = "http://127.0.0.1:1", api_key = "e2b_1", retries = 1 })
    t.match(e.message, "127%.0%.0%.1:1")
    t.match(e.remedy, "option api_url")
    t.ok(Error.is(e.cause, "network"))
end)

t.test("garbage instead of HTTP is a protocol error", function()
    local fake = answering({ 201, nil, "{{{" })
    local e = t.raises("protocol", create, fake)
    t.match(e.message, "not JSON")
end)
