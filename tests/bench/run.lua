--- Runs the benches, each in a process of its own, and writes their table as Markdown and JSON:
--- run.lua [OUT]. README.md says which there are and how to read the table. The environment
--- (run.sh) tells where the peers are, BENCH and BENCH_SCALE what to run.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local bench = require "bench"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local task = require "e2b_task"

local NAMES = { "host", "command", "create", "transfer", "output", "rebuild", "proxy", "idle",
    "streams" }
local LIMIT <const> = 240 -- seconds for one bench

-- ---- one bench -----------------------------------------------------------------------------

local function run_one(name, out)
    bench.here = here
    require(name)()
    assert(fs.write_file(out, bench.encoded()))
end

-- Its rows; one that says why there are none when it failed.
local function rows_of(name, out)
    local file = out .. "/" .. name .. ".json"
    fs.remove_tree(file)
    local command = ("timeout -k 10 %d %s %s --one %s %s 2>&1"):format(LIMIT,
        bench.quoted(process.exe()), bench.quoted(arg[0]), name, bench.quoted(file))
    local pipe = assert(io.popen(command))
    local text = pipe:read "a"
    local ok, _, code = pipe:close()
    local list = ok and json.decode(fs.read_file(file) or "")
    if not list then
        io.stdout:write(text)
        list = { { measure = name, unit = "", failed = true, note = code == 124 and
            ("not done within %d s"):format(LIMIT) or
            "failed: " .. text:gsub("%s+$", ""):match "[^\n]*$" } }
    end
    for _, row in ipairs(list) do
        row.bench = name
    end
    return list
end

-- ---- the table -----------------------------------------------------------------------------

local function shown(value)
    if not value then
        return ""
    end
    local digits = value >= 100 and 0 or value >= 10 and 1 or 2
    return ("%." .. digits .. "f"):format(value)
end

local function cells(row)
    local goal = row.goal or ""
    if row.met ~= nil then
        goal = goal .. (row.met and ": met" or ": MISSED")
    end
    return { row.measure, shown(row.ours), row.unit, row.peer or "", shown(row.theirs),
        shown(row.ratio), goal, (row.note or ""):gsub("|", "/"):gsub("\n", " ") }
end

local HEAD = { "measure", "e2blua", "unit", "peer", "peer's", "ratio", "goal", "notes" }

local function line(list)
    return "| " .. table.concat(list, " | ", 1, #HEAD) .. " |"
end

local function markdown(rows, facts)
    local out = { ("%s; %d processors; load %s before, %s after; scale %s."):format(facts.date,
        facts.processors, facts.load_before, facts.load_after, facts.scale), "", line(HEAD),
        "|" .. ("---|"):rep(#HEAD) }
    for _, row in ipairs(rows) do
        out[#out + 1] = line(cells(row))
    end
    return table.concat(out, "\n") .. "\n"
end

local function load_average()
    return (fs.read_file "/proc/loadavg" or ""):match "^%S+" or "?"
end

local function processors()
    local text = fs.read_file("/proc/cpuinfo", 1 << 22) or ""
    return select(2, text:gsub("processor%s*:", ""))
end

local function chosen()
    local wanted = os.getenv "BENCH" or ""
    if wanted == "" then
        return NAMES
    end
    local known, list = {}, {}
    for _, name in ipairs(NAMES) do
        known[name] = true
    end
    for name in wanted:gmatch "[^%s,]+" do
        if not known[name] then
            io.stderr:write(("BENCH=%s: there is no such bench; there are %s\n"):format(name,
                table.concat(NAMES, ", ")))
            os.exit(2)
        end
        list[#list + 1] = name
    end
    return list
end

local function main(out)
    local names = chosen()
    assert(fs.mkdirs(out))
    local facts = { date = os.date "!%Y-%m-%d %H:%M UTC", processors = processors(),
        load_before = load_average(), scale = os.getenv "BENCH_SCALE" or "1" }
    local rows, failed = {}, false
    for _, name in ipairs(names) do
        local began = task.now()
        for _, row in ipairs(rows_of(name, out)) do
            rows[#rows + 1] = row
            failed = failed or row.failed
        end
        io.stderr:write(("%-10s %5.1f s\n"):format(name, task.now() - began))
    end
    facts.load_after = load_average()
    local text = markdown(rows, facts)
    assert(fs.write_file(out .. "/table.md", text))
    facts.rows = json.array(rows)
    assert(fs.write_file(out .. "/table.json", json.encode(facts, { pretty = true }) .. "\n"))
    io.stdout:write(text)
    os.exit(not failed)
end

if arg[1] == "--one" then
    run_one(arg[2], arg[3])
else
    main(arg[1] or "build/bench")
end
