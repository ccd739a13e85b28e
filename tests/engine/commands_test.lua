-- Commands in real sandboxes.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local fs = require "e2b_fs"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

local function run(sbx, ...)
    return sbx.commands:run(...)
end

t.test("result, exit code, signal, both streams", function()
    local sbx = rig.sandbox()
    t.eq(run(sbx, "echo out; echo err >&2"), { stdout = "out\n", stderr = "err\n", exit_code = 0 })
    local e = t.raises("command_exit", run, sbx, "echo so far; echo why >&2; exit 3")
    t.eq(e.result, { stdout = "so far\n", stderr = "why\n", exit_code = 3,
        error = "exit status 3" })
    t.match(e.message, "exited with code 3: why")
    e = t.raises("command_exit", run, sbx, "kill -TERM $$")
    t.eq({ e.result.exit_code, e.result.error }, { -1, "signal: terminated" })
    t.eq(run(sbx, "false | true; cat").stdout, "")
    t.raises("command_exit", run, sbx, "no-such-program")
end)

t.test("cwd, user, envs; and what is wrong with them", function()
    local sbx = rig.sandbox()
    local r = run(sbx, 'pwd; id -un; echo "$A|$HOME"', { cwd = "/tmp", user = "root",
        envs = { A = "x 'y' \"z\"\n$B" } })
    t.eq(r.stdout, "/tmp\nroot\nx 'y' \"z\"\n$B|/root\n")
    t.eq(run(sbx, "pwd", { cwd = "sub/../" }).stdout, "/home/user\n")
    local e = t.raises("invalid_argument", run, sbx, "true", { cwd = "/nowhere" })
    t.match(e.message, "/nowhere")
    e = t.raises("authentication", run, sbx, "true", { user = "nobody-here" })
    t.match(e.message, "nobody%-here")
    e = t.raises("invalid_argument", run, sbx, "true", { timout = 1 })
    t.match(t.error_text(e), "timeout")
    t.raises("invalid_argument", run, sbx, 42)
    t.raises("invalid_argument", run, sbx, "true", { envs = { 1 } })
end)

t.test("the user may sudo", function()
    rig.needs_sudo()
    t.eq(run(rig.sandbox(), "sudo -n id -u").stdout, "0\n")
end)

t.test("a timeout kills the command, not the sandbox", function()
    local sbx = rig.sandbox()
    local began = task.now()
    local e = t.raises("timeout", run, sbx, "exec sleep 61.25", { timeout = 0.5 })
    t.eq(e.deadline, "command")
    t.ok(task.now() - began < 3, "it took longer")
    child.await("the command runs on", 3, function()
        return not pcall(run, sbx, "pgrep -f 'slee[p] 61.25'")
    end)
    t.eq(sbx.commands:list(), {})
end)

