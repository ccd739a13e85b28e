-- The agent at work in real sandboxes, by tapes. Uses the engine of
-- $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local agent = require "agent"
local fs = require "e2b_fs"
local http = require "e2b.http"
local json = require "e2b_json"
local offline = require "agent.offline"
local runner = require "agent.runner"
local t = require "tests"
local tape = require "agent.tape"
local task = require "e2b_task"

-- The first request opens a connection that stays in the client's pool; others
-- leave nothing there.
t.before(function()
    local sandbox <close> = Sandbox.create { timeout = 30, allow_internet_access = false }
    sandbox.commands:run("true")
end)
local ALONE = { headers = { Connection = "close" } }

local function get(url)
    return http.get(url, ALONE)
end

local function use(name, input)
    return { type = "tool_use", name = name, input = input }
end

local function exchange(turn, user, is_error, ...)
    return json.encode { turn = turn, user = user, is_error = is_error and json.array(is_error),
        reply = { content = json.array { ... } } }
end

local SERVE = table.concat({ json.encode { tape = 1 },
    exchange(0, "Serve a page from {{workdir}}.", nil,
        use("Write", { file_path = "{{workdir}}/index.html", content = "in {{workdir}}\n" }),
        use("Bash", { command = "python3 -m http.server 3000", run_in_background = true })),
    exchange(1, nil, nil,
        use("Edit", { file_path = "{{workdir}}/index.html", old_string = "in ",
            new_string = "served from " }),
        use("Read", { file_path = "index.html" }), use("Glob", { pattern = "**/*.html" }),
        use("Grep", { pattern = "SERVED", ["-i"] = true, output_mode = "count" }),
        use("Bash", { command = "test -f index.html" }), use("Bash", { command = "exit 3" })),
    exchange(2, nil, { false, false, false, false, false, true },
        { type = "text", text = "Done." }) }, "\n")

local TASK = [[
    local task = ...
    for m in task.agent.query { prompt = "Serve a page from " .. task.workdir .. "." } do
        if m.type == "user" then
            print(m.content[1].is_error, (m.content[1].content:gsub("\n.*", "")))
        end
    end
]]

local function files(source)
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/task.lua", source))
    assert(fs.write_file(dir .. "/task.tape.jsonl", SERVE))
    return dir .. "/task.lua", dir .. "/task.tape.jsonl"
end

local function serve(workdir, source)
    local path, tape_path = files(source or TASK)
    local r = runner.run_code_with_service(path, { service_port = 3000, workdir = workdir,
        timeout = 120, tape = tape_path, progress = false })
    t.cleanup(function()
        Sandbox.kill(r.sandbox_id)
    end)
    return r
end

t.test("the same tape in two folders: its calls are carried out", function()
    for _, workdir in ipairs { "/home/user/one", "/home/user/two words" } do
        local r = serve(workdir)
        t.eq(r.exit_code, 0)
        t.eq(r.files, { "index.html" })
        t.match(r.stdout, "false\tThe file .*index%.html has been updated successfully")
        t.match(r.stdout, "false\t     1\tserved from " .. workdir)
        t.match(r.stdout, "false\t" .. workdir .. "/index%.html\n")
        t.match(r.stdout, "false\t" .. workdir .. "/index%.html:1\n")
        t.match(r.stdout, "false\t%(no output%)\ntrue\tExit code 3\n$")
        t.eq(get(r.service_url .. "/").body, "served from " .. workdir .. "\n")
    end
end)

t.test("without its file in the sandbox the URL gives 404", function()
    local r = serve()
    t.eq(get(r.service_url .. "/index.html").status, 200)
    Sandbox.connect(r.sandbox_id).files:remove("/home/user/index.html")
    t.eq(get(r.service_url .. "/index.html").status, 404)
end)

t.test("what breaks in the sandbox is an error in the transcript, and reported", function()
    local sandbox <close> = Sandbox.create { timeout = 60, allow_internet_access = false }
    sandbox.commands:run("mv $(which rg) /usr/bin/rg-away", { user = "root" })
    local notices, failed = {}, 0
    local server <close> = offline.open(tape.parse(SERVE, "serve"), function(text)
        notices[#notices + 1] = text
    end)
    for m in agent.query { prompt = "Serve a page from /home/user.",
        options = { env = server:env(), sandbox = sandbox } } do
        if m.type == "user" and m.content[1].is_error then
            failed = failed + 1
        elseif agent.is(m, "ResultMessage") then
            t.eq({ m.subtype, m.result }, { "success", "Done." })
        end
    end
    t.eq(failed, 2)
    t.eq(notices, { "step 3 (turn 2): Grep failed, which it did not when the tape was made" })
end)

t.test("a port that never opens says what was listening", function()
    local path = files([[
        local task = ...
        task.sandbox.commands:run("exec python3 -m http.server -b 127.0.0.1 8080",
            { background = true, timeout = 0 }):disconnect()
        task.sandbox.commands:run("until ss -Htln | grep -q 8080; do sleep 0.05; done")
    ]])
    local e = t.raises("timeout", runner.run_code_with_service, path, { service_port = 3000,
        port_timeout = 0.5, timeout = 60, progress = false })
    t.match(e.message, "listening in the sandbox: .*8080 on 127.0.0.1 %(python3%)")
end)

t.test("a sandbox killed in the middle of a tool call ends the run within a second", function()
    local sandbox <close> = Sandbox.create { timeout = 60, allow_internet_access = false }
    local source = table.concat({ json.encode { tape = 1 },
        exchange(0, "wait", nil, use("Bash", { command = "sleep 60" })) }, "\n")
    local server <close> = offline.open(tape.parse(source, "wait"))
    local killed
    local killer = task.spawn_quiet(function()
        task.sleep(0.5)
        killed = task.now()
        Sandbox.kill(sandbox.sandbox_id, ALONE)
    end)
    local result
    local e = t.raises("sandbox_not_running", function()
        for m in agent.query { prompt = "wait", options = { env = server:env(),
            sandbox = sandbox } } do
            result = agent.is(m, "ResultMessage") and m or result
        end
    end)
    t.ok(task.now() - killed < 1, "it took longer")
    t.eq(result.is_error, true)
    t.eq(e.deadline, "sandbox")
    killer:join(5)
end)

-- A cancellation that a pcall has caught and passed on does not look like one to
-- the scheduler: clean-up must be shielded.
local function cancelled(fn)
    local running = task.spawn_quiet(fn)
    task.sleep(0.7)
    running:cancel()
    t.raises("cancelled", running.join, running, 10)
end

t.test("a cancelled run leaves no sandbox, although pcalls are in between", function()
    local id
    cancelled(function()
        local sandbox <close> = Sandbox.create { timeout = 60, allow_internet_access = false }
        id = sandbox.sandbox_id
        local _, e = pcall(sandbox.commands.run, sandbox.commands, "sleep 60")
        error(e, 0)
    end)
    t.raises("sandbox_not_found", Sandbox.get_info, id)
    local path = files([[
        local task = ...
        package.loaded.agent_test_id = task.sandbox.sandbox_id
        task.sandbox.commands:run("sleep 60")
    ]])
    for _, name in ipairs { "run_code_in_sandbox", "run_code_with_service" } do
        cancelled(function()
            runner[name](path, { timeout = 60, progress = false,
                service_port = name:find "service" and 3000 or nil })
        end)
        t.raises("sandbox_not_found", Sandbox.get_info, package.loaded.agent_test_id)
        package.loaded.agent_test_id = nil
    end
end)
