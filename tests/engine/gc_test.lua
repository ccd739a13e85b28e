-- The cache within its limit, and whole. Each test has a cache of its own, in
-- which the base image is hard links to that of the shared one.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local client = require "engine.client"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local gc = require "engine.gc"
local paths = require "engine.paths"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local world = require "template_world"

t.before(rig.warm_up)

-- A cache with the base image alone.
local function new_cache()
    local shared = paths.of().cache
    local cache = t.tmpdir() .. "/cache"
    local base = assert(engine.image_ready(shared))
    assert(fs.mkdirs(cache .. "/layers", 448))
    rig.as_owner("cp", "-al", shared .. "/layers/" .. base, cache .. "/layers/" .. base)
    t.cleanup(function()
        rig.as_owner("rm", "-rf", cache)
    end)
    return cache, base
end

-- A home on a cache, with what it takes to run programs and calls there.
local function new_home(cache, env)
    local home = rig.home()
    home.cache = cache
    home.paths = paths.of(home.path, cache)
    home.env = { E2BLUA_HOME = home.path, E2BLUA_CACHE = cache }
    for name, value in pairs(env or {}) do
        home.env[name] = value
    end
    return home
end

-- Starts the engine with the home's environment; options of calls to it.
local function options(home)
    local code, out = child.lua("require('engine.client').ensure()", { env = home.env }):wait(30)
    t.eq(code, 0, out)
    local c = client.ensure { home = home.path, cache = home.cache }
    return { api_url = c.api_url, sandbox_url = c.sandbox_url, api_key = c.api_key,
        domain = c.domain, headers = world.ALONE }
end

local function run(home, ...)
    return child.start({ process.exe(), ... }, { env = home.env }):wait(60)
end

-- A template with one layer of so many MiB, and one on top.
local function blob(nonce, mib)
    return world.template()
        :run_cmd(("head -c %dM /dev/zero | tr '\\0' %s > ~/blob"):format(mib, nonce:sub(1, 1)))
        :run_cmd("echo " .. nonce .. " > ~/nonce")
end

local function build(o, nonce, name, mib)
    local _, log = world.build(blob(nonce, mib or 4), name, o)
    return log
end

