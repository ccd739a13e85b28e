-- What sandboxes see of a name server that answers badly: the engine runs in a
-- mount namespace of its own, whose resolv.conf names that server.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local httpd = require "e2b_httpd"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local world = require "template_world"

t.before(rig.warm_up)

local NAMES <const>, SERVER <const> = "127.77.53.1", "127.77.30.1"

-- An engine that asks the bad server.
local function engine()
    rig.needs_root()
    local home, dir = rig.home(), t.tmpdir()
    local names = child.start({ "/usr/bin/python3", "tests/lib/dns_server.py", NAMES },
        { dir = fs.cwd() })
    rig.await("the name server does not start: " .. names:output(), 10, function()
        return names:output():find "ready"
    end)
    assert(fs.write_file(dir .. "/resolv.conf",
        ("nameserver %s\noptions timeout:1 attempts:1\n"):format(NAMES)))
    assert(fs.mkdirs(home.path, 448))
    child.start { "unshare", "-m", "sh", "-c",
        ("mount --bind %s/resolv.conf $(realpath /etc/resolv.conf) && exec %s engine serve %s %s")
            :format(dir, process.exe(), home.path, home.paths.cache) }
    rig.await("the engine does not start", 20, function()
        return client.info(home.paths) and fs.stat(home.paths.socket)
    end)
    return { home = home, options = rig.options(home) }
end

local function sandbox(on)
    local sbx = Sandbox.create("base", world.at(on, { network = {
        allow_out = { "*.test", SERVER }, deny_out = { "0.0.0.0/0" } } }))
    t.cleanup(function()
        sbx:close()
    end)
    return sbx
end

t.test("huge, empty, looping and broken answers of the name server are survived",
    { timeout = 120 }, function()
    local on = engine()
    local web = assert(httpd.listen { host = SERVER, port = 0, handler = function(req)
        req:reply(200, nil, "hello\n")
    end })
    t.cleanup(function()
        web:close()
    end)
    local sbx = sandbox(on)
    local function get(name)
        return sbx.commands:run(("curl -sS -m 15 http://%s.test:%d 2>&1 || true")
            :format(name, web.port), { timeout = 30 }).stdout
    end
    t.eq(get "good", "hello\n")
    t.eq(get "huge", "hello\n")
    for _, name in ipairs { "empty", "loop", "pointer", "wrong", "garbage", "silent" } do
        local out = get(name)
        t.match(out, "^curl: %(%d+%) ", name)
        t.ok(not out:find("timed out", 1, true), name .. ": " .. out)
    end
    t.eq(get "good", "hello\n", "the engine still serves")
end)
