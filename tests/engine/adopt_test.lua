-- Adoption: an engine is killed at some moment, and the next one has every
-- sandbox and all that runs in it. One fault a test, each in a home of its own.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"

t.before(rig.warm_up)

local function options(home, more)
    local o = rig.options(home)
    o.timeout = 60
    o.allow_internet_access = false
    for name, value in pairs(more or {}) do
        o[name] = value
    end
    return o
end

local function create(home, more)
    return Sandbox.create(options(home, more))
end

local gone, kill_engine = rig.gone, rig.kill_engine

-- What the owner of a sandbox can read.
local function own_log(home, sbx)
    local o, list = rig.options(home), {}
    local _, _, text = rig.request { url = o.api_url .. "/sandboxes/" .. sbx.sandbox_id .. "/logs",
        headers = { ["X-API-Key"] = o.api_key } }
    for i, e in ipairs(json.decode(text).logEntries) do
        list[i] = e.level .. " " .. e.message .. (e.fields.template and " " .. e.fields.template
            or "")
    end
    return list
end

local function ids(home)
    local list = {}
    for i, info in ipairs(Sandbox.list(rig.options(home)):next_items()) do
        list[i] = info.sandbox_id
    end
    table.sort(list)
    return list
end

-- Changes the state of a home whose engine is dead.
local function in_state(home, sql, ...)
    local store = assert(require("e2b_engine").store(home.paths.db))
    local rows = assert(store:query(sql, ...))
    store:close()
    return rows
end

-- ---- what goes on -----------------------------------------------------------

