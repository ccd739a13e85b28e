-- The way out of sandboxes over the death of their engine: names keep their
-- addresses, policies hold, connections that come meanwhile wait. Servers are on
-- loopback addresses; nothing here leaves the machine.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local fs = require "e2b_fs"
local httpd = require "e2b_httpd"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

t.before(rig.warm_up)

local SERVER <const> = "127.77.31.1" -- not 127.0.0.1, where others may have the ports
local ALL <const> = "0.0.0.0/0"

local function server()
    local s = assert(httpd.listen { host = SERVER, port = 0, handler = function(req)
        req:reply(200, nil, "hello " .. tostring(req.headers.host):match("^[^:]+") .. "\n")
    end })
    t.cleanup(function()
        s:close()
    end)
    return s.port
end

local function engine()
    local path = t.tmpdir() .. "/hosts"
    assert(fs.write_file(path, SERVER .. " first.test second.test third.test\n"))
    return world.engine { E2BLUA_HOSTS_FILE = path }
end

local function create(on, allowed)
    local sandbox = Sandbox.create("base", world.at(on, allowed and
        { network = { allow_out = allowed, deny_out = { ALL } } }))
    t.cleanup(function()
        sandbox:close()
    end)
    return sandbox
end

local function kill_engine(on)
    rig.kill_engine(on.home)
end

local function sh(sandbox, command)
    return sandbox.commands:run("{ " .. command .. "\n} 2>&1 || true", { timeout = 30 }).stdout
end

local function address(sandbox, name)
    return sh(sandbox, "getent ahostsv4 " .. name):match("^%S+")
end

local function asks(sandbox, host, port)
    return sh(sandbox, ("curl -sS -m 20 http://%s:%d/"):format(host, port))
end

t.test("an address that a program has leads to its name, and to no other", function()
    local on, port = engine(), server()
    local sandbox = create(on, { "first.test", "second.test" })
    local first, second = address(sandbox, "first.test"), address(sandbox, "second.test")
    t.match(first, "^198%.18%.")
    t.ok(first ~= second, "one address for two names")
    kill_engine(on)
    on.start()
    t.eq(asks(sandbox, second, port), "hello " .. second .. "\n")
    local third = address(sandbox, "third.test")
    t.ok(third ~= first and third ~= second, "a new name has the address of an old one")
    kill_engine(on)
    on.start()
    t.eq({ address(sandbox, "third.test"), address(sandbox, "second.test"),
        address(sandbox, "first.test") }, { third, second, first })
    t.eq(asks(sandbox, first, port), "hello " .. first .. "\n")
    t.ok(not asks(sandbox, third, port):find("hello", 1, true), "the policy has let it through")
end)

t.test("the names of a sandbox go with it", function()
    local on = engine()
    local sandbox = create(on)
    address(sandbox, "first.test")
    local function names()
        kill_engine(on)
        local store = assert(require("e2b_engine").store(on.home.paths.db))
        local rows = assert(store:query("SELECT name FROM names"))
        store:close()
        return rows
    end
    t.eq(names(), { { name = "first.test" } })
    on.start()
    sandbox:kill()
    t.eq(names(), {})
end)

t.test("a policy holds, that of the create and one set later", function()
    local on, port = engine(), server()
    local strict, opened, shut = create(on, { "first.test" }), create(on, { "first.test" }),
        create(on)
    opened:update_network { allow_out = { "second.test" }, deny_out = { ALL } }
    shut:update_network { allow_internet_access = false }
    for round = 1, 2 do
        local function goes(sandbox, name)
            return asks(sandbox, name, port) == "hello " .. name .. "\n"
        end
        t.eq({ goes(strict, "first.test"), goes(strict, "second.test"),
            goes(opened, "first.test"), goes(opened, "second.test"),
            goes(shut, "first.test") }, { true, false, false, true, false }, "round " .. round)
        if round == 1 then
            kill_engine(on)
            on.start()
        end
    end
    local function why()
        asks(shut, "first.test", port)
        return table.concat(shut:get_info().notes)
    end
    t.ok(not why():find("public address", 1, true), "blocked for another reason")
    shut:update_network {} -- lifts the block; the name's address is a private one
    kill_engine(on)
    on.start()
    t.match(why(), "is not a public address")
end)

t.test("what is asked and connected while there is no engine waits for the next", function()
    local on, port = engine(), server()
    local sandbox = create(on, { "first.test", "second.test" })
    local known = address(sandbox, "second.test")
    sandbox.commands:run(("sleep 1; date +%%s.%%N >at; " ..
        "curl -sS -m 20 http://first.test:%d/ >asked 2>&1 & " ..
        "sleep 1; curl -sS -m 20 http://%s:%d/ >connected 2>&1; wait; touch done"):format(port,
        known, port), { background = true, timeout = 0 }):disconnect()
    kill_engine(on)
    task.sleep(2.5)
    on.start()
    child.await("it does not end", 15, function()
        return sandbox.files:exists("done")
    end)
    t.eq({ sandbox.files:read("asked"), sandbox.files:read("connected") },
        { "hello first.test\n", "hello " .. known .. "\n" })
end)

t.test("one without a way out has none afterwards, either", function()
    local on = engine()
    local sandbox = create(on)
    local notes = sandbox:get_info().notes
    kill_engine(on)
    on.start()
    t.eq(sandbox:get_info().notes, notes)
    -- The sockets are looked at: a stranger's are refused.
    local box = assert(require("e2b_engine").adopt { pid = process.pid(), start_time =
        math.tointeger(tonumber(fs.read_file("/proc/self/stat"):match("%) " ..
            ("%S+ "):rep(19) .. "(%d+)"))) })
    local ok, err = box:fetch(on.home.paths.run, "none.sock", 1)
    box:close()
    t.eq(ok, nil)
    t.match(err.message, "none%.sock")
end)
