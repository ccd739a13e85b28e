-- An ordinary user's engine in a group of systemd's: when, on made facts (no machine of ours has
-- cgroup v2 and a user's systemd), and that it starts behind a stand-in for systemd-run, or, when
-- that fails, without.
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local scope = require "engine.scope"
local t = require "tests"

local function facts(changes)
    local f = { uid = 1000, v2 = true, group = "/user.slice/user-1000.slice/session-2.scope",
        manager = true, systemd_run = "/usr/bin/systemd-run" }
    for name, value in pairs(changes or {}) do
        f[name] = value
    end
    return f
end

t.test("a login's engine asks systemd for a group, others do not", function()
    t.eq(scope.words(facts()), { "/usr/bin/systemd-run", "--user", "--scope", "--quiet",
        "--collect", "--property=Delegate=yes", "--" })
    t.eq(scope.words(facts { uid = 0 }), {})
    t.eq(scope.words(facts { v2 = false }), {})
    t.eq(scope.words(facts { manager = false }), {})
    t.eq(scope.words(facts { systemd_run = false }), {})
    t.eq(scope.words(facts { group = "/user.slice/user-1000.slice/user@1000.service/app.slice/a" }),
        {})
    t.eq(#scope.words(facts { group = "/user.slice/user-1001.slice/user@1001.service/a" }), 7)
end)

t.test("the facts of this machine are gathered", function()
    local f = scope.facts()
    t.eq(f.uid, process.uid())
    t.eq(type(f.v2) .. type(f.manager) .. type(f.group), "booleanbooleanstring")
end)

-- Starts an engine behind a systemd-run with this text; returns its home.
local function start_behind(text)
    local home, dir = rig.home(), t.tmpdir()
    assert(fs.write_file(dir .. "/systemd-run", "#!/bin/sh\n" .. text, 493))
    local code, out = child.lua([[
        local scope = require "engine.scope"
        scope.facts = function()
            return { uid = 1000, v2 = true, group = "/session", manager = true,
                systemd_run = "]] .. dir .. [[/systemd-run" }
        end
        require("engine.client").ensure()]], { env = home.env }):wait(40)
    t.eq(code, 0, out)
    t.ok(client.status(home.paths), "it does not run")
    return home, fs.read_file(dir .. "/said")
end

t.test("it starts behind systemd-run", function()
    local _, said = start_behind [[
        echo "$@" > "${0%/*}/said"
        while [ "$1" != -- ]; do shift; done
        shift
        exec "$@"]]
    t.match(said, "^%-%-user %-%-scope .*Delegate=yes %-%- .*engine serve ")
end)

t.test("it starts without systemd-run where that fails", function()
    local home = start_behind 'echo "Failed to connect to bus" >&2; exit 1'
    t.match(rig.log(home), "Failed to connect to bus")
end)