t.test("callbacks get the output as it comes, and may wait", function()
    local sbx = rig.sandbox()
    local got, seen = {}, nil
    local r = run(sbx, "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two >&2", {
        on_stdout = function(bytes)
            got[#got + 1] = bytes
            sbx.files:write("/tmp/go", "")
        end,
        on_stderr = function(bytes)
            seen = bytes
        end,
    })
    t.eq({ got, seen }, { { "one\n" }, "two\n" })
    t.eq(r.stdout, "one\n")
    local e = t.raises(nil, run, sbx, "echo x", { on_stdout = function()
        error("in the callback", 0)
    end })
    t.eq(e, "in the callback")
end)

t.test("background: list, stdin, kill, wait", function()
    local sbx = rig.sandbox()
    local cat = run(sbx, "cat; echo the end", { background = true, stdin = true })
    local list = sbx.commands:list()
    t.eq({ #list, list[1].pid, list[1].cmd }, { 1, cat.pid, "/bin/bash" })
    cat:send_stdin("a line\n")
    child.await("no echo", 5, function()
        return cat.stdout == "a line\n"
    end)
    sbx.commands:send_stdin(cat.pid, "\0\255binary\n")
    cat:close_stdin()
    t.eq(cat:wait().stdout, "a line\n\0\255binary\nthe end\n")
    local sleeper = run(sbx, "exec sleep 60", { background = true })
    t.eq(sbx.commands:kill(sleeper.pid), true)
    local e = t.raises("command_exit", sleeper.wait, sleeper)
    t.eq(e.result.error, "signal: killed")
    t.eq(sbx.commands:kill(sleeper.pid), false)
    t.raises("not_found", sbx.commands.send_stdin, sbx.commands, 99999, "x")
    local deaf = run(sbx, "exec sleep 60", { background = true })
    t.raises("sandbox", sbx.commands.send_stdin, sbx.commands, deaf.pid, "x")
    deaf:kill()
end)

t.test("a megabyte of standard input arrives whole", function()
    local sbx = rig.sandbox()
    local h = run(sbx, "sha256sum", { background = true, stdin = true })
    local data = {}
    for i = 1, 1 << 17 do
        data[i] = string.pack("<I8", i * 0x9E3779B97F4A7C15)
    end
    data = table.concat(data)
    for i = 1, #data, 1 << 18 do
        h:send_stdin(data:sub(i, i + (1 << 18) - 1))
    end
    h:close_stdin()
    t.eq(h:wait().stdout, require("e2b_hash").sha256(data) .. "  -\n")
end)

t.test("disconnect and connect again by pid", function()
    local sbx = rig.sandbox()
    local h = run(sbx,
        "echo first; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo second; exit 7",
        { background = true, timeout = 0 })
    child.await("nothing comes", 5, function()
        return h.stdout == "first\n"
    end)
    h:disconnect()
    t.raises("cancelled", h.wait, h)
    t.eq(sbx.commands:list()[1].pid, h.pid)
    local again = Sandbox.connect(sbx.sandbox_id).commands:connect(h.pid)
    t.eq(again.pid, h.pid)
    sbx.files:write("/tmp/go", "")
    local e = t.raises("command_exit", again.wait, again)
    t.eq({ e.result.stdout, e.result.exit_code }, { "second\n", 7 })
    t.raises("not_found", sbx.commands.connect, sbx.commands, 99999)
end)

t.test("two follow one command", function()
    local sbx = rig.sandbox()
    local h = run(sbx, "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo both",
        { background = true })
    local other = sbx.commands:connect(h.pid)
    sbx.files:write("/tmp/go", "")
    t.eq(h:wait().stdout, "both\n")
    t.eq(other:wait().stdout, "both\n")
end)

t.test("output is bytes, whatever they are", function()
    local sbx = rig.sandbox()
    local all = {}
    for i = 0, 255 do
        all[i + 1] = string.char(i)
    end
    all = table.concat(all)
    sbx.files:write("/home/user/all", all)
    t.eq(run(sbx, "cat all all").stdout, all .. all)
    t.eq(run(sbx, "printf '\\xff\\xfe\\xc3' >&2; printf 'a\\0b'"),
        { stdout = "a\0b", stderr = "\xff\xfe\xc3", exit_code = 0 })
    local e = t.raises("command_exit", run, sbx, "printf '\\xff bad' >&2; exit 1")
    t.eq(e.result.stderr, "\xff bad")
    t.ok(utf8.len(e.message), "the message is UTF-8")
end)

t.test("the sandbox is killed in the middle of a command", function()
    for _, how in ipairs { "foreground", "background", "read" } do
        local sbx = rig.sandbox()
        local waiter
        if how == "background" then
            local h = run(sbx, "exec sleep 60", { background = true })
            waiter = task.spawn_quiet(h.wait, h)
        elseif how == "foreground" then
            waiter = task.spawn_quiet(run, sbx, "echo begun; exec sleep 60")
        else
            waiter = task.spawn_quiet(run, sbx, "cat /dev/zero", { on_stdout = function()
                task.sleep(0.001)
            end })
        end
        task.sleep(0.3)
        local began = task.now()
        Sandbox.kill(sbx.sandbox_id)
        local e = t.raises("sandbox_not_running", waiter.join, waiter, 5)
        t.ok(task.now() - began < 1, how .. ": it took longer than a second")
        t.eq(e.deadline, "sandbox")
    end
end)

t.test("the sandbox reaches its end in the middle of a command", function()
    local sbx = rig.sandbox { timeout = 1 }
    local e = t.raises("sandbox_not_running", run, sbx, "exec sleep 60")
    t.match(e.remedy, "set_timeout")
end)

-- The first processes of sandboxes that the engine has started.
local function envds()
    local out, parent = {}, "\nPPid:\t" .. rig.info().pid .. "\n"
    for _, name in ipairs(fs.list("/proc")) do
        local status = name:find("^%d+$") and fs.read_file("/proc/" .. name .. "/status")
        if status and status:find(parent, 1, true) and status:find("\nNSpid:\t%d+\t1\n") then
            out[name] = true
        end
    end
    return out
end

local function new_envd(before)
    for pid in pairs(envds()) do
        if not before[pid] then
            return pid
        end
    end
end

t.test("a sandbox whose pid 1 dies is gone, and the engine says so", function()
    local before = envds()
    local sbx = rig.sandbox()
    local id = sbx.sandbox_id
    local waiter = task.spawn_quiet(run, sbx, "exec sleep 60")
    task.sleep(0.2)
    local pid = new_envd(before)
    t.ok(pid, "no envd found")
    local began = task.now()
    os.execute("kill -9 " .. pid)
    t.raises("sandbox_not_running", waiter.join, waiter, 5)
    t.ok(task.now() - began < 1, "it took longer than a second")
    child.await("the engine does not notice", 2, function()
        return not pcall(Sandbox.get_info, id)
    end)
    local log = fs.read_file(require("engine.paths").of().log, 1 << 30)
    t.match(log, "sandbox " .. id .. " ended by itself %(signal 9%)")
end)

t.test("out of memory ends the command, not the machine", function()
    local sbx = rig.sandbox()
    rig.needs_limits(sbx)
    local e = t.raises(nil, run, sbx, "exec python3 -c 'x = bytearray(64 << 30); print(len(x))'")
    t.ok(e.kind == "command_exit" or e.kind == "sandbox_not_running", e)
end)

local function peak(pid)
    return math.tointeger(tonumber((fs.read_file("/proc/" .. pid .. "/status") or "")
        :match("VmHWM:%s+(%d+)"))) >> 10
end

local function check_growth(engine, before)
    local now = peak(engine)
    t.ok(rig.sanitized() or now - before < 32,
        ("the engine grew from %d to %d MB"):format(before, now))
end

t.test("100 MB of output: engine and envd stay small", { timeout = 120 }, function()
    local sbx = rig.sandbox { timeout = 120 }
    local engine = rig.info().pid
    local before = peak(engine)
    local n = 0
    local r = run(sbx, "head -c 100000000 /dev/zero | tr '\\0' x; grep VmHWM /proc/1/status >&2", {
        on_stdout = function(bytes)
            n = n + #bytes
        end, timeout = 100 })
    t.eq({ n, #r.stdout }, { 100000000, 100000000 })
    check_growth(engine, before)
    local envd = tonumber(r.stderr:match("(%d+) kB")) >> 10
    t.ok(envd < 32, "envd needed " .. envd .. " MB")
end)

t.test("a reader that waits holds the command up", { timeout = 90 }, function()
    local sbx = rig.sandbox { timeout = 90 }
    local engine = rig.info().pid
    local before, n, slow = peak(engine), 0, true
    local writer = [[python3 -c "
import os
n = 0
for i in range(1000):
    n += os.write(1, b'x' * 100000)
    open('/tmp/n', 'w').write(str(n))"]]
    local running = task.spawn_quiet(run, sbx, writer, { on_stdout = function(bytes)
        n = n + #bytes
        while slow do
            task.sleep(0.05)
        end
    end })
    child.await("nothing comes", 5, function()
        return n > 0
    end)
    task.sleep(1)
    local sent = tonumber(sbx.files:read("/tmp/n"))
    t.ok(sent < 24000000, "the command has written " .. sent .. " bytes to nobody")
    slow = false
    running:join(60)
    t.eq(n, 100000000)
    check_growth(engine, before)
end)

t.test("100 MB of output need 450 MB here at most", { timeout = 120 }, function()
    local code, out = child.lua([[
        local e2b = require "e2b"
        local sbx <close> = e2b.Sandbox.create { timeout = 100, allow_internet_access = false }
        local n = 0
        local r = sbx.commands:run("head -c 100000000 /dev/zero", {
            on_stdout = function(bytes) n = n + #bytes end, timeout = 90 })
        local peak = io.open("/proc/self/status"):read("a"):match("VmHWM:%s+(%d+)")
        print(n, #r.stdout, peak)]]):wait(110)
    t.eq(code, 0, out)
    local n, kept, kb = t.match(out, "^(%d+)\t(%d+)\t(%d+)\n$")
    t.eq({ n, kept }, { "100000000", "100000000" })
    -- The pieces, the whole, and as much garbage.
    t.ok(rig.sanitized() or tonumber(kb) < 450 << 10, "the host needed " .. kb .. " kB")
end)
