-- Lives of sandboxes with kill -9 of engine, envd, clients and commands at random moments, after
-- which nothing is left on the machine. E2BLUA_LEAK_CYCLES says how many (default 100),
-- E2BLUA_LEAK_SEED repeats a run. It asks nothing about what survives an engine: in the end all
-- that is listed is killed.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local Error = require "e2b.error"
local child = require "child"
local client = require "engine.client"
local fs = require "e2b_fs"
local hash = require "e2b_hash"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

local env = fs.environ()
local CYCLES <const> = math.tointeger(tonumber(env.E2BLUA_LEAK_CYCLES or "")) or 100
local SEED <const> = math.tointeger(tonumber(env.E2BLUA_LEAK_SEED or "")) or os.time()
local CYCLE_SECONDS <const> = 60

t.before(rig.warm_up)

-- ---- what there is ----------------------------------------------------------------

local function group_name(home)
    return "e2blua/" .. hash.sha256(home.path):sub(1, 12)
end

local function read(path)
    return fs.read_file(path, 1 << 24) or ""
end

-- Processes in the home's groups, by the host's numbers.
local function members(home)
    local pids = {}
    for _, pid in ipairs(fs.list("/proc")) do
        local is_pid = pid:find "^%d+$"
        if is_pid and read("/proc/" .. pid .. "/cgroup"):find(group_name(home), 1, true) then
            pids[#pids + 1] = math.tointeger(pid)
        end
    end
    return pids
end

local KNOWN <const> = { ["engine.log"] = true, ["engine.lock"] = true, ["start.lock"] = true,
    ["state.db"] = true, ["state.db-wal"] = true, ["state.db-shm"] = true, run = true, boxes = true,
    uploads = true, disks = true }

-- Beside what rig.left finds: members of groups, sockets, loop devices, files that nobody needs.
local function left(home)
    local out = rig.left(home)
    for _, pid in ipairs(members(home)) do
        local line = read("/proc/" .. pid .. "/cmdline"):gsub("\0", " ")
        out[#out + 1] = ("process %d: %s"):format(pid, line)
    end
    for line in read("/proc/net/unix"):gmatch("[^\n]+") do
        if line:find(home.path, 1, true) then
            out[#out + 1] = "socket " .. line
        end
    end
    for _, name in ipairs(fs.list("/sys/block") or {}) do
        if read("/sys/block/" .. name .. "/loop/backing_file"):find(home.path, 1, true) then
            out[#out + 1] = "loop device " .. name
        end
    end
    for _, name in ipairs(fs.list(home.path) or {}) do
        if not KNOWN[name] then
            out[#out + 1] = "file " .. name
        end
    end
    for _, name in ipairs(fs.list(home.paths.disks) or {}) do
        if not name:find "^%d+%.img$" then
            out[#out + 1] = "image " .. name
        end
    end
    for _, name in ipairs(fs.list(home.paths.uploads) or {}) do
        out[#out + 1] = "upload " .. name
    end
    return out
end

-- What an engine without sandboxes holds.
local function held(home)
    local pid = rig.info(home).pid
    local children = 0
    for _, thread in ipairs(fs.list("/proc/" .. pid .. "/task")) do
        local text = read(("/proc/%d/task/%s/children"):format(pid, thread))
        children = children + select(2, text:gsub("%d+", ""))
    end
    return {
        children = children,
        descriptors = #fs.list("/proc/" .. pid .. "/fd"),
        mounts = select(2, read("/proc/" .. pid .. "/mountinfo"):gsub("\n", "")),
    }
end

local function await_same(home, before)
    local grown
    local ok = pcall(child.await, "", 15, function()
        grown = nil
        for what, n in pairs(held(home)) do
            if n > before[what] then
                grown = ("%s of an idle engine: %d at first, %d now"):format(what, before[what], n)
            end
        end
        return not grown
    end)
    t.ok(ok, grown)
end

-- ---- what happens ------------------------------------------------------------------

local function kill9(pid)
    os.execute("kill -9 " .. pid .. " 2>/dev/null")
end

local function kill_engine(home)
    local info = client.info(home.paths)
    if info and read("/proc/" .. info.pid .. "/cmdline"):find(home.path, 1, true) then
        kill9(info.pid)
    end
end

local function kill_member(home, first)
    for _, pid in ipairs(members(home)) do
        local is_first = read("/proc/" .. pid .. "/status"):find "\nNSpid:\t%d+\t1\n" ~= nil
        if is_first == first then
            kill9(pid)
            return
        end
    end
end

local CLIENT <const> = [[
    local Sandbox = require "e2b.sandbox"
    local sbx = Sandbox.create { timeout = 300, allow_internet_access = false }
    print "made"
    sbx.files:write("/home/user/f", ("x"):rep(1 << 20))
    sbx.commands:run("sleep 100", { background = true })
    sbx.commands:run("cat /dev/zero | head -c 10M; sleep 100", { timeout = 0 })
]]

local function kill_client(home, seconds)
    local c = child.lua(CLIENT, { env = { E2BLUA_HOME = home.path } })
    task.sleep(seconds)
    c:signal "KILL"
    c:wait(10)
end

local FAULTS <const> = {
    none = function() end,
    leave = function() end,
    engine = function(home, seconds)
        task.sleep(seconds)
        kill_engine(home)
    end,
    engine_twice = function(home, seconds)
        task.sleep(seconds)
        kill_engine(home)
        pcall(client.ensure, { home = home.path })
        task.sleep(seconds / 4)
        kill_engine(home)
    end,
    envd = function(home, seconds)
        task.sleep(seconds)
        kill_member(home, true)
    end,
    command = function(home, seconds)
        task.sleep(seconds)
        kill_member(home, false)
    end,
    client = kill_client,
}
local NAMES <const> = { "none", "leave", "engine", "engine", "engine_twice", "envd", "envd",
    "command", "client" }

local function use(home, fault)
    local o = rig.options(home)
    o.timeout, o.allow_internet_access = 300, false
    local sbx = Sandbox.create(math.random(3) == 1 and "capped" or "base", o)
    sbx.files:write("/home/user/x", ("y"):rep(1 << 18))
    local background = sbx.commands:run("exec sleep 100", { background = true })
    t.eq(sbx.commands:run("cat x | wc -c; head -c 1M /dev/urandom >big; df / >&2").stdout,
        "262144\n")
    background:disconnect()
    if fault ~= "leave" then
        sbx:kill()
    end
end

-- What a call may say of a server or a sandbox that was shot.
local EXPECTED <const> = { "network", "protocol", "timeout", "sandbox", "command_exit", "not_found",
    "internal" }

local function check(fault, err)
    for _, kind in ipairs(EXPECTED) do
        if fault ~= "none" and fault ~= "leave" and Error.is(err, kind) then
            return
        end
    end
    error(fault .. ": " .. tostring(err), 0)
end

local function cycle(home, counts)
    local fault = NAMES[math.random(#NAMES)]
    local saboteur = task.spawn_quiet(FAULTS[fault], home, math.random() * 0.08)
    local ok, err = pcall(use, home, fault)
    if not ok then
        check(fault, err)
        counts.calls_failed = (counts.calls_failed or 0) + 1
    end
    saboteur:join(CYCLE_SECONDS)
    counts[fault] = (counts[fault] or 0) + 1
end

local function kill_all(home)
    local o = rig.options(home)
    local pages = Sandbox.list(o)
    while pages.has_next do
        for _, info in ipairs(pages:next_items()) do
            Sandbox.kill(info.sandbox_id, rig.options(home))
        end
    end
end

t.test(CYCLES .. " sandboxes, shot at from all sides, leave nothing",
    { timeout = CYCLES * 2 + 60 }, function()
        math.randomseed(SEED)
        print("leak_test: E2BLUA_LEAK_SEED=" .. SEED)
        local home = rig.home()
        local o = rig.options(home)
        o.min_free_disk_mb = 32
        Template.build(Template():from_template("base"), "capped", o)
        use(home, "none") -- what stays open from the first on is not a leak
        require("e2b_httpc").forget()
        task.sleep(0.3)
        local before, counts = held(home), {}
        for _ = 1, CYCLES do
            cycle(home, counts)
        end
        kill_all(home)
        use(home, "none")
        require("e2b_httpc").forget()
        await_same(home, before)
        t.eq(members(home), {}, "processes in the groups of an idle engine")
        client.stop(home.paths)
        local remains
        pcall(child.await, "", 10, function()
            remains = left(home)
            return #remains == 0
        end)
        t.eq(remains, {}, "left behind after " .. t.show(counts))
        t.ok(counts.calls_failed or CYCLES < 40, "no shot has hit: " .. t.show(counts))
        print("leak_test: " .. t.show(counts))
    end)
