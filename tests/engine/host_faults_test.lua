-- What fails on the host: full disks, folders that cannot be used, descriptors,
-- the state's file. Mounts are made in a mount namespace of a child's own.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local client = require "engine.client"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local json = require "e2b_json"
local log = require "engine.log"
local paths = require "engine.paths"
local process = require "e2b_process"
local rig = require "engine_rig"
local state = require "engine.state"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

t.before(rig.warm_up)

local ENSURE <const> = "require('engine.client').ensure()"

-- Runs shell commands, then a Lua text, in a mount namespace of their own.
local function apart(home, setup, code, env)
    local all = { E2BLUA_HOME = home.path }
    for name, value in pairs(env or {}) do
        all[name] = value
    end
    return child.start({ "unshare", "--mount", "--propagation", "private", "sh", "-ec",
        setup .. '\nexec "$0" -e "$1"', process.exe(), code }, { env = all })
end

-- Options of calls to the home's engine; those of a create.
local function options(home)
    local o = rig.options(home)
    o.headers = world.ALONE
    return o, { timeout = 60, allow_internet_access = false, headers = world.ALONE,
        api_url = o.api_url, sandbox_url = o.sandbox_url, api_key = o.api_key, domain = o.domain }
end

local function kill_engine(home)
    local pid = rig.info(home).pid
    os.execute("kill -9 " .. pid)
    child.await("it lives on", 5, function()
        return not process.alive(pid)
    end)
end

-- ---- a full disk ------------------------------------------------------------