-- Ids of the layers but the base, in no order.
local function layers(cache, base)
    local ids = {}
    for _, name in ipairs(assert(fs.list(cache .. "/layers"))) do
        if name ~= base then
            ids[#ids + 1] = name
        end
    end
    return ids
end

local function sandbox_of(o, name)
    local all = { timeout = 60, allow_internet_access = false }
    for k, v in pairs(o) do
        all[k] = v
    end
    return Sandbox.create(name, all)
end

local function nonce_of(o, name)
    local sandbox <close> = sandbox_of(o, name)
    return sandbox.commands:run("cat nonce; head -c 1 blob").stdout
end

-- The layer of the cache that holds the file.
local function layer_with(cache, base, file)
    for _, id in ipairs(layers(cache, base)) do
        if fs.stat(("%s/layers/%s/fs/%s"):format(cache, id, file)) then
            return id
        end
    end
end

-- A cache with a template of two layers, the home, its options, the layer with the blob.
local function built(name)
    local cache, base = new_cache()
    local home = new_home(cache)
    local o = options(home)
    build(o, "aaa", name)
    return cache, home, o, layer_with(cache, base, "home/user/blob")
end

t.test("templates keep their layers, whatever the limit; what they leave goes",
    { timeout = 90 }, function()
        local cache, base = new_cache()
        local home = new_home(cache)
        local o = options(home)
        build(o, "aaa", "kept")
        build(o, "bbb", "dropped")
        t.eq(#layers(cache, base), 4)
        local code, out = run(home, "engine", "gc", "--max", "1M")
        t.eq(code, 0, out)
        t.match(out, "removed 0 layers")
        t.match(out, "over its limit of 1%.0 MiB: templates need %d")
        t.eq(#layers(cache, base), 4)
        t.eq(run(home, "template", "delete", "dropped"), 0)
        code, out = run(home, "engine", "gc", "--max", "1M", "--dry-run")
        t.match(out, "would remove 2 layers")
        t.eq(code, 0)
        t.eq(#layers(cache, base), 4)
        code, out = run(home, "engine", "gc", "--max", "1M")
        t.eq(code, 0, out)
        t.match(out, "removed layer %x+, 4%.0 MiB")
        t.eq(#layers(cache, base), 2)
        t.eq(nonce_of(o, "kept"), "aaa\na")
        t.eq(fs.list(cache .. "/tmp"), {})
    end)

t.test("after a build over the limit the least recently used layers go by themselves",
    { timeout = 90 }, function()
        local cache, base = new_cache()
        local used = engine.gc(cache, {}).bytes
        local home = new_home(cache, { E2BLUA_CACHE_MAX = tostring(used + (11 << 20)) })
        local o = options(home)
        local name = world.unique("grows")
        for _, nonce in ipairs { "aaa", "bbb" } do
            build(o, nonce, name)
        end
        t.eq(#layers(cache, base), 4)
        build(o, "aaa", name) -- cached, and so used later than bbb
        build(o, "ccc", name)
        child.await("nothing is collected", 10, function()
            return #layers(cache, base) == 4
        end)
        t.match(rig.log(home), "collected 2 layers")
        t.eq(world.cached(build(o, "aaa", name)), { "CACHED", "CACHED" })
        t.eq(world.cached(build(o, "bbb", name)), { "new", "new" })
        t.eq(nonce_of(o, name), "bbb\nb")
    end)

t.test("a sandbox keeps its layers from another home's collection, also without its engine",
    { timeout = 90 }, function()
        local cache, base = new_cache()
        local home, other = new_home(cache), new_home(cache)
        local o = options(home)
        build(o, "aaa", "mine")
        local all = { timeout = 60, allow_internet_access = false }
        for k, v in pairs(o) do
            all[k] = v
        end
        local sandbox = Sandbox.create("mine", all)
        t.eq(run(home, "template", "list"), 0)
        assert(fs.remove_tree(cache .. "/roots")) -- so that nothing but the lease keeps them
        local code, out = run(other, "engine", "gc", "--max", "1M")
        t.eq(code, 0, out)
        t.eq(#layers(cache, base), 2)
        t.eq(sandbox.commands:run("cat nonce").stdout, "aaa\n")
        local pid = rig.info(home).pid
        os.execute("kill -9 " .. pid)
        child.await("it lives on", 5, function()
            return not process.alive(pid)
        end)
        code, out = run(other, "engine", "gc", "--max", "1M")
        t.eq(code, 0, out)
        t.match(out, "%d+%.%d MiB are in use")
        t.eq(#layers(cache, base), 2)
        options(home) -- the next engine ends it, or has it
        client.stop(home.paths)
        assert(fs.remove_tree(cache .. "/roots"))
        code, out = run(other, "engine", "gc", "--max", "1M")
        t.eq(code, 0, out)
        t.eq(#layers(cache, base), 0)
        t.eq(fs.list(cache .. "/leases"), {})
    end)

t.test("a layer whose content has changed is set aside by --verify and built again",
    { timeout = 90 }, function()
        local cache, home, o, bad = built "hurt"
        local f = assert(io.open(cache .. "/layers/" .. bad .. "/fs/home/user/blob", "r+"))
        f:seek("set", 1 << 20)
        f:write("X")
        f:close()
        t.eq(nonce_of(o, "hurt"), "aaa\na", "the quick look does not see it")
        local code, out = run(home, "engine", "gc", "--verify")
        t.eq(code, 1, out)
        t.match(out, "layer " .. bad .. " is damaged: its content has digest %x+, %x+ when")
        t.match(out, "set aside as " .. cache:gsub("%p", "%%%0") .. "/damaged/" .. bad)
        t.match(out, "which nothing can use any more") -- the layer on top
        local e = t.raises("sandbox", Sandbox.create, "hurt", o)
        t.match(e.message, "has lost a layer of its build .*build it again")
        local log = build(o, "aaa", "hurt")
        t.eq(world.cached(log), { "new", "new" })
        t.eq(world.count(log, "was damaged and is set aside"), 1)
        t.eq(nonce_of(o, "hurt"), "aaa\na")
        code, out = run(home, "engine", "gc", "--verify")
        t.eq(code, 0, out)
        t.match(out, "verified %d layers, 0 damaged")
    end)

t.test("a layer that lost entries of its root is found at its use, and built again",
    { timeout = 90 }, function()
        local cache, home, o, bad = built "hurt"
        assert(fs.remove_tree(cache .. "/layers/" .. bad .. "/fs/home"))
        local e = t.raises("sandbox", Sandbox.create, "hurt", o)
        t.match(e.message, "0 entries in its root, 1 when it was made")
        t.match(rig.log(home), "set aside as .*/damaged/" .. bad)
        local log = build(o, "aaa", "hurt")
        t.eq(world.cached(log), { "new", "CACHED" }, "what it made is the same, byte by byte")
        t.eq(nonce_of(o, "hurt"), "aaa\na")
    end)

t.test("a layer that a power cut may have torn is read once before it is trusted",
    { timeout = 90 }, function()
        local cache, _, o, id = built "torn"
        local dir = cache .. "/layers/" .. id
        child.await("it is not synced", 20, function()
            return fs.stat(dir .. "/synced")
        end)
        os.remove(dir .. "/synced")
        local meta = fs.read_file(dir .. "/meta.json")
        local function boot(digit)
            assert(fs.write_file(dir .. "/meta.json",
                (meta:gsub('("boot":"' .. ("."):rep(35) .. ").", "%1" .. digit))))
        end
        boot(meta:find('"boot":"' .. ("."):rep(35) .. "0") and 1 or 0)
        t.eq(nonce_of(o, "torn"), "aaa\na")
        t.ok(fs.stat(dir .. "/synced"), "it was not looked at")
        os.remove(dir .. "/synced")
        assert(io.open(dir .. "/fs/home/user/blob", "w")):close()
        local e = t.raises("sandbox", Sandbox.create, "torn", o)
        t.match(e.message, "layer " .. id .. " is damaged: its content has digest")
        build(o, "aaa", "torn")
        t.eq(nonce_of(o, "torn"), "aaa\na")
    end)

t.test("a layer made anew with another content is not mixed with what stood on the old one",
    { timeout = 90 }, function()
        local cache, base = new_cache()
        local home = new_home(cache)
        local o = options(home)
        local function template()
            return world.template():run_cmd("cat /proc/sys/kernel/random/uuid > ~/first")
                :run_cmd("cp first second")
        end
        world.build(template(), "pair", o)
        local bad = layer_with(cache, base, "home/user/first")
        assert(fs.remove_tree(cache .. "/layers/" .. bad .. "/fs/home"))
        local _, log = world.build(template(), "pair", o)
        t.eq(world.cached(log), { "new", "new" })
        local sandbox <close> = sandbox_of(o, "pair")
        t.eq(sandbox.commands:run("cmp first second").exit_code, 0)
        -- The second layer, found by a later build, is the new one.
        _, log = world.build(template(), "pair", o)
        t.eq(world.cached(log), { "CACHED", "CACHED" })
    end)

t.test("a base image that is damaged is set aside and made again", { timeout = 90 }, function()
    local cache, base = new_cache()
    local home = new_home(cache)
    local o = options(home)
    local meta = cache .. "/layers/" .. base .. "/meta.json"
    local text = fs.read_file(meta)
    os.remove(meta) -- a link to that of the shared cache
    assert(fs.write_file(meta, text:sub(1, 20)))
    local e = t.raises("sandbox", Sandbox.create, "base", o)
    t.match(e.message, "layer " .. base .. " is damaged: its meta.json is no JSON object")
    o.retries = 0
    e = t.raises("service_busy", Sandbox.create, "base", o)
    t.match(e.message, "the base image is still being made")
    t.match(rig.log(home), "set aside as .*/damaged/" .. base)
    t.eq(client.status(home.paths).image.state, "making")
    client.stop(home.paths) -- the test does not wait for the making
end)

t.test("what killed builders have left in the cache goes, also of a home that is gone",
    { timeout = 90 }, function()
        local cache = new_cache()
        local home, other = new_home(cache), new_home(cache)
        options(home)
        local builder = child.lua([[
            local e2b = require "e2b"
            e2b.Template.build(e2b.Template():from_base_image()
                :run_cmd("echo x > ~/x; sleep 50"), "slow")]], { env = home.env })
        child.await("no step runs", 20, function()
            return #(fs.list(cache .. "/tmp") or {}) == 1 and #fs.list(home.paths.run) == 1
        end)
        local _, out = run(other, "engine", "gc")
        t.match(out, "0 folders of dead builders")
        local pid = rig.info(home).pid
        os.execute("kill -9 " .. pid)
        builder:signal "KILL"
        child.await("it lives on", 5, function()
            return not process.alive(pid)
        end)
        _, out = run(other, "engine", "gc")
        t.match(out, "0 folders of dead builders", "its envd still has it mounted")
        local step = assert(fs.list(cache .. "/tmp"))[1]
        engine.kill { cgroup = "e2blua/" ..
            require("e2b_hash").sha256(home.path):sub(1, 12) .. "/" .. step }
        _, out = run(other, "engine", "gc")
        t.match(out, "1 folders of dead builders")
        t.eq(fs.list(cache .. "/tmp"), {})
        options(home) -- what is left of the dead engine
    end)

t.test("builds of two homes and collections side by side, without a failure",
    { timeout = 120 }, function()
        local cache, base = new_cache()
        local homes, builders = { new_home(cache), new_home(cache) }, {}
        for i, home in ipairs(homes) do
            options(home)
            builders[i] = child.lua(([[
                local e2b = require "e2b"
                for i = 1, 6 do
                    e2b.Template.build(e2b.Template():from_base_image()
                        :run_cmd("echo " .. i // 2 .. " > ~/a")
                        :run_cmd("echo %d." .. i .. " > ~/b"), "mine")
                    local sbx <close> = e2b.Sandbox.create("mine",
                        { allow_internet_access = false })
                    assert(sbx.commands:run("cat a b").stdout == i // 2 .. "\n%d." .. i .. "\n")
                end
                print("fine")]]):format(i, i), { env = home.env })
        end
        local running = 2
        while running > 0 do
            local code, out = run(homes[1], "engine", "gc", "--max", "1M")
            t.eq(code, 0, out)
            running = 0
            for _, builder in ipairs(builders) do
                running = running + (process.alive(builder.pid) and 1 or 0)
            end
        end
        for _, builder in ipairs(builders) do
            local code, out = builder:wait(5)
            t.eq({ code, out:match("[^\n]*\n$") }, { 0, "fine\n" }, out)
        end
        run(homes[1], "engine", "gc", "--max", "1M")
        t.ok(#layers(cache, base) <= 4, #layers(cache, base))
    end)

t.test("sizes are read and written as people do", function()
    local good = { ["20G"] = 20 << 30, ["1.5 KiB"] = 1536, ["7"] = 7, ["2mb"] = 2 << 20 }
    for text, bytes in pairs(good) do
        t.eq(gc.parse(text, "x"), bytes)
    end
    t.eq(gc.parse("none", "x"), nil)
    for _, text in ipairs { "", "much", "-1G", "1P", "1G1" } do
        local e = t.raises("invalid_argument", gc.parse, text, "E2BLUA_CACHE_MAX")
        t.match(e.message, "E2BLUA_CACHE_MAX must be a size such as 500M or 20G, or none")
    end
    t.eq({ gc.size(5), gc.size(1536), gc.size(20 << 30) }, { "5 bytes", "1.5 KiB", "20.0 GiB" })
    local home = rig.home()
    home.env.E2BLUA_CACHE_MAX = "lots"
    local code, out = child.lua("require('engine.client').ensure()", { env = home.env }):wait()
    t.eq(code, 1)
    t.match(out, 'E2BLUA_CACHE_MAX must be a size .* not "lots"')
end)
