--- Ctrl-C and other ends of a script that has sandboxes open. The script is a process of its own,
--- the server is here.
local t = require "tests"
local fs = require "e2b_fs"
local task = require "e2b_task"
local fake_e2b = require "fake_e2b"

local function count(sandboxes)
    local n = 0
    for _ in pairs(sandboxes) do
        n = n + 1
    end
    return n
end

-- Starts a script; gives its pid, and a function that waits for what it printed and its exit code.
local function start(fake, code)
    local dir = t.tmpdir()
    local head = ("local e2b = require 'e2b'\nlocal options = {api_url = %q, sandbox_url = %q, " ..
        "api_key = %q, domain = 'fake.localhost'}\n"):format(fake.url, fake.url, fake_e2b.API_KEY)
    fs.write_file(dir .. "/script.lua", head .. code)
    assert(os.execute(("cd %s && (%s script.lua >out 2>&1 & echo $! >pid; wait $!; " ..
        "echo $? >code) & while ! test -s %s/pid; do sleep 0.01; done"):format(dir,
        fs.realpath("/proc/self/exe"), dir)))
    local pid = fs.read_file(dir .. "/pid"):match("%d+")
    return pid, function()
        local deadline = task.now() + 20
        while not fs.stat(dir .. "/code") or fs.stat(dir .. "/code").size == 0 do
            t.ok(task.now() < deadline, "the script does not end")
            task.sleep(0.02)
        end
        return fs.read_file(dir .. "/out"), tonumber(fs.read_file(dir .. "/code"))
    end
end

local function wait_for(n, sandboxes)
    local deadline = task.now() + 10
    while count(sandboxes) < n do
        t.ok(task.now() < deadline, "the sandboxes do not appear")
        task.sleep(0.01)
    end
end

t.test("Ctrl-C with ten sandboxes open leaves none", function()
    local fake = fake_e2b.start()
    local pid, result = start(fake, [[
        e2b.parallel({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10, function()
            local sbx <close> = e2b.Sandbox.create(options)
            e2b.sleep(60)
            return sbx
        end)]])
    wait_for(10, fake.sandboxes)
    os.execute("kill -INT " .. pid)
    local out, code = result()
    t.eq(code, 130, out)
    t.eq(out, "")
    t.eq(count(fake.sandboxes), 0)
end)

t.test("Ctrl-C in a running command ends the sandbox", function()
    local fake = fake_e2b.start()
    fake.programs.forever = function(p)
        p:read()
    end
    local pid, result = start(fake, [[
        local sbx <close> = e2b.Sandbox.create(options)
        pcall(sbx.commands.run, sbx.commands, "forever")
        e2b.sleep(60)]])
    wait_for(1, fake.sandboxes)
    while not fake.last_process do
        task.sleep(0.01)
    end
    os.execute("kill -INT " .. pid)
    t.eq(select(2, result()), 130)
    t.eq(count(fake.sandboxes), 0)
end)

t.test("an error that nobody catches is one line with the script's place and the remedy", function()
    local fake = fake_e2b.start()
    local _, result = start(fake, [[
local sbx <close> = e2b.Sandbox.create(options)
sbx.files:read("/nope")]])
    local out, code = result()
    t.eq(code, 1)
    t.eq(out, "e2blua: script.lua:4: files.read: path '/nope' does not exist\n")
    t.eq(count(fake.sandboxes), 0)
end)

t.test("an error in a background callback that nobody waits for fails the script", function()
    local fake = fake_e2b.start()
    fake.programs.talk = function(p)
        p:stdout("x")
        p:read()
    end
    local _, result = start(fake, [[
local sbx <close> = e2b.Sandbox.create(options)
sbx.commands:run("talk", {background = true, on_stdout = function() error("in callback") end})
e2b.sleep(20)]])
    local out, code = result()
    t.eq(code, 1)
    t.match(out, "script%.lua:4: in callback")
    t.eq(count(fake.sandboxes), 0)
end)

t.test("the end of the script ends background commands' readers", function()
    local fake = fake_e2b.start()
    fake.programs.forever = function(p)
        p:read()
    end
    local _, result = start(fake, [[
        local sbx <close> = e2b.Sandbox.create(options)
        sbx.commands:run("forever", {background = true})
        print("done")]])
    local out, code = result()
    t.eq({ out, code }, { "done\n", 0 })
    t.eq(count(fake.sandboxes), 0)
end)
