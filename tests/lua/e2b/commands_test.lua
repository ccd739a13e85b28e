local t = require "tests"
local json = require "e2b_json"
local task = require "e2b_task"
local wire = require "e2b_wire"
local fake_e2b = require "fake_e2b"
local Error = require "e2b.error"

-- A server with some commands, and a sandbox of it.
local function start()
    local fake = fake_e2b.start()
    fake.programs.hello = function(p)
        p:stdout("hello\n")
        p:stderr("warning\n")
        p:stdout("world")
        p:exit(0)
    end
    fake.programs.fail = function(p)
        p:stdout("half")
        p:stderr("first\nls: cannot access 'x'\n\n")
        p:exit(3)
    end
    fake.programs.forever = function(p)
        p:stdout("started\n")
        p:read()
    end
    fake.programs.cat = function(p)
        for bytes in function() return p:read() end do
            p:stdout(bytes)
        end
        p:exit(0)
    end
    fake.programs.slowly = function(p)
        for i = 1, 3 do
            p:stdout(i .. "\n")
            task.sleep(0.02)
        end
        p:exit(0)
    end
    return fake, fake:sandbox()
end

-- ---- foreground ----------------------------------------------------------------------------

t.test("run waits and gives the output", function()
    local fake, sbx = start()
    t.eq(sbx.commands:run("hello"),
        { stdout = "hello\nworld", stderr = "warning\n", exit_code = 0 })
    local request = fake:last("POST", "/process.Process/Start")
    local _, payload = wire.connect_reader():feed(request.body):next()
    t.eq(payload, '{"process":{"args":["-l","-c","hello"],"cmd":"/bin/bash","envs":{}},' ..
        '"stdin":false}')
    local h = request.headers
    t.eq(h["content-type"], "application/connect+json")
    t.eq(h["connect-protocol-version"], "1")
    t.eq(h["connect-timeout-ms"], "60000")
    t.eq(h["keepalive-ping-interval"], "50")
    t.eq(h["e2b-sandbox-id"], sbx.sandbox_id)
    t.eq(h["e2b-sandbox-port"], "49983")
    t.eq(h["x-access-token"], fake.sandboxes[sbx.sandbox_id].token)
    t.eq(h.authorization, nil)
    t.eq(h["x-api-key"], nil)
end)

t.test("run passes cwd, envs, user, stdin and timeout on", function()
    local fake, sbx = start()
    sbx.commands:run { cmd = "hello", cwd = "/tmp", envs = { A = "1" }, user = "root", timeout = 0 }
    local m = fake.last_process.message
    t.eq(m.process.cwd, "/tmp")
    t.eq(m.process.envs, { A = "1" })
    t.eq(m.stdin, false)
    local h = fake:last("POST", "/process.Process/Start").headers
    t.eq(h.authorization, "Basic " .. wire.base64("root:"))
    t.eq(h["connect-timeout-ms"], nil)
    sbx.commands:run("hello", { stdin = true, timeout = 1.5 })
    t.eq(fake.last_process.message.stdin, true)
    t.eq(fake:last("POST", "/process.Process/Start").headers["connect-timeout-ms"], "1500")
end)

t.test("an old daemon gets the user it has no default for", function()
    local fake = fake_e2b.start()
    fake.envd_version = "0.2.0"
    fake.programs.hello = function(p)
        p:exit(0)
    end
    local sbx = fake:sandbox()
    sbx.commands:run("hello")
    t.eq(fake:last("POST", "/process.Process/Start").headers.authorization, "Basic dXNlcjo=")
    t.eq(fake.last_process.message.stdin, nil)
    t.raises("unsupported", sbx.commands.run, sbx.commands, "hello", { stdin = false })
    t.raises("unsupported", sbx.commands.close_stdin, sbx.commands, 5)
end)

