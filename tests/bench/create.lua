--- From the create of a sandbox to its first command's end, alone and many at once, beside bwrap,
--- runc and podman that run the same command in the same root.
local bench = require "bench"
local fs = require "e2b_fs"
local json = require "e2b_json"
local place = require "place"
local task = require "e2b.task"

local COMMAND = { "/bin/bash", "-l", "-c", "true" }

local function join(...)
    local out = {}
    for _, list in ipairs { ... } do
        table.move(list, 1, #list, #out + 1, out)
    end
    return out
end

-- ---- peers -----------------------------------------------------------------------------------

local function bwrap(base)
    return join({ "bwrap", "--unshare-all", "--ro-bind", base, "/", "--dev", "/dev", "--proc",
        "/proc" }, COMMAND)
end

-- A bundle as `runc spec` proposes it, with our root and command.
local function runc(base)
    local bundle = place.folder() .. "/bundle"
    assert(fs.mkdirs(bundle))
    if not fs.stat(bundle .. "/config.json") then
        bench.output { "runc", "spec", "--bundle", bundle }
    end
    local spec = assert(json.decode(assert(fs.read_file(bundle .. "/config.json"))))
    spec.root = { path = base, readonly = true }
    spec.process.terminal, spec.process.args = false, json.array(COMMAND)
    assert(fs.write_file(bundle .. "/config.json", json.encode(spec)))
    return { "runc", "--root", place.folder() .. "/runc", "run", "--bundle", bundle, "bench" }
end

local function podman(base)
    local dir = place.folder() .. "/podman"
    -- Its default limits are above what a container's root may set here.
    return join({ "podman", "--root", dir, "--runroot", dir .. "-run", "--tmpdir", dir .. "-tmp",
        "--cgroup-manager", "cgroupfs", "--runtime", "runc", "run", "--rm", "--network", "none",
        "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--rootfs", base .. ":O" },
        COMMAND)
end

local function check_installed(name)
    if not bench.which(name) then
        error("it is not installed", 0)
    end
end

local function peer(name, make, base)
    local words
    return { name = name, sample = function()
        check_installed(name)
        words = words or make(base)
        return (bench.run(words))
    end }
end

-- ---- ours ------------------------------------------------------------------------------------

local function create()
    local sandbox = place.sandbox()
    local ok, err = pcall(sandbox.commands.run, sandbox.commands, "true")
    if not ok then
        sandbox:close()
        error(err, 0)
    end
    return sandbox
end

local function one()
    local sandbox
    local ms = bench.timed(function()
        sandbox = create()
    end)
    sandbox:close()
    return ms
end

-- The times of n creates at once, from the common beginning; the errors.
local function at_once(n)
    local times, errors, sandboxes, numbers = {}, {}, {}, {}
    for i = 1, n do
        numbers[i] = i
    end
    local began = task.now()
    task.parallel(numbers, n, function()
        local ok, sandbox = pcall(create)
        if ok then
            times[#times + 1] = (task.now() - began) * 1000
            sandboxes[#sandboxes + 1] = sandbox
        else
            errors[#errors + 1] = tostring(sandbox)
        end
    end)
    task.parallel(sandboxes, 8, function(sandbox)
        sandbox:close()
    end)
    return times, errors
end

-- ---- rows ------------------------------------------------------------------------------------

local function alone(base)
    local samples, failures = bench.in_turn(bench.scaled(30, 2), {
        { name = "e2blua", ours = true, sample = one },
        peer("bwrap", bwrap, base), peer("runc", runc, base), peer("podman", podman, base),
    })
    for _, name in ipairs { "bwrap", "runc", "podman" } do
        local first = name == "bwrap"
        bench.compare { measure = "create to first command, alone: p50", unit = "ms", peer = name,
            samples = samples.e2blua, peer_samples = samples[name], failure = failures[name],
            at_most = first and 3 or nil, goal = first and "at most 3 x bwrap" or nil }
    end
    bench.compare { measure = "create to first command, alone: p95", unit = "ms", peer = "bwrap",
        samples = { bench.percentile(samples.e2blua, 0.95) }, failure = failures.bwrap,
        peer_samples = not failures.bwrap and { bench.percentile(samples.bwrap, 0.95) } or nil }
end

local function crowd(base, n)
    local times, errors = at_once(n)
    local theirs, failure = {}, nil
    local ok, rows = pcall(function()
        check_installed "bwrap"
        return bench.probed("many", n, "-", table.unpack(bwrap(base)))
    end)
    if ok then
        for i, row in ipairs(rows) do
            theirs[i] = row[1] / 1000
        end
    else
        failure = rows
    end
    for _, p in ipairs { 0.5, 0.95 } do
        bench.compare { measure = ("%d creates at once: p%d"):format(n, p * 100), unit = "ms",
            samples = { #times > 0 and bench.percentile(times, p) or 0 }, peer = "bwrap",
            peer_samples = not failure and { bench.percentile(theirs, p) } or nil,
            failure = failure, note = #errors > 0 and errors[1] or nil }
    end
    bench.figure { measure = ("%d creates at once: errors"):format(n), unit = "", ours = #errors,
        bound = 0, goal = "none", note = errors[1] }
end

return function()
    local base = place.base()
    alone(base)
    crowd(base, bench.scaled(20, 3))
    crowd(base, bench.scaled(100, 4))
end