-- Home and cache are a tmpfs of 96 MiB; the base image is a bind mount in it.
local FULL <const> = [[
local e2b = require "e2b"
local fs = require "e2b_fs"
local json = require "e2b_json"
local home = os.getenv "E2BLUA_HOME"
local got = {}
local function note(name, fn, ...)
    local began = os.time()
    local ok, v = pcall(fn, ...)
    got[name] = { ok = ok, kind = not ok and v.kind or nil, text = not ok and v.message or
        type(v) == "string" and v or nil, seconds = os.time() - began }
end
local function template(n)
    return e2b.Template():from_base_image():run_cmd("echo " .. n .. " > ~/n")
end
local function create()
    return e2b.Sandbox.create { timeout = 120, allow_internet_access = false }
end
local first, second = create(), create()
note("build", e2b.Template.build, template("1; head -c 24M /dev/zero > ~/blob; echo"), "one")
note("rebuild", e2b.Template.build, template(1), "one") -- nobody needs the first layer any more
-- All but the last block; then the last one, too.
os.execute("dd if=/dev/zero of=" .. home .. "/filler bs=1M 2>/dev/null")
os.execute("dd if=/dev/zero of=" .. home .. "/filler2 bs=4k 2>/dev/null")
note("create", create)
note("build_full", e2b.Template.build, template(2), "two")
note("run", function() return first.commands:run("echo alive").stdout end)
note("write", function() first.files:write("/home/user/x", ("x"):rep(100000)) end)
note("kill", function() first:kill() end)
note("timeout", function() second:set_timeout(300) end)
note("list", function() return tostring(#e2b.Sandbox.list():next_items()) end)
local exe = '"' .. require("e2b_process").exe() .. '"'
note("gc", function() assert(os.execute(exe .. " engine gc --max 1M >/dev/null 2>&1")) end)
note("after_gc", function() create():kill() end)
os.remove(home .. "/filler")
os.remove(home .. "/filler2")
note("build_again", e2b.Template.build, template(2), "two")
note("after", function()
    local sbx <close> = e2b.Sandbox.create("two", { timeout = 60, allow_internet_access = false })
    return sbx.commands:run("cat n").stdout
end)
note("second", function() return second.commands:run("echo alive").stdout end)
second:kill()
os.execute(exe .. " engine stop >/dev/null")
local db = require("e2b_engine").store(home .. "/state.db")
got.rows = #db:query("SELECT * FROM sandboxes")
db:close()
got.log = fs.read_file(home .. "/engine.log", 1 << 24)
print(json.encode(got))]]

t.test("a full disk: what runs goes on, what would begin is refused, nothing is lost",
    { timeout = 90 }, function()
        local home = rig.home()
        assert(fs.mkdirs(home.path, 448))
        local shared = paths.of().cache
        local base = assert(engine.image_ready(shared))
        local setup = ([[
            mount -t tmpfs -o size=96m tmpfs "$E2BLUA_HOME"
            mkdir -p -m 700 "$E2BLUA_HOME/cache/layers/%s"
            mount --bind "%s/layers/%s" "$E2BLUA_HOME/cache/layers/%s"]]):format(base, shared, base,
            base)
        local code, out = apart(home, setup, FULL, { E2BLUA_CACHE = "" }):wait(80)
        t.eq(code, 0, out)
        local got = json.decode(out:match("({.*})\n$"))
        t.ok(got, out)
        for _, name in ipairs { "build", "rebuild", "gc", "after_gc", "run", "kill", "timeout",
            "list", "build_again", "after", "second" } do
            t.ok(got[name].ok, name .. ": " .. tostring(got[name].text))
        end
        t.eq(got.create.kind, "not_enough_space", got.create.text)
        t.match(got.create.text, "0%.0 MiB are free on the file system of .*at least 16 are needed")
        t.match(got.create.text, "engine gc")
        t.eq(got.build_full.kind, "not_enough_space", got.build_full.text)
        t.match(got.build_full.text, "disk is full; make room there, or collect layers")
        t.eq(got.write.kind, "not_enough_space", got.write.text)
        t.eq(got.run.text, "alive\n")
        t.eq(got.list.text, "1", "the killed one is gone from the list")
        t.eq(got.after.text, "2\n")
        t.eq(got.rows, 0)
        for name, one in pairs(got) do
            t.ok(type(one) ~= "table" or one.seconds < 15, name .. " took long")
        end
    end)

t.test("what a full disk kept from being written is written later, in its order", function()
    local path = t.tmpdir() .. "/state.db"
    local said, info = log.error, log.info
    log.error, log.info = function() end, function() end
    t.cleanup(function()
        log.error, log.info = said, info
    end)
    local s = state.open(path)
    s:exec("CREATE TABLE t(n INTEGER, pad TEXT) STRICT")
    s:exec("PRAGMA max_page_count=" .. s:row("PRAGMA page_count").page_count)
    local pad = ("x"):rep(20000)
    t.eq(s:will("INSERT INTO t VALUES(1, ?1)", pad), false)
    t.eq(s:will("UPDATE t SET n = 5 WHERE n = ?1", 1), false)
    t.eq(s:will("INSERT INTO t VALUES(2, ?1)", pad), false)
    local e = t.raises("not_enough_space", s.exec, s, "INSERT INTO t VALUES(3, ?1)", pad)
    t.match(e.message, "state.db: .*disk is full")
    t.raises("not_enough_space", s.transaction, s, function()
        s:exec("INSERT INTO t VALUES(3, ?1)", pad)
    end)
    s:retry()
    t.eq(#s:rows("SELECT n FROM t"), 0)
    s:exec("PRAGMA max_page_count=100000")
    s:retry()
    t.eq(s:rows("SELECT n FROM t ORDER BY rowid"), { { n = 5 }, { n = 2 } })
    s:transaction(function() -- none is left open
        s:exec("INSERT INTO t VALUES(4, '')")
    end)
    s:close()
end)

-- ---- folders ----------------------------------------------------------------

t.test("a home that cannot be written is named with its variable", function()
    local home = rig.home()
    assert(fs.mkdirs(home.path, 448))
    local code, out = apart(home, [[
        mount --bind "$E2BLUA_HOME" "$E2BLUA_HOME"
        mount -o remount,bind,ro "$E2BLUA_HOME"]], ENSURE):wait()
    t.eq(code, 1)
    t.match(out, home.path:gsub("%p", "%%%0") ..
        " is mounted read%-only: set E2BLUA_HOME to a folder that can be written")
    code, out = child.lua(ENSURE, { env = { E2BLUA_HOME = "/dev/null/home" } }):wait()
    t.eq(code, 1)
    t.match(out, "cannot make /dev/null/home: .*Not a directory")
    t.match(out, "set E2BLUA_HOME to a folder that this user can write")
    t.eq(fs.list(home.path), {})
end)

t.test("a home on the overlay of a container is refused, and so is such a cache", function()
    local overlay = [[
        cd "$PLACE"
        mkdir l u w m
        mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m]]
    local home, place = rig.home(), t.tmpdir()
    local code, out = apart(home, overlay, ENSURE, { PLACE = place,
        E2BLUA_HOME = place .. "/m/home" }):wait()
    t.eq(code, 1)
    t.match(out, "/m/home is on overlay %(the file system of a container%), where sandboxes cannot")
    t.match(out, "set E2BLUA_HOME to a folder of a local disk")
    place = t.tmpdir()
    code, out = apart(home, overlay, ENSURE, { PLACE = place,
        E2BLUA_CACHE = place .. "/m/cache" }):wait()
    t.eq(code, 1)
    t.match(out, "/m/cache is on overlay .*set E2BLUA_CACHE to a folder of a local disk")
end)

t.test("another user's home is refused", function()
    local words = rig.as_nobody()
    table.move({ words.program, "-e",
        "require('engine.places').check(require('engine.paths').of())" }, 1, 3, #words + 1, words)
    local code, out = child.start(words,
        { env = { E2BLUA_HOME = "/usr", E2BLUA_CACHE = "" } }):wait()
    t.eq(code, 1, out)
    t.match(out, "user 65534 may not write in /usr: set E2BLUA_HOME to a folder of this user's")
end)

-- ---- descriptors ------------------------------------------------------------

t.test("few descriptors: creates are refused before they fail, the rest goes on",
    { timeout = 90 }, function()
        local home = rig.home()
        local code, out = child.start({ "prlimit", "--nofile=220:220", process.exe(), "-e",
            ENSURE }, { env = home.env }):wait(30)
        t.eq(code, 0, out)
        local _, o = options(home)
        local boxes, refusal = {}, nil
        for i = 1, 60 do
            local ok, sandbox = pcall(Sandbox.create, o)
            if not ok then
                refusal = sandbox
                break
            end
            boxes[i] = sandbox
        end
        t.ok(refusal, "nothing is refused")
        t.ok(#boxes >= 3, #boxes)
        t.eq(refusal.kind, "sandbox", refusal.message)
        t.match(refusal.message, "the engine has %d+ of 220 descriptors open, and a new sandbox")
        t.match(refusal.message, "raise the limit %(ulimit %-n%)")
        for _, sandbox in ipairs(boxes) do
            t.eq(sandbox.commands:run("echo on").stdout, "on\n")
        end
        for i = 1, 3 do
            boxes[i]:kill()
        end
        require("e2b_httpc").forget()
        child.await("there is no room again", 10, function()
            local ok, sandbox = pcall(Sandbox.create, o)
            return ok and sandbox.commands:run("echo new").stdout == "new\n"
        end)
    end)

-- ---- the state --------------------------------------------------------------

t.test("a state that another process holds: the start says so, and does not hang", function()
    local home = rig.home()
    assert(fs.mkdirs(home.path, 448))
    local holder = child.lua(("s = require('e2b_engine').store(%q) print('held') " ..
        "require('e2b').sleep(60)"):format(home.paths.db))
    holder:expect "held"
    local began = task.now()
    local code, out = child.lua(ENSURE, { env = home.env }):wait(20)
    t.eq(code, 1)
    t.ok(task.now() - began < 15, "took " .. task.now() - began)
    t.match(out, "state%.db is held by another process for 5 s now: end that process")
    holder:signal "KILL"
    holder:wait()
    t.eq(options(home).domain ~= nil, true)
end)

t.test("nobody makes a running engine wait for its state", function()
    local home = rig.home()
    local _, o = options(home)
    local other, err = engine.store(home.paths.db)
    t.eq(other, nil)
    t.match(err.message, "is held by another process")
    local sandbox <close> = Sandbox.create(o)
    t.eq(sandbox.commands:run("echo on").stdout, "on\n")
end)

t.test("a destroyed state is kept aside; key and port stay, sandboxes are found by their groups",
    { timeout = 90 }, function()
        local home = rig.home()
        local o, for_create = options(home)
        world.build(world.template():run_cmd("echo kept > ~/f"), "lost", o)
        local sandbox = Sandbox.create(for_create)
        sandbox.commands:run("exec sleep 300", { background = true }):disconnect()
        local before = rig.info(home)
        kill_engine(home)
        -- Not even socket and folder tell of it.
        os.remove(home.paths.run .. "/" .. sandbox.sandbox_id .. ".sock")
        os.remove(home.paths.db .. "-wal")
        assert(fs.write_file(home.paths.db, ("no database "):rep(1000)))
        o = options(home)
        t.eq(rig.info(home).api_key, before.api_key)
        local text = rig.log(home)
        t.match(text, "state%.db is damaged .*it is kept as .*state%.db%.damaged%-%d+T%d+Z")
        t.match(text, "removing " .. sandbox.sandbox_id)
        t.raises("sandbox_not_found", Sandbox.get_info, sandbox.sandbox_id, o)
        t.eq(fs.list(home.paths.boxes), {})
        local _, status = child.start({ process.exe(), "engine", "status" },
            { env = home.env }):wait()
        t.match(status, "notice   .*state%.db is damaged")
        local kept
        for _, name in ipairs(fs.list(home.path)) do
            kept = kept or name:match("^state%.db%.damaged%-%d+T%d+Z$")
        end
        t.match(fs.read_file(home.path .. "/" .. kept), "^no database ")
        -- Its layers are there: built again in an instant.
        local _, lines = world.build(world.template():run_cmd("echo kept > ~/f"), "lost", o)
        t.eq(world.cached(lines), { "CACHED" })
    end)

t.test("of a state with one bad page the rest goes on", function()
    local home = rig.home()
    local o = options(home)
    world.build(world.template():run_cmd("seq 3000; : " .. world.unique("log")), "rescued", o)
    client.stop(home.paths)
    local f = assert(io.open(home.paths.db, "r+b"))
    local spoilt = 0
    for at = 0, f:seek("end") - 1, 4096 do
        f:seek("set", at)
        if f:read(4096):find("[stdout]: 1500", 1, true) then
            f:seek("set", at)
            f:write(("Z"):rep(4096))
            spoilt = spoilt + 1
        end
    end
    f:close()
    t.eq(spoilt, 1)
    local all
    o, all = options(home)
    t.match(rig.log(home), "is damaged .* %d+ of its rows were rescued")
    t.eq(require("e2b.template").exists("rescued", o), true)
    local sandbox <close> = Sandbox.create("rescued", all)
    t.eq(sandbox.commands:run("echo on").stdout, "on\n")
end)
