-- What a model's endpoint can do wrong, seen by a script.
local agent = require "agent"
local dotenv = require "e2b.dotenv"
local fake = require "fake_model"
local options = require "agent.options"
local t = require "tests"
local task = require "e2b_task"

local function run(server, given)
    local messages = {}
    given = given or {}
    given.env = given.env or server.env
    local ok, err = pcall(function()
        for m in agent.query { prompt = "go", options = given } do
            messages[#messages + 1] = m
        end
    end)
    return messages, not ok and err or nil
end

local function retries(messages)
    local out = {}
    for _, m in ipairs(messages) do
        if m.subtype == "api_retry" then
            out[#out + 1] = m.data
        end
    end
    return out
end

-- Begins a stream with the first n events of a reply and then does as told.
local function partly(n, and_then)
    return function(req)
        req:begin(200, { ["Content-Type"] = "text/event-stream", ["Connection"] = "close" })
        local events = fake.events(fake.say "half of it")
        for i = 1, n do
            req:write(events[i])
        end
        and_then(req)
    end
end

t.test("401 is kind authentication, not tried again, and shows no key", function()
    local server = fake.start { fake.failing(401, "authentication_error",
        "invalid x-api-key: sk-test-secret-1") }
    local messages, err = run(server)
    t.eq(err.kind, "authentication")
    t.eq(err.status, 401)
    t.match(err.remedy, "ANTHROPIC_API_KEY")
    t.eq(#server.requests, 1)
    t.eq(#retries(messages), 0)
    local result = messages[#messages]
    t.eq({ result.subtype, result.is_error, result.api_error_status },
        { "error_during_execution", true, 401 })
    local all = require("e2b_json").encode { messages = messages, text = err.message }
    t.ok(not all:find("sk-test-secret", 1, true), "the key is in a message")
end)

t.test("429 waits as told and goes on", function()
    local server = fake.start {
        fake.failing(429, "rate_limit_error", "slow down", { ["retry-after"] = "1" }),
        fake.failing(429, "rate_limit_error", "slow down", { ["retry-after-ms"] = "50" }),
        fake.say "at last" }
    local before = task.now()
    local messages, err = run(server)
    t.eq(err, nil)
    t.ok(task.now() - before >= 1, "it did not wait")
    t.eq(messages[#messages].result, "at last")
    local r = retries(messages)
    t.eq({ r[1].retry_delay_ms, r[2].retry_delay_ms }, { 1000, 50 })
    t.eq({ r[1].error_status, r[1].error, r[1].attempt }, { 429, "rate_limit_error", 1 })
end)

t.test("429 that asks for too long a wait fails at once", function()
    local server = fake.start { fake.failing(429, "rate_limit_error", "no more today",
        { ["retry-after"] = "3600" }) }
    local _, err = run(server)
    t.eq(err.kind, "rate_limit")
    t.match(err.message, "asks to wait 3600 s")
    t.eq(#server.requests, 1)
end)

t.test("529, 500 and a refused connection are tried again, then typed", function()
    local server = fake.start { fake.failing(529, "overloaded_error", "busy"),
        fake.failing(500, "api_error", "oops"), fake.say "fine" }
    local messages, err = run(server)
    t.eq(err, nil)
    t.eq(#retries(messages), 2)
    server = fake.start { fake.failing(529, "overloaded_error", "busy"),
        fake.failing(529, "overloaded_error", "busy") }
    err = select(2, run(server, { max_retries = 1 }))
    t.eq(err.kind, "service_busy")
    t.match(err.message, "529 %(overloaded_error%): busy %(tried 2 times%)")
    err = select(2, run(nil, { max_retries = 1, env = { ANTHROPIC_BASE_URL = "http://127.0.0.1:1",
        ANTHROPIC_API_KEY = "k" } }))
    t.eq(err.kind, "network")
end)

t.test("x-should-retry wins over the status", function()
    local server = fake.start { fake.failing(500, "api_error", "no", {
        ["x-should-retry"] = "false" }) }
    local _, err = run(server)
    t.eq(err.kind, "service_busy")
    t.eq(#server.requests, 1)
end)

t.test("400 tells what the API said", function()
    local server = fake.start { fake.failing(400, "invalid_request_error", "prompt is too long") }
    local _, err = run(server)
    t.eq(err.kind, "invalid_argument")
    t.match(err.message, "prompt is too long")
end)

t.test("half a stream is tried again and then an error", function()
    local ended = partly(4, function(req)
        req:finish()
    end)
    local cut = partly(4, function(req)
        req:reset()
    end)
    local server = fake.start { ended, cut, fake.say "whole" }
    local messages, err = run(server)
    t.eq(err, nil)
    t.eq(messages[#messages].result, "whole")
    server = fake.start { ended }
    err = select(2, run(server, { max_retries = 0 }))
    t.eq(err.kind, "protocol")
    t.match(err.message, "ended in the middle")
    server = fake.start { cut }
    err = select(2, run(server, { max_retries = 0 }))
    t.ok(err.kind == "network" or err.kind == "protocol", err.kind)
end)

t.test("garbage is a protocol error", function()
    local function html(req)
        req:reply(200, { ["Content-Type"] = "text/html", ["Connection"] = "close" },
            "<html>\255 Welcome to the hotel")
    end
    local server = fake.start { html }
    local _, err = run(server)
    t.eq(err.kind, "protocol")
    t.match(err.message, "Welcome to the hotel")
    server = fake.start { partly(2, function(req)
        req:write("event: content_block_delta\ndata: {nonsense\n\n")
        req:finish()
    end) }
    _, err = run(server)
    t.eq(err.kind, "protocol")
    t.match(err.message, "not a JSON object")
    server = fake.start { partly(0, function(req)
        req:write(fake.event("content_block_stop", { index = 3 }))
        req:finish()
    end) }
    _, err = run(server)
    t.match(err.message, "begins with content_block_stop")
    t.eq(#server.requests, 1)
end)

t.test("a stream that stalls ends with timeout, deadline idle", function()
    local stall = partly(3, function(req)
        req:read()
        task.sleep(3)
        req:reset()
    end)
    local server = fake.start { stall }
    local before = task.now()
    local _, err = run(server, { idle_timeout = 0.3, max_retries = 0 })
    t.eq({ err.kind, err.deadline }, { "timeout", "idle" })
    t.ok(task.now() - before < 2)
    task.sleep(3)
end)

t.test("no answer at all ends with timeout", function()
    local server = fake.start { function(req)
        task.sleep(1.5)
        req:reset()
    end }
    local _, err = run(server, { request_timeout = 0.3, max_retries = 0 })
    t.eq({ err.kind, err.deadline }, { "timeout", "request" })
    task.sleep(1.5)
end)

t.test("an error event in the stream is tried again", function()
    local server = fake.start { partly(2, function(req)
        req:write(fake.event("error", { error = { type = "overloaded_error",
            message = "busy" } }))
        req:finish()
    end), fake.say "good" }
    local messages, err = run(server)
    t.eq(err, nil)
    t.eq(retries(messages)[1].error, "overloaded_error")
end)

t.test("an answer that does not stream is taken", function()
    local json = require "e2b_json"
    local server = fake.start { function(req)
        req:reply(200, { ["Content-Type"] = "application/json", ["Connection"] = "close" },
            json.encode { type = "message", id = "m", role = "assistant", model = "x",
                content = json.array { { type = "text", text = "whole" } },
                stop_reason = "end_turn", usage = { input_tokens = 1, output_tokens = 2 } })
    end }
    local messages, err = run(server)
    t.eq(err, nil)
    t.eq(messages[#messages].result, "whole")
    t.eq(messages[#messages].usage.output_tokens, 2)
end)

t.test("chooses the model and sends a bearer token", function()
    local server = fake.start { fake.say "a", fake.say "b", fake.say "c" }
    local env = { ANTHROPIC_BASE_URL = server.base_url .. "/", ANTHROPIC_API_KEY = "",
        ANTHROPIC_AUTH_TOKEN = "tok", ANTHROPIC_DEFAULT_OPUS_MODEL = "my-opus" }
    run(server, { env = env, model = "opus" })
    t.eq(server.requests[1].model, "my-opus")
    t.eq(server.headers[1].authorization, "Bearer tok")
    t.eq(server.headers[1]["x-api-key"], nil)
    run(server, { env = env, model = "haiku" })
    t.eq(server.requests[2].model, "claude-haiku-5-5")
    env.ANTHROPIC_MODEL = "from-env"
    run(server, { env = env })
    t.eq(server.requests[3].model, "from-env")
end)

t.test("without a key says how to give one; offline forbids the network", function()
    local none = { ANTHROPIC_API_KEY = "", ANTHROPIC_AUTH_TOKEN = "",
        ANTHROPIC_BASE_URL = "http://127.0.0.1:1", E2BLUA_MODEL = "" }
    local e = t.raises("authentication", options.resolve, { env = none })
    t.match(e.remedy, "ANTHROPIC_API_KEY")
    e = t.raises("authentication", options.resolve, { env = { ANTHROPIC_API_KEY = "k",
        ANTHROPIC_BASE_URL = "https://example.com", E2BLUA_MODEL = "offline" } })
    t.match(e.message, "E2BLUA_MODEL=offline")
    e = t.raises("invalid_argument", options.resolve, { env = { ANTHROPIC_API_KEY = "k",
        ANTHROPIC_BASE_URL = "ftp://x" } })
    t.match(e.message, "ftp://x")
    t.eq(type(dotenv.getenv), "function")
end)

t.test("the key never reaches the tools", function()
    local resolved = options.resolve { env = { ANTHROPIC_API_KEY = "k", A = "1",
        ANTHROPIC_BASE_URL = "http://127.0.0.1:1" } }
    t.eq(resolved.env, { A = "1" })
end)
