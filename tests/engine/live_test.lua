-- Apps with a live model: a server of the Messages API in this process that
-- streams, errs and stalls; the app is a process of its own.
local child = require "child"
local fake = require "fake_model"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local tape = require "agent.tape"

t.before(rig.warm_up)

local TASK = [[
    local task = ...
    for m in task.agent.query { prompt = "Make a page in " .. task.workdir .. ".",
        options = { idle_timeout = 0.5, %s } } do
        if task.agent.is(m, "ResultMessage") then
            print(m.subtype, m.result)
        end
    end
]]

local APP = [[
    local e2b = require "e2b"
    os.exit(e2b.agent.run_app(arg, { name = "page", task = "tasks/page.lua", service_port = 3000,
        timeout = 60 }))
]]

-- A project with an app and its task.
local function project(options)
    local dir = t.tmpdir()
    assert(fs.mkdirs(dir .. "/scripts/tasks"))
    assert(fs.mkdirs(dir .. "/.git"))
    assert(fs.write_file(dir .. "/scripts/tasks/page.lua", TASK:format(options or "")))
    assert(fs.write_file(dir .. "/scripts/page.lua", APP))
    return dir
end

-- Runs the app; env on top of that of a user without a key.
local function run(dir, env, ...)
    local all = { E2BLUA_MODEL = "" }
    for name, value in pairs(env) do
        all[name] = value
    end
    return child.start({ process.exe(), "page.lua", "--once", ... }, { dir = dir, env = all })
        :wait(50)
end

local function work()
    local function use(i, name, input)
        return { type = "tool_use", id = "toolu_" .. i, name = name, input = input }
    end
    return { content = { { type = "text", text = "I make the page." },
        use(1, "Write", { file_path = "/home/user/index.html", content = "<p>live</p>\n" }),
        use(2, "Bash", { command = "python3 -m http.server 3000", run_in_background = true }) },
        stop_reason = "tool_use" }
end

t.test("a key means live: the page is made, a tape of it is written and replays", function()
    local server, dir = fake.start { work(), fake.say("Done.") }, project()
    local env = server.env
    env.ANTHROPIC_DEFAULT_SONNET_MODEL = "glm-9"
    local code, out = run(dir, env, "--record", "made.jsonl")
    t.eq(code, 0, out)
    t.match(out, "I make the page%.")
    t.match(out, "success\tDone%.")
    t.match(out, "fetched / %(200, 12 bytes%); the sandbox is gone")
    t.ok(not out:find("offline:", 1, true) and not out:find("sk-test", 1, true))
    t.eq(server.requests[1].model, "glm-9")
    t.eq(server.headers[1]["x-api-key"], "sk-test-secret-1")
    local made = tape.load(dir .. "/made.jsonl")
    t.eq(made.conversations[1].user, "Make a page in {{workdir}}.")
    t.ok(not fs.read_file(dir .. "/made.jsonl"):find("sk-test", 1, true))

    assert(os.rename(dir .. "/made.jsonl", dir .. "/scripts/tasks/page.tape.jsonl"))
    code, out = run(dir, {})
    t.eq(code, 0, out)
    t.match(out, "offline: replaying a scripted conversation, no model is called")
    t.match(out, "fetched / %(200, 12 bytes%)")
    t.eq(#server.requests, 2)
end)

t.test("a key in .env means live as well, E2BLUA_MODEL=offline never", function()
    local server, dir = fake.start { work(), fake.say("Done.") }, project()
    assert(fs.write_file(dir .. "/.env", "ANTHROPIC_AUTH_TOKEN=token-of-env\nANTHROPIC_BASE_URL="
        .. server.base_url .. "\n"))
    local code, out = run(dir, { E2BLUA_MODEL = "offline" })
    t.eq(code, 1, out)
    t.match(out, "E2BLUA_MODEL=offline, and there is no tape for tasks/page.lua")
    t.eq(#server.requests, 0)
    code, out = run(dir, {})
    t.eq(code, 0, out)
    t.eq(server.headers[1].authorization, "Bearer token-of-env")
end)

t.test("the bundled apps run from their tapes", { timeout = 120 }, function()
    for name, fetched in pairs { calculator = "/ %(200, %d+ bytes%)",
        memo = "/ %(200, %d+ bytes%), /api/memos %(200, %d+ bytes%)" } do
        local code, out = child.start({ process.exe(), "apps/" .. name .. ".lua", "--once" },
            { dir = fs.cwd(), env = { E2BLUA_MODEL = "offline" } }):wait(55)
        t.eq(code, 0, out)
        t.match(out, "\nfetched " .. fetched .. "; the sandbox is gone\n$")
    end
    local code, out = child.start({ process.exe(), "apps/memo.lua", "--twice" },
        { dir = fs.cwd() }):wait(20)
    t.eq(code, 2, out)
    t.match(out, "^memo: unknown option '%-%-twice'")
end)

t.test("make run takes a live model only with LIVE=1, make test never", function()
    t.match(fs.read_file("Makefile"),
        "\nrun:.-E2BLUA_MODEL=%$%(if %$%(LIVE%),live,offline%)")
    t.match(fs.read_file("tests/lib/run.sh"),
        "\nE2BLUA_MODEL=offline .-\nexport [^\n]*E2BLUA_MODEL")
end)

t.test("errors that pass and a stream that stalls are gone over", function()
    local function stall(req)
        local events = fake.events(work())
        req:begin(200, { ["Content-Type"] = "text/event-stream", ["Connection"] = "close" })
        for i = 1, 5 do
            req:write(events[i])
        end
        rig.await("the client does not give up", 10, function()
            return not req:write("")
        end)
    end
    local server = fake.start {
        fake.failing(529, "overloaded_error", "Overloaded", { ["retry-after-ms"] = "20" }),
        fake.failing(500, "api_error", "Internal", { ["retry-after-ms"] = "20" }),
        function(req, request)
            pcall(stall, req, request)
        end,
        work(), fake.say("Done."),
    }
    local code, out = run(project(), server.env)
    t.eq(code, 0, out)
    t.match(out, "the model does not answer %(529%), trying again in 0.0 s")
    t.match(out, "the model does not answer %(500%), trying again")
    t.match(out, "success\tDone%.")
    t.eq(#server.requests, 5)
end)

t.test("what cannot pass ends the app with the reason and without the key", function()
    local server = fake.start { fake.failing(401, "authentication_error",
        "invalid x-api-key sk-test-secret-1") }
    local dir = project()
    local code, out = run(dir, server.env)
    t.eq(code, 1, out)
    t.match(out, "the model answered 401 %(authentication_error%): invalid x%-api%-key %[key%]")
    t.match(out, "check ANTHROPIC_API_KEY")
    t.ok(not out:find("sk-test", 1, true))
    server = fake.start { fake.failing(529, "overloaded_error", "Overloaded",
        { ["retry-after-ms"] = "1" }), fake.failing(529, "overloaded_error", "Overloaded") }
    code, out = run(project("max_retries = 1"), server.env)
    t.eq(code, 1, out)
    t.match(out, "Overloaded %(tried 2 times%)")
    t.eq(#server.requests, 2)
end)
