local t = require "tests"
local wire = require "e2b_wire"
local json = require "e2b_json"
local fake_e2b = require "fake_e2b"

-- A server whose terminal is a shell that knows a few words.
local function start()
    local fake = fake_e2b.start()
    fake.programs.terminal = function(p)
        p:terminal("$ ")
        while true do
            local typed = p:read()
            if typed == "exit 3\r" then
                return p:exit(3)
            elseif typed == "\4" then
                return p:exit(0)
            elseif typed == "size\r" then
                local s = p.size or p.message.pty.size
                p:terminal(("%dx%d\r\n$ "):format(s.cols, s.rows))
            elseif typed then
                p:terminal(typed)
            else
                return p:exit(0)
            end
        end
    end
    return fake, fake:sandbox()
end

t.test("create opens a login shell on a terminal", function()
    local fake, sbx = start()
    local told = {}
    local handle = sbx.pty:create { cols = 80, rows = 24, cwd = "/tmp", user = "root",
        envs = { A = "1", TERM = "dumb" }, timeout = 0,
        on_data = function(bytes)
            told[#told + 1] = bytes
        end }
    handle:send_stdin("size\r")
    handle:send_stdin("\4")
    local result = handle:wait()
    t.eq(table.concat(told), "$ 80x24\r\n$ ")
    t.eq(result, { stdout = "", stderr = "", exit_code = 0 })
    t.eq(handle.pty, "", "what somebody is told is not kept")
    local request = fake:last("POST", "/process.Process/Start")
    local _, payload = wire.connect_reader():feed(request.body):next()
    t.eq(json.decode(payload), { process = { cmd = "/bin/bash", args = { "-i", "-l" }, cwd = "/tmp",
        envs = { A = "1", TERM = "dumb", LANG = "C.UTF-8", LC_ALL = "C.UTF-8" } },
        pty = { size = { cols = 80, rows = 24 } } })
    t.eq(request.headers["connect-timeout-ms"], nil)
    t.eq(request.headers.authorization, "Basic " .. wire.base64("root:"))
end)

t.test("the size may come first, as in the Python SDK", function()
    local _, sbx = start()
    local handle = sbx.pty:create({ cols = 100, rows = 30 }, { timeout = 5 })
    sbx.pty:send_stdin(handle.pid, "size\r")
    sbx.pty:resize(handle.pid, { cols = 120, rows = 40 })
    sbx.pty:send_stdin(handle.pid, "size\r")
    sbx.pty:send_stdin(handle.pid, "\4")
    local text = {}
    for stream, bytes in handle:output() do
        t.eq(stream, "pty")
        text[#text + 1] = bytes
    end
    t.eq(table.concat(text), "$ 100x30\r\n$ 120x40\r\n$ ")
    t.eq(handle.pty, table.concat(text))
    local by_name = sbx.pty:create { size = { cols = 7, rows = 8 } }
    by_name:send_stdin("\4")
    by_name:wait()
end)

t.test("a shell that fails raises command_exit; wait tells what has come", function()
    local _, sbx = start()
    local handle = sbx.pty:create { cols = 80, rows = 24 }
    handle:send_stdin("exit 3\r")
    local told = ""
    local e = t.raises("command_exit", handle.wait, handle, {
        on_pty = function(bytes)
            told = told .. bytes
        end })
    t.eq(e.result.exit_code, 3)
    t.eq(told, "$ ")
end)

t.test("connect follows a terminal, kill ends it", function()
    local _, sbx = start()
    local first = sbx.pty:create { cols = 80, rows = 24 }
    local told = ""
    local second = sbx.pty:connect(first.pid, {
        on_data = function(bytes)
            told = told .. bytes
        end })
    second:send_stdin("x")
    t.eq(sbx.pty:kill(first.pid), true)
    t.raises("command_exit", second.wait, second)
    t.match(told, "x$")
    t.eq(sbx.pty:kill(first.pid), false)
    t.raises("not_found", sbx.pty.connect, sbx.pty, 99)
    t.raises("not_found", sbx.pty.send_stdin, sbx.pty, 99, "x")
    t.raises("not_found", sbx.pty.resize, sbx.pty, 99, { cols = 1, rows = 1 })
    t.raises("command_exit", first.wait, first)
end)

t.test("what is wrong is named", function()
    local _, sbx = start()
    local e = t.raises("invalid_argument", sbx.pty.create, sbx.pty, { cols = 80 })
    t.match(e.message, "rows must be an integer from 1 to 65535, not nothing")
    e = t.raises("invalid_argument", sbx.pty.create, sbx.pty, { cols = 0, rows = 24 })
    t.match(e.message, "cols .* not 0")
    e = t.raises("invalid_argument", sbx.pty.create, sbx.pty, { colls = 80, rows = 24 })
    t.match(e.message, 'did you mean "cols"')
    e = t.raises("invalid_argument", sbx.pty.resize, sbx.pty, 1, { cols = 70000, rows = 1 })
    t.match(e.message, "70000")
    e = t.raises("invalid_argument", sbx.pty.create, { cols = 80, rows = 24 })
    t.match(e.message, "use ':'")
    local handle = sbx.pty:create { cols = 80, rows = 24 }
    e = t.raises("unsupported", handle.close_stdin, handle)
    t.match(e.remedy, "Ctrl%-D")
    handle:kill()
    t.raises("command_exit", handle.wait, handle)
end)
