-- The benches run, with sizes that say nothing of speed: so that they do not rot. Uses an engine of
-- its own, no peers.
local child = require "child"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"

local function run(names, home)
    local out = t.tmpdir()
    local build = process.exe():match "^(.*)/[^/]*$"
    local c = child.start({ process.exe(), fs.realpath "tests/bench/run.lua", out }, { env = {
        E2BLUA_HOME = home.path, BENCH = names, BENCH_SCALE = "0.001", BENCH_PEERS = "no",
        BENCH_TMP = t.tmpdir(), BENCH_TOOLS = out .. "/no-tools",
        BENCH_PROBE = build .. "/bench/probe" } })
    local code, text = c:wait(50)
    return code, text, out
end

t.test("every bench fills its rows of the table", function()
    local code, text, out = run("", rig.home())
    t.eq(code, 0, text)
    local facts = assert(json.decode(assert(fs.read_file(out .. "/table.json"))))
    local benches = {}
    for _, row in ipairs(facts.rows) do
        -- Of the daemon in a sandbox an ordinary user learns nothing.
        t.ok(type(row.ours) == "number" or process.uid() ~= 0 and
            row.measure:find "memory of envd", json.encode(row))
        benches[row.bench] = (benches[row.bench] or 0) + 1
    end
    t.eq(benches, { host = 4, command = 1, create = 10, transfer = 8, output = 2, rebuild = 1,
        proxy = 2, idle = 3, streams = 4 })
    t.match(assert(fs.read_file(out .. "/table.md")), "node cannot run: [^|]+")
    local peer = process.uid() == 0 and "[%d.]+ " or " " -- whose chroot takes root
    t.match(text, "| command in a running sandbox | [%d.]+ | ms | fork%+exec | " .. peer .. "|")
end)

t.test("a bench that there is not is said", function()
    local code, text = run("host,nope", rig.home())
    t.eq(code, 2)
    t.match(text, "BENCH=nope: there is no such bench; there are host, ")
end)
