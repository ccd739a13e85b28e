--- Round trips to a port of a sandbox through the engine, idle and while a template is built.
local bench = require "bench"
local Template = require "e2b.template"
local fs = require "e2b_fs"
local place = require "place"
local task = require "e2b.task"
local wire = require "e2b_wire"

local PORT <const> = 8080
local PAUSE_US <const> = 500

-- Ends when a client's round trip through the proxy is answered.
local function serve(sandbox)
    sandbox.files:write("/home/user/probe", assert(fs.read_file(bench.probe)))
    sandbox.commands:run("chmod +x probe")
    sandbox.commands:run("exec ./probe serve " .. PORT, { background = true, timeout = 0 })
    task.sleep(0.3)
end

-- The client runs beside us, so that the build goes on in this program.
local function round_trips(sandbox, count, out)
    local port = require("engine.client").info(require("engine.paths").of()).port
    local words = { bench.probe, "rtt", port, sandbox:get_host(PORT), count, PAUSE_US }
    for i, word in ipairs(words) do
        words[i] = bench.quoted(word)
    end
    os.execute(("{ timeout 60 %s >%s.new 2>%s.err; mv %s.new %s; } &"):format(
        table.concat(words, " "), out, out, out, out))
    return function()
        task.timeout(70, function()
            while not fs.stat(out) do
                task.sleep(0.02)
            end
        end)
        local list = {}
        for word in assert(fs.read_file(out)):gmatch "%d+" do
            list[#list + 1] = tonumber(word) / 1000
        end
        fs.remove_tree(out)
        assert(#list == count, "the client's round trips broke off: " ..
            (fs.read_file(out .. ".err") or ""))
        return list
    end
end

-- New files are copied, packed and unpacked: work for the client, the engine and a sandbox.
local function build(context, log)
    assert(fs.write_file(context .. "/nonce", wire.random(8)))
    Template.build(Template({ file_context_path = context }):from_base_image()
        :copy(".", "/home/user/app")
        :run_cmd("tar -czf /home/user/app.tgz -C /home/user app && tar -xzf app.tgz -C /tmp"),
        "bench-proxy")
    log.builds = log.builds + 1
end

local function make_context(dir)
    assert(fs.mkdirs(dir))
    for i = 1, 200 do
        assert(fs.write_file(("%s/file%d"):format(dir, i), wire.random(1024):rep(8)))
    end
end

local function while_building(sandbox, count, out, context, log)
    local wait = round_trips(sandbox, count, out)
    local going = true
    local builder = task.spawn(function()
        while going do
            build(context, log)
        end
    end)
    local list = wait()
    going = false
    builder:join(120)
    return list
end

-- Each round's own, so that a burst of the neighbours' spoils that round alone.
local function add(to, list)
    table.insert(to.p50, bench.median(list))
    table.insert(to.p99, bench.percentile(list, 0.99))
end

return function()
    local dir = place.folder()
    local out, context, log = dir .. "/rtt", dir .. "/proxy-context", { builds = 0 }
    make_context(context)
    local sandbox <close> = place.sandbox()
    serve(sandbox)
    round_trips(sandbox, 50, out)()
    local idle, busy = { p50 = {}, p99 = {} }, { p50 = {}, p99 = {} }
    local count = bench.scaled(1000, 50)
    for _ = 1, bench.scaled(7, 1) do
        add(idle, round_trips(sandbox, count, out)())
        add(busy, while_building(sandbox, count, out, context, log))
    end
    bench.compare { measure = "round trip through the proxy: p50", unit = "ms", peer = "when idle",
        samples = busy.p50, peer_samples = idle.p50,
        note = ("e2blua: while %d builds ran"):format(log.builds) }
    bench.compare { measure = "round trip through the proxy while a build runs: p99", unit = "ms",
        peer = "when idle", samples = busy.p99, peer_samples = idle.p99, plus = 5,
        goal = "at most 5 ms over idle" }
end
