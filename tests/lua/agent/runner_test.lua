-- Tasks: what they get, what they give back, what is shown. The sandbox is a
-- test double here; tests/engine runs the same on real ones.
local Bound = require "agent.bound"
local fake = require "fake_model"
local fake_sandbox = require "fake_sandbox"
local fs = require "e2b_fs"
local json = require "e2b_json"
local progress = require "agent.progress"
local record = require "agent.record"
local runner = require "agent.runner"
local service = require "agent.service"
local setup = require "agent.setup"
local t = require "tests"
local tape = require "agent.tape"
local task = require "e2b_task"

local function sink()
    local out = { text = "" }
    function out:write(...)
        self.text = self.text .. table.concat { ... }
    end
    function out.flush() end
    return out
end

-- Makes the runner use a double for the rest of the test.
local function with_double()
    local home = t.tmpdir()
    local sandbox = setmetatable(fake_sandbox.new(home, t.tmpdir()), { __close = function(self)
        self.killed = true
    end })
    function sandbox:kill()
        self.killed = true
    end
    function sandbox.release() end
    function sandbox.get_url(_, port)
        return "http://double:" .. port
    end
    local real, shown = setup.sandbox, sink()
    setup.sandbox = function(run)
        run.sandbox, run.workdir, run.ends_at = sandbox, home, os.time() + 3600
        run.progress = progress.new { out = shown }
        return sandbox
    end
    t.cleanup(function()
        setup.sandbox = real
    end)
    return sandbox, home, shown
end

local function file(name, text)
    local path = t.tmpdir() .. "/" .. name
    assert(fs.write_file(path, text))
    return path
end

t.test("a task gets sandbox, workdir, env and agent; its files and prints come back", function()
    local sandbox, home, shown = with_double()
    assert(fs.write_file(home .. "/old.txt", "1"))
    assert(fs.write_file(home .. "/kept.txt", "1"))
    local path = file("task.lua", [[
        local task = ...
        print("in", task.workdir, task.env.NAME)
        a_global = task.sandbox.sandbox_id
        task.sandbox.files:write(task.workdir .. "/sub/new\nline.txt", "x")
        task.sandbox.files:write(task.workdir .. "/old.txt", "22")
        assert(task.agent.is({type = "system"}, "SystemMessage"))
    ]])
    local r = runner.run_code_in_sandbox(path, { env_vars = { NAME = "value" } })
    t.eq(r.exit_code, 0)
    t.eq(r.files, { "old.txt", "sub/new\nline.txt" })
    t.eq(r.stdout, "in\t" .. home .. "\tvalue\n")
    t.match(shown.text, "in\t.*\tvalue\n")
    t.eq(r.sandbox_id, "double")
    t.eq(sandbox.killed, true)
end)

t.test("return n and errors give the exit code", function()
    with_double()
    t.eq(runner.run_code_in_sandbox(file("a.lua", "return 3")).exit_code, 3)
    t.eq(runner.run_code_in_sandbox(file("a.lua", "return false")).exit_code, 1)
    local r = runner.run_code_in_sandbox(file("a.lua", "error('no luck')"))
    t.eq(r.exit_code, 1)
    t.match(r.stderr, "a.lua:1: no luck")
    r = runner.run_code_in_sandbox(file("a.lua", "return {}"))
    t.match(r.stderr, "the task returned a table")
end)

t.test("other tasks run inside", function()
    local _, home = with_double()
    local r = runner.run_code_in_sandbox(file("t.sh", "pwd; echo $NAME; touch made; exit 4"),
        { env_vars = { NAME = "v" } })
    local e = r.error
    r.error = nil
    t.eq(r, { exit_code = 4, stdout = home .. "\nv\n", stderr = "", files = { "made" },
        added = { { path = "made", size = 0 } }, changed = {}, removed = {},
        sandbox_id = "double" })
    t.eq({ e.kind, e.message, e.result.exit_code }, { "command_exit",
        "t.sh ended with exit code 4", 4 })
end)

t.test("files added, changed and removed come back with their sizes", function()
    local _, home = with_double()
    for _, name in ipairs { "kept", "grown", "gone" } do
        assert(fs.write_file(home .. "/" .. name, "1"))
    end
    local r = runner.run_code_in_sandbox(file("t.sh",
        "rm gone; echo 22 >grown; mkdir -p d; printf 4444 >d/new; touch b"))
    t.eq({ r.exit_code, r.error }, { 0 })
    t.eq(r.files, { "b", "d/new", "grown" })
    t.eq(r.added, { { path = "b", size = 0 }, { path = "d/new", size = 4 } })
    t.eq(r.changed, { { path = "grown", size = 3 } })
    t.eq(r.removed, { { path = "gone", size = 1 } })
end)

