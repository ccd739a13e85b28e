-- e2blua shell on a real pseudo terminal, against the fake server: whatever way
-- it ends, the terminal is as it was.
local child = require "child"
local cli_rig = require "cli_rig"
local fake_e2b = require "fake_e2b"
local t = require "tests"
local terminal_rig = require "terminal_rig"

local function start()
    local fake = fake_e2b.start()
    fake.programs.terminal = function(p)
        local function size()
            local s = p.size or p.message.pty.size
            return ("size %dx%d\r\n"):format(s.cols, s.rows)
        end
        p:terminal("ready\r\n")
        while true do
            for bytes in (p:read() or "\4"):gmatch(".") do
                if bytes == "\4" then
                    p:terminal("bye\r\n")
                    return p:exit(0)
                elseif bytes == "\3" then
                    p:terminal("interrupted\r\n")
                elseif bytes == "s" then
                    p:terminal(size())
                elseif bytes == "f" then
                    return p:exit(5)
                elseif bytes == "k" then
                    return p:exit(-1)
                elseif bytes == "e" then
                    local id = fake.order[#fake.order]
                    require("e2b_task").spawn_quiet(fake.end_sandbox, fake, id)
                else
                    p:terminal("key " .. bytes:byte() .. "\r\n")
                end
            end
        end
    end
    return fake, cli_rig.env(fake)
end

t.test("keys go to the sandbox one by one, Ctrl-C too; Ctrl-D leaves", function()
    local fake, env = start()
    local id = fake:sandbox().sandbox_id
    local r = terminal_rig.run({ "shell", id, "-u", "root", "-e", "A=1" }, {
        { "wait", "ready" }, { "send", "x" }, { "wait", "key 120" }, { "send", "\3" },
        { "wait", "interrupted" }, { "send", "\r" }, { "wait", "key 13" }, { "send", "\4" },
        { "wait", "bye" },
    }, env)
    t.eq(r.code, 0)
    t.eq(r.raw, true)
    t.eq(r.restored, true)
    t.eq(fake.last_process.message.process.envs.A, "1")
    t.ok(fake.sandboxes[id], "a sandbox of somebody else lives on")
end)

t.test("the window's size and its changes are passed on", function()
    local fake, env = start()
    local r = terminal_rig.run({ "shell", fake:sandbox().sandbox_id }, {
        { "wait", "ready" }, { "send", "s" }, { "wait", "size 80x24" }, { "size", 40, 100 },
        { "pause", 0.5 }, { "send", "s" }, { "wait", "size 100x40" }, { "send", "\4" },
    }, env)
    t.eq({ r.code, r.restored }, { 0, true })
end)

t.test("without an id the sandbox is new and ends with the shell", function()
    local fake, env = start()
    local r = terminal_rig.run({ "shell" }, { { "wait", "ready" }, { "send", "\4" } }, env)
    t.eq({ r.code, r.restored }, { 0, true })
    t.match(r.shown, "sandbox i%w+ is yours until you leave")
    t.eq(#fake.order, 1)
    t.eq(next(fake.sandboxes), nil)
end)

t.test("the shell's exit code is the program's; 255 for a killed one", function()
    local fake, env = start()
    local id = fake:sandbox().sandbox_id
    local r = terminal_rig.run({ "shell", id }, { { "wait", "ready" }, { "send", "f" } }, env)
    t.eq({ r.code, r.restored }, { 5, true })
    r = terminal_rig.run({ "shell", id }, { { "wait", "ready" }, { "send", "k" } }, env)
    t.eq({ r.code, r.restored }, { 255, true })
end)

t.test("the terminal is restored when the sandbox ends meanwhile", function()
    local fake, env = start()
    local r = terminal_rig.run({ "shell", fake:sandbox().sandbox_id }, { { "wait", "ready" },
        { "send", "e" } }, env)
    t.eq({ r.code, r.restored }, { 1, true })
    t.match(r.shown, "is not running")
end)

local function after_signal(env, signal)
    return terminal_rig.run({ "shell" }, { { "wait", "ready" }, { "signal", signal } }, env)
end

t.test("the terminal is restored after every signal, and the sandbox ended", function()
    local fake, env = start()
    for signal, code in pairs { SIGTERM = -15, SIGINT = -2, SIGHUP = -1 } do
        local r = after_signal(env, signal)
        t.eq({ r.code, r.raw, r.restored }, { code, true, true }, signal)
        child.await("the sandbox lives on after " .. signal, 5, function()
            return next(fake.sandboxes) == nil
        end)
    end
    local r = after_signal(env, "SIGKILL")
    t.eq({ r.code, r.raw, r.restored }, { -9, true, true }, "SIGKILL")
end)

t.test("an error before the shell leaves the terminal alone", function()
    local fake, env = start()
    fake.override["POST /process.Process/Start"] = function(req)
        fake_e2b.reply_error(req, 500, "no terminals today")
        return true
    end
    local r = terminal_rig.run({ "shell", fake:sandbox().sandbox_id }, {}, env)
    t.eq({ r.code, r.restored }, { 1, true })
    t.match(r.shown, "no terminals today")
end)
