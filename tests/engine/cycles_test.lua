-- Fifty lives of sandboxes, after which the machine looks as before.
local Sandbox = require "e2b.sandbox"
local fs = require "e2b_fs"
local child = require "child"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

local function each_process(fn)
    for _, pid in ipairs(fs.list("/proc")) do
        if pid:find("^%d+$") then
            fn(pid)
        end
    end
end

-- Namespaces of processes whose group is of this home.
local function namespaces(pids)
    local n = 0
    for _, pid in ipairs(pids) do
        for _, name in ipairs { "net", "mnt", "pid", "ipc", "uts", "user" } do
            n = n + (fs.realpath("/proc/" .. pid .. "/ns/" .. name) and 1 or 0)
        end
    end
    return n
end

local function members(group)
    local pids = {}
    each_process(function(pid)
        local text = fs.read_file("/proc/" .. pid .. "/cgroup")
        if text and text:find(group, 1, true) then
            pids[#pids + 1] = pid
        end
    end)
    return pids
end

local function count_lines(path)
    return select(2, (fs.read_file(path, 1 << 24) or ""):gsub("\n", ""))
end

local function groups()
    local n = 0
    for _, name in ipairs(fs.list("/sys/fs/cgroup") or {}) do
        local dir = "/sys/fs/cgroup/" .. name .. "/" .. rig.groups() ..
            require("e2b_hash").sha256(require("engine.paths").of().home):sub(1, 12)
        for _, entry in ipairs(fs.list(dir) or {}) do
            local found = entry:find "^i" and fs.stat(dir .. "/" .. entry) -- or just gone
            n = n + (found and found.type == "dir" and 1 or 0)
        end
    end
    return n
end

-- Zombies are in no group any more.
local function children(pid)
    local n = 0
    for _, thread in ipairs(fs.list("/proc/" .. pid .. "/task")) do
        local text = fs.read_file(("/proc/%d/task/%s/children"):format(pid, thread)) or ""
        n = n + select(2, text:gsub("%d+", ""))
    end
    return n
end

local function measure()
    local paths = require("engine.paths").of()
    local engine = rig.info().pid
    local pids = members(require("e2b_hash").sha256(paths.home):sub(1, 12))
    return {
        processes = #pids,
        children = children(engine),
        namespaces = namespaces(pids),
        groups = groups(),
        mounts = count_lines("/proc/" .. engine .. "/mountinfo"),
        descriptors = #assert(fs.list("/proc/" .. engine .. "/fd")),
        threads = #assert(fs.list("/proc/" .. engine .. "/task")),
        sockets = #assert(fs.list(paths.run)),
        boxes = #assert(fs.list(paths.boxes)),
        temporary = #assert(fs.list(paths.cache .. "/tmp")),
    }
end

local function grown(before, now)
    for what, n in pairs(now) do
        if what ~= "temporary" and n > before[what] then
            return ("%s: %d before, %d after"):format(what, before[what], n)
        end
    end
end

local function cycle(i)
    local sbx <close> = Sandbox.create { timeout = 60, allow_internet_access = false }
    sbx.files:write("/home/user/x", "y")
    sbx.commands:run("echo " .. i)
    if i % 5 == 0 then
        sbx.commands:run("exec python3 -m http.server 3000", { background = true })
    end
end

t.test("fifty sandboxes leave nothing", { timeout = 120 }, function()
    cycle(0) -- what stays open from the first on is not a leak
    require("e2b_httpc").forget()
    task.sleep(0.3)
    local before = measure()
    for i = 1, 25 do
        cycle(i)
    end
    for _ = 1, 5 do
        local tasks = {}
        for i = 1, 5 do
            tasks[i] = task.spawn_quiet(cycle, i)
        end
        for _, one in ipairs(tasks) do
            one:join(60)
        end
    end
    require("e2b_httpc").forget()
    local left
    local ok = pcall(child.await, "", 10, function()
        left = grown(before, measure())
        return not left
    end)
    t.ok(ok, left)
end)

t.test("creates that fail leave nothing", function()
    local before = measure()
    for _ = 1, 20 do
        t.raises("sandbox", Sandbox.create, "no-such-template")
        t.raises("sandbox", Sandbox.create, { timeout = 1 << 40 })
    end
    require("e2b_httpc").forget()
    local left
    local ok = pcall(child.await, "", 5, function()
        left = grown(before, measure())
        return not left
    end)
    t.ok(ok, left)
end)

t.test("clients that give up in the middle of a create leave nothing", function()
    local before = measure()
    for i = 1, 20 do
        child.start { "curl", "-s", "-m", ("0.0%02d"):format(i), "-H", "X-API-Key: " ..
            rig.info().api_key, "-H", "Content-Type: application/json", "-d",
            '{"templateID":"base","timeout":1}',
            ("http://127.0.0.1:%d/v2/sandboxes"):format(rig.info().port) }:wait()
    end
    local left
    local ok = pcall(child.await, "", 10, function()
        left = grown(before, measure())
        return not left
    end)
    t.ok(ok, left)
end)