t.test("sandboxes are those they were: files, processes, limits, ends, metadata", function()
    local home = rig.home()
    local before = {}
    for i = 1, 3 do
        local sbx = create(home, { timeout = 60 + i, metadata = { n = tostring(i) },
            envs = { MARK = "m" .. i } })
        sbx.files:write("kept", "content " .. i)
        sbx.commands:run("exec sleep 300", { background = true }):disconnect()
        before[i] = { sbx = sbx, info = sbx:get_info(), log = own_log(home, sbx) }
        t.match(before[i].log[1], "^info the sandbox starts base$")
    end
    local key, port = rig.info(home).api_key, rig.info(home).port
    kill_engine(home)
    options(home)
    t.eq({ rig.info(home).api_key, rig.info(home).port }, { key, port })
    t.match(rig.log(home), "took over 3 sandboxes of an earlier engine, removed 0")
    t.eq(#ids(home), 3)
    for i, one in ipairs(before) do
        t.eq(one.sbx:get_info(), one.info)
        t.eq(own_log(home, one.sbx), one.log)
        t.eq(one.sbx.files:read("kept"), "content " .. i)
        t.eq(one.sbx.commands:run("echo $MARK; pgrep -c sleep").stdout, "m" .. i .. "\n1\n")
    end
    before[1].sbx:kill()
    t.eq(before[1].sbx:is_running(), false)
    t.eq(#ids(home), 2)
end)

t.test("a command is reconnected by its pid, and its output goes on", function()
    local home = rig.home()
    local sbx = create(home)
    local handle = sbx.commands:run("i=0; while [ ! -e stop ]; do i=$((i+1)); echo $i; " ..
        "sleep 0.05; done; exit 7", { background = true, timeout = 0 })
    child.await("no output", 5, function() return handle.stdout:find("3\n") end)
    kill_engine(home)
    local broken = t.raises("sandbox_unreachable", handle.wait, handle)
    t.match(broken.remedy, "commands:connect%(" .. handle.pid .. "%)")
    options(home)
    t.eq(#sbx.commands:list(), 1)
    local again = sbx.commands:connect(handle.pid)
    child.await("no output", 5, function() return #again.stdout > 20 end)
    local first, last = again.stdout:match("^(%d+)\n"), handle.stdout:match("(%d+)\n$")
    t.ok(tonumber(first) > tonumber(last), "it began anew")
    local n = tonumber(first)
    for line in again.stdout:gmatch("%d+") do
        t.eq(tonumber(line), n)
        n = n + 1
    end
    sbx.files:write("stop", "")
    t.eq(t.raises("command_exit", again.wait, again).result.exit_code, 7)
end)

t.test("a script goes on with its next call, whatever that is", function()
    local home = rig.home()
    local c = child.lua([[
        local e2b = require "e2b"
        local sbx = e2b.Sandbox.create { timeout = 60, allow_internet_access = false }
        local client, paths = require "engine.client", require "engine.paths"
        local function kill_engine()
            local pid = client.info(paths.of()).pid
            os.execute("kill -9 " .. pid)
            local fs = require "e2b_fs"
            local stat
            repeat -- a thread that is not dead yet holds the sockets
                e2b.sleep(0.01)
                stat = fs.read_file("/proc/" .. pid .. "/stat")
                local threads = fs.list("/proc/" .. pid .. "/task") or {}
            until not stat or stat:find("%) Z ") and #threads <= 1
        end
        local big = ("x"):rep(3000000)
        local calls = {
            function() return sbx.commands:run("echo run").stdout end,
            function() return sbx.files:write("a", "small").path end,
            function() return sbx.files:write("b", big).path end,
            function() return sbx.files:read("a") end,
            function() return #sbx.files:read("b") end,
            function() return #sbx.files:list("/home/user") > 0 end,
            function() return sbx:is_running() end,
            function() return sbx:get_info().sandbox_id == sbx.sandbox_id end,
            function() return sbx:set_timeout(90) end,
            function() return #sbx.commands:list() end,
            function() return sbx.commands:run("echo bg", { background = true }):wait().stdout end,
            function() return #e2b.Sandbox.list():next_items() end,
            function() return e2b.Sandbox.connect(sbx.sandbox_id).sandbox_id == sbx.sandbox_id end,
            function() return e2b.Sandbox.create({ timeout = 9 }):kill() end,
            function() return sbx:kill() end,
        }
        for _, call in ipairs(calls) do
            kill_engine()
            print(call())
        end]], { env = home.env })
    local code, out = c:wait(50)
    t.eq({ code, out }, { 0, "run\n\n/home/user/a\n/home/user/b\nsmall\n3000000\ntrue\ntrue\n" ..
        "true\n\n0\nbg\n\n1\ntrue\ntrue\ntrue\n" })
end)

t.test("in the middle of an upload: the file is not there, the next upload is whole", function()
    local home = rig.home()
    local sbx = create(home)
    local pieces, pid = 0, rig.info(home).pid
    t.raises("sandbox_unreachable", sbx.files.write, sbx.files, "big", function()
        pieces = pieces + 1
        if pieces == 20 then
            os.execute("kill -9 " .. pid)
        end
        return pieces < 400 and ("x"):rep(100000) or nil
    end)
    gone(pid)
    options(home)
    child.await("half a file is left", 5, function() return not sbx.files:exists("big") end)
    sbx.files:write("big", ("y"):rep(3000000))
    t.eq(sbx.commands:run("tr -d y <big | wc -c; wc -c <big").stdout, "0\n3000000\n")
end)

t.test("in the middle of the upload of a build's files: nothing of it is used, the link is good",
    function()
    local home = rig.home()
    local o, name = options(home), ("a"):rep(64)
    local key = { ["X-API-Key"] = o.api_key }
    local function link()
        local _, _, text = rig.request { headers = key,
            url = o.api_url .. "/templates/any/files/" .. name }
        return json.decode(text)
    end
    local at = link()
    local x <close> = assert(require("e2b_httpc").open { method = "PUT", url = at.url,
        upload = true, timeout = 10 })
    for _ = 1, 20 do
        assert(x:write(("x"):rep(100000)))
    end
    child.await("nothing has come", 5, function()
        return #fs.list(home.paths.uploads) == 1
    end)
    kill_engine(home)
    x:write("x")
    x:finish()
    t.eq(x:wait(), nil)
    options(home)
    t.eq(fs.list(home.paths.uploads), {})
    t.eq(link().present, false)
    t.eq(rig.request { method = "PUT", url = at.url, body = "whole" }, 200)
    t.eq(link().present, true)
    t.eq(fs.read_file(home.paths.uploads .. "/" .. name), "whole")
end)

t.test("ends of life go on: one comes while there is no engine, one under the next", function()
    local home = rig.home()
    local early, late = create(home, { timeout = 2 }), create(home, { timeout = 5 })
    local set = task.now() + 5
    kill_engine(home)
    task.sleep(2.1)
    options(home)
    t.eq(ids(home), { late.sandbox_id })
    t.match(rig.log(home), "removing " .. early.sandbox_id .. " of an earlier engine: " ..
        "it has reached its end")
    child.await("it lives on", 8, function() return #ids(home) == 0 end)
    t.ok(math.abs(task.now() - set) < 1, "it ended at another time")
end)

t.test("a new end is kept, too", function()
    local home = rig.home()
    local sbx = create(home)
    kill_engine(home)
    options(home)
    sbx:set_timeout(300)
    local before = sbx:get_info().end_at
    kill_engine(home)
    local row = in_state(home, "SELECT end_boot FROM sandboxes")[1]
    local seconds = (row.end_boot - process.boot_clock()) / 1e6
    t.ok(seconds > 280 and seconds <= 300, "it ends in " .. seconds)
    options(home)
    t.eq(sbx:get_info().end_at, before)
end)

t.test("ports of a sandbox are reached under the next engine, at the same address", function()
    local home = rig.home()
    local sbx = create(home)
    sbx.commands:run("echo served >x; exec python3 -m http.server 3000",
        { background = true, timeout = 0 }):disconnect()
    local url = sbx:get_url(3000) .. "/x"
    local function served()
        local ok, status, _, body = pcall(rig.request, { url = url })
        return ok and status == 200 and body
    end
    t.eq(child.await("it is not served", 5, served), "served\n")
    kill_engine(home)
    options(home)
    t.eq(served(), "served\n")
end)

t.test("metrics go on, and an adopted sandbox that rests uses nothing", function()
    local home = rig.home()
    local sbx = create(home)
    rig.needs_limits(sbx)
    sbx.commands:run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    kill_engine(home)
    options(home)
    task.sleep(0.5)
    local metrics = sbx:get_metrics()
    t.ok(#metrics >= 1, "no metrics")
    t.ok(metrics[1].cpu_used_pct < 60, "cpu " .. metrics[1].cpu_used_pct)
    t.ok(metrics[1].mem_used > 0, "no memory")
end)

t.test("a create with an Idempotency-Key is remembered", function()
    local home = rig.home()
    local key = wire.random(8)
    local first = create(home, { idempotency_key = key })
    kill_engine(home)
    local again = create(home, { idempotency_key = key })
    t.eq(again.sandbox_id, first.sandbox_id)
    t.eq(again.commands:run("echo works").stdout, "works\n")
    local e = t.raises(nil, create, home, { idempotency_key = key, timeout = 50 })
    t.eq(e.status, 422)
end)

-- ---- what is removed --------------------------------------------------------

local function template_that_waits(home)
    local name = "waits-" .. wire.random(4)
    Template.build(Template():from_base_image():set_start_cmd(
        [[test -n "$E2B_SANDBOX_ID" || touch /tmp/ok; sleep 99]], "test -e /tmp/ok"), name,
        rig.options(home))
    return name
end

local function nothing_of_sandboxes(home)
    t.eq(ids(home), {})
    t.eq({ fs.list(home.paths.run), fs.list(home.paths.boxes) }, { {}, {} })
end

t.test("in the middle of a create: nothing of it is left", { timeout = 120 }, function()
    local home = rig.home()
    local o = options(home, { template = template_that_waits(home) })
    local creating = task.spawn_quiet(Sandbox.create, o)
    child.await("it is not being created", 10, function()
        return #fs.list(home.paths.run) == 1
    end)
    task.sleep(0.3)
    kill_engine(home)
    t.match(t.raises(nil, creating.join, creating, 10).kind, "^network$")
    options(home)
    t.match(rig.log(home), "removing i%w+ of an earlier engine: it was not finished")
    nothing_of_sandboxes(home)
end)

t.test("at random moments of creates and kills: all that is listed works, nothing else is left",
    { timeout = 120 }, function()
    local home = rig.home()
    local kept = create(home)
    for round = 1, 16 do
        local o = options(home)
        local tasks = {}
        for i = 1, 4 do
            tasks[i] = task.spawn_quiet(function()
                local sbx = Sandbox.create(o)
                if i % 2 == 0 then
                    sbx:kill()
                end
            end)
        end
        task.sleep(0.003 * round)
        kill_engine(home)
        for _, one in ipairs(tasks) do
            pcall(one.join, one, 10)
        end
    end
    options(home)
    local found = false
    for _, id in ipairs(ids(home)) do
        local sbx = Sandbox.connect(id, rig.options(home))
        t.eq(sbx.commands:run("echo works").stdout, "works\n")
        found = found or id == kept.sandbox_id
    end
    t.ok(found, "the first one is lost")
    local known = {}
    for _, id in ipairs(ids(home)) do
        known[#known + 1] = id
    end
    local folders = fs.list(home.paths.boxes)
    table.sort(folders)
    t.eq(folders, known)
    t.eq(#fs.list(home.paths.run), #known)
end)

t.test("one that was being killed is not taken over", function()
    local home = rig.home()
    create(home)
    kill_engine(home)
    in_state(home, "UPDATE sandboxes SET state = 'killing'")
    options(home)
    t.match(rig.log(home), "of an earlier engine: it was being killed")
    nothing_of_sandboxes(home)
end)

t.test("one whose envd has died meanwhile is removed, the others go on", function()
    local home = rig.home()
    local dead, alive = create(home), create(home)
    kill_engine(home)
    local row = in_state(home, "SELECT pid FROM sandboxes WHERE id = ?1", dead.sandbox_id)[1]
    os.execute("kill -9 " .. row.pid)
    gone(row.pid)
    options(home)
    t.eq(ids(home), { alive.sandbox_id })
    t.match(rig.log(home), "process %d+ has ended")
    t.eq(fs.stat(home.paths.boxes .. "/" .. dead.sandbox_id), nil)
end)

t.test("one whose envd does not answer holds nobody up", function()
    local home = rig.home()
    local stopped, alive = create(home), create(home)
    kill_engine(home)
    local row = in_state(home, "SELECT pid FROM sandboxes WHERE id = ?1", stopped.sandbox_id)[1]
    os.execute("kill -STOP " .. row.pid)
    local began = task.now()
    options(home)
    t.eq(alive.commands:run("echo works").stdout, "works\n")
    t.ok(task.now() - began < 2, "it took longer")
    t.eq(#ids(home), 2)
    os.execute("kill -CONT " .. row.pid)
    t.eq(stopped.commands:run("echo works too").stdout, "works too\n")
end)

t.test("a row that cannot be read and what has no row are removed", function()
    local home = rig.home()
    local bad, lost, good = create(home), create(home), create(home)
    kill_engine(home)
    local pid = in_state(home, "SELECT pid FROM sandboxes WHERE id = ?1", lost.sandbox_id)[1].pid
    in_state(home, "UPDATE sandboxes SET doc = '[' WHERE id = ?1", bad.sandbox_id)
    in_state(home, "DELETE FROM sandboxes WHERE id = ?1", lost.sandbox_id)
    options(home)
    t.eq(ids(home), { good.sandbox_id })
    t.match(rig.log(home), "removing " .. lost.sandbox_id .. " of an earlier engine: " ..
        "the state does not know it")
    t.eq(fs.list(home.paths.boxes), { good.sandbox_id })
    gone(pid)
end)

t.test("a row of another boot: its process is another's and is let alone", function()
    local home = rig.home()
    local sbx = create(home)
    kill_engine(home)
    local row = in_state(home, "SELECT pid, boot_id FROM sandboxes")[1]
    local victim = child.start { "sleep", "60" }
    local stat = fs.read_file("/proc/" .. victim.pid .. "/stat")
    local fields = {}
    for field in stat:match("%) (.*)"):gmatch("%S+") do
        fields[#fields + 1] = field
    end
    in_state(home, "UPDATE sandboxes SET boot_id = 'another', pid = ?1, start_time = ?2",
        victim.pid, math.tointeger(tonumber(fields[20])))
    options(home)
    t.match(rig.log(home), "the machine has been booted since")
    t.eq(process.alive(victim.pid), true)
    nothing_of_sandboxes(home)
    assert(require("e2b_engine").kill { pid = row.pid, cgroup = "e2blua/" ..
        require("e2b_hash").sha256(home.path):sub(1, 12) .. "/" .. sbx.sandbox_id })
end)

t.test("stop after a kill -9 ends what the dead engine has left; status and list know it",
    function()
    local home = rig.home()
    local sbx = create(home)
    create(home)
    kill_engine(home)
    local function verb(...)
        return child.start({ process.exe(), ... }, { env = home.env }):wait()
    end
    local code, out = verb("engine", "status")
    t.eq(code, 1)
    t.match(out, "no engine runs in .*\n2 sandboxes of one that has died are left")
    -- After a reboot they are only files.
    local info = fs.read_file(home.paths.info)
    assert(fs.write_file(home.paths.info, (info:gsub('"boot_id":"', "%0another-"))))
    t.eq({ verb("engine", "status") }, { 1, "no engine runs in " .. home.path .. "\n" })
    assert(fs.write_file(home.paths.info, info))
    code, out = verb("list")
    t.eq(code, 0)
    t.match(out, sbx.sandbox_id)
    code, out = verb("engine", "status")
    t.eq(code, 0)
    t.match(out, "running  2 sandboxes")
    kill_engine(home)
    code, out = verb("engine", "stop")
    t.eq({ code, out }, { 0, "the engine has ended\n" })
    t.eq(rig.left(home), {})
    code, out = verb("engine", "stop")
    t.eq({ code, out }, { 0, "no engine runs in " .. home.path .. "\n" })
end)

-- ---- two engines ------------------------------------------------------------

t.test("five clients after a death: one engine serves, with all sandboxes", function()
    local home = rig.home()
    local first = { create(home).sandbox_id, create(home).sandbox_id }
    table.sort(first)
    kill_engine(home)
    local clients = {}
    for i = 1, 5 do
        clients[i] = child.lua([[
            local all = {}
            for i, info in ipairs(require("e2b").Sandbox.list():next_items()) do
                all[i] = info.sandbox_id
            end
            table.sort(all)
            print(table.concat(all, " "))]], { env = home.env })
    end
    for _, one in ipairs(clients) do
        local code, out = one:wait(30)
        t.eq({ code, out }, { 0, table.concat(first, " ") .. "\n" })
    end
    t.eq(#rig.engines(home), 1)
end)

t.test("two engines started at once on sandboxes of a dead one: one serves", function()
    local home = rig.home()
    local sbx = create(home)
    kill_engine(home)
    local engines = {}
    for i = 1, 2 do
        engines[i] = child.start({ process.exe(), "engine", "serve", home.path, home.paths.cache },
            { env = { E2BLUA_PORT = "0" } })
    end
    local loser = child.await("both run", 10, function()
        return fs.stat(engines[1].dir .. "/code") and engines[1] or
            fs.stat(engines[2].dir .. "/code") and engines[2]
    end)
    local code, out = loser:wait()
    t.eq(code, 1)
    t.match(out, "another engine runs in")
    t.eq(ids(home), { sbx.sandbox_id })
    t.eq(#rig.engines(home), 1)
end)

-- ---- another build ----------------------------------------------------------

local function copy_of_program()
    local dir = t.tmpdir()
    local exe = process.exe()
    assert(os.execute(("cp -r %s %s %s"):format(child.quoted(exe),
        child.quoted(exe:match("^(.*)/") .. "/modules"), child.quoted(dir))))
    return dir .. "/e2blua"
end

t.test("a new build takes over from the old engine: sandboxes and their commands go on", function()
    local home = rig.home()
    local other = copy_of_program()
    local old = child.start({ other, "-e", [[
        local e2b = require "e2b"
        local sbx = e2b.Sandbox.create { timeout = 60, allow_internet_access = false }
        local h = sbx.commands:run("while [ ! -e stop ]; do echo on; sleep 0.1; done",
            { background = true, timeout = 0 })
        print(sbx.sandbox_id, h.pid)
        io.stdout:flush()
        while not sbx.files:exists("stop") do e2b.sleep(0.1) end
        print("the old client goes on", sbx.commands:run("echo works").stdout)]] },
        { env = home.env })
    local id, pid = old:expect("^(i%w+)\t(%d+)\n")
    local before = rig.info(home)
    local o = rig.options(home)
    local after = rig.info(home)
    t.ok(after.pid ~= before.pid, "the old engine serves on")
    t.ok(after.build_id ~= before.build_id, "the same build")
    t.eq(after.port, before.port)
    gone(before.pid)
    t.match(rig.log(home), "another build of e2blua takes over 1 sandboxes")
    t.match(rig.log(home), "took over 1 sandboxes")
    local sbx = Sandbox.connect(id, o)
    local handle = sbx.commands:connect(math.tointeger(tonumber(pid)))
    child.await("no output", 5, function() return #handle.stdout > 5 end)
    sbx.files:write("stop", "")
    t.eq(handle:wait().exit_code, 0)
    local code, out = old:wait()
    t.eq(code, 0, out)
    t.match(out, "the old client goes on\tworks\n")
    t.eq(rig.info(home).pid, after.pid, "the old client has not taken it back")
end)

t.test("a new build waits for a create that is under way", { timeout = 120 }, function()
    local home = rig.home()
    local name = "slow-" .. wire.random(4)
    Template.build(Template():from_base_image():set_start_cmd(
        "sleep 1.5; touch /tmp/ok; sleep 99", "test -e /tmp/ok"), name, rig.options(home))
    client.stop(home.paths)
    local old = child.start({ copy_of_program(), "create", name }, { env = home.env })
    child.await("it is not being created", 10, function()
        return #(fs.list(home.paths.run) or {}) == 1
    end)
    options(home)
    local code, out = old:wait()
    t.eq(code, 0, out)
    t.match(out, ids(home)[1])
end)

t.test("an old engine that builds is not replaced, and the build is named", { timeout = 90 },
    function()
    local home = rig.home()
    local old = child.start({ copy_of_program(), "-e", [[
        local e2b = require "e2b"
        e2b.Template.build(e2b.Template():from_base_image():run_cmd("sleep 60 # ]] ..
            wire.random(6) .. [["), "slow", { on_build_logs = function(entry)
            print(entry.message) io.stdout:flush() end })]] }, { env = home.env })
    old:expect("RUN sleep 60")
    local e = t.raises("unsupported", options, home)
    t.match(e.message, "another build of e2blua and has 0 sandboxes and 1 builds")
    t.match(e.remedy, "engine stop")
    old:signal "INT"
    old:wait()
end)

-- ---- others on the machine --------------------------------------------------

t.test("another user without the key gets a clear 401, also after an adoption", function()
    local home = rig.home()
    local sbx = create(home)
    kill_engine(home)
    local o = options(home)
    local words = { "curl", "-sS", "-w", " %{http_code}", o.api_url .. "/sandboxes" }
    if process.uid() == 0 then
        words = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            table.unpack(words) }
    end
    local code, out = child.start(words):wait()
    t.eq(code, 0, out)
    t.match(out, "authorization header is missing.* 401$")
    table.insert(words, "-H")
    table.insert(words, "X-API-Key: e2b_" .. ("0"):rep(40))
    code, out = child.start(words):wait()
    t.eq(code, 0, out)
    t.match(out, "Invalid API key.* 401$")
    -- The data plane asks for the sandbox's own token.
    local status = rig.request { url = o.api_url .. "/files?path=/etc/passwd",
        headers = { ["E2b-Sandbox-Id"] = sbx.sandbox_id, ["E2b-Sandbox-Port"] = "49983" } }
    t.eq(status, 401)
    t.eq({ fs.stat(home.paths.info).mode & 511, fs.stat(home.paths.socket).mode & 511,
        fs.stat(home.path).mode & 511 }, { 384, 384, 448 })
end)