t.test("a Python task that crashes has its traceback in the error", function()
    local _, _, shown = with_double()
    local r = runner.run_code_in_sandbox(file("crash.py",
        "import sys\ndef f():\n    return 1 / 0\nprint('before')\nsys.stdout.flush()\nf()\n"))
    t.eq({ r.exit_code, r.stdout, r.error.kind }, { 1, "before\n", "command_exit" })
    t.match(r.error.message, "^crash.py ended with exit code 1:\nTraceback")
    t.match(r.error.message, 'crash.py", line 3, in f')
    t.match(r.error.message, "ZeroDivisionError: division by zero$")
    t.eq(r.error.result.stderr, r.stderr)
    t.match(shown.text, "the task failed: crash.py ended with exit code 1\n$")
    r = runner.run_code_in_sandbox(file("long.sh",
        "head -c 9000 /dev/zero | tr '\\0' x >&2; exit 1"))
    t.ok(#r.error.message < 4100)
    t.match(r.error.message, "exit code 1:\n%.%.%.xxx")
end)

t.test("a language the sandbox has no program for is told as such", function()
    with_double()
    local run_code = require "e2b.run_code"
    local command = run_code.command
    t.cleanup(function()
        run_code.command = command
    end)
    run_code.command = function()
        return "exit 127"
    end
    -- The double has node or not; the shell it has.
    local check_program = run_code.check_program
    t.cleanup(function()
        run_code.check_program = check_program
    end)
    local asked
    run_code.check_program = function(op, _, language)
        asked = { op, language }
    end
    t.eq(runner.run_code_in_sandbox(file("t.js", "")).exit_code, 127)
    t.eq(asked, { "t.js", "javascript" })
end)

t.test("a tape is made and replayed of tasks that have an agent here", function()
    for _, name in ipairs { "record", "tape" } do
        local e = t.raises("invalid_argument", runner.run_code_in_sandbox, file("t.py", ""),
            { [name] = "x.jsonl" })
        t.match(e.message, name .. " goes with a Lua task")
    end
end)

t.test("a task that is missing or does not load says so before a sandbox is made", function()
    local e = t.raises("file_not_found", runner.run_code_in_sandbox, "tasks/nowhere.lua")
    t.match(e.message, "scripts/tasks/nowhere.lua %(installed copy%)")
    e = t.raises("invalid_argument", runner.run_code_in_sandbox, file("x.lua", "local = 1"))
    t.match(e.message, "x.lua:1:")
    e = t.raises("invalid_argument", runner.run_code_in_sandbox, file("x.rb", ""))
    t.match(e.message, ".py, .js or .sh")
    e = t.raises("invalid_argument", runner.run_code_in_sandbox, "x.lua", { templat = "a" })
    t.match(e.message, 'did you mean "template"')
    e = t.raises("invalid_argument", runner.run_code_with_service, file("x.lua", ""), {})
    t.match(e.message, "service_port")
end)

-- `ss` for the double: says what the file `ports` says.
local function with_ss(sandbox, home)
    local bin = t.tmpdir()
    assert(fs.write_file(bin .. "/ss", "#!/bin/sh\ncase \"$2\" in sport*) "
        .. "grep \":${2##*:}\" '" .. home .. "/ports';; *) cat '" .. home
        .. "/ports';; esac; true\n", 493))
    local run = sandbox.commands.run
    sandbox.commands.run = function(self, cmd, opts)
        return run(self, "PATH=" .. bin .. ":$PATH\n" .. cmd, opts)
    end
end

local LINE = 'LISTEN 0 5 127.0.0.1:8080 0.0.0.0:* users:(("python3",pid=7,fd=3))\n'

t.test("a service: waits for the port, says where it is, leaves the sandbox", function()
    local sandbox, home, shown = with_double()
    with_ss(sandbox, home)
    local path = file("a.lua", [[
        local task = ...
        task.sandbox.files:write(task.workdir .. "/ports", "LISTEN 0 5 *:3000 *:*\n")
    ]])
    local r = runner.run_code_with_service(path, { service_port = 3000 })
    t.eq({ r.exit_code, r.service_url }, { 0, "http://double:3000" })
    t.eq(sandbox.killed, nil)
    t.match(shown.text, "waiting for port 3000")
    t.match(shown.text, "http://double:3000\n")
    t.match(shown.text, "ends at %d%d:%d%d:%d%d %(in 60 min%)")
    t.match(shown.text, "set_timeout%(\"double\", 7200%)")
    t.match(shown.text, "e2blua kill double")
end)

t.test("a port that never opens says what was listening, and ends the sandbox", function()
    local sandbox, home = with_double()
    with_ss(sandbox, home)
    assert(fs.write_file(home .. "/ports", LINE))
    local e = t.raises("timeout", runner.run_code_with_service, file("a.lua", ""),
        { service_port = 3000, port_timeout = 0.5 })
    t.match(e.message, "port 3000 was not open within 1 s; listening in the sandbox: "
        .. "8080 on 127.0.0.1 %(python3%)")
    t.eq(sandbox.killed, true)
    t.eq(type(service.await_port), "function")
end)

t.test("a task that fails has no service, and its sandbox is ended", function()
    local sandbox = with_double()
    local r = runner.run_code_with_service(file("a.lua", "return 2"), { service_port = 3000 })
    t.eq({ r.exit_code, r.service_url, sandbox.killed }, { 2, nil, true })
end)

-- ---- the offline model in a task -----------------------------------------------

local function write_tape(name)
    local lines = {
        { tape = 1 },
        { turn = 0, user = "go in {{workdir}}", reply = { content = json.array {
            { type = "text", text = "I begin." },
            { type = "tool_use", name = "Bash", input = { command = "echo hi > f; cat f" } },
            { type = "tool_use", name = "Bash", input = { command = "cat nothing" } } } } },
        { turn = 1, is_error = json.array { false, true },
            reply = { content = json.array { { type = "text", text = "Done." } } } } }
    for i, line in ipairs(lines) do
        lines[i] = json.encode(line)
    end
    assert(fs.write_file(name, table.concat(lines, "\n")))
end

local TASK = [[
    local task = ...
    for m in task.agent.query{prompt = "go in " .. task.workdir} do
        if task.agent.is(m, "ResultMessage") then print(m.result) end
    end
]]

t.test("a tape is replayed beside its task, and said so once", function()
    local _, home, shown = with_double()
    local path = file("a.lua", TASK .. TASK:gsub("local task = ...", ""))
    write_tape((path:gsub("%.lua$", ".tape.jsonl")))
    local r = runner.run_code_in_sandbox(path, { tape = path:gsub("%.lua$", ".tape.jsonl") })
    t.eq({ r.exit_code, r.stdout, r.files }, { 0, "Done.\nDone.\n", { "f" } })
    t.eq(fs.read_file(home .. "/f"), "hi\n")
    local _, times = shown.text:gsub(
        "offline: replaying a scripted conversation, no model is called", "")
    t.eq(times, 1)
    t.match(shown.text, "  I begin.\nok Bash echo hi > f; cat f +[%d.]+ s\n")
    t.match(shown.text, "FAILED Bash cat nothing +[%d.]+ s\n  Exit code 1")
end)

t.test("a live run makes a tape that replays", function()
    local sandbox, home = with_double()
    local server = fake.start { fake.call("Bash", { command = "echo 1 > " .. home .. "/one" }),
        fake.say("Made " .. home .. "/one.") }
    local run = { sandbox = sandbox, workdir = home, code_file = "x.lua",
        record = t.tmpdir() .. "/x.tape.jsonl", progress = progress.new { silent = true } }
    local bound = Bound.new(run)
    bound._env = server.env
    for _ in bound:query { prompt = "go in " .. home } do end
    bound:close()
    local made = tape.load(run.record)
    t.eq(#made.conversations, 1)
    t.eq(made.conversations[1].user, "go in {{workdir}}")
    t.eq(made.conversations[1][0].reply.content[1].input.command, "echo 1 > {{workdir}}/one")
    t.eq(made.conversations[1][1].is_error, json.array { false })
    t.eq(made.conversations[1].turns, 2)
    t.ok(not fs.read_file(run.record):find("sk-test", 1, true))
    t.eq(record.text("n", {}), '{"name":"n","tape":1}\n')
end)

t.test("progress: plain lines, a spinner, notes and failures", function()
    local out = sink()
    local p = progress.new { out = out, terminal = false }
    p:step("one"):done("3 files")
    do
        local _ <close> = p:step("two")
    end
    pcall(function()
        local _ <close> = p:step("three")
        error("x")
    end)
    p:step("hidden", true):done()
    t.match(out.text, "^ok one %(3 files%) +0.0 s\nok two +0.0 s\nFAILED three +0.0 s\n$")
    out = sink()
    p = progress.new { out = out, terminal = true }
    local step = p:step("wait\27[2J")
    task.sleep(0.25)
    p:line("between")
    step:done()
    -- The signs are ASCII or not, as the locale has it.
    t.match(out.text, "\r\27%[K[^ ]+ wait %[2J +0.0 s\r\27%[K")
    t.match(out.text, "\r\27%[Kbetween\n")
    t.match(out.text, "[^ ]+ wait %[2J +0.%d s\n$")
    task.sleep(0.15)
end)
