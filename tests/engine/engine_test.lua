-- The engine as a daemon: its start, its end, and what comes after one that was
-- killed. Each test has a home of its own.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

local function options(home)
    local o = rig.options(home)
    o.timeout = 60
    o.allow_internet_access = false
    return o
end

local CREATE = [[
local e2b = require "e2b"
local sbx = e2b.Sandbox.create { timeout = 60, allow_internet_access = false }
print(sbx.sandbox_id, sbx.commands:run("echo alive").stdout)]]

t.test("five clients at once start one engine, and all are served", function()
    local home = rig.home()
    local clients = {}
    for i = 1, 5 do
        clients[i] = child.lua(CREATE, { env = home.env })
    end
    for _, one in ipairs(clients) do
        local code, out = one:wait(30)
        t.eq(code, 0, out)
        t.match(out, "^i%w+\talive\n")
    end
    t.eq(#rig.engines(home), 1)
    t.eq(client.status(home.paths).sandboxes, 5)
end)

t.test("a second engine in one home gives up and leaves the first alone", function()
    local home = rig.home()
    local sbx = Sandbox.create(options(home))
    local code, out = child.start { process.exe(), "engine", "serve", home.path,
        home.paths.cache }:wait()
    t.eq(code, 1)
    t.match(out, "another engine runs in " .. home.path:gsub("%p", "%%%0"))
    t.eq(sbx:is_running(), true)
end)

t.test("two homes know nothing of one another", function()
    local one, two = rig.home(), rig.home()
    local sbx = Sandbox.create(options(one))
    local other = options(two)
    t.raises("sandbox_not_found", Sandbox.get_info, sbx.sandbox_id,
        { api_url = other.api_url, api_key = other.api_key, domain = other.domain })
    local bad = t.raises("authentication", Sandbox.get_info, sbx.sandbox_id,
        { api_url = other.api_url, api_key = rig.info(one).api_key, domain = other.domain })
    t.ok(not t.error_text(bad):find(rig.info(one).api_key, 1, true), "the error shows the key")
    client.stop(two.paths)
    t.eq(sbx:is_running(), true)
end)

t.test("a row whose process is another's by now kills nobody", function()
    local home = rig.home()
    Sandbox.create(options(home))
    client.stop(home.paths)
    local victim = child.start { "sleep", "60" }
    local store = assert(require("e2b_engine").store(home.paths.db))
    local boot = fs.read_file("/proc/sys/kernel/random/boot_id"):match("%S+")
    assert(store:query("INSERT INTO sandboxes(id, kind, state, started_at, end_at, end_boot, " ..
        "boot_id, pid, start_time, cgroup, doc) VALUES('iold', 'sandbox', 'running', 1, 2, ?3," ..
        " ?1, ?2, 1, 'e2blua/none/iold', '{}')", boot, victim.pid,
        process.boot_clock() + 60000000))
    store:close()
    options(home)
    t.match(rig.log(home), "removing iold of an earlier engine: process %d+ has ended")
    t.eq(process.alive(victim.pid), true)
end)

t.test("TERM, INT and HUP end it in order", function()
    for _, signal in ipairs { "TERM", "INT", "HUP" } do
        local home = rig.home()
        Sandbox.create(options(home))
        local pid = rig.info(home).pid
        os.execute(("kill -%s %d"):format(signal, pid))
        child.await("it does not end by " .. signal, 10, function()
            return not process.alive(pid)
        end)
        t.eq(rig.left(home), {}, signal)
    end
end)

t.test("stop ends engine and sandboxes; without one it says so", function()
    local home = rig.home()
    local sbx = Sandbox.create(options(home))
    local waiter = task.spawn_quiet(sbx.commands.run, sbx.commands, "exec sleep 60")
    task.sleep(0.2)
    local code, out = child.start({ process.exe(), "engine", "stop" }, { env = home.env }):wait()
    t.eq({ code, out }, { 0, "the engine has ended\n" })
    local e = t.raises(nil, waiter.join, waiter, 5)
    t.match(e.kind, "^sandbox_")
    t.eq(rig.left(home), {})
    code, out = child.start({ process.exe(), "engine", "stop" }, { env = home.env }):wait()
    t.eq({ code, out }, { 0, "no engine runs in " .. home.path .. "\n" })
    code = child.start({ process.exe(), "engine", "status" }, { env = home.env }):wait()
    t.eq(code, 1)
end)

t.test("it ends when there is nothing to do, and not before", function()
    local home = rig.home()
    home.env.E2BLUA_IDLE = "1"
    local code, out = child.lua(CREATE .. "\ne2b.sleep(2.5) print(sbx:is_running()) sbx:close()",
        { env = home.env }):wait(30)
    t.eq(code, 0, out)
    t.match(out, "true\n$")
    child.await("it stays", 5, function()
        return #rig.engines(home) == 0
    end)
    t.match(rig.log(home), "nothing to do for 1 s: the engine ends")
    t.eq(rig.left(home), {})
end)

t.test("clients that come while an idle engine ends are served", { timeout = 90 }, function()
    local home = rig.home()
    home.env.E2BLUA_IDLE = "0.05"
    local code, out = child.lua([[
        local e2b = require "e2b"
        for i = 1, 40 do
            e2b.Sandbox.create({ timeout = 60, allow_internet_access = false }):close()
            e2b.sleep(0.04 + i % 10 * 0.004)
        end
        print("served")]], { env = home.env }):wait(80)
    t.eq({ code, out }, { 0, "served\n" })
end)

t.test("a start that fails is told at once, with the end of its log", function()
    local home = rig.home()
    assert(fs.mkdirs(home.path, 448))
    local store = assert(require("e2b_engine").store(home.paths.db))
    assert(store:query("PRAGMA user_version=99"))
    store:close()
    local began = task.now()
    local e = t.raises("internal", client.ensure, { home = home.path })
    t.ok(task.now() - began < 3, "it took longer")
    t.match(e.message, "its log ends:\n.*written by a newer e2blua")
    t.match(e.remedy, "engine%.log")
end)

t.test("settings that are none are refused", function()
    for name, value in pairs { E2BLUA_PORT = "http", E2BLUA_IDLE = "-1" } do
        local home = rig.home()
        home.env[name] = value
        local code, out = child.lua(CREATE, { env = home.env }):wait()
        t.eq(code, 1)
        t.match(out, name)
        t.match(out, value)
    end
end)

t.test("a taken port: the next one", function()
    local home = rig.home()
    local taken = rig.info().port
    home.env.E2BLUA_PORT = tostring(taken)
    local code, out = child.lua(CREATE, { env = home.env }):wait()
    t.eq(code, 0, out)
    t.ok(rig.info(home).port > taken, "another port")
end)

t.test("a home with a long name, spaces and quotes", function()
    local home = rig.home("a 'long' name/" .. ("x"):rep(120) .. "/" .. ("y"):rep(120))
    local sbx = Sandbox.create(options(home))
    t.eq(sbx.commands:run("echo works").stdout, "works\n")
    sbx.files:write("x", "y")
    t.eq(sbx.files:read("x"), "y")
end)

t.test("keys and tokens stay out of its environment and its log", function()
    local home = rig.home()
    home.env.ANTHROPIC_API_KEY, home.env.E2B_API_KEY = "secret-of-the-user", "e2b_secret"
    home.env.E2BLUA_DEBUG = "1"
    local code, out = child.lua(CREATE .. "\nprint(sbx._connection.access_token)",
        { env = home.env }):wait()
    t.eq(code, 0, out)
    local environ = fs.read_file("/proc/" .. rig.info(home).pid .. "/environ")
    t.ok(#environ > 0 and not environ:find("secret", 1, true), "the environment has a secret")
    local token = t.match(out, "\n(%x+)\n$")
    for _, secret in ipairs { token, rig.info(home).api_key, "secret-of-the-user" } do
        t.ok(not rig.log(home):find(secret, 1, true), "the log has a secret")
    end
    local st = fs.stat(home.paths.info)
    t.eq({ st.mode & 511, fs.stat(home.paths.socket).mode & 511, fs.stat(home.path).mode & 511 },
        { 384, 384, 448 })
end)