t.test("an exit code is command_exit with the result", function()
    local _, sbx = start()
    local e = t.raises("command_exit", sbx.commands.run, sbx.commands, "fail")
    t.eq(e.message, "the command exited with code 3: ls: cannot access 'x'")
    t.eq(e.result, {
        stdout = "half",
        stderr = "first\nls: cannot access 'x'\n\n",
        exit_code = 3,
        error = "exit status 3",
    })
    e = t.raises("command_exit", sbx.commands.run, sbx.commands, "unknown words")
    t.eq(e.result.exit_code, 127)
end)

t.test("output is bytes", function()
    local fake, sbx = start()
    local bytes = "\0\255\xC3\r\n" .. ("\xF0\x9F"):rep(100)
    fake.programs.binary = function(p)
        p:stdout(bytes)
        p:stdout("\x98\x80")
        p:exit(0)
    end
    t.eq(sbx.commands:run("binary").stdout, bytes .. "\x98\x80")
end)

t.test("a large output comes whole", function()
    local fake, sbx = start()
    local block = ("0123456789abcdef"):rep(2048)
    fake.programs.big = function(p)
        for _ = 1, 640 do
            p:stdout(block)
        end
        p:exit(0)
    end
    local out = sbx.commands:run("big").stdout
    t.eq(#out, 640 * #block)
    t.ok(out == block:rep(640))
end)

t.test("callbacks get the pieces as they come, and may wait", function()
    local fake, sbx = start()
    local got, times = {}, {}
    local result = sbx.commands:run("slowly", {
        on_stdout = function(bytes)
            got[#got + 1] = bytes
            times[#times + 1] = task.now()
            task.sleep(0.001)
        end,
    })
    t.eq(table.concat(got), "1\n2\n3\n")
    t.ok(times[#times] - times[1] > 0.02, "they came at once")
    t.eq(result.stdout, "1\n2\n3\n")
    local errors = {}
    sbx.commands:run("hello", { on_stderr = function(bytes) errors[#errors + 1] = bytes end })
    t.eq(errors, { "warning\n" })
    t.ok(fake)
end)

t.test("a callback's error ends the wait, not the command", function()
    local fake, sbx = start()
    local e = t.raises("build", sbx.commands.run, sbx.commands, "slowly", {
        on_stdout = function()
            Error.raise("build", "mine")
        end,
    })
    t.eq(e.message, "mine")
    task.sleep(0.1)
    t.ok(fake.last_process.over, "the command ran on")
    t.eq(fake.last_process.events[#fake.last_process.events]["end"].exitCode, nil)
end)

t.test("a command that takes too long is a timeout of the command", function()
    local _, sbx = start()
    local began = task.now()
    local e = t.raises("timeout", sbx.commands.run, sbx.commands, "forever", { timeout = 0.1 })
    t.eq(e.deadline, "command")
    t.match(e.message, "longer than 0%.1 s")
    t.match(e.remedy, "timeout = 0")
    t.ok(task.now() - began < 2)
end)

t.test("a server that forgets the deadline is cut off", function()
    local fake, sbx = start()
    fake.override["POST /process.Process/Start"] = function(req)
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        req:write(wire.connect(0, '{"event":{"start":{"pid":7}}}'))
        task.sleep(4)
    end
    local e = t.raises("timeout", sbx.commands.run, sbx.commands, "x", { timeout = 0.1 })
    t.eq(e.deadline, "command")
end)

t.test("bad arguments", function()
    local _, sbx = start()
    local run = sbx.commands.run
    t.match(t.raises("invalid_argument", run, "ls").message, "use ':', as in sandbox%.commands:run")
    t.match(t.raises("invalid_argument", run, sbx.commands).message, "cmd must be a string")
    t.match(t.raises("invalid_argument", run, sbx.commands, { "ls" }).message, "no option 1")
    local cases = {
        [{ tiemout = 3 }] = 'did you mean "timeout"',
        [{ envs = { A = 1 } }] = "envs must be",
        [{ user = "a:b" }] = "user must be the name",
        [{ on_stdout = 5 }] = "on_stdout must be a function",
        [{ background = 1 }] = "background must be a boolean",
    }
    for opts, pattern in pairs(cases) do
        t.match(t.raises("invalid_argument", run, sbx.commands, "ls", opts).message, pattern)
    end
    local e = t.raises("invalid_argument", run, sbx.commands, "ls", { cwd = "/nope" })
    t.match(e.message, "cwd '/nope' does not exist")
    e = t.raises("authentication", run, sbx.commands, "ls", { user = "nobody" })
    t.match(e.message, "invalid username")
end)

-- ---- what can go wrong ---------------------------------------------------------------------

t.test("a sandbox killed in the middle is told at once, by its kind", function()
    local fake, sbx = start()
    task.spawn_quiet(function()
        task.sleep(0.1)
        fake:end_sandbox(sbx.sandbox_id)
    end)
    local began = task.now()
    local e = t.raises("sandbox_not_running", sbx.commands.run, sbx.commands, "forever")
    t.ok(Error.is(e, "timeout"))
    t.eq(e.deadline, "sandbox")
    t.match(e.message, sbx.sandbox_id)
    t.match(e.remedy, "create a new one")
    t.ok(task.now() - began < 1.1, "it took too long")
end)

t.test("a sandbox that is gone already", function()
    local _, sbx = start()
    sbx:kill()
    t.raises("sandbox_not_running", sbx.commands.run, sbx.commands, "hello")
    t.raises("sandbox_not_running", sbx.commands.list, sbx.commands)
    t.raises("sandbox_not_running", sbx.commands.kill, sbx.commands, 5)
    t.raises("sandbox_not_running", sbx.files.list, sbx.files, "/")
    t.raises("sandbox_not_running", sbx.files.read, sbx.files, "/x")
    t.raises("sandbox_not_running", sbx.files.write, sbx.files, "/x", "")
end)

t.test("a sandbox that ran out of memory says so, whichever call meets its end", function()
    local fake, sbx = start()
    local function starved(req, status)
        fake_e2b.reply_json(req, status, { error_code = "sandbox_out_of_memory", code = status,
            message = "The sandbox was not found: it ran out of memory (it had 512 MiB)" })
    end
    local function check(fn, ...)
        local e = t.raises("out_of_memory", fn, ...)
        t.ok(Error.is(e, "sandbox") and not Error.is(e, "timeout"))
        t.match(e.message, sbx.sandbox_id .. " is not running: it ran out of memory " ..
            "%(it had 512 MiB%)$")
        t.match(e.remedy, "memory_mb")
    end
    -- In the middle of a stream; health tells.
    fake.override["POST /process.Process/Start"] = function(req)
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        req:write(wire.connect(0, '{"event":{"start":{"pid":7}}}'))
        req:reset()
    end
    fake.override["GET /health"] = function(req)
        starved(req, 502)
    end
    check(sbx.commands.run, sbx.commands, "x")
    t.eq(sbx:is_running(), false)
    -- As an answer.
    for _, call in ipairs { "POST /process.Process/Start", "POST /process.Process/List",
        "GET /files", "POST /files" } do
        fake.override[call] = function(req)
            starved(req, 500)
        end
    end
    check(sbx.commands.run, sbx.commands, "x")
    check(sbx.commands.list, sbx.commands)
    check(sbx.files.read, sbx.files, "/x")
    check(sbx.files.write, sbx.files, "/x", "y")
end)

t.test("what the daemon knows of a failure is part of the message", function()
    local fake, sbx = start()
    fake.override["POST /process.Process/Start"] = function(req)
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        req:write(wire.connect(0, '{"event":{"start":{"pid":7}}}'))
        req:write(wire.connect(0, '{"event":{"end":{"exitCode":137,"exited":true,' ..
            '"status":"exit status 137","error":"exit status 137 (a process was killed)"}}}'))
        req:write(wire.connect(2, "{}"))
        req:finish()
    end
    local e = t.raises("command_exit", sbx.commands.run, sbx.commands, "x")
    t.eq(e.message, "the command exited with code 137 (a process was killed)")
    t.eq(e.result.error, "exit status 137 (a process was killed)")
end)

t.test("a broken connection to a living sandbox stays an error of the network", function()
    local fake, sbx = start()
    fake.override["POST /process.Process/Start"] = function(req)
        req:begin(200, { ["Content-Type"] = "application/connect+json" })
        req:write(wire.connect(0, '{"event":{"start":{"pid":7}}}'))
        req:reset()
    end
    t.raises("network", sbx.commands.run, sbx.commands, "x")
    t.eq(fake:count("GET", "/health"), 1)
end)

t.test("a server that is gone makes the sandbox unreachable", function()
    local fake, sbx = start()
    fake.server:close()
    local e = t.raises("sandbox_unreachable", sbx.commands.run, sbx.commands, "x")
    t.ok(Error.is(e, "timeout"))
    t.eq(e.cause.kind, "network")
end)

t.test("unavailable is told apart by its text and the health probe", function()
    local fake, sbx = start()
    local function answer(message)
        fake.override["POST /process.Process/List"] = function(req)
            fake_e2b.reply_json(req, 502, { message = message, code = 502 })
        end
        return pcall(sbx.commands.list, sbx.commands)
    end
    local _, e = answer("The sandbox was not found")
    t.eq(e.kind, "sandbox_not_running")
    _, e = answer("The sandbox is running but port is not open")
    t.eq(e.kind, "sandbox_unreachable")
    t.eq(fake:count("GET", "/health"), 0)
    _, e = answer("bad gateway")
    t.eq(e.kind, "sandbox_unreachable")
    t.eq(fake:count("GET", "/health"), 1)
    fake.override["GET /health"] = function(req)
        fake_e2b.reply_json(req, 502, { message = "The sandbox was not found", code = 502 })
    end
    _, e = answer("bad gateway")
    t.eq(e.kind, "sandbox_not_running")
end)

t.test("Connect codes and plain statuses are kinds", function()
    local fake, sbx = start()
    local cases = {
        { 499, '{"code":"canceled","message":"m"}', "timeout" },
        { 400, '{"code":"invalid_argument","message":"m"}', "invalid_argument" },
        { 504, '{"code":"deadline_exceeded","message":"m"}', "timeout" },
        { 404, '{"code":"not_found","message":"m"}', "not_found" },
        { 403, '{"code":"permission_denied","message":"m"}', "sandbox" },
        { 429, '{"code":"resource_exhausted","message":"m"}', "rate_limit" },
        { 501, '{"code":"unimplemented","message":"m"}', "sandbox" },
        { 401, '{"code":"unauthenticated","message":"m"}', "authentication" },
        { 401, '{"code":401,"message":"unauthorized"}', "authentication" },
        { 500, '{"code":404,"message":"the body beats the status"}', "not_found" },
        { 429, "slow down", "rate_limit" },
        { 500, "", "sandbox" },
        { 418, "teapot", "sandbox" },
        { 200, "no json", "protocol" },
        { 200, "[1]x", "protocol" },
    }
    for i, case in ipairs(cases) do
        fake.override["POST /process.Process/List"] = function(req)
            req:reply(case[1], nil, case[2])
        end
        local ok, e = pcall(sbx.commands.list, sbx.commands)
        t.ok(not ok)
        t.eq(e.kind, case[3], "case " .. i)
        t.eq(e.op, "commands.list")
    end
end)

t.test("garbage on a stream is a protocol error", function()
    local fake, sbx = start()
    local start_event = wire.connect(0, '{"event":{"start":{"pid":7}}}')
    local cases = {
        { "text/html", "<html>" },
        { nil, start_event },
        { nil, wire.connect(0, '{"event":{"data":{"stdout":"eA=="}}}') },
        { nil, start_event .. wire.connect(0, "{{") },
        { nil, start_event .. wire.connect(1, "x") },
        { nil, start_event .. "\7\0\0\0\0" },
        { nil, start_event .. wire.connect(2, "{}") },
        { nil, start_event .. wire.connect(2, "") },
        { nil, start_event .. wire.connect(0, '{"event":{"data":{"stdout":"*"}}}') },
    }
    for i, case in ipairs(cases) do
        fake.override["POST /process.Process/Start"] = function(req)
            req:reply(200, { ["Content-Type"] = case[1] or "application/connect+json" }, case[2])
        end
        local ok, e = pcall(sbx.commands.run, sbx.commands, "x")
        t.ok(not ok)
        if i ~= 2 then
            t.ok(e.kind == "protocol" or i == 9 and e.kind == "invalid_argument",
                i .. ": " .. t.error_text(e))
        else
            t.eq(e.kind, "network") -- it ends in the middle
        end
    end
end)

t.test("output is read in whatever way its JSON is written", function()
    local fake, sbx = start()
    local body = wire.connect(0, '{"event":{"start":{"pid":7}}}')
    local spellings = { '{"event":{"data":{"stdout":"YWI/"}}}',
        '{"event":{"data":{"stdout":"YWI\\/"}}}',
        '{"event":{"data":{"stdout":"\\u0059WI/"}}}', '{ "event": {"data":{"stdout" : "YWI/"}}}',
        '{"event":{"data":{"stdout":"YWI/"}}} ', '{"event":{"data":{"stdout":"YWI/","x":"y"}}}',
        '{"event":{"data":{"stdout":""}}}', '{"event":{"data":{"other":"YWI/"}}}',
        '{"event":{"data":{"stderr":"","stdout":"YWI/"}}}', '{"event":{"data":{"stderr":"YQ=="}}}' }
    for _, spelling in ipairs(spellings) do
        body = body .. wire.connect(0, spelling)
    end
    body = body .. wire.connect(0, '{"event":{"end":{"exited":true}}}') .. wire.connect(2, "{}")
    fake.override["POST /process.Process/Start"] = function(req)
        req:reply(200, { ["Content-Type"] = "application/connect+json" }, body)
    end
    t.eq(sbx.commands:run("x"), { stdout = ("ab?"):rep(7), stderr = "a", exit_code = 0 })
    for _, bad in ipairs { '{"event":{"data":{"stdout":"YQ=="}}',
        '{"event":{"data":{"stdout":"YQ"="}}}' } do
        fake.override["POST /process.Process/Start"] = function(req)
            req:reply(200, { ["Content-Type"] = "application/connect+json" },
                wire.connect(0, '{"event":{"start":{"pid":7}}}') .. wire.connect(0, bad))
        end
        t.raises("protocol", sbx.commands.run, sbx.commands, "x")
    end
end)

t.test("an error at the end of the stream, and a plain one before it", function()
    local fake, sbx = start()
    fake.override["POST /process.Process/Start"] = function(req)
        req:reply(200, { ["Content-Type"] = "application/connect+json" },
            wire.connect(2, '{"error":{"code":"unauthenticated","message":"invalid username"}}'))
    end
    t.raises("authentication", sbx.commands.run, sbx.commands, "x")
    fake.override["POST /process.Process/Start"] = function(req)
        fake_e2b.reply_error(req, 401, "unauthorized access")
    end
    local e = t.raises("authentication", sbx.commands.run, sbx.commands, "x")
    t.match(e.message, "unauthorized access")
end)

t.test("no answer at all is a timeout of the request", function()
    local fake, sbx = start()
    local function hold()
        task.sleep(1)
    end
    fake.override["POST /process.Process/Start"] = hold
    fake.override["POST /process.Process/List"] = hold
    local e = t.raises("timeout", sbx.commands.run, sbx.commands, "x", { request_timeout = 0.1 })
    t.eq(e.deadline, "request")
    e = t.raises("timeout", sbx.commands.list, sbx.commands, { request_timeout = 0.1 })
    t.eq(e.deadline, "request")
end)

t.test("a cancelled wait leaves no request open", function()
    local _, sbx = start()
    local running = task.spawn_quiet(function()
        sbx.commands:run("forever")
    end)
    task.sleep(0.05)
    running:cancel()
    t.raises("cancelled", running.join, running)
    t.eq(require("e2b_httpc").active(), 0)
end)

-- ---- background ----------------------------------------------------------------------------

t.test("a background command is a handle", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("slowly", { background = true })
    t.eq(handle.pid, fake.last_process.pid)
    t.eq(handle.exit_code, nil)
    t.eq(handle:wait(), { stdout = "1\n2\n3\n", stderr = "", exit_code = 0 })
    t.eq(handle.exit_code, 0)
    t.eq(handle.stdout, "1\n2\n3\n")
    t.eq(handle:wait().exit_code, 0, "waiting twice")
end)

t.test("the output so far can be read", function()
    local _, sbx = start()
    local handle = sbx.commands:run("forever", { background = true })
    while handle.stdout == "" do
        task.sleep(0.005)
    end
    t.eq(handle.stdout, "started\n")
    t.eq(handle.stderr, "")
    t.eq(handle:kill(), true)
    local e = t.raises("command_exit", handle.wait, handle)
    t.eq(e.result.exit_code, -1)
    t.match(e.message, "ended by a signal %(signal: killed%)")
    t.eq(handle:kill(), false)
end)

t.test("a failing background command raises at wait only", function()
    local _, sbx = start()
    local handle = sbx.commands:run("fail", { background = true })
    task.sleep(0.05)
    t.eq(handle.exit_code, 3)
    t.eq(handle.error, "exit status 3")
    t.eq(t.raises("command_exit", handle.wait, handle).result.stdout, "half")
end)

t.test("output() goes over the pieces in order", function()
    local _, sbx = start()
    local handle = sbx.commands:run("hello", { background = true })
    local got = {}
    for stream, bytes in handle:output() do
        got[#got + 1] = stream .. ":" .. bytes
    end
    t.eq(got, { "stdout:hello\n", "stderr:warning\n", "stdout:world" })
    t.eq({ handle:output()() }, { "stdout", "hello\n" }, "from the beginning again")
    t.raises("invalid_argument", handle.output)
end)

t.test("callbacks given to wait hear all", function()
    local _, sbx = start()
    local handle = sbx.commands:run("slowly", { background = true })
    task.sleep(0.03)
    local got = {}
    handle:wait { on_stdout = function(bytes) got[#got + 1] = bytes end }
    t.eq(table.concat(got), "1\n2\n3\n")
    t.raises("invalid_argument", handle.wait, handle, { on_stdot = print })
    t.raises("invalid_argument", handle.wait)
end)

t.test("a background callback's error is raised by wait; the command is read on", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("slowly", {
        background = true,
        on_stdout = function()
            error("mine", 0)
        end,
    })
    local ok, e = pcall(handle.wait, handle)
    t.eq({ ok, e }, { false, "mine" })
    t.eq(handle:wait().stdout, "1\n2\n3\n")
    t.ok(fake)
end)

t.test("a background callback may wait; the rest is held up", function()
    local _, sbx = start()
    local handle = sbx.commands:run("slowly", {
        background = true,
        on_stdout = function()
            task.sleep(0.05)
        end,
    })
    local began = task.now()
    t.eq(handle:wait().stdout, "1\n2\n3\n")
    t.ok(task.now() - began > 0.12)
end)

t.test("disconnect stops following, connect follows again", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("cat", { background = true, stdin = true })
    handle:disconnect()
    local e = t.raises("cancelled", handle.wait, handle)
    t.match(e.remedy, "connect%(pid%)")
    handle:disconnect()
    local got = {}
    local again = sbx.commands:connect(handle.pid, {
        on_stdout = function(bytes) got[#got + 1] = bytes end,
    })
    t.eq(again.pid, handle.pid)
    again:send_stdin("some input")
    again:close_stdin()
    t.eq(again:wait().stdout, "some input")
    t.eq(got, { "some input" })
    t.eq(fake:last("POST", "/process.Process/Connect").headers["keepalive-ping-interval"], "50")
    t.raises("not_found", sbx.commands.connect, sbx.commands, 4)
    t.raises("invalid_argument", sbx.commands.connect, sbx.commands, "4")
    t.raises("invalid_argument", handle.disconnect)
end)

t.test("connect's timeout ends the following, not the command", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("forever", { background = true })
    local again = sbx.commands:connect(handle.pid, { timeout = 0.05 })
    local e = t.raises("timeout", again.wait, again)
    t.eq(e.deadline, "command")
    t.match(e.message, "ran on")
    t.eq(fake.last_process.over, nil)
end)

t.test("a sandbox killed under a background command does not disturb the script", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("forever", { background = true })
    fake:end_sandbox(sbx.sandbox_id)
    task.sleep(0.1)
    t.raises("sandbox_not_running", handle.wait, handle)
    t.raises("sandbox_not_running", function()
        for stream in handle:output() do
            t.eq(stream, "stdout")
        end
    end)
end)

-- ---- the others ----------------------------------------------------------------------------

t.test("list tells what runs", function()
    local _, sbx = start()
    t.eq(sbx.commands:list(), {})
    local handle = sbx.commands:run("forever", { background = true, cwd = "/tmp" })
    t.eq(sbx.commands:list { request_timeout = 5 }, { {
        pid = handle.pid,
        cmd = "/bin/bash",
        args = { "-l", "-c", "forever" },
        envs = {},
        cwd = "/tmp",
    } })
    t.raises("invalid_argument", sbx.commands.list)
    t.raises("invalid_argument", sbx.commands.list, sbx.commands, { user = "x" })
end)

t.test("kill by pid", function()
    local fake, sbx = start()
    local handle = sbx.commands:run("forever", { background = true })
    t.eq(sbx.commands:kill(handle.pid), true)
    t.eq(sbx.commands:kill(handle.pid), false)
    t.eq(json.decode(fake:last("POST", "/process.Process/SendSignal").body).signal,
        "SIGNAL_SIGKILL")
    t.raises("invalid_argument", sbx.commands.kill, sbx.commands, 1.5)
    t.raises("invalid_argument", sbx.commands.kill, handle.pid)
end)

t.test("send_stdin and close_stdin", function()
    local _, sbx = start()
    local handle = sbx.commands:run("cat", { background = true, stdin = true })
    sbx.commands:send_stdin(handle.pid, "a\0\255")
    sbx.commands:send_stdin { pid = handle.pid, data = "b" }
    sbx.commands:close_stdin(handle.pid)
    t.eq(handle:wait().stdout, "a\0\255b")
    t.raises("not_found", sbx.commands.send_stdin, sbx.commands, handle.pid, "x")
    t.raises("not_found", sbx.commands.close_stdin, sbx.commands, handle.pid)
    t.raises("invalid_argument", sbx.commands.send_stdin, sbx.commands, handle.pid)
    t.raises("invalid_argument", sbx.commands.send_stdin, sbx.commands, handle.pid, 5)
    local deaf = sbx.commands:run("forever", { background = true })
    local e = t.raises("sandbox", deaf.send_stdin, deaf, "x")
    t.match(e.message, "stdin not enabled or closed")
    t.raises("invalid_argument", deaf.send_stdin, "x")
    t.raises("invalid_argument", deaf.kill)
    t.raises("invalid_argument", deaf.close_stdin)
end)
