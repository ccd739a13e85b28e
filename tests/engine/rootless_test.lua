-- What an ordinary user's engine does otherwise than root's: whose the processes and files are,
-- what stands in for cgroups, and the grade with one user id.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local json = require "e2b_json"
local paths = require "engine.paths"
local process = require "e2b_process"
local rig = require "engine_rig"
local run = require("cli_rig").run
local t = require "tests"
local world = require "template_world"

t.before(world.warm_up)

local function needs_user()
    if process.uid() == 0 then
        t.skip "user"
    end
end

-- Owners of the processes whose command line is the text.
local function owners(text)
    local out = {}
    for _, pid in ipairs(fs.list("/proc")) do
        local dir = "/proc/" .. pid
        if pid:find "^%d+$" and fs.read_file(dir .. "/cmdline") == text then
            out[#out + 1] = math.tointeger((fs.read_file(dir .. "/status") or "")
                :match "\nUid:\t(%d+)")
        end
    end
    return out
end

t.test("its sandboxes have users of their own, none of them the engine's", function()
    needs_user()
    t.eq(client.status().grade, "range")
    local sandbox = rig.sandbox()
    for _, note in ipairs(sandbox:get_info().notes) do
        t.ok(not note:find "user id", note)
    end
    local mark = tostring(7000 + process.pid() % 1000) .. ".25"
    for _, user in ipairs { "user", "root" } do
        sandbox.commands:run("exec sleep " .. mark, { user = user, background = true })
            :disconnect()
    end
    local seen
    rig.await("the commands do not run", 10, function()
        seen = owners("sleep\0" .. mark .. "\0")
        return #seen == 2
    end)
    for _, uid in ipairs(seen) do
        t.ok(uid ~= process.uid() and uid ~= 0, "a process of " .. uid)
    end
    t.eq(math.abs(seen[1] - seen[2]), 1000)
    local out = sandbox.commands:run("id -u; sudo id -u; sudo touch /srv/r; sudo chown daemon " ..
        "/srv/r; stat -c %U /srv/r; cat /proc/self/uid_map").stdout
    t.match(out, "^1000\n0\ndaemon\n +0 +%d+ +65536\n$")
end)

t.test("nothing is left of files that the user could not remove", function()
    needs_user()
    local sandbox = rig.sandbox()
    sandbox.commands:run("mkdir -p a/b && touch a/b/c && chmod 000 a/b a; sudo chown -R daemon a")
    local dir = paths.of().boxes .. "/" .. sandbox.sandbox_id
    t.ok(fs.stat(dir), "the writable layer is elsewhere")
    t.eq(fs.list(dir), nil)
    local code, out = run { "engine", "unshare", "ls", dir .. "/u/home/user" }
    t.eq({ code, out }, { 0, "a\n" })
    sandbox:kill()
    t.eq(fs.stat(dir), nil)
end)

t.test("without a cgroup processes are held by limits of their own", function()
    needs_user()
    local limits = require("e2b_engine").limits()
    if limits.memory and limits.pids then
        return -- cgroups hold them
    end
    local sandbox = rig.sandbox()
    local notes = table.concat(sandbox:get_info().notes, "\n")
    t.match(notes, "limits that this machine cannot give: [a-z,]*memory")
    t.match(notes, "each process alone")
    t.eq(sandbox.commands:run("ulimit -u").stdout, "8192\n")
    local r = t.raises("command_exit", sandbox.commands.run, sandbox.commands,
        "python3 -c 'x = bytearray(1100 << 20)'").result
    t.match(r.stderr, "MemoryError")
    t.eq(sandbox.commands:run("python3 -c 'x = bytearray(700 << 20); print(len(x))'").stdout,
        (700 << 20) .. "\n")
end)

t.test("with one user id everything is root's, and that is said", function()
    needs_user()
    local home = rig.home()
    local env = { PATH = rig.path_without("newuidmap", "newgidmap"), E2BLUA_HOME = home.path }
    local code, _, err = run({ "create", "--timeout", "60" }, { env = env })
    t.eq(code, 0, err)
    local status = client.status(home.paths)
    t.eq(status.grade, "one")
    t.match(status.note, "newuidmap or newgidmap is missing")
    t.match(select(2, run({ "engine", "status" }, { env = env })), "\nnote +one user id only")
    local o = rig.options(home)
    o.timeout, o.allow_internet_access = 60, false
    local sandbox = Sandbox.create(o)
    t.cleanup(function()
        sandbox:close()
    end)
    t.match(table.concat(sandbox:get_info().notes, "\n"), "one user id only.*sudo changes nothing")
    t.eq(sandbox.commands:run("id -u; sudo id -u; pwd; echo $HOME; touch f; chown daemon f; " ..
        "stat -c %U f /etc/passwd").stdout, "0\n0\n/home/user\n/home/user\nroot\nroot\n")
    local build = { api_url = o.api_url, api_key = o.api_key, domain = o.domain }
    local name = world.unique("one")
    local template = world.template():run_cmd(": " .. name .. "; useradd bob && install -o bob " ..
        "/etc/hostname /srv/of-bob && mknod /srv/pipe p", { user = "root" })
    Template.build(template, name, build)
    t.match(json.encode(client.status(home.paths)), '"grade":"one"')
    sandbox:close()
    client.stop(home.paths)
    -- newuidmap has come: what was built belongs to the wrong one.
    o = rig.options(home)
    t.eq(client.status(home.paths).grade, "range")
    o.timeout, o.allow_internet_access = 60, false
    local e = t.raises("sandbox", Sandbox.create, name, o)
    t.match(e.message, "is not in .*build it again")
    local log = select(2, world.build(template, name, { api_url = o.api_url, api_key = o.api_key,
        domain = o.domain }))
    t.eq(world.cached(log), { "new" })
    local again <close> = Sandbox.create(name, o)
    t.eq(again.commands:run("id -u; stat -c %U /srv/of-bob").stdout, "1000\nbob\n")
end)

t.test("gc removes layers whose files are others'", function()
    needs_user()
    local cache, id = t.tmpdir() .. "/cache", ("a"):rep(64)
    local layer = cache .. "/layers/" .. id
    assert(fs.mkdirs(layer .. "/fs", 448))
    assert(fs.write_file(layer .. "/meta.json", json.encode { id = id, kind = "step",
        size = 1 << 20 }))
    rig.as_owner("sh", "-c", ("mkdir -p %s/fs/a/b && chown -R 1:1 %s/fs && chmod 0 %s/fs/a")
        :format(layer, layer, layer))
    t.ok(not fs.remove_tree(layer), "the user could do it")
    local code, out, err = run({ "engine", "gc", "--max", "0" }, { env = { E2BLUA_CACHE = cache } })
    t.eq(code, 0, out .. err)
    t.eq(fs.stat(layer), nil)
end)

t.test("the bundled app does its work", function()
    needs_user()
    local code, out = child.start({ process.exe(), "apps/calculator.lua", "--once" },
        { env = { E2BLUA_MODEL = "offline" }, dir = fs.cwd() }):wait(50)
    t.eq(code, 0, out)
    for _, step in ipairs { "Write index.html", "Bash curl", "waiting for port 3000" } do
        t.match(out, "\nok [^\n]*" .. step)
    end
end)

-- Shell commands as root of the user's ids.
local function as_their_root(...)
    local words = "set -e; " .. table.concat({ ... }, "; ")
    local code, out = child.lua(([[
        assert(require("e2b_engine").rootless_enter())
        assert(os.execute(%q))]]):format(words)):wait(60)
    t.eq(code, 0, out)
end

t.test("its cache is verified and collected, whichever of its ids the files belong to",
    { timeout = 90 }, function()
        needs_user()
        local shared, home = paths.of().cache, rig.home()
        local cache = home.path .. "-cache"
        local base = assert(require("e2b_engine").image_ready(shared, "range"))
        t.cleanup(function() -- not ours to remove
            as_their_root("rm -rf " .. cache)
        end)
        as_their_root(("mkdir -p -m 700 %s/layers"):format(cache),
            ("cp -al %s/layers/%s %s/layers"):format(shared, base, cache))
        local env = { E2BLUA_HOME = home.path, E2BLUA_CACHE = cache }
        local function e2blua(...)
            local code, out, err = run({ ... }, { env = env, timeout = 60 })
            t.eq(code, 0, out .. err)
            return out
        end
        e2blua("-e", [[
            local Template = require("e2b").Template
            Template.build(Template():from_base_image():run_cmd("mkdir -m 700 /srv/x; " ..
                "echo 1 >/srv/x/y; chmod 000 /srv/x/y; chown -R daemon /srv/x",
                { user = "root" }), "collected")]])
        t.match(e2blua("engine", "gc", "--verify"), "verified 2 layers, 0 damaged")
        e2blua("template", "delete", "collected")
        t.match(e2blua("engine", "gc", "--max", "1M"), "removed 1 layers")
        t.eq(fs.list(cache .. "/layers"), { base })
        t.eq(e2blua("-e", [[
            local sbx <close> = require("e2b").Sandbox.create { allow_internet_access = false }
            print(sbx.commands:run("echo on").stdout)]]), "on\n\n")
    end)
